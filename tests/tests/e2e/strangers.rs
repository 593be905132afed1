//! P1: a stranger learns that a port accepts, and nothing else: a thousand probes, not one byte comes back. Ten thousand:
//! `PAKT_PROBES=10000 cargo test -p pakt-tests --test e2e -- strangers`.

use std::collections::BTreeMap;
use std::time::Duration;

use pakt_tests::pair::{Pair, id_of, online};
use pakt_tests::probe::{Manner, Outcome, Probe, visit};
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::{FLIGHT_BYTES, Flight, Side};
use pakt_tests::{tools, tree, turn};

const PROBES: usize = 1_000;
/// Probes at one end at the same time: more than a handful, fewer than half of the files that a process may open.
const AT_ONCE: usize = 350;
/// A connection that lives longer has not been given up.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn p1_a_thousand_strangers_get_not_one_byte() {
    let _turn = turn::alone();
    let pair = Pair::wired();
    let flights = record_flights(&pair);
    let count = tools::count("PAKT_PROBES", PROBES);
    let probes = probes(&flights, count);
    assert_eq!(probes.len(), count);
    let [to_a, to_b] = shared_out(&probes);
    let outcomes = visit_both(&pair, &to_a, &to_b);
    assert_silent(&outcomes);
    tools::tell(&format!("{} strangers, 0 bytes", outcomes.len()));
    assert_unharmed(&pair, "After the strangers");

    // The flights of an ended agreement are no better than noise.
    pair.a.cli(&["agreement", "end", &pair.agreement]).expect(0);
    until(secs(30), "the end is known", || (!online(&pair.a) && !online(&pair.b)).then_some(()));
    let late: Vec<Probe> = record_flights_again(&pair).iter().flat_map(replays_of).collect();
    assert_silent(&visit_both(&pair, &late, &late));
}

/// Half of the probes for each end; flights are replayed to the end that they were for and to the other one.
fn shared_out(probes: &[Probe]) -> [Vec<Probe>; 2] {
    [0, 1].map(|end| {
        let is_for = |at: usize, probe: &Probe| at % 2 == end || probe.kind.contains("flight");
        let all = probes.iter().enumerate().filter(|(at, probe)| is_for(*at, probe));
        all.map(|(_, probe)| probe.clone()).collect()
    })
}

/// Visits both ends at the same time, some strangers at once.
fn visit_both(pair: &Pair, to_a: &[Probe], to_b: &[Probe]) -> Vec<Outcome> {
    let [a, b] = [pair.a.listen(), pair.b.listen()];
    let visit_all = |target, probes: &[Probe]| -> Vec<Outcome> {
        probes.chunks(AT_ONCE).flat_map(|batch| visit(target, batch, CLOSED_WITHIN)).collect()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| visit_all(b, to_b));
        [visit_all(a, to_a), other.join().expect("a visit ends")].concat()
    })
}

#[test]
fn p1_time_to_close_tells_nothing() {
    let _turn = turn::alone();
    let pair = Pair::wired();
    let flight = record_flights(&pair).into_iter().find(|flight| flight.to == Side::A).expect("a dialled A");
    // Mixed, few at a time, so that neither order nor a crowd favours a kind.
    let round = one_of_each(&flight.bytes);
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut resets: BTreeMap<bool, Vec<&str>> = BTreeMap::new();
    for _ in 0..3 {
        let outcomes = visit(pair.a.listen(), &[round.clone(), round.clone()].concat(), CLOSED_WITHIN);
        assert_silent(&outcomes);
        for outcome in outcomes {
            times.entry(outcome.kind).or_default().extend(outcome.closed_after);
            resets.entry(outcome.reset).or_default().push(outcome.kind);
        }
    }
    let means: BTreeMap<&str, Duration> =
        times.iter().map(|(kind, all)| (*kind, all.iter().sum::<Duration>() / all.len() as u32)).collect();
    tools::tell(&format!("time to close: {means:.3?}"));
    let (least, most) = (means.values().min().unwrap(), means.values().max().unwrap());
    assert!(*most - *least < Duration::from_millis(250), "the times differ by kind: {means:?}");
    assert_eq!(resets.len(), 1, "how a connection ends differs by kind: {resets:?}");
}

/// One probe of each kind, from the plainly wrong to the almost right.
fn one_of_each(flight: &[u8]) -> Vec<Probe> {
    let rows: [(&'static str, Vec<u8>); 8] = [
        ("nothing", Vec::new()),
        ("short", noise(200, 1)),
        ("random flight", noise(FLIGHT_BYTES, 2)),
        ("replayed flight", flight.to_vec()),
        ("right tag, wrong body", flipped(flight, FLIGHT_BYTES - 1)),
        ("wrong tag", flipped(flight, 40)),
        ("replay and more", [flight, &noise(3_000, 3)].concat()),
        ("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ];
    rows.map(|(kind, says)| Probe { kind, says, manner: Manner::AtOnce }).to_vec()
}

/// Flights that both ends have accepted, at least one towards each.
fn record_flights(pair: &Pair) -> Vec<Flight> {
    let path = pair.path("for-the-record.bin");
    tree::write_noise(&path, 3_000_000, 55);
    let envelope = id_of(&pair.send("For the record", &[&path]));
    pair.wait_delivered(&envelope, secs(60));
    let flights = full_flights(pair);
    assert!(!flights.is_empty(), "no lane was dialled over the line");
    flights
}

/// All flights so far; by now every one of them has been used.
fn record_flights_again(pair: &Pair) -> Vec<Flight> {
    pair.wire().cut(true);
    full_flights(pair)
}

fn full_flights(pair: &Pair) -> Vec<Flight> {
    pair.wire().flights().into_iter().filter(|flight| flight.bytes.len() == FLIGHT_BYTES).collect()
}

fn replays_of(flight: &Flight) -> Vec<Probe> {
    let at_once = |kind, says| Probe { kind, says, manner: Manner::AtOnce };
    vec![
        at_once("replayed flight", flight.bytes.clone()),
        at_once("replayed flight and more", [flight.bytes.clone(), noise(500, 4)].concat()),
        at_once("flight with a changed nonce", flipped(&flight.bytes, 3)),
        at_once("flight with a changed tag", flipped(&flight.bytes, 40)),
        at_once("flight with a changed body", flipped(&flight.bytes, 1_000)),
        at_once("flight cut short", flight.bytes[..FLIGHT_BYTES - 1].to_vec()),
        Probe { kind: "half-open flight", says: flight.bytes.clone(), manner: Manner::HalfOpen },
        Probe {
            kind: "slow flight",
            says: flight.bytes.clone(),
            manner: Manner::Slow { piece_bytes: 200, pause: Duration::from_millis(100) },
        },
    ]
}

/// Greetings of other protocols, silence, noise of every length around the flight's, replays; the rest are flights with one
/// bit changed.
fn probes(flights: &[Flight], count: usize) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (kind, says) in greetings() {
        for manner in [Manner::AtOnce, Manner::HalfOpen, slow(2)] {
            probes.push(Probe { kind, says: says.clone(), manner });
        }
        // Padded to exactly a flight.
        let padded = [says.clone(), noise(FLIGHT_BYTES.saturating_sub(says.len()), 5)].concat();
        probes.push(Probe { kind, says: padded, manner: Manner::AtOnce });
    }
    for _ in 0..40 {
        probes.push(Probe { kind: "nothing", says: Vec::new(), manner: Manner::AtOnce });
        probes.push(Probe { kind: "half-open", says: Vec::new(), manner: Manner::HalfOpen });
    }
    for length in FLIGHT_BYTES - 128..=FLIGHT_BYTES + 128 {
        probes.push(Probe { kind: "noise", says: noise(length, length as u64), manner: Manner::AtOnce });
    }
    for at in 0..100u64 {
        let says = noise((at as usize * 331) % 9_000, 10_000 + at);
        probes.push(Probe {
            kind: "noise",
            says,
            manner: [Manner::AtOnce, Manner::HalfOpen, slow(64)][at as usize % 3],
        });
    }
    probes.extend(flights.iter().rev().take(8).flat_map(replays_of));
    let mut flight = flights.iter().cycle();
    while probes.len() < count {
        let bytes = &flight.next().expect("a cycle does not end").bytes;
        let at = probes.len() * 37 % FLIGHT_BYTES;
        probes.push(Probe { kind: "flight with one changed bit", says: flipped(bytes, at), manner: Manner::AtOnce });
    }
    probes.truncate(count);
    probes
}

fn slow(piece_bytes: usize) -> Manner {
    Manner::Slow { piece_bytes, pause: Duration::from_millis(150) }
}

fn greetings() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("tls", client_hello(false)),
        ("tls with a name", client_hello(true)),
        ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec()),
        ("http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec()),
        ("multistream", b"\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n\x07/noise\n".to_vec()),
        ("noise", [&b"\x00\x20"[..], &noise(32, 6)].concat()),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("dicom", [&b"\x01\x00\x00\x00\x00\xcd\x00\x01\x00\x00ANY-SCP         "[..], &noise(150, 7)].concat()),
        ("own lane", b"/pakt/control/1\n".to_vec()),
    ]
}

/// A plain TLS 1.3 hello, as scanners send it.
fn client_hello(named: bool) -> Vec<u8> {
    let mut extensions: Vec<u8> = Vec::new();
    if named {
        extensions.extend(b"\x00\x00\x00\x0e\x00\x0c\x00\x00\x09localhost");
    }
    extensions.extend(b"\x00\x2b\x00\x03\x02\x03\x04");
    extensions.extend(b"\x00\x0d\x00\x06\x00\x04\x08\x07\x04\x03");
    extensions.extend(b"\x00\x0a\x00\x04\x00\x02\x00\x1d");
    extensions.extend(b"\x00\x33\x00\x26\x00\x24\x00\x1d\x00\x20");
    extensions.extend(noise(32, 8));
    let mut hello = b"\x03\x03".to_vec();
    hello.extend(noise(32, 9));
    hello.extend(b"\x00\x00\x04\x13\x01\x13\x02\x01\x00");
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut handshake = vec![1, 0];
    handshake.extend((hello.len() as u16).to_be_bytes());
    handshake.extend(hello);
    let mut record = b"\x16\x03\x01".to_vec();
    record.extend((handshake.len() as u16).to_be_bytes());
    record.extend(handshake);
    record
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut out);
    out
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[track_caller]
fn assert_silent(outcomes: &[Outcome]) {
    let loud: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.bytes_back > 0).collect();
    assert!(loud.is_empty(), "bytes came back: {:?}", &loud[..loud.len().min(10)]);
    let open: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.closed_after.is_none()).collect();
    assert!(open.is_empty(), "{} still open: {:?}", open.len(), &open[..open.len().min(10)]);
}

/// The nodes work as before, and the friends were not thrown out.
#[track_caller]
fn assert_unharmed(pair: &Pair, subject: &str) {
    pair.wait_online();
    let path = pair.path("after.bin");
    tree::write_noise(&path, 1_000_000, 56);
    let envelope = id_of(&pair.send(subject, &[&path]));
    pair.wait_delivered(&envelope, secs(60));
    pair.assert_received_once(subject, &[&path]);
}
