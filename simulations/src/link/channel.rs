//! One direction of a line, as arithmetic: when does a packet leave, and does it leave at all?
//!
//! A packet waits until those before it have been put on the line at the line's rate, travels for the one-way delay, and comes out.
//! What does not fit into the queue any more is dropped at its end, as a router does; chance loses packets on the line itself, where
//! they have already used its time; a reordered packet is held back, so that later ones overtake it.
//!
//! **Invariant:** no clock and no sockets in here, and the same seed and packets give the same losses.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::Line;

/// A queue shorter than this could not hold one burst of segmentation offload.
const QUEUE_BYTES_MIN: u64 = 128 * 1024;
/// How much of the line's time the queue holds, unless the round trip is longer: what routers at the edge have.
const QUEUE_TIME_MIN: Duration = Duration::from_millis(100);
/// A reordered packet comes at least this much later than it would have.
const HELD_BACK_MIN: Duration = Duration::from_millis(2);

/// What happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It will come out.
    Carried,
    /// The queue was full.
    Overflowed,
    /// The line lost it, or is cut.
    Lost,
}

/// A packet on its way.
struct Travelling<P> {
    due: Instant,
    /// Order of arrival, so that packets that are due together stay in order.
    number: u64,
    packet: P,
}

impl<P> Ord for Travelling<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives its greatest first, and the earliest is wanted.
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl<P> PartialOrd for Travelling<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for Travelling<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<P> Eq for Travelling<P> {}

/// One direction of a line and what travels on it.
pub(super) struct Channel<P> {
    line: Line,
    chance: fastrand::Rng,
    /// When everything that was accepted so far will have been put on the line.
    free_at: Instant,
    travelling: BinaryHeap<Travelling<P>>,
    numbered: u64,
}

impl<P> Channel<P> {
    /// An idle channel.
    pub(super) fn new(line: Line, seed: u64, now: Instant) -> Self {
        let chance = fastrand::Rng::with_seed(seed);
        Self { line, chance, free_at: now, travelling: BinaryHeap::new(), numbered: 0 }
    }

    /// Changes the line; what is already queued leaves at the rate at which it came, and a cut loses everything that travels.
    pub(super) fn set_line(&mut self, line: Line, now: Instant) {
        if line.cut {
            self.travelling.clear();
            self.free_at = now;
        }
        self.line = line;
    }

    /// Takes a packet of `bytes` that arrives `now`; `packet` is made only if it will come out.
    pub(super) fn accept(&mut self, now: Instant, bytes: usize, packet: impl FnOnce() -> P) -> Fate {
        if self.line.cut {
            return Fate::Lost;
        }
        let starts = self.free_at.max(now);
        if let Some(rate) = self.line.bits_per_second {
            let waiting = starts.duration_since(now).as_secs_f64() * rate as f64 / 8.0;
            if waiting + bytes as f64 > queue_bytes(&self.line) as f64 {
                return Fate::Overflowed;
            }
            self.free_at = starts + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        }
        if self.line.loss > 0.0 && self.chance.f64() < self.line.loss {
            return Fate::Lost;
        }
        let mut due = self.free_at.max(now) + self.line.round_trip / 2;
        if self.line.reorder > 0.0 && self.chance.f64() < self.line.reorder {
            due += (self.line.round_trip / 8).max(HELD_BACK_MIN);
        }
        self.numbered += 1;
        self.travelling.push(Travelling { due, number: self.numbered, packet: packet() });
        Fate::Carried
    }

    /// The next packet that has arrived by `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<P> {
        if self.next_due()? > now {
            return None;
        }
        self.travelling.pop().map(|arrived| arrived.packet)
    }

    /// When the next packet comes out.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.travelling.peek().map(|next| next.due)
    }
}

/// How many bytes wait before packets are dropped: what was asked for, or 100 ms or one round trip of the line's rate, the longer one.
pub(super) fn queue_bytes(line: &Line) -> u64 {
    let held = line.round_trip.max(QUEUE_TIME_MIN).as_secs_f64();
    let by_rate = line.bits_per_second.map_or(u64::MAX, |rate| (rate as f64 / 8.0 * held) as u64);
    line.queue_bytes.unwrap_or(by_rate).max(QUEUE_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 1500;

    fn offer(channel: &mut Channel<u32>, now: Instant, count: u32) -> Vec<Fate> {
        (0..count).map(|number| channel.accept(now, PACKET, || number)).collect()
    }

    fn drain(channel: &mut Channel<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| channel.pop_due(now)).collect()
    }

    #[test]
    fn packets_leave_at_the_lines_rate_after_its_delay() {
        let start = Instant::now();
        // 12 Mbit/s: one packet of 1,500 bytes in each millisecond; 20 ms there and back.
        let mut channel = Channel::new(Line::new(12.0, 20.0), 1, start);
        assert!(offer(&mut channel, start, 50).iter().all(|fate| *fate == Fate::Carried));
        let at = |micros: u64| start + Duration::from_micros(micros);
        assert!(drain(&mut channel, at(10_900)).is_empty());
        assert_eq!(drain(&mut channel, at(11_100)), [0]);
        assert_eq!(drain(&mut channel, at(15_100)), [1, 2, 3, 4]);
        assert_eq!(drain(&mut channel, at(60_100)).len(), 45);
        assert_eq!(channel.next_due(), None);
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let start = Instant::now();
        let mut line = Line::new(12.0, 20.0);
        line.queue_bytes = Some(150_000);
        let mut channel = Channel::new(line, 1, start);
        let fates = offer(&mut channel, start, 150);
        assert!(fates[..100].iter().all(|fate| *fate == Fate::Carried));
        assert!(fates[100..].iter().all(|fate| *fate == Fate::Overflowed));
        // Ten milliseconds later, ten packets have left.
        let later = offer(&mut channel, start + Duration::from_millis(10), 20);
        assert_eq!(later.iter().filter(|fate| **fate == Fate::Carried).count(), 10);
    }

    #[test]
    fn queues_hold_a_tenth_of_a_second_or_a_round_trip() {
        let check = |mbit: f64, round_trip_ms: f64, expected: u64| {
            assert_eq!(queue_bytes(&Line::new(mbit, round_trip_ms)), expected, "{mbit} {round_trip_ms}");
        };
        check(100.0, 20.0, 1_250_000);
        check(20.0, 200.0, 500_000);
        check(1.0, 20.0, QUEUE_BYTES_MIN);
    }

    #[test]
    fn losses_have_their_share_and_repeat_with_their_seed() {
        let lost = |seed: u64| -> Vec<u32> {
            let start = Instant::now();
            let mut channel = Channel::new(Line::new(1e6, 0.0).with_loss(0.01), seed, start);
            let fate = |channel: &mut Channel<u32>, number| channel.accept(start, 1, || number) == Fate::Lost;
            (0..100_000).filter(|number| fate(&mut channel, *number)).collect()
        };
        let first = lost(7);
        // Six standard deviations around the mean of 1,000.
        assert!((810..1190).contains(&first.len()), "{}", first.len());
        assert_eq!(first, lost(7));
        assert_ne!(first, lost(8));
    }

    #[test]
    fn reordered_packets_come_later_but_come() {
        let start = Instant::now();
        let mut line = Line::new(1000.0, 20.0);
        line.reorder = 0.1;
        let mut channel = Channel::new(line, 3, start);
        offer(&mut channel, start, 500);
        let arrived = drain(&mut channel, start + Duration::from_secs(1));
        assert_eq!(arrived.len(), 500);
        assert!(!arrived.is_sorted());
    }

    #[test]
    fn a_cut_loses_what_travels_and_a_mended_line_starts_afresh() {
        let start = Instant::now();
        let line = Line::new(12.0, 20.0);
        let mut channel = Channel::new(line, 1, start);
        offer(&mut channel, start, 50);
        channel.set_line(Line { cut: true, ..line }, start);
        assert_eq!(offer(&mut channel, start, 1), [Fate::Lost]);
        channel.set_line(line, start);
        offer(&mut channel, start, 1);
        assert_eq!(drain(&mut channel, start + Duration::from_millis(12)), [0]);
        assert!(drain(&mut channel, start + Duration::from_secs(9)).is_empty());
    }
}
