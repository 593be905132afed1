//! One connection, one stream: no frames, no windows, TCP is the flow control.
//!
//! **Invariant:** stream and connection end together: the drop of either makes the other fail at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::registry::Pass;

/// What stream and connection share: whether one of them is gone, and whom to tell.
#[derive(Default)]
struct End {
    gone: AtomicBool,
    muxer: AtomicWaker,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl End {
    fn finish(&self) {
        self.gone.store(true, Ordering::Release);
        self.muxer.wake();
        self.reader.wake();
        self.writer.wake();
    }

    fn look<T>(&self) -> Poll<io::Result<T>> {
        match self.gone.load(Ordering::Acquire) {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            false => Poll::Pending,
        }
    }

    /// Registers before it looks, so that no end slips through between the two.
    fn check<T>(&self, waker: &AtomicWaker, cx: &Context<'_>) -> Poll<io::Result<T>> {
        waker.register(cx.waker());
        self.look()
    }
}

/// The muxer of a lane: hands out its only stream once, to the dialer as outbound, to the listener as inbound.
pub(super) struct OneStream<C> {
    stream: Option<LaneIo<C>>,
    end: Arc<End>,
    role: Endpoint,
}

impl<C> OneStream<C> {
    pub(super) fn new(io: C, role: Endpoint, pass: Arc<Pass>) -> OneStream<C> {
        let end = Arc::<End>::default();
        let stream = Some(LaneIo { _pass: pass, io, end: end.clone() });
        OneStream { stream, end, role }
    }
}

impl<C> Drop for OneStream<C> {
    fn drop(&mut self) {
        self.end.finish();
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for OneStream<C> {
    type Substream = LaneIo<C>;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<LaneIo<C>, io::Error>> {
        let this = self.get_mut();
        match (this.role, this.stream.take()) {
            (Endpoint::Listener, Some(stream)) => Poll::Ready(Ok(stream)),
            (_, kept) => {
                this.stream = kept;
                Poll::Pending
            }
        }
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<LaneIo<C>, io::Error>> {
        let this = self.get_mut();
        match (this.role, this.stream.take()) {
            (Endpoint::Dialer, Some(stream)) => Poll::Ready(Ok(stream)),
            _ => Poll::Ready(Err(io::Error::other("a lane has one stream"))),
        }
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.end.finish();
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, io::Error>> {
        self.end.check(&self.end.muxer, cx)
    }
}

/// The stream of a lane, as the swarm hands it out.
pub(super) struct LaneIo<C> {
    /// Keeps the peer's seat taken for as long as the connection lives.
    _pass: Arc<Pass>,
    io: C,
    end: Arc<End>,
}

impl<C> Drop for LaneIo<C> {
    fn drop(&mut self) {
        self.end.finish();
    }
}

impl<C: AsyncWrite + Unpin> LaneIo<C> {
    fn write_side<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        step: impl FnOnce(Pin<&mut C>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        if let Poll::Ready(gone) = this.end.look() {
            return Poll::Ready(gone);
        }
        match step(Pin::new(&mut this.io), cx) {
            Poll::Pending => this.end.check(&this.end.writer, cx),
            ready => ready,
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for LaneIo<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(gone) = this.end.look() {
            return Poll::Ready(gone);
        }
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Pending => this.end.check(&this.end.reader, cx),
            ready => ready,
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for LaneIo<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write_side(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_side(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_side(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_side(cx, |io, cx| io.poll_close(cx))
    }
}
