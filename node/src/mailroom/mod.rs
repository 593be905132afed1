//! What users see: messages going out, messages and reports that came in.
//!
//! [`outbox`] keeps what was submitted until every envelope of it has ended, [`early`] what is offered before, [`open`] counts what has not ended;
//! [`inbox`] keeps what arrived, [`page`] says which part of a list is asked for. Moving messages is the business of [`crate::exchange`]; sealing
//! and opening content that of [`crate::content`]. [`receipts`] is what this side states about what arrived, and what counterparts state about
//! what was sent. [`purge`] takes a message away for good, [`retention`] when its time is over, `recall` when its sender wants it back.
//!
//! **Invariant:** a change that a receipt speaks of is one commit: content pinned, key in its slot, row, duplicate mark.

pub mod early;
pub mod inbox;
pub(crate) mod journal;
pub mod open;
pub mod outbox;
pub mod page;
pub mod purge;
pub mod rate;
pub(crate) mod recall;
pub mod receipts;
pub mod release;
pub mod retention;
pub mod rows;
#[cfg(test)]
mod scale_tests;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::sync::Arc;

use pakt_keys::EntityId;
use pakt_protocol::ids::{EnvelopeId, MessageId};
use tokio::sync::{Notify, watch};

use crate::blob::{BlobError, Blobs, Owner};
use crate::slots::{Slots, SlotsError};
use crate::store::{Store, StoreError};

/// Why the mailroom could not do something.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Records could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Objects could not be read or written.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// A key slot could not be read or written.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// There is no such message.
    #[error("there is no message with this id")]
    Missing,
    /// The id of what came names something else that is here.
    #[error("the id names another message that is here")]
    IdTaken,
}

/// The mailroom; clones share it.
#[derive(Clone)]
pub struct Mailroom {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) slots: Slots,
    changes: watch::Sender<u64>,
    releases: Arc<Notify>,
}

impl Mailroom {
    /// A mailroom over these stores.
    pub fn new(store: Store, blobs: Blobs, slots: Slots) -> Mailroom {
        Mailroom { store, blobs, slots, changes: watch::Sender::new(0), releases: Arc::default() }
    }

    /// The objects of all messages.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// A number that grows with every visible change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Something waits for its check.
    pub(crate) fn release_due(&self) {
        self.releases.notify_one();
    }

    /// What whoever checks messages waits for.
    pub(crate) fn release_waiter(&self) -> Arc<Notify> {
        self.releases.clone()
    }

    /// Tells watchers that something visible changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|revision| *revision += 1);
    }
}

/// The owner of objects that this node sends. Hashed, so that no id that a counterpart picks can ever be one of ours.
pub fn outgoing_owner(message: &MessageId) -> Owner {
    owner("pakt outgoing owner v1", &[&message.0])
}

/// The owner of objects that came with an envelope.
pub fn incoming_owner(origin: &EntityId, envelope: &EnvelopeId) -> Owner {
    owner("pakt incoming owner v1", &[&origin.0, &envelope.0])
}

/// The owner of sent objects that are kept to be known again.
pub(crate) fn known_owner() -> Owner {
    owner("pakt known content owner v1", &[])
}

fn owner(context: &str, parts: &[&[u8]]) -> Owner {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    let mut owner = [0; 16];
    hasher.finalize_xof().fill(&mut owner);
    owner
}
