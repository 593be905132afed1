//! `rsync -a` over ssh, with an sshd of our own.
//!
//! The daemon listens on a free loopback port, knows one throw-away key and one account (the one that runs the bench), and never reads
//! the machine's own ssh configuration. It is running before the clock starts, as a server's would be. rsync does not sync what it
//! writes; that advantage is left to it.
//!
//! **Invariant:** no key, host key or known-hosts line leaves the bench's directory.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::{self, Guard};
use super::{Measured, Peer, files};

const SSHD: &str = "/usr/sbin/sshd";
/// sshd refuses to run as root without this empty directory, which systemd usually makes.
const PRIVILEGE_SEPARATION_DIR: &str = "/run/sshd";
const START_DEADLINE: Duration = Duration::from_secs(10);
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
const RUN_DEADLINE: Duration = Duration::from_secs(600);
/// Another program may take the port between our look and sshd's bind.
const PORT_ATTEMPTS: u32 = 5;

/// The peer: a running sshd and the way to reach it.
#[derive(Debug)]
pub struct RsyncPeer {
    dir: PathBuf,
    version: String,
    /// Ends first: fields are dropped in order, and the directory below must outlive the daemon.
    _sshd: Guard,
    _separation: Option<SeparationDir>,
}

impl RsyncPeer {
    /// Starts the daemon with its files under `dir`; `None` if a tool is not installed.
    ///
    /// # Errors
    /// If what is installed does not work.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        let Some(version) = versions()? else {
            return Ok(None);
        };
        fs::create_dir_all(dir)?;
        for key in ["host_key", "user_key"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "pakt-bench", "-f"]).arg(dir.join(key));
            process::run("ssh-keygen", &mut keygen, COMMAND_DEADLINE)?;
        }
        fs::copy(dir.join("user_key.pub"), dir.join("authorized_keys"))?;
        let separation = SeparationDir::ensure()?;
        let mut attempt = 1;
        let sshd = loop {
            match start_sshd(dir) {
                Ok(sshd) => break sshd,
                Err(_) if attempt < PORT_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        let peer = Self { dir: dir.into(), version, _sshd: sshd, _separation: separation };
        let mut hello = Command::new("ssh");
        hello.args(["-F", "ssh_config", "bench", "true"]).current_dir(dir);
        process::run("ssh to the bench's own sshd", &mut hello, COMMAND_DEADLINE)?;
        Ok(Some(peer))
    }
}

impl Peer for RsyncPeer {
    fn name(&self) -> &'static str {
        "rsync -a over ssh"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn run(&mut self, source: &Path, work: &Path) -> Result<Measured> {
        let target = work.join("target");
        fs::create_dir(&target)?;
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "-e", "ssh -F ssh_config"]).current_dir(&self.dir);
        rsync.arg(source).arg(format!("bench:{}/", utf8(&target)?));
        super::settle();
        let finished = process::run("rsync", &mut rsync, RUN_DEADLINE)?;
        let name = source.file_name().context("the source has no name")?;
        files::check_same(source, &target.join(name))?;
        Ok(Measured { seconds: finished.elapsed.as_secs_f64(), ..Measured::default() })
    }
}

/// The versions of both tools, `None` if one is missing.
fn versions() -> Result<Option<String>> {
    let mut said = Vec::new();
    for (program, flag) in [("rsync", "--version"), ("ssh", "-V"), (SSHD, "-V"), ("ssh-keygen", "-?")] {
        match Command::new(program).arg(flag).output() {
            // ssh says its version on stderr; the words of the others are not needed.
            Ok(output) => said.push([output.stdout, output.stderr].concat()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot start {program}")),
        }
    }
    let first_line = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_string();
    let rsync = first_line(&said[0]);
    let rsync = rsync.split("  protocol").next().unwrap_or_default().replace("  ", " ");
    let ssh = first_line(&said[1]);
    let ssh = ssh.split([' ', ',']).next().unwrap_or_default();
    Ok(Some(format!("{rsync}, {ssh}")))
}

fn start_sshd(dir: &Path) -> Result<Guard> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let path = |name: &str| -> Result<String> { Ok(format!("\"{}\"", utf8(&dir.join(name))?)) };
    let user = user_name()?;
    let daemon = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nAuthorizedKeysFile {keys}\nPidFile none\nAllowUsers {user}\n\
         PermitRootLogin prohibit-password\nPubkeyAuthentication yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         UsePAM no\nStrictModes no\nAllowTcpForwarding no\nX11Forwarding no\nPermitTTY no\nPrintMotd no\nLogLevel ERROR\n",
        host_key = path("host_key")?,
        keys = path("authorized_keys")?,
    );
    fs::write(dir.join("sshd_config"), daemon)?;
    let client = format!(
        "Host bench\nHostName 127.0.0.1\nPort {port}\nUser {user}\nIdentityFile {key}\nIdentitiesOnly yes\nIdentityAgent none\n\
         UserKnownHostsFile {known}\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\nBatchMode yes\nLogLevel ERROR\n",
        key = path("user_key")?,
        known = path("known_hosts")?,
    );
    fs::write(dir.join("ssh_config"), client)?;
    let host_key = fs::read_to_string(dir.join("host_key.pub"))?;
    fs::write(dir.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}"))?;

    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f"]).arg(dir.join("sshd_config"));
    let mut sshd = Guard::spawn("sshd", &mut command, &dir.join("sshd.log"))?;
    process::wait_for("sshd's greeting", START_DEADLINE, || {
        sshd.check_alive()?;
        Ok(greets(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).then_some(()))
    })?;
    Ok(sshd)
}

fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let mut greeting = [0u8; 4];
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && &greeting == b"SSH-"
}

fn user_name() -> Result<String> {
    let output = process::run("id", Command::new("id").arg("-un"), COMMAND_DEADLINE)?;
    Ok(String::from_utf8(output.stdout)?.trim().to_string())
}

fn utf8(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if !text.contains('"') => Ok(text),
        _ => bail!("{} cannot be written into an ssh configuration; choose another --work", path.display()),
    }
}

/// The directory that sshd insists on, removed again if it was not there before.
#[derive(Debug)]
struct SeparationDir;

impl SeparationDir {
    fn ensure() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        match fs::create_dir(PRIVILEGE_SEPARATION_DIR) {
            Ok(()) => Ok(Some(Self)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error).with_context(|| format!("sshd needs {PRIVILEGE_SEPARATION_DIR}")),
        }
    }
}

impl Drop for SeparationDir {
    fn drop(&mut self) {
        // Stays if somebody else has begun to use it.
        let _ = fs::remove_dir(PRIVILEGE_SEPARATION_DIR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_a_tree_through_its_own_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a study");
        fs::create_dir_all(source.join("series")).unwrap();
        fs::write(source.join("series/image"), vec![7u8; 100_000]).unwrap();
        let Some(mut peer) = RsyncPeer::start(&dir.path().join("ssh")).unwrap() else {
            assert!(std::env::var_os("PAKT_REQUIRE_ALL").is_none(), "rsync and sshd are required");
            eprintln!("SKIPPED rsync over ssh: not installed");
            return;
        };
        assert!(peer.version().contains("rsync") && peer.version().contains("OpenSSH"), "{}", peer.version());
        for run in 0..2 {
            let work = dir.path().join(format!("run {run}"));
            fs::create_dir(&work).unwrap();
            let measured = peer.run(&source, &work).unwrap();
            assert!(measured.seconds > 0.0);
            assert!(work.join("target/a study/series/image").exists());
        }
    }
}
