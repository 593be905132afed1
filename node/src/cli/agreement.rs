//! `pakt card` and `pakt agreement`: what two operators do before their nodes may see each other.
//!
//! **Invariant:** both fingerprints stand on stderr before anything is signed.

use std::path::{Path, PathBuf};

use pakt_keys::words;
use pakt_protocol::armour::Label;
use pakt_protocol::record::card::Card;
use serde::Serialize;

use super::args::{AgreementCommand, CardArgs, CardCommand};
use super::client::{Client, escaped};
use super::output::{Output, moment, safe, table};
use super::records::{self, ShownAgreement, ShownCard, agreement_text, review_text};
use super::signing::SigningArgs;
use super::{Exit, introduce, life, read_text};
use crate::api::terms::{TEMPLATE, TermsInput};
use crate::api::types::*;
use crate::config::Config;
use crate::{ambient, files, setup};

/// Terms are a page of text.
const TERMS_BYTES_MAX: u64 = 256 << 10;

/// `pakt card`, without a node.
///
/// # Errors
/// When there is no data directory, or the card in it or the file that is shown does not hold.
pub fn card(dir: &Path, output: Output, args: &CardArgs) -> Result<Exit, ServiceError> {
    if let Some(CardCommand::Show { file }) = &args.command {
        output.result(&ShownCard::of(&records::read_card(file)?), ShownCard::text);
        return Ok(Exit::DONE);
    }
    let file = setup::read_card(&Config::load(dir)?)?;
    output.file(&ArmouredFile { file: file.clone() }, &file, args.out.as_deref())?;
    Ok(Exit::DONE)
}

/// `pakt agreement`
///
/// # Errors
/// Whatever the node or the file says.
pub async fn agreement(
    client: &Client,
    dir: &Path,
    output: Output,
    command: AgreementCommand,
) -> Result<Exit, ServiceError> {
    match command {
        AgreementCommand::Terms => {
            output.file(&TermsFile { file: TEMPLATE }, TEMPLATE, None)?;
        }
        AgreementCommand::Propose { with, terms, out, fingerprint, bundle, signing } => {
            let request = ProposeRequest {
                cards: vec![],
                terms_toml: read_terms(terms.as_deref())?,
                fingerprint,
                signing: Signing::default(),
                bundle,
            };
            propose(client, (dir, output), &with, out.as_deref(), (request, &signing)).await?;
        }
        AgreementCommand::Show { what } => show(client, output, &what).await?,
        AgreementCommand::Accept { file, out, fingerprint, signing } => {
            let how = (fingerprint, &signing);
            match received_id(client, &file).await {
                Some(id) => accept_received(client, output, &id, out.as_deref(), how).await?,
                None => accept(client, output, &file, out.as_deref(), how).await?,
            }
        }
        AgreementCommand::Import { file, fingerprint } => {
            let (_, text) = records::read_text(&file, &[Label::Agreement])?;
            show_before_signing(output, &ShownAgreement::of(&records::read_agreement(&file)?));
            let request = ImportRequest { file: text, fingerprint };
            let summary: AgreementSummary = client.post("/v1/agreements/imports", &request).await?;
            output.result(&summary, |summary| list(output, std::slice::from_ref(summary)));
        }
        AgreementCommand::Export { id, out } => {
            let file: ArmouredFile = client.get(&format!("/v1/agreements/{}/file", escaped(&id))).await?;
            output.file(&file, &file.file, out.as_deref())?;
        }
        AgreementCommand::Bundle { name } => {
            let bundle: Bundle = client.get(&format!("/v1/bundles/{}", escaped(&name))).await?;
            output.result(&bundle, |bundle| introduce::bundle_text(output, bundle));
        }
        AgreementCommand::List { bundle } => {
            let mut agreements: Vec<AgreementSummary> = client.get("/v1/agreements").await?;
            agreements.retain(|agreement| bundle.is_none() || agreement.bundle == bundle);
            output.result(&agreements, |agreements| list(output, agreements));
        }
        AgreementCommand::Life(command) => return life::run(client, output, command).await,
        AgreementCommand::End { id, signing } => {
            let detail: AgreementDetail = client.get(&format!("/v1/agreements/{}", escaped(&id))).await?;
            output.confirm(&format!("End the agreement with {} for good?", safe(&detail.summary.name)))?;
            let signing = signing.read()?;
            let path = format!("/v1/agreements/{}/end", escaped(&id));
            let summary: AgreementSummary = client.post(&path, &SignedRequest { signing }).await?;
            output.result(&summary, |summary| list(output, std::slice::from_ref(summary)));
        }
    }
    Ok(Exit::DONE)
}

#[derive(Serialize)]
struct TermsFile {
    file: &'static str,
}

async fn propose(
    client: &Client,
    (dir, output): (&Path, Output),
    with: &[PathBuf],
    out: Option<&Path>,
    (mut request, signing): (ProposeRequest, &SigningArgs),
) -> Result<(), ServiceError> {
    if request.fingerprint.is_some() && with.len() > 1 {
        let message = "--fingerprint goes with one card";
        return Err(ServiceError::new(ErrorCode::Usage, message, "propose to one entity at a time"));
    }
    for path in with {
        let card = records::read_card(path)?;
        show_card_before_signing(dir, output, &card);
        check_fingerprint(&card.node.entity, request.fingerprint.as_deref())?;
        request.cards.push(records::read_text(path, &[Label::Card])?.1);
    }
    output.confirm("Sign?")?;
    request.signing = signing.read()?;
    let proposals: Vec<Proposal> = client.post("/v1/agreements/proposals", &request).await?;
    match (proposals.as_slice(), out) {
        ([one], out) if with.len() == 1 => output.file(one, &one.file, out),
        (many, Some(folder)) => {
            std::fs::create_dir_all(folder).map_err(|e| files::read_error(folder, &e))?;
            for proposal in many {
                let name = format!("{}.proposal", proposal.summary.number.replace(':', "-"));
                output.write(&folder.join(&name), proposal.file.as_bytes())?;
                output.note(&format!("wrote {}", folder.join(&name).display()));
            }
            if output.json {
                output.result(&proposals, |_| String::new());
            }
            Ok(())
        }
        (many, None) => {
            let all: String = many.iter().map(|proposal| proposal.file.as_str()).collect();
            output.file(&proposals, &all, None)
        }
    }
}

/// Terms as typed, checked before anything else happens.
pub(super) fn read_terms(path: Option<&Path>) -> Result<Option<String>, ServiceError> {
    let text = path.map(|path| read_text(path, TERMS_BYTES_MAX)).transpose()?;
    if let Some(text) = &text {
        TermsInput::parse(text, ambient::now())?;
    }
    Ok(text)
}

/// The id of a proposal that came through an introducer, if that is what was named.
async fn received_id(client: &Client, what: &Path) -> Option<String> {
    let id = what.to_str().filter(|id| !what.exists() && life::check_id(id).is_ok())?;
    let detail: AgreementDetail = client.get(&format!("/v1/agreements/{}", escaped(id))).await.ok()?;
    (detail.summary.state == AgreementState::Received).then_some(detail.summary.id)
}

/// Countersigns a proposal that came through an introducer, after it was shown.
async fn accept_received(
    client: &Client,
    output: Output,
    id: &str,
    out: Option<&Path>,
    how: (Option<String>, &SigningArgs),
) -> Result<(), ServiceError> {
    let detail: AgreementDetail = client.get(&format!("/v1/agreements/{}", escaped(id))).await?;
    let AgreementDetail { summary, proposer, accepter, terms, review } = &detail;
    let text = agreement_text(&summary.id, summary.version, proposer, accepter, terms);
    output.note(&format!("{text}\n{}", review_text(review)));
    let entity = proposer
        .entity
        .parse()
        .map_err(|_| ServiceError::new(ErrorCode::Damaged, "the proposal names no entity", "ask for a new one"))?;
    check_fingerprint(&entity, how.0.as_deref())?;
    output.confirm("Countersign?")?;
    introduce::accept_received(client, output, id, out, (how.0, how.1.read()?)).await
}

/// The counterpart's card and our own fingerprint, for two people on the telephone.
pub(super) fn show_card_before_signing(dir: &Path, output: Output, card: &Card) {
    output.note(&ShownCard::of(card).text());
    let ours = Config::load(dir).ok().map(|config| config.dir.join(setup::CARD_NAME));
    if let Some(ours) = ours.and_then(|path| records::read_card(&path).ok()) {
        output.note(&format!("our own fingerprint: {}", words::fingerprint(&ours.node.entity)));
    }
}

fn show_before_signing(output: Output, agreement: &ShownAgreement) {
    output.note(&agreement.text());
}

pub(super) fn check_fingerprint(entity: &pakt_keys::EntityId, typed: Option<&str>) -> Result<(), ServiceError> {
    if typed.is_none_or(|typed| words::matches(entity, typed)) {
        return Ok(());
    }
    Err(ServiceError::new(
        ErrorCode::FingerprintMismatch,
        format!("the fingerprint is not the one of this file; nothing was signed.{}", difference_text(entity, typed)),
        "read it to each other again; if it still differs, somebody has replaced the file",
    ))
}

/// Which word differs, if the fingerprint that was typed is nearly the right one.
fn difference_text(entity: &pakt_keys::EntityId, typed: Option<&str>) -> String {
    let first = typed.and_then(|typed| words::first_difference(entity, typed));
    first.map(|(number, word)| format!(" Word {number} differs: {}", safe(&word))).unwrap_or_default()
}

async fn show(client: &Client, output: Output, what: &str) -> Result<(), ServiceError> {
    let path = Path::new(what);
    if what == "-" || path.exists() {
        let shown = life::with_changes(client, ShownAgreement::of(&records::read_agreement(path)?)).await;
        output.result(&shown, ShownAgreement::text);
        return Ok(());
    }
    life::check_id(what)?;
    let detail: AgreementDetail = client.get(&format!("/v1/agreements/{}", escaped(what))).await?;
    output.result(&detail, |detail| {
        let AgreementDetail { summary, proposer, accepter, terms, review } = detail;
        let text = agreement_text(&summary.id, summary.version, proposer, accepter, terms);
        format!("{}\n{text}\n{}{}", life::standing_text(summary), review_text(review), life::amendments_text(summary))
    });
    Ok(())
}

async fn accept(
    client: &Client,
    output: Output,
    file: &Path,
    out: Option<&Path>,
    (fingerprint, signing): (Option<String>, &SigningArgs),
) -> Result<(), ServiceError> {
    if !file.exists() && file.as_os_str() != "-" {
        return life::accept(client, output, &file.to_string_lossy(), out, (fingerprint, signing)).await;
    }
    let (_, text) = records::read_text(file, &[Label::Proposal])?;
    let verified = records::read_agreement(file)?;
    show_before_signing(output, &life::with_changes(client, ShownAgreement::of(&verified)).await);
    // Of a first proposal the proposer's; who offers an amendment, the node knows.
    if verified.terms.version == 1 {
        check_fingerprint(&verified.terms.proposer.entity, fingerprint.as_deref())?;
    }
    output.confirm("Countersign?")?;
    let request = AcceptRequest { file: text, fingerprint, signing: signing.read()? };
    let accepted: Accepted = client.post("/v1/agreements/acceptances", &request).await?;
    output.note(&accepted.note);
    output.file(&accepted, &accepted.file, out)
}

pub(super) fn list(output: Output, agreements: &[AgreementSummary]) -> String {
    let row = |agreement: &AgreementSummary| {
        vec![
            output.id(&agreement.id),
            life::state_text(agreement),
            safe(&agreement.name),
            safe(&agreement.number),
            moment(&agreement.valid_until),
            if agreement.verified { "yes" } else { "NO" }.to_owned(),
        ]
    };
    table(&["ID", "STATE", "NAME", "NUMBER", "UNTIL", "VERIFIED"], agreements.iter().map(row).collect())
}
