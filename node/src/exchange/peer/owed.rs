//! Receipts that the sender has not confirmed: told at once, and again at the start of every session until it does; and
//! the other way round, late receipts about what this side has sent.
//!
//! **Invariant:** a receipt is confirmed only once it is durable here, with what follows from it.

use std::collections::HashSet;

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{ReceiptHeld, ReceiptMessage};
use pakt_protocol::record::receipt::{self, Receipt, Verdict};
use std::time::Duration;

use super::{PeerActor, Timer, now};
use crate::mailroom::receipts::Settled;

/// Receipts that are told and not confirmed, at most, before the next are.
const TOLD_MAX: usize = 64;
/// Confirmations are written together: one that is lost only costs that its receipt is told again.
const HELD_WAIT: Duration = Duration::from_millis(500);
/// Confirmations that are written at once.
const HELD_MAX: usize = 64;

/// What was told in this session, and what was confirmed but not written yet.
#[derive(Default)]
pub(super) struct Owed {
    told: HashSet<(EnvelopeId, u8)>,
    held: Vec<(EnvelopeId, Verdict)>,
}

impl PeerActor {
    /// Tells what is owed, a few at a time: the next once those are confirmed.
    pub(super) async fn tell_owed(&mut self) {
        let room = TOLD_MAX.saturating_sub(self.owed.told.len());
        if self.live.is_none() || room == 0 {
            return;
        }
        self.write_held().await;
        let told = &self.owed.told;
        match self.context.mailroom.owed(&self.entity, |key| told.contains(key), room) {
            Ok(owed) => {
                for ((envelope, place), receipt) in owed {
                    self.owed.told.insert((envelope, place));
                    self.transmit(ReceiptMessage { envelope, receipt }.into());
                }
            }
            Err(error) => tracing::error!(agreement = %self.id, %error, "the receipts that are owed could not be read"),
        }
    }

    /// The session is over: the next one tells everything again.
    pub(super) fn forget_told(&mut self) {
        self.owed.told.clear();
    }

    /// What is owed about an envelope is told again, although it was told in this session.
    pub(super) fn owe_anew(&mut self, envelope: &EnvelopeId) {
        self.owed.told.retain(|(told, _)| told != envelope);
    }

    /// The first receipt of an envelope left with its transfer.
    pub(super) fn note_told(&mut self, envelope: EnvelopeId, verdict: Verdict) {
        self.owed.told.insert((envelope, verdict.place()));
    }

    /// The sender holds a receipt.
    pub(super) async fn take_receipt_held(&mut self, held: ReceiptHeld) {
        let ReceiptHeld { envelope, verdict } = held;
        let lowest = if verdict.tier().is_some() { 1 } else { verdict.place() };
        let was_full = self.owed.told.len() >= TOLD_MAX;
        let confirmed = (lowest..=verdict.place()).filter(|place| self.owed.told.remove(&(envelope, *place))).count();
        if confirmed == 0 {
            // Nothing of this was told in this session: it says nothing.
            return;
        }
        self.owed.held.push((envelope, verdict));
        if self.owed.held.len() >= HELD_MAX {
            self.write_held().await;
        } else if !self.timers.is_set(Timer::Held) {
            self.timers.set(Timer::Held, now() + HELD_WAIT);
        }
        if was_full {
            self.tell_owed().await;
        }
    }

    /// Forgets what was confirmed.
    pub(super) async fn write_held(&mut self) {
        self.timers.clear(Timer::Held);
        let held = std::mem::take(&mut self.owed.held);
        if held.is_empty() {
            return;
        }
        if let Err(error) = self.context.mailroom.receipts_held(self.entity, held).await {
            tracing::error!(agreement = %self.id, %error, "what the sender confirmed could not be recorded");
        }
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
        match settled {
            Ok(Settled::Held) => self.transmit(ReceiptHeld { envelope, verdict }.into()),
            Ok(Settled::Unknown) => {
                tracing::warn!(%envelope, peer = %self.entity, "a receipt for a message that this node does not know");
                self.transmit(ReceiptHeld { envelope, verdict }.into());
            }
            Ok(Settled::Foreign) => self.close_session("a receipt for what this node did not send").await,
            Err(error) => tracing::error!(%envelope, %error, "a receipt could not be kept"),
        }
    }
}
