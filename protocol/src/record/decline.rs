//! A signed "no" to a proposal that came through an introducer, so that the introducer cannot say it for anyone.

use pakt_keys::EntityId;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::chain::CertifiedNode;
use super::{Record, RecordError, Signed};
use crate::ids::AgreementId;
use crate::time::Time;

/// The acceptor does not want this agreement; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The proposed agreement.
    pub agreement: AgreementId,
    /// Who proposed it.
    pub proposer: EntityId,
    /// Who declines it.
    pub decliner: EntityId,
    /// When, for people.
    pub at: Time,
}

impl Record for Decline {
    const DOMAIN: Domain = Domain::Decline;
    const BYTES_MAX: usize = 256;
}

/// Checks a "no" against the node that the proposal was made to.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify(
    signed: &Signed<Decline>,
    agreement: &AgreementId,
    proposer: &EntityId,
    node: &CertifiedNode,
) -> Result<Decline, RecordError> {
    let decline = node.open_statement(signed)?;
    if decline.agreement != *agreement || decline.proposer != *proposer || decline.decliner != node.entity {
        return Err(RecordError::Parties("the answer is about another proposal"));
    }
    Ok(decline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    #[test]
    fn p4_only_the_entity_itself_declines_its_own_proposal() {
        let (a, b, c) = (Party::new(1), Party::new(2), Party::new(3));
        let id = AgreementId([1; 32]);
        let good = Decline { agreement: id, proposer: a.entity(), decliner: b.entity(), at: Time(1) };
        let node = b.chain.verify().expect("valid");
        let check = |decline: &Decline, by: &Party| {
            let signed = Signed::create(decline, |domain, bytes| by.statement.sign(domain, bytes));
            verify(&signed, &id, &a.entity(), &node).is_ok()
        };
        assert!(check(&good, &b));
        assert!(!check(&good, &c), "the introducer's signature");
        assert!(!check(&Decline { agreement: AgreementId([2; 32]), ..good.clone() }, &b));
        assert!(!check(&Decline { proposer: c.entity(), ..good.clone() }, &b));
        assert!(!check(&Decline { decliner: c.entity(), ..good }, &b));
    }
}
