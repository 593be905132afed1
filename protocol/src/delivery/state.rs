//! Where an outgoing envelope stands, and why it is not further.

use serde::{Deserialize, Serialize};

use crate::message::offer::Refusal;
use crate::record::receipt::Tier;

/// Where an outgoing envelope stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Waits for the next attempt.
    Queued,
    /// Offered to the counterpart.
    Offered,
    /// The counterpart has accepted and pulls.
    Transferring,
    /// A receipt of tier 1 is durable here.
    Delivered,
    /// A receipt of tier 2 is durable here.
    Released,
    /// A receipt of tier 3 is durable here.
    Taken,
    /// The counterpart has refused it for good, or sent it back.
    Refused,
    /// The hold time ended first.
    Expired,
    /// Taken back, and the counterpart keeps nothing of it.
    Recalled,
}

impl State {
    /// All states.
    pub const ALL: [State; 9] = [
        State::Queued,
        State::Offered,
        State::Transferring,
        State::Delivered,
        State::Released,
        State::Taken,
        State::Refused,
        State::Expired,
        State::Recalled,
    ];

    /// Whether this side still needs content and key: it is tried, or asked about.
    pub fn is_open(self) -> bool {
        matches!(self, State::Queued | State::Offered | State::Transferring)
    }

    /// Whether nothing changes any more, but that a counterpart may let out what it had quarantined.
    pub fn is_final(self) -> bool {
        matches!(self, State::Taken | State::Refused | State::Expired | State::Recalled)
    }

    /// The tier of the receipt that it stands for.
    pub fn tier(self) -> Option<Tier> {
        match self {
            State::Delivered => Some(Tier::Delivered),
            State::Released => Some(Tier::Released),
            State::Taken => Some(Tier::Taken),
            _ => None,
        }
    }

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Offered => "offered",
            State::Transferring => "transferring",
            State::Delivered => "delivered",
            State::Released => "released",
            State::Taken => "taken",
            State::Refused => "refused",
            State::Expired => "expired",
            State::Recalled => "recalled",
        }
    }
}

impl From<Tier> for State {
    fn from(tier: Tier) -> State {
        match tier {
            Tier::Delivered => State::Delivered,
            Tier::Released => State::Released,
            Tier::Taken => State::Taken,
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
    /// The counterpart's malware check found something: nobody there sees it.
    Quarantined,
    /// The counterpart says that it is not for them, and has purged it.
    Returned,
    /// A recall came too late: somebody had taken it.
    RecalledTooLate,
    /// A fault of this node: it is tried again.
    Fault,
    /// The sender was restored from a backup: what became of it since is not known here, so it is only asked about.
    RestoredSince,
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
            Reason::Quarantined => "quarantined",
            Reason::Returned => "returned",
            Reason::RecalledTooLate => "recalled_too_late",
            Reason::Fault => "local_fault",
            Reason::RestoredSince => "restored_since",
        }
    }
}
