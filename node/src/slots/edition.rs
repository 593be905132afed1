//! One edition of the file of key slots: which places are free, and how they are read and written.
//!
//! **Invariant:** a place is free for the next key only once the erasure of the last one is durable.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, OnceLock};

use pakt_keys::slots::{self, HEADER_BYTES, SLOT_BYTES, SlotError, SlotKey};
use rand_core::Rng;
use zeroize::Zeroizing;

use super::{GENERATION, STRIDE, SlotId, SlotsError, TAG_BYTES, offset};
use crate::disk::{DiskError, DiskFile};
use crate::store::{Store, random};

/// One edition of the file.
pub(super) struct Edition {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) key: SlotKey,
    /// The tag of each slot in use.
    pub(super) tags: Vec<Option<[u8; TAG_BYTES]>>,
    /// The places among them that are free.
    free: BTreeSet<usize>,
    pub(super) failed: bool,
}

/// A put or an erasure, until it is durable or failed.
pub(super) struct Change {
    pub(super) kind: ChangeKind,
    pub(super) done: OnceLock<Result<Option<SlotId>, SlotsError>>,
}

pub(super) enum ChangeKind {
    Put(Zeroizing<Vec<u8>>),
    Erase(Vec<SlotId>),
}

/// A place, and the tag of what it holds from now on.
type Place = (usize, Option<[u8; TAG_BYTES]>);

/// Tag and key material of a slot.
type OpenSlot = ([u8; TAG_BYTES], Zeroizing<Vec<u8>>);

fn open_slot(key: &SlotKey, index: usize, slot: &[u8]) -> Option<OpenSlot> {
    let plain = slots::open_slot(key, index as u64, GENERATION, slot)?;
    let (tag, secret) = plain.split_first_chunk()?;
    Some((*tag, Zeroizing::new(secret.to_vec())))
}

pub(super) fn seal_slot(
    key: &SlotKey,
    index: usize,
    tag: &[u8; TAG_BYTES],
    secret: &[u8],
) -> Result<[u8; SLOT_BYTES], SlotError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(TAG_BYTES + secret.len()));
    plain.extend_from_slice(tag);
    plain.extend_from_slice(secret);
    slots::seal_slot(key, index as u64, GENERATION, &plain, &mut random())
}

impl Edition {
    pub(super) fn read(store: &Store, file: Arc<dyn DiskFile>) -> Result<Edition, SlotsError> {
        let bytes = file.len()?;
        if bytes < HEADER_BYTES as u64 {
            return Err(SlotError::Damaged.into());
        }
        let mut header = [0; HEADER_BYTES];
        file.read_at(0, &mut header)?;
        let key = slots::header_open(store.key(), &header)?;
        // A slot that a crash cut short was never answered for; the next one takes its place.
        let count = (bytes - HEADER_BYTES as u64) / SLOT_BYTES as u64;
        let count = usize::try_from(count).map_err(|_| DiskError::Io(io::ErrorKind::FileTooLarge))?;
        let mut edition = Edition { file, key, tags: Vec::with_capacity(count), free: BTreeSet::new(), failed: false };
        edition.each_stride(count, |edition, first, bytes| {
            for (at, opened) in edition.open_stride(first, bytes)?.into_iter().enumerate() {
                edition.enter(first + at, opened.map(|(tag, _)| tag));
            }
            Ok(())
        })?;
        Ok(edition)
    }

    /// Opens the slots of a stride that was read. What does not open is read once more: taken for erased, a key would be
    /// lost for good because one read of it went wrong.
    fn open_stride(&self, first: usize, bytes: &[u8]) -> Result<Vec<Option<OpenSlot>>, SlotsError> {
        let mut again: Option<Vec<u8>> = None;
        let mut opened = Vec::with_capacity(bytes.len() / SLOT_BYTES);
        for (at, slot) in bytes.chunks_exact(SLOT_BYTES).enumerate() {
            let mut found = open_slot(&self.key, first + at, slot);
            if found.is_none() {
                if again.is_none() {
                    let mut bytes = vec![0; bytes.len()];
                    self.file.read_at(offset(first), &mut bytes)?;
                    again = Some(bytes);
                }
                let place = at * SLOT_BYTES..(at + 1) * SLOT_BYTES;
                let other = again.as_ref().map(|again| &again[place]).filter(|again| *again != slot);
                found = other.and_then(|slot| open_slot(&self.key, first + at, slot));
            }
            opened.push(found);
        }
        Ok(opened)
    }

    /// Reads the first `count` slots in strides; `visit` gets the index of the first slot of each.
    fn each_stride(
        &mut self,
        count: usize,
        mut visit: impl FnMut(&mut Edition, usize, &[u8]) -> Result<(), SlotsError>,
    ) -> Result<(), SlotsError> {
        let mut buffer = vec![0; STRIDE.min(count) * SLOT_BYTES];
        let mut first = 0;
        while first < count {
            let slots = STRIDE.min(count - first);
            let bytes = &mut buffer[..slots * SLOT_BYTES];
            self.file.read_at(offset(first), bytes)?;
            visit(self, first, bytes)?;
            first += slots;
        }
        Ok(())
    }

    /// Notes what a place holds; places up to it are free.
    pub(super) fn enter(&mut self, index: usize, tag: Option<[u8; TAG_BYTES]>) {
        if self.tags.len() <= index {
            self.free.extend(self.tags.len()..=index);
            self.tags.resize(index + 1, None);
        }
        self.tags[index] = tag;
        match tag {
            Some(_) => self.free.remove(&index),
            None => self.free.insert(index),
        };
    }

    fn index_of(&self, id: SlotId) -> Option<usize> {
        let index = usize::try_from(id.index).ok()?;
        (self.tags.get(index).copied().flatten() == Some(id.tag)).then_some(index)
    }

    pub(super) fn secret(&self, id: SlotId) -> Result<Option<Zeroizing<Vec<u8>>>, SlotsError> {
        let Some(index) = self.index_of(id) else {
            return Ok(None);
        };
        let mut slot = [0; SLOT_BYTES];
        self.file.read_at(offset(index), &mut slot)?;
        let opened = self.open_stride(index, &slot)?.pop().flatten().filter(|(tag, _)| *tag == id.tag);
        Ok(opened.map(|(_, secret)| secret))
    }

    /// Writes a put or an erasure, without the sync; gives the places that are to be entered once it is durable.
    fn write(&mut self, kind: &ChangeKind) -> Result<Vec<Place>, SlotsError> {
        match kind {
            ChangeKind::Put(secret) => {
                // The first free one, so that the file stays short.
                let index = self.free.first().copied().unwrap_or(self.tags.len());
                let mut tag = [0; TAG_BYTES];
                random().fill_bytes(&mut tag);
                let slot = seal_slot(&self.key, index, &tag, secret)?;
                self.file.write_at(offset(index), &slot)?;
                // No other put before the sync takes this place, and nobody knows its tag.
                self.enter(index, Some(tag));
                Ok(vec![(index, Some(tag))])
            }
            ChangeKind::Erase(ids) => {
                let indices: Vec<usize> = ids.iter().filter_map(|id| self.index_of(*id)).collect();
                for index in &indices {
                    self.file.write_at(offset(*index), &slots::erased_slot(&mut random()))?;
                }
                Ok(indices.into_iter().map(|index| (index, None)).collect())
            }
        }
    }

    /// Makes changes durable together.
    pub(super) fn apply(&mut self, changes: &[Arc<Change>]) -> Result<(), SlotsError> {
        let written: Vec<_> = changes.iter().map(|change| (change, self.write(&change.kind))).collect();
        let wrote = written.iter().any(|(_, places)| places.as_ref().is_ok_and(|places| !places.is_empty()));
        let synced = if wrote { self.file.sync().map_err(SlotsError::from) } else { Ok(()) };
        for (change, places) in written {
            let done = match (&synced, places) {
                (Ok(()), Ok(places)) => Ok(self.enter_all(&places)),
                (Err(error), Ok(places)) => {
                    // What was put and is not durable is no slot; what was erased may be one still.
                    places.iter().filter(|(_, tag)| tag.is_some()).for_each(|(index, _)| self.enter(*index, None));
                    Err(error.clone())
                }
                (_, Err(error)) => Err(error),
            };
            let _ = change.done.set(done);
        }
        synced
    }

    fn enter_all(&mut self, places: &[Place]) -> Option<SlotId> {
        places.iter().for_each(|(index, tag)| self.enter(*index, *tag));
        places.iter().find_map(|(index, tag)| Some(SlotId { index: *index as u64, tag: (*tag)? }))
    }

    /// Writes the next edition of all slots in use to `file`.
    pub(super) fn copy_to(&mut self, store: &Store, file: Arc<dyn DiskFile>) -> Result<Edition, SlotsError> {
        let count = self.tags.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let key = SlotKey::generate(&mut random());
        file.write_at(0, &slots::header_seal(store.key(), &key, &mut random()))?;
        let mut next = Edition { file, key, tags: Vec::with_capacity(count), free: BTreeSet::new(), failed: false };
        self.each_stride(count, |edition, first, bytes| {
            let mut out = Vec::with_capacity(bytes.len());
            for (at, opened) in edition.open_stride(first, bytes)?.into_iter().enumerate() {
                let index = first + at;
                let wanted = edition.tags[index];
                let opened = opened.filter(|(tag, _)| Some(*tag) == wanted);
                match &opened {
                    Some((tag, secret)) => out.extend_from_slice(&seal_slot(&next.key, index, tag, secret)?),
                    None => out.extend_from_slice(&slots::erased_slot(&mut random())),
                }
                if wanted.is_some() && opened.is_none() {
                    tracing::error!("a key slot is damaged; what it kept cannot be opened any more");
                }
                next.enter(index, opened.map(|(tag, _)| tag));
            }
            Ok(next.file.write_at(offset(first), &out)?)
        })?;
        next.file.sync()?;
        Ok(next)
    }
}
