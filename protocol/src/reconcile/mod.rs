//! Reconciliation of one pair: whether everything that was sent is held, once a day and on demand.
//!
//! Each side runs one [`Reconciler`] per agreement. It begins the rounds about what this side has sent, and answers those
//! about what it has received. One round goes over all numbers, in as many pages as they are broken up into.
//!
//! ```text
//! resting --due, asked, live--> stating --own statement made--> awaiting --answer--> keeping --durable--+--> stating (next page)
//!    ^                                                             |                                    |
//!    +------------- no answer within a minute, session lost -------+            (last page)             |
//!    +--------------------------------------------------------------------------------------------------+
//! ```
//!
//! | state | due or asked | stated | answer | kept | lost | time over |
//! |---|---|---|---|---|---|---|
//! | resting | stating | - | misbehaved | - | resting | - |
//! | stating | - | awaiting | misbehaved | - | resting | - |
//! | awaiting | - | - | keeping | - | resting | resting, again in an hour |
//! | keeping | - | - | misbehaved | stating or resting | resting, the page is kept | - |
//!
//! The receiving side has one statement at a time, and begins to answer at most one every two seconds.
//!
//! **Invariant:** an answer leaves only after what it shows is durable; both sides judge the same two statements by the
//! same function, [`compare`], so that both come to the same gap.

pub mod ranges;

use std::time::Duration;

use crate::defect::{self, Defect};
use crate::ids::EnvelopeId;
use crate::machine::{Output, Outputs};
use crate::message::{Reconcile, ReconcileGap, Reconciled, WantReconcile};
use crate::record::Signed;
use crate::record::reconciliation::{HeldStatement, SentStatement};
use crate::time::Time;
use ranges::Ranges;

/// Each direction of a pair is reconciled this often.
pub const EVERY: Duration = Duration::from_secs(86_400);
/// A round that is due begins so long after the session did: what was held up goes first.
pub const FIRST_AFTER: Duration = Duration::from_secs(30);
/// An answer that takes longer does not come.
pub const ANSWER_MAX: Duration = Duration::from_secs(60);
/// After a round that came to nothing, and before the counterpart is reminded again.
pub const AGAIN_AFTER: Duration = Duration::from_secs(3_600);
/// How much later than daily the counterpart's round may be before it is reminded.
const GRACE: Duration = Duration::from_secs(3_600);
/// Rounds that are asked for begin at most this often.
const ROUND_EVERY: Duration = Duration::from_secs(5);
/// Statements are answered at most this often.
const ANSWER_EVERY: Duration = Duration::from_secs(2);
/// Pages of one round; a round that needs more goes on in the next one.
pub const PAGES_MAX: u32 = 100;

/// What the comparison of two statements shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The sender has a receipt, the receiver does not hold it.
    pub lost: Ranges,
    /// The receiver holds it, the sender has not sent it, or says that it was not delivered.
    pub unknown: Ranges,
    /// What a restore on either side explains.
    pub explained: Ranges,
}

/// Which restores the judge knows of, beside the statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restores {
    /// The sender was restored from a backup.
    pub sender: bool,
    /// The receiver was restored from a backup.
    pub receiver: bool,
}

/// Compares what was sent with what is held, as far as both statements reach. An excuse by a restore counts only where that
/// restore is known.
pub fn compare(sent: &SentStatement, (last, held): (u64, &Ranges), restores: Restores) -> Findings {
    let part = |ranges: &Ranges| ranges.within(sent.first, last);
    let (delivered, mut open) = (part(&sent.delivered), part(&sent.open));
    if defect::is_on(Defect::OpenIsUnknown) {
        open = Ranges::default();
    }
    let (excused, forgotten) = (part(&sent.excused), part(&sent.forgotten));
    let held = part(held);
    let missing = excused.minus(&held);
    let beyond = held.minus(&delivered).minus(&open).minus(&excused);
    let mut findings = Findings { lost: delivered.minus(&held), ..Findings::default() };
    if restores.receiver {
        findings.explained = missing.minus(&delivered);
    } else {
        findings.lost = findings.lost.or(&missing);
    }
    let by_sender = if restores.sender { beyond.and(&forgotten) } else { Ranges::default() };
    findings.unknown = beyond.minus(&by_sender);
    findings.explained = findings.explained.or(&by_sender);
    findings
}

/// What the owner tells this machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The session is live.
    Live,
    /// The session is over.
    Lost,
    /// A round is wanted now, by a person or by the counterpart.
    Asked,
    /// The statement that [`Event::State`] asked for.
    Stated(Signed<SentStatement>, Box<SentStatement>),
    /// The counterpart's statement, verified.
    Statement(Signed<SentStatement>),
    /// The counterpart's answer, not verified yet.
    Answer(Signed<HeldStatement>),
    /// The page is durable; what of it the counterpart is to be told by name.
    Kept(Vec<(u64, EnvelopeId)>),
    /// What this side holds is durable as compared, and signed; whether that was the last page.
    Answered(Signed<HeldStatement>, bool),
    /// The owner could not do what it was asked for.
    Failed,
    /// Time has passed.
    Tick,
}

/// What the owner must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Make the statement of this round that begins at this number.
    State {
        /// The round.
        round: u64,
        /// The first number.
        first: u64,
    },
    /// Verify and compare these two, keep what they show, and say where the answer ends and what is to be named.
    Keep(Signed<SentStatement>, Signed<HeldStatement>),
    /// Compare this statement with what is held, keep what it shows, and sign the answer.
    Answer(Signed<SentStatement>),
    /// A round was complete.
    Done,
    /// No answer came.
    Unanswered,
    /// The counterpart broke a rule.
    Misbehaved(&'static str),
}

#[derive(Debug)]
enum State {
    Resting,
    Stating { round: u64, pages: u32 },
    Awaiting { round: u64, pages: u32, asked: Signed<SentStatement>, until: Time },
    Keeping { round: u64, pages: u32, next: Option<u64> },
}

/// What is known from before, at the start of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The last round about what this side has sent, and when it was complete.
    pub sent: Option<(u64, Time)>,
    /// The number at which the next round begins, if the last one did not reach the end.
    pub next: Option<u64>,
    /// When the last round about what this side has received was complete.
    pub received: Option<Time>,
}

/// The machine of one agreement.
#[derive(Debug)]
pub struct Reconciler {
    state: State,
    live: bool,
    round: u64,
    due: Time,
    /// No round begins before.
    not_before: Time,
    first: u64,
    /// A round was asked for.
    asked: bool,
    /// When the counterpart is reminded of its round.
    remind: Time,
    /// The counterpart's statement that waits, and whether one is being answered.
    waiting: Option<Signed<SentStatement>>,
    answering: bool,
    answer_not_before: Time,
    outputs: Outputs<std::convert::Infallible, Event>,
}

impl Reconciler {
    /// Takes up where the last run ended.
    pub fn new(known: Known, now: Time) -> Reconciler {
        // A clock that was wrong must not put it off for longer.
        let after = |at: Option<Time>, by: Duration| at.map_or(now, |at| (at + by).min(now + by));
        Reconciler {
            state: State::Resting,
            live: false,
            round: known.sent.map_or(0, |(round, _)| round),
            due: after(known.sent.map(|(_, at)| at), EVERY),
            not_before: now,
            first: known.next.unwrap_or(1),
            asked: false,
            remind: after(known.received, EVERY + GRACE).max(now + GRACE),
            waiting: None,
            answering: false,
            answer_not_before: now,
            outputs: Outputs::default(),
        }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now: Time) {
        match input {
            Input::Live => {
                self.live = true;
                self.due = self.due.max(now + FIRST_AFTER);
                self.remind = self.remind.max(now + FIRST_AFTER);
            }
            Input::Lost => {
                self.live = false;
                (self.waiting, self.answering, self.asked) = (None, false, false);
                if !matches!(self.state, State::Resting) {
                    self.state = State::Resting;
                    self.due = now;
                }
            }
            Input::Asked => self.asked = true,
            Input::Stated(signed, body) => self.handle_stated(signed, &body, now),
            Input::Statement(signed) => self.handle_statement(signed),
            Input::Answer(signed) => self.handle_answer(signed),
            Input::Kept(named) => self.handle_kept(named, now),
            Input::Answered(signed, is_last) => self.handle_answered(signed, is_last, now),
            Input::Failed => self.handle_failed(now),
            Input::Tick => {}
        }
        self.handle_time(now);
    }

    fn handle_stated(&mut self, signed: Signed<SentStatement>, body: &SentStatement, now: Time) {
        let State::Stating { round, pages } = self.state else { return };
        debug_assert_eq!(body.round, round);
        self.outputs.transmit(Reconcile { statement: signed.clone() });
        self.state = State::Awaiting { round, pages, asked: signed, until: now + ANSWER_MAX };
    }

    fn handle_statement(&mut self, signed: Signed<SentStatement>) {
        if self.waiting.is_some() || self.answering {
            return self.outputs.event(Event::Misbehaved("a second statement before the first was answered"));
        }
        self.waiting = Some(signed);
    }

    fn handle_answer(&mut self, signed: Signed<HeldStatement>) {
        let State::Awaiting { round, pages, asked, .. } = &self.state else {
            return self.outputs.event(Event::Misbehaved("an answer to no statement"));
        };
        let (round, pages, asked) = (*round, *pages, asked.clone());
        // Its owner verifies it before anything follows from it.
        let Ok(HeldStatement { last, .. }) = signed.peek() else {
            return self.outputs.event(Event::Misbehaved("an answer that cannot be read"));
        };
        self.state = State::Keeping { round, pages: pages + 1, next: last.checked_add(1) };
        self.outputs.event(Event::Keep(asked, signed));
    }

    fn handle_kept(&mut self, named: Vec<(u64, EnvelopeId)>, now: Time) {
        let State::Keeping { round, pages, next } = self.state else { return };
        if !named.is_empty() && self.live {
            self.outputs.transmit(ReconcileGap { round, named });
        }
        match next.filter(|_| pages < PAGES_MAX) {
            Some(first) => {
                self.state = State::Stating { round, pages };
                self.outputs.event(Event::State { round, first });
            }
            None => {
                self.first = next.unwrap_or(1);
                self.rest(now + EVERY, now);
                self.outputs.event(Event::Done);
            }
        }
    }

    fn handle_answered(&mut self, signed: Signed<HeldStatement>, is_last: bool, now: Time) {
        if !std::mem::take(&mut self.answering) {
            return;
        }
        if self.live {
            self.outputs.transmit(Reconciled { statement: signed });
        }
        if is_last {
            self.remind = now + EVERY + GRACE;
        }
    }

    fn handle_failed(&mut self, now: Time) {
        self.answering = false;
        if !matches!(self.state, State::Resting) {
            self.rest(now + AGAIN_AFTER, now);
        }
    }

    fn rest(&mut self, due: Time, now: Time) {
        self.state = State::Resting;
        self.due = due;
        self.not_before = now + ROUND_EVERY;
    }

    fn handle_time(&mut self, now: Time) {
        if let State::Awaiting { until, .. } = self.state
            && now >= until
        {
            self.rest(now + AGAIN_AFTER, now);
            self.outputs.event(Event::Unanswered);
        }
        if !self.live {
            return;
        }
        if matches!(self.state, State::Resting) && (self.asked || now >= self.due) && now >= self.not_before {
            self.asked = false;
            self.round = self.round.saturating_add(1).max(now.0);
            self.state = State::Stating { round: self.round, pages: 0 };
            self.outputs.event(Event::State { round: self.round, first: self.first });
        }
        if now >= self.answer_not_before
            && let Some(statement) = self.waiting.take()
        {
            self.answering = true;
            self.answer_not_before = now + ANSWER_EVERY;
            self.outputs.event(Event::Answer(statement));
        }
        if now >= self.remind {
            self.remind = now + AGAIN_AFTER;
            self.outputs.transmit(WantReconcile);
        }
        self.outputs.deadline(self.next_deadline());
    }

    fn next_deadline(&self) -> Time {
        let own = match self.state {
            State::Resting if self.asked => self.not_before,
            State::Resting => self.due.max(self.not_before),
            State::Awaiting { until, .. } => until,
            // The owner is at work.
            State::Stating { .. } | State::Keeping { .. } => self.remind,
        };
        let answer = if self.waiting.is_some() { self.answer_not_before } else { self.remind };
        own.min(answer).min(self.remind)
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<std::convert::Infallible, Event>> {
        self.outputs.poll()
    }
}

#[cfg(test)]
mod tests;
