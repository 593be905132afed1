//! TCP as the base of the chain: our own sockets, so that our own options reach them.
//!
//! **Invariant:** every address is checked against the [`DialRules`] after it was resolved and before it is connected.
//! **Invariant:** a shortage of file descriptors delays accepting; it ends nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::{self, BoxFuture};
use futures::{AsyncRead, AsyncWrite};
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{Sleep, sleep, timeout};

use super::address::{self, SharedRules};
use super::base::Base;
use super::error::DialError;
use super::proxy::{Proxy, ProxyError, ProxyTarget};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// A peer that acknowledges nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(45);
/// Unsent bytes above which a socket takes no more, before its line's rate is known.
const UNSENT_BYTES_FIRST: u32 = 64 << 10;
/// At the least: what one wake-up of this process must last for.
const UNSENT_BYTES_MIN: u32 = 16 << 10;
/// At the most: more wins nothing on the fastest line.
const UNSENT_BYTES_MAX: u32 = 256 << 10;
/// Between these bounds so much time of the connection's own rate: what is urgent waits no longer behind what is not, and
/// a busy machine that wakes this process late does not leave the line idle.
const UNSENT_TIME: Duration = Duration::from_millis(60);
/// The rate is measured over so long.
const UNSENT_WINDOW: Duration = Duration::from_millis(200);
/// Addresses tried for one host name.
const RESOLVED_MAX: usize = 8;
/// Pause after the system refused to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why TCP did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum TcpError {
    #[error("listen: {0}")]
    Listen(#[source] io::Error),
    #[error("the host name has no address")]
    Unresolved,
    #[error("no address of the host may be dialled")]
    NotAllowed,
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    #[error(transparent)]
    Proxy(ProxyError),
}

/// Listeners and dials over TCP.
pub(super) struct TcpTransport {
    rules: SharedRules,
    proxy: Option<Arc<Proxy>>,
    connect_deadline: Duration,
    listeners: Vec<Listener>,
}

struct Listener {
    id: ListenerId,
    socket: TcpListener,
    address: Multiaddr,
    is_announced: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

impl TcpTransport {
    pub(super) fn new(rules: SharedRules, proxy: Option<Proxy>, connect_deadline: Duration) -> TcpTransport {
        TcpTransport { rules, proxy: proxy.map(Arc::new), connect_deadline, listeners: Vec::new() }
    }
}

impl Base for TcpTransport {
    fn parse(text: &str) -> Option<Multiaddr> {
        address::parse(text)
    }

    fn remote(output: &TcpIo) -> SocketAddr {
        output.remote
    }

    fn failure(error: &TcpError) -> DialError {
        match error {
            TcpError::NotAllowed => DialError::RangeNotAllowed,
            TcpError::Proxy(error) => DialError::Proxy(*error),
            TcpError::Unresolved => DialError::Unresolved,
            TcpError::Listen(error) | TcpError::Connect(error) => DialError::Unreachable(error.kind()),
        }
    }
}

impl Transport for TcpTransport {
    type Output = TcpIo;
    type Error = TcpError;
    type ListenerUpgrade = future::Ready<Result<TcpIo, TcpError>>;
    type Dial = BoxFuture<'static, Result<TcpIo, TcpError>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<TcpError>> {
        let (Some(Host::Ip(ip)), Some(port)) = host_and_port(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let listener = Listener::bind(id, (ip, port).into());
        let listener = listener.map_err(|error| TransportError::Other(TcpError::Listen(error)))?;
        self.listeners.push(listener);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|listener| listener.id != id);
        self.listeners.len() < before
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<TcpError>> {
        let (Some(host), Some(port)) = host_and_port(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (rules, deadline) = (self.rules.clone(), self.connect_deadline);
        Ok(match self.proxy.clone() {
            Some(proxy) => Box::pin(connect_through(proxy, host, port, rules, deadline)),
            None => Box::pin(connect(host, port, rules, deadline)),
        })
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, TcpError>> {
        for listener in &mut self.get_mut().listeners {
            if let Poll::Ready(event) = listener.poll(cx) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}

impl Listener {
    fn bind(id: ListenerId, addr: SocketAddr) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = multiaddr_of(socket.local_addr()?);
        Ok(Listener { id, socket, address, is_announced: false, pause: None })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TransportEvent<future::Ready<Result<TcpIo, TcpError>>, TcpError>> {
        if !self.is_announced {
            self.is_announced = true;
            return Poll::Ready(TransportEvent::NewAddress { listener_id: self.id, listen_addr: self.address.clone() });
        }
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match std::task::ready!(self.socket.poll_accept(cx)) {
                Ok((stream, remote)) => {
                    let local = stream.local_addr();
                    let local_addr = local.map_or_else(|_| self.address.clone(), multiaddr_of);
                    return Poll::Ready(TransportEvent::Incoming {
                        listener_id: self.id,
                        upgrade: future::ready(Ok(TcpIo::new(stream, remote))),
                        local_addr,
                        send_back_addr: multiaddr_of(remote),
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for a moment");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

enum Host {
    Ip(IpAddr),
    Name(String),
}

fn host_and_port(address: &Multiaddr) -> (Option<Host>, Option<u16>) {
    let mut parts = address.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => Some(Host::Ip(ip.into())),
        Some(Protocol::Ip6(ip)) => Some(Host::Ip(ip.into())),
        Some(Protocol::Dns(name)) => Some(Host::Name(name.into_owned())),
        _ => None,
    };
    match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), None) => (host, Some(port)),
        _ => (host, None),
    }
}

fn multiaddr_of(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Tcp(addr.port()))
}

/// Where a listen address of the swarm really is.
pub(super) fn socket_addr_of(address: &Multiaddr) -> Option<SocketAddr> {
    match host_and_port(address) {
        (Some(Host::Ip(ip)), Some(port)) => Some((ip, port).into()),
        _ => None,
    }
}

async fn connect(host: Host, port: u16, rules: SharedRules, deadline: Duration) -> Result<TcpIo, TcpError> {
    let resolved: Vec<IpAddr> = match host {
        Host::Ip(ip) => vec![ip],
        Host::Name(name) => timeout(deadline, lookup_host((name, port)))
            .await
            .map_err(|_| TcpError::Unresolved)?
            .map_err(|_| TcpError::Unresolved)?
            .map(|addr| addr.ip())
            .take(RESOLVED_MAX)
            .collect(),
    };
    let mut failure = match resolved.is_empty() {
        true => TcpError::Unresolved,
        false => TcpError::NotAllowed,
    };
    for ip in resolved.into_iter().filter(|ip| rules.permit(*ip)) {
        let remote = SocketAddr::from((ip, port));
        match timeout(deadline, TcpStream::connect(remote)).await {
            Ok(Ok(stream)) => return Ok(TcpIo::new(stream, remote)),
            Ok(Err(error)) => failure = TcpError::Connect(error),
            Err(_) => failure = TcpError::Connect(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(failure)
}

/// Has the proxy connect, and resolve names; an address is checked here, a name by what it says of itself.
async fn connect_through(
    proxy: Arc<Proxy>,
    host: Host,
    port: u16,
    rules: SharedRules,
    deadline: Duration,
) -> Result<TcpIo, TcpError> {
    // Where a name leads to only the proxy knows.
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let (target, remote) = match host {
        Host::Ip(ip) if !rules.permit(ip) => return Err(TcpError::NotAllowed),
        Host::Ip(ip) => (ProxyTarget::Ip(ip, port), SocketAddr::from((ip, port))),
        Host::Name(name) if address::is_internal(&name) && !rules.permit(Ipv4Addr::LOCALHOST.into()) => {
            return Err(TcpError::NotAllowed);
        }
        Host::Name(name) => (ProxyTarget::Name(name, port), nowhere),
    };
    let stream = proxy.connect(&target, deadline).await.map_err(TcpError::Proxy)?;
    Ok(TcpIo::new(stream, remote))
}

/// Sets what helps and leaves out what this kernel does not know or allow.
fn set_options(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(5)).with_retries(3);
    let attempts = [
        ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
        ("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive)),
        ("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(USER_TIMEOUT))),
        ("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(UNSENT_BYTES_FIRST)),
        ("TCP_CONGESTION", socket.set_tcp_congestion(b"bbr")),
    ];
    for (option, attempt) in attempts {
        if let Err(error) = attempt {
            tracing::trace!(option, %error, "socket option left out");
        }
    }
}

/// How much may wait unsent in the kernel: by the rate at which the line takes what is written.
struct Unsent {
    bytes: u32,
    since: Option<Instant>,
    written: u64,
    waited: bool,
}

impl Unsent {
    fn new() -> Unsent {
        Unsent { bytes: UNSENT_BYTES_FIRST, since: None, written: 0, waited: false }
    }

    /// A write took `written` bytes, or none as the kernel holds enough; gives the limit if it should change.
    ///
    /// Only a window in which the writer had to wait tells of the line; a writer that has little to say tells nothing.
    fn note(&mut self, written: Option<usize>, now: Instant) -> Option<u32> {
        let since = *self.since.get_or_insert(now);
        self.written += written.unwrap_or_default() as u64;
        self.waited |= written.is_none();
        let lasted = now.duration_since(since);
        if lasted < UNSENT_WINDOW {
            return None;
        }
        let (written, waited) = (std::mem::take(&mut self.written), std::mem::take(&mut self.waited));
        self.since = Some(now);
        // A long window has a pause in it.
        if !waited || lasted > UNSENT_WINDOW * 5 {
            return None;
        }
        let wanted = written as f64 * UNSENT_TIME.as_secs_f64() / lasted.as_secs_f64();
        let wanted = (wanted as u32).clamp(UNSENT_BYTES_MIN, UNSENT_BYTES_MAX);
        let differs = wanted.abs_diff(self.bytes) > self.bytes / 4;
        self.bytes = if differs { wanted } else { self.bytes };
        differs.then_some(wanted)
    }
}

/// One TCP connection.
pub(super) struct TcpIo {
    stream: TcpStream,
    remote: SocketAddr,
    unsent: Unsent,
}

impl TcpIo {
    fn new(stream: TcpStream, remote: SocketAddr) -> TcpIo {
        set_options(&stream);
        TcpIo { stream, remote, unsent: Unsent::new() }
    }

    fn note_write(&mut self, written: &Poll<io::Result<usize>>) {
        let written = match written {
            Poll::Ready(Ok(bytes)) => Some(*bytes),
            Poll::Ready(Err(_)) => return,
            Poll::Pending => None,
        };
        if let Some(bytes) = self.unsent.note(written, Instant::now()) {
            // A kernel without the option holds as much as it likes.
            let _ = SockRef::from(&self.stream).set_tcp_notsent_lowat(bytes);
        }
    }
}

impl AsyncRead for TcpIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let read = Pin::new(&mut self.get_mut().stream).poll_read(cx, &mut buf);
        read.map_ok(|()| buf.filled().len())
    }
}

impl AsyncWrite for TcpIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_write(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note_write(&written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `bytes` every `every` for three seconds, waiting each time or never; gives the limit at the end.
    fn limit_after(bytes: usize, every: Duration, waits: bool) -> u32 {
        let mut unsent = Unsent::new();
        let mut now = Instant::now();
        for _ in 0..(3_000 / every.as_millis()) {
            unsent.note(Some(bytes), now);
            if waits {
                unsent.note(None, now);
            }
            now += every;
        }
        unsent.bytes
    }

    #[test]
    fn the_kernel_holds_a_moment_of_the_line_and_no_more() {
        let ms = Duration::from_millis;
        let near = |bytes: u32, expected: u32| assert!(bytes.abs_diff(expected) <= expected / 3, "{bytes}, {expected}");
        near(limit_after(31_250, ms(10), true), 187_500);
        assert_eq!(limit_after(1_000, ms(10), true), UNSENT_BYTES_MIN);
        assert_eq!(limit_after(1 << 20, ms(1), true), UNSENT_BYTES_MAX);
        assert_eq!(limit_after(1_000, ms(10), false), UNSENT_BYTES_FIRST);
        assert_eq!(limit_after(100_000, ms(1_500), true), UNSENT_BYTES_FIRST);
    }
}
