//! The table: what a partner gone bad tries, one function each, and what it has to meet.

mod addresses;
mod amendments;
mod content;
mod directory;
mod door;
mod envelopes;
mod evidence;
mod floods;
mod frames;
mod introductions;
mod lanes;
mod offers;
mod recalls;
mod receipts;
mod reconciliations;
mod relays;
mod rosters;
mod slow;
mod statements;

use std::fmt;

use pakt_protocol::message::offer::Refusal;
use pakt_protocol::record::receipt::Verdict;
use serde_json::{Value, json};

use crate::parcel::Fate;
use crate::partner::Partner;
use crate::session::{Answered, verdict};
use crate::wire::Stop;

/// Who plays.
pub(crate) struct Stage {
    /// The partner that tries everything.
    pub(crate) first: Partner,
    /// Its accomplice: another partner of the same victim.
    pub(crate) second: Partner,
}

/// One behaviour.
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: &'static str,
    /// What the partner does, for people.
    pub(crate) does: &'static str,
    /// What it meets, as [`Met`] says it.
    pub(crate) meets: &'static str,
    /// What the victim's log says about it then; empty where it says nothing.
    pub(crate) says: &'static str,
    /// Does it.
    pub(crate) act: fn(&mut Stage) -> Met,
}

impl Row {
    /// The row without what only a program can use.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "name": self.name, "meets": self.meets, "says": self.says })
    }

    /// The row for the documentation.
    pub(crate) fn to_table(&self) -> String {
        format!("| {} | {} | {} |", self.name, self.does, self.meets)
    }
}

/// All behaviours, in the order in which they are tried.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    [
        door::ROWS,
        lanes::ROWS,
        frames::ROWS,
        rosters::ROWS,
        statements::ROWS,
        amendments::ROWS,
        offers::ROWS,
        envelopes::ROWS,
        content::ROWS,
        receipts::ROWS,
        recalls::ROWS,
        addresses::ROWS,
        relays::ROWS,
        evidence::ROWS,
        reconciliations::ROWS,
        directory::ROWS,
        introductions::ROWS,
        floods::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// Behaviours that take their time: each is tried by a partner of its own, beside all others.
pub(crate) fn slow() -> impl Iterator<Item = &'static Row> {
    slow::ROWS.iter()
}

/// What the partner met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Met {
    /// The connection ended at this step.
    Stopped(Stop),
    /// An offer or envelope was refused.
    Refused(Refusal),
    /// The session was ended.
    SessionClosed,
    /// A content lane was ended.
    LaneClosed,
    /// A signed receipt with this verdict.
    Receipt(Verdict),
    /// The epoch is gone; the answer names the current one.
    EpochGone,
    /// There is no such object.
    Unknown,
    /// It is passed over: the session stands and answers.
    PassedOver,
    /// What the row names itself.
    Other(&'static str),
    /// Something that no row expects.
    Astray(String),
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Met::Stopped(Stop::Silence) => f.write_str("silence"),
            Met::Stopped(Stop::NoTls) => f.write_str("no TLS"),
            Met::Stopped(Stop::NoHello) => f.write_str("no hello"),
            Met::Stopped(Stop::ClosedAfterHello) => f.write_str("closed after the hellos"),
            Met::Stopped(Stop::NoProtocol) => f.write_str("no such lane"),
            Met::Stopped(Stop::NotOpened) => f.write_str("lane not opened"),
            Met::Refused(reason) => write!(f, "refuse {}", reason.as_str()),
            Met::SessionClosed => f.write_str("session closed"),
            Met::LaneClosed => f.write_str("lane closed"),
            Met::Receipt(verdict) => write!(f, "receipt {}", verdict.as_str().replace('_', " ")),
            Met::EpochGone => f.write_str("epoch gone"),
            Met::Unknown => f.write_str("unknown"),
            Met::PassedOver => f.write_str("passed over"),
            Met::Other(what) => f.write_str(what),
            Met::Astray(what) => write!(f, "astray: {what}"),
        }
    }
}

/// A step that must succeed before the row can do what it is about.
macro_rules! honest {
    ($step:expr) => {
        match $step {
            Ok(value) => value,
            Err(why) => return $crate::rows::Met::Astray(format!("{why:?} at {}", stringify!($step))),
        }
    };
}
pub(crate) use honest;

/// What a dial met that must fail.
fn stopped<T>(dialled: Result<T, Stop>) -> Met {
    match dialled {
        Ok(_) => Met::Astray("it was let in".into()),
        Err(stop) => Met::Stopped(stop),
    }
}

/// What became of an offer.
fn answered(answered: Answered) -> Met {
    match answered {
        Answered::Refused(reason) => Met::Refused(reason),
        Answered::Receipt(bytes) => verdict(&bytes).map_or_else(|| Met::Astray("no receipt".into()), Met::Receipt),
        Answered::Closed => Met::SessionClosed,
        Answered::Accepted => Met::Astray("accepted".into()),
        Answered::Nothing => Met::Astray("no answer".into()),
    }
}

/// What became of a message.
fn fate(fate: Fate) -> Met {
    match fate {
        Fate::Answered(last) => answered(last),
        Fate::EpochGone(_) => Met::EpochGone,
    }
}

/// Whether the session ended.
fn closed(is_closed: bool) -> Met {
    if is_closed { Met::SessionClosed } else { Met::Astray("the session goes on".into()) }
}

/// Whether the session stands.
fn passed_over(stands: bool) -> Met {
    if stands { Met::PassedOver } else { Met::Astray("the session does not answer any more".into()) }
}
