//! Reconciliation with the counterpart: does what its machine wants, and says aloud what it shows.
//!
//! **Invariant:** a statement is made and sent in one step of this actor, so that nothing has left that it does not know of.

use pakt_protocol::machine::Output;
use pakt_protocol::message::{Reconcile, ReconcileGap, Reconciled};
use pakt_protocol::reconcile::{Event, Input, Known, Reconciler};
use pakt_protocol::record::Signed;
use pakt_protocol::record::reconciliation::{HeldStatement, NAMED_MAX, SentStatement, verify_held, verify_sent};

use super::{PeerActor, Timer, now};
use crate::reconcile::rows::Side;
use crate::reconcile::{Changed, Stated};
use crate::store::StoreError;

/// Gaps that one line of the log names.
const LOGGED_MAX: usize = 20;
const NOT_STORED: &str = "a reconciliation could not be read or kept";

/// The machine, and the page that waits for its answer.
pub(super) struct Reconciling {
    machine: Reconciler,
    stated: Option<Stated>,
    /// The highest number that was held here when the counterpart's statement arrived.
    highest: u64,
}

impl Default for Reconciling {
    fn default() -> Reconciling {
        Reconciling { machine: Reconciler::new(Known::default(), now()), stated: None, highest: 0 }
    }
}

impl PeerActor {
    /// Takes up where the last run ended.
    pub(super) fn load_reconciliation(&mut self) {
        match self.context.rounds.known(&self.id) {
            Ok(known) => self.reconciling.machine = Reconciler::new(known, now()),
            Err(error) => tracing::error!(agreement = %self.id, %error, "what was reconciled could not be read"),
        }
    }

    /// The session is live.
    pub(super) async fn begin_reconciling(&mut self) {
        self.tell_reconciler(Input::Live).await;
    }

    /// The session is over.
    pub(super) async fn end_reconciling(&mut self) {
        self.reconciling.stated = None;
        self.timers.clear(Timer::Reconcile);
        self.tell_reconciler(Input::Lost).await;
    }

    /// A person or the counterpart wants a round about what this node has sent.
    pub(super) async fn reconcile_now(&mut self) {
        if self.is_live() {
            self.tell_reconciler(Input::Asked).await;
        }
    }

    pub(super) async fn tick_reconciling(&mut self) {
        if self.is_live() {
            self.tell_reconciler(Input::Tick).await;
        }
    }

    /// The counterpart says what it has sent.
    pub(super) async fn take_sent_statement(&mut self, message: Reconcile) {
        // It is answered later: what comes meanwhile is unknown to it.
        match self.context.rounds.highest_held(self.id) {
            Ok(highest) => self.reconciling.highest = highest,
            Err(error) => return tracing::error!(agreement = %self.id, %error, NOT_STORED),
        }
        self.tell_reconciler(Input::Statement(message.statement)).await;
    }

    /// The counterpart says what it holds.
    pub(super) async fn take_held_statement(&mut self, message: Reconciled) {
        self.tell_reconciler(Input::Answer(message.statement)).await;
    }

    /// The counterpart names what is not held here.
    pub(super) async fn take_reconcile_gap(&mut self, message: ReconcileGap) {
        if message.named.len() > NAMED_MAX {
            return self.close_session("more names than a reconciliation has").await;
        }
        match self.context.rounds.name_lost(self.id, message.named).await {
            Ok(named) if named.is_empty() => {}
            Ok(named) => {
                let envelopes: Vec<String> = named.iter().map(|(_, envelope)| envelope.to_string()).collect();
                tracing::error!(
                    agreement = %self.id, peer = %self.entity, envelopes = envelopes[..envelopes.len().min(LOGGED_MAX)].join(" "),
                    "the counterpart names what it has delivered and this node does not hold"
                );
                self.context.mailroom.changed();
            }
            Err(error) => tracing::error!(agreement = %self.id, %error, NOT_STORED),
        }
    }

    async fn tell_reconciler(&mut self, input: Input) {
        self.reconciling.machine.handle_input(input, now());
        while let Some(output) = self.reconciling.machine.poll_output() {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Persist(never) => match never {},
                Output::Deadline(at) => self.timers.set(Timer::Reconcile, at),
                Output::Event(event) => self.do_for_reconciler(event).await,
            }
        }
    }

    async fn do_for_reconciler(&mut self, event: Event) {
        let done = match event {
            Event::State { round, first } => self.state_sent(round, first).await,
            Event::Keep(_, answer) => self.keep_answer(answer).await,
            Event::Answer(statement) => self.answer_statement(statement).await,
            Event::Done => {
                tracing::info!(agreement = %self.id, peer = %self.entity, "what was sent is reconciled");
                self.context.mailroom.changed();
                return;
            }
            Event::Unanswered => {
                tracing::warn!(agreement = %self.id, peer = %self.entity, "the counterpart does not answer a reconciliation");
                return;
            }
            Event::Misbehaved(why) => return Box::pin(self.close_session(why)).await,
        };
        match done {
            Ok(input) => self.reconciling.machine.handle_input(input, now()),
            Err(Trouble::Misbehaved(why)) => Box::pin(self.close_session(why)).await,
            Err(Trouble::Fault(error)) => {
                tracing::error!(agreement = %self.id, %error, NOT_STORED);
                self.reconciling.machine.handle_input(Input::Failed, now());
            }
        }
    }

    async fn state_sent(&mut self, round: u64, first: u64) -> Result<Input, Trouble> {
        let (rounds, to) = (self.context.rounds.clone(), (self.id, self.entity));
        let stated = blocking(move || rounds.state(to, round, first)).await?;
        let input = Input::Stated(stated.signed.clone(), Box::new(stated.body.clone()));
        self.reconciling.stated = Some(stated);
        Ok(input)
    }

    async fn keep_answer(&mut self, signed: Signed<HeldStatement>) -> Result<Input, Trouble> {
        let (Some(agreement), Some(stated)) = (self.agreement(), self.reconciling.stated.take()) else {
            return Ok(Input::Failed);
        };
        let answer = verify_held(&signed, &stated.signed, &agreement.node)
            .map_err(|_| Trouble::Misbehaved("this is no valid answer to a reconciliation"))?;
        let (rounds, id, signed) = (self.context.rounds.clone(), self.id, (signed, agreement.chain.clone()));
        let compared = blocking(move || rounds.take_answer(id, &stated, signed, &answer)).await?;
        self.tell_gaps(Side::Sent, &compared.changed);
        Ok(Input::Kept(compared.named))
    }

    async fn answer_statement(&mut self, signed: Signed<SentStatement>) -> Result<Input, Trouble> {
        let Some(agreement) = self.agreement() else { return Ok(Input::Failed) };
        let own = self.context.entity.id();
        let sent = verify_sent(&signed, &self.id, &agreement.node, &own)
            .map_err(|_| Trouble::Misbehaved("this is no valid statement of what was sent"))?;
        let (rounds, to) = (self.context.rounds.clone(), (self.id, self.entity));
        let signed = (signed, agreement.chain.clone());
        let highest = self.reconciling.highest;
        let (answer, changed, is_last) = blocking(move || {
            let (answer, changed) = rounds.answer(to, signed, (&sent, highest))?;
            let is_last = answer.peek().is_ok_and(|held| held.last == u64::MAX);
            Ok((answer, changed, is_last))
        })
        .await?;
        self.tell_gaps(Side::Received, &changed);
        Ok(Input::Answered(answer, is_last))
    }

    /// Says in the log what is wrong, and that it is not any more.
    fn tell_gaps(&self, side: Side, changed: &Changed) {
        if let Some((first, gap)) = changed.fresh.first() {
            let named = changed.fresh.iter().filter_map(|(_, gap)| gap.envelope);
            let envelopes: Vec<String> = named.take(LOGGED_MAX).map(|envelope| envelope.to_string()).collect();
            tracing::error!(
                agreement = %self.id, peer = %self.entity, side = side.as_str(), kind = gap.kind.as_str(), number = *first,
                count = changed.fresh.len(), envelopes = envelopes.join(" "),
                "a reconciliation shows a gap"
            );
        }
        if changed.beyond > 0 {
            let count = changed.beyond;
            tracing::error!(
                agreement = %self.id, peer = %self.entity, side = side.as_str(), count,
                "a reconciliation shows gaps for which there is no place on record"
            );
        }
        if changed.closed > 0 {
            let count = changed.closed;
            tracing::info!(agreement = %self.id, peer = %self.entity, side = side.as_str(), count, "a gap has closed");
        }
        if *changed != Changed::default() {
            self.context.mailroom.changed();
        }
    }
}

/// Why a page came to nothing.
enum Trouble {
    /// The counterpart broke a rule.
    Misbehaved(&'static str),
    /// This node failed.
    Fault(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Fault(error)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Panicked))
}
