//! `pakt directory`: being listed at a steward, asking who is, and joining those who are.
//!
//! **Invariant:** every fingerprint stands on stderr before anything is signed.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Exit;
use super::agreement::read_terms;
use super::client::{Client, escaped};
use super::introduce::{ProposeThrough, propose_through};
use super::output::{Output, facts, moment, safe, table};
use super::signing::SigningArgs;
use crate::api::types::*;

/// `pakt directory …`
#[derive(Debug, Subcommand)]
pub enum DirectoryCommand {
    /// Have this entity listed in a steward's directory, change the listing, or take it back.
    #[command(after_help = "Examples:
  pakt directory publish --with NO:ORGNR:999000103 --town Fjordbyen --offers MR --offers CT
  pakt directory publish --with NO:ORGNR:999000103 --withdraw")]
    Publish {
        /// The steward: id, number or name of a counterpart.
        #[arg(long, value_name = "STEWARD")]
        with: String,
        /// Where this entity is.
        #[arg(long, default_value = "", conflicts_with = "withdraw")]
        town: String,
        /// What it offers, such as MR; may be repeated, or several with commas.
        #[arg(long, value_delimiter = ',', conflicts_with = "withdraw")]
        offers: Vec<String>,
        /// Take the listing back.
        #[arg(long)]
        withdraw: bool,
    },
    /// Show who is listed at a steward; each listing is checked, no fingerprint is compared.
    #[command(after_help = "Examples:
  pakt directory list --with NO:ORGNR:999000103
  pakt directory list --search MR --json")]
    List {
        /// The steward; without it all stewards that list this entity.
        #[arg(long, value_name = "STEWARD")]
        with: Option<String>,
        /// Only entities in whose name, number, town or offers this stands; the steward does not learn it.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// Propose an agreement to listed entities: one command, one signature each; proposals go sealed through the steward.
    #[command(after_help = "Examples:
  pakt directory join --with NO:ORGNR:999000103 --all --terms terms.toml --bundle network-2027
  pakt directory join --with NO:ORGNR:999000103 NL:KVK:99000102 'Praxis Süd'")]
    Join {
        /// The steward: id, number or name of a counterpart.
        #[arg(long, value_name = "STEWARD")]
        with: String,
        /// Propose to everybody who is listed and with whom there is no agreement.
        #[arg(long, conflicts_with = "entity")]
        all: bool,
        /// Terms; without it: all purposes, one year, 100 GB, hold 48 h, accept within 30 days.
        #[arg(long, value_name = "FILE")]
        terms: Option<PathBuf>,
        /// Name under which these proposals are followed: `pakt agreement bundle NAME`.
        #[arg(long, value_name = "NAME")]
        bundle: Option<String>,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
        /// Entity ids, numbers or names in the directory.
        #[arg(required_unless_present = "all")]
        entity: Vec<String>,
    },
}

/// `pakt directory`
///
/// # Errors
/// What the node says.
pub async fn directory(
    client: &Client,
    dir: &Path,
    output: Output,
    command: DirectoryCommand,
) -> Result<Exit, ServiceError> {
    match command {
        DirectoryCommand::Publish { with, town, offers, withdraw } => {
            let offers = offers.iter().map(|offer| offer.trim().to_owned()).filter(|offer| !offer.is_empty()).collect();
            let request = PublishRequest { with, town, offers, withdraw };
            let own: OwnListing = client.post("/v1/directory/listings", &request).await?;
            output.result(&own, own_text);
            if own.state == ListingState::Refused {
                return Ok(Exit(ErrorCode::Refused.exit_code()));
            }
        }
        DirectoryCommand::List { with, search } => {
            let listed = list(client, output, with.as_deref(), search.as_deref()).await?;
            output.result(&listed, |listed| list_table(listed));
        }
        DirectoryCommand::Join { with, all, terms, bundle, signing, entity } => {
            let listed = list(client, output, Some(&with), None).await?;
            let chosen = if all { everybody(listed) } else { chosen(&listed, &entity)? };
            if chosen.is_empty() {
                output.result(&Vec::<IntroducedProposal>::new(), |_| "everybody who is listed has an agreement".into());
                return Ok(Exit::DONE);
            }
            let through = ProposeThrough {
                via: with,
                cards: chosen.into_iter().map(|one| one.card).collect(),
                terms_toml: read_terms(terms.as_deref())?,
                fingerprint: None,
                bundle,
                signing,
            };
            return propose_through(client, dir, output, through).await;
        }
    }
    Ok(Exit::DONE)
}

/// Who is listed; directories that could not be read stand on stderr.
async fn list(
    client: &Client,
    output: Output,
    with: Option<&str>,
    search: Option<&str>,
) -> Result<Vec<ListedEntity>, ServiceError> {
    let pairs = [("with", with), ("search", search)];
    let query: Vec<String> =
        pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped((*value)?)))).collect();
    let answer: DirectoryAnswer = client.get(&format!("/v1/directory?{}", query.join("&"))).await?;
    for UnreadDirectory { message, hint, .. } in &answer.unread {
        output.note(&format!("warning: {}; {}", safe(message), safe(hint)));
    }
    Ok(answer.listed)
}

fn everybody(listed: Vec<ListedEntity>) -> Vec<ListedEntity> {
    listed.into_iter().filter(|one| !one.own && one.agreement != Some(AgreementState::Active)).collect()
}

/// Those that were named, each of which must be listed once.
fn chosen(listed: &[ListedEntity], named: &[String]) -> Result<Vec<ListedEntity>, ServiceError> {
    let mut chosen = Vec::new();
    for name in named {
        let mut fitting = listed.iter().filter(|one| [&one.entity, &one.number, &one.name].contains(&name));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => chosen.push(one.clone()),
            (Some(_), Some(_)) => {
                let message = format!("{name} fits more than one entity of the directory");
                return Err(ServiceError::new(ErrorCode::Usage, message, "give its number or entity id"));
            }
            (None, _) => {
                let message = format!("{name} is not listed there");
                return Err(ServiceError::new(ErrorCode::NotFound, message, "see `pakt directory list`"));
            }
        }
    }
    Ok(chosen)
}

fn own_text(own: &OwnListing) -> String {
    let mut rows = vec![("steward", safe(&own.steward_name))];
    rows.push(("listed", if own.listed { "yes" } else { "no" }.to_owned()));
    if own.listed {
        rows.push(("town", safe(&own.town)));
        rows.push(("offers", safe(&own.offers.join(", "))));
    }
    rows.push(("state", own.note.clone()));
    facts(&rows)
}

fn list_table(listed: &[ListedEntity]) -> String {
    if listed.is_empty() {
        return "nobody is listed there".into();
    }
    let row = |one: &ListedEntity| {
        let agreement = match (one.own, one.agreement) {
            (true, _) => "this entity",
            (false, Some(state)) => state.as_str(),
            (false, None) => "",
        };
        vec![
            safe(&one.name),
            safe(&one.number),
            safe(&one.town),
            safe(&one.offers.join(", ")),
            agreement.to_owned(),
            moment(&one.valid_until),
        ]
    };
    table(&["NAME", "NUMBER", "TOWN", "OFFERS", "AGREEMENT", "LISTED UNTIL"], listed.iter().map(row).collect())
}
