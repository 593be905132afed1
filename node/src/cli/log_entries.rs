//! `pakt log list` and `pakt log export`.
//!
//! **Invariant:** a file that an export writes is new, for its owner only, and whole, or it is not there.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use futures::StreamExt;
use serde::Serialize;

use super::Exit;
use super::client::{Client, Pieces, escaped};
use super::output::{Output, moment, table};
use crate::api::types::*;

/// Which entries are shown.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The first entry; without it the newest are shown.
    #[arg(long, value_name = "NUMBER")]
    pub from: Option<u64>,
    /// How many, at most 1,000.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub limit: usize,
}

/// Which entries are handed out, and how.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// How each line looks.
    #[arg(long)]
    pub format: FormatArg,
    /// The first entry.
    #[arg(long, value_name = "NUMBER")]
    pub from: Option<u64>,
    /// The last entry.
    #[arg(long, value_name = "NUMBER")]
    pub to: Option<u64>,
    /// Only entries since then: a date (UTC), RFC 3339, or how long ago, such as 7d.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Write a new file, mode 0600, instead of to stdout.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Forms of an entry.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// FHIR R4 AuditEvent, one resource per line.
    Fhir,
    /// Lines of RFC 5424.
    Syslog,
    /// JSON with the leaf of the Merkle tree.
    Json,
}

/// What an export has written.
#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    entries: u64,
    bytes: u64,
}

/// Shows entries.
///
/// # Errors
/// What the node says.
pub(super) async fn list(client: &Client, output: Output, args: &ListArgs) -> Result<Exit, ServiceError> {
    let from = args.from.map(|from| format!("&from={from}")).unwrap_or_default();
    let page: LogPage = client.get(&format!("/v1/log/entries?limit={}{from}", args.limit)).await?;
    output.result(&page.entries, |entries| text(entries));
    if !output.json
        && let Some(next) = page.next
    {
        output.note(&format!("the log has {} entries; go on with --from {next}", page.size));
    }
    Ok(Exit::DONE)
}

fn text(entries: &[LogEntry]) -> String {
    let row = |entry: &LogEntry| {
        let ids: Vec<String> = entry.ids.iter().map(|(what, id)| format!("{what}={id}")).collect();
        let step = format!("{}.{}", entry.kind, entry.action);
        vec![entry.number.to_string(), moment(&entry.at), step, ids.join(" ")]
    };
    table(&["NUMBER", "AT", "STEP", "IDS"], entries.iter().map(row).collect())
}

/// Hands entries out.
///
/// # Errors
/// What the node says; `failed` when the file exists or cannot be written.
pub(super) async fn export(client: &Client, output: Output, args: &ExportArgs) -> Result<Exit, ServiceError> {
    if output.json && args.out.is_none() {
        let message = "the lines are not one JSON value";
        return Err(ServiceError::new(ErrorCode::Usage, message, "with --json name a file: --out FILE"));
    }
    let pieces = client.download(&path(args)).await?;
    match &args.out {
        None => {
            copy(pieces, &mut io::stdout().lock()).await.map(drop).map_err(|error| broken_off(&error))?;
        }
        Some(file) => {
            let (entries, bytes) = to_file(pieces, file).await?;
            let exported = Exported { file: file.clone(), entries, bytes };
            output.result(&exported, |done| format!("{} lines in {}", done.entries, done.file.display()));
        }
    }
    Ok(Exit::DONE)
}

fn path(args: &ExportArgs) -> String {
    let format = args.format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut path = format!("/v1/log/export?format={format}");
    let numbers = [("from", args.from), ("to", args.to)];
    for (name, number) in numbers {
        path.extend(number.map(|number| format!("&{name}={number}")));
    }
    path.extend(args.since.iter().map(|since| format!("&since={}", escaped(since))));
    path
}

async fn to_file(pieces: Pieces, path: &Path) -> Result<(u64, u64), ServiceError> {
    let failed = |error: &io::Error| {
        let message = format!("{} cannot be written: {error}", path.display());
        ServiceError::new(ErrorCode::Failed, message, "name a new file on a disk with room")
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| failed(&e))?;
    let written = copy(pieces, &mut file).await;
    let kept = written.and_then(|counts| file.sync_all().map(|()| counts));
    kept.map_err(|error| {
        drop(std::fs::remove_file(path));
        broken_off(&error)
    })
}

/// Gives how many lines and bytes there were.
async fn copy(mut pieces: Pieces, out: &mut (impl Write + ?Sized)) -> io::Result<(u64, u64)> {
    let (mut lines, mut bytes) = (0, 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        out.write_all(&piece)?;
        lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes += piece.len() as u64;
    }
    out.flush()?;
    Ok((lines, bytes))
}

fn broken_off(error: &io::Error) -> ServiceError {
    ServiceError::new(
        ErrorCode::Failed,
        format!("the export broke off: {error}"),
        "see the log of the node, and try again",
    )
}
