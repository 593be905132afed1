//! `pakt backup …`: the file is written, read and owned by whoever types the command.
//!
//! **Invariant:** a file has its name only once it is whole and durable; nothing is overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use futures::StreamExt;
use indicatif::ProgressBar;
use pakt_keys::backup::{CHECKSUM_BYTES, ID_BYTES, PREFIX_BYTES, keystore_bytes};
use serde::Serialize;

use super::Exit;
use super::client::{Client, escaped};
use super::output::{Output, counted, facts, moment, safe, size, table};
use super::progress::Progress;
use crate::api::types::*;
use crate::backup::{self, RestoreOptions, Verified};
use crate::files;
use crate::service::summary_view;

/// `pakt backup …`
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Write a backup of the running node: settings, keys, messages, agreements; sealed, one file, mode 0600.
    #[command(after_help = "Examples:\n  pakt backup create /mnt/backup/nord-2026-11-22.pakt")]
    Create {
        /// The file to write; it must not exist.
        file: PathBuf,
    },
    /// Read a backup to its end and say what it holds and what is missing; needs no node.
    #[command(after_help = "Examples:
  pakt backup verify nord.pakt --passphrase-file /etc/pakt/passphrase
  pakt backup verify nord.pakt            # without the passphrase: only for damage by accident")]
    Verify {
        /// The backup.
        file: PathBuf,
        /// File with the passphrase that held when the backup was made.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Put a node's data directory together from a backup, whole or not at all; needs no node.
    #[command(after_help = "Examples:
  pakt backup restore nord.pakt --dir /var/lib/pakt --passphrase-file /etc/pakt/passphrase")]
    Restore {
        /// The backup.
        file: PathBuf,
        /// File with the passphrase that held when the backup was made; config.toml names it from then on.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Where the recovery file lies, for config.toml; it is in no backup.
        #[arg(long, value_name = "FILE")]
        recovery_file: Option<PathBuf>,
        /// Restore a backup although objects or keys were missing when it was made.
        #[arg(long)]
        incomplete: bool,
        /// The ledger of purges; the one that the backup's config.toml names without it.
        #[arg(long, value_name = "FILE", conflicts_with = "without_ledger")]
        ledger: Option<PathBuf>,
        /// Do without the ledger that config.toml names: what was purged since the backup may come back.
        #[arg(long)]
        without_ledger: bool,
    },
    /// Counterparts that were restored from a backup, and which messages they lost.
    #[command(after_help = "Examples:\n  pakt backup gaps\n  pakt backup gaps --seen NL:KVK:99000102")]
    Gaps {
        /// This counterpart's gap was dealt with: no more warnings.
        #[arg(long, value_name = "ENTITY")]
        seen: Option<String>,
    },
}

/// Runs one of the commands.
///
/// # Errors
/// What the node, the file or the backup says.
pub async fn backup(client: &Client, dir: &Path, output: Output, command: BackupCommand) -> Result<Exit, ServiceError> {
    match command {
        BackupCommand::Create { file } => create(client, output, &file).await,
        BackupCommand::Verify { file, passphrase_file } => verify(output, &file, passphrase_file.as_deref()),
        BackupCommand::Restore { file, passphrase_file, recovery_file, incomplete, ledger, without_ledger } => {
            let dir = dir.to_owned();
            let options =
                RestoreOptions { file, dir, passphrase_file, recovery_file, incomplete, ledger, without_ledger };
            restore(output, &options)
        }
        BackupCommand::Gaps { seen: None } => gaps(client, output).await,
        BackupCommand::Gaps { seen: Some(entity) } => {
            let path = format!("/v1/gaps/{}/seen", escaped(&entity));
            let gap: Gap = client.post(&path, &serde_json::json!({})).await?;
            output.result(&gap, |gap| format!("no more warnings about {}", safe(&gap.name)));
            Ok(Exit::DONE)
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ create

#[derive(Serialize)]
struct Created {
    file: PathBuf,
    #[serde(flatten)]
    summary: BackupSummary,
}

async fn create(client: &Client, output: Output, file: &Path) -> Result<Exit, ServiceError> {
    if file.exists() {
        let message = format!("{} exists; nothing was written", file.display());
        return Err(ServiceError::new(ErrorCode::Conflict, message, "choose another name"));
    }
    let state: BackupState = client.get("/v1/backup").await?;
    let progress = Progress::new();
    let bar = progress.bytes(state.bytes_expected, "backup");
    let written = write(client, file, &bar).await;
    progress.clear();
    let (id, bytes) = written?;
    let summary: BackupSummary = client.post("/v1/backup/kept", &BackupKept { id, bytes }).await?;
    let damaged = summary.missing_count > 0;
    output.result(&Created { file: file.to_owned(), summary }, |made| {
        format!("{}\n{}", facts(&[("file", made.file.display().to_string())]), text(&made.summary))
    });
    Ok(if damaged { Exit(ErrorCode::Damaged.exit_code()) } else { Exit::DONE })
}

/// Streams a backup into its file; gives its id and length.
async fn write(client: &Client, path: &Path, bar: &ProgressBar) -> Result<(String, u64), ServiceError> {
    let mut pieces = client.download("/v1/backup/content").await?;
    let mut writing = Writing::begin(path)?;
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => writing.put(&piece)?,
            Err(error) => return Err(why(client, &writing, &error).await),
        }
        bar.set_position(writing.bytes);
        if bar.length().is_some_and(|length| length < writing.bytes) {
            bar.set_length(writing.bytes);
        }
    }
    if !writing.is_whole() {
        return Err(why(client, &writing, &"it ended too early").await);
    }
    let id = writing.id().unwrap_or_default();
    let bytes = writing.bytes;
    writing.keep()?;
    Ok((id, bytes))
}

/// Why a stream broke off, if the node can tell.
async fn why(client: &Client, writing: &Writing, error: &dyn std::fmt::Display) -> ServiceError {
    let request = BackupKept { id: writing.id().unwrap_or_default(), bytes: 0 };
    match client.post::<_, BackupSummary>("/v1/backup/kept", &request).await {
        Err(told) if told.code != ErrorCode::NotFound => told,
        _ => ServiceError::new(ErrorCode::Failed, format!("the backup broke off: {error}"), "run it again"),
    }
}

/// A backup on its way to its file.
struct Writing {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    /// The beginning, up to the id.
    head: Vec<u8>,
    checksum: blake3::Hasher,
    /// The last bytes, which are the checksum if nothing follows.
    tail: Vec<u8>,
    bytes: u64,
    kept: bool,
}

impl Writing {
    fn begin(path: &Path) -> Result<Writing, ServiceError> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = path.with_file_name(name);
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = opened.map_err(|error| files::write_error(path, &error))?;
        Ok(Writing {
            path: path.to_owned(),
            temporary,
            file,
            head: Vec::new(),
            checksum: blake3::Hasher::new(),
            tail: Vec::new(),
            bytes: 0,
            kept: false,
        })
    }

    fn put(&mut self, piece: &[u8]) -> Result<(), ServiceError> {
        self.file.write_all(piece).map_err(|error| files::write_error(&self.path, &error))?;
        self.bytes += piece.len() as u64;
        let wanted = PREFIX_BYTES + pakt_keys::keystore::KEYSTORE_BYTES_MAX + ID_BYTES;
        let lacking = wanted.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..lacking]);
        self.tail.extend_from_slice(piece);
        let done = self.tail.len().saturating_sub(CHECKSUM_BYTES);
        self.checksum.update(&self.tail[..done]);
        self.tail.drain(..done);
        Ok(())
    }

    fn id(&self) -> Option<String> {
        let length = keystore_bytes(self.head.first_chunk()?).ok()?;
        let id = self.head.get(PREFIX_BYTES + length..PREFIX_BYTES + length + ID_BYTES)?;
        Some(hex::encode(id))
    }

    fn is_whole(&self) -> bool {
        self.checksum.finalize().as_bytes().as_slice() == self.tail
    }

    fn keep(mut self) -> Result<(), ServiceError> {
        let kept = self.file.sync_all().and_then(|()| fs::rename(&self.temporary, &self.path)).and_then(|()| {
            let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()
        });
        kept.map_err(|error| files::write_error(&self.path, &error))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

// ------------------------------------------------------------------------------------------------ verify and restore

#[derive(Serialize)]
struct VerifiedView {
    /// `whole`: everything was opened and compared; `outside`: without the passphrase only the checksum.
    checked: &'static str,
    complete: bool,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<BackupSummary>,
}

fn reading(file: &Path, what: &str) -> (Progress, ProgressBar) {
    let progress = Progress::new();
    let bar = progress.bytes(fs::metadata(file).map_or(0, |meta| meta.len()), what);
    (progress, bar)
}

fn verify(output: Output, file: &Path, passphrase: Option<&Path>) -> Result<Exit, ServiceError> {
    let (progress, bar) = reading(file, "verify");
    let verified = backup::verify(file, passphrase, |bytes| bar.set_position(bytes));
    progress.clear();
    let view = match verified? {
        Verified::Whole(summary) => VerifiedView {
            checked: "whole",
            complete: summary.missing_count == 0,
            bytes: summary.bytes,
            summary: Some(summary_view(&summary)),
        },
        Verified::Outside { bytes, .. } => VerifiedView { checked: "outside", complete: true, bytes, summary: None },
    };
    output.result(&view, |view| match &view.summary {
        Some(summary) if view.complete => format!("{}\nA node can be restored from it.", text(summary)),
        Some(summary) => format!("{}\nIt is NOT complete.", text(summary)),
        None => format!(
            "{}; its checksum is right. This shows damage by accident only: whether somebody has changed it, and what it \
             holds, shows with --passphrase-file.",
            size(view.bytes)
        ),
    });
    Ok(if view.complete { Exit::DONE } else { Exit(ErrorCode::Damaged.exit_code()) })
}

#[derive(Serialize)]
struct RestoredView {
    dir: PathBuf,
    generation: u64,
    /// Messages of the backup that had been purged since.
    purged: u64,
    summary: BackupSummary,
}

fn restore(output: Output, options: &RestoreOptions) -> Result<Exit, ServiceError> {
    let (progress, bar) = reading(&options.file, "restore");
    let restored = backup::restore(options, |bytes| bar.set_position(bytes));
    progress.clear();
    let restored = restored?;
    let summary = summary_view(&restored.summary);
    let view = RestoredView { dir: restored.dir, generation: restored.generation, purged: restored.purged, summary };
    output.result(&view, |view| {
        let dir = super::shell_word(&view.dir.display().to_string());
        format!(
            "{}\n{}\n\nNever run the old node again, if it still exists: both would be this entity.\nNext:\n  \
             pakt run --dir {dir}\n  pakt agreement list --dir {dir}      # all wait: nothing is sent or taken\n  \
             pakt agreement confirm ID --dir {dir}   # each, once you know that it still holds",
            facts(&[
                ("restored to", view.dir.display().to_string()),
                ("left out", format!("{} that the ledger says were purged", counted(view.purged, "message"))),
            ]),
            text(&view.summary)
        )
    });
    Ok(Exit::DONE)
}

fn text(summary: &BackupSummary) -> String {
    let keys = if summary.protected {
        "under the passphrase that held then".to_owned()
    } else {
        "WITHOUT a passphrase: whoever reads this file is this entity and reads everything".to_owned()
    };
    let mut rows = vec![
        ("made", moment(&summary.made_at)),
        ("entity", summary.entity.clone()),
        ("by", format!("pakt {}", summary.program)),
        ("keys", keys),
        ("size", size(summary.bytes)),
        (
            "holds",
            format!(
                "{}, {}, {}, {} of content in {}",
                counted(summary.agreements, "agreement"),
                counted(summary.received, "received item"),
                counted(summary.sent, "sent message"),
                size(summary.object_bytes),
                counted(summary.objects, "object"),
            ),
        ),
    ];
    if summary.missing_count > 0 {
        rows.push(("missing", format!("{} in all:\n{}", summary.missing_count, summary.missing.join("\n"))));
    }
    facts(&rows)
}

// -------------------------------------------------------------------------------------------------------------- gaps

async fn gaps(client: &Client, output: Output) -> Result<Exit, ServiceError> {
    let gaps: Vec<Gap> = client.get("/v1/gaps").await?;
    output.result(&gaps, |gaps| {
        if gaps.is_empty() {
            return "no counterpart was restored from a backup".to_owned();
        }
        let row = |gap: &Gap| {
            let state = if gap.seen { "seen" } else { "" };
            let lost = if gap.envelopes.is_empty() { "nothing".to_owned() } else { gap.envelopes.join("\n") };
            vec![safe(&gap.name), moment(&gap.backup_at), moment(&gap.restored_at), lost, state.to_owned()]
        };
        let rows = gaps.iter().map(row).collect();
        format!(
            "{}\n\n`pakt outbox show ID` says what each was; send again what still matters, then --seen ENTITY.",
            table(&["COUNTERPART", "BACKUP OF", "RESTORED", "LOST ENVELOPES", ""], rows)
        )
    });
    Ok(Exit::DONE)
}
