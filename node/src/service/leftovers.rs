//! What a crash left between two steps that belong together is taken away: objects without a message before anything moves,
//! keys without a row beside the first work.
//!
//! **Invariant:** nothing here costs more the more messages there are before the node is ready, as long as nothing was
//! broken off.

use std::collections::HashSet;
use std::ops::ControlFlow;

use tokio_util::sync::CancellationToken;

use super::Answer;
use crate::blob::Owner;
use crate::book::Book;
use crate::mailroom::rows::{InItem, IncomingRow, OutMessage};
use crate::mailroom::{Mailroom, incoming_owner, known_owner, outgoing_owner};
use crate::slots::SlotId;
use crate::store::StoreError;
use crate::store::tables::{INBOX, INCOMING, OUT_MESSAGES};

/// Releases the objects of messages that a crash broke off before anything spoke of them; gives how many messages.
pub(super) async fn release_orphans(mailroom: &Mailroom) -> Answer<usize> {
    let under_way = owners_under_way(mailroom)?;
    let suspects: Vec<Owner> =
        mailroom.blobs.unsettled()?.into_iter().filter(|owner| !under_way.contains(owner)).collect();
    if suspects.is_empty() {
        return Ok(0);
    }
    // An object that came late may have made its owner a suspect although there is a message.
    let needed = owners_with_a_message(mailroom)?;
    let mut count = 0;
    for owner in suspects {
        if needed.contains(&owner) {
            mailroom.store.write(move |tx| crate::blob::Blobs::settle(tx, owner)).await?;
        } else {
            mailroom.blobs.release(owner).await?;
            count += 1;
        }
    }
    Ok(count)
}

fn owners_under_way(mailroom: &Mailroom) -> Answer<HashSet<Owner>> {
    let mut owners = HashSet::from([known_owner()]);
    mailroom.store.read(|tx| {
        tx.scan(&INCOMING, .., |(from, envelope), _: IncomingRow| {
            owners.insert(incoming_owner(&from, &envelope));
            Ok(ControlFlow::Continue(()))
        })
    })?;
    Ok(owners)
}

fn owners_with_a_message(mailroom: &Mailroom) -> Answer<HashSet<Owner>> {
    let mut owners = HashSet::new();
    mailroom.store.read(|tx| {
        tx.scan(&OUT_MESSAGES, .., |id, _: OutMessage| {
            owners.insert(outgoing_owner(&id));
            Ok(ControlFlow::Continue(()))
        })?;
        tx.scan(&INBOX, .., |_, item: InItem| {
            if let InItem::Message(message) = item {
                owners.insert(incoming_owner(&message.from, &message.envelope));
            }
            Ok::<_, StoreError>(ControlFlow::Continue(()))
        })
    })?;
    Ok(owners)
}

/// Erases keys of an earlier run that no row speaks of; they open nothing that anybody was told of.
pub(super) async fn erase_keys(mailroom: Mailroom, book: Book, old_keys: Vec<SlotId>, stop: CancellationToken) {
    let erased = tokio::select! {
        () = stop.cancelled() => return,
        erased = mailroom.erase_unneeded(old_keys, book.slots_in_use()) => erased,
    };
    if let Err(error) = erased {
        tracing::warn!(%error, "cannot look for keys that a crash left behind; the next start does");
    }
}
