//! The bounded room in which every accepted connection waits until the door lets it in or its time is up.
//!
//! A newcomer always gets a place. When the room is full, somebody who waits has to leave: the oldest of an address
//! that holds more than its share, else the oldest of an address that has not passed the door in the last day, else
//! the oldest. Who leaves depends on the crowd, never on what a flight holds.
//!
//! **Invariant:** at most `places_max` connections wait, whatever arrives.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::registry::lock;

/// How long an address that passed the door is spared.
const SPARED: Duration = Duration::from_secs(24 * 60 * 60);
/// Addresses remembered as spared; a node has far fewer counterparts.
const SPARED_MAX: usize = 4096;

/// Where a connection comes from, as coarse as one customer of a network usually is: IPv4 address or IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin(u64, bool);

impl Origin {
    fn of(remote: SocketAddr) -> Origin {
        match remote.ip().to_canonical() {
            IpAddr::V4(ip) => Origin(u64::from(ip.to_bits()), false),
            IpAddr::V6(ip) => Origin((ip.to_bits() >> 64) as u64, true),
        }
    }
}

struct Waiting {
    origin: Origin,
    /// Its drop tells the connection to leave.
    _leave: oneshot::Sender<()>,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    crowd: HashMap<Origin, usize>,
    spared: HashMap<Origin, Instant>,
}

/// All places of one node.
pub(super) struct WaitingRoom {
    state: Mutex<State>,
    places_max: usize,
    per_address_max: usize,
}

impl WaitingRoom {
    pub(super) fn new(places_max: usize, per_address_max: usize) -> Arc<WaitingRoom> {
        Arc::new(WaitingRoom { state: Mutex::default(), places_max: places_max.max(1), per_address_max })
    }

    /// A place for a newcomer, at the expense of somebody else when the room is full.
    pub(super) fn enter(self: &Arc<Self>, remote: SocketAddr) -> Place {
        let origin = Origin::of(remote);
        let (leave, told_to_leave) = oneshot::channel();
        let mut state = lock(&self.state);
        if state.waiting.len() >= self.places_max
            && let Some(number) = state.whom_to_send_away(self.per_address_max)
        {
            state.remove(number);
        }
        let number = state.next;
        state.next += 1;
        *state.crowd.entry(origin).or_default() += 1;
        let waiting = Waiting { origin, _leave: leave };
        state.waiting.insert(number, waiting);
        Place { room: self.clone(), number, told_to_leave }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.state).waiting.len()
    }
}

impl State {
    fn whom_to_send_away(&self, per_address_max: usize) -> Option<u64> {
        let now = Instant::now();
        let spared = |origin| self.spared.get(&origin).is_some_and(|since| now.duration_since(*since) < SPARED);
        let crowded = |origin| self.crowd.get(&origin).copied().unwrap_or(0) > per_address_max;
        let oldest = |wanted: &dyn Fn(Origin) -> bool| {
            let mut all = self.waiting.iter();
            all.find(|(_, waiting)| wanted(waiting.origin)).map(|(number, _)| *number)
        };
        oldest(&|origin| crowded(origin) && !spared(origin))
            .or_else(|| oldest(&|origin| !spared(origin)))
            .or_else(|| oldest(&|_| true))
    }

    fn remove(&mut self, number: u64) -> Option<Origin> {
        let origin = self.waiting.remove(&number)?.origin;
        if let Some(count) = self.crowd.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.crowd.remove(&origin);
            }
        }
        Some(origin)
    }

    fn spare(&mut self, origin: Origin) {
        let now = Instant::now();
        if self.spared.len() >= SPARED_MAX {
            self.spared.retain(|_, since| now.duration_since(*since) < SPARED);
        }
        if self.spared.len() < SPARED_MAX || self.spared.contains_key(&origin) {
            self.spared.insert(origin, now);
        }
    }
}

/// One connection's place; its drop frees it.
pub(super) struct Place {
    room: Arc<WaitingRoom>,
    number: u64,
    told_to_leave: oneshot::Receiver<()>,
}

impl Place {
    /// Resolves when somebody else needs the place. Cancel safe.
    pub(super) async fn told_to_leave(&mut self) {
        // The sender is only ever dropped.
        let _ = (&mut self.told_to_leave).await;
    }

    /// Leaves the room through the door; the address is spared from now on.
    pub(super) fn pass(self) {
        let mut state = lock(&self.room.state);
        if let Some(origin) = state.remove(self.number) {
            state.spare(origin);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.room.state).remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn from(host: u8) -> SocketAddr {
        ([10, 0, 0, host], 999).into()
    }

    /// Fills a room of `hosts.len()` places, lets one more in and answers whose place was taken.
    fn check(spared: &[u8], hosts: &[u8], newcomer: u8, expected: usize) {
        let room = WaitingRoom::new(hosts.len(), 2);
        for host in spared {
            room.enter(from(*host)).pass();
        }
        let mut places: Vec<_> = hosts.iter().map(|host| room.enter(from(*host))).collect();
        let _newcomer = room.enter(from(newcomer));
        assert_eq!(room.len(), hosts.len());
        for (index, place) in places.iter_mut().enumerate() {
            let sent_away = place.told_to_leave().now_or_never().is_some();
            assert_eq!(sent_away, index == expected, "{hosts:?} {index}");
        }
    }

    #[test]
    fn the_crowd_goes_first_then_strangers_then_the_oldest() {
        check(&[], &[1, 2, 3], 4, 0);
        check(&[], &[1, 2, 2, 2], 4, 1);
        check(&[1], &[1, 2, 3], 4, 1);
        check(&[1], &[1, 1, 1, 2], 4, 3);
        check(&[1, 2], &[2, 1, 2], 4, 0);
        check(&[], &[1, 2, 3], 1, 0);
    }

    #[test]
    fn places_are_given_back() {
        let room = WaitingRoom::new(4, 2);
        let places = (room.enter(from(1)), room.enter(from(1)), room.enter(from(2)));
        assert_eq!(room.len(), 3);
        places.0.pass();
        drop(places.1);
        assert_eq!(room.len(), 1);
        drop(places.2);
        assert!(lock(&room.state).crowd.is_empty());
    }

    #[test]
    fn addresses_of_one_customer_count_as_one() {
        for (a, b, same) in [
            ("1.2.3.4:1", "1.2.3.4:2", true),
            ("1.2.3.4:1", "1.2.3.5:1", false),
            ("1.2.3.4:1", "[::ffff:1.2.3.4]:1", true),
            ("[2001:db8::1]:1", "[2001:db8::2:3]:1", true),
            ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false),
        ] {
            let [a, b] = [a, b].map(|text| Origin::of(text.parse().unwrap()));
            assert_eq!(a == b, same);
        }
    }
}
