//! Incoming transfers: pulling, opening, committing, answering.

use std::rc::Rc;
use std::time::Duration;

use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::machine::Output;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::message::{Message, Offer};
use pakt_protocol::policy::Footing;
use pakt_protocol::record::envelope::{OpenEnvelope, SealedEnvelope};
use pakt_protocol::record::receipt::{Receipt, Tier, Verdict};
use pakt_protocol::session;
use pakt_protocol::time::Time;
use pakt_protocol::transfer::incoming::{Event, Fault, Incoming, Input, OpenRefusal, Persist};

use super::{Actor, FIRST, LAST, Timer};
use crate::mesh::Defect;
use crate::mesh::clock::{Micros, SECOND};
use crate::mesh::disk::rows::{InboxRow, IncomingRow, SettledRow, Stage};
use crate::mesh::disk::{Change, Full, Key, Value};
use crate::mesh::event::{Deed, Due};

/// After a start stale offers are looked for once those that are still wanted may have come again.
pub(super) const STALE_FIRST: Duration = Duration::from_secs(600);
const STALE_EVERY: Duration = Duration::from_secs(3_600);
const STALE_AFTER_HOLD: Duration = Duration::from_secs(86_400);
/// Content lanes that carry nothing are closed after so long.
const WARM: Micros = 30 * SECOND;
/// The check of a message takes at least so long, and longer if it looks for malware.
const CHECK: Micros = SECOND;
const SCAN: Micros = 4 * SECOND;

/// An incoming transfer.
pub(crate) struct Receiving {
    pub(super) machine: Incoming,
    offered_at: Time,
}

impl Actor<'_> {
    /// Starts receiving what the session machine accepted.
    pub(super) fn receive(&mut self, offer: Offer) {
        let envelope = offer.envelope;
        if self.peer.receiving.contains_key(&envelope) {
            self.forget_pulls(&envelope);
        }
        let now = self.wall();
        let receiving = Receiving { machine: Incoming::new(offer, now), offered_at: now };
        self.peer.receiving.insert(envelope, receiving);
        self.pump_receiving(envelope);
    }

    /// A message of the sender about an incoming envelope.
    pub(super) fn tell_receiving(&mut self, envelope: EnvelopeId, message: Message) {
        if self.peer.receiving.contains_key(&envelope) {
            self.input_receiving(envelope, Input::Message(message));
        } else if matches!(message, Message::Withdraw(_)) {
            let settled = match self.row(&Key::Settled(self.peer.slot, envelope)) {
                Some(Value::Settled(row)) => Some(row.first.1.to_vec()),
                _ => None,
            };
            if settled.is_none() && self.drop_incoming(envelope).is_err() {
                return;
            }
            self.tell_session(session::Input::Settled(envelope, settled));
        }
    }

    fn input_receiving(&mut self, envelope: EnvelopeId, input: Input) {
        if let Some(receiving) = self.peer.receiving.get_mut(&envelope) {
            receiving.machine.handle_input(input);
            self.pump_receiving(envelope);
        }
    }

    fn pump_receiving(&mut self, envelope: EnvelopeId) {
        while let Some(output) = self.peer.receiving.get_mut(&envelope).and_then(|one| one.machine.poll_output()) {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Deadline(_) => {}
                Output::Persist(change) => self.persist_receiving(envelope, change),
                Output::Event(event) => self.do_for_receiving(envelope, event),
            }
        }
    }

    fn persist_receiving(&mut self, envelope: EnvelopeId, change: Persist) {
        let done = match change {
            Persist::Begin(offer, now) => self.begin(envelope, offer, now).map(|()| None),
            Persist::Commit(open, verdict) => self.settle(&open, verdict).map(|receipt| Some((verdict, receipt))),
            Persist::Drop(_) => {
                self.forget_pulls(&envelope);
                self.drop_incoming(envelope).map(|()| None)
            }
        };
        if let Ok(Some((verdict, _))) = &done {
            self.note_told(envelope, *verdict);
        }
        if let Some(receiving) = self.peer.receiving.get_mut(&envelope) {
            receiving.machine.handle_input(match done {
                Ok(stated) => Input::Persisted(stated.map(|(_, receipt)| receipt.to_vec())),
                Err(_) => Input::Failed(Fault::Full),
            });
        }
    }

    fn begin(&mut self, envelope: EnvelopeId, offer: Offer, now: Time) -> Result<(), Full> {
        if self.shared.is_broken(Defect::SkipPersist) {
            return Ok(());
        }
        let key = Key::Incoming(self.peer.slot, envelope);
        let offered_at = match self.row(&key) {
            Some(Value::Incoming(row)) => row.offered_at,
            _ => now,
        };
        self.commit("offer", vec![(key, Some(Value::Incoming(Rc::new(IncomingRow { offer, offered_at }))))])?;
        if let Some(receiving) = self.peer.receiving.get_mut(&envelope) {
            receiving.offered_at = offered_at;
        }
        Ok(())
    }

    fn do_for_receiving(&mut self, envelope: EnvelopeId, event: Event) {
        match event {
            Event::Pull(wanted) => self.pull(envelope, wanted),
            Event::Open(sealed) => self.open(envelope, &sealed),
            Event::Finished(_) => {
                self.peer.receiving.remove(&envelope);
                self.forget_pulls(&envelope);
            }
            Event::Misbehaved(why) => self.close_session(why),
        }
    }

    // -------------------------------------------------------------------------------------------------------- content

    /// Reports what is here already, and pulls the rest.
    fn pull(&mut self, envelope: EnvelopeId, wanted: Vec<(u64, ObjectEntry)>) {
        let Some(live) = &self.peer.live else { return };
        let Some(receiving) = self.peer.receiving.get(&envelope) else { return };
        let (lane, priority) = (live.lane, receiving.machine.offer().priority);
        let here = match self.row(&Key::Objects(self.peer.slot, envelope)) {
            Some(Value::Objects(count)) => *count,
            _ => 0,
        };
        let (held, missing): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(index, _)| *index < here);
        let missing: Vec<ObjectEntry> = missing.into_iter().map(|(_, entry)| entry).collect();
        if !missing.is_empty() {
            let connects = self.peer.warm_until < self.shared.plans.now();
            self.peer.warm_until = self.shared.plans.now() + WARM;
            let lane = (self.peer.link, lane, self.peer.side);
            self.shared.network.pull(lane, (envelope, priority), missing, connects, &mut self.shared.plans);
        }
        if !held.is_empty() {
            self.input_receiving(envelope, Input::Held(held.into_iter().map(|(_, entry)| entry.id).collect()));
        }
    }

    /// Objects have come.
    pub(crate) fn handle_batch(&mut self, lane: u32, envelope: EnvelopeId, ids: Vec<ObjectId>) {
        let is_ours = self.peer.live.as_ref().is_some_and(|live| live.lane == lane);
        if !is_ours || !self.peer.receiving.contains_key(&envelope) {
            return;
        }
        self.peer.warm_until = self.shared.plans.now() + WARM;
        let key = Key::Objects(self.peer.slot, envelope);
        let here = match self.row(&key) {
            Some(Value::Objects(count)) => *count,
            _ => 0,
        };
        match self.commit("objects", vec![(key, Some(Value::Objects(here + ids.len() as u64)))]) {
            Ok(()) => self.input_receiving(envelope, Input::Held(ids)),
            Err(_) => self.input_receiving(envelope, Input::Failed(Fault::Full)),
        }
    }

    fn forget_pulls(&mut self, envelope: &EnvelopeId) {
        self.shared.network.stop_pulling(self.peer.link, self.peer.side, Some(envelope));
    }

    /// Ends all content at once: what was under way will be offered again.
    pub(super) fn end_content(&mut self) {
        self.shared.network.stop_pulling(self.peer.link, self.peer.side, None);
        self.peer.receiving.clear();
        self.peer.warm_until = 0;
    }

    /// Tells the senders of what is under way that nothing is let in for now.
    pub(super) fn halt_receiving(&mut self, footing: Footing) {
        let Err(reason) = footing.check() else { return };
        let under_way: Vec<EnvelopeId> = self.peer.receiving.keys().copied().collect();
        for envelope in under_way {
            self.input_receiving(envelope, Input::Halted(reason));
        }
    }

    /// Drops what is under way of an envelope that will never be committed.
    pub(super) fn break_off_receiving(&mut self, envelope: EnvelopeId) {
        if self.peer.receiving.remove(&envelope).is_some() {
            self.forget_pulls(&envelope);
        }
    }

    fn drop_incoming(&mut self, envelope: EnvelopeId) -> Result<(), Full> {
        let slot = self.peer.slot;
        let keys = [Key::Incoming(slot, envelope), Key::Objects(slot, envelope)];
        let changes: Vec<Change> =
            keys.into_iter().filter(|key| self.row(key).is_some()).map(|key| (key, None)).collect();
        if changes.is_empty() { Ok(()) } else { self.commit("drop", changes) }
    }

    // ------------------------------------------------------------------------------------------------------- envelope

    fn open(&mut self, envelope: EnvelopeId, sealed: &SealedEnvelope) {
        let own = self.home.own();
        let suite = &self.shared.suite;
        let verified = suite.open_envelope(sealed, &self.peer.certified, &self.home.identity.entity);
        let opened = match verified.filter(|open| open.core.agreement == self.peer.id) {
            None => Err(OpenRefusal::Forged),
            Some(_) if !(own.epoch_oldest..=own.epoch).contains(&sealed.epoch()) => {
                Err(OpenRefusal::EpochGone(Box::new(self.own_roster())))
            }
            Some(open) if !suite.unwraps(sealed, self.home.index) => Err(OpenRefusal::Unopenable(Box::new(open))),
            Some(open) => Ok(Box::new(open)),
        };
        self.input_receiving(envelope, Input::Opened(opened));
    }

    /// Commits the first statement about an envelope, with its content if it is held; what was settled before stays.
    pub(super) fn settle(&mut self, open: &OpenEnvelope, verdict: Verdict) -> Result<Rc<[u8]>, Full> {
        let (slot, envelope) = (self.peer.slot, open.core.envelope);
        if let Some(Value::Settled(row)) = self.row(&Key::Settled(slot, envelope)) {
            return Ok(row.first.1.clone());
        }
        let at = self.wall();
        let offered_at = self.peer.receiving.get(&envelope).map_or(at, |receiving| receiving.offered_at);
        let bytes: Rc<[u8]> = self.receipt_bytes(open, verdict, (offered_at, at)).into();
        let settled = SettledRow {
            core: open.hash,
            message: open.core.message,
            offered_at,
            first: (verdict, bytes.clone()),
            later: Vec::new(),
            purged: false,
        };
        let mut changes: Vec<Change> = vec![
            (Key::Incoming(slot, envelope), None),
            (Key::Objects(slot, envelope), None),
            (Key::Settled(slot, envelope), Some(Value::Settled(Rc::new(settled)))),
            (Key::Owed(slot, envelope, verdict.place()), Some(Value::Owed(bytes.clone()))),
        ];
        if let Verdict::Held(_) = verdict {
            let row = InboxRow { from: self.peer.entity, stage: Stage::Checking };
            changes.push((Key::Inbox(slot, envelope), Some(Value::Inbox(Rc::new(row)))));
            changes.push((Key::Held(slot, open.core.number), Some(Value::Held)));
        }
        self.commit("message", changes)?;
        if verdict == Verdict::Held(Tier::Delivered) {
            self.shared.network.count_message(self.peer.link);
            self.plan_release(envelope);
        }
        Ok(bytes)
    }

    fn receipt_bytes(&self, open: &OpenEnvelope, verdict: Verdict, (offered_at, at): (Time, Time)) -> Vec<u8> {
        let receipt = Receipt {
            verdict,
            core: open.hash,
            message: open.core.message,
            envelope: open.core.envelope,
            sender: open.core.sender,
            recipient: open.core.recipient,
            agreement: self.peer.id,
            agreement_hash: self.peer.id.0,
            counts: open.core.counts,
            offered_at,
            at,
            log_head: None,
            chain: self.shared.suite.chain_of(&self.home.identity),
        };
        self.shared.suite.receipt(&receipt, &self.home.identity)
    }

    /// Plans the end of the check of a message.
    pub(super) fn plan_release(&mut self, envelope: EnvelopeId) {
        let takes = if self.shared.terms.scan { SCAN } else { CHECK };
        let at = self.shared.plans.now().max(self.peer.barrier) + takes + self.shared.chance.u64(0..SECOND);
        let (node, incarnation) = (self.home.index, self.home.incarnation);
        let deed = Deed::Release(self.peer.slot, envelope);
        self.shared.plans.plan(at, Due::Deed { node, incarnation, deed });
    }

    /// Drops what was received in part of envelopes whose sender has given them up without being able to say so, or whose
    /// agreement has ended.
    pub(super) fn forget_stale(&mut self) {
        let now = self.now();
        self.peer.timers.set(Timer::Stale, now + STALE_EVERY);
        let (slot, is_ended) = (self.peer.slot, self.peer.agreement.row.ended);
        if self.peer.agreement.view().forgets_owed(now) {
            self.forget_owed();
        }
        let wall = self.wall();
        let is_stale = |row: &IncomingRow| {
            let hold = Duration::from_secs(row.offer.seconds_left.into());
            is_ended || wall >= row.offered_at + hold + STALE_AFTER_HOLD
        };
        let rows = self.home.disk.range(Key::Incoming(slot, FIRST), Key::Incoming(slot, LAST));
        let stale: Vec<EnvelopeId> = rows
            .filter_map(|(key, value)| match (key, value) {
                (Key::Incoming(_, envelope), Value::Incoming(row)) if is_stale(row) => Some(*envelope),
                _ => None,
            })
            .filter(|envelope| !self.peer.receiving.contains_key(envelope))
            .collect();
        for envelope in stale {
            let _ = self.drop_incoming(envelope);
        }
    }
}
