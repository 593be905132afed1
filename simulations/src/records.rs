//! What became of every envelope, as a sequence that two engines can be compared by.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::outcome::{Event, Record, Watch, What};

/// Which envelope: the number of its submission, its sender, its recipient.
pub type EnvelopeKey = (u64, usize, usize);

/// Gathers the records of each envelope, of the sender and of the recipient apart; give it to a run as its [`Watch`].
///
/// A record counts where it is first seen: how often an offer had to be repeated is the line's business, and no part of what
/// became of the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    /// By envelope and the node that saw it.
    pub sequences: BTreeMap<(EnvelopeKey, usize), Vec<Record>>,
}

impl Watch for Records {
    fn event(&mut self, event: &Event) {
        let What::Record { submission, from, to, record } = &event.what else { return };
        let sequence = self.sequences.entry(((*submission, *from, *to), event.node)).or_default();
        if !sequence.contains(record) {
            sequence.push(record.clone());
        }
    }

    fn progress(&mut self, _: Duration) {}
}

impl Records {
    /// The first few envelopes whose sequences differ, with both; empty where the two runs are the same.
    pub fn differences<'a>(&'a self, other: &'a Records) -> Vec<((EnvelopeKey, usize), &'a [Record], &'a [Record])> {
        let mut keys: Vec<_> = self.sequences.keys().chain(other.sequences.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let of = |records: &'a Records, key| records.sequences.get(key).map_or(&[][..], Vec::as_slice);
        let both = keys.into_iter().map(|key| (*key, of(self, key), of(other, key)));
        both.filter(|(_, here, there)| here != there).take(DIFFERENCES_MAX).collect()
    }
}

/// More of them help nobody.
const DIFFERENCES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn records(rows: &[(usize, u64, Record)]) -> Records {
        let mut records = Records::default();
        for (node, submission, record) in rows {
            let what = What::Record { submission: *submission, from: 0, to: 1, record: record.clone() };
            records.event(&Event { at: Duration::ZERO, node: *node, what });
        }
        records
    }

    #[test]
    fn what_is_repeated_counts_once_and_what_is_missing_shows() {
        use Record::{Accepted, Delivered, Offered, Submitted};
        let plain =
            records(&[(0, 7, Submitted), (0, 7, Offered), (0, 7, Accepted), (1, 7, Delivered), (0, 7, Delivered)]);
        let rows = [(0, 7, Submitted), (0, 7, Offered), (0, 7, Offered), (1, 7, Delivered), (0, 7, Accepted)];
        let mut repeated = records(&rows);
        let missing = repeated.differences(&plain);
        assert_eq!(missing.len(), 1);
        let (key, here, there) = missing[0];
        assert_eq!((key, here.len(), there.len()), (((7, 0, 1), 0), 3, 4));
        repeated.event(&Event {
            at: Duration::ZERO,
            node: 0,
            what: What::Record { submission: 7, from: 0, to: 1, record: Delivered },
        });
        assert!(repeated.differences(&plain).is_empty());
        assert_eq!(records(&[]).differences(&plain).len(), 2);
    }
}
