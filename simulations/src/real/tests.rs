//! Small meshes of complete nodes; the large one is run by command.

use super::*;
use crate::outcome::{Record, Verdict};
use crate::records::Records;
use crate::scenario::{Kind, Priority};

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

/// `count` messages of every node in turn, to its counterparts in turn.
fn messages(links: &[(usize, usize)], nodes: usize, count: u64, duration: Duration) -> Vec<Submission> {
    let counterparts = |node| -> Vec<usize> {
        let other = |(a, b): &(usize, usize)| if *a == node { Some(*b) } else { (*b == node).then_some(*a) };
        links.iter().filter_map(other).collect()
    };
    let all = count * nodes as u64;
    let one = |number: u64| {
        let from = (number % nodes as u64) as usize;
        let to = counterparts(from);
        let to = vec![to[(number / nodes as u64) as usize % to.len()]];
        let kind = [Kind::LabResult, Kind::Letter, Kind::Mr][(number % 3) as usize];
        Submission {
            at: duration.mul_f64(number as f64 / all as f64),
            from,
            to,
            kind,
            priority: kind.priority(),
            bytes: kind.bytes(),
            files: kind.files(),
            recall_after: None,
            number,
        }
    };
    (0..all).map(one).collect()
}

fn run_ring((nodes, reach, count): (usize, usize, u64), options: &Options, watch: &mut dyn Watch) -> Outcome {
    let (links, duration) = (ring(nodes, reach), Duration::from_secs(86_400));
    let submissions = messages(&links, nodes, count, duration);
    let hold = Duration::from_secs(3_600);
    let submissions = Box::new(submissions.into_iter());
    let plan = Plan { nodes, links, hold, duration, faults: &[], submissions };
    play_plan(plan, 7, options, watch).expect("this machine lets a mesh run")
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
    let outcome = run_ring((5, 1, 20), &options, &mut records);
    assert_eq!((outcome.verdict, &outcome.finding), (Verdict::Pass, &None));
    assert_eq!((outcome.messages.submitted, outcome.messages.released), (100, 100), "{outcome:?}");
    assert_eq!((outcome.nodes, outcome.links), (5, 5));
    let urgent = outcome.latency.iter().find(|(priority, _)| *priority == Priority::Urgent);
    assert_eq!(urgent.map(|(_, latency)| latency.count), Some(34));
    let (sender, receiver): (Vec<_>, Vec<_>) =
        records.sequences.iter().partition(|(((_, from, _), node), _)| from == node);
    assert_eq!((sender.len(), receiver.len()), (100, 100));
    assert!(sender.iter().all(|(_, seen)| seen.first() == Some(&Record::Submitted)), "{sender:?}");
    assert!(sender.iter().all(|(_, seen)| seen.last() == Some(&Record::Released)), "{sender:?}");
    assert!(receiver.iter().all(|(_, seen)| **seen == [Record::Delivered, Record::Released]), "{receiver:?}");
    let left = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "nothing is left behind");
}

/// `PAKT_MESH_NODES=300 PAKT_MESH_REACH=17 PAKT_MESH_MESSAGES=24 cargo test --release -p pakt-simulations -- --ignored --nocapture
/// a_mesh_as_large_as_told`: 300 nodes with 34 agreements each, 24 messages of every node.
#[test]
#[ignore = "takes minutes and gigabytes; run it by command"]
#[expect(clippy::print_stdout, reason = "a measurement is read by people")]
fn a_mesh_as_large_as_told() {
    let told =
        |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    let nodes = told("PAKT_MESH_NODES", 300) as usize;
    let reach = told("PAKT_MESH_REACH", 17) as usize;
    let options = Options {
        real_time: Duration::from_secs(told("PAKT_MESH_SECONDS", 120)),
        content_bytes_max: told("PAKT_MESH_BYTES", 1_000_000),
        idle: Duration::from_secs(told("PAKT_MESH_IDLE", 20)),
        ..Options::default()
    };
    let outcome = run_ring((nodes, reach, told("PAKT_MESH_MESSAGES", 24)), &options, &mut ());
    println!("{nodes} nodes, {} links: {:?} {:?}", outcome.links, outcome.verdict, outcome.finding);
    println!("{:?}\n{:#?}\n{:#?}", outcome.messages, outcome.latency, outcome.found);
    assert_eq!(outcome.verdict, Verdict::Pass);
}
