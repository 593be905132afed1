//! The first frame of each side on a lane: which slot it is, which agreement version and limits hold.

use std::io;
use std::time::Duration;

use pakt_protocol::bulk::REQUESTS_MAX;
use pakt_protocol::limits::OBJECT_BYTES_MAX;
use pakt_protocol::message::{LaneOpen, LaneOpened, Message};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::frames::{read_message, write_message};
use crate::net::Lane;

/// A lane that is not up by then is given up.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// Opens a lane that this node dialled: returns once the listener has answered.
pub(super) async fn dialled(mut lane: Lane, slot: u8, agreement_version: u32) -> io::Result<Lane> {
    let open = LaneOpen {
        kind: lane.kind,
        slot,
        agreement_version,
        object_bytes_max: OBJECT_BYTES_MAX as u32,
        requests_max: REQUESTS_MAX as u16,
    };
    lane.agreement_version = within(async {
        write_message(&mut lane.io, &open.into()).await?;
        lane.io.flush().await?;
        match read_message(&mut lane.io).await? {
            Message::Opened(opened) if fits(opened.object_bytes_max, opened.requests_max) => {
                Ok(opened.agreement_version)
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the lane was not opened")),
        }
    })
    .await?;
    Ok(lane)
}

/// Opens a lane that the counterpart dialled.
pub(super) async fn accepted(mut lane: Lane, agreement_version: u32) -> io::Result<Lane> {
    let opened =
        LaneOpened { agreement_version, object_bytes_max: OBJECT_BYTES_MAX as u32, requests_max: REQUESTS_MAX as u16 };
    lane.agreement_version = within(async {
        let version = match read_message(&mut lane.io).await? {
            Message::Open(open) if open.kind == lane.kind && fits(open.object_bytes_max, open.requests_max) => {
                open.agreement_version
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a lane that opens otherwise than it was dialled",
                ));
            }
        };
        write_message(&mut lane.io, &opened.into()).await?;
        lane.io.flush().await?;
        Ok(version)
    })
    .await?;
    Ok(lane)
}

/// The limits of version 1 are fixed; the fields are there for later versions.
fn fits(object_bytes_max: u32, requests_max: u16) -> bool {
    object_bytes_max as usize >= OBJECT_BYTES_MAX && requests_max as usize >= REQUESTS_MAX
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(OPEN_WITHIN, work).await.map_err(|_| io::ErrorKind::TimedOut)?
}
