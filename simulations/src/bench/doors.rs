//! The case `doors`: what one stranger at the door costs, against the number of agreements.
//!
//! A listener tries every secret of every agreement on every flight, so that no answer comes earlier than another. Measured is the
//! whole of that for flights that open nothing, on one thread, as the node does it; two secrets for each agreement, the most that
//! are valid at once.

use std::hint::black_box;
use std::time::Instant;

use clap::Args;
use pakt_keys::EntityId;
use pakt_protocol::door::{DoorSecret, DoorTable, SECRETS_MAX};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::limits::FLIGHT_BYTES;

use super::contest::begin;
use super::report::{Curve, Point};

const AGREEMENTS: [u64; 8] = [1, 10, 50, 100, 200, 500, 1000, 5000];
/// What a stranger may cost at the last of them, in seconds.
const TARGET_SECONDS: f64 = 0.001;

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct DoorsCase {
    /// The most agreements
    #[arg(long, default_value_t = 5000)]
    agreements_max: u64,
    /// Flights at each point
    #[arg(long, default_value_t = 2000)]
    flights: u64,
}

/// Measures the curve.
pub fn run(options: &DoorsCase) -> Curve {
    begin("One stranger at the door");
    let steps = AGREEMENTS.into_iter().filter(|count| *count <= options.agreements_max);
    let points: Vec<Point> = steps.map(|count| point(count, options.flights)).collect();
    let most = points.last().map(|point| {
        let verdict = if point.seconds <= TARGET_SECONDS { "reached" } else { "NOT reached" };
        format!("{:.3} ms per stranger at {} agreements (at most 1 ms): {verdict}", point.seconds * 1e3, point.at)
    });
    Curve {
        name: "doors".into(),
        title: "What one stranger at the door costs".into(),
        along: "agreements".into(),
        points,
        notes: most.into_iter().collect(),
    }
}

fn point(count: u64, flights: u64) -> Point {
    let mut table = DoorTable::new();
    for number in 0..count {
        let secrets: Vec<DoorSecret> = (0..SECRETS_MAX as u64).map(|which| secret(number, which)).collect();
        table.set(AgreementId(noise("agreement", number)), EntityId(noise("entity", number)), &secrets);
    }
    let strangers: Vec<Box<[u8; FLIGHT_BYTES]>> = (0..32).map(flight).collect();
    let start = Instant::now();
    for number in 0..flights {
        let opened = table.open(black_box(&strangers[number as usize % strangers.len()]));
        assert!(opened.is_none(), "noise opens no door");
    }
    let seconds = start.elapsed().as_secs_f64() / flights.max(1) as f64;
    eprintln!("  {count} agreements: {:.1} µs", seconds * 1e6);
    Point { at: count, seconds, bytes: 0, memory: None }
}

fn secret(number: u64, which: u64) -> DoorSecret {
    DoorSecret::from_bytes(noise("secret", number * SECRETS_MAX as u64 + which))
}

fn noise(what: &str, number: u64) -> [u8; 32] {
    blake3::derive_key(&format!("pakt bench {what}"), &number.to_be_bytes())
}

fn flight(number: u64) -> Box<[u8; FLIGHT_BYTES]> {
    let mut flight = Box::new([0; FLIGHT_BYTES]);
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut *flight);
    flight
}
