//! Being forwarded through the victim to whom one has no business with, and as somebody else.

use std::time::{Duration, Instant};

use pakt_node::ambient;
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::{Heartbeat, Message, RelayAnswer, RelayAsk, RelayCall};

use super::{Met, Row, Stage, honest, passed_over};
use crate::partner::Partner;
use crate::wire::{End, Stop, Wire, frame};

/// The victim says no after a fixed time, whatever the reason.
const ANSWERED_WITHIN: Duration = Duration::from_secs(13);
/// How far the times of two answers may lie apart on a busy machine.
const APART_MAX: Duration = Duration::from_millis(1_500);
/// Connections that the victim forwards between the same two.
const CIRCUITS: usize = 8;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "relay to whom it cannot reach",
        does: "asks to be forwarded to a key that nobody has, to itself, to the victim and to one that is offline",
        meets: "one answer after one time",
        says: "",
        act: nobody,
    },
    Row {
        name: "relay joined by guessing",
        does: "joins forwarded connections by guessing what they are called",
        meets: "lane closed",
        says: "",
        act: guessed,
    },
    Row {
        name: "relay joined by another",
        does: "joins, itself, the connection for which its accomplice was called",
        meets: "not connected",
        says: "",
        act: joined_by_another,
    },
    Row {
        name: "relay lane with something else",
        does: "sends a heartbeat where it should ask for somebody",
        meets: "lane closed",
        says: "",
        act: something_else,
    },
    Row {
        name: "relay beyond its share",
        does: "has more connections forwarded to one other than two may have",
        meets: "the ninth is not forwarded",
        says: "",
        act: beyond_its_share,
    },
    Row {
        name: "relay calls without end",
        does: "calls the victim, a thousand times, to join connections that do not exist",
        meets: "passed over",
        says: "",
        act: calls,
    },
];

/// A relay lane on which this was asked.
fn ask(partner: &mut Partner, what: RelayAsk) -> Result<Wire, Stop> {
    let dial = partner.honest(LaneKind::Relay);
    let mut wire = partner.dial(&dial)?;
    let _ = wire.write(&frame(&Message::from(what).to_bytes()));
    Ok(wire)
}

/// What is answered on a relay lane: whether the other end is there.
fn answer(wire: &mut Wire, limit: Duration) -> Result<bool, End> {
    match Message::from_bytes(&wire.read_frame(limit)?) {
        Ok(Message::RelayAnswer(RelayAnswer { up })) => Ok(up),
        other => panic!("no answer on a relay lane: {other:?}"),
    }
}

fn to(partner: &Partner) -> RelayAsk {
    RelayAsk::To(partner.keys.transport.public().0)
}

fn nobody(stage: &mut Stage) -> Met {
    let victim = honest!(stage.first.victim_transport());
    let _own = honest!(stage.first.session());
    let asks = [RelayAsk::To(ambient::random()), to(&stage.first), RelayAsk::To(victim), to(&stage.second)];
    let mut waits = Vec::new();
    for what in asks {
        let wire = honest!(ask(&mut stage.first, what));
        let asked = Instant::now();
        waits.push(std::thread::spawn(move || {
            let mut wire = wire;
            (answer(&mut wire, ANSWERED_WITHIN), asked.elapsed())
        }));
    }
    let heard: Vec<_> = waits.into_iter().filter_map(|wait| wait.join().ok()).collect();
    let times = heard.iter().map(|(_, after)| *after);
    let apart = times.clone().max().unwrap_or_default() - times.min().unwrap_or_default();
    if heard.len() == 4 && heard.iter().all(|(answer, _)| *answer == Ok(false)) && apart < APART_MAX {
        Met::Other("one answer after one time")
    } else {
        Met::Astray(format!("{heard:?}"))
    }
}

fn lane_ends(mut wire: Wire) -> Met {
    if wire.is_ended_within(ANSWERED_WITHIN) { Met::LaneClosed } else { Met::Astray("the lane goes on".into()) }
}

fn guessed(stage: &mut Stage) -> Met {
    for _ in 0..20 {
        let met = lane_ends(honest!(ask(&mut stage.first, RelayAsk::Join(ambient::random()))));
        if met != Met::LaneClosed {
            return met;
        }
    }
    Met::LaneClosed
}

/// The token of the next call that comes over a session.
fn called(session: &mut crate::session::Session) -> Result<[u8; 16], End> {
    session.control.take_next(|message| match message {
        Message::RelayCall(RelayCall { token }) => Some(*token),
        _ => None,
    })
}

fn joined_by_another(stage: &mut Stage) -> Met {
    let mut theirs = honest!(stage.second.session());
    let _own = honest!(stage.first.session());
    let mut asking = honest!(ask(&mut stage.first, to(&stage.second)));
    let token = honest!(called(&mut theirs));
    let joining = honest!(ask(&mut stage.first, RelayAsk::Join(token)));
    match (lane_ends(joining), answer(&mut asking, ANSWERED_WITHIN)) {
        (Met::LaneClosed, Ok(false)) => Met::Other("not connected"),
        other => Met::Astray(format!("{other:?}")),
    }
}

fn something_else(stage: &mut Stage) -> Met {
    let _session = honest!(stage.first.session());
    let dial = stage.first.honest(LaneKind::Relay);
    let mut wire = honest!(stage.first.dial(&dial));
    let _ = wire.write(&frame(&Message::from(Heartbeat).to_bytes()));
    lane_ends(wire)
}

fn beyond_its_share(stage: &mut Stage) -> Met {
    let mut theirs = honest!(stage.second.session());
    let _own = honest!(stage.first.session());
    let mut circuits = Vec::new();
    for number in 0..CIRCUITS {
        let mut asking = honest!(ask(&mut stage.first, to(&stage.second)));
        let token = honest!(called(&mut theirs));
        let mut joining = honest!(ask(&mut stage.second, RelayAsk::Join(token)));
        let up = [answer(&mut joining, ANSWERED_WITHIN), answer(&mut asking, ANSWERED_WITHIN)];
        if up != [Ok(true), Ok(true)] {
            return Met::Astray(format!("connection {number}: {up:?}"));
        }
        circuits.push((asking, joining));
    }
    let one_more = ask(&mut stage.first, to(&stage.second)).map(|mut wire| answer(&mut wire, ANSWERED_WITHIN));
    match one_more {
        Ok(Ok(false)) => Met::Other("the ninth is not forwarded"),
        other => Met::Astray(format!("{:?}", other.err())),
    }
}

fn calls(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let calls: Vec<Message> = (0..1_000).map(|_| RelayCall { token: ambient::random() }.into()).collect();
    session.control.say_all(&calls);
    passed_over(session.control.stands())
}
