//! Later door grants, both ways, and what happens to lanes when keys are replaced.

use pakt_protocol::message::{Grant, Granted};

use super::{PeerActor, Timer, now};
use crate::net::Lane;

impl PeerActor {
    /// Tells the counterpart the newest grant, until it has confirmed it; makes one first if one is due.
    pub(super) async fn tell_grant(&mut self) {
        if !self.is_live() {
            return;
        }
        let book = self.context.book.clone();
        let renewed = book.renew_grant_if_due(&self.id, now()).await;
        match renewed.and_then(|_| book.unconfirmed_grant(&self.id)) {
            Ok(Some(grant)) => self.transmit(Grant { grant }.into()),
            Ok(None) => {}
            Err(error) => tracing::error!(agreement = %self.id, %error, "a new door grant could not be made"),
        }
    }

    pub(super) async fn take_grant(&mut self, message: Grant) {
        match self.context.book.take_grant(&self.id, &message.grant).await {
            Ok(counter) => self.transmit(Granted { agreement: self.id, counter }.into()),
            Err(why) => self.close_session(why).await,
        }
    }

    pub(super) async fn take_granted(&mut self, message: Granted) {
        if message.agreement != self.id {
            return self.close_session("a confirmed door grant of another agreement").await;
        }
        if let Err(error) = self.context.book.grant_confirmed(&self.id, message.counter).await {
            tracing::error!(agreement = %self.id, %error, "the confirmation of a door grant could not be stored");
        }
    }

    /// This node's keys were replaced: everything goes on over lanes that show the new ones. `again` is a while later, for
    /// lanes that were being dialled by the counterpart at that moment and still show the old ones.
    pub(super) async fn handle_identity_changed(&mut self, again: bool) {
        if again && self.live.as_ref().is_none_or(|live| live.dialer) {
            return;
        }
        self.abort_dials();
        match self.live.as_ref().map(|live| live.number) {
            Some(number) => self.handle_lost(number, "this node's keys were replaced").await,
            None => self.timers.set(Timer::Dial, now()),
        }
    }

    /// Whether a lane belongs to the keys that the counterpart has now, as far as this node knows.
    pub(super) fn shows_current_keys(&self, lane: &Lane) -> bool {
        self.agreement().is_some_and(|agreement| agreement.node.transport.0 == lane.peer.transport)
    }
}
