//! What a store keeps about its backups and restores.

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::record::restored::RestoreNotice;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

/// The last backup that somebody said was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptRow {
    /// The moment that it shows.
    pub(crate) made_at: Time,
    /// When it was durable where it went.
    pub(crate) kept_at: Time,
    /// Its length in bytes.
    pub(crate) bytes: u64,
}

/// Where the ledger of purges lies and how far it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LedgerRow {
    /// Its path.
    pub(crate) path: String,
    /// Its entries, at least.
    pub(crate) entries: u64,
}

/// That this store came out of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoredRow {
    /// When the backup was made.
    pub(crate) backup_at: Time,
    /// When it was restored.
    pub(crate) restored_at: Time,
    /// Grows with every restore.
    pub(crate) generation: u64,
    /// Drawn at the restore.
    pub(crate) nonce: [u8; 32],
    /// Whether the first start has done what it must.
    pub(crate) settled: bool,
    /// Whether the counterparts get new door grants.
    pub(crate) grants_renewed: bool,
}

/// That a counterpart came out of a backup, and what it lost of ours.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct GapRow {
    /// What it stated.
    pub(crate) notice: RestoreNotice,
    /// When this node learned it.
    pub(crate) learned_at: Time,
    /// Envelopes that it had receipted since its backup, newest first, at most [`GAP_ENVELOPES_MAX`].
    pub(crate) envelopes: Vec<EnvelopeId>,
    /// How many there are in all.
    pub(crate) count: u64,
    /// Whether somebody here has dealt with it.
    pub(crate) seen: bool,
    /// Whether the counterpart's audit log is known to go on, or to begin anew, after the restore.
    pub(crate) log_settled: bool,
}

/// Envelopes that one gap names.
pub(crate) const GAP_ENVELOPES_MAX: usize = 10_000;
