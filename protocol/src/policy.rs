//! Whether an offer may be accepted: decided from what the sender claims and what the agreement and node allow.
//!
//! **Invariant:** default deny; an unknown and a hidden group give the same answer.

use crate::defect::{self, Defect};
use crate::limits::{CHUNKS_MAX, OBJECT_BYTES_MAX, SEGMENT_ENTRIES_MAX, TREE_ENTRIES_MAX};
use crate::message::Offer;
use crate::message::offer::Refusal;

/// Envelopes of one counterpart that are received at once; the rest waits at the sender.
pub const INCOMING_MAX: usize = 64;

/// Objects of all these envelopes together, but for a large one that comes alone: each that was named takes 36 bytes of
/// memory until the envelope has come, and each of those that are asked for some hundred more.
pub const OBJECTS_INCOMING_MAX: u64 = 1_000_000;
/// A sender whose chunks are smaller than this on average, those that end a file left out, makes more objects than anybody
/// needs.
const CHUNK_BYTES_ON_AVERAGE: u64 = 256 << 10;

/// Whether anything may be exchanged under an agreement now, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Footing {
    /// It is in force.
    InForce,
    /// There is none that both have signed and neither has ended.
    None,
    /// One side has suspended it.
    Suspended,
    /// Its time has not begun.
    NotBegun,
    /// Its time is over.
    Expired,
    /// This node was restored from a backup, and its operator has not confirmed the agreement.
    Unconfirmed,
}

impl Footing {
    /// Why nothing is accepted.
    ///
    /// # Errors
    /// The [`Refusal`] to send back.
    pub fn check(self) -> Result<(), Refusal> {
        match self {
            Footing::InForce => Ok(()),
            Footing::Suspended if defect::is_on(Defect::AcceptSuspended) => Ok(()),
            Footing::None => Err(Refusal::NoAgreement),
            Footing::Suspended | Footing::Unconfirmed => Err(Refusal::Suspended),
            Footing::NotBegun => Err(Refusal::NotBegun),
            Footing::Expired => Err(Refusal::Expired),
        }
    }

    /// Whether what is queued waits: it may be in force again before its hold time is over.
    pub fn may_return(self) -> bool {
        matches!(self, Footing::Suspended | Footing::NotBegun | Footing::Unconfirmed)
    }
}

/// What the receiver knows when an offer arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferView {
    /// Whether the agreement is in force now.
    pub footing: Footing,
    /// The version of the terms that counts here.
    pub agreement_version: u32,
    /// The agreement's largest message in plain bytes.
    pub message_bytes_max: u64,
    /// The agreement's hold time in seconds.
    pub hold_seconds: u32,
    /// Whether the counterpart is shown the group that it names.
    pub group_shown: bool,
    /// Bytes free for content, after a reserve.
    pub free_bytes: u64,
    /// Envelopes that are being received from this counterpart.
    pub incoming: usize,
    /// Objects of these that were offered.
    pub incoming_objects: u64,
    /// Whether the agreed number of messages per hour is used up.
    pub rate_exceeded: bool,
    /// Whether it goes on with an offer that was accepted before ([`Offer::resumes`]): it has its space already, at least in
    /// part.
    pub is_resumed: bool,
    /// Whether it is one that this side had purged before it was restored from a backup: it is not taken in again.
    pub is_purged: bool,
    /// Whether its id names something else here.
    pub is_id_taken: bool,
}

/// Accepts or refuses an offer before a byte of content moves.
///
/// # Errors
/// The [`Refusal`] to send back.
pub fn decide(offer: &Offer, view: &OfferView) -> Result<(), Refusal> {
    let objects_max = CHUNKS_MAX + CHUNKS_MAX / 64;
    let per_object = u64::try_from(OBJECT_BYTES_MAX).unwrap_or(u64::MAX);
    if view.is_purged {
        return Err(Refusal::Purged);
    }
    if view.is_id_taken {
        return Err(Refusal::Conflict);
    }
    view.footing.check()?;
    if offer.agreement_version != view.agreement_version {
        Err(Refusal::OtherVersion)
    } else if !view.group_shown {
        Err(Refusal::UnknownGroup)
    } else if offer.plain_bytes > view.message_bytes_max
        || offer.files > TREE_ENTRIES_MAX
        || offer.objects == 0
        || offer.objects > objects_max
        || offer.objects > objects_plausible(offer)
        || offer.sealed_bytes > offer.objects.saturating_mul(per_object)
    {
        Err(Refusal::TooLarge)
    } else if offer.seconds_left > view.hold_seconds {
        Err(Refusal::HoldTooLong)
    } else if view.rate_exceeded {
        Err(Refusal::RateExceeded)
    } else if view.incoming >= INCOMING_MAX || !has_room_for_objects(offer, view) {
        Err(Refusal::Busy)
    } else if offer.sealed_bytes > view.free_bytes && !view.is_resumed {
        Err(Refusal::NoSpace)
    } else {
        Ok(())
    }
}

/// Whether this is an offer that what is only kept for later should make room for.
pub fn lacks_only_room(offer: &Offer, view: &OfferView) -> bool {
    decide(offer, view) == Err(Refusal::NoSpace)
}

/// More chunks and segments than this do not come of so many files and bytes.
fn objects_plausible(offer: &Offer) -> u64 {
    // A chunk ends with a file that is not empty, or because it is full.
    let chunks = offer.files.min(offer.plain_bytes).saturating_add(offer.plain_bytes / CHUNK_BYTES_ON_AVERAGE);
    let rows = TREE_ENTRIES_MAX.saturating_add(chunks);
    chunks.saturating_add(rows / SEGMENT_ENTRIES_MAX as u64 + 1)
}

fn has_room_for_objects(offer: &Offer, view: &OfferView) -> bool {
    view.incoming_objects == 0 || view.incoming_objects.saturating_add(offer.objects) <= OBJECTS_INCOMING_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::extent::Extent;
    use crate::content::manifest::ManifestHead;
    use crate::ids::EnvelopeId;
    use crate::record::envelope::Priority;
    use crate::record::roster::GroupId;

    #[test]
    fn default_deny() {
        let offer = Offer {
            envelope: EnvelopeId([0; 16]),
            group: GroupId([0; 16]),
            priority: Priority::Normal,
            agreement_version: 1,
            files: 3,
            plain_bytes: 1000,
            objects: 2,
            sealed_bytes: 900,
            seconds_left: 60,
        };
        let view = OfferView {
            footing: Footing::InForce,
            agreement_version: 1,
            message_bytes_max: 1000,
            hold_seconds: 60,
            group_shown: true,
            free_bytes: 900,
            incoming: 0,
            incoming_objects: 0,
            rate_exceeded: false,
            is_resumed: false,
            is_purged: false,
            is_id_taken: false,
        };
        assert_eq!(decide(&offer, &view), Ok(()));
        let rows = [
            (OfferView { footing: Footing::None, ..view }, offer.clone(), Refusal::NoAgreement),
            (OfferView { footing: Footing::Suspended, ..view }, offer.clone(), Refusal::Suspended),
            (OfferView { footing: Footing::Unconfirmed, ..view }, offer.clone(), Refusal::Suspended),
            (OfferView { footing: Footing::NotBegun, ..view }, offer.clone(), Refusal::NotBegun),
            (OfferView { footing: Footing::Expired, ..view }, offer.clone(), Refusal::Expired),
            (OfferView { agreement_version: 2, ..view }, offer.clone(), Refusal::OtherVersion),
            (OfferView { group_shown: false, ..view }, offer.clone(), Refusal::UnknownGroup),
            (OfferView { message_bytes_max: 999, ..view }, offer.clone(), Refusal::TooLarge),
            (OfferView { hold_seconds: 59, ..view }, offer.clone(), Refusal::HoldTooLong),
            (OfferView { free_bytes: 899, ..view }, offer.clone(), Refusal::NoSpace),
            (OfferView { incoming: INCOMING_MAX, ..view }, offer.clone(), Refusal::Busy),
            (OfferView { incoming_objects: OBJECTS_INCOMING_MAX - 1, ..view }, offer.clone(), Refusal::Busy),
            (OfferView { rate_exceeded: true, ..view }, offer.clone(), Refusal::RateExceeded),
            (OfferView { is_purged: true, is_id_taken: true, ..view }, offer.clone(), Refusal::Purged),
            (OfferView { is_id_taken: true, footing: Footing::None, ..view }, offer.clone(), Refusal::Conflict),
            (view, Offer { objects: 0, ..offer.clone() }, Refusal::TooLarge),
            (view, Offer { objects: 8_000, ..offer.clone() }, Refusal::TooLarge),
            (view, Offer { files: u64::MAX, ..offer.clone() }, Refusal::TooLarge),
            (view, Offer { objects: u64::MAX, sealed_bytes: u64::MAX, ..offer.clone() }, Refusal::TooLarge),
            (OfferView { free_bytes: u64::MAX, ..view }, Offer { sealed_bytes: u64::MAX, ..offer }, Refusal::TooLarge),
        ];
        for (view, offer, refusal) in rows {
            assert_eq!(decide(&offer, &view), Err(refusal), "{offer:?} {view:?}");
            assert_eq!(lacks_only_room(&offer, &view), refusal == Refusal::NoSpace);
            let resumed = decide(&offer, &OfferView { is_resumed: true, ..view });
            assert_eq!(resumed.is_ok(), refusal == Refusal::NoSpace, "what goes on has its space");
        }
    }

    #[test]
    fn as_many_objects_as_the_content_can_need_and_no_more() {
        let view = OfferView {
            footing: Footing::InForce,
            agreement_version: 1,
            message_bytes_max: 100_000_000_000,
            hold_seconds: 60,
            group_shown: true,
            free_bytes: u64::MAX,
            incoming: 0,
            incoming_objects: 0,
            rate_exceeded: false,
            is_resumed: false,
            is_purged: false,
            is_id_taken: false,
        };
        let check = |files: u64, plain_bytes: u64, objects: Option<u64>, expected: Result<(), Refusal>| {
            let bounds = Extent { files, folders: files, plain_bytes }.bounds(&ManifestHead::default());
            let objects = objects.unwrap_or(bounds.objects);
            let offer = Offer {
                envelope: EnvelopeId([0; 16]),
                group: GroupId([0; 16]),
                priority: Priority::Normal,
                agreement_version: 1,
                files,
                plain_bytes,
                objects,
                sealed_bytes: bounds.sealed_bytes,
                seconds_left: 60,
            };
            assert_eq!(decide(&offer, &view), expected, "{offer:?}");
        };
        // What an honest sender offers before it has read anything.
        check(100_000, 100_000_000_000, None, Ok(()));
        check(1_000_000, 100_000_000_000, None, Ok(()));
        check(1, 100_000_000_000, None, Ok(()));
        check(1_000_000, 1_000_000, None, Ok(()));
        check(3, 5, None, Ok(()));
        // What no content needs.
        check(100_000, 100_000_000_000, Some(600_000), Err(Refusal::TooLarge));
        check(1, 100_000_000_000, Some(400_000), Err(Refusal::TooLarge));
        check(2_000_000, 1_000, Some(20_000), Err(Refusal::TooLarge));
    }
}
