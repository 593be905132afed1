//! Finds the `pakt` under test by asking cargo to build it.
//!
//! **Invariant:** never an old one: the build runs once in every test process, in the test's own profile or in that which
//! `PAKT_TEST_PROFILE` names (`dev` or `release`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The workspace's root directory: where cargo runs this test, else where it was built.
pub fn workspace() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&own).parent();
        root.expect("the crate lies one level below the workspace").to_path_buf()
    })
}

/// The target directory that this test was built into.
pub fn target() -> PathBuf {
    profile_dir().parent().expect("a profile's directory lies within the target directory").to_path_buf()
}

/// The current `pakt`, built if it is not.
///
/// # Panics
/// When it does not build; the compiler's words are on stderr by then.
pub fn pakt() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

/// `target/debug` or `target/release`, from where the running test lies (`…/deps/name-hash`).
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a running program has a path");
    let deps = exe.parent().expect("a program lies in a directory");
    deps.parent().expect("deps lies in the profile's directory").to_path_buf()
}

/// What cargo tells a test about its own package. Build scripts watch some of it: left in place, it would have half of
/// the dependencies built again.
fn of_this_package() -> impl Iterator<Item = String> {
    const OWN: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_"];
    let names = std::env::vars_os().filter_map(|(key, _)| key.into_string().ok());
    names.filter(|key| OWN.iter().any(|own| key.starts_with(own)))
}

/// The profile that `pakt` is built in.
fn profile() -> String {
    if let Ok(named) = std::env::var("PAKT_TEST_PROFILE") {
        return named;
    }
    match profile_dir().file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// Whether the `pakt` under test is the one that operators run: optimised, and without what only tests need.
pub fn is_release() -> bool {
    profile() == "release"
}

fn build() -> PathBuf {
    let profile = profile();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for key in of_this_package() {
        command.env_remove(key);
    }
    let built = command
        .current_dir(workspace())
        .args(["build", "--package", "pakt-node", "--bin", "pakt", "--profile", &profile])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("cargo can be started");
    assert!(built.status.success(), "pakt does not build");
    String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "pakt")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable it built")
}
