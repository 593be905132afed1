//! An sshd of the bench's own, and the way to reach it.
//!
//! The daemon listens on a free port of the receiver's address, knows one throw-away key and one account (the one that runs the
//! bench), and never reads the machine's own ssh configuration. It is running before the clock starts, as a server's would be.
//! Ciphers are those that the tools choose by themselves.
//!
//! **Invariant:** no key, host key or known-hosts line leaves the bench's directory.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bench::ground::{Ground, Site};
use crate::bench::process::{self, Guard};

const SSHD: &str = "/usr/sbin/sshd";
/// sshd refuses to run as root without this empty directory, which systemd usually makes.
const PRIVILEGE_SEPARATION_DIR: &str = "/run/sshd";
const START_DEADLINE: Duration = Duration::from_secs(10);
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// Another program may take the port between our look and sshd's bind.
const PORT_ATTEMPTS: u32 = 5;

/// A running sshd at the receiver.
#[derive(Debug)]
pub struct SshServer {
    dir: PathBuf,
    version: String,
    /// Ends first: fields are dropped in order, and the directory below must outlive the daemon.
    _sshd: Guard,
    _separation: Option<SeparationDir>,
}

impl SshServer {
    /// Starts the daemon with its files under `dir`; `None` if a tool is not installed.
    ///
    /// # Errors
    /// If what is installed does not work.
    pub fn start(ground: &Ground, dir: &Path) -> Result<Option<Self>> {
        for program in ["ssh", SSHD, "ssh-keygen"] {
            if !process::is_installed(program)? {
                return Ok(None);
            }
        }
        let version = process::version("ssh", "-V")?.split([' ', ',']).next().unwrap_or_default().to_string();
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
            match start_sshd(dir, &ground.receiver) {
                Ok(sshd) => break sshd,
                Err(_) if attempt < PORT_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        let server = Self { dir: dir.into(), version, _sshd: sshd, _separation: separation };
        let mut hello = Command::new("ssh");
        hello.args(["-F", "ssh_config", "bench", "true"]).current_dir(dir);
        process::run_at(&ground.sender, "ssh to the bench's own sshd", &mut hello, COMMAND_DEADLINE)?;
        Ok(Some(server))
    }

    /// A command that finds `ssh -F ssh_config bench` in its working directory.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir);
        command
    }

    /// Version of ssh.
    pub fn version(&self) -> &str {
        &self.version
    }
}

fn start_sshd(dir: &Path, site: &Site) -> Result<Guard> {
    let address = site.address;
    let port = free_port(site)?;
    let path = |name: &str| -> Result<String> { Ok(format!("\"{}\"", utf8(&dir.join(name))?)) };
    let user = user_name()?;
    let daemon = format!(
        "ListenAddress {address}:{port}\nHostKey {host_key}\nAuthorizedKeysFile {keys}\nPidFile none\nAllowUsers {user}\n\
         PermitRootLogin prohibit-password\nPubkeyAuthentication yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         UsePAM no\nStrictModes no\nAllowTcpForwarding no\nX11Forwarding no\nPermitTTY no\nPrintMotd no\nSubsystem sftp internal-sftp\nLogLevel ERROR\n",
        host_key = path("host_key")?,
        keys = path("authorized_keys")?,
    );
    fs::write(dir.join("sshd_config"), daemon)?;
    let client = format!(
        "Host bench\nHostName {address}\nPort {port}\nUser {user}\nIdentityFile {key}\nIdentitiesOnly yes\nIdentityAgent none\n\
         UserKnownHostsFile {known}\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\nBatchMode yes\nLogLevel ERROR\n",
        key = path("user_key")?,
        known = path("known_hosts")?,
    );
    fs::write(dir.join("ssh_config"), client)?;
    let host_key = fs::read_to_string(dir.join("host_key.pub"))?;
    fs::write(dir.join("known_hosts"), format!("[{address}]:{port} {host_key}"))?;

    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f"]).arg(dir.join("sshd_config"));
    let mut sshd = Guard::spawn("sshd", &mut command, site, &dir.join("sshd.log"))?;
    process::wait_for("sshd's greeting", START_DEADLINE, || {
        sshd.check_alive()?;
        Ok(site.inside(|| greets(SocketAddr::from((address, port))))?.then_some(()))
    })?;
    Ok(sshd)
}

/// A port on which nothing listens at `site`.
///
/// # Errors
/// If there is none.
pub fn free_port(site: &Site) -> Result<u16> {
    let address: Ipv4Addr = site.address;
    Ok(site.inside(|| TcpListener::bind((address, 0)))??.local_addr()?.port())
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

/// The path as text that an ssh configuration and a remote shell take as it is.
///
/// # Errors
/// If it has a quotation mark or is not UTF-8.
pub fn utf8(path: &Path) -> Result<&str> {
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
