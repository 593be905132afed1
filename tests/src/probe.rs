//! Strangers at the door: many connections at once that say something, or nothing, and note what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a stranger does.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The kind, for messages and for comparing kinds.
    pub kind: &'static str,
    /// What is sent.
    pub says: Vec<u8>,
    /// How it is sent.
    pub manner: Manner,
}

/// How a stranger sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// All at once, then it listens.
    AtOnce,
    /// All at once, then it closes its own direction and listens.
    HalfOpen,
    /// In pieces, one every pause.
    Slow {
        /// Bytes in one piece.
        piece_bytes: usize,
        /// Time between two pieces.
        pause: Duration,
    },
}

/// What became of a probe.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The probe's kind.
    pub kind: &'static str,
    /// Bytes that came back.
    pub bytes_back: usize,
    /// From connect to the end of the connection; `None` when it outlived the limit.
    pub closed_after: Option<Duration>,
    /// Whether it ended by a reset rather than by an orderly end.
    pub reset: bool,
}

struct Visit<'a> {
    probe: &'a Probe,
    stream: TcpStream,
    started: Instant,
    sent: usize,
    next_piece: Instant,
    outcome: Outcome,
    ended: bool,
}

/// Makes all the `probes` at once and watches each until it is closed or `limit` has passed.
///
/// # Panics
/// When a connection cannot be opened.
pub fn visit(target: SocketAddr, probes: &[Probe], limit: Duration) -> Vec<Outcome> {
    let mut visits: Vec<Visit<'_>> = probes.iter().map(|probe| Visit::begin(target, probe)).collect();
    let end = Instant::now() + limit;
    while visits.iter().any(|visit| !visit.ended) && Instant::now() < end {
        visits.iter_mut().filter(|visit| !visit.ended).for_each(Visit::step);
        std::thread::sleep(Duration::from_millis(1));
    }
    visits.into_iter().map(|visit| visit.outcome).collect()
}

impl<'a> Visit<'a> {
    fn begin(target: SocketAddr, probe: &'a Probe) -> Visit<'a> {
        let stream =
            TcpStream::connect_timeout(&target, Duration::from_secs(10)).expect("the port accepts connections");
        stream.set_nodelay(true).expect("a TCP option");
        stream.set_nonblocking(true).expect("a TCP option");
        let started = Instant::now();
        let outcome = Outcome { kind: probe.kind, bytes_back: 0, closed_after: None, reset: false };
        Visit { probe, stream, started, sent: 0, next_piece: started, outcome, ended: false }
    }

    fn step(&mut self) {
        self.say();
        self.listen();
    }

    fn say(&mut self) {
        let left = &self.probe.says[self.sent..];
        if left.is_empty() || Instant::now() < self.next_piece {
            return;
        }
        let piece = match self.probe.manner {
            Manner::Slow { piece_bytes, pause } => {
                self.next_piece = Instant::now() + pause;
                &left[..left.len().min(piece_bytes)]
            }
            Manner::AtOnce | Manner::HalfOpen => left,
        };
        // A refused write is not the end yet: what counts is what can still be read.
        self.sent += self.stream.write(piece).unwrap_or(0);
        if self.sent == self.probe.says.len() && self.probe.manner == Manner::HalfOpen {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    fn listen(&mut self) {
        let mut back = [0u8; 4_096];
        match self.stream.read(&mut back) {
            Ok(0) => self.end(false),
            Ok(got) => self.outcome.bytes_back += got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end(true),
        }
    }

    fn end(&mut self, reset: bool) {
        self.ended = true;
        self.outcome.reset = reset;
        self.outcome.closed_after = Some(self.started.elapsed());
    }
}
