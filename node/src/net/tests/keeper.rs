//! A doorkeeper with one agreement, whose "chain" is an entity id and a transport key.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use pakt_protocol::door::{CounterWindow, DoorSecret, DoorTable, Flight, next_counter, seal_flight};
use pakt_protocol::time::Time;

use super::*;

/// The only agreement of the tests.
pub(super) const AGREEMENT: AgreementId = AgreementId([7; 32]);

pub(super) struct Keeper {
    pub(super) own: EntityId,
    /// What this node says it is; another entity's id makes it an impostor.
    pub(super) claimed: EntityId,
    pub(super) peer: EntityId,
    peer_keys: Vec<[u8; 32]>,
    own_key: Mutex<[u8; 32]>,
    pub(super) granted_to_us: DoorSecret,
    table: DoorTable,
    window: Mutex<CounterWindow>,
    counter: Mutex<u64>,
    /// Flights that were asked about, and those that were let in.
    pub(super) asked: AtomicUsize,
    pub(super) admitted: AtomicUsize,
    pub(super) panics_in_admit: AtomicBool,
    pub(super) panics_in_check: AtomicBool,
    /// What it says of a peer that is who it should be, if anything is wrong with that one.
    pub(super) refuses: Option<HelloRefusal>,
}

pub(super) fn transport_of(seed: u8) -> [u8; 32] {
    let key = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    key.public().try_into_ed25519().unwrap().to_bytes()
}

pub(super) fn rng() -> impl rand_core::CryptoRng {
    rand_core::UnwrapErr(getrandom::SysRng)
}

impl Keeper {
    /// Keepers of the nodes with the transport seeds 1 and 2; 11 and 12 after a rotation.
    pub(super) fn pair() -> (Keeper, Keeper) {
        let secrets = [1, 2].map(|byte| DoorSecret::from_bytes([byte; 32]));
        let entities = [1, 2].map(|byte| EntityId([byte; 32]));
        let make = |own: usize, other: usize| {
            let mut table = DoorTable::new();
            table.set(AGREEMENT, entities[other], &secrets[own..=own]);
            let [peer_seed, own_seed] = [other, own].map(|index| index as u8 + 1);
            Keeper {
                own: entities[own],
                claimed: entities[own],
                peer: entities[other],
                peer_keys: vec![transport_of(peer_seed), transport_of(peer_seed + 10)],
                own_key: Mutex::new(transport_of(own_seed)),
                granted_to_us: secrets[other].clone(),
                table,
                window: Mutex::default(),
                counter: Mutex::new(0),
                asked: AtomicUsize::new(0),
                admitted: AtomicUsize::new(0),
                panics_in_admit: AtomicBool::new(false),
                panics_in_check: AtomicBool::new(false),
                refuses: None,
            }
        };
        (make(0, 1), make(1, 0))
    }

    pub(super) fn target(&self, addr: String) -> DialTarget {
        DialTarget { agreement: AGREEMENT, entity: self.peer, addr }
    }

    pub(super) fn rotate(&self, seed: u8) {
        *self.own_key.lock().unwrap() = transport_of(seed);
    }

    pub(super) fn seal(&self, hello: &[u8]) -> Box<Flight> {
        let mut counter = self.counter.lock().unwrap();
        *counter = next_counter(*counter, Time::ZERO);
        seal_flight(&self.granted_to_us, *counter, hello, &mut rng()).unwrap()
    }
}

pub(super) fn hello_of(entity: EntityId, key: [u8; 32]) -> Vec<u8> {
    [entity.0, key].concat()
}

impl Doorkeeper for Keeper {
    fn admit(&self, flight: Box<Flight>) -> BoxFuture<'_, Option<Admission>> {
        async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            assert!(!self.panics_in_admit.load(Ordering::SeqCst), "injected panic");
            let opened = self.table.open(&flight)?;
            if !self.window.lock().unwrap().insert(opened.counter) {
                return None;
            }
            self.admitted.fetch_add(1, Ordering::SeqCst);
            Some(Admission { agreement: opened.agreement, entity: opened.entity, hello: opened.hello })
        }
        .boxed()
    }

    fn flight<'a>(
        &'a self,
        target: &'a DialTarget,
        client_hello: Vec<u8>,
    ) -> BoxFuture<'a, Result<Box<Flight>, DialError>> {
        async move {
            match target.agreement == AGREEMENT {
                true => Ok(self.seal(&client_hello)),
                false => Err(DialError::NoGrant),
            }
        }
        .boxed()
    }

    fn own_hello(&self, _: &AgreementId) -> Vec<u8> {
        hello_of(self.claimed, *self.own_key.lock().unwrap())
    }

    fn check_hello(
        &self,
        agreement: &AgreementId,
        entity: &EntityId,
        tls_key: [u8; 32],
        hello: &[u8],
    ) -> Result<PeerNode, HelloRefusal> {
        assert!(!self.panics_in_check.load(Ordering::SeqCst), "injected panic");
        if *hello != hello_of(*entity, tls_key) {
            return Err(HelloRefusal::ForeignEntity);
        }
        if !self.peer_keys.contains(&tls_key) {
            return Err(HelloRefusal::ForeignKey);
        }
        if let Some(refusal) = self.refuses {
            return Err(refusal);
        }
        Ok(PeerNode { entity: *entity, agreement: *agreement, transport: tls_key, hello: hello.to_vec() })
    }
}
