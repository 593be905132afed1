//! The directory over this lane: as a steward takes listings and answers questions, as an entity hands in its listing and
//! asks.
//!
//! **Invariant:** listings are taken and questions answered only while the agreement is in force.

use std::collections::HashMap;
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::directory::{LISTINGS_PER_DAY, PAGES_PER_MINUTE, Question, check_page};
use pakt_protocol::message::{Publish, Published, Query, QueryAnswer};
use pakt_protocol::quota::Quota;
use tokio::sync::oneshot;

use super::{PeerActor, now};
use crate::ambient;
use crate::book::Standing;
use crate::exchange::errands::{AskError, PageAnswer};

/// Questions that are open at a time.
const QUESTIONS_MAX: usize = 16;

/// What was asked on this lane, and how often the counterpart may ask.
pub(super) struct Asking {
    open: HashMap<[u8; 32], (Question, oneshot::Sender<PageAnswer>)>,
    pages: Quota,
    listings: Quota,
}

impl Default for Asking {
    fn default() -> Asking {
        Asking {
            open: HashMap::new(),
            pages: Quota::new(PAGES_PER_MINUTE, Duration::from_secs(60)),
            listings: Quota::new(LISTINGS_PER_DAY, Duration::from_secs(86_400)),
        }
    }
}

impl PeerActor {
    /// Asks the counterpart for a page of its directory.
    pub(super) fn ask(&mut self, after: Option<EntityId>, reply: oneshot::Sender<PageAnswer>) {
        self.asking.open.retain(|_, (_, reply)| !reply.is_closed());
        if !self.is_live() {
            let _ = reply.send(Err(AskError::Offline));
        } else if self.asking.open.len() >= QUESTIONS_MAX {
            let _ = reply.send(Err(AskError::Later));
        } else {
            let (steward, asker, nonce) = (self.entity, self.context.entity.id(), ambient::random());
            self.asking.open.insert(nonce, (Question { steward, asker, nonce, after }, reply));
            self.transmit(Query { nonce, after }.into());
        }
    }

    /// Nobody answers on a lane that is gone.
    pub(super) fn forget_questions(&mut self) {
        self.asking.open.clear();
    }

    pub(super) fn take_answer(&mut self, answer: QueryAnswer) {
        let nonce = match &answer {
            QueryAnswer::Page(page) => page.peek().map(|page| page.nonce).unwrap_or_default(),
            QueryAnswer::Closed { nonce } | QueryAnswer::Later { nonce } => *nonce,
        };
        let asked = self.asking.open.remove(&nonce);
        let (Some((question, reply)), Some(agreement)) = (asked, self.agreement()) else {
            tracing::debug!(agreement = %self.id, "an answer to no question");
            return;
        };
        let answer = match answer {
            QueryAnswer::Closed { .. } => Err(AskError::Closed),
            QueryAnswer::Later { .. } => Err(AskError::Later),
            QueryAnswer::Page(page) => {
                let checked = check_page(&page, &question, &agreement.node, ambient::now());
                checked.map_err(|lie| {
                    tracing::warn!(agreement = %self.id, %lie, "a directory was not believed");
                    AskError::Lie(lie)
                })
            }
        };
        let _ = reply.send(answer);
    }

    /// Answers a question; one of an entity that may not ask like one where no directory is kept.
    pub(super) fn take_query(&mut self, query: Query) {
        let Query { nonce, after } = query;
        let in_force = self.agreement().is_some_and(|agreement| agreement.in_force(now()));
        let answer = if !in_force || !self.context.directory.is_steward() {
            QueryAnswer::Closed { nonce }
        } else if !self.asking.pages.take(now()) {
            QueryAnswer::Later { nonce }
        } else {
            let question = Question { steward: self.context.entity.id(), asker: self.entity, nonce, after };
            QueryAnswer::Page(Box::new(self.context.directory.answer(&question, ambient::now())))
        };
        self.transmit(answer.into());
    }

    /// Takes the counterpart's listing.
    pub(super) async fn take_listing(&mut self, publish: Publish) {
        let Some(agreement) = self.agreement().filter(|agreement| agreement.in_force(now())) else { return };
        let Ok(counter) = publish.listing.peek().map(|listing| listing.counter) else { return };
        let may = self.asking.listings.take(now());
        let taken = if may { self.context.directory.take(&agreement, publish.listing).await } else { Ok(false) };
        match taken {
            Ok(taken) => self.transmit(Published { counter, taken }.into()),
            Err(error) => tracing::error!(agreement = %self.id, %error, "a listing could not be stored"),
        }
    }

    pub(super) async fn take_published(&mut self, published: Published) {
        let Published { counter, taken } = published;
        if let Err(error) = self.context.directory.published(self.id, counter, taken).await {
            tracing::error!(agreement = %self.id, %error, "the fate of a listing could not be stored");
        }
        self.context.mailroom.changed();
    }

    /// Forgets what either side has listed under an agreement that has ended.
    pub(super) async fn forget_listings(&mut self) {
        let Some(agreement) = self.agreement().filter(|agreement| agreement.standing == Standing::Ended) else {
            return;
        };
        if let Err(error) = self.context.directory.forget(&agreement).await {
            tracing::error!(agreement = %self.id, %error, "a listing could not be removed; it is not shown all the same");
        }
    }

    /// Tells a steward this entity's listing, if it does not hold the newest.
    pub(super) async fn hand_in_listing(&mut self) {
        let Some(agreement) = self.agreement().filter(|agreement| agreement.in_force(now())) else { return };
        if !self.is_live() {
            return;
        }
        match self.context.directory.to_publish(&agreement, ambient::now()).await {
            Ok(Some(listing)) => self.transmit(Publish { listing }.into()),
            Ok(None) => {}
            Err(error) => tracing::warn!(agreement = %self.id, %error, "the listing could not be made"),
        }
    }
}
