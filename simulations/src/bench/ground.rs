//! Where a case takes place: this machine's loopback, or two namespaces with a line between them.
//!
//! **Invariant:** both ends of one ground have the same congestion control, and it is known.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use crate::link::{Counters, Line, Link, Namespace};

/// One of the two machines of a case.
#[derive(Clone, Debug)]
pub struct Site {
    namespace: Option<Arc<Namespace>>,
    /// Where daemons listen.
    pub address: Ipv4Addr,
}

impl Site {
    /// This machine, reached over loopback.
    pub fn here() -> Self {
        Self { namespace: None, address: Ipv4Addr::LOCALHOST }
    }

    /// Starts a program there.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        match &self.namespace {
            Some(namespace) => namespace.spawn(command),
            None => Ok(command.spawn()?),
        }
    }

    /// Does `work` there, such as connecting a socket.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.namespace {
            Some(namespace) => namespace.inside(work),
            None => Ok(work()),
        }
    }
}

/// Two sites and what lies between.
#[derive(Debug)]
pub struct Ground {
    /// Where commands are given.
    pub sender: Site,
    /// Where daemons wait.
    pub receiver: Site,
    /// What lies between; nothing on loopback.
    pub link: Option<Link>,
    /// Of every connection that both sites make, unless a program chooses its own.
    pub congestion_control: String,
}

impl Ground {
    /// Both on this machine, over loopback.
    ///
    /// # Errors
    /// If the kernel does not name its congestion control.
    pub fn loopback() -> Result<Self> {
        let congestion_control = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?.trim().to_string();
        Ok(Self { sender: Site::here(), receiver: Site::here(), link: None, congestion_control })
    }

    /// Two namespaces joined by `line`.
    ///
    /// # Errors
    /// If this program may not make them, or the kernel lacks the congestion control.
    pub fn over(line: Line, congestion_control: &str, seed: u64) -> Result<Self> {
        let (near, far) = (Namespace::new()?, Namespace::new()?);
        for namespace in [&near, &far] {
            namespace.set_congestion_control(congestion_control)?;
        }
        let link = Link::open(&near, &far, 0, line, seed)?;
        let site = |namespace, address| Site { namespace: Some(Arc::new(namespace)), address };
        Ok(Self {
            sender: site(near, Link::near_address(0)),
            receiver: site(far, Link::far_address(0)),
            link: Some(link),
            congestion_control: congestion_control.into(),
        })
    }

    /// Starts to count what crosses the line.
    pub fn meter(&self) -> Meter<'_> {
        Meter { link: self.link.as_ref(), before: self.link.as_ref().map(Link::counters).unwrap_or_default() }
    }
}

/// A hub with a line of its own to each of two others.
#[derive(Debug)]
pub struct Fork {
    /// Reached by both.
    pub hub: Site,
    /// Its two counterparts.
    pub ends: [Site; 2],
    /// The line to each of them.
    pub links: [Link; 2],
}

impl Fork {
    /// Three namespaces and two lines, alike until one of them is changed.
    ///
    /// # Errors
    /// If this program may not make them, or the kernel lacks the congestion control.
    pub fn over(line: Line, congestion_control: &str, seed: u64) -> Result<Self> {
        let (hub, one, other) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        for namespace in [&hub, &one, &other] {
            namespace.set_congestion_control(congestion_control)?;
        }
        let links = [Link::open(&hub, &one, 0, line, seed)?, Link::open(&hub, &other, 1, line, seed)?];
        // The hub has one address that both dial, and it is on the first line.
        other.ip(&["route", "add", "default", "via", &Link::near_address(1).to_string()])?;
        let site = |namespace, address| Site { namespace: Some(Arc::new(namespace)), address };
        let ends = [site(one, Link::far_address(0)), site(other, Link::far_address(1))];
        Ok(Self { hub: site(hub, Link::near_address(0)), ends, links })
    }
}

/// Counts what crosses a line from one moment on.
#[derive(Debug)]
pub struct Meter<'a> {
    link: Option<&'a Link>,
    before: [Counters; 2],
}

/// What has crossed a line, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Crossed {
    /// Bytes of IP packets that came out at either end.
    pub bytes: u64,
    /// Packets for which a queue had no room.
    pub overflowed: u64,
    /// Packets that chance took.
    pub lost: u64,
    /// Processor seconds that the emulation took for it.
    pub emulation_seconds: f64,
}

impl Meter<'_> {
    /// What has crossed since; `None` on loopback.
    pub fn read(&self) -> Option<Crossed> {
        let now = self.link?.counters();
        let both = now[0].since(self.before[0]).plus(now[1].since(self.before[1]));
        Some(Crossed {
            bytes: both.bytes,
            overflowed: both.overflowed,
            lost: both.lost,
            emulation_seconds: both.busy.as_secs_f64(),
        })
    }
}
