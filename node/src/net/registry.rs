//! What the chain learned about a connection, kept until the swarm asks for it.
//!
//! The swarm carries only addresses from a dial to its chain and from a chain to the behaviour. A dialled address
//! therefore ends in a ticket number that names the dial, and an accepted connection is found by its address pair.
//!
//! **Invariant:** an entry lives no longer than the dial or the connection that it speaks of.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use pakt_protocol::ids::AgreementId;

use super::DialTarget;
use super::base::Relayed;
use super::error::DialError;
use super::lane::{LaneBytes, PeerNode};
use super::seats::Seat;

/// The address pair of an accepted connection: local, remote.
pub(super) type AddressPair = (Multiaddr, Multiaddr);

/// Stale entries are looked for only above this many.
const ACCEPTED_BEFORE_SWEEP: usize = 64;

/// A connection whose peer was checked.
pub(super) struct Pass {
    pub(super) peer: PeerNode,
    pub(super) remote: SocketAddr,
    pub(super) bytes: Arc<LaneBytes>,
    /// The agreement with the partner that forwards the connection.
    pub(super) via: Option<AgreementId>,
    /// Taken by accepted connections only.
    pub(super) _seat: Option<Seat>,
}

/// One dial under way and what became of it.
pub(super) struct DialRecord {
    pub(super) target: DialTarget,
    /// The forwarded stream to use instead of an address, until it is used.
    carrier: Mutex<Option<Relayed>>,
    outcome: Mutex<Option<Result<Arc<Pass>, DialError>>>,
}

impl DialRecord {
    pub(super) fn finish(&self, outcome: Result<Arc<Pass>, DialError>) {
        *lock(&self.outcome) = Some(outcome);
    }

    pub(super) fn take_carrier(&self) -> Option<Relayed> {
        lock(&self.carrier).take()
    }

    pub(super) fn outcome(&self) -> Option<Result<Arc<Pass>, DialError>> {
        lock(&self.outcome).clone()
    }
}

/// All dials under way and all connections accepted but not yet established in the swarm.
#[derive(Default)]
pub(super) struct Registry {
    accepted: Mutex<HashMap<AddressPair, Weak<Pass>>>,
    dials: Mutex<HashMap<u64, Arc<DialRecord>>>,
    tickets: AtomicU64,
}

impl Registry {
    pub(super) fn put_accepted(&self, pair: AddressPair, pass: &Arc<Pass>) {
        let mut accepted = lock(&self.accepted);
        if accepted.len() >= ACCEPTED_BEFORE_SWEEP {
            accepted.retain(|_, pass| pass.strong_count() > 0);
        }
        accepted.insert(pair, Arc::downgrade(pass));
    }

    pub(super) fn take_accepted(&self, pair: &AddressPair) -> Option<Arc<Pass>> {
        lock(&self.accepted).remove(pair)?.upgrade()
    }

    pub(super) fn open_dial(self: &Arc<Self>, target: DialTarget, carrier: Option<Relayed>) -> Ticket {
        let number = self.tickets.fetch_add(1, Ordering::Relaxed);
        let record = Arc::new(DialRecord { target, carrier: Mutex::new(carrier), outcome: Mutex::new(None) });
        lock(&self.dials).insert(number, record.clone());
        Ticket { number, record, registry: self.clone() }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.dials).is_empty() && lock(&self.accepted).is_empty()
    }

    /// The dial that an address with a ticket belongs to, unless its caller gave up.
    pub(super) fn dial_of(&self, address: &Multiaddr) -> Option<Arc<DialRecord>> {
        let (_, number) = split_ticket(address)?;
        lock(&self.dials).get(&number).cloned()
    }
}

/// The caller's hold on a dial; its drop gives the dial up.
pub(super) struct Ticket {
    number: u64,
    pub(super) record: Arc<DialRecord>,
    registry: Arc<Registry>,
}

impl Ticket {
    pub(super) fn append_to(&self, address: Multiaddr) -> Multiaddr {
        address.with(Protocol::Memory(self.number))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.registry.dials).remove(&self.number);
    }
}

/// Separates a dialled address from its ticket number.
pub(super) fn split_ticket(address: &Multiaddr) -> Option<(Multiaddr, u64)> {
    let mut bare = address.clone();
    match bare.pop()? {
        Protocol::Memory(number) => Some((bare, number)),
        _ => None,
    }
}

/// Locks, also after a panic elsewhere: every critical section here leaves the maps whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
