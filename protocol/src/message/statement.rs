//! A party's one-sided statement about the agreement.

use serde::{Deserialize, Serialize};

use crate::record::Signed;
use crate::record::statement::AgreementStatement;

/// A signed statement; repeated at every session until the counterpart shows that it knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// The statement.
    pub statement: Signed<AgreementStatement>,
    /// Whether the sender already holds the receiver's knowledge of it: false asks for an echo.
    pub known: bool,
}
