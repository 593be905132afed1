//! One connection, step by step, each of which may be done wrongly: flight, TLS, first frame, negotiation.
//!
//! Written from the specification, without the node's own network part.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

/// How long an honest step of the victim may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(9);
/// After so long without a byte a door counts as silent: an open one answers in a few milliseconds.
pub(crate) const SILENCE: Duration = Duration::from_millis(1_500);

/// Where a connection came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not a byte came back.
    Silence,
    /// The handshake was broken off.
    NoTls,
    /// The victim closed instead of showing its first frame.
    NoHello,
    /// The victim showed its first frame, and closed.
    ClosedAfterHello,
    /// The lane's protocol is not spoken.
    NoProtocol,
    /// The victim closed instead of opening the lane.
    NotOpened,
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The victim ended the connection.
    Closed,
    /// Nothing came in time.
    Late,
}

/// Everything that was read, decrypted, for whoever looks for what must not be there.
#[derive(Clone)]
pub(crate) struct Ears(Option<Arc<Mutex<File>>>);

impl Ears {
    /// Keeps what is heard in this file.
    pub(crate) fn into_file(file: File) -> Ears {
        Ears(Some(Arc::new(Mutex::new(file))))
    }

    /// Keeps nothing.
    pub(crate) fn deaf() -> Ears {
        Ears(None)
    }

    fn hear(&self, bytes: &[u8]) {
        if let Some(file) = &self.0 {
            let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes);
        }
    }
}

/// Sends a flight and waits for the first byte of an answer.
pub(crate) fn knock(to: SocketAddr, flight: &[u8], patience: Duration) -> Result<TcpStream, Stop> {
    let mut tcp = TcpStream::connect_timeout(&to, PATIENCE).map_err(|_| Stop::Silence)?;
    let _ = tcp.set_nodelay(true);
    let _ = tcp.set_write_timeout(Some(PATIENCE));
    let _ = tcp.set_read_timeout(Some(patience));
    tcp.write_all(flight).map_err(|_| Stop::Silence)?;
    match tcp.peek(&mut [0]) {
        Ok(1..) => Ok(tcp),
        _ => Err(Stop::Silence),
    }
}

/// A connection behind TLS.
pub(crate) struct Wire {
    tls: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
    ears: Ears,
}

impl Wire {
    /// Finishes the handshake that a flight has begun.
    pub(crate) fn secure(mut session: ClientConnection, mut tcp: TcpStream, ears: Ears) -> Result<Wire, Stop> {
        let _ = tcp.set_read_timeout(Some(PATIENCE));
        while session.is_handshaking() {
            session.complete_io(&mut tcp).map_err(|_| Stop::NoTls)?;
        }
        Ok(Wire { tls: StreamOwned::new(session, tcp), buffer: Vec::new(), ears })
    }

    /// Writes; whether it arrives shows in what comes back.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.tls.write_all(bytes).and_then(|()| self.tls.flush()).map_err(|_| End::Closed)
    }

    /// Ends this side's direction.
    pub(crate) fn finish(&mut self) {
        self.tls.conn.send_close_notify();
        let _ = self.tls.flush();
        let _ = self.tls.sock.shutdown(Shutdown::Write);
    }

    /// The next bytes, exactly so many.
    pub(crate) fn read(&mut self, bytes: usize, limit: Duration) -> Result<Vec<u8>, End> {
        let end = Instant::now() + limit;
        while self.buffer.len() < bytes {
            self.read_some(end)?;
        }
        let rest = self.buffer.split_off(bytes);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn read_some(&mut self, end: Instant) -> Result<(), End> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(End::Late);
        }
        let _ = self.tls.sock.set_read_timeout(Some(left));
        let mut some = [0; 16 << 10];
        match self.tls.read(&mut some) {
            Ok(0) => Err(End::Closed),
            Ok(count) => {
                self.ears.hear(&some[..count]);
                self.buffer.extend_from_slice(&some[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(End::Late),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(End::Closed),
        }
    }

    /// Whether the victim ends the connection within `limit`, whatever it says before.
    pub(crate) fn is_ended_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            match self.read_some(end) {
                Ok(()) => self.buffer.clear(),
                Err(why) => return why == End::Closed,
            }
        }
    }

    /// The next frame: a length of 32 bits and as many bytes.
    pub(crate) fn read_frame(&mut self, limit: Duration) -> Result<Vec<u8>, End> {
        let head = self.read(4, limit)?;
        let length = head.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.read(length, PATIENCE)
    }

    /// Shows this first frame and reads the victim's.
    pub(crate) fn greet(&mut self, hello: &[u8]) -> Result<Vec<u8>, Stop> {
        self.write(&frame(hello)).map_err(|_| Stop::NoHello)?;
        self.read_frame(PATIENCE).map_err(|_| Stop::NoHello)
    }

    /// Asks for a lane's protocol: multistream-select, done by hand.
    pub(crate) fn negotiate(&mut self, protocol: &str) -> Result<(), Stop> {
        let said = [select("/multistream/1.0.0"), select(protocol)].concat();
        self.write(&said).map_err(|_| Stop::ClosedAfterHello)?;
        let heard = self.read(said.len().min(20 + 4), PATIENCE).map_err(|_| Stop::ClosedAfterHello)?;
        if heard.ends_with(b"\x03na\n") {
            return Err(Stop::NoProtocol);
        }
        let rest = self.read(said.len() - heard.len(), PATIENCE).map_err(|_| Stop::NoProtocol)?;
        if [heard, rest].concat() == said { Ok(()) } else { Err(Stop::NoProtocol) }
    }
}

/// `bytes` with their length before them.
pub(crate) fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a frame of the tests is small");
    [&length.to_be_bytes(), bytes].concat()
}

fn select(protocol: &str) -> Vec<u8> {
    let length = u8::try_from(protocol.len() + 1).expect("a protocol's name is short");
    [&[length], protocol.as_bytes(), b"\n"].concat()
}
