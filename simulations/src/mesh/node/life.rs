//! The life of a node: how it starts from its disk, dies, is restored, and what people do at it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use pakt_protocol::delivery::Reason;
use pakt_protocol::delivery::Record;
use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId};
use pakt_protocol::owed::Owed;
use pakt_protocol::pace::Pace;
use pakt_protocol::policy::Footing;
use pakt_protocol::recalls::Recalls;
use pakt_protocol::reconcile::Known;
use pakt_protocol::reconcile::ranges::Ranges;
use pakt_protocol::record::envelope::{EnvelopeCore, SUITE};
use pakt_protocol::record::receipt::{Tier, Verdict};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::record::statement::Stated;
use pakt_protocol::settling::Questions;

use super::agreement::Agreement;
use super::line::Line;
use super::receiving::STALE_FIRST;
use super::reconciling::Reconciling;
use super::{Actor, Dialing, FIRST, Home, LAST, Node, Peer, Timer, Timers};
use crate::mesh::Shared;
use crate::mesh::clock::{EPOCH, Micros, NodeClock, SECOND};
use crate::mesh::disk::rows::{AgreementRow, InboxRow, OutRow, OwnRow, Stage, Standing};
use crate::mesh::disk::{Change, Disk, Full, Key, Slot, Value};
use crate::mesh::event::{Deed, Due};
use crate::mesh::network::Side;
use crate::mesh::suite::Identity;
use crate::scenario::Submission;

/// A smaller difference of the wall clock is a clock that was set right, or one that drifts.
const JUMP_MIN_MICROS: u64 = 3_600 * SECOND;
/// Somebody takes a message after at least so long, and at most.
const TAKES: (Micros, Micros) = (30 * SECOND, 600 * SECOND);
/// The operator confirms what came out of a backup so long after the start.
const CONFIRMS: Micros = 240 * SECOND;
/// Epochs whose private half is kept.
const EPOCHS_KEPT: u64 = 4;

/// A counterpart, as a node is told of it when its agreement is signed.
pub(crate) struct Introduction {
    pub(crate) slot: Slot,
    pub(crate) link: u32,
    pub(crate) side: Side,
    pub(crate) other: usize,
    pub(crate) valid_until: pakt_protocol::time::Time,
}

impl Node {
    pub(crate) fn new(index: usize, identity: Identity, disk_chance: fastrand::Rng) -> Node {
        let home = Home {
            index,
            identity,
            clock: NodeClock::right(),
            disk: Disk::default(),
            running: true,
            incarnation: 0,
            is_dark: false,
            dies: false,
            dying_of: None,
            hostile: None,
            group: group_of(index),
            disk_chance,
        };
        Node { home, peers: Vec::new() }
    }

    /// Adds a counterpart with whom an agreement was signed.
    pub(crate) fn introduce(&mut self, introduction: &Introduction, identity: &Identity, shared: &mut Shared) {
        let &Introduction { slot, link, side, other, valid_until } = introduction;
        let mut id = [0; 32];
        id[..4].copy_from_slice(&link.to_be_bytes());
        let agreement = Agreement::signed(valid_until);
        let row = Some(Value::Agreement(agreement.row.clone()));
        let written = self.home.commit(shared, "agreement", vec![(Key::Agreement(slot), row)]);
        debug_assert!(written.is_ok(), "a new disk has room");
        self.peers.push(Peer {
            slot,
            link,
            side,
            other,
            entity: identity.entity,
            id: AgreementId(id),
            agreement,
            certified: identity.certified.clone(),
            live: None,
            timers: Timers::default(),
            wake_at: None,
            barrier: 0,
            dialing: Dialing::default(),
            footing: None,
            deliveries: BTreeMap::new(),
            waiting: Line::default(),
            tried: Default::default(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            owed: Owed::default(),
            questions: Questions::default(),
            reconciling: Reconciling::new(Known::default(), EPOCH),
            recalls: Recalls::default(),
            pace: Pace::new(EPOCH),
            warm_until: 0,
        });
    }

    /// Dies: its lanes end, and what was not durable may be lost.
    pub(crate) fn crash(&mut self, lose_unsynced: bool, shared: &mut Shared) {
        let now = shared.plans.now();
        self.home.running = false;
        self.home.dies = false;
        self.home.is_dark = lose_unsynced;
        for peer in &mut self.peers {
            shared.network.kill(peer.link, peer.side, lose_unsynced, &mut shared.plans);
            shared.network.stop_pulling(peer.link, peer.side, None);
            shared.network.stop_pulling(peer.link, 1 - peer.side, None);
            shared.ill.insert(peer.link);
            if peer.live.take().is_some() {
                shared.trace.lane(self.home.index, peer.other, false);
            }
            peer.forget();
        }
        if lose_unsynced {
            let undone = self.home.disk.lose_unsynced(now);
            shared.judge.undone(self.home.index, &undone, &self.home.disk, now);
        } else {
            self.home.disk.keep_unsynced(now);
        }
        shared.trace.stopped(self.home.index);
    }

    /// Starts from what its disk holds.
    pub(crate) fn start(&mut self, shared: &mut Shared) {
        let now = shared.plans.now();
        self.home.running = true;
        self.home.incarnation += 1;
        self.home.clock.restart(now);
        shared.trace.started(self.home.index);
        self.settle_clock(shared);
        let incarnation = self.home.incarnation;
        for slot in 0..self.peers.len() {
            let (link, side) = (self.peers[slot].link, self.peers[slot].side);
            if self.home.is_dark {
                shared.network.reset_stale(link, side, &mut shared.plans);
            }
            self.with(slot as Slot, shared, |actor| actor.load());
        }
        self.home.is_dark = false;
        shared.plans.plan(now + 86_400 * SECOND, Due::Daily { node: self.home.index, incarnation });
        if self.peers.iter().any(|peer| peer.agreement.row.unconfirmed) {
            shared.plans.plan(now + CONFIRMS, Due::Confirm { node: self.home.index, incarnation });
        }
    }

    /// Works off what the wall clock did while the node was down, before anything looks at a deadline.
    fn settle_clock(&mut self, shared: &mut Shared) {
        let (now, own) = (shared.plans.now(), self.home.own());
        let service = self.home.clock.service(now);
        let passed = now.saturating_sub(own.noted.1);
        let apart = i128::from(service.0) - i128::from(own.noted.0.0) - i128::from(passed);
        let jump = i64::try_from(apart).unwrap_or(0);
        let mut changes = vec![own_change(OwnRow { noted: (service, now), ..OwnRow::clone(&own) })];
        if jump.unsigned_abs() > JUMP_MIN_MICROS {
            changes.extend(self.shifted(jump));
        }
        // A full disk: it is worked off at the next start.
        let _ = self.home.commit(shared, "clock", changes);
    }

    /// Everything that is under way, with its deadlines moved.
    fn shifted(&self, jump: i64) -> Vec<Change> {
        let rows = self.home.disk.range(Key::Out(FIRST), Key::Out(LAST));
        rows.filter_map(|(key, value)| match value {
            Value::Out(row) if row.delivery.state.is_open() => {
                let mut row = OutRow::clone(row);
                row.delivery.shift(jump);
                Some((*key, Some(Value::Out(Rc::new(row)))))
            }
            _ => None,
        })
        .collect()
    }

    /// The first start of a restored node: it must not say again what it said before the backup was made, nor trust that the
    /// world stood still.
    pub(crate) fn restore(&mut self, copy: BTreeMap<Key, Value>, made_at: Micros, shared: &mut Shared) {
        let now = shared.plans.now();
        self.home.disk.full = false;
        let before = self.home.disk.restore(copy, now);
        shared.judge.restored(self.home.index, &before, &self.home.disk, now);
        self.home.clock.restart(now);
        let wall = self.home.clock.wall(now);
        let backup_at = wall.shifted(-i64::try_from(now - made_at).unwrap_or(i64::MAX));
        let own = self.home.own();
        let generation = own.restored.map_or(wall.0, |(last, ..)| wall.0.max(last + 1));
        let jumped = |number: u64| number.max(wall.0);
        let row = OwnRow {
            epoch: jumped(own.epoch + 1),
            epoch_oldest: jumped(own.epoch + 1),
            roster: jumped(own.roster + 1),
            sequence: jumped(own.sequence),
            noted: (wall, now),
            restored: Some((generation, backup_at, wall)),
        };
        let mut changes = vec![own_change(row)];
        for slot in 0..self.peers.len() as Slot {
            if let Some(Value::Agreement(row)) = self.home.disk.get(&Key::Agreement(slot)) {
                let mut row = AgreementRow::clone(row);
                let next = jumped(row.last_number);
                row.forgotten = row.forgotten.or(&Ranges::of(row.last_number + 1, next));
                row.last_number = next;
                row.unconfirmed |= !row.ended;
                changes.push((Key::Agreement(slot), Some(Value::Agreement(Rc::new(row)))));
            }
        }
        changes.extend(self.asked_again(i64::try_from(now - made_at).unwrap_or(i64::MAX)));
        let written = self.home.commit(shared, "restore", changes);
        debug_assert!(written.is_ok(), "a disk that was restored has room");
        self.home.disk.keep_unsynced(now);
    }

    /// What waits may have been delivered since the backup was made: it is only asked about.
    fn asked_again(&self, passed: i64) -> Vec<Change> {
        let rows = self.home.disk.range(Key::Out(FIRST), Key::Out(LAST));
        rows.filter_map(|(key, value)| match value {
            Value::Out(row) if row.delivery.state.is_open() => {
                let mut row = OutRow::clone(row);
                row.delivery.left = true;
                row.delivery.stopped.get_or_insert(Reason::RestoredSince);
                row.delivery.shift(passed);
                Some((*key, Some(Value::Out(Rc::new(row)))))
            }
            _ => None,
        })
        .collect()
    }

    /// A new epoch; the private half of an old one is erased. `all_old` erases every one but the newest.
    pub(crate) fn roll_epoch(&mut self, all_old: bool, shared: &mut Shared) {
        let own = self.home.own();
        let epoch = own.epoch + 1;
        let oldest = if all_old { epoch } else { own.epoch_oldest.max(epoch.saturating_sub(EPOCHS_KEPT)) };
        let noted = (self.home.clock.service(shared.plans.now()), shared.plans.now());
        let row = OwnRow { epoch, epoch_oldest: oldest, roster: own.roster + 1, noted, ..OwnRow::clone(&own) };
        let Ok(durable_at) = self.home.commit(shared, "epoch", vec![own_change(row)]) else { return };
        for slot in 0..self.peers.len() {
            self.with(slot as Slot, shared, |actor| {
                actor.peer.barrier = actor.peer.barrier.max(durable_at);
                actor.handle_roster_changed();
            });
        }
    }

    /// Replaces the node's keys, and with them every lane.
    pub(crate) fn rotate(&mut self, shared: &mut Shared) {
        let wall = self.home.clock.wall(shared.plans.now());
        let suite = shared.suite.clone();
        suite.rotate(&mut self.home.identity, self.home.index, wall);
        self.roll_epoch(true, shared);
        for slot in 0..self.peers.len() {
            self.with(slot as Slot, shared, |actor| actor.handle_identity_changed());
        }
    }

    // ---------------------------------------------------------------------------------------------------------- people

    /// Somebody hands in a message; to whom it goes, each with its envelope and when that is durable.
    pub(crate) fn submit(&mut self, submission: &Submission, shared: &mut Shared) {
        let now = shared.plans.now();
        let (service, wall) = (self.home.clock.service(now), self.home.clock.wall(now));
        let mut own = OwnRow::clone(&self.home.own());
        let (mut changes, mut envelopes): (Vec<Change>, Vec<(Slot, EnvelopeId)>) = (Vec::new(), Vec::new());
        for to in &submission.to {
            let Some(peer) = self.peers.iter().find(|peer| peer.other == *to) else { continue };
            let footing = peer.agreement.footing(service);
            let has_roster = self.home.disk.get(&Key::Roster(peer.slot)).is_some();
            if !has_roster || !(footing == Footing::InForce || footing == Footing::Suspended) {
                continue;
            }
            let envelope = envelope_id(submission.number, *to);
            let mut row = AgreementRow::clone(&peer.agreement.row);
            row.last_number += 1;
            own.sequence += 1;
            let core = EnvelopeCore {
                suite: SUITE,
                message: message_id(submission.number),
                envelope,
                sender: self.home.identity.entity,
                recipient: peer.entity,
                group: group_of(*to),
                priority: submission.priority,
                submitted_at: wall,
                counts: super::sending::counts(submission.bytes, submission.files),
                agreement: peer.id,
                agreement_version: 1,
                number: row.last_number,
                root_hash: [0; 32],
            };
            let slot = peer.slot;
            let delivery = Record::new(submission.priority, shared.terms.hold, service);
            let out = out_row((slot, own.sequence), &core, delivery);
            changes.push((Key::Sent(slot, row.last_number), Some(Value::Sent(envelope, Standing::Open))));
            changes.push((Key::Out(envelope), Some(Value::Out(Rc::new(out)))));
            let row = Rc::new(row);
            changes.push((Key::Agreement(slot), Some(Value::Agreement(row.clone()))));
            envelopes.push((slot, envelope));
        }
        if envelopes.is_empty() {
            return;
        }
        changes.push(own_change(own));
        let Ok(durable_at) = self.home.commit(shared, "submitted", changes) else { return };
        let incarnation = self.home.incarnation;
        for (slot, envelope) in envelopes {
            if let Some(Value::Agreement(row)) = self.home.disk.get(&Key::Agreement(slot)) {
                self.peers[slot as usize].agreement = Agreement { row: row.clone() };
            }
            let other = self.peers[slot as usize].other;
            shared.judge.submitted(envelope, submission, (self.home.index, other), durable_at);
            self.with(slot, shared, |actor| actor.handle_submitted(envelope, durable_at));
            if let Some(after) = submission.recall_after {
                let at = durable_at + crate::mesh::clock::micros(after);
                let deed = Deed::Recall(envelope);
                shared.plans.plan(at, Due::Deed { node: self.home.index, incarnation, deed });
            }
        }
    }

    /// Something is done at this node.
    pub(crate) fn act(&mut self, deed: Deed, shared: &mut Shared) {
        match deed {
            Deed::Release(slot, envelope) => self.with(slot, shared, |actor| actor.release(envelope)),
            Deed::Take(slot, envelope) => self.with(slot, shared, |actor| actor.take(envelope)),
            Deed::Recall(envelope) => {
                let Some(Value::Out(row)) = self.home.disk.get(&Key::Out(envelope)) else { return };
                let slot = row.slot;
                shared.judge.recalled(envelope);
                self.with(slot, shared, |actor| actor.handle_recall(envelope));
            }
        }
    }
}

impl Peer {
    /// Whether this side has suspended the agreement, and can take that back.
    pub(crate) fn can_resume(&self) -> bool {
        matches!(self.agreement.row.statements.own.stated(), Stated::Suspended(_)) && !self.agreement.row.unconfirmed
    }

    /// How many statements this side has made.
    pub(crate) fn statements(&self) -> u64 {
        self.agreement.row.statements.own.number()
    }

    /// Whether messages wait or are under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.deliveries.is_empty()
    }

    /// What a dead process knew.
    fn forget(&mut self) {
        self.timers = Timers::default();
        self.wake_at = None;
        self.dialing = Dialing::default();
        self.footing = None;
        self.deliveries.clear();
        self.waiting = Line::default();
        self.tried.clear();
        self.sending.clear();
        self.receiving.clear();
        self.owed = Owed::default();
        self.questions = Questions::default();
        self.recalls = Recalls::default();
        self.warm_until = 0;
        self.barrier = 0;
    }
}

impl Actor<'_> {
    /// Takes up from the disk.
    pub(crate) fn load(&mut self) {
        if let Some(Value::Agreement(row)) = self.row(&Key::Agreement(self.peer.slot)) {
            self.peer.agreement = Agreement { row: row.clone() };
        }
        self.peer.barrier = self.home.disk.durable_at();
        self.peer.pace = Pace::new(self.now());
        self.load_reconciliation();
        let slot = self.peer.slot;
        let rows = self.home.disk.range(Key::Out(FIRST), Key::Out(LAST));
        let open: Vec<EnvelopeId> = rows
            .filter_map(|(key, value)| match (key, value) {
                (Key::Out(envelope), Value::Out(row)) if row.slot == slot && row.delivery.state.is_open() => {
                    Some(*envelope)
                }
                _ => None,
            })
            .collect();
        for envelope in open {
            self.add_delivery(envelope);
        }
        self.load_inbox();
        let now = self.now();
        self.peer.timers.set(Timer::Dial, now);
        self.peer.timers.set(Timer::Stale, now + STALE_FIRST);
        self.enforce_terms();
    }

    /// What waits for its check, or for somebody to take it.
    fn load_inbox(&mut self) {
        let slot = self.peer.slot;
        let rows = self.home.disk.range(Key::Inbox(slot, FIRST), Key::Inbox(slot, LAST));
        let waiting: Vec<(EnvelopeId, Stage)> = rows
            .filter_map(|(key, value)| match (key, value) {
                (Key::Inbox(_, envelope), Value::Inbox(row)) if row.stage != Stage::Taken => {
                    Some((*envelope, row.stage))
                }
                _ => None,
            })
            .collect();
        for (envelope, stage) in waiting {
            match stage {
                Stage::Checking => self.plan_release(envelope),
                Stage::Released | Stage::Taken => self.plan_taking(envelope),
            }
        }
    }

    fn plan_taking(&mut self, envelope: EnvelopeId) {
        let at = self.shared.plans.now().max(self.peer.barrier) + self.shared.chance.u64(TAKES.0..TAKES.1);
        let (node, incarnation) = (self.home.index, self.home.incarnation);
        let deed = Deed::Take(self.peer.slot, envelope);
        self.shared.plans.plan(at, Due::Deed { node, incarnation, deed });
    }

    fn release(&mut self, envelope: EnvelopeId) {
        match self.advance(envelope, Stage::Checking, (Stage::Released, Tier::Released)) {
            Ok(true) => self.plan_taking(envelope),
            Ok(false) => {}
            Err(Full) => self.plan_release(envelope),
        }
    }

    fn take(&mut self, envelope: EnvelopeId) {
        if self.advance(envelope, Stage::Released, (Stage::Taken, Tier::Taken)).is_err() {
            self.plan_taking(envelope);
        }
    }

    /// Moves a message on and states so, in one commit; whether it was where this step begins.
    fn advance(&mut self, envelope: EnvelopeId, from: Stage, (to, tier): (Stage, Tier)) -> Result<bool, Full> {
        let slot = self.peer.slot;
        let Some(Value::Inbox(message)) = self.row(&Key::Inbox(slot, envelope)) else { return Ok(false) };
        let Some(Value::Settled(settled)) = self.row(&Key::Settled(slot, envelope)) else { return Ok(false) };
        if message.stage != from {
            return Ok(false);
        }
        let row = InboxRow { stage: to, ..InboxRow::clone(message) };
        let mut changes = vec![(Key::Inbox(slot, envelope), Some(Value::Inbox(Rc::new(row))))];
        changes.extend(self.later_receipt(envelope, &settled.clone(), Verdict::Held(tier), false));
        self.commit(if to == Stage::Taken { "taken" } else { "released" }, changes)?;
        let durable_at = self.peer.barrier;
        self.handle_owed(durable_at);
        Ok(true)
    }
}

fn own_change(row: OwnRow) -> Change {
    (Key::Own, Some(Value::Own(Rc::new(row))))
}

/// The one group of a node.
pub(crate) fn group_of(node: usize) -> GroupId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(node as u64 + 1).to_be_bytes());
    GroupId(id)
}

/// The name of the message of a submission.
fn message_id(number: u64) -> MessageId {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    MessageId(id)
}

/// The name of the envelope of a submission for one recipient.
pub(crate) fn envelope_id(number: u64, to: usize) -> EnvelopeId {
    let mut id = [2; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8..12].copy_from_slice(&u32::try_from(to).unwrap_or(u32::MAX).to_be_bytes());
    EnvelopeId(id)
}

/// The submission and the recipient that an envelope's name says.
pub(crate) fn parts_of(envelope: &EnvelopeId) -> (u64, usize) {
    let number = envelope.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let to = envelope.0[8..12].try_into().map_or(0, u32::from_be_bytes);
    (number, to as usize)
}

/// Long enough for every run.
pub(crate) const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What a node keeps of an envelope that was handed in.
fn out_row((slot, sequence): (Slot, u64), core: &EnvelopeCore, delivery: Record) -> OutRow {
    let bytes = core.to_bytes();
    OutRow {
        slot,
        sequence,
        number: core.number,
        message: core.message,
        priority: core.priority,
        counts: core.counts,
        hash: EnvelopeCore::hash_of(&bytes),
        core: bytes.into(),
        delivery,
        receipts: Vec::new(),
    }
}
