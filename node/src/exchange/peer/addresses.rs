//! Telling where this node can be dialled, and trying the addresses of the counterpart.
//!
//! **Invariant:** at most the eight addresses of one record, and the eight of a hint, are dialled per attempt; attempts keep the counterpart's
//! back-off, whatever addresses it names.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use pakt_protocol::message::AddressNews;
use pakt_protocol::record::address::Address;

use super::{PeerActor, Timer, now};
use crate::exchange::open;
use crate::net::{DialError, DialTarget, Lane, LaneKind, Net};

/// An address that does not answer is given so much time before the next is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(2);

impl PeerActor {
    /// Shows this node's addresses to the counterpart while a session is live.
    pub(super) async fn tell_addresses(&mut self) {
        if !self.is_live() {
            return;
        }
        match self.context.book.own_address_update(&self.id).await {
            Ok(update) => self.transmit(AddressNews { update }.into()),
            Err(error) => tracing::error!(agreement = %self.id, %error, "the own addresses could not be told"),
        }
    }

    /// Takes the counterpart's addresses; they are for the next dial.
    pub(super) async fn take_addresses(&mut self, news: &AddressNews) {
        match self.context.book.take_addresses(&self.id, &news.update).await {
            Ok(true) => {
                tracing::info!(agreement = %self.id, "the counterpart told other addresses");
                self.context.mailroom.changed();
            }
            Ok(false) => {}
            Err(why) => self.close_session(why).await,
        }
    }

    /// Other addresses of a counterpart that cannot be reached have become known: they are dialled soon. What is only a hint
    /// is dialled once, after all others, and not kept.
    pub(super) fn handle_addresses_found(&mut self, hint: Vec<Address>) {
        if self.live.is_none() {
            self.dialing.hint(hint);
            self.dialing.start_over();
            self.timers.set(Timer::Dial, now());
        }
    }
}

/// Dials the targets in their order until a lane is up: the next one when one has failed or takes its time.
///
/// Cancel safe. On failure the last error with its address.
pub(in crate::exchange) async fn dial_in_turn(
    net: &Net,
    targets: Vec<DialTarget>,
    (kind, slot, version): (LaneKind, u8, u32),
) -> Result<Lane, Option<(String, DialError)>> {
    let mut waiting = targets.into_iter();
    let mut dials = FuturesUnordered::new();
    let mut last = None;
    loop {
        if let Some(target) = waiting.next() {
            dials.push(dial_one(net, target, (kind, slot, version)));
        }
        let patience = if waiting.len() > 0 { NEXT_ADDRESS_AFTER } else { Duration::MAX };
        match tokio::time::timeout(patience, dials.next()).await {
            Ok(Some(Ok(lane))) => return Ok(lane),
            Ok(Some(Err(failure))) => last = Some(failure),
            Ok(None) => return Err(last),
            Err(_) => {}
        }
    }
}

async fn dial_one(
    net: &Net,
    target: DialTarget,
    (kind, slot, version): (LaneKind, u8, u32),
) -> Result<Lane, (String, DialError)> {
    let addr = target.addr.clone();
    match net.dial(target, kind).await {
        Ok(lane) => open::dialled(lane, slot, version).await.map_err(|_| (addr, DialError::Refused)),
        Err(error) => Err((addr, error)),
    }
}
