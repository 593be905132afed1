//! Offering a message, answering the offer, and naming its objects.

use serde::{Deserialize, Serialize};

use crate::ids::{EnvelopeId, ObjectId};
use crate::record::envelope::Priority;
use crate::record::roster::GroupId;

/// What the sender knows before any content moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// The group that it is for.
    pub group: GroupId,
    /// How urgent it is.
    pub priority: Priority,
    /// Version of the agreement that it is sent under.
    pub agreement_version: u32,
    /// Files, at most.
    pub files: u64,
    /// Plain bytes, at most.
    pub plain_bytes: u64,
    /// Objects (chunks and segments), at most.
    pub objects: u64,
    /// Sealed bytes of all objects, at most.
    pub sealed_bytes: u64,
    /// Seconds until the sender gives up.
    pub seconds_left: u32,
}

impl Offer {
    /// Whether it asks for no more than `earlier`, an offer of the same envelope that was accepted.
    pub fn resumes(&self, earlier: &Offer) -> bool {
        self.sealed_bytes <= earlier.sealed_bytes && self.objects <= earlier.objects
    }
}

/// Why an offer or an envelope is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// No agreement in force.
    NoAgreement,
    /// No such group, or not one that the sender may see.
    UnknownGroup,
    /// Larger than the agreement or a limit of this node allows.
    TooLarge,
    /// Not enough free space.
    NoSpace,
    /// More than agreed per hour.
    RateExceeded,
    /// Too much at once; try again.
    Busy,
    /// The envelope does not lie within its offer.
    OutsideOffer,
    /// The envelope is not signed by the sender or not for this entity.
    Forged,
    /// Received, but cannot be opened.
    Unopenable,
    /// The envelope's id names another item of the receiver: the sender takes a new one.
    Conflict,
    /// The agreement is suspended; try again.
    Suspended,
    /// The agreement's time has not begun; try again.
    NotBegun,
    /// The agreement's time is over.
    Expired,
    /// Another version of the agreement counts at the receiver, which shows it if it is newer; try again.
    OtherVersion,
    /// It would be held longer than the agreement allows.
    HoldTooLong,
    /// It was received and purged before the receiver was restored from a backup.
    Purged,
}

impl Refusal {
    /// Whether the sender should show the terms that count there: the two go by different versions.
    pub fn is_of_other_version(self) -> bool {
        self == Refusal::OtherVersion
    }

    /// What it means for a message that was offered `early`, by upper bounds: what these were too large for is tried again
    /// with what it really comes to.
    pub fn of_bounds(self, early: bool) -> Refusal {
        match self {
            Refusal::NoSpace | Refusal::TooLarge if early => Refusal::Busy,
            refusal => refusal,
        }
    }

    /// Whether trying again later can help.
    pub fn is_transient(self) -> bool {
        use Refusal::*;
        matches!(self, Busy | RateExceeded | Suspended | NotBegun | OtherVersion)
    }

    /// The word in JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::NoAgreement => "no_agreement",
            Refusal::UnknownGroup => "unknown_group",
            Refusal::TooLarge => "too_large",
            Refusal::NoSpace => "no_space",
            Refusal::RateExceeded => "rate_exceeded",
            Refusal::Busy => "busy",
            Refusal::OutsideOffer => "outside_offer",
            Refusal::Forged => "forged",
            Refusal::Unopenable => "unopenable",
            Refusal::Conflict => "conflict",
            Refusal::Suspended => "agreement_suspended",
            Refusal::NotBegun => "agreement_not_begun",
            Refusal::Expired => "agreement_expired",
            Refusal::OtherVersion => "other_agreement_version",
            Refusal::HoldTooLong => "hold_too_long",
            Refusal::Purged => "purged",
        }
    }
}

/// The receiver's answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Go on: name the objects.
    Accept {
        /// The envelope.
        envelope: EnvelopeId,
    },
    /// No, before a byte of content moved.
    Refuse {
        /// The envelope.
        envelope: EnvelopeId,
        /// Why.
        reason: Refusal,
    },
}

impl Answer {
    /// The envelope that is answered.
    pub fn envelope(&self) -> EnvelopeId {
        match self {
            Answer::Accept { envelope } | Answer::Refuse { envelope, .. } => *envelope,
        }
    }
}

/// Objects in one [`Announce`], at most.
pub const ANNOUNCE_ENTRIES_MAX: usize = 4096;

/// Objects that are named before the offer is answered, at most: enough for a gigabyte, and lost if it is refused.
pub const ANNOUNCE_AHEAD_MAX: usize = 1024;

/// One object of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEntry {
    /// Its name.
    pub id: ObjectId,
    /// Its sealed bytes.
    pub bytes: u32,
}

/// Names objects in order; content objects first, then the manifest's segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Index of the first entry.
    pub first: u64,
    /// The entries, at most [`ANNOUNCE_ENTRIES_MAX`].
    pub entries: Vec<ObjectEntry>,
    /// Whether these are the last.
    pub last: bool,
}
