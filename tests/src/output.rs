//! What a command left behind: exit code, stdout, stderr.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A command that takes longer has hung.
pub const COMMAND_MAX: Duration = Duration::from_secs(300);

/// A finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr, as text.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Output {
    /// Runs `command` to its end without input.
    ///
    /// # Panics
    /// When it cannot be started or has not ended after [`COMMAND_MAX`].
    pub fn of(command: &mut Command) -> Output {
        let name = describe(command);
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdout = read_all(child.stdout.take());
        let stderr = read_all(child.stderr.take());
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break status;
            }
            if started.elapsed() > COMMAND_MAX {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{name}: has not ended after {COMMAND_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Output {
            command: name,
            code: status.code().unwrap_or(-1),
            stdout: stdout.join().expect("the reader only reads"),
            stderr: String::from_utf8_lossy(&stderr.join().expect("the reader only reads")).into_owned(),
            took: started.elapsed(),
        }
    }

    /// The same output, when the command ended with `code`.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Output {
        assert!(self.code == code, "exit {} instead of {code}\n{self}", self.code);
        self
    }

    /// Stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stdout as the one JSON value it must be.
    ///
    /// # Panics
    /// When it is anything else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON value: {error}\n{self}"))
    }

    /// `error`, `message` and `hint` of a command that failed with `--json`, as one text.
    ///
    /// # Panics
    /// When stdout is not such an object or one of the three is missing or empty.
    #[track_caller]
    pub fn complaint(&self) -> String {
        let told = self.json();
        let part = |key: &str| match told[key].as_str() {
            Some(text) if !text.trim().is_empty() => text.to_owned(),
            _ => panic!("no `{key}` in the error\n{self}"),
        };
        [part("error"), part("message"), part("hint")].join("\n")
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        writeln!(f, "-- exit {} after {:?}", self.code, self.took)?;
        writeln!(f, "-- stdout\n{}", self.text())?;
        writeln!(f, "-- stderr\n{}", self.stderr)
    }
}

fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| format!(" {}", arg.to_string_lossy()));
    std::iter::once(name).chain(args).collect()
}

fn read_all(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut all);
        }
        all
    })
}
