//! What is kept about the delivery of an outgoing envelope.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Reason, State};
use crate::record::envelope::Priority;
use crate::time::Time;

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
    /// The sender wants it back, and the counterpart has not answered yet.
    pub recalling: bool,
    /// Why nothing may be sent any more, although it is not known how it ended.
    pub stopped: Option<Reason>,
    /// States reached, oldest first, at most [`HISTORY_MAX`].
    pub history: Vec<(State, Time)>,
}

/// Entries of a history that are kept.
pub const HISTORY_MAX: usize = 64;
const WARN_AFTER_URGENT: Duration = Duration::from_secs(15 * 60);
const WARN_AFTER: Duration = Duration::from_secs(4 * 3600);

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
            recalling: false,
            stopped: None,
            history: vec![(State::Queued, now)],
        }
    }

    /// Moves every deadline by a jump of the clock, in microseconds: neither a wrong clock nor one that was set right
    /// shortens or lengthens the time that an envelope has.
    pub fn shift(&mut self, jump: i64) {
        for deadline in [&mut self.next_attempt_at, &mut self.expires_at, &mut self.warn_at] {
            *deadline = deadline.shifted(jump);
        }
    }

    /// Whether the sending group was told that it is not known how this ended.
    pub fn is_unconfirmed(&self) -> bool {
        self.state.is_open() && self.reason == Some(Reason::NotConfirmed)
    }

    /// Whether its time is over although its signed envelope has left: nothing more is sent, it is only asked about.
    pub fn is_over(&self, now: Time) -> bool {
        self.state.is_open() && self.left && (self.stopped.is_some() || now >= self.expires_at)
    }

    /// Notes a state that was reached.
    pub(super) fn enter(&mut self, state: State, reason: Option<Reason>, now: Time) {
        self.state = state;
        self.reason = reason;
        self.history.push((state, now));
        if self.history.len() > HISTORY_MAX {
            // The first entry stays: when it was submitted is always wanted.
            self.history.remove(1);
        }
    }
}
