//! Tools of others, and what a test does when one is absent.
//!
//! **Invariant:** a test that cannot run says so on the real stderr, and fails where `PAKT_REQUIRE_ALL=1` is set.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;
use crate::output::Output;

/// Says that a test is skipped, past the capture of the test runner.
///
/// # Panics
/// When `PAKT_REQUIRE_ALL=1` demands that everything runs.
#[track_caller]
pub fn skip(test: &str, why: &str) {
    assert!(!require_all(), "{test} cannot run: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Tells a figure to the reader of the test's output, past the capture of the test runner.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// How much of something a test does: as the variable says, so that one command runs the full count, or `usual`.
pub fn count(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Whether `PAKT_REQUIRE_ALL=1` is set.
pub fn require_all() -> bool {
    std::env::var_os("PAKT_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// The path of a program, when the machine has it.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// The Python with `pydicom`, `pydicom-data`, `cryptography` and `blake3`, prepared by `tests/prepare-python`.
pub fn python() -> Option<PathBuf> {
    let python = binary::target().join("venv/bin/python");
    let probe = "import pydicom, data_store, cryptography, blake3";
    let works =
        python.is_file() && Command::new(&python).args(["-c", probe]).output().is_ok_and(|out| out.status.success());
    works.then_some(python)
}

/// Why [`python`] may be absent, for [`skip`].
pub const NO_PYTHON: &str = "no Python with pydicom-data under the target directory; run tests/prepare-python";

/// The directory with the real DICOM files of `pydicom-data`.
pub fn dicom_files(python: &Path) -> PathBuf {
    let ask = "import data_store, os; print(os.path.dirname(data_store.__file__))";
    let told = Output::of(Command::new(python).args(["-c", ask])).expect(0).text();
    PathBuf::from(told.trim()).join("data")
}

/// Whether the test runs as root (may mount).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A small file system in memory, unmounted when dropped.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts `mib` MiB at `at`, which is created; `None` where this machine does not allow it.
    pub fn mount(at: &Path, mib: u64) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).ok()?;
        let options = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|out| out.status.success());
        mounted.then(|| SmallDisk { at: at.to_path_buf() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Bytes that are free.
    ///
    /// # Panics
    /// When it is not mounted any more.
    pub fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.at).expect("it is mounted");
        stat.f_bavail * stat.f_frsize
    }

    /// Lets `file` grow until only so many bytes are free.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn leave_free(&self, file: &Path, bytes: u64) {
        let mut ballast = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("a new name");
        while let Some(spare) = self.free_bytes().checked_sub(bytes).filter(|spare| *spare > 0) {
            let block = vec![0; usize::try_from(spare.min(1 << 20)).expect("it is small")];
            if ballast.write_all(&block).is_err() {
                return;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: a node that is still ending may hold a file.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}
