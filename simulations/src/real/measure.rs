//! What this process takes: memory and processor time, and how many files it may hold open.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Files that a node holds open: database, lock, key slots, and objects that come and go.
const FILES_PER_NODE: u64 = 12;
/// Files of the process itself.
const FILES_OWN: u64 = 64;

/// Memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Bytes that it holds now.
    pub now: u64,
    /// The most that it has held, in bytes.
    pub peak: u64,
}

impl Memory {
    /// Reads `VmRSS` and `VmHWM` of this process.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn read() -> Result<Memory> {
        let status = std::fs::read_to_string("/proc/self/status").context("cannot read this process's memory")?;
        let of = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        match (of("VmRSS:"), of("VmHWM:")) {
            (Some(now), Some(peak)) => Ok(Memory { now: now << 10, peak: peak << 10 }),
            _ => bail!("/proc/self/status does not tell the memory of this process"),
        }
    }
}

/// Processor time that this process has used so far.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// Lets this process hold the files of so many nodes open.
///
/// # Errors
/// If the system does not allow it.
pub(super) fn allow_files(nodes: usize) -> Result<()> {
    let wanted = FILES_OWN + FILES_PER_NODE * nodes as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < wanted) {
        bail!("{nodes} nodes need {wanted} open files, this system allows {maximum}: raise it with `ulimit -Hn`");
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
        .with_context(|| format!("cannot raise the limit of open files to {wanted}"))
}
