//! One agreement as its node sees it: the decisions of `node::book::agreement` over the row on the disk.

use std::rc::Rc;
use std::time::Duration;

use pakt_protocol::policy::Footing;
use pakt_protocol::record::statement::{Action, Stated, StatementChain};
use pakt_protocol::time::Time;

use crate::mesh::disk::rows::AgreementRow;

/// How long after an end the door stays open for the end itself and for receipts.
const END_OPEN_FOR: Duration = Duration::from_secs(30 * 86_400);

/// An agreement and what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    pub(crate) row: Rc<AgreementRow>,
}

impl Agreement {
    /// One that both have just signed.
    pub(crate) fn signed(valid_until: Time) -> Agreement {
        let row = AgreementRow {
            ended: false,
            unconfirmed: false,
            own: StatementChain::default(),
            own_known: 0,
            peer: StatementChain::default(),
            end_confirmed: false,
            ended_at: None,
            valid_until,
            last_number: 0,
            forgotten: Default::default(),
            peer_restores: Vec::new(),
            peer_generation: 0,
            told_generation: 0,
        };
        Agreement { row: Rc::new(row) }
    }

    /// Whether anything may be exchanged now, and if not, why.
    pub(crate) fn footing(&self, now: Time) -> Footing {
        let stated = [self.row.own.stated(), self.row.peer.stated()];
        if self.row.ended || stated.iter().any(|stated| matches!(stated, Stated::Ended(_))) {
            Footing::None
        } else if self.row.unconfirmed {
            Footing::Unconfirmed
        } else if now >= self.row.valid_until {
            Footing::Expired
        } else if stated.iter().any(|stated| matches!(stated, Stated::Suspended(_))) {
            Footing::Suspended
        } else {
            Footing::InForce
        }
    }

    pub(crate) fn in_force(&self, now: Time) -> bool {
        self.footing(now) == Footing::InForce
    }

    /// Whether the counterpart may come in.
    pub(crate) fn door_open(&self, now: Time) -> bool {
        if self.row.unconfirmed {
            return false;
        }
        if self.row.ended { self.end_open(now) } else { now < self.row.valid_until }
    }

    /// Whether this node has a reason to dial the counterpart.
    pub(crate) fn should_dial(&self, now: Time) -> bool {
        let ended_here = matches!(self.row.own.stated(), Stated::Ended(_));
        let reason = match self.row.ended {
            false => now < self.row.valid_until,
            true => ended_here && !self.row.end_confirmed && self.end_open(now),
        };
        reason && !self.row.unconfirmed
    }

    /// Whether the counterpart may be dialled for receipts alone.
    pub(crate) fn may_settle(&self, now: Time) -> bool {
        self.row.ended && self.end_open(now) && !self.row.unconfirmed
    }

    fn end_open(&self, now: Time) -> bool {
        self.row.ended_at.is_some_and(|at| now.distance(at) < END_OPEN_FOR)
    }

    /// When it ends by date, if that lies ahead.
    pub(crate) fn next_date(&self, now: Time) -> Option<Time> {
        Some(self.row.valid_until).filter(|at| *at > now)
    }
}

/// What else changes with a statement of either side.
pub(crate) fn follow(row: &mut AgreementRow, action: Action, now: Time) {
    if action == Action::End {
        row.ended = true;
        row.ended_at.get_or_insert(now);
    }
}
