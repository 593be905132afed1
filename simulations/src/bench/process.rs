//! Processes that a bench starts: spawned with a log, watched, ended.
//!
//! Each process leads a group of its own, so that what it has started ends with it.
//!
//! **Invariant:** whatever happens, also on an error, a panic or Ctrl-C, no process outlives its [`Guard`] and no command its deadline.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::ground::Site;

/// How exactly the end of a command is seen: small against the runs, which take about a second.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How long a process may take to end by itself when its guard is dropped.
const DROP_PATIENCE: Duration = Duration::from_secs(3);
/// How much of a log an error shows.
const LOG_TAIL_BYTES: usize = 2000;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Turns SIGINT and SIGTERM into an error of the wait that is under way, so that guards and temporary directories clean up.
///
/// # Errors
/// If the signal handler cannot be installed.
pub fn watch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminate = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => (),
                _ = terminate.recv() => (),
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    })?;
    Ok(())
}

/// Fails once the bench was told to stop.
///
/// # Errors
/// After SIGINT or SIGTERM.
pub fn check_interrupted() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Asks `ready` again and again until it answers.
///
/// # Errors
/// What `ready` reports, an interruption, or that `deadline` has passed while waiting for `what`.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        check_interrupted()?;
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if start.elapsed() > deadline {
            bail!("{what}: not after {} s", deadline.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sleeps, and ends early if the bench was told to stop.
///
/// # Errors
/// After SIGINT or SIGTERM.
pub fn sleep(time: Duration) -> Result<()> {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()) {
        check_interrupted()?;
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
    Ok(())
}

/// A command had not ended by its deadline.
#[derive(Debug, thiserror::Error)]
#[error("{name} needed more than {} s and was ended", after.as_secs())]
pub struct TooSlow {
    name: String,
    /// The deadline.
    pub after: Duration,
}

/// A process that runs in the background and ends with this value.
#[derive(Debug)]
pub struct Guard {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Guard {
    /// Starts `command` at `site` with both outputs in `log`.
    ///
    /// # Errors
    /// If the log cannot be created or the program not be started.
    pub fn spawn(name: &str, command: &mut Command, site: &Site, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = site.spawn(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.into(), child, log: log.into() })
    }

    /// Fails, with the end of its log, if the process has ended.
    ///
    /// # Errors
    /// If the process runs no more.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, log_tail(&self.log)),
        }
    }

    /// The most memory that the process has held so far (VmHWM), in KiB.
    ///
    /// # Errors
    /// If the process runs no more.
    pub fn memory_peak_kib(&self) -> Result<u64> {
        self.memory_kib("VmHWM:")
    }

    /// The memory that the process holds now (VmRSS), in KiB.
    ///
    /// # Errors
    /// If the process runs no more.
    pub fn memory_now_kib(&self) -> Result<u64> {
        self.memory_kib("VmRSS:")
    }

    fn memory_kib(&self, field: &str) -> Result<u64> {
        let status = self.proc("status")?;
        kib_from(&status, field).with_context(|| format!("the kernel tells no {field}"))
    }

    /// Processor time that the process has used so far, its own and the kernel's for it, in seconds.
    ///
    /// # Errors
    /// If the process runs no more.
    pub fn cpu_seconds(&self) -> Result<f64> {
        ticks_from(&self.proc("stat")?)
            .map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
            .context("the kernel tells no processor time")
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("{} is gone", self.name))
    }

    /// Asks the process to end and waits for it.
    ///
    /// # Errors
    /// If it needs longer than `patience` (it is killed then) or reports a failure.
    pub fn terminate(mut self, patience: Duration) -> Result<()> {
        match end(&mut self.child, patience)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} ended badly ({status}):\n{}", self.name, log_tail(&self.log)),
            None => bail!("{} did not end within {} s of SIGTERM", self.name, patience.as_secs()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nothing can be reported from here; a process that is already gone is what is wanted.
        let _ = end(&mut self.child, DROP_PATIENCE);
    }
}

/// SIGTERM to the process and all that it has started, then SIGKILL after `patience`; `None` if it came to that.
fn end(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| group.map_or(Ok(()), |group| kill_process_group(group, signal));
    signal(Signal::TERM)?;
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(Signal::KILL)?;
    child.wait()?;
    Ok(None)
}

/// User and system time, fields 14 and 15; the name in field 2 may hold anything, a bracket too.
fn ticks_from(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

fn kib_from(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn log_tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let tail = &bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..];
    String::from_utf8_lossy(tail).trim_end().to_string()
}

/// What a command that ran to its end has left.
#[derive(Debug)]
pub struct Finished {
    /// From just before the start to the end.
    pub elapsed: Duration,
    /// Standard output.
    pub stdout: Vec<u8>,
}

/// A command under way in the foreground: started, and to be waited for.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Option<Child>,
    start: Instant,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts `command` at `site`; the clock runs from here.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(name: &str, command: &mut Command, site: &Site) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let start = Instant::now();
        let mut child = site.spawn(command).with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        Ok(Self { name: name.into(), child: Some(child), start, stdout, stderr })
    }

    /// Waits for a successful end.
    ///
    /// # Errors
    /// If the command fails (with what it said), an interruption, or that it was ended after `deadline`.
    pub fn finish(mut self, deadline: Duration) -> Result<Finished> {
        let Some(child) = self.child.as_mut() else { bail!("{} was already waited for", self.name) };
        let status = loop {
            check_interrupted()?;
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.start.elapsed() > deadline {
                bail!(TooSlow { name: self.name.clone(), after: deadline });
            }
            std::thread::sleep(POLL_INTERVAL);
        };
        let elapsed = self.start.elapsed();
        self.child = None;
        let stdout = joined(self.stdout.take());
        let stderr = joined(self.stderr.take());
        if !status.success() {
            bail!("{} failed ({status}): {}", self.name, String::from_utf8_lossy(&stderr).trim_end());
        }
        Ok(Finished { elapsed, stdout })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = end(child, DROP_PATIENCE);
        }
    }
}

/// Runs `command` on this machine to its successful end.
///
/// # Errors
/// As [`Running::start`] and [`Running::finish`].
pub fn run(name: &str, command: &mut Command, deadline: Duration) -> Result<Finished> {
    run_at(&Site::here(), name, command, deadline)
}

/// Runs `command` at `site` to its successful end.
///
/// # Errors
/// As [`Running::start`] and [`Running::finish`].
pub fn run_at(site: &Site, name: &str, command: &mut Command, deadline: Duration) -> Result<Finished> {
    Running::start(name, command, site)?.finish(deadline)
}

/// Whether a program is installed, asked by starting it with an argument that does nothing.
///
/// # Errors
/// If it is there but cannot be started.
pub fn is_installed(program: &str) -> Result<bool> {
    match Command::new(program).arg("--version").stdin(Stdio::null()).output() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot start {program}")),
    }
}

/// The first line that `program` says about its version, on either output.
///
/// # Errors
/// If it cannot be started.
pub fn version(program: &str, flag: &str) -> Result<String> {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().into())
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn joined(thread: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_guard_leaves_no_process_even_a_deaf_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for script in ["exec sleep 60", "trap '' TERM; while :; do sleep 0.1; done"] {
            let mut guard = Guard::spawn("sleeper", &mut shell(script), &Site::here(), &log).unwrap();
            let pid = guard.child.id();
            guard.check_alive().unwrap();
            std::thread::sleep(Duration::from_millis(100));
            assert!(guard.memory_peak_kib().unwrap() > 0);
            drop(guard);
            assert!(!exists(pid), "{script}");
        }
    }

    #[test]
    fn an_early_end_shows_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut guard =
            Guard::spawn("failing", &mut shell("echo port in use; exit 3"), &Site::here(), &dir.path().join("log"))
                .unwrap();
        let error = wait_for("its end", Duration::from_secs(5), || match guard.check_alive() {
            Ok(()) => Ok(None),
            Err(error) => Ok(Some(format!("{error:#}"))),
        });
        assert!(error.unwrap().contains("port in use"));
    }

    #[test]
    fn termination_reports_how_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let check = |script: &str, good: bool| {
            let guard = Guard::spawn("node", &mut shell(script), &Site::here(), &dir.path().join("log")).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(guard.terminate(Duration::from_millis(500)).is_ok(), good, "{script}");
        };
        check("trap 'exit 0' TERM; while :; do sleep 0.05; done", true);
        check("trap 'exit 1' TERM; while :; do sleep 0.05; done", false);
        check("trap '' TERM; while :; do sleep 0.05; done", false);
    }

    #[test]
    fn commands_end_by_their_deadline() {
        let second = Duration::from_secs(1);
        assert_eq!(run("echo", &mut shell("echo yes"), second).unwrap().stdout, b"yes\n");
        let failed = run("sh", &mut shell("echo no room >&2; exit 1"), second).unwrap_err();
        assert!(format!("{failed:#}").contains("no room"));
        let start = Instant::now();
        let slow = run("sleep", &mut shell("sleep 60 | cat"), Duration::from_millis(200)).unwrap_err();
        assert!(slow.downcast_ref::<TooSlow>().is_some());
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn memory_peak_is_read_from_the_kernels_words() {
        let check = |status: &str, expected: Option<u64>| assert_eq!(kib_from(status, "VmHWM:"), expected, "{status}");
        check("Name:\tpakt\nVmHWM:\t   20480 kB\nVmRSS:\t 1 kB\n", Some(20480));
        check("Name:\tpakt\n", None);
        check("VmHWM:\tmany kB\n", None);
    }
}
