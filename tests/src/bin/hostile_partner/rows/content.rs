//! Lanes that carry content: requests and objects.

use std::time::Duration;

use pakt_node::ambient;
use pakt_protocol::bulk::{BULK_FRAME_BYTES_MAX, BulkFrame, BulkKind};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::lane::LaneKind;

use super::{Met, Row, Stage, closed, honest};
use crate::bulk::Bulk;
use crate::parcel::{Fate, Parcel};
use crate::session::{Answered, Session};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "object unasked",
        does: "sends an object that nobody asked for",
        meets: "lane closed",
        says: "an object that was not asked for",
        act: unasked,
    },
    Row {
        name: "object other than named",
        does: "answers with other bytes of the right length",
        meets: "lane closed",
        says: "an object that is not what its name says",
        act: |stage| answer(stage, |bulk, parcel, index| bulk.say_object(parcel.offer.envelope, index, &other(parcel))),
    },
    Row {
        name: "object of another length",
        does: "answers with one byte more than announced",
        meets: "lane closed",
        says: "an object of another length than announced",
        act: |stage| {
            answer(stage, |bulk, parcel, index| {
                bulk.say_object(parcel.offer.envelope, index, &[other(parcel), vec![0]].concat())
            })
        },
    },
    Row {
        name: "object denied",
        does: "offers an object and then says that there is none",
        meets: "session closed",
        says: "an object could not be had",
        act: denied,
    },
    Row {
        name: "denial unasked",
        does: "says that an object does not exist for which nobody asked",
        meets: "lane closed",
        says: "an answer that was not asked for",
        act: |stage| lane_says(stage, |bulk| bulk.say(BulkKind::Unknown, EnvelopeId([3; 16]), 0)),
    },
    Row {
        name: "bulk frame too long",
        does: "announces a bulk frame of more than an object",
        meets: "lane closed",
        says: "a bulk frame of impossible length",
        act: |stage| {
            lane_says(stage, |bulk| {
                bulk.say_bytes(&[&(BULK_FRAME_BYTES_MAX as u32 + 1).to_be_bytes()[..], &[1; 25]].concat())
            })
        },
    },
    Row {
        name: "bulk frame of no kind",
        does: "sends a bulk frame of kind 99",
        meets: "lane closed",
        says: "unknown bulk frame 99",
        act: |stage| lane_says(stage, |bulk| bulk.say_bytes(&[&25u32.to_be_bytes()[..], &[99; 25]].concat())),
    },
    Row {
        name: "request with a payload",
        does: "adds a payload to a request",
        meets: "lane closed",
        says: "a bulk frame of 30 bytes",
        act: |stage| lane_says(stage, |bulk| bulk.say_bytes(&[&30u32.to_be_bytes()[..], &[0; 30]].concat())),
    },
    Row {
        name: "request for another's envelope",
        does: "asks for an object of the message that the victim has for its accomplice",
        meets: "unknown",
        says: "",
        act: another_envelope,
    },
    Row {
        name: "request for no envelope",
        does: "asks for an object of an envelope that does not exist",
        meets: "unknown",
        says: "",
        act: |stage| ask(stage, EnvelopeId(ambient::random()), 0),
    },
    Row {
        name: "request beyond the end",
        does: "asks for object 2^64 - 1 of an envelope that it is offered",
        meets: "unknown",
        says: "",
        act: beyond_the_end,
    },
    Row {
        name: "request without acceptance",
        does: "asks for the objects of an offer that it did not accept",
        meets: "served: it was named and is being offered",
        says: "",
        act: not_accepted,
    },
    Row {
        name: "requests without listening",
        does: "asks for a thousand objects on one lane and reads none",
        meets: "lane closed",
        says: "more requests than agreed",
        act: requests,
    },
    Row {
        name: "object that another gave",
        does: "names an object that the victim holds from its accomplice, to learn whether it does",
        meets: "asked for, as if it were unknown",
        says: "",
        act: known_from_another,
    },
];

fn ready(stage: &mut Stage) -> Result<(Session, Bulk), crate::wire::Stop> {
    let session = stage.first.session()?;
    Ok((session, stage.first.bulk(LaneKind::Bulk)?))
}

fn lane_closed(is_closed: bool) -> Met {
    if is_closed { Met::LaneClosed } else { Met::Astray("the lane goes on".into()) }
}

fn lane_says(stage: &mut Stage, say: fn(&mut Bulk)) -> Met {
    let (mut session, mut bulk) = honest!(ready(stage));
    say(&mut bulk);
    let met = lane_closed(bulk.is_closed());
    if session.control.stands() { met } else { Met::SessionClosed }
}

fn unasked(stage: &mut Stage) -> Met {
    lane_says(stage, |bulk| bulk.say_object(EnvelopeId([3; 16]), 0, b"an object"))
}

fn other(parcel: &Parcel) -> Vec<u8> {
    let mut bytes = parcel.objects[0].clone();
    bytes[0] ^= 1;
    bytes
}

/// Gets a sound message as far as the first request.
fn first_request(stage: &mut Stage) -> Result<(Session, Bulk, Parcel, u64), String> {
    let (mut session, mut bulk) = ready(stage).map_err(|stop| format!("{stop:?}"))?;
    let mut parcel = Parcel::new(&stage.first, &session);
    // One object alone, so that it is the one that is asked for.
    parcel.entries.truncate(1);
    if session.offer(&parcel.offer) != Answered::Accepted {
        return Err("the offer was not accepted".into());
    }
    session.control.say(parcel.announce());
    let index = bulk.request_of(parcel.offer.envelope, Duration::from_secs(9));
    let index = index.map_err(|end| format!("no request: {end:?}"))?;
    Ok((session, bulk, parcel, index))
}

fn answer(stage: &mut Stage, say: fn(&mut Bulk, &Parcel, u64)) -> Met {
    let (_session, mut bulk, parcel, index) = honest!(first_request(stage));
    say(&mut bulk, &parcel, index);
    lane_closed(bulk.is_closed())
}

fn denied(stage: &mut Stage) -> Met {
    let (mut session, mut bulk, parcel, index) = honest!(first_request(stage));
    bulk.say(BulkKind::Unknown, parcel.offer.envelope, index);
    closed(session.control.is_closed())
}

fn asked(kind: Option<BulkKind>) -> Met {
    match kind {
        Some(BulkKind::Unknown) => Met::Unknown,
        other => Met::Astray(format!("{other:?}")),
    }
}

fn ask(stage: &mut Stage, envelope: EnvelopeId, index: u64) -> Met {
    let (_session, mut bulk) = honest!(ready(stage));
    asked(bulk.ask(envelope, index))
}

fn another_envelope(stage: &mut Stage) -> Met {
    let mut theirs = honest!(stage.second.session());
    let Some(offer) = theirs.offered() else { return Met::Astray("the accomplice is offered nothing".into()) };
    ask(stage, offer.envelope, 0)
}

fn beyond_the_end(stage: &mut Stage) -> Met {
    let (mut session, mut bulk) = honest!(ready(stage));
    let Some(offer) = session.offered() else { return Met::Astray("nothing is offered".into()) };
    asked(bulk.ask(offer.envelope, u64::MAX))
}

fn not_accepted(stage: &mut Stage) -> Met {
    let (mut session, mut bulk) = honest!(ready(stage));
    let Some(offer) = session.offered() else { return Met::Astray("nothing is offered".into()) };
    match bulk.ask(offer.envelope, 0) {
        Some(BulkKind::Object) => Met::Other("served: it was named and is being offered"),
        other => asked(other),
    }
}

fn known_from_another(stage: &mut Stage) -> Met {
    let mut theirs = honest!(stage.second.session());
    let given = Parcel::new(&stage.second, &theirs);
    let mut lane = honest!(stage.second.bulk(LaneKind::Bulk));
    let Fate::Answered(Answered::Receipt(_)) = given.deliver(&mut theirs, &mut lane) else {
        return Met::Astray("the accomplice's message was not delivered".into());
    };
    let (mut session, mut bulk) = honest!(ready(stage));
    let mut parcel = Parcel::new(&stage.first, &session);
    (parcel.entries, parcel.objects) = (given.entries, given.objects);
    parcel.offer.sealed_bytes = given.offer.sealed_bytes;
    if session.offer(&parcel.offer) != Answered::Accepted {
        return Met::Astray("the offer was not accepted".into());
    }
    session.control.say(parcel.announce());
    let mut requests: Vec<u64> = Vec::new();
    while let Ok(index) = bulk.request_of(parcel.offer.envelope, Duration::from_secs(2)) {
        requests.push(index);
    }
    requests.sort_unstable();
    requests.dedup();
    if requests.len() == parcel.entries.len() {
        Met::Other("asked for, as if it were unknown")
    } else {
        Met::Astray(format!("asked for {requests:?} of {}", parcel.entries.len()))
    }
}

fn requests(stage: &mut Stage) -> Met {
    let (mut session, mut bulk) = honest!(ready(stage));
    let Some(offer) = session.offered() else { return Met::Astray("nothing is offered".into()) };
    let one = BulkFrame { kind: BulkKind::Request, envelope: offer.envelope, index: 0 }.head(0);
    bulk.say_bytes(&one.repeat(1_000));
    lane_closed(bulk.is_closed())
}
