//! What the mailroom keeps in the store.

use std::fmt;

use pakt_keys::EntityId;
use pakt_protocol::delivery;
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use pakt_protocol::message::Offer;
use pakt_protocol::record::envelope::{Counts, Priority};
use pakt_protocol::record::receipt::Verdict;
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use crate::slots::SlotId;

/// A message that was submitted here.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct OutMessage {
    /// Its id.
    pub id: MessageId,
    /// Its place among all messages submitted here.
    pub sequence: u64,
    /// The sending group.
    pub from_group: GroupId,
    /// The sending group's name at submission.
    pub from_name: String,
    /// The subject.
    pub subject: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What it is for.
    pub purpose: Option<String>,
    /// When it was submitted.
    pub submitted_at: Time,
    /// What it holds.
    pub counts: Counts,
    /// The slot of its manifest key; none once every envelope has ended.
    pub key: Option<SlotId>,
    /// Its envelopes.
    pub envelopes: Vec<EnvelopeId>,
    /// What it passes on or corrects.
    pub earlier: Vec<Earlier>,
}

/// An earlier message that a new one passes on or corrects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// Whether it was received here and is passed on; else it was sent from here and is corrected.
    pub is_received: bool,
    /// Its envelope.
    pub envelope: EnvelopeId,
    /// Its message.
    pub message: MessageId,
    /// The agreement that it came or went under.
    pub agreement: AgreementId,
    /// The counterpart that it came from or went to.
    pub entity: EntityId,
}

/// A receipt that is held.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldReceipt {
    /// What it states, as [`Verdict::place`] numbers it: 1, 2 and 3 are the tiers.
    pub tier: u8,
    /// When the receiver signed it.
    pub at: Time,
    /// The signed receipt as sent.
    pub bytes: Vec<u8>,
}

/// One envelope that was submitted here.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct OutEnvelope {
    /// Its id.
    pub id: EnvelopeId,
    /// Its message.
    pub message: MessageId,
    /// Its place in the queue of its agreement.
    pub sequence: u64,
    /// The agreement that it travels under.
    pub agreement: AgreementId,
    /// Its number under it, from 1 on; 0 until it is submitted.
    pub number: u64,
    /// The recipient.
    pub entity: EntityId,
    /// The recipient's name in the agreement.
    pub entity_name: String,
    /// The receiving group.
    pub group: GroupId,
    /// The receiving group's name at submission.
    pub group_name: String,
    /// Bytes of the envelope core.
    pub core: Vec<u8>,
    /// Where it stands.
    pub delivery: delivery::Record,
    /// TCP payload that it has cost so far, both directions, all lanes and attempts.
    pub wire_bytes: u64,
    /// Sealed bytes that the receiver has reported as durable.
    pub durable_bytes: u64,
    /// Receipts, lowest tier first.
    pub receipts: Vec<HeldReceipt>,
}

/// An offer that was accepted and is not settled.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct IncomingRow {
    /// What was offered.
    pub offer: Offer,
    /// When it was first offered.
    pub offered_at: Time,
}

/// What was answered to an envelope for good.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SettledRow {
    /// The core that it is about.
    pub core: CoreHash,
    /// The first signed receipt, given again to every duplicate.
    pub receipt: Vec<u8>,
    /// What was stated later, in that order.
    pub later: Vec<Stated>,
}

/// A further statement about an envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stated {
    /// What is stated.
    pub verdict: Verdict,
    /// The signed receipt, the same bytes whenever it is told.
    pub receipt: Vec<u8>,
}

/// How far a message is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Durable and complete; its objects are being opened and checked, and nobody may open it yet.
    Checking,
    /// Visible in the group's mailbox.
    Released,
    /// A person or a connected system took responsibility.
    Taken,
    /// The check found something: nobody may open it.
    Quarantined,
}

/// Something in the inbox.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages, so that a box would only cost")]
pub enum InItem {
    /// A message from a counterpart.
    Message(InMessage),
    /// A report of this node.
    Report(Report),
}

/// A message that arrived.
///
/// What its sender wrote is in no row but sealed under its manifest key (`words`): rows linger on the disk after
/// they were removed, a key in a slot does not.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct InMessage {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// The message.
    pub message: MessageId,
    /// The agreement that it came under.
    pub agreement: AgreementId,
    /// Who sent it.
    pub from: EntityId,
    /// The sender's name in the agreement.
    pub from_name: String,
    /// The sending group's name.
    #[serde(skip)]
    pub from_group: String,
    /// The receiving group.
    pub group: GroupId,
    /// The receiving group's name on arrival.
    pub group_name: String,
    /// The subject.
    #[serde(skip)]
    pub subject: String,
    /// The text.
    #[serde(skip)]
    pub text: String,
    /// What it is for.
    #[serde(skip)]
    pub purpose: Option<String>,
    /// The four above, sealed; empty until it is committed.
    pub words: Vec<u8>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it was complete and durable here.
    pub received_at: Time,
    /// It must not be deleted before and is deleted then, where the agreement says how long it is kept; in a row on the
    /// retention's clock ([`super::retention`]).
    pub keep_until: Option<Time>,
    /// What it holds.
    pub counts: Counts,
    /// The slot of its manifest key; none until it is committed.
    pub key: Option<SlotId>,
    /// How far it is.
    pub stage: Stage,
}

/// Something that this node has to tell a group.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its id.
    pub id: [u8; 16],
    /// The group that is told.
    pub group: GroupId,
    /// The group's name when it was told.
    pub group_name: String,
    /// The envelope that it is about.
    pub envelope: EnvelopeId,
    /// One line.
    pub subject: String,
    /// The text.
    pub text: String,
    /// When.
    pub at: Time,
}

impl InItem {
    /// The id that users name it by.
    pub fn id(&self) -> [u8; 16] {
        match self {
            InItem::Message(message) => message.envelope.0,
            InItem::Report(report) => report.id,
        }
    }

    /// The group whose it is.
    pub fn group(&self) -> GroupId {
        match self {
            InItem::Message(message) => message.group,
            InItem::Report(report) => report.group,
        }
    }
}

macro_rules! redacted {
    ($($name:ident($id:ident),)*) => {
        $(impl fmt::Debug for $name {
            // Subjects, texts and names must not reach a log.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.$id)
            }
        })*
    };
}

redacted! {
    OutMessage(id),
    OutEnvelope(id),
    InMessage(envelope),
    Report(id),
    HeldReceipt(tier),
}
