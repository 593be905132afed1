//! Receipts that the sender has not confirmed: told at once, and again at the start of every session until it does; and
//! the other way round, late receipts about what this side has sent.
//!
//! **Invariant:** a receipt is confirmed only once it is durable here, with what follows from it.

use std::collections::HashSet;
use std::time::Duration;

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{ReceiptHeld, ReceiptMessage};
use pakt_protocol::record::receipt::{self, Receipt, Verdict};

use super::{PeerActor, Timer, now};
use crate::mailroom::receipts::{Place, Settled};

/// Receipts that are told and not confirmed, at most, before the next are.
const TOLD_MAX: usize = 64;
/// Confirmations are written together: one that is lost only costs that its receipt is told again.
const HELD_WAIT: Duration = Duration::from_millis(500);
/// Confirmations that are written at once.
const HELD_MAX: usize = 64;

/// Receipts that left with their transfers and are remembered as told, at most.
const NOTED_MAX: usize = 4096;

/// What was told in this session, and what was confirmed but not written yet.
#[derive(Default)]
pub(super) struct Owed {
    told: HashSet<Place>,
    confirmed: HashSet<Place>,
    held: Vec<(EnvelopeId, Verdict)>,
    /// There may be more to tell.
    more: bool,
}

impl PeerActor {
    /// Tells what is owed, a few at a time: the next once those are confirmed.
    pub(super) async fn tell_owed(&mut self) {
        if self.live.is_none() {
            return;
        }
        let room = TOLD_MAX.saturating_sub(self.owed.told.len());
        self.owed.more = true;
        if room == 0 {
            return;
        }
        let but = self.owed.told.union(&self.owed.confirmed).copied().collect();
        match self.context.mailroom.owed(&self.entity, &but, room) {
            Ok(owed) => {
                self.owed.more = owed.len() == room;
                for (place, receipt) in owed {
                    self.owed.told.insert(place);
                    self.transmit(ReceiptMessage { envelope: place.0, receipt }.into());
                }
            }
            Err(error) => tracing::error!(agreement = %self.id, %error, "the receipts that are owed could not be read"),
        }
    }

    /// Receipts were signed here. After an end the counterpart is dialled for them.
    pub(super) async fn handle_owed(&mut self) {
        if self.live.is_none() && self.agreement().is_some_and(|agreement| agreement.may_settle(now())) {
            self.timers.set(Timer::Dial, now());
        }
        self.tell_owed().await;
    }

    /// A duplicate of an envelope was offered: its sender may lack what was stated later, too.
    pub(super) async fn owe_again(&mut self, envelope: EnvelopeId) {
        let row = match self.context.mailroom.settled(&self.entity, &envelope) {
            Ok(Some(row)) => row,
            Ok(None) => return,
            Err(error) => return tracing::error!(%envelope, %error, "what was stated could not be read"),
        };
        let is_told = |verdict: Verdict| self.owed.told.contains(&(envelope, verdict.place()));
        if row.later.iter().all(|stated| is_told(stated.verdict)) {
            return;
        }
        match self.context.mailroom.owe_again((self.entity, envelope)).await {
            Ok(()) => self.tell_owed().await,
            Err(error) => tracing::error!(%envelope, %error, "what was stated could not be owed again"),
        }
    }

    /// The door is closed: nobody can be told any more.
    pub(super) async fn forget_owed(&mut self) {
        if let Err(error) = self.context.mailroom.forget_owed(self.entity).await {
            tracing::error!(agreement = %self.id, %error, "receipts that cannot be told could not be forgotten");
        }
    }

    /// The session is over: the next one tells everything again.
    pub(super) fn forget_told(&mut self) {
        self.owed.told.clear();
    }

    /// What is owed about an envelope is told again, although it was told in this session.
    pub(super) fn owe_anew(&mut self, envelope: &EnvelopeId) {
        self.owed.told.retain(|(told, _)| told != envelope);
        self.owed.confirmed.retain(|(confirmed, _)| confirmed != envelope);
    }

    /// The first receipt of an envelope left with its transfer.
    pub(super) fn note_told(&mut self, envelope: EnvelopeId, verdict: Verdict) {
        if self.owed.told.len() < NOTED_MAX {
            self.owed.told.insert((envelope, verdict.place()));
        }
    }

    /// The sender holds a receipt.
    pub(super) async fn take_receipt_held(&mut self, held: ReceiptHeld) {
        let ReceiptHeld { envelope, verdict } = held;
        let lowest = if verdict.tier().is_some() { 1 } else { verdict.place() };
        let places = (lowest..=verdict.place()).map(|place| (envelope, place));
        let confirmed: Vec<Place> = places.filter(|place| self.owed.told.remove(place)).collect();
        if confirmed.is_empty() {
            // Nothing of this was told in this session: it says nothing.
            return;
        }
        self.owed.confirmed.extend(confirmed);
        self.owed.held.push((envelope, verdict));
        if self.owed.held.len() >= HELD_MAX {
            self.write_held().await;
        } else if !self.timers.is_set(Timer::Held) {
            self.timers.set(Timer::Held, now() + HELD_WAIT);
        }
        if self.owed.more {
            self.tell_owed().await;
        }
        self.end_if_settled().await;
    }

    /// Forgets what was confirmed.
    pub(super) async fn write_held(&mut self) {
        self.timers.clear(Timer::Held);
        self.owed.confirmed.clear();
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
            Ok(Settled::Foreign) => return self.close_session("a receipt for what this node did not send").await,
            Err(error) => tracing::error!(%envelope, %error, "a receipt could not be kept"),
        }
        self.end_if_settled().await;
    }
}
