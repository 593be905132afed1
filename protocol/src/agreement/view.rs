//! What an agreement allows at a point in time.

use std::time::Duration;

use super::Standing;
use crate::defect::{self, Defect};
use crate::delivery::Reason;
use crate::policy::Footing;
use crate::record::statement::Stated;
use crate::session;
use crate::settling::{Over, SETTLE_AGAIN};
use crate::time::Time;

/// How long after an end, or after the terms have run out, the door stays open for the end itself, for a renewal, and for
/// the receipts of what had left before.
pub const END_OPEN_FOR: Duration = Duration::from_secs(30 * 86_400);
/// After a session that this side has closed; not at once: a counterpart that breaks a rule would be dialled in a circle.
pub const CLOSED_AGAIN: Duration = Duration::from_secs(10);

/// All that this depends on, beside the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgreementView {
    /// How far it is.
    pub standing: Standing,
    /// Whether both have signed the terms.
    pub is_complete: bool,
    /// What this side has stated.
    pub own: Stated,
    /// What the counterpart has stated.
    pub peer: Stated,
    /// Whether people must act first: it came out of a backup, or the counterpart's certificates contradict each other.
    pub held_back: bool,
    /// Until when a proposal may be countersigned.
    pub accept_by: Time,
    /// When its time begins.
    pub valid_from: Time,
    /// When its time is over.
    pub valid_until: Time,
    /// Until when the later terms are valid that this side offers.
    pub offered_until: Option<Time>,
    /// When an end was stated or learned.
    pub ended_at: Option<Time>,
    /// Whether nothing more has to be said about the end.
    pub end_confirmed: bool,
    /// Whether this side holds a secret that opens the counterpart's door.
    pub holds_grant: bool,
}

/// What becomes of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// It goes; or there never was any.
    Goes,
    /// No content for now; what is queued waits while its hold time goes on.
    Waits(Reason),
    /// Nothing more is sent.
    Stops(Reason),
}

impl AgreementView {
    /// Whether anything may be exchanged at `now`, and if not, why.
    pub fn footing(&self, now: Time) -> Footing {
        let stated = [self.own, self.peer];
        let is_ended = stated.iter().any(|stated| matches!(stated, Stated::Ended(_)));
        let is_suspended = stated.iter().any(|stated| matches!(stated, Stated::Suspended(_)));
        if is_ended && defect::is_on(Defect::IgnoreEnd) {
            Footing::InForce
        } else if self.standing != Standing::Active || !self.is_complete || is_ended {
            Footing::None
        } else if self.held_back {
            Footing::Unconfirmed
        } else if now >= self.valid_until && !defect::is_on(Defect::IgnoreExpiry) {
            Footing::Expired
        } else if is_suspended && !defect::is_on(Defect::IgnoreSuspension) {
            Footing::Suspended
        } else if now < self.valid_from {
            Footing::NotBegun
        } else {
            Footing::InForce
        }
    }

    /// What that means for what is queued and under way.
    pub fn traffic(&self, now: Time) -> Traffic {
        match self.footing(now) {
            Footing::InForce => Traffic::Goes,
            Footing::NotBegun => Traffic::Waits(Reason::AgreementNotBegun),
            Footing::Suspended | Footing::Unconfirmed => Traffic::Waits(Reason::AgreementSuspended),
            Footing::Expired => Traffic::Stops(Reason::AgreementExpired),
            Footing::None if self.standing == Standing::Proposed => Traffic::Goes,
            Footing::None => Traffic::Stops(Reason::AgreementEnded),
        }
    }

    /// The next moment after `now` at which it begins or ends by date, or its door closes for good.
    pub fn next_date(&self, now: Time) -> Option<Time> {
        let dates = [self.valid_from, self.valid_until, self.valid_until + END_OPEN_FOR];
        dates.into_iter().filter(|at| *at > now).min()
    }

    /// Whether this side has ended it.
    pub fn ended_here(&self) -> bool {
        matches!(self.own, Stated::Ended(_))
    }

    /// Whether the counterpart may come in at `now`, if only to bring its signature or to hear of the end.
    pub fn door_open(&self, now: Time) -> bool {
        !self.held_back
            && match self.standing {
                Standing::Proposed => now <= self.accept_by,
                Standing::Active => now < self.valid_until || self.expiry_open(now),
                Standing::Ended => self.end_open(now),
            }
    }

    /// Whether this side has a reason and a secret to dial the counterpart at `now`.
    pub fn should_dial(&self, now: Time) -> bool {
        let reason = match self.standing {
            Standing::Proposed => false,
            Standing::Active => now < self.valid_until || self.awaits_renewal(now),
            Standing::Ended => self.ended_here() && !self.end_confirmed && self.end_open(now),
        };
        reason && self.can_dial()
    }

    /// Whether it is dialled at `now`, if only for receipts that are owed or lacking (`is_unsettled`).
    pub fn dials(&self, now: Time, is_unsettled: impl FnOnce() -> bool) -> bool {
        self.should_dial(now) || self.may_settle(now) && is_unsettled() && !defect::is_on(Defect::NeverDialForReceipts)
    }

    /// How long after this side has closed a session the counterpart is dialled again.
    pub fn dials_after_close(&self, now: Time, is_unsettled: impl FnOnce() -> bool) -> Duration {
        let rests = match self.standing {
            Standing::Ended => self.end_confirmed,
            Standing::Proposed | Standing::Active => self.is_settling(now) && !self.should_dial(now) && !is_unsettled(),
        };
        if rests { SETTLE_AGAIN } else { CLOSED_AGAIN }
    }

    /// Whether it is over, by an end or by its date, and not for long: receipts may be told and asked for at `now`.
    pub fn is_settling(&self, now: Time) -> bool {
        match self.standing {
            Standing::Proposed => false,
            Standing::Active => self.expiry_open(now),
            Standing::Ended => self.end_open(now),
        }
    }

    /// Whether the counterpart may be dialled at `now` for receipts alone.
    pub fn may_settle(&self, now: Time) -> bool {
        self.is_settling(now) && self.can_dial()
    }

    /// How it came to be over, in a session that this side has dialled or not; none while it is not, or is for too long.
    pub fn over(&self, now: Time, dialer: bool) -> Option<Over> {
        match self.standing {
            Standing::Ended => Some(Over::Ended { confirmed: self.end_confirmed }),
            _ if self.is_settling(now) => Some(Over::Expired { dialled: dialer && !self.should_dial(now) }),
            _ => None,
        }
    }

    /// Whether receipts that are owed are forgotten at `now`: it is over, and the counterpart can be told no more.
    pub fn forgets_owed(&self, now: Time) -> bool {
        let is_over = self.standing == Standing::Ended || self.footing(now) == Footing::Expired;
        is_over && (!self.door_open(now) || defect::is_on(Defect::ForgetAtEnd))
    }

    /// Whether its time is over, and this side's offer of later terms may have been accepted since.
    pub fn awaits_renewal(&self, now: Time) -> bool {
        self.offered_until.is_some_and(|until| until > now) && self.expiry_open(now)
    }

    /// Whether this side shows its statements and those that it knows when a session starts: after an end that both know only
    /// to a counterpart that has dialled, which may have been restored from a backup of before the end.
    pub fn shows_statements(&self, dialer: bool) -> bool {
        self.standing != Standing::Proposed && !(self.end_confirmed && dialer)
    }

    /// How a session begins at `now`.
    pub fn at_session(&self, now: Time) -> session::Standing {
        match self.standing {
            Standing::Proposed => session::Standing::Awaiting,
            Standing::Active if self.footing(now) == Footing::Expired => session::Standing::Expired,
            Standing::Active => session::Standing::Active,
            Standing::Ended => session::Standing::Ending,
        }
    }

    /// Whether a session goes on at `now`, by the dates alone; `expired` if it began after the agreed time.
    pub fn keeps_session(&self, now: Time, expired: bool) -> bool {
        self.footing(now) != Footing::Expired || expired && self.door_open(now)
    }

    /// Whether its time is over, but not for long: later terms and receipts may come, over the control lane alone.
    fn expiry_open(&self, now: Time) -> bool {
        self.footing(now) == Footing::Expired && now.since(self.valid_until) < END_OPEN_FOR
    }

    fn end_open(&self, now: Time) -> bool {
        self.ended_at.is_some_and(|at| now.distance(at) < END_OPEN_FOR)
    }

    fn can_dial(&self) -> bool {
        self.holds_grant && !self.held_back
    }
}
