//! What the judge sees while a mesh runs: rows that are written or lost, frames that leave or arrive.

use std::collections::BTreeMap;

use pakt_keys::EntityId;
use pakt_protocol::delivery::{Reason, State};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::offer::Answer;
use pakt_protocol::message::{Message, ReceiptMessage, Statement};
use pakt_protocol::record::receipt::{Tier, Verdict};
use pakt_protocol::record::statement::{Action, Stated};

use super::Judge;
use crate::mesh::clock::{Micros, SECOND, micros};
use crate::mesh::disk::rows::{InboxRow, OutRow, Stage, Told};
use crate::mesh::disk::{Change, Disk, Key, Slot, Value};
use crate::mesh::node::parts_of;
use crate::mesh::suite::Suite;
use crate::outcome::Record;

/// Clocks may differ so much before anybody is wrong.
const CLOCK_GRACE: Micros = 2 * SECOND;

/// A frame that leaves.
pub(crate) struct Seen {
    /// Who sends it, and to whom.
    pub(crate) parties: (usize, usize),
    /// The recipient's place at the sender.
    pub(crate) slot: Slot,
    /// When it was decided, and when it leaves.
    pub(crate) at: Micros,
    pub(crate) leaves_at: Micros,
}

impl Judge {
    /// Rows are about to be written.
    pub(crate) fn commits(
        &mut self,
        (node, now, clock_off): (usize, Micros, std::time::Duration),
        changes: &[Change],
        disk: &Disk,
        _suite: &Suite,
    ) {
        for (key, value) in changes {
            match (key, value, disk.get(key)) {
                (Key::Report(envelope, _), Some(Value::Report(told)), _) => self.see_report(node, now, envelope, *told),
                (Key::Inbox(slot, envelope), Some(Value::Inbox(row)), before) => {
                    let before = match before {
                        Some(Value::Inbox(before)) => Some(before.stage),
                        _ => None,
                    };
                    if before.is_none() {
                        self.check_complete((node, *slot), now, envelope, disk);
                    }
                    self.see_inbox((node, *slot), now, envelope, row, before);
                }
                (Key::Round(slot), Some(Value::Round(row)), _) => self.check_round((node, *slot), now, row),
                (Key::Inbox(_, envelope), None, Some(_)) => self.see_purge(node, now, envelope),
                (Key::Settled(_, envelope), Some(Value::Settled(row)), Some(Value::Settled(before)))
                    if row.first != before.first =>
                {
                    self.find("two-receipts", now, format!("{envelope}: what was settled changed"), &[node]);
                }
                _ => {}
            }
        }
        // Last: a state may be written with the report that belongs to it.
        for (key, value) in changes {
            if let (Key::Out(envelope), Some(Value::Out(row)), Some(Value::Out(before))) = (key, value, disk.get(key)) {
                self.see_out((node, now, clock_off), envelope, row, before);
            }
        }
    }

    fn see_report(&mut self, node: usize, now: Micros, envelope: &EnvelopeId, told: Told) {
        self.check_report(node, now, envelope, told);
        let Some(letter) = self.letters.get_mut(envelope) else { return };
        let (is_reported, what) = match told {
            Told::Reported(reason) => (true, reason.as_str()),
            Told::Warned => (letter.is_reported, "late"),
            Told::Resolved => (false, "resolved"),
        };
        letter.is_reported = is_reported;
        self.counts.reports += 1;
        self.records.push((now, node, *envelope, Record::Report(what.to_owned())));
    }

    fn see_inbox(
        &mut self,
        (node, slot): (usize, Slot),
        now: Micros,
        envelope: &EnvelopeId,
        row: &InboxRow,
        before: Option<Stage>,
    ) {
        let (_, to) = parts_of(envelope);
        let other = self.peers[node][slot as usize];
        let Some(letter) = self.letters.get(envelope) else { return };
        let from = letter.from as usize;
        if to != node || from != other {
            return self.find("stranger", now, format!("{envelope} arrived at {node}, it is for {to}"), &[node, other]);
        }
        let (arrived, stage_before) = (letter.arrived, letter.stage);
        let next = match (before, row.stage) {
            (None, Stage::Checking) => Record::Delivered,
            (Some(Stage::Checking), Stage::Released) => Record::Released,
            (Some(Stage::Released), Stage::Taken) => Record::Taken,
            _ => return self.find("twice", now, format!("{envelope} arrived again at {node}"), &[node, from]),
        };
        if next == Record::Delivered {
            if arrived || stage_before.is_some() {
                return self.find("twice", now, format!("{envelope} arrived again at {node}"), &[node, from]);
            }
            self.check_in_force((node, other), now, "is committed", envelope);
        }
        if let Some(letter) = self.letters.get_mut(envelope) {
            (letter.arrived, letter.stage, letter.stage_at) = (true, Some(row.stage), now);
        }
        self.records.push((now, node, *envelope, next));
    }

    fn see_purge(&mut self, node: usize, now: Micros, envelope: &EnvelopeId) {
        let Some(letter) = self.letters.get_mut(envelope) else { return };
        letter.stage = None;
        letter.is_purged = true;
        let (is_wanted, from) = (letter.is_wanted_back, letter.from as usize);
        if !is_wanted && !self.restored.contains(&from) {
            self.find("lost", now, format!("{envelope} was purged at {node}, nobody had asked for that"), &[node]);
        }
    }

    fn see_out(
        &mut self,
        (node, now, clock_off): (usize, Micros, std::time::Duration),
        envelope: &EnvelopeId,
        row: &OutRow,
        before: &OutRow,
    ) {
        let (state, was) = (row.delivery.state, before.delivery.state);
        let Some(letter) = self.letters.get_mut(envelope) else { return };
        letter.is_unconfirmed = row.delivery.is_unconfirmed();
        letter.has_left |= row.delivery.left;
        letter.clock_off = micros(clock_off);
        let (to, is_reported, arrived) = (letter.to as usize, letter.is_reported, letter.arrived);
        let (submitted_at, left) = (letter.submitted_at, letter.has_left);
        let is_excused = letter.is_excused || self.restored.contains(&to);
        if state == was {
            return;
        }
        let lets_out = was == State::Refused && before.delivery.reason == Some(Reason::Quarantined);
        if was.is_final() && !lets_out {
            let what = format!("{envelope} was {}, now it is {}", was.as_str(), state.as_str());
            return self.find("two-ends", now, what, &[node, to]);
        }
        if state.tier().is_some() && !arrived && !is_excused {
            let what = format!("{envelope} is {} at its sender and not at {to}", state.as_str());
            return self.find("lost", now, what, &[node, to]);
        }
        if matches!(state, State::Refused | State::Expired) && !is_reported {
            return self.find("no-report", now, format!("{envelope} is {}", state.as_str()), &[node, to]);
        }
        self.check_state((node, now), envelope, row, was);
        let held = now.saturating_sub(submitted_at) + CLOCK_GRACE + micros(clock_off);
        let is_odd = self.odd_clocks.contains(&node) || self.restored.contains(&node);
        if state == State::Expired && !left && held < micros(self.hold) && !is_odd {
            return self.find("too-soon", now, format!("{envelope} expired early"), &[node, to]);
        }
        if state.tier().is_some() && was.tier().is_none() {
            let took = u32::try_from(now.saturating_sub(submitted_at) / 1_000).unwrap_or(u32::MAX);
            self.latency[row.priority as usize].push(took);
        }
        self.set_state(envelope, state);
        let record = match state {
            State::Queued => return,
            State::Offered => Record::Offered,
            State::Transferring => Record::Accepted,
            State::Delivered => Record::Delivered,
            State::Released => Record::Released,
            State::Taken => Record::Taken,
            State::Refused => Record::Refused(row.delivery.reason.map_or("", Reason::as_str).to_owned()),
            State::Expired => Record::Expired,
            State::Recalled => Record::Recalled,
        };
        self.records.push((now, node, *envelope, record));
    }

    /// Rows are as they were before: what was written last was not durable.
    pub(crate) fn undone(&mut self, node: usize, keys: &[Key], disk: &Disk, now: Micros) {
        for key in keys {
            match key {
                Key::Out(envelope) => self.look_at_out(envelope, disk),
                Key::Inbox(_, envelope) => self.look_at_inbox(*key, envelope, disk),
                Key::Agreement(slot) => self.look_at_agreement(node, *slot, disk),
                Key::Settled(_, envelope) => {
                    // What would have left later never did.
                    if let Some(letter) = self.letters.get_mut(envelope) {
                        letter.receipts.retain(|(.., left_at)| *left_at <= now);
                    }
                }
                _ => {}
            }
        }
    }

    fn look_at_out(&mut self, envelope: &EnvelopeId, disk: &Disk) {
        if let Some(Value::Out(row)) = disk.get(&Key::Out(*envelope)) {
            let (state, row) = (row.delivery.state, row.clone());
            let mut reports = disk.range(Key::Report(*envelope, 0), Key::Report(*envelope, u32::MAX));
            let newest = reports.rfind(|(_, told)| !matches!(told, Value::Report(Told::Warned)));
            let is_reported = matches!(newest, Some((_, Value::Report(Told::Reported(_)))));
            self.set_state(envelope, state);
            if let Some(letter) = self.letters.get_mut(envelope) {
                letter.is_unconfirmed = row.delivery.is_unconfirmed();
                letter.is_reported = is_reported;
                letter.told = match newest {
                    Some((_, Value::Report(Told::Reported(reason)))) => Some(*reason),
                    _ => None,
                };
            }
        } else if let Some(letter) = self.letters.remove(envelope) {
            // Nobody was told that the node has it.
            self.open.remove(&(letter.submitted_at, *envelope));
            self.counts.submitted -= 1;
        }
    }

    fn look_at_inbox(&mut self, key: Key, envelope: &EnvelopeId, disk: &Disk) {
        let Some(letter) = self.letters.get_mut(envelope) else { return };
        letter.stage = match disk.get(&key) {
            Some(Value::Inbox(row)) => Some(row.stage),
            _ => None,
        };
        letter.arrived = letter.stage.is_some();
        letter.is_purged &= letter.stage.is_none();
    }

    fn look_at_agreement(&mut self, node: usize, slot: Slot, disk: &Disk) {
        let other = self.peers[node][slot as usize];
        let Some(known) = self.known.get_mut(&(node, other)) else { return };
        let Some(Value::Agreement(row)) = disk.get(&Key::Agreement(slot)) else { return };
        let suspended = |stated| matches!(stated, Stated::Suspended(_));
        known.suspended_here = suspended(row.statements.own.stated());
        known.suspended_there = suspended(row.statements.peer.stated());
        known.ended = row.ended;
        known.number = row.statements.peer.number();
        known.own_number = row.statements.own.number();
        known.unconfirmed = row.unconfirmed;
    }

    /// A node is as its backup was.
    pub(crate) fn restored(&mut self, node: usize, before: &BTreeMap<Key, Value>, disk: &Disk, now: Micros) {
        self.restored.insert(node);
        for key in before.keys().filter(|key| !matches!(key, Key::Out(_))) {
            if let Key::Inbox(_, envelope) = key {
                self.look_at_inbox(*key, envelope, disk);
            }
        }
        for (_, known) in self.known.range_mut((node, 0)..=(node, usize::MAX)) {
            known.unconfirmed = true;
        }
        for slot in 0..self.peers[node].len() {
            self.look_at_agreement(node, slot as Slot, disk);
            let other = self.peers[node][slot];
            if let Some(known) = self.known.get_mut(&(node, other)) {
                known.unconfirmed = true;
            }
        }
        let concerned = |letter: &super::Letter| letter.from as usize == node || letter.to as usize == node;
        let all: Vec<EnvelopeId> =
            self.letters.iter().filter(|(_, letter)| concerned(letter)).map(|(envelope, _)| *envelope).collect();
        for envelope in all {
            self.restore_letter(&envelope, node, disk, now);
        }
    }

    fn restore_letter(&mut self, envelope: &EnvelopeId, node: usize, disk: &Disk, _now: Micros) {
        let Some(letter) = self.letters.get_mut(envelope) else { return };
        letter.is_excused = true;
        if letter.to as usize == node {
            // It may sign again what it had signed.
            letter.receipts.clear();
            return;
        }
        if disk.get(&Key::Out(*envelope)).is_some() {
            return self.look_at_out(envelope, disk);
        }
        letter.is_forgotten = true;
        let place = (letter.submitted_at, *envelope);
        self.open.remove(&place);
    }

    // ---------------------------------------------------------------------------------------------------------- frames

    /// A frame leaves a node.
    pub(crate) fn sent(&mut self, seen: &Seen, message: &Message, disk: &Disk, suite: &Suite) {
        let &Seen { parties, slot, at, .. } = seen;
        match message {
            Message::Offer(offer) => {
                let (_, to) = parts_of(&offer.envelope);
                if to != parties.1 {
                    let what = format!("{} is for {to}, it is offered to {}", offer.envelope, parties.1);
                    self.find("stranger", at, what, &[parties.0, parties.1]);
                }
                self.check_in_force(parties, at, "is offered", &offer.envelope);
                self.check_in_time(seen, &offer.envelope);
            }
            Message::Answer(Answer::Accept { envelope }) => {
                self.check_durable(seen, disk, Key::Incoming(slot, *envelope), true, "an acceptance");
                self.check_in_force(parties, at, "is accepted", envelope);
                self.check_not_settled(seen, envelope, disk);
            }
            Message::Envelope(message) => {
                let key = Key::Out(message.envelope);
                let left = matches!(disk.get(&key), Some(Value::Out(row)) if row.delivery.left);
                self.check_durable(seen, disk, key, left, "the sealed envelope");
                self.check_in_force(parties, at, "leaves", &message.envelope);
                self.check_in_time(seen, &message.envelope);
            }
            Message::Receipt(message) => self.see_receipt(seen, message, disk, suite),
            Message::ReceiptHeld(held) => {
                let key = Key::Out(held.envelope);
                let Some(Value::Out(row)) = disk.get(&key) else { return };
                let kept = row.receipts.iter().any(|(place, ..)| *place == held.verdict.place());
                self.check_durable(seen, disk, key, kept, "a confirmation");
            }
            Message::Statement(Statement { known: true, .. }) => {
                self.check_durable(seen, disk, Key::Agreement(slot), true, "a statement that is known");
            }
            _ => {}
        }
    }

    fn see_receipt(&mut self, seen: &Seen, message: &ReceiptMessage, disk: &Disk, suite: &Suite) {
        let ((node, other), bytes) = (seen.parties, &message.receipt[..]);
        let Some((envelope, verdict)) = suite.stated(bytes) else { return };
        self.check_receipt(seen, &message.envelope, &envelope, verdict);
        let key = Key::Settled(seen.slot, envelope);
        let is_kept = match disk.get(&key) {
            Some(Value::Settled(row)) => {
                *row.first.1 == *bytes || row.later.iter().any(|(_, stated)| **stated == *bytes)
            }
            _ => false,
        };
        self.check_durable(seen, disk, key, is_kept, "a receipt");
        let Some(letter) = self.letters.get_mut(&envelope) else { return };
        if verdict == Verdict::Held(Tier::Delivered) && !letter.arrived && !letter.is_excused && !letter.is_purged {
            let what = format!("{envelope} is acknowledged and not there");
            return self.find("early", seen.at, what, &[node, other]);
        }
        let hash = *blake3::hash(bytes).as_bytes();
        let short = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        match letter.receipts.iter().find(|(place, ..)| *place == verdict.place()) {
            Some((_, first, _)) if *first != short => {
                let what = format!("{envelope}: the receipt {} has other bytes than before", verdict.as_str());
                self.find("two-receipts", seen.at, what, &[node, other]);
            }
            Some(_) => {}
            None => letter.receipts.push((verdict.place(), short, seen.leaves_at)),
        }
    }

    fn check_durable(&mut self, seen: &Seen, disk: &Disk, key: Key, says_so: bool, what: &str) {
        if !says_so || !disk.is_durable(&key, seen.leaves_at) {
            let (node, other) = seen.parties;
            let missing = if says_so { "is not durable" } else { "does not say so" };
            self.find("early", seen.at, format!("{what} leaves {node}, and {key:?} {missing}"), &[node, other]);
        }
    }

    fn check_in_force(&mut self, parties: (usize, usize), at: Micros, what: &str, envelope: &EnvelopeId) {
        // What is due at this very second by date may go either way, as the clocks are.
        let at = at.saturating_sub(CLOCK_GRACE);
        let is_odd = self.odd_clocks.contains(&parties.0);
        let Some(known) = self.known.get(&parties) else { return };
        let known = if is_odd { super::Known { until: None, ..*known } } else { *known };
        if !known.in_force(at) {
            let what = format!("{envelope} {what} by {}, which knows that nothing may be", parties.0);
            self.find("no-agreement", at, what, &[parties.0, parties.1]);
        }
    }

    /// A frame is heard by a node (`own` is its name), from this counterpart.
    pub(crate) fn heard(&mut self, (node, other): (usize, usize), own: &EntityId, message: &Message, disk_full: bool) {
        let Message::Statement(Statement { statement, .. }) = message else { return };
        let Ok(statement) = statement.peek() else { return };
        let Some(known) = self.known.get_mut(&(node, other)) else { return };
        // Its own comes back to a node that was restored to before it.
        let is_own = statement.party == *own;
        let newest = if is_own { &mut known.own_number } else { &mut known.number };
        if disk_full || statement.number != *newest + 1 {
            return;
        }
        *newest = statement.number;
        let suspended = if is_own { &mut known.suspended_here } else { &mut known.suspended_there };
        match statement.action {
            Action::Suspend => *suspended = true,
            Action::Resume => *suspended = false,
            Action::End => known.ended = true,
            Action::Withdraw { .. } => {}
        }
    }
}
