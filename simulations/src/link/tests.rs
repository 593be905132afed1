//! The emulated line as two programs on both ends of it see it. Needs root.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::*;

/// Both ends of a line, or `None` where lines are not allowed; that is a failure where nothing may be skipped.
fn ends(line: Line) -> Option<(Namespace, Namespace, Link)> {
    if let Err(error) = check_allowed() {
        assert!(std::env::var_os("PAKT_REQUIRE_ALL").is_none(), "{error:#}");
        eprintln!("SKIPPED a test of the emulated line: {error:#}");
        return None;
    }
    let (near, far) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    let link = Link::open(&near, &far, 1, line, 42).unwrap();
    Some((near, far, link))
}

fn sockets(near: &Namespace, far: &Namespace) -> (UdpSocket, UdpSocket) {
    let socket = |place: &Namespace, address| place.inside(|| UdpSocket::bind((address, 7000))).unwrap().unwrap();
    let (one, other) = (socket(near, Link::near_address(1)), socket(far, Link::far_address(1)));
    one.connect((Link::far_address(1), 7000)).unwrap();
    other.connect((Link::near_address(1), 7000)).unwrap();
    for socket in [&one, &other] {
        socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    }
    (one, other)
}

/// Round trips of small packets, in milliseconds, sorted.
fn round_trips(one: &UdpSocket, other: &UdpSocket, count: u32) -> Vec<f64> {
    let mut buffer = [0; 64];
    let mut found: Vec<f64> = (0..count)
        .filter_map(|number| {
            let start = Instant::now();
            one.send(&number.to_be_bytes()).unwrap();
            other.recv(&mut buffer).ok()?;
            other.send(&number.to_be_bytes()).unwrap();
            one.recv(&mut buffer).ok()?;
            Some(start.elapsed().as_secs_f64() * 1000.0)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    found
}

/// Milliseconds that a round trip may lack: in each direction a packet leaves up to half a grain early with one that is due.
fn early(line: &Line) -> f64 {
    carrier::grain(line).as_secs_f64() * 1000.0
}

/// Megabits of payload in each second that one TCP connection carries.
fn goodput(near: &Namespace, far: &Namespace, bytes: usize) -> f64 {
    let listener = far.inside(|| TcpListener::bind((Link::far_address(1), 7001))).unwrap().unwrap();
    let mut sender = near.inside(|| TcpStream::connect((Link::far_address(1), 7001))).unwrap().unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.write_all(&vec![7; bytes]).unwrap());
        let mut received = Vec::new();
        receiver.read_to_end(&mut received).unwrap();
        assert!(received == vec![7; bytes]);
    });
    bytes as f64 * 8.0 / 1e6 / start.elapsed().as_secs_f64()
}

#[test]
fn delay_and_rate_are_those_of_the_line() {
    let line = Line::new(50.0, 20.0);
    let Some((near, far, link)) = ends(line) else { return };
    let (one, other) = sockets(&near, &far);
    let trips = round_trips(&one, &other, 21);
    assert_eq!(trips.len(), 21);
    // Sooner only by what packets of the kernel's own take along; how much later most are depends on what else the machine does.
    assert!(trips[0] >= 20.0 - early(&line) && trips[0] < 30.0, "{trips:?}");
    let reached = goodput(&near, &far, 10_000_000);
    eprintln!("{reached:.1} Mbit/s of 50");
    assert!(reached < 50.0 && reached > 5.0, "{reached} Mbit/s");
    let [there, back] = link.counters();
    assert!(there.bytes > 10_000_000 && there.bytes < 12_000_000 && back.bytes < 1_000_000, "{there:?} {back:?}");
    assert!(there.lost == 0 && there.busy > Duration::ZERO);
}

/// What the emulator costs is measured where figures belong: every row of the bench names its `emulation_seconds`.
#[test]
fn a_fast_line_carries_everything_at_no_more_than_its_rate() {
    let Some((near, far, link)) = ends(Line::new(300.0, 5.0)) else { return };
    let reached = goodput(&near, &far, 100_000_000);
    let [there, back] = link.counters();
    let busy = there.plus(back).busy.as_secs_f64();
    eprintln!("{reached:.1} Mbit/s of 300, {:.1} % of a core at the full rate", busy / (800.0 / 300.0) * 100.0);
    assert!(reached < 300.0, "{reached} Mbit/s");
    assert!(there.bytes > 100_000_000 && there.bytes < 120_000_000 && back.bytes < 10_000_000, "{there:?} {back:?}");
}

#[test]
fn a_lossy_line_loses_its_share_and_tcp_gets_through() {
    let Some((near, far, link)) = ends(Line::new(50.0, 4.0).with_loss(0.02)) else { return };
    near.set_congestion_control("cubic").unwrap();
    assert_eq!(near.congestion_control().unwrap(), "cubic");
    goodput(&near, &far, 10_000_000);
    let [there, _] = link.counters();
    let share = there.lost as f64 / (there.lost + there.packets) as f64;
    assert!((0.01..0.03).contains(&share), "{share}");
}

#[test]
fn a_cut_is_silence_and_the_address_can_change() {
    let Some((near, far, link)) = ends(Line::new(50.0, 4.0)) else { return };
    let (one, other) = sockets(&near, &far);
    assert_eq!(round_trips(&one, &other, 2).len(), 2);
    link.cut();
    assert_eq!(round_trips(&one, &other, 1).len(), 0);
    link.mend();
    assert_eq!(round_trips(&one, &other, 2).len(), 2);
    let slow = Line::new(50.0, 60.0);
    link.set_line(slow);
    assert!(round_trips(&one, &other, 1)[0] >= 60.0 - early(&slow));
    link.move_near_end(&near, 1, 9).unwrap();
    let (listener, from) = {
        let listener = far.inside(|| TcpListener::bind((Link::far_address(1), 7001))).unwrap().unwrap();
        let _sender = near.inside(|| TcpStream::connect((Link::far_address(1), 7001))).unwrap().unwrap();
        let (_, from) = listener.accept().unwrap();
        (listener, from)
    };
    drop(listener);
    assert_eq!(from.ip().to_string(), "10.210.1.9");
}
