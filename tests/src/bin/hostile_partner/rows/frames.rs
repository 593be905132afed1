//! Frames of the control lane that are none, or that have no place there.

use pakt_node::ambient;
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::{Heartbeat, Message};

use super::{Met, Row, Stage, closed, honest};
use crate::partner::open;
use crate::wire::frame;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "frame of no length",
        does: "sends a control frame of length 0",
        meets: "session closed",
        says: "a control frame of impossible length",
        act: |stage| bytes(stage, &[0; 4]),
    },
    Row {
        name: "frame too long",
        does: "announces a control frame of 1 MiB and one byte",
        meets: "session closed",
        says: "a control frame of impossible length",
        act: |stage| bytes(stage, &((1u32 << 20) + 1).to_be_bytes()),
    },
    Row {
        name: "frame cut off",
        does: "ends the lane in the middle of a frame",
        meets: "session closed",
        says: "a control lane ended",
        act: cut_off,
    },
    Row {
        name: "frame with a tail",
        does: "adds one byte to a heartbeat",
        meets: "session closed",
        says: "the record is followed by further bytes",
        act: |stage| bytes(stage, &frame(&[Message::from(Heartbeat).to_bytes(), vec![0]].concat())),
    },
    Row {
        name: "frame of no kind",
        does: "sends message number 9,999",
        meets: "session closed",
        says: "the record is malformed",
        act: |stage| bytes(stage, &frame(&[&[1][..], &9_999u32.to_be_bytes()].concat())),
    },
    Row {
        name: "frame of version 2",
        does: "sends a message of a version that does not exist yet",
        meets: "session closed",
        says: "the record has format version 2",
        act: |stage| bytes(stage, &frame(&[2, 0, 0, 0, 2])),
    },
    Row {
        name: "frame of noise",
        does: "sends a frame of 10,000 random bytes",
        meets: "session closed",
        says: "a control lane ended",
        act: |stage| bytes(stage, &frame(&ambient::random::<10_000>())),
    },
    Row {
        name: "frame with a list of 2^60",
        does: "claims 2^60 entries in an announcement of 40 bytes",
        meets: "session closed",
        says: "a control lane ended",
        act: |stage| bytes(stage, &frame(&[&[1, 0, 0, 0, 10][..], &[0; 24], &[0x10, 0, 0, 0, 0, 0, 0, 0]].concat())),
    },
    Row {
        name: "Open in a session",
        does: "opens the control lane once more from inside",
        meets: "session closed",
        says: "a message that belongs to another place",
        act: open_again,
    },
];

fn bytes(stage: &mut Stage, bytes: &[u8]) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say_bytes(bytes);
    closed(session.control.is_closed())
}

fn cut_off(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say_bytes(&[&100u32.to_be_bytes()[..], &[1; 50]].concat());
    session.control.finish();
    closed(session.control.is_closed())
}

fn open_again(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(open(LaneKind::Control));
    closed(session.control.is_closed())
}
