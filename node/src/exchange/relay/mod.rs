//! Forwarding between two counterparts that cannot dial each other: the partner's side, and both ends'.
//!
//! ```text
//! an end --relay lane, To(key)--> serve --RelayCall--> the other end's actor --relay lane, Join--> serve: splice
//! ```
//! `quota` counts what each counterpart has forwarded, `splice` moves the bytes, `ends` is how a node asks to be
//! forwarded and how it joins when it is called.
//!
//! **Invariant:** forwarded bytes are never stored, logged or looked into; only who, whom, how many and how fast.
//! **Invariant:** whatever keeps the two from being connected, the one who asks reads the same answer after the same time.

mod ends;
mod quota;
mod splice;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::{Message, RelayAnswer, RelayAsk, RelayCall};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::frames::{read_message, write_message};
use super::peer::Command;
use super::{Context, lock, now};
use crate::ambient;
use crate::book::Agreement;
use crate::net::Lane;
use crate::relay::RelayConfig;
pub(super) use ends::{Hop, answer_call, reach};
use quota::Quotas;

/// The other end joins within this time; who asked in vain is told so when it is over, not before.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// How long the answer may take on its way.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Attempts of this node to be forwarded that may wait at the same time.
const ATTEMPTS_MAX: usize = 4;
/// Calls that this node answers at the same time.
const JOINING_MAX: usize = 16;

/// What this node forwards now and has forwarded since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// Connections that are forwarded now.
    pub circuits: u64,
    /// Connections that were forwarded.
    pub forwarded: u64,
    /// Requests that came to nothing.
    pub refused: u64,
    /// Bytes, both directions together.
    pub bytes: u64,
}

/// The end that is waited for, and where its lane goes.
struct Awaited {
    agreement: AgreementId,
    lane: oneshot::Sender<Lane>,
}

/// The relay of one node.
pub(super) struct Relay {
    quotas: Arc<Quotas>,
    awaited: Mutex<HashMap<[u8; 16], Awaited>>,
    attempts: Arc<tokio::sync::Semaphore>,
    joining: Arc<tokio::sync::Semaphore>,
    forwarded: AtomicU64,
    refused: AtomicU64,
}

impl Relay {
    pub(super) fn new(config: RelayConfig) -> Relay {
        Relay {
            quotas: Arc::new(Quotas::new(config)),
            awaited: Mutex::default(),
            attempts: Arc::new(tokio::sync::Semaphore::new(ATTEMPTS_MAX)),
            joining: Arc::new(tokio::sync::Semaphore::new(JOINING_MAX)),
            forwarded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn counts(&self) -> RelayCounts {
        let (circuits, bytes) = self.quotas.totals();
        RelayCounts {
            circuits,
            forwarded: self.forwarded.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            bytes,
        }
    }
}

/// Serves a relay lane that a counterpart opened, until it ends.
pub(super) async fn serve(context: Arc<Context>, mut lane: Lane) {
    let deadline = Instant::now() + JOIN_WITHIN;
    let asked = timeout_at(deadline, read_message(&mut lane.io)).await;
    match asked {
        Ok(Ok(Message::RelayAsk(RelayAsk::Join(token)))) => join(&context, token, lane),
        Ok(Ok(Message::RelayAsk(RelayAsk::To(transport)))) => forward(&context, transport, lane, deadline).await,
        _ => {}
    }
}

/// Hands the lane of a called end to whoever waits for it.
fn join(context: &Context, token: [u8; 16], lane: Lane) {
    let mut awaited = lock(&context.relay.awaited);
    let is_called = awaited.get(&token).is_some_and(|awaited| awaited.agreement == lane.peer.agreement);
    if let Some(awaited) = awaited.remove(&token).filter(|_| is_called) {
        // Fails only when nobody waits any more.
        let _ = awaited.lane.send(lane);
    }
}

async fn forward(context: &Arc<Context>, transport: [u8; 32], mut lane: Lane, deadline: Instant) {
    let relay = &context.relay;
    let caller = lane.peer.agreement;
    let met = meet(context, caller, &transport, deadline).await;
    let Some((mut other, seats)) = met else {
        relay.refused.fetch_add(1, Ordering::Relaxed);
        sleep_until(deadline).await;
        let _ = answer(&mut lane, false).await;
        let _ = lane.io.shutdown().await;
        return;
    };
    let answered = answer(&mut other, true).await.and(answer(&mut lane, true).await);
    if answered.is_err() {
        return;
    }
    relay.forwarded.fetch_add(1, Ordering::Relaxed);
    let callee = other.peer.agreement;
    tracing::debug!(%caller, %callee, "forwarding");
    let allowed = || may_forward(context, &caller) && may_forward(context, &callee);
    splice::run((lane.io, &seats.0), (other.io, &seats.1), allowed).await;
}

async fn answer(lane: &mut Lane, up: bool) -> std::io::Result<()> {
    let written = async {
        write_message(&mut lane.io, &RelayAnswer { up }.into()).await?;
        lane.io.flush().await
    };
    tokio::time::timeout(WRITE_WITHIN, written).await.map_err(|_| std::io::ErrorKind::TimedOut)?
}

/// Whether the agreement says that connections are forwarded, and is in force.
fn may_forward(context: &Context, id: &AgreementId) -> bool {
    context.book.get(id).is_some_and(|agreement| agreement.terms.relay && agreement.in_force(now()))
}

/// Calls the other end and waits until its lane is there.
async fn meet(
    context: &Arc<Context>,
    caller: AgreementId,
    transport: &[u8; 32],
    deadline: Instant,
) -> Option<(Lane, (quota::Seat, quota::Seat))> {
    if !may_forward(context, &caller) {
        return None;
    }
    let all = context.book.all();
    // Who asks may not have heard that the keys were replaced; who answers shows that to it, end to end.
    let is_meant = |agreement: &Agreement| agreement.had_transport(transport) && agreement.id != caller;
    // One that has ended may stand beside the one that counts.
    let callee = all.iter().find(|agreement| is_meant(agreement) && may_forward(context, &agreement.id))?.id;
    let seats = context.relay.quotas.take_both(caller, callee)?;
    let actor = lock(&context.peers).get(&callee).map(|peer| peer.commands.clone())?;
    let (sender, joined) = oneshot::channel();
    let token: [u8; 16] = ambient::random();
    lock(&context.relay.awaited).insert(token, Awaited { agreement: callee, lane: sender });
    let _forget = Forget { context, token };
    actor.try_send(Command::Transmit(Box::new(RelayCall { token }.into()))).ok()?;
    let lane = timeout_at(deadline, joined).await.ok()?.ok()?;
    Some((lane, seats))
}

/// Takes the token back, whether it was used or not.
struct Forget<'a> {
    context: &'a Context,
    token: [u8; 16],
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.context.relay.awaited).remove(&self.token);
    }
}
