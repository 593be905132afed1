//! The signed envelope and what is sealed in it.

use pakt_node::ambient;
use pakt_protocol::content::manifest::{ManifestHead, ManifestKey, SegmentWriter};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::Envelope;
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::record::envelope::Priority;
use pakt_protocol::record::roster::GroupId;

use super::{Met, Row, Stage, closed, fate, honest};
use crate::parcel::{Parcel, entry};
use crate::partner::Partner;
use crate::session::Answered;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "envelope too early",
        does: "sends the signed envelope before its objects are there",
        meets: "session closed",
        says: "a message that this state does not expect",
        act: too_early,
    },
    Row {
        name: "envelope signed by another",
        does: "signs the envelope with a key that is not certified",
        meets: "refuse forged",
        says: "",
        act: |stage| bent(stage, |parcel, _| parcel.signer = Partner::foreign_statement()),
    },
    Row {
        name: "envelope of another sender",
        does: "names its accomplice as the sender",
        meets: "refuse forged",
        says: "",
        act: |stage| bent(stage, |parcel, stage| parcel.core.sender = stage.second.entity()),
    },
    Row {
        name: "envelope to another",
        does: "names its accomplice as the recipient",
        meets: "refuse forged",
        says: "",
        act: |stage| bent(stage, |parcel, stage| parcel.core.recipient = stage.second.entity()),
    },
    Row {
        name: "envelope of another agreement",
        does: "names its accomplice's agreement",
        meets: "refuse forged",
        says: "",
        act: |stage| bent(stage, |parcel, stage| parcel.core.agreement = stage.second.agreement()),
    },
    Row {
        name: "envelope of no agreement",
        does: "names an agreement that does not exist",
        meets: "refuse forged",
        says: "",
        act: |stage| bent(stage, |parcel, _| parcel.core.agreement = AgreementId([7; 32])),
    },
    Row {
        name: "envelope to another group",
        does: "offers to one group and signs for another",
        meets: "refuse outside_offer",
        says: "",
        act: |stage| bent(stage, |parcel, _| parcel.core.group = GroupId([9; 16])),
    },
    Row {
        name: "envelope more urgent than offered",
        does: "offers at normal priority and signs for urgent",
        meets: "refuse outside_offer",
        says: "",
        act: |stage| bent(stage, |parcel, _| parcel.core.priority = Priority::Urgent),
    },
    Row {
        name: "envelope larger than offered",
        does: "signs for more sealed bytes than it named",
        meets: "refuse outside_offer",
        says: "",
        act: |stage| bent(stage, |parcel, _| parcel.core.counts.sealed_bytes += 1),
    },
    Row {
        name: "envelope under another id",
        does: "sends, under one id, the envelope that it signed for another",
        meets: "refuse outside_offer",
        says: "",
        act: |stage| bent(stage, |parcel, _| parcel.core.envelope.0[0] ^= 1),
    },
    Row {
        name: "envelope sealed to nobody",
        does: "seals the manifest key to a key that the victim does not have",
        meets: "receipt unopenable",
        says: "its key does not unwrap",
        act: |stage| bent(stage, |parcel, _| parcel.seal_to_nobody()),
    },
    Row {
        name: "envelope of another epoch",
        does: "seals to an epoch that the victim never published",
        meets: "epoch gone",
        says: "",
        act: |stage| bent(stage, |parcel, _| parcel.epoch.0 += 1),
    },
    Row {
        name: "manifest under another key",
        does: "seals a key that does not open the manifest",
        meets: "receipt unopenable",
        says: "what arrived cannot be opened",
        act: |stage| bent(stage, |parcel, _| parcel.key = ManifestKey::generate(&mut ambient::rng())),
    },
    Row {
        name: "manifest of other content",
        does: "sends a manifest that names other objects than were announced",
        meets: "receipt unopenable",
        says: "what arrived cannot be opened",
        act: |stage| bent(stage, |parcel, _| swap_manifest(parcel)),
    },
    Row {
        name: "manifest with another root",
        does: "signs for another root hash than that of the segments",
        meets: "receipt unopenable",
        says: "its manifest names other objects than were announced",
        act: |stage| bent(stage, |parcel, _| parcel.core.root_hash[0] ^= 1),
    },
    Row {
        name: "manifest that does not add up",
        does: "signs for fewer files than the manifest holds",
        meets: "receipt unopenable",
        says: "its manifest does not add up",
        act: |stage| bent(stage, |parcel, _| parcel.core.counts.files = 0),
    },
    Row {
        name: "manifest of noise",
        does: "sends noise as the manifest",
        meets: "receipt unopenable",
        says: "what arrived cannot be opened",
        act: |stage| {
            bent(stage, |parcel, _| {
                let last = parcel.objects.len() - 1;
                let length = parcel.objects[last].len();
                parcel.objects[last] = vec![7; length];
                parcel.entries[last] = entry(&parcel.objects[last]);
            })
        },
    },
];

/// Delivers a sound message that was bent in one place.
fn bent(stage: &mut Stage, bend: fn(&mut Parcel, &Stage)) -> Met {
    let mut session = honest!(stage.first.session());
    let mut bulk = honest!(stage.first.bulk(LaneKind::Bulk));
    let mut parcel = Parcel::new(&stage.first, &session);
    bend(&mut parcel, stage);
    fate(parcel.deliver(&mut session, &mut bulk))
}

fn too_early(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let parcel = Parcel::new(&stage.first, &session);
    if session.offer(&parcel.offer) != Answered::Accepted {
        return Met::Astray("the offer was not accepted".into());
    }
    let envelope: Envelope = parcel.sealed();
    session.control.say(envelope);
    closed(session.control.is_closed())
}

/// A manifest that is sound by itself, for a message without files.
fn swap_manifest(parcel: &mut Parcel) {
    let mut writer = SegmentWriter::new(parcel.key.clone(), ManifestHead::default()).expect("an empty head");
    let (_, root_hash) = writer.finish();
    let segment = writer.poll_segment().expect("one segment");
    let last = parcel.objects.len() - 1;
    let before = parcel.objects[last].len() as u64;
    parcel.core.counts.sealed_bytes = parcel.core.counts.sealed_bytes - before + segment.sealed.len() as u64;
    parcel.core.root_hash = root_hash;
    parcel.entries[last] = entry(&segment.sealed);
    parcel.objects[last] = segment.sealed;
}
