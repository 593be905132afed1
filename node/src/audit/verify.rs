//! Reads the whole log again: every entry, every stored hash, and what heads and receipts said of it.
//!
//! The rows alone prove little, because whoever can write them can write them anew. What proves is a head or a receipt
//! that somebody else holds.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use pakt_protocol::audit::tree::{self, Hash};
use pakt_protocol::audit::{BlindedHead, Entry, Event, LogHead, MessageStep};
use pakt_protocol::ids::{CoreHash, EnvelopeId};

use super::{AuditRow, size};
use crate::store::tables::{AUDIT, OWN_HEADS};
use crate::store::{Rows, StoreError};

/// What somebody else holds of this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// A signed head.
    Head {
        /// Its size.
        size: u64,
        /// Its root.
        root: Hash,
    },
    /// The blinded head of a receipt.
    Receipt {
        /// The envelope.
        envelope: EnvelopeId,
        /// The core that the receipt is about.
        core: CoreHash,
        /// The blinded head.
        blinded: Hash,
    },
}

impl From<&LogHead> for Held {
    fn from(head: &LogHead) -> Held {
        Held::Head { size: head.size, root: head.root }
    }
}

/// Why the log is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Tampered {
    /// Entries are missing, or there are more than were counted.
    #[error("entry {0} is missing, or there are others than were counted")]
    Missing(u64),
    /// An entry cannot be read.
    #[error("entry {0} cannot be read")]
    Unreadable(u64),
    /// An entry does not have the hash that was stored with it.
    #[error("entry {0} was changed: its hash is another than the one stored with it")]
    Changed(u64),
    /// The log is shorter than a head says.
    #[error("the log was cut: a head of {0} entries exists")]
    Cut(u64),
    /// The entries before a head are others than it says.
    #[error("the log was rewritten: its first {0} entries are others than a head says")]
    Rewritten(u64),
    /// A receipt's entry is missing, or the log before it is another.
    #[error("the log was rewritten: a receipt that was given is not in it as it was given")]
    Receipt,
}

/// What a verification has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Entries.
    pub entries: u64,
    /// The root over them.
    pub root: Hash,
    /// Heads and receipts that were compared.
    pub compared: usize,
}

/// The log as it is being read: the roots of the complete subtrees, the largest first.
#[derive(Default)]
struct Reading {
    size: u64,
    peaks: Vec<Hash>,
}

impl Reading {
    /// Takes the next entry, and gives the hashes of the subtrees that it completes.
    fn push(&mut self, leaf: Hash) -> Vec<Hash> {
        let mut hashes = vec![leaf];
        let mut top = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().unwrap_or_default();
            top = tree::node_hash(&left, &top);
            hashes.push(top);
        }
        self.peaks.push(top);
        self.size += 1;
        hashes
    }

    fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().copied();
        let first = peaks.next().unwrap_or_else(tree::empty_root);
        peaks.fold(first, |right, left| tree::node_hash(&left, &right))
    }
}

/// What is still to be found in the log.
struct Wanted {
    roots: BTreeMap<u64, Vec<Hash>>,
    receipts: BTreeMap<(EnvelopeId, CoreHash), Vec<Hash>>,
    compared: usize,
}

impl Wanted {
    fn new(held: &[Held]) -> Wanted {
        let mut wanted = Wanted { roots: BTreeMap::new(), receipts: BTreeMap::new(), compared: held.len() };
        for one in held {
            match one {
                Held::Head { size, root } => wanted.roots.entry(*size).or_default().push(*root),
                Held::Receipt { envelope, core, blinded } => {
                    wanted.receipts.entry((*envelope, *core)).or_default().push(*blinded);
                }
            }
        }
        wanted
    }

    /// Compares the log as far as it was read.
    fn compare(&mut self, reading: &Reading, entry: Option<&Entry>) -> Result<(), Tampered> {
        let root = reading.root();
        if let Some(roots) = self.roots.remove(&reading.size)
            && roots.iter().any(|known| *known != root)
        {
            return Err(Tampered::Rewritten(reading.size));
        }
        let Some((key, blinder)) = entry.and_then(answered) else { return Ok(()) };
        // Several receipts may be about one envelope: each has its own entry.
        if let Some(known) = self.receipts.get_mut(&key) {
            let blinded = BlindedHead::of(reading.size, &root, &blinder).0;
            known.retain(|known| *known != blinded);
            if known.is_empty() {
                self.receipts.remove(&key);
            }
        }
        Ok(())
    }

    fn is_wanted(&self, size: u64, entry: &Entry) -> bool {
        self.roots.contains_key(&size) || answered(entry).is_some_and(|(key, _)| self.receipts.contains_key(&key))
    }

    fn end(&self) -> Result<(), Tampered> {
        match self.roots.keys().next_back() {
            Some(size) => Err(Tampered::Cut(*size)),
            None if self.receipts.is_empty() => Ok(()),
            None => Err(Tampered::Receipt),
        }
    }
}

/// The receipt that an entry speaks of, and what blinds the head in it.
fn answered(entry: &Entry) -> Option<((EnvelopeId, CoreHash), [u8; 32])> {
    match &entry.event {
        Event::Message {
            envelope,
            step:
                MessageStep::Received { core, blinder }
                | MessageStep::RefusedHere { core, blinder }
                | MessageStep::Stated { core, blinder, .. },
            ..
        } => Some(((*envelope, *core), *blinder)),
        _ => None,
    }
}

/// Reads the log and compares it with itself, with the own heads that are kept, and with what others hold.
///
/// # Errors
/// When the store fails; what is wrong with the log is the inner error.
pub fn verify(tx: &impl Rows, held: &[Held]) -> Result<Result<Verified, Tampered>, StoreError> {
    let verdict = verify_while(tx, held, || true)?;
    Ok(verdict.unwrap_or(Err(Tampered::Missing(0))))
}

/// The same while `go_on` says so; none if it was stopped before the end.
///
/// # Errors
/// Those of [`verify`].
pub(super) fn verify_while(
    tx: &impl Rows,
    held: &[Held],
    go_on: impl Fn() -> bool,
) -> Result<Option<Result<Verified, Tampered>>, StoreError> {
    let mut own: Vec<Held> = Vec::new();
    for (_, head) in tx.range(&OWN_HEADS, .., usize::MAX)? {
        own.push(Held::from(&head.peek().map_err(|_| StoreError::Damaged(OWN_HEADS.name()))?));
    }
    own.extend_from_slice(held);
    let (mut reading, mut wanted, mut wrong) = (Reading::default(), Wanted::new(&own), None);
    if let Err(tampered) = wanted.compare(&reading, None) {
        return Ok(Some(Err(tampered)));
    }
    let mut stopped = false;
    tx.scan(&AUDIT, .., |index: u64, row: AuditRow| {
        if !go_on() {
            stopped = true;
            return Ok(ControlFlow::Break(()));
        }
        Ok(match read_one(&mut reading, &mut wanted, index, &row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(tampered) => {
                wrong = Some(tampered);
                ControlFlow::Break(())
            }
        })
    })?;
    if stopped {
        return Ok(None);
    }
    if wrong.is_none() && reading.size != size(tx)? {
        wrong = Some(Tampered::Missing(reading.size));
    }
    let verdict = match wrong {
        Some(tampered) => Err(tampered),
        None => wanted.end(),
    };
    let verified = Verified { entries: reading.size, root: reading.root(), compared: wanted.compared };
    Ok(Some(verdict.map(|()| verified)))
}

fn read_one(reading: &mut Reading, wanted: &mut Wanted, index: u64, row: &AuditRow) -> Result<(), Tampered> {
    if index != reading.size {
        return Err(Tampered::Missing(reading.size));
    }
    let entry = Entry::from_bytes(&row.entry).map_err(|_| Tampered::Unreadable(index))?;
    if reading.push(tree::leaf_hash(&row.entry)) != row.hashes {
        return Err(Tampered::Changed(index));
    }
    if wanted.is_wanted(reading.size, &entry) { wanted.compare(reading, Some(&entry)) } else { Ok(()) }
}
