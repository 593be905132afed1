//! Both directions of the door: flights that come in, and counters for those that go out.
//!
//! **Invariant:** a counter is accepted once, durably, before anybody is answered.
//! **Invariant:** counters that leave are below what is reserved durably, so that none is used twice after a crash.

use std::sync::PoisonError;

use pakt_keys::EntityId;
use pakt_protocol::door::{self, CounterWindow, Flight};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::time::Time;

use super::{Book, FlightProblem};
use crate::ambient;
use crate::store::StoreError;
use crate::store::tables::{DIAL_COUNTERS, DOOR_WINDOWS};

/// Counters that one commit reserves, so that not every dial waits for the disk.
const RESERVED_AT_ONCE: u64 = 64;

/// How far a reserved counter may lie behind the clock, in microseconds: a counterpart that was restored from a backup refuses
/// all from before.
const RESERVED_FOR_US: u64 = 5_000_000;

/// Counters that may be used without asking the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    next: u64,
    last: u64,
}

enum Denied {
    Replayed,
    Store(StoreError),
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Denied {
        Denied::Store(error)
    }
}

impl Book {
    /// Opens a flight: the agreement and counterpart that it belongs to, and its ClientHello.
    ///
    /// `None` for strangers, replays, closed doors, and when the counter cannot be made durable.
    pub async fn admit(&self, flight: &Flight) -> Option<(AgreementId, EntityId, Vec<u8>)> {
        self.admit_at(flight, ambient::now()).await
    }

    pub(super) async fn admit_at(&self, flight: &Flight, now: Time) -> Option<(AgreementId, EntityId, Vec<u8>)> {
        let opened = {
            let state = self.state();
            let opened = state.doors.open(flight)?;
            let is_open = state.agreements.get(&opened.agreement).is_some_and(|agreement| agreement.door_open(now));
            is_open.then_some(opened)?
        };
        let (id, counter) = (opened.agreement, opened.counter);
        let write = self.inner.store.write(move |tx| {
            let mut window: CounterWindow = tx.get(&DOOR_WINDOWS, &id)?.unwrap_or_default();
            if !window.insert(counter) {
                return Err(Denied::Replayed);
            }
            Ok(tx.put(&DOOR_WINDOWS, &id, &window)?)
        });
        match write.await {
            Ok(()) => Some((id, opened.entity, opened.hello)),
            Err(Denied::Replayed) => {
                tracing::debug!(agreement = %id, "a flight came twice");
                None
            }
            Err(Denied::Store(error)) => {
                tracing::error!(agreement = %id, %error, "a door counter could not be stored");
                None
            }
        }
    }

    /// Seals a ClientHello into a flight for the counterpart's door, under a counter that was never used.
    ///
    /// # Errors
    /// A [`FlightProblem`].
    pub async fn seal_flight(&self, id: &AgreementId, hello: &[u8]) -> Result<Box<Flight>, FlightProblem> {
        let secret = self.secret_to_dial_with(id, ambient::service_now()).ok_or(FlightProblem::NoGrant)?;
        let counter = match self.take_reserved(id, ambient::now()) {
            Some(counter) => counter,
            None => self.reserve(*id, ambient::now()).await?,
        };
        Ok(door::seal_flight(&secret, counter, hello, &mut ambient::rng())?)
    }

    fn take_reserved(&self, id: &AgreementId, now: Time) -> Option<u64> {
        let mut counters = self.inner.dial_counters.lock().unwrap_or_else(PoisonError::into_inner);
        let reserved = counters.get_mut(id)?;
        if reserved.next > reserved.last || now.0.saturating_sub(reserved.next) > RESERVED_FOR_US {
            return None;
        }
        let counter = reserved.next;
        reserved.next += 1;
        Some(counter)
    }

    /// Reserves a block, takes its first counter and leaves the rest for later dials.
    async fn reserve(&self, id: AgreementId, now: Time) -> Result<u64, StoreError> {
        let write = self.inner.store.write(move |tx| {
            let last = tx.get(&DIAL_COUNTERS, &id)?.unwrap_or(0);
            let first = door::next_counter(last, now);
            let last = first.saturating_add(RESERVED_AT_ONCE - 1);
            tx.put(&DIAL_COUNTERS, &id, &last)?;
            Ok::<_, StoreError>((first, last))
        });
        let (first, last) = write.await?;
        let mut counters = self.inner.dial_counters.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = counters.get(&id).is_none_or(|reserved| reserved.last < last);
        if newest {
            counters.insert(id, Reserved { next: first.saturating_add(1), last });
        }
        Ok(first)
    }
}
