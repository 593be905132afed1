//! What arrived: messages and reports, newest first.

use std::ops::{ControlFlow, RangeInclusive};

use pakt_keys::EntityId;
use pakt_protocol::audit::{BlindedHead, Event, MessageStep};
use pakt_protocol::content::manifest::ManifestKey;
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId, ObjectId};
use pakt_protocol::message::Offer;
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;
use zeroize::Zeroizing;

use super::page::Page;
use super::rate::{self, Counted, Direction};
use super::receipts::Arrived;
use super::rows::{InItem, InMessage, IncomingRow, SettledRow};
use super::{MailError, Mailroom, incoming_owner, release, retention, words};
use crate::audit;
use crate::blob::Blobs;
use crate::metrics::counted;
use crate::reconcile::numbers;
use crate::slots::SlotId;
pub(super) use crate::store::tables::INBOX as ITEMS;
use crate::store::tables::{IN_PLACES, IN_SEGMENTS, INBOX, INBOX_GROUPS, INBOX_IDS, INCOMING, OWED, SETTLED};
use crate::store::{Rows, StoreError, WriteTx};

/// Adds an item as the newest, and gives its place.
pub(super) fn add_item(tx: &mut WriteTx, item: &InItem) -> Result<u64, StoreError> {
    let sequence = tx.next_sequence("inbox")?;
    tx.put(&INBOX_IDS, &item.id(), &sequence)?;
    tx.put(&INBOX_GROUPS, &(item.group().0, sequence), &())?;
    tx.put(&INBOX, &sequence, item)?;
    Ok(sequence)
}

/// Whether the id by which people name this envelope names something else here: what another sender sent, or a report.
fn is_id_taken(tx: &impl Rows, (from, envelope): &Arrived) -> Result<bool, StoreError> {
    let Some(sequence) = tx.get(&INBOX_IDS, &envelope.0)? else { return Ok(false) };
    Ok(match tx.get(&INBOX, &sequence)? {
        Some(InItem::Message(message)) => message.from != *from,
        Some(InItem::Report(_)) => true,
        None => false,
    })
}

/// What an incoming envelope commits to, besides its objects, which are pinned already.
pub struct Arrival {
    /// Its row, with a slot still to be filled; none for an envelope that cannot be opened.
    pub message: Option<InMessage>,
    /// Whether a scanner must pass it before anybody sees it.
    pub scan: bool,
    /// Its manifest key.
    pub key: Zeroizing<[u8; 32]>,
    /// Its segments in order.
    pub segments: Vec<ObjectId>,
    /// What the log notes about it.
    pub note: ArrivalNote,
    /// Makes what is answered, now and to every duplicate, from the blinded head of the log with the note in it.
    pub answer: Answer,
}

/// Makes a signed receipt.
pub type Answer = Box<dyn FnOnce(BlindedHead) -> Vec<u8> + Send>;

/// What the log notes about an envelope that was settled here.
#[derive(Debug, Clone, Copy)]
pub struct ArrivalNote {
    /// The message.
    pub message: MessageId,
    /// The agreement.
    pub agreement: AgreementId,
    /// Its number under the agreement.
    pub number: u64,
    /// The core that the receipt is about.
    pub core: CoreHash,
}

impl ArrivalNote {
    fn event(self, (entity, envelope): (EntityId, EnvelopeId), received: bool, blinder: [u8; 32]) -> Event {
        let ArrivalNote { message, agreement, core, .. } = self;
        let step =
            if received { MessageStep::Received { core, blinder } } else { MessageStep::RefusedHere { core, blinder } };
        Event::Message { envelope, message, agreement, entity, step }
    }
}

impl Mailroom {
    /// Keeps an accepted offer, or finds the one that was kept before; it is counted where the rate is limited.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn begin_incoming(
        &self,
        from: EntityId,
        offer: Offer,
        now: Time,
        counted: Option<Counted>,
    ) -> Result<IncomingRow, MailError> {
        let key = (from, offer.envelope);
        let row = self.store.write(move |tx| {
            let offered_at = tx.get(&INCOMING, &key)?.map_or(now, |row: IncomingRow| row.offered_at);
            let row = IncomingRow { offer: offer.clone(), offered_at };
            // It may have been refused and dropped before: that must not take away what comes now.
            Blobs::take_back(tx, incoming_owner(&from, &offer.envelope))?;
            tx.put(&INCOMING, &key, &row)?;
            if let Some(counted) = &counted {
                rate::count(tx, (from, Direction::Received), offer.envelope, counted)?;
            }
            Ok::<_, StoreError>(row)
        });
        Ok(row.await?)
    }

    /// The accepted offer of an envelope.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn incoming(&self, from: &EntityId, envelope: &EnvelopeId) -> Result<Option<IncomingRow>, MailError> {
        Ok(self.store.read(|tx| tx.get(&INCOMING, &(*from, *envelope)))?)
    }

    /// The accepted offers of a counterpart that are not settled.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn all_incoming(&self, from: &EntityId) -> Result<Vec<IncomingRow>, MailError> {
        let rows = self.store.read(|tx| tx.prefix(&INCOMING, from, usize::MAX))?;
        Ok(rows.into_iter().map(|((_, _), row)| row).collect())
    }

    /// Forgets an envelope that was not committed, and frees its objects.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn drop_incoming(&self, from: EntityId, envelope: EnvelopeId) -> Result<(), MailError> {
        let blobs = self.blobs.clone();
        let dropped = self.store.write(move |tx| {
            tx.remove(&INCOMING, &(from, envelope))?;
            blobs.unpin(tx, incoming_owner(&from, &envelope))
        });
        Ok(dropped.await?)
    }

    /// Lets go of objects that arrived for an envelope after it was dropped.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn drop_late(&self, from: EntityId, envelope: EnvelopeId) -> Result<(), MailError> {
        let blobs = self.blobs.clone();
        let dropped = self.store.write(move |tx| {
            let key = (from, envelope);
            if tx.contains(&INCOMING, &key)? || tx.contains(&SETTLED, &key)? {
                return Ok(());
            }
            blobs.unpin(tx, incoming_owner(&from, &envelope))
        });
        Ok(dropped.await?)
    }

    /// What was answered to an envelope for good.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn settled(&self, from: &EntityId, envelope: &EnvelopeId) -> Result<Option<SettledRow>, MailError> {
        Ok(self.store.read(|tx| tx.get(&SETTLED, &(*from, *envelope)))?)
    }

    /// Whether an envelope's id names something else here. Senders pick ids, and whoever is shown a receipt knows one: what
    /// is here already must stay the one that its id names.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn is_id_taken(&self, arrived: &Arrived) -> Result<bool, MailError> {
        Ok(self.store.read(|tx| is_id_taken(tx, arrived))?)
    }

    /// Commits an envelope: its key in a slot first, then message, receipt, the log's entry and the mark against duplicates
    /// in one commit.
    ///
    /// # Errors
    /// [`MailError::IdTaken`], which comes again however often it is tried, and others; nothing of it is then visible.
    pub async fn commit(
        &self,
        from: EntityId,
        envelope: EnvelopeId,
        mut arrival: Arrival,
    ) -> Result<Vec<u8>, MailError> {
        if let Some(message) = &mut arrival.message {
            message.words = words::seal(message, &arrival.key);
        }
        let slot = match &arrival.message {
            Some(_) => Some(self.put_key(arrival.key.clone()).await?),
            None => None,
        };
        let blobs = self.blobs.clone();
        let committed: Result<Vec<u8>, MailError> = self
            .store
            .write(move |tx| {
                let key = (from, envelope);
                if let Some(earlier) = tx.get(&SETTLED, &key)? {
                    // Two sessions may race for the same envelope: the first answer is the only one.
                    return Ok(earlier.receipt);
                }
                if slot.is_some() && is_id_taken(tx, &key)? {
                    return Err(MailError::IdTaken);
                }
                tx.remove(&INCOMING, &key)?;
                let head = audit::append_blinded(tx, |blinder| arrival.note.event(key, slot.is_some(), blinder))?;
                let receipt = (arrival.answer)(head);
                let settled = SettledRow { core: arrival.note.core, receipt, later: Vec::new() };
                tx.put(&SETTLED, &key, &settled)?;
                let place = u8::from(slot.is_some());
                tx.put(&OWED, &(from, envelope, place), &settled.receipt)?;
                match (arrival.message, slot) {
                    (Some(message), Some(slot)) => {
                        numbers::arrived(tx, (arrival.note.agreement, arrival.note.number), envelope)?;
                        Blobs::settle(tx, incoming_owner(&from, &envelope))?;
                        tx.on_commit(|| {
                            counted().received.inc();
                        });
                        tx.put(&IN_SEGMENTS, &key, &arrival.segments)?;
                        let mut message = InMessage { key: Some(slot), ..message };
                        retention::keep(tx, &mut message)?;
                        let item = InItem::Message(message);
                        let sequence = add_item(tx, &item)?;
                        tx.put(&IN_PLACES, &key, &sequence)?;
                        if let InItem::Message(message) = &item {
                            release::begin(tx, message, sequence, arrival.scan)?;
                        }
                    }
                    _ => blobs.unpin(tx, incoming_owner(&from, &envelope))?,
                }
                Ok(settled.receipt)
            })
            .await;
        if let (Err(error), Some(slot)) = (&committed, slot) {
            match error {
                MailError::Store(error) => self.erase_unless_kept(slot, error).await,
                _ => self.erase(slot).await,
            }
        }
        self.changed();
        self.release_due();
        committed
    }

    /// Notes in the log that somebody looked into a message or took its files; only then may it be shown.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn note_access(&self, message: &InMessage, step: MessageStep) -> Result<(), MailError> {
        let &InMessage { envelope, message, agreement, from: entity, .. } = message;
        let event = Event::Message { envelope, message, agreement, entity, step };
        Ok(self.store.write_blocking(move |tx| audit::append(tx, event))?)
    }

    async fn put_key(&self, key: Zeroizing<[u8; 32]>) -> Result<SlotId, MailError> {
        let slots = self.slots.clone();
        let put = tokio::task::spawn_blocking(move || slots.put(&*key)).await;
        Ok(put.map_err(|_| StoreError::Panicked)??)
    }

    /// The newest items whole, of one group or of all.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn inbox(&self, group: Option<&GroupId>) -> Result<Vec<InItem>, MailError> {
        self.inbox_page(group, &Page::default(), InItem::clone)
    }

    /// The newest items first, of one group or of all, as many as the page asks for; `show` makes of each what is kept of
    /// it, so that long texts do not add up.
    ///
    /// # Errors
    /// [`MailError::Missing`] where the page begins at an item that is not there, [`MailError::Store`].
    pub fn inbox_page<T>(
        &self,
        group: Option<&GroupId>,
        page: &Page,
        mut show: impl FnMut(&InItem) -> T,
    ) -> Result<Vec<T>, MailError> {
        let before = match page.before {
            Some(id) => self.store.read(|tx| tx.get(&INBOX_IDS, &id))?.ok_or(MailError::Missing)?,
            None => u64::MAX,
        };
        let (mut shown, mut failed) = (Vec::new(), None);
        let mut take = |item| match self.with_words(item) {
            Ok(item) => page.take(&mut shown, show(&item)),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        self.store.read(|tx| match group {
            None => tx.scan_backwards(&INBOX, ..before, |_, item| Ok(take(item))),
            Some(GroupId(group)) => {
                tx.scan_backwards(&INBOX_GROUPS, (*group, 0)..(*group, before), |(_, place), ()| {
                    // An item that was deleted leaves no gap.
                    let item = tx.get(&INBOX, &place)?;
                    Ok(item.map_or(ControlFlow::Continue(()), &mut take))
                })
            }
        })?;
        failed.map_or(Ok(shown), Err)
    }

    /// The ids of items that begin with certain digits, two at most.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn items_named(&self, span: RangeInclusive<[u8; 16]>) -> Result<Vec<[u8; 16]>, MailError> {
        let found = self.store.read(|tx| tx.range(&INBOX_IDS, span, 2))?;
        Ok(found.into_iter().map(|(id, _)| id).collect())
    }

    /// One item by the id that listings show.
    ///
    /// # Errors
    /// [`MailError::Missing`] or [`MailError::Store`].
    pub fn item(&self, id: &[u8; 16]) -> Result<InItem, MailError> {
        let item = self.store.read(|tx| match tx.get(&INBOX_IDS, id)? {
            Some(sequence) => tx.get(&INBOX, &sequence),
            None => Ok(None),
        })?;
        let item = item.ok_or(MailError::Missing)?;
        self.with_words(item)
    }

    /// What is needed to open a message: its segments in order and its manifest key.
    ///
    /// # Errors
    /// [`MailError`].
    pub fn opening(&self, message: &InMessage) -> Result<(Vec<ObjectId>, ManifestKey), MailError> {
        let segments = self.store.read(|tx| tx.get(&IN_SEGMENTS, &(message.from, message.envelope)))?;
        let bytes = self.slots.get(message.key.ok_or(MailError::Missing)?)?.ok_or(MailError::Missing)?;
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| MailError::Missing)?;
        Ok((segments.ok_or(MailError::Missing)?, ManifestKey::from_bytes(key)))
    }
}
