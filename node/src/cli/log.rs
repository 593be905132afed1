//! `pakt log`: the head of the audit log, whether the log is what it was, and its entries (`log_entries`).

use std::path::{Path, PathBuf};

use clap::Subcommand;
use pakt_keys::store_seal::StoreKey;

use super::client::{Client, escaped};
use super::log_entries::{ExportArgs, ListArgs, export, list};
use super::output::{Output, facts};
use super::{Exit, read_text};
use crate::api::types::*;
use crate::config::Config;
use crate::disk::RealDisk;
use crate::entity::Entity;
use crate::service::{STORE_NAME, verify_log};
use crate::setup;
use crate::store::Store;

/// A head or a receipt is a page or two of text.
const HELD_BYTES_MAX: u64 = 256 << 10;

/// `pakt log …`
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Read the whole audit log again, and compare it with what others hold of it.
    #[command(
        after_help = "Examples:\n  pakt log verify\n  pakt log verify --head from-nord.head --head study.receipt"
    )]
    Verify {
        /// A head that a counterpart holds of this log (`pakt log head --of` there), or a receipt that this node gave;
        /// may be repeated.
        #[arg(long, value_name = "FILE")]
        head: Vec<PathBuf>,
        /// File with the passphrase, where the node does not run.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Show entries: who did what to which id, and when.
    #[command(after_help = "Examples:\n  pakt log list\n  pakt log list --from 0 --limit 1000 --json")]
    List(ListArgs),
    /// Hand entries out as lines, for an auditor or another system; this is an entry itself.
    #[command(after_help = "Examples:
  pakt log export --format fhir --since 30d --out november.ndjson
  pakt log export --format syslog --from 0 --to 999
  pakt log export --format json --out whole-log.ndjson")]
    Export(ExportArgs),
    /// Print the signed head of this node's audit log, or the newest one held of a counterpart's.
    #[command(
        after_help = "Examples:\n  pakt log head --out ours.head\n  pakt log head --of NL:KVK:99000102 --out theirs.head"
    )]
    Head {
        /// Id, number or name of a counterpart.
        #[arg(long, value_name = "ENTITY")]
        of: Option<String>,
        /// Write the head here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// `pakt log`
///
/// # Errors
/// `damaged` when the log is not what it was; what the node says.
pub async fn log(client: &Client, dir: &Path, output: Output, command: LogCommand) -> Result<Exit, ServiceError> {
    match command {
        LogCommand::Verify { head, passphrase_file } => {
            let held = head.iter().map(|file| read_text(file, HELD_BYTES_MAX)).collect::<Result<Vec<_>, _>>()?;
            let request = LogVerifyRequest { held };
            let asked: Result<LogVerified, _> = client.post("/v1/log/verification", &request).await;
            let verified = match asked {
                Err(error) if error.code == ErrorCode::NotRunning => {
                    offline(dir, passphrase_file.as_deref(), &request.held)?
                }
                asked => asked?,
            };
            output.result(&verified, text);
        }
        LogCommand::List(args) => return list(client, output, &args).await,
        LogCommand::Export(args) => return export(client, output, &args).await,
        LogCommand::Head { of, out } => {
            let query = of.map(|of| format!("?of={}", escaped(&of))).unwrap_or_default();
            let head: ArmouredFile = client.get(&format!("/v1/log/head{query}")).await?;
            output.file(&head, &head.file, out.as_deref())?;
        }
    }
    Ok(Exit::DONE)
}

/// Opens the store of a node that does not run.
fn offline(dir: &Path, passphrase: Option<&Path>, held: &[String]) -> Result<LogVerified, ServiceError> {
    let config = Config::load(dir)?;
    let keys = setup::unlock(&config, passphrase)?;
    let store_key = StoreKey::from_bytes(*keys.store.as_bytes());
    let entity = Entity::new(keys, config.name.clone(), config.number.clone())?;
    let store = Store::open(RealDisk::shared(), &config.dir.join(STORE_NAME), store_key)?;
    let verified = verify_log(&store, &entity.id(), held);
    store.close();
    verified
}

fn text(verified: &LogVerified) -> String {
    facts(&[
        ("audit log", "whole: every entry is as it was written".into()),
        ("entries", verified.entries.to_string()),
        ("compared with", format!("{} heads and receipts, own ones included", verified.compared)),
        ("root", verified.root.clone()),
    ])
}
