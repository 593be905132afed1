//! `pakt reconcile`: whether everything that was sent is held.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Exit;
use super::client::{Client, escaped};
use super::comparisons;
use super::output::{Output, moment, safe, table};
use crate::api::types::*;

/// `pakt reconcile`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReconcileArgs {
    /// Only with this counterpart: id, number or name; without it, with all that are online.
    #[arg(long, value_name = "ENTITY")]
    with: Option<String>,
    /// How long to wait for the answers.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// What else to do.
    #[command(subcommand)]
    command: Option<ReconcileCommand>,
}

/// `pakt reconcile …`
#[derive(Debug, Subcommand)]
pub enum ReconcileCommand {
    /// Show what the last comparisons have counted, and every gap.
    #[command(after_help = "Examples:\n  pakt reconcile list\n  pakt reconcile list --json")]
    List,
    /// Write what both sides have signed of the last comparisons with this counterpart into a file, as evidence.
    #[command(after_help = "Examples:
  pakt reconcile export NL:KVK:99000102 --out november.reconciliation
  pakt reconcile export NL:KVK:99000102 --json")]
    Export {
        /// Id, number or name of the counterpart.
        #[arg(value_name = "ENTITY")]
        with: String,
        /// Write the file here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Verify such a file with the two cards alone; needs no node.
    #[command(
        after_help = "Examples:\n  pakt reconcile verify november.reconciliation --card nord.card --card zuid.card"
    )]
    Verify {
        /// The file; - reads stdin.
        file: PathBuf,
        /// The cards of both sides.
        #[arg(long, value_name = "CARD", required = true)]
        card: Vec<PathBuf>,
    },
    /// The gaps with this counterpart were dealt with: no more alarms about them.
    #[command(after_help = "Examples:\n  pakt reconcile seen NL:KVK:99000102")]
    Seen {
        /// Id, number or name of the counterpart.
        #[arg(value_name = "ENTITY")]
        with: String,
    },
}

/// `pakt reconcile`
///
/// # Errors
/// What the node says.
pub async fn reconcile(client: &Client, output: Output, args: ReconcileArgs) -> Result<Exit, ServiceError> {
    let all: Vec<Reconciliation> = match args.command {
        None => {
            let request = ReconcileRequest { with: args.with, timeout_s: Some(args.timeout.as_secs()) };
            let all: Vec<Reconciliation> = client.post("/v1/reconciliations", &request).await?;
            let exit = exit_of(&all);
            output.result(&all, |all| text(all));
            return Ok(exit);
        }
        Some(ReconcileCommand::List) => client.get("/v1/reconciliations").await?,
        Some(ReconcileCommand::Export { with, out }) => {
            return comparisons::export(client, output, &with, out.as_deref()).await;
        }
        Some(ReconcileCommand::Verify { file, card }) => return comparisons::verify(output, &file, &card),
        Some(ReconcileCommand::Seen { with }) => {
            let path = format!("/v1/reconciliations/{}/seen", escaped(&with));
            client.post(&path, &serde_json::json!({})).await?
        }
    };
    output.result(&all, |all| text(all));
    Ok(Exit::DONE)
}

/// A gap is a finding; without an answer nobody knows.
fn exit_of(all: &[Reconciliation]) -> Exit {
    if all.iter().any(|one| one.unseen > 0) {
        Exit(ErrorCode::Failed.exit_code())
    } else if all.iter().any(|one| one.pending) {
        Exit(ErrorCode::TimedOut.exit_code())
    } else {
        Exit::DONE
    }
}

fn text(all: &[Reconciliation]) -> String {
    if all.is_empty() {
        return "nothing was compared: no counterpart is online".to_owned();
    }
    let row = |one: &Reconciliation| {
        vec![
            safe(&one.name),
            one.direction.clone(),
            one.at.as_deref().map_or_else(|| "never".to_owned(), moment),
            one.delivered.to_string(),
            one.open.to_string(),
            one.held.to_string(),
            one.explained.to_string(),
            if one.pending { "no answer yet".to_owned() } else { one.gap_count.to_string() },
        ]
    };
    let header = ["COUNTERPART", "DIRECTION", "COMPARED", "RECEIPTS", "UNDER WAY", "HELD", "EXPLAINED", "GAPS"];
    let mut text = table(&header, all.iter().map(row).collect());
    for one in all {
        for gap in &one.gaps {
            let envelope = gap.envelope.as_deref().unwrap_or("not known here");
            let seen = if gap.seen { ", dealt with" } else { "" };
            text += &format!(
                "\n{} ({}) number {}: {}, envelope {envelope}, since {}{seen}",
                safe(&one.name),
                one.direction,
                gap.number,
                words(&gap.kind),
                moment(&gap.found_at)
            );
        }
    }
    text
}

fn words(kind: &str) -> &str {
    match kind {
        "lost" => "receipted, but not held by the receiver",
        "unknown" => "held by the receiver, but not sent as far as the sender knows",
        "twice" => "given to two envelopes",
        "unaccounted" => "given, but the sender has no track of it",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_finding_and_silence_is_a_timeout() {
        let check = |unseen: u64, pending: bool, code: u8| {
            let one = Reconciliation { unseen, pending, ..Reconciliation::default() };
            assert_eq!(exit_of(&[Reconciliation::default(), one]), Exit(code));
        };
        check(0, false, 0);
        check(0, true, 7);
        check(2, false, 1);
        check(2, true, 1);
    }

    #[test]
    fn a_gap_is_told_with_its_envelope() {
        let gap = |kind: &str, envelope: Option<&str>, seen: bool| ReconciliationGap {
            number: 7,
            kind: kind.into(),
            envelope: envelope.map(Into::into),
            found_at: "2026-11-22T10:00:00Z".into(),
            seen,
        };
        let one = Reconciliation {
            name: "Sør\u{1b}".into(),
            direction: "sent".into(),
            gaps: vec![gap("lost", Some("abc"), false), gap("twice", None, true)],
            gap_count: 2,
            ..Reconciliation::default()
        };
        let text = text(&[one]);
        assert!(text.contains("number 7: receipted, but not held by the receiver, envelope abc"), "{text}");
        assert!(
            text.contains("given to two envelopes, envelope not known here") && text.contains("dealt with"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }
}
