//! Receipts that the sender has not confirmed: told at once, and again at the start of every session until it does.
//!
//! ```text
//! owed (durable at the owner) --look, found--> told --held--> confirmed --written with others--> owed no more
//!                                               |                |
//!                                               +-- lost: owed --+-- not written: owed
//!                                               +-- not held for ten minutes: owed
//! ```
//!
//! **Invariant:** a receipt is owed until its sender has said that it holds it; a confirmation of what was not told in this
//! session says nothing.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::defect::{self, Defect};
use crate::ids::EnvelopeId;
use crate::machine::{Output, Outputs};
use crate::message::{ReceiptHeld, ReceiptMessage};
use crate::record::receipt::{Tier, Verdict};
use crate::time::Time;

/// Receipts that are told and not confirmed, at most, before the next are.
pub const TOLD_MAX: usize = 64;
/// Confirmations are written together: one that is lost only costs that its receipt is told again.
pub const HELD_WAIT: Duration = Duration::from_millis(500);
/// Confirmations that are written at once.
pub const HELD_MAX: usize = 64;
/// Receipts that left with their transfers and are remembered as told, at most.
pub const NOTED_MAX: usize = 4096;

/// A receipt that is not confirmed for so long is told again in the same session: its sender may have had no room for it.
pub const TELL_AGAIN: Duration = Duration::from_secs(10 * 60);

/// A receipt: its envelope, and its place among what was stated about it ([`Verdict::place`]).
pub type Place = (EnvelopeId, u8);

/// The places of one envelope that a confirmation of this receipt covers: those of lower tiers with it.
pub fn covered(verdict: Verdict) -> RangeInclusive<u8> {
    let (lowest, highest) = match verdict.tier() {
        Some(_) if defect::is_on(Defect::ConfirmHigher) => (1, Verdict::Held(Tier::Taken).place()),
        Some(_) => (1, verdict.place()),
        None => (verdict.place(), verdict.place()),
    };
    lowest..=highest
}

/// What the owner tells this machine; all but [`Input::Lost`] and [`Input::Write`] while a session is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The counterpart can be told: the session has come so far, or receipts were signed here.
    Tell,
    /// What [`Event::Look`] asked for.
    Found(Vec<(Place, Vec<u8>)>),
    /// The first receipt of an envelope left with its transfer.
    Told(EnvelopeId, Verdict),
    /// A duplicate of an envelope was offered, of which so much was stated after its first receipt: its sender may lack that.
    Duplicate(EnvelopeId, Vec<Verdict>),
    /// What is owed about an envelope is to be told although it was told in this session.
    Anew(EnvelopeId),
    /// The sender says that it holds a receipt.
    Held(ReceiptHeld),
    /// Confirmations are to be written now.
    Write,
    /// The session is over: the next one tells everything again.
    Lost,
    /// Time has passed.
    Tick,
}

/// What the owner must make durable. Of what fails nothing is said: it is owed still, and told again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// These are owed no more, with all that they cover ([`covered`]).
    Held(Vec<(EnvelopeId, Verdict)>),
    /// All that was stated about this envelope is owed again; then [`Input::Tell`].
    Again(EnvelopeId),
}

/// What the owner must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Look for receipts that are owed, and give them back by [`Input::Found`].
    Look {
        /// These are left out.
        but: HashSet<Place>,
        /// So many at most.
        max: usize,
    },
}

/// What was told to one counterpart in this session, and what it confirmed and is not written yet.
#[derive(Debug, Default)]
pub struct Owed {
    /// When each was told.
    told: HashMap<Place, Time>,
    confirmed: HashSet<Place>,
    held: Vec<(EnvelopeId, Verdict)>,
    write_at: Option<Time>,
    /// There may be more to tell.
    more: bool,
    outputs: Outputs<Persist, Event>,
}

impl Owed {
    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now: Time) {
        match input {
            Input::Tell => self.look(),
            Input::Found(receipts) => self.tell(receipts, now),
            Input::Told(envelope, verdict) if self.told.len() < NOTED_MAX => {
                self.told.insert((envelope, verdict.place()), now);
            }
            Input::Told(..) => {}
            Input::Duplicate(envelope, stated) => {
                if stated.iter().any(|verdict| !self.told.contains_key(&(envelope, verdict.place()))) {
                    self.outputs.persist(Persist::Again(envelope));
                }
            }
            Input::Anew(envelope) => {
                self.told.retain(|(told, _), _| *told != envelope);
                self.confirmed.retain(|(confirmed, _)| *confirmed != envelope);
                self.look();
            }
            Input::Held(held) => self.handle_held(held, now),
            Input::Write => self.write(),
            Input::Lost => self.told.clear(),
            Input::Tick => self.handle_time(now),
        }
    }

    /// A few at a time: the next once those are confirmed.
    fn look(&mut self) {
        self.more = true;
        let max = TOLD_MAX.saturating_sub(self.told.len());
        if max > 0 {
            let but = self.told.keys().chain(&self.confirmed).copied().collect();
            self.outputs.event(Event::Look { but, max });
        }
    }

    fn tell(&mut self, mut receipts: Vec<(Place, Vec<u8>)>, now: Time) {
        self.more = receipts.len() >= TOLD_MAX.saturating_sub(self.told.len());
        if let ([first, .., last], true) = (&mut receipts[..], defect::is_on(Defect::SwapReceipts)) {
            std::mem::swap(&mut first.1, &mut last.1);
        }
        for (place, receipt) in receipts {
            self.told.insert(place, now);
            self.outputs.transmit(ReceiptMessage { envelope: place.0, receipt });
            if defect::is_on(Defect::ForgetAtTelling) {
                self.forget(place);
            }
        }
        self.plan();
    }

    /// What [`Defect::ForgetAtTelling`] does.
    fn forget(&mut self, (envelope, place): Place) {
        let tiers = [Tier::Delivered, Tier::Released, Tier::Taken].into_iter();
        let forgotten = tiers.filter(|tier| tier.number() == place).map(|tier| (envelope, Verdict::Held(tier)));
        self.outputs.persist(Persist::Held(forgotten.collect()));
    }

    fn handle_held(&mut self, held: ReceiptHeld, now: Time) {
        let ReceiptHeld { envelope, verdict } = held;
        let places = covered(verdict).map(|place| (envelope, place));
        let confirmed: Vec<Place> = places.filter(|place| self.told.remove(place).is_some()).collect();
        if confirmed.is_empty() {
            return;
        }
        self.confirmed.extend(confirmed);
        self.held.push((envelope, verdict));
        if self.held.len() >= HELD_MAX {
            self.write();
        } else if self.write_at.is_none() {
            self.write_at = Some(now + HELD_WAIT);
            self.plan();
        }
        if self.more {
            self.look();
        }
    }

    fn handle_time(&mut self, now: Time) {
        if self.write_at.is_some_and(|at| now >= at) {
            self.write();
        }
        let before = self.told.len();
        self.told.retain(|_, told_at| now < *told_at + TELL_AGAIN);
        if self.told.len() < before {
            self.look();
        }
        self.plan();
    }

    /// The next look at the clock.
    fn plan(&mut self) {
        let again = self.told.values().min().map(|told_at| *told_at + TELL_AGAIN);
        if let Some(at) = self.write_at.into_iter().chain(again).min() {
            self.outputs.deadline(at);
        }
    }

    fn write(&mut self) {
        self.write_at = None;
        self.confirmed.clear();
        if !self.held.is_empty() {
            self.outputs.persist(Persist::Held(std::mem::take(&mut self.held)));
        }
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<Persist, Event>> {
        self.outputs.poll()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::record::receipt::Tier;

    fn envelope(n: u16) -> EnvelopeId {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        EnvelopeId(id)
    }

    /// What is owed, as an owner keeps it, and what was told.
    #[derive(Default)]
    struct Owner {
        machine: Owed,
        owed: Vec<Place>,
        told: Vec<Place>,
        fails: bool,
        now: Time,
    }

    impl Owner {
        fn owing(places: impl IntoIterator<Item = Place>) -> Owner {
            Owner { owed: places.into_iter().collect(), ..Owner::default() }
        }

        fn input(&mut self, input: Input) {
            self.machine.handle_input(input, self.now);
            while let Some(output) = self.machine.poll_output() {
                match output {
                    Output::Event(Event::Look { but, max }) => {
                        let found = self.owed.iter().filter(|place| !but.contains(place)).take(max);
                        let found = found.map(|place| (*place, vec![place.1])).collect();
                        self.machine.handle_input(Input::Found(found), self.now);
                    }
                    Output::Transmit(Message::Receipt(told)) => self.told.push((told.envelope, told.receipt[0])),
                    Output::Transmit(other) => panic!("{other:?}"),
                    Output::Persist(_) if self.fails => {}
                    Output::Persist(Persist::Held(held)) => {
                        let is_held = |(envelope, place): &Place| {
                            held.iter().any(|(held, verdict)| held == envelope && covered(*verdict).contains(place))
                        };
                        self.owed.retain(|place| !is_held(place));
                    }
                    Output::Persist(Persist::Again(envelope)) => {
                        self.owed.push((envelope, 2));
                        self.machine.handle_input(Input::Tell, self.now);
                    }
                    Output::Deadline(at) => assert!((self.now..=self.now + TELL_AGAIN).contains(&at), "{at:?}"),
                }
            }
        }

        fn held(&mut self, envelope: EnvelopeId, verdict: Verdict) {
            self.input(Input::Held(ReceiptHeld { envelope, verdict }));
        }
    }

    #[test]
    fn p30_a_few_are_told_at_a_time_and_each_until_it_is_held() {
        let count = 3 * TOLD_MAX as u16;
        let mut owner = Owner::owing((0..count).map(|n| (envelope(n), 1)));
        owner.input(Input::Tell);
        owner.input(Input::Tell);
        assert_eq!(owner.told.len(), TOLD_MAX, "no more until some are confirmed");
        for n in 0..count {
            owner.held(envelope(n), Verdict::Held(Tier::Delivered));
        }
        assert_eq!(owner.told.len(), usize::from(count), "each once");
        assert!(owner.owed.is_empty(), "{HELD_MAX} at a time are written without waiting");
    }

    #[test]
    fn confirmations_wait_to_be_written_together() {
        let mut owner = Owner::owing([(envelope(1), 1), (envelope(1), 2), (envelope(2), 1)]);
        owner.input(Input::Tell);
        owner.held(envelope(1), Verdict::Held(Tier::Released));
        assert_eq!(owner.owed.len(), 3);
        owner.now = owner.now + HELD_WAIT - Duration::from_micros(1);
        owner.input(Input::Tick);
        assert_eq!(owner.owed.len(), 3);
        owner.now = owner.now + Duration::from_micros(1);
        owner.input(Input::Tick);
        assert_eq!(owner.owed, [(envelope(2), 1)], "the lower tier goes with the higher one");
        owner.input(Input::Tell);
        assert_eq!(owner.told.len(), 3, "what was told in this session is not told again");
    }

    #[test]
    fn p30_what_was_not_told_is_not_confirmed() {
        let mut owner = Owner::owing([(envelope(1), 2)]);
        owner.held(envelope(1), Verdict::Held(Tier::Released));
        owner.input(Input::Write);
        assert_eq!(owner.owed.len(), 1, "nothing was told");
        owner.input(Input::Tell);
        owner.input(Input::Lost);
        owner.held(envelope(1), Verdict::Held(Tier::Released));
        owner.input(Input::Write);
        assert_eq!(owner.owed.len(), 1, "nothing was told in this session");
        owner.input(Input::Tell);
        assert_eq!(owner.told.len(), 2, "and so it is told again");
        owner.held(envelope(1), Verdict::Held(Tier::Delivered));
        owner.input(Input::Write);
        assert_eq!(owner.owed.len(), 1, "a lower tier was held, not this one");
    }

    #[test]
    fn p30_what_could_not_be_written_is_told_again() {
        let mut owner = Owner::owing([(envelope(1), 1)]);
        owner.fails = true;
        owner.input(Input::Tell);
        owner.held(envelope(1), Verdict::Held(Tier::Delivered));
        owner.input(Input::Write);
        owner.input(Input::Tell);
        assert_eq!(owner.told.len(), 2);
    }

    #[test]
    fn p30_what_is_not_confirmed_is_told_again_in_the_same_session() {
        let mut owner = Owner::owing([(envelope(1), 3), (envelope(2), 3)]);
        owner.input(Input::Tell);
        owner.held(envelope(2), Verdict::Held(Tier::Taken));
        owner.now = owner.now + TELL_AGAIN - Duration::from_micros(1);
        owner.input(Input::Tick);
        assert_eq!(owner.told.len(), 2, "it may be on its way");
        owner.now = owner.now + Duration::from_micros(1);
        owner.input(Input::Tick);
        assert_eq!(owner.told[2..], [(envelope(1), 3)], "its sender had no room for it perhaps");
    }

    #[test]
    fn a_duplicate_has_everything_told_once_in_a_session() {
        let mut owner = Owner::default();
        let released = vec![Verdict::Held(Tier::Released)];
        owner.input(Input::Duplicate(envelope(1), vec![]));
        assert_eq!(owner.told, [], "there is nothing but the first receipt");
        for _ in 0..3 {
            owner.input(Input::Duplicate(envelope(1), released.clone()));
        }
        assert_eq!(owner.told, [(envelope(1), 2)]);
    }

    #[test]
    fn what_answers_a_request_is_told_although_it_was_told() {
        let mut owner = Owner::owing([(envelope(1), 3), (envelope(2), 3)]);
        owner.input(Input::Tell);
        owner.held(envelope(1), Verdict::Held(Tier::Taken));
        owner.input(Input::Anew(envelope(1)));
        assert_eq!(owner.told, [(envelope(1), 3), (envelope(2), 3), (envelope(1), 3)]);
    }

    #[test]
    fn receipts_that_leave_with_transfers_are_remembered_within_a_bound() {
        let mut owner = Owner::default();
        for n in 0..=NOTED_MAX as u16 {
            owner.input(Input::Told(envelope(n), Verdict::Held(Tier::Delivered)));
        }
        assert_eq!(owner.machine.told.len(), NOTED_MAX);
    }
}
