//! Attestations: what a receiver's running node shows for the controls that an agreement asks for.

use pakt_keys::EntityId;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::chain::CertifiedNode;
use super::{Record, RecordError, Signed, check_text};
use crate::controls::{Attested, Control, EVIDENCE_BYTES_MAX, Evidence};
use crate::ids::AgreementId;
use crate::time::Time;

/// What a node states about its controls to one counterpart; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Whose controls these are.
    pub issuer: EntityId,
    /// Whom it is said to.
    pub reader: EntityId,
    /// The agreement that asks for them.
    pub agreement: AgreementId,
    /// A later attestation has a higher number; an older one is refused.
    pub counter: u64,
    /// When it was made, by the issuer's clock: for people, nobody decides by it.
    pub at: Time,
    /// Every control there is, in order, with what there is to show.
    pub controls: Vec<Attested>,
}

impl Record for Attestation {
    const DOMAIN: Domain = Domain::Attestation;
    const BYTES_MAX: usize = 4 << 10;
}

impl Attestation {
    /// Checks the fields by themselves.
    ///
    /// # Errors
    /// [`RecordError::Field`].
    pub fn check(&self) -> Result<(), RecordError> {
        if self.controls.len() > Control::ALL.len()
            || !self.controls.windows(2).all(|two| two[0].control < two[1].control)
        {
            return Err(RecordError::Field("an attestation names each control once, in order"));
        }
        self.controls.iter().try_for_each(|one| match &one.evidence {
            Evidence::On(line) if line.is_empty() => Err(RecordError::Field("evidence must not be empty")),
            Evidence::On(line) => {
                check_text(line, EVIDENCE_BYTES_MAX, "evidence has at most 200 bytes and no control characters")
            }
            Evidence::None | Evidence::KeptFor(_) => Ok(()),
        })
    }
}

/// Checks a counterpart's attestation: its signature, and that it is said by `issuer` to `reader` under `agreement`.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify(
    signed: &Signed<Attestation>,
    agreement: &AgreementId,
    issuer: &CertifiedNode,
    reader: &EntityId,
) -> Result<Attestation, RecordError> {
    let attestation = issuer.open_statement(signed)?;
    if attestation.issuer != issuer.entity || attestation.reader != *reader || attestation.agreement != *agreement {
        return Err(RecordError::Parties("the attestation is for other parties"));
    }
    attestation.check()?;
    Ok(attestation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    fn attestation(a: &Party, b: &Party) -> Attestation {
        let controls = vec![
            Attested { control: Control::MalwareScan, evidence: Evidence::None },
            Attested { control: Control::Retention, evidence: Evidence::KeptFor(None) },
        ];
        let agreement = AgreementId([3; 32]);
        Attestation { issuer: a.entity(), reader: b.entity(), agreement, counter: 1, at: Time(1), controls }
    }

    #[test]
    fn another_party_agreement_key_or_order_is_refused() {
        let (a, b, c) = (Party::new(1), Party::new(2), Party::new(3));
        let id = AgreementId([3; 32]);
        let node = a.chain.verify().expect("valid");
        let sign =
            |by: &Party, value: &Attestation| Signed::create(value, |domain, bytes| by.statement.sign(domain, bytes));
        let good = attestation(&a, &b);
        assert_eq!(verify(&sign(&a, &good), &id, &node, &b.entity()), Ok(good.clone()));
        assert!(matches!(verify(&sign(&c, &good), &id, &node, &b.entity()), Err(RecordError::Signature(_))));
        let other = AgreementId([4; 32]);
        assert!(matches!(verify(&sign(&a, &good), &other, &node, &b.entity()), Err(RecordError::Parties(_))));
        assert!(matches!(verify(&sign(&a, &good), &id, &node, &c.entity()), Err(RecordError::Parties(_))));
        let foreign = attestation(&c, &b);
        assert!(matches!(verify(&sign(&a, &foreign), &id, &node, &b.entity()), Err(RecordError::Parties(_))));
        let mut twice = good.clone();
        twice.controls[1] = twice.controls[0].clone();
        let mut long = good;
        long.controls[0].evidence = Evidence::On("x".repeat(EVIDENCE_BYTES_MAX + 1));
        for bad in [twice, long] {
            assert!(matches!(verify(&sign(&a, &bad), &id, &node, &b.entity()), Err(RecordError::Field(_))));
        }
    }
}
