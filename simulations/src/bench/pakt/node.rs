//! One node of a bench, from `pakt init` to its end, and what is asked of it by its command line.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::COMMAND_DEADLINE;
use crate::bench::files;
use crate::bench::ground::Site;
use crate::bench::process::{self, Finished, Guard, Running};

/// Also with a million messages.
const START_DEADLINE: Duration = Duration::from_secs(120);
const ONLINE_DEADLINE: Duration = Duration::from_secs(60);
/// The command line promises an end within 10 s of SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long saving may take, which is not timed.
const SAVE_DEADLINE: Duration = Duration::from_secs(900);
/// The network that emulated lines are in.
const LINES: &str = "10.210.0.0/16";
/// Every entity has this group from the start.
const GROUP: &str = "Reception";

/// How soon a message must arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Before everything else.
    Urgent,
    /// In turn.
    Normal,
    /// When nothing else waits.
    Bulk,
}

/// One node: its directory and its process.
#[derive(Debug)]
pub struct Node {
    program: PathBuf,
    dir: PathBuf,
    site: Site,
    number: String,
    process: Guard,
}

/// An item of `pakt peers --json`.
#[derive(Debug, Deserialize)]
struct Counterpart {
    online: bool,
    groups: Vec<String>,
}

/// An item of `pakt inbox list --json`.
#[derive(Debug, Deserialize)]
struct Received {
    id: String,
    subject: String,
}

/// What `pakt send --json` prints; fields that the bench does not need are left out.
#[derive(Debug, Deserialize)]
struct Sent {
    envelopes: Vec<SentEnvelope>,
}

#[derive(Debug, Deserialize)]
struct SentEnvelope {
    state: String,
    bytes_on_wire: u64,
}

/// A send under way.
#[derive(Debug)]
pub struct Sending(Running);

/// A send that has ended with the durable receipt.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// From the command to its end.
    pub seconds: f64,
    /// TCP payload in both directions, as the node counts it.
    pub bytes_on_wire: u64,
}

impl Node {
    /// Makes a new entity under `dir` and starts its node on a free port of `site`.
    ///
    /// # Errors
    /// The first step that fails, with what the program said.
    pub fn start(program: &Path, site: &Site, dir: PathBuf, name: &str, number: &str) -> Result<Self> {
        let listen = format!("{}:0", site.address);
        let mut init = Command::new(program);
        init.arg("init").arg("--dir").arg(&dir).args(["--name", name, "--number", number, "--listen", &listen]);
        init.args(["--allow-range", LINES]).arg("--recovery-file").arg(dir.with_extension("recovery"));
        process::run_at(site, "pakt init", &mut init, COMMAND_DEADLINE)?;
        Self::resume(program, site, dir, number)
    }

    /// Starts the node of an entity that was made before.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub fn resume(program: &Path, site: &Site, dir: PathBuf, number: &str) -> Result<Self> {
        let mut run = Command::new(program);
        run.arg("run").arg("--dir").arg(&dir);
        let process = Guard::spawn("pakt run", &mut run, site, &dir.with_extension("log"))?;
        let mut node = Self { program: program.into(), dir, site: site.clone(), number: number.into(), process };
        process::wait_for("the node's answer to status", START_DEADLINE, || {
            node.process.check_alive()?;
            Ok(node.call(&["status", "--json"]).ok())
        })?;
        Ok(node)
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where others send to: the group that every entity has.
    pub fn address(&self) -> String {
        self.group(GROUP)
    }

    /// A group of this entity as a recipient.
    pub fn group(&self, name: &str) -> String {
        format!("{}/{name}", self.number)
    }

    /// Calls the program for this node.
    ///
    /// # Errors
    /// If it fails.
    pub fn call(&self, arguments: &[&str]) -> Result<Finished> {
        self.call_with(self.command(arguments), arguments)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("PAKT_DIR", &self.dir);
        command
    }

    fn call_with(&self, mut command: Command, arguments: &[&str]) -> Result<Finished> {
        process::run_at(&self.site, &format!("pakt {}", arguments.join(" ")), &mut command, COMMAND_DEADLINE)
    }

    /// Calls with the path of one file as the last argument.
    fn call_on(&self, arguments: &[&str], file: &Path) -> Result<Finished> {
        let mut command = self.command(arguments);
        command.arg(file);
        self.call_with(command, arguments)
    }

    /// The connected counterparts.
    fn online(&mut self) -> Result<Vec<Counterpart>> {
        self.process.check_alive()?;
        let said = self.call(&["peers", "--json"])?.stdout;
        let mut peers: Vec<Counterpart> = serde_json::from_slice(&said).context("pakt peers --json")?;
        peers.retain(|peer| peer.online);
        Ok(peers)
    }

    /// Waits until `count` counterparts are connected.
    ///
    /// # Errors
    /// If they are not in time.
    pub fn wait_online(&mut self, count: usize) -> Result<()> {
        process::wait_for("counterparts online", ONLINE_DEADLINE, || Ok((self.online()?.len() >= count).then_some(())))
    }

    /// Writes the entity's card into `dir`.
    ///
    /// # Errors
    /// If the program refuses.
    pub fn write_card(&self, dir: &Path) -> Result<PathBuf> {
        let card = dir.join(self.number.replace(':', "-")).with_extension("card");
        self.call_on(&["card", "--out"], &card)?;
        Ok(card)
    }

    /// Proposes to all of them in one command; gives the proposals in their order.
    ///
    /// # Errors
    /// If the program refuses.
    pub fn propose_to_all(&self, cards: &[PathBuf], out: &Path) -> Result<Vec<PathBuf>> {
        let mut propose = self.command(&["agreement", "propose"]);
        for card in cards {
            propose.arg("--with").arg(card);
        }
        propose.arg("--out").arg(out);
        self.call_with(propose, &["agreement", "propose"])?;
        let named = |card: &PathBuf| {
            let name = card.file_stem().context("a card has a name")?;
            Ok(if cards.len() == 1 { out.to_owned() } else { out.join(name).with_extension("proposal") })
        };
        cards.iter().map(named).collect()
    }

    /// Accepts a proposal.
    ///
    /// # Errors
    /// If the program refuses.
    pub fn accept(&self, proposal: &Path) -> Result<()> {
        self.call_on(&["agreement", "accept"], proposal)?;
        Ok(())
    }

    /// Makes another group and shows it to everybody.
    ///
    /// # Errors
    /// If the program refuses.
    pub fn add_group(&self, name: &str) -> Result<()> {
        self.call(&["group", "add", name])?;
        self.call(&["group", "show", name, "--to", "all"])?;
        Ok(())
    }

    /// Waits until a counterpart has shown a group.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn wait_group(&mut self, name: &str) -> Result<()> {
        let shown = |peer: &Counterpart| peer.groups.iter().any(|group| group == name);
        process::wait_for("a group of a counterpart", ONLINE_DEADLINE, || {
            Ok(self.online()?.iter().any(shown).then_some(()))
        })
    }

    /// Starts a send that ends with the durable receipt; `subject` finds the message again at the receiver.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start_send(
        &self,
        to: &str,
        path: &Path,
        subject: &str,
        priority: Priority,
        deadline: Duration,
    ) -> Result<Sending> {
        let priority = match priority {
            Priority::Urgent => "urgent",
            Priority::Normal => "normal",
            Priority::Bulk => "bulk",
        };
        // The program's own patience is longer, so that the bench is who gives up.
        let timeout = format!("{}s", deadline.as_secs() + 60);
        let mut command = self.command(&["send", "--to", to, "--subject", subject, "--priority", priority]);
        command.args(["--wait", "delivered", "--timeout", &timeout, "--json"]).arg(path);
        Ok(Sending(Running::start("pakt send", &mut command, &self.site)?))
    }

    /// Saves a message that this node has received into `saved` and compares it with what was sent.
    ///
    /// # Errors
    /// If the message is not in the inbox exactly once, or not as it was sent.
    pub fn check_received(&self, subject: &str, path: &Path, saved: &Path) -> Result<()> {
        let listed = self.call(&["inbox", "list", "--json"])?.stdout;
        let inbox: Vec<Received> = serde_json::from_slice(&listed).context("pakt inbox list --json")?;
        let ids: Vec<&str> = inbox.iter().filter(|item| item.subject == subject).map(|item| item.id.as_str()).collect();
        let [id] = ids[..] else { bail!("{} messages with the subject {subject} in the inbox", ids.len()) };
        let mut save = self.command(&["inbox", "save", id, "--to"]);
        save.arg(saved);
        process::run_at(&self.site, "pakt inbox save", &mut save, SAVE_DEADLINE)?;
        files::check_same(path, &saved.join(files::name_of(path)?))
    }

    /// The most memory that the node has held so far, in KiB.
    ///
    /// # Errors
    /// If it runs no more.
    pub fn memory_peak_kib(&self) -> Result<u64> {
        self.process.memory_peak_kib()
    }

    /// The memory that its process holds now, in KiB.
    ///
    /// # Errors
    /// If it runs no more.
    pub fn memory_now_kib(&self) -> Result<u64> {
        self.process.memory_now_kib()
    }

    /// Processor time that its process has used so far, in seconds.
    ///
    /// # Errors
    /// If it runs no more.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.process.cpu_seconds()
    }

    /// Ends the node as an operator would.
    ///
    /// # Errors
    /// If it does not end in time or reports a failure.
    pub fn stop(self) -> Result<()> {
        self.process.terminate(STOP_DEADLINE)
    }
}

impl Sending {
    /// Waits for the receipt.
    ///
    /// # Errors
    /// If the message was not delivered; [`process::TooSlow`] if not in time.
    pub fn finish(self, deadline: Duration) -> Result<Delivered> {
        let finished = self.0.finish(deadline)?;
        let sent: Sent = serde_json::from_slice(&finished.stdout).context("pakt send --json")?;
        let arrived = |state: &str| ["delivered", "released", "taken"].contains(&state);
        if sent.envelopes.is_empty() || !sent.envelopes.iter().all(|envelope| arrived(&envelope.state)) {
            bail!(
                "pakt send has returned without a delivery: {}",
                String::from_utf8_lossy(&finished.stdout).trim_end()
            );
        }
        Ok(Delivered {
            seconds: finished.elapsed.as_secs_f64(),
            bytes_on_wire: sent.envelopes.iter().map(|envelope| envelope.bytes_on_wire).sum(),
        })
    }
}

/// Does what two operators do: a card, a proposal, an acceptance. `work` is where both documents lie meanwhile.
///
/// # Errors
/// The first step that fails, with what the program said.
pub fn agree(proposer: &Node, accepter: &Node, work: &Path) -> Result<()> {
    let name = accepter.number.replace(':', "-");
    let card = accepter.write_card(work)?;
    for proposal in proposer.propose_to_all(&[card], &work.join(format!("{name}.proposal")))? {
        accepter.accept(&proposal)?;
    }
    Ok(())
}
