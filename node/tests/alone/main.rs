//! The command line and the API of one node without a counterpart, as a person or a script meets them: exit code, message, and nothing written
//! when something is wrong.

// A test's own set-up may fail as loudly as the test.
#![allow(clippy::unwrap_used)]

mod api;
mod damage;
mod records;
mod setup;

use std::path::Path;
use std::process::{Command, Output};

/// What a command left behind.
pub(crate) struct Told {
    /// The exit code.
    pub(crate) code: i32,
    /// Stdout.
    pub(crate) out: String,
    /// Stderr.
    pub(crate) err: String,
}

/// Runs `pakt` in `dir` with nobody at the terminal.
pub(crate) fn pakt(dir: &Path, args: &[&str]) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pakt"));
    for key in ["PAKT_DIR", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "PAKT_LOG"] {
        command.env_remove(key);
    }
    let Output { status, stdout, stderr } =
        command.args(args).current_dir(dir).stdin(std::process::Stdio::null()).output().expect("pakt starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    let told = Told { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) };
    assert!(!told.err.contains("panicked"), "{args:?}\n{}", told.err);
    told
}

impl Told {
    /// The same, when the exit code is `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Told {
        assert_eq!(self.code, code, "\n{}\n{}", self.out, self.err);
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }

    /// Message and hint of a failure told as JSON.
    #[track_caller]
    pub(crate) fn complaint(&self) -> String {
        let told = self.json();
        ["error", "message", "hint"]
            .map(|key| told[key].as_str().filter(|text| !text.is_empty()).expect(key).to_owned())
            .join("\n")
    }
}

/// Every path below `dir` with its content.
pub(crate) fn listing(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let walk = walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name();
    walk.into_iter()
        .map(|entry| entry.expect("readable"))
        .map(|entry| {
            let content =
                if entry.file_type().is_file() { std::fs::read(entry.path()).expect("readable") } else { vec![] };
            (entry.path().display().to_string(), content)
        })
        .collect()
}

/// A node in `home/NAME`, listening on a free loopback port.
pub(crate) fn init(home: &Path, name: &str, number: &str) {
    let recovery = format!("{name}.recovery");
    let args = ["init", "--dir", name, "--name", name, "--number", number, "--listen", "127.0.0.1:0"];
    pakt(home, &[&args[..], &["--recovery-file", &recovery]].concat()).expect(0);
}
