//! The life of one outgoing envelope: when to try, when to warn, when to give up, and what receipts make of it.
//!
//! ```text
//!                                                       +-- quarantined, not for us --> refused
//!                                                       |
//! queued --attempt--> offered --accepted--> transferring --receipt--> delivered --receipt--> released --receipt--> taken
//!    ^                   |                       |                        |                     |
//!    +---- lane lost, busy, not reachable -------+                        +-- purged on recall -+--> recalled
//!    |                   +-- refused for good --> refused
//!    +-- taken back before it left ------------> recalled
//!    +-- hold time over, nothing left ---------> expired
//!        hold time over, envelope had left ----> "not confirmed, may have been delivered": reported, asked on
//! ```
//!
//! | state | attempt | accepted | refused | transient | receipt of a tier | other receipt | lost | hold over | recall |
//! |---|---|---|---|---|---|---|---|---|---|
//! | queued | offered, or asked how it ended once its time is over | - | - | - | its state | refused, recalled, expired | queued | expired, or asked about if it had left | recalled, or asked for if it had left |
//! | offered | - | transferring | refused, queued if it has left | queued | its state | the same | queued | withdraw | withdraw, or asked for |
//! | transferring | - | - | refused, queued if it has left | queued | its state | the same | queued | withdraw, unless it has left | withdraw, or asked for |
//! | delivered | - | - | - | - | released, taken | refused (quarantined, not for us), recalled | - | - | asked for |
//! | released | - | - | - | - | taken | refused (not for us), recalled | - | - | asked for |
//! | taken, expired, recalled | - | - | - | - | - | - | - | - | - |
//! | refused | - | - | - | - | released, taken if it was quarantined | - | - | - | - |
//!
//! Held, in any open state: queued, with the owner's reason, until the counterpart is up again for it. Every transition,
//! with flags and events, is in `transitions.txt`; a test compares.
//!
//! **Invariants:** exactly one final state, and a report for every one that is not `taken` or a recall that was certain;
//! after the signed envelope has left, only what the counterpart has signed ends it.

mod record;
#[cfg(test)]
mod schedules;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transitions;
#[cfg(test)]
mod world;

use std::time::Duration;

use crate::defect::{self, Defect};
use crate::machine::{Output, Outputs};
use crate::message::offer::Refusal;
use crate::record::receipt::{Tier, Verdict};
use crate::time::Time;

pub use record::{HISTORY_MAX, Record};
pub use state::{Reason, State};

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A question that is not answered is asked again after this time.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// What the owner tells this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The counterpart's control lane is up.
    PeerUp,
    /// The counterpart's control lane is lost.
    PeerDown,
    /// The offer was accepted.
    Accepted,
    /// The offer or envelope was refused.
    Refused(Refusal),
    /// This node could not do its part; it is tried again.
    Failed,
    /// "May have been delivered" is durable.
    Left,
    /// A receipt was verified; it becomes durable with the record that follows from it.
    Receipt(Verdict),
    /// The counterpart has dropped everything. After the signed envelope has left, only a receipt says so.
    Withdrawn,
    /// The terms let nothing go now, for this reason; the owner says when they do. Nothing is written for it.
    Waits(Reason),
    /// The agreement allows nothing for now; the hold time goes on.
    Held(Reason),
    /// The agreement ended or the group is gone; nothing can be sent any more.
    Stopped(Reason),
    /// The sender wants it back.
    Recall,
    /// Time has passed.
    Tick,
}

/// What the owner must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Offer it now.
    Attempt,
    /// Take the offer back.
    Withdraw,
    /// Nothing more is sent: ask how it ended.
    Ask,
    /// The counterpart may hold it: ask for its recall until it has answered with a receipt.
    AskRecall,
    /// Tell the sending group that it is late.
    Warn(Reason),
    /// Tell the sending group how it ended, or that this is not known.
    Report(Reason),
    /// Tell the sending group that what was reported has turned out well.
    Resolved,
}

/// The machine of one outgoing envelope.
#[derive(Debug)]
pub struct Delivery {
    record: Record,
    peer_up: bool,
    outputs: Outputs<Record, Event>,
}

impl Delivery {
    /// Takes up an envelope from its record, at submission, after a restart or for a late receipt.
    pub fn new(mut record: Record, now: Time) -> Delivery {
        let was_under_way = matches!(record.state, State::Offered | State::Transferring);
        if was_under_way && !defect::is_on(Defect::ForgetAtRestart) {
            record.state = State::Queued;
            record.next_attempt_at = now;
        }
        // What waits is tried at once after a restart, whatever the back-off was.
        record.next_attempt_at = record.next_attempt_at.min(now);
        Delivery { record, peer_up: false, outputs: Outputs::default() }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now: Time) {
        match (self.record.state.is_open(), input) {
            (true, input) => {
                self.handle_open(input, now);
                self.handle_time(now);
            }
            (false, Input::Receipt(verdict)) => self.handle_later_receipt(verdict, now),
            (false, Input::Recall) if !self.record.state.is_final() => self.ask_recall(now),
            (false, _) => {}
        }
    }

    fn handle_open(&mut self, input: Input, now: Time) {
        match input {
            Input::PeerUp => {
                self.peer_up = true;
                self.record.next_attempt_at = now;
            }
            Input::PeerDown => self.handle_lost(now),
            Input::Held(reason) => {
                self.handle_lost(now);
                if !self.record.is_unconfirmed() {
                    self.record.reason = Some(reason);
                }
                self.persist();
            }
            Input::Accepted => {
                let told = self.record.is_unconfirmed().then_some(Reason::NotConfirmed);
                self.enter(State::Transferring, told, now);
            }
            Input::Refused(refusal) => self.handle_refused(refusal, now),
            Input::Failed => self.back_off(Reason::Fault, now),
            Input::Left => {
                self.record.left = true;
                self.persist();
            }
            Input::Receipt(verdict) => self.handle_receipt(verdict, now),
            Input::Withdrawn if self.record.left => self.back_off(Reason::ConnectionLost, now),
            Input::Withdrawn => self.handle_not_held(now),
            Input::Waits(reason) => self.handle_waits(reason, now),
            Input::Stopped(reason) => self.handle_stopped(reason, now),
            Input::Recall if self.record.left => self.ask_recall(now),
            Input::Recall if self.record.recalling => {}
            Input::Recall => {
                self.record.recalling = true;
                self.persist();
                if self.record.state != State::Queued {
                    self.outputs.event(Event::Withdraw);
                }
            }
            Input::Tick => {}
        }
    }

    fn handle_receipt(&mut self, verdict: Verdict, now: Time) {
        match verdict {
            Verdict::Held(tier) => self.handle_held(tier, now),
            Verdict::Unopenable => self.end(State::Refused, Reason::Unopenable, now),
            Verdict::Conflict => self.end(State::Refused, Reason::Conflict, now),
            Verdict::PurposeNotAgreed => self.end(State::Refused, Reason::PurposeNotAgreed, now),
            Verdict::Quarantined => self.end(State::Refused, Reason::Quarantined, now),
            Verdict::Returned => self.end(State::Refused, Reason::Returned, now),
            Verdict::Recalled => self.end_recalled(now),
            Verdict::NotHeld => self.handle_not_held(now),
        }
    }

    /// A receipt about what has left the queue: only what goes further counts, whatever the order in which they come.
    fn handle_later_receipt(&mut self, verdict: Verdict, now: Time) {
        let (state, reason) = (self.record.state, self.record.reason);
        match (state, verdict) {
            (State::Delivered | State::Released, Verdict::Held(tier))
                if Some(tier) > state.tier() || defect::is_on(Defect::TierGoesBack) =>
            {
                self.handle_held(tier, now);
            }
            (State::Refused, Verdict::Held(tier)) if reason == Some(Reason::Quarantined) && tier > Tier::Delivered => {
                self.handle_held(tier, now);
            }
            (State::Delivered, Verdict::Quarantined)
            | (State::Delivered | State::Released, Verdict::Returned | Verdict::Recalled) => {
                self.handle_receipt(verdict, now);
            }
            // It was restored to before it came; only who wants it back is served by that.
            (State::Delivered | State::Released, Verdict::NotHeld) if self.record.recalling => self.end_recalled(now),
            _ => {}
        }
    }

    fn handle_held(&mut self, tier: Tier, now: Time) {
        let tier = match tier {
            Tier::Delivered if defect::is_on(Defect::SwapTier) => Tier::Released,
            tier => tier,
        };
        if defect::is_on(Defect::SkipPersistReceipt) {
            return self.record.enter(tier.into(), None, now);
        }
        let was_reported = std::mem::take(&mut self.record.reported);
        let too_late = tier == Tier::Taken && std::mem::take(&mut self.record.recalling);
        self.enter(tier.into(), None, now);
        if was_reported && !defect::is_on(Defect::SkipResolution) {
            self.outputs.event(Event::Resolved);
        }
        if too_late {
            self.outputs.event(Event::Report(Reason::RecalledTooLate));
        }
    }

    /// The counterpart holds nothing and never will.
    fn handle_not_held(&mut self, now: Time) {
        if defect::is_on(Defect::DisbelieveNotHeld) {
            return self.back_off(Reason::ConnectionLost, now);
        }
        match self.record.stopped {
            _ if self.record.recalling => self.end_recalled(now),
            Some(reason) => self.end(State::Refused, reason, now),
            None => self.end(State::Expired, Reason::HoldTimeOver, now),
        }
    }

    fn handle_stopped(&mut self, reason: Reason, now: Time) {
        if !self.record.left || defect::is_on(Defect::StopAfterLeft) {
            return if self.record.recalling { self.end_recalled(now) } else { self.end(State::Refused, reason, now) };
        }
        if self.record.stopped.is_none() {
            self.handle_lost(now);
            self.record.stopped = Some(reason);
            self.persist();
            self.report_unconfirmed();
        }
    }

    fn handle_time(&mut self, now: Time) {
        if self.record.state == State::Queued && self.record.recalling && !self.record.left {
            self.end_recalled(now);
        }
        if self.record.state.is_open() && now >= self.gives_up_at() {
            self.handle_hold_over(now);
        }
        if !self.record.state.is_open() {
            return;
        }
        if now >= self.record.warn_at && !self.record.warned && now < self.record.expires_at {
            self.record.warned = true;
            self.persist();
            self.outputs.event(Event::Warn(self.record.reason.unwrap_or(Reason::Unreachable)));
        }
        if self.record.state == State::Queued && self.peer_up && now >= self.record.next_attempt_at {
            if self.record.is_over(now) && !defect::is_on(Defect::OfferWhenOver) {
                self.record.next_attempt_at = now + ASK_EVERY;
                self.outputs.event(Event::Ask);
            } else {
                self.record.attempts = self.record.attempts.saturating_add(1);
                self.enter(State::Offered, self.record.reason, now);
                self.outputs.event(Event::Attempt);
            }
        }
        self.outputs.deadline(self.next_deadline(now));
    }

    fn gives_up_at(&self) -> Time {
        match self.record.expires_at {
            _ if defect::is_on(Defect::ExpireEarly) => self.record.warn_at,
            _ if defect::is_on(Defect::NeverExpire) => Time(u64::MAX),
            expires_at => expires_at,
        }
    }

    fn handle_hold_over(&mut self, now: Time) {
        let may_be_there = self.record.left && !defect::is_on(Defect::ExpireAfterLeft);
        if !may_be_there && self.record.state == State::Queued {
            self.end(State::Expired, Reason::HoldTimeOver, now);
        } else if self.record.left {
            self.report_unconfirmed();
        } else if !defect::is_on(Defect::SkipWithdrawal) {
            // Under way but the signed envelope has not left: taken back with the counterpart's answer.
            self.outputs.event(Event::Withdraw);
        }
    }

    fn report_unconfirmed(&mut self) {
        if !self.record.reported {
            self.record.reported = true;
            self.record.reason = Some(Reason::NotConfirmed);
            self.persist();
            self.outputs.event(Event::Report(Reason::NotConfirmed));
        }
    }

    fn handle_lost(&mut self, now: Time) {
        self.peer_up = false;
        let reason = match self.record.state {
            State::Offered | State::Transferring => Reason::ConnectionLost,
            _ => self.record.reason.unwrap_or(Reason::Unreachable),
        };
        self.wait(reason, now);
    }

    /// Kept back by this side: nothing is tried until the owner says that the counterpart is up.
    fn handle_waits(&mut self, reason: Reason, now: Time) {
        self.peer_up = false;
        self.wait(reason, now);
    }

    fn wait(&mut self, reason: Reason, now: Time) {
        self.record.next_attempt_at = now;
        let reason = if self.record.reported { Reason::NotConfirmed } else { reason };
        if self.record.state != State::Queued && !defect::is_on(Defect::ForgetRequeue) {
            self.enter(State::Queued, Some(reason), now);
        } else {
            self.record.reason = Some(reason);
        }
    }

    fn handle_refused(&mut self, refusal: Refusal, now: Time) {
        // A refusal is not signed: once the envelope may be there, only a receipt or the hold time ends the waiting.
        if refusal.is_transient() && !defect::is_on(Defect::GiveUpOnBusy) || self.record.left {
            self.back_off(Reason::Refused(refusal), now);
        } else {
            self.end(State::Refused, Reason::Refused(refusal), now);
        }
    }

    fn back_off(&mut self, reason: Reason, now: Time) {
        let doublings = self.record.attempts.saturating_sub(1).min(5);
        let wait = (BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MAX);
        self.record.next_attempt_at = now + wait;
        let reason = if self.record.reported { Reason::NotConfirmed } else { reason };
        self.enter(State::Queued, Some(reason), now);
    }

    /// What has left can only be asked for; before that it is taken back, which is certain.
    fn ask_recall(&mut self, now: Time) {
        if defect::is_on(Defect::RecallUnasked) {
            return self.end_recalled(now);
        }
        if !self.record.recalling {
            self.record.recalling = true;
            self.persist();
            self.outputs.event(Event::AskRecall);
        }
    }

    fn end(&mut self, state: State, reason: Reason, now: Time) {
        self.record.reported = true;
        self.record.recalling = false;
        self.enter(state, Some(reason), now);
        let times = match () {
            () if defect::is_on(Defect::SkipReport) => 0,
            () if defect::is_on(Defect::DoubleReport) => 2,
            () => 1,
        };
        (0..times).for_each(|_| self.outputs.event(Event::Report(reason)));
    }

    /// Whoever wanted it back is told at once while that was certain, else by the state and a notice.
    fn end_recalled(&mut self, now: Time) {
        self.record.recalling = false;
        let left = self.record.left;
        self.enter(State::Recalled, None, now);
        if left {
            self.outputs.event(Event::Resolved);
        }
    }

    fn enter(&mut self, state: State, reason: Option<Reason>, now: Time) {
        self.record.enter(state, reason, now);
        self.persist();
    }

    fn persist(&mut self) {
        self.outputs.persist(self.record.clone());
    }

    fn next_deadline(&self, now: Time) -> Time {
        let mut next = if now < self.record.expires_at { self.record.expires_at } else { now + BACKOFF_MAX };
        if !self.record.warned && now < self.record.warn_at {
            next = next.min(self.record.warn_at);
        }
        if self.record.state == State::Queued && self.peer_up {
            next = next.min(self.record.next_attempt_at);
        }
        next
    }

    /// The wish to have it back could not be made durable: whoever wished it is told so, and it goes on without.
    pub fn forget_recall(&mut self) {
        self.record.recalling = false;
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<Record, Event>> {
        self.outputs.poll()
    }

    /// What is kept about it.
    pub fn record(&self) -> &Record {
        &self.record
    }
}
