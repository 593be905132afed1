//! How many records a counterpart may show: each costs a commit, and nobody needs many.
//!
//! **Invariant:** the allowance belongs to the counterpart, not to the session: dialling again gives none.

use std::time::Duration;

use pakt_protocol::message::Message;
use pakt_protocol::time::Time;

/// Records that may come at once: a script that changes hundreds of groups is honest.
const BURST_MAX: u32 = 256;
/// And one more after so long.
const ONE_EVERY: Duration = Duration::from_millis(500);

/// What is left of a counterpart's allowance.
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    since: Time,
}

impl Pace {
    /// A full allowance.
    pub(super) fn new(now: Time) -> Pace {
        Pace { left: BURST_MAX, since: now }
    }

    /// Whether this message may be taken now.
    pub(super) fn allows(&mut self, message: &Message, now: Time) -> bool {
        if !is_record(message) {
            return true;
        }
        let earned = now.since(self.since).as_millis() / ONE_EVERY.as_millis();
        if earned > 0 {
            self.left = BURST_MAX.min(self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)));
            self.since = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
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
    use pakt_protocol::message::{Contact, Heartbeat};

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
}
