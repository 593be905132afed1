//! How envelopes ended whose signed envelope has left: asked when their time is over, and answered; also for a while after
//! the agreement has ended.

use std::time::Duration;

use pakt_protocol::codec;
use pakt_protocol::delivery::Input;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{AskEnded, ReceiptMessage};
use pakt_protocol::record::envelope::{CORE_BYTES_MAX, EnvelopeCore, OpenEnvelope};
use pakt_protocol::record::receipt::Verdict;

use super::{Actor, FIRST, LAST};
use crate::mesh::disk::{Key, Value};

/// Questions that are open at once.
const ASKED_MAX: usize = 16;
/// After the end is known on both sides the counterpart is dialled this often for receipts alone.
pub(super) const SETTLE_AGAIN: Duration = Duration::from_secs(15 * 60);

impl Actor<'_> {
    /// Asks how an envelope ended.
    pub(super) fn ask_how_it_ended(&mut self, envelope: EnvelopeId) {
        if let Some(row) = self.out(&envelope) {
            self.peer.asked.insert(envelope);
            self.transmit(AskEnded { core: row.core.to_vec() });
        }
    }

    /// Whether an envelope that waits may have its turn: one that would be asked about waits while many are.
    pub(super) fn may_ask(&self, envelope: &EnvelopeId) -> bool {
        let now = self.now();
        let is_over = || self.peer.deliveries.get(envelope).is_some_and(|delivery| delivery.record().is_over(now));
        self.peer.asked.len() < ASKED_MAX || !is_over()
    }

    /// The agreement has ended: nothing but receipts is left to be said.
    pub(super) fn settle_up(&mut self) {
        self.tell_owed();
        self.ask_more();
    }

    fn ask_more(&mut self) {
        let asked = &self.peer.asked;
        let is_open = |(id, left): (&EnvelopeId, bool)| left && !asked.contains(id);
        let all = self.peer.deliveries.iter().map(|(id, delivery)| (id, delivery.record().left));
        let room = ASKED_MAX.saturating_sub(asked.len());
        let next: Vec<EnvelopeId> = all.filter(|one| is_open(*one)).map(|(id, _)| *id).take(room).collect();
        for envelope in next {
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
        if !self.peer.agreement.row.ended {
            return;
        }
        self.write_held();
        if self.is_unsettled() {
            return self.ask_more();
        }
        if self.peer.agreement.row.end_confirmed {
            self.close_session("the agreement has ended");
        }
    }

    /// The sender asks how an envelope ended.
    pub(super) fn answer_ask(&mut self, bytes: &[u8]) {
        let core: Option<EnvelopeCore> = codec::decode(1, bytes, CORE_BYTES_MAX).ok();
        let (own, other, id) = (self.home.identity.entity, self.peer.entity, self.peer.id);
        let ours = |core: &EnvelopeCore| core.sender == other && core.recipient == own && core.agreement == id;
        let Some(core) = core.filter(ours) else {
            return self.close_session("a question about what it did not send");
        };
        let envelope = core.envelope;
        let open = OpenEnvelope { core, hash: EnvelopeCore::hash_of(bytes) };
        if let Some(receipt) = self.how_it_ended(&open) {
            self.transmit(ReceiptMessage { envelope, receipt: receipt.to_vec() });
            self.owe_again(envelope);
        }
    }

    /// The receipt that says so; what never came is settled as that now.
    fn how_it_ended(&mut self, open: &OpenEnvelope) -> Option<std::rc::Rc<[u8]>> {
        let envelope = open.core.envelope;
        if let Some(Value::Settled(row)) = self.row(&Key::Settled(self.peer.slot, envelope)) {
            return Some(row.first.1.clone());
        }
        self.break_off_receiving(envelope);
        let receipt = self.settle(open, Verdict::NotHeld).ok()?;
        self.note_told(envelope, Verdict::NotHeld);
        Some(receipt)
    }
}
