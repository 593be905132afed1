//! What was received.
//!
//! **Invariant:** `Debug` shows no subject, text or file name.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EnvelopeState, Priority};

/// What kind of inbox item this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InboxKind {
    /// A message from a counterpart.
    Message,
    /// A report of this node, such as a message that was not delivered.
    Report,
}

/// Who sent an inbox item.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sender {
    /// Entity id.
    pub entity: String,
    /// Its name in the agreement.
    pub name: String,
    /// The sending group.
    pub group: String,
}

/// One row of the inbox.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct InboxItem {
    /// Id for `inbox show` and `inbox save`: the envelope's.
    pub id: String,
    /// Message or report.
    pub kind: InboxKind,
    /// Who sent it.
    pub from: Sender,
    /// The group it was addressed to.
    pub group: String,
    /// Subject.
    pub subject: String,
    /// When it was complete and durable here.
    pub received_at: String,
    /// How soon.
    pub priority: Priority,
    /// `checking`, `released`, `taken` or `quarantined`.
    pub state: EnvelopeState,
    /// Number of files.
    pub files: u64,
    /// Plain bytes of all files.
    pub bytes: u64,
}

impl fmt::Debug for InboxItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxItem").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An inbox item with text and tree.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct InboxDetail {
    /// The row of the list.
    #[serde(flatten)]
    pub item: InboxItem,
    /// The message id that the sender gave.
    pub message: String,
    /// The purpose that was named.
    pub purpose: Option<String>,
    /// Until when it is kept at least, where the agreement says so: it cannot be deleted before.
    #[serde(default)]
    pub keep_until: Option<String>,
    /// Text.
    pub text: String,
    /// Every file, in the order in which it was sent.
    pub tree: Vec<TreeFile>,
    /// Every folder, empty ones included.
    #[serde(default)]
    pub folders: Vec<String>,
}

impl fmt::Debug for InboxDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxDetail").field("id", &self.item.id).finish_non_exhaustive()
    }
}

/// One file of a message.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TreeFile {
    /// Path with `/` between its components, as sent.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// BLAKE3 of the content, hex.
    pub blake3: String,
}

impl fmt::Debug for TreeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeFile").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
