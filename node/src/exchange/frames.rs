//! Length-prefixed frames on a lane.
//!
//! **Invariant:** a length is checked against its limit before a byte is allocated for it.

use std::io;

use pakt_protocol::message::{CONTROL_FRAME_BYTES_MAX, Message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads one control message. Not cancel safe: a cancelled read loses its place, so only a task of its own reads.
pub(super) async fn read_message(lane: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let length = lane.read_u32().await? as usize;
    if length == 0 || length > CONTROL_FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a control frame of impossible length"));
    }
    let mut frame = vec![0; length];
    lane.read_exact(&mut frame).await?;
    Message::from_bytes(&frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes one control message; the caller flushes.
pub(super) async fn write_message(lane: &mut (impl AsyncWrite + Unpin), message: &Message) -> io::Result<()> {
    let body = message.to_bytes();
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let frame = [&length.to_be_bytes(), body.as_slice()].concat();
    lane.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use pakt_protocol::message::Heartbeat;

    #[tokio::test]
    async fn round_trip_and_limits() {
        let mut wire = Vec::new();
        write_message(&mut wire, &Heartbeat.into()).await.unwrap();
        assert_eq!(read_message(&mut wire.as_slice()).await.unwrap(), Heartbeat.into());
        for hostile in [&[0, 0, 0, 0][..], &[0xff; 8], &[0, 0, 0, 5, 1, 0], &[0, 0, 0, 1, 7]] {
            assert!(read_message(&mut &*hostile).await.is_err(), "{hostile:?}");
        }
    }
}
