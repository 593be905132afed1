//! One sender and one receiver over a link that fails, in virtual time: the machines of both sides, their owners reduced
//! to what is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use getrandom::SysRng;
use pakt_keys::sealing::EpochKey;
use rand_core::UnwrapErr;

use super::{Delivery, Event, Input, Record};
use crate::ids::{AgreementId, CoreHash, EnvelopeId, MessageId, ObjectId};
use crate::machine::Output;
use crate::message::offer::ObjectEntry;
use crate::message::{AskEnded, Message, Offer, ReceiptHeld, ReceiptMessage, Withdrawn};
use crate::record::envelope::{Counts, EnvelopeCore, OpenEnvelope, Priority, SUITE, SealedEnvelope};
use crate::record::receipt::{Receipt, Tier, Verdict};
use crate::record::roster::GroupId;
use crate::record::tests::Party;
use crate::time::Time;
use crate::transfer::incoming::{self, Incoming};
use crate::transfer::outgoing::{self, Outcome, Outgoing};

const ENVELOPE: EnvelopeId = EnvelopeId([1; 16]);
/// Seconds that a message is on its way.
const LATENCY: u64 = 1;
/// Seconds until a session that broke is there again.
const RECONNECT: u64 = 2;

/// What is made once for all worlds.
struct Kit {
    core: EnvelopeCore,
    sealed: SealedEnvelope,
    receipt: Receipt,
}

fn kit() -> &'static Kit {
    static KIT: OnceLock<Kit> = OnceLock::new();
    KIT.get_or_init(|| {
        let (from, to) = (Party::new(1), Party::new(2));
        let core = EnvelopeCore {
            suite: SUITE,
            message: MessageId([3; 16]),
            envelope: ENVELOPE,
            sender: from.entity(),
            recipient: to.entity(),
            group: GroupId([2; 16]),
            priority: Priority::Normal,
            submitted_at: Time(1),
            counts: Counts { files: 1, plain_bytes: 100, chunks: 1, segments: 1, sealed_bytes: 200 },
            agreement: AgreementId([4; 32]),
            agreement_version: 1,
            root_hash: [5; 32],
        };
        let epoch = EpochKey::generate(&mut UnwrapErr(SysRng));
        let (bytes, rng) = (core.to_bytes(), &mut UnwrapErr(SysRng));
        let sealed = SealedEnvelope::seal(&bytes, &[6; 32], (1, &epoch.public()), &from.statement, rng);
        let receipt = Receipt {
            verdict: Verdict::NotHeld,
            core: EnvelopeCore::hash_of(&bytes),
            message: core.message,
            envelope: ENVELOPE,
            sender: core.sender,
            recipient: core.recipient,
            agreement: core.agreement,
            agreement_hash: [0; 32],
            counts: core.counts,
            offered_at: Time(1),
            at: Time(2),
            log_head: None,
            chain: to.chain.clone(),
        };
        Kit { core, sealed, receipt }
    })
}

fn entries() -> Vec<ObjectEntry> {
    [7, 8].map(|id| ObjectEntry { id: ObjectId([id; 32]), bytes: 100 }).to_vec()
}

/// Numbers from a seed (xorshift64*).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Sender,
    Receiver,
}

/// What happens at a set second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happens {
    /// The link comes up.
    Up,
    /// It is lost, and everything on it.
    Down,
    /// The sender's node starts anew from what was durable.
    Restart,
    /// The receiver states this tier.
    State(Tier),
}

/// What the network does beside: in percent of all messages, or of all receipts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    pub(super) receipts_lost: u64,
}

pub(super) struct World {
    pub(super) now: u64,
    agenda: BTreeMap<u64, Vec<Happens>>,
    /// The link is cut when so many messages have been sent, until this second.
    pub(super) cut: Option<(u64, u64)>,
    pub(super) faults: Faults,
    random: Random,
    up: bool,
    sent: u64,
    flight: VecDeque<(u64, To, Message)>,
    // The sender.
    delivery: Delivery,
    pub(super) record: Record,
    outgoing: Option<Outgoing>,
    deadline: Option<u64>,
    pub(super) told: Vec<(u64, Event)>,
    // The receiver.
    incoming: Option<Incoming>,
    pub(super) settled: Vec<(Verdict, Vec<u8>)>,
    owed: BTreeSet<u8>,
    pub(super) commits: u32,
    /// Every receipt that was ever sent.
    pub(super) receipts: BTreeSet<Vec<u8>>,
    /// After a commit, the seconds until the later tiers are stated.
    pub(super) later: Option<(u64, u64)>,
    signed: u8,
}

impl World {
    pub(super) fn new(seed: u64, hold: Duration, agenda: &[(u64, Happens)]) -> World {
        let record = Record::new(Priority::Normal, hold, Time(0));
        let mut world = World {
            now: 0,
            agenda: BTreeMap::new(),
            cut: None,
            faults: Faults::default(),
            random: Random::new(seed),
            up: false,
            sent: 0,
            flight: VecDeque::new(),
            delivery: Delivery::new(record.clone(), Time(0)),
            record,
            outgoing: None,
            deadline: None,
            told: Vec::new(),
            incoming: None,
            settled: Vec::new(),
            owed: BTreeSet::new(),
            commits: 0,
            receipts: BTreeSet::new(),
            later: None,
            signed: 0,
        };
        agenda.iter().for_each(|(at, happens)| world.plan(*at, *happens));
        world.sender(Input::Tick);
        world
    }

    fn plan(&mut self, at: u64, happens: Happens) {
        self.agenda.entry(at).or_default().push(happens);
    }

    /// What the receiver has stated first, if it has.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.settled.first().map(|(verdict, _)| *verdict)
    }

    pub(super) fn run_until(&mut self, end: u64) {
        loop {
            let next = [
                self.agenda.first_key_value().map(|(at, _)| *at),
                self.flight.front().map(|(at, ..)| *at),
                self.deadline,
                Some(end),
            ];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        if let Some(due) = self.agenda.first_entry().filter(|due| *due.key() <= self.now) {
            for happens in due.remove() {
                self.happen(happens);
            }
        } else if self.flight.front().is_some_and(|(at, ..)| *at <= self.now) {
            match self.flight.pop_front() {
                Some((_, To::Sender, message)) => self.to_sender(message),
                Some((_, To::Receiver, message)) => self.to_receiver(message),
                None => {}
            }
        } else {
            self.deadline = None;
            self.sender(Input::Tick);
        }
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Up if !self.up => {
                self.up = true;
                self.tell_owed();
                self.sender(Input::PeerUp);
            }
            Happens::Up => {}
            Happens::Down => self.lose(),
            Happens::Restart => {
                self.lose();
                self.delivery = Delivery::new(self.record.clone(), Time::from_seconds(self.now));
                self.sender(Input::Tick);
                self.plan(self.now + RECONNECT, Happens::Up);
            }
            Happens::State(tier) => {
                self.state(Verdict::Held(tier));
                self.tell_owed();
            }
        }
    }

    fn lose(&mut self) {
        self.up = false;
        self.flight.clear();
        (self.outgoing, self.incoming) = (None, None);
        self.sender(Input::PeerDown);
    }

    /// A broken rule ends the session; it is there again soon.
    fn close(&mut self) {
        self.lose();
        self.plan(self.now + RECONNECT, Happens::Up);
    }

    fn send(&mut self, to: To, message: impl Into<Message>) {
        let message = message.into();
        if !self.up {
            return;
        }
        self.sent += 1;
        if let Some((_, until)) = self.cut.take_if(|(at, _)| *at == self.sent) {
            self.lose();
            self.plan(until.max(self.now + 1), Happens::Up);
            return;
        }
        if let Message::Receipt(receipt) = &message {
            self.receipts.insert(receipt.receipt.clone());
            if self.random.below(100) < self.faults.receipts_lost {
                self.plan(self.now + LATENCY, Happens::Down);
                return self.plan(self.now + LATENCY + RECONNECT, Happens::Up);
            }
        }
        let doubled = self.random.below(100) < self.faults.doubled;
        let reordered = self.random.below(100) < self.faults.reordered;
        let at = self.now + LATENCY;
        for _ in 0..if doubled { 2 } else { 1 } {
            self.flight.push_back((at, to, message.clone()));
        }
        let last = self.flight.len() - 1;
        if reordered && last > 0 {
            let before = self.flight[last - 1].0;
            self.flight.swap(last - 1, last);
            (self.flight[last - 1].0, self.flight[last].0) = (before, at);
        }
    }

    // ---------------------------------------------------------------------------------------------------- the sender

    fn sender(&mut self, input: Input) {
        self.delivery.handle_input(input, Time::from_seconds(self.now));
        let mut events = Vec::new();
        while let Some(output) = self.delivery.poll_output() {
            match output {
                Output::Transmit(_) => {}
                Output::Persist(record) => self.record = record,
                // Rounded up: a machine that is called too early would only be called again.
                Output::Deadline(at) => self.deadline = Some(at.since(Time(0)).as_secs().max(self.now + 1)),
                Output::Event(event) => events.push(event),
            }
        }
        if !self.record.state.is_open() {
            (self.outgoing, self.deadline) = (None, None);
        }
        for event in events {
            match event {
                Event::Attempt => {
                    self.outgoing = Some(Outgoing::new(offer()));
                    self.pump_outgoing();
                }
                Event::Withdraw => self.outgoing_input(outgoing::Input::Withdraw),
                Event::Ask => self.send(To::Receiver, AskEnded { core: kit().core.to_bytes() }),
                told => self.told.push((self.now, told)),
            }
        }
    }

    fn outgoing_input(&mut self, input: outgoing::Input) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.handle_input(input);
            self.pump_outgoing();
        }
    }

    fn pump_outgoing(&mut self) {
        while let Some(output) = self.outgoing.as_mut().and_then(Outgoing::poll_output) {
            match output {
                Output::Transmit(message) => self.send(To::Receiver, message),
                Output::Deadline(_) => {}
                Output::Persist(outgoing::Persist::Leaving(_)) => {
                    self.sender(Input::Left);
                    self.outgoing_input(outgoing::Input::Persisted);
                }
                Output::Persist(outgoing::Persist::Receipt(_, bytes, receipt)) => {
                    self.take_receipt(&bytes, receipt.verdict);
                }
                Output::Event(outgoing::Event::Accepted) => self.sender(Input::Accepted),
                Output::Event(outgoing::Event::NameObjects { first, .. }) => {
                    let entries = entries().split_off(usize::try_from(first).unwrap_or(2).min(2));
                    self.outgoing_input(outgoing::Input::Objects { first, entries, last: true });
                }
                Output::Event(outgoing::Event::Seal | outgoing::Event::SealAgain(_)) => {
                    self.outgoing_input(outgoing::Input::Sealed(Box::new(kit().sealed.clone())));
                }
                Output::Event(outgoing::Event::Progress(_)) => {}
                Output::Event(outgoing::Event::Finished(Outcome::Refused(reason))) => {
                    self.outgoing = None;
                    self.sender(Input::Refused(reason));
                }
                Output::Event(outgoing::Event::Finished(Outcome::Withdrawn)) => {
                    self.outgoing = None;
                    self.sender(Input::Withdrawn);
                }
                Output::Event(outgoing::Event::Finished(Outcome::Settled(_))) => {}
                Output::Event(outgoing::Event::Misbehaved(_)) => self.close(),
            }
        }
    }

    fn take_receipt(&mut self, bytes: &[u8], verdict: Verdict) {
        assert!(self.settled.iter().any(|(_, known)| known == bytes), "a receipt that was never signed");
        self.sender(Input::Receipt(verdict));
        self.send(To::Receiver, ReceiptHeld { envelope: ENVELOPE, verdict });
    }

    fn to_sender(&mut self, message: Message) {
        match message {
            Message::Receipt(ReceiptMessage { receipt: bytes, .. }) => {
                let stated = self.settled.iter().find(|(_, known)| *known == bytes);
                let verdict = stated.map_or(Verdict::Conflict, |(verdict, _)| *verdict);
                if self.outgoing.is_some() {
                    let receipt = Receipt { verdict, ..kit().receipt.clone() };
                    self.outgoing_input(outgoing::Input::Receipt(bytes, Box::new(receipt)));
                } else {
                    self.take_receipt(&bytes, verdict);
                }
            }
            message => self.outgoing_input(outgoing::Input::Message(message)),
        }
    }

    // -------------------------------------------------------------------------------------------------- the receiver

    fn state(&mut self, verdict: Verdict) {
        if self.settled.iter().any(|(known, _)| *known == verdict) {
            return;
        }
        self.signed += 1;
        self.settled.push((verdict, vec![verdict.place(), self.signed]));
        self.owed.insert(verdict.place());
    }

    fn tell_owed(&mut self) {
        let owed = self.settled.iter().filter(|(verdict, _)| self.owed.contains(&verdict.place()));
        for receipt in owed.map(|(_, receipt)| receipt.clone()).collect::<Vec<_>>() {
            self.send(To::Sender, ReceiptMessage { envelope: ENVELOPE, receipt });
        }
    }

    fn tell_all(&mut self) {
        self.owed = self.settled.iter().map(|(verdict, _)| verdict.place()).collect();
        self.tell_owed();
    }

    fn to_receiver(&mut self, message: Message) {
        match message {
            Message::Offer(_) | Message::AskEnded(_) if !self.settled.is_empty() => self.tell_all(),
            Message::Offer(offer) => {
                self.incoming = Some(Incoming::new(offer, Time::from_seconds(self.now)));
                self.pump_incoming();
            }
            Message::AskEnded(_) => {
                self.incoming = None;
                self.state(Verdict::NotHeld);
                self.tell_all();
            }
            Message::ReceiptHeld(ReceiptHeld { verdict, .. }) => {
                let lowest = if verdict.tier().is_some() { 1 } else { verdict.place() };
                self.owed.retain(|place| !(lowest..=verdict.place()).contains(place));
            }
            message @ Message::Withdraw(_) if self.incoming.is_none() => match self.settled.is_empty() {
                true => {
                    drop(message);
                    self.send(To::Sender, Withdrawn { envelope: ENVELOPE });
                }
                false => self.tell_all(),
            },
            message => self.incoming_input(incoming::Input::Message(message)),
        }
    }

    fn incoming_input(&mut self, input: incoming::Input) {
        if let Some(incoming) = &mut self.incoming {
            incoming.handle_input(input);
            self.pump_incoming();
        }
    }

    fn pump_incoming(&mut self) {
        while let Some(output) = self.incoming.as_mut().and_then(Incoming::poll_output) {
            match output {
                Output::Transmit(message) => self.send(To::Sender, message),
                Output::Deadline(_) => {}
                Output::Persist(incoming::Persist::Commit(_, verdict)) => self.commit(verdict),
                Output::Persist(_) => self.incoming_input(incoming::Input::Persisted(None)),
                Output::Event(incoming::Event::Pull(wanted)) => {
                    let held = wanted.iter().map(|(_, entry)| entry.id).collect();
                    self.incoming_input(incoming::Input::Held(held));
                }
                Output::Event(incoming::Event::Open(_)) => {
                    let core = kit().core.clone();
                    let hash: CoreHash = EnvelopeCore::hash_of(&core.to_bytes());
                    self.incoming_input(incoming::Input::Opened(Ok(Box::new(OpenEnvelope { core, hash }))));
                }
                Output::Event(incoming::Event::Finished(_)) => {}
                Output::Event(incoming::Event::Misbehaved(_)) => self.close(),
            }
        }
    }

    fn commit(&mut self, verdict: Verdict) {
        if self.settled.is_empty() {
            self.commits += 1;
            self.state(verdict);
            if let Some((released, taken)) = self.later {
                self.plan(self.now + released, Happens::State(Tier::Released));
                self.plan(self.now + taken, Happens::State(Tier::Taken));
            }
        }
        let receipt = self.settled[0].1.clone();
        self.incoming_input(incoming::Input::Persisted(Some(receipt)));
    }
}

fn offer() -> Offer {
    Offer {
        envelope: ENVELOPE,
        group: GroupId([2; 16]),
        priority: Priority::Normal,
        agreement_version: 1,
        files: 1,
        plain_bytes: 100,
        objects: 2,
        sealed_bytes: 200,
        seconds_left: 60,
    }
}

#[test]
fn the_world_delivers() {
    let mut world = World::new(1, Duration::from_secs(3600), &[(5, Happens::Up)]);
    world.later = Some((10, 20));
    world.run_until(100);
    assert_eq!(world.record.state, super::State::Taken);
    assert_eq!((world.commits, world.receipts.len(), world.told.len(), world.owed.len()), (1, 3, 0, 0));
}
