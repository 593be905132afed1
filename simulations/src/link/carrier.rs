//! Carries packets from one TUN device to the other through a [`Channel`].
//!
//! One thread for each direction waits in `poll` for the next packet or the next due time, whichever is first. It takes and gives
//! the kernel's large segments (GSO), split into packets of the line's size in between, so that loss and rate count real packets
//! and system calls stay few. Wake-ups are at least [`GRAIN`] apart, as with a network card that gathers interrupts.
//!
//! **Invariant:** what is counted as carried was accepted by the other device.

use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::{GROTable, IDEAL_BATCH_SIZE, SyncDevice, VIRTIO_NET_HDR_LEN};

use super::channel::{Channel, Fate};
use super::{Counters, Line, PACKET_BYTES_MAX};

/// Packets go together that are due within this part of the round trip.
const GRAIN_SHARE: u32 = 40;
/// Finer than this costs more processor time than it is worth.
const GRAIN_MIN: Duration = Duration::from_micros(100);
/// Coarser than this would be seen in the times of a long line.
const GRAIN_MAX: Duration = Duration::from_micros(500);
/// How soon a change of the line is seen while nothing moves.
const IDLE_WAIT: Duration = Duration::from_millis(20);
/// The largest that the kernel gives at once.
const SEGMENT_BYTES_MAX: usize = 65_536;
/// Large segments taken before due packets get their turn.
const SEGMENTS_AT_ONCE: usize = 8;
/// Buffers kept for use again: what a full queue on a fast line holds.
const SPARE_BUFFERS_MAX: usize = 16_384;
/// Before other programs: the line must keep its times on a machine that is busy with what is measured.
const PRIORITY: i32 = -20;

/// What a direction shares with the rest of the program.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) line: std::sync::Mutex<Line>,
    /// Raised after each change of `line`.
    pub(super) changes: AtomicU64,
    pub(super) stop: AtomicBool,
    pub(super) tally: Tally,
}

/// Counters of one direction, added to as it goes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    packets: AtomicU64,
    bytes: AtomicU64,
    overflowed: AtomicU64,
    lost: AtomicU64,
    busy_nanos: AtomicU64,
}

impl Tally {
    pub(super) fn read(&self) -> Counters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            packets: of(&self.packets),
            bytes: of(&self.bytes),
            overflowed: of(&self.overflowed),
            lost: of(&self.lost),
            busy: Duration::from_nanos(of(&self.busy_nanos)),
        }
    }
}

/// One direction at work.
pub(super) struct Carrier {
    from: Arc<SyncDevice>,
    to: Arc<SyncDevice>,
    shared: Arc<Shared>,
    channel: Channel<Vec<u8>>,
    /// How long packets that are due wait for each other.
    grain: Duration,
    changes_seen: u64,
    spare: Vec<Vec<u8>>,
    segment: Vec<u8>,
    pieces: Vec<Vec<u8>>,
    sizes: Vec<usize>,
    joined: GROTable,
}

impl Carrier {
    pub(super) fn new(from: Arc<SyncDevice>, to: Arc<SyncDevice>, shared: Arc<Shared>, seed: u64) -> Self {
        let line = *shared.line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Self {
            from,
            to,
            shared,
            channel: Channel::new(line, seed, Instant::now()),
            grain: grain(&line),
            changes_seen: 0,
            spare: Vec::new(),
            segment: vec![0; VIRTIO_NET_HDR_LEN + SEGMENT_BYTES_MAX],
            pieces: vec![vec![0; PACKET_BYTES_MAX]; IDEAL_BATCH_SIZE],
            sizes: vec![0; IDEAL_BATCH_SIZE],
            joined: GROTable::new(),
        }
    }

    /// Carries until told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        // Both make times more exact, and the line works without them.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), PRIORITY);
        let mut batch = Vec::with_capacity(IDEAL_BATCH_SIZE);
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.see_changes();
            let took = self.take()?;
            let gave = self.give(&mut batch)?;
            self.note_busy();
            if !took && !gave {
                self.wait()?;
            }
        }
        Ok(())
    }

    fn see_changes(&mut self) {
        let changes = self.shared.changes.load(Ordering::Acquire);
        if changes != self.changes_seen {
            self.changes_seen = changes;
            let line = *self.shared.line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.channel.set_line(line, Instant::now());
            self.grain = grain(&line);
        }
    }

    /// Takes what the near end has sent; whether there may be more.
    fn take(&mut self) -> io::Result<bool> {
        for _ in 0..SEGMENTS_AT_ONCE {
            let read = self.from.recv_multiple(&mut self.segment, &mut self.pieces, &mut self.sizes, 0);
            match read {
                Ok(count) => self.enqueue(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                // The line is gone with its namespace.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADFD.raw_os_error()) => {
                    return Err(error);
                }
                // A packet that cannot be split is one that is lost.
                Err(_) => count(&self.shared.tally.lost, 1),
            }
        }
        Ok(true)
    }

    fn enqueue(&mut self, pieces: usize) {
        let now = Instant::now();
        let tally = &self.shared.tally;
        for (piece, &size) in self.pieces.iter().zip(&self.sizes).take(pieces) {
            let Some(content) = piece.get(..size) else { continue };
            let spare = &mut self.spare;
            let fate = self.channel.accept(now, size, || {
                let mut packet = spare.pop().unwrap_or_default();
                packet.clear();
                // Room for the header that goes in front of it to the device.
                packet.resize(VIRTIO_NET_HDR_LEN, 0);
                packet.extend_from_slice(content);
                packet
            });
            match fate {
                Fate::Carried => (),
                Fate::Overflowed => count(&tally.overflowed, 1),
                Fate::Lost => count(&tally.lost, 1),
            }
        }
    }

    /// Gives the far end what is due; whether there was something.
    fn give(&mut self, batch: &mut Vec<Vec<u8>>) -> io::Result<bool> {
        if self.channel.next_due().is_none_or(|due| due > Instant::now()) {
            return Ok(false);
        }
        let soon = Instant::now() + self.grain / 2;
        while batch.len() < IDEAL_BATCH_SIZE
            && let Some(packet) = self.channel.pop_due(soon)
        {
            batch.push(packet);
        }
        let bytes: usize = batch.iter().map(|packet| packet.len() - VIRTIO_NET_HDR_LEN).sum();
        match self.to.send_multiple(&mut self.joined, batch, VIRTIO_NET_HDR_LEN) {
            Ok(_) => {
                count(&self.shared.tally.packets, batch.len() as u64);
                count(&self.shared.tally.bytes, bytes as u64);
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADFD.raw_os_error()) => return Err(error),
            Err(_) => count(&self.shared.tally.lost, batch.len() as u64),
        }
        self.spare.append(batch);
        self.spare.truncate(SPARE_BUFFERS_MAX);
        Ok(true)
    }

    fn wait(&self) -> io::Result<()> {
        let next = self.channel.next_due().map(|due| due.saturating_duration_since(Instant::now()).max(self.grain / 2));
        let wait = next.unwrap_or(IDLE_WAIT).min(IDLE_WAIT);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn note_busy(&self) {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let nanos =
            u64::try_from(spent.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(spent.tv_nsec).unwrap_or(0);
        self.shared.tally.busy_nanos.store(nanos, Ordering::Relaxed);
    }
}

/// How long packets that are due wait for each other.
pub(super) fn grain(line: &Line) -> Duration {
    (line.round_trip / GRAIN_SHARE).clamp(GRAIN_MIN, GRAIN_MAX)
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
