//! Introductions: who passes what on to whom, and letters that the introducer cannot read.
//!
//! ```text
//! A --CardRequest--> S --CardRequest--> B          S has an agreement with both, A and B have none
//! A <---- Card ----- S <---- Card ----- B          only if B wants to give it
//! A --- Letter ----> S ---- Letter ---> B          a proposal, sealed to B's contact key
//! A <-- Letter ----- S <--- Letter ---- B          the agreement or a signed "no", sealed to A's contact key
//! ```
//!
//! **Invariant:** the introducer passes on only what its counterpart says in its own name, and only to a counterpart
//! with an agreement in force; whether it knows the recipient it does not tell.
//! **Invariant:** a letter opens only for its recipient, under the id, sender and recipient that it was sealed for; what
//! it says is signed by the one who says it, so that the introducer cannot sign for anyone.

use std::collections::HashMap;
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_keys::codec;
use pakt_keys::sealing::{ContactKey, ContactPublic, Wrapped};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::message::introduction::{Introduction, IntroductionBody, IntroductionFate, IntroductionId};
use crate::quota::Quota;
use crate::record::Signed;
use crate::record::decline::Decline;
use crate::time::Time;

/// Bytes of an agreement file within a letter: what a lane would carry too.
pub const LETTER_BYTES_MAX: usize = 64 << 10;
/// Bytes of an introduction's body: a padded letter, sealed.
pub const INTRODUCTION_BYTES_MAX: usize = LETTER_BYTES_MAX + 2 * PADDED_TO + 2048;
/// Letters are padded to a multiple of this, so that their length tells little about the terms.
pub const PADDED_TO: usize = 8 << 10;
/// How long an introducer holds what the recipient has not taken.
pub const HELD_FOR: Duration = Duration::from_secs(7 * 86_400);
/// Messages that one counterpart may have waiting at an introducer: a newcomer can join a whole network at once.
pub const WAITING_MAX: usize = 512;
/// Bytes of them.
pub const WAITING_BYTES_MAX: usize = 16 << 20;
/// Messages that may wait for one recipient, whoever they come from, so that nobody's store is filled by many.
pub const WAITING_FOR_MAX: usize = 1_024;
/// Messages of one counterpart that may wait for one recipient: twice its share, which begins anew at a restart.
pub const WAITING_BETWEEN_MAX: usize = 2 * SHARE as usize;
/// Messages that one counterpart may hand over per day.
pub const PER_DAY: u32 = 1_024;
/// Messages that one entity may have passed on to one other within [`HELD_FOR`]: a request, a proposal and what follows,
/// many times over. It is the same for a recipient that nobody knows here, so that it tells nothing.
pub const SHARE: u32 = 32;
/// Messages that one counterpart may try to hand over per day, those included that were to come later.
pub const TRIES_PER_DAY: u32 = 4 * PER_DAY;
/// Proposals and card requests that wait for the operator's decision, per introducer.
pub const UNDECIDED_MAX: usize = 256;
/// Of these, proposals of one entity.
pub const UNDECIDED_OF_ONE_MAX: usize = 8;
/// A message that is to come later is sent again after this time, then after twice as long, and so on.
pub const LATER_FIRST: Duration = Duration::from_secs(60);
/// The longest time between two tries.
pub const LATER_MAX: Duration = Duration::from_secs(4 * 3_600);
/// Messages under way on one lane that were not taken yet.
pub const UNDER_WAY_MAX: usize = 8;

/// How long a message that was put off `times` times waits before it is sent again.
pub fn later(times: u32) -> Duration {
    LATER_FIRST.saturating_mul(1 << times.saturating_sub(1).min(16)).min(LATER_MAX)
}

/// What is known where an introduction message arrives.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Who this is.
    pub own: EntityId,
    /// Whose lane it came on.
    pub counterpart: EntityId,
    /// Whether this node introduces others.
    pub passes_on: bool,
    /// Whether the counterpart's allowance of today is used up.
    pub too_many: bool,
    /// Whether there is an agreement in force with the recipient.
    pub knows_recipient: bool,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It is for this node: judge it.
    Keep,
    /// Hold it for its recipient.
    PassOn,
    /// Nothing; and tell the counterpart this.
    Answer(IntroductionFate),
}

/// Decides about a message that has arrived.
pub fn course(message: &Introduction, view: &View) -> Course {
    let Introduction { from, to, .. } = message;
    if view.too_many {
        return Course::Answer(IntroductionFate::Later);
    }
    let for_us = *to == view.own && *from != view.own && *from != view.counterpart;
    let to_pass_on = *from == view.counterpart && *to != view.own && *to != *from;
    match (for_us, to_pass_on) {
        _ if bytes(message) > INTRODUCTION_BYTES_MAX => Course::Answer(IntroductionFate::Taken),
        (true, _) => Course::Keep,
        (_, true) if !view.passes_on => Course::Answer(IntroductionFate::NotPassedOn),
        (_, true) if view.knows_recipient => Course::PassOn,
        // Whom this node does not know it does not tell.
        _ => Course::Answer(IntroductionFate::Taken),
    }
}

/// Pairs of entities whose shares are remembered; what one day's allowances add to them in [`HELD_FOR`].
const SHARES_MAX: usize = 8 * PER_DAY as usize;

/// What one counterpart may hand over: in all, and for each pair of sender and recipient.
///
/// **Invariant:** one pair never uses up what others have, and what was put off costs a try and nothing else.
#[derive(Debug, Clone)]
pub struct Allowance {
    tries: Quota,
    all: Quota,
    shares: HashMap<EntityId, Quota>,
}

impl Default for Allowance {
    fn default() -> Allowance {
        let day = Duration::from_secs(86_400);
        Allowance { tries: Quota::new(TRIES_PER_DAY, day), all: Quota::new(PER_DAY, day), shares: HashMap::new() }
    }
}

impl Allowance {
    /// Takes one for a message whose other end is `other`: whom it is for where it is passed on, whom it is from where it
    /// ends.
    pub fn take(&mut self, other: &EntityId, now: Time) -> bool {
        if !self.tries.take(now) || !self.all.take(now) {
            return false;
        }
        if self.shares.len() >= SHARES_MAX {
            self.shares.retain(|_, share| !share.is_whole(now));
        }
        let has_room = self.shares.len() < SHARES_MAX || self.shares.contains_key(other);
        let taken = has_room && self.shares.entry(*other).or_insert_with(|| Quota::new(SHARE, HELD_FOR)).take(now);
        if !taken {
            self.all.give_back();
        }
        taken
    }

    /// What was taken led to nothing: the message is to come later.
    pub fn give_back(&mut self, other: &EntityId) {
        self.all.give_back();
        if let Some(share) = self.shares.get_mut(other) {
            share.give_back();
        }
    }
}

/// Bytes of what a message says.
pub fn bytes(message: &Introduction) -> usize {
    match &message.body {
        IntroductionBody::CardRequest(card) | IntroductionBody::Card(card) => {
            card.body().len() + card.signatures().iter().map(|signature| signature.bytes.len()).sum::<usize>()
        }
        IntroductionBody::Letter(wrapped) => wrapped.encapsulation.len() + wrapped.ciphertext.len(),
    }
}

/// What only the recipient reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Letter {
    /// Codec bytes of an agreement file that the sender's root has signed.
    Proposal(Vec<u8>),
    /// Codec bytes of the same, countersigned.
    Agreement(Vec<u8>),
    /// The sender does not want the agreement.
    Declined(Signed<Decline>),
}

/// Why a letter is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// It was sealed to another key or for other parties, or changed.
    #[error("the letter does not open")]
    Sealed,
    /// It opens, and is no letter.
    #[error("the letter cannot be read")]
    Malformed,
    /// It is longer than a letter may be.
    #[error("the letter is too long to be passed on")]
    TooLong,
}

impl Letter {
    /// Seals the letter for the owner of `contact`.
    ///
    /// # Errors
    /// [`LetterError::TooLong`].
    pub fn seal(
        &self,
        id: &IntroductionId,
        from: &EntityId,
        (to, contact): (&EntityId, &ContactPublic),
        rng: &mut impl CryptoRng,
    ) -> Result<Wrapped, LetterError> {
        let letter = codec::encode(1, self);
        if letter.len() > LETTER_BYTES_MAX + 64 {
            return Err(LetterError::TooLong);
        }
        let length = u32::try_from(letter.len()).map_err(|_| LetterError::TooLong)?;
        let mut padded = [&length.to_be_bytes(), letter.as_slice()].concat();
        padded.resize(padded.len().next_multiple_of(PADDED_TO), 0);
        Ok(contact.wrap(&info(id, from, to), &padded, rng))
    }

    /// Opens a letter with the recipient's contact key.
    ///
    /// # Errors
    /// [`LetterError::Sealed`] or [`LetterError::Malformed`].
    pub fn open(
        wrapped: &Wrapped,
        id: &IntroductionId,
        from: &EntityId,
        (to, contact): (&EntityId, &ContactKey),
    ) -> Result<Letter, LetterError> {
        let padded = contact.unwrap(&info(id, from, to), wrapped).map_err(|_| LetterError::Sealed)?;
        let (length, rest) = padded.split_first_chunk::<4>().ok_or(LetterError::Malformed)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| LetterError::Malformed)?;
        let (letter, padding) = rest.split_at_checked(length).ok_or(LetterError::Malformed)?;
        let canonical =
            padded.len() == (length + 4).next_multiple_of(PADDED_TO) && padding.iter().all(|byte| *byte == 0);
        if !canonical {
            return Err(LetterError::Malformed);
        }
        codec::decode(1, letter, LETTER_BYTES_MAX + 64).map_err(|_| LetterError::Malformed)
    }
}

/// HPKE info: the domain string, then the fields in order.
fn info(id: &IntroductionId, from: &EntityId, to: &EntityId) -> Vec<u8> {
    [b"pakt introduction v1".as_slice(), id, &from.0, &to.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    fn sealed(letter: &Letter, a: &Party, b: &Party) -> Wrapped {
        let to = (&b.entity(), &b.contact.public());
        letter.seal(&[1; 16], &a.entity(), to, &mut UnwrapErr(SysRng)).expect("short enough")
    }

    #[test]
    fn a_letter_opens_for_its_recipient_under_its_own_names_only() {
        let (a, b, c) = (Party::new(1), Party::new(2), Party::new(3));
        let letter = Letter::Proposal(b"terms".to_vec());
        let wrapped = sealed(&letter, &a, &b);
        let open = |id: u8, from: &Party, to: &Party, by: &Party| {
            Letter::open(&wrapped, &[id; 16], &from.entity(), (&to.entity(), &by.contact))
        };
        assert_eq!(open(1, &a, &b, &b), Ok(letter));
        for closed in [open(2, &a, &b, &b), open(1, &c, &b, &b), open(1, &a, &c, &b), open(1, &a, &b, &c)] {
            assert_eq!(closed, Err(LetterError::Sealed));
        }
    }

    #[test]
    fn the_length_of_a_letter_tells_little() {
        let (a, b) = (Party::new(1), Party::new(2));
        let bytes = |length: usize| sealed(&Letter::Proposal(vec![7; length]), &a, &b).ciphertext.len();
        assert_eq!(bytes(0), bytes(8_000));
        assert_eq!(bytes(9_000), bytes(16_000));
        let longest = Letter::Proposal(vec![7; LETTER_BYTES_MAX]);
        let body = IntroductionBody::Letter(sealed(&longest, &a, &b));
        let message = Introduction { id: [1; 16], from: a.entity(), to: b.entity(), body };
        assert!(super::bytes(&message) <= INTRODUCTION_BYTES_MAX);
        let to = (&b.entity(), &b.contact.public());
        let longer = Letter::Proposal(vec![7; LETTER_BYTES_MAX + 100]);
        assert_eq!(longer.seal(&[1; 16], &a.entity(), to, &mut UnwrapErr(SysRng)), Err(LetterError::TooLong));
    }

    #[test]
    fn only_what_is_said_in_the_own_name_is_passed_on_and_only_to_those_known() {
        let [a, b, s, x] = [1, 2, 3, 4].map(|seed| Party::new(seed).entity());
        let (taken, later) = (Course::Answer(IntroductionFate::Taken), Course::Answer(IntroductionFate::Later));
        let card = Party::new(1).card_body().sign(&Party::new(1).statement).expect("valid");
        let at_s = View { own: s, counterpart: a, passes_on: true, too_many: false, knows_recipient: true };
        let check = |from: EntityId, to: EntityId, view: View, expected: Course| {
            let body = IntroductionBody::CardRequest(card.clone());
            assert_eq!(course(&Introduction { id: [1; 16], from, to, body }, &view), expected);
        };
        check(a, b, at_s, Course::PassOn);
        check(a, b, View { knows_recipient: false, ..at_s }, taken);
        check(a, b, View { passes_on: false, ..at_s }, Course::Answer(IntroductionFate::NotPassedOn));
        check(a, b, View { too_many: true, ..at_s }, later);
        check(x, b, at_s, taken);
        check(a, s, at_s, taken);
        check(a, a, at_s, taken);
        let at_b = View { own: b, counterpart: s, passes_on: false, too_many: false, knows_recipient: false };
        check(a, b, at_b, Course::Keep);
        check(b, b, at_b, taken);
        check(s, b, at_b, taken);
        check(a, b, View { too_many: true, ..at_b }, later);
    }

    #[test]
    fn what_is_too_long_is_dropped() {
        let (a, b, s) = (Party::new(1), Party::new(2), Party::new(3));
        let huge = Wrapped { encapsulation: vec![0; 1120], ciphertext: vec![0; INTRODUCTION_BYTES_MAX] };
        let body = IntroductionBody::Letter(huge);
        let message = Introduction { id: [1; 16], from: a.entity(), to: b.entity(), body };
        let view =
            View { own: s.entity(), counterpart: a.entity(), passes_on: true, too_many: false, knows_recipient: true };
        assert_eq!(course(&message, &view), Course::Answer(IntroductionFate::Taken));
    }

    #[test]
    fn one_pair_never_uses_up_what_others_have() {
        let (a, b) = (EntityId([1; 32]), EntityId([2; 32]));
        let mut allowance = Allowance::default();
        let now = Time::from_seconds(100);
        let taken = |allowance: &mut Allowance, other: &EntityId, tries: u32| {
            (0..tries).filter(|_| allowance.take(other, now)).count() as u32
        };
        assert_eq!(taken(&mut allowance, &a, PER_DAY), SHARE);
        assert_eq!(taken(&mut allowance, &b, PER_DAY), SHARE, "the other pair has all of its own");
        let other = |at: u32| EntityId(*blake3::hash(&at.to_be_bytes()).as_bytes());
        let of_all = (0..2 * PER_DAY).filter(|at| allowance.take(&other(*at), now)).count() as u32;
        assert_eq!(of_all, PER_DAY - 2 * SHARE, "and all of them together what is allowed in a day");
        assert!(allowance.take(&other(PER_DAY), now + Duration::from_secs(86_400)), "there is more on the next day");
    }

    #[test]
    fn what_is_put_off_costs_a_try_and_nothing_else() {
        let a = EntityId([1; 32]);
        let mut allowance = Allowance::default();
        let now = Time::from_seconds(100);
        let mut tries = 0;
        while allowance.take(&a, now) {
            allowance.give_back(&a);
            tries += 1;
        }
        assert_eq!(tries, TRIES_PER_DAY, "the share is never used up, but trying has an end");
    }

    #[test]
    fn what_is_put_off_comes_ever_more_rarely() {
        let seconds: Vec<u64> = [1, 2, 3, 8, 9, 10, u32::MAX].into_iter().map(|times| later(times).as_secs()).collect();
        assert_eq!(seconds, [60, 120, 240, 7_680, 14_400, 14_400, 14_400]);
        // All that one counterpart may have waiting is tried less often than it may try.
        assert!(WAITING_MAX as u64 * (86_400 / LATER_MAX.as_secs()) < u64::from(TRIES_PER_DAY));
    }
}
