//! All doors of one listener: which agreement, if any, a flight belongs to.
//!
//! **Invariant:** every secret of every row is tried for every flight; no answer comes earlier than another.

use pakt_keys::entity::EntityId;
use subtle::ConditionallySelectable;

use super::flight::{DoorKeys, DoorSecret, Flight};
use crate::ids::AgreementId;

/// Secrets that are valid at a time per counterpart: the newest and the one that it may still be using.
pub const SECRETS_MAX: usize = 2;

/// What a flight said to a listener that could open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The agreement whose door it is.
    pub agreement: AgreementId,
    /// The counterpart that the secret was granted to.
    pub entity: EntityId,
    /// The dialer's counter, still to be checked against the [`CounterWindow`](super::CounterWindow).
    pub counter: u64,
    /// The TLS ClientHello.
    pub hello: Vec<u8>,
}

struct Row {
    agreement: AgreementId,
    entity: EntityId,
    keys: Vec<DoorKeys>,
}

/// The secrets that a listener has granted, by agreement.
#[derive(Default)]
pub struct DoorTable {
    rows: Vec<Row>,
}

impl DoorTable {
    /// A table without rows: nobody comes in.
    pub fn new() -> DoorTable {
        DoorTable::default()
    }

    /// Replaces the secrets of one agreement; `secrets` is newest first, more than [`SECRETS_MAX`] are ignored.
    pub fn set(&mut self, agreement: AgreementId, entity: EntityId, secrets: &[DoorSecret]) {
        self.remove(&agreement);
        let keys: Vec<_> = secrets.iter().take(SECRETS_MAX).map(DoorKeys::new).collect();
        if !keys.is_empty() {
            self.rows.push(Row { agreement, entity, keys });
        }
    }

    /// Closes the door of one agreement; answers whether there was one.
    pub fn remove(&mut self, agreement: &AgreementId) -> bool {
        let before = self.rows.len();
        self.rows.retain(|row| row.agreement != *agreement);
        self.rows.len() < before
    }

    /// The number of agreements whose door is open.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nobody can come in.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Opens a flight, or not; a counter seen before is the caller's to refuse.
    pub fn open(&self, flight: &Flight) -> Option<Opened> {
        const NOBODY: u64 = u64::MAX;
        let mut found = NOBODY;
        let all = self.rows.iter().flat_map(|row| row.keys.iter().map(move |keys| (row, keys)));
        for (index, (_, keys)) in (0..NOBODY).zip(all.clone()) {
            found.conditional_assign(&index, keys.names(flight));
        }
        let (row, keys) = all.clone().nth(usize::try_from(found).ok()?)?;
        let (counter, hello) = keys.open(flight)?;
        Some(Opened { agreement: row.agreement, entity: row.entity, counter, hello })
    }
}

impl std::fmt::Debug for DoorTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DoorTable").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal_flight;
    use super::*;

    fn secret(byte: u8) -> DoorSecret {
        DoorSecret::from_bytes([byte; 32])
    }

    fn flight(byte: u8) -> Box<Flight> {
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        seal_flight(&secret(byte), 5, b"hi", &mut rng).unwrap()
    }

    fn table() -> DoorTable {
        let mut table = DoorTable::new();
        for n in 0..10 {
            let secrets = [secret(n), secret(100 + n), secret(200 + n)];
            table.set(AgreementId([n; 32]), EntityId([50 + n; 32]), &secrets);
        }
        table
    }

    #[test]
    fn a_flight_finds_its_row_by_either_of_two_secrets() {
        let table = table();
        for (byte, row) in [(0, Some(0)), (7, Some(7)), (9, Some(9)), (107, Some(7)), (207, None), (99, None)] {
            let opened = table.open(&flight(byte));
            assert_eq!(opened.as_ref().map(|o| o.agreement), row.map(|n| AgreementId([n; 32])), "{byte}");
            assert_eq!(opened.as_ref().map(|o| o.entity), row.map(|n| EntityId([50 + n; 32])));
            assert!(opened.is_none_or(|o| o.counter == 5 && o.hello == b"hi"));
        }
    }

    #[test]
    fn a_removed_or_replaced_door_is_shut() {
        let mut table = table();
        assert!(table.remove(&AgreementId([3; 32])));
        assert!(!table.remove(&AgreementId([3; 32])));
        table.set(AgreementId([4; 32]), EntityId([54; 32]), &[secret(77)]);
        table.set(AgreementId([5; 32]), EntityId([55; 32]), &[]);
        assert_eq!(table.len(), 8);
        for (byte, admitted) in [(3, false), (103, false), (4, false), (77, true), (5, false)] {
            assert_eq!(table.open(&flight(byte)).is_some(), admitted, "{byte}");
        }
        assert!(DoorTable::new().open(&flight(1)).is_none());
    }

    #[test]
    fn noise_opens_nothing() {
        let table = table();
        for byte in 0..=255 {
            assert_eq!(table.open(&[byte; 2048]), None);
        }
    }
}
