//! The API of a running node at its edges: rights of the socket, the token of the TCP listener, problem details, the document.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{init, pakt};

/// A running node that ends with the test.
struct Running {
    child: Child,
    dir: PathBuf,
}

impl Running {
    fn start(home: &Path) -> Running {
        let log = fs::File::create(home.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pakt"));
        command.args(["run", "--dir", "n"]).current_dir(home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        let running = Running { child, dir: home.join("n") };
        let deadline = Instant::now() + Duration::from_secs(60);
        while pakt(home, &["status", "--dir", "n"]).code != 0 {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(home.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }

    fn ask(&self, request: &str) -> (u16, String) {
        exchange(UnixStream::connect(self.dir.join("api.sock")).unwrap(), request)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request, reads until the end, and gives status and body.
fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    // The answer may come before all is written; then the rest is refused, and what was read until then counts.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")
}

#[test]
fn the_api_answers_as_documented_and_refuses_as_promised() {
    let home = tempfile::tempdir().unwrap();
    init(home.path(), "n", "NO:ORGNR:999000101");
    let config = home.path().join("n/config.toml");
    let settings = fs::read_to_string(&config).unwrap().replace("# tcp = false", "tcp = true");
    fs::write(&config, settings).unwrap();
    let node = Running::start(home.path());

    let mode = |name: &str| fs::metadata(node.dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("api.sock"), mode("api.token")), (0o600, 0o600));
    let host = "host: pakt\r\n";
    assert_eq!(node.ask(&get("/livez", host)).0, 200);
    assert_eq!(node.ask(&get("/readyz", host)).0, 200);
    let (status, document) = node.ask(&get("/v1/openapi.json", host));
    assert!(status == 200 && document.contains("/v1/outbox/{id}/events"));

    let problem = |request: &str, status: u16, error: &str| {
        let (answered, body) = node.ask(request);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        assert_eq!((answered, body["error"].as_str()), (status, Some(error)), "{body}");
        assert_eq!(body["status"], status);
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    };
    problem(&get("/v1/nonsense", host), 404, "not_found");
    problem(&get("/v1/outbox/00000000000000000000000000000000", host), 404, "not_found");
    problem(&get("/v1/outbox/00/receipt?tier=x", host), 400, "usage");
    problem("DELETE /v1/status HTTP/1.1\r\nhost: pakt\r\nconnection: close\r\n\r\n", 405, "usage");
    let post = |body: &str, length: usize| {
        format!(
            "POST /v1/drafts HTTP/1.1\r\nhost: pakt\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    };
    problem(&post("{", 1), 400, "usage");
    problem(&post(&" ".repeat(9 << 20), 9 << 20), 413, "too_large");

    let status = pakt(home.path(), &["status", "--dir", "n", "--json"]).expect(0).json();
    let tcp = status["api_tcp"].as_str().expect("the listener is named").trim_start_matches("http://").to_owned();
    assert!(tcp.starts_with("127.0.0.1:"), "{tcp}");
    let token = fs::read_to_string(node.dir.join("api.token")).unwrap();
    let over_tcp = |headers: &str| exchange(TcpStream::connect(&tcp).unwrap(), &get("/v1/status", headers)).0;
    let (host, token) = (format!("host: {tcp}\r\n"), format!("authorization: Bearer {}\r\n", token.trim()));
    assert_eq!(over_tcp(&format!("{host}{token}")), 200);
    assert_eq!(over_tcp(&host), 401);
    assert_eq!(over_tcp(&format!("{host}authorization: Bearer {}\r\n", "0".repeat(64))), 401);
    assert_eq!(over_tcp(&format!("host: evil.example\r\n{token}")), 401);
    assert_eq!(over_tcp(&format!("{host}{token}origin: https://evil.example\r\n")), 401);
}
