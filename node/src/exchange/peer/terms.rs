//! Keeping to the terms while sending and receiving: the controls that the receiver must show, and the agreed rate.
//!
//! ```text
//! fill_places --controls shown?--> one that has room in the hour --counted, durable--> offered
//!                  no: asked for, nothing of any kind goes       no: waits until there is room
//! ```
//!
//! **Invariant:** nothing is offered to a counterpart that does not show every control of the agreement.

use pakt_protocol::controls::{self, Attested, Lack};
use pakt_protocol::delivery::{Input, Reason};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{AttestationUpdate, WantAttestation};
use pakt_protocol::rate::{RATE_SPAN, RATE_SPAN_SENDER, RateWindow};
use pakt_protocol::record::Signed;
use pakt_protocol::record::attestation::Attestation;
use pakt_protocol::time::Time;
use std::time::Duration;

use super::sending::Kept;
use super::{Holding, PeerActor, Timer, lock, now};
use crate::mailroom::rate::{Counted, Direction};

/// An attestation that is missing is asked for again after this time.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// However often it is asked for one, this node signs no more than this.
const ATTEST_EVERY: Duration = Duration::from_secs(5);

/// What an actor keeps for the terms.
pub(super) struct Terms {
    sent: RateWindow,
    received: RateWindow,
    /// When an attestation was asked for in this session.
    asked_at: Option<Time>,
    /// What was attested in this session, and when.
    attested: Option<(Vec<Attested>, Time)>,
}

impl Default for Terms {
    fn default() -> Terms {
        let (sent, received) = (RateWindow::new(RATE_SPAN_SENDER), RateWindow::new(RATE_SPAN));
        Terms { sent, received, asked_at: None, attested: None }
    }
}

impl Terms {
    pub(super) fn forget(&mut self, now: Time) {
        self.sent.forget(now);
        self.received.forget(now);
    }

    /// Whether the rate lets an envelope go.
    pub(super) fn may_go(&self, envelope: &EnvelopeId, limit: Option<u32>) -> bool {
        self.sent.admits(envelope, limit)
    }

    /// Whether the rate lets an envelope come.
    pub(super) fn may_come(&self, envelope: &EnvelopeId, limit: Option<u32>) -> bool {
        self.received.admits(envelope, limit)
    }
}

impl PeerActor {
    /// Takes up what was counted before a restart.
    pub(super) fn load_rates(&mut self) {
        let window = |direction| self.context.mailroom.rate_window(&self.entity, direction);
        match (window(Direction::Sent), window(Direction::Received)) {
            (Ok(sent), Ok(received)) => (self.terms.sent, self.terms.received) = (sent, received),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(agreement = %self.id, %error, "what went within the last hour could not be read");
            }
        }
    }

    /// Messages per hour in each direction, if that is agreed.
    pub(super) fn rate_limit(&self) -> Option<u32> {
        self.agreement().and_then(|agreement| agreement.terms.messages_per_hour)
    }

    /// The hold time that is agreed now.
    pub(super) fn hold_seconds(&self) -> u32 {
        self.agreement().map_or(0, |agreement| agreement.terms.hold_seconds)
    }

    /// The session is over: the next one attests and asks anew.
    pub(super) fn end_terms(&mut self) {
        (self.terms.asked_at, self.terms.attested) = (None, None);
        self.timers.clear(Timer::Gate);
        self.show_holding(None);
    }

    fn show_holding(&self, holding: Option<Holding>) {
        let mut shown = lock(&self.shown);
        if shown.holding != holding {
            shown.holding = holding;
            drop(shown);
            self.context.mailroom.changed();
        }
    }

    /// What the counterpart does not show of the controls that the agreement asks for.
    fn lack(&self) -> Option<Lack> {
        let agreement = self.agreement()?;
        let shown = self.context.book.peer_attestation(&self.id);
        let shown = shown.as_ref().map(|known| (known.controls.as_slice(), known.came_at));
        controls::check(&agreement.terms.controls, agreement.terms.retention_seconds, shown, now()).err()
    }

    /// Whether the agreement lets anything go now; what waits is told if it does not.
    pub(super) async fn lets_go(&mut self) -> bool {
        self.terms.forget(now());
        let Some(agreement) = self.agreement() else { return false };
        if !agreement.in_force(now()) {
            return false;
        }
        let Some(lack) = self.lack() else {
            self.show_holding(None);
            return true;
        };
        let waits = !self.waiting.is_empty() || !self.sending.is_empty();
        if waits {
            self.ask_for_attestation(&lack);
            self.show_holding(Some(Holding { why: lack.to_string(), until: None }));
            self.hold_under_way().await;
            self.hold_waiting(Reason::ControlMissing).await;
        }
        false
    }

    fn ask_for_attestation(&mut self, lack: &Lack) {
        if !lack.is_askable() {
            return;
        }
        let asked = self.terms.asked_at.is_some_and(|at| now().since(at) < ASK_EVERY);
        if !asked {
            self.terms.asked_at = Some(now());
            self.transmit(WantAttestation.into());
        }
        self.timers.set(Timer::Gate, self.terms.asked_at.unwrap_or_else(now) + ASK_EVERY);
    }

    /// Takes back what was offered before the controls were found lacking.
    async fn hold_under_way(&mut self) {
        if self.sending.is_empty() {
            return;
        }
        let under_way: Vec<EnvelopeId> = self.sending.keys().copied().collect();
        under_way.iter().for_each(|envelope| self.shared.stop_serving(envelope));
        tracing::warn!(agreement = %self.id, peer = %self.entity, "what was under way waits: a control is missing");
        Box::pin(self.suspend_sending()).await;
    }

    /// Tells what waits why it does; nothing is written for that.
    async fn hold_waiting(&mut self, reason: Reason) {
        let waiting: Vec<EnvelopeId> = self.waiting.values().copied().collect();
        for envelope in waiting {
            Box::pin(self.tell_delivery(envelope, Input::Waits(reason), Kept::default())).await;
        }
    }

    /// Nothing that waits may have a place: if that is for the rate, the next may once the hour has room.
    pub(super) async fn hold_for_rate(&mut self) {
        let limit = self.rate_limit();
        let is_held = self.waiting.values().any(|envelope| !self.terms.may_go(envelope, limit));
        let Some(until) = self.terms.sent.room_at(limit).filter(|_| is_held) else { return };
        if !self.timers.is_set(Timer::Gate) {
            self.hold_waiting(Reason::RateReached).await;
        }
        self.timers.set(Timer::Gate, until);
        let why = format!("{} messages per hour are agreed, and so many have gone", limit.unwrap_or_default());
        self.show_holding(Some(Holding { why, until: Some(until) }));
    }

    /// Whether an envelope that is to be tried again may be offered; else it waits in line.
    pub(super) async fn may_be_offered(&mut self, envelope: &EnvelopeId) -> bool {
        self.terms.forget(now());
        let reason = match self.lack() {
            Some(lack) => {
                self.ask_for_attestation(&lack);
                self.show_holding(Some(Holding { why: lack.to_string(), until: None }));
                Reason::ControlMissing
            }
            None if !self.terms.may_go(envelope, self.rate_limit()) => Reason::RateReached,
            None => return true,
        };
        self.tried.remove(envelope);
        self.requeue(*envelope).await;
        Box::pin(self.tell_delivery(*envelope, Input::Waits(reason), Kept::default())).await;
        if reason == Reason::RateReached {
            self.hold_for_rate().await;
        }
        false
    }

    /// Whether the signed envelope may leave now: an attestation may have run out while its content was on the way. Else
    /// it waits in line again.
    pub(super) async fn may_leave(&mut self, envelope: &EnvelopeId) -> bool {
        if self.lack().is_none() {
            return true;
        }
        self.sample_wire();
        self.shared.stop_serving(envelope);
        self.sending.remove(envelope);
        tracing::warn!(%envelope, peer = %self.entity, "what was about to leave waits: a control is missing");
        Box::pin(self.may_be_offered(envelope)).await
    }

    /// Counts an envelope that is about to be offered, durably; false if that is not possible.
    pub(super) async fn count_sent(&mut self, envelope: EnvelopeId) -> bool {
        if self.rate_limit().is_none() {
            return true;
        }
        let at = now();
        self.terms.sent.count(envelope, at);
        let counted = Counted { at, forgotten: self.terms.sent.take_forgotten() };
        let written = self.context.mailroom.count_sent(self.entity, envelope, counted).await;
        if let Err(error) = &written {
            tracing::error!(%envelope, %error, "an envelope could not be counted, and is not offered");
        }
        written.is_ok()
    }

    /// Counts an envelope that is accepted; it is written in the commit that accepts it.
    pub(super) fn count_received(&mut self, envelope: EnvelopeId) -> Option<Counted> {
        self.rate_limit()?;
        let at = now();
        self.terms.received.count(envelope, at);
        Some(Counted { at, forgotten: self.terms.received.take_forgotten() })
    }

    /// Attests this node's controls, if the agreement asks for any.
    pub(super) async fn attest(&mut self) {
        if self.agreement().is_none_or(|agreement| agreement.terms.controls.is_empty()) {
            return;
        }
        let controls = self.context.controls.attested();
        match self.context.book.attest(&self.id, controls.clone()).await {
            Ok(attestation) => {
                self.terms.attested = Some((controls, now()));
                self.transmit(AttestationUpdate { attestation }.into());
            }
            Err(error) => tracing::error!(agreement = %self.id, %error, "the controls could not be attested"),
        }
    }

    /// Attests again when what there is to show has changed, or when the agreement asks for controls by now.
    pub(super) async fn attest_changes(&mut self) {
        let asked_for = self.agreement().is_some_and(|agreement| !agreement.terms.controls.is_empty());
        if !asked_for || !self.is_live() {
            return;
        }
        let is_said = match &self.terms.attested {
            Some((controls, at)) => *controls == self.context.controls.attested() || now().since(*at) < ATTEST_EVERY,
            None => false,
        };
        if !is_said {
            self.attest().await;
        }
    }

    /// The counterpart asks for a fresh attestation.
    pub(super) async fn attest_again(&mut self) {
        let just_said = self.terms.attested.as_ref().is_some_and(|(_, at)| now().since(*at) < ATTEST_EVERY);
        if !just_said {
            self.attest().await;
        }
    }

    /// Takes the counterpart's attestation: what waited for it may go, or what was under way must not go on.
    pub(super) async fn take_attestation(&mut self, attestation: &Signed<Attestation>) {
        match self.context.book.take_attestation(&self.id, attestation, now()).await {
            Ok(()) => {
                self.timers.clear(Timer::Gate);
                Box::pin(self.fill_places()).await;
            }
            Err(why) => self.close_session(why).await,
        }
    }
}
