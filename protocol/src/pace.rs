//! How many records a counterpart may show, and how many envelopes it may have settled that never came: each costs a commit,
//! the latter rows for ever, and nobody needs many.
//!
//! **Invariant:** the allowance belongs to the counterpart, not to the session: dialling again gives none.

use std::time::Duration;

use crate::message::Message;
use crate::time::Time;

/// Records that may come at once: a script that changes hundreds of groups is honest.
const BURST_MAX: u32 = 256;
/// And one more after so long.
const ONE_EVERY: Duration = Duration::from_millis(500);

/// Envelopes that never came and may be settled as such at once.
const NEVER_HELD_MAX: u32 = 64;
/// And one more after so long; whoever was not answered asks again later.
const NEVER_HELD_EVERY: Duration = Duration::from_secs(1);

/// So many at once, and one more after every interval.
#[derive(Debug)]
struct Allowance {
    max: u32,
    every: Duration,
    left: u32,
    since: Time,
}

impl Allowance {
    fn full(max: u32, every: Duration, now: Time) -> Allowance {
        Allowance { max, every, left: max, since: now }
    }

    fn take(&mut self, now: Time) -> bool {
        let earned = now.since(self.since).as_millis() / self.every.as_millis();
        if earned > 0 {
            self.left = self.max.min(self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)));
            self.since = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// What is left of a counterpart's allowances.
#[derive(Debug)]
pub struct Pace {
    records: Allowance,
    never_held: Allowance,
}

impl Pace {
    /// Full allowances.
    pub fn new(now: Time) -> Pace {
        Pace {
            records: Allowance::full(BURST_MAX, ONE_EVERY, now),
            never_held: Allowance::full(NEVER_HELD_MAX, NEVER_HELD_EVERY, now),
        }
    }

    /// Whether this message may be taken now.
    pub fn allows(&mut self, message: &Message, now: Time) -> bool {
        !is_record(message) || self.records.take(now)
    }

    /// Whether an envelope that never came may be settled as such now.
    pub fn allows_never_held(&mut self, now: Time) -> bool {
        self.never_held.take(now)
    }
}

fn is_record(message: &Message) -> bool {
    matches!(
        message,
        Message::Roster(_)
            | Message::Statement(_)
            | Message::Contact(_)
            | Message::WantStatements(_)
            | Message::Amend(_)
            | Message::Amended(_)
            | Message::Attestation(_)
            | Message::LogHead(_)
            | Message::Grant(_)
            | Message::Addresses(_)
            | Message::DepositOffer(_)
            | Message::Deposit(_)
            | Message::Seek(_)
            | Message::Deposited(_)
            | Message::Granted(_)
            | Message::Publish(_)
            | Message::Published(_)
            | Message::Restored(_)
            | Message::RestoredKnown(_)
            | Message::Reconcile(_)
            | Message::Reconciled(_)
            | Message::ReconcileGap(_)
            | Message::WantReconcile(_)
            | Message::Recall(_)
            | Message::PurgedBefore(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Contact, Heartbeat};

    #[test]
    fn records_are_counted_and_time_gives_new_ones() {
        let record = Message::Contact(Contact { file: vec![] });
        let other = Message::Heartbeat(Heartbeat);
        let mut pace = Pace::new(Time(0));
        assert!((0..BURST_MAX).all(|_| pace.allows(&record, Time(0))));
        assert!(!pace.allows(&record, Time(0)));
        assert!((0..10_000).all(|_| pace.allows(&other, Time(0))), "only records are counted");
        let later = Time(0) + ONE_EVERY * 3;
        assert!((0..3).all(|_| pace.allows(&record, later)));
        assert!(!pace.allows(&record, later));
        let much_later = later + ONE_EVERY * 1_000_000;
        assert_eq!((0..1_000).filter(|_| pace.allows(&record, much_later)).count(), BURST_MAX as usize);
    }
    #[test]
    fn what_never_came_is_settled_at_a_pace_of_its_own() {
        let mut pace = Pace::new(Time(0));
        assert!((0..NEVER_HELD_MAX).all(|_| pace.allows_never_held(Time(0))));
        assert!(!pace.allows_never_held(Time(0)));
        assert!(pace.allows(&Message::Contact(Contact { file: vec![] }), Time(0)), "records have theirs");
        assert!(
            pace.allows_never_held(Time(0) + NEVER_HELD_EVERY) && !pace.allows_never_held(Time(0) + NEVER_HELD_EVERY)
        );
    }
}
