//! P1: a stranger learns only that a TCP port accepts.

use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::future::join_all;
use pakt_protocol::door::{DoorSecret, seal_flight};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::keeper::rng;
use super::*;

/// What a timer may be early; ten times that is what a busy machine may be late.
const SLACK: Duration = Duration::from_millis(100);

/// The probe that says more than anybody reads.
const FLOOD: usize = 6;

/// What one probe does after it has connected.
#[derive(Clone)]
enum Probe {
    /// Sends these bytes and listens.
    Say(Vec<u8>),
    /// Sends these bytes, ends its direction and listens.
    SayAndClose(Vec<u8>),
    /// Sends these bytes in drops and listens.
    Drip(Vec<u8>),
}

struct Seen {
    bytes: usize,
    /// Ended by a close, not by a reset.
    is_clean: bool,
    lasted: Duration,
}

async fn probe(addr: SocketAddr, probe: Probe) -> Seen {
    let began = Instant::now();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    match probe {
        Probe::Say(bytes) => drop(stream.write_all(&bytes).await),
        Probe::SayAndClose(bytes) => {
            drop(stream.write_all(&bytes).await);
            drop(stream.shutdown().await);
        }
        Probe::Drip(bytes) => {
            let pause = Duration::from_millis(2);
            for drop_of in bytes.chunks(16) {
                if stream.write_all(drop_of).await.is_err() {
                    break;
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
    let mut bytes = 0;
    let mut buf = [0; 4096];
    let is_clean = loop {
        match stream.read(&mut buf).await {
            Ok(0) => break true,
            Ok(n) => bytes += n,
            Err(_) => break false,
        }
    };
    Seen { bytes, is_clean, lasted: began.elapsed() }
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand_core::Rng::fill_bytes(&mut rng(), &mut bytes);
    bytes
}

/// A middle box that records the first flight of a connection and passes everything on.
async fn tap(to: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let recorder = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut flight = vec![0; FLIGHT_BYTES];
        near.read_exact(&mut flight).await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        far.write_all(&flight).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        flight
    });
    (addr, recorder)
}

/// A good flight that `from` sent to `to` and `to` has answered.
async fn recorded(from: &Node, to: &mut Node) -> Vec<u8> {
    let (addr, recorder) = tap(to.addr()).await;
    let target = from.keeper.target(addr.to_string());
    let lane = from.net.dial(target, LaneKind::Control).await.unwrap();
    to.lanes.recv().await.unwrap();
    drop(lane);
    recorder.await.unwrap()
}

fn probes(flight: &[u8], ended: &[u8]) -> Vec<Probe> {
    let mut bent = flight.to_vec();
    bent[1000] ^= 1;
    let (_, client_hello) = TlsIdentity::new(&[9; 32]).unwrap().begin().unwrap();
    let http = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let multistream = b"\x13/multistream/1.0.0\n".to_vec();
    let mut probes = vec![
        Probe::Say(vec![]),
        Probe::SayAndClose(vec![]),
        Probe::Say(client_hello.clone()),
        Probe::SayAndClose(client_hello),
        Probe::Say(http),
        Probe::Say(multistream),
        Probe::Say(noise(1_000_000)),
        Probe::Say(vec![0; FLIGHT_BYTES]),
    ];
    for known in [flight, &bent, ended] {
        probes.push(Probe::Say(known.to_vec()));
        probes.push(Probe::SayAndClose(known.to_vec()));
        probes.push(Probe::Drip(known.to_vec()));
        probes.push(Probe::Say([known, &noise(300)].concat()));
        probes.push(Probe::Say(known[..FLIGHT_BYTES - 1].to_vec()));
        probes.push(Probe::SayAndClose(known[..1024].to_vec()));
    }
    let lengths = (1..64).map(|n| n * 32).chain(FLIGHT_BYTES - 8..FLIGHT_BYTES + 8);
    probes.extend(lengths.map(|length| Probe::Say(noise(length))));
    probes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_whatever_a_stranger_says_nothing_comes_back_and_time_tells_nothing() {
    let (mut a, mut b) = pair().await;
    let flight = recorded(&a, &mut b).await;
    let ended = DoorSecret::from_bytes([99; 32]);
    let ended = seal_flight(&ended, 5, b"hello", &mut rng()).unwrap();
    let probes = probes(&flight, &*ended);
    let deadline = Duration::from_millis(1500);
    for node in [&b, &a] {
        let seen = join_all(probes.iter().map(|one| probe(node.addr(), one.clone()))).await;
        for (index, seen) in seen.iter().enumerate() {
            assert_eq!(seen.bytes, 0, "probe {index}");
            assert!(seen.is_clean || index == FLOOD, "probe {index}");
            let (early, late) = (deadline - SLACK, deadline + 10 * SLACK);
            assert!((early..late).contains(&seen.lasted), "probe {index}: {:?}", seen.lasted);
        }
    }
    assert_eq!(b.keeper.admitted.load(Ordering::SeqCst), 1, "the recorded lane alone");
    assert_eq!(a.keeper.admitted.load(Ordering::SeqCst), 0);
    assert!(a.lanes.try_recv().is_err() && b.lanes.try_recv().is_err());
    assert!(a.dial(&b, LaneKind::Control).await.is_ok(), "friends still come in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_crowd_of_strangers_does_not_keep_a_friend_out() {
    let (a, b) = Keeper::pair();
    let a = Node::start(config(1), a).await;
    let mut small = config(2);
    small.limits.waiting_max = 20;
    small.deadlines.door = Duration::from_secs(60);
    let mut b = Node::start(small, b).await;
    let mut crowd = Vec::new();
    for index in 0..200 {
        let mut stream = TcpStream::connect(b.addr()).await.unwrap();
        let length = if index % 2 == 0 { 0 } else { FLIGHT_BYTES };
        stream.write_all(&noise(length)).await.unwrap();
        crowd.push(stream);
        if index % 50 == 49 {
            // On a busy machine some of the crowd enter after it and push it out; then it dials again, as nodes do.
            let (mut dialled, mut tries) = (a.dial(&b, LaneKind::Control).await, 1);
            while dialled.is_err() && tries < 3 {
                (dialled, tries) = (a.dial(&b, LaneKind::Control).await, tries + 1);
            }
            drop((dialled.unwrap(), b.lanes.recv().await.unwrap()));
        }
    }
    assert!(b.net.inner.chain.door.room.len() <= 20);
    for mut stream in crowd.drain(..100) {
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut [0; 8])).await;
        assert!(!matches!(read.unwrap(), Ok(1..)), "not a byte, also when sent away");
    }
}

#[tokio::test]
async fn a_waiting_stranger_costs_little_memory() {
    let (a, _b) = pair().await;
    let point =
        libp2p::core::ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr: Multiaddr::empty() };
    let io = futures::io::Cursor::new(Vec::new());
    let pass = a.net.inner.chain.clone().pass(Wire::new(io, a.addr(), None), point);
    let bytes = size_of_val(&pass) + FLIGHT_BYTES;
    assert!(bytes < 6 << 10, "{bytes} bytes");
}
