//! The receiver's side of one transfer.
//!
//! ```text
//! Deciding --begin durable--> Naming --last--> Pulling --all held--> Ready --envelope--> Opening --opened--> Committing --durable--> done
//!     |                                                                        |             |
//!     +-- refuse: done             withdraw, any time before Opening: Dropping +-- refused   +-- epoch gone: Ready
//!
//! halted, at any time: refused, what is durable stays
//! ```
//!
//! What this side cannot keep, at any time: dropped and refused, done.
//!
//! **Invariants:** an object counts as held only when its owner says that it is durable; the receipt leaves only after
//! content, key, message and receipt are durable in one commit; nothing is visible before that commit.

use std::collections::HashMap;

use crate::defect::{self, Defect};
use crate::ids::{AgreementId, EnvelopeId, ObjectId};
use crate::limits::OBJECT_BYTES_MAX;
use crate::machine::{Output, Outputs};
use crate::message::offer::{ANNOUNCE_AHEAD_MAX, ANNOUNCE_ENTRIES_MAX, ObjectEntry, Refusal};
use crate::message::{
    Announce, Answer, Envelope, EpochGone, Message, Offer, Progress, Ready, ReceiptMessage, Withdrawn,
};
use crate::record::Signed;
use crate::record::envelope::{EnvelopeCore, OpenEnvelope, SealedEnvelope};
use crate::record::receipt::{Tier, Verdict};
use crate::record::roster::Roster;
use crate::time::Time;

/// Objects that are asked for at a time and have not come: what is known of the others is their entry alone, however many
/// the sender names. Enough to keep any line busy for seconds.
pub const ASKED_MAX: usize = 32_768;

/// Where the transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The accepted offer is being made durable.
    Deciding,
    /// Objects are being named and pulled.
    Naming,
    /// All objects are named; some are missing.
    Pulling,
    /// All objects are durable; the envelope is awaited.
    Ready,
    /// The envelope is being opened.
    Opening,
    /// Content, key, message and receipt are being made durable.
    Committing,
    /// Everything is being dropped.
    Dropping,
    /// Nothing more happens.
    Done,
}

/// What the owner tells this machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The sender's message about this envelope.
    Message(Message),
    /// These objects are durable here now.
    Held(Vec<ObjectId>),
    /// The envelope's signature and parties hold; its key and manifest were opened, or why not.
    Opened(Result<Box<OpenEnvelope>, OpenRefusal>),
    /// The last [`Persist`] is durable; after a commit these are the receipt's bytes.
    Persisted(Option<Vec<u8>>),
    /// This side could not keep what it was to keep.
    Failed(Fault),
    /// The agreement lets nothing in for now, for this reason. What is durable stays for the next offer.
    Halted(Refusal),
}

/// Why this side could not keep something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is no room.
    Full,
    /// The envelope's id names something else here.
    IdTaken,
    /// Anything else: it may be offered again.
    Other,
}

impl Fault {
    fn refusal(self) -> Refusal {
        match self {
            Fault::Full => Refusal::NoSpace,
            Fault::IdTaken => Refusal::Conflict,
            Fault::Other => Refusal::Busy,
        }
    }
}

/// Why an envelope was not opened.
#[derive(Debug, Clone)]
pub enum OpenRefusal {
    /// Its signature or its parties do not hold: refused without a receipt.
    Forged,
    /// The epoch's private half is gone: here is the current roster.
    EpochGone(Box<Signed<Roster>>),
    /// The content cannot be opened: committed as a signed `unopenable`.
    Unopenable(Box<OpenEnvelope>),
    /// Its purpose is none that the agreement names: committed as a signed refusal.
    PurposeNotAgreed(Box<OpenEnvelope>),
}

/// Whether a signed envelope goes by an agreement of which this version counts here: it may have been sealed under an
/// earlier one.
///
/// # Errors
/// [`OpenRefusal::Forged`].
pub fn check_agreement(core: &EnvelopeCore, agreement: &AgreementId, version: u32) -> Result<(), OpenRefusal> {
    let is_right = core.agreement == *agreement && core.agreement_version <= version;
    if is_right { Ok(()) } else { Err(OpenRefusal::Forged) }
}

/// Whether an agreement that names these purposes lets a message with this one in; without any it lets all in.
pub fn is_for_agreed_purpose(agreed: &[String], purpose: Option<&String>) -> bool {
    agreed.is_empty() || purpose.is_some_and(|purpose| agreed.contains(purpose))
}

/// What must be durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Persist {
    /// This offer was accepted at this time.
    Begin(Offer, Time),
    /// The message, its key, its receipt with this verdict and the mark against duplicates, in one commit. Only what is
    /// held is kept.
    Commit(Box<OpenEnvelope>, Verdict),
    /// Nothing of this envelope is kept.
    Drop(EnvelopeId),
}

/// What the owner must do or may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Pull these (index, object), unless they are already held; report them as held either way.
    Pull(Vec<(u64, ObjectEntry)>),
    /// Verify, unwrap and open the manifest; compare it with [`Incoming::objects`].
    Open(Box<SealedEnvelope>),
    /// The transfer is over; true if a message was committed.
    Finished(bool),
    /// The sender broke the protocol: end the session.
    Misbehaved(&'static str),
}

/// The receiver's machine.
#[derive(Debug)]
pub struct Incoming {
    offer: Offer,
    state: State,
    objects: Vec<ObjectEntry>,
    /// How many of them, from the first on, the owner was asked to pull.
    asked: usize,
    /// Those that it was asked to pull and does not hold.
    missing: HashMap<ObjectId, u32>,
    /// Bytes of everything that was announced, as often as it was.
    sealed_bytes: u64,
    /// Bytes of those that the owner was asked to pull, which leaves out what was missing already.
    wanted_bytes: u64,
    /// Bytes of those that it is still to be asked for.
    unasked_bytes: u64,
    held_bytes: u64,
    held: u64,
    /// The sender gave up before the offer was durable here.
    withdrawn: bool,
    /// What was announced before the offer was durable here.
    ahead: Option<Announce>,
    outputs: Outputs<Persist, Event>,
}

impl Incoming {
    /// Starts from an offer that [`crate::policy::decide`] accepted.
    pub fn new(offer: Offer, now: Time) -> Incoming {
        let mut incoming = Incoming {
            offer,
            state: State::Deciding,
            objects: Vec::new(),
            asked: 0,
            missing: HashMap::new(),
            sealed_bytes: 0,
            wanted_bytes: 0,
            unasked_bytes: 0,
            held_bytes: 0,
            held: 0,
            withdrawn: false,
            ahead: None,
            outputs: Outputs::default(),
        };
        incoming.begin(now);
        incoming
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input) {
        match (self.state, input) {
            (State::Done, _) => {}
            (_, Input::Failed(fault)) => self.fail(fault),
            // The sender may not know of it, or only of what came after it: it would wait for ever.
            (_, Input::Halted(reason)) => {
                self.outputs.transmit(Answer::Refuse { envelope: self.offer.envelope, reason });
                self.finish(false);
            }
            (State::Deciding, Input::Persisted(_)) if self.withdrawn => self.drop_all(),
            (State::Deciding, Input::Persisted(_)) => self.accept(),
            (State::Deciding, Input::Message(Message::Announce(announce)))
                if self.ahead.is_none() && announce.entries.len() <= ANNOUNCE_AHEAD_MAX =>
            {
                self.ahead = Some(announce);
            }
            (State::Naming, Input::Message(Message::Announce(announce))) => self.handle_announce(announce),
            (State::Naming | State::Pulling, Input::Held(ids)) => self.handle_held(&ids),
            (State::Ready, Input::Message(Message::Envelope(envelope))) => self.handle_envelope(envelope),
            (State::Opening, Input::Opened(opened)) => self.handle_opened(opened),
            (State::Committing, Input::Persisted(receipt)) => {
                let receipt = receipt.unwrap_or_default();
                self.outputs.transmit(ReceiptMessage { envelope: self.offer.envelope, receipt });
                self.finish(true);
            }
            (State::Dropping, Input::Persisted(_)) => {
                self.outputs.transmit(Withdrawn { envelope: self.offer.envelope });
                self.finish(false);
            }
            (State::Naming | State::Pulling | State::Ready, Input::Message(Message::Withdraw(_))) => self.drop_all(),
            // The decision has been taken: the receipt is the answer to a withdrawal.
            (State::Opening | State::Committing, Input::Message(Message::Withdraw(_))) => {}
            (State::Deciding, Input::Message(Message::Withdraw(_))) => self.withdrawn = true,
            (_, Input::Message(_)) => self.misbehaved("a message that this state does not expect"),
            (_, Input::Held(_) | Input::Opened(_) | Input::Persisted(_)) => {}
        }
    }

    fn begin(&mut self, now: Time) {
        if defect::is_on(Defect::SkipPersistOffer) {
            return self.accept();
        }
        if defect::is_on(Defect::AcceptEarly) {
            self.accept();
        }
        self.outputs.persist(Persist::Begin(self.offer.clone(), now));
    }

    fn accept(&mut self) {
        self.state = State::Naming;
        self.outputs.transmit(Answer::Accept { envelope: self.offer.envelope });
        if let Some(announce) = self.ahead.take() {
            self.handle_announce(announce);
        }
    }

    fn handle_announce(&mut self, announce: Announce) {
        let bytes: u64 = announce.entries.iter().map(|entry| u64::from(entry.bytes)).sum();
        let sound = announce.first == self.objects.len() as u64
            && announce.entries.len() <= ANNOUNCE_ENTRIES_MAX
            && announce.entries.iter().all(|entry| (1..=OBJECT_BYTES_MAX).contains(&(entry.bytes as usize)));
        if !sound {
            return self.misbehaved("objects out of order or of impossible size");
        }
        let total = announce.first + announce.entries.len() as u64;
        self.sealed_bytes += bytes;
        if total > self.offer.objects || self.sealed_bytes > self.offer.sealed_bytes {
            return self.refuse(Refusal::OutsideOffer);
        }
        self.unasked_bytes += bytes;
        self.objects.extend(announce.entries);
        if announce.last {
            self.state = State::Pulling;
        }
        self.ask();
        self.check_ready();
    }

    /// Has the owner pull what is named, as far as there is room.
    fn ask(&mut self) {
        let mut wanted = Vec::new();
        while self.missing.len() < ASKED_MAX
            && let Some(entry) = self.objects.get(self.asked).copied()
        {
            let index = self.asked as u64;
            self.asked += 1;
            self.unasked_bytes -= u64::from(entry.bytes);
            // The same object may stand at several places: it is pulled once.
            match self.missing.insert(entry.id, entry.bytes) {
                Some(bytes) if bytes != entry.bytes => {
                    return self.misbehaved("one object with two sizes");
                }
                Some(_) => {}
                None => {
                    self.wanted_bytes += u64::from(entry.bytes);
                    wanted.push((index, entry));
                }
            }
        }
        if !wanted.is_empty() {
            self.outputs.event(Event::Pull(wanted));
        }
    }

    fn handle_held(&mut self, ids: &[ObjectId]) {
        for id in ids {
            if let Some(bytes) = self.missing.remove(id) {
                self.held += 1;
                self.held_bytes += u64::from(bytes);
            }
        }
        let progress = Progress { envelope: self.offer.envelope, objects: self.held, bytes: self.held_bytes };
        self.outputs.transmit(progress);
        // Not for every batch: the owner looks up what it is asked for.
        if self.missing.len() + ANNOUNCE_ENTRIES_MAX <= ASKED_MAX {
            self.ask();
        }
        self.check_ready();
    }

    fn check_ready(&mut self) {
        let is_complete = self.missing.is_empty() && self.asked == self.objects.len();
        if self.state == State::Pulling && (is_complete || defect::is_on(Defect::CommitIncomplete)) {
            self.state = State::Ready;
            self.outputs.transmit(Ready { envelope: self.offer.envelope });
        }
    }

    fn handle_envelope(&mut self, envelope: Envelope) {
        self.state = State::Opening;
        self.outputs.event(Event::Open(Box::new(envelope.sealed)));
    }

    fn handle_opened(&mut self, opened: Result<Box<OpenEnvelope>, OpenRefusal>) {
        match opened {
            Ok(open) if !self.lies_within_offer(&open) => self.refuse(Refusal::OutsideOffer),
            Ok(open) => self.commit(open, Verdict::Held(Tier::Delivered)),
            Err(OpenRefusal::Unopenable(open)) => self.commit(open, Verdict::Unopenable),
            Err(OpenRefusal::PurposeNotAgreed(open)) => self.commit(open, Verdict::PurposeNotAgreed),
            Err(OpenRefusal::Forged) => self.refuse(Refusal::Forged),
            Err(OpenRefusal::EpochGone(roster)) => {
                self.state = State::Ready;
                self.outputs.transmit(EpochGone { envelope: self.offer.envelope, roster: *roster });
            }
        }
    }

    fn lies_within_offer(&self, open: &OpenEnvelope) -> bool {
        let (core, offer) = (&open.core, &self.offer);
        core.envelope == offer.envelope
            && core.group == offer.group
            && core.priority == offer.priority
            && core.counts.files <= offer.files
            && core.counts.plain_bytes <= offer.plain_bytes
            && core.counts.sealed_bytes == self.sealed_bytes
            && core.counts.chunks + core.counts.segments == self.objects.len() as u64
    }

    fn commit(&mut self, open: Box<OpenEnvelope>, verdict: Verdict) {
        self.state = State::Committing;
        self.outputs.persist(Persist::Commit(open, verdict));
    }

    fn drop_all(&mut self) {
        self.state = State::Dropping;
        self.outputs.persist(Persist::Drop(self.offer.envelope));
    }

    fn refuse(&mut self, reason: Refusal) {
        self.outputs.transmit(Answer::Refuse { envelope: self.offer.envelope, reason });
        self.outputs.persist(Persist::Drop(self.offer.envelope));
        self.finish(false);
    }

    fn fail(&mut self, fault: Fault) {
        self.outputs.persist(Persist::Drop(self.offer.envelope));
        self.outputs.transmit(Answer::Refuse { envelope: self.offer.envelope, reason: fault.refusal() });
        self.finish(false);
    }

    fn misbehaved(&mut self, what: &'static str) {
        self.outputs.event(Event::Misbehaved(what));
        self.finish(false);
    }

    fn finish(&mut self, committed: bool) {
        self.state = State::Done;
        (self.missing, self.objects) = (HashMap::new(), Vec::new());
        self.outputs.event(Event::Finished(committed));
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<Persist, Event>> {
        self.outputs.poll()
    }

    /// Where the transfer stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Bytes that may still have to be stored: by the offer's upper bound until everything is named, by what was named
    /// from then on.
    pub fn bytes_to_come(&self) -> u64 {
        let bound = match self.state {
            State::Deciding | State::Naming => self.offer.sealed_bytes,
            _ => self.wanted_bytes.saturating_add(self.unasked_bytes),
        };
        bound.saturating_sub(self.held_bytes)
    }

    /// Whether it waits for objects that it has asked for.
    pub fn awaits_content(&self) -> bool {
        !self.missing.is_empty()
    }

    /// What was offered.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Every announced object in order: content first, then segments.
    pub fn objects(&self) -> &[ObjectEntry] {
        &self.objects
    }
}
