//! A lane for content in hostile hands.

use std::time::Duration;

use pakt_protocol::bulk::{BULK_HEAD_BYTES, BulkFrame, BulkKind};
use pakt_protocol::ids::EnvelopeId;

use crate::wire::{End, PATIENCE, Wire};

/// An urgent or bulk lane.
pub(crate) struct Bulk {
    wire: Wire,
}

impl Bulk {
    /// A lane that was opened.
    pub(crate) fn new(wire: Wire) -> Bulk {
        Bulk { wire }
    }

    /// Says a frame without payload.
    pub(crate) fn say(&mut self, kind: BulkKind, envelope: EnvelopeId, index: u64) {
        self.say_bytes(&BulkFrame { kind, envelope, index }.head(0));
    }

    /// Says an object.
    pub(crate) fn say_object(&mut self, envelope: EnvelopeId, index: u64, payload: &[u8]) {
        let head = BulkFrame { kind: BulkKind::Object, envelope, index }.head(payload.len());
        self.say_bytes(&[&head[..], payload].concat());
    }

    /// Says anything.
    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        // Whether it arrives shows in what comes back.
        let _ = self.wire.write(bytes);
    }

    /// The next frame that is not a heartbeat, with its payload.
    pub(crate) fn hear(&mut self, limit: Duration) -> Result<(BulkFrame, Vec<u8>), End> {
        loop {
            let bytes = self.wire.read_frame(limit)?;
            let head = bytes.first_chunk::<BULK_HEAD_BYTES>().expect("the victim's frames are sound");
            let (frame, _) = BulkFrame::parse(bytes.len(), head).expect("the victim's frames are sound");
            if frame.kind != BulkKind::Heartbeat {
                return Ok((frame, bytes[BULK_HEAD_BYTES..].to_vec()));
            }
        }
    }

    /// The victim's next request for an object of this envelope: its index.
    pub(crate) fn request_of(&mut self, envelope: EnvelopeId, limit: Duration) -> Result<u64, End> {
        loop {
            let (frame, _) = self.hear(limit)?;
            if frame.kind == BulkKind::Request && frame.envelope == envelope {
                return Ok(frame.index);
            }
        }
    }

    /// Asks for an object and gives the answer's kind.
    pub(crate) fn ask(&mut self, envelope: EnvelopeId, index: u64) -> Option<BulkKind> {
        self.say(BulkKind::Request, envelope, index);
        loop {
            let (frame, _) = self.hear(PATIENCE).ok()?;
            if (frame.envelope, frame.index) == (envelope, index) && frame.kind != BulkKind::Request {
                return Some(frame.kind);
            }
        }
    }

    /// Whether the victim ends the lane.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.is_closed_within(PATIENCE)
    }

    /// Whether the victim ends the lane in this time.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.wire.is_ended_within(limit)
    }
}
