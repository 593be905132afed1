//! Recalls on the wire: asking for what has left, answering what is asked for, and showing a restored counterpart what it
//! had purged.
//!
//! **Invariant:** a request is answered by a receipt only, once that is durable; asking again changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use pakt_protocol::delivery::Input as DeliveryInput;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::recall::PURGED_BEFORE_MAX;
use pakt_protocol::message::{PurgedBefore, Recall};
use pakt_protocol::record::envelope::EnvelopeCore;
use pakt_protocol::record::recall::{self, RecallRequest};
use pakt_protocol::record::receipt::{self, Verdict};
use pakt_protocol::time::Time;
use tokio::sync::oneshot;

use super::sending::Kept;
use super::{PeerActor, Timer, now};
use crate::ambient;
use crate::mailroom::MailError;
use crate::mailroom::recall::Answered;
use crate::mailroom::rows::OutEnvelope;
use crate::store::StoreError;

/// Requests that are sent at once; a counterpart takes two records a second for ever.
const ASK_AT_ONCE: usize = 32;
/// The next ones follow after so long.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// And what is not answered is asked for again in the same session after so long.
const ASK_AGAIN: Duration = Duration::from_secs(10 * 60);
/// Purges that a restored counterpart is shown, at most.
const SHOWN_MAX: usize = 100 * PURGED_BEFORE_MAX;
/// And their bytes: they must find room among what waits to be sent in a session.
const SHOWN_BYTES_MAX: usize = 16 << 20;

/// What is asked for, and what is shown.
#[derive(Default)]
pub(super) struct Recalling {
    /// When each was asked for in this session.
    asked: HashMap<EnvelopeId, Time>,
    /// The restore of the counterpart after which it was shown in this session what it had purged.
    shown: Option<u64>,
    allowance: Allowance,
    /// Why the last record of a delivery that could not be kept was not.
    pub(super) unkept: Option<MailError>,
}

impl Recalling {
    /// Whether the counterpart was not shown its purges yet after this restore; from now on it was.
    fn is_unshown(&mut self, generation: u64) -> bool {
        self.shown.replace(generation) != Some(generation)
    }
}

/// How many requests may go; it belongs to the counterpart, as its pace does, and outlives calls and sessions.
#[derive(Default)]
struct Allowance {
    since: Option<Time>,
    used: usize,
}

impl Allowance {
    /// Requests that may go now.
    fn left(&mut self, now: Time) -> usize {
        if self.since.is_none_or(|since| now >= since + ASK_EVERY) {
            (self.since, self.used) = (Some(now), 0);
        }
        ASK_AT_ONCE.saturating_sub(self.used)
    }

    /// When the next ones may go.
    fn next_at(&self, now: Time) -> Time {
        self.since.unwrap_or(now) + ASK_EVERY
    }
}

impl PeerActor {
    /// Somebody here wants an envelope back. The answer is whether that is noted; its row says how far it is.
    pub(super) async fn handle_recall(&mut self, envelope: EnvelopeId, reply: oneshot::Sender<Result<(), MailError>>) {
        let wanted = if self.deliveries.contains_key(&envelope) {
            self.recall_open(envelope).await
        } else {
            self.context.mailroom.want_back(envelope).await
        };
        self.recalling.asked.remove(&envelope);
        self.send_recalls().await;
        let _ = reply.send(wanted);
    }

    /// Wants back what is under way here.
    ///
    /// # Errors
    /// When that could not be made durable: then it goes on as if nobody had wished it.
    async fn recall_open(&mut self, envelope: EnvelopeId) -> Result<(), MailError> {
        self.recalling.unkept = None;
        self.tell_delivery(envelope, DeliveryInput::Recall, Kept::default()).await;
        let kept = self.context.mailroom.envelope(&envelope).map(|row| row.delivery);
        if kept.as_ref().is_ok_and(|kept| kept.recalling || !kept.state.is_open()) {
            return Ok(());
        }
        // A wish of earlier that only could not be read stays.
        let is_unkept = kept.is_ok() || self.recalling.unkept.is_some();
        if let Some(delivery) = self.deliveries.get_mut(&envelope).filter(|_| is_unkept) {
            delivery.forget_recall();
        }
        Err(self.recalling.unkept.take().or(kept.err()).unwrap_or(MailError::Missing))
    }

    /// Asks for what is wanted back and was not asked for lately in this session, a few at a time.
    pub(super) async fn send_recalls(&mut self) {
        if !self.is_live() {
            return;
        }
        let left = self.recalling.allowance.left(now());
        if left == 0 {
            return self.timers.set(Timer::Recalls, self.recalling.allowance.next_at(now()));
        }
        let open = match self.context.mailroom.open_recalls(self.id).await {
            Ok(open) => open,
            Err(error) => return tracing::error!(agreement = %self.id, %error, "the open recalls could not be read"),
        };
        if open.is_empty() {
            return;
        }
        let asked = &self.recalling.asked;
        let is_due = |row: &OutEnvelope| asked.get(&row.id).is_none_or(|at| now().since(*at) >= ASK_AGAIN);
        let mut due: Vec<OutEnvelope> = open.into_iter().filter(is_due).collect();
        let next = if due.len() > left { self.recalling.allowance.next_at(now()) } else { now() + ASK_AGAIN };
        self.timers.set(Timer::Recalls, next);
        due.truncate(left);
        self.recalling.allowance.used += due.len();
        for row in due {
            self.recalling.asked.insert(row.id, now());
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
        self.recalling.asked.clear();
        self.recalling.shown = None;
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
        let recalled = match self.may_settle(&envelope) {
            Ok(true) => mailroom.recall_here(&entity, request, agreement.record.hash(), ambient::service_now()).await,
            Ok(false) => Ok(Answered::Later),
            Err(error) => Err(error),
        };
        match recalled {
            Ok(Answered::Stated) => {
                tracing::info!(%envelope, peer = %self.entity, "a recall was answered");
                self.owe_anew(&envelope);
                self.tell_owed().await;
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
        if !self.recalling.is_unshown(generation) {
            return;
        }
        let (mailroom, counterpart) = (self.context.mailroom.clone(), self.entity);
        let read = tokio::task::spawn_blocking(move || mailroom.purges_of(&counterpart, SHOWN_MAX)).await;
        let (purges, total) = match read.unwrap_or(Err(StoreError::Panicked.into())) {
            Ok(purges) => purges,
            Err(error) => return tracing::error!(agreement = %self.id, %error, "purges could not be read"),
        };
        let mut room = SHOWN_BYTES_MAX;
        let fits = |receipt: &&Vec<u8>| {
            room = room.saturating_sub(receipt.len());
            room > 0
        };
        let shown = &purges[purges.len() - purges.iter().rev().take_while(fits).count()..];
        if total > shown.len() {
            tracing::warn!(agreement = %self.id, purges = total, "more purges than a restored counterpart is shown");
        }
        for receipts in shown.chunks(PURGED_BEFORE_MAX) {
            self.transmit(PurgedBefore { receipts: receipts.to_vec() }.into());
        }
    }

    /// What this side had purged before it was restored goes again.
    pub(super) async fn take_purged_before(&mut self, message: PurgedBefore) {
        if message.receipts.len() > PURGED_BEFORE_MAX {
            return self.close_session("more receipts at once than are shown").await;
        }
        let node = self.context.entity.node();
        let (mut purged, mailroom, entity) = (0u64, self.context.mailroom.clone(), self.context.entity.clone());
        for bytes in message.receipts {
            let receipt = match receipt::verify_from(&bytes, &node, &self.entity) {
                Ok(receipt) if matches!(receipt.verdict, Verdict::Recalled | Verdict::Returned) => receipt,
                _ => return self.close_session("a purge that this entity did not state").await,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_it_is_called_the_pace_of_requests_is_kept() {
        let start = Time::from_seconds(1_000);
        let mut allowance = Allowance::default();
        let mut sent = 0;
        for _ in 0..300 {
            let left = allowance.left(start);
            allowance.used += left.min(1);
            sent += left.min(1);
        }
        assert_eq!(sent, ASK_AT_ONCE);
        assert_eq!(allowance.next_at(start), start + ASK_EVERY);
        assert_eq!(allowance.left(start + (ASK_EVERY - Duration::from_secs(1))), 0);
        assert_eq!(allowance.left(start + ASK_EVERY), ASK_AT_ONCE);
    }

    #[test]
    fn a_notice_that_comes_again_shows_nothing_again() {
        let mut recalling = Recalling::default();
        let shown: Vec<bool> = [1, 1, 1, 2, 2].into_iter().map(|generation| recalling.is_unshown(generation)).collect();
        assert_eq!(shown, [true, false, false, true, false]);
    }
}
