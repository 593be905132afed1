//! The actor of one agreement: owns its session, its transfers and its deliveries.
//!
//! ```text
//! commands (lanes, frames, submissions, objects held) --> machines --> outputs: transmit, persist, do
//! ```
//! What is said and when, machines of `pakt_protocol` decide; the files here drive them: they look things up, make them
//! durable and hand messages on. `session` drives the session machine, `sending` those of deliveries and outgoing
//! transfers, `early` offers what is still being read, `receiving` drives incoming transfers, `owed` tells receipts until they
//! are held, `settling` asks for those that are lacking, `recalling` asks for what is wanted back and answers such requests,
//! `records` takes in what is about the agreement itself, `standing` does what follows from that, `terms` keeps to what it
//! says, `lanes` keeps the connections up.
//!
//! **Invariant:** everything about one counterpart happens in this one task, in order.

mod addresses;
mod directory;
mod early;
mod grants;
mod heads;
mod introductions;
mod lanes;
mod owed;
mod pulling;
mod recalling;
mod receiving;
mod reconcile;
mod records;
mod relaying;
mod restored;
mod seeking;
mod sending;
mod session;
mod settling;
mod standing;
mod terms;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::delivery::Delivery;
use pakt_protocol::ids::{AgreementId, EnvelopeId, ObjectId};
use pakt_protocol::line::Line;
use pakt_protocol::message::{Message, WantReconcile};
use pakt_protocol::owed::Owed;
use pakt_protocol::pace::Pace;
use pakt_protocol::policy::Footing;
use pakt_protocol::recalls::Recalls;
use pakt_protocol::record::address::Address;
use pakt_protocol::settling::Questions;
use pakt_protocol::time::Time;
use pakt_protocol::transfer::standstill::Standstill;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::adapt::LaneCount;
use super::errands::PageAnswer;
use super::limit::PeerLimits;
use super::memory::{NodeMemory, PeerMemory};
use super::meter::SendMeter;
use super::pull::Shared;
use super::{Context, Holding, LaneInfo, PeerState, lock, now};
use crate::book::Agreement;
use crate::mailroom::MailError;
use crate::net::{DialError, Lane, LaneBytes, LaneKind};
pub(super) use addresses::dial_in_turn;
use directory::Asking;
pub use early::EarlyOffer;
use early::EarlyOffers;
use introductions::Passing;
use lanes::{BULK_LANES_MAX, ContentLanes, Dialing};
use pulling::Pulling;
use receiving::{Known, OpenedContent, Receiving, STALE_FIRST};
use reconcile::Reconciling;
use seeking::Seeking;
use sending::Sending;
pub(in crate::exchange) use sending::lane_kind_of;
use session::Live;
use terms::Terms;

/// What an actor is told.
pub(in crate::exchange) enum Command {
    /// A lane is up, dialled by either side.
    Lane(Lane),
    /// This side could not dial a lane: the last address that was tried, and why.
    DialFailed(LaneKind, Option<(String, DialError)>),
    /// A control frame arrived.
    Frame { session: u64, message: Message },
    /// The control lane ended.
    LaneLost { session: u64 },
    /// A content lane ended.
    ContentLaneEnded(u64),
    /// Objects of an incoming envelope are durable.
    Held { envelope: EnvelopeId, ids: Vec<ObjectId> },
    /// Objects of an incoming envelope cannot be had or stored.
    PullFailed { envelope: EnvelopeId, full: bool },
    /// An incoming envelope was opened, or not.
    Opened { envelope: EnvelopeId, content: Box<OpenedContent> },
    /// A message for the counterpart is on its way: its content lanes will be needed.
    Expect(LaneKind),
    /// An envelope whose content is still being read.
    Early(Box<EarlyOffer>),
    /// More objects of it are durable.
    EarlyObjects(EnvelopeId),
    /// Its content was broken off, unless it was submitted before.
    EarlyEnded(EnvelopeId),
    /// An envelope is durable in the mailroom.
    Submitted(EnvelopeId),
    /// The agreement was completed or ended here.
    AgreementChanged,
    /// Groups or epoch changed.
    RosterChanged,
    /// This node's addresses changed.
    AddressesChanged,
    /// Other addresses of the counterpart were found through a partner: they are kept, or are no more than a hint.
    AddressesFound { hint: Vec<Address> },
    /// Another counterpart is lost: this one may know where it is.
    Seek(AgreementId),
    /// Something for the counterpart, if it is online.
    Transmit(Box<Message>),
    /// New door grants may be there to be told.
    GrantsChanged,
    /// This node's keys were replaced; a second time a while later.
    IdentityChanged { again: bool },
    /// A page of the counterpart's directory is wanted.
    Ask { after: Option<EntityId>, reply: oneshot::Sender<PageAnswer> },
    /// This entity's listing at the counterpart changed.
    ListingChanged,
    /// Introduction messages wait.
    Introductions,
    /// Receipts were signed for the counterpart.
    Owed,
    /// What was sent and received is to be compared now.
    Reconcile,
    /// An envelope is wanted back.
    Recall(EnvelopeId, oneshot::Sender<Result<(), MailError>>),
}

/// What the actor shows to the rest of the node.
#[derive(Default)]
pub(in crate::exchange) struct Shown {
    online: bool,
    since: Option<Time>,
    reason: Option<String>,
    next_dial_at: Option<Time>,
    lanes: Vec<ShownLane>,
    holding: Option<Holding>,
}

struct ShownLane {
    kind: LaneKind,
    remote: std::net::SocketAddr,
    via: Option<AgreementId>,
    dialer: bool,
    bytes: Arc<LaneBytes>,
}

impl Shown {
    pub(in crate::exchange) fn to_state(&self) -> PeerState {
        let info = |lane: &ShownLane| LaneInfo {
            kind: lane.kind,
            remote: lane.remote,
            via: lane.via,
            dialer: lane.dialer,
            sent: lane.bytes.sent(),
            received: lane.bytes.received(),
        };
        PeerState {
            online: self.online,
            since: self.since,
            reason: self.reason.clone(),
            next_dial_at: self.next_dial_at,
            lanes: self.lanes.iter().map(info).collect(),
            line_rate: None,
            turned_away: None,
            holding: self.holding.clone(),
        }
    }
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// The session machine.
    Session,
    /// The next dial of the control lane.
    Dial,
    /// Closing content lanes that nobody uses.
    Idle,
    /// Forgetting accepted offers that nobody will continue.
    Stale,
    /// Asking again for content lanes that did not come up.
    Lanes,
    /// Looking again whether the terms let something go.
    Gate,
    /// The agreement begins or ends by date.
    Terms,
    /// Measuring whether more or fewer bulk lanes would carry more.
    Adapt,
    /// Looking whether content that is awaited comes.
    Standstill,
    /// Comparing what is left at the counterpart.
    Deposits,
    /// Asking the counterpart for others that are lost.
    Seek,
    /// Looking for introduction messages, and trying those again that were put off.
    Introductions,
    /// Writing which receipts the counterpart holds.
    Held,
    /// Comparing what was sent with what is held.
    Reconcile,
    /// Asking for more of what is wanted back.
    Recalls,
    /// One delivery.
    Delivery(EnvelopeId),
}

/// Deadlines, each timer at most once.
#[derive(Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Time, Timer)>,
    set: HashMap<Timer, Time>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        self.clear(timer);
        self.set.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.set.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.set.contains_key(&timer)
    }

    fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

/// The actor.
pub(in crate::exchange) struct PeerActor {
    context: Arc<Context>,
    id: AgreementId,
    entity: EntityId,
    inbox: mpsc::Receiver<Command>,
    own_inbox: mpsc::Sender<Command>,
    shown: Arc<Mutex<Shown>>,
    shared: Arc<Shared>,
    meter: Arc<SendMeter>,
    limits: Arc<PeerLimits>,
    timers: Timers,
    tasks: JoinSet<()>,
    dialing: Dialing,
    lane_count: LaneCount,
    live: Option<Live>,
    pace: Pace,
    /// Whether the agreement was in force when it was last looked at.
    footing: Option<Footing>,
    sessions: u64,
    content_lanes: ContentLanes,
    /// Envelopes that have not ended.
    deliveries: HashMap<EnvelopeId, Delivery>,
    /// Those that wait for a place, in the order in which they go; early offers among them.
    waiting: Line,
    /// Those that were given a place in this session and have not ended.
    tried: HashSet<EnvelopeId>,
    sending: HashMap<EnvelopeId, Sending>,
    early: EarlyOffers,
    receiving: HashMap<EnvelopeId, Receiving>,
    pulling: Pulling,
    standstill: Standstill,
    known: Known,
    seeking: Seeking,
    terms: Terms,
    /// When the counterpart is due the next head of the log, and when it last asked for one.
    head_due: Option<Time>,
    head_asked: Option<Time>,
    asking: Asking,
    passing: Passing,
    owed: Owed,
    questions: Questions,
    reconciling: Reconciling,
    recalls: Recalls,
    /// Why the last record of a delivery that could not be kept was not.
    unkept: Option<MailError>,
}

/// When no timer is set, the actor looks around this often: agreements start and end by date.
const LOOK_AROUND: Duration = Duration::from_secs(20);

impl PeerActor {
    pub(in crate::exchange) fn new(
        context: Arc<Context>,
        agreement: &Agreement,
        (own_inbox, inbox): (mpsc::Sender<Command>, mpsc::Receiver<Command>),
        shown: Arc<Mutex<Shown>>,
    ) -> PeerActor {
        let lane_count = LaneCount::new(context.settings.bulk_lanes, BULK_LANES_MAX);
        let limits = PeerLimits::new(context.limits.clone());
        let memory = |node: &Arc<NodeMemory>| PeerMemory::new(node.clone());
        let shared = Arc::new(Shared::new(memory(&context.memory), memory(&context.leaving)));
        PeerActor {
            id: agreement.id,
            entity: agreement.counterpart().entity,
            context,
            inbox,
            own_inbox,
            shown,
            shared,
            meter: Arc::default(),
            limits,
            timers: Timers::default(),
            tasks: JoinSet::new(),
            dialing: Dialing::default(),
            lane_count,
            live: None,
            pace: Pace::new(now()),
            footing: None,
            sessions: 0,
            content_lanes: ContentLanes::default(),
            deliveries: HashMap::new(),
            waiting: Line::default(),
            tried: HashSet::new(),
            sending: HashMap::new(),
            early: EarlyOffers::default(),
            receiving: HashMap::new(),
            pulling: Pulling::default(),
            standstill: Standstill::default(),
            known: Known::default(),
            seeking: Seeking::default(),
            terms: Terms::default(),
            head_due: None,
            head_asked: None,
            asking: Asking::default(),
            passing: Passing::default(),
            owed: Owed::default(),
            questions: Questions::default(),
            reconciling: Reconciling::default(),
            recalls: Recalls::default(),
            unkept: None,
        }
    }

    /// What the bulk lanes to this counterpart carry.
    pub(in crate::exchange) fn meter(&self) -> Arc<SendMeter> {
        self.meter.clone()
    }

    /// Runs until the node stops.
    pub(in crate::exchange) async fn run(mut self) {
        let stop = self.context.stop.clone();
        self.load_rates();
        self.load_deliveries().await;
        self.load_early().await;
        self.load_reconciliation();
        self.timers.set(Timer::Dial, now());
        self.timers.set(Timer::Stale, now() + STALE_FIRST);
        loop {
            let wait = self.timers.next().map_or(LOOK_AROUND, |at| at.since(now()).min(LOOK_AROUND));
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.inbox.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => break,
                },
                () = drain(&mut self.live) => self.name_more_objects().await,
                () = tokio::time::sleep(wait) => {}
                Some(_) = self.tasks.join_next() => {}
            }
            self.handle_timers().await;
        }
        self.stop().await;
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Lane(lane) if lane.kind == LaneKind::Control => self.take_control(lane).await,
            Command::Lane(lane) => self.take_content_lane(lane),
            Command::DialFailed(kind, error) => self.handle_dial_failed(kind, error),
            Command::Frame { session, message } => self.handle_frame(session, message).await,
            Command::LaneLost { session } => self.handle_lost(session, "the connection was lost").await,
            Command::ContentLaneEnded(lane) => self.handle_content_lane_ended(lane),
            Command::Held { envelope, ids } => self.handle_held(envelope, ids).await,
            Command::PullFailed { envelope, full } => self.handle_pull_failed(envelope, full).await,
            Command::Opened { envelope, content } => self.handle_opened(envelope, *content).await,
            Command::Expect(kind) if self.is_live() => self.want_lanes(kind),
            Command::Expect(_) => {}
            Command::Early(offer) => self.handle_early(*offer).await,
            Command::EarlyObjects(envelope) => self.handle_early_objects(envelope).await,
            Command::EarlyEnded(envelope) => self.handle_early_ended(envelope).await,
            Command::Submitted(envelope) => self.handle_submitted(envelope).await,
            Command::AgreementChanged => self.handle_agreement_changed().await,
            Command::RosterChanged => self.handle_roster_changed().await,
            Command::AddressesChanged => {
                self.tell_addresses().await;
                self.plan_deposits();
            }
            Command::AddressesFound { hint } => self.handle_addresses_found(hint),
            Command::Seek(lost) => self.seek(lost),
            Command::Transmit(message) if self.is_live() => self.transmit(*message),
            Command::Transmit(_) => {}
            Command::GrantsChanged => self.tell_grant().await,
            Command::IdentityChanged { again } => self.handle_identity_changed(again).await,
            Command::Ask { after, reply } => self.ask(after, reply),
            Command::ListingChanged => self.hand_in_listing().await,
            Command::Introductions => self.send_introductions(),
            Command::Owed => self.handle_owed().await,
            Command::Reconcile => {
                self.reconcile_now().await;
                if self.is_live() {
                    self.transmit(WantReconcile.into());
                }
            }
            Command::Recall(envelope, reply) => self.handle_recall(envelope, reply).await,
        }
    }

    async fn handle_timers(&mut self) {
        self.enforce_terms().await;
        self.attest_changes().await;
        self.give_head().await;
        while let Some(timer) = self.timers.pop_due(now()) {
            match timer {
                Timer::Session => self.tick_session().await,
                Timer::Dial => self.dial_control(),
                Timer::Idle => self.close_idle_lanes(),
                Timer::Stale => self.forget_stale().await,
                Timer::Lanes => self.want_missing_lanes(),
                Timer::Gate => self.fill_places().await,
                // What it is for was looked at above.
                Timer::Terms => {}
                Timer::Adapt => self.adapt_lanes(),
                Timer::Standstill => self.look_for_standstill().await,
                Timer::Deposits => self.offer_deposits(),
                Timer::Seek => self.send_seek(),
                Timer::Introductions => self.send_introductions_again(),
                Timer::Held => self.tick_owed().await,
                Timer::Reconcile => self.tick_reconciling().await,
                Timer::Recalls => self.send_recalls().await,
                Timer::Delivery(envelope) => self.tick_delivery(envelope).await,
            }
        }
    }

    /// The agreement as it is now; it never disappears.
    fn agreement(&self) -> Option<Arc<Agreement>> {
        self.context.book.get(&self.id)
    }

    /// Whether envelopes may be offered now.
    fn is_live(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.machine.is_live())
    }

    /// Ends all content at once: its lanes, and whatever was to be pulled or served.
    fn end_content(&mut self) {
        self.end_content_lanes();
        self.standstill.rest();
        // Lanes that are still ending keep the old one, so that nothing of theirs reaches a later session.
        self.shared = Arc::new(Shared::new(self.shared.memory.clone(), self.shared.leaving.clone()));
        self.forget_receiving();
    }

    async fn stop(mut self) {
        self.write_held().await;
        self.content_lanes.abort_all();
        if let Some(live) = self.live.take() {
            let _ = tokio::time::timeout(Duration::from_secs(2), live.lane.finish()).await;
        }
        self.tasks.shutdown().await;
        let mut shown = lock(&self.shown);
        shown.online = false;
        shown.lanes.clear();
    }
}

/// Moves the session's backlog; pending for ever without one.
async fn drain(live: &mut Option<Live>) {
    match live {
        Some(live) => live.lane.drain().await,
        None => std::future::pending().await,
    }
}
