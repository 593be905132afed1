//! One entity: its disk, its clocks, its keys, and for each counterpart the protocol machines with as little around them as
//! can be. It mirrors `node::exchange::peer`, file by file, without sockets, tasks and people.
//!
//! **Invariant:** what a node knows after a crash is what its disk holds, and nothing else.
//! **Invariant:** whatever leaves for a counterpart leaves after everything that was committed for it before is durable.

mod agreement;
mod hostile;
mod life;
mod line;
mod owed;
mod recalling;
mod receiving;
mod reconciling;
mod sending;
mod session;
mod settling;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use pakt_keys::EntityId;
use pakt_protocol::delivery::Delivery;
use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::message::Message;
use pakt_protocol::owed::Owed;
use pakt_protocol::pace::Pace;
use pakt_protocol::policy::Footing;
use pakt_protocol::recalls::Recalls;
use pakt_protocol::record::chain::CertifiedNode;
use pakt_protocol::session::Session;
use pakt_protocol::settling::Questions;
use pakt_protocol::time::Time;

use super::Shared;
use super::clock::{Micros, NodeClock};
use super::disk::{Change, Disk, Full, Key, Slot, Value, rows};
use super::event::Due;
use super::network::{Flight, Side};
use super::suite::Identity;
pub(crate) use agreement::Agreement;
pub(crate) use life::{A_YEAR, Introduction, group_of, parts_of};
use line::Line;
use receiving::Receiving;
use reconciling::Reconciling;
use sending::Sending;

/// How long a commit takes, at least and at most.
const COMMIT: (Micros, Micros) = (1_000, 6_000);

/// How long it takes until an operator acts on an alarm.
pub(crate) const ALARM_SEEN: Micros = 5 * 60 * 1_000_000;

/// A simulated node.
pub(crate) struct Node {
    pub(crate) home: Home,
    pub(crate) peers: Vec<Peer>,
}

/// What all counterparts of a node share.
pub(crate) struct Home {
    pub(crate) index: usize,
    pub(crate) identity: Identity,
    pub(crate) clock: NodeClock,
    pub(crate) disk: Disk,
    pub(crate) running: bool,
    /// Grows with every start: what was planned for an earlier one is void.
    pub(crate) incarnation: u32,
    /// A machine that lost its power says nothing, not even that nobody listens.
    pub(crate) is_dark: bool,
    /// The fault that a commit has run into.
    pub(crate) dies: bool,
    pub(crate) dying_of: Option<usize>,
    pub(crate) hostile: Option<crate::scenario::HostileKind>,
    pub(crate) group: pakt_protocol::record::roster::GroupId,
    disk_chance: fastrand::Rng,
}

/// What a node is at work on with one counterpart.
pub(crate) struct Peer {
    pub(crate) slot: Slot,
    pub(crate) link: u32,
    pub(crate) side: Side,
    pub(crate) other: usize,
    pub(crate) entity: EntityId,
    pub(crate) id: AgreementId,
    pub(crate) agreement: Agreement,
    /// The newest keys of the counterpart that are known.
    pub(crate) certified: Rc<CertifiedNode>,
    pub(crate) live: Option<Live>,
    timers: Timers,
    wake_at: Option<Micros>,
    /// Nothing leaves before.
    barrier: Micros,
    dialing: Dialing,
    footing: Option<Footing>,
    deliveries: BTreeMap<EnvelopeId, Delivery>,
    waiting: Line,
    tried: BTreeSet<EnvelopeId>,
    sending: BTreeMap<EnvelopeId, Sending>,
    receiving: BTreeMap<EnvelopeId, Receiving>,
    owed: Owed,
    questions: Questions,
    reconciling: Reconciling,
    recalls: Recalls,
    pace: Pace,
    /// Content lanes are up until then.
    warm_until: Micros,
}

/// The control lane that is up.
pub(crate) struct Live {
    pub(crate) lane: u32,
    pub(crate) dialer: bool,
    machine: Session,
    since: Time,
}

/// How dialling goes.
#[derive(Default)]
struct Dialing {
    is_under_way: bool,
    failures: u32,
    brief: u32,
    lost_since: Option<Time>,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Session,
    Dial,
    Stale,
    Gate,
    Terms,
    Held,
    Reconcile,
    Recalls,
    Delivery(EnvelopeId),
}

/// Deadlines, each timer at most once.
#[derive(Default)]
struct Timers {
    by_time: BTreeSet<(Time, Timer)>,
    set: BTreeMap<Timer, Time>,
}

impl Timers {
    fn set(&mut self, timer: Timer, at: Time) {
        self.clear(timer);
        self.set.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.set.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    fn is_set(&self, timer: Timer) -> bool {
        self.set.contains_key(&timer)
    }

    fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

/// One counterpart of one node, while something happens to it.
pub(crate) struct Actor<'a> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) home: &'a mut Home,
    pub(crate) peer: &'a mut Peer,
}

impl Node {
    /// What happens to one counterpart of this node; whatever its timers are then is planned.
    pub(crate) fn with<T>(&mut self, slot: Slot, shared: &mut Shared, act: impl FnOnce(&mut Actor) -> T) -> T {
        let peer = &mut self.peers[slot as usize];
        let mut actor = Actor { shared, home: &mut self.home, peer };
        let done = act(&mut actor);
        actor.handle_timers();
        actor.plan_wake();
        done
    }
}

impl Actor<'_> {
    /// The service clock.
    fn now(&self) -> Time {
        self.home.clock.service(self.shared.plans.now())
    }

    /// The wall clock.
    fn wall(&self) -> Time {
        self.home.clock.wall(self.shared.plans.now())
    }

    fn row(&self, key: &Key) -> Option<&Value> {
        self.home.disk.get(key)
    }

    /// Makes changes durable; nothing leaves for this counterpart before they are.
    fn commit(&mut self, what: &'static str, changes: Vec<Change>) -> Result<(), Full> {
        let durable_at = self.home.commit(self.shared, what, changes)?;
        self.peer.barrier = self.peer.barrier.max(durable_at);
        Ok(())
    }

    /// Sends a message over the control lane, if it is up; a hostile node does more than that, or less.
    fn transmit(&mut self, message: impl Into<Message>) {
        let message = message.into();
        for message in hostile::instead(self.home.hostile, message) {
            self.send(message);
        }
    }

    fn send(&mut self, message: Message) {
        let Some(live) = &self.peer.live else { return };
        let (link, lane, from) = (self.peer.link, live.lane, self.peer.side);
        let mut leaves_at = self.shared.plans.now().max(self.peer.barrier);
        if self.shared.is_broken(super::Defect::AcknowledgeEarly) {
            leaves_at = self.shared.plans.now();
        }
        let parties = (self.home.index, self.peer.other);
        let seen = super::judge::Seen { parties, slot: self.peer.slot, at: self.shared.plans.now(), leaves_at };
        self.shared.judge.sent(&seen, &message, &self.home.disk, &self.shared.suite);
        self.shared.trace.sent(parties, &message, leaves_at);
        self.shared.network.send(Flight { link, lane, from, leaves_at, message }, &mut self.shared.plans);
    }

    fn handle_timers(&mut self) {
        if !self.home.running {
            return;
        }
        while let Some(timer) = self.peer.timers.pop_due(self.now()) {
            match timer {
                Timer::Session => self.tick_session(),
                Timer::Dial => self.dial(),
                Timer::Stale => self.forget_stale(),
                Timer::Gate => self.fill_places(),
                Timer::Terms => self.enforce_terms(),
                Timer::Held => self.tick_owed(),
                Timer::Reconcile => self.tick_reconciling(),
                Timer::Recalls => self.send_recalls(),
                Timer::Delivery(envelope) => self.tick_delivery(envelope),
            }
        }
    }

    /// Plans the next look at the timers, unless an earlier one is planned.
    fn plan_wake(&mut self) {
        let Some(at) = self.peer.timers.next().filter(|_| self.home.running) else { return };
        let at = self.home.clock.when(at).max(self.shared.plans.now() + 1);
        if self.peer.wake_at.is_none_or(|planned| at < planned) {
            self.peer.wake_at = Some(at);
            self.shared.plans.plan(at, Due::Wake { node: self.home.index, slot: self.peer.slot, at });
        }
    }

    /// The clock goes at another speed.
    pub(crate) fn look_again(&mut self) {
        self.peer.wake_at = None;
    }

    /// The planned look at the timers.
    pub(crate) fn wake(&mut self, at: Micros) {
        if self.peer.wake_at == Some(at) {
            self.peer.wake_at = None;
        }
    }
}

impl Home {
    /// Makes changes durable; gives the moment at which they are.
    pub(crate) fn commit(
        &mut self,
        shared: &mut Shared,
        what: &'static str,
        changes: Vec<Change>,
    ) -> Result<Micros, Full> {
        let now = shared.plans.now();
        let delay = self.disk_chance.u64(COMMIT.0..=COMMIT.1);
        if self.disk.full {
            return Err(Full);
        }
        let clock = self.clock.off(now);
        shared.judge.commits((self.index, now, clock), &changes, &self.disk, &shared.suite);
        let committed = self.disk.commit(changes, now, delay)?;
        shared.trace.persisted(self.index, self.disk.commits(), what, now);
        if committed.dies {
            self.dies = true;
            shared.dying.push(self.index);
        }
        Ok(committed.durable_at)
    }

    fn own(&self) -> Rc<rows::OwnRow> {
        match self.disk.get(&Key::Own) {
            Some(Value::Own(row)) => row.clone(),
            _ => Rc::new(rows::OwnRow {
                epoch: 1,
                epoch_oldest: 1,
                roster: 1,
                sequence: 0,
                noted: (super::clock::EPOCH, 0),
                restored: None,
            }),
        }
    }
}

/// The lowest and the highest envelope id, for ranges of rows.
const FIRST: EnvelopeId = EnvelopeId([0; 16]);
const LAST: EnvelopeId = EnvelopeId([0xff; 16]);
