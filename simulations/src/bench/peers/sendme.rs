//! iroh's `sendme`, where it is installed: a peer-to-peer transfer over QUIC.
//!
//! It hashes the files before it prints its ticket; the clock starts after that, when the other side asks.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Job, Measured, Peer, check_copy, make_target};
use crate::bench::process::{self, Guard};

/// How long hashing may take.
const TICKET_DEADLINE: Duration = Duration::from_secs(120);

/// The installed sendme.
#[derive(Debug)]
pub(super) struct SendmePeer {
    version: String,
}

impl SendmePeer {
    pub(super) fn new() -> Result<Option<Self>> {
        Ok(match process::is_installed("sendme")? {
            true => Some(Self { version: process::version("sendme", "--version")? }),
            false => None,
        })
    }
}

impl Peer for SendmePeer {
    fn name(&self) -> &'static str {
        "sendme (hashing not timed)"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Measured> {
        let target = make_target(job)?;
        let offer = job.work.join("offer");
        fs::create_dir(&offer)?;
        let log = job.work.join("sendme.log");
        let mut provide = Command::new("sendme");
        provide.args(["send", "--relay", "disabled", "--ticket-type", "addresses"]).arg(job.source).current_dir(&offer);
        let mut provider = Guard::spawn("sendme send", &mut provide, &job.ground.sender, &log)?;
        let ticket = process::wait_for("sendme's ticket", TICKET_DEADLINE, || {
            provider.check_alive()?;
            let said = fs::read_to_string(&log)?;
            Ok(said.split_whitespace().find(|word| word.starts_with("blob") && word.len() > 40).map(str::to_string))
        })?;
        super::super::settle();
        let meter = job.ground.meter();
        let mut receive = Command::new("sendme");
        receive.args(["receive", "--relay", "disabled", &ticket]).current_dir(&target);
        let finished = process::run_at(&job.ground.receiver, "sendme receive", &mut receive, job.deadline)
            .with_context(|| format!("with the ticket of {}", self.version));
        let crossed = meter.read();
        drop(provider);
        check_copy(job, &target)?;
        Ok(Measured { seconds: finished?.elapsed.as_secs_f64(), crossed, ..Measured::default() })
    }
}
