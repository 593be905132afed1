//! Rules about what both sides say together: tiers, reports, times, what is complete, what reconciliation finds.

use pakt_protocol::delivery::{Reason, State};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::record::receipt::Verdict;

use super::watch::Seen;
use super::{Judge, Letter};
use crate::mesh::clock::{Micros, micros};
use crate::mesh::disk::rows::{OutRow, RoundRow, Stage, Told};
use crate::mesh::disk::{Disk, Key, Slot, Value};

/// A frame that was decided before the hold time was over may leave so long after.
const HOLD_GRACE: Micros = 60_000_000;

impl Judge {
    /// All content of a message must be here before the message is.
    pub(super) fn check_complete(
        &mut self,
        (node, slot): (usize, Slot),
        now: Micros,
        envelope: &EnvelopeId,
        disk: &Disk,
    ) {
        let Some(Value::Incoming(incoming)) = disk.get(&Key::Incoming(slot, *envelope)) else { return };
        let here = match disk.get(&Key::Objects(slot, *envelope)) {
            Some(Value::Objects(count)) => *count,
            _ => 0,
        };
        if here < incoming.offer.objects {
            let what = format!("{envelope} is committed at {node} with {here} of {} objects", incoming.offer.objects);
            self.find("incomplete", now, what, &[node]);
        }
    }

    /// An accepted envelope must not have been answered for good.
    pub(super) fn check_not_settled(&mut self, seen: &Seen, envelope: &EnvelopeId, disk: &Disk) {
        if disk.get(&Key::Settled(seen.slot, *envelope)).is_some() {
            let (node, other) = seen.parties;
            self.find("twice", seen.at, format!("{envelope} is accepted at {node}, it was settled"), &[node, other]);
        }
    }

    /// What leaves must leave within the hold time.
    pub(super) fn check_in_time(&mut self, seen: &Seen, envelope: &EnvelopeId) {
        let (node, other) = seen.parties;
        let Some(letter) = self.letters.get(envelope) else { return };
        let until = letter.submitted_at.saturating_add(micros(self.hold) + HOLD_GRACE);
        let is_odd = [node, other].iter().any(|node| self.odd_clocks.contains(node) || self.restored.contains(node));
        if seen.at > until.saturating_add(letter.clock_off) && !is_odd {
            self.find("too-late", seen.at, format!("{envelope} leaves {node} after its time"), &[node, other]);
        }
    }

    /// A receipt goes out under its own envelope, and says `recalled` of what is gone only.
    pub(super) fn check_receipt(&mut self, seen: &Seen, under: &EnvelopeId, stated: &EnvelopeId, verdict: Verdict) {
        let (node, other) = seen.parties;
        if under != stated {
            let what = format!("the receipt of {stated} leaves {node} under {under}");
            return self.find("swapped", seen.at, what, &[node, other]);
        }
        let is_there = self.letters.get(stated).is_some_and(|letter| letter.stage.is_some());
        if verdict == Verdict::Recalled && is_there {
            let what = format!("{stated} is stated to be purged at {node}, and is there");
            self.find("two-ends", seen.at, what, &[node, other]);
        }
    }

    /// People are told once how an envelope ended.
    pub(super) fn check_report(&mut self, node: usize, now: Micros, envelope: &EnvelopeId, told: Told) {
        let Some(letter) = self.letters.get_mut(envelope) else { return };
        let before = letter.told;
        match told {
            Told::Warned => return,
            Told::Reported(reason) => letter.told = Some(reason),
            Told::Resolved => letter.told = None,
        }
        if matches!(told, Told::Reported(reason) if before == Some(reason)) {
            self.find("two-reports", now, format!("{envelope}: the same report again at {node}"), &[node]);
        }
    }

    /// A sender's state says no more than its recipient has stated, and goes forward; what it ends with is for good, and
    /// what turned out well is told.
    pub(super) fn check_state(
        &mut self,
        (node, now): (usize, Micros),
        envelope: &EnvelopeId,
        row: &OutRow,
        was: State,
    ) {
        let Some(letter) = self.letters.get(envelope) else { return };
        let (state, to) = (row.delivery.state, letter.to as usize);
        let is_excused = letter.is_excused || self.restored.contains(&to);
        let said = match letter.stage {
            Some(Stage::Checking) => Some(State::Delivered.tier()),
            Some(Stage::Released) => Some(State::Released.tier()),
            Some(Stage::Taken) => Some(State::Taken.tier()),
            None => None,
        };
        let is_told_otherwise = letter.told.is_some_and(|told| told != Reason::RecalledTooLate);
        if said.is_some_and(|said| state.tier() > said) && !is_excused {
            let what = format!("{envelope} is {} at {node}, {to} has not stated that", state.as_str());
            self.find("ahead", now, what, &[node, to]);
        } else if was.tier().is_some() && state.tier().is_some() && state.tier() < was.tier() {
            let what = format!("{envelope} was {}, now it is {}", was.as_str(), state.as_str());
            self.find("two-ends", now, what, &[node, to]);
        } else if matches!(row.delivery.reason, Some(Reason::Refused(why)) if state == State::Refused && why.is_transient())
        {
            self.find("gave-up", now, format!("{envelope} was refused for now, {node} gives up"), &[node, to]);
        } else if state.tier().is_some() && is_told_otherwise {
            let what = format!("{envelope} is {}, and people were last told otherwise", state.as_str());
            self.find("no-report", now, what, &[node, to]);
        }
    }

    /// As long as nobody was restored, both sides hold what they say.
    pub(super) fn check_round(&mut self, (node, slot): (usize, Slot), now: Micros, row: &RoundRow) {
        let other = self.peers[node][slot as usize];
        let is_restored = self.restored.contains(&node) || self.restored.contains(&other);
        let finds = !row.lost.is_empty() || !row.unknown.is_empty();
        if finds && !is_restored {
            let what = format!("{node} finds numbers lost or unknown with {other}");
            self.find("false-alarm", now, what, &[node, other]);
        }
    }

    /// Whether what was purged on a recall is back at a recipient that was restored, although its sender could show it.
    pub(super) fn is_back(&self, letter: &Letter) -> bool {
        let (from, to) = (letter.from as usize, letter.to as usize);
        letter.state == State::Recalled
            && letter.stage.is_some()
            && self.restored.contains(&to)
            && !self.restored.contains(&from)
    }
}
