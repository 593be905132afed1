//! Everything that happens between this node and its counterparts, on top of lanes.
//!
//! One actor per agreement (`peer`) owns the session and the transfer and delivery machines of `pakt_protocol` and does
//! what they ask for; lanes that carry content (`bulk`) run beside it. Nothing here decides what the protocol does.
//!
//! **Invariants:** what a machine wants durable is durable before its next message leaves; no actor ever waits for a
//! lane; every queue is bounded.

mod adapt;
mod buffers;
mod bulk;
mod control;
mod credit;
mod doorkeeper;
mod errands;
mod fair;
mod frames;
#[cfg(test)]
mod hostile;
mod limit;
mod memory;
mod meter;
mod open;
mod peer;
mod pull;
mod relay;
#[cfg(test)]
mod tests;
#[cfg(all(test, feature = "defects"))]
mod tests_defects;
#[cfg(test)]
mod tests_introductions;
#[cfg(test)]
mod tests_reconcile;
#[cfg(test)]
mod tests_settling;
mod urgent;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::record::envelope::Priority;
use pakt_protocol::time::Time;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use doorkeeper::Keeper;
pub use errands::AskError;

use crate::ambient;
use crate::audit::Log;
use crate::book::{Agreement, Book, HelloProblem};
use crate::controls::Controls;
use crate::directory::Directory;
use crate::entity::Entity;
use crate::introductions::Introductions;
use crate::line::{Limits, LineConfig};
use crate::mailroom::{MailError, Mailroom};
use crate::net::{Lane, LaneKind, Net};
use crate::reconcile::Rounds;
use crate::relay::RelayConfig;
use buffers::Buffers;
use errands::Errand;
use limit::NodeLimits;
use memory::NodeMemory;
use meter::SendMeter;
pub use peer::EarlyOffer;
use peer::{Command, PeerActor};
use relay::Relay;
pub use relay::RelayCounts;

/// Lanes that were being dialled when keys were replaced are up by then.
const LANES_CHANGE_OVER: Duration = Duration::from_secs(3);
/// Commands that wait for one actor.
const INBOX_MAX: usize = 256;

/// What an operator may set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// A fixed number of bulk lanes per counterpart; adapted by what they carry without it.
    pub bulk_lanes: Option<u8>,
    /// How much of the line content may take.
    pub line: LineConfig,
    /// How much is forwarded.
    pub relay: RelayConfig,
}

/// What an exchange stands on.
pub struct Parts {
    /// Who this node is.
    pub entity: Entity,
    /// Agreements and what belongs to them.
    pub book: Book,
    /// Messages.
    pub mailroom: Mailroom,
    /// Who is listed where.
    pub directory: Directory,
    /// What is passed on, and what came through others.
    pub introductions: Introductions,
    /// Lanes out.
    pub net: Net,
    /// Lanes in.
    pub lanes: mpsc::Receiver<Lane>,
    /// What this node can show for the controls that agreements ask for.
    pub controls: Controls,
    /// What the operator set.
    pub settings: Settings,
}

/// One lane of a counterpart.
#[derive(Debug, Clone)]
pub struct LaneInfo {
    /// Its job.
    pub kind: LaneKind,
    /// The other end.
    pub remote: SocketAddr,
    /// The agreement with the partner that forwards it, if one does.
    pub via: Option<AgreementId>,
    /// Whether this node dialled.
    pub dialer: bool,
    /// TCP payload sent.
    pub sent: u64,
    /// TCP payload received.
    pub received: u64,
}

/// Why what is queued for a counterpart that is online does not go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// For people.
    pub why: String,
    /// When it goes on, if that is known.
    pub until: Option<Time>,
}

/// How a counterpart can be reached right now.
#[derive(Debug, Clone, Default)]
pub struct PeerState {
    /// Whether the control lane is up.
    pub online: bool,
    /// Since when it is up or down.
    pub since: Option<Time>,
    /// Why it is down.
    pub reason: Option<String>,
    /// Why the last node that came as this counterpart was not believed, unless one was since.
    pub turned_away: Option<HelloProblem>,
    /// When it is dialled next, or the moment at which the dial under way began; none while this side cannot dial.
    pub next_dial_at: Option<Time>,
    /// The lanes that are up.
    pub lanes: Vec<LaneInfo>,
    /// Bytes per second that bulk lanes to it carried lately, if enough was sent to tell.
    pub line_rate: Option<u64>,
    /// Why what is queued does not go although the control lane is up.
    pub holding: Option<Holding>,
}

/// Why a proposer does not hold the countersigned agreement yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoContact {
    /// Its card names no address, so that nobody can dial it.
    NoAddress,
    /// It was dialled in vain; why, for people.
    Unreached(String),
}

/// How far an envelope under way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// TCP payload so far.
    pub wire_bytes: u64,
    /// Sealed bytes durable at the receiver.
    pub durable_bytes: u64,
}

/// What all actors share.
struct Context {
    entity: Entity,
    book: Book,
    mailroom: Mailroom,
    directory: Directory,
    introductions: Introductions,
    errands: mpsc::Sender<Errand>,
    net: Net,
    controls: Controls,
    log: Log,
    rounds: Rounds,
    settings: Settings,
    memory: Arc<NodeMemory>,
    leaving: Arc<NodeMemory>,
    buffers: Arc<Buffers>,
    limits: Arc<NodeLimits>,
    /// Sealed bytes of accepted offers that are still to come, of all counterparts.
    promised: std::sync::atomic::AtomicU64,
    progress: Mutex<HashMap<EnvelopeId, Progress>>,
    /// The actors, one per agreement; they tell each other things, but never wait for each other.
    peers: Mutex<HashMap<AgreementId, Peer>>,
    relay: Relay,
    stop: CancellationToken,
}

struct Peer {
    commands: mpsc::Sender<Command>,
    state: Arc<Mutex<peer::Shown>>,
    meter: Arc<SendMeter>,
}

struct Inner {
    context: Arc<Context>,
    tasks: TaskTracker,
}

/// The exchange; clones share it.
#[derive(Clone)]
pub struct Exchange {
    inner: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    /// Starts one actor per agreement, and takes the lanes that others dial.
    pub fn start(parts: Parts) -> Exchange {
        let (errands, orders) = mpsc::channel(errands::ERRANDS_MAX);
        let context = Context {
            log: Log::new(parts.mailroom.store.clone(), parts.entity.clone()),
            rounds: Rounds::new(parts.mailroom.store.clone(), parts.entity.clone()),
            entity: parts.entity,
            book: parts.book,
            mailroom: parts.mailroom,
            directory: parts.directory,
            introductions: parts.introductions,
            errands,
            net: parts.net,
            controls: parts.controls,
            limits: Arc::new(NodeLimits::new(parts.settings.line.clone())),
            memory: Arc::default(),
            leaving: Arc::default(),
            buffers: Arc::default(),
            promised: Default::default(),
            progress: Mutex::default(),
            peers: Mutex::default(),
            relay: Relay::new(parts.settings.relay.clone()),
            settings: parts.settings,
            stop: CancellationToken::new(),
        };
        let inner = Inner { context: Arc::new(context), tasks: TaskTracker::new() };
        let exchange = Exchange { inner: Arc::new(inner) };
        for agreement in exchange.inner.context.book.all() {
            exchange.ensure(&agreement.id);
        }
        exchange.inner.tasks.spawn(take_lanes(exchange.clone(), parts.lanes));
        exchange.inner.tasks.spawn(end_frozen(exchange.clone()));
        exchange.inner.tasks.spawn(errands::run(exchange.clone(), orders));
        exchange
    }

    /// The actor of an agreement, started if it does not run.
    fn ensure(&self, id: &AgreementId) -> Option<mpsc::Sender<Command>> {
        let mut peers = lock(&self.inner.context.peers);
        if let Some(peer) = peers.get(id) {
            return Some(peer.commands.clone());
        }
        let agreement = self.inner.context.book.get(id)?;
        let (commands, inbox) = mpsc::channel(INBOX_MAX);
        let state = Arc::new(Mutex::default());
        let actor = PeerActor::new(self.inner.context.clone(), &agreement, (commands.clone(), inbox), state.clone());
        let meter = actor.meter();
        self.inner.tasks.spawn(actor.run());
        peers.insert(*id, Peer { commands: commands.clone(), state, meter });
        Some(commands)
    }

    async fn tell(&self, id: &AgreementId, command: Command) {
        if let Some(commands) = self.ensure(id) {
            let _ = commands.send(command).await;
        }
    }

    /// Tells the agreement's actor that it was made, completed or ended.
    pub async fn agreement_changed(&self, id: &AgreementId) {
        self.tell(id, Command::AgreementChanged).await;
    }

    /// Receipts were signed for the counterpart: they are told at once, if it is online.
    pub async fn receipts_owed(&self, agreement: &AgreementId) {
        self.tell(agreement, Command::Owed).await;
    }

    /// Wants an envelope back: on return that is noted, and its row says how far it is.
    ///
    /// # Errors
    /// [`MailError`]; [`MailError::Missing`] also if there is no such agreement any more.
    pub async fn recall(&self, agreement: &AgreementId, envelope: EnvelopeId) -> Result<(), MailError> {
        let (reply, answer) = oneshot::channel();
        self.tell(agreement, Command::Recall(envelope, reply)).await;
        answer.await.unwrap_or(Err(MailError::Missing))
    }

    /// A message of this priority is about to be sent under an agreement: its lanes are dialled meanwhile.
    pub async fn expect(&self, agreement: &AgreementId, priority: Priority) {
        self.tell(agreement, Command::Expect(peer::lane_kind_of(priority))).await;
    }

    /// Offers an envelope while its content is still being read, if the counterpart is there. It is taken back when its
    /// content breaks off; once the message is durable it is to be given to [`Exchange::submitted`].
    pub async fn offer_early(&self, agreement: &AgreementId, offer: EarlyOffer) {
        self.tell(agreement, Command::Early(Box::new(offer))).await;
    }

    /// Takes up an envelope that is durable in the mailroom.
    pub async fn submitted(&self, agreement: &AgreementId, envelope: EnvelopeId) {
        self.tell(agreement, Command::Submitted(envelope)).await;
    }

    /// Compares with a counterpart what was sent and received, if it is online.
    pub async fn reconcile(&self, agreement: &AgreementId) {
        self.tell(agreement, Command::Reconcile).await;
    }

    /// What comparisons with counterparts have shown.
    pub fn rounds(&self) -> &Rounds {
        &self.inner.context.rounds
    }

    /// Tells every counterpart the groups and the epoch as they are now.
    pub async fn rosters_changed(&self) {
        self.tell_all(|| Command::RosterChanged).await;
    }

    /// Tells these counterparts their new door grants, where they are online.
    pub async fn grants_changed(&self, agreements: &[AgreementId]) {
        for id in agreements {
            self.tell(id, Command::GrantsChanged).await;
        }
    }

    /// This node's keys were replaced: every lane is opened anew and shows the new ones.
    pub async fn identity_changed(&self) {
        self.tell_all(|| Command::IdentityChanged { again: false }).await;
        let exchange = self.clone();
        let stop = self.inner.context.stop.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LANES_CHANGE_OVER) => {
                    exchange.tell_all(|| Command::IdentityChanged { again: true }).await;
                }
            }
        });
    }

    async fn tell_all(&self, command: impl Fn() -> Command) {
        let all: Vec<AgreementId> = lock(&self.inner.context.peers).keys().copied().collect();
        for id in all {
            self.tell(&id, command()).await;
        }
    }

    /// Tells every counterpart where this node can be dialled now.
    pub async fn addresses_changed(&self) {
        let all: Vec<AgreementId> = lock(&self.inner.context.peers).keys().copied().collect();
        for id in all {
            self.tell(&id, Command::AddressesChanged).await;
        }
    }

    /// Waits until the proposer holds the countersigned agreement; not at all when it has no address to be dialled at,
    /// as a proposer does not dial before it holds the agreement.
    ///
    /// # Errors
    /// Why it does not hold it yet.
    pub async fn contact_confirmed(&self, id: &AgreementId, wait: Duration) -> Result<(), NoContact> {
        let agreement = self.inner.context.book.get(id);
        if agreement.is_some_and(|agreement| agreement.contact.is_some() && agreement.addresses.is_empty()) {
            return Err(NoContact::NoAddress);
        }
        let mut changes = self.inner.context.book.changes();
        let confirmed = async {
            loop {
                if self.inner.context.book.get(id).is_none_or(|agreement| agreement.contact.is_none()) {
                    return;
                }
                if changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        match tokio::time::timeout(wait, confirmed).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let reason = self.peer(id).reason;
                Err(NoContact::Unreached(reason.unwrap_or_else(|| "the proposer's node does not answer".to_owned())))
            }
        }
    }

    /// Waits until an agreement is as it should be, at most so long; tells whether it is.
    pub async fn until(&self, id: &AgreementId, wait: Duration, reached: impl Fn(&Agreement) -> bool) -> bool {
        let mut changes = self.inner.context.book.changes();
        let is_reached = || self.inner.context.book.get(id).is_none_or(|agreement| reached(&agreement));
        let waiting = async { while !is_reached() && changes.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(wait, waiting).await;
        is_reached()
    }

    /// How a counterpart can be reached right now.
    pub fn peer(&self, id: &AgreementId) -> PeerState {
        let peers = lock(&self.inner.context.peers);
        let turned_away = self.inner.context.book.turned_away(id);
        let state =
            |peer: &Peer| PeerState { line_rate: peer.meter.rate(), turned_away, ..lock(&peer.state).to_state() };
        peers.get(id).map(state).unwrap_or_default()
    }

    /// Bytes per second that bulk lanes to a counterpart carried lately, if enough was sent to tell.
    pub fn line_rate(&self, agreement: &AgreementId) -> Option<u64> {
        lock(&self.inner.context.peers).get(agreement).and_then(|peer| peer.meter.rate())
    }

    /// The limits that hold now.
    pub fn limits(&self) -> Limits {
        self.inner.context.limits.in_force()
    }

    /// What this node forwards for counterparts.
    pub fn relay_counts(&self) -> RelayCounts {
        self.inner.context.relay.counts()
    }

    /// What this node can show for the controls that agreements ask for.
    pub fn controls(&self) -> &Controls {
        &self.inner.context.controls
    }

    /// The audit log and the heads of it.
    pub fn log(&self) -> &Log {
        &self.inner.context.log
    }

    /// How far an envelope is that is under way now.
    pub fn progress(&self, envelope: &EnvelopeId) -> Option<Progress> {
        lock(&self.inner.context.progress).get(envelope).copied()
    }

    /// Every envelope that is under way now, and how far it is.
    pub fn under_way(&self) -> Vec<(EnvelopeId, Progress)> {
        let progress = lock(&self.inner.context.progress);
        let mut all: Vec<_> = progress.iter().map(|(envelope, progress)| (*envelope, *progress)).collect();
        all.sort_unstable_by_key(|(envelope, _)| *envelope);
        all
    }

    /// Gives memory back that content needed and nothing uses now.
    pub fn cool(&self) {
        self.inner.context.buffers.cool();
    }

    /// Ends every session and waits until all actors have stopped.
    pub async fn shutdown(&self) {
        self.inner.context.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// Opens the lanes that counterparts dial and hands them to their actors.
async fn take_lanes(exchange: Exchange, mut lanes: mpsc::Receiver<Lane>) {
    let context = exchange.inner.context.clone();
    loop {
        let lane = tokio::select! {
            () = context.stop.cancelled() => return,
            lane = lanes.recv() => lane,
        };
        let Some(lane) = lane else { return };
        let id = lane.peer.agreement;
        let (Some(agreement), Some(actor)) = (context.book.get(&id), exchange.ensure(&id)) else { continue };
        if !agreement.in_force(now()) && lane.kind != LaneKind::Control {
            continue;
        }
        let version = agreement.terms.version;
        let context = context.clone();
        // The waiting room of the network bounds how many of these there are per counterpart.
        exchange.inner.tasks.spawn(async move {
            match open::accepted(lane, version).await {
                Ok(lane) if lane.kind == LaneKind::Relay => tokio::select! {
                    () = context.stop.cancelled() => {}
                    () = relay::serve(context.clone(), lane) => {}
                },
                Ok(lane) => drop(actor.send(Command::Lane(lane)).await),
                Err(error) => tracing::debug!(agreement = %id, %error, "a lane was not opened"),
            }
        });
    }
}

/// Ends what goes on with a counterpart as soon as its agreement is frozen.
async fn end_frozen(exchange: Exchange) {
    let context = exchange.inner.context.clone();
    let mut frozen = context.book.frozen();
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return,
            changed = frozen.changed() => if changed.is_err() { return },
        }
        for agreement in context.book.all().iter().filter(|agreement| agreement.frozen_at.is_some()) {
            exchange.agreement_changed(&agreement.id).await;
        }
    }
}

/// Service time, for every machine.
fn now() -> Time {
    ambient::service_now()
}
