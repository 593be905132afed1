//! Partners that take their time, so that somebody waits for them.

use std::time::{Duration, Instant};

use pakt_node::ambient;
use pakt_protocol::bulk::{BulkFrame, BulkKind};
use pakt_protocol::hello::VersionRange;
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::{Heartbeat, Statement};
use pakt_protocol::record::statement::{Action, AgreementStatement, STATEMENTS_MAX, statement_hash};
use pakt_protocol::time::Time;
use pakt_protocol::transfer::standstill::{LOOK_EVERY, STANDSTILL_MAX};

use super::{Met, Row, Stage, honest};
use crate::parcel::Parcel;
use crate::session::Answered;
use crate::wire::{PATIENCE, SILENCE, Stop};

/// Longer than any of the victim's deadlines.
const WAITED_MAX: Duration = Duration::from_secs(75);

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "object in drips",
        does: "answers a request with one byte a second",
        meets: "lane closed",
        says: "lane ended",
        act: drips,
    },
    Row {
        name: "requests without an answer",
        does: "offers and names objects, keeps its lanes alive with heartbeats, and serves nothing",
        meets: "session closed",
        says: "content stands still",
        act: serves_nothing,
    },
    Row {
        name: "control lane without a word",
        does: "opens a session and says nothing any more, not even heartbeats",
        meets: "session closed",
        says: "nothing was heard for 45 s",
        act: mute,
    },
    Row {
        name: "hello that never comes",
        does: "comes through the door and TLS and says nothing",
        meets: "no hello",
        says: "no first frame: timed out",
        act: no_hello,
    },
    Row {
        name: "Open that never comes",
        does: "agrees on a lane and does not open it",
        meets: "lane not opened",
        says: "a lane was not opened",
        act: no_open,
    },
    Row {
        name: "statements without end",
        does: "suspends and resumes, both signed as they should be, until no more is taken",
        meets: "session closed",
        says: "only an end is left",
        act: statements,
    },
    Row {
        name: "certificate forked",
        does: "has its root sign two certificates with one number, and comes again with the one that was known",
        meets: "silence, also for the certificate that was known",
        says: "the counterpart's certificates contradict each other",
        act: forked,
    },
];

fn forked(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    drop(honest!(partner.session()));
    let fork = partner.recertify(|certificate| certificate.issued_at = Time(certificate.issued_at.0 + 1));
    let mut dial = partner.honest(LaneKind::Control);
    dial.hello = partner.hello(&fork, VersionRange::OURS);
    if let Ok(_) | Err(Stop::Silence) = partner.dial(&dial) {
        return Met::Astray("the fork was not refused at the hello".into());
    }
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let again = partner.honest(LaneKind::Control);
        if partner.dial_within(&again, SILENCE).err() == Some(Stop::Silence) {
            return Met::Other("silence, also for the certificate that was known");
        }
    }
    Met::Astray("it still comes in".into())
}

fn statements(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let node = honest!(partner.chain.verify());
    let mut session = honest!(partner.session());
    for number in 1..=STATEMENTS_MAX as u64 {
        let action = if number % 2 == 1 { Action::Suspend } else { Action::Resume };
        let Ok(next) = partner.next_statement(action) else {
            // What its own books do not allow any more is stated all the same.
            let next = AgreementStatement {
                agreement: partner.agreement(),
                party: partner.entity(),
                number,
                previous: partner.stated.newest().map(statement_hash),
                action,
                at: ambient::now(),
            };
            session.control.say(Statement { statement: partner.sign_statement(&next), known: false });
            return super::closed(session.control.is_closed());
        };
        let signed = partner.sign_statement(&next);
        honest!(partner.stated.take(&signed, &partner.agreement(), &node));
        session.control.say(Statement { statement: signed, known: false });
        // Not faster than records may come.
        std::thread::sleep(Duration::from_millis(100));
    }
    Met::Astray("everything was taken".into())
}

fn drips(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let mut bulk = honest!(stage.first.bulk(LaneKind::Bulk));
    let parcel = Parcel::new(&stage.first, &session);
    if session.offer(&parcel.offer) != Answered::Accepted {
        return Met::Astray("the offer was not accepted".into());
    }
    session.control.say(parcel.announce());
    let index = honest!(bulk.request_of(parcel.offer.envelope, PATIENCE));
    let bytes = usize::try_from(index).map_or(&[][..], |index| &parcel.objects[index]);
    let frame = BulkFrame { kind: BulkKind::Object, envelope: parcel.offer.envelope, index };
    bulk.say_bytes(&frame.head(bytes.len()));
    let start = Instant::now();
    for byte in bytes.iter().take(WAITED_MAX.as_secs() as usize) {
        bulk.say_bytes(&[*byte]);
        session.control.say(Heartbeat);
        if bulk.is_closed_within(Duration::from_secs(1)) {
            let lasted = start.elapsed();
            return if lasted > PATIENCE { Met::LaneClosed } else { Met::Astray(format!("closed after {lasted:?}")) };
        }
    }
    Met::Astray("the lane goes on".into())
}

fn serves_nothing(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let mut bulk = honest!(stage.first.bulk(LaneKind::Bulk));
    let parcel = Parcel::new(&stage.first, &session);
    if session.offer(&parcel.offer) != Answered::Accepted {
        return Met::Astray("the offer was not accepted".into());
    }
    session.control.say(parcel.announce());
    honest!(bulk.request_of(parcel.offer.envelope, PATIENCE));
    let start = Instant::now();
    while start.elapsed() < STANDSTILL_MAX + 3 * LOOK_EVERY {
        bulk.say_bytes(&BulkFrame::HEARTBEAT.head(0));
        session.control.say(Heartbeat);
        if session.control.is_closed_within(Duration::from_secs(5)) {
            let lasted = start.elapsed();
            let is_late = lasted > STANDSTILL_MAX - LOOK_EVERY;
            return if is_late { Met::SessionClosed } else { Met::Astray(format!("closed after {lasted:?}")) };
        }
    }
    Met::Astray("the session goes on".into())
}

fn mute(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    if session.control.is_closed_within(WAITED_MAX) {
        Met::SessionClosed
    } else {
        Met::Astray("the session goes on".into())
    }
}

fn no_hello(stage: &mut Stage) -> Met {
    let dial = stage.first.honest(LaneKind::Control);
    let mut wire = honest!(stage.first.enter(&dial));
    match wire.is_ended_within(WAITED_MAX) {
        true => Met::Stopped(Stop::NoHello),
        false => Met::Astray("the connection stays".into()),
    }
}

fn no_open(stage: &mut Stage) -> Met {
    let dial = stage.first.honest(LaneKind::Bulk);
    let mut wire = honest!(stage.first.enter(&dial));
    honest!(wire.greet(&dial.hello));
    honest!(wire.negotiate(dial.protocol));
    match wire.is_ended_within(WAITED_MAX) {
        true => Met::Stopped(Stop::NotOpened),
        false => Met::Astray("the connection stays".into()),
    }
}
