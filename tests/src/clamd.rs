//! A clamd of the test's own: with its own settings and socket, and signatures that know nothing but EICAR's test file.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::node::TestNode;
use crate::tools;
use crate::wait::{secs, until};

/// Why [`Clamd::start`] may give none, for [`tools::skip`].
pub const NO_CLAMD: &str = "there is no clamd; install clamav-daemon";

/// Bytes of a stream that it takes.
pub const STREAM_BYTES_MAX: usize = 8 << 20;

/// EICAR's test file, put together: it never stands whole in a program.
pub fn eicar() -> Vec<u8> {
    ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STAN", "DARD-ANTIVIRUS-TEST-FILE!$H+H*"].concat().into_bytes()
}

/// A running clamd; it ends with it.
pub struct Clamd {
    dir: TempDir,
    process: Option<Child>,
}

impl Clamd {
    /// Starts one, where the machine has it.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Option<Clamd> {
        tools::program("clamd")?;
        let dir = tempfile::Builder::new().prefix("pakt-clamd-").tempdir().expect("a folder for the test");
        let signatures = dir.path().join("signatures");
        fs::create_dir(&signatures).expect("the folder is ours");
        let line = format!("Eicar-Test-File:0:*:{}\n", hex::encode(eicar()));
        fs::write(signatures.join("test.ndb"), line).expect("the folder is ours");
        let mut clamd = Clamd { dir, process: None };
        clamd.run(true);
        Some(clamd)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("clamd.sock")
    }

    /// Runs it, so that it reports what is beyond its limits, or calls it clean, as its default is.
    ///
    /// # Panics
    /// When it runs already, or does not come up.
    pub fn run(&mut self, reports_limits: bool) {
        assert!(self.process.is_none(), "clamd runs");
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let settings = [
            format!("DatabaseDirectory {}", path("signatures")),
            format!("LocalSocket {}", path("clamd.sock")),
            format!("TemporaryDirectory {}", path("")),
            format!("LogFile {}", path("clamd.log")),
            "Foreground yes".to_owned(),
            format!("StreamMaxLength {STREAM_BYTES_MAX}"),
            format!("MaxFileSize {STREAM_BYTES_MAX}"),
            format!("MaxScanSize {STREAM_BYTES_MAX}"),
            format!("AlertExceedsMax {}", if reports_limits { "yes" } else { "no" }),
        ];
        let file = self.dir.path().join("clamd.conf");
        fs::write(&file, settings.join("\n") + "\n").expect("the folder is ours");
        let program = tools::program("clamd").expect("it was there");
        let mut command = Command::new(program);
        command.arg("--config-file").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("clamd can be started"));
        let socket = self.socket();
        until(secs(30), "clamd answers", || UnixStream::connect(&socket).ok());
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_file(self.socket());
    }

    /// Starts `node` anew with this scanner and `more` in the section of its settings.
    ///
    /// # Panics
    /// When its settings cannot be written, or it does not come up.
    pub fn serve(&self, node: &mut TestNode, more: &str) {
        node.terminate();
        let path = node.dir().join("config.toml");
        let settings = fs::read_to_string(&path).expect("a configuration");
        // Its signatures are a list of the test's own, without a date.
        let section =
            format!("[scan]\nclamd = \"{}\"\nsignatures_max_age = \"undated\"\n{more}", self.socket().display());
        assert_eq!(settings.matches("[scan]\n").count(), 1, "{settings}");
        fs::write(&path, settings.replace("[scan]\n", &section)).expect("a configuration");
        node.start();
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        self.kill();
    }
}
