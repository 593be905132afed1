//! One agreement as its node keeps it; what follows from that, [`AgreementView`] decides.

use std::rc::Rc;

use pakt_protocol::agreement::{AgreementView, Standing, Statements};
use pakt_protocol::policy::Footing;
use pakt_protocol::time::Time;

use crate::mesh::clock::EPOCH;
use crate::mesh::disk::rows::AgreementRow;

/// The row of an agreement, at hand.
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
            statements: Statements::default(),
            valid_until,
            last_number: 0,
            forgotten: Default::default(),
            peer_restores: Vec::new(),
            peer_generation: 0,
            told_generation: 0,
        };
        Agreement { row: Rc::new(row) }
    }

    /// What decides what it allows.
    pub(crate) fn view(&self) -> AgreementView {
        let row = &self.row;
        AgreementView {
            standing: if row.ended { Standing::Ended } else { Standing::Active },
            is_complete: true,
            own: row.statements.own.stated(),
            peer: row.statements.peer.stated(),
            held_back: row.unconfirmed,
            accept_by: row.valid_until,
            valid_from: EPOCH,
            valid_until: row.valid_until,
            offered_until: None,
            ended_at: row.statements.ended_at,
            end_confirmed: row.statements.end_confirmed,
            holds_grant: true,
        }
    }

    pub(crate) fn footing(&self, now: Time) -> Footing {
        self.view().footing(now)
    }

    pub(crate) fn in_force(&self, now: Time) -> bool {
        self.footing(now) == Footing::InForce
    }
}
