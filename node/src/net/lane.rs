//! What the rest of the node sees of the network: a lane and its byte stream.
//!
//! **Invariant:** a [`Lane`] exists only after the door, TLS and the first frames of both sides were checked.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::{AsyncRead as _, AsyncWrite as _};
use libp2p::swarm::Stream;
use pakt_keys::entity::EntityId;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::lane::LaneKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::registry::Pass;

/// The checked counterpart of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNode {
    /// The entity that the node belongs to.
    pub entity: EntityId,
    /// The agreement whose door was used.
    pub agreement: AgreementId,
    /// The node's transport key, Ed25519, proven in TLS.
    pub transport: [u8; 32],
    /// The node's first frame as it came.
    pub hello: Vec<u8>,
}

/// TCP payload of one lane so far, door and TLS included; bytes.
#[derive(Debug, Default)]
pub struct LaneBytes {
    sent: AtomicU64,
    received: AtomicU64,
}

impl LaneBytes {
    /// Bytes given to the socket.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes taken from the socket.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// One connection with one stream and one job.
#[derive(Debug)]
pub struct Lane {
    /// What the dialer opened it for.
    pub kind: LaneKind,
    /// Who is at the other end.
    pub peer: PeerNode,
    /// Whether this node dialled.
    pub dialer: bool,
    /// The address of the other end; unspecified for in-memory lanes.
    pub remote: SocketAddr,
    /// The agreement with the partner that forwards the connection; none for a direct one.
    pub via: Option<AgreementId>,
    /// Version of the agreement that the other end holds; 0 until the lane was opened.
    pub agreement_version: u32,
    /// The stream; its drop ends the connection.
    pub io: LaneStream,
    /// What the lane has cost so far.
    pub bytes: Arc<LaneBytes>,
}

impl Lane {
    pub(super) fn new(kind: LaneKind, dialer: bool, pass: &Pass, stream: Stream) -> Lane {
        Lane {
            kind,
            peer: pass.peer.clone(),
            dialer,
            remote: pass.remote,
            via: pass.via,
            agreement_version: 0,
            io: LaneStream(stream),
            bytes: pass.bytes.clone(),
        }
    }
}

/// The byte stream of a lane.
///
/// What is written may wait in TLS until the next write or `flush`. `shutdown` sends what is buffered and the TLS close, after which the other side reads an end of file; a connection
/// that just ends reads as [`io::ErrorKind::UnexpectedEof`]. The drop ends the connection at once, both ways.
#[derive(Debug)]
pub struct LaneStream(pub(super) Stream);

impl AsyncRead for LaneStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = Pin::new(&mut self.get_mut().0).poll_read(cx, buf.initialize_unfilled());
        filled.map_ok(|bytes| buf.advance(bytes))
    }
}

impl AsyncWrite for LaneStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_close(cx)
    }
}
