//! Frames of urgent and bulk lanes: requests one way, objects the other, both ways on every lane.
//!
//! A frame is its length (32 bits, big-endian), then one [`BulkFrame`] of fixed size; an object's sealed bytes follow
//! within the same frame. Written by hand because the payload must not be copied through a codec.

use crate::ids::EnvelopeId;
use crate::limits::OBJECT_BYTES_MAX;

/// Bytes of the fixed part: kind, envelope, index.
pub const BULK_HEAD_BYTES: usize = 1 + 16 + 8;
/// Bytes of a frame without its length, at most.
pub const BULK_FRAME_BYTES_MAX: usize = BULK_HEAD_BYTES + OBJECT_BYTES_MAX;
/// Requests that one lane serves at once.
pub const REQUESTS_MAX: usize = 64;

/// What a bulk frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkKind {
    /// Send me this object.
    Request,
    /// Here it is: its sealed bytes follow.
    Object,
    /// There is no such object in an envelope that is being offered to you.
    Unknown,
    /// I am alive.
    Heartbeat,
}

/// The fixed part of a bulk frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkFrame {
    /// What it is.
    pub kind: BulkKind,
    /// The envelope; zeros in a heartbeat.
    pub envelope: EnvelopeId,
    /// The object's index in the envelope; zero in a heartbeat.
    pub index: u64,
}

/// A frame that breaks the rules: the lane is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// Too short, too long, or a payload where none belongs.
    #[error("a bulk frame of {0} bytes")]
    Length(usize),
    /// Unknown kind.
    #[error("unknown bulk frame {0}")]
    Kind(u8),
}

impl BulkFrame {
    /// A heartbeat.
    pub const HEARTBEAT: BulkFrame = BulkFrame { kind: BulkKind::Heartbeat, envelope: EnvelopeId([0; 16]), index: 0 };

    /// The frame's length field and fixed part, for a payload of `payload` bytes.
    pub fn head(&self, payload: usize) -> [u8; 4 + BULK_HEAD_BYTES] {
        let mut head = [0; 4 + BULK_HEAD_BYTES];
        let length = u32::try_from(BULK_HEAD_BYTES + payload).unwrap_or(u32::MAX);
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4] = self.kind as u8;
        head[5..21].copy_from_slice(&self.envelope.0);
        head[21..].copy_from_slice(&self.index.to_be_bytes());
        head
    }

    /// Reads the fixed part of a frame of `frame_bytes` bytes; gives it and the payload's length.
    ///
    /// # Errors
    /// [`BulkError`].
    pub fn parse(frame_bytes: usize, head: &[u8; BULK_HEAD_BYTES]) -> Result<(BulkFrame, usize), BulkError> {
        let kind = match head[0] {
            0 => BulkKind::Request,
            1 => BulkKind::Object,
            2 => BulkKind::Unknown,
            3 => BulkKind::Heartbeat,
            other => return Err(BulkError::Kind(other)),
        };
        let payload = frame_bytes.checked_sub(BULK_HEAD_BYTES).ok_or(BulkError::Length(frame_bytes))?;
        let fits = if kind == BulkKind::Object { (1..=OBJECT_BYTES_MAX).contains(&payload) } else { payload == 0 };
        if !fits {
            return Err(BulkError::Length(frame_bytes));
        }
        let mut envelope = [0; 16];
        envelope.copy_from_slice(&head[1..17]);
        let mut index = [0; 8];
        index.copy_from_slice(&head[17..]);
        let frame = BulkFrame { kind, envelope: EnvelopeId(envelope), index: u64::from_be_bytes(index) };
        Ok((frame, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_limits() {
        let frame = BulkFrame { kind: BulkKind::Object, envelope: EnvelopeId([7; 16]), index: 513 };
        let head = frame.head(100);
        let fixed: [u8; BULK_HEAD_BYTES] = head[4..].try_into().expect("the rest of the head");
        let length = u32::from_be_bytes(head[..4].try_into().expect("four bytes")) as usize;
        assert_eq!(BulkFrame::parse(length, &fixed), Ok((frame, 100)));
        for bad in [0, BULK_HEAD_BYTES - 1, BULK_HEAD_BYTES, BULK_FRAME_BYTES_MAX + 1] {
            assert_eq!(BulkFrame::parse(bad, &fixed), Err(BulkError::Length(bad)));
        }
        let mut request = fixed;
        request[0] = 0;
        assert_eq!(BulkFrame::parse(length, &request), Err(BulkError::Length(length)));
        request[0] = 4;
        assert_eq!(BulkFrame::parse(BULK_HEAD_BYTES, &request), Err(BulkError::Kind(4)));
    }
}
