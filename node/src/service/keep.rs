//! What takes received messages away, or keeps them: hold, deletion, "not for us"; and recalls of what was sent.

use pakt_protocol::armour::{self, Label};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::receipt::Verdict;
use pakt_protocol::time::Time;

use super::{Answer, Node, words};
use crate::ambient;
use crate::api::types::*;
use crate::book::Standing;
use crate::mailroom::purge::{Cause, PurgeError, PurgedRow};
use crate::mailroom::recall::Answered;
use crate::mailroom::receipts::Arrived;
use crate::mailroom::rows::{InItem, InMessage};

/// Messages that nobody has taken are named in the status so long before they are deleted.
const DUE_WARN: std::time::Duration = std::time::Duration::from_secs(3 * 86_400);

impl Node {
    /// Purges a message that is not for this entity, and tells its sender.
    ///
    /// # Errors
    /// `not_found`, or why it is not purged.
    pub async fn inbox_return(&self, id: String) -> Answer<PurgedItem> {
        let message = self.received(id, "a report").await?;
        let row = self.purge(&message, Cause::NotForUs).await?;
        self.inner.exchange.receipts_owed(&message.agreement).await;
        self.purged_item(&message, &row)
    }

    /// Deletes an item for good: a message that may go, or a report.
    ///
    /// # Errors
    /// `not_found`, or why it is not deleted.
    pub async fn inbox_delete(&self, id: String) -> Answer<PurgedItem> {
        match self.inbox_item_named(id).await? {
            InItem::Message(message) => {
                let row = self.purge(&message, Cause::Deleted).await?;
                self.purged_item(&message, &row)
            }
            InItem::Report(report) => {
                self.inner.mailroom.delete_report(report.id).await?;
                let purged_at = time_text(ambient::now());
                Ok(PurgedItem { id: hex::encode(report.id), cause: "deleted".to_owned(), purged_at, proof: None })
            }
        }
    }

    /// Puts a message on hold: nothing deletes it.
    ///
    /// # Errors
    /// `not_found`, or when the store fails.
    pub async fn inbox_hold(&self, id: String) -> Answer<HeldItem> {
        let message = self.received(id, "a report").await?;
        let InMessage { from, envelope, .. } = message;
        self.inner.mailroom.set_hold(from, envelope, true, ambient::now()).await?;
        self.held_item(&message)
    }

    /// Takes a message off hold. What its sender had asked for meanwhile is done now.
    ///
    /// # Errors
    /// `not_found`, or when the store fails.
    pub async fn inbox_unhold(&self, id: String) -> Answer<HeldItem> {
        let message = self.received(id, "a report").await?;
        let key = (message.from, message.envelope);
        let mailroom = &self.inner.mailroom;
        mailroom.set_hold(key.0, key.1, false, ambient::now()).await?;
        if mailroom.is_recall_wished(&key)? {
            let answered = mailroom.grant_wish(&self.inner.entity, key, ambient::service_now()).await?;
            if answered == Answered::Stated {
                self.inner.exchange.receipts_owed(&message.agreement).await;
            }
        }
        self.held_item(&message)
    }

    /// Wants a message, or one envelope of it, back; gives where each envelope is then.
    ///
    /// # Errors
    /// `not_found`, and `refused` if there is nothing that could be recalled any more.
    pub async fn outbox_recall(&self, id: String) -> Answer<OutboxMessage> {
        let before = self.outbox_show(id.clone()).await?;
        if before.envelopes.iter().all(|envelope| is_over(envelope.state)) {
            let states = words::list(before.envelopes.iter().map(|envelope| envelope.state.as_str()));
            let message = format!("there is nothing to recall: it is {states}");
            return Err(ServiceError::new(ErrorCode::Refused, message, "talk to the recipient"));
        }
        for envelope in before.envelopes.iter().filter(|envelope| !is_over(envelope.state)) {
            let Ok(envelope) = envelope.id.parse() else { continue };
            let agreement: AgreementId = self.inner.mailroom.envelope(&envelope)?.agreement;
            if self.inner.book.get(&agreement).is_none_or(|known| known.standing == Standing::Ended) {
                let message = "the agreement has ended: its counterpart is asked for nothing any more";
                return Err(ServiceError::new(ErrorCode::NoAgreement, message, "talk to the recipient"));
            }
            self.inner.exchange.recall(&agreement, envelope).await?;
        }
        self.outbox_show(id).await
    }

    /// What an operator should know about messages that are due to be deleted.
    pub(super) fn retention_warnings(&self) -> Answer<Vec<String>> {
        let count = self.inner.mailroom.due_untaken(ambient::service_now() + DUE_WARN)?;
        let due = (count > 0).then(|| {
            let s = if count == 1 { "" } else { "s" };
            format!("{count} message{s} that nobody has taken will be deleted within three days: their time is over")
        });
        Ok(due.into_iter().collect())
    }

    async fn received(&self, id: String, what: &str) -> Answer<InMessage> {
        match self.inbox_item_named(id).await? {
            InItem::Message(message) => Ok(message),
            InItem::Report(_) => {
                let message = format!("this is {what} of this node, not a message");
                Err(ServiceError::new(ErrorCode::Usage, message, "name a message of `pakt inbox list`"))
            }
        }
    }

    async fn purge(&self, message: &InMessage, cause: Cause) -> Answer<PurgedRow> {
        let key: Arrived = (message.from, message.envelope);
        let inner = &self.inner;
        let purged = inner.mailroom.purge(&inner.entity, key, cause, ambient::service_now()).await;
        purged.map_err(|error| refusal(error, &message.envelope.to_string()))
    }

    fn purged_item(&self, message: &InMessage, row: &PurgedRow) -> Answer<PurgedItem> {
        let verdict = match row.cause {
            Cause::NotForUs => Some(Verdict::Returned),
            Cause::Recalled => Some(Verdict::Recalled),
            Cause::Deleted | Cause::RetentionOver | Cause::Again => None,
        };
        let settled = self.inner.mailroom.settled(&message.from, &message.envelope)?;
        let later = settled.map(|settled| settled.later).unwrap_or_default();
        let proof = later.iter().find(|stated| Some(stated.verdict) == verdict);
        Ok(PurgedItem {
            id: message.envelope.to_string(),
            cause: row.cause.as_str().to_owned(),
            purged_at: time_text(row.at),
            proof: proof.map(|stated| armour::encode(Label::Receipt, &stated.receipt)),
        })
    }

    fn held_item(&self, message: &InMessage) -> Answer<HeldItem> {
        let since: Option<Time> = self.inner.mailroom.held_since(message)?;
        let recalled = self.inner.mailroom.purged(&(message.from, message.envelope))?.is_some();
        let id = message.envelope.to_string();
        Ok(HeldItem { id, on_hold: since.is_some(), since: since.map(time_text), recalled })
    }
}

/// Whether a recall cannot change this state any more.
fn is_over(state: EnvelopeState) -> bool {
    matches!(state, EnvelopeState::Taken | EnvelopeState::Refused | EnvelopeState::Expired | EnvelopeState::Recalled)
}

/// Why a message is not purged, and what to do.
pub(super) fn refusal(error: PurgeError, id: &str) -> ServiceError {
    let (code, message, hint) = match error {
        PurgeError::Mail(error) => return error.into(),
        PurgeError::Missing => {
            (ErrorCode::NotFound, "there is no message with this id".to_owned(), "see `pakt inbox list`".to_owned())
        }
        PurgeError::OnHold => (
            ErrorCode::Refused,
            "the message is on hold: it must be kept".to_owned(),
            format!("if it need not be kept any longer: pakt inbox unhold {id}"),
        ),
        PurgeError::KeptUntil(until) => (
            ErrorCode::Refused,
            format!("the agreement says that the message is kept until {}", words::moment(until)),
            "it is deleted by itself then".to_owned(),
        ),
        PurgeError::NotTaken => (
            ErrorCode::Refused,
            "nobody has taken the message, and its agreement does not say how long it is kept".to_owned(),
            format!("take it first: pakt inbox take {id}; or send it back: pakt inbox return {id}"),
        ),
        PurgeError::Taken => (
            ErrorCode::Refused,
            "somebody here has taken the message: it cannot be sent back as not meant for this entity".to_owned(),
            "tell the sender by another way".to_owned(),
        ),
    };
    ServiceError::new(code, message, hint)
}
