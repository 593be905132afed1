//! What lanes do for nodes that have an agreement.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::keeper::{AGREEMENT, transport_of};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Writes `bytes` into one lane end and reads them from the other, both at a time.
async fn pump(from: Lane, to: Lane, bytes: usize) -> (Lane, Lane) {
    let (mut from, mut to) = (from, to);
    let writer = tokio::spawn(async move {
        let block: Vec<u8> = (0..1 << 20).map(|n: usize| ((n * 31) >> 3) as u8).collect();
        let mut left = bytes;
        while left > 0 {
            let step = left.min(block.len());
            from.io.write_all(&block[..step]).await.unwrap();
            left -= step;
        }
        from.io.shutdown().await.unwrap();
        from
    });
    let mut buf = vec![0; 256 << 10];
    let mut read = 0;
    loop {
        match to.io.read(&mut buf).await.unwrap() {
            0 => break,
            n => {
                let at = read % (1 << 20);
                assert_eq!(buf[0], ((at * 31) >> 3) as u8, "byte {read}");
                read += n;
            }
        }
    }
    assert_eq!(read, bytes);
    (writer.await.unwrap(), to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_and_four_bulk_lanes_move_200_mb() {
    let (a, mut b) = pair().await;
    let (mut ours, mut theirs) = a.lane(&mut b, LaneKind::Control).await;
    assert_eq!((ours.kind, theirs.kind), (LaneKind::Control, LaneKind::Control));
    assert_eq!((ours.dialer, theirs.dialer), (true, false));
    assert_eq!((ours.peer.entity, theirs.peer.entity), (b.keeper.own, a.keeper.own));
    assert_eq!(ours.peer.transport, transport_of(2));
    assert_eq!(theirs.peer.transport, transport_of(1));
    assert_eq!(ours.remote, b.addr());

    let mut bulk = Vec::new();
    for _ in 0..4 {
        bulk.push(a.lane(&mut b, LaneKind::Bulk).await);
    }
    let each = 50_000_000;
    let moved = bulk.into_iter().enumerate().map(|(index, (dialled, accepted))| {
        // Data flows in either direction of a dial.
        let (from, to) = if index % 2 == 0 { (dialled, accepted) } else { (accepted, dialled) };
        tokio::spawn(pump(from, to, each))
    });
    for ends in futures::future::join_all(moved).await {
        let (from, to) = ends.unwrap();
        let sent = from.bytes.sent();
        assert!((each as u64..each as u64 * 101 / 100).contains(&sent), "{sent}");
        assert_eq!(to.bytes.received(), sent);
    }

    ours.io.write_all(b"ping").await.unwrap();
    ours.io.flush().await.unwrap();
    let mut word = [0; 4];
    theirs.io.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn the_memory_transport_runs_the_same_chain() {
    let (a, b) = Keeper::pair();
    let (a, b) = (Arc::new(a), Arc::new(b));
    let mut small = config(1);
    small.limits.read_buffer_bytes = 4096;
    let (dialer, _) = Net::start_in_memory(small, 9001, a.clone()).await.unwrap();
    let (_listener, mut lanes) = Net::start_in_memory(config(2), 9002, b.clone()).await.unwrap();
    let lane = dialer.dial(a.target("memory:9002".into()), LaneKind::Urgent).await.unwrap();
    let accepted = lanes.recv().await.unwrap();
    assert_eq!(accepted.kind, LaneKind::Urgent);
    assert_eq!(accepted.peer.agreement, AGREEMENT);
    pump(lane, accepted, 3_000_000).await;
    let nobody = dialer.dial(a.target("memory:9003".into()), LaneKind::Bulk).await;
    assert_eq!(nobody.err(), Some(DialError::Unreachable(ErrorKind::ConnectionRefused)));
    let taken = Net::start_in_memory(config(2), 9002, b).await;
    assert!(matches!(taken.err(), Some(NetError::MemoryPort(9002))));
}

#[tokio::test]
async fn a_dropped_lane_ends_at_the_other_side_and_a_closed_one_ends_cleanly() {
    let (a, mut b) = pair().await;
    let (dropped, mut other) = a.lane(&mut b, LaneKind::Bulk).await;
    drop(dropped);
    let mut buf = [0; 8];
    let ended = timeout(SECOND, other.io.read(&mut buf)).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::UnexpectedEof);

    let (mut closed, mut other) = a.lane(&mut b, LaneKind::Bulk).await;
    closed.io.write_all(b"last").await.unwrap();
    closed.io.shutdown().await.unwrap();
    let mut all = Vec::new();
    timeout(SECOND, other.io.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, b"last");
    other.io.write_all(b"still heard").await.unwrap();
    other.io.shutdown().await.unwrap();
    let mut all = Vec::new();
    timeout(SECOND, closed.io.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, b"still heard");
}

#[tokio::test]
async fn an_idle_lane_stays_up() {
    let (a, b) = Keeper::pair();
    let quick = |seed| {
        let mut config = config(seed);
        config.deadlines.lane = Duration::from_millis(500);
        config
    };
    let a = Node::start(quick(1), a).await;
    let mut b = Node::start(quick(2), b).await;
    let (mut ours, mut theirs) = a.lane(&mut b, LaneKind::Control).await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    ours.io.write_all(b"x").await.unwrap();
    ours.io.flush().await.unwrap();
    assert_eq!(timeout(SECOND, theirs.io.read_u8()).await.unwrap().unwrap(), b'x');
}

#[tokio::test]
async fn a_shutdown_ends_lanes_dials_and_listening() {
    let (a, mut b) = pair().await;
    let (_ours, mut theirs) = a.lane(&mut b, LaneKind::Control).await;
    let reading = tokio::spawn(async move { theirs.io.read_u8().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    timeout(SECOND, b.net.shutdown()).await.unwrap();
    let read = timeout(SECOND, reading).await.unwrap().unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let refused = a.dial(&b, LaneKind::Control).await.err();
    assert_eq!(refused, Some(DialError::Unreachable(ErrorKind::ConnectionRefused)));
    assert_eq!(b.dial(&a, LaneKind::Control).await.err(), Some(DialError::Stopped));
    assert!(b.lanes.recv().await.is_none());
    b.net.shutdown().await;
}

#[tokio::test]
async fn failures_say_who_has_to_act() {
    let (a, b) = pair().await;
    let unused = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().to_string()
    };
    for (addr, expected) in [
        ("no port".to_owned(), DialError::BadAddress),
        ("10.0.0.1:4100".to_owned(), DialError::RangeNotAllowed),
        ("[fe80::1]:4100".to_owned(), DialError::RangeNotAllowed),
        ("does-not-exist.invalid:1".to_owned(), DialError::Unresolved),
        (unused, DialError::Unreachable(ErrorKind::ConnectionRefused)),
    ] {
        let dialled = a.net.dial(a.keeper.target(addr.clone()), LaneKind::Bulk).await;
        assert_eq!(dialled.err(), Some(expected), "{addr}");
    }
    let mut target = a.keeper.target(b.addr().to_string());
    target.agreement = AgreementId([8; 32]);
    assert_eq!(a.net.dial(target, LaneKind::Bulk).await.err(), Some(DialError::NoGrant));

    let mut busy = config(3);
    busy.listen = Some(b.addr());
    let busy = Net::start(busy, a.keeper.clone()).await.err();
    assert!(matches!(busy, Some(NetError::Listen { addr, .. }) if addr == b.addr()));
}

#[tokio::test]
async fn a_host_name_is_resolved_and_its_address_checked() {
    let (a, mut b) = pair().await;
    let name = format!("localhost:{}", b.addr().port());
    let lane = a.net.dial(a.keeper.target(name.clone()), LaneKind::Control).await;
    assert_eq!(lane.unwrap().remote, b.addr());
    assert!(b.lanes.recv().await.is_some());

    let mut strict = config(1);
    strict.dial_rules = DialRules::default().into();
    let strict = Node::start(strict, Keeper::pair().0).await;
    let dialled = strict.net.dial(strict.keeper.target(name), LaneKind::Control).await;
    assert_eq!(dialled.err(), Some(DialError::RangeNotAllowed));
}

#[tokio::test]
async fn a_rotated_key_is_shown_from_the_next_lane_on() {
    let (a, mut b) = pair().await;
    let (mut before, mut held) = a.lane(&mut b, LaneKind::Control).await;
    a.keeper.rotate(11);
    a.net.set_identity(&[11; 32]).unwrap();
    let (_after, theirs) = a.lane(&mut b, LaneKind::Urgent).await;
    assert_eq!(theirs.peer.transport, transport_of(11));
    before.io.write_all(b"y").await.unwrap();
    before.io.flush().await.unwrap();
    assert_eq!(held.io.read_u8().await.unwrap(), b'y');
}

#[tokio::test]
async fn a_given_up_dial_leaves_nothing_behind() {
    let (a, b) = pair().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = a.keeper.target(silent.local_addr().unwrap().to_string());
    assert!(timeout(Duration::from_millis(100), a.net.dial(target, LaneKind::Bulk)).await.is_err());
    assert!(a.net.inner.chain.registry.is_empty());
    assert!(a.dial(&b, LaneKind::Bulk).await.is_ok());
    assert_eq!(b.keeper.admitted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_counterpart_has_a_limited_number_of_seats() {
    let (a, b) = Keeper::pair();
    let a = Node::start(config(1), a).await;
    let mut few = config(2);
    few.limits.lanes_per_peer_max = 2;
    let mut b = Node::start(few, b).await;
    let first = a.lane(&mut b, LaneKind::Bulk).await;
    let _second = a.lane(&mut b, LaneKind::Bulk).await;
    assert_eq!(a.dial(&b, LaneKind::Bulk).await.err(), Some(DialError::NoAnswer));
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(a.dial(&b, LaneKind::Bulk).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_dials_at_a_time_in_both_directions_all_become_lanes() {
    let (mut a, mut b) = pair().await;
    let dials = |from: &Node, to: &Node| {
        let (net, target) = (from.net.clone(), from.keeper.target(to.addr().to_string()));
        futures::future::join_all((0..10).map(move |_| {
            let (net, target) = (net.clone(), target.clone());
            tokio::spawn(async move { net.dial(target, LaneKind::Bulk).await })
        }))
    };
    let (out, back) = tokio::join!(dials(&a, &b), dials(&b, &a));
    let mut dialled: Vec<Lane> = out.into_iter().chain(back).map(|d| d.unwrap().unwrap()).collect();
    for (index, lane) in dialled.iter_mut().enumerate() {
        lane.io.write_all(&[index as u8]).await.unwrap();
        lane.io.flush().await.unwrap();
    }
    let mut heard = Vec::new();
    for _ in 0..10 {
        for node in [&mut a, &mut b] {
            heard.push(node.lanes.recv().await.unwrap().io.read_u8().await.unwrap());
        }
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..20).collect::<Vec<u8>>());
}
