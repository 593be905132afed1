//! The sender's side of one transfer.
//!
//! ```text
//! Offered --accept--> Announcing --last--> Pulled --ready--> Leaving --durable--> Left --receipt--> Settling --durable--> done
//!    |                     |                 |                                     |
//!    +-- refuse: done      +---- withdraw ---+-- Withdrawing --withdrawn--> done   +-- epoch gone: Left, sealed again
//!    +-- receipt (it was committed before): Settling
//! ```
//!
//! The first objects are named right behind the offer, so that an accepted one costs no round trip more; those of a
//! message that is still being sealed are named as they become durable, and "last" once it is submitted.
//!
//! **Invariant:** the signed envelope is transmitted only after "it may have been delivered" is durable.

use crate::defect::{self, Defect};
use crate::ids::EnvelopeId;
use crate::machine::{Output, Outputs};
use crate::message::offer::{ANNOUNCE_AHEAD_MAX, ANNOUNCE_ENTRIES_MAX, ObjectEntry, Refusal};
use crate::message::{Announce, Answer, Envelope, Message, Offer, Withdraw};
use crate::record::Signed;
use crate::record::envelope::SealedEnvelope;
use crate::record::receipt::{Receipt, Verdict};
use crate::record::roster::Roster;

/// Where the transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The offer is on its way.
    Offered,
    /// Naming objects.
    Announcing,
    /// Everything is named; the receiver pulls.
    Pulled,
    /// "May have been delivered" is being made durable.
    Leaving,
    /// The signed envelope is on its way.
    Left,
    /// A receipt is being made durable.
    Settling,
    /// The offer was taken back.
    Withdrawing,
    /// Nothing more happens.
    Done,
}

/// What the owner tells this machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The receiver's message about this envelope; a receipt comes as [`Input::Receipt`].
    Message(Message),
    /// A receipt whose signature and parties were checked, with its bytes as sent.
    Receipt(Vec<u8>, Box<Receipt>),
    /// Objects as asked for by [`Event::NameObjects`], whenever there are some. What answers a question that has been
    /// answered before is passed over.
    Objects {
        /// The index of the first of them.
        first: u64,
        /// They themselves, in order.
        entries: Vec<ObjectEntry>,
        /// Whether they are the last.
        last: bool,
    },
    /// The envelope, sealed to the newest roster, as asked for by [`Event::Seal`].
    Sealed(Box<SealedEnvelope>),
    /// The last [`Persist`] is durable.
    Persisted,
    /// The hold time is over: take the offer back if that is still possible.
    Withdraw,
}

/// What must be durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Persist {
    /// From now on the message may have been delivered.
    Leaving(EnvelopeId),
    /// The receipt, as sent; it settles the envelope.
    Receipt(EnvelopeId, Vec<u8>, Box<Receipt>),
}

/// What the owner must do or may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The receiver has accepted.
    Accepted,
    /// Give the next objects: what is named may be pulled at once.
    NameObjects {
        /// From this index on.
        first: u64,
        /// At most so many.
        max: usize,
    },
    /// Seal the envelope to the newest roster.
    Seal,
    /// First take this newer roster, then seal again.
    SealAgain(Box<Signed<Roster>>),
    /// Sealed bytes durable at the receiver.
    Progress(u64),
    /// The transfer is over.
    Finished(Outcome),
    /// The receiver broke the protocol: end the session.
    Misbehaved(&'static str),
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver refused the offer.
    Refused(Refusal),
    /// A receipt is durable.
    Settled(Verdict),
    /// The receiver has dropped everything.
    Withdrawn,
}

/// The sender's machine.
#[derive(Debug)]
pub struct Outgoing {
    envelope: EnvelopeId,
    state: State,
    named: u64,
    /// Whether the last object has been named.
    named_all: bool,
    /// Times that the receiver said that an epoch was gone.
    reseals: u8,
    outputs: Outputs<Persist, Event>,
}

/// Epochs may roll while an envelope is under way, but not for ever.
const RESEALS_MAX: u8 = 8;

impl Outgoing {
    /// Offers an envelope; before the answer nothing follows but one announcement of its first objects.
    pub fn new(offer: Offer) -> Outgoing {
        let mut outputs = Outputs::default();
        let envelope = offer.envelope;
        outputs.transmit(offer);
        outputs.event(Event::NameObjects { first: 0, max: ANNOUNCE_AHEAD_MAX });
        Outgoing { envelope, state: State::Offered, named: 0, named_all: false, reseals: 0, outputs }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input) {
        match (self.state, input) {
            (State::Done, _) => {}
            (_, Input::Receipt(bytes, receipt)) => self.handle_receipt(bytes, receipt),
            (State::Offered, Input::Message(Message::Answer(Answer::Accept { .. }))) => {
                self.outputs.event(Event::Accepted);
                self.state = State::Announcing;
                self.name_more();
            }
            // After the offer was accepted as well: the receiver's disk may fill up, or the envelope be refused.
            (
                State::Offered | State::Announcing | State::Pulled | State::Left,
                Input::Message(Message::Answer(Answer::Refuse { reason, .. })),
            ) => {
                self.finish(Outcome::Refused(reason));
            }
            // The question was asked twice: once with the offer, once when it was accepted.
            (_, Input::Objects { first, .. }) if first != self.named => {}
            (State::Offered, Input::Objects { first: 0, entries, last }) => self.announce(entries, last),
            (State::Announcing, Input::Objects { entries, last, .. }) => {
                self.announce(entries, last);
                self.name_more();
            }
            (State::Announcing | State::Pulled, Input::Message(Message::Progress(progress))) => {
                self.outputs.event(Event::Progress(progress.bytes));
            }
            (State::Pulled, Input::Message(Message::Ready(_))) if defect::is_on(Defect::SkipPersistLeft) => {
                self.state = State::Left;
                self.outputs.event(Event::Seal);
            }
            (State::Pulled, Input::Message(Message::Ready(_))) => {
                self.state = State::Leaving;
                self.outputs.persist(Persist::Leaving(self.envelope));
            }
            (State::Leaving, Input::Persisted) => {
                self.state = State::Left;
                self.outputs.event(Event::Seal);
            }
            (State::Left, Input::Sealed(sealed)) => {
                self.outputs.transmit(Envelope { envelope: self.envelope, sealed: *sealed });
            }
            (State::Left, Input::Message(Message::EpochGone(gone))) if self.reseals < RESEALS_MAX => {
                self.reseals += 1;
                self.outputs.event(Event::SealAgain(Box::new(gone.roster)));
            }
            (State::Settling, Input::Persisted) => self.state = State::Done,
            (State::Offered | State::Announcing | State::Pulled, Input::Withdraw) => {
                self.state = State::Withdrawing;
                self.outputs.transmit(Withdraw { envelope: self.envelope });
            }
            (State::Withdrawing, Input::Message(Message::Withdrawn(_))) => self.finish(Outcome::Withdrawn),
            (State::Withdrawing | State::Settling, _) => {}
            (_, Input::Withdraw | Input::Objects { .. } | Input::Persisted | Input::Sealed(_)) => {}
            (_, Input::Message(Message::Progress(_))) => {}
            (_, Input::Message(_)) => {
                self.outputs.event(Event::Misbehaved("a message that this state does not expect"))
            }
        }
    }

    fn announce(&mut self, entries: Vec<ObjectEntry>, last: bool) {
        debug_assert!(entries.len() <= ANNOUNCE_ENTRIES_MAX);
        let first = self.named;
        self.named += entries.len() as u64;
        self.named_all = last;
        self.outputs.transmit(Announce { envelope: self.envelope, first, entries, last });
    }

    fn name_more(&mut self) {
        if self.named_all {
            self.state = State::Pulled;
        } else {
            self.outputs.event(Event::NameObjects { first: self.named, max: ANNOUNCE_ENTRIES_MAX });
        }
    }

    fn handle_receipt(&mut self, bytes: Vec<u8>, receipt: Box<Receipt>) {
        if receipt.envelope != self.envelope {
            self.outputs.event(Event::Misbehaved("a receipt of another envelope"));
            return;
        }
        let verdict = receipt.verdict;
        self.state = State::Settling;
        self.outputs.persist(Persist::Receipt(self.envelope, bytes, receipt));
        self.outputs.event(Event::Finished(Outcome::Settled(verdict)));
    }

    fn finish(&mut self, outcome: Outcome) {
        self.state = State::Done;
        self.outputs.event(Event::Finished(outcome));
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<Persist, Event>> {
        self.outputs.poll()
    }

    /// Where the transfer stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the receiver has accepted the offer.
    pub fn is_accepted(&self) -> bool {
        matches!(self.state, State::Announcing | State::Pulled | State::Leaving | State::Left)
    }
}
