//! What one actor has to tell another, and what the rest of the node asks of a counterpart.
//!
//! **Invariant:** no actor waits for another one: an errand that finds no place is dropped, and what it was about is found
//! again in the store.

use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::directory::PageError;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::listing::Listed;
use tokio::sync::{mpsc, oneshot};

use super::peer::Command;
use super::{Exchange, lock};

/// Errands that wait.
pub(super) const ERRANDS_MAX: usize = 1_024;
/// How long an answer of a counterpart is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Something for another actor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Errand {
    /// Introduction messages wait under this agreement.
    Introductions(AgreementId),
    /// This agreement was completed.
    AgreementChanged(AgreementId),
}

/// Why a steward has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Its control lane is not up, or was lost.
    #[error("it is not online")]
    Offline,
    /// It does not answer in time.
    #[error("it does not answer")]
    Silent,
    /// It keeps no directory for this entity.
    #[error("it keeps no directory for this entity")]
    Closed,
    /// It was asked too often, or too many questions are open.
    #[error("it was asked too often: try again in a minute")]
    Later,
    /// Its answer is not to be believed.
    #[error(transparent)]
    Lie(#[from] PageError),
}

/// One page of a directory, and whether there are more.
pub(super) type PageAnswer = Result<(Vec<Listed>, bool), AskError>;

impl Exchange {
    /// One page of a steward's directory behind `after`, checked, and whether there are more.
    ///
    /// # Errors
    /// An [`AskError`].
    pub async fn ask_directory(&self, with: &AgreementId, after: Option<EntityId>) -> PageAnswer {
        let (reply, answer) = oneshot::channel();
        self.tell(with, Command::Ask { after, reply }).await;
        match tokio::time::timeout(ANSWER_WAIT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AskError::Offline),
            Err(_) => Err(AskError::Silent),
        }
    }

    /// This entity's listing at a steward has changed.
    pub async fn listing_changed(&self, with: &AgreementId) {
        self.tell(with, Command::ListingChanged).await;
    }

    /// Introduction messages wait under an agreement.
    pub async fn introductions_wait(&self, via: &AgreementId) {
        self.tell(via, Command::Introductions).await;
    }
}

/// Does the actors' errands until the node stops.
pub(super) async fn run(exchange: Exchange, mut orders: mpsc::Receiver<Errand>) {
    let stop = exchange.inner.context.stop.clone();
    loop {
        let errand = tokio::select! {
            () = stop.cancelled() => return,
            errand = orders.recv() => errand,
        };
        match errand {
            None => return,
            Some(Errand::AgreementChanged(id)) => exchange.agreement_changed(&id).await,
            // Never waited for: the actor looks for itself every now and then.
            Some(Errand::Introductions(id)) => {
                let peer = lock(&exchange.inner.context.peers).get(&id).map(|peer| peer.commands.clone());
                if let Some(peer) = peer {
                    let _ = peer.try_send(Command::Introductions);
                }
            }
        }
    }
}
