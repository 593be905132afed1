//! Reconciliation as operators see it: asking for one, what the last ones showed, and that a gap was dealt with.

use std::sync::Arc;
use std::time::Duration;

use pakt_protocol::armour::{self, Label};
use pakt_protocol::codec;
use pakt_protocol::record::comparison;
use pakt_protocol::time::Time;

use super::{Answer, Node, blocking};
use crate::ambient;
use crate::api::types::*;
use crate::book::{Agreement, Standing};
use crate::reconcile::rows::{NumberGap, RoundRow, Side};

const WAIT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(600);
/// A counterpart that came online meanwhile is asked as well.
const ASK_AGAIN: Duration = Duration::from_secs(6);
/// Envelopes that a warning names.
const NAMED_MAX: usize = 5;

impl Node {
    /// Compares now, with one counterpart or with all that are online, and waits for what that shows.
    ///
    /// # Errors
    /// `not_found` or `no_agreement` for the one that is named.
    pub async fn reconcile(&self, request: ReconcileRequest) -> Answer<Vec<Reconciliation>> {
        let all = self.to_reconcile(request.with.as_deref())?;
        let wait = request.timeout_s.map_or(WAIT, Duration::from_secs).min(WAIT_MAX);
        let (begin, mut asked) = (ambient::service_now(), None::<Time>);
        let mut changes = self.inner.mailroom.changes();
        loop {
            let now = ambient::service_now();
            if asked.is_none_or(|at| now.since(at) >= ASK_AGAIN) {
                asked = Some(now);
                for agreement in self.pending(&all, begin).await? {
                    self.inner.exchange.reconcile(&agreement.id).await;
                }
            }
            if self.pending(&all, begin).await?.is_empty() || now.since(begin) >= wait {
                break;
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
        }
        let node = self.clone();
        blocking(move || node.views(&all, Some(begin))).await
    }

    /// The last comparisons, both directions of every agreement that is not over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reconciliations(&self) -> Answer<Vec<Reconciliation>> {
        let node = self.clone();
        blocking(move || {
            let all: Vec<Arc<Agreement>> = node
                .inner
                .book
                .all()
                .into_iter()
                .filter(|agreement| agreement.standing != Standing::Proposed)
                .collect();
            node.views(&all, None)
        })
        .await
    }

    /// Notes that somebody has dealt with the gaps of a counterpart.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn reconciliation_seen(&self, counterpart: String) -> Answer<Vec<Reconciliation>> {
        let agreement = self.inner.book.find(&counterpart).map_err(unknown)?;
        self.inner.exchange.rounds().seen(agreement.id).await?;
        self.inner.mailroom.changed();
        let node = self.clone();
        blocking(move || node.views(&[agreement], None)).await
    }

    /// What both sides have signed last about a counterpart, armoured: the last comparison of each direction, and the last
    /// one that showed a gap that is still there.
    ///
    /// # Errors
    /// `not_found` for an unknown counterpart, or one with which nothing was compared yet.
    pub async fn reconciliation_file(&self, counterpart: String) -> Answer<ArmouredFile> {
        let agreement = self.inner.book.find(&counterpart).map_err(unknown)?;
        let rounds = self.inner.exchange.rounds().clone();
        blocking(move || {
            let mut all = rounds.comparisons(&agreement.id)?;
            // What shows a gap stands last: statements of a thousand ranges each are too much for one file.
            while all.len() > 2 && comparison::file_bytes(&all).len() > comparison::FILE_BYTES_MAX {
                all.pop();
            }
            if all.is_empty() {
                let name = &agreement.counterpart().name;
                let message = format!("nothing was compared with {name} yet");
                return Err(ServiceError::new(ErrorCode::NotFound, message, "see `pakt reconcile --with`"));
            }
            Ok(ArmouredFile { file: armour::encode(Label::Reconciliation, &comparison::file_bytes(&all)) })
        })
        .await
    }

    /// Numbers that something is wrong with and nobody has dealt with, of all agreements.
    pub(crate) fn reconciliation_gaps(&self) -> Answer<u64> {
        Ok(self.inner.exchange.rounds().open_gaps()?)
    }

    /// What an operator must know about the comparisons with a counterpart.
    pub(super) fn reconciliation_warnings(&self, agreement: &Agreement) -> Answer<Vec<String>> {
        let (name, mut warnings) = (&agreement.counterpart().name, Vec::new());
        for side in [Side::Sent, Side::Received] {
            let row = self.inner.exchange.rounds().row(&agreement.id, side)?;
            if row.unseen > 0 {
                let gaps = self.inner.exchange.rounds().gaps(&agreement.id, side)?;
                warnings.push(gap_warning(name, side, row.unseen, &gaps));
            } else if agreement.in_force(ambient::now()) && row.is_overdue(agreement.made_at, ambient::service_now()) {
                let what = match side {
                    Side::Sent => format!("what was sent to {name}"),
                    Side::Received => format!("what came from {name}"),
                };
                warnings.push(format!("{what} was not compared with its records for two days: `pakt reconcile`"));
            }
        }
        Ok(warnings)
    }

    fn to_reconcile(&self, with: Option<&str>) -> Answer<Vec<Arc<Agreement>>> {
        let now = ambient::service_now();
        let Some(with) = with else {
            let exchange = &self.inner.exchange;
            let is_there = |agreement: &Arc<Agreement>| agreement.in_force(now) && exchange.peer(&agreement.id).online;
            return Ok(self.inner.book.all().into_iter().filter(is_there).collect());
        };
        let agreement = self.inner.book.find(with).map_err(unknown)?;
        if !agreement.in_force(now) {
            let message = format!("the agreement with {} is not in force", agreement.counterpart().name);
            return Err(ServiceError::new(ErrorCode::NoAgreement, message, "see `pakt agreement list`"));
        }
        Ok(vec![agreement])
    }

    /// Those that were not compared in both directions since then.
    async fn pending(&self, all: &[Arc<Agreement>], begin: Time) -> Answer<Vec<Arc<Agreement>>> {
        let (node, all) = (self.clone(), all.to_vec());
        blocking(move || {
            let mut pending = Vec::new();
            for agreement in all {
                if node.is_pending(&agreement, Side::Sent, begin)?
                    || node.is_pending(&agreement, Side::Received, begin)?
                {
                    pending.push(agreement);
                }
            }
            Ok(pending)
        })
        .await
    }

    fn is_pending(&self, agreement: &Agreement, side: Side, begin: Time) -> Answer<bool> {
        let row = self.inner.exchange.rounds().row(&agreement.id, side)?;
        Ok(row.complete.is_none_or(|complete| complete.at < begin))
    }

    fn views(&self, all: &[Arc<Agreement>], begin: Option<Time>) -> Answer<Vec<Reconciliation>> {
        let mut views = Vec::new();
        for agreement in all {
            for side in [Side::Sent, Side::Received] {
                let row = self.inner.exchange.rounds().row(&agreement.id, side)?;
                let gaps = self.inner.exchange.rounds().gaps(&agreement.id, side)?;
                let pending = begin.map(|begin| self.is_pending(agreement, side, begin)).transpose()?;
                views.push(Reconciliation { pending: pending == Some(true), ..view(agreement, side, &row, &gaps) });
            }
        }
        Ok(views)
    }
}

fn unknown(error: impl std::fmt::Display) -> ServiceError {
    ServiceError::new(ErrorCode::NotFound, error.to_string(), "see `pakt peers`")
}

fn view(agreement: &Agreement, side: Side, row: &RoundRow, gaps: &[(u64, NumberGap)]) -> Reconciliation {
    let other = agreement.counterpart();
    let tally = row.complete.map(|complete| complete.tally).unwrap_or_default();
    let (now, overdue) = (ambient::service_now(), row.is_overdue(agreement.made_at, ambient::service_now()));
    Reconciliation {
        entity: other.entity.to_string(),
        name: other.name.clone(),
        agreement: agreement.id.to_string(),
        direction: side.as_str().to_owned(),
        at: row.complete.map(|complete| time_text(complete.wall)),
        given: tally.given,
        delivered: tally.delivered,
        open: tally.open,
        held: tally.held,
        explained: tally.explained,
        gap_count: tally.gaps.max(gaps.len() as u64),
        unseen: row.unseen,
        gaps: gaps.iter().map(gap_view).collect(),
        overdue: overdue && agreement.in_force(now),
        pending: false,
        evidence: row.evidence.as_ref().map(|evidence| ReconciliationEvidence {
            sent: hex::encode(codec::encode(1, &evidence.sent)),
            held: hex::encode(codec::encode(1, &evidence.held)),
        }),
    }
}

fn gap_view((number, gap): &(u64, NumberGap)) -> ReconciliationGap {
    ReconciliationGap {
        number: *number,
        kind: gap.kind.as_str().to_owned(),
        envelope: gap.envelope.map(|envelope| envelope.to_string()),
        found_at: time_text(gap.found_at),
        seen: gap.seen,
    }
}

fn gap_warning(name: &str, side: Side, unseen: u64, gaps: &[(u64, NumberGap)]) -> String {
    let what = match side {
        Side::Sent => format!("{unseen} of the messages sent to {name}"),
        Side::Received => format!("{unseen} of the messages from {name}"),
    };
    let open = gaps.iter().filter(|(_, gap)| !gap.seen);
    let named: Vec<String> =
        open.filter_map(|(_, gap)| gap.envelope).take(NAMED_MAX).map(|envelope| envelope.to_string()).collect();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    format!("ALARM: {what} do not match what the other side has on record{named}: see `pakt reconcile list`, and call")
}
