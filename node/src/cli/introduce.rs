//! `pakt introduce`: cards and proposals through a steward or a common partner, and what came that way.
//!
//! **Invariant:** every fingerprint stands on stderr before anything is signed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use pakt_protocol::armour::{self, Label};
use pakt_protocol::record::card::Card;

use super::Exit;
use super::agreement::{check_fingerprint, read_terms, show_card_before_signing};
use super::client::{Client, escaped};
use super::output::{Output, moment, safe, table};
use super::signing::SigningArgs;
use crate::api::types::*;

/// `pakt introduce`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct IntroduceArgs {
    /// Whom to reach: an entity id; where the introducer is a steward also a number or name in its directory.
    #[arg(long, value_name = "ENTITY", required = true)]
    pub to: Option<String>,
    /// The introducer: id, number or name of a counterpart that both have an agreement with.
    #[arg(long, value_name = "ENTITY", required = true)]
    pub via: Option<String>,
    /// Write the other entity's card here, and propose nothing.
    #[arg(long, value_name = "CARD")]
    pub out: Option<PathBuf>,
    /// Terms; without it: all purposes, one year, 100 GB, hold 48 h, accept within 30 days.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    pub terms: Option<PathBuf>,
    /// The other entity's fingerprint as you were told it.
    #[arg(long, value_name = "WORDS")]
    pub fingerprint: Option<String>,
    /// How long to wait for the card.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "30s")]
    pub timeout: Duration,
    /// How the root is opened.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// What else to do with introductions.
    #[command(subcommand)]
    pub command: Option<IntroduceCommand>,
}

/// `pakt introduce …`
#[derive(Debug, Subcommand)]
pub enum IntroduceCommand {
    /// List what came through introducers and what was asked for through them.
    List,
    /// Give this entity's card to one that asked for it.
    #[command(after_help = "Examples:\n  pakt introduce answer ENTITY")]
    Answer {
        /// The entity id, as `pakt introduce list` shows it.
        id: String,
    },
    /// Decline a proposal, or a request for the card. A proposal is accepted with `pakt agreement accept ID`.
    #[command(after_help = "Examples:\n  pakt introduce decline ID")]
    Decline {
        /// The id, as `pakt introduce list` shows it.
        id: String,
    },
}

/// Proposals that go through an introducer.
pub struct ProposeThrough {
    /// The introducer.
    pub via: String,
    /// Armoured cards.
    pub cards: Vec<String>,
    /// Terms.
    pub terms_toml: Option<String>,
    /// The fingerprint that was told, with one card.
    pub fingerprint: Option<String>,
    /// The bundle.
    pub bundle: Option<String>,
    /// How the root is opened.
    pub signing: SigningArgs,
}

/// `pakt introduce`
///
/// # Errors
/// What the node says.
pub async fn introduce(client: &Client, dir: &Path, output: Output, args: IntroduceArgs) -> Result<Exit, ServiceError> {
    let all: Vec<Introduction> = match args.command {
        Some(IntroduceCommand::List) => client.get("/v1/introductions").await?,
        Some(IntroduceCommand::Answer { id }) => act(client, &id, "card").await?,
        Some(IntroduceCommand::Decline { id }) => act(client, &id, "decline").await?,
        None => return begin(client, dir, output, args).await,
    };
    output.result(&all, |all| list_table(output, all));
    Ok(Exit::DONE)
}

async fn act(client: &Client, id: &str, action: &str) -> Result<Vec<Introduction>, ServiceError> {
    client.post(&format!("/v1/introductions/{}/{action}", escaped(id)), &serde_json::json!({})).await
}

async fn begin(client: &Client, dir: &Path, output: Output, args: IntroduceArgs) -> Result<Exit, ServiceError> {
    let terms_toml = read_terms(args.terms.as_deref())?;
    let signing = args.signing;
    let (to, via) = (args.to.unwrap_or_default(), args.via.unwrap_or_default());
    let request = CardRequest { to, via: via.clone(), wait_s: args.timeout.as_secs() };
    let answer: CardAnswer = client.post("/v1/introductions/cards", &request).await?;
    if let Some(out) = &args.out {
        let card = read_card(&answer.card)?;
        check_fingerprint(&card.node.entity, args.fingerprint.as_deref())?;
        show_card_before_signing(dir, output, &card);
        output.file(&answer, &answer.card, Some(out))?;
        return Ok(Exit::DONE);
    }
    let (cards, fingerprint) = (vec![answer.card], args.fingerprint);
    let through = ProposeThrough { via, cards, terms_toml, fingerprint, bundle: None, signing };
    propose_through(client, dir, output, through).await
}

/// Shows every card, asks once, and has one proposal signed for each and sent through the introducer.
///
/// # Errors
/// What is wrong with a card, or what the node says.
pub async fn propose_through(
    client: &Client,
    dir: &Path,
    output: Output,
    through: ProposeThrough,
) -> Result<Exit, ServiceError> {
    let ProposeThrough { via, cards, terms_toml, fingerprint, bundle, signing } = through;
    for card in &cards {
        let card = read_card(card)?;
        show_card_before_signing(dir, output, &card);
        check_fingerprint(&card.node.entity, fingerprint.as_deref())?;
    }
    output.confirm(if cards.len() == 1 { "Sign?" } else { "Sign one proposal for each?" })?;
    let signing = signing.read()?;
    let request = IntroduceRequest { via, cards, terms_toml, fingerprint, bundle, signing };
    let done: Vec<IntroducedProposal> = client.post("/v1/introductions/proposals", &request).await?;
    output.result(&done, |done| done_table(output, done));
    let failed = done.iter().any(|one| one.outcome == IntroducedOutcome::Failed);
    Ok(if failed { Exit(ErrorCode::Failed.exit_code()) } else { Exit::DONE })
}

/// Countersigns a proposal that came through an introducer, after it was shown.
///
/// # Errors
/// What the node says.
pub async fn accept_received(
    client: &Client,
    output: Output,
    id: &str,
    out: Option<&Path>,
    (fingerprint, signing): (Option<String>, Signing),
) -> Result<(), ServiceError> {
    let request = AcceptReceived { fingerprint, signing };
    let accepted: Accepted = client.post(&format!("/v1/introductions/{}/accept", escaped(id)), &request).await?;
    output.note(&accepted.note);
    match out {
        Some(out) => output.file(&accepted, &accepted.file, Some(out)),
        None => {
            output.result(&accepted, |accepted| {
                format!("{} is {}", accepted.summary.id, accepted.summary.state.as_str())
            });
            Ok(())
        }
    }
}

fn read_card(text: &str) -> Result<Card, ServiceError> {
    let damaged = |error: &dyn std::fmt::Display| {
        ServiceError::new(ErrorCode::Damaged, format!("the card that came does not hold: {error}"), "ask for it again")
    };
    let bytes = armour::decode(Label::Card, text.as_bytes()).map_err(|error| damaged(&error))?;
    Card::from_bytes(&bytes).map_err(|error| damaged(&error))
}

fn done_table(output: Output, done: &[IntroducedProposal]) -> String {
    let row = |one: &IntroducedProposal| {
        let outcome = match one.outcome {
            IntroducedOutcome::Proposed => "proposed",
            IntroducedOutcome::SentAgain => "sent again",
            IntroducedOutcome::AgreedAlready => "agreed already",
            IntroducedOutcome::Failed => "FAILED",
        };
        let agreement = one.agreement.as_deref().map(|id| output.id(id)).unwrap_or_default();
        vec![safe(&one.name), safe(&one.number), outcome.to_owned(), agreement, safe(&one.note)]
    };
    table(&["NAME", "NUMBER", "OUTCOME", "AGREEMENT", "WHY"], done.iter().map(row).collect())
}

fn list_table(output: Output, all: &[Introduction]) -> String {
    if all.is_empty() {
        return "nothing came through an introducer, and nothing was asked for".into();
    }
    let row = |one: &Introduction| {
        let what = match (one.direction, one.kind) {
            (IntroductionDirection::In, IntroductionKind::Card) => "asks for our card",
            (IntroductionDirection::In, IntroductionKind::Proposal) => "proposes to us",
            (IntroductionDirection::Out, IntroductionKind::Card) => "asked for its card",
            (IntroductionDirection::Out, IntroductionKind::Proposal) => "we propose",
        };
        let name = one.name.as_deref().unwrap_or("?");
        let number = one.number.as_deref().unwrap_or("?");
        let state = one.state.replace('_', " ");
        vec![output.id(&one.id), what.to_owned(), safe(name), safe(number), safe(&one.via), moment(&one.at), state]
    };
    table(&["ID", "WHAT", "NAME", "NUMBER", "VIA", "AT", "STATE"], all.iter().map(row).collect())
}

/// `pakt agreement bundle`
pub fn bundle_text(output: Output, bundle: &Bundle) -> String {
    let counts = [
        ("proposed", bundle.proposed),
        ("active", bundle.active),
        ("declined", bundle.declined),
        ("expired", bundle.expired),
        ("other", bundle.other),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}")).collect();
    let head = format!(
        "{}: {} in all, {}; {} online, {} verified",
        safe(&bundle.name),
        bundle.total,
        counts.join(", "),
        bundle.online,
        bundle.verified
    );
    let row = |one: &BundleMember| {
        let summary = &one.summary;
        vec![
            output.id(&summary.id),
            summary.state.as_str().to_owned(),
            safe(&summary.name),
            safe(&summary.number),
            if one.online { "yes" } else { "no" }.to_owned(),
            if summary.verified { "yes" } else { "NO" }.to_owned(),
            safe(&one.note),
        ]
    };
    let header = ["ID", "STATE", "NAME", "NUMBER", "ONLINE", "VERIFIED", "WHY"];
    format!("{head}\n\n{}", table(&header, bundle.agreements.iter().map(row).collect()))
}
