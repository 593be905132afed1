//! The command line's side of the local API: one connection per request over the Unix socket.
//!
//! **Invariant:** whatever goes wrong comes back as a [`ServiceError`] with its exit code; a node that is not there is
//! `not_running`.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt, TryStreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::listen::{SOCKET_NAME, with_short_path};
use crate::api::types::{ErrorCode, Problem, ServiceError};

/// Answers that are read whole are lists and records; this is far above any of them.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// One event of a live stream.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Hyper's buffer on the socket: large enough for whole pieces of an upload or download.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;

type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// Content on its way, in large pieces.
pub type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A node's API as seen from the command line.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The API of the node in `dir`; nothing is connected yet.
    pub fn new(dir: &Path) -> Self {
        Self { socket: dir.join(SOCKET_NAME) }
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// What the node answered, or `not_running`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServiceError> {
        read_json(self.request(Method::GET, path, None, empty()).await?).await
    }

    /// Gives `body` to `path`.
    ///
    /// # Errors
    /// What the node answered, or `not_running`.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ServiceError> {
        let bytes = serde_json::to_vec(body).map_err(|e| garbled(&e))?;
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        read_json(self.request(Method::POST, path, Some("application/json"), body).await?).await
    }

    /// Streams a tar to `path`.
    ///
    /// # Errors
    /// What the node answered, or `not_running`; an error within `pieces` ends the request.
    pub async fn upload<T: DeserializeOwned>(&self, path: &str, pieces: Pieces) -> Result<T, ServiceError> {
        let body = StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync();
        read_json(self.request(Method::PUT, path, Some("application/x-tar"), body).await?).await
    }

    /// Streams the content of `path`.
    ///
    /// # Errors
    /// What the node answered, or `not_running`.
    pub async fn download(&self, path: &str) -> Result<Pieces, ServiceError> {
        let response = accept(self.request(Method::GET, path, None, empty()).await?).await?;
        Ok(pieces(response))
    }

    /// The live events of `path`.
    ///
    /// # Errors
    /// What the node answered, or `not_running`.
    pub async fn events(&self, path: &str) -> Result<Events, ServiceError> {
        let response = accept(self.request(Method::GET, path, None, empty()).await?).await?;
        Ok(Events { pieces: pieces(response), buffer: Vec::new() })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: RequestBody,
    ) -> Result<Response<Incoming>, ServiceError> {
        let stream = self.connect().map_err(|e| self.absent(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(SOCKET_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.lost(&e))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "pakt");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(|e| garbled(&e))?;
        sender.send_request(request).await.map_err(|e| self.lost(&e))
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let stream = with_short_path(&self.socket, |path| std::os::unix::net::UnixStream::connect(path))?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }

    fn absent(&self, error: &io::Error) -> ServiceError {
        let dir = self.socket.parent().unwrap_or(Path::new("."));
        if error.kind() == io::ErrorKind::PermissionDenied {
            let message = format!("this user may not use the API in {}", dir.display());
            let hint = "run this as the node's user, or open the API to a Unix group: [api] group in config.toml";
            return ServiceError::new(ErrorCode::NotRunning, message, hint);
        }
        let message = format!("no node runs in {}", dir.display());
        let hint = format!("start it with `pakt run --dir {}`, or name another folder with --dir", dir.display());
        ServiceError::new(ErrorCode::NotRunning, message, hint)
    }

    fn lost(&self, error: &hyper::Error) -> ServiceError {
        let message =
            format!("the node in {} broke off: {error}", self.socket.parent().unwrap_or(Path::new(".")).display());
        ServiceError::new(ErrorCode::NotRunning, message, "see its log; what it had confirmed is not lost")
    }
}

/// `text` as one segment or value of a request path.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            // A dot is escaped too: `.` and `..` as a whole segment would mean something else.
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Live events, oldest first.
pub struct Events {
    pieces: Pieces,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event, or `None` when the node has ended the stream.
    ///
    /// Cancel safe: an event that has not been returned comes with the next call.
    ///
    /// # Errors
    /// What the node reported, or `damaged` for what is no event.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ServiceError> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match parse_event(&event)? {
                    Some(value) => return Ok(Some(value)),
                    None => continue,
                }
            }
            match self.pieces.next().await {
                Some(Ok(piece)) if self.buffer.len() + piece.len() <= EVENT_BYTES_MAX => {
                    self.buffer.extend_from_slice(&piece);
                }
                Some(Ok(_)) => return Err(garbled(&"an event is too long")),
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

fn parse_event<T: DeserializeOwned>(event: &[u8]) -> Result<Option<T>, ServiceError> {
    let text = String::from_utf8_lossy(event);
    let field = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().to_owned()));
    let Some(data) = field("data:") else { return Ok(None) };
    if field("event:").as_deref() == Some("error") {
        let problem: Problem = serde_json::from_str(&data).map_err(|e| garbled(&e))?;
        return Err(problem.into());
    }
    serde_json::from_str(&data).map(Some).map_err(|e| garbled(&e))
}

fn empty() -> RequestBody {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

fn pieces(response: Response<Incoming>) -> Pieces {
    let frames = BodyStream::new(response.into_body());
    let data = frames.filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    Box::pin(data)
}

/// The response if it is a success, else the problem that it carries.
async fn accept(response: Response<Incoming>) -> Result<Response<Incoming>, ServiceError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let bytes = read_whole(response).await?;
    Err(match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => problem.into(),
        Err(_) if status == StatusCode::NOT_FOUND => {
            ServiceError::new(ErrorCode::NotFound, "the node does not know this request", "is it an older version?")
        }
        Err(_) => garbled(&format_args!("status {status}")),
    })
}

async fn read_json<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ServiceError> {
    let bytes = read_whole(accept(response).await?).await?;
    serde_json::from_slice(&bytes).map_err(|e| garbled(&e))
}

async fn read_whole(response: Response<Incoming>) -> Result<Bytes, ServiceError> {
    let limited = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let mut body = limited.collect().await.map_err(|e| garbled(&e))?.aggregate();
    Ok(body.copy_to_bytes(body.remaining()))
}

fn garbled(error: &dyn std::fmt::Display) -> ServiceError {
    let message = format!("the node's answer cannot be understood: {error}");
    ServiceError::new(ErrorCode::Failed, message, "are `pakt` and the running node of the same version?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_are_escaped_whole() {
        let check = |text: &str, expected: &str| assert_eq!(escaped(text), expected);
        check("abc-1_2~", "abc-1_2~");
        check("..", "%2E%2E");
        check("a/b?c#d e", "a%2Fb%3Fc%23d%20e");
        check("Røntgen", "R%C3%B8ntgen");
    }

    #[tokio::test]
    async fn events_come_whole_however_they_are_cut() {
        let text = ": keep-alive\n\nevent: change\ndata: {\"revision\":7}\n\nevent: change\ndata: {\"revision\":8}\n\n";
        for cut in 1..20 {
            let parts: Vec<io::Result<Bytes>> =
                text.as_bytes().chunks(cut).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
            let mut events = Events { pieces: Box::pin(futures::stream::iter(parts)), buffer: Vec::new() };
            let mut seen = Vec::new();
            while let Some(change) = events.next::<crate::api::types::Change>().await.unwrap() {
                seen.push(change.revision);
            }
            assert_eq!(seen, [7, 8], "cut {cut}");
        }
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_not_running() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::new(dir.path()).get::<serde_json::Value>("/v1/status").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NotRunning);
        assert!(error.hint.contains("pakt run"), "{}", error.hint);
    }
}
