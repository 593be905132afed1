//! Dialling out through the operator's proxy: HTTP CONNECT or SOCKS5, names resolved by the proxy.
//!
//! **Invariant:** credentials come from a private file and go to the proxy only; no address, error or log line has them.
//! **Invariant:** what the proxy says is bounded, and nothing that follows its answer is lost or believed.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_socks::tcp::Socks5Stream;
use zeroize::Zeroizing;

/// Bytes of a proxy's answer to CONNECT, at most: some add pages of headers.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Headers of such an answer.
const HEADERS_MAX: usize = 64;
/// Bytes of a user name or a password: what SOCKS5 can carry.
const CREDENTIAL_BYTES_MAX: usize = 255;

/// The proxy that every dial goes through.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
}

#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: Zeroizing<String>,
    password: Zeroizing<String>,
}

/// A text that names no proxy, or a file that holds no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyTextError {
    /// Not one of the two forms.
    #[error("write http://HOST:PORT or socks5://HOST:PORT, an IPv6 address in brackets")]
    Form,
    /// A user name or a password in the URL.
    #[error("credentials do not belong in the URL: put USER:PASSWORD into a private file, proxy_credentials_file")]
    Credentials,
    /// The file of the credentials.
    #[error("the file must hold one line, USER:PASSWORD, at most 255 bytes each")]
    File,
}

/// Why the proxy made no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The proxy's own name has no address.
    #[error("the name of the proxy cannot be resolved")]
    Unresolved,
    /// The proxy itself cannot be reached.
    #[error("the proxy cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    /// An HTTP proxy wants credentials, or others.
    #[error("the proxy refused: 407, it wants credentials or other ones, see proxy_credentials_file")]
    Credentials,
    /// An HTTP proxy said no.
    #[error("the proxy refused: {0}; ask its operator to allow CONNECT to this address and port")]
    Refused(u16),
    /// A SOCKS5 proxy said no.
    #[error("the proxy refused: {0}")]
    Socks(&'static str),
    /// What answered is no such proxy.
    #[error("what answers at the proxy's address is not such a proxy")]
    NotAProxy,
    /// It took too long.
    #[error("the proxy did not answer in time")]
    TimedOut,
}

/// Where the proxy is to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProxyTarget {
    /// An address.
    Ip(IpAddr, u16),
    /// A name that the proxy resolves.
    Name(String, u16),
}

impl Proxy {
    /// Reads `http://HOST:PORT` or `socks5://HOST:PORT`.
    ///
    /// # Errors
    /// A [`ProxyTextError`].
    pub fn parse(url: &str) -> Result<Proxy, ProxyTextError> {
        let (kind, rest) = match url.split_once("://") {
            Some(("http", rest)) => (Kind::Http, rest),
            Some(("socks5", rest)) => (Kind::Socks5, rest),
            _ => return Err(ProxyTextError::Form),
        };
        if rest.contains('@') {
            return Err(ProxyTextError::Credentials);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if !super::is_address(rest) {
            return Err(ProxyTextError::Form);
        }
        let (host, port) = rest.rsplit_once(':').ok_or(ProxyTextError::Form)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Proxy { kind, host, port: port.parse().map_err(|_| ProxyTextError::Form)?, credentials: None })
    }

    /// The same with the credentials in the text of a private file: one line, USER:PASSWORD.
    ///
    /// # Errors
    /// [`ProxyTextError::File`].
    pub fn with_credentials(self, text: &str) -> Result<Proxy, ProxyTextError> {
        let line = text.trim_end_matches(['\r', '\n']);
        let (user, password) = line.split_once(':').ok_or(ProxyTextError::File)?;
        let fits = |text: &str| (1..=CREDENTIAL_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
        if !fits(user) || !fits(password) {
            return Err(ProxyTextError::File);
        }
        let own = |text: &str| Zeroizing::new(text.to_owned());
        Ok(Proxy { credentials: Some(Credentials { user: own(user), password: own(password) }), ..self })
    }

    /// Host and port of the proxy itself.
    pub fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Has the proxy connect to `target`; `deadline` is for each of reaching it and its answer.
    pub(super) async fn connect(&self, target: &ProxyTarget, deadline: Duration) -> Result<TcpStream, ProxyError> {
        let reached = timeout(deadline, TcpStream::connect((self.host.as_str(), self.port))).await;
        let stream = reached.map_err(|_| ProxyError::TimedOut)?.map_err(|error| match error.kind() {
            // What a resolver that knows no such name gives.
            io::ErrorKind::Other | io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => ProxyError::Unresolved,
            kind => ProxyError::Unreachable(kind),
        })?;
        let asked = async {
            match self.kind {
                Kind::Http => self.connect_http(stream, target).await,
                Kind::Socks5 => self.connect_socks(stream, target).await,
            }
        };
        timeout(deadline, asked).await.map_err(|_| ProxyError::TimedOut)?
    }

    async fn connect_http(&self, mut stream: TcpStream, target: &ProxyTarget) -> Result<TcpStream, ProxyError> {
        let broken = |error: io::Error| ProxyError::Unreachable(error.kind());
        stream.write_all(self.request(target).as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::new();
        loop {
            let mut part = [0; 1024];
            let bytes = stream.read(&mut part).await.map_err(broken)?;
            answer.extend_from_slice(&part[..bytes]);
            if bytes == 0 || answer.len() > ANSWER_BYTES_MAX {
                return Err(ProxyError::NotAProxy);
            }
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(head) = response.parse(&answer).map_err(|_| ProxyError::NotAProxy)? else {
                continue;
            };
            return match response.code {
                // The other end says nothing before it was spoken to.
                Some(200..=299) if head == answer.len() => Ok(stream),
                Some(200..=299) | None => Err(ProxyError::NotAProxy),
                Some(407) => Err(ProxyError::Credentials),
                Some(code) => Err(ProxyError::Refused(code)),
            };
        }
    }

    fn request(&self, target: &ProxyTarget) -> Zeroizing<String> {
        let to = target.to_string();
        let mut request = Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
        if let Some(Credentials { user, password }) = &self.credentials {
            let both = Zeroizing::new(format!("{}:{}", user.as_str(), password.as_str()));
            let encoded = Zeroizing::new(STANDARD.encode(both.as_bytes()));
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&encoded);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request
    }

    async fn connect_socks(&self, stream: TcpStream, target: &ProxyTarget) -> Result<TcpStream, ProxyError> {
        let to = match target {
            ProxyTarget::Ip(ip, port) => tokio_socks::TargetAddr::Ip((*ip, *port).into()),
            ProxyTarget::Name(name, port) => tokio_socks::TargetAddr::Domain(name.as_str().into(), *port),
        };
        let connected = match &self.credentials {
            None => Socks5Stream::connect_with_socket(stream, to).await,
            Some(Credentials { user, password }) => {
                Socks5Stream::connect_with_password_and_socket(stream, to, user, password).await
            }
        };
        connected.map(Socks5Stream::into_inner).map_err(|error| socks_error(&error))
    }
}

fn socks_error(error: &tokio_socks::Error) -> ProxyError {
    use tokio_socks::Error;
    ProxyError::Socks(match error {
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => return ProxyError::NotAProxy,
        Error::Io(error) => return ProxyError::Unreachable(error.kind()),
        Error::NoAcceptableAuthMethods | Error::PasswordAuthFailure(_) | Error::AuthorizationRequired => {
            "it wants credentials or other ones, see proxy_credentials_file"
        }
        Error::ConnectionNotAllowedByRuleset => "its rules do not allow this address and port",
        Error::NetworkUnreachable | Error::HostUnreachable => "it cannot reach the address",
        Error::ConnectionRefused => "nobody listens at the address",
        Error::TtlExpired => "the address did not answer it in time",
        Error::GeneralSocksServerFailure => "a general failure",
        Error::CommandNotSupported | Error::AddressTypeNotSupported => "it does not support such a connection",
        _ => return ProxyError::NotAProxy,
    })
}

impl fmt::Display for ProxyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyTarget::Ip(IpAddr::V6(ip), port) => write!(f, "[{ip}]:{port}"),
            ProxyTarget::Ip(ip, port) => write!(f, "{ip}:{port}"),
            ProxyTarget::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl fmt::Display for Proxy {
    /// The URL, never with credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Socks5 => "socks5",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_proxy_is_a_url_without_credentials() {
        for (text, expected) in [
            ("http://proxy.example:3128", Ok("http://proxy.example:3128")),
            ("http://10.0.0.1:8080/", Ok("http://10.0.0.1:8080")),
            ("socks5://[::1]:1080", Ok("socks5://[::1]:1080")),
            ("socks5://u:p@host:1080", Err(ProxyTextError::Credentials)),
            ("http://host", Err(ProxyTextError::Form)),
            ("https://host:1", Err(ProxyTextError::Form)),
            ("host:1", Err(ProxyTextError::Form)),
            ("http://a b:1", Err(ProxyTextError::Form)),
            ("http://a:1/x", Err(ProxyTextError::Form)),
        ] {
            let shown = Proxy::parse(text).map(|proxy| proxy.to_string());
            assert_eq!(shown.as_deref().map_err(|error| *error), expected, "{text}");
        }
        let proxy = Proxy::parse("http://h:1").unwrap();
        for bad in ["", "user", "user:", ":pass", "a:b\nc", &format!("{}:b", "a".repeat(256))] {
            assert_eq!(proxy.clone().with_credentials(bad), Err(ProxyTextError::File), "{bad:?}");
        }
        let named = proxy.with_credentials("canary:secret:word\n").unwrap();
        assert_eq!(format!("{named} {named:?}"), "http://h:1 Proxy(http://h:1)");
        let target = ProxyTarget::Name("a.example".into(), 7);
        let request = named.request(&target);
        let expected = "CONNECT a.example:7 HTTP/1.1\r\nHost: a.example:7\r\nProxy-Authorization: Basic \
                        Y2FuYXJ5OnNlY3JldDp3b3Jk\r\n\r\n";
        assert_eq!(request.as_str(), expected);
    }

    /// Dials through something that answers with `answer` whatever it is told.
    async fn answered(scheme: &str, answer: &'static [u8]) -> Result<(), ProxyError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Proxy::parse(&format!("{scheme}://{}", listener.local_addr().unwrap())).unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 512];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(answer).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        let target = ProxyTarget::Ip([192, 0, 2, 1].into(), 4100);
        let connected = proxy.connect(&target, Duration::from_secs(5)).await.map(drop);
        serving.abort();
        connected
    }

    #[tokio::test]
    async fn what_a_proxy_says_is_told_in_words() {
        let rows: [(&str, &[u8], Result<(), ProxyError>); 10] = [
            ("http", b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n", Ok(())),
            ("http", b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n", Err(ProxyError::Credentials)),
            ("http", b"HTTP/1.1 403 Forbidden\r\n\r\n<html>", Err(ProxyError::Refused(403))),
            ("http", b"HTTP/1.1 200 OK\r\n\r\nbanner", Err(ProxyError::NotAProxy)),
            ("http", b"SSH-2.0-x\r\n", Err(ProxyError::NotAProxy)),
            ("http", b"", Err(ProxyError::NotAProxy)),
            ("http", &[b'x'; 40_000], Err(ProxyError::NotAProxy)),
            (
                "socks5",
                b"\x05\xff",
                Err(ProxyError::Socks("it wants credentials or other ones, see proxy_credentials_file")),
            ),
            ("socks5", b"HTTP/1.1 400\r\n\r\n", Err(ProxyError::NotAProxy)),
            ("socks5", b"", Err(ProxyError::NotAProxy)),
        ];
        for (scheme, answer, expected) in rows {
            let shown = String::from_utf8_lossy(&answer[..answer.len().min(20)]).into_owned();
            assert_eq!(answered(scheme, answer).await, expected, "{scheme} {shown:?}");
        }
        let nobody = Proxy::parse("socks5://127.0.0.1:1").unwrap();
        let refused = nobody.connect(&ProxyTarget::Name("x".into(), 1), Duration::from_secs(5)).await;
        assert_eq!(refused.err(), Some(ProxyError::Unreachable(io::ErrorKind::ConnectionRefused)));
    }
}
