//! A message of the partner's own making: sound as built, every part open to be bent.

use std::time::{Duration, Instant};

use pakt_keys::EpochKey;
use pakt_keys::object::SealBase;
use pakt_keys::sealing::EpochPublic;
use pakt_keys::signing::StatementKey;
use pakt_node::ambient;
use pakt_protocol::content::encode::{Effort, EncodeScratch};
use pakt_protocol::content::manifest::{EntryKind, ManifestHead, ManifestKey, SegmentWriter, TreeEntry};
use pakt_protocol::content::name::Component;
use pakt_protocol::content::seal::seal_chunk;
use pakt_protocol::ids::{EnvelopeId, MessageId, ObjectId};
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::message::{Announce, Envelope, EpochGone, Message, Offer, Ready};
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, Priority, SUITE, SealedEnvelope};

use crate::bulk::Bulk;
use crate::partner::Partner;
use crate::session::{Answered, Session, verdict_of};
use crate::wire::{End, PATIENCE};

/// What the partner's files and subjects are called; no log may hold it.
pub(crate) const CANARY: &str = "KanariPartner";

/// A message with one file.
pub(crate) struct Parcel {
    /// Its offer.
    pub(crate) offer: Offer,
    /// Its objects as they are announced.
    pub(crate) entries: Vec<ObjectEntry>,
    /// Their bytes as they are served.
    pub(crate) objects: Vec<Vec<u8>>,
    /// What the signed envelope says.
    pub(crate) core: EnvelopeCore,
    /// What is sealed in it.
    pub(crate) key: ManifestKey,
    /// The epoch that it is sealed to.
    pub(crate) epoch: (u64, EpochPublic),
    /// Who signs it.
    pub(crate) signer: StatementKey,
}

/// How far a parcel came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The offer, or something after it, was answered so.
    Answered(Answered),
    /// The epoch is gone; the victim's current one.
    EpochGone(u64),
}

impl Parcel {
    /// A sound message for the victim's first group.
    pub(crate) fn new(partner: &Partner, session: &Session) -> Parcel {
        Parcel::of(partner, session, Priority::Normal, 3_000)
    }

    /// A sound message with a file of so many bytes.
    ///
    /// # Panics
    /// When the victim shows no group.
    pub(crate) fn of(partner: &Partner, session: &Session, priority: Priority, bytes: usize) -> Parcel {
        let mut plain = vec![0; bytes];
        blake3::Hasher::new().update(&ambient::random::<16>()).finalize_xof().fill(&mut plain);
        let base = SealBase::generate(&mut ambient::rng());
        let chunk = seal_chunk(&plain, &base, &base, Effort::FAST, &mut EncodeScratch::new());
        let key = ManifestKey::generate(&mut ambient::rng());
        let head =
            ManifestHead { subject: format!("{CANARY} subject"), text: CANARY.into(), ..ManifestHead::default() };
        let mut manifest = SegmentWriter::new(key.clone(), head).expect("a short head");
        let name = Component::parse(&format!("{CANARY}.bin")).expect("a plain name");
        let kind = EntryKind::File { bytes: bytes as u64, blake3: *blake3::hash(&plain).as_bytes() };
        manifest.push_entry(TreeEntry { depth: 0, name, kind });
        manifest.push_chunk(chunk.entry.clone());
        let (totals, root_hash) = manifest.finish();
        let segments = std::iter::from_fn(|| manifest.poll_segment()).map(|segment| segment.sealed);
        let objects: Vec<Vec<u8>> = [chunk.sealed].into_iter().chain(segments).collect();
        let entries: Vec<ObjectEntry> = objects.iter().map(|object| entry(object)).collect();
        let sealed_bytes = objects.iter().map(|object| object.len() as u64).sum();
        let envelope = EnvelopeId(ambient::random());
        let group = session.roster.groups.first().expect("the victim shows a group").id;
        let counts = Counts {
            files: totals.files,
            plain_bytes: totals.bytes,
            chunks: totals.chunks,
            segments: totals.segments,
            sealed_bytes,
        };
        let core = EnvelopeCore {
            suite: SUITE,
            message: MessageId(ambient::random()),
            envelope,
            sender: partner.entity(),
            recipient: partner.victim_entity(),
            group,
            priority,
            submitted_at: ambient::now(),
            counts,
            agreement: partner.agreement(),
            agreement_version: partner.checked.terms.version,
            number: u64::from_be_bytes(ambient::random()).max(1),
            root_hash,
        };
        let offer = Offer {
            envelope,
            group,
            priority,
            agreement_version: partner.checked.terms.version,
            files: counts.files,
            plain_bytes: counts.plain_bytes,
            objects: entries.len() as u64,
            sealed_bytes,
            seconds_left: 3_600,
        };
        let epoch = (session.roster.epoch, session.roster.epoch_key.clone());
        let signer = StatementKey::from_seed(*partner.keys.statement.seed());
        Parcel { offer, entries, objects, core, key, epoch, signer }
    }

    /// All objects in one announcement.
    pub(crate) fn announce(&self) -> Announce {
        Announce { envelope: self.offer.envelope, first: 0, entries: self.entries.clone(), last: true }
    }

    /// The envelope as it is signed now.
    pub(crate) fn sealed(&self) -> Envelope {
        let epoch = (self.epoch.0, &self.epoch.1);
        let core = self.core.to_bytes();
        let sealed = SealedEnvelope::seal(&core, self.key.as_bytes(), epoch, &self.signer, &mut ambient::rng());
        Envelope { envelope: self.offer.envelope, sealed }
    }

    /// Seals it to a key that the victim does not have, under the number of one that it has.
    pub(crate) fn seal_to_nobody(&mut self) {
        self.epoch.1 = EpochKey::generate(&mut ambient::rng()).public();
    }

    /// Offers, names, serves, and once all is durable sends the envelope.
    pub(crate) fn deliver(&self, session: &mut Session, bulk: &mut Bulk) -> Fate {
        match session.offer(&self.offer) {
            Answered::Accepted => {}
            other => return Fate::Answered(other),
        }
        session.control.say(self.announce());
        if let Some(other) = self.serve(session, bulk) {
            return Fate::Answered(other);
        }
        session.control.say(self.sealed());
        self.fate(session)
    }

    /// Serves until the victim has everything, or says something else.
    pub(crate) fn serve(&self, session: &mut Session, bulk: &mut Bulk) -> Option<Answered> {
        let of = self.offer.envelope;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Ok(index) = bulk.request_of(of, Duration::from_millis(20)) {
                let object = usize::try_from(index).ok().and_then(|index| self.objects.get(index));
                bulk.say_object(of, index, object.map(Vec::as_slice).unwrap_or_default());
            }
            let said = session.control.hear_within(Duration::from_millis(5), |message| match message {
                Message::Ready(Ready { envelope }) if *envelope == of => Some(None),
                message => verdict_of(message, of).map(Some),
            });
            match said {
                Ok(said) => return said,
                Err(End::Closed) => return Some(Answered::Closed),
                Err(End::Late) => {}
            }
        }
        Some(Answered::Nothing)
    }

    /// What the victim makes of the envelope.
    pub(crate) fn fate(&self, session: &mut Session) -> Fate {
        let of = self.offer.envelope;
        let fate = session.control.hear_until(|message| match message {
            Message::EpochGone(EpochGone { envelope, roster }) if *envelope == of => {
                roster.peek().ok().map(|roster| Fate::EpochGone(roster.epoch))
            }
            message => verdict_of(message, of).map(Fate::Answered),
        });
        fate.unwrap_or_else(|end| Fate::Answered(end.into()))
    }
}

/// The entry of an object.
pub(crate) fn entry(object: &[u8]) -> ObjectEntry {
    ObjectEntry { id: ObjectId::of(object), bytes: object.len() as u32 }
}
