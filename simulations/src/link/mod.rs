//! A line between two machines, emulated in user space: rate, delay, loss, reordering and a queue that overflows.
//!
//! Two network namespaces stand for the machines, each with a TUN device; [`Link`] carries packets between the devices. Many kernels
//! lack the module that does this inside (netem); this one needs nothing but `/dev/net/tun` and root. Start reading at [`Link`];
//! `channel` decides when each packet leaves, `carrier` moves them, `namespace` is the place where programs run.
//!
//! What the figures mean: the rate counts IP packets in one direction, both directions have it for themselves; the delay is the
//! *round trip*, half of it each way; loss meets every packet of either direction, acknowledgements too; the queue in front of the
//! line holds 100 ms or one round trip of the line's rate, the longer one, and drops what comes on top.
//!
//! **Invariant:** nothing outlives the program: no namespace, no device, no address.

mod carrier;
mod channel;
mod namespace;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tun_rs::{DeviceBuilder, SyncDevice};

use carrier::{Carrier, Shared, Tally};
pub use namespace::{Namespace, check_allowed};

/// Size of the largest IP packet, as on Ethernet.
const PACKET_BYTES_MAX: usize = 1500;
/// Longer than anything that arrives between two looks, so that packets are dropped by the emulated queue only.
const DEVICE_QUEUE_PACKETS: u32 = 20_000;
/// Prefix of the network of each line.
const PREFIX: u8 = 24;
/// More lines than this have no place in the addresses.
const LINES_MAX: u8 = 250;

/// The system does not let this program emulate lines.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub(crate) &'static str);

/// What a line is like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// In each direction; `None` is as fast as the machine.
    pub bits_per_second: Option<u64>,
    /// There and back.
    pub round_trip: Duration,
    /// Share of packets that get lost, in each direction.
    pub loss: f64,
    /// Share of packets that later ones overtake.
    pub reorder: f64,
    /// What may wait in front of the line; `None` is 100 ms or one round trip of its rate, the longer one.
    pub queue_bytes: Option<u64>,
    /// Nothing gets through.
    pub cut: bool,
}

impl Line {
    /// A clean line.
    pub fn new(megabits_per_second: f64, round_trip_ms: f64) -> Self {
        Self {
            bits_per_second: Some((megabits_per_second * 1e6) as u64),
            round_trip: Duration::from_secs_f64(round_trip_ms / 1000.0),
            loss: 0.0,
            reorder: 0.0,
            queue_bytes: None,
            cut: false,
        }
    }

    /// The same line with this share of packets lost.
    pub fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits_per_second {
            Some(rate) => write!(f, "{} Mbit/s", rate as f64 / 1e6)?,
            None => f.write_str("unlimited rate")?,
        }
        write!(f, ", {} ms", self.round_trip.as_secs_f64() * 1000.0)?;
        if self.loss > 0.0 {
            write!(f, ", {} % loss", self.loss * 100.0)?;
        }
        if self.reorder > 0.0 {
            write!(f, ", {} % reordered", self.reorder * 100.0)?;
        }
        Ok(())
    }
}

/// What one direction, or both, have carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets that came out.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets for which the queue had no room.
    pub overflowed: u64,
    /// Packets that chance or a cut took.
    pub lost: u64,
    /// Processor time that the emulation took.
    pub busy: Duration,
}

impl Counters {
    /// What has happened since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            bytes: self.bytes - earlier.bytes,
            overflowed: self.overflowed - earlier.overflowed,
            lost: self.lost - earlier.lost,
            busy: self.busy.saturating_sub(earlier.busy),
        }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            overflowed: self.overflowed + other.overflowed,
            lost: self.lost + other.lost,
            busy: self.busy + other.busy,
        }
    }
}

/// A line between two namespaces; it ends with this value.
#[derive(Debug)]
pub struct Link {
    number: u8,
    /// Near to far, far to near.
    directions: [Arc<Shared>; 2],
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Link {
    /// Joins two namespaces. `number` tells lines of one program apart: it is in the addresses and in the names of the devices.
    ///
    /// # Errors
    /// If a device cannot be made.
    pub fn open(near: &Namespace, far: &Namespace, number: u8, line: Line, seed: u64) -> Result<Self> {
        if number >= LINES_MAX {
            bail!("line {number} has no place in the addresses");
        }
        let devices = [
            Arc::new(open_device(near, number, Self::near_address(number))?),
            Arc::new(open_device(far, number, Self::far_address(number))?),
        ];
        let directions = [(); 2].map(|()| {
            let (line, tally) = (Mutex::new(line), Tally::default());
            Arc::new(Shared { line, changes: AtomicU64::new(0), stop: AtomicBool::new(false), tally })
        });
        let mut link = Self { number, directions, threads: Vec::new() };
        for (index, shared) in link.directions.iter().enumerate() {
            let (from, to) = (devices[index].clone(), devices[1 - index].clone());
            let carrier = Carrier::new(from, to, shared.clone(), seed.wrapping_mul(2).wrapping_add(index as u64));
            let thread = std::thread::Builder::new().name(format!("line-{number}-{index}"));
            link.threads.push(thread.spawn(|| carrier.run())?);
        }
        Ok(link)
    }

    /// Address of the near end of line `number`.
    pub fn near_address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 210, number, 1)
    }

    /// Address of the far end of line `number`.
    pub fn far_address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 210, number, 2)
    }

    /// Changes the line in both directions, from now on.
    pub fn set_line(&self, line: Line) {
        for shared in &self.directions {
            *shared.line.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = line;
            shared.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Lets nothing through until [`Link::mend`]; what is on its way is lost.
    pub fn cut(&self) {
        self.set_line(Line { cut: true, ..self.line() });
    }

    /// Ends a cut.
    pub fn mend(&self) {
        self.set_line(Line { cut: false, ..self.line() });
    }

    /// What the line is like now.
    pub fn line(&self) -> Line {
        *self.directions[0].line.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives the near end the address that ends in `last` in place of the one that ends in `before`; connections over the old one
    /// stall, as after a new lease.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn move_near_end(&self, near: &Namespace, before: u8, last: u8) -> Result<()> {
        let (device, number) = (device_name(self.number), self.number);
        near.ip(&["address", "add", &format!("10.210.{number}.{last}/{PREFIX}"), "dev", &device])?;
        near.ip(&["address", "del", &format!("10.210.{number}.{before}/{PREFIX}"), "dev", &device])?;
        // Removing the first address of a network may take the others with it, and its route.
        near.ip(&["address", "replace", &format!("10.210.{number}.{last}/{PREFIX}"), "dev", &device])
    }

    /// What was carried from near to far, and from far to near.
    pub fn counters(&self) -> [Counters; 2] {
        [self.directions[0].tally.read(), self.directions[1].tally.read()]
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for shared in &self.directions {
            shared.stop.store(true, Ordering::Relaxed);
        }
        for thread in self.threads.drain(..) {
            // A direction that failed has ended, and that is what is wanted here.
            let _ = thread.join();
        }
    }
}

fn device_name(number: u8) -> String {
    format!("line{number}")
}

fn open_device(namespace: &Namespace, number: u8, address: Ipv4Addr) -> Result<SyncDevice> {
    let name = device_name(number);
    let builder = DeviceBuilder::new().name(&name).mtu(PACKET_BYTES_MAX as u16).offload(true);
    let device = namespace
        .inside(|| builder.tx_queue_len(DEVICE_QUEUE_PACKETS).build_sync())?
        .context("cannot make a TUN device")?;
    device.set_nonblocking(true)?;
    // Names and addresses belong to the namespace of whoever asks, so that is left to a program inside.
    namespace.ip(&["address", "add", &format!("{address}/{PREFIX}"), "dev", &name])?;
    namespace.ip(&["link", "set", &name, "up"])?;
    Ok(device)
}

#[cfg(test)]
mod tests;
