//! A storm of strangers: many connections a second to one port, from several addresses of this machine.
//!
//! Each address has a thread of its own that connects at an even pace, says something or nothing, keeps the latest connections open
//! and closes the oldest. What comes back is counted before a connection is closed.
//!
//! **Invariant:** the storm ends by itself, and no more than `OPEN_MAX` connections of one address are open at a time.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::wire::FLIGHT_BYTES;

/// Connections of one address that are open at a time; all together stay below what a process may open.
const OPEN_MAX: usize = 48;
/// A port that does not take a connection within this time is gone, or has been brought down.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What a storm is made of.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// Where to.
    pub target: SocketAddr,
    /// Connections in all.
    pub connects: usize,
    /// How long it takes.
    pub lasts: Duration,
    /// Addresses that they come from: 127.0.0.1 and those after it.
    pub addresses: u8,
}

/// What a storm has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Met {
    /// Connections that came about.
    pub connected: usize,
    /// Bytes that came back on all of them.
    pub bytes_back: usize,
}

impl Storm {
    /// Lets it blow to its end.
    ///
    /// # Panics
    /// When the port takes no connection any more.
    pub fn blow(self) -> Met {
        let threads: Vec<_> =
            (0..self.addresses).map(|number| std::thread::spawn(move || self.blow_from(number))).collect();
        let met = threads.into_iter().map(|thread| thread.join().expect("the port takes connections"));
        met.fold(Met::default(), |sum, one| Met {
            connected: sum.connected + one.connected,
            bytes_back: sum.bytes_back + one.bytes_back,
        })
    }

    fn blow_from(self, number: u8) -> Met {
        let count = self.connects / usize::from(self.addresses);
        let start = Instant::now();
        let mut open: VecDeque<TcpStream> = VecDeque::with_capacity(OPEN_MAX);
        let mut met = Met::default();
        for at in 0..count {
            let due = start + self.lasts.mul_f64(at as f64 / count as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut stream = connect(Ipv4Addr::new(127, 0, 0, 1 + number), self.target);
            met.connected += 1;
            // Not all of it may leave: what counts is what comes back.
            let _ = stream.write(&words(at, number));
            open.push_back(stream);
            if open.len() == OPEN_MAX {
                met.bytes_back += open.pop_front().map_or(0, bytes_back);
            }
        }
        met.bytes_back += open.into_iter().map(bytes_back).sum::<usize>();
        met
    }
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((IpAddr::V4(from), 0)).into()).expect("a loopback address");
    socket.connect_timeout(&to.into(), CONNECT_MAX).expect("the port takes connections");
    socket.set_nonblocking(true).expect("a socket option");
    socket.into()
}

/// A flight of noise, a greeting, a part of a flight, or nothing.
fn words(at: usize, number: u8) -> Vec<u8> {
    let noise = |bytes: usize| {
        let mut out = vec![0; bytes];
        blake3::Hasher::new().update(&[number]).update(&at.to_be_bytes()).finalize_xof().fill(&mut out);
        out
    };
    match at % 4 {
        0 | 1 => noise(FLIGHT_BYTES),
        2 => noise(at % FLIGHT_BYTES),
        _ if at % 8 == 3 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        _ => Vec::new(),
    }
}

fn bytes_back(mut stream: TcpStream) -> usize {
    let mut buffer = [0; 4096];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return bytes,
            Ok(read) => bytes += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return bytes,
        }
    }
}
