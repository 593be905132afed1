//! Heads of the audit log: one a day to the counterpart, and the counterpart's, kept for it.

use std::time::Duration;

use pakt_protocol::message::{LogHeadUpdate, WantLogHead};

use super::{PeerActor, now};
use crate::audit::heads::{Given, HEAD_EVERY, Taken};
use crate::book::Agreement;

/// A head is given again this often, however often it is asked for.
const AGAIN_EVERY: Duration = Duration::from_secs(5);

impl PeerActor {
    /// Gives the counterpart the head of the log, if the last one was given a day ago.
    pub(super) async fn give_head(&mut self) {
        if !self.is_live() || self.head_due.is_some_and(|due| now() < due) {
            return;
        }
        // Looked up again now and then: another run of this node may have given one.
        self.head_due = Some(now() + HEAD_EVERY / 24);
        match self.context.log.give(self.id, now()).await {
            Ok(Some(given)) => self.say_head(given),
            Ok(None) => {}
            Err(error) => tracing::error!(agreement = %self.id, %error, "the head of the log could not be signed"),
        }
    }

    /// The counterpart lacks what lies between the head that it holds and the last one that it was given.
    pub(super) async fn give_head_again(&mut self, since: u64) {
        if self.head_asked.is_some_and(|at| now().since(at) < AGAIN_EVERY) {
            return;
        }
        self.head_asked = Some(now());
        match self.context.log.give_again(self.id, since) {
            Ok(Some(given)) => self.say_head(given),
            Ok(None) => {}
            Err(error) => tracing::error!(agreement = %self.id, %error, "the head of the log could not be given again"),
        }
    }

    /// The agreement has run out: an entry of the log, once.
    pub(super) async fn note_expired(&mut self, agreement: &Agreement) {
        let noted = self.context.log.note_expired(self.id, self.entity, agreement.terms.version).await;
        if let Err(error) = noted {
            tracing::error!(agreement = %self.id, %error, "the end of an agreement could not be noted");
        }
    }

    fn say_head(&mut self, Given { head, since, proof }: Given) {
        self.transmit(LogHeadUpdate { head, since, proof }.into());
    }

    /// Takes the counterpart's head. One that contradicts those that are held is an alarm; delivery goes on.
    pub(super) async fn take_head(&mut self, LogHeadUpdate { head, since, proof }: LogHeadUpdate) {
        let Some(agreement) = self.agreement() else { return };
        match self.context.log.take(self.id, &agreement.node, Given { head, since, proof }).await {
            Ok(Taken::Held) => {}
            Ok(Taken::NeedsProof(since)) => self.transmit(WantLogHead { since }.into()),
            Ok(Taken::Unproven(since)) => {
                tracing::error!(agreement = %self.id, peer = %self.entity, "the counterpart does not prove its audit log");
                self.transmit(WantLogHead { since }.into());
                self.context.mailroom.changed();
            }
            Ok(Taken::Alarm(kind, false)) => {
                tracing::error!(agreement = %self.id, peer = %self.entity, ?kind, "the counterpart's audit log was tampered with");
                self.context.mailroom.changed();
            }
            Ok(Taken::Alarm(kind, true)) => {
                tracing::warn!(agreement = %self.id, peer = %self.entity, ?kind, "the counterpart's audit log begins anew after its restore");
                self.context.mailroom.changed();
            }
            Ok(Taken::BegunAnew) => {
                tracing::info!(agreement = %self.id, peer = %self.entity, "the counterpart's audit log goes on from its restore");
            }
            Err(why) => self.close_session(why).await,
        }
    }
}
