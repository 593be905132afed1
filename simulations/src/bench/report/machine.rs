//! Where the figures come from.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// The machine that measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As the kernel names it.
    pub processor: String,
    /// How many this program may use.
    pub cores: usize,
    /// Memory in all.
    pub memory_bytes: u64,
    /// Release of Linux.
    pub kernel: String,
    /// Default congestion control of the machine.
    pub congestion_control: String,
    /// Type of the file system that the nodes lay on.
    pub file_system: String,
    /// Not a debug build.
    pub optimised: bool,
}

impl Machine {
    /// This one, with its work in `dir`.
    ///
    /// # Errors
    /// If the kernel does not describe it.
    pub fn here(dir: &Path) -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let named = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Ok(Self {
            processor: named.map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into()),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: memory_bytes(&fs::read_to_string("/proc/meminfo")?).unwrap_or_default(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().into(),
            congestion_control: fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?.trim().into(),
            file_system: file_system(&fs::read_to_string("/proc/self/mounts")?, &dir.canonicalize()?),
            optimised: !cfg!(debug_assertions),
        })
    }

    /// One line for people.
    pub fn line(&self) -> String {
        format!(
            "{}, {} cores, {:.0} GiB, Linux {}, {} by default, {}{}",
            self.processor,
            self.cores,
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.kernel,
            self.congestion_control,
            self.file_system,
            if self.optimised { "" } else { ", DEBUG BUILD" }
        )
    }
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The type of the file system that holds `dir`: that of the longest mount point above it, the last one where several are stacked.
fn file_system(mounts: &str, dir: &Path) -> String {
    let rows = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = rows.filter(|(point, _)| dir.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map_or_else(String::new, |(_, kind)| kind.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_nearest_mount() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/deep xfs rw 0 0\n";
        let check = |dir: &str, expected: &str| assert_eq!(file_system(mounts, Path::new(dir)), expected, "{dir}");
        check("/home/x", "ext4");
        check("/tmp/bench", "tmpfs");
        check("/tmp/deeper", "tmpfs");
        check("/tmp/deep/bench", "xfs");
    }

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        assert_eq!(memory_bytes("MemTotal:       24651776 kB\nMemFree: 1 kB\n"), Some(25_243_418_624));
        assert_eq!(memory_bytes("MemFree: 1 kB\n"), None);
    }
}
