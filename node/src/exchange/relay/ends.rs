//! The two ends of a forwarded connection: one asks a partner for it, the other joins when the partner calls.
//!
//! **Invariant:** the partner is told the transport key of the node that is looked for, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::{Message, RelayAnswer, RelayAsk};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::super::open;
use super::super::peer::dial_in_turn;
use super::{Context, JOIN_WITHIN, read_message, write_message};
use crate::net::{DialError, DialTarget, Lane, LaneKind, Net};

/// The partner answers within its own time and that of the line.
const ANSWER_WITHIN: Duration = Duration::from_secs(JOIN_WITHIN.as_secs() + 5);

/// A partner that may forward, and how to dial it.
#[derive(Debug, Clone)]
pub(in crate::exchange) struct Hop {
    /// The agreement with it.
    pub(in crate::exchange) agreement: AgreementId,
    /// Where it can be dialled.
    pub(in crate::exchange) targets: Vec<DialTarget>,
    /// Version of the agreement.
    pub(in crate::exchange) version: u32,
}

/// Reaches `target`, whose node has this transport key, through the first of `hops` that connects the two.
pub(in crate::exchange) async fn reach(
    context: &Context,
    hops: Vec<Hop>,
    (target, transport): (DialTarget, [u8; 32]),
    (kind, slot, version): (LaneKind, u8, u32),
) -> Result<Lane, DialError> {
    for hop in hops {
        // Others are being tried: the next attempt has its turn.
        let Ok(_turn) = context.relay.attempts.try_acquire() else { break };
        let Ok(relay) = ask(&context.net, &hop, RelayAsk::To(transport)).await else { continue };
        // A partner that says yes and forwards nothing must not stand before one that does.
        let Ok(lane) = context.net.dial_over(relay, target.clone(), kind).await else { continue };
        if let Ok(lane) = open::dialled(lane, slot, version).await {
            return Ok(lane);
        }
    }
    Err(DialError::NotForwarded)
}

/// Joins whoever the partner called for: its connection comes in like any other.
pub(in crate::exchange) async fn answer_call(context: Arc<Context>, hop: Hop, token: [u8; 16]) {
    let Ok(_turn) = context.relay.joining.try_acquire() else { return };
    if let Ok(relay) = ask(&context.net, &hop, RelayAsk::Join(token)).await {
        context.net.accept_over(relay).await;
    }
}

/// Opens a relay lane to the partner, asks, and waits until the other end is there.
async fn ask(net: &Net, hop: &Hop, what: RelayAsk) -> Result<Lane, DialError> {
    let kind = (LaneKind::Relay, 0, hop.version);
    let dialled = dial_in_turn(net, hop.targets.clone(), kind).await;
    let mut lane = dialled.map_err(|failure| failure.map_or(DialError::BadAddress, |(_, error)| error))?;
    let asked = async {
        write_message(&mut lane.io, &what.into()).await?;
        lane.io.flush().await?;
        read_message(&mut lane.io).await
    };
    match timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(Message::RelayAnswer(RelayAnswer { up: true }))) => Ok(lane),
        _ => Err(DialError::NotForwarded),
    }
}
