//! A scanner against a stand-in for clamd that can be switched.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;

/// What the stand-in does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It scans.
    Scans,
    /// Without signatures.
    Blind,
    /// Everything is malware to it.
    Condemns,
    /// As clamd without `AlertExceedsMax`.
    PassesUnseen,
    /// It takes content and says nothing that can be understood.
    Mumbles,
    /// It takes content and closes.
    Hangs,
    /// It takes content and keeps the connection, without a word.
    Silent,
    /// It scans, except for what is [`TOUGH`]: that takes it for ever.
    Chews,
}

/// Tests do not wait.
pub(crate) const QUICK: Pace = Pace {
    every: Duration::from_millis(300),
    again: Duration::from_millis(50),
    fit_for: Duration::from_secs(2),
    probe_max: Duration::from_millis(500),
};
/// What the scanner never gets through, if it is set to.
pub(crate) const TOUGH: &[u8] = b"archives in archives";
/// Bytes of a stream that the stand-in takes.
pub(crate) const STREAM_BYTES_MAX: usize = 300_000;

/// A stand-in for clamd in the test's own folder.
pub(crate) struct FakeClamd {
    dir: TempDir,
    mode: Arc<Mutex<Mode>>,
    streams: Arc<AtomicU64>,
    task: Option<JoinHandle<()>>,
}

impl FakeClamd {
    pub(crate) fn start() -> FakeClamd {
        let dir = tempfile::tempdir().unwrap();
        let mut fake = FakeClamd { dir, mode: Arc::new(Mutex::new(Mode::Scans)), streams: Arc::default(), task: None };
        fake.listen();
        fake
    }

    pub(crate) fn listen(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (mode, streams) = (self.mode.clone(), self.streams.clone());
        self.task = Some(tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let mode = *mode.lock().unwrap();
                tokio::spawn(serve(connection, mode, streams.clone()));
            }
        }));
    }

    /// Nobody listens any more.
    pub(crate) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        let _ = std::fs::remove_file(self.socket());
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Streams that it was given, those of tests included.
    pub(crate) fn streams(&self) -> u64 {
        self.streams.load(Relaxed)
    }

    pub(crate) fn config(&self) -> ScanConfig {
        ScanConfig {
            clamd: Some(Endpoint::Unix(self.socket())),
            signatures_max_age: SignaturesAge(None),
            ..ScanConfig::default()
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        Path::join(self.dir.path(), "clamd.sock")
    }
}

async fn serve(mut connection: UnixStream, mode: Mode, streams: Arc<AtomicU64>) {
    let mut command = Vec::new();
    while command.last() != Some(&0) {
        let Ok(byte) = connection.read_u8().await else { return };
        command.push(byte);
    }
    if command == b"zVERSION\0" {
        let _ = connection.write_all(b"ClamAV 0.0.0\0").await;
        return;
    }
    streams.fetch_add(1, Relaxed);
    let mut content = Vec::new();
    loop {
        let Ok(length) = connection.read_u32().await else { return };
        if length == 0 {
            break;
        }
        let from = content.len();
        content.resize(from + length as usize, 0);
        if connection.read_exact(&mut content[from..]).await.is_err() {
            return;
        }
        if content.len() > STREAM_BYTES_MAX {
            let _ = connection.write_all(b"INSTREAM size limit exceeded. ERROR\0").await;
            return;
        }
    }
    if mode == Mode::Silent || (mode == Mode::Chews && content.starts_with(TOUGH)) {
        // Until the other side hangs up.
        let _ = connection.read_u8().await;
        return;
    }
    let _ = connection.write_all(&reply(&content, mode)).await;
}

fn reply(content: &[u8], mode: Mode) -> Vec<u8> {
    let test = test_file();
    let words = match mode {
        Mode::Hangs | Mode::Silent => return Vec::new(),
        Mode::Mumbles => "stream: well ERROR",
        Mode::Condemns => "stream: Everything FOUND",
        Mode::Blind => "stream: OK",
        _ if content.windows(test.len()).any(|part| part == test) => "stream: Eicar FOUND",
        Mode::Scans | Mode::Chews if content.starts_with(b"a.tar") => {
            "stream: Heuristics.Limits.Exceeded.MaxRecursion FOUND"
        }
        _ => "stream: OK",
    };
    [words.as_bytes(), b"\0"].concat()
}

#[tokio::test]
async fn evidence_is_what_the_running_scanner_shows_and_nothing_else() {
    let mut fake = FakeClamd::start();
    let scanner = Scanner::of(&fake.config()).unwrap();
    assert_eq!(scanner.evidence(), Evidence::None, "before it was tested");
    let rows = [
        (Mode::Scans, "ClamAV 0.0.0"),
        (Mode::Blind, "does not find the EICAR"),
        (Mode::Condemns, "harmless line (Everything)"),
        (Mode::PassesUnseen, "AlertExceedsMax"),
        (Mode::Mumbles, "it says: stream: well ERROR"),
        (Mode::Hangs, "it broke off"),
        (Mode::Scans, "finds EICAR"),
    ];
    for (mode, says) in rows {
        fake.set(mode);
        let is_fit = scanner.test().await;
        assert_eq!(is_fit, mode == Mode::Scans, "{mode:?}");
        assert_eq!(matches!(scanner.evidence(), Evidence::On(_)), is_fit, "{mode:?}");
        let line = scanner.fit().unwrap_or_else(|why| why);
        assert!(line.contains(says), "{mode:?}: {line}");
    }
    fake.stop().await;
    assert!(!scanner.test().await);
    assert!(scanner.fit().unwrap_err().contains("does not answer"));
    let dated = ScanConfig { signatures_max_age: SignaturesAge::default(), ..fake.config() };
    fake.listen();
    let scanner = Scanner::of(&dated).unwrap();
    assert!(!scanner.test().await);
    assert!(scanner.fit().unwrap_err().contains("carry no date"));
}

#[tokio::test]
async fn a_stream_that_is_too_long_is_beyond_and_never_clean() {
    let fake = FakeClamd::start();
    let scanner = Scanner::of(&fake.config()).unwrap();
    let scan = async |bytes: &[u8]| {
        let mut stream = scanner.begin().await.unwrap();
        for piece in bytes.chunks(70_000) {
            stream.write(piece).await.unwrap();
        }
        stream.finish().await
    };
    assert_eq!(scan(b"").await, Ok(Verdict::Clean));
    assert_eq!(scan(&vec![7; STREAM_BYTES_MAX]).await, Ok(Verdict::Clean));
    assert_eq!(scan(&test_file()).await, Ok(Verdict::Found("Eicar".into())));
    let beyond = scan(&vec![7; 9 * STREAM_BYTES_MAX]).await;
    assert_eq!(beyond, Ok(Verdict::Beyond("StreamMaxLength".into())));
}

#[tokio::test]
async fn a_scanner_that_is_gone_shows_nothing_and_comes_back_by_itself() {
    let mut fake = FakeClamd::start();
    let scanner = Scanner::paced(&fake.config(), QUICK).unwrap();
    let mut changes = scanner.changes();
    let stop = CancellationToken::new();
    let watching = tokio::spawn(scanner.clone().watch(stop.clone()));
    changes.changed().await.unwrap();
    assert!(scanner.fit().is_ok());
    fake.stop().await;
    let gone = Instant::now();
    scanner.doubt();
    changes.changed().await.unwrap();
    assert_eq!(scanner.evidence(), Evidence::None);
    let asked = gone.elapsed();
    assert!(asked >= QUICK.again, "once more before it is believed: {asked:?}");
    fake.listen();
    changes.changed().await.unwrap();
    assert!(matches!(scanner.evidence(), Evidence::On(_)));
    // Without a doubt it is noticed at the next test.
    fake.set(Mode::Blind);
    changes.changed().await.unwrap();
    assert_eq!(scanner.evidence(), Evidence::None, "what it says, not that it answers, decides");
    stop.cancel();
    watching.await.unwrap();
}
