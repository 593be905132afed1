//! Restore notices: an entity tells a counterpart that it lost what came between its backup and its restore.

use pakt_keys::EntityId;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::{Record, RecordError, Signed};
use crate::ids::AgreementId;
use crate::record::chain::CertifiedNode;
use crate::time::Time;

/// What a restored entity states to one counterpart; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreNotice {
    /// Who was restored.
    pub entity: EntityId,
    /// Who is told.
    pub reader: EntityId,
    /// The agreement between them.
    pub agreement: AgreementId,
    /// Grows with every restore: the larger of the last one plus one and the microseconds of the restore, so that two
    /// restores of one backup differ.
    pub generation: u64,
    /// Drawn at the restore, so that two machines restored at the same moment differ.
    pub nonce: [u8; 32],
    /// When the backup was made, by the restored entity's clock.
    pub backup_at: Time,
    /// When it was restored, by the restored entity's clock.
    pub restored_at: Time,
}

impl Record for RestoreNotice {
    const DOMAIN: Domain = Domain::RestoreNotice;
    const BYTES_MAX: usize = 512;
}

/// Checks a counterpart's notice: who signed it, for whom, under which agreement.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify(
    signed: &Signed<RestoreNotice>,
    agreement: &AgreementId,
    node: &CertifiedNode,
    reader: &EntityId,
) -> Result<RestoreNotice, RecordError> {
    let notice = node.open_statement(signed)?;
    if notice.entity != node.entity || notice.reader != *reader || notice.agreement != *agreement {
        return Err(RecordError::Parties("the restore notice is about other parties or another agreement"));
    }
    if notice.generation == 0 || notice.backup_at > notice.restored_at {
        return Err(RecordError::Field("a restore comes after the backup and has a number above 0"));
    }
    Ok(notice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    fn check(edit: impl FnOnce(&mut RestoreNotice), by: &Party, accepted: bool) {
        let (a, b) = (Party::new(1), Party::new(2));
        let mut notice = RestoreNotice {
            entity: a.entity(),
            reader: b.entity(),
            agreement: AgreementId([4; 32]),
            generation: 9,
            nonce: [5; 32],
            backup_at: Time(6),
            restored_at: Time(7),
        };
        edit(&mut notice);
        let signed = Signed::create(&notice, |domain, bytes| by.statement.sign(domain, bytes));
        let node = a.chain.verify().expect("valid");
        let verified = verify(&signed, &AgreementId([4; 32]), &node, &b.entity());
        assert_eq!(verified.is_ok(), accepted, "{notice:?}");
    }

    #[test]
    fn p4_a_notice_is_bound_to_its_parties_and_agreement() {
        let (a, b) = (Party::new(1), Party::new(2));
        check(|_| {}, &a, true);
        check(|_| {}, &b, false);
        check(|notice| notice.entity = b.entity(), &a, false);
        check(|notice| notice.reader = a.entity(), &a, false);
        check(|notice| notice.agreement = AgreementId([5; 32]), &a, false);
        check(|notice| notice.generation = 0, &a, false);
        check(|notice| notice.backup_at = Time(8), &a, false);
    }
}
