//! A line between two nodes that can be watched, slowed, stalled and cut.
//!
//! Each node advertises its own end of the line, so all that passes between them passes here, whoever dialled. Bytes
//! are counted when they have been handed to the receiving side: what the line holds back was not delivered.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes that the dialer sends before anything else.
pub const FLIGHT_BYTES: usize = 2_048;

/// Bytes that the line carries in one go; small, so that the rate is even.
const PORTION_BYTES: usize = 16 << 10;

/// An end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first node.
    A,
    /// The second node.
    B,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    fn index(self) -> usize {
        match self {
            Side::A => 0,
            Side::B => 1,
        }
    }
}

/// The first bytes of a connection, as its dialer sent them.
#[derive(Debug, Clone)]
pub struct Flight {
    /// The node that was dialled.
    pub to: Side,
    /// [`FLIGHT_BYTES`] bytes, fewer when the dialer stopped before.
    pub bytes: Vec<u8>,
}

/// The line. Ends all its connections when dropped.
pub struct Wire {
    shared: Arc<Shared>,
    doors: [SocketAddr; 2],
    accepting: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    cut: AtomicBool,
    stalled: AtomicBool,
    withholding: AtomicBool,
    bytes_per_second: AtomicU64,
    targets: [Mutex<Option<SocketAddr>>; 2],
    into: [AtomicU64; 2],
    free_at: [Mutex<Option<Instant>>; 2],
    flights: Mutex<Vec<Flight>>,
    live: Mutex<Vec<[TcpStream; 2]>>,
}

impl Wire {
    /// A line whose ends lead nowhere yet.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub fn new() -> Wire {
        let shared = Arc::new(Shared::default());
        let listeners = [Side::A, Side::B].map(|side| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            listener.set_nonblocking(true).expect("a listener can be made non-blocking");
            (side, listener)
        });
        let doors = [&listeners[0].1, &listeners[1].1]
            .map(|listener| listener.local_addr().expect("a bound listener has an address"));
        let accepting = listeners
            .into_iter()
            .map(|(side, listener)| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.accept(side, &listener))
            })
            .collect();
        Wire { shared, doors, accepting }
    }

    /// The address that the node at `side` advertises.
    pub fn door(&self, side: Side) -> SocketAddr {
        self.doors[side.index()]
    }

    /// Leads the end at `side` to the node that listens at `target`.
    pub fn lead(&self, side: Side, target: SocketAddr) {
        *lock(&self.shared.targets[side.index()]) = Some(target);
    }

    /// Bytes handed to the node at `side` so far.
    pub fn into_side(&self, side: Side) -> u64 {
        self.shared.into[side.index()].load(SeqCst)
    }

    /// Bytes handed over in both directions.
    pub fn both(&self) -> u64 {
        self.into_side(Side::A) + self.into_side(Side::B)
    }

    /// Carries at most this many bytes per second in each direction; 0 is without limit.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.bytes_per_second.store(bytes_per_second, SeqCst);
    }

    /// Holds everything back (`true`), as a pulled cable does, or lets it pass again.
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, SeqCst);
    }

    /// Ends every connection and takes no new one (`true`), or takes them again.
    pub fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, SeqCst);
        if cut {
            self.shared.hang_up();
        }
    }

    /// Records first flights without handing them over (`true`), or hands them over again.
    pub fn withhold(&self, withholding: bool) {
        self.shared.withholding.store(withholding, SeqCst);
    }

    /// The first flights of all connections so far.
    pub fn flights(&self) -> Vec<Flight> {
        lock(&self.shared.flights).clone()
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        lock(&self.shared.live).len()
    }
}

impl Default for Wire {
    fn default() -> Self {
        Wire::new()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.shared.hang_up();
        for thread in self.accepting.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One direction of one connection.
struct Pump {
    from: TcpStream,
    to: TcpStream,
    towards: Side,
    /// Set on the direction that starts with the dialer's flight.
    dialled: bool,
}

impl Shared {
    fn accept(self: &Arc<Self>, side: Side, listener: &TcpListener) {
        while !self.ended.load(SeqCst) {
            match listener.accept() {
                Ok((dialer, _)) => self.connect(side, dialer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Joins `dialer` with the node at `side`; without one, or on a cut line, the dialer is hung up.
    fn connect(self: &Arc<Self>, side: Side, dialer: TcpStream) {
        let target = *lock(&self.targets[side.index()]);
        let Some(target) = target.filter(|_| !self.cut.load(SeqCst)) else {
            return;
        };
        let Ok(listener) = TcpStream::connect(target) else {
            return;
        };
        for stream in [&dialer, &listener] {
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_nodelay(true);
            // Little stays on the way: what the line has counted, the node has got.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(stream, 64 << 10);
        }
        let clones = || Some([dialer.try_clone().ok()?, listener.try_clone().ok()?]);
        let (Some(kept), Some([dialer_read, listener_write])) = (clones(), clones()) else {
            return;
        };
        lock(&self.live).push(kept);
        // A cut that came in between must not leave this connection behind.
        if self.cut.load(SeqCst) || self.ended.load(SeqCst) {
            self.hang_up();
        }
        let there = Pump { from: dialer_read, to: listener_write, towards: side, dialled: true };
        let back = Pump { from: listener, to: dialer, towards: side.other(), dialled: false };
        let shared = Arc::clone(self);
        std::thread::spawn(move || {
            let both = Arc::clone(&shared);
            let returning = std::thread::spawn(move || both.carry(back));
            shared.carry(there);
            let _ = returning.join();
            shared.forget_ended();
        });
    }

    fn carry(&self, mut pump: Pump) {
        let mut portion = vec![0u8; PORTION_BYTES];
        let mut flight = pump.dialled.then(Vec::new);
        loop {
            let got = match pump.from.read(&mut portion) {
                Ok(0) | Err(_) => break,
                Ok(got) => got,
            };
            if let Some(bytes) = &mut flight {
                let more = got.min(FLIGHT_BYTES - bytes.len());
                bytes.extend_from_slice(&portion[..more]);
                if bytes.len() == FLIGHT_BYTES {
                    self.record(&mut flight, pump.towards);
                }
            }
            if pump.dialled && self.withholding.load(SeqCst) {
                continue;
            }
            self.wait_for_turn(pump.towards, got);
            if pump.to.write_all(&portion[..got]).is_err() {
                break;
            }
            self.into[pump.towards.index()].fetch_add(got as u64, SeqCst);
        }
        self.record(&mut flight, pump.towards);
        let _ = pump.to.shutdown(Shutdown::Write);
    }

    fn record(&self, flight: &mut Option<Vec<u8>>, to: Side) {
        if let Some(bytes) = flight.take().filter(|bytes| !bytes.is_empty()) {
            lock(&self.flights).push(Flight { to, bytes });
        }
    }

    /// Waits out a stall, then for the moment at which the rate allows `bytes` more.
    fn wait_for_turn(&self, towards: Side, bytes: usize) {
        while self.stalled.load(SeqCst) && !self.cut.load(SeqCst) && !self.ended.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let rate = self.bytes_per_second.load(SeqCst);
        if rate == 0 {
            return;
        }
        let now = Instant::now();
        let start = {
            let mut free_at = lock(&self.free_at[towards.index()]);
            let start = free_at.map_or(now, |free| free.max(now));
            *free_at = Some(start + Duration::from_secs_f64(bytes as f64 / rate as f64));
            start
        };
        std::thread::sleep(start.saturating_duration_since(now));
    }

    fn hang_up(&self) {
        for pair in lock(&self.live).drain(..) {
            pair.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
    }

    /// Drops the record of connections that both sides have left.
    fn forget_ended(&self) {
        lock(&self.live).retain(|pair| pair.iter().all(|stream| stream.peer_addr().is_ok()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that echoes what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut from = stream.try_clone().unwrap();
                    let mut to = stream;
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        });
        addr
    }

    fn round(wire: &Wire, bytes: usize) -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(wire.door(Side::B))?;
        let mut reader = stream.try_clone()?;
        let writing = std::thread::spawn(move || {
            let written = stream.write_all(&vec![7u8; bytes]);
            let _ = stream.shutdown(Shutdown::Write);
            written
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back)?;
        let _ = writing.join();
        Ok(back.len())
    }

    #[test]
    fn it_counts_both_directions_and_records_the_flight() {
        let wire = Wire::new();
        wire.lead(Side::B, echo());
        assert_eq!(round(&wire, 100_000).unwrap(), 100_000);
        assert_eq!([wire.into_side(Side::B), wire.into_side(Side::A)], [100_000, 100_000]);
        let flights = wire.flights();
        assert_eq!((flights.len(), flights[0].bytes.len(), flights[0].to), (1, FLIGHT_BYTES, Side::B));
    }

    #[test]
    fn it_keeps_to_its_rate() {
        let wire = Wire::new();
        wire.lead(Side::B, echo());
        wire.throttle(1_000_000);
        let start = Instant::now();
        assert_eq!(round(&wire, 500_000).unwrap(), 500_000);
        assert!(start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());
    }

    #[test]
    fn a_cut_ends_what_is_open_and_a_withheld_flight_never_arrives() {
        let wire = Wire::new();
        wire.lead(Side::B, echo());
        let mut stream = TcpStream::connect(wire.door(Side::B)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut five = [0u8; 5];
        stream.read_exact(&mut five).unwrap();
        wire.cut(true);
        assert!(matches!(stream.read(&mut five), Ok(0) | Err(_)));
        assert!(matches!(round(&wire, 10), Ok(0) | Err(_)));
        wire.cut(false);
        wire.withhold(true);
        let before = wire.into_side(Side::B);
        assert_eq!(round(&wire, 3_000).unwrap(), 0);
        assert_eq!(wire.into_side(Side::B), before);
        assert_eq!(wire.flights().last().unwrap().bytes.len(), FLIGHT_BYTES);
    }
}
