//! When the control lane is dialled, how soon again, and which of two lanes stays.
//!
//! **Invariant:** a counterpart that is back from a restart, however long a bad one takes, is dialled within
//! [`RETRY_OFTEN`]; one that cannot be reached, or ends every session at once, is dialled less and less often.

use std::time::Duration;

use crate::time::Time;

/// After the first dial that failed; twice as long after each further one.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// At the most, in the first while.
pub const RETRY_OFTEN: Duration = Duration::from_secs(10);
/// That while: a restart may take so long, also where only this side can dial.
pub const RETRY_OFTEN_FOR: Duration = Duration::from_secs(900);
/// At the most, after it.
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// After a session that was lost.
pub const REDIAL: Duration = Duration::from_millis(200);
/// A session that is over by then was none.
pub const BRIEF: Duration = Duration::from_secs(2);
/// So many of these are put down to the line.
pub const BRIEF_FREE: u32 = 3;
/// Two lanes that come up within this time were dialled by both sides at once.
pub const TOGETHER: Duration = Duration::from_secs(5);

/// How often in a row the counterpart could not be dialled, or was lost as soon as it was reached.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    brief: u32,
}

impl Backoff {
    /// A dial has failed, while none has succeeded for `lost_for`: how long until the next.
    pub fn failed(&mut self, lost_for: Duration, chance: u8) -> Duration {
        let most = if lost_for < RETRY_OFTEN_FOR { RETRY_OFTEN } else { RETRY_MAX };
        let wait = (RETRY_FIRST * 2u32.pow(self.failures.min(5))).min(most);
        self.failures = self.failures.saturating_add(1);
        jitter(wait, chance)
    }

    /// A session was lost: how long until the next dial. Less soon when several in a row were over at once.
    pub fn lost(&mut self, lasted: Duration, chance: u8) -> Duration {
        self.brief = if lasted < BRIEF { self.brief.saturating_add(1) } else { 0 };
        let doublings = self.brief.saturating_sub(BRIEF_FREE).min(5);
        jitter(REDIAL * 2u32.pow(doublings), chance)
    }

    /// A control lane is up, or another address is known: failures so far count no more.
    pub fn start_over(&mut self) {
        self.failures = 0;
    }

    /// Dials in a row that have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Between half of `wait` and all of it: nodes that lost each other together do not come back together.
fn jitter(wait: Duration, chance: u8) -> Duration {
    wait.mul_f64(0.5 + f64::from(chance) / 510.0)
}

/// A control lane, as far as it matters which of two stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Whether this side dialled it.
    pub dialer: bool,
    /// Whether a partner forwards it.
    pub forwarded: bool,
}

/// Whether the lane that is up since `since` stays when another one comes up. Dialled by both at once, the lane of the lower
/// entity stays; otherwise the counterpart, or this side, knows better than the old lane that it is gone. A direct lane is
/// better than a forwarded one, whoever dialled it.
pub fn stays(up: Candidate, since: Time, other: Candidate, is_lower: bool, now: Time) -> bool {
    match (up.forwarded, other.forwarded) {
        (false, true) => true,
        (true, false) => false,
        _ => now.since(since) < TOGETHER && up.dialer != other.dialer && up.dialer == is_lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u8 = u8::MAX;

    #[test]
    fn a_counterpart_is_dialled_less_and_less_often() {
        let mut backoff = Backoff::default();
        let seconds = [0u64, 1, 3, 7, 15, 899, 900, 100_000].map(|lost_for| {
            let wait = backoff.failed(Duration::from_secs(lost_for), MOST);
            wait.as_secs()
        });
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10, 30, 30]);
        assert_eq!(backoff.failures(), 8);
        backoff.start_over();
        assert_eq!(backoff.failed(Duration::from_secs(100_000), MOST), RETRY_FIRST);
    }

    #[test]
    fn a_lost_session_is_dialled_again_at_once_unless_it_never_lasts() {
        let mut backoff = Backoff::default();
        let millis = [2_000, 0, 1_999, 0, 0, 0, 0, 0, 0, 0, 2_000, 0].map(|lasted| {
            let wait = backoff.lost(Duration::from_millis(lasted), MOST);
            wait.as_millis()
        });
        assert_eq!(millis, [200, 200, 200, 200, 400, 800, 1_600, 3_200, 6_400, 6_400, 200, 200]);
        assert_eq!(backoff.failures(), 0);
    }

    #[test]
    fn chance_takes_half_at_most() {
        assert_eq!(jitter(RETRY_OFTEN, 0), RETRY_OFTEN / 2);
        assert_eq!(jitter(RETRY_OFTEN, u8::MAX), RETRY_OFTEN);
        assert!((0..=u8::MAX).map(|chance| jitter(RETRY_OFTEN, chance)).is_sorted());
    }

    #[test]
    fn of_two_lanes_both_sides_keep_the_same_one() {
        let [direct, forwarded] = [false, true].map(|forwarded| move |dialer| Candidate { dialer, forwarded });
        let soon = Time(0) + TOGETHER - Duration::from_micros(1);
        let later = Time(0) + TOGETHER;
        // The lane that the lower side dialled stays, whichever of them each side has first.
        for first_is_of_lower in [false, true] {
            let keeps = |is_lower: bool| {
                let dialed_first = first_is_of_lower == is_lower;
                stays(direct(dialed_first), Time(0), direct(!dialed_first), is_lower, soon)
            };
            assert_eq!((keeps(true), keeps(false)), (first_is_of_lower, first_is_of_lower));
        }
        assert!(!stays(direct(true), Time(0), direct(false), true, later), "the other side knows that it is gone");
        assert!(!stays(direct(true), Time(0), direct(true), true, soon), "and so does whoever dials twice");
        assert!(stays(direct(false), Time(0), forwarded(true), true, later));
        assert!(!stays(forwarded(true), Time(0), direct(false), true, soon));
    }
}
