//! Asks how envelopes ended whose signed envelope has left, and answers such questions: what is asked and answered,
//! [`pakt_protocol::settling`] decides.

use std::collections::HashSet;

use pakt_protocol::delivery::Input;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{AskEnded, ReceiptMessage};
use pakt_protocol::record::envelope::OpenEnvelope;
use pakt_protocol::record::receipt::Verdict;
use pakt_protocol::settling::{self, AfterEnd, Answer};
use zeroize::Zeroizing;

use super::sending::Kept;
use super::{PeerActor, now};
use crate::ambient;
use crate::mailroom::MailError;
use crate::mailroom::inbox::{Arrival, ArrivalNote};

impl PeerActor {
    /// Asks how an envelope ended.
    pub(super) fn ask_how_it_ended(&mut self, envelope: EnvelopeId) {
        match self.context.mailroom.envelope(&envelope) {
            Ok(row) => {
                let question = self.questions.ask(envelope, row.core);
                self.transmit(question.into());
            }
            Err(error) => tracing::error!(%envelope, %error, "an envelope could not be asked about"),
        }
    }

    /// Whether an envelope that waits may have its turn.
    pub(super) fn may_ask(&self, envelope: &EnvelopeId) -> bool {
        let delivery = self.deliveries.get(envelope).map(|delivery| delivery.record());
        self.questions.has_turn(delivery, now())
    }

    /// The agreement has ended or is over: nothing but receipts is left to be said.
    pub(super) async fn settle_up(&mut self) {
        self.tell_owed().await;
        self.ask_more().await;
    }

    async fn ask_more(&mut self) {
        let open = self.deliveries.iter().map(|(envelope, delivery)| (*envelope, delivery.record()));
        for envelope in self.questions.next(open) {
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
        let dialer = self.live.as_ref().is_some_and(|live| live.dialer);
        let Some(over) = agreement.view().over(now(), dialer) else { return };
        self.write_held().await;
        match settling::after_end(over, self.is_unsettled()) {
            AfterEnd::Ask => self.ask_more().await,
            AfterEnd::Wait => {}
            AfterEnd::Close(why) => self.close_session(why).await,
        }
    }

    /// The sender asks how an envelope ended.
    pub(super) async fn answer_ask(&mut self, ask: &AskEnded) {
        let between = (self.entity, self.context.entity.id());
        let open = match settling::question(ask, between, self.id) {
            Ok(open) => open,
            Err(why) => return self.close_session(why).await,
        };
        let envelope = open.core.envelope;
        match self.how_it_ended(open).await {
            Ok(Some(receipt)) => {
                self.transmit(ReceiptMessage { envelope, receipt }.into());
                self.owe_again(envelope).await;
            }
            Ok(None) => tracing::debug!(%envelope, peer = %self.entity, "too many questions about what never came"),
            Err(error) => tracing::error!(%envelope, %error, "how an envelope ended could not be looked up"),
        }
    }

    /// The receipt that says so, if there is to be one.
    async fn how_it_ended(&mut self, open: OpenEnvelope) -> Result<Option<Vec<u8>>, MailError> {
        let settled = self.context.mailroom.settled(&self.entity, &open.core.envelope)?;
        match settling::answer(settled.map(|row| row.receipt), &mut self.pace, now()) {
            Answer::Receipt(receipt) => Ok(Some(receipt)),
            Answer::Settle(verdict) => self.settle_unheld(&open, verdict).await.map(Some),
            Answer::Later => Ok(None),
        }
    }

    /// States durably that an envelope is not held.
    async fn settle_unheld(&mut self, open: &OpenEnvelope, verdict: Verdict) -> Result<Vec<u8>, MailError> {
        let envelope = open.core.envelope;
        let agreement = self.agreement().ok_or(MailError::Missing)?;
        self.break_off_receiving(envelope).await;
        let offered_at = self.context.mailroom.incoming(&self.entity, &envelope)?.map(|row| row.offered_at);
        let at = ambient::now();
        let answer = self.first_receipt(&agreement, open, verdict, (offered_at.unwrap_or(at), at));
        let (message, number) = (open.core.message, open.core.number);
        let note = ArrivalNote { message, agreement: self.id, number, core: open.hash };
        let arrival =
            Arrival { message: None, scan: false, key: Zeroizing::default(), segments: Vec::new(), note, answer };
        tracing::info!(%envelope, peer = %self.entity, "the sender was told that this node does not hold it");
        let receipt = self.context.mailroom.commit(self.entity, envelope, arrival).await?;
        self.note_told(envelope, verdict);
        Ok(receipt)
    }
}
