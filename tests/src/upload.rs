//! A message that is sent over the local API piece by piece, as slowly as a test wants.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::node::TestNode;

const BLOCK_BYTES: usize = 512;

/// One message of one folder with one file of noise, under way into a node.
pub struct Upload {
    draft: String,
    socket: UnixStream,
    noise: blake3::OutputReader,
    bytes: u64,
    written: u64,
}

/// What the node answered.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Upload {
    /// Begins a message with a file of `bytes` bytes that follow from `seed`, of which the node is told beforehand.
    ///
    /// # Panics
    /// When the node refuses it.
    #[track_caller]
    pub fn begin(node: &TestNode, to: &[&str], subject: &str, bytes: u64, seed: u64) -> Upload {
        Upload::begin_as(node, to, subject, bytes, bytes, seed)
    }

    /// As [`Upload::begin`], but the node is told another number of bytes.
    ///
    /// # Panics
    /// When the node refuses it.
    #[track_caller]
    pub fn begin_as(node: &TestNode, to: &[&str], subject: &str, told: u64, bytes: u64, seed: u64) -> Upload {
        let message = json!({
            "from": null, "to": to, "subject": subject, "body": "", "purpose": null,
            "bytes": told, "files": 1, "folders": 1,
        });
        let body = message.to_string();
        let mut socket = connect(node);
        let head = format!(
            "POST /v1/drafts HTTP/1.1\r\nhost: pakt\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        socket.write_all(format!("{head}{body}").as_bytes()).expect("the node listens");
        let reply = read_reply(socket);
        let id = reply.body["id"].as_str().unwrap_or_else(|| panic!("no draft: {reply:?}")).to_owned();
        let mut socket = connect(node);
        let head = format!(
            "PUT /v1/drafts/{id}/content HTTP/1.1\r\nhost: pakt\r\ncontent-type: application/x-tar\r\n\
             transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).expect("the node listens");
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        let mut upload = Upload { draft: id, socket, noise: hasher.finalize_xof(), bytes, written: 0 };
        upload.put(&header("study/", b'5', 0));
        upload.put(&header("study/image.bin", b'0', bytes));
        upload
    }

    /// Hands the next `bytes` of the file to the node.
    pub fn write(&mut self, bytes: u64) {
        let mut left = bytes.min(self.bytes - self.written);
        self.written += left;
        let mut piece = vec![0; 256 << 10];
        while left > 0 {
            let now = left.min(piece.len() as u64) as usize;
            self.noise.fill(&mut piece[..now]);
            self.put(&piece[..now]);
            left -= now as u64;
        }
    }

    /// Sealed bytes that every recipient holds by now.
    pub fn bytes_durable(&self, node: &TestNode) -> u64 {
        let mut socket = connect(node);
        let head = format!("GET /v1/drafts/{} HTTP/1.1\r\nhost: pakt\r\nconnection: close\r\n\r\n", self.draft);
        socket.write_all(head.as_bytes()).expect("the node listens");
        read_reply(socket).body["bytes_durable"].as_u64().unwrap_or(0)
    }

    /// Hands over the rest and gives the answer.
    pub fn finish(mut self) -> Reply {
        self.write(self.bytes);
        let padding = (BLOCK_BYTES - (self.bytes as usize) % BLOCK_BYTES) % BLOCK_BYTES;
        self.put(&vec![0; padding + 2 * BLOCK_BYTES]);
        let _ = self.socket.write_all(b"0\r\n\r\n");
        read_reply(self.socket)
    }

    /// One piece of the body; a node that has stopped listening says why in its answer.
    fn put(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(format!("{:x}\r\n", bytes.len()).as_bytes());
        let _ = self.socket.write_all(bytes);
        let _ = self.socket.write_all(b"\r\n");
    }
}

fn connect(node: &TestNode) -> UnixStream {
    UnixStream::connect(node.dir().join("api.sock")).expect("the node listens")
}

fn read_reply(mut socket: UnixStream) -> Reply {
    let mut text = String::new();
    let _ = socket.read_to_string(&mut text);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    Reply { status, body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// A header of a tar stream.
fn header(name: &str, kind: u8, bytes: u64) -> [u8; BLOCK_BYTES] {
    let mut header = [0; BLOCK_BYTES];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{bytes:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
