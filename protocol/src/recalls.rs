//! Recalls between two nodes: asking for what has left, answering what is asked for, and showing a restored counterpart what
//! it had purged.
//!
//! | what the receiver finds | answer |
//! |---|---|
//! | it is here, nobody has taken it | it is purged: `recalled` |
//! | it is on hold | none until the hold is lifted; then as if it came that moment |
//! | it was taken | the receipt `taken` again |
//! | it was purged before | `recalled`, or the receipt that says how |
//! | it was refused | that receipt again |
//! | it never came | `not held`; it is never committed after that |
//!
//! **Invariant:** a request is answered by a receipt only, once that is durable; asking again changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use pakt_keys::EntityId;

use crate::defect::{self, Defect};
use crate::ids::{CoreHash, EnvelopeId};
use crate::message::PurgedBefore;
use crate::message::recall::PURGED_BEFORE_MAX;
use crate::pace::Pace;
use crate::record::chain::CertifiedNode;
use crate::record::receipt::{self, Receipt, Tier, Verdict};
use crate::time::Time;

/// Requests that are sent at once; a counterpart takes two records a second for ever.
pub const ASK_AT_ONCE: usize = 32;
/// The next ones follow after so long.
pub const ASK_EVERY: Duration = Duration::from_secs(20);
/// And what is not answered is asked for again in the same session after so long.
pub const ASK_AGAIN: Duration = Duration::from_secs(10 * 60);
/// Purges that a restored counterpart is shown, at most.
pub const SHOWN_MAX: usize = 100 * PURGED_BEFORE_MAX;
/// And their bytes: they must find room among what waits to be sent in a session.
pub const SHOWN_BYTES_MAX: usize = 16 << 20;

/// What is asked for, and what is shown, to one counterpart.
#[derive(Debug, Default)]
pub struct Recalls {
    /// When each was asked for in this session.
    asked: HashMap<EnvelopeId, Time>,
    /// The restore of the counterpart after which it was shown in this session what it had purged.
    shown: Option<u64>,
    allowance: Allowance,
}

/// How many requests may go; it belongs to the counterpart, as its pace does, and outlives calls and sessions.
#[derive(Debug, Default)]
struct Allowance {
    since: Option<Time>,
    used: usize,
}

impl Allowance {
    /// Requests that may go now.
    fn left(&mut self, now: Time) -> usize {
        if self.since.is_none_or(|since| now >= since + ASK_EVERY) {
            (self.since, self.used) = (Some(now), 0);
        }
        ASK_AT_ONCE.saturating_sub(self.used)
    }

    /// When the next ones may go.
    fn next_at(&self, now: Time) -> Time {
        self.since.unwrap_or(now) + ASK_EVERY
    }
}

impl Recalls {
    /// Whether requests may go now; the owner looks for those that are open then.
    ///
    /// # Errors
    /// When it is to try again.
    pub fn may_ask(&mut self, now: Time) -> Result<(), Time> {
        if self.allowance.left(now) == 0 { Err(self.allowance.next_at(now)) } else { Ok(()) }
    }

    /// Which of those that are open are asked for now, a few at a time, and when to look again; none without any.
    pub fn ask(&mut self, open: &[EnvelopeId], now: Time) -> (Vec<EnvelopeId>, Option<Time>) {
        if open.is_empty() {
            return (Vec::new(), None);
        }
        let left = self.allowance.left(now);
        let is_due = |envelope: &EnvelopeId| self.asked.get(envelope).is_none_or(|at| now.since(*at) >= ASK_AGAIN);
        let mut due: Vec<EnvelopeId> = open.iter().copied().filter(is_due).collect();
        let next = if due.len() > left { self.allowance.next_at(now) } else { now + ASK_AGAIN };
        due.truncate(left);
        self.allowance.used += due.len();
        self.asked.extend(due.iter().map(|envelope| (*envelope, now)));
        (due, Some(next))
    }

    /// Somebody wants this one back now, whenever it was asked for last.
    pub fn wanted(&mut self, envelope: &EnvelopeId) {
        self.asked.remove(envelope);
    }

    /// Whether a restored counterpart is to be shown its purges: once in a session after each restore, however often it says
    /// that it was restored.
    pub fn shows(&mut self, generation: u64) -> bool {
        self.shown.replace(generation) != Some(generation)
    }

    /// The session is over: the next one asks and shows again.
    pub fn lost(&mut self) {
        self.asked.clear();
        self.shown = None;
    }
}

/// What shows a restored counterpart what it had purged, by its own receipts (oldest first): the newest, as many as find
/// room; and how many they are.
pub fn notices(purges: &[Vec<u8>]) -> (Vec<PurgedBefore>, usize) {
    let mut room = SHOWN_BYTES_MAX;
    let fits = |receipt: &&Vec<u8>| {
        room = room.saturating_sub(receipt.len());
        room > 0
    };
    let shown = &purges[purges.len() - purges.iter().rev().take_while(fits).count()..];
    if defect::is_on(Defect::ShowNoPurges) {
        return (Vec::new(), 0);
    }
    let notices = shown.chunks(PURGED_BEFORE_MAX).map(|receipts| PurgedBefore { receipts: receipts.to_vec() });
    (notices.collect(), shown.len())
}

/// The receipts of a notice, if they are not more than are shown at once.
///
/// # Errors
/// Why the session is closed.
pub fn noticed(notice: PurgedBefore) -> Result<Vec<Vec<u8>>, &'static str> {
    match notice.receipts.len() {
        0..=PURGED_BEFORE_MAX => Ok(notice.receipts),
        _ => Err("more receipts at once than are shown"),
    }
}

/// One receipt of a notice, in which `own` stated to `sender` that it had purged something.
///
/// # Errors
/// Why the session is closed.
pub fn own_purge(bytes: &[u8], own: &CertifiedNode, sender: &EntityId) -> Result<Receipt, &'static str> {
    match receipt::verify_from(bytes, own, sender) {
        Ok(receipt) if matches!(receipt.verdict, Verdict::Recalled | Verdict::Returned) => Ok(receipt),
        _ => Err("a purge that this entity did not state"),
    }
}

/// What the receiver does about a verified request, by the core that was settled under its envelope, if one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Nothing of it came: settle it as [`Verdict::NotHeld`].
    NeverCame,
    /// It came: purge it, unless it was taken or is on hold, and tell what [`repeated`] says.
    Came,
    /// It is about another core than came under this id: close the session.
    OtherCore,
}

impl Request {
    /// What becomes of a request about `core`.
    pub fn judge(core: CoreHash, settled: Option<CoreHash>) -> Request {
        match settled {
            None => Request::NeverCame,
            Some(_) if defect::is_on(Defect::DenyWhatCame) => Request::NeverCame,
            Some(settled) if settled == core => Request::Came,
            Some(_) => Request::OtherCore,
        }
    }

    /// Whether a request may be followed now: one about what never came leaves rows for ever.
    pub fn may_follow(is_settled: bool, pace: &mut Pace, now: Time) -> bool {
        is_settled || pace.allows_never_held(now)
    }
}

/// With which receipt a request is answered about what came, once it was purged if it was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// With this one of those that were stated later, again.
    Later(usize),
    /// With a new one.
    State(Verdict),
    /// With the first one again: it was refused when it came.
    First,
}

/// Picks that receipt from what was `stated` after the first, and whether the content is gone for good.
pub fn repeated(stated: &[Verdict], is_purged: bool) -> Repeated {
    const ENDS: [Verdict; 3] = [Verdict::Recalled, Verdict::Returned, Verdict::Held(Tier::Taken)];
    match stated.iter().rposition(|verdict| ENDS.contains(verdict)) {
        Some(_) if defect::is_on(Defect::RecallTaken) => Repeated::State(Verdict::Recalled),
        Some(place) => Repeated::Later(place),
        None if is_purged => Repeated::State(Verdict::Recalled),
        None => Repeated::First,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelopes(count: usize) -> Vec<EnvelopeId> {
        (0..count).map(|n| EnvelopeId([n as u8; 16])).collect()
    }

    #[test]
    fn however_often_it_is_called_the_pace_of_requests_is_kept() {
        let start = Time::from_seconds(1_000);
        let (mut recalls, mut sent) = (Recalls::default(), 0);
        for n in 0..250u8 {
            if recalls.may_ask(start).is_ok() {
                sent += recalls.ask(&[EnvelopeId([n; 16])], start).0.len();
            }
        }
        assert_eq!(sent, ASK_AT_ONCE);
        assert_eq!(recalls.may_ask(start), Err(start + ASK_EVERY));
        assert!(recalls.may_ask(start + (ASK_EVERY - Duration::from_secs(1))).is_err());
        recalls.lost();
        assert!(recalls.may_ask(start).is_err(), "another session gives none");
        assert_eq!(recalls.ask(&envelopes(200), start + ASK_EVERY).0.len(), ASK_AT_ONCE);
    }

    #[test]
    fn each_is_asked_for_once_in_ten_minutes_or_when_it_is_wanted() {
        let start = Time::from_seconds(1_000);
        let (mut recalls, open) = (Recalls::default(), envelopes(40));
        assert_eq!(recalls.ask(&[], start), (vec![], None));
        assert_eq!(recalls.ask(&open, start), (open[..32].to_vec(), Some(start + ASK_EVERY)));
        let next = start + ASK_EVERY;
        assert_eq!(recalls.ask(&open, next), (open[32..].to_vec(), Some(next + ASK_AGAIN)));
        assert_eq!(recalls.ask(&open, next), (vec![], Some(next + ASK_AGAIN)));
        recalls.wanted(&open[7]);
        assert_eq!(recalls.ask(&open, next).0, [open[7]]);
        assert_eq!(recalls.ask(&open, start + ASK_AGAIN).0, [&open[..7], &open[8..32]].concat());
    }

    #[test]
    fn a_notice_that_comes_again_shows_nothing_again() {
        let mut recalls = Recalls::default();
        let shown = [1, 1, 1, 2, 2].map(|generation| recalls.shows(generation));
        assert_eq!(shown, [true, false, false, true, false]);
        recalls.lost();
        assert!(recalls.shows(2), "a session of its own");
    }

    #[test]
    fn the_newest_purges_are_shown_as_far_as_there_is_room() {
        let of = |count: usize, bytes: usize| (0..count).map(|n| vec![n as u8; bytes]).collect::<Vec<_>>();
        let (few, shown) = notices(&of(PURGED_BEFORE_MAX + 1, 10));
        assert_eq!((few.len(), shown), (2, PURGED_BEFORE_MAX + 1));
        let large = of(20, 1 << 20);
        let (many, shown) = notices(&large);
        assert_eq!((many.len(), shown), (1, 15));
        assert_eq!(many[0].receipts, large[5..]);
        assert_eq!(notices(&[]), (vec![], 0));
        assert!(noticed(PurgedBefore { receipts: of(PURGED_BEFORE_MAX, 1) }).is_ok());
        assert!(noticed(PurgedBefore { receipts: of(PURGED_BEFORE_MAX + 1, 1) }).is_err());
    }

    #[test]
    fn a_request_is_about_what_came_or_settles_that_it_never_does() {
        let (core, other) = (CoreHash([1; 32]), CoreHash([2; 32]));
        assert_eq!(Request::judge(core, None), Request::NeverCame);
        assert_eq!(Request::judge(core, Some(core)), Request::Came);
        assert_eq!(Request::judge(core, Some(other)), Request::OtherCore);
        let mut pace = Pace::new(Time(0));
        while Request::may_follow(false, &mut pace, Time(0)) {}
        assert!(Request::may_follow(true, &mut pace, Time(0)));
    }

    #[test]
    fn p41_the_answer_is_how_it_ended() {
        let [released, taken] = [Tier::Released, Tier::Taken].map(Verdict::Held);
        let rows: [(&[Verdict], bool, Repeated); 6] = [
            (&[released, taken], false, Repeated::Later(1)),
            (&[Verdict::Quarantined, Verdict::Returned], true, Repeated::Later(1)),
            (&[released, Verdict::Recalled], true, Repeated::Later(1)),
            (&[released], true, Repeated::State(Verdict::Recalled)),
            (&[], true, Repeated::State(Verdict::Recalled)),
            (&[], false, Repeated::First),
        ];
        for (stated, is_purged, answer) in rows {
            assert_eq!(repeated(stated, is_purged), answer, "{stated:?}");
        }
    }
}
