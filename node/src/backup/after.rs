//! The first start of a restored node: it must not say again what it said before the backup was made, nor trust that
//! the world stood still.
//!
//! Everything but the new door grants is one commit before the book is opened, so that a crash repeats it from the beginning or not at all.
//! What follows from it comes later: the operator confirms each agreement, and its counterpart is told of the gap
//! (`exchange/peer/restored`).
//!
//! **Invariant:** nothing is dialled, answered or sent before this is durable.

use pakt_protocol::audit::Event;

use crate::ambient;
use crate::audit;
use crate::book::{self, Book, BookError};
use crate::entity::Entity;
use crate::mailroom::outbox::ask_again;
use crate::store::tables::RESTORED;
use crate::store::{Store, StoreError};

/// Does once what a restore asks for; nothing in a store that was never restored. Blocks on the disk.
///
/// # Errors
/// When the store fails.
pub(crate) fn settle(store: &Store, entity: &Entity) -> Result<(), StoreError> {
    let Some(row) = store.read(|tx| tx.get(&RESTORED, &()))?.filter(|row| !row.settled) else { return Ok(()) };
    let entity = entity.clone();
    let (generation, backup_at) = (row.generation, row.backup_at);
    store.write_blocking(move |tx| {
        let now = ambient::now();
        book::after_restore(tx, &entity, &row, now)?;
        audit::append(tx, Event::Restored)?;
        ask_again(tx, i64::try_from(now.since(row.backup_at).as_micros()).unwrap_or(i64::MAX))?;
        let settled = super::rows::RestoredRow { settled: true, ..row };
        tx.put(&RESTORED, &(), &settled)
    })?;
    tracing::warn!(generation, ?backup_at, "this node was restored from a backup; its agreements wait to be confirmed");
    Ok(())
}

/// Makes new door grants after a restore: those that were given since the backup are not known here any more. They are
/// told to each counterpart once its agreement is confirmed.
///
/// # Errors
/// When the store fails.
pub(crate) async fn renew_grants(store: &Store, book: &Book) -> Result<(), BookError> {
    let row = store.read(|tx| tx.get(&RESTORED, &()))?.filter(|row| !row.grants_renewed);
    let Some(row) = row else { return Ok(()) };
    book.renew_grants().await?;
    let renewed = super::rows::RestoredRow { grants_renewed: true, ..row };
    let written: Result<(), StoreError> = store.write(move |tx| tx.put(&RESTORED, &(), &renewed)).await;
    Ok(written?)
}
