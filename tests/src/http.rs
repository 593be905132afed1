//! A node's listener for monitoring, asked as a monitoring system does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::mesh;
use crate::node::TestNode;

/// Status line and body of an answer; none where nobody listens.
pub fn get(port: u16, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: pakt\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

/// What `/metrics` answers, if it does so with 200.
pub fn metrics(port: u16) -> Option<String> {
    get(port, "/metrics").filter(|(status, _)| status.contains("200")).map(|(_, body)| body)
}

/// Has the node listen for monitoring from its next start on; gives the port.
///
/// # Panics
/// When `config.toml` is not the one that `init` wrote.
pub fn listen_for_monitoring(node: &TestNode) -> u16 {
    let (config, port) = (node.dir().join("config.toml"), mesh::free_port());
    let text = fs::read_to_string(&config).expect("the node has a configuration");
    let changed = text.replace("# listen = false", &format!("listen = {port}"));
    assert_ne!(changed, text, "config.toml has no [metrics] listen");
    fs::write(&config, changed).expect("the configuration can be written");
    port
}
