//! Comparisons as a file: what both sides of a pair have signed about it, which anyone verifies offline with two cards.
//!
//! **Invariant:** a file that passes shows what these two entities have signed, and nothing that only its bearer says.

use pakt_keys::codec;
use serde::{Deserialize, Serialize};

use super::card::Card;
use super::chain::CertificateChain;
use super::reconciliation::{HeldStatement, SentStatement, verify_held, verify_sent};
use super::{RecordError, Signed};
use crate::reconcile::{Findings, Restores, compare};

/// Comparisons that one file holds: for each direction the last one, and the last one that showed a gap.
pub const COMPARISONS_MAX: usize = 4;
/// Bytes of a file at most: what still fits into armour.
pub const FILE_BYTES_MAX: usize = 700 << 10;

/// Two statements about the same numbers, with the chains that certify who signed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the sender has signed.
    pub sent: Signed<SentStatement>,
    /// The sender's chain, as it was then.
    pub sender: CertificateChain,
    /// What the receiver has signed.
    pub held: Signed<HeldStatement>,
    /// The receiver's chain, as it was then.
    pub receiver: CertificateChain,
}

/// A comparison whose signatures and chains hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was sent.
    pub sent: SentStatement,
    /// What is held.
    pub held: HeldStatement,
    /// What that shows, if restores that the statements name have taken place: only the parties know whether.
    pub findings: Findings,
}

/// The bytes of a file.
pub fn file_bytes(comparisons: &[Comparison]) -> Vec<u8> {
    codec::encode(1, comparisons)
}

/// Reads a file whose signatures and chains hold; whose they are, only cards or an agreement say.
///
/// # Errors
/// Any [`RecordError`].
pub fn read(bytes: &[u8]) -> Result<Vec<Verified>, RecordError> {
    Ok(open(bytes)?.iter().map(|(_, verified)| verified.clone()).collect())
}

/// Checks a file offline: signatures, chains, that all is about one agreement, and that the two cards are its two parties
/// (in any order).
///
/// # Errors
/// Any [`RecordError`].
pub fn verify_offline(bytes: &[u8], cards: [&Card; 2]) -> Result<Vec<Verified>, RecordError> {
    let opened = open(bytes)?;
    for (comparison, verified) in &opened {
        let signers = [(verified.sent.entity, &comparison.sender), (verified.held.entity, &comparison.receiver)];
        for (entity, chain) in signers {
            let card = cards.into_iter().find(|card| card.node.entity == entity);
            let other = RecordError::Parties("the statements are between other entities than the two cards");
            if !card.ok_or(other)?.shares_roots(chain)? {
                return Err(RecordError::Parties("the roots of a statement's signer are not those of its card"));
            }
        }
    }
    Ok(opened.into_iter().map(|(_, verified)| verified).collect())
}

fn open(bytes: &[u8]) -> Result<Vec<(Comparison, Verified)>, RecordError> {
    let comparisons: Vec<Comparison> = codec::decode(1, bytes, FILE_BYTES_MAX)?;
    if comparisons.is_empty() || comparisons.len() > COMPARISONS_MAX {
        return Err(RecordError::Field("a file holds 1 to 4 comparisons"));
    }
    let agreement = comparisons[0].sent.peek()?.agreement;
    let mut opened = Vec::with_capacity(comparisons.len());
    for comparison in comparisons {
        let (sender, receiver) = (comparison.sender.verify()?, comparison.receiver.verify()?);
        let sent = verify_sent(&comparison.sent, &agreement, &sender, &receiver.entity)?;
        let held = verify_held(&comparison.held, &comparison.sent, &receiver)?;
        if sender.entity == receiver.entity {
            return Err(RecordError::Parties("both statements are signed by the same entity"));
        }
        let restores = Restores { sender: true, receiver: true };
        let findings = compare(&sent, (held.last, &held.held), restores);
        opened.push((comparison, Verified { sent, held, findings }));
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AgreementId;
    use crate::reconcile::ranges::Ranges;
    use crate::record::reconciliation::hash_of;
    use crate::record::tests::{Party, only_its_two_cards_verify};
    use crate::time::Time;

    /// 41 delivered, `held` of them held.
    fn comparison(from: &Party, to: &Party, agreement: u8, held: Ranges) -> Comparison {
        let agreement = AgreementId([agreement; 32]);
        let sent = SentStatement {
            entity: from.entity(),
            reader: to.entity(),
            agreement,
            round: 9,
            at: Time(5),
            given: 41,
            first: 1,
            last: u64::MAX,
            delivered: Ranges::of(1, 41),
            open: Ranges::default(),
            excused: Ranges::default(),
            forgotten: Ranges::default(),
        };
        let sent = Signed::create(&sent, |domain, bytes| from.statement.sign(domain, bytes));
        let held = HeldStatement {
            entity: to.entity(),
            reader: from.entity(),
            agreement,
            statement: hash_of(&sent),
            at: Time(6),
            first: 1,
            last: u64::MAX,
            held,
            named: vec![],
        };
        let held = Signed::create(&held, |domain, bytes| to.statement.sign(domain, bytes));
        Comparison { sent, sender: from.chain.clone(), held, receiver: to.chain.clone() }
    }

    #[test]
    fn both_directions_are_verified_with_two_cards_only() {
        let (a, b, c) = (Party::new(1), Party::new(2), Party::new(3));
        let all = [comparison(&a, &b, 4, Ranges::of(1, 41)), comparison(&b, &a, 4, Ranges::of(1, 40))];
        let bytes = file_bytes(&all);
        let (card_a, card_b, card_c) = (a.card(), b.card(), c.card());
        let verified = verify_offline(&bytes, [&card_b, &card_a]).expect("valid");
        assert_eq!(verified[0].findings, Findings::default());
        assert_eq!(verified[1].findings.lost, Ranges::of(41, 41));
        assert_eq!(read(&bytes), Ok(verified));
        only_its_two_cards_verify(&bytes, [&card_a, &card_b, &card_c], verify_offline);
    }

    #[test]
    fn p4_statements_that_do_not_belong_together_are_refused() {
        let (a, b) = (Party::new(1), Party::new(2));
        let (one, other) = (|| comparison(&a, &b, 4, Ranges::of(1, 41)), || comparison(&b, &a, 5, Ranges::of(1, 41)));
        let check = |all: Vec<Comparison>, accepted: bool| {
            assert_eq!(read(&file_bytes(&all)).is_ok(), accepted, "{all:?}");
        };
        check(vec![one()], true);
        check(vec![], false);
        check(vec![one(); COMPARISONS_MAX + 1], false);
        check(vec![one(), other()], false);
        check(vec![Comparison { held: comparison(&a, &b, 5, Ranges::of(1, 41)).held, ..one() }], false);
        check(vec![Comparison { sender: b.chain.clone(), ..one() }], false);
        check(vec![Comparison { receiver: a.chain.clone(), ..one() }], false);
        check(vec![comparison(&a, &a, 4, Ranges::of(1, 41))], false);
    }
}
