//! Peers that passed the door and then break the rules.

use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::keeper::{hello_of, transport_of};
use super::*;
use crate::net::hello::{read_hello, write_hello};

type HostileTls = futures_rustls::TlsStream<Wire<Compat<TcpStream>>>;

/// Passes the door and TLS with the right secret and the transport key of `seed`.
async fn shake(dialer: &Keeper, seed: u8, addr: SocketAddr) -> std::io::Result<HostileTls> {
    let identity = TlsIdentity::new(&[seed; 32]).unwrap();
    let (session, hello) = identity.begin().unwrap();
    let io = TcpStream::connect(addr).await?.compat();
    let mut io = Wire::new(io, addr, None);
    io.write_all(&*dialer.seal(&hello)).await?;
    identity.connect(session, io).await
}

/// The bytes that come on the wire before the connection ends.
async fn rest(tls: &mut HostileTls) -> u64 {
    let bytes = tls.get_ref().0.bytes.clone();
    let before = bytes.received();
    let mut buf = [0; 1024];
    while let Ok(1..) = tls.read(&mut buf).await {}
    bytes.received() - before
}

fn quick(seed: u8) -> NetConfig {
    let mut config = config(seed);
    config.deadlines.hello = Duration::from_millis(400);
    config.deadlines.lane = Duration::from_millis(400);
    config
}

#[tokio::test]
async fn p1_a_foreign_chain_behind_the_right_door_gets_tls_and_nothing_after() {
    let (a, b) = Keeper::pair();
    let mut b = Node::start(quick(2), b).await;
    let (own, foreign) = (a.own, EntityId([66; 32]));
    let frame = |hello: &[u8]| [&(hello.len() as u32).to_be_bytes(), hello].concat();
    let rows = [
        (66, frame(&hello_of(foreign, transport_of(66)))),
        (66, frame(&hello_of(own, transport_of(66)))),
        (66, frame(&hello_of(own, transport_of(1)))),
        (1, frame(&hello_of(foreign, transport_of(1)))),
        (1, frame(&[])),
        (1, frame(&[9; 3000])),
        (1, vec![255; 9]),
        (1, vec![0, 0, 0, 64, 1, 2, 3]),
        (1, vec![]),
    ];
    for (seed, said) in rows {
        let mut tls = shake(&a, seed, b.addr()).await.unwrap();
        tls.write_all(&said).await.unwrap();
        tls.flush().await.unwrap();
        let began = Instant::now();
        assert_eq!(rest(&mut tls).await, 0, "{said:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{said:?}");
    }
    assert!(b.lanes.try_recv().is_err());

    let mut good = shake(&a, 1, b.addr()).await.unwrap();
    write_hello(&mut good, &hello_of(own, transport_of(1))).await.unwrap();
    assert_eq!(read_hello(&mut good).await.unwrap(), b.keeper.own_hello(&keeper::AGREEMENT));
}

#[tokio::test]
async fn a_dialer_says_which_impostor_it_met() {
    let (a, mut b) = Keeper::pair();
    b.claimed = EntityId([66; 32]);
    let (a, b) = (Node::start(config(1), a).await, Node::start(config(2), b).await);
    let impostor = a.dial(&b, LaneKind::Control).await.err();
    assert_eq!(impostor, Some(DialError::Foreign(HelloRefusal::ForeignEntity)));
    let refused = b.dial(&a, LaneKind::Control).await.err();
    assert_eq!(refused, Some(DialError::Refused));
}

#[tokio::test]
async fn both_sides_read_that_their_versions_do_not_meet() {
    let (mut a, mut b) = Keeper::pair();
    (a.refuses, b.refuses) = (Some(HelloRefusal::PeerNewer), Some(HelloRefusal::PeerOlder));
    let (a, b) = (Node::start(config(1), a).await, Node::start(config(2), b).await);
    // The listener, which refuses as well, has answered with its versions: the dialer says what it made of them.
    assert_eq!(a.dial(&b, LaneKind::Control).await.err(), Some(DialError::Foreign(HelloRefusal::PeerNewer)));
    assert_eq!(b.dial(&a, LaneKind::Control).await.err(), Some(DialError::Foreign(HelloRefusal::PeerOlder)));
}

#[tokio::test]
async fn a_listener_that_never_answers_is_given_up() {
    let (a, b) = Keeper::pair();
    let mut impatient = quick(1);
    impatient.deadlines.tls = Duration::from_millis(300);
    let (a, b) = (Node::start(impatient, a).await, Node::start(config(2), b).await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = a.keeper.target(silent.local_addr().unwrap().to_string());
    let began = Instant::now();
    let given_up = a.net.dial(target, LaneKind::Control).await.err();
    assert_eq!(given_up, Some(DialError::NoAnswer));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(a.dial(&b, LaneKind::Control).await.is_ok());
}

#[tokio::test]
async fn a_peer_that_passes_everything_but_opens_no_lane_is_closed() {
    let (a, b) = Keeper::pair();
    let mut b = Node::start(quick(2), b).await;
    for said in [&b""[..], b"\x13/multistream/1.0.0\n", b"\x13/multistream/1.0.0\n\x0c/pakt/none/1\n", &[255; 500]] {
        let mut tls = shake(&a, 1, b.addr()).await.unwrap();
        write_hello(&mut tls, &hello_of(a.own, transport_of(1))).await.unwrap();
        read_hello(&mut tls).await.unwrap();
        tls.write_all(said).await.unwrap();
        tls.flush().await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(3), rest(&mut tls)).await;
        assert!(ended.is_ok(), "{said:?}");
    }
    assert!(b.lanes.try_recv().is_err());
    // Their seats are free again.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let fresh = Node::start(config(1), a).await;
    fresh.lane(&mut b, LaneKind::Control).await;
}

#[tokio::test]
async fn p40_a_panic_in_one_connection_ends_that_connection_only() {
    let (a, mut b) = pair().await;
    let mut held = a.lane(&mut b, LaneKind::Control).await;
    let (ours, theirs) = (&a.keeper, &b.keeper);
    for (flag, expected) in [
        (&theirs.panics_in_admit, DialError::NoAnswer),
        (&theirs.panics_in_check, DialError::Refused),
        (&ours.panics_in_check, DialError::Internal),
    ] {
        flag.store(true, Ordering::SeqCst);
        assert_eq!(a.dial(&b, LaneKind::Bulk).await.err(), Some(expected));
        flag.store(false, Ordering::SeqCst);
        tokio::io::AsyncWriteExt::write_all(&mut held.0.io, b"ok").await.unwrap();
        tokio::io::AsyncWriteExt::flush(&mut held.0.io).await.unwrap();
        let mut word = [0; 2];
        tokio::io::AsyncReadExt::read_exact(&mut held.1.io, &mut word).await.unwrap();
        assert!(a.dial(&b, LaneKind::Bulk).await.is_ok());
    }
    assert_eq!(b.net.inner.chain.door.room.len(), 0);
}
