//! What happens in a run, as a hash over all of it and as events for whoever looks on.

use std::time::Duration;

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::Message;

use super::clock::Micros;
use super::node::parts_of;
use super::suite::wire_bytes;
use crate::outcome::{Event, Record, What};

/// The hash, and what was not told yet.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    /// Whether frames and commits are told one by one.
    details: bool,
    pub(crate) events: Vec<Event>,
    now: Micros,
    pub(crate) steps: u64,
    pub(crate) online: u64,
}

impl Trace {
    pub(crate) fn new(details: bool) -> Trace {
        let hasher = blake3::Hasher::new_derive_key("pakt simulated events v1");
        Trace { hasher, details, events: Vec::new(), now: 0, steps: 0, online: 0 }
    }

    /// Something that was planned happens.
    pub(crate) fn step(&mut self, now: Micros) {
        self.now = now;
        self.steps += 1;
    }

    fn note(&mut self, kind: u8, numbers: [u64; 4], envelope: Option<EnvelopeId>) {
        let mut bytes = [0; 57];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&self.now.to_be_bytes());
        for (at, number) in numbers.iter().enumerate() {
            bytes[9 + 8 * at..17 + 8 * at].copy_from_slice(&number.to_be_bytes());
        }
        bytes[41..].copy_from_slice(&envelope.map_or([0; 16], |envelope| envelope.0));
        self.hasher.update(&bytes);
    }

    fn tell(&mut self, node: usize, what: What) {
        self.events.push(Event { at: Duration::from_micros(self.now), node, what });
    }

    pub(crate) fn sent(&mut self, (from, to): (usize, usize), message: &Message, leaves_at: Micros) {
        let (name, bytes) = (name_of(message), wire_bytes(message));
        let kind = u64::from(name.as_bytes()[0]) << 8 | name.len() as u64;
        self.note(1, [from as u64, to as u64, leaves_at, kind << 32 | bytes], message.envelope());
        if self.details {
            let (lane, frame) = ("control".to_owned(), name.to_owned());
            self.tell(from, What::Sent { peer: to, lane, frame, bytes });
        }
    }

    pub(crate) fn persisted(&mut self, node: usize, number: u64, what: &str, now: Micros) {
        self.note(2, [node as u64, number, now, what.len() as u64], None);
        if self.details {
            self.tell(node, What::Persisted { number, what: what.to_owned() });
        }
    }

    pub(crate) fn lane(&mut self, node: usize, peer: usize, up: bool) {
        self.online = self.online.saturating_add_signed(if up { 1 } else { -1 });
        self.note(3, [node as u64, peer as u64, up.into(), 0], None);
        self.tell(node, What::Lane { peer, up });
    }

    pub(crate) fn closed(&mut self, node: usize, peer: usize, why: &str) {
        self.note(4, [node as u64, peer as u64, why.len() as u64, 0], None);
    }

    pub(crate) fn started(&mut self, node: usize) {
        self.note(5, [node as u64, 0, 0, 0], None);
        self.tell(node, What::Started);
    }

    pub(crate) fn stopped(&mut self, node: usize) {
        self.note(6, [node as u64, 0, 0, 0], None);
        self.tell(node, What::Stopped);
    }

    pub(crate) fn fault(&mut self, number: usize, fault: &crate::scenario::Fault, begins: bool) {
        let node = fault.what.node().or(fault.what.pair().map(|(a, _)| a)).unwrap_or(0);
        self.note(7, [number as u64, begins.into(), node as u64, 0], None);
        let fault = fault.clone();
        self.tell(node, if begins { What::FaultBegan { fault } } else { What::FaultEnded { fault } });
    }

    /// An envelope reached a state at one of its parties.
    pub(crate) fn record(&mut self, node: usize, from: usize, envelope: &EnvelopeId, record: Record) {
        let (submission, to) = parts_of(envelope);
        self.note(8, [node as u64, from as u64, 0, 0], Some(*envelope));
        self.tell(node, What::Record { submission, from, to, record });
    }

    /// The hash so far, hex.
    pub(crate) fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

/// The kind of a message as the protocol calls it.
pub(crate) fn name_of(message: &Message) -> &'static str {
    match message {
        Message::Heartbeat(_) => "heartbeat",
        Message::Roster(_) => "roster",
        Message::Statement(_) => "statement",
        Message::WantStatements(_) => "want-statements",
        Message::Offer(_) => "offer",
        Message::Answer(_) => "answer",
        Message::Announce(_) => "announce",
        Message::Progress(_) => "progress",
        Message::Ready(_) => "ready",
        Message::Envelope(_) => "envelope",
        Message::EpochGone(_) => "epoch-gone",
        Message::Receipt(_) => "receipt",
        Message::ReceiptHeld(_) => "receipt-held",
        Message::AskEnded(_) => "ask-ended",
        Message::Withdraw(_) => "withdraw",
        Message::Withdrawn(_) => "withdrawn",
        Message::Reconcile(_) => "reconcile",
        Message::Reconciled(_) => "reconciled",
        Message::ReconcileGap(_) => "reconcile-gap",
        Message::WantReconcile(_) => "want-reconcile",
        Message::Recall(_) => "recall",
        Message::PurgedBefore(_) => "purged-before",
        Message::Restored(_) => "restored",
        Message::RestoredKnown(_) => "restored-known",
        _ => "other",
    }
}
