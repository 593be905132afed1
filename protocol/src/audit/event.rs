//! What an entry of the audit log says: who did what to which id, and when.
//!
//! An entry's leaf is the codec bytes of [`Entry`].

use pakt_keys::EntityId;
use serde::{Deserialize, Serialize};

use super::tree::{Hash, leaf_hash};
use crate::codec::{self, CodecError};
use crate::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use crate::record::receipt::Verdict;
use crate::record::roster::GroupId;
use crate::time::Time;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the node's wall clock.
    pub at: Time,
    /// What happened.
    pub event: Event,
}

/// Bytes of an encoded entry, at most.
pub const ENTRY_BYTES_MAX: usize = 1 << 10;
const VERSION: u8 = 1;

impl Entry {
    /// The leaf's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(VERSION, self)
    }

    /// Reads a leaf.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Entry, CodecError> {
        codec::decode(VERSION, bytes, ENTRY_BYTES_MAX)
    }

    /// The leaf's hash.
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.to_bytes())
    }
}

/// What happened. The order is that of the numbers in stored entries: append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A step in the life of an agreement.
    Agreement {
        /// The agreement.
        agreement: AgreementId,
        /// The counterpart.
        entity: EntityId,
        /// The version of the terms that it is about.
        version: u32,
        /// What was done.
        step: AgreementStep,
    },
    /// A step of one envelope, as its sender or its receiver.
    Message {
        /// The envelope.
        envelope: EnvelopeId,
        /// Its message.
        message: MessageId,
        /// The agreement.
        agreement: AgreementId,
        /// The counterpart.
        entity: EntityId,
        /// What was done.
        step: MessageStep,
    },
    /// A step with this entity's own keys.
    Key {
        /// What was done.
        step: KeyStep,
        /// The generation of the root and the serial of the certificate afterwards.
        root_generation: u32,
        /// The certificate's serial afterwards.
        serial: u64,
    },
    /// What an administrator set.
    Administrator(AdministratorStep),
    /// The controls that this node attested to a counterpart are others than before.
    Attested {
        /// The agreement.
        agreement: AgreementId,
        /// The attestation's number.
        counter: u64,
    },
    /// The controls that a counterpart attested are others than before.
    PeerAttested {
        /// The agreement.
        agreement: AgreementId,
        /// The attestation's number.
        counter: u64,
    },
    /// The store was restored from a backup.
    Restored,
    /// A step with a listing in a directory.
    Directory {
        /// The agreement between steward and listed entity.
        agreement: AgreementId,
        /// The counterpart: the steward, or the entity that is listed here.
        entity: EntityId,
        /// The listing's number.
        counter: u64,
        /// What was done.
        step: DirectoryStep,
    },
    /// A step of an introduction.
    Introduction {
        /// The agreement that it came under or leaves under.
        agreement: AgreementId,
        /// The entity that is introduced, or that this entity is introduced to.
        entity: EntityId,
        /// What was done.
        step: IntroductionStep,
    },
    /// Steps of a counterpart beyond what it may add to the log in one day: they took effect and were only counted.
    LeftOut {
        /// The agreement.
        agreement: AgreementId,
        /// The counterpart.
        entity: EntityId,
        /// The day, in days since 1970-01-01 UTC.
        day: u32,
        /// How many.
        count: u64,
    },
    /// Entries of this log were handed out.
    LogExported {
        /// The first.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// A step of a backup.
    Backup(BackupStep),
    /// A reconciliation found a gap, or that it has closed.
    Reconciled {
        /// The agreement.
        agreement: AgreementId,
        /// Whether it is about what this node has sent, or about what it has received.
        sent: bool,
        /// How many numbers something is wrong with; 0 once there are none any more.
        gaps: u64,
    },
}

/// Steps in the life of an agreement. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgreementStep {
    /// This side proposed it.
    Proposed,
    /// This side countersigned it.
    Accepted,
    /// The counterpart's countersignature came over its door.
    Completed,
    /// It came as a file that both had signed.
    Imported,
    /// New terms are in force.
    Amended,
    /// Its validity was prolonged.
    Renewed,
    /// One side suspended it.
    Suspended,
    /// A suspension is over.
    Resumed,
    /// A proposal was taken back.
    Withdrawn,
    /// This side ended it.
    Ended,
    /// The counterpart ended it.
    EndedByPeer,
    /// Its time is over.
    Expired,
    /// The fingerprint was compared.
    Verified,
    /// It was confirmed after a restore.
    Confirmed,
    /// A door grant was issued.
    GrantIssued,
    /// This side offered new terms.
    Offered,
    /// The counterpart offered new terms.
    OfferedByPeer,
    /// The counterpart suspended it.
    SuspendedByPeer,
    /// The counterpart took its suspension back.
    ResumedByPeer,
    /// The counterpart took an offer back.
    WithdrawnByPeer,
    /// Both have signed two texts under one number.
    Forked,
    /// The counterpart's certificate or root was replaced.
    KeysReplacedByPeer,
    /// The counterpart's certificates contradict each other: nothing is exchanged any more.
    Frozen,
}

/// Steps of an envelope. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageStep {
    /// Submitted here.
    Sent,
    /// The receipt of this core is held: delivered.
    Delivered,
    /// It ended without being delivered: refused.
    Refused,
    /// It ended without being delivered: the hold time was over.
    Expired,
    /// Received here, with the receipt that says so.
    Received {
        /// The core that the receipt is about.
        core: CoreHash,
        /// What blinds the head in that receipt.
        blinder: [u8; 32],
    },
    /// Refused here for good, with the receipt that says so.
    RefusedHere {
        /// The core that the receipt is about.
        core: CoreHash,
        /// What blinds the head in that receipt.
        blinder: [u8; 32],
    },
    /// A person or program looked into it.
    Read,
    /// Its files were handed out.
    Saved,
    /// Deleted here.
    Deleted,
    /// The receiver's receipt of tier 2 is held.
    Released,
    /// The receiver's receipt of tier 3 is held.
    Taken,
    /// The receiver's receipt is held: purged there on this side's wish, or taken back before it had left.
    Recalled,
    /// A further statement about it was signed here, after the first.
    Stated {
        /// What is stated.
        verdict: Verdict,
        /// The core that the receipt is about.
        core: CoreHash,
        /// What blinds the head in that receipt.
        blinder: [u8; 32],
    },
    /// Every envelope of it has ended: its content and key were erased here, at the sender.
    Erased,
    /// Another message, submitted now, corrects this one that was sent before.
    Corrected {
        /// The message that corrects it.
        by: MessageId,
    },
    /// This received message is passed on as another one, submitted now.
    Forwarded {
        /// The message that passes it on.
        by: MessageId,
    },
    /// Its receiver was asked to purge it.
    RecallAsked,
    /// Purged here: the time that the agreement keeps it was over.
    RetentionOver,
    /// Purged here again: it had been purged before a backup was restored that still held it.
    PurgedAgain,
    /// It must be kept, whatever the agreement says.
    HoldSet,
    /// It need not be kept any longer than the agreement says.
    HoldLifted,
    /// The operator let it out of the malware check, on his own word.
    LetOut,
}

/// Steps with own keys. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStep {
    /// The node's keys were replaced.
    Rotated,
    /// The root was replaced by its successor.
    Recovered,
}

/// What an administrator does. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdministratorStep {
    /// A group was added.
    GroupAdded(GroupId),
    /// A group was shown to a counterpart, or to all.
    GroupShown(GroupId, Option<EntityId>),
    /// A group was hidden from a counterpart, or from all.
    GroupHidden(GroupId, Option<EntityId>),
    /// The addresses that counterparts dial were set.
    AddressesSet,
    /// The node started with another configuration than the last time; the hash of its file.
    ConfigurationChanged([u8; 32]),
    /// A person was named who approves what the root signs; the hash of that person's public key.
    ApproverAdded([u8; 32]),
    /// A person approves no longer; the hash of that person's public key.
    ApproverRemoved([u8; 32]),
}

/// Steps of a backup. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupStep {
    /// A backup was begun: whoever takes it gets everything, sealed.
    Begun,
    /// It was handed out whole.
    Made,
    /// It was broken off.
    BrokenOff,
    /// Whoever took it says that it is kept.
    Kept,
}

/// Steps with listings. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectoryStep {
    /// This entity signed what a steward is to list.
    Published,
    /// This entity signed that a steward is to list nothing.
    Withdrawn,
    /// The steward has taken the newest listing.
    Taken,
    /// The steward has refused the newest listing.
    Refused,
    /// At a steward: the counterpart is listed as it signed.
    Listed,
    /// At a steward: the counterpart is listed no longer.
    Unlisted,
}

/// Steps of introductions. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntroductionStep {
    /// The entity was asked for its card.
    CardAsked,
    /// Its card has come.
    CardCame,
    /// It asks for this entity's card.
    RequestCame,
    /// It got this entity's card.
    CardGiven,
    /// It does not get this entity's card.
    CardDenied,
    /// A proposal was sent to it.
    ProposalSent,
    /// A proposal of it has come.
    ProposalCame,
    /// Its proposal was accepted.
    Accepted,
    /// Its proposal was declined.
    Declined,
    /// It declined this entity's proposal.
    DeclinedByPeer,
    /// At an introducer: a message to it was taken to be passed on.
    PassedOn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_every_byte_counts() {
        let entry = Entry {
            at: Time(5),
            event: Event::Message {
                envelope: EnvelopeId([1; 16]),
                message: MessageId([2; 16]),
                agreement: AgreementId([3; 32]),
                entity: EntityId([4; 32]),
                step: MessageStep::Received { core: CoreHash([5; 32]), blinder: [6; 32] },
            },
        };
        let bytes = entry.to_bytes();
        assert_eq!(Entry::from_bytes(&bytes), Ok(entry.clone()));
        assert!(bytes.len() <= ENTRY_BYTES_MAX);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(leaf_hash(&changed), entry.hash(), "byte {at}");
        }
    }
}
