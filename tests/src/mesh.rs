//! More than two nodes: agreements made with files between any of them, ports that move.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use serde_json::Value;

use crate::node::TestNode;
use crate::pair::text;
use crate::wait::{secs, until};

/// A loopback port that nobody listens on now.
///
/// # Panics
/// When the machine has none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("it is bound").port()
}

/// Makes an agreement with files; the proposer imports the countersigned one, so that nobody has to be dialled.
///
/// # Panics
/// When a step fails.
#[track_caller]
pub fn agree(proposer: &TestNode, acceptor: &TestNode, desk: &Path, terms: &str) {
    let at = |name: &str| text(&desk.join(name));
    let (card, proposal, agreement) = (at("card"), at("proposal"), at("agreement"));
    std::fs::write(at("terms"), terms).expect("the desk can be written");
    acceptor.cli(&["card", "--force", "--out", &card]).expect(0);
    let terms = at("terms");
    proposer
        .cli(&["agreement", "propose", "--force", "--with", &card, "--terms", &terms, "--out", &proposal])
        .expect(0);
    acceptor.cli(&["agreement", "accept", "--force", &proposal, "--out", &agreement]).expect(0);
    proposer.cli(&["agreement", "import", &agreement]).expect(0);
}

/// What `node` tells about the counterpart with this number.
///
/// # Panics
/// When it knows none.
#[track_caller]
pub fn peer(node: &TestNode, number: &str) -> Value {
    let peers = node.json(&["peers"]);
    let found = peers.as_array().and_then(|peers| peers.iter().find(|peer| peer["number"] == number)).cloned();
    found.unwrap_or_else(|| panic!("{} knows no {number}: {peers}", node.name()))
}

/// Waits until `node` sees `other`.
#[track_caller]
pub fn wait_sees(node: &TestNode, other: &TestNode, seconds: u64) {
    let what = format!("{} sees {}", node.name(), other.name());
    until(secs(seconds), &what, || (peer(node, other.number())["online"] == true).then_some(()));
}

/// Changes a line of `config.toml` that begins with `key =`, or adds it at the top.
///
/// # Panics
/// When the file cannot be read or written.
pub fn set_config(node: &TestNode, key: &str, value: &str) {
    let path = node.dir().join("config.toml");
    let before = std::fs::read_to_string(&path).expect("the settings are there");
    let line = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    let kept: Vec<&str> = before.lines().filter(|one| !line(one)).collect();
    std::fs::write(&path, format!("{key} = {value}\n{}\n", kept.join("\n"))).expect("the settings can be written");
}
