//! One-sided statements about an agreement: numbered and hash-chained per party.

use pakt_keys::EntityId;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::{Record, RecordError, Signed};
use crate::ids::AgreementId;
use crate::record::chain::CertifiedNode;
use crate::time::Time;

/// What a party states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The agreement is over; signed by the root.
    End,
}

/// A statement of one party; [`Action::End`] is signed by its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementStatement {
    /// The agreement that it is about.
    pub agreement: AgreementId,
    /// Who states it.
    pub party: EntityId,
    /// 1 for the party's first statement about this agreement.
    pub number: u64,
    /// Hash of the party's statement before; none for the first.
    pub previous: Option<[u8; 32]>,
    /// What is stated.
    pub action: Action,
    /// When it was made, for people.
    pub at: Time,
}

impl Record for AgreementStatement {
    const DOMAIN: Domain = Domain::AgreementStatement;
    const BYTES_MAX: usize = 512;
}

/// Checks a counterpart's statement against its certified node.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify(
    signed: &Signed<AgreementStatement>,
    agreement: &AgreementId,
    node: &CertifiedNode,
) -> Result<AgreementStatement, RecordError> {
    let statement = signed.verify(|domain, bytes, signatures| node.root.verify(domain, bytes, signatures))?;
    if statement.agreement != *agreement || statement.party != node.entity {
        return Err(RecordError::Parties("the statement is about another agreement or by another party"));
    }
    if statement.number != 1 || statement.previous.is_some() {
        return Err(RecordError::Field("an end is a party's first and only statement"));
    }
    Ok(statement)
}
