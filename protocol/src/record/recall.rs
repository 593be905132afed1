//! Recall requests: a sender asks for an envelope that has left to be purged.

use pakt_keys::EntityId;
use pakt_keys::signing::{Domain, StatementKey};
use serde::{Deserialize, Serialize};

use super::chain::CertifiedNode;
use super::{Record, RecordError, Signed};
use crate::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use crate::time::Time;

/// What a sender asks for; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecallRequest {
    /// Who sent the envelope and asks.
    pub sender: EntityId,
    /// Who is asked.
    pub recipient: EntityId,
    /// The agreement that it travelled under.
    pub agreement: AgreementId,
    /// The message.
    pub message: MessageId,
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Its core.
    pub core: CoreHash,
    /// When it was asked for, by the sender's clock.
    pub at: Time,
}

impl Record for RecallRequest {
    const DOMAIN: Domain = Domain::Recall;
    const BYTES_MAX: usize = 512;
}

impl RecallRequest {
    /// Signs the request.
    pub fn sign(&self, key: &StatementKey) -> Signed<RecallRequest> {
        Signed::create(self, |domain, bytes| key.sign(domain, bytes))
    }
}

/// Checks a counterpart's request: who signed it, whom it asks, under which agreement.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify(
    signed: &Signed<RecallRequest>,
    agreement: &AgreementId,
    node: &CertifiedNode,
    recipient: &EntityId,
) -> Result<RecallRequest, RecordError> {
    let request = node.open_statement(signed)?;
    if request.sender != node.entity || request.recipient != *recipient || request.agreement != *agreement {
        return Err(RecordError::Parties("the recall is between other parties or under another agreement"));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    fn check(edit: impl FnOnce(&mut RecallRequest), by: &Party, accepted: bool) {
        let (a, b) = (Party::new(1), Party::new(2));
        let mut request = RecallRequest {
            sender: a.entity(),
            recipient: b.entity(),
            agreement: AgreementId([4; 32]),
            message: MessageId([5; 16]),
            envelope: EnvelopeId([6; 16]),
            core: CoreHash([7; 32]),
            at: Time(8),
        };
        edit(&mut request);
        let node = a.chain.verify().expect("valid");
        let verified = verify(&request.sign(&by.statement), &AgreementId([4; 32]), &node, &b.entity());
        assert_eq!(verified.is_ok(), accepted, "{request:?}");
    }

    #[test]
    fn p4_only_the_sender_recalls_and_only_from_the_recipient() {
        let (a, b, c) = (Party::new(1), Party::new(2), Party::new(3));
        check(|_| {}, &a, true);
        check(|_| {}, &b, false);
        check(|request| request.sender = c.entity(), &a, false);
        check(|request| request.recipient = c.entity(), &a, false);
        check(|request| request.agreement = AgreementId([5; 32]), &a, false);
    }
}
