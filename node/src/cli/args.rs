//! The command line as it is typed: names, flags and their help.
//!
//! **Invariant:** names and flags are stable; what does not exist yet is absent, not a stub.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::address::AddressCommand;
use super::backup::BackupCommand;
use super::directory::DirectoryCommand;
use super::introduce::IntroduceArgs;
use super::keep::{KeepCommand, RecallCommand};
use super::keys::{ApproverCommand, RecoverArgs, RootCommand, RotateArgs};
use super::keystore::KeystoreCommand;
use super::life::LifeCommand;
use super::log::LogCommand;
use super::quarantine::QuarantineCommand;
use super::reconcile::ReconcileArgs;
use super::signing::SigningArgs;
use crate::api::types::Priority;
use crate::config::LogFormat;

/// Exchange files with other legal entities: directly, encrypted end to end, only under signed agreements.
#[derive(Debug, Parser)]
#[command(name = "pakt", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// The node's data directory.
    #[arg(long, global = true, env = "PAKT_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// One JSON object or array on stdout.
    #[arg(long, global = true)]
    pub json: bool,
    /// Answer yes to every question.
    #[arg(long, global = true)]
    pub yes: bool,
    /// Whole ids in tables; commands take their first 8 digits and more, too.
    #[arg(long, global = true)]
    pub wide: bool,
    /// Replace a file that --out names.
    #[arg(long, global = true)]
    pub force: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Start with `pakt demo`: two entities, one agreement and one study on this machine.

Exit codes:
  0 done
  1 failed: port in use, disk full, PATH gone, a doctor finding
  2 wrong usage
  3 no agreement, or refused by the peer
  4 not found
  5 the node does not run or cannot be reached
  6 damaged or locked data: changed file, wrong or missing passphrase, open key file, newer data directory
  7 timed out while waiting";

/// What `pakt` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Two entities, one agreement, one study, start to receipt, on this machine.
    #[command(after_help = "Examples:\n  pakt demo\n  pakt demo ~/study --keep")]
    Demo(DemoArgs),
    /// Create a node: keys, certificates, card, settings.
    #[command(after_help = "Examples:
  pakt init --dir nord --name 'Sykehuset Nord' --number NO:ORGNR:999000101
  pakt init --dir nord --name 'Sykehuset Nord' --number NO:ORGNR:999000101 \\
      --advertise pakt.nord.example:4100 --passphrase-file /etc/pakt/passphrase --recovery-file /media/usb/nord.pakt")]
    Init(InitArgs),
    /// Run the node until it is told to stop.
    #[command(after_help = "Examples:\n  pakt run --dir nord\n  pakt run --dir nord --log-format json")]
    Run(RunArgs),
    /// Print this entity's card, or check any card.
    #[command(after_help = "Examples:\n  pakt card --out nord.card\n  pakt card show sor.card")]
    Card(CardArgs),
    /// Make, sign and end agreements.
    #[command(
        subcommand,
        after_help = "Examples:
  pakt agreement propose --with sor.card --out nord-sor.proposal
  pakt agreement accept nord-sor.proposal --out nord-sor.agreement
  pakt agreement list"
    )]
    Agreement(AgreementCommand),
    /// Replace the node's keys; agreements stay, and what is on its way goes on.
    #[command(after_help = "Examples:\n  pakt rotate\n  pakt rotate --root /media/usb/nord.root")]
    Rotate(RotateArgs),
    /// Replace the root by its successor from the recovery file, also when it is lost; the node must not run.
    #[command(after_help = "Examples:
  pakt recover --recovery-file /media/usb/nord.pakt --new-recovery-file /media/usb/nord-2.pakt")]
    Recover(RecoverArgs),
    /// Keep the root elsewhere.
    #[command(
        subcommand,
        after_help = "Examples:\n  pakt root export --out /media/usb/nord.root --root-passphrase-file p"
    )]
    Root(RootCommand),
    /// The keystore of this node.
    #[command(
        subcommand,
        after_help = "Examples:\n  pakt keystore passphrase --passphrase-file old --new-passphrase-file new"
    )]
    Keystore(KeystoreCommand),
    /// Who must approve what the root signs.
    #[command(
        subcommand,
        after_help = "Examples:
  pakt approver add Anna --approver-passphrase-file anna
  pakt approver add Ole --approver-passphrase-file ole
  pakt agreement accept FILE --approval Anna=anna --approval Ole=ole"
    )]
    Approver(ApproverCommand),
    /// Who is listed at a steward; for its participants only.
    #[command(
        subcommand,
        after_help = "Examples:
  pakt directory publish --with NO:ORGNR:999000103 --town Fjordbyen --offers MR,CT
  pakt directory list
  pakt directory join --with NO:ORGNR:999000103 --all --terms terms.toml --bundle network-2027"
    )]
    Directory(DirectoryCommand),
    /// Reach an entity through a steward or a common partner: cards, and a proposal that the introducer cannot read.
    #[command(after_help = "Examples:
  pakt introduce --to NL:KVK:99000102 --via NO:ORGNR:999000103
  pakt introduce --to ENTITY --via NO:ORGNR:999000103 --out sor.card
  pakt introduce list")]
    Introduce(IntroduceArgs),
    /// The groups of this entity and who sees them.
    #[command(
        subcommand,
        after_help = "Examples:
  pakt group add Radiology
  pakt group show Radiology --to NL:KVK:99000102
  pakt group list"
    )]
    Group(GroupCommand),
    /// Where counterparts dial this node.
    #[command(subcommand, after_help = "Examples:\n  pakt address list\n  pakt address set pakt.nord.example:4100")]
    Address(AddressCommand),
    /// Counterparts, their groups, whether they can be reached, since when and why not.
    #[command(after_help = "Examples:\n  pakt peers\n  pakt peers --json")]
    Peers,
    /// Send files to groups of other entities.
    #[command(after_help = "Examples:
  pakt send --to NL:KVK:99000102/Reception --subject 'MR head' study/
  pakt send --to 'Kliniek Zuid/Radiology' --subject-file s.txt --body-file letter.txt \\
      --priority urgent --wait delivered --timeout 10m study/ letter.pdf")]
    Send(SendArgs),
    /// What was received.
    #[command(
        subcommand,
        after_help = "Examples:
  pakt inbox list
  pakt inbox show ID
  pakt inbox save ID --to incoming/"
    )]
    Inbox(InboxCommand),
    /// What was sent, and where it is.
    #[command(subcommand, after_help = "Examples:\n  pakt outbox list\n  pakt outbox show ID")]
    Outbox(OutboxCommand),
    /// Export receipts, and verify them without a node.
    #[command(
        subcommand,
        after_help = "Examples:
  pakt receipt export ID --out study.receipt
  pakt receipt export ID --page study.html
  pakt receipt verify study.receipt --card nord.card --card sor.card"
    )]
    Receipt(ReceiptCommand),
    /// What the malware check holds; for this node's operator, without subjects and content.
    #[command(
        subcommand,
        after_help = "Examples:\n  pakt quarantine list\n  pakt quarantine delete ID\n  pakt quarantine release ID"
    )]
    Quarantine(QuarantineCommand),
    /// The audit log: its entries, its head, and whether it is what it was.
    #[command(
        subcommand,
        after_help = "Examples:
  pakt log list
  pakt log export --format fhir --since 30d --out november.ndjson
  pakt log verify
  pakt log head --out ours.head"
    )]
    Log(LogCommand),
    /// Compare with counterparts whether everything that was sent is held; daily by itself.
    #[command(after_help = "Examples:
  pakt reconcile
  pakt reconcile --with NL:KVK:99000102
  pakt reconcile list
  pakt reconcile export NL:KVK:99000102 --out november.reconciliation")]
    Reconcile(ReconcileArgs),
    /// Back the node up, check a backup, restore one.
    #[command(
        subcommand,
        after_help = "Examples:
  pakt backup create /mnt/backup/nord-2026-11-22.pakt
  pakt backup verify nord.pakt --passphrase-file /etc/pakt/passphrase
  pakt backup restore nord.pakt --dir /var/lib/pakt --passphrase-file /etc/pakt/passphrase"
    )]
    Backup(BackupCommand),
    /// State and counts of this node.
    #[command(after_help = "Examples:\n  pakt status\n  pakt status --json")]
    Status,
    /// Check this node and say what to do about each finding.
    #[command(after_help = "Examples:\n  pakt doctor\n  pakt doctor --json")]
    Doctor(DoctorArgs),
}

/// `pakt demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// What to send; without it a DICOM study of about 120 MB is generated.
    pub path: Option<PathBuf>,
    /// Leave both nodes running and say how to talk to them.
    #[arg(long)]
    pub keep: bool,
}

/// `pakt init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Name of the entity.
    #[arg(long)]
    pub name: String,
    /// Registered number of the entity, such as NO:ORGNR:999000101.
    #[arg(long)]
    pub number: String,
    /// Address and port of the one inbound listener; port 0 picks a free one and keeps it; none: only dial.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:4100")]
    pub listen: String,
    /// Address at which counterparts reach this node; may be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Vec<String>,
    /// Proxy that every dial goes through: http://HOST:PORT or socks5://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// Private file with one line USER:PASSWORD for the proxy.
    #[arg(long, value_name = "FILE", requires = "proxy")]
    pub proxy_credentials_file: Option<PathBuf>,
    /// File with the passphrase that protects the keys; config.toml then names it, so that `run` and `doctor` find it.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Where the recovery file is written; it belongs on another machine or medium.
    #[arg(long, value_name = "FILE")]
    pub recovery_file: Option<PathBuf>,
    /// Where the root is written instead of into the keystore; it belongs on another machine or medium.
    #[arg(long, value_name = "FILE")]
    pub root_file: Option<PathBuf>,
    /// File with the passphrase that the root file gets.
    #[arg(long, value_name = "FILE", requires = "root_file")]
    pub root_passphrase_file: Option<PathBuf>,
    /// Private address range that may be dialled in addition; may be repeated.
    #[arg(long, value_name = "CIDR")]
    pub allow_range: Vec<String>,
}

/// `pakt run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// File with the passphrase; else the systemd credential `pakt-passphrase`, else the file that config.toml names.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// How log lines on stderr look.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// `pakt doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// File with the passphrase; else the systemd credential `pakt-passphrase`, else the file that config.toml names.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// `pakt card`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CardArgs {
    /// Write the card here instead of to stdout.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What else to do with cards.
    #[command(subcommand)]
    pub command: Option<CardCommand>,
}

/// `pakt card show`
#[derive(Debug, Subcommand)]
pub enum CardCommand {
    /// Check a card and print name, number and fingerprint in words.
    #[command(after_help = "Examples:\n  pakt card show sor.card")]
    Show {
        /// A card; - reads stdin.
        file: PathBuf,
    },
}

/// `pakt agreement …`
#[derive(Debug, Subcommand)]
pub enum AgreementCommand {
    /// Print a template of terms with every key explained.
    #[command(after_help = "Examples:\n  pakt agreement terms > terms.toml")]
    Terms,
    /// Sign a proposal for each of the given cards.
    #[command(after_help = "Examples:
  pakt agreement propose --with sor.card --out nord-sor.proposal
  pakt agreement propose --with sor.card --terms terms.toml --fingerprint 'ten words read over the telephone'")]
    Propose {
        /// Card of the counterpart; may be repeated.
        #[arg(long, value_name = "CARD", required = true)]
        with: Vec<PathBuf>,
        /// Terms; without it: all purposes, one year, 100 GB, hold 48 h, accept within 30 days.
        #[arg(long, value_name = "FILE")]
        terms: Option<PathBuf>,
        /// Write the proposal here instead of to stdout; with several cards a folder.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The counterpart's fingerprint as you were told it.
        #[arg(long, value_name = "WORDS")]
        fingerprint: Option<String>,
        /// Name under which these proposals are followed: `pakt agreement bundle NAME`.
        #[arg(long, value_name = "NAME")]
        bundle: Option<String>,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// Check a proposal or agreement file, or look one up by id, and print it in plain words.
    #[command(after_help = "Examples:\n  pakt agreement show nord-sor.proposal\n  pakt agreement show ID")]
    Show {
        /// A file, or an agreement id.
        #[arg(value_name = "FILE|ID")]
        what: String,
    },
    /// Countersign a proposal, or an amendment that the counterpart offers, and deliver the agreement.
    #[command(after_help = "Examples:
  pakt agreement accept nord-sor.proposal --out nord-sor.agreement
  pakt agreement accept nord-sor.proposal --fingerprint 'ten words read over the telephone'
  pakt agreement accept ID")]
    Accept {
        /// The proposal or offered amendment as a file, or the id of an amendment offered or of a proposal received.
        #[arg(value_name = "FILE|ID")]
        file: PathBuf,
        /// Write the agreement here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The counterpart's fingerprint as you were told it.
        #[arg(long, value_name = "WORDS")]
        fingerprint: Option<String>,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// Take in an agreement that both have signed and that came as a file.
    #[command(after_help = "Examples:\n  pakt agreement import nord-sor.agreement")]
    Import {
        /// The agreement.
        file: PathBuf,
        /// The counterpart's fingerprint as you were told it.
        #[arg(long, value_name = "WORDS")]
        fingerprint: Option<String>,
    },
    /// Print an agreement as a file.
    #[command(after_help = "Examples:\n  pakt agreement export ID --out nord-sor.agreement")]
    Export {
        /// Agreement id.
        id: String,
        /// Write the agreement here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List all agreements, own proposals, and proposals received through an introducer.
    #[command(after_help = "Examples:\n  pakt agreement list\n  pakt agreement list --bundle network-2027 --json")]
    List {
        /// Only those proposed in this bundle.
        #[arg(long, value_name = "NAME")]
        bundle: Option<String>,
    },
    /// How far the proposals of one bundle are.
    #[command(after_help = "Examples:\n  pakt agreement bundle network-2027")]
    Bundle {
        /// The bundle's name.
        name: String,
    },
    /// What becomes of an agreement.
    #[command(flatten)]
    Life(LifeCommand),
    /// End an agreement, at once and for good.
    #[command(after_help = "Examples:\n  pakt agreement end ID")]
    End {
        /// Agreement id.
        id: String,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
    },
}

/// `pakt group …`
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Add a group; nobody outside sees it until it is shown.
    #[command(after_help = "Examples:\n  pakt group add Radiology")]
    Add {
        /// The group's name.
        name: String,
    },
    /// Show a group to a counterpart, or to all.
    #[command(after_help = "Examples:\n  pakt group show Radiology --to all")]
    Show {
        /// The group's name.
        name: String,
        /// Id, number or name of a counterpart, or all.
        #[arg(long, value_name = "ENTITY|all", default_value = "all")]
        to: String,
    },
    /// Hide a group from a counterpart, or from all.
    #[command(after_help = "Examples:\n  pakt group hide Radiology --to NL:KVK:99000102")]
    Hide {
        /// The group's name.
        name: String,
        /// Id, number or name of a counterpart, or all.
        #[arg(long, value_name = "ENTITY|all", default_value = "all")]
        to: String,
    },
    /// List all groups and who sees them.
    List,
}

/// `pakt send`
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The sending group; may be left out while there is one.
    #[arg(long, value_name = "GROUP")]
    pub from: Option<String>,
    /// Recipient as ENTITY/GROUP, where ENTITY is an id, a number or a name; may be repeated.
    #[arg(long, value_name = "ENTITY/GROUP", required = true)]
    pub to: Vec<String>,
    /// Subject.
    #[arg(long, required_unless_present = "subject_file", conflicts_with = "subject_file")]
    pub subject: Option<String>,
    /// File with the subject, so that it does not show in the list of processes; - reads stdin.
    #[arg(long, value_name = "FILE")]
    pub subject_file: Option<PathBuf>,
    /// File with the text; - reads stdin.
    #[arg(long, value_name = "FILE")]
    pub body_file: Option<PathBuf>,
    /// How soon it must arrive.
    #[arg(long, default_value = "normal")]
    pub priority: PriorityArg,
    /// Which purpose of the agreement this serves.
    #[arg(long)]
    pub purpose: Option<String>,
    /// The received message that this one passes on, for the audit log.
    #[arg(long, value_name = "ID")]
    pub forwards: Option<String>,
    /// The sent message that this one corrects, for the audit log: what was sent cannot be changed.
    #[arg(long, value_name = "ID")]
    pub corrects: Option<String>,
    /// Return only when every recipient has got this far.
    #[arg(long, value_name = "STATE")]
    pub wait: Option<WaitFor>,
    /// How long to wait, such as 90s; the message stays queued.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "wait")]
    pub timeout: Option<Duration>,
    /// Wait up to this long for files that still change.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub settle: Option<Duration>,
    /// Files and folders.
    pub path: Vec<PathBuf>,
}

/// Priorities as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PriorityArg {
    /// Before everything else.
    Urgent,
    /// In turn.
    Normal,
    /// When nothing else waits.
    Bulk,
}

impl From<PriorityArg> for Priority {
    fn from(priority: PriorityArg) -> Self {
        match priority {
            PriorityArg::Urgent => Self::Urgent,
            PriorityArg::Normal => Self::Normal,
            PriorityArg::Bulk => Self::Bulk,
        }
    }
}

/// What `send --wait` waits for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WaitFor {
    /// The receiver has opened it and everything is durable there.
    Delivered,
    /// The receiver has checked every part of it, and its group sees it.
    Released,
    /// Somebody there took responsibility.
    Taken,
}

impl WaitFor {
    /// The receipt tier that is waited for.
    pub fn tier(self) -> u8 {
        match self {
            Self::Delivered => 1,
            Self::Released => 2,
            Self::Taken => 3,
        }
    }
}

/// Which part of a list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only what this group received or sent.
    #[arg(long)]
    pub group: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Only what is older than this one: the last id of an earlier list.
    #[arg(long, value_name = "ID")]
    pub before: Option<String>,
}

/// `pakt inbox …`
#[derive(Debug, Subcommand)]
pub enum InboxCommand {
    /// List received messages and reports, newest first.
    List(ListArgs),
    /// Print text and files of a message.
    Show {
        /// Id, as in the list.
        id: String,
    },
    /// Write the files of a message to a folder; nothing is overwritten.
    Save {
        /// Id, as in the list.
        id: String,
        /// The folder; created if it does not exist.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Take responsibility for a message: its sender gets a receipt that says so.
    Take {
        /// Id, as in the list.
        id: String,
    },
    /// What takes messages away or keeps them.
    #[command(flatten)]
    Keep(KeepCommand),
}

/// `pakt outbox …`
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// List sent messages, newest first.
    List(ListArgs),
    /// Print state, history and receipts of a message or envelope.
    Show {
        /// Message or envelope id.
        id: String,
    },
    /// What takes messages back.
    #[command(flatten)]
    Recall(RecallCommand),
}

/// `pakt receipt …`
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Print the receipt of an envelope as a file.
    Export {
        /// Envelope id, or the id of a message with one envelope.
        id: String,
        /// 1 delivered, 2 released, 3 taken; the highest without it.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
        tier: Option<u8>,
        /// Write the receipt here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write a page with all receipts of the envelope here, to be read and printed.
        #[arg(long, value_name = "FILE.html", conflicts_with_all = ["out", "tier"])]
        page: Option<PathBuf>,
    },
    /// Verify a receipt with the two cards alone; needs no node.
    Verify {
        /// The receipt; - reads stdin.
        file: PathBuf,
        /// The cards of sender and receiver.
        #[arg(long, value_name = "CARD", required = true)]
        card: Vec<PathBuf>,
    },
}
