//! The listener's side of the door: one flight in, and either a friend or silence.
//!
//! ```text
//! accepted --2,048 bytes--> opened, counter durable --> admitted
//!     |                         |
//!     | end of file             | not opened, seen before, no seat
//!     v                         v
//!     +------- silent: read and forget until accepted + deadline, then close
//! ```
//!
//! **Invariant:** nothing is ever written here, and the time of closing depends on the time of accepting alone, or on
//! the crowd in the waiting room; never on what was right or wrong in the flight.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, FutureExt as _};
use pakt_protocol::limits::FLIGHT_BYTES;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::base::Wire;
use super::seats::{Seat, Seats};
use super::waiting::WaitingRoom;
use super::{Admission, Doorkeeper};

/// Bytes that a stranger can make this node read; then its own TCP stack holds the rest back.
const FORGOTTEN_BYTES_MAX: usize = 64 << 10;

/// What the door needs to decide.
pub(super) struct Door {
    pub(super) keeper: Arc<dyn Doorkeeper>,
    pub(super) room: Arc<WaitingRoom>,
    pub(super) seats: Arc<Seats>,
    pub(super) deadline: Duration,
}

impl Door {
    /// Whom the first flight of an accepted connection admits; `None` only when the connection is to be closed.
    pub(super) async fn admit<C>(&self, io: &mut Wire<C>) -> Option<(Admission, Seat)>
    where
        C: AsyncRead + Unpin,
    {
        let deadline = Instant::now() + self.deadline;
        let mut place = self.room.enter(io.remote);
        let admitted = tokio::select! {
            admitted = self.read_and_open(io, deadline) => admitted,
            () = place.told_to_leave() => return None,
        };
        if admitted.is_some() {
            place.pass();
            return admitted;
        }
        tokio::select! {
            () = forget(io, deadline) => {}
            () = place.told_to_leave() => {}
        }
        None
    }

    async fn read_and_open<C>(&self, io: &mut Wire<C>, deadline: Instant) -> Option<(Admission, Seat)>
    where
        C: AsyncRead + Unpin,
    {
        let mut flight = Box::new([0; FLIGHT_BYTES]);
        let read = timeout_at(deadline, io.read_exact(&mut *flight)).await;
        read.ok()?.ok()?;
        // A doorkeeper that panics must look like one that says no.
        let asked = async { self.keeper.admit(flight).await };
        let admission = AssertUnwindSafe(asked).catch_unwind().await.ok()??;
        let seat = self.seats.take(admission.entity)?;
        Some((admission, seat))
    }
}

/// Reads a little and forgets it, so that closing sends no reset, and waits for the deadline.
async fn forget<C: AsyncRead + Unpin>(io: &mut Wire<C>, deadline: Instant) {
    let read = async {
        let mut sink = [0; 1024];
        let mut left = FORGOTTEN_BYTES_MAX;
        while left > 0
            && let Ok(bytes @ 1..) = io.read(&mut sink).await
        {
            left = left.saturating_sub(bytes);
        }
    };
    let _ = timeout_at(deadline, read).await;
    sleep_until(deadline).await;
}
