//! How many messages went and came within the last hour, per counterpart, so that a restart forgets none.
//!
//! The count itself is [`RateWindow`]'s; rows are written only under agreements that limit the rate.

use pakt_keys::EntityId;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::rate::{RATE_SPAN, RATE_SPAN_SENDER, RateWindow};
use pakt_protocol::time::Time;

use super::{MailError, Mailroom};
use crate::store::tables::RATES;
use crate::store::{StoreError, WriteTx};

/// Which way messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the counterpart.
    Received,
    /// To the counterpart.
    Sent,
}

impl Direction {
    fn number(self) -> u8 {
        match self {
            Direction::Received => 0,
            Direction::Sent => 1,
        }
    }

    fn window(self) -> RateWindow {
        RateWindow::new(match self {
            Direction::Received => RATE_SPAN,
            Direction::Sent => RATE_SPAN_SENDER,
        })
    }
}

/// An envelope to count, and those that count no more.
#[derive(Debug, Clone)]
pub struct Counted {
    /// When, by the service clock.
    pub at: Time,
    /// Envelopes of the same direction that lie too far back.
    pub forgotten: Vec<EnvelopeId>,
}

impl Mailroom {
    /// What was counted with a counterpart.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn rate_window(&self, peer: &EntityId, direction: Direction) -> Result<RateWindow, MailError> {
        let rows = self.store.read(|tx| tx.prefix(&RATES, &(*peer, direction.number()), usize::MAX))?;
        let mut window = direction.window();
        rows.into_iter().for_each(|((_, _, envelope), at)| window.count(envelope, at));
        Ok(window)
    }

    /// Counts an envelope that is about to be offered.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn count_sent(&self, peer: EntityId, envelope: EnvelopeId, counted: Counted) -> Result<(), MailError> {
        Ok(self.store.write(move |tx| count(tx, (peer, Direction::Sent), envelope, &counted)).await?)
    }
}

/// Counts an envelope in the commit that it belongs to.
pub(super) fn count(
    tx: &mut WriteTx,
    (peer, direction): (EntityId, Direction),
    envelope: EnvelopeId,
    counted: &Counted,
) -> Result<(), StoreError> {
    for forgotten in &counted.forgotten {
        tx.remove(&RATES, &(peer, direction.number(), *forgotten))?;
    }
    tx.put(&RATES, &(peer, direction.number(), envelope), &counted.at)
}

/// Moves what was counted by a jump of the clock, in microseconds.
pub(crate) fn shift_rates(tx: &mut WriteTx, jump: i64) -> Result<(), StoreError> {
    for (key, at) in tx.prefix(&RATES, &(), usize::MAX)? {
        let at: Time = at;
        tx.put(&RATES, &key, &at.shifted(jump))?;
    }
    Ok(())
}
