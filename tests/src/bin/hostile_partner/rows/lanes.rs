//! Opening lanes.

use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::{Heartbeat, LaneOpen, Message};

use super::{Met, Row, Stage, closed, honest, stopped};
use crate::partner::{Partner, open};
use crate::wire::{SILENCE, Stop};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "lane of no kind",
        does: "asks for a protocol that does not exist",
        meets: "no such lane",
        says: "",
        act: no_kind,
    },
    Row {
        name: "lane of two kinds",
        does: "asks for a bulk lane and opens it as a control lane",
        meets: "lane not opened",
        says: "a lane that opens otherwise than it was dialled",
        act: two_kinds,
    },
    Row {
        name: "lane with absurd limits",
        does: "opens a lane that takes objects of one byte, none at a time",
        meets: "lane not opened",
        says: "a lane that opens otherwise than it was dialled",
        act: absurd_limits,
    },
    Row {
        name: "lane without Open",
        does: "begins a lane with a heartbeat",
        meets: "lane not opened",
        says: "a lane that opens otherwise than it was dialled",
        act: no_open,
    },
    Row {
        name: "second control lane",
        does: "opens a control lane while one is up",
        meets: "session closed",
        says: "replaced by a newer connection",
        act: second_control,
    },
    Row {
        name: "forty lanes",
        does: "opens bulk lanes until no more are taken",
        meets: "the 33rd connection is silence",
        says: "",
        act: forty,
    },
];

fn dial(partner: &mut Partner, kind: LaneKind, open: impl Into<Message>) -> Met {
    let mut dial = partner.honest(kind);
    dial.open = open.into();
    stopped(partner.dial(&dial))
}

fn no_kind(stage: &mut Stage) -> Met {
    let mut dial = stage.first.honest(LaneKind::Control);
    dial.protocol = "/pakt/backdoor/1";
    stopped(stage.first.dial(&dial))
}

fn two_kinds(stage: &mut Stage) -> Met {
    dial(&mut stage.first, LaneKind::Bulk, open(LaneKind::Control))
}

fn absurd_limits(stage: &mut Stage) -> Met {
    dial(&mut stage.first, LaneKind::Bulk, LaneOpen { object_bytes_max: 1, requests_max: 0, ..open(LaneKind::Bulk) })
}

fn no_open(stage: &mut Stage) -> Met {
    dial(&mut stage.first, LaneKind::Bulk, Heartbeat)
}

fn second_control(stage: &mut Stage) -> Met {
    let mut old = honest!(stage.first.session());
    let _new = honest!(stage.first.session());
    closed(old.control.is_closed())
}

fn forty(stage: &mut Stage) -> Met {
    let _session = honest!(stage.first.session());
    let mut lanes = Vec::new();
    let dial = stage.first.honest(LaneKind::Bulk);
    for _ in 0..40 {
        match stage.first.dial_within(&dial, SILENCE) {
            Ok(lane) => lanes.push(lane),
            Err(Stop::Silence) if lanes.len() == 31 => return Met::Other("the 33rd connection is silence"),
            Err(stop) => return Met::Astray(format!("{stop:?} after {} lanes", lanes.len())),
        }
    }
    Met::Astray("forty lanes were opened".into())
}
