//! The life of one outgoing envelope: when to try, when to warn, when to give up.
//!
//! ```text
//! queued --attempt--> offered --accepted--> transferring --receipt--> delivered
//!    ^                   |                       |
//!    +---- lane lost, busy, not reachable -------+
//!    |                   +-- refused for good --> refused
//!    +-- hold time over, nothing left ----------> expired
//!        hold time over, envelope had left -----> "not confirmed, may have been delivered": reported, asked on
//! ```
//!
//! | state | attempt | accepted | refused | transient | receipt | lost | hold over |
//! |---|---|---|---|---|---|---|---|
//! | queued | offered | - | - | - | - | queued | expired, or withdraw if it had left |
//! | offered | - | transferring | refused, queued if it has left | queued | delivered | queued | withdraw |
//! | transferring | - | - | refused, queued if it has left | queued | delivered | queued | withdraw, unless it has left |
//! | delivered, refused, expired | - | - | - | - | - | - | - |
//!
//! Held, in any state that is not final: queued, with the owner's reason, until the counterpart is up again for it.
//!
//! **Invariant:** exactly one final state, and a report for every one that is not `delivered`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::{Output, Outputs};
use crate::message::offer::Refusal;
use crate::record::envelope::Priority;
use crate::record::receipt::{Tier, Verdict};
use crate::time::Time;

/// Where an outgoing envelope stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Waits for the next attempt.
    Queued,
    /// Offered to the counterpart.
    Offered,
    /// The counterpart has accepted and pulls.
    Transferring,
    /// A receipt is durable here.
    Delivered,
    /// The counterpart has refused it for good.
    Refused,
    /// The hold time ended first.
    Expired,
}

impl State {
    /// Whether nothing changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, State::Delivered | State::Refused | State::Expired)
    }

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Offered => "offered",
            State::Transferring => "transferring",
            State::Delivered => "delivered",
            State::Refused => "refused",
            State::Expired => "expired",
        }
    }
}

/// Why an envelope is not delivered (yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The counterpart's node cannot be reached.
    Unreachable,
    /// The connection was lost under way.
    ConnectionLost,
    /// The counterpart's answer.
    Refused(Refusal),
    /// The hold time is over.
    HoldTimeOver,
    /// The hold time is over, but the signed envelope had left: not confirmed, may have been delivered.
    NotConfirmed,
    /// The agreement is no longer in force.
    AgreementEnded,
    /// The counterpart no longer shows the group.
    GroupGone,
    /// The counterpart cannot open what it received.
    Unopenable,
    /// The counterpart holds another message under the same id.
    Conflict,
    /// The agreement is suspended: it waits.
    AgreementSuspended,
    /// The agreement's time has not begun: it waits.
    AgreementNotBegun,
    /// The agreement's time is over.
    AgreementExpired,
    /// The counterpart has opened it, and its purpose is none that the agreement names.
    PurposeNotAgreed,
    /// The agreement asks for a control that the counterpart does not show.
    ControlMissing,
    /// As many messages as agreed have gone within the last hour.
    RateReached,
}

impl Reason {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unreachable => "unreachable",
            Reason::ConnectionLost => "connection_lost",
            Reason::Refused(refusal) => refusal.as_str(),
            Reason::HoldTimeOver => "hold_time_over",
            Reason::NotConfirmed => "not_confirmed_may_have_been_delivered",
            Reason::AgreementEnded => "agreement_ended",
            Reason::GroupGone => "group_gone",
            Reason::Unopenable => "unopenable",
            Reason::Conflict => "conflict",
            Reason::AgreementSuspended => "agreement_suspended",
            Reason::AgreementNotBegun => "agreement_not_begun",
            Reason::AgreementExpired => "agreement_expired",
            Reason::PurposeNotAgreed => "purpose_not_agreed",
            Reason::ControlMissing => "control_missing",
            Reason::RateReached => "rate_reached",
        }
    }
}

/// What is kept about an outgoing envelope's delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it stands.
    pub state: State,
    /// Why it is not further.
    pub reason: Option<Reason>,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried next.
    pub next_attempt_at: Time,
    /// When the sender gives up.
    pub expires_at: Time,
    /// When the sending group is warned that it is late.
    pub warn_at: Time,
    /// Whether the warning was given.
    pub warned: bool,
    /// Whether the signed envelope may have reached the counterpart.
    pub left: bool,
    /// Whether a report went to the sending group.
    pub reported: bool,
    /// States reached, oldest first, at most [`HISTORY_MAX`].
    pub history: Vec<(State, Time)>,
}

/// Entries of a history that are kept.
pub const HISTORY_MAX: usize = 64;
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
const WARN_AFTER_URGENT: Duration = Duration::from_secs(15 * 60);
const WARN_AFTER: Duration = Duration::from_secs(4 * 3600);

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
    /// "May have been delivered" is durable.
    Left,
    /// A receipt is durable.
    Receipt(Verdict),
    /// The counterpart has dropped everything.
    Withdrawn,
    /// The terms let nothing go now, for this reason; the owner says when they do. Nothing is written for it.
    Waits(Reason),
    /// The agreement allows nothing for now; the hold time goes on.
    Held(Reason),
    /// The agreement ended or the group is gone; nothing can be sent any more.
    Stopped(Reason),
    /// Time has passed.
    Tick,
}

/// What the owner must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Offer it now.
    Attempt,
    /// Take the offer back, or ask whether it was committed.
    Withdraw,
    /// Tell the sending group that it is late.
    Warn(Reason),
    /// Tell the sending group how it ended.
    Report(Reason),
}

/// The machine of one outgoing envelope.
#[derive(Debug)]
pub struct Delivery {
    record: Record,
    peer_up: bool,
    outputs: Outputs<Record, Event>,
}

impl Record {
    /// A fresh record for an envelope that was submitted `now`.
    pub fn new(priority: Priority, hold: Duration, now: Time) -> Record {
        let warn = if priority == Priority::Urgent { WARN_AFTER_URGENT } else { WARN_AFTER };
        Record {
            state: State::Queued,
            reason: None,
            attempts: 0,
            next_attempt_at: now,
            expires_at: now + hold,
            warn_at: now + warn,
            warned: false,
            left: false,
            reported: false,
            history: vec![(State::Queued, now)],
        }
    }
}

impl Record {
    /// Moves every deadline by a jump of the clock, in microseconds: neither a wrong clock nor one that was set right
    /// shortens or lengthens the time that an envelope has.
    pub fn shift(&mut self, jump: i64) {
        for deadline in [&mut self.next_attempt_at, &mut self.expires_at, &mut self.warn_at] {
            *deadline = deadline.shifted(jump);
        }
    }
}

impl Delivery {
    /// Takes up an envelope from its record, at submission or after a restart.
    pub fn new(mut record: Record, now: Time) -> Delivery {
        if matches!(record.state, State::Offered | State::Transferring) {
            record.state = State::Queued;
            record.next_attempt_at = now;
        }
        // What waits is tried at once after a restart, whatever the back-off was.
        record.next_attempt_at = record.next_attempt_at.min(now);
        Delivery { record, peer_up: false, outputs: Outputs::default() }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now: Time) {
        if self.record.state.is_final() {
            return;
        }
        match input {
            Input::PeerUp => {
                self.peer_up = true;
                self.record.next_attempt_at = now;
            }
            Input::PeerDown => self.handle_lost(now),
            Input::Held(reason) => {
                self.handle_lost(now);
                self.record.reason = Some(reason);
                self.outputs.persist(self.record.clone());
            }
            Input::Accepted => self.enter(State::Transferring, None, now),
            Input::Refused(refusal) => self.handle_refused(refusal, now),
            Input::Left => {
                self.record.left = true;
                self.outputs.persist(self.record.clone());
            }
            Input::Receipt(Verdict::Held(tier)) => {
                debug_assert!(tier >= Tier::Delivered);
                self.enter(State::Delivered, None, now);
            }
            Input::Receipt(Verdict::Unopenable) => self.end(State::Refused, Reason::Unopenable, now),
            Input::Receipt(Verdict::Conflict) => self.end(State::Refused, Reason::Conflict, now),
            Input::Receipt(Verdict::PurposeNotAgreed) => self.end(State::Refused, Reason::PurposeNotAgreed, now),
            Input::Withdrawn => self.end(State::Expired, Reason::HoldTimeOver, now),
            Input::Waits(reason) => self.handle_waits(reason, now),
            Input::Stopped(_) if self.record.left => self.report_unconfirmed(now),
            Input::Stopped(reason) => self.end(State::Refused, reason, now),
            Input::Tick => {}
        }
        self.handle_time(now);
    }

    fn handle_time(&mut self, now: Time) {
        if self.record.state.is_final() {
            return;
        }
        if now >= self.record.expires_at {
            self.handle_hold_over(now);
        }
        if self.record.state.is_final() {
            return;
        }
        if now >= self.record.warn_at && !self.record.warned && now < self.record.expires_at {
            self.record.warned = true;
            self.outputs.persist(self.record.clone());
            self.outputs.event(Event::Warn(self.record.reason.unwrap_or(Reason::Unreachable)));
        }
        if self.record.state == State::Queued && self.peer_up && now >= self.record.next_attempt_at {
            self.record.attempts = self.record.attempts.saturating_add(1);
            self.enter(State::Offered, self.record.reason, now);
            self.outputs.event(Event::Attempt);
            if now >= self.record.expires_at {
                self.outputs.event(Event::Withdraw);
            }
        }
        self.outputs.deadline(self.next_deadline(now));
    }

    fn handle_hold_over(&mut self, now: Time) {
        if !self.record.left && self.record.state == State::Queued {
            self.end(State::Expired, Reason::HoldTimeOver, now);
        } else if self.record.left {
            self.report_unconfirmed(now);
        } else {
            // Under way but the signed envelope has not left: taken back with the counterpart's answer.
            self.outputs.event(Event::Withdraw);
        }
    }

    fn report_unconfirmed(&mut self, _now: Time) {
        if !self.record.reported {
            self.record.reported = true;
            self.record.reason = Some(Reason::NotConfirmed);
            self.outputs.persist(self.record.clone());
            self.outputs.event(Event::Report(Reason::NotConfirmed));
        }
    }

    fn handle_lost(&mut self, now: Time) {
        self.peer_up = false;
        let reason = match self.record.state {
            State::Offered | State::Transferring => Reason::ConnectionLost,
            _ => self.record.reason.unwrap_or(Reason::Unreachable),
        };
        self.record.next_attempt_at = now;
        if self.record.state != State::Queued {
            self.enter(State::Queued, Some(reason), now);
        } else {
            self.record.reason = Some(reason);
        }
    }

    /// Kept back by this side: nothing is tried until the owner says that the counterpart is up.
    fn handle_waits(&mut self, reason: Reason, now: Time) {
        self.peer_up = false;
        self.record.next_attempt_at = now;
        if self.record.state != State::Queued {
            self.enter(State::Queued, Some(reason), now);
        } else if self.record.reason != Some(Reason::NotConfirmed) {
            self.record.reason = Some(reason);
        }
    }

    fn handle_refused(&mut self, refusal: Refusal, now: Time) {
        // A refusal is not signed: once the envelope may be there, only a receipt or the hold time ends the waiting.
        if refusal.is_transient() || self.record.left {
            let doublings = self.record.attempts.saturating_sub(1).min(5);
            let wait = (BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MAX);
            self.record.next_attempt_at = now + wait;
            self.enter(State::Queued, Some(Reason::Refused(refusal)), now);
        } else {
            self.end(State::Refused, Reason::Refused(refusal), now);
        }
    }

    fn end(&mut self, state: State, reason: Reason, now: Time) {
        self.record.reported = true;
        self.enter(state, Some(reason), now);
        self.outputs.event(Event::Report(reason));
    }

    fn enter(&mut self, state: State, reason: Option<Reason>, now: Time) {
        self.record.state = state;
        self.record.reason = reason;
        self.record.history.push((state, now));
        if self.record.history.len() > HISTORY_MAX {
            // The first entry stays: when it was submitted is always wanted.
            self.record.history.remove(1);
        }
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

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<Record, Event>> {
        self.outputs.poll()
    }

    /// What is kept about it.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(3600);

    fn start() -> Delivery {
        Delivery::new(Record::new(Priority::Normal, HOLD, Time(0)), Time(0))
    }

    fn events(delivery: &mut Delivery) -> Vec<Event> {
        std::iter::from_fn(|| delivery.poll_output())
            .filter_map(|output| match output {
                Output::Event(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    fn at(seconds: u64) -> Time {
        Time::from_seconds(seconds)
    }

    #[test]
    fn the_straight_path() {
        let mut delivery = start();
        delivery.handle_input(Input::PeerUp, at(5));
        assert_eq!(events(&mut delivery), [Event::Attempt]);
        for (input, state) in [
            (Input::Accepted, State::Transferring),
            (Input::Left, State::Transferring),
            (Input::Receipt(Verdict::Held(Tier::Delivered)), State::Delivered),
        ] {
            delivery.handle_input(input, at(6));
            assert_eq!(delivery.record().state, state);
        }
        assert_eq!(events(&mut delivery), [], "delivered mail is not reported");
        delivery.handle_input(Input::Withdrawn, at(7));
        assert_eq!(delivery.record().state, State::Delivered, "final states stay");
    }

    #[test]
    fn what_the_agreement_holds_back_waits_with_its_reason_and_expires_in_time() {
        let mut delivery = start();
        delivery.handle_input(Input::PeerUp, at(5));
        assert_eq!(events(&mut delivery), [Event::Attempt]);
        delivery.handle_input(Input::Waits(Reason::ControlMissing), at(6));
        assert_eq!((delivery.record().state, delivery.record().reason), (State::Queued, Some(Reason::ControlMissing)));
        delivery.handle_input(Input::Tick, at(1800));
        assert_eq!(events(&mut delivery), [], "nothing is tried while it is held");
        delivery.handle_input(Input::PeerUp, at(1900));
        assert_eq!(events(&mut delivery), [Event::Attempt]);
        delivery.handle_input(Input::Waits(Reason::RateReached), at(1901));
        delivery.handle_input(Input::Tick, at(3600));
        assert_eq!(events(&mut delivery), [Event::Report(Reason::HoldTimeOver)]);
    }

    #[test]
    fn p27_a_jump_of_the_clock_leaves_the_time_that_is_left() {
        let jump = 30 * 86_400;
        let mut record = start().record().clone();
        record.shift(jump * 1_000_000);
        let now = at(jump as u64 + 60);
        let mut delivery = Delivery::new(record, now);
        delivery.handle_input(Input::Tick, now);
        assert_eq!(delivery.record().state, State::Queued);
        delivery.handle_input(Input::Tick, now + HOLD);
        assert_eq!(delivery.record().state, State::Expired);
    }

    #[test]
    fn p30_every_end_is_reported_once() {
        type Row = (&'static str, &'static [(Input, u64)], State, &'static [Event]);
        let rows: [Row; 7] = [
            (
                "never reachable",
                &[(Input::Tick, 3599), (Input::Tick, 3600)],
                State::Expired,
                &[Event::Report(Reason::HoldTimeOver)],
            ),
            (
                "refused",
                &[(Input::PeerUp, 1), (Input::Refused(Refusal::TooLarge), 2), (Input::Tick, 4000)],
                State::Refused,
                &[Event::Attempt, Event::Report(Reason::Refused(Refusal::TooLarge))],
            ),
            (
                "lost before the envelope left",
                &[(Input::PeerUp, 1), (Input::Accepted, 2), (Input::PeerDown, 3), (Input::Tick, 3600)],
                State::Expired,
                &[Event::Attempt, Event::Report(Reason::HoldTimeOver)],
            ),
            (
                "lost after it left",
                &[
                    (Input::PeerUp, 1),
                    (Input::Accepted, 2),
                    (Input::Left, 3),
                    (Input::PeerDown, 4),
                    (Input::Tick, 3600),
                    (Input::Tick, 9999),
                ],
                State::Queued,
                &[Event::Attempt, Event::Report(Reason::NotConfirmed)],
            ),
            (
                "refused without a signature after the envelope left",
                &[
                    (Input::PeerUp, 1),
                    (Input::Left, 2),
                    (Input::Refused(Refusal::NoSpace), 3),
                    (Input::PeerDown, 4),
                    (Input::Tick, 3600),
                ],
                State::Queued,
                &[Event::Attempt, Event::Report(Reason::NotConfirmed)],
            ),
            (
                "hold time ends while it is pulled",
                &[(Input::PeerUp, 1), (Input::Accepted, 2), (Input::Tick, 3600), (Input::Withdrawn, 3601)],
                State::Expired,
                &[Event::Attempt, Event::Withdraw, Event::Report(Reason::HoldTimeOver)],
            ),
            (
                "agreement ended",
                &[(Input::Stopped(Reason::AgreementEnded), 9), (Input::Tick, 3600)],
                State::Refused,
                &[Event::Report(Reason::AgreementEnded)],
            ),
        ];
        for (what, inputs, state, expected) in rows {
            let mut delivery = start();
            for &(input, seconds) in inputs {
                delivery.handle_input(input, at(seconds));
            }
            assert_eq!(delivery.record().state, state, "{what}");
            assert_eq!(events(&mut delivery), expected, "{what}");
        }
    }

    #[test]
    fn a_late_receipt_settles_what_was_not_confirmed() {
        let mut delivery = start();
        for input in [Input::PeerUp, Input::Accepted, Input::Left, Input::PeerDown] {
            delivery.handle_input(input, at(1));
        }
        delivery.handle_input(Input::Tick, at(3600));
        assert_eq!(delivery.record().reason, Some(Reason::NotConfirmed));
        events(&mut delivery);
        delivery.handle_input(Input::PeerUp, at(5000));
        assert_eq!(events(&mut delivery), [Event::Attempt, Event::Withdraw], "it asks");
        delivery.handle_input(Input::Receipt(Verdict::Held(Tier::Delivered)), at(5001));
        assert_eq!(delivery.record().state, State::Delivered);
    }

    #[test]
    fn busy_peers_are_tried_again_with_back_off() {
        let mut delivery = start();
        delivery.handle_input(Input::PeerUp, at(0));
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            delivery.handle_input(Input::Refused(Refusal::Busy), now);
            waits.push(delivery.record().next_attempt_at.since(now).as_secs());
            now = delivery.record().next_attempt_at;
            delivery.handle_input(Input::Tick, now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn warns_once_when_late() {
        let record = Record::new(Priority::Urgent, Duration::from_secs(48 * 3600), Time(0));
        let mut delivery = Delivery::new(record, Time(0));
        for seconds in [899, 900, 901, 2000] {
            delivery.handle_input(Input::Tick, at(seconds));
        }
        assert_eq!(events(&mut delivery), [Event::Warn(Reason::Unreachable)]);
    }
}
