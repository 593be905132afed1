//! `pakt reconcile export` and `pakt reconcile verify`: what both sides have signed, as a file, and its check without a node.
//!
//! **Invariant:** nothing of a file is shown before every signature in it was checked.

use std::path::{Path, PathBuf};

use pakt_protocol::armour::{self, Label};
use pakt_protocol::reconcile::ranges::Ranges;
use pakt_protocol::record::card::Card;
use pakt_protocol::record::comparison::{self, Verified};
use serde::Serialize;

use super::Exit;
use super::client::{Client, escaped};
use super::output::{Output, facts, moment};
use super::records::{self, ShownParty};
use crate::api::types::*;

/// Ranges that are shown of those with which something is wrong.
const SHOWN_MAX: usize = 20;

/// One comparison as it is shown.
#[derive(Debug, Serialize)]
struct ShownComparison {
    from: ShownParty,
    to: ShownParty,
    agreement: String,
    round: u64,
    /// When the sender signed, by its clock.
    sent_at: String,
    /// When the receiver signed, by its clock.
    held_at: String,
    /// The first number that both speak of.
    first: u64,
    /// The last one; none where they speak of all that were given.
    last: Option<u64>,
    given: u64,
    delivered: u64,
    open: u64,
    held: u64,
    explained: u64,
    lost: Vec<(u64, u64)>,
    unknown: Vec<(u64, u64)>,
}

/// A verified file as it is shown.
#[derive(Debug, Serialize)]
struct ShownFile {
    valid: bool,
    comparisons: Vec<ShownComparison>,
}

/// An exported file, with what it says.
#[derive(Debug, Serialize)]
struct Exported {
    file: String,
    comparisons: Vec<ShownComparison>,
}

/// Writes what both sides have signed about a counterpart into a file.
///
/// # Errors
/// What the node says.
pub(super) async fn export(
    client: &Client,
    output: Output,
    with: &str,
    out: Option<&Path>,
) -> Result<Exit, ServiceError> {
    let ArmouredFile { file } = client.get(&format!("/v1/reconciliations/{}/file", escaped(with))).await?;
    let bytes = armour::decode(Label::Reconciliation, file.as_bytes())?;
    let comparisons = comparison::read(&bytes).map_err(|error| records::record_error(Path::new(with), &error))?;
    let exported =
        Exported { file, comparisons: comparisons.iter().map(|one| ShownComparison::of(one, &[])).collect() };
    output.file(&exported, &exported.file, out)?;
    Ok(Exit::DONE)
}

/// Verifies a file with the cards of both sides; needs no node.
///
/// # Errors
/// `damaged` when it does not hold, `usage` without two cards.
pub(super) fn verify(output: Output, file: &Path, cards: &[PathBuf]) -> Result<Exit, ServiceError> {
    let [first, second] = cards else {
        let message = "a reconciliation is verified with two cards, one of each side";
        return Err(ServiceError::new(ErrorCode::Usage, message, "give --card twice"));
    };
    let cards = [records::read_card(first)?, records::read_card(second)?];
    let (_, bytes) = records::read_record(file, &[Label::Reconciliation])?;
    let verified = comparison::verify_offline(&bytes, [&cards[0], &cards[1]])
        .map_err(|error| records::record_error(file, &error))?;
    let comparisons = verified.iter().map(|one| ShownComparison::of(one, &cards)).collect();
    output.result(&ShownFile { valid: true, comparisons }, ShownFile::text);
    Ok(Exit::DONE)
}

impl ShownComparison {
    fn of(verified: &Verified, cards: &[Card]) -> Self {
        let Verified { sent, held, findings } = verified;
        let within = |ranges: &Ranges| ranges.within(sent.first, held.last).count();
        Self {
            from: ShownParty::of(&sent.entity, cards),
            to: ShownParty::of(&held.entity, cards),
            agreement: sent.agreement.to_string(),
            round: sent.round,
            sent_at: time_text(sent.at),
            held_at: time_text(held.at),
            first: sent.first,
            last: (held.last < u64::MAX).then_some(held.last),
            given: sent.given,
            delivered: within(&sent.delivered).saturating_add(within(&sent.excused)),
            open: within(&sent.open),
            held: held.held.count(),
            explained: findings.explained.count(),
            lost: findings.lost.iter().collect(),
            unknown: findings.unknown.iter().collect(),
        }
    }

    fn text(&self) -> String {
        let last = self.last.map_or_else(|| "the last one".to_owned(), |last| last.to_string());
        let mut rows = vec![
            ("reconciliation", "valid: signed by both sides".to_owned()),
            ("from", self.from.text()),
            ("to", self.to.text()),
            ("stated", format!("{}, answered {}", moment(&self.sent_at), moment(&self.held_at))),
            ("numbers", format!("{} to {last}; {} given", self.first, self.given)),
            ("sender", format!("{} receipts, {} under way", self.delivered, self.open)),
            ("receiver", format!("holds {}", self.held)),
            ("agreement", self.agreement.clone()),
        ];
        if self.explained > 0 {
            rows.push(("explained", format!("{} by restores, if these took place", self.explained)));
        }
        let found = [
            ("LOST", "receipted, but not held by the receiver", &self.lost),
            ("UNKNOWN", "held by the receiver, but not sent as far as the sender knows", &self.unknown),
        ];
        for (what, meaning, ranges) in found {
            if !ranges.is_empty() {
                rows.push((what, format!("{}: {meaning}", numbers_text(ranges))));
            }
        }
        if self.lost.is_empty() && self.unknown.is_empty() {
            rows.push(("gaps", "none".to_owned()));
        }
        facts(&rows)
    }
}

impl ShownFile {
    fn text(&self) -> String {
        self.comparisons.iter().map(ShownComparison::text).collect::<Vec<_>>().join("\n\n")
    }
}

fn numbers_text(ranges: &[(u64, u64)]) -> String {
    let text = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let shown: Vec<String> = ranges.iter().take(SHOWN_MAX).map(text).collect();
    let more = if ranges.len() > SHOWN_MAX { " and more" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_ranges() {
        let check = |ranges: &[(u64, u64)], text: &str| assert_eq!(numbers_text(ranges), text);
        check(&[(7, 7)], "7");
        check(&[(1, 3), (9, 9)], "1-3, 9");
        assert!(numbers_text(&[(1, 1); SHOWN_MAX + 1]).ends_with(" and more"));
    }
}
