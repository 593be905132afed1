//! The demo: two entities, one agreement, one study, on one machine.
//!
//! Everything goes the way that two operators would go: this program's own commands, two data directories, two
//! processes, files passed by hand. What is measured is printed at the end.
//!
//! **Invariant:** both nodes are ended and every file is removed, whatever happens, unless `--keep` says otherwise.
//!
//! Start reading at [`run`]; `desk` is an operator and his node, `ratios` the compression figures.

pub mod phantom;

mod desk;
mod ratios;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::ambient;
use crate::api::types::{ErrorCode, ServiceError};
use crate::cli::args::DemoArgs;
use crate::cli::output::{Output, counted, facts, size};
use crate::cli::progress::Progress;
use crate::cli::walk::Tree;
use crate::cli::{Exit, shell_word};
use crate::files;
use desk::{Desk, text};
use ratios::Ratios;

/// 240 slices of 512 x 512 make about 126 MB.
const STUDY_SLICES: u32 = 240;
const STUDY_SEED: u64 = 1;

/// What the demo measured.
#[derive(Serialize)]
struct Report {
    /// From the command to the durable receipt, reading and sealing included.
    seconds: f64,
    files: u64,
    bytes: u64,
    bytes_on_wire: u64,
    ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<Ratios>,
    vm_hwm: [u64; 2],
    receipt_valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<[PathBuf; 2]>,
}

/// Runs the demo.
///
/// # Errors
/// The first step that fails; by then everything is cleaned up.
pub async fn run(output: Output, args: &DemoArgs) -> Result<Exit, ServiceError> {
    if let Some(path) = &args.path {
        // A missing path is said before two nodes are built.
        Tree::scan(std::slice::from_ref(path))?;
    }
    let folder = Folder::create()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| failed("signals", &e))?;
    let report = tokio::select! {
        report = demo(output, args, &folder.path) => report?,
        _ = terminate.recv() => return Err(interrupted()),
        _ = tokio::signal::ctrl_c() => return Err(interrupted()),
    };
    if args.keep {
        folder.keep();
    }
    output.result(&report, Report::text);
    Ok(Exit::DONE)
}

fn interrupted() -> ServiceError {
    ServiceError::new(ErrorCode::Failed, "the demo was interrupted", "run it again")
}

async fn demo(output: Output, args: &DemoArgs, folder: &Path) -> Result<Report, ServiceError> {
    let (path, compression) = match &args.path {
        Some(path) => (path.clone(), None),
        None => {
            let study = folder.join("study");
            let made = study.clone();
            let work = tokio::task::spawn_blocking(move || generate(&made));
            (study, Some(work.await.map_err(|e| failed("the study", &e))??))
        }
    };
    let sent = Tree::scan(std::slice::from_ref(&path))?;
    output.note("two entities: Sykehuset Nord (sender) and Kliniek Zuid (receiver)");
    let nord = Desk::open(folder, "nord", "Sykehuset Nord", "NO:ORGNR:999000101").await?;
    let zuid = Desk::open(folder, "zuid", "Kliniek Zuid", "NL:KVK:99000102").await?;
    agree(output, folder, &nord, &zuid).await?;

    output.note(&format!("sending {}, {}", counted(sent.files, "file"), size(sent.bytes)));
    let to = format!("{}/Reception", zuid.number);
    let send = ["send", "--to", &to, "--subject", "MR head", "--wait", "delivered", "--json", text(&path)?];
    // The node's own count begins when the message is durable here, and by then most of the study has left.
    let begun = Instant::now();
    let answer = nord.command(&send).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let envelope = answer["envelopes"][0].clone();

    let saved = folder.join("received");
    let id = zuid.command(&["inbox", "list", "--json"]).await?[0]["id"].as_str().unwrap_or_default().to_owned();
    zuid.command(&["inbox", "save", &id, "--to", text(&saved)?, "--json"]).await?;
    let compared = tokio::task::spawn_blocking(move || tree::compare(&sent, &saved).map(|()| sent));
    let sent = compared.await.map_err(|e| failed("comparing", &e))??;
    output.note("the received tree is the same, bit for bit");

    let receipt_valid = verify_receipt(output, folder, &nord, &zuid, &envelope).await?;
    let vm_hwm = [nord.memory_peak(), zuid.memory_peak()];
    let kept = args.keep.then(|| [nord.dir.clone(), zuid.dir.clone()]);
    for desk in [nord, zuid] {
        if args.keep { desk.leave_running() } else { desk.close().await? }
    }
    let bytes_on_wire = envelope["bytes_on_wire"].as_u64().unwrap_or_default();
    Ok(Report {
        seconds,
        files: sent.files,
        bytes: sent.bytes,
        bytes_on_wire,
        ratio: sent.bytes as f64 / bytes_on_wire.max(1) as f64,
        compression,
        vm_hwm,
        receipt_valid,
        kept,
    })
}

/// Writes the phantom study and measures how it compresses.
fn generate(study: &Path) -> Result<Ratios, ServiceError> {
    let progress = Progress::new();
    let bar = progress.count(u64::from(STUDY_SLICES), "generating a DICOM MR study");
    phantom::write_study(study, STUDY_SLICES, STUDY_SEED, &mut |slices| bar.set_position(u64::from(slices)))
        .map_err(|e| failed("the study", &e))?;
    bar.finish_and_clear();
    Ratios::of(study).map_err(|e| failed("the study", &e))
}

/// Card, proposal and acceptance, as files that two operators pass to each other.
async fn agree(output: Output, folder: &Path, nord: &Desk, zuid: &Desk) -> Result<(), ServiceError> {
    let (card, proposal, agreement) =
        (folder.join("zuid.card"), folder.join("nord-zuid.proposal"), folder.join("nord-zuid.agreement"));
    zuid.command(&["card", "--out", text(&card)?, "--json"]).await?;
    nord.command(&["card", "--out", text(&folder.join("nord.card"))?, "--json"]).await?;
    let shown = zuid.command(&["card", "show", text(&card)?, "--json"]).await?;
    let fingerprint = shown["fingerprint"].as_str().unwrap_or_default().to_owned();
    output.note(&format!("Kliniek Zuid's fingerprint, as read over the telephone: {fingerprint}"));
    let propose =
        ["agreement", "propose", "--with", text(&card)?, "--fingerprint", &fingerprint, "--out", text(&proposal)?];
    nord.command(&[&propose[..], &["--json", "--yes"]].concat()).await?;
    let own = nord.command(&["card", "show", text(&folder.join("nord.card"))?, "--json"]).await?;
    let fingerprint = own["fingerprint"].as_str().unwrap_or_default().to_owned();
    output.note(&format!("Sykehuset Nord's fingerprint, as read over the telephone: {fingerprint}"));
    let accept = ["agreement", "accept", text(&proposal)?, "--fingerprint", &fingerprint, "--out", text(&agreement)?];
    zuid.command(&[&accept[..], &["--json", "--yes"]].concat()).await?;
    nord.online().await?;
    zuid.online().await?;
    output.note("the agreement is signed by both, and both nodes see each other");
    Ok(())
}

async fn verify_receipt(
    output: Output,
    folder: &Path,
    nord: &Desk,
    zuid: &Desk,
    envelope: &Value,
) -> Result<bool, ServiceError> {
    let receipt = folder.join("study.receipt");
    let id = envelope["id"].as_str().unwrap_or_default();
    nord.command(&["receipt", "export", id, "--out", text(&receipt)?, "--json"]).await?;
    let (nord_card, zuid_card) = (folder.join("nord.card"), folder.join("zuid.card"));
    let verify =
        ["receipt", "verify", text(&receipt)?, "--card", text(&nord_card)?, "--card", text(&zuid_card)?, "--json"];
    let verdict = zuid.command(&verify).await?;
    let valid = verdict["valid"].as_bool().unwrap_or_default();
    output.note(&format!("the receipt holds, checked with the two cards alone: {}", verdict["verdict"]));
    Ok(valid)
}

impl Report {
    fn text(&self) -> String {
        let mut rows = vec![
            ("content", format!("{}, {}", counted(self.files, "file"), size(self.bytes))),
            ("time", format!("{:.2} s from the command to the durable receipt", self.seconds)),
            ("on the wire", format!("{}, both directions", size(self.bytes_on_wire))),
            ("ratio", format!("{:.2} : 1, content to wire", self.ratio)),
        ];
        if let Some(ratios) = &self.compression {
            rows.push(("planes16+zstd", format!("{:.2} : 1 on this study", ratios.planes16_zstd)));
            rows.push(("zstd-3", format!("{:.2} : 1 on this study", ratios.zstd_3)));
        }
        rows.push(("VmHWM", format!("sender {}, receiver {}", size(self.vm_hwm[0]), size(self.vm_hwm[1]))));
        rows.push(("receipt", if self.receipt_valid { "valid" } else { "NOT valid" }.into()));
        let mut text = facts(&rows);
        if let Some(dirs) = &self.kept {
            let [nord, zuid] = dirs.each_ref().map(|dir| shell_word(&dir.display().to_string()));
            let parent = dirs[0].parent().map(|dir| shell_word(&dir.display().to_string())).unwrap_or_default();
            text.push_str(&format!(
                "\n\nBoth nodes keep running. Talk to them:\n  pakt status --dir {nord}\n  pakt peers --dir {zuid}\n  \
                 pakt send --dir {zuid} --to NO:ORGNR:999000101/Reception --subject Hello --wait delivered PATH\n  \
                 pakt inbox list --dir {nord}\n\
                 End them with `kill $(cat {nord}/../nord.pid {zuid}/../zuid.pid)`, then remove {parent}"
            ));
        }
        text
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> ServiceError {
    ServiceError::new(ErrorCode::Failed, format!("{what}: {error}"), "see the disk and the memory of this machine")
}

/// The demo's own folder, removed at the end.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    fn create() -> Result<Self, ServiceError> {
        let name = format!("pakt-demo-{}", hex::encode(ambient::random::<4>()));
        let path = std::env::temp_dir().join(name);
        files::create_private_dir(&path).map_err(|e| failed(&path.display().to_string(), &e))?;
        Ok(Self { path, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
