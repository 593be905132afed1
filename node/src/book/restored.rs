//! What a restore does to the book, on both sides: a restored node begins above everything that it may have said, and
//! its counterparts learn what it lost.
//!
//! **Invariant:** a counterpart never sees a number of a restored node twice: what it counts by itself goes on from the
//! larger of the restore's moment in microseconds and 2^32 above the backup.
//! **Invariant:** a restored node's door refuses every flight from before the restore.

use pakt_protocol::agreement::Life;
use pakt_protocol::door::CounterWindow;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::limits::DOOR_COUNTERS_MAX;
use pakt_protocol::record::restored::{self, RestoreNotice};
use pakt_protocol::record::{Record, Signed};
use pakt_protocol::time::Time;
use std::ops::ControlFlow;

use super::rows::{AgreementRow, ContactRow, EpochRow};
use super::{Book, BookError, ROWS_MAX, Standing};
use crate::ambient;
use crate::audit::heads;
use crate::backup::rows::{GAP_ENVELOPES_MAX, GapRow, RestoredRow};
use crate::entity::Entity;
use crate::mailroom::rows::OutEnvelope;
use crate::reconcile::numbers;
use crate::store::tables::{
    AGREEMENTS, CONTACTS, DIAL_COUNTERS, DOOR_WINDOWS, EPOCHS, GAPS, OUT_ENVELOPES, OWN_ADDRESSES, OWN_ATTESTATIONS,
    OWN_LISTINGS, OWN_ROSTERS, RESTORE_TOLD, RESTORED,
};
use crate::store::{Key, StoreError, Table, WriteTx};

/// How far counters jump that no clock drives.
const JUMP: u64 = 1 << 32;

fn jumped(counter: u64, now: Time) -> u64 {
    counter.saturating_add(JUMP).max(now.0)
}

/// Puts everything that this node counts above what it may have counted since the backup was made, and has every
/// agreement wait for the operator.
pub(crate) fn after_restore(
    tx: &mut WriteTx,
    entity: &Entity,
    restored: &RestoredRow,
    now: Time,
) -> Result<(), StoreError> {
    for (id, row) in tx.range(&AGREEMENTS, .., ROWS_MAX)? {
        if row.life.standing != Standing::Ended {
            tx.put(&AGREEMENTS, &id, &AgreementRow { life: Life { unconfirmed: true, ..row.life }, ..row })?;
        }
        shut_old_flights_out(tx, id, restored)?;
        let dialled = tx.get(&DIAL_COUNTERS, &id)?.unwrap_or(0);
        tx.put(&DIAL_COUNTERS, &id, &jumped(dialled, now))?;
    }
    sign_anew(tx, &OWN_ROSTERS, entity, |roster| roster.counter = jumped(roster.counter, now))?;
    sign_anew(tx, &OWN_ADDRESSES, entity, |update| update.counter = jumped(update.counter, now))?;
    for (id, mut row) in tx.range(&OWN_LISTINGS, .., ROWS_MAX)? {
        let mut listing = row.listing.peek().map_err(|_| StoreError::Damaged(OWN_LISTINGS.name()))?;
        listing.counter = jumped(listing.counter, now);
        row.listing = signed_by(entity, &listing);
        tx.put(&OWN_LISTINGS, &id, &row)?;
    }
    for (id, mut row) in tx.range(&OWN_ATTESTATIONS, .., ROWS_MAX)? {
        row.counter = jumped(row.counter, now);
        tx.put(&OWN_ATTESTATIONS, &id, &row)?;
    }
    numbers::after_restore(tx, |number| jumped(number, now))?;
    let epochs: Vec<(u64, EpochRow)> = tx.range(&EPOCHS, .., ROWS_MAX)?;
    for (number, _) in &epochs {
        tx.remove(&EPOCHS, number)?;
    }
    if let Some((number, last)) = epochs.into_iter().last() {
        // Its private half is in no backup: opening the book makes the next one at once.
        tx.put(&EPOCHS, &jumped(number, now), &last)?;
    }
    Ok(())
}

/// Signs every record of a table again after a change.
fn sign_anew<K: Key, T: Record>(
    tx: &mut WriteTx,
    table: &Table<K, Signed<T>>,
    entity: &Entity,
    change: impl Fn(&mut T),
) -> Result<(), StoreError> {
    for (key, signed) in tx.range(table, .., ROWS_MAX)? {
        let mut record = signed.peek().map_err(|_| StoreError::Damaged(table.name()))?;
        change(&mut record);
        tx.put(table, &key, &signed_by(entity, &record))?;
    }
    Ok(())
}

fn signed_by<T: Record>(entity: &Entity, record: &T) -> Signed<T> {
    Signed::create(record, |domain, bytes| entity.current().statement().sign(domain, bytes))
}

/// Fills the window of accepted door counters up to the restore's moment, as the counterpart's clock showed it.
fn shut_old_flights_out(tx: &mut WriteTx, id: AgreementId, restored: &RestoredRow) -> Result<(), StoreError> {
    let window: CounterWindow = tx.get(&DOOR_WINDOWS, &id)?.unwrap_or_default();
    let apart = tx.get(&CONTACTS, &id)?.map_or(0, |ContactRow { clock_difference_s, .. }| clock_difference_s);
    let moment = restored.restored_at.shifted(apart.saturating_mul(1_000_000));
    let top = window.highest().unwrap_or(0).max(moment.0).max(DOOR_COUNTERS_MAX as u64);
    let full: Vec<u64> = (0..DOOR_COUNTERS_MAX as u64).rev().map(|back| top - back).collect();
    let window = CounterWindow::try_from(full).map_err(|_| StoreError::Damaged(DOOR_WINDOWS.name()))?;
    tx.put(&DOOR_WINDOWS, &id, &window)
}

impl Book {
    /// What the counterpart of an agreement is still to be told about a restore of this node.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub fn restore_notice(&self, id: &AgreementId) -> Result<Option<Signed<RestoreNotice>>, BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        let (row, told) = self.inner.store.read(|tx| Ok((tx.get(&RESTORED, &())?, tx.get(&RESTORE_TOLD, id)?)))?;
        let Some(row) = row.filter(|row| told.is_none_or(|told| told < row.generation)) else { return Ok(None) };
        if agreement.made_at > row.restored_at {
            return Ok(None);
        }
        let notice = RestoreNotice {
            entity: self.inner.entity.id(),
            reader: agreement.counterpart().entity,
            agreement: *id,
            generation: row.generation,
            nonce: row.nonce,
            backup_at: row.backup_at,
            restored_at: row.restored_at,
        };
        let identity = self.inner.entity.current();
        Ok(Some(Signed::create(&notice, |domain, bytes| identity.statement().sign(domain, bytes))))
    }

    /// The counterpart knows of the restore with this generation.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn restore_known(&self, id: &AgreementId, generation: u64) -> Result<(), BookError> {
        let id = *id;
        let write = self.inner.store.write(move |tx| {
            let own = tx.get(&RESTORED, &())?.map_or(0, |row| row.generation);
            if generation == own && generation > 0 {
                tx.put(&RESTORE_TOLD, &id, &generation)?;
            }
            Ok::<_, StoreError>(())
        });
        Ok(write.await?)
    }

    /// Takes the counterpart's notice that it was restored, and finds what it lost; gives its generation, and how many
    /// envelopes it lost if that is news.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take_restored(
        &self,
        id: &AgreementId,
        signed: &Signed<RestoreNotice>,
    ) -> Result<(u64, Option<u64>), &'static str> {
        const NOT_STORED: &str = "it could not be stored";
        let agreement = self.get(id).ok_or("there is no such agreement")?;
        let own = self.inner.entity.id();
        let notice = restored::verify(signed, id, &agreement.node, &own)
            .map_err(|_| "this is not a valid restore notice for this agreement")?;
        let generation = notice.generation;
        match self.inner.store.read(|tx| tx.get(&GAPS, id)) {
            Ok(Some(known)) if known.notice == notice => return Ok((generation, None)),
            Ok(Some(known)) if known.notice.generation > generation => {
                return Err("the restore notice is older than one that is known");
            }
            Ok(Some(known)) if known.notice.generation == generation => {
                return Err("there are two different restore notices with one number");
            }
            Ok(_) => {}
            Err(_) => return Err(NOT_STORED),
        }
        let (book, id) = (self.clone(), *id);
        let found = tokio::task::spawn_blocking(move || book.lost_since(notice)).await;
        let (row, until) = found.map_err(|_| NOT_STORED)?.map_err(|_| NOT_STORED)?;
        let (inner, count) = (self.inner.clone(), row.count);
        let span = (row.notice.backup_at, until);
        let write = self.inner.store.write(move |tx| {
            inner.on_commit(tx, |_| {});
            numbers::counterpart_restored(tx, id, span)?;
            tx.put(&GAPS, &id, &row)
        });
        let written: Result<(), StoreError> = write.await;
        written.map(|()| (generation, Some(count))).map_err(|_| NOT_STORED)
    }

    /// The envelopes that the counterpart had receipted, by its own clock, since its backup was made, and until when.
    fn lost_since(&self, notice: RestoreNotice) -> Result<(GapRow, Time), StoreError> {
        let mut lost = Vec::new();
        self.inner.store.read(|tx| {
            tx.scan(&OUT_ENVELOPES, .., |envelope, row: OutEnvelope| {
                let held = row.receipts.iter().find(|receipt| receipt.tier > 0);
                if row.entity == notice.entity
                    && let Some(receipt) = held.filter(|receipt| receipt.at >= notice.backup_at)
                {
                    lost.push((receipt.at, envelope));
                }
                Ok(ControlFlow::Continue(()))
            })
        })?;
        lost.sort_unstable_by(|a, b| b.cmp(a));
        let count = lost.len() as u64;
        let until = lost.first().map_or(notice.restored_at, |(last, _)| notice.restored_at.max(*last));
        let envelopes = lost.into_iter().map(|(_, envelope)| envelope).take(GAP_ENVELOPES_MAX).collect();
        let learned_at = ambient::now();
        Ok((GapRow { notice, learned_at, envelopes, count, seen: false, log_settled: false }, until))
    }

    /// Counterparts that were restored, and what they lost.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn gaps(&self) -> Result<Vec<(AgreementId, GapRow)>, StoreError> {
        self.inner.store.read(|tx| tx.range(&GAPS, .., ROWS_MAX))
    }

    /// Somebody has dealt with a counterpart's gap.
    ///
    /// # Errors
    /// [`BookError::Unknown`] if there is none, or when the store fails.
    pub(crate) async fn gap_seen(&self, id: &AgreementId) -> Result<(), BookError> {
        let (inner, id) = (self.inner.clone(), *id);
        let write = self.inner.store.write(move |tx| {
            let row = tx.get(&GAPS, &id)?.ok_or(BookError::Unknown)?;
            let log_settled = row.log_settled || heads::begin_anew(tx, id)?;
            tx.put(&GAPS, &id, &GapRow { seen: true, log_settled, ..row })?;
            inner.on_commit(tx, |_| {});
            Ok(())
        });
        write.await
    }
}
