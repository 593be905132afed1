//! What the judge says when everything should have come to its end.

use pakt_protocol::delivery::State;
use pakt_protocol::ids::EnvelopeId;

use super::{Judge, Letter};
use crate::mesh::clock::{Micros, SECOND};
use crate::mesh::disk::rows::Stage;
use crate::outcome::{Finding, Verdict};

/// What has just happened at one side may be on its way to the other.
const ON_ITS_WAY: Micros = 180 * SECOND;

impl Judge {
    /// Whether everything is settled; `excuses` are pairs that cannot reach each other, for a reason that was wanted.
    pub(crate) fn settle(&mut self, now: Micros, excuses: &dyn Fn(usize, usize) -> bool) -> Option<Verdict> {
        if self.finding.is_some() {
            return Some(Verdict::Wrong);
        }
        let letters = std::mem::take(&mut self.letters);
        let mut verdict = None;
        for (envelope, letter) in letters.iter().filter(|(_, letter)| !letter.is_forgotten) {
            verdict = self.judge_letter(now, envelope, letter, excuses);
            if verdict.is_some() {
                break;
            }
        }
        self.counts.unconfirmed = letters.values().filter(|letter| letter.is_unconfirmed).count() as u64;
        self.letters = letters;
        verdict
    }

    fn judge_letter(
        &mut self,
        now: Micros,
        envelope: &EnvelopeId,
        letter: &Letter,
        excuses: &dyn Fn(usize, usize) -> bool,
    ) -> Option<Verdict> {
        let (from, to) = (letter.from as usize, letter.to as usize);
        let wrong = |judge: &mut Judge, rule, what| {
            judge.find(rule, now, what, &[from, to]);
            judge.finding.is_some().then_some(Verdict::Wrong)
        };
        let is_there = letter.stage.is_some();
        let is_excused = letter.is_excused || self.restored.contains(&to);
        if letter.state.tier().is_some() && !is_there && !letter.is_purged && !is_excused {
            let what = format!("{envelope} is {} at {from} and not at {to}", letter.state.as_str());
            return wrong(self, "lost", what);
        }
        if self.is_back(letter) && !excuses(from, to) {
            return wrong(self, "two-ends", format!("{envelope} is recalled at {from}, and back at {to}"));
        }
        let ended_otherwise = matches!(letter.state, State::Refused | State::Expired | State::Recalled);
        if ended_otherwise && is_there && !is_excused {
            let what = format!("{envelope} is {} at {from}, and {to} has it", letter.state.as_str());
            return wrong(self, "two-ends", what);
        }
        if matches!(letter.state, State::Refused | State::Expired) && !letter.is_reported {
            return wrong(self, "no-report", format!("{envelope} is {} at {from}", letter.state.as_str()));
        }
        if excuses(from, to) {
            return None;
        }
        let stuck = |judge: &mut Judge, rule: &str, what: String| {
            if [from, to].iter().any(|node| judge.hostile.contains(node)) {
                return None;
            }
            let at = std::time::Duration::from_micros(now);
            let finding = Finding { rule: rule.to_owned(), at, what, nodes: vec![from, to] };
            judge.finding.get_or_insert(finding);
            Some(Verdict::Stuck)
        };
        if !letter.state.is_final() && letter.state.tier().is_none() {
            return stuck(self, "unsettled", format!("{envelope} is {} at {from}", letter.state.as_str()));
        }
        let tier = match letter.stage {
            Some(Stage::Released) => Some(State::Released),
            Some(Stage::Taken) => Some(State::Taken),
            _ => None,
        };
        let is_behind = matches!(
            (tier, letter.state),
            (Some(State::Released), State::Delivered) | (Some(State::Taken), State::Delivered | State::Released)
        );
        if is_behind && now > letter.stage_at + ON_ITS_WAY && !letter.is_excused {
            return stuck(self, "untold", format!("{envelope} is {tier:?} at {to}, {from} was not told"));
        }
        None
    }

    /// A link that should be up is not.
    pub(crate) fn offline(&mut self, now: Micros, a: usize, b: usize) {
        let at = std::time::Duration::from_micros(now);
        let what = format!("{a} and {b} are not connected");
        self.finding.get_or_insert(Finding { rule: "offline".to_owned(), at, what, nodes: vec![a, b] });
    }

    /// Whether two nodes have an agreement that lets messages go now.
    pub(crate) fn is_in_force(&self, a: usize, b: usize, now: Micros) -> bool {
        [(a, b), (b, a)].iter().all(|pair| self.known.get(pair).is_some_and(|known| known.in_force(now)))
    }

    /// Whether one of them has suspended it, or has not confirmed it.
    pub(crate) fn is_suspended(&self, a: usize, b: usize) -> bool {
        let waits = |known: &super::Known| known.suspended_here || known.suspended_there || known.unconfirmed;
        [(a, b), (b, a)].iter().any(|pair| self.known.get(pair).is_some_and(waits))
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self, a: usize, b: usize, now: Micros) -> bool {
        let over = |known: &super::Known| known.ended || known.until.is_some_and(|until| now >= until);
        [(a, b), (b, a)].iter().any(|pair| self.known.get(pair).is_some_and(over))
    }
}
