//! A client of clamd: one stream per connection, and its version.
//!
//! ```text
//! zINSTREAM\0  (length as 4 bytes, big-endian; bytes)…  0  -->  "stream: OK" | "stream: NAME FOUND" | "… ERROR"
//! ```
//! (clamd(8), "COMMANDS".) clamd answers early, and reads no further, where a stream is longer than its `StreamMaxLength`.
//!
//! **Invariant:** only the very words for a clean stream are taken for one; every other answer, silence and a broken
//! connection are not.
//! **Invariant:** every step has its deadline; what the scanner says is cut and cleaned before it is shown anywhere.

use std::io;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use pakt_protocol::time::Time;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::config::Endpoint;

/// A socket of this machine answers at once.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// clamd reads as fast as its disk writes; it drops whoever is silent for two minutes.
const WRITE_MAX: Duration = Duration::from_secs(60);
/// The scan itself; clamd's own `MaxScanTime` is two minutes unless it was raised.
const ANSWER_MAX: Duration = Duration::from_secs(1_800);
/// The answer to a question without content.
const VERSION_MAX: Duration = Duration::from_secs(10);
/// An answer is a line.
const ANSWER_BYTES_MAX: u64 = 1 << 10;
/// Characters of a signature's name that are kept.
const NAME_CHARS_MAX: usize = 100;
/// What clamd calls what it did not scan to its end, where its settings have it say so.
const LIMITS_PREFIX: &str = "Heuristics.Limits.Exceeded";

/// What the scanner says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Scanned, and nothing was found.
    Clean,
    /// Something was found; the signature's name.
    Found(String),
    /// It is larger or deeper than the scanner's settings let it look.
    Beyond(String),
}

/// Why the scanner said nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Nothing listens there.
    #[error("it does not answer ({0})")]
    Unreachable(io::ErrorKind),
    /// It ended in the middle.
    #[error("it broke off ({0})")]
    BrokenOff(io::ErrorKind),
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
    /// Its own words, where they are not a verdict.
    #[error("it says: {0}")]
    Unclear(String),
}

impl ScanError {
    /// Whether it is the connection that failed, as it does when a scanner is started anew.
    pub fn is_connection(&self) -> bool {
        !matches!(self, ScanError::Unclear(_))
    }
}

/// The program behind a scanner and its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As in `ClamAV 1.4.6`.
    pub engine: String,
    /// Number and date of its signatures, where they carry one.
    pub signatures: Option<(String, Time)>,
}

impl Version {
    /// Reads `ClamAV 1.4.6/27100/Sun Nov 22 09:30:00 2026`, the time being that of this machine's zone.
    fn parse(text: &str) -> Option<Version> {
        let mut parts = text.splitn(3, '/');
        let engine = shown(parts.next()?);
        let signatures = parts.next().zip(parts.next()).and_then(|(number, at)| {
            let at = DateTime::strptime("%a %b %e %H:%M:%S %Y", at.trim()).ok()?;
            let at = at.to_zoned(TimeZone::system()).ok()?.timestamp().as_microsecond();
            Some((shown(number), Time(u64::try_from(at).ok()?)))
        });
        engine.starts_with("ClamAV").then_some(Version { engine, signatures })
    }
}

/// A scanner, by where it listens.
#[derive(Clone, Debug)]
pub struct Clamd {
    endpoint: Endpoint,
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for C {}

impl Clamd {
    /// The scanner that listens there.
    pub fn at(endpoint: Endpoint) -> Clamd {
        Clamd { endpoint }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Begins a stream.
    ///
    /// # Errors
    /// [`ScanError`].
    pub async fn begin(&self) -> Result<Stream, ScanError> {
        let mut connection = BufWriter::with_capacity(64 << 10, self.connect().await?);
        let begun = connection.write_all(b"zINSTREAM\0").await;
        begun.map_err(|error| ScanError::BrokenOff(error.kind()))?;
        Ok(Stream { connection, answered: false })
    }

    /// What the scanner says of `bytes`.
    ///
    /// # Errors
    /// [`ScanError`].
    pub async fn scan(&self, bytes: &[u8]) -> Result<Verdict, ScanError> {
        let mut stream = self.begin().await?;
        stream.write(bytes).await?;
        stream.finish().await
    }

    /// Which program and signatures answer there.
    ///
    /// # Errors
    /// [`ScanError`].
    pub async fn version(&self) -> Result<Version, ScanError> {
        let mut connection = self.connect().await?;
        let sent = connection.write_all(b"zVERSION\0").await;
        sent.map_err(|error| ScanError::BrokenOff(error.kind()))?;
        let text = answer(&mut connection, VERSION_MAX).await?;
        Version::parse(&text).ok_or_else(|| ScanError::Unclear(shown(&text)))
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, ScanError> {
        let connecting = async {
            Ok::<Box<dyn Connection>, io::Error>(match &self.endpoint {
                Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Endpoint::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            })
        };
        let connected = timeout(CONNECT_MAX, connecting).await.map_err(|_| ScanError::TimedOut)?;
        connected.map_err(|error| ScanError::Unreachable(error.kind()))
    }
}

/// Content on its way through the scanner.
pub struct Stream {
    connection: BufWriter<Box<dyn Connection>>,
    /// It reads no further: its answer lies there.
    answered: bool,
}

impl Stream {
    /// Gives the scanner more; nothing happens any more once it has answered.
    ///
    /// # Errors
    /// [`ScanError`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        // An empty piece would be the end of the stream.
        for piece in bytes.chunks(1 << 20) {
            let length = (piece.len() as u32).to_be_bytes();
            self.send(&length).await?;
            self.send(piece).await?;
        }
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if self.answered {
            return Ok(());
        }
        let sent = timeout(WRITE_MAX, self.connection.write_all(bytes)).await.map_err(|_| ScanError::TimedOut)?;
        self.note(sent)
    }

    /// The end of the stream, and what the scanner says.
    ///
    /// # Errors
    /// [`ScanError`].
    pub async fn finish(mut self) -> Result<Verdict, ScanError> {
        self.send(&[0; 4]).await?;
        if !self.answered {
            let flushed = timeout(WRITE_MAX, self.connection.flush()).await.map_err(|_| ScanError::TimedOut)?;
            self.note(flushed)?;
        }
        let text = answer(self.connection.get_mut(), ANSWER_MAX).await?;
        verdict(&text)
    }

    /// A scanner that closes its end has said why, or the reading of its answer fails.
    fn note(&mut self, written: io::Result<()>) -> Result<(), ScanError> {
        match written.map_err(|error| error.kind()) {
            Ok(()) => Ok(()),
            Err(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                self.answered = true;
                Ok(())
            }
            Err(kind) => Err(ScanError::BrokenOff(kind)),
        }
    }
}

async fn answer(connection: &mut (impl AsyncRead + Unpin), limit: Duration) -> Result<String, ScanError> {
    let mut bytes = Vec::new();
    let mut bounded = connection.take(ANSWER_BYTES_MAX);
    let reading = async {
        // Up to the zero byte that ends an answer: a scanner may keep the connection.
        loop {
            match bounded.read_buf(&mut bytes).await {
                Ok(0) => return Ok(()),
                Ok(_) if bytes.contains(&0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(ScanError::BrokenOff(error.kind())),
            }
        }
    };
    timeout(limit, reading).await.map_err(|_| ScanError::TimedOut)??;
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => Ok(String::from_utf8_lossy(&bytes[..end]).trim().to_owned()),
        None => Err(ScanError::BrokenOff(io::ErrorKind::UnexpectedEof)),
    }
}

fn verdict(text: &str) -> Result<Verdict, ScanError> {
    if text == "stream: OK" {
        return Ok(Verdict::Clean);
    }
    if text.starts_with("INSTREAM size limit exceeded") {
        return Ok(Verdict::Beyond("StreamMaxLength".to_owned()));
    }
    let found = text.strip_prefix("stream: ").and_then(|rest| rest.strip_suffix(" FOUND"));
    match found.map(shown) {
        Some(name) if name.starts_with(LIMITS_PREFIX) => {
            Ok(Verdict::Beyond(name[LIMITS_PREFIX.len()..].trim_start_matches('.').to_owned()))
        }
        Some(name) if !name.is_empty() => Ok(Verdict::Found(name)),
        _ => Err(ScanError::Unclear(shown(text))),
    }
}

/// Words of the scanner as they may be shown.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(NAME_CHARS_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_for_a_clean_stream_are_taken_for_one() {
        let check = |text: &str, expected: Result<Verdict, ScanError>| assert_eq!(verdict(text), expected, "{text}");
        let unclear = |text: &str| Err(ScanError::Unclear(text.to_owned()));
        check("stream: OK", Ok(Verdict::Clean));
        check("stream: Eicar-Test-Signature FOUND", Ok(Verdict::Found("Eicar-Test-Signature".into())));
        check("stream: a\u{202e}b\n FOUND", Ok(Verdict::Found("ab".into())));
        check("stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND", Ok(Verdict::Beyond("MaxFileSize".into())));
        check("INSTREAM size limit exceeded. ERROR", Ok(Verdict::Beyond("StreamMaxLength".into())));
        check("stream:  FOUND", unclear("stream:  FOUND"));
        check("stream: Can't allocate memory ERROR", unclear("stream: Can't allocate memory ERROR"));
        check("stream: ok", unclear("stream: ok"));
        check("stream: OK FOUND OK", unclear("stream: OK FOUND OK"));
        check("", unclear(""));
    }

    #[test]
    fn the_date_of_the_signatures_is_read() {
        let dated = Version::parse("ClamAV 1.4.6/27100/Sun Nov 22 09:30:00 2026").unwrap();
        let (number, at) = dated.signatures.unwrap();
        let zoned = DateTime::constant(2026, 11, 22, 9, 30, 0, 0).to_zoned(TimeZone::system()).unwrap();
        assert_eq!((number.as_str(), at.0 as i64), ("27100", zoned.timestamp().as_microsecond()));
        let single = Version::parse("ClamAV 1.4.6/27101/Tue Dec  1 09:30:00 2026").unwrap();
        assert!(single.signatures.unwrap().1 > at);
        for undated in ["ClamAV 1.4.6", "ClamAV 1.4.6/27100", "ClamAV 1.4.6/27100/soon"] {
            assert_eq!(Version::parse(undated).unwrap(), Version { engine: "ClamAV 1.4.6".into(), signatures: None });
        }
        assert_eq!(Version::parse("220 mail.example ESMTP"), None);
    }
}
