//! `rsync -a` over ssh, with and without compression.
//!
//! rsync does not sync what it writes; that advantage is left to it.

use std::path::Path;
use std::rc::Rc;

use anyhow::Result;

use super::ssh::{SshServer, utf8};
use super::{Job, Measured, Peer, check_copy, make_target, timed};
use crate::bench::process;

/// rsync over the bench's own sshd.
#[derive(Debug)]
pub struct RsyncPeer {
    ssh: Rc<SshServer>,
    compress: bool,
    version: String,
}

impl RsyncPeer {
    /// The peer, `None` if a tool is not installed.
    ///
    /// # Errors
    /// If rsync is there but cannot be started.
    pub fn new(ssh: Option<&Rc<SshServer>>, compress: bool) -> Result<Option<Self>> {
        let Some(ssh) = ssh.filter(|_| process::is_installed("rsync").unwrap_or(false)) else { return Ok(None) };
        let said = process::version("rsync", "--version")?;
        let rsync = said.split("  protocol").next().unwrap_or_default().replace("  ", " ");
        Ok(Some(Self { ssh: ssh.clone(), compress, version: format!("{rsync}, {}", ssh.version()) }))
    }

    /// Copies the source into `target`, which may have an earlier copy.
    ///
    /// # Errors
    /// If it fails or is too slow.
    pub fn copy(&self, job: &Job<'_>, target: &Path) -> Result<Measured> {
        let mut rsync = self.ssh.command("rsync");
        rsync.arg("-a");
        if self.compress {
            rsync.args(["-z", "--compress-choice=zstd"]);
        }
        rsync.args(["-e", "ssh -F ssh_config"]).arg(job.source).arg(format!("bench:{}/", utf8(target)?));
        timed(job, "rsync", &mut rsync)
    }
}

impl Peer for RsyncPeer {
    fn name(&self) -> &'static str {
        if self.compress { "rsync -az (zstd) over ssh" } else { "rsync -a over ssh" }
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Measured> {
        let target = make_target(job)?;
        let measured = self.copy(job, &target)?;
        check_copy(job, &target)?;
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::bench::ground::Ground;

    #[test]
    fn copies_a_tree_through_its_own_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a study");
        fs::create_dir_all(source.join("series")).unwrap();
        fs::write(source.join("series/image"), vec![7u8; 100_000]).unwrap();
        let ground = Ground::loopback().unwrap();
        let ssh = SshServer::start(&ground, &dir.path().join("ssh")).unwrap().map(Rc::new);
        for compress in [false, true] {
            let Some(mut peer) = RsyncPeer::new(ssh.as_ref(), compress).unwrap() else {
                assert!(std::env::var_os("PAKT_REQUIRE_ALL").is_none(), "rsync and sshd are required");
                eprintln!("SKIPPED rsync over ssh: not installed");
                return;
            };
            assert!(peer.version().contains("rsync") && peer.version().contains("OpenSSH"), "{}", peer.version());
            let work = dir.path().join(format!("run {compress}"));
            fs::create_dir(&work).unwrap();
            let deadline = Duration::from_secs(30);
            let measured = peer.run(&Job { ground: &ground, source: &source, work: &work, deadline }).unwrap();
            assert!(measured.seconds > 0.0);
            assert!(work.join("target/a study/series/image").exists());
        }
    }
}
