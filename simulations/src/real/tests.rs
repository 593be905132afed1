//! Small meshes of complete nodes; the large one is run by command.

use super::*;
use crate::mesh;
use crate::outcome::{Record, Verdict};
use crate::records::Records;
use crate::scenario::{Curve, Kind, Message, Priority, Topology, Traffic};

/// Nodes in a ring, or a denser one: each with the next `reach` nodes.
fn ring(nodes: usize, reach: usize) -> Vec<(usize, usize)> {
    let link = |node, step| {
        let other = (node + step) % nodes;
        (usize::min(node, other), usize::max(node, other))
    };
    let mut links: Vec<_> = (0..nodes).flat_map(|node| (1..=reach).map(move |step| link(node, step))).collect();
    links.sort_unstable();
    links.dedup();
    links
}

/// So many nodes and agreements of each, and a day without messages.
fn day(nodes: usize, reach: usize) -> Scenario {
    let topology = Topology::Links { nodes, links: ring(nodes, reach) };
    Scenario::new("ring", topology, Duration::from_secs(86_400))
}

/// `count` messages of every node in turn, to its counterparts in turn.
fn messages(scenario: &Scenario, count: usize) -> Vec<Message> {
    let (nodes, links) = (scenario.topology.nodes(), scenario.topology.links(0));
    let counterparts = |node| -> Vec<usize> {
        let other = |(a, b): &(usize, usize)| if *a == node { Some(*b) } else { (*b == node).then_some(*a) };
        links.iter().filter_map(other).collect()
    };
    let one = |number: usize| {
        let (from, kind) = (number % nodes, [Kind::LabResult, Kind::Letter, Kind::Mr][number % 3]);
        let to = counterparts(from);
        let to = vec![to[number / nodes % to.len()]];
        let at = scenario.duration.mul_f64(number as f64 / (count * nodes) as f64);
        Message { at, from, to, kind, priority: None, bytes: None, recall_after: None }
    };
    (0..count * nodes).map(one).collect()
}

#[test]
fn five_nodes_in_a_ring_deliver_what_they_are_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        real_time: Duration::from_secs(4),
        content_bytes_max: 20_000,
        idle: Duration::ZERO,
        folder: Some(folder.path().to_owned()),
        ..Options::default()
    };
    let mut records = Records::default();
    let mut scenario = day(5, 1);
    scenario.messages = messages(&scenario, 20);
    let outcome = run(&scenario, 7, &options, &mut records).expect("this machine lets a mesh run");
    assert_eq!((outcome.verdict, &outcome.finding), (Verdict::Pass, &None));
    assert_eq!((outcome.messages.submitted, outcome.messages.taken), (100, 100), "{outcome:?}");
    assert_eq!((outcome.nodes, outcome.links), (5, 5));
    let urgent = outcome.latency.iter().find(|(priority, _)| *priority == Priority::Urgent);
    assert_eq!(urgent.map(|(_, latency)| latency.count), Some(34));
    let (sender, receiver): (Vec<_>, Vec<_>) =
        records.sequences.iter().partition(|(((_, from, _), node), _)| from == node);
    assert_eq!((sender.len(), receiver.len()), (100, 100));
    assert!(sender.iter().all(|(_, seen)| seen.first() == Some(&Record::Submitted)), "{sender:?}");
    assert!(sender.iter().all(|(_, seen)| seen.last() == Some(&Record::Taken)), "{sender:?}");
    assert!(
        receiver.iter().all(|(_, seen)| **seen == [Record::Delivered, Record::Released, Record::Taken]),
        "{receiver:?}"
    );
    let left = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "nothing is left behind");
}

#[test]
fn what_becomes_of_scripted_messages_is_the_same_in_both_engines() {
    let mut scenario = Scenario::new("pair", Topology::Pair {}, Duration::from_secs(3_600));
    scenario.messages = messages(&scenario, 6);
    for message in &mut scenario.messages {
        // In the real mesh the day begins when all are online; in the virtual one they first have to find each other.
        message.at += Duration::from_secs(60);
        // Content that the real mesh need not cut.
        message.bytes = Some(20_000);
    }
    let (mut virtually, mut really) = (Records::default(), Records::default());
    let outcome = mesh::run(&scenario, 7, &mesh::Options::default(), &mut virtually);
    assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.finding);
    let options = Options { real_time: Duration::from_secs(4), idle: Duration::ZERO, ..Options::default() };
    let outcome = run(&scenario, 7, &options, &mut really).expect("this machine lets a mesh run");
    assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.finding);
    assert_eq!(virtually.sequences.len(), 24, "12 envelopes, each seen by two");
    assert!(virtually.differences(&really).is_empty(), "{:#?}", virtually.differences(&really));
}

/// A working day of six nodes with four agreements each; of 300 with 34, which takes minutes and gigabytes:
///
/// `PAKT_MESH_NODES=300 PAKT_MESH_REACH=17 PAKT_MESH_SECONDS=120 PAKT_MESH_BYTES=1000000 cargo test --release -p pakt-simulations
/// --lib -- --nocapture a_mesh_as_large_as_told`
#[test]
fn a_mesh_as_large_as_told() {
    let told =
        |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    let mut scenario = day(told("PAKT_MESH_NODES", 6) as usize, told("PAKT_MESH_REACH", 2) as usize);
    // The studies of `teleradiology-310`, and letters and results about as many.
    let office = |kind, rate| Traffic { curve: Curve::Office, ..Traffic::of(kind, rate) };
    let studies = Traffic { bytes: Some(150_000_000), ..office(Kind::Mr, 0.1344) };
    scenario.traffic = vec![studies, office(Kind::Letter, 0.1), office(Kind::LabResult, 0.1)];
    let options = Options {
        real_time: Duration::from_secs(told("PAKT_MESH_SECONDS", 5)),
        content_bytes_max: told("PAKT_MESH_BYTES", 100_000),
        idle: Duration::from_secs(told("PAKT_MESH_IDLE", 1)),
        ..Options::default()
    };
    let outcome = run(&scenario, 7, &options, &mut ()).expect("this machine lets a mesh run");
    println!("{} nodes, {} links: {:?} {:?}", outcome.nodes, outcome.links, outcome.verdict, outcome.finding);
    println!("{:?}\n{:#?}\n{:#?}", outcome.messages, outcome.latency, outcome.found);
    assert_eq!(outcome.verdict, Verdict::Pass);
}
