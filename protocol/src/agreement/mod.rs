//! The life of one agreement, as one side sees it: how far it is, what it allows at a point in time, and what statements
//! and later versions of the terms make of it.
//!
//! ```text
//! Proposed (ours, waits for the countersignature) --contact or import--> Active --an end of either side--> Ended
//!          (theirs) --accept--------------------------------------------^  ^ |
//!                                                          later versions \-+
//! ```
//! That an agreement is suspended follows from the statements of both, and that it is past its time from the terms and the
//! clock: neither is stored. Start with [`AgreementView`] for what is allowed, with [`Life`] for what changes.
//!
//! **Invariant:** nothing here leaves this side before its owner has made the [`Life`] durable that it speaks of.

mod amend;
mod life;
mod statements;
#[cfg(test)]
mod tests;
mod view;

use serde::{Deserialize, Serialize};

pub use amend::{AmendmentAnswer, VERSIONS_AHEAD_MAX};
pub use life::{Change, Life, LifeError, Note};
pub use statements::{Own, StatementAnswer, Statements, Told};
pub use view::{AgreementView, CLOSED_AGAIN, END_OPEN_FOR, Traffic};

/// How far an agreement is, whatever the clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standing {
    /// Proposed by this side; the countersignature is awaited.
    Proposed,
    /// Ended by one side.
    Ended,
    /// Signed by both.
    Active,
}
