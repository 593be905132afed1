//! When the receiver of content gives a session up that brings nothing.
//!
//! Lanes have deadlines of their own, so that a line that falls silent is noticed on each of them. This one is for all that
//! lanes cannot see: a counterpart that answers heartbeats and serves nothing, or a fault on either side that lost what was
//! asked for. A new session asks for everything anew, and what is durable is not fetched again.

use std::time::Duration;

use crate::time::Time;

/// Content that is awaited and does not move for so long ends the session. Longer than the slowest line that is no attack
/// needs for what is written in one go.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(120);
/// How often to look while content is awaited.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What moved, and when it did last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standstill {
    last: Option<(u64, Time)>,
}

impl Standstill {
    /// Notes how much has come so far, in bytes or whatever grows, while something is awaited. Gives whether nothing has
    /// come for [`STANDSTILL_MAX`].
    pub fn observe(&mut self, moved: u64, now: Time) -> bool {
        match self.last {
            Some((before, since)) if before == moved => now.since(since) >= STANDSTILL_MAX,
            _ => {
                self.last = Some((moved, now));
                false
            }
        }
    }

    /// Nothing is awaited.
    pub fn rest(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_that_is_awaited_and_does_not_move_stands_still() {
        let at = |seconds: u64| Time::from_seconds(1_000 + seconds);
        let mut watch = Standstill::default();
        let rows = [(0, 7, false), (60, 7, false), (119, 7, false), (120, 7, true), (121, 8, false), (240, 8, false)];
        for (seconds, moved, stands) in rows {
            assert_eq!(watch.observe(moved, at(seconds)), stands, "after {seconds} s");
        }
        watch.rest();
        assert!(!watch.observe(8, at(500)), "what was not awaited did not stand still");
        assert!(!watch.observe(8, at(619)) && watch.observe(8, at(620)));
    }
}
