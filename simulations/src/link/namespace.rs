//! Network namespaces that exist only as long as this program.
//!
//! The namespace is held by one small process that waits for the end of its input. When this program ends, however it ends, that
//! input ends too, and the namespace goes with its last process: nothing stays behind that a later run would have to clear away.
//!
//! **Invariant:** only threads made for the purpose enter a namespace; the program's own threads stay where they are.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const START_DEADLINE: Duration = Duration::from_secs(5);
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const CONGESTION_CONTROLS_ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// A network namespace of our own, empty but for its loopback device.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
    entry: File,
}

/// Fails unless this program may make namespaces and lines.
///
/// # Errors
/// Says that root is needed, or which part of the system is missing.
pub fn check_allowed() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(super::Refused("an emulated line needs root, for network namespaces and TUN devices of its own"));
    }
    if File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        bail!(super::Refused("an emulated line needs /dev/net/tun, which this kernel or container does not offer"));
    }
    Ok(())
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// If this program may not, or a tool is missing.
    pub fn new() -> Result<Self> {
        check_allowed()?;
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let holder = command.spawn().context("cannot start unshare (util-linux)")?;
        let entry = wait_for_entry(&holder);
        let namespace = match entry {
            Ok(entry) => Self { holder, entry },
            Err(error) => {
                let mut holder = holder;
                // Nothing else can be done about it, and the error below says more.
                let _ = holder.kill().and_then(|()| holder.wait());
                return Err(error);
            }
        };
        namespace.ip(&["link", "set", "lo", "up"])?;
        // What one connection has learnt about the line must not help the next one: runs are compared.
        namespace.set_kernel("/proc/sys/net/ipv4/tcp_no_metrics_save", "1")?;
        Ok(namespace)
    }

    /// Runs `work` on a thread inside the namespace; processes that it starts are born there.
    ///
    /// # Errors
    /// If the thread cannot be made or not enter.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("inside".into()).spawn_scoped(scope, || {
                move_into_link_name_space(self.entry.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok::<_, io::Error>(work())
            })?;
            match thread.join() {
                Ok(done) => done.context("cannot enter the network namespace"),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts `command` inside.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        Ok(self.inside(|| command.spawn())??)
    }

    /// Calls `ip` inside.
    ///
    /// # Errors
    /// If `ip` is missing or refuses.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        let output = self
            .inside(|| Command::new("ip").args(arguments).stdin(Stdio::null()).output())?
            .context("cannot start ip (iproute2)")?;
        if !output.status.success() {
            bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(())
    }

    /// Sets a parameter of the kernel that each namespace has for itself.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_kernel(&self, parameter: &str, value: &str) -> Result<()> {
        self.inside(|| fs::write(parameter, value))?.with_context(|| format!("cannot write {value} to {parameter}"))
    }

    /// Sets the congestion control of connections that begin from now on.
    ///
    /// # Errors
    /// If the kernel does not have it.
    pub fn set_congestion_control(&self, name: &str) -> Result<()> {
        match self.inside(|| fs::write(CONGESTION_CONTROL, name))? {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => (),
            Err(error) => return Err(error).with_context(|| format!("this kernel has no congestion control {name}")),
        }
        // Outside the first namespace the kernel takes only those that ordinary users may choose, and looks at that only now.
        let allowed = fs::read_to_string(CONGESTION_CONTROLS_ALLOWED)?;
        fs::write(CONGESTION_CONTROLS_ALLOWED, format!("{} {name}", allowed.trim()))?;
        let set = self.set_kernel(CONGESTION_CONTROL, name);
        fs::write(CONGESTION_CONTROLS_ALLOWED, allowed.trim())?;
        set
    }

    /// The congestion control of connections that begin from now on.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn congestion_control(&self) -> Result<String> {
        Ok(self.inside(|| fs::read_to_string(CONGESTION_CONTROL))??.trim().to_string())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its input ends with the kill at the latest; a holder that is already gone is what is wanted.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The holder's namespace, as soon as it is not ours any more.
fn wait_for_entry(holder: &Child) -> Result<File> {
    let ours = fs::read_link("/proc/self/ns/net")?;
    let theirs = format!("/proc/{}/ns/net", holder.id());
    let start = Instant::now();
    while fs::read_link(&theirs).context("unshare has ended: may this container make network namespaces?")? == ours {
        if start.elapsed() > START_DEADLINE {
            bail!("unshare made no network namespace");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    File::open(&theirs).context("cannot open the new network namespace")
}
