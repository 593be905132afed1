//! Asks how envelopes ended whose signed envelope has left, and answers such questions: what is asked and answered,
//! [`pakt_protocol::settling`] decides.

use std::rc::Rc;

use pakt_protocol::delivery::Input;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{AskEnded, ReceiptMessage};
use pakt_protocol::settling::{self, AfterEnd, Answer};

use super::{Actor, FIRST, LAST};
use crate::mesh::disk::{Key, Value};

impl Actor<'_> {
    /// Asks how an envelope ended.
    pub(super) fn ask_how_it_ended(&mut self, envelope: EnvelopeId) {
        if let Some(row) = self.out(&envelope) {
            let question = self.peer.questions.ask(envelope, row.core.to_vec());
            self.transmit(question);
        }
    }

    /// Whether an envelope that waits may have its turn.
    pub(super) fn may_ask(&self, envelope: &EnvelopeId) -> bool {
        let delivery = self.peer.deliveries.get(envelope).map(|delivery| delivery.record());
        self.peer.questions.has_turn(delivery, self.now())
    }

    /// The agreement has ended or is over: nothing but receipts is left to be said.
    pub(super) fn settle_up(&mut self) {
        self.tell_owed();
        self.ask_more();
    }

    fn ask_more(&mut self) {
        let open = self.peer.deliveries.iter().map(|(envelope, delivery)| (*envelope, delivery.record()));
        for envelope in self.peer.questions.next(open) {
            self.tell_delivery(envelope, Input::PeerUp, None);
        }
    }

    /// Whether receipts are owed, or lacking for what has left.
    pub(super) fn is_unsettled(&self) -> bool {
        let slot = self.peer.slot;
        let mut owed = self.home.disk.range(Key::Owed(slot, FIRST, 0), Key::Owed(slot, LAST, u8::MAX));
        owed.next().is_some() || self.peer.deliveries.values().any(|delivery| delivery.record().left)
    }

    /// After an end that both know, the session ends with the last receipt.
    pub(super) fn end_if_settled(&mut self) {
        let dialer = self.peer.live.as_ref().is_some_and(|live| live.dialer);
        let Some(over) = self.peer.agreement.view().over(self.now(), dialer) else { return };
        self.write_held();
        match settling::after_end(over, self.is_unsettled()) {
            AfterEnd::Ask => self.ask_more(),
            AfterEnd::Wait => {}
            AfterEnd::Close(why) => self.close_session(why),
        }
    }

    /// The sender asks how an envelope ended.
    pub(super) fn answer_ask(&mut self, ask: &AskEnded) {
        let between = (self.peer.entity, self.home.identity.entity);
        let open = match settling::question(ask, between, self.peer.id) {
            Ok(open) => open,
            Err(why) => return self.close_session(why),
        };
        let envelope = open.core.envelope;
        let settled = match self.row(&Key::Settled(self.peer.slot, envelope)) {
            Some(Value::Settled(row)) => Some(row.first.1.to_vec()),
            _ => None,
        };
        let now = self.now();
        let receipt = match settling::answer(settled, &mut self.peer.pace, now) {
            Answer::Receipt(receipt) => Some(receipt),
            Answer::Settle(verdict) => {
                self.break_off_receiving(envelope);
                let receipt = self.settle(&open, verdict).ok().map(|bytes: Rc<[u8]>| bytes.to_vec());
                if receipt.is_some() {
                    self.note_told(envelope, verdict);
                }
                receipt
            }
            Answer::Later => None,
        };
        if let Some(receipt) = receipt {
            self.transmit(ReceiptMessage { envelope, receipt });
            self.owe_again(envelope);
        }
    }
}
