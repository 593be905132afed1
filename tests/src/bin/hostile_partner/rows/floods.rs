//! More of something than anybody needs. What is sound by itself is refused by its number.

use std::time::{Duration, Instant};

use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::message::{Announce, Heartbeat, Message, RosterUpdate};

use super::{Met, Row, Stage, answered, closed, honest, passed_over};
use crate::parcel::{Fate, Parcel, entry};
use crate::session::Answered;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "heartbeats without end",
        does: "sends 20,000 heartbeats",
        meets: "passed over",
        says: "",
        act: heartbeats,
    },
    Row {
        name: "objects without end",
        does: "names the first of 800,000 objects, serves none, and offers as many once more",
        meets: "refuse busy",
        says: "",
        act: objects,
    },
    Row {
        name: "questions without listening",
        does: "asks for a receipt of 3 KB as fast as it can and reads none of them",
        meets: "session closed",
        says: "it does not read what it is told",
        act: deaf,
    },
    Row {
        name: "rosters without end",
        does: "shows one new roster after the other, each signed and numbered as it should be",
        meets: "session closed",
        says: "more records than a counterpart needs",
        act: rosters,
    },
];

fn heartbeats(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let beats = vec![Message::from(Heartbeat); 20_000];
    session.control.say_all(&beats);
    passed_over(session.control.stands())
}

fn rosters(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    for _ in 0..10 {
        let rosters: Vec<Message> = (0..100)
            .map(|_| {
                let roster = stage.first.fresh_roster();
                stage.first.roster = stage.first.sign_roster(&roster);
                RosterUpdate { roster: stage.first.roster.clone() }.into()
            })
            .collect();
        if !session.control.say_all(&rosters) {
            break;
        }
    }
    closed(session.control.is_closed())
}

fn objects(stage: &mut Stage) -> Met {
    const OBJECTS: u64 = 800_000;
    const NAMED: u64 = 40_000;
    let mut session = honest!(stage.first.session());
    let mut offer = Parcel::new(&stage.first, &session).offer;
    (offer.files, offer.plain_bytes) = (OBJECTS, OBJECTS);
    (offer.objects, offer.sealed_bytes) = (OBJECTS, OBJECTS * 49);
    if session.offer(&offer) != Answered::Accepted {
        return Met::Astray("a large message was not accepted".into());
    }
    for first in (0..NAMED).step_by(4_000) {
        let entry = |at: u64| ObjectEntry { bytes: 49, ..entry(&(first + at).to_be_bytes()) };
        let entries = (0..4_000).map(entry).collect();
        session.control.say(Announce { envelope: offer.envelope, first, entries, last: false });
    }
    offer.envelope.0[0] ^= 1;
    answered(session.offer(&offer))
}

fn deaf(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let mut bulk = honest!(stage.first.bulk(LaneKind::Bulk));
    let parcel = Parcel::new(&stage.first, &session);
    let Fate::Answered(Answered::Receipt(_)) = parcel.deliver(&mut session, &mut bulk) else {
        return Met::Astray("a sound message was not delivered".into());
    };
    let questions = vec![Message::from(parcel.offer); 500];
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if !session.control.say_all(&questions) {
            return Met::SessionClosed;
        }
    }
    Met::Astray("the session stands".into())
}
