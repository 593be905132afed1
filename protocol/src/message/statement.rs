//! A party's one-sided statements about the agreement.

use pakt_keys::EntityId;
use serde::{Deserialize, Serialize};

use crate::record::Signed;
use crate::record::statement::AgreementStatement;

/// A signed statement. Each side shows its own newest one when a session starts and when it makes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// The statement.
    pub statement: Signed<AgreementStatement>,
    /// Whether this says that its sender holds the receiver's statement; false asks for that.
    pub known: bool,
}

/// Asks for statements: one was shown that does not follow the newest one known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantStatements {
    /// Whose statements.
    pub party: EntityId,
    /// All with a higher number than this, in order.
    pub after: u64,
}
