//! A network namespace with a way out that leads nowhere, in which every packet is seen.
//!
//! It has loopback, and a device with a default route whose next hop takes everything and answers nothing. A raw packet socket
//! records what passes on either.
//!
//! **Invariant:** namespace and devices go with this value; nothing of the machine's own network is changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use crate::output::Output;

/// From linux/if_packet.h and linux/if_ether.h.
const AF_PACKET: i32 = 17;
const ETH_P_ALL: u16 = 3;
const ETHERTYPE_IPV4: u16 = 0x0800;
const IP_TCP: u8 = 6;
/// The longest packet on loopback.
const PACKET_BYTES_MAX: usize = 70 << 10;

/// A kind of packet that was seen, as comparable as a reader wants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// TCP over IPv4.
    Tcp {
        /// Where it came from.
        from: SocketAddrV4,
        /// Where it was to go.
        to: SocketAddrV4,
    },
    /// Anything else over IPv4: UDP, for instance a question to a name server.
    Other {
        /// Where it came from.
        from: Ipv4Addr,
        /// Where it was to go.
        to: Ipv4Addr,
        /// The protocol's number.
        protocol: u8,
    },
    /// Not IPv4: the EtherType.
    Foreign(u16),
}

/// The namespace.
pub struct Quarantine {
    name: String,
}

impl Quarantine {
    /// A namespace of this name; needs root and `ip`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(name: &str) -> Quarantine {
        let name = format!("pakt-{name}-{}", std::process::id());
        ip(&["netns", "add", &name]);
        let quarantine = Quarantine { name };
        quarantine.inside(&["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"]);
        quarantine.inside(&["ip", "link", "set", "lo", "up"]);
        quarantine.inside(&["ip", "link", "add", "out", "type", "veth", "peer", "name", "nowhere"]);
        for device in ["out", "nowhere"] {
            quarantine.inside(&["ip", "link", "set", device, "arp", "off", "up"]);
        }
        quarantine.inside(&["ip", "address", "add", "10.99.0.2/24", "dev", "out"]);
        quarantine.inside(&["ip", "route", "add", "default", "via", "10.99.0.1", "dev", "out"]);
        quarantine
    }

    /// What `ip netns exec` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn inside(&self, command: &[&str]) {
        ip(&[&["netns", "exec", &self.name], command].concat());
    }

    /// Records every packet from now on.
    ///
    /// # Panics
    /// When the namespace cannot be entered or watched.
    pub fn watch(&self) -> Watch {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("the namespace is there");
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = ended.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
            let mut socket = raw_socket();
            ready.send(()).expect("somebody waits");
            let mut seen = BTreeMap::new();
            let mut packet = vec![0; PACKET_BYTES_MAX];
            while !is_ended.load(Ordering::Relaxed) {
                match socket.read(&mut packet) {
                    Ok(bytes) => *seen.entry(kind_of(&packet[..bytes])).or_insert(0) += 1,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => panic!("the watch broke: {error}"),
                }
            }
            seen
        });
        is_ready.recv().expect("the watch begins");
        Watch { ended, thread }
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// A running record.
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<Seen, usize>>,
}

impl Watch {
    /// Ends it; gives how many packets of each kind were seen.
    ///
    /// # Panics
    /// When the watch broke.
    pub fn end(self) -> BTreeMap<Seen, usize> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch ends")
    }
}

fn raw_socket() -> Socket {
    let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::from(AF_PACKET), Type::RAW, Some(all)).expect("root may watch");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
    socket
}

fn kind_of(frame: &[u8]) -> Seen {
    let word =
        |at: usize| u16::from_be_bytes([frame.get(at).copied().unwrap_or(0), frame.get(at + 1).copied().unwrap_or(0)]);
    let ethertype = word(12);
    if ethertype != ETHERTYPE_IPV4 || frame.len() < 34 {
        return Seen::Foreign(ethertype);
    }
    let ip = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
    let (protocol, from, to) = (frame[23], ip(26), ip(30));
    let ports = 14 + usize::from(frame[14] & 15) * 4;
    match protocol {
        IP_TCP => Seen::Tcp { from: SocketAddrV4::new(from, word(ports)), to: SocketAddrV4::new(to, word(ports + 2)) },
        _ => Seen::Other { from, to, protocol },
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    Output::of(Command::new("ip").args(arguments)).expect(0);
}
