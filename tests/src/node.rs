//! One real `pakt` node in its own directory, driven through its command line.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::binary;
use crate::output::Output;
use crate::wait;

/// How long a node may take until it answers.
const START_MAX: Duration = Duration::from_secs(60);

/// What `init` and `run` are given.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The entity's name.
    pub name: String,
    /// Its registered number.
    pub number: String,
    /// `--listen`.
    pub listen: String,
    /// `--advertise`, each.
    pub advertise: Vec<String>,
    /// Protects the keystore.
    pub passphrase: Option<String>,
    /// Where the data directory lies, if not in the node's own temporary folder.
    pub dir: Option<PathBuf>,
    /// More that `init` is given.
    pub init_args: Vec<String>,
    /// Variables of every process of this node.
    pub env: Vec<(String, String)>,
    /// The network namespace that the node runs in, if not this one.
    pub namespace: Option<String>,
}

impl Setup {
    /// A node on a free loopback port without a passphrase.
    pub fn new(name: &str, number: &str) -> Setup {
        Setup {
            name: name.to_owned(),
            number: number.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: Vec::new(),
            passphrase: None,
            dir: None,
            init_args: Vec::new(),
            env: Vec::new(),
            namespace: None,
        }
    }
}

/// A node; its process and files end with it.
pub struct TestNode {
    home: TempDir,
    dir: PathBuf,
    setup: Setup,
    process: Option<Child>,
    doom: Option<String>,
}

impl TestNode {
    /// Runs `pakt init`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn init(setup: Setup) -> TestNode {
        let home = tempfile::Builder::new().prefix("pakt-").tempdir().expect("a folder for the test");
        let dir = setup.dir.clone().unwrap_or_else(|| home.path().join("data"));
        let node = TestNode { home, dir, setup, process: None, doom: None };
        if let Some(passphrase) = &node.setup.passphrase {
            node.write_private("passphrase", passphrase);
        }
        node.init_output().expect(0);
        node
    }

    /// Runs `pakt init` again and gives what it said.
    pub fn init_output(&self) -> Output {
        let mut command = self.command();
        command.arg("init").arg("--dir").arg(&self.dir);
        command.args(["--name", &self.setup.name, "--number", &self.setup.number]);
        command.args(["--listen", &self.setup.listen]);
        command.arg("--recovery-file").arg(self.home.path().join("recovery.pakt"));
        for address in &self.setup.advertise {
            command.args(["--advertise", address]);
        }
        command.args(&self.setup.init_args);
        if self.setup.passphrase.is_some() {
            command.arg("--passphrase-file").arg(self.passphrase_file());
        }
        Output::of(&mut command)
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Uses another data directory from now on; the node must not run.
    ///
    /// # Panics
    /// When it runs.
    pub fn use_dir(&mut self, dir: PathBuf) {
        assert!(self.process.is_none(), "{} runs", self.name());
        self.dir = dir;
    }

    /// A folder of this node's own outside its data directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The entity's name.
    pub fn name(&self) -> &str {
        &self.setup.name
    }

    /// The entity's number.
    pub fn number(&self) -> &str {
        &self.setup.number
    }

    /// What `run` wrote to stdout and stderr, all starts one after the other.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The file behind [`TestNode::log`].
    pub fn log_path(&self) -> PathBuf {
        self.home.path().join("run.log")
    }

    /// The file that `--passphrase-file` names.
    pub fn passphrase_file(&self) -> PathBuf {
        self.home.path().join("passphrase")
    }

    /// Writes a file into [`TestNode::home`] that only its owner reads.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_private(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home.path().join(name);
        fs::write(&path, text).expect("the home can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        path
    }

    /// Sets a variable of the processes started from now on.
    pub fn set_env(&mut self, key: &str, value: &str) {
        self.setup.env.push((key.to_owned(), value.to_owned()));
    }

    fn command(&self) -> Command {
        let mut command = match &self.setup.namespace {
            None => Command::new(binary::pakt()),
            Some(name) => {
                let mut inside = Command::new("ip");
                inside.args(["netns", "exec", name]).arg(binary::pakt());
                inside
            }
        };
        for key in ["PAKT_DIR", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "RUST_LOG", "PAKT_DIE_AT"] {
            command.env_remove(key);
        }
        command.envs(self.setup.env.iter().map(|(key, value)| (key, value)));
        command.current_dir(self.home.path());
        command
    }

    /// Runs `pakt ARGS… --dir DIR`.
    pub fn cli<S: AsRef<str>>(&self, args: &[S]) -> Output {
        let mut command = self.command();
        command.args(args.iter().map(AsRef::as_ref)).arg("--dir").arg(&self.dir);
        Output::of(&mut command)
    }

    /// Runs `pakt ARGS…` with nothing added.
    pub fn plain(&self, args: &[&str]) -> Output {
        Output::of(self.command().args(args))
    }

    /// Runs `pakt ARGS… --json`, which must succeed, and gives its answer.
    ///
    /// # Panics
    /// When it fails or does not answer with JSON.
    #[track_caller]
    pub fn json<S: AsRef<str>>(&self, args: &[S]) -> Value {
        self.cli_json(args).expect(0).json()
    }

    /// Runs `pakt ARGS… --json`.
    pub fn cli_json<S: AsRef<str>>(&self, args: &[S]) -> Output {
        let mut all: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        all.push("--json");
        self.cli(&all)
    }

    /// Starts `pakt run` and waits until it answers.
    ///
    /// # Panics
    /// When it ends before, or never answers.
    #[track_caller]
    pub fn start(&mut self) {
        if let Err(status) = self.try_start() {
            panic!("{} ended with {status} instead of running\n{}", self.name(), self.log());
        }
    }

    /// Starts `pakt run` and gives how long it took until it answered, or how it ended before.
    ///
    /// # Errors
    /// The status of a process that ended.
    ///
    /// # Panics
    /// When it never answers.
    #[track_caller]
    pub fn try_start(&mut self) -> Result<Duration, ExitStatus> {
        let begun = Instant::now();
        self.spawn_run();
        while self.cli_json(&["status"]).code != 0 {
            if let Some(status) = self.ended() {
                return Err(status);
            }
            assert!(begun.elapsed() < START_MAX, "{} does not answer\n{}", self.name(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(begun.elapsed())
    }

    /// Has the next process that `run` starts die in a call to its disk: `KIND:N:WHEN`, as `node/src/disk/doomed.rs` reads it.
    pub fn doom(&mut self, at: &str) {
        self.doom = Some(at.to_owned());
    }

    /// Starts `pakt run` without waiting for it.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn spawn_run(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name());
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the home can be written");
        let mut command = self.command();
        command.arg("run").arg("--dir").arg(&self.dir);
        if self.setup.passphrase.is_some() {
            command.arg("--passphrase-file").arg(self.passphrase_file());
        }
        if let Some(doom) = self.doom.take() {
            command.env("PAKT_DIE_AT", doom);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        self.process = Some(command.spawn().expect("pakt can be started"));
    }

    /// Runs `pakt run ARGS…` that is expected to end by itself, and gives what it said.
    ///
    /// # Panics
    /// When it still runs after the limit of [`Output::of`].
    pub fn run_output(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.arg("run").arg("--dir").arg(&self.dir).args(args);
        Output::of(&mut command)
    }

    /// The exit status, once the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().expect("the child is ours")?;
        self.process = None;
        Some(status)
    }

    /// Whether a process was started and not ended by the test.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the node runs").id()
    }

    /// Ends the process as a power cut would: kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Ends the process as an operator would, with SIGTERM, and gives its status and how long it took.
    ///
    /// # Panics
    /// When it does not run, or has not ended after 60 s.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(Signal::TERM);
        let status = wait::until(Duration::from_secs(60), "end after SIGTERM", || self.ended());
        (status, start.elapsed())
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the node runs");
        kill_process(Pid::from_child(process), signal).expect("the child is ours");
    }

    /// Where the running node listens.
    ///
    /// # Panics
    /// When `status` does not tell.
    pub fn listen(&self) -> SocketAddr {
        let status = self.json(&["status"]);
        let told = status["listen"].as_str().or_else(|| status["listen"][0].as_str());
        told.and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("status names no listen address: {status}"))
    }

    /// The most memory that the process has used, bytes (`VmHWM`).
    ///
    /// # Panics
    /// When it does not run.
    pub fn memory_peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        kib * 1_024
    }

    /// Processor time that the process has used so far, its own and the kernel's for it, in seconds.
    ///
    /// # Panics
    /// When it does not run.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        // Fields 14 and 15; the name in field 2 may hold anything, a bracket too.
        let (_, fields) = stat.rsplit_once(')').expect("Linux tells");
        let times = fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("a number"));
        times.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let lines: String = tail.iter().rev().map(|line| format!("  {line}\n")).collect();
            crate::tools::tell(&format!("log of {}:\n{lines}", self.setup.name));
        }
    }
}
