//! Outgoing messages: listed, named by what people type, with their receipts.

use pakt_protocol::armour::{self, Label};
use pakt_protocol::ids::{EnvelopeId, MessageId};

use super::delivery::{priority_of, shown};
use super::{Answer, Node, blocking, ids};
use crate::ambient;
use crate::api::types::*;
use crate::mailroom::MailError;
use crate::mailroom::rows::{OutEnvelope, OutMessage};

/// What was named: a message, or one envelope of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Message(MessageId),
    Envelope(EnvelopeId),
}

impl Node {
    /// All outgoing messages, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn outbox_list(&self) -> Answer<Vec<OutboxMessage>> {
        let node = self.clone();
        blocking(move || {
            let messages = node.inner.mailroom.outbox()?;
            Ok(messages.iter().map(|(message, envelopes)| node.outbox_message(message, envelopes)).collect())
        })
        .await
    }

    /// One outgoing message by its id or that of an envelope, which is then the only one shown.
    ///
    /// # Errors
    /// `not_found`, or when the store fails.
    pub async fn outbox_show(&self, id: String) -> Answer<OutboxMessage> {
        let node = self.clone();
        blocking(move || {
            let (message, envelopes) = node.named(&id)?;
            Ok(node.outbox_message(&message, &envelopes))
        })
        .await
    }

    /// The armoured receipt of an envelope, by its id or that of a message with one envelope; the highest tier unless
    /// one is named.
    ///
    /// # Errors
    /// `not_found` when there is none, `usage` for a message with several envelopes.
    pub async fn receipt(&self, id: String, tier: Option<u8>) -> Answer<String> {
        let node = self.clone();
        blocking(move || {
            let (_, envelopes) = node.named(&id)?;
            let [envelope] = envelopes.as_slice() else {
                let all: Vec<String> = envelopes.iter().map(|envelope| envelope.id.to_string()).collect();
                let hint = format!("name one of them: {}", all.join(", "));
                return Err(ServiceError::new(ErrorCode::Usage, "this message went to several recipients", hint));
            };
            let held = match tier {
                Some(tier) => envelope.receipts.iter().find(|held| held.tier == tier),
                None => envelope.receipts.last(),
            };
            let held = held.ok_or_else(|| {
                let message = match tier {
                    Some(tier) => format!("there is no receipt of tier {tier} for this envelope"),
                    None => "there is no receipt for this envelope yet".to_owned(),
                };
                ServiceError::new(ErrorCode::NotFound, message, format!("see `pakt outbox show {}`", envelope.id))
            })?;
            Ok(armour::encode(Label::Receipt, &held.bytes))
        })
        .await
    }

    /// The envelope that was named, or all those of the message that was.
    fn named(&self, typed: &str) -> Answer<(OutMessage, Vec<OutEnvelope>)> {
        let mailroom = &self.inner.mailroom;
        let named = match self.exactly_named(typed)? {
            Some(named) => named,
            None => {
                let listed = mailroom.outbox()?;
                let candidates = listed.iter().flat_map(|(message, envelopes)| {
                    let of_message = (message.id.to_string(), Named::Message(message.id));
                    let of_envelopes = envelopes.iter().map(|row| (row.id.to_string(), Named::Envelope(row.id)));
                    std::iter::once(of_message).chain(of_envelopes)
                });
                ids::pick("outgoing message", typed, "pakt outbox list", candidates)?
            }
        };
        match named {
            Named::Envelope(id) => {
                let envelope = mailroom.envelope(&id)?;
                Ok((mailroom.message(&envelope.message)?, vec![envelope]))
            }
            Named::Message(id) => {
                let message = mailroom.message(&id)?;
                let envelopes = message.envelopes.iter().map(|id| mailroom.envelope(id)).collect::<Result<_, _>>()?;
                Ok((message, envelopes))
            }
        }
    }

    /// A whole id needs no listing, which holds the newest messages only.
    fn exactly_named(&self, typed: &str) -> Answer<Option<Named>> {
        let Ok(id) = typed.parse::<EnvelopeId>() else { return Ok(None) };
        let known = |found: Result<(), MailError>| match found {
            Ok(()) => Ok(true),
            Err(MailError::Missing) => Ok(false),
            Err(error) => Err(ServiceError::from(error)),
        };
        if known(self.inner.mailroom.envelope(&id).map(drop))? {
            return Ok(Some(Named::Envelope(id)));
        }
        let message = MessageId(id.0);
        Ok(known(self.inner.mailroom.message(&message).map(drop))?.then_some(Named::Message(message)))
    }

    pub(super) fn outbox_message(&self, message: &OutMessage, envelopes: &[OutEnvelope]) -> OutboxMessage {
        OutboxMessage {
            message: message.id.to_string(),
            from: message.from_name.clone(),
            subject: message.subject.clone(),
            priority: priority_of(message.priority),
            purpose: message.purpose.clone(),
            submitted_at: time_text(message.submitted_at),
            files: message.counts.files,
            bytes: message.counts.plain_bytes,
            envelopes: envelopes.iter().map(|row| self.outbox_envelope(message, row)).collect(),
        }
    }

    pub(super) fn outbox_envelope(&self, message: &OutMessage, row: &OutEnvelope) -> OutboxEnvelope {
        let exchange = &self.inner.exchange;
        let open = row.delivery.state.is_open();
        let peer = open.then(|| exchange.peer(&row.agreement));
        let live = exchange.progress(&row.id);
        shown(message, row, peer.as_ref(), live.as_ref(), ambient::now())
    }
}
