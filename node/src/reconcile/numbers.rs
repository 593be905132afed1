//! The number of each envelope, and what becomes of it; each function is part of the commit that it follows.

use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::time::Time;

use super::rounds::{self, GAPS_MAX};
use super::rows::{GapKind, NumberGap, SentNumber, Side, Standing};
use crate::ambient;
use crate::mailroom::rows::OutEnvelope;
use crate::store::tables::{AGREEMENTS, FORGOTTEN, HELD_NUMBERS, LAST_NUMBERS, PEER_RESTORES, SENT_NUMBERS};
use crate::store::{StoreError, WriteTx};

/// Restores of either side that are remembered one by one; older ones are taken together.
const RESTORES_MAX: usize = 64;
/// A receipt signed shortly before the backup may have become durable after it.
const BACKUP_GRACE_MICROS: i64 = 60_000_000;

/// Gives an envelope the next number of its agreement.
pub(crate) fn give(tx: &mut WriteTx, agreement: AgreementId, envelope: EnvelopeId) -> Result<u64, StoreError> {
    let number = tx.get(&LAST_NUMBERS, &agreement)?.unwrap_or(0).saturating_add(1);
    tx.put(&LAST_NUMBERS, &agreement, &number)?;
    tx.put(&SENT_NUMBERS, &(agreement, number), &SentNumber { envelope, standing: Standing::Open })?;
    Ok(number)
}

/// Follows where an envelope of this node stands.
pub(crate) fn follow(tx: &mut WriteTx, row: &OutEnvelope) -> Result<(), StoreError> {
    let standing = standing_of(row);
    if standing == Standing::Open {
        return Ok(());
    }
    let number = SentNumber { envelope: row.id, standing };
    tx.put(&SENT_NUMBERS, &(row.agreement, row.number), &number)
}

/// Where an envelope stands by its receipts, whatever its sender was told in between.
fn standing_of(row: &OutEnvelope) -> Standing {
    let receipt = |places: std::ops::RangeInclusive<u8>| row.receipts.iter().find(|held| places.contains(&held.tier));
    match receipt(1..=3) {
        Some(receipt) => Standing::Delivered(receipt.at),
        // Quarantined, purged or sent back: the receiver may have held it, and has answered for it in any case.
        None if receipt(4..=u8::MAX).is_some() => Standing::Answered,
        None if row.delivery.state.is_open() => Standing::Open,
        None => Standing::Ended,
    }
}

/// An envelope of the counterpart was committed. Another one with its number is a gap at once.
pub(crate) fn arrived(
    tx: &mut WriteTx,
    (agreement, number): (AgreementId, u64),
    envelope: EnvelopeId,
) -> Result<(), StoreError> {
    match tx.get(&HELD_NUMBERS, &(agreement, number))? {
        None => tx.put(&HELD_NUMBERS, &(agreement, number), &envelope),
        Some(first) if first == envelope => Ok(()),
        Some(_) => {
            tracing::error!(%agreement, %envelope, number, "the counterpart gave one number to two envelopes");
            let gap =
                NumberGap { kind: GapKind::Twice, envelope: Some(envelope), found_at: ambient::now(), seen: false };
            rounds::put_gap(tx, (agreement, Side::Received), number, gap, GAPS_MAX)
        }
    }
}

/// After a restore: numbers go on above all that may have been given, and those between are forgotten.
pub(crate) fn after_restore(tx: &mut WriteTx, jumped: impl Fn(u64) -> u64) -> Result<(), StoreError> {
    for agreement in tx.prefix_keys::<_, AgreementId, _>(&AGREEMENTS, &(), usize::MAX)? {
        let last = tx.get(&LAST_NUMBERS, &agreement)?.unwrap_or(0);
        let next = jumped(last);
        tx.put(&LAST_NUMBERS, &agreement, &next)?;
        let mut forgotten = tx.get(&FORGOTTEN, &agreement)?.unwrap_or_default();
        forgotten.push((last.saturating_add(1), next));
        merge_oldest(&mut forgotten);
        tx.put(&FORGOTTEN, &agreement, &forgotten)?;
    }
    Ok(())
}

/// The counterpart was restored: receipts that it signed in this time, by its own clock, may be of envelopes that it lost.
pub(crate) fn counterpart_restored(
    tx: &mut WriteTx,
    agreement: AgreementId,
    (backup_at, until): (Time, Time),
) -> Result<(), StoreError> {
    let mut times = tx.get(&PEER_RESTORES, &agreement)?.unwrap_or_default();
    times.push((backup_at.shifted(-BACKUP_GRACE_MICROS), until));
    merge_oldest(&mut times);
    tx.put(&PEER_RESTORES, &agreement, &times)
}

/// Takes the two oldest together while there are too many.
fn merge_oldest<T: Copy + Ord>(spans: &mut Vec<(T, T)>) {
    while spans.len() > RESTORES_MAX {
        let (first, second) = (spans.remove(0), spans[0]);
        spans[0] = (first.0.min(second.0), first.1.max(second.1));
    }
}
