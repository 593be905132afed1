//! `scp -r`.

use std::rc::Rc;

use anyhow::Result;

use super::ssh::{SshServer, utf8};
use super::{Job, Measured, Peer, check_copy, make_target, timed};

/// scp over the bench's own sshd.
#[derive(Debug)]
pub(super) struct ScpPeer {
    ssh: Rc<SshServer>,
}

impl ScpPeer {
    pub(super) fn new(ssh: Option<&Rc<SshServer>>) -> Result<Option<Self>> {
        Ok(ssh.map(|ssh| Self { ssh: ssh.clone() }))
    }
}

impl Peer for ScpPeer {
    fn name(&self) -> &'static str {
        "scp -r"
    }

    fn version(&self) -> &str {
        self.ssh.version()
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Measured> {
        let target = make_target(job)?;
        let mut scp = self.ssh.command("scp");
        scp.args(["-q", "-r", "-F", "ssh_config"]).arg(job.source).arg(format!("bench:{}/", utf8(&target)?));
        let measured = timed(job, "scp", &mut scp)?;
        check_copy(job, &target)?;
        Ok(measured)
    }
}
