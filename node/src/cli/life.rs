//! `pakt agreement amend|renew|suspend|resume|confirm|withdraw|verify`, and how the standing of an agreement is shown.
//!
//! **Invariant:** what is signed was shown first, and what it changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::agreement::list;
use super::client::{Client, escaped};
use super::output::{Output, moment, safe};
use super::records::{ShownAgreement, changes_text};
use super::renew::{self, Many};
use super::signing::SigningArgs;
use super::{Exit, read_text};
use crate::api::types::*;

/// Terms are a page of text.
const TERMS_BYTES_MAX: u64 = 256 << 10;

/// What becomes of an agreement.
#[derive(Debug, Subcommand)]
pub enum LifeCommand {
    /// Offer the counterpart another version of the terms; what the file leaves out stays as it is.
    #[command(after_help = "Examples:
  pakt agreement amend ID --terms larger.toml
  pakt agreement amend ID --terms larger.toml --out nord-sor.amendment")]
    Amend {
        /// Agreement id.
        id: String,
        /// Terms, as in `pakt agreement terms`.
        #[arg(long, value_name = "FILE")]
        terms: PathBuf,
        /// Write the offer here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// Offer the counterpart the same terms for longer.
    #[command(after_help = "Examples:
  pakt agreement renew ID
  pakt agreement renew ID --until 2028-12-31
  pakt agreement renew --bundle network-2027
  pakt agreement renew --ending-within 30d")]
    Renew {
        /// Agreement id.
        #[arg(required_unless_present_any = ["bundle", "ending_within"], conflicts_with_all = ["bundle", "ending_within"])]
        id: Option<String>,
        /// All that were proposed in this bundle and are in force.
        #[arg(long, value_name = "NAME", conflicts_with = "out")]
        bundle: Option<String>,
        /// All that end within this time, such as 30d.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "out")]
        ending_within: Option<Duration>,
        /// Until when: a date, a time, or a time span from now; without it as long again, at most a year.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Write the offer here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// Stop all traffic under an agreement, at once, until this side resumes it; what is queued waits.
    #[command(after_help = "Examples:\n  pakt agreement suspend ID")]
    Suspend {
        /// Agreement id.
        id: String,
    },
    /// Take back this side's suspension.
    #[command(after_help = "Examples:\n  pakt agreement resume ID")]
    Resume {
        /// Agreement id.
        id: String,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// Let an agreement that came out of a backup count again.
    #[command(after_help = "Examples:\n  pakt agreement confirm ID")]
    Confirm {
        /// Agreement id.
        id: String,
    },
    /// Take back an own proposal, or an own offer of an amendment.
    #[command(after_help = "Examples:\n  pakt agreement withdraw ID")]
    Withdraw {
        /// Agreement id.
        id: String,
        /// How the root is opened; only a proposal needs it.
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// Compare the counterpart's fingerprint with what you were told over the telephone.
    #[command(after_help = "Examples:\n  pakt agreement verify ID --fingerprint 'ten words read over the telephone'")]
    Verify {
        /// Agreement id.
        id: String,
        /// The counterpart's fingerprint as you were told it.
        #[arg(long, value_name = "WORDS")]
        fingerprint: String,
    },
}

/// Does what was typed.
///
/// # Errors
/// Whatever the node says.
pub async fn run(client: &Client, output: Output, command: LifeCommand) -> Result<Exit, ServiceError> {
    let done = match command {
        LifeCommand::Amend { id, terms, out, signing } => {
            let terms_toml = read_text(&terms, TERMS_BYTES_MAX)?;
            let detail = detail(client, &id).await?;
            output.confirm(&format!("Offer {} these terms?", safe(&detail.summary.name)))?;
            let signing = signing.read()?;
            let offered = client.post(&path(&id, "amendment"), &AmendRequest { terms_toml, signing }).await?;
            show_offer(output, &offered, out.as_deref())
        }
        LifeCommand::Renew { id: None, bundle, ending_within, until, signing, .. } => {
            let many = Many { bundle, ending_within, until, signing };
            return renew::many(client, output, many).await;
        }
        LifeCommand::Renew { id: Some(id), until, out, signing, .. } => {
            let detail = detail(client, &id).await?;
            output.confirm(&format!("Offer {} to renew?", safe(&detail.summary.name)))?;
            let signing = signing.read()?;
            let offered = client.post(&path(&id, "renewal"), &RenewRequest { until, signing }).await?;
            show_offer(output, &offered, out.as_deref())
        }
        LifeCommand::Suspend { id } => change(client, output, (&id, "suspension"), None, &empty()).await,
        LifeCommand::Resume { id, signing } => {
            let detail = detail(client, &id).await?;
            output.confirm(&format!("Resume the agreement with {}?", safe(&detail.summary.name)))?;
            let request = SignedRequest { signing: signing.read()? };
            change(client, output, (&id, "resumption"), None, &request).await
        }
        LifeCommand::Confirm { id } => {
            change(client, output, (&id, "confirmation"), Some("Let the agreement count again with"), &empty()).await
        }
        LifeCommand::Withdraw { id, signing } => {
            let request = SignedRequest { signing: signing.read()? };
            change(client, output, (&id, "withdrawal"), None, &request).await
        }
        LifeCommand::Verify { id, fingerprint } => {
            change(client, output, (&id, "fingerprint"), None, &VerifyRequest { fingerprint }).await
        }
    };
    done.map(|()| Exit::DONE)
}

fn empty() -> serde_json::Value {
    serde_json::json!({})
}

fn path(id: &str, what: &str) -> String {
    format!("/v1/agreements/{}/{what}", escaped(id))
}

async fn detail(client: &Client, id: &str) -> Result<AgreementDetail, ServiceError> {
    client.get(&format!("/v1/agreements/{}", escaped(id))).await
}

async fn change<T: Serialize>(
    client: &Client,
    output: Output,
    (id, what): (&str, &str),
    question: Option<&str>,
    request: &T,
) -> Result<(), ServiceError> {
    if let Some(question) = question {
        let detail = detail(client, id).await?;
        output.confirm(&format!("{question} {}?", safe(&detail.summary.name)))?;
    }
    let summary: AgreementSummary = client.post(&path(id, what), request).await?;
    output.result(&summary, |summary| list(output, std::slice::from_ref(summary)));
    Ok(())
}

fn show_offer(output: Output, offered: &Accepted, out: Option<&Path>) -> Result<(), ServiceError> {
    if let Some(amendment) = offered.summary.amendments.iter().find(|amendment| amendment.ours) {
        output.note(changes_text(&amendment.changes).trim_start());
    }
    output.note(&offered.note);
    output.file(offered, &offered.file, out)
}

/// Accepts the amendment that the counterpart of an agreement offers.
pub(super) async fn accept(
    client: &Client,
    output: Output,
    id: &str,
    out: Option<&Path>,
    (fingerprint, signing): (Option<String>, &SigningArgs),
) -> Result<(), ServiceError> {
    check_id(id)?;
    let detail = detail(client, id).await?;
    let Some(offer) = detail.summary.amendments.iter().find(|amendment| !amendment.ours) else {
        let message = format!("{} offers no amendment of this agreement", safe(&detail.summary.name));
        return Err(ServiceError::new(ErrorCode::NotFound, message, "see `pakt agreement list`"));
    };
    output.note(&offer_text(&detail.summary, offer));
    output.confirm("Countersign?")?;
    let signing = signing.read()?;
    let request = AcceptAmendmentRequest { hash: offer.hash.clone(), fingerprint, signing };
    let accepted: Accepted = client.post(&path(id, "acceptance"), &request).await?;
    output.note(&accepted.note);
    output.file(&accepted, &accepted.file, out)
}

/// Refuses what is neither a file nor looks like an id.
pub(super) fn check_id(what: &str) -> Result<(), ServiceError> {
    if what.len() >= 8 && what.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let message = format!("{what} is neither a file nor an agreement id");
    Err(ServiceError::new(ErrorCode::NotFound, message, "see `pakt agreement list`"))
}

/// Adds what an amendment changes, if the node runs and knows the agreement.
pub(super) async fn with_changes(client: &Client, shown: ShownAgreement) -> ShownAgreement {
    let Some(id) = shown.amends() else { return shown };
    match detail(client, id).await {
        Ok(known) => shown.compared_with(&known.terms),
        Err(_) => shown,
    }
}

/// The state in a table: what the counterpart offers stands beside it.
pub(super) fn state_text(agreement: &AgreementSummary) -> String {
    let offered = match agreement.amendments.iter().find(|amendment| !amendment.ours) {
        Some(_) => ", amendment offered",
        None if agreement.amendments.is_empty() => "",
        None => ", amendment offered by us",
    };
    let by = match (agreement.state, agreement.suspended_by) {
        (AgreementState::Suspended, Some(SuspendedBy::Us)) => " by us",
        (AgreementState::Suspended, Some(SuspendedBy::Them)) => " by them",
        (AgreementState::Suspended, Some(SuspendedBy::Both)) => " by both",
        _ => "",
    };
    format!("{}{by}{offered}", agreement.state.as_str())
}

/// How an agreement stands, in a line or two.
pub(super) fn standing_text(summary: &AgreementSummary) -> String {
    let verified = if summary.verified { "fingerprint compared" } else { "fingerprint NOT compared" };
    let mut text = format!("{}, {verified}", summary.state.as_str());
    if let Some(reason) = &summary.reason {
        text += &format!("\n{}", safe(reason));
    }
    if let (Some(days), AgreementState::Active | AgreementState::Suspended) = (summary.ends_in_days, summary.state) {
        text += &format!("\nends in {days} days");
    }
    if summary.forked {
        text += "\ntwo different things were signed where one was allowed: call the counterpart and compare";
    }
    text
}

/// What either side offers.
pub(super) fn amendments_text(summary: &AgreementSummary) -> String {
    summary.amendments.iter().map(|amendment| format!("\n{}", offer_text(summary, amendment))).collect()
}

fn offer_text(summary: &AgreementSummary, amendment: &OfferedAmendment) -> String {
    let name = safe(&summary.name);
    let accept_by = moment(&amendment.accept_by);
    let who = match (amendment.ours, amendment.known) {
        (false, _) => {
            format!("amendment offered by {name}: accept it by {accept_by} with `pakt agreement accept {}`", summary.id)
        }
        (true, true) => format!("amendment offered to {name}, who may accept it by {accept_by}"),
        (true, false) => {
            format!("amendment offered to {name}, whose node does not have it yet; void after {accept_by}")
        }
    };
    format!("{who} (version {}){}", amendment.version, changes_text(&amendment.changes))
}
