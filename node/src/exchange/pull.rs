//! What one counterpart's lanes share: what to pull, what was asked for on which lane, and what may be served.
//!
//! **Invariants:** an object is asked for at most twice at a time, and is believed from whichever lane it comes first;
//! an object is served only for an envelope that is being offered to this counterpart; while something urgent comes, no
//! bulk is asked for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pakt_protocol::bulk::REQUESTS_MAX;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::envelope::Priority;
use tokio::sync::Notify;

use super::credit::Credit;
use super::fair::FairQueue;
use super::lock;
use super::memory::{PEER_BYTES_MAX, PeerMemory};
use super::urgent::{STALL_MAX, UrgentGate};

/// Objects asked for at once on one lane: the sender serves at most [`REQUESTS_MAX`].
const OUTSTANDING_MAX: usize = REQUESTS_MAX / 2;
/// Every lane has one object on its way and the next one asked for, whatever the credit.
const OUTSTANDING_MIN: usize = 2;
/// Objects of one envelope that may be asked for twice, or one in fifty, whichever is more.
const DUPLICATES_MIN: u64 = 4;
/// A request younger than this is not overdue, however fast the others were.
const OVERDUE_MIN: Duration = Duration::from_millis(250);
/// Answers whose times are remembered for the median.
const TIMES_MAX: usize = 33;

/// The most urgent first.
const PRIORITIES: [Priority; 3] = [Priority::Urgent, Priority::Normal, Priority::Bulk];

/// One object to pull.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull {
    pub(super) envelope: EnvelopeId,
    pub(super) index: u64,
    pub(super) entry: ObjectEntry,
    pub(super) priority: Priority,
}

/// What names an object on the wire.
pub(super) type Key = (EnvelopeId, u64);

/// What a lane may do next.
#[derive(Debug)]
enum Next {
    Ask(Pull),
    /// Nothing until something changes, or until then.
    Wait(Option<Instant>),
}

/// What an object that came is worth.
#[derive(Debug)]
pub(super) enum Arrival {
    /// It is the first.
    First(Pull),
    /// Another lane brought it already.
    Late,
    /// Nobody asked for it on this lane.
    Unasked,
}

/// Shared by the lanes of one counterpart and its actor.
pub(super) struct Shared {
    asking: Mutex<Asking>,
    /// Bytes of objects that have come.
    received: AtomicU64,
    wake: Notify,
    serving: Mutex<HashMap<EnvelopeId, Served>>,
    /// Holds bulk back while something urgent is being sent.
    pub(super) gate: UrgentGate,
    /// What arriving objects are read into.
    pub(super) memory: Arc<PeerMemory>,
    /// What objects are read into that are about to leave.
    pub(super) leaving: Arc<PeerMemory>,
}

struct Served {
    priority: Priority,
    objects: Vec<ObjectEntry>,
    bytes: AtomicU64,
}

/// What waits and what is on its way.
#[derive(Default)]
struct Asking {
    queue: FairQueue,
    lanes: HashMap<u64, AskedLane>,
    /// On how many lanes an object is awaited that has not arrived on any.
    awaited: HashMap<Key, u8>,
    /// Objects of each envelope that were asked for, and that were asked for twice.
    asked: HashMap<EnvelopeId, (u64, HashSet<u64>)>,
    times: VecDeque<Duration>,
    credit: Credit,
    urgent_moved_at: Option<Instant>,
}

struct AskedLane {
    kind: LaneKind,
    asked: HashMap<Key, Asked>,
    bytes: u64,
    is_closing: bool,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    pull: Pull,
    at: Instant,
    /// The lane was empty when this was asked for.
    alone: bool,
}

impl Shared {
    /// Nothing to pull, nothing to serve.
    pub(super) fn new(memory: Arc<PeerMemory>, leaving: Arc<PeerMemory>) -> Shared {
        Shared {
            asking: Mutex::default(),
            received: AtomicU64::new(0),
            wake: Notify::new(),
            serving: Mutex::default(),
            gate: UrgentGate::default(),
            memory,
            leaving,
        }
    }

    /// Adds objects to pull.
    pub(super) fn push(&self, pulls: impl IntoIterator<Item = Pull>) {
        let mut asking = lock(&self.asking);
        for pull in pulls {
            if pull.priority == Priority::Urgent {
                asking.urgent_moved_at = Some(Instant::now());
            }
            asking.queue.push(pull);
        }
        drop(asking);
        self.wake.notify_waiters();
    }

    /// Gives back pulls whose objects did not come as they should; they come first again.
    pub(super) fn give_back(&self, pulls: impl IntoIterator<Item = Pull>) {
        let mut asking = lock(&self.asking);
        pulls.into_iter().for_each(|pull| asking.queue.give_back(pull));
        drop(asking);
        self.wake.notify_waiters();
    }

    /// Forgets what was to be pulled for an envelope.
    pub(super) fn forget(&self, envelope: &EnvelopeId) {
        let mut asking = lock(&self.asking);
        asking.queue.forget(envelope);
        asking.asked.remove(envelope);
    }

    /// Whether a lane of this kind would find something to pull.
    pub(super) fn wants(&self, kind: LaneKind) -> bool {
        let asking = lock(&self.asking);
        eligible(kind, true).iter().any(|priority| asking.queue.has(*priority))
    }

    /// The round trip of a request on an empty lane, if one was measured.
    pub(super) fn delay(&self) -> Option<Duration> {
        lock(&self.asking).credit.delay()
    }

    /// A lane joins those that pull.
    pub(super) fn join(&self, lane: u64, kind: LaneKind) {
        let joined = AskedLane { kind, asked: HashMap::new(), bytes: 0, is_closing: false };
        lock(&self.asking).lanes.insert(lane, joined);
    }

    /// A lane ends: what it was asked for goes back, unless another lane brings it.
    pub(super) fn leave(&self, lane: u64) {
        lock(&self.asking).leave(lane);
        self.wake.notify_waiters();
    }

    /// Asks no more on a lane, so that it can end once all has come.
    pub(super) fn close(&self, lane: u64) {
        if let Some(lane) = lock(&self.asking).lanes.get_mut(&lane) {
            lane.is_closing = true;
        }
        self.wake.notify_waiters();
    }

    /// Whether nothing more is on its way on a lane.
    pub(super) fn is_empty(&self, lane: u64) -> bool {
        lock(&self.asking).lanes.get(&lane).is_none_or(|lane| lane.asked.is_empty())
    }

    /// Waits until a lane that is closing has brought everything. Cancel safe.
    pub(super) async fn closed(&self, lane: u64) {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let done = lock(&self.asking).lanes.get(&lane).is_none_or(|lane| lane.is_closing && lane.asked.is_empty());
            if done {
                return;
            }
            woken.await;
        }
    }

    /// The next object to ask for on this lane; it counts as asked for. `quiet`: nothing is being written on it. Cancel
    /// safe.
    pub(super) async fn claim(&self, lane: u64, quiet: impl Fn() -> bool) -> Pull {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let held = self.memory.held();
            let next = lock(&self.asking).next(lane, quiet(), held, Instant::now());
            match next {
                Next::Ask(pull) => return pull,
                Next::Wait(until) => match until {
                    Some(until) => drop(tokio::time::timeout_at(until.into(), woken).await),
                    None => woken.await,
                },
            }
        }
    }

    /// The head of an object came: what it should be if it was asked for on this lane, and whether it is still wanted.
    pub(super) fn answering(&self, lane: u64, key: &Key) -> Option<(ObjectEntry, bool)> {
        let mut asking = lock(&self.asking);
        let wanted = asking.awaited.contains_key(key);
        let Asked { pull, at, alone } = *asking.lanes.get(&lane)?.asked.get(key)?;
        if alone {
            asking.credit.answered(at.elapsed());
        }
        Some((pull.entry, wanted))
    }

    /// Bytes of an object came.
    pub(super) fn received(&self, kind: LaneKind, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut asking = lock(&self.asking);
        let now = Instant::now();
        asking.credit.arrived(bytes as u64, now);
        if kind == LaneKind::Urgent {
            asking.urgent_moved_at = Some(now);
        }
    }

    /// Bytes of objects that have come so far.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// What it waits for, for whoever has to find out why nothing comes.
    pub(super) fn explain(&self) -> String {
        let asking = lock(&self.asking);
        let asked: Vec<usize> = asking.lanes.values().map(|lane| lane.asked.len()).collect();
        let waits = PRIORITIES.iter().filter(|priority| asking.queue.has(**priority)).count();
        format!("asked for on lanes: {asked:?}, awaited: {}, queues that wait: {waits}", asking.awaited.len())
    }

    /// Objects became durable: what they held is free.
    pub(super) fn stored(&self) {
        self.wake.notify_waiters();
    }

    /// An object came in whole, or was said not to be there.
    pub(super) fn arrived(&self, lane: u64, key: &Key) -> Arrival {
        let arrival = lock(&self.asking).arrived(lane, key, Instant::now());
        self.wake.notify_waiters();
        arrival
    }

    /// Allows the counterpart to pull these objects too, behind those that it may pull of this envelope already.
    pub(super) fn serve(&self, envelope: EnvelopeId, priority: Priority, entries: &[ObjectEntry]) {
        let mut serving = lock(&self.serving);
        let served = serving.entry(envelope).or_insert_with(|| Served {
            priority,
            objects: Vec::new(),
            bytes: AtomicU64::new(0),
        });
        served.objects.extend_from_slice(entries);
    }

    /// Ends that, and what the envelope may have held back.
    pub(super) fn stop_serving(&self, envelope: &EnvelopeId) {
        lock(&self.serving).remove(envelope);
        self.gate.end(envelope);
    }

    /// The object that a request names and its priority, if the counterpart may have it.
    pub(super) fn served(&self, envelope: &EnvelopeId, index: u64) -> Option<(ObjectEntry, Priority)> {
        let serving = lock(&self.serving);
        let served = serving.get(envelope)?;
        let entry = served.objects.get(usize::try_from(index).ok()?)?;
        Some((*entry, served.priority))
    }

    /// Bytes of an object of the envelope were written.
    pub(super) fn wrote(&self, envelope: &EnvelopeId, bytes: usize) {
        if let Some(served) = lock(&self.serving).get(envelope) {
            served.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Sealed bytes written for an envelope since it was last asked.
    pub(super) fn take_served_bytes(&self, envelope: &EnvelopeId) -> u64 {
        lock(&self.serving).get(envelope).map_or(0, |served| served.bytes.swap(0, Ordering::Relaxed))
    }
}

impl Asking {
    fn next(&mut self, lane: u64, quiet: bool, held: u64, now: Instant) -> Next {
        let Some(load) = self.lanes.get(&lane) else { return Next::Wait(None) };
        let (kind, is_empty) = (load.kind, load.asked.is_empty());
        if load.is_closing || !self.has_room(load, held) {
            return Next::Wait(None);
        }
        // What is urgent and waits while its own lane is busy may go on a bulk lane where nothing is in its way.
        for priority in eligible(kind, is_empty && quiet) {
            if *priority != Priority::Urgent
                && let Some(until) = self.urgent_holds_until(now)
            {
                return Next::Wait(Some(until));
            }
            if let Some(pull) = self.queue.pop(*priority) {
                *self.awaited.entry((pull.envelope, pull.index)).or_default() += 1;
                self.asked.entry(pull.envelope).or_default().0 += 1;
                self.ask(lane, pull, now);
                return Next::Ask(pull);
            }
        }
        self.next_duplicate(lane, now)
    }

    fn ask(&mut self, lane: u64, pull: Pull, now: Instant) {
        if let Some(load) = self.lanes.get_mut(&lane) {
            let asked = Asked { pull, at: now, alone: load.asked.is_empty() };
            load.bytes += u64::from(pull.entry.bytes);
            load.asked.insert((pull.envelope, pull.index), asked);
        }
    }

    /// Whether this lane may ask for more while `held` bytes have come and are not durable.
    ///
    /// What comes while the disk is slow waits in the kernel and is lost in a crash too, so both count against what a
    /// crash may cost, unless the line itself holds more. On an empty lane half of that has to be free.
    fn has_room(&self, load: &AskedLane, held: u64) -> bool {
        let count = load.asked.len();
        let asked: u64 = self.lanes.values().map(|lane| lane.bytes).sum();
        let within = asked + held < PEER_BYTES_MAX.max(self.credit.bytes());
        if load.kind == LaneKind::Bulk && !within && (count > 0 || held >= PEER_BYTES_MAX / 2) {
            return false;
        }
        let lanes = self.lanes.values().filter(|other| other.kind == load.kind && !other.is_closing).count().max(1);
        count < OUTSTANDING_MIN || count < OUTSTANDING_MAX && load.bytes < self.credit.bytes() / lanes as u64
    }

    /// Until when bulk waits for something urgent that is to come or on its way, if that moves no further.
    fn urgent_holds_until(&self, now: Instant) -> Option<Instant> {
        let is_urgent = |asked: &Asked| asked.pull.priority == Priority::Urgent;
        let comes =
            self.queue.has(Priority::Urgent) || self.lanes.values().any(|lane| lane.asked.values().any(is_urgent));
        let until = self.urgent_moved_at.filter(|_| comes)? + STALL_MAX;
        (now < until).then_some(until)
    }

    /// With nothing left to ask for, what is overdue on another lane is asked for once more.
    fn next_duplicate(&mut self, lane: u64, now: Instant) -> Next {
        let Some(load) = self.lanes.get(&lane) else { return Next::Wait(None) };
        if !load.asked.is_empty() || self.times.is_empty() {
            return Next::Wait(None);
        }
        let mut times: Vec<Duration> = self.times.iter().copied().collect();
        times.sort_unstable();
        let overdue = (times[times.len() / 2] * 3 / 2).max(OVERDUE_MIN);
        let others = self.lanes.iter().filter(|(other, other_load)| **other != lane && other_load.kind == load.kind);
        let candidates = others.flat_map(|(_, other)| other.asked.values()).filter(|asked| self.may_duplicate(asked));
        let Some(oldest) = candidates.min_by_key(|asked| asked.at).copied() else { return Next::Wait(None) };
        if now < oldest.at + overdue {
            return Next::Wait(Some(oldest.at + overdue));
        }
        let key = (oldest.pull.envelope, oldest.pull.index);
        *self.awaited.entry(key).or_default() += 1;
        self.asked.entry(key.0).or_default().1.insert(key.1);
        self.ask(lane, oldest.pull, now);
        Next::Ask(oldest.pull)
    }

    fn may_duplicate(&self, asked: &Asked) -> bool {
        let key = (asked.pull.envelope, asked.pull.index);
        let once = self.awaited.get(&key) == Some(&1);
        let within = self
            .asked
            .get(&key.0)
            .is_some_and(|(all, twice)| !twice.contains(&key.1) && (twice.len() as u64) < DUPLICATES_MIN.max(all / 50));
        once && within
    }

    fn arrived(&mut self, lane: u64, key: &Key, now: Instant) -> Arrival {
        let Some(load) = self.lanes.get_mut(&lane) else { return Arrival::Unasked };
        let Some(asked) = load.asked.remove(key) else { return Arrival::Unasked };
        load.bytes -= u64::from(asked.pull.entry.bytes);
        if self.times.len() == TIMES_MAX {
            self.times.pop_front();
        }
        self.times.push_back(now.duration_since(asked.at));
        let first = self.awaited.remove(key).is_some();
        if self.awaited.is_empty() {
            self.credit.paused();
        }
        if first { Arrival::First(asked.pull) } else { Arrival::Late }
    }

    fn leave(&mut self, lane: u64) {
        let Some(load) = self.lanes.remove(&lane) else { return };
        for (key, asked) in load.asked {
            match self.awaited.get_mut(&key) {
                Some(1) => {
                    self.awaited.remove(&key);
                    // Unless nobody wants the envelope any more.
                    if self.asked.contains_key(&key.0) {
                        self.queue.give_back(asked.pull);
                    }
                }
                Some(lanes) => *lanes -= 1,
                None => {}
            }
        }
    }
}

/// The urgent lane takes only what is urgent, bulk lanes that as well while nothing is in its way.
fn eligible(kind: LaneKind, free: bool) -> &'static [Priority] {
    match kind {
        LaneKind::Urgent => &[Priority::Urgent],
        LaneKind::Bulk if free => &PRIORITIES,
        LaneKind::Bulk => &[Priority::Normal, Priority::Bulk],
        LaneKind::Control | LaneKind::Relay => &[],
    }
}

#[cfg(test)]
mod tests {
    use pakt_protocol::ids::ObjectId;

    use super::*;

    const OBJECT: u32 = 1 << 20;

    fn pull(index: u64, priority: Priority) -> Pull {
        let entry = ObjectEntry { id: ObjectId([0; 32]), bytes: OBJECT };
        Pull { envelope: EnvelopeId([priority as u8; 16]), index, entry, priority }
    }

    fn shared(lanes: &[LaneKind]) -> Shared {
        let memory = || PeerMemory::new(Arc::default());
        let shared = Shared::new(memory(), memory());
        lanes.iter().enumerate().for_each(|(lane, kind)| shared.join(lane as u64, *kind));
        shared
    }

    fn next(shared: &Shared, lane: u64, now: Instant) -> Result<u64, Option<Instant>> {
        match lock(&shared.asking).next(lane, true, shared.memory.held(), now) {
            Next::Ask(pull) => Ok(pull.index),
            Next::Wait(until) => Err(until),
        }
    }

    #[test]
    fn every_lane_has_one_object_under_way_and_the_next_asked_for() {
        let shared = shared(&[LaneKind::Bulk, LaneKind::Bulk, LaneKind::Bulk]);
        shared.push((0..100).map(|index| pull(index, Priority::Normal)));
        let now = Instant::now();
        let asked: Vec<u64> =
            (0..3).flat_map(|lane| [next(&shared, lane, now), next(&shared, lane, now)]).flatten().collect();
        assert_eq!(asked, [0, 1, 2, 3, 4, 5]);
        assert_eq!(next(&shared, 0, now), Err(None), "4 MiB of credit over three lanes are two objects each");
        let key = (EnvelopeId([Priority::Normal as u8; 16]), 1);
        assert!(matches!(shared.arrived(0, &key), Arrival::First(_)));
        assert!(matches!(shared.arrived(0, &key), Arrival::Unasked));
        assert_eq!(next(&shared, 0, now), Ok(6));
    }

    #[test]
    fn p32_a_slow_disk_stops_the_asking_before_the_kernel_holds_much() {
        let shared = shared(&[LaneKind::Bulk, LaneKind::Bulk]);
        shared.push((0..100).map(|index| pull(index, Priority::Normal)));
        let now = Instant::now();
        let mut held = Vec::new();
        for round in 0..20 {
            let Some(index) = (0..2).find_map(|lane| next(&shared, lane, now).ok().map(|index| (lane, index))) else {
                assert!((4..=7).contains(&round), "{round}");
                return;
            };
            held.push(shared.memory.try_take(LaneKind::Bulk, OBJECT as usize));
            shared.arrived(index.0, &(EnvelopeId([Priority::Normal as u8; 16]), index.1));
        }
        panic!("asked on with nothing durable");
    }

    #[test]
    fn bulk_is_not_asked_for_while_something_urgent_comes() {
        let shared = shared(&[LaneKind::Bulk, LaneKind::Urgent, LaneKind::Bulk]);
        let now = Instant::now();
        shared.push((0..9).map(|index| pull(index, Priority::Normal)));
        assert_eq!(next(&shared, 0, now), Ok(0));
        shared.push((50..53).map(|index| pull(index, Priority::Urgent)));
        assert!(matches!(next(&shared, 0, now), Err(Some(_))), "a busy bulk lane waits");
        assert_eq!(next(&shared, 1, now), Ok(50));
        assert_eq!(next(&shared, 2, now), Ok(51), "an idle bulk lane helps");
        assert_eq!(next(&shared, 1, now), Ok(52));
        assert!(matches!(next(&shared, 2, now), Err(Some(_))));
        let later = now + STALL_MAX + Duration::from_secs(1);
        assert_eq!(next(&shared, 0, later), Ok(1), "urgent that stalls holds nobody back");
        for (lane, index) in [(1, 50), (2, 51), (1, 52)] {
            shared.arrived(lane, &(EnvelopeId([Priority::Urgent as u8; 16]), index));
        }
        assert_eq!(next(&shared, 2, now), Ok(2));
    }

    #[test]
    fn what_is_overdue_at_the_end_is_asked_for_once_more() {
        let shared = shared(&[LaneKind::Bulk, LaneKind::Bulk, LaneKind::Bulk]);
        let envelope = EnvelopeId([Priority::Normal as u8; 16]);
        shared.push((0..3).map(|index| pull(index, Priority::Normal)));
        let now = Instant::now();
        let asked = [0, 1, 2].map(|lane| next(&shared, lane, now + Duration::from_millis(lane)));
        assert_eq!(asked, [Ok(0), Ok(1), Ok(2)]);
        assert!(matches!(shared.arrived(1, &(envelope, 1)), Arrival::First(_)));
        assert!(matches!(next(&shared, 1, now), Err(Some(_))), "not overdue yet");
        let later = now + Duration::from_secs(60);
        assert_eq!(next(&shared, 1, later), Ok(0));
        assert_eq!(next(&shared, 1, later), Err(None), "one at a time");
        shared.leave(0);
        assert!(!shared.wants(LaneKind::Bulk), "what another lane brings is not asked for anew");
        shared.leave(2);
        assert_eq!(next(&shared, 1, later), Ok(2), "what only the lost lane was to bring is");
        assert!(matches!(shared.arrived(1, &(envelope, 0)), Arrival::First(_)));
        assert!(matches!(shared.arrived(1, &(envelope, 2)), Arrival::First(_)));
    }

    #[test]
    fn the_first_of_two_wins_and_duplicates_are_few() {
        let shared = shared(&[LaneKind::Bulk, LaneKind::Bulk]);
        let envelope = EnvelopeId([Priority::Normal as u8; 16]);
        shared.push((0..20).map(|index| pull(index, Priority::Normal)));
        let mut now = Instant::now();
        let mut asked_twice = 0;
        for round in 0..10 {
            let [slow, fast] = [0, 1].map(|lane| next(&shared, lane, now).unwrap());
            assert!(matches!(shared.arrived(1, &(envelope, fast)), Arrival::First(_)));
            lock(&shared.asking).queue.forget(&envelope);
            now += Duration::from_secs(60);
            if next(&shared, 1, now) == Ok(slow) {
                asked_twice += 1;
                assert!(matches!(shared.arrived(1, &(envelope, slow)), Arrival::First(_)));
                assert!(matches!(shared.arrived(0, &(envelope, slow)), Arrival::Late));
            } else {
                shared.arrived(0, &(envelope, slow));
            }
            shared.push((0..20).map(|index| pull(100 * (round + 1) + index, Priority::Normal)));
        }
        assert_eq!(asked_twice, DUPLICATES_MIN);
    }

    #[tokio::test]
    async fn a_lane_closes_once_everything_has_come() {
        let shared = shared(&[LaneKind::Bulk]);
        shared.push([pull(0, Priority::Normal), pull(1, Priority::Normal)]);
        assert_eq!(shared.claim(0, || true).await.index, 0);
        shared.close(0);
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, shared.claim(0, || true)).await.is_err());
        assert!(tokio::time::timeout(soon, shared.closed(0)).await.is_err());
        shared.arrived(0, &(EnvelopeId([Priority::Normal as u8; 16]), 0));
        assert!(tokio::time::timeout(soon, shared.closed(0)).await.is_ok());
    }

    #[test]
    fn p13_only_offered_envelopes_are_served() {
        let shared = shared(&[]);
        let entries = [7, 8].map(|byte| ObjectEntry { id: ObjectId([byte; 32]), bytes: 1 });
        let envelope = EnvelopeId([1; 16]);
        shared.serve(envelope, Priority::Normal, &entries[..1]);
        assert_eq!(shared.served(&envelope, 0), Some((entries[0], Priority::Normal)));
        for (envelope, index) in [(1, 1), (1, u64::MAX), (2, 0)] {
            assert_eq!(shared.served(&EnvelopeId([envelope; 16]), index), None);
        }
        shared.serve(envelope, Priority::Normal, &entries[1..]);
        assert_eq!(shared.served(&envelope, 1), Some((entries[1], Priority::Normal)));
        shared.stop_serving(&envelope);
        assert_eq!(shared.served(&envelope, 0), None);
    }
}
