//! Does what the machine of owed receipts wants; and the other way round, keeps late receipts about what this side has sent.

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::machine::Output;
use pakt_protocol::message::ReceiptMessage;
use pakt_protocol::owed::{Event, Input, Persist};
use pakt_protocol::record::receipt::{self, Receipt, Verdict};

use super::{PeerActor, Timer, now};

impl PeerActor {
    /// Tells what is owed, if there is a session.
    pub(super) async fn tell_owed(&mut self) {
        if self.live.is_some() {
            self.input_owed(Input::Tell).await;
        }
    }

    async fn input_owed(&mut self, input: Input) {
        self.owed.handle_input(input, now());
        while let Some(output) = self.owed.poll_output() {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Deadline(at) => self.timers.set(Timer::Held, at),
                Output::Persist(change) => self.persist_owed(change).await,
                Output::Event(Event::Look { but, max }) => match self.context.mailroom.owed(&self.entity, &but, max) {
                    Ok(found) => self.owed.handle_input(Input::Found(found), now()),
                    Err(error) => {
                        tracing::error!(agreement = %self.id, %error, "the receipts that are owed could not be read");
                    }
                },
            }
        }
    }

    async fn persist_owed(&mut self, change: Persist) {
        let mailroom = &self.context.mailroom;
        match change {
            Persist::Held(held) => {
                if let Err(error) = mailroom.receipts_held(self.entity, held).await {
                    tracing::error!(agreement = %self.id, %error, "what the sender confirmed could not be recorded");
                }
            }
            Persist::Again(envelope) => match mailroom.owe_again((self.entity, envelope)).await {
                Ok(()) => self.owed.handle_input(Input::Tell, now()),
                Err(error) => tracing::error!(%envelope, %error, "what was stated could not be owed again"),
            },
        }
    }

    /// Receipts were signed here. After an end the counterpart is dialled for them.
    pub(super) async fn handle_owed(&mut self) {
        if self.live.is_none() && self.agreement().is_some_and(|agreement| agreement.view().may_settle(now())) {
            self.timers.set(Timer::Dial, now());
        }
        self.tell_owed().await;
    }

    /// A duplicate of an envelope was offered: its sender may lack what was stated later, too.
    pub(super) async fn owe_again(&mut self, envelope: EnvelopeId) {
        match self.context.mailroom.settled(&self.entity, &envelope) {
            Ok(Some(row)) => {
                let stated = row.later.iter().map(|stated| stated.verdict).collect();
                self.input_owed(Input::Duplicate(envelope, stated)).await;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%envelope, %error, "what was stated could not be read"),
        }
    }

    /// The door is closed: nobody can be told any more.
    pub(super) async fn forget_owed(&mut self) {
        if let Err(error) = self.context.mailroom.forget_owed(self.entity).await {
            tracing::error!(agreement = %self.id, %error, "receipts that cannot be told could not be forgotten");
        }
    }

    /// The session is over.
    pub(super) fn forget_told(&mut self) {
        self.owed.handle_input(Input::Lost, now());
    }

    /// What is owed about an envelope is told again, although it was told in this session.
    pub(super) async fn owe_anew(&mut self, envelope: EnvelopeId) {
        self.input_owed(Input::Anew(envelope)).await;
    }

    /// The first receipt of an envelope left with its transfer.
    pub(super) fn note_told(&mut self, envelope: EnvelopeId, verdict: Verdict) {
        self.owed.handle_input(Input::Told(envelope, verdict), now());
    }

    /// The sender holds a receipt.
    pub(super) async fn take_receipt_held(&mut self, held: pakt_protocol::message::ReceiptHeld) {
        self.input_owed(Input::Held(held)).await;
        self.end_if_settled().await;
    }

    /// Forgets what was confirmed.
    pub(super) async fn write_held(&mut self) {
        self.input_owed(Input::Write).await;
    }

    pub(super) async fn tick_owed(&mut self) {
        self.input_owed(Input::Tick).await;
    }

    /// A receipt as the counterpart sent it, or none if it does not verify.
    pub(super) fn verified(&self, bytes: &[u8]) -> Option<Receipt> {
        let own = self.context.entity.id();
        let agreement = self.context.book.get(&self.id)?;
        receipt::verify_from(bytes, &agreement.node, &own).ok()
    }

    /// A receipt about an envelope that is not under way: it has left the queue, or waits in it.
    pub(super) async fn take_later_receipt(&mut self, message: ReceiptMessage) {
        let ReceiptMessage { envelope, receipt: bytes } = message;
        let Some(receipt) = self.verified(&bytes).filter(|receipt| receipt.envelope == envelope) else {
            return self.close_session("a receipt that does not verify").await;
        };
        let verdict = receipt.verdict;
        let settled = if self.deliveries.contains_key(&envelope) {
            self.settle_waiting(envelope, bytes, receipt).await
        } else {
            self.context.mailroom.settle(self.entity, bytes, receipt).await
        };
        match settled.map(|late| late.reply(envelope, verdict)) {
            Ok(Ok(held)) => self.transmit(held.into()),
            Ok(Err(why)) => return self.close_session(why).await,
            Err(error) => tracing::error!(%envelope, %error, "a receipt could not be kept"),
        }
        self.end_if_settled().await;
    }
}
