//! Reconciliation: what a sender states that it has sent under an agreement, and what the receiver states that it holds.
//!
//! Every envelope of an agreement has a number, from 1 on, in its signed core. Two statements about the same range of
//! numbers show whether anything was lost, and which.

use pakt_keys::EntityId;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::{Record, RecordError, Signed};
use crate::ids::{AgreementId, EnvelopeId};
use crate::reconcile::ranges::Ranges;
use crate::record::chain::CertifiedNode;
use crate::time::Time;

/// What a sender states about a range of its numbers; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentStatement {
    /// Who has sent.
    pub entity: EntityId,
    /// Who is told.
    pub reader: EntityId,
    /// The agreement between them.
    pub agreement: AgreementId,
    /// The round that this belongs to; grows.
    pub round: u64,
    /// When it was made, by the sender's clock.
    pub at: Time,
    /// The highest number that any envelope has, 0 before the first.
    pub given: u64,
    /// The first number that this is about.
    pub first: u64,
    /// The last one, included; all of `u64` if this is the end.
    pub last: u64,
    /// Envelopes whose receipt the sender holds: the receiver has them.
    pub delivered: Ranges,
    /// Envelopes that are under way, and those that the receiver has sent back or purged: it may have had them.
    pub open: Ranges,
    /// Envelopes with a receipt that the receiver's own restore explains the loss of: it may have them.
    pub excused: Ranges,
    /// Numbers that the sender may have given and forgot when it was restored: the receiver may have them.
    pub forgotten: Ranges,
}

/// What a receiver states that it holds; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatement {
    /// Who has received.
    pub entity: EntityId,
    /// Who is told.
    pub reader: EntityId,
    /// The agreement between them.
    pub agreement: AgreementId,
    /// Hash of the statement that this answers.
    pub statement: [u8; 32],
    /// When it was made, by the receiver's clock.
    pub at: Time,
    /// The first number that this is about, as asked.
    pub first: u64,
    /// The last one, included: as asked, or lower.
    pub last: u64,
    /// Envelopes that the receiver has given a receipt for.
    pub held: Ranges,
    /// Envelopes that it holds and the sender does not state, and those whose number came with another envelope too, at
    /// most [`NAMED_MAX`].
    pub named: Vec<(u64, EnvelopeId)>,
}

/// Envelopes that one message names, at most.
pub const NAMED_MAX: usize = 256;

impl Record for SentStatement {
    const DOMAIN: Domain = Domain::SentStatement;
    const BYTES_MAX: usize = 80 << 10;
}

impl Record for HeldStatement {
    const DOMAIN: Domain = Domain::HeldStatement;
    const BYTES_MAX: usize = 32 << 10;
}

/// The hash by which a [`HeldStatement`] names what it answers.
pub fn hash_of(signed: &Signed<SentStatement>) -> [u8; 32] {
    blake3::derive_key("pakt sent statement v1", signed.body())
}

/// Checks what a counterpart states that it has sent to `reader`.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify_sent(
    signed: &Signed<SentStatement>,
    agreement: &AgreementId,
    node: &CertifiedNode,
    reader: &EntityId,
) -> Result<SentStatement, RecordError> {
    let body = node.open_statement(signed)?;
    parties((body.entity, body.reader, body.agreement), (node.entity, *reader, *agreement))?;
    let sets = [&body.delivered, &body.open, &body.excused, &body.forgotten];
    within((body.first, body.last), &sets)?;
    if body.round == 0 || [&body.delivered, &body.open].iter().any(|set| set.highest() > Some(body.given)) {
        return Err(RecordError::Field("a round or a number that was never given"));
    }
    Ok(body)
}

/// Checks what a counterpart states that it holds of what `reader` stated.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify_held(
    signed: &Signed<HeldStatement>,
    asked: &Signed<SentStatement>,
    node: &CertifiedNode,
) -> Result<HeldStatement, RecordError> {
    let (body, sent) = (node.open_statement(signed)?, asked.peek()?);
    parties((body.entity, body.reader, body.agreement), (node.entity, sent.entity, sent.agreement))?;
    within((body.first, body.last), &[&body.held])?;
    if body.statement != hash_of(asked) || body.first != sent.first || body.last > sent.last {
        return Err(RecordError::Field("it answers another statement"));
    }
    let outside = |number: &u64| *number < body.first || *number > body.last;
    if body.named.len() > NAMED_MAX || body.named.iter().any(|(number, _)| outside(number)) {
        return Err(RecordError::Field("it names what it is not about"));
    }
    Ok(body)
}

type Parties = (EntityId, EntityId, AgreementId);

fn parties(said: Parties, expected: Parties) -> Result<(), RecordError> {
    if said == expected {
        return Ok(());
    }
    Err(RecordError::Parties("the statement is about other parties or another agreement"))
}

fn within((first, last): (u64, u64), sets: &[&Ranges]) -> Result<(), RecordError> {
    let outside = |set: &&Ranges| set.iter().any(|(a, b)| a < first || b > last);
    if first == 0 || first > last || sets.iter().any(outside) {
        return Err(RecordError::Field("the ranges are not within what the statement is about"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    fn sent(a: &Party, b: &Party) -> SentStatement {
        SentStatement {
            entity: a.entity(),
            reader: b.entity(),
            agreement: AgreementId([4; 32]),
            round: 9,
            at: Time(5),
            given: 20,
            first: 1,
            last: 30,
            delivered: Ranges::of(1, 10),
            open: Ranges::of(12, 20),
            excused: Ranges::default(),
            forgotten: Ranges::of(25, 30),
        }
    }

    fn by<T: Record>(party: &Party, body: &T) -> Signed<T> {
        Signed::create(body, |domain, bytes| party.statement.sign(domain, bytes))
    }

    #[test]
    fn p4_a_statement_of_what_was_sent_is_bound_to_its_parties() {
        let (a, b) = (Party::new(1), Party::new(2));
        let node = a.chain.verify().expect("valid");
        let check = |edit: fn(&mut SentStatement), signer: &Party, accepted: bool| {
            let mut body = sent(&a, &b);
            edit(&mut body);
            let verified = verify_sent(&by(signer, &body), &AgreementId([4; 32]), &node, &b.entity());
            assert_eq!(verified.is_ok(), accepted, "{body:?}");
        };
        check(|_| {}, &a, true);
        check(|_| {}, &b, false);
        check(|body| body.agreement = AgreementId([5; 32]), &a, false);
        check(|body| std::mem::swap(&mut body.entity, &mut body.reader), &a, false);
        check(|body| body.round = 0, &a, false);
        check(|body| body.first = 0, &a, false);
        check(|body| body.first = 2, &a, false);
        check(|body| body.last = 29, &a, false);
        check(|body| (body.first, body.last) = (31, 30), &a, false);
        check(|body| body.given = 19, &a, false);
    }

    #[test]
    fn p4_an_answer_is_bound_to_what_it_answers() {
        let (a, b) = (Party::new(1), Party::new(2));
        let asked = by(&a, &sent(&a, &b));
        let node = b.chain.verify().expect("valid");
        let check = |edit: fn(&mut HeldStatement), signer: &Party, accepted: bool| {
            let mut body = HeldStatement {
                entity: b.entity(),
                reader: a.entity(),
                agreement: AgreementId([4; 32]),
                statement: hash_of(&asked),
                at: Time(6),
                first: 1,
                last: 30,
                held: Ranges::of(1, 10),
                named: vec![(21, EnvelopeId([7; 16]))],
            };
            edit(&mut body);
            assert_eq!(verify_held(&by(signer, &body), &asked, &node).is_ok(), accepted, "{body:?}");
        };
        check(|_| {}, &b, true);
        check(|body| body.last = 22, &b, true);
        check(|_| {}, &a, false);
        check(|body| body.statement[0] ^= 1, &b, false);
        check(|body| body.agreement = AgreementId([5; 32]), &b, false);
        check(|body| body.reader = body.entity, &b, false);
        check(|body| body.last = 31, &b, false);
        check(|body| (body.first, body.held) = (2, Ranges::of(2, 10)), &b, false);
        check(|body| body.held = Ranges::of(1, 31), &b, false);
        check(|body| body.named = vec![(31, EnvelopeId([7; 16]))], &b, false);
        check(|body| body.named = vec![(3, EnvelopeId([7; 16])); NAMED_MAX + 1], &b, false);
    }
}
