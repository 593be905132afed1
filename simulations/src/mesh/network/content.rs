//! Content on its way: each node's line carries so many bytes in a second in each direction, shared by all that goes over
//! it, the urgent first.
//!
//! Objects travel in batches of about two seconds, so that a study costs a few events and others take their turns between.

use std::collections::BTreeMap;

use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::envelope::Priority;

use super::{Network, Side};
use crate::mesh::clock::{Micros, SECOND};
use crate::mesh::event::{Due, Plans};

/// How long a batch takes on an idle line.
const BATCH: Micros = 2 * SECOND;
/// Bytes of a batch, at least, where no loss makes it slow.
const BATCH_BYTES_MIN: u64 = 4 << 20;
/// Bytes of a TCP segment, for what loss leaves of the rate.
const SEGMENT_BYTES: f64 = 1_448.0;
/// Lanes that share one flow's loss.
const LANES: f64 = 4.0;

/// Until when a node's line is taken, by direction and priority.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Port {
    busy: [[Micros; 3]; 2],
}

const UP: usize = 0;
const DOWN: usize = 1;

/// Content of one envelope that is being pulled.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) link: u32,
    pub(crate) lane: u32,
    pub(crate) to: Side,
    pub(crate) envelope: EnvelopeId,
    priority: Priority,
    entries: std::vec::IntoIter<ObjectEntry>,
    batch: Vec<ObjectEntry>,
    /// Its batch is under way.
    is_planned: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flows {
    by_number: BTreeMap<u64, Flow>,
    next: u64,
}

/// A batch that has come.
pub(crate) struct Batch {
    pub(crate) link: u32,
    pub(crate) lane: u32,
    pub(crate) to: Side,
    pub(crate) envelope: EnvelopeId,
    pub(crate) ids: Vec<ObjectId>,
}

impl Network {
    /// Pulls content over a lane, to the end `to`; `connects` where its content lanes must come up first.
    pub(crate) fn pull(
        &mut self,
        (link, lane, to): (u32, u32, Side),
        (envelope, priority): (EnvelopeId, Priority),
        entries: Vec<ObjectEntry>,
        connects: bool,
        plans: &mut Plans,
    ) {
        let number = self.flows.next;
        self.flows.next += 1;
        let flow = Flow {
            link,
            lane,
            to,
            envelope,
            priority,
            entries: entries.into_iter(),
            batch: Vec::new(),
            is_planned: false,
        };
        self.flows.by_number.insert(number, flow);
        self.links[link as usize].flows.push(number);
        let asks = self.round_trip(link) * if connects { 6 } else { 1 } / 2;
        self.next_batch(number, asks, plans);
    }

    /// Plans the next batch of a flow; one whose line is blocked waits.
    fn next_batch(&mut self, number: u64, after: Micros, plans: &mut Plans) {
        let waits = self.flows.by_number.get(&number).filter(|flow| !flow.is_planned);
        let Some(link) = waits.map(|flow| flow.link) else { return };
        let (loss, half) = (self.quality(link).loss_percent, self.round_trip(link) / 2);
        let rate = self.rate(loss, 2 * half);
        let line = self.rate(0.0, 0);
        let least = if rate < line { 0 } else { BATCH_BYTES_MIN };
        let batch_bytes = least.max((rate * BATCH as f64 / SECOND as f64) as u64);
        let Some(flow) = self.flows.by_number.get_mut(&number) else { return };
        let mut bytes: u64 = flow.batch.iter().map(|entry| u64::from(entry.bytes)).sum();
        while bytes < batch_bytes
            && let Some(entry) = flow.entries.next()
        {
            bytes += u64::from(entry.bytes);
            flow.batch.push(entry);
        }
        let (to, priority, is_over) = (flow.to, flow.priority, flow.batch.is_empty());
        if is_over {
            return self.drop_flow(number);
        }
        let nodes = self.links[link as usize].nodes;
        if self.is_blocked(link) {
            return;
        }
        let at = |rate: f64| (bytes as f64 / rate * SECOND as f64) as Micros;
        // What loss holds back leaves room to others.
        let (takes, occupies) = (at(rate), at(line));
        let (up, down) = (nodes[1 - to], nodes[to]);
        let urgent = priority as usize;
        let free = |port: &Port, way: usize| port.busy[way][..=urgent].iter().copied().max().unwrap_or(0);
        let starts = (plans.now() + after).max(free(&self.ports[up], UP)).max(free(&self.ports[down], DOWN));
        for (node, way) in [(up, UP), (down, DOWN)] {
            for (class, busy) in self.ports[node].busy[way].iter_mut().enumerate() {
                if class >= urgent {
                    *busy = (*busy).max(starts) + occupies;
                }
            }
        }
        if let Some(flow) = self.flows.by_number.get_mut(&number) {
            flow.is_planned = true;
        }
        plans.plan(starts + takes + half, Due::Batch { flow: number });
    }

    /// Bytes in a second that loss and distance leave of the line.
    fn rate(&self, loss_percent: f64, round_trip: Micros) -> f64 {
        let line = (self.line.rate_mbit * 125_000.0).max(1_000.0);
        if loss_percent <= 0.0 {
            return line;
        }
        // Mathis et al. 1997: the rate of TCP under random loss.
        let seconds = (round_trip.max(1_000)) as f64 / SECOND as f64;
        let each = 1.22 * SEGMENT_BYTES / (seconds * (loss_percent / 100.0).sqrt());
        line.min(LANES * each).max(1_000.0)
    }

    /// A batch has come to its end, if its lane still lives; the next one follows.
    pub(crate) fn take_batch(&mut self, number: u64, plans: &mut Plans) -> Option<Batch> {
        let flow = self.flows.by_number.get_mut(&number)?;
        let (link, lane, to, envelope) = (flow.link, flow.lane, flow.to, flow.envelope);
        flow.is_planned = false;
        let batch = std::mem::take(&mut flow.batch);
        if self.is_blocked(link) {
            // It was under way when the line went: it comes again.
            self.flows.by_number.get_mut(&number)?.batch = batch;
            return None;
        }
        let bytes: u64 = batch.iter().map(|entry| u64::from(entry.bytes)).sum();
        self.bytes += bytes;
        self.links[link as usize].bytes += bytes;
        self.next_batch(number, 0, plans);
        Some(Batch { link, lane, to, envelope, ids: batch.into_iter().map(|entry| entry.id).collect() })
    }

    pub(super) fn resume_flows(&mut self, link: u32, at: Micros, plans: &mut Plans) {
        if self.is_blocked(link) {
            return;
        }
        let wait = at.saturating_sub(plans.now());
        for number in self.links[link as usize].flows.clone() {
            self.next_batch(number, wait, plans);
        }
    }

    /// Nothing is pulled over this lane any more by this end, or nothing of this envelope.
    pub(crate) fn stop_pulling(&mut self, link: u32, to: Side, envelope: Option<&EnvelopeId>) {
        let flows = &self.flows.by_number;
        let is_meant = |number: &u64| {
            flows.get(number).is_none_or(|flow| flow.to == to && envelope.is_none_or(|only| *only == flow.envelope))
        };
        let stopped: Vec<u64> = self.links[link as usize].flows.iter().copied().filter(is_meant).collect();
        stopped.into_iter().for_each(|number| self.drop_flow(number));
    }

    fn drop_flow(&mut self, number: u64) {
        if let Some(flow) = self.flows.by_number.remove(&number) {
            self.links[flow.link as usize].flows.retain(|other| *other != number);
        }
    }

    /// Whether content is on its way anywhere.
    pub(crate) fn carries_content(&self) -> bool {
        !self.flows.by_number.is_empty()
    }
}
