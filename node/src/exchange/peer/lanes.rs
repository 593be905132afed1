//! Keeping connections up: who dials, when again, and how many lanes content gets.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pakt_protocol::dialing::Backoff;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::WantLanes;
use pakt_protocol::record::address::Address;
use pakt_protocol::time::Time;

use super::addresses::dial_in_turn;
use super::{Command, PeerActor, ShownLane, Timer, lock, now};
use crate::ambient;
use crate::book::{Agreement, Standing};
use crate::exchange::bulk;
use crate::exchange::relay::{self, Hop};
use crate::net::{DialError, DialTarget, Lane, LaneBytes, LaneKind};

/// Content lanes that carry nothing for so long are closed.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Bulk lanes to one counterpart at the most.
pub(super) const BULK_LANES_MAX: u8 = 8;
/// How often the number of bulk lanes is looked at while content waits for them.
const ADAPT_EVERY: Duration = Duration::from_millis(250);
/// Bulk lanes that a partner forwards: its line is shared, and its quota bounds connections.
const FORWARDED_LANES_MAX: u8 = 2;
/// A partner that may forward is looked for so often while none is online.
const LOOK_FOR_PARTNER: Duration = Duration::from_secs(5);
/// What stands for an address where partners were asked.
const FORWARDED: &str = "through a partner";
/// The dialer is asked again for lanes after so long.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The dialling of this counterpart.
#[derive(Default)]
pub(super) struct Dialing {
    control: bool,
    content: HashSet<(LaneKind, u8)>,
    backoff: Backoff,
    /// When lanes of a kind were dialled or asked for last.
    asked_at: HashMap<LaneKind, Time>,
    tasks: Vec<tokio::task::AbortHandle>,
    /// Where the counterpart may be, for the next attempt alone.
    hint: Vec<Address>,
}

impl Dialing {
    /// The next attempt knocks there too.
    pub(super) fn hint(&mut self, addresses: Vec<Address>) {
        self.hint = addresses;
    }

    /// Failures so far count no more.
    pub(super) fn start_over(&mut self) {
        self.backoff.start_over();
    }

    /// One dial of this kind is over, whichever it was.
    fn forget_one(&mut self, kind: LaneKind) {
        let over = self.content.iter().find(|(dialled, _)| *dialled == kind).copied();
        over.map(|slot| self.content.remove(&slot));
    }
}

/// Urgent and bulk lanes that are up.
#[derive(Default)]
pub(super) struct ContentLanes {
    lanes: HashMap<u64, ContentLane>,
    next: u64,
    ended_bytes: u64,
    ended_received: u64,
}

struct ContentLane {
    kind: LaneKind,
    bytes: Arc<LaneBytes>,
    remote: std::net::SocketAddr,
    via: Option<AgreementId>,
    dialer: bool,
    is_closing: bool,
    task: tokio::task::AbortHandle,
}

impl ContentLanes {
    pub(super) fn abort_all(&mut self) {
        self.lanes.values().for_each(|lane| lane.task.abort());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    fn count(&self, kind: LaneKind) -> usize {
        self.lanes.values().filter(|lane| lane.kind == kind).count()
    }

    /// Keeps what a lane has carried that is no longer among them.
    fn count_ended(&mut self, lane: &ContentLane) {
        self.ended_bytes += lane.bytes.sent() + lane.bytes.received();
        self.ended_received += lane.bytes.received();
    }

    /// TCP payload that content lanes have brought so far, ended ones included.
    fn received(&self) -> u64 {
        self.ended_received + self.lanes.values().map(|lane| lane.bytes.received()).sum::<u64>()
    }

    fn bulk(&self) -> impl Iterator<Item = (&u64, &ContentLane)> {
        self.lanes.iter().filter(|(_, lane)| lane.kind == LaneKind::Bulk)
    }

    /// TCP payload of all content lanes so far, ended ones included.
    pub(super) fn wire_bytes(&self) -> u64 {
        let up: u64 = self.lanes.values().map(|lane| lane.bytes.sent() + lane.bytes.received()).sum();
        self.ended_bytes + up
    }
}

impl PeerActor {
    /// Dials the control lane if there is a reason to, trying each address in turn.
    pub(super) fn dial_control(&mut self) {
        let Some(agreement) = self.agreement() else { return };
        if self.live.is_some() && !self.is_forwarded() || self.dialing.control {
            return;
        }
        lock(&self.shown).next_dial_at = None;
        if !agreement.view().dials(now(), || self.is_unsettled()) {
            self.explain_not_dialling(&agreement);
            return;
        }
        let hops = if self.asks_partners(&agreement) { self.hops() } else { vec![] };
        let hint = std::mem::take(&mut self.dialing.hint);
        if agreement.addresses.is_empty() && hint.is_empty() && hops.is_empty() {
            self.show_offline("the counterpart's card names no address: it must dial this node".to_owned());
            return self.look_for_partner(&agreement);
        }
        self.dialing.control = true;
        lock(&self.shown).next_dial_at = Some(ambient::now());
        let all = agreement.addresses.iter().chain(hint.iter().filter(|hint| !agreement.addresses.contains(hint)));
        let addresses = all.map(|address| address.as_str().to_owned()).collect();
        self.spawn_dial((LaneKind::Control, 0, agreement.terms.version), addresses, hops);
    }

    /// Whether partners are asked in this attempt: once a direct dial has failed, or where there is none to be made.
    fn asks_partners(&self, agreement: &Agreement) -> bool {
        let direct_failed = self.dialing.backoff.failures() > 0 || agreement.addresses.is_empty();
        direct_failed && self.live.is_none() && agreement.in_force(now())
    }

    /// Where only a partner could forward, and none is online, it is looked for again soon.
    fn look_for_partner(&mut self, agreement: &Agreement) {
        let could =
            self.context.book.all().iter().any(|one| one.id != self.id && one.terms.relay && one.in_force(now()));
        if could && agreement.in_force(now()) {
            self.timers.set(Timer::Dial, now() + LOOK_FOR_PARTNER);
        }
    }

    fn explain_not_dialling(&self, agreement: &Agreement) {
        let reason = match agreement.standing {
            Standing::Proposed => "the proposal has not been countersigned yet",
            Standing::Ended => "the agreement has ended",
            _ if agreement.frozen_at.is_some() => "the counterpart's certificates contradict each other",
            Standing::Active if agreement.unconfirmed => "the agreement came out of a backup and waits to be confirmed",
            Standing::Active if now() >= agreement.terms.valid_until => "the agreement has expired",
            Standing::Active => {
                "no door grant of the counterpart is held: it must dial this node, or mail its agreement file"
            }
        };
        self.show_offline(reason.to_owned());
    }

    fn spawn_dial(&mut self, what: (LaneKind, u8, u32), addresses: Vec<String>, hops: Vec<Hop>) {
        let Some(transport) = self.agreement().map(|agreement| agreement.node.transport.0) else { return };
        let (context, actor) = (self.context.clone(), self.own_inbox.clone());
        let (agreement, entity) = (self.id, self.entity);
        self.dialing.tasks.retain(|task| !task.is_finished());
        let task = self.tasks.spawn(async move {
            let targets = addresses.into_iter().map(|addr| DialTarget { agreement, entity, addr }).collect();
            let mut dialled = dial_in_turn(&context.net, targets, what).await;
            if dialled.is_err() && !hops.is_empty() {
                let target = DialTarget { agreement, entity, addr: String::new() };
                let reached = relay::reach(&context, hops, (target, transport), what).await;
                // Why the counterpart itself could not be dialled says more than that nobody forwards.
                let last = |error| dialled.err().flatten().or(Some((FORWARDED.to_owned(), error)));
                dialled = reached.map_err(last);
            }
            let told = match dialled {
                Ok(lane) => Command::Lane(lane),
                Err(last) => Command::DialFailed(what.0, last),
            };
            let _ = actor.send(told).await;
        });
        self.dialing.tasks.push(task);
    }

    /// Gives up every dial that is under way.
    pub(super) fn abort_dials(&mut self) {
        self.dialing.tasks.drain(..).for_each(|task| task.abort());
        self.dialing.control = false;
        self.dialing.content.clear();
    }

    pub(super) fn handle_dial_failed(&mut self, kind: LaneKind, failure: Option<(String, DialError)>) {
        if kind != LaneKind::Control {
            // Asked for again when the timer of the missing lanes comes.
            self.dialing.forget_one(kind);
            return;
        }
        self.dialing.control = false;
        if self.live.is_some() {
            return self.plan_direct_dial();
        }
        if let Some((addr, error)) = failure {
            tracing::debug!(agreement = %self.id, %error, "cannot dial");
            self.show_offline(format!("{addr}: {error}"));
        }
        let wait = self.dialing.backoff.failed(self.lost_for(), chance());
        self.note_lost(self.dialing.backoff.failures());
        self.plan_dial(wait);
    }

    /// Dials after `wait`, and says so.
    pub(super) fn plan_dial(&mut self, wait: Duration) {
        self.timers.set(Timer::Dial, now() + wait);
        lock(&self.shown).next_dial_at = Some(ambient::now() + wait);
    }

    /// A control lane is up: later failures start from the shortest wait again.
    pub(super) fn dialled(&mut self) {
        self.dialing.control = false;
        self.dialing.backoff.start_over();
        self.timers.clear(Timer::Dial);
        lock(&self.shown).next_dial_at = None;
    }

    /// Dials again after a session was lost that has `lasted` so long.
    pub(super) fn dial_again(&mut self, lasted: Duration) {
        let wait = self.dialing.backoff.lost(lasted, chance());
        self.plan_dial(wait);
    }

    /// Sees to it that content of this kind has its lanes: dials them, or asks the side that can.
    pub(super) fn want_lanes(&mut self, kind: LaneKind) {
        let count = if kind == LaneKind::Urgent { 1 } else { self.lane_count.lanes() };
        self.timers.set(Timer::Idle, now() + IDLE_MAX);
        self.timers.set(Timer::Lanes, now() + ASK_AGAIN);
        let asked = self.asked_lately(kind);
        let Some(live) = &mut self.live else { return };
        if live.dialer {
            self.dialing.asked_at.insert(kind, now());
            return self.open_lanes(kind, count);
        }
        if self.content_lanes.count(kind) < usize::from(count) && !asked {
            self.dialing.asked_at.insert(kind, now());
            live.lane.send(WantLanes { kind, count }.into());
        }
    }

    fn asked_lately(&self, kind: LaneKind) -> bool {
        self.dialing.asked_at.get(&kind).is_some_and(|at| now().since(*at) < ASK_AGAIN)
    }

    /// Asks again for lanes that content waits for: a dial may have failed, or the request for one met a lost lane.
    pub(super) fn want_missing_lanes(&mut self) {
        for kind in [LaneKind::Urgent, LaneKind::Bulk] {
            let sends = self.sending.values().any(|sending| sending.lane_kind() == kind);
            // While bulk fills the line the urgent lane is kept up: a handshake would have to wait in the line's queues.
            let warm = kind == LaneKind::Urgent && self.content_lanes.bulk().next().is_some();
            if (sends || warm) && self.content_lanes.count(kind) == 0 || self.shared.wants(kind) {
                self.want_lanes(kind);
            }
        }
    }

    /// Content waits to be pulled: from now on the number of bulk lanes is measured.
    pub(super) fn watch_lanes(&mut self) {
        if !self.timers.is_set(Timer::Adapt) {
            self.timers.set(Timer::Adapt, now() + ADAPT_EVERY);
        }
    }

    /// Tries more or fewer bulk lanes while there is a backlog, and keeps what carries more.
    pub(super) fn adapt_lanes(&mut self) {
        if !self.shared.wants(LaneKind::Bulk) {
            return self.lane_count.paused();
        }
        self.timers.set(Timer::Adapt, now() + ADAPT_EVERY);
        if self.is_receiving_urgent() {
            return self.lane_count.paused();
        }
        let (bytes, delay) = (self.content_lanes.received(), self.shared.delay().unwrap_or_default());
        let up = self.content_lanes.bulk().filter(|(_, lane)| !lane.is_closing).count();
        let changed = self.lane_count.observe(std::time::Instant::now(), bytes, up, delay);
        if let Some(lanes) = changed {
            tracing::debug!(agreement = %self.id, lanes, up, "another number of bulk lanes");
        }
        let wanted = usize::from(self.lane_count.lanes());
        if up > wanted {
            self.close_lanes(up - wanted);
        } else if up < wanted && (changed.is_some() || !self.asked_lately(LaneKind::Bulk)) {
            self.want_lanes(LaneKind::Bulk);
        }
    }

    /// Asks no more on the youngest lanes; each ends once nothing is on its way on it.
    fn close_lanes(&mut self, count: usize) {
        let open = self.content_lanes.bulk().filter(|(_, lane)| !lane.is_closing);
        let mut numbers: Vec<u64> = open.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        for number in numbers.into_iter().rev().take(count) {
            self.shared.close(number);
            if let Some(lane) = self.content_lanes.lanes.get_mut(&number) {
                lane.is_closing = true;
            }
        }
    }

    /// Dials what is missing of `count` lanes of a kind, at the address that the control lane reached.
    pub(super) fn open_lanes(&mut self, kind: LaneKind, count: u8) {
        let Some(agreement) = self.agreement() else { return };
        let Some(live) = &self.live else { return };
        if !live.dialer || kind == LaneKind::Control || !agreement.in_force(now()) {
            return;
        }
        let count = if kind == LaneKind::Urgent {
            1
        } else {
            count.min(self.context.settings.bulk_lanes.unwrap_or(BULK_LANES_MAX)).max(1)
        };
        let up = self.content_lanes.count(kind);
        let version = agreement.terms.version;
        let hops = live.via.map(|via| self.hop_via(&via)).unwrap_or_default();
        let count = if live.via.is_some() { count.min(FORWARDED_LANES_MAX) } else { count };
        let addresses: Vec<String> = match live.remote.port() {
            _ if live.via.is_some() => vec![],
            0 => agreement.addresses.iter().map(|address| address.as_str().to_owned()).collect(),
            _ => vec![live.remote.to_string()],
        };
        for slot in 0..count {
            let dialing = self.dialing.content.iter().filter(|(dialled, _)| *dialled == kind).count();
            if up + dialing >= usize::from(count) {
                return;
            }
            if self.dialing.content.insert((kind, slot)) {
                self.spawn_dial((kind, slot, version), addresses.clone(), hops.clone());
            }
        }
    }

    /// Takes a content lane into use.
    pub(super) fn take_content_lane(&mut self, lane: Lane) {
        if lane.dialer {
            self.dialing.forget_one(lane.kind);
        }
        let in_force = self.agreement().is_some_and(|agreement| agreement.in_force(now()));
        if self.live.is_none() || !in_force || !self.shows_current_keys(&lane) {
            return;
        }
        let number = self.content_lanes.next;
        self.content_lanes.next += 1;
        let around = bulk::Surroundings {
            number,
            kind: lane.kind,
            origin: self.entity,
            own: self.context.entity.id(),
            shared: self.shared.clone(),
            buffers: self.context.buffers.clone(),
            meter: self.meter.clone(),
            limits: self.limits.clone(),
            blobs: self.context.mailroom.blobs.clone(),
            actor: self.own_inbox.clone(),
        };
        let actor = self.own_inbox.clone();
        let (kind, bytes, remote) = (lane.kind, lane.bytes.clone(), lane.remote);
        let (via, dialer) = (lane.via, lane.dialer);
        let task = self.tasks.spawn(async move {
            bulk::drive(lane.io, around).await;
            let _ = actor.send(Command::ContentLaneEnded(number)).await;
        });
        self.content_lanes
            .lanes
            .insert(number, ContentLane { kind, bytes, remote, via, dialer, is_closing: false, task });
        self.show_lanes();
    }

    pub(super) fn handle_content_lane_ended(&mut self, number: u64) {
        if let Some(lane) = self.content_lanes.lanes.remove(&number) {
            self.content_lanes.count_ended(&lane);
            self.show_lanes();
            if self.shared.wants(lane.kind) {
                self.want_lanes(lane.kind);
            }
        }
    }

    pub(super) fn close_idle_lanes(&mut self) {
        if !self.sending.is_empty() || !self.receiving.is_empty() {
            self.timers.set(Timer::Idle, now() + IDLE_MAX);
            return;
        }
        self.end_content_lanes();
    }

    /// Ends all content lanes at once.
    pub(super) fn end_content_lanes(&mut self) {
        self.content_lanes.abort_all();
        for (_, lane) in std::mem::take(&mut self.content_lanes.lanes) {
            self.content_lanes.count_ended(&lane);
        }
        self.dialing.content.clear();
        self.dialing.asked_at.clear();
        self.timers.clear(Timer::Idle);
        self.timers.clear(Timer::Lanes);
        self.show_lanes();
    }

    pub(super) fn show_lanes(&self) {
        let control = self.live.iter().map(|live| ShownLane {
            kind: LaneKind::Control,
            remote: live.remote,
            via: live.via,
            dialer: live.dialer,
            bytes: live.bytes.clone(),
        });
        let content = self.content_lanes.lanes.values().map(|lane| ShownLane {
            kind: lane.kind,
            remote: lane.remote,
            via: lane.via,
            dialer: lane.dialer,
            bytes: lane.bytes.clone(),
        });
        lock(&self.shown).lanes = control.chain(content).collect();
    }

    pub(super) fn show_online(&self) {
        let mut shown = lock(&self.shown);
        shown.online = true;
        shown.since = Some(ambient::now());
        shown.reason = None;
        drop(shown);
        self.context.mailroom.changed();
    }

    pub(super) fn show_offline(&self, reason: String) {
        let mut shown = lock(&self.shown);
        if shown.online || shown.since.is_none() {
            shown.since = Some(ambient::now());
        }
        shown.online = false;
        shown.reason = Some(reason);
        drop(shown);
        self.context.mailroom.changed();
    }
}

fn chance() -> u8 {
    let [byte] = ambient::random::<1>();
    byte
}
