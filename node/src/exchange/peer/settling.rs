//! How envelopes ended whose signed envelope has left: asked when their time is over, and answered; also for a while after
//! the agreement has ended.
//!
//! **Invariant:** whoever was told that this side does not hold an envelope is told so for ever: the answer is settled like
//! a receipt, and a later copy of the envelope gets it again.

use std::collections::HashSet;
use std::time::Duration;

use pakt_protocol::codec;
use pakt_protocol::delivery::Input;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{AskEnded, ReceiptMessage};
use pakt_protocol::record::envelope::{CORE_BYTES_MAX, EnvelopeCore, OpenEnvelope};
use pakt_protocol::record::receipt::Verdict;
use zeroize::Zeroizing;

use super::sending::Kept;
use super::{PeerActor, now};
use crate::ambient;
use crate::book::Standing;
use crate::mailroom::MailError;
use crate::mailroom::inbox::{Arrival, ArrivalNote};

/// Questions that are open at once.
const ASKED_MAX: usize = 16;
/// After the end is known on both sides the counterpart is dialled this often for receipts alone.
pub(super) const SETTLE_AGAIN: Duration = Duration::from_secs(15 * 60);

/// What was asked in this session and is not answered.
#[derive(Default)]
pub(super) struct Settling {
    asked: HashSet<EnvelopeId>,
}

impl PeerActor {
    /// Asks how an envelope ended.
    pub(super) fn ask_how_it_ended(&mut self, envelope: EnvelopeId) {
        match self.context.mailroom.envelope(&envelope) {
            Ok(row) => {
                self.settling.asked.insert(envelope);
                self.transmit(AskEnded { core: row.core }.into());
            }
            Err(error) => tracing::error!(%envelope, %error, "an envelope could not be asked about"),
        }
    }

    /// Whether an envelope that waits may have its turn: one that would be asked about waits while many are.
    pub(super) fn may_ask(&self, envelope: &EnvelopeId) -> bool {
        let is_over = || self.deliveries.get(envelope).is_some_and(|delivery| delivery.record().is_over(now()));
        self.settling.asked.len() < ASKED_MAX || !is_over()
    }

    /// An envelope has ended.
    pub(super) fn settled(&mut self, envelope: &EnvelopeId) {
        self.settling.asked.remove(envelope);
    }

    /// The session is over.
    pub(super) fn forget_asked(&mut self) {
        self.settling.asked.clear();
    }

    /// The agreement has ended or is over: nothing but receipts is left to be said.
    pub(super) async fn settle_up(&mut self) {
        self.tell_owed().await;
        self.ask_more().await;
    }

    async fn ask_more(&mut self) {
        let asked = &self.settling.asked;
        let open = self.deliveries.iter().filter(|(id, delivery)| delivery.record().left && !asked.contains(*id));
        let next: Vec<EnvelopeId> = open.map(|(id, _)| *id).take(ASKED_MAX.saturating_sub(asked.len())).collect();
        for envelope in next {
            Box::pin(self.tell_delivery(envelope, Input::PeerUp, Kept::default())).await;
        }
    }

    /// Whether receipts are owed, or lacking for what has left.
    pub(super) fn is_unsettled(&self) -> bool {
        let owes = self.context.mailroom.owed(&self.entity, &HashSet::new(), 1).is_ok_and(|owed| !owed.is_empty());
        owes || self.deliveries.values().any(|delivery| delivery.record().left)
    }

    /// After an end that both know, the session ends with the last receipt; after the agreed time whoever dialled for
    /// receipts alone ends it.
    pub(super) async fn end_if_settled(&mut self) {
        let Some(agreement) = self.agreement() else { return };
        let ended = agreement.standing == Standing::Ended;
        if !ended && !agreement.is_settling(now()) {
            return;
        }
        self.write_held().await;
        if self.is_unsettled() {
            return self.ask_more().await;
        }
        let dialer = self.live.as_ref().is_some_and(|live| live.dialer);
        if ended && agreement.end_confirmed {
            self.close_session("the agreement has ended").await;
        } else if !ended && dialer && !agreement.should_dial(now()) {
            self.close_session("the agreement has expired").await;
        }
    }

    /// The sender asks how an envelope ended.
    pub(super) async fn answer_ask(&mut self, bytes: &[u8]) {
        let core: Option<EnvelopeCore> = codec::decode(1, bytes, CORE_BYTES_MAX).ok();
        let ours = |core: &EnvelopeCore| {
            core.sender == self.entity && core.recipient == self.context.entity.id() && core.agreement == self.id
        };
        let Some(core) = core.filter(ours) else {
            return self.close_session("a question about what it did not send").await;
        };
        let envelope = core.envelope;
        match self.how_it_ended(OpenEnvelope { core, hash: EnvelopeCore::hash_of(bytes) }).await {
            Ok(Some(receipt)) => {
                self.transmit(ReceiptMessage { envelope, receipt }.into());
                self.owe_again(envelope).await;
            }
            // Not answered: it is asked again.
            Ok(None) => tracing::debug!(%envelope, peer = %self.entity, "too many questions about what never came"),
            Err(error) => tracing::error!(%envelope, %error, "how an envelope ended could not be looked up"),
        }
    }

    /// Whether an envelope is settled, or may be settled now as one that never came: those rows stay for ever.
    pub(super) fn may_settle(&mut self, envelope: &EnvelopeId) -> Result<bool, MailError> {
        Ok(self.context.mailroom.settled(&self.entity, envelope)?.is_some() || self.pace.allows_never_held(now()))
    }

    /// The receipt that says so; none if the counterpart has asked about too many that never came.
    async fn how_it_ended(&mut self, open: OpenEnvelope) -> Result<Option<Vec<u8>>, MailError> {
        let envelope = open.core.envelope;
        if let Some(settled) = self.context.mailroom.settled(&self.entity, &envelope)? {
            return Ok(Some(settled.receipt));
        }
        if !self.pace.allows_never_held(now()) {
            return Ok(None);
        }
        let agreement = self.agreement().ok_or(MailError::Missing)?;
        self.break_off_receiving(envelope).await;
        let offered_at = self.context.mailroom.incoming(&self.entity, &envelope)?.map(|row| row.offered_at);
        let at = ambient::now();
        let verdict = Verdict::NotHeld;
        let answer = self.first_receipt(&agreement, &open, verdict, (offered_at.unwrap_or(at), at));
        let (message, number) = (open.core.message, open.core.number);
        let note = ArrivalNote { message, agreement: self.id, number, core: open.hash };
        let arrival =
            Arrival { message: None, scan: false, key: Zeroizing::default(), segments: Vec::new(), note, answer };
        tracing::info!(%envelope, peer = %self.entity, "the sender was told that this node does not hold it");
        let receipt = self.context.mailroom.commit(self.entity, envelope, arrival).await?;
        self.note_told(envelope, verdict);
        Ok(Some(receipt))
    }
}
