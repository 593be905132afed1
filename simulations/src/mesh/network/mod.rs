//! The lines between nodes: lanes that keep their order, faults that befall them, and content that takes its time.
//!
//! ```text
//! dial --round trips--> lane: an end at each node --close, crash--> the other end hears of it, or of nothing
//! frame --half a round trip, more where packets are lost--> arrives behind those before it
//!       --line is blocked--> held; sent again a while after the line is free, if the ends still live then
//! ```
//! A lane that is well creates no events: what keeps it alive is made good at the moment when it falls ill
//! ([`Network::is_ill`]).
//!
//! **Invariant:** a frame arrives only at the lane that it left on, only if its sender lived when it left.

pub(crate) mod content;

use std::time::Duration;

use pakt_protocol::message::Message;

use super::clock::{Micros, SECOND, micros};
use super::event::{Due, Plans};
use super::suite::wire_bytes;
use crate::scenario::Line;
use content::{Flows, Port};

/// One of the two ends of a link, 0 or 1; also the direction that begins there.
pub(crate) type Side = usize;

/// A dial that is not answered is given up after so long.
const DIAL_MAX: Micros = 10 * SECOND;
/// The first retransmission of a lost packet, at the earliest.
const RETRANSMIT_FIRST: Micros = 200_000;
/// A packet that is lost so often in a row waits for the next heart-beat's luck.
const RETRANSMITS_MAX: u32 = 7;
/// What waited out a blocked line follows at the latest so long after it is free.
const RESUME_MAX: Micros = 20 * SECOND;
/// From so much loss on lanes may fall silent.
const ILL_LOSS_PERCENT: f64 = 20.0;
/// And from so much delay on.
const ILL_DELAY: Duration = Duration::from_secs(10);

/// How a line is worse than it should be.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Quality {
    pub(crate) loss_percent: f64,
    pub(crate) delay: Duration,
    pub(crate) reorder_percent: f64,
    pub(crate) duplicate_percent: f64,
}

/// A connection between two nodes, as TCP sees it.
#[derive(Debug)]
struct Lane {
    number: u32,
    open: [bool; 2],
    /// What an end would have sent later never left.
    dead_at: [Micros; 2],
    /// When the newest frame of each direction arrives.
    arrives: [Micros; 2],
    held: [Vec<Flight>; 2],
}

/// Two nodes with an agreement.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) nodes: [usize; 2],
    /// The place of each end's counterpart in its node.
    pub(crate) slots: [u32; 2],
    lanes: Vec<Lane>,
    next_lane: u32,
    blocked: [u16; 2],
    faults: Vec<(usize, Quality)>,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    pub(crate) flows: Vec<u64>,
}

/// A frame on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) link: u32,
    pub(crate) lane: u32,
    pub(crate) from: Side,
    pub(crate) leaves_at: Micros,
    pub(crate) message: Message,
}

/// All lines.
pub(crate) struct Network {
    pub(crate) links: Vec<Link>,
    line: Line,
    chance: fastrand::Rng,
    ports: Vec<Port>,
    flows: Flows,
    pub(crate) bytes: u64,
}

impl Network {
    pub(crate) fn new(nodes: usize, line: Line, chance: fastrand::Rng) -> Network {
        let ports = (0..nodes).map(|_| Port::default()).collect();
        Network { links: Vec::new(), line, chance, ports, flows: Flows::default(), bytes: 0 }
    }

    /// Lays a line; gives its number.
    pub(crate) fn add_link(&mut self, nodes: [usize; 2], slots: [u32; 2]) -> u32 {
        let link = Link {
            nodes,
            slots,
            lanes: Vec::new(),
            next_lane: 0,
            blocked: [0; 2],
            faults: Vec::new(),
            bytes: 0,
            messages: 0,
            flows: Vec::new(),
        };
        self.links.push(link);
        u32::try_from(self.links.len() - 1).unwrap_or(u32::MAX)
    }

    /// An envelope was delivered over this line.
    pub(crate) fn count_message(&mut self, link: u32) {
        self.link(link).messages += 1;
    }

    fn link(&mut self, link: u32) -> &mut Link {
        &mut self.links[link as usize]
    }

    /// A round trip on this line as it is now.
    fn round_trip(&self, link: u32) -> Micros {
        micros(self.line.delay) + micros(self.quality(link).delay)
    }

    fn quality(&self, link: u32) -> Quality {
        let mut all = Quality { loss_percent: self.line.loss_percent, ..Quality::default() };
        for (_, quality) in &self.links[link as usize].faults {
            all.loss_percent = (all.loss_percent + quality.loss_percent).min(100.0);
            all.delay += quality.delay;
            all.reorder_percent = (all.reorder_percent + quality.reorder_percent).min(100.0);
            all.duplicate_percent = (all.duplicate_percent + quality.duplicate_percent).min(100.0);
        }
        all
    }

    fn happens(&mut self, percent: f64) -> bool {
        percent > 0.0 && self.chance.f64() * 100.0 < percent
    }

    /// What lost packets add to a journey.
    fn lost_time(&mut self, link: u32) -> Micros {
        let loss = self.quality(link).loss_percent;
        let first = RETRANSMIT_FIRST.max(2 * self.round_trip(link));
        let mut lost = 0;
        for attempt in 0..RETRANSMITS_MAX {
            if !self.happens(loss) {
                return lost;
            }
            lost += first << attempt;
        }
        lost
    }

    // ------------------------------------------------------------------------------------------------------- dialling

    /// Dials from one end; what comes of it is planned.
    pub(crate) fn dial(&mut self, link: u32, from: Side, incarnation: u32, plans: &mut Plans) {
        let now = plans.now();
        if self.is_blocked(link) {
            return plans.plan(now + DIAL_MAX, Due::DialFailed { link, from, incarnation });
        }
        let knocks_at = now + self.round_trip(link) / 2 + self.lost_time(link);
        plans.plan(knocks_at, Due::Knock { link, from, incarnation });
    }

    /// The other end is there and opens: the lane comes up at both ends after the handshakes.
    pub(crate) fn open(&mut self, link: u32, from: Side, incarnation: u32, plans: &mut Plans) {
        let now = plans.now();
        if self.is_blocked(link) {
            return plans.plan(now + DIAL_MAX, Due::DialFailed { link, from, incarnation });
        }
        let (half, lost) = (self.round_trip(link) / 2, self.lost_time(link));
        let at = self.link(link);
        let number = at.next_lane;
        at.next_lane += 1;
        let lane = Lane {
            number,
            open: [true; 2],
            dead_at: [Micros::MAX; 2],
            arrives: [now; 2],
            held: [Vec::new(), Vec::new()],
        };
        at.lanes.push(lane);
        // TCP, then door and TLS, then the first frames.
        plans.plan(now + 4 * half + lost, Due::LaneUp { link, lane: number, side: 1 - from, dialer: from });
        plans.plan(now + 5 * half + lost, Due::LaneUp { link, lane: number, side: from, dialer: from });
    }

    /// Nobody opens: a machine that runs says so at once, a door or a dead machine says nothing.
    pub(crate) fn refuse(&mut self, link: u32, from: Side, incarnation: u32, is_silent: bool, plans: &mut Plans) {
        let wait = if is_silent { DIAL_MAX } else { self.round_trip(link) / 2 };
        let at = plans.now() + wait;
        plans.plan(at, Due::DialFailed { link, from, incarnation });
    }

    // --------------------------------------------------------------------------------------------------------- frames

    /// Whether this end of a lane is open.
    pub(crate) fn is_open(&self, link: u32, lane: u32, side: Side) -> bool {
        self.links[link as usize].lanes.iter().any(|open| open.number == lane && open.open[side])
    }

    /// Sends a frame that leaves at `leaves_at`, which is now or later.
    pub(crate) fn send(&mut self, flight: Flight, plans: &mut Plans) {
        let bytes = wire_bytes(&flight.message);
        self.bytes += bytes;
        self.link(flight.link).bytes += bytes;
        let quality = self.quality(flight.link);
        if self.happens(quality.duplicate_percent) {
            let again = Flight { message: flight.message.clone(), ..flight };
            self.carry(again, quality, plans);
        }
        self.carry(flight, quality, plans);
    }

    fn carry(&mut self, flight: Flight, quality: Quality, plans: &mut Plans) {
        let half = self.round_trip(flight.link) / 2;
        let jitter = self.chance.u64(0..=half / 10);
        let arrives_at = flight.leaves_at.max(plans.now()) + half + jitter + self.lost_time(flight.link);
        let is_late = self.happens(quality.reorder_percent);
        let late_by = self.chance.u64(0..=4 * half + 1);
        let (number, from) = (flight.lane, flight.from);
        let link = self.link(flight.link);
        let is_blocked = link.blocked[from] > 0;
        let Some(lane) = link.lanes.iter_mut().find(|lane| lane.number == number) else { return };
        if is_blocked {
            return lane.held[from].push(flight);
        }
        let at = if is_late { arrives_at + late_by } else { arrives_at.max(lane.arrives[from] + 1) };
        if !is_late {
            lane.arrives[from] = at;
        }
        plans.plan(at, Due::Arrive(Box::new(flight)));
    }

    /// Whether a frame that has come to its end is heard there.
    pub(crate) fn is_heard(&self, flight: &Flight) -> bool {
        let lane = self.links[flight.link as usize].lanes.iter().find(|lane| lane.number == flight.lane);
        lane.is_some_and(|lane| lane.open[1 - flight.from] && flight.leaves_at <= lane.dead_at[flight.from])
    }

    /// An end of a lane closes, after everything that has left by `after`; the other end hears of it behind that, if
    /// anything comes through.
    pub(crate) fn close(&mut self, (link, number, side): (u32, u32, Side), after: Micros, plans: &mut Plans) {
        self.end(link, number, side, after);
        self.tell_closed(link, number, side, after, plans);
    }

    fn tell_closed(&mut self, link: u32, number: u32, side: Side, after: Micros, plans: &mut Plans) {
        let half = self.round_trip(link) / 2;
        let at = self.link(link);
        if at.blocked[side] > 0 {
            return;
        }
        let Some(lane) = at.lanes.iter().find(|lane| lane.number == number && lane.open[1 - side]) else { return };
        let hears_at = (after + half).max(lane.arrives[side]) + 1;
        plans.plan(hears_at, Due::LaneGone { link, lane: number, side: 1 - side });
    }

    /// An end of a lane is gone, and nobody is told.
    pub(crate) fn end(&mut self, link: u32, number: u32, side: Side, at: Micros) {
        let link = self.link(link);
        if let Some(lane) = link.lanes.iter_mut().find(|lane| lane.number == number) {
            lane.open[side] = false;
            lane.dead_at[side] = lane.dead_at[side].min(at);
            lane.held[1 - side] = Vec::new();
        }
        link.lanes.retain(|lane| lane.open != [false; 2]);
    }

    /// Every lane of a link is cut: both ends hear of it.
    pub(crate) fn cut(&mut self, link: u32, plans: &mut Plans) {
        let at = plans.now() + self.round_trip(link);
        for side in 0..2 {
            for lane in self.open_lanes(link, side) {
                plans.plan(at, Due::LaneGone { link, lane, side });
            }
        }
    }

    /// The machine at this end dies: all its lanes end; the other ends are told only if its system still runs.
    pub(crate) fn kill(&mut self, link: u32, side: Side, is_silent: bool, plans: &mut Plans) {
        let (now, numbers) = (plans.now(), self.open_lanes(link, side));
        for number in numbers {
            if is_silent {
                self.end(link, number, side, now);
            } else {
                self.close((link, number, side), now, plans);
            }
        }
    }

    fn open_lanes(&self, link: u32, side: Side) -> Vec<u32> {
        let lanes = self.links[link as usize].lanes.iter();
        lanes.filter(|lane| lane.open[side]).map(|lane| lane.number).collect()
    }

    /// A machine that had died without a word runs again: whoever still speaks to it is told that it knows nothing.
    pub(crate) fn reset_stale(&mut self, link: u32, side: Side, plans: &mut Plans) {
        let now = plans.now();
        for number in self.open_lanes(link, 1 - side) {
            self.tell_closed(link, number, side, now, plans);
        }
    }

    // --------------------------------------------------------------------------------------------------------- faults

    pub(crate) fn is_blocked(&self, link: u32) -> bool {
        self.links[link as usize].blocked != [0; 2]
    }

    /// Whether this lane could fall silent, so that its ends must look at their clocks.
    pub(crate) fn is_ill(&self, link: u32, number: u32) -> bool {
        let quality = self.quality(link);
        let half_open = |lane: &Lane| lane.number == number && lane.open != [true; 2];
        self.is_blocked(link)
            || quality.loss_percent >= ILL_LOSS_PERCENT
            || quality.delay >= ILL_DELAY
            || self.links[link as usize].lanes.iter().any(half_open)
    }

    /// Nothing goes in this direction, for one reason more.
    pub(crate) fn block(&mut self, link: u32, direction: Side) {
        self.link(link).blocked[direction] += 1;
    }

    /// One reason less; what was held follows when the sender's system tries again.
    pub(crate) fn unblock(&mut self, link: u32, direction: Side, plans: &mut Plans) {
        let at = self.link(link);
        at.blocked[direction] = at.blocked[direction].saturating_sub(1);
        if at.blocked[direction] > 0 {
            return;
        }
        let wait = self.chance.u64(0..=RESUME_MAX);
        let now = plans.now();
        let lanes = &mut self.link(link).lanes;
        let mut held = Vec::new();
        let mut gone = Vec::new();
        for lane in lanes.iter_mut() {
            lane.arrives[direction] = lane.arrives[direction].max(now + wait);
            held.extend(std::mem::take(&mut lane.held[direction]));
            if !lane.open[direction] && lane.open[1 - direction] {
                gone.push(lane.number);
            }
        }
        for flight in held {
            self.carry(flight, Quality::default(), plans);
        }
        for number in gone {
            self.tell_closed(link, number, direction, now + wait, plans);
        }
        self.resume_flows(link, now + wait, plans);
    }

    /// The line is worse from now on, for this reason.
    pub(crate) fn worsen(&mut self, link: u32, fault: usize, quality: Quality) {
        self.link(link).faults.push((fault, quality));
    }

    /// And not any more.
    pub(crate) fn mend(&mut self, link: u32, fault: usize) {
        self.link(link).faults.retain(|(reason, _)| *reason != fault);
    }
}
