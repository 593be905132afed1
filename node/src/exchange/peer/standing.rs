//! What is about the agreement itself: statements, later versions, and what follows from them for traffic.
//!
//! **Invariant:** what the counterpart shows is durable before it is told so.

use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::agreement::Traffic;
use pakt_protocol::delivery::{Input as DeliveryInput, Reason};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{Amend, Amended, Message, Statement, WantStatements};
use pakt_protocol::policy::Footing;
use pakt_protocol::record::Signed;
use pakt_protocol::record::statement::AgreementStatement;
use pakt_protocol::session::Input;

use super::{PeerActor, Timer, now};
use crate::book::{Agreement, AmendmentAnswer, Standing, StatementAnswer};

/// After a renewal the session starts anew, with all that it allows.
const RENEWED_DIAL: Duration = Duration::from_millis(500);

impl PeerActor {
    /// What this side shows about the agreement when a session starts that it has dialled or not; `version` is the one that
    /// the counterpart holds.
    pub(super) fn shown_at_start(&self, agreement: &Agreement, version: u32, dialer: bool) -> Vec<Message> {
        let book = &self.context.book;
        let (own, other) = (self.context.entity.id(), agreement.counterpart().entity);
        if !agreement.view().shows_statements(dialer) {
            return Vec::new();
        }
        let newest = |party, after: u64| book.statements_after(&self.id, &party, after.saturating_sub(1));
        let mut shown: Vec<Message> = Vec::new();
        shown.extend(newest(own, agreement.own.number()).pop().map(|statement| say(statement, false)));
        shown.extend(newest(other, agreement.peer.number()).pop().map(|statement| say(statement, true)));
        if agreement.standing == Standing::Active {
            shown.extend(self.versions_to_show(agreement, version));
        }
        shown
    }

    fn versions_to_show(&self, agreement: &Agreement, version: u32) -> Vec<Message> {
        let mut files = Vec::new();
        if !agreement.version_known || version < agreement.terms.version {
            match self.context.book.current_file(&self.id) {
                Ok(file) => files.push(file),
                Err(error) => tracing::error!(agreement = %self.id, %error, "the agreement could not be read"),
            }
        }
        files.extend(agreement.offered.as_ref().map(|offered| offered.file.to_bytes()));
        files.into_iter().map(|file| Amend { file }.into()).collect()
    }

    /// Shows the terms that count here: the counterpart holds an older version.
    pub(super) fn show_current(&mut self) {
        match self.context.book.current_file(&self.id) {
            Ok(file) => self.transmit(Amend { file }.into()),
            Err(error) => tracing::error!(agreement = %self.id, %error, "the agreement could not be read"),
        }
    }

    /// The agreement was completed, changed or ended on this side.
    pub(super) async fn handle_agreement_changed(&mut self) {
        let Some(agreement) = self.agreement() else { return };
        if self.live.is_some() {
            self.show_statements(&self.context.entity.id(), agreement.own_known, false);
            if agreement.standing == Standing::Active {
                self.versions_to_show(&agreement, agreement.terms.version)
                    .into_iter()
                    .for_each(|message| self.transmit(message));
            }
        }
        if agreement.frozen_at.is_some() {
            self.close_session("the counterpart's certificates contradict each other").await;
        }
        self.follow_agreement().await;
        if self.live.is_none() {
            self.timers.set(Timer::Dial, now());
        }
    }

    /// Whatever the agreement no longer allows ends, and whatever it allows again begins.
    pub(super) async fn follow_agreement(&mut self) {
        let ended = self.agreement().is_some_and(|agreement| agreement.standing == Standing::Ended);
        // Before the session learns of an end: what had left is asked for then, and must not be offered.
        self.enforce_terms().await;
        if ended {
            self.tell_session(Input::Ended).await;
            self.forget_listings().await;
            self.forget_stale().await;
        }
        self.context.mailroom.changed();
    }

    pub(super) async fn take_statement(&mut self, message: Statement) {
        let Statement { statement, known } = message;
        let Ok(party) = statement.peek().map(|statement| statement.party) else {
            return self.close_session("a statement that cannot be read").await;
        };
        let answer = match self.context.book.take_statement(&self.id, statement.clone(), known).await {
            Ok(answer) => answer,
            Err(why) => return self.close_session(why).await,
        };
        match answer {
            StatementAnswer::Known => self.transmit(say(statement, true)),
            StatementAnswer::Missing(after) => self.transmit(WantStatements { party, after }.into()),
            StatementAnswer::Other(after) => self.show_statements(&party, after, true),
            StatementAnswer::Again => {
                let known = self.agreement().map_or(0, |agreement| agreement.own_known);
                self.show_statements(&party, known, false);
            }
            StatementAnswer::Nothing => {}
            StatementAnswer::EndKnown => {
                if party == self.context.entity.id() {
                    // So that the counterpart need not wait for this either.
                    self.transmit(say(statement, true));
                }
                self.follow_agreement().await;
                return self.end_if_settled().await;
            }
        }
        self.follow_agreement().await;
    }

    /// Shows the statements of `party` with a higher number than `after`; `known` says that they are what is held here.
    pub(super) fn show_statements(&mut self, party: &EntityId, after: u64, known: bool) {
        for statement in self.context.book.statements_after(&self.id, party, after) {
            self.transmit(say(statement, known));
        }
    }

    pub(super) async fn take_amendment(&mut self, amend: Amend) {
        match self.context.book.take_amendment(&self.id, &amend.file).await {
            Ok(AmendmentAnswer::Known(terms)) => self.transmit(Amended { terms }.into()),
            Ok(AmendmentAnswer::ShowNewer) => self.show_current(),
            Ok(AmendmentAnswer::Nothing) => {}
            Err(why) => return self.close_session(why).await,
        }
        self.follow_agreement().await;
        let is_renewed = self.agreement().is_some_and(|agreement| agreement.footing(now()) != Footing::Expired);
        if is_renewed && self.live.as_ref().is_some_and(|live| live.machine.is_expired()) {
            // What was not heard in this session is said in the next.
            self.close_session("the agreement was renewed").await;
            self.plan_dial(RENEWED_DIAL);
        }
    }

    pub(super) async fn amendment_known(&mut self, amended: &Amended) {
        let known = self.context.book.amendment_known(&self.id, amended.terms).await;
        self.report(known.err(), "a confirmation could not be recorded");
    }

    /// Stops at once what the agreement no longer allows, lets go on what it allows again.
    pub(super) async fn enforce_terms(&mut self) {
        let Some(agreement) = self.agreement() else { return };
        let (view, footing) = (agreement.view(), agreement.footing(now()));
        let before = self.footing.replace(footing);
        let changed = before != Some(footing);
        if let Some(at) = view.next_date(now()).filter(|_| changed || !self.timers.is_set(Timer::Terms)) {
            self.timers.set(Timer::Terms, at);
        }
        if changed {
            self.tell_session(Input::InForce(footing == Footing::InForce)).await;
        }
        match view.traffic(now()) {
            Traffic::Waits(reason) if changed => {
                self.halt_receiving(footing).await;
                self.hold_traffic(reason).await;
            }
            Traffic::Goes | Traffic::Waits(_) => {}
            Traffic::Stops(reason) => {
                if changed && footing == Footing::Expired {
                    self.note_expired(&agreement).await;
                }
                self.stop_traffic(reason).await;
            }
        }
        let expired = self.live.as_ref().is_some_and(|live| live.machine.is_expired());
        if self.live.is_some() && !view.keeps_session(now(), expired) {
            self.close_session("the agreement has expired").await;
        }
    }

    /// No content for now; what is queued waits while its hold time goes on.
    async fn hold_traffic(&mut self, reason: Reason) {
        self.end_content();
        self.suspend_sending().await;
        let queued: Vec<EnvelopeId> = self.deliveries.keys().copied().collect();
        for envelope in queued {
            self.hold_delivery(envelope, reason).await;
        }
    }

    async fn stop_traffic(&mut self, reason: Reason) {
        let idle = self.deliveries.is_empty() && self.receiving.is_empty() && self.content_lanes.is_empty();
        if idle && self.early.is_empty() {
            return;
        }
        self.end_content();
        self.stop_early().await;
        let queued: Vec<EnvelopeId> = self.deliveries.keys().copied().collect();
        for envelope in queued {
            self.stop_delivery(envelope, DeliveryInput::Stopped(reason)).await;
        }
    }
}

fn say(statement: Signed<AgreementStatement>, known: bool) -> Message {
    Statement { statement, known }.into()
}
