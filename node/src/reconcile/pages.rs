//! What there is to state about a range of numbers, read in one go and in bounded pieces.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::reconcile::ranges::Ranges;
use pakt_protocol::record::Signed;
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::reconciliation::SentStatement;
use pakt_protocol::time::Time;

use super::rounds::GAPS_MAX;
use super::rows::{SentNumber, Standing};
use crate::store::tables::{FORGOTTEN, HELD_NUMBERS, LAST_NUMBERS, OPEN_ENVELOPES, PEER_RESTORES, SENT_NUMBERS};
use crate::store::{Rows, StoreError};

/// Numbers that one page reads, so that nothing waits long for it.
const PAGE_NUMBERS_MAX: u64 = 100_000;

/// A page of a round about what this node has sent.
#[derive(Debug, Clone)]
pub struct Stated {
    /// As it goes to the counterpart.
    pub signed: Signed<SentStatement>,
    /// The same, readable.
    pub body: SentStatement,
    /// What certifies the key that signed it.
    pub(super) chain: CertificateChain,
    /// What this node cannot account for itself.
    pub(super) unaccounted: Unaccounted,
}

/// Numbers without a record, or with one that no queue leads to.
pub(super) type Unaccounted = BTreeMap<u64, Option<EnvelopeId>>;

/// What this side has sent.
pub(super) struct SentPage {
    pub(super) given: u64,
    pub(super) last: u64,
    pub(super) delivered: Ranges,
    pub(super) open: Ranges,
    pub(super) excused: Ranges,
    pub(super) forgotten: Ranges,
    pub(super) unaccounted: Unaccounted,
}

/// Reads a page of what was sent, from number `first` on.
pub(super) fn sent_page(tx: &impl Rows, agreement: AgreementId, first: u64) -> Result<SentPage, StoreError> {
    let queued: HashSet<EnvelopeId> =
        tx.prefix(&OPEN_ENVELOPES, &agreement, usize::MAX)?.into_iter().map(|((_, _), envelope)| envelope).collect();
    let restores = tx.get(&PEER_RESTORES, &agreement)?.unwrap_or_default();
    let spans = tx.get(&FORGOTTEN, &agreement)?.unwrap_or_default();
    let forgotten = spans.into_iter().fold(Ranges::default(), |all, (from, to)| all.or(&Ranges::of(from, to)));
    let mut page = SentPage {
        given: tx.get(&LAST_NUMBERS, &agreement)?.unwrap_or(0),
        last: u64::MAX,
        delivered: Ranges::default(),
        open: Ranges::default(),
        excused: Ranges::default(),
        forgotten: Ranges::default(),
        unaccounted: Unaccounted::new(),
    };
    let (mut next, mut read) = (first, 0);
    tx.scan(&SENT_NUMBERS, (agreement, first)..=(agreement, u64::MAX), |(_, number), row| {
        read += 1;
        if read > PAGE_NUMBERS_MAX || !page.take(number, &row, &queued, &restores) {
            page.last = number - 1;
            return Ok(ControlFlow::Break(()));
        }
        page.miss(next, number - 1, &forgotten);
        next = number.saturating_add(1);
        Ok(ControlFlow::Continue(()))
    })?;
    page.miss(next, page.given.min(page.last), &forgotten);
    page.forgotten = forgotten.within(first, page.last);
    Ok(page)
}

impl SentPage {
    /// Adds a number to the set where it belongs; false if that has no room.
    fn take(&mut self, number: u64, row: &SentNumber, queued: &HashSet<EnvelopeId>, restores: &[(Time, Time)]) -> bool {
        let set = match row.standing {
            Standing::Ended => return true,
            Standing::Open if !queued.contains(&row.envelope) => {
                self.note(number, Some(row.envelope));
                return true;
            }
            Standing::Open | Standing::Answered => &mut self.open,
            Standing::Delivered(at) if restores.iter().any(|(from, to)| (*from..=*to).contains(&at)) => {
                &mut self.excused
            }
            Standing::Delivered(_) => &mut self.delivered,
        };
        let has_room = set.has_room(number);
        if has_room {
            set.push(number, number);
        }
        has_room
    }

    /// Notes numbers that were given and have no row.
    fn miss(&mut self, first: u64, last: u64, forgotten: &Ranges) {
        let missing = Ranges::of(first, last).minus(forgotten);
        missing.numbers().take(GAPS_MAX).for_each(|number| self.note(number, None));
    }

    fn note(&mut self, number: u64, envelope: Option<EnvelopeId>) {
        if self.unaccounted.len() < GAPS_MAX {
            self.unaccounted.insert(number, envelope);
        }
    }
}

/// What is held of the numbers from `first` to `last`, and how far that was read.
pub(super) fn held_page(
    tx: &impl Rows,
    agreement: AgreementId,
    (first, last): (u64, u64),
) -> Result<(u64, Ranges), StoreError> {
    let (mut held, mut end, mut read) = (Ranges::default(), last, 0);
    tx.scan(&HELD_NUMBERS, (agreement, first)..=(agreement, last), |(_, number), _: EnvelopeId| {
        read += 1;
        // The first number always has room, so that every page goes further than the last.
        if read > PAGE_NUMBERS_MAX || !held.has_room(number) {
            end = number - 1;
            return Ok(ControlFlow::Break(()));
        }
        held.push(number, number);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((end, held))
}
