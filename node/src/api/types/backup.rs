//! Backups, and what counterparts lost that were restored from one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the node knows about its backups.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BackupState {
    /// The last one that was kept.
    pub last: Option<KeptBackup>,
    /// Bytes of content that one made now would hold, about.
    pub bytes_expected: u64,
    /// When this node itself came out of a backup.
    pub restored: Option<RestoredFrom>,
}

/// A backup that was written whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptBackup {
    /// The moment that it shows.
    pub made_at: String,
    /// When it was durable where it went.
    pub kept_at: String,
    /// Its length.
    pub bytes: u64,
}

/// The backup that this node came out of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoredFrom {
    /// When the backup was made.
    pub backup_at: String,
    /// When it was restored.
    pub restored_at: String,
    /// Grows with every restore.
    pub generation: u64,
}

/// The caller holds a backup durably.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BackupKept {
    /// The backup's id, from its head, in hexadecimal.
    pub id: String,
    /// Its length.
    pub bytes: u64,
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupSummary {
    /// Whose it is.
    pub entity: String,
    /// Version of the program that made it.
    pub program: String,
    /// The moment that it shows.
    pub made_at: String,
    /// 0 until a backup was restored.
    pub generation: u64,
    /// The number of the last commit that it shows.
    pub sequence: u64,
    /// Whether its keys are under a passphrase.
    pub protected: bool,
    /// Agreements.
    pub agreements: u64,
    /// Messages and reports that were received.
    pub received: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Keys of messages.
    pub keys: u64,
    /// Sealed objects.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Length of the file.
    pub bytes: u64,
    /// How much is missing.
    pub missing_count: u64,
    /// What is missing, at most 20 of it.
    pub missing: Vec<String>,
}

/// A counterpart that was restored from a backup, and what it lost of what this node had sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// The counterpart.
    pub entity: String,
    /// Its name.
    pub name: String,
    /// The agreement.
    pub agreement: String,
    /// When its backup was made.
    pub backup_at: String,
    /// When it was restored.
    pub restored_at: String,
    /// When this node learned it.
    pub learned_at: String,
    /// Its number of the restore.
    pub generation: u64,
    /// How many envelopes it had receipted in between.
    pub count: u64,
    /// These envelopes, newest first, at most 10,000.
    pub envelopes: Vec<String>,
    /// Whether somebody has dealt with it.
    pub seen: bool,
}
