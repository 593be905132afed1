//! `tar | zstd -3 | ssh 'zstd -d | tar x'`, what many write themselves.

use std::rc::Rc;

use anyhow::{Context, Result};

use super::ssh::{SshServer, utf8};
use super::{Job, Measured, Peer, check_copy, make_target, timed};
use crate::bench::{files, process};

/// Fails if any part of it fails.
const PIPELINE: &str = r#"set -o pipefail
tar -C "$1" -cf - -- "$2" | zstd -q -3 -c | ssh -F ssh_config bench "set -e; zstd -q -d -c | tar -C '$3' -xf -""#;

/// The pipeline over the bench's own sshd.
#[derive(Debug)]
pub(super) struct TarPeer {
    ssh: Rc<SshServer>,
    version: String,
}

impl TarPeer {
    pub(super) fn new(ssh: Option<&Rc<SshServer>>) -> Result<Option<Self>> {
        let installed = |program| process::is_installed(program).unwrap_or(false);
        let Some(ssh) = ssh.filter(|_| ["tar", "zstd", "bash"].into_iter().all(installed)) else { return Ok(None) };
        let zstd = process::version("zstd", "--version")?;
        let zstd = zstd.split(", ").next().unwrap_or_default().trim_start_matches(['*', ' ']).to_string();
        Ok(Some(Self {
            ssh: ssh.clone(),
            version: format!("{}, {zstd}, {}", process::version("tar", "--version")?, ssh.version()),
        }))
    }
}

impl Peer for TarPeer {
    fn name(&self) -> &'static str {
        "tar, zstd -3, ssh"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Measured> {
        let target = make_target(job)?;
        let mut pipeline = self.ssh.command("bash");
        let parent = job.source.parent().context("the source has no parent")?;
        pipeline.args(["-c", PIPELINE, "bash"]).arg(parent).arg(files::name_of(job.source)?).arg(utf8(&target)?);
        let measured = timed(job, "tar, zstd, ssh", &mut pipeline)?;
        check_copy(job, &target)?;
        Ok(measured)
    }
}
