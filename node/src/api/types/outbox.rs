//! Sending, and where what was sent is.
//!
//! **Invariant:** `Debug` shows no subject, text or recipient.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ErrorCode;

/// How soon a message must arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before everything else, on its own lane.
    Urgent,
    /// In turn.
    #[default]
    Normal,
    /// When nothing else waits.
    Bulk,
}

impl Priority {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

/// A message to be sent; its content follows as a tar stream.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct NewMessage {
    /// The sending group; may be left out while there is one group.
    pub from: Option<String>,
    /// Recipients as `ENTITY/GROUP`.
    pub to: Vec<String>,
    /// Subject.
    pub subject: String,
    /// Text, may be empty.
    pub body: String,
    /// How soon.
    #[serde(default)]
    pub priority: Priority,
    /// Which purpose of the agreement this serves.
    pub purpose: Option<String>,
    /// What the walk of the tree found, so that a refusal comes before the content is read.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Files that the walk found. With `bytes`, `files` and `folders` the message is offered while its content is still
    /// being read, and fails if there is more of anything than was told.
    #[serde(default)]
    pub files: Option<u64>,
    /// Folders that the walk found, empty ones included.
    #[serde(default)]
    pub folders: Option<u64>,
    /// The received message that this one passes on, by its id in the inbox; noted in the audit log.
    #[serde(default)]
    pub forwards: Option<String>,
    /// The sent message that this one corrects, by message or envelope id; noted in the audit log.
    #[serde(default)]
    pub corrects: Option<String>,
}

impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMessage").field("recipients", &self.to.len()).finish_non_exhaustive()
    }
}

/// A message whose recipients were found and may be written to; it waits for its content.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Draft {
    /// Draft id, for `PUT /v1/drafts/{id}/content`.
    pub id: String,
}

/// How far a message is while its content is still being read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct DraftProgress {
    /// Sealed bytes that every recipient has reported as durable.
    pub bytes_durable: u64,
}

/// A message that is sealed and durable.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sent {
    /// Message id.
    pub message: String,
    /// One envelope per recipient entity and group.
    pub envelopes: Vec<OutboxEnvelope>,
}

/// Where an outgoing envelope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopeState {
    /// Durable here, waiting.
    Queued,
    /// The peer has been asked.
    Offered,
    /// Content is on its way.
    Transferring,
    /// The peer has it all, durable: tier 1.
    Delivered,
    /// Visible in the group's mailbox: tier 2.
    Released,
    /// Somebody took responsibility: tier 3.
    Taken,
    /// The peer said no, for good.
    Refused,
    /// The hold time is over and the signed envelope never left.
    Expired,
    /// The hold time is over, the signed envelope had left: it may have been delivered.
    Unconfirmed,
    /// Taken back.
    Recalled,
    /// In an inbox: complete and durable, but not checked yet.
    Checking,
    /// In an inbox: the malware check found something.
    Quarantined,
}

impl EnvelopeState {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Offered => "offered",
            Self::Transferring => "transferring",
            Self::Delivered => "delivered",
            Self::Released => "released",
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
            Self::Recalled => "recalled",
            Self::Checking => "checking",
            Self::Quarantined => "quarantined",
        }
    }

    /// The receipt tier that this state proves; 0 for none.
    pub const fn tier(self) -> u8 {
        match self {
            Self::Delivered => 1,
            Self::Released => 2,
            Self::Taken => 3,
            _ => 0,
        }
    }

    /// Whether the envelope will not get any further without its receiver.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Refused | Self::Expired | Self::Unconfirmed | Self::Recalled)
    }
}

/// One outgoing envelope: one message to one group of one entity.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OutboxEnvelope {
    /// Envelope id.
    pub id: String,
    /// The message it carries.
    pub message: String,
    /// The recipient entity.
    pub entity: String,
    /// Its name in the agreement.
    pub name: String,
    /// The recipient group.
    pub group: String,
    /// Where it is.
    pub state: EnvelopeState,
    /// Plain bytes of all files.
    pub bytes_content: u64,
    /// TCP payload so far, both directions, all lanes and attempts.
    pub bytes_on_wire: u64,
    /// Sealed bytes that the receiver must hold in the end.
    pub bytes_total: u64,
    /// Of these, bytes that the receiver has reported as durable.
    pub bytes_durable: u64,
    /// Seconds from submission to the shown state.
    pub seconds: f64,
    /// When it is tried again, never in the past; absent while it moves, when it is final, and while only the
    /// counterpart can dial.
    pub next_attempt_at: Option<String>,
    /// End of the hold time.
    pub expires_at: String,
    /// Why it waits or failed, in words.
    pub reason: Option<String>,
    /// The kind of failure, so that the exit code is right; absent while there is none.
    #[serde(default)]
    pub reason_code: Option<ErrorCode>,
    /// It is wanted back, and its receiver has not answered yet.
    #[serde(default)]
    pub recalling: bool,
    /// Every state it was in.
    pub history: Vec<StateAt>,
    /// The receipts that are held.
    pub receipts: Vec<ReceiptAt>,
}

/// A state and when it began.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StateAt {
    /// The state.
    pub state: EnvelopeState,
    /// When.
    pub at: String,
}

/// A receipt that is held, and when it was signed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReceiptAt {
    /// 1 delivered, 2 released, 3 taken.
    pub tier: u8,
    /// When the receiver signed it.
    pub at: String,
}

/// An outgoing message with its envelopes; asked for by envelope id, it holds that one envelope.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct OutboxMessage {
    /// Message id.
    pub message: String,
    /// The sending group.
    pub from: String,
    /// Subject.
    pub subject: String,
    /// How soon.
    pub priority: Priority,
    /// The purpose that was named.
    pub purpose: Option<String>,
    /// When it was sealed and durable.
    pub submitted_at: String,
    /// Number of files.
    pub files: u64,
    /// Plain bytes of all files.
    pub bytes: u64,
    /// One per recipient entity and group.
    pub envelopes: Vec<OutboxEnvelope>,
}

impl fmt::Debug for OutboxMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxMessage").field("message", &self.message).finish_non_exhaustive()
    }
}
