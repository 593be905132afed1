//! Asks for what is wanted back, answers such requests, and shows a restored counterpart what it had purged: which, when and
//! with what, [`pakt_protocol::recalls`] decides.

use pakt_protocol::delivery::Input as DeliveryInput;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{PurgedBefore, Recall};
use pakt_protocol::recalls::{self, Request, SHOWN_MAX};
use pakt_protocol::record::envelope::EnvelopeCore;
use pakt_protocol::record::recall::{self, RecallRequest};
use tokio::sync::oneshot;

use super::sending::Kept;
use super::{PeerActor, Timer, now};
use crate::ambient;
use crate::mailroom::MailError;
use crate::mailroom::recall::Answered;
use crate::store::StoreError;

impl PeerActor {
    /// Somebody here wants an envelope back. The answer is whether that is noted; its row says how far it is.
    pub(super) async fn handle_recall(&mut self, envelope: EnvelopeId, reply: oneshot::Sender<Result<(), MailError>>) {
        let wanted = if self.deliveries.contains_key(&envelope) {
            self.recall_open(envelope).await
        } else {
            self.context.mailroom.want_back(envelope).await
        };
        self.recalls.wanted(&envelope);
        self.send_recalls().await;
        let _ = reply.send(wanted);
    }

    /// Wants back what is under way here.
    ///
    /// # Errors
    /// When that could not be made durable: then it goes on as if nobody had wished it.
    async fn recall_open(&mut self, envelope: EnvelopeId) -> Result<(), MailError> {
        self.unkept = None;
        self.tell_delivery(envelope, DeliveryInput::Recall, Kept::default()).await;
        let kept = self.context.mailroom.envelope(&envelope).map(|row| row.delivery);
        if kept.as_ref().is_ok_and(|kept| kept.recalling || !kept.state.is_open()) {
            return Ok(());
        }
        // A wish of earlier that only could not be read stays.
        let is_unkept = kept.is_ok() || self.unkept.is_some();
        if let Some(delivery) = self.deliveries.get_mut(&envelope).filter(|_| is_unkept) {
            delivery.forget_recall();
        }
        Err(self.unkept.take().or(kept.err()).unwrap_or(MailError::Missing))
    }

    /// Asks for what is wanted back and was not asked for lately in this session, a few at a time.
    pub(super) async fn send_recalls(&mut self) {
        if !self.is_live() {
            return;
        }
        if let Err(next) = self.recalls.may_ask(now()) {
            return self.timers.set(Timer::Recalls, next);
        }
        let open = match self.context.mailroom.open_recalls(self.id).await {
            Ok(open) => open,
            Err(error) => return tracing::error!(agreement = %self.id, %error, "the open recalls could not be read"),
        };
        let ids: Vec<EnvelopeId> = open.iter().map(|row| row.id).collect();
        let (due, next) = self.recalls.ask(&ids, now());
        if let Some(next) = next {
            self.timers.set(Timer::Recalls, next);
        }
        for row in open.into_iter().filter(|row| due.contains(&row.id)) {
            let request = RecallRequest {
                sender: self.context.entity.id(),
                recipient: self.entity,
                agreement: self.id,
                message: row.message,
                envelope: row.id,
                core: EnvelopeCore::hash_of(&row.core),
                at: ambient::now(),
            };
            let request = request.sign(self.context.entity.current().statement());
            self.transmit(Recall { request }.into());
        }
    }

    /// The session is over: the next one asks again.
    pub(super) fn forget_recalls(&mut self) {
        self.recalls.lost();
        self.timers.clear(Timer::Recalls);
    }

    /// The counterpart wants back what it has sent.
    pub(super) async fn take_recall(&mut self, message: Recall) {
        let Some(agreement) = self.agreement() else { return };
        if !agreement.in_force(now()) {
            // It asks again once traffic is allowed.
            return;
        }
        let own = self.context.entity.id();
        let Ok(request) = recall::verify(&message.request, &self.id, &agreement.node, &own) else {
            return self.close_session("a recall that does not verify").await;
        };
        let envelope = request.envelope;
        // What was confirmed before must not take the answer away.
        self.write_held().await;
        let (mailroom, entity) = (self.context.mailroom.clone(), self.context.entity.clone());
        let is_settled = mailroom.settled(&self.entity, &envelope).map(|settled| settled.is_some());
        let recalled = match is_settled.map(|settled| Request::may_follow(settled, &mut self.pace, now())) {
            Ok(true) => mailroom.recall_here(&entity, request, agreement.record.hash(), ambient::service_now()).await,
            Ok(false) => Ok(Answered::Later),
            Err(error) => Err(error),
        };
        match recalled {
            Ok(Answered::Stated) => {
                tracing::info!(%envelope, peer = %self.entity, "a recall was answered");
                self.owe_anew(envelope).await;
            }
            Ok(Answered::Waits) => tracing::info!(%envelope, peer = %self.entity, "a recall waits: it is on hold"),
            // It asks again.
            Ok(Answered::Later) => {
                tracing::debug!(%envelope, peer = %self.entity, "too many recalls of what never came")
            }
            Ok(Answered::OtherCore) => self.close_session("a recall of what it did not send").await,
            Err(error) => tracing::error!(%envelope, %error, "a recall could not be followed"),
        }
    }

    /// A counterpart that was restored is shown what it had purged, by its own receipts: the newest, whatever its clock says
    /// of the time of its backup, and once in a session, however often it says that it was restored.
    pub(super) async fn show_purges(&mut self, generation: u64) {
        if !self.recalls.shows(generation) {
            return;
        }
        let (mailroom, counterpart) = (self.context.mailroom.clone(), self.entity);
        let read = tokio::task::spawn_blocking(move || mailroom.purges_of(&counterpart, SHOWN_MAX)).await;
        let (purges, total) = match read.unwrap_or(Err(StoreError::Panicked.into())) {
            Ok(purges) => purges,
            Err(error) => return tracing::error!(agreement = %self.id, %error, "purges could not be read"),
        };
        let (notices, shown) = recalls::notices(&purges);
        if total > shown {
            tracing::warn!(agreement = %self.id, purges = total, "more purges than a restored counterpart is shown");
        }
        notices.into_iter().for_each(|notice| self.transmit(notice.into()));
    }

    /// What this side had purged before it was restored goes again.
    pub(super) async fn take_purged_before(&mut self, message: PurgedBefore) {
        let receipts = match recalls::noticed(message) {
            Ok(receipts) => receipts,
            Err(why) => return self.close_session(why).await,
        };
        let node = self.context.entity.node();
        let (mut purged, mailroom, entity) = (0u64, self.context.mailroom.clone(), self.context.entity.clone());
        for bytes in receipts {
            let receipt = match recalls::own_purge(&bytes, &node, &self.entity) {
                Ok(receipt) => receipt,
                Err(why) => return self.close_session(why).await,
            };
            match mailroom.purge_again(&entity, bytes, receipt, ambient::service_now()).await {
                Ok(again) => purged += u64::from(again),
                Err(error) => return tracing::error!(agreement = %self.id, %error, "a purge could not be repeated"),
            }
        }
        if purged > 0 {
            tracing::warn!(agreement = %self.id, purged, "messages that the backup held had been purged: they are again");
        }
    }
}
