//! Rounds: making statements, comparing them, and keeping what that shows, for both directions of every agreement.
//!
//! **Invariant:** what a page shows is one commit: gaps that are new, gaps that closed, the round's counts, the entry of the log.

use std::collections::{BTreeMap, BTreeSet};

use pakt_keys::EntityId;
use pakt_protocol::audit::Event;
use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::reconcile::{Findings, Known, Restores, compare};
use pakt_protocol::record::Signed;
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::comparison::Comparison;
use pakt_protocol::record::reconciliation::{HeldStatement, NAMED_MAX, SentStatement, hash_of};
use pakt_protocol::time::Time;

use super::pages::{Stated, Unaccounted, held_page, sent_page};
use super::rows::{ComparedRow, Complete, Evidence, GapKind, NumberGap, RoundRow, Side, Tally};
use crate::ambient;
use crate::audit;
use crate::entity::Entity;
use crate::store::tables::{COMPARED, GAPS, HELD_NUMBERS, NUMBER_GAPS, PEER_RESTORES, RESTORED, ROUNDS, SENT_NUMBERS};
use crate::store::{Rows, Store, StoreError, WriteTx};

/// Gaps of one direction that are kept by number; beyond, they are only counted.
pub const GAPS_MAX: usize = 1_000;
/// The audit log is told of a gap, or that it closed, at most this often per direction.
const NOTE_EVERY: std::time::Duration = std::time::Duration::from_secs(3_600);

/// What a page has changed on record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Gaps that were not known before, most telling first, at most [`GAPS_MAX`].
    pub fresh: Vec<(u64, NumberGap)>,
    /// Gaps that closed.
    pub closed: usize,
    /// Gaps that are new and have no place on record: they are only counted.
    pub beyond: u64,
}

/// What came of a page about what this node has sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// What changed.
    pub changed: Changed,
    /// Envelopes that the counterpart is to be told by name.
    pub named: Vec<(u64, EnvelopeId)>,
}

/// The rounds of this node; clones share them.
#[derive(Clone)]
pub struct Rounds {
    store: Store,
    entity: Entity,
}

/// A page as it is kept.
struct Page<'a> {
    of: (AgreementId, Side),
    sent: &'a SentStatement,
    last: u64,
    held: u64,
    findings: &'a Findings,
    gaps: BTreeMap<u64, NumberGap>,
    shown: Comparison,
}

impl Rounds {
    /// The rounds in this store.
    pub fn new(store: Store, entity: Entity) -> Rounds {
        Rounds { store, entity }
    }

    /// What a machine begins with.
    ///
    /// # Errors
    /// When the store fails.
    pub fn known(&self, agreement: &AgreementId) -> Result<Known, StoreError> {
        let (sent, received) = (self.row(agreement, Side::Sent)?, self.row(agreement, Side::Received)?);
        Ok(Known {
            sent: sent.complete.map(|complete| (sent.round, complete.at)),
            next: sent.next,
            received: received.complete.map(|complete| complete.at),
        })
    }

    /// The rounds of one direction.
    ///
    /// # Errors
    /// When the store fails.
    pub fn row(&self, agreement: &AgreementId, side: Side) -> Result<RoundRow, StoreError> {
        self.store.read(|tx| Ok(tx.get(&ROUNDS, &(*agreement, side.key()))?.unwrap_or_default()))
    }

    /// The numbers of one direction with which something is wrong, at most [`GAPS_MAX`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn gaps(&self, agreement: &AgreementId, side: Side) -> Result<Vec<(u64, NumberGap)>, StoreError> {
        let rows = self.store.read(|tx| tx.prefix(&NUMBER_GAPS, &(*agreement, side.key()), GAPS_MAX))?;
        Ok(rows.into_iter().map(|((_, _, number), gap)| (number, gap)).collect())
    }

    /// What both sides have signed last about an agreement, the last of each direction first, then what shows gaps.
    ///
    /// # Errors
    /// When the store fails.
    pub fn comparisons(&self, agreement: &AgreementId) -> Result<Vec<Comparison>, StoreError> {
        let of = |side: Side| self.store.read(|tx| tx.get(&COMPARED, &(*agreement, side.key())));
        let rows: Vec<ComparedRow> = [of(Side::Sent)?, of(Side::Received)?].into_iter().flatten().collect();
        let gaps = rows.iter().filter_map(|row| row.gap.as_ref().filter(|gap| **gap != row.last));
        Ok(rows.iter().map(|row| &row.last).chain(gaps).cloned().collect())
    }

    /// Gaps of all agreements that nobody has dealt with.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open_gaps(&self) -> Result<u64, StoreError> {
        let rows = self.store.read(|tx| tx.prefix(&ROUNDS, &(), usize::MAX))?;
        Ok(rows
            .into_iter()
            .map(|((_, _), row): ((AgreementId, bool), RoundRow)| row.unseen)
            .fold(0, u64::saturating_add))
    }

    /// Somebody has dealt with the gaps of an agreement that are known.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn seen(&self, agreement: AgreementId) -> Result<(), StoreError> {
        let write = self.store.write(move |tx| {
            for side in [Side::Sent, Side::Received] {
                for (key, gap) in tx.prefix(&NUMBER_GAPS, &(agreement, side.key()), GAPS_MAX)? {
                    tx.put(&NUMBER_GAPS, &key, &NumberGap { seen: true, ..gap })?;
                }
                if let Some(row) = tx.get(&ROUNDS, &(agreement, side.key()))? {
                    tx.put(&ROUNDS, &(agreement, side.key()), &RoundRow { unseen: 0, ..row })?;
                }
            }
            Ok(())
        });
        write.await
    }

    /// Makes and signs a page of what was sent. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn state(
        &self,
        (agreement, reader): (AgreementId, EntityId),
        round: u64,
        first: u64,
    ) -> Result<Stated, StoreError> {
        let page = self.store.read(|tx| sent_page(tx, agreement, first))?;
        let body = SentStatement {
            entity: self.entity.id(),
            reader,
            agreement,
            round,
            at: ambient::now(),
            given: page.given,
            first,
            last: page.last,
            delivered: page.delivered,
            open: page.open,
            excused: page.excused,
            forgotten: page.forgotten,
        };
        let identity = self.entity.current();
        let signed = Signed::create(&body, |domain, bytes| identity.statement().sign(domain, bytes));
        Ok(Stated { signed, body, chain: identity.chain().clone(), unaccounted: page.unaccounted })
    }

    /// The highest number that is held of what the counterpart has sent.
    ///
    /// # Errors
    /// When the store fails.
    pub fn highest_held(&self, agreement: AgreementId) -> Result<u64, StoreError> {
        let all = (agreement, 0)..=(agreement, u64::MAX);
        let rows: Vec<((AgreementId, u64), EnvelopeId)> =
            self.store.read(|tx| tx.range_backwards(&HELD_NUMBERS, all, 1))?;
        Ok(rows.first().map_or(0, |((_, number), _)| *number))
    }

    /// Compares the counterpart's statement, whose signer `sender` certifies, with what is held, keeps what that shows, and
    /// signs the answer. Numbers above `highest`, the highest that was held when the statement arrived, may be younger than it
    /// and are left out. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn answer(
        &self,
        (agreement, reader): (AgreementId, EntityId),
        (asked, sender): (Signed<SentStatement>, CertificateChain),
        (sent, highest): (&SentStatement, u64),
    ) -> Result<(Signed<HeldStatement>, Changed), StoreError> {
        let of = (agreement, Side::Received);
        let ((last, held), restores, twice) = self.store.read(|tx| {
            let restores = restores(tx, of)?;
            let twice = tx.prefix(&NUMBER_GAPS, &(of.0, of.1.key()), GAPS_MAX)?;
            Ok((held_page(tx, of.0, (sent.first, sent.last))?, restores, twice))
        })?;
        let held = held.within(sent.first, highest);
        let findings = compare(sent, (last, &held), restores);
        let mut gaps = gaps_of(&findings);
        let mut named: Vec<(u64, EnvelopeId)> = twice
            .into_iter()
            .filter(|((_, _, number), gap)| gap.kind == GapKind::Twice && (sent.first..=last).contains(number))
            .filter_map(|((_, _, number), gap)| Some((number, gap.envelope?)))
            .collect();
        self.store.read(|tx| {
            let twice: BTreeSet<u64> = named.iter().map(|(number, _)| *number).collect();
            for number in twice {
                // The one that came first.
                named.extend(tx.get(&HELD_NUMBERS, &(of.0, number))?.map(|envelope| (number, envelope)));
            }
            for number in findings.unknown.numbers().take(GAPS_MAX) {
                let envelope = tx.get(&HELD_NUMBERS, &(of.0, number))?;
                named.extend(envelope.map(|envelope| (number, envelope)));
                if let Some(gap) = gaps.get_mut(&number) {
                    gap.envelope = envelope;
                }
            }
            Ok(())
        })?;
        named.truncate(NAMED_MAX);
        let answer = HeldStatement {
            entity: self.entity.id(),
            reader,
            agreement,
            statement: hash_of(&asked),
            at: ambient::now(),
            first: sent.first,
            last,
            held,
            named,
        };
        let identity = self.entity.current();
        let signed = Signed::create(&answer, |domain, bytes| identity.statement().sign(domain, bytes));
        let shown = Comparison { sent: asked, sender, held: signed.clone(), receiver: identity.chain().clone() };
        let held = answer.held.count();
        let changed = self.keep(&Page { of, sent, last, held, findings: &findings, gaps, shown })?;
        Ok((signed, changed))
    }

    /// Compares the counterpart's verified answer, whose signer `receiver` certifies, with what was stated, and keeps what
    /// that shows. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn take_answer(
        &self,
        agreement: AgreementId,
        stated: &Stated,
        (signed, receiver): (Signed<HeldStatement>, CertificateChain),
        answer: &HeldStatement,
    ) -> Result<Compared, StoreError> {
        let of = (agreement, Side::Sent);
        let sent = &stated.body;
        let restores = self.store.read(|tx| restores(tx, of))?;
        let findings = compare(sent, (answer.last, &answer.held), restores);
        let mut gaps = gaps_of(&findings);
        let mut named = Vec::new();
        self.store.read(|tx| {
            for (number, gap) in gaps.iter_mut().filter(|(_, gap)| gap.kind == GapKind::Lost) {
                gap.envelope = tx.get(&SENT_NUMBERS, &(agreement, *number))?.map(|row| row.envelope);
                named.extend(gap.envelope.map(|envelope| (*number, envelope)));
            }
            for (number, envelope) in &answer.named {
                let own = tx.get(&SENT_NUMBERS, &(agreement, *number))?;
                match gaps.get_mut(number) {
                    Some(gap) => gap.envelope = Some(*envelope),
                    None if own.is_some_and(|own| own.envelope != *envelope) => {
                        gaps.insert(*number, gap(GapKind::Twice, Some(*envelope)));
                    }
                    None => {}
                }
            }
            Ok(())
        })?;
        named.truncate(NAMED_MAX);
        add_unaccounted(&mut gaps, &stated.unaccounted, answer.last);
        let held = answer.held.count();
        let shown = Comparison { sent: stated.signed.clone(), sender: stated.chain.clone(), held: signed, receiver };
        let changed = self.keep(&Page { of, sent, last: answer.last, held, findings: &findings, gaps, shown })?;
        Ok(Compared { changed, named })
    }

    /// The counterpart names envelopes that are not held here; gives those that are on record as lost.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn name_lost(
        &self,
        agreement: AgreementId,
        named: Vec<(u64, EnvelopeId)>,
    ) -> Result<Vec<(u64, EnvelopeId)>, StoreError> {
        let write = self.store.write(move |tx| {
            let mut news = Vec::new();
            for (number, envelope) in named.into_iter().take(NAMED_MAX) {
                let key = (agreement, Side::Received.key(), number);
                let known = tx.get(&NUMBER_GAPS, &key)?;
                if let Some(gap) = known.filter(|gap| gap.kind == GapKind::Lost && gap.envelope.is_none()) {
                    tx.put(&NUMBER_GAPS, &key, &NumberGap { envelope: Some(envelope), ..gap })?;
                    news.push((number, envelope));
                }
            }
            Ok(news)
        });
        write.await
    }

    fn keep(&self, page: &Page<'_>) -> Result<Changed, StoreError> {
        let Page { of, sent, last, held, findings, gaps, shown } = page;
        let counted = |ranges: &pakt_protocol::reconcile::ranges::Ranges| ranges.within(sent.first, *last).count();
        let wrong = findings.lost.count().saturating_add(findings.unknown.count());
        let others = gaps.values().filter(|gap| !matches!(gap.kind, GapKind::Lost | GapKind::Unknown)).count();
        let tally = Tally {
            given: sent.given,
            delivered: counted(&sent.delivered).saturating_add(counted(&sent.excused)),
            open: counted(&sent.open),
            held: *held,
            explained: findings.explained.count(),
            gaps: wrong.saturating_add(others as u64),
        };
        let kept = Kept {
            of: *of,
            round: sent.round,
            within: (sent.first, *last),
            tally,
            gaps: gaps.clone(),
            shown: shown.clone(),
        };
        self.store.write_blocking(move |tx| kept.write(tx))
    }
}

/// A page on its way into the store.
struct Kept {
    of: (AgreementId, Side),
    round: u64,
    within: (u64, u64),
    tally: Tally,
    gaps: BTreeMap<u64, NumberGap>,
    shown: Comparison,
}

impl Kept {
    fn write(self, tx: &mut WriteTx) -> Result<Changed, StoreError> {
        let (agreement, side) = self.of;
        let key = (agreement, side.key());
        let mut row = tx.get(&ROUNDS, &key)?.unwrap_or_default();
        let unseen =
            |gaps: &[((AgreementId, bool, u64), NumberGap)]| gaps.iter().filter(|(_, gap)| !gap.seen).count() as u64;
        // Those that have no place on record.
        let mut beyond = row.unseen.saturating_sub(unseen(&tx.prefix(&NUMBER_GAPS, &key, GAPS_MAX)?));
        let mut changed = self.write_gaps(tx)?;
        let (first, last) = self.within;
        row.tally = if row.next == Some(first) { add(row.tally, self.tally) } else { self.tally };
        (row.round, row.next) = (self.round, last.checked_add(1));
        if self.tally.gaps > 0 {
            let Comparison { sent, held, .. } = self.shown.clone();
            row.evidence = Some(Evidence { sent, held });
        }
        let gaps = tx.prefix(&NUMBER_GAPS, &key, GAPS_MAX)?;
        if gaps.is_empty() {
            row.evidence = None;
        }
        self.write_shown(tx, !gaps.is_empty())?;
        if row.next.is_none() {
            let before = row.complete.map_or(0, |complete| complete.tally.gaps);
            let unrecorded = row.tally.gaps.saturating_sub(recorded(&gaps, side));
            changed.beyond = row.tally.gaps.saturating_sub(before).min(unrecorded);
            beyond = beyond.saturating_add(changed.beyond).min(unrecorded);
            let now = ambient::service_now();
            row.complete = Some(Complete { at: now, wall: ambient::now(), tally: row.tally });
            let has_gap = !gaps.is_empty();
            let (before, is_due) = row.noted.map_or((false, true), |(at, had)| (had, now.distance(at) >= NOTE_EVERY));
            if has_gap != before && is_due {
                row.noted = Some((now, has_gap));
                audit::append(tx, Event::Reconciled { agreement, sent: side == Side::Sent, gaps: gaps.len() as u64 })?;
            }
        }
        row.unseen = unseen(&gaps).saturating_add(beyond);
        tx.put(&ROUNDS, &key, &row)?;
        Ok(changed)
    }

    /// Puts the two statements in place of those before; those that show a gap stay while there is one.
    fn write_shown(&self, tx: &mut WriteTx, has_gap: bool) -> Result<(), StoreError> {
        let key = (self.of.0, self.of.1.key());
        let gap = if self.tally.gaps > 0 {
            Some(self.shown.clone())
        } else {
            tx.get(&COMPARED, &key)?.and_then(|row| row.gap).filter(|_| has_gap)
        };
        tx.put(&COMPARED, &key, &ComparedRow { last: self.shown.clone(), gap })
    }

    /// Puts the gaps that the page shows in place of those that earlier ones showed in its range.
    fn write_gaps(&self, tx: &mut WriteTx) -> Result<Changed, StoreError> {
        let (agreement, side) = self.of;
        let (first, last) = self.within;
        let bounds = (agreement, side.key(), first)..=(agreement, side.key(), last);
        let mut changed = Changed::default();
        for (key, old) in tx.range(&NUMBER_GAPS, bounds, GAPS_MAX)? {
            // That two envelopes had one number does not change any more.
            let stays = old.kind == GapKind::Twice || self.gaps.get(&key.2).is_some_and(|new| new.kind == old.kind);
            if !stays {
                tx.remove(&NUMBER_GAPS, &key)?;
                changed.closed += 1;
            }
        }
        let known =
            tx.prefix_keys::<_, (AgreementId, bool, u64), _>(&NUMBER_GAPS, &(agreement, side.key()), GAPS_MAX)?;
        let mut room = GAPS_MAX.saturating_sub(known.len());
        for (number, new) in &self.gaps {
            let key = (agreement, side.key(), *number);
            match tx.get(&NUMBER_GAPS, &key)? {
                Some(old) => {
                    let envelope = old.envelope.or(new.envelope);
                    tx.put(&NUMBER_GAPS, &key, &NumberGap { envelope, ..old })?;
                }
                None if room > 0 => {
                    room -= 1;
                    tx.put(&NUMBER_GAPS, &key, new)?;
                    changed.fresh.push((*number, *new));
                }
                None => {}
            }
        }
        Ok(changed)
    }
}

/// Gaps on record that a round counts: its receiver sees by itself that a number was given twice.
fn recorded(gaps: &[((AgreementId, bool, u64), NumberGap)], side: Side) -> u64 {
    gaps.iter().filter(|(_, gap)| gap.kind != GapKind::Twice || side == Side::Sent).count() as u64
}

/// Puts one gap on record, unless there is one at this number or there are `max` already.
pub(super) fn put_gap(
    tx: &mut WriteTx,
    (agreement, side): (AgreementId, Side),
    number: u64,
    gap: NumberGap,
    max: usize,
) -> Result<(), StoreError> {
    let key = (agreement, side.key(), number);
    let known = tx.prefix_keys::<_, (AgreementId, bool, u64), _>(&NUMBER_GAPS, &(agreement, side.key()), max)?;
    if known.len() >= max || known.contains(&key) {
        return Ok(());
    }
    tx.put(&NUMBER_GAPS, &key, &gap)?;
    let mut row = tx.get(&ROUNDS, &(agreement, side.key()))?.unwrap_or_default();
    row.unseen += 1;
    tx.put(&ROUNDS, &(agreement, side.key()), &row)
}

fn gap(kind: GapKind, envelope: Option<EnvelopeId>) -> NumberGap {
    NumberGap { kind, envelope, found_at: ambient::now(), seen: false }
}

/// What a comparison found, number by number, at most [`GAPS_MAX`] of each kind.
fn gaps_of(findings: &Findings) -> BTreeMap<u64, NumberGap> {
    let of = |numbers: &pakt_protocol::reconcile::ranges::Ranges, kind: GapKind| {
        numbers.numbers().take(GAPS_MAX).map(|number| (number, gap(kind, None))).collect::<Vec<_>>()
    };
    let lost = of(&findings.lost, GapKind::Lost);
    lost.into_iter().chain(of(&findings.unknown, GapKind::Unknown)).collect()
}

/// What this node cannot account for itself, where the comparison shows nothing worse.
fn add_unaccounted(gaps: &mut BTreeMap<u64, NumberGap>, unaccounted: &Unaccounted, last: u64) {
    for (number, envelope) in unaccounted.range(..=last) {
        gaps.entry(*number).or_insert_with(|| gap(GapKind::Unaccounted, *envelope));
    }
}

/// Which restores are known here of the two sides of a direction.
fn restores(tx: &impl Rows, (agreement, side): (AgreementId, Side)) -> Result<Restores, StoreError> {
    let own = tx.contains(&RESTORED, &())?;
    let other = tx.contains(&GAPS, &agreement)? || tx.contains(&PEER_RESTORES, &agreement)?;
    Ok(match side {
        Side::Sent => Restores { sender: own, receiver: other },
        Side::Received => Restores { sender: other, receiver: own },
    })
}

fn add(a: Tally, b: Tally) -> Tally {
    Tally {
        given: b.given,
        delivered: a.delivered.saturating_add(b.delivered),
        open: a.open.saturating_add(b.open),
        held: a.held.saturating_add(b.held),
        explained: a.explained.saturating_add(b.explained),
        gaps: a.gaps.saturating_add(b.gaps),
    }
}

/// How long a direction may go without a complete round before that is worth a warning.
pub const OVERDUE: std::time::Duration = std::time::Duration::from_secs(2 * 86_400);

impl RoundRow {
    /// Whether the last complete round is too old; `since` is when the agreement was made.
    pub fn is_overdue(&self, since: Time, now: Time) -> bool {
        now.since(self.complete.map_or(since, |complete| complete.at.max(since))) > OVERDUE
    }
}
