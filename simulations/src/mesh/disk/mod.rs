//! The disk of a simulated node: rows, and what of them a crash leaves.
//!
//! ```text
//! commit: seen at once by its node, durable a while later, in order
//! crash:  what was not durable is kept (the process died), lost (the machine died) or torn (found by its checksum: lost)
//! ```
//! Every commit is one transaction, as in the node's store. The node goes on with what it wrote at once, but nothing that
//! follows from it may leave before [`Disk::durable_at`]; the judge looks.
//!
//! **Invariant:** after a crash the rows are those of some moment between two commits.

pub(crate) mod rows;

use std::collections::{BTreeMap, VecDeque};

use super::clock::Micros;
pub(crate) use rows::{Key, Slot, Value};

/// One change of a row; none removes it.
pub(crate) type Change = (Key, Option<Value>);

/// The disk takes no write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A commit that may not be durable yet, with what it replaced.
struct Pending {
    durable_at: Micros,
    before: Vec<Change>,
}

/// The disk of one node.
#[derive(Default)]
pub(crate) struct Disk {
    rows: BTreeMap<Key, Value>,
    pending: VecDeque<Pending>,
    durable_at: Micros,
    commits: u64,
    pub(crate) full: bool,
    /// The node dies within this commit.
    pub(crate) dies_at: Option<u64>,
}

/// What a commit has led to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    /// When it will be durable.
    pub(crate) durable_at: Micros,
    /// The node dies before that.
    pub(crate) dies: bool,
}

impl Disk {
    /// A row as the node sees it.
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.rows.get(key)
    }

    /// The rows between two names, both included.
    pub(crate) fn range(&self, from: Key, to: Key) -> impl DoubleEndedIterator<Item = (&Key, &Value)> {
        self.rows.range(from..=to)
    }

    /// Makes changes, all or none; they are durable after `delay`, and not before those of earlier commits.
    pub(crate) fn commit(&mut self, changes: Vec<Change>, now: Micros, delay: Micros) -> Result<Committed, Full> {
        if self.full {
            return Err(Full);
        }
        while self.pending.front().is_some_and(|pending| pending.durable_at <= now) {
            self.pending.pop_front();
        }
        self.durable_at = self.durable_at.max(now) + delay;
        let mut before = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            let was = match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
            before.push((key, was));
        }
        self.pending.push_back(Pending { durable_at: self.durable_at, before });
        self.commits += 1;
        let dies = self.dies_at.take_if(|at| *at <= self.commits).is_some();
        Ok(Committed { durable_at: self.durable_at, dies })
    }

    /// When everything that was committed is durable.
    pub(crate) fn durable_at(&self) -> Micros {
        self.durable_at
    }

    /// How many commits there were.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Whether a row is there and will not be changed by anything that is not durable at this moment.
    pub(crate) fn is_durable(&self, key: &Key, at: Micros) -> bool {
        let open = self.pending.iter().filter(|pending| pending.durable_at > at);
        self.rows.contains_key(key) && !open.flat_map(|pending| &pending.before).any(|(changed, _)| changed == key)
    }

    /// The power fails: what was not durable is gone; a torn commit is found by its checksum and is gone too. Gives the rows
    /// that are as they were before.
    pub(crate) fn lose_unsynced(&mut self, now: Micros) -> Vec<Key> {
        let mut undone = Vec::new();
        while let Some(pending) = self.pending.pop_back_if(|pending| pending.durable_at > now) {
            for (key, was) in pending.before.into_iter().rev() {
                match was {
                    Some(value) => self.rows.insert(key, value),
                    None => self.rows.remove(&key),
                };
                undone.push(key);
            }
        }
        self.durable_at = now;
        undone
    }

    /// The process ends; the system writes what it was given.
    pub(crate) fn keep_unsynced(&mut self, now: Micros) {
        self.pending.clear();
        self.durable_at = now;
    }

    /// A copy as a backup has it: what is durable.
    pub(crate) fn backup(&self, now: Micros) -> BTreeMap<Key, Value> {
        let mut copy = self.rows.clone();
        for pending in self.pending.iter().rev().filter(|pending| pending.durable_at > now) {
            for (key, was) in pending.before.iter().rev() {
                match was {
                    Some(value) => copy.insert(*key, value.clone()),
                    None => copy.remove(key),
                };
            }
        }
        copy
    }

    /// Everything is as in this backup; gives the rows as they were.
    pub(crate) fn restore(&mut self, copy: BTreeMap<Key, Value>, now: Micros) -> BTreeMap<Key, Value> {
        self.pending.clear();
        self.durable_at = now;
        std::mem::replace(&mut self.rows, copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pakt_protocol::ids::EnvelopeId;

    const A: Key = Key::Objects(1, EnvelopeId([1; 16]));

    fn held(n: u8) -> Option<Value> {
        Some(Value::Objects(n.into()))
    }

    fn read(disk: &Disk) -> Option<u8> {
        match disk.get(&A) {
            Some(Value::Objects(n)) => u8::try_from(*n).ok(),
            _ => None,
        }
    }

    #[test]
    fn a_crash_loses_the_newest_commits_in_order() {
        let check = |at: Micros, expected: Option<u8>| {
            let mut disk = Disk::default();
            for (n, now) in [(1, 0), (2, 5), (3, 6)] {
                disk.commit(vec![(A, held(n))], now, 10).expect("room");
            }
            disk.commit(vec![(A, None)], 7, 10).expect("room");
            let backup = disk.backup(at);
            disk.lose_unsynced(at);
            assert_eq!(read(&disk), expected, "at {at}");
            assert_eq!(backup.contains_key(&A), expected.is_some());
        };
        check(9, None);
        check(10, Some(1));
        check(20, Some(2));
        check(39, Some(3));
        check(40, None);
    }

    #[test]
    fn a_row_is_durable_when_its_last_change_is() {
        let mut disk = Disk::default();
        disk.commit(vec![(A, held(1))], 0, 10).expect("room");
        assert!(!disk.is_durable(&A, 9) && disk.is_durable(&A, 10));
        disk.commit(vec![(A, held(2))], 12, 10).expect("room");
        assert!(!disk.is_durable(&A, 21) && disk.is_durable(&A, 22));
        disk.full = true;
        assert_eq!(disk.commit(vec![(A, held(3))], 30, 10).err(), Some(Full));
        disk.keep_unsynced(13);
        assert_eq!((read(&disk), disk.commits()), (Some(2), 2));
    }

    #[test]
    fn it_dies_within_the_nth_commit() {
        let mut disk = Disk { dies_at: Some(2), ..Disk::default() };
        let dies = |disk: &mut Disk| disk.commit(vec![(A, held(1))], 0, 1).expect("room").dies;
        assert_eq!([dies(&mut disk), dies(&mut disk), dies(&mut disk)], [false, true, false]);
    }
}
