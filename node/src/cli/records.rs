//! Records that the command line reads itself, without a node: cards, proposals, agreements, receipts.
//!
//! **Invariant:** nothing of a record is shown before every signature in it was checked.

use std::io::Read;
use std::path::Path;

use pakt_keys::EntityId;
use pakt_keys::codec::CodecError;
use pakt_keys::words;
use pakt_protocol::armour::{self, ARMOUR_BYTES_MAX, ArmourError, Label};
use pakt_protocol::record::RecordError;
use pakt_protocol::record::agreement::{self, AgreementFile, Side, VerifiedFile};
use pakt_protocol::record::card::Card;
use pakt_protocol::record::receipt::{self, Receipt, Tier};
use serde::Serialize;

use super::output::{counted, facts, moment, safe, size, span};
use crate::api::review;
use crate::api::types::{ErrorCode, Party, ServiceError, Terms, time_text};
use crate::files;

/// Reads a record's armoured text; `-` is stdin.
///
/// # Errors
/// `failed` when it cannot be read, `damaged` when it is too long for any record.
pub fn read_armoured(path: &Path) -> Result<Vec<u8>, ServiceError> {
    if path.as_os_str() != "-" {
        return files::read_bounded(path, ARMOUR_BYTES_MAX as u64);
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(ARMOUR_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| files::read_error(path, &e))?;
    Ok(bytes)
}

/// Reads a record's armoured text as text, to be passed on.
///
/// # Errors
/// Those of [`read_armoured`], and of a text that holds no record.
pub fn read_text(path: &Path, labels: &[Label]) -> Result<(Label, String), ServiceError> {
    let bytes = read_armoured(path)?;
    let (label, record) = armour::decode_any(&bytes).map_err(|e| armour_error(path, &e))?;
    if !labels.contains(&label) {
        let wanted: Vec<_> = labels.iter().map(|label| label.as_str()).collect();
        let message = format!("{} is a {}, not a {}", path.display(), label.as_str(), wanted.join(" or a "));
        return Err(ServiceError::new(ErrorCode::Usage, message, "name the right file"));
    }
    // Written anew, so that what mail and shells did to line ends and encoding stays here.
    Ok((label, armour::encode(label, &record)))
}

pub(super) fn read_record(path: &Path, labels: &[Label]) -> Result<(Label, Vec<u8>), ServiceError> {
    let (label, text) = read_text(path, labels)?;
    let bytes = armour::decode(label, text.as_bytes()).map_err(|e| armour_error(path, &e))?;
    Ok((label, bytes))
}

fn armour_error(path: &Path, error: &ArmourError) -> ServiceError {
    let code = if matches!(error, ArmourError::WrongLabel { .. }) { ErrorCode::Usage } else { ErrorCode::Damaged };
    let hint = "ask for the file again; it may have been cut or changed on its way";
    ServiceError::new(code, format!("{}: {error}", path.display()), hint)
}

/// The error for a record that does not hold.
pub fn record_error(path: &Path, error: &RecordError) -> ServiceError {
    let hint = match error {
        RecordError::Codec(CodecError::Newer { .. }) => "it was made by a newer `pakt`: upgrade this one",
        RecordError::Parties(_) => "check that these files belong together",
        _ => "ask for the file again; it may have been changed on its way, or made by somebody else",
    };
    ServiceError::new(ErrorCode::Damaged, format!("{}: {error}", path.display()), hint)
}

// ------------------------------------------------------------------------------------------------------------ cards

/// A card as it is shown.
#[derive(Debug, Serialize)]
pub struct ShownCard {
    entity: String,
    name: String,
    number: String,
    fingerprint: String,
    addresses: Vec<String>,
    root_generation: u32,
    serial: u64,
    issued_at: String,
}

/// Reads and checks a card.
///
/// # Errors
/// `damaged` for anything but a card whose signatures hold.
pub fn read_card(path: &Path) -> Result<Card, ServiceError> {
    let (_, bytes) = read_record(path, &[Label::Card])?;
    Card::from_bytes(&bytes).map_err(|e| record_error(path, &e))
}

impl ShownCard {
    /// What people and scripts see of `card`.
    pub fn of(card: &Card) -> Self {
        Self {
            entity: card.node.entity.to_string(),
            name: card.body.name.clone(),
            number: card.body.number.clone(),
            fingerprint: words::fingerprint(&card.node.entity),
            addresses: card.body.addresses.iter().map(|address| address.as_str().to_owned()).collect(),
            root_generation: card.node.root_generation,
            serial: card.node.serial,
            issued_at: time_text(card.body.issued_at),
        }
    }

    /// The card in words.
    pub fn text(&self) -> String {
        let addresses =
            if self.addresses.is_empty() { "none: it only dials out".into() } else { self.addresses.join("\n") };
        facts(&[
            ("name", safe(&self.name)),
            ("number", safe(&self.number)),
            ("fingerprint", self.fingerprint.clone()),
            ("entity", self.entity.clone()),
            ("addresses", addresses),
            ("issued", moment(&self.issued_at)),
        ])
    }
}

// ------------------------------------------------------------------------------------------------------- agreements

/// An agreement file as it is shown.
#[derive(Debug, Serialize)]
pub struct ShownAgreement {
    id: String,
    version: u32,
    /// `proposal` or `agreement`.
    kind: &'static str,
    proposer: Party,
    acceptor: Party,
    terms: Terms,
    /// What each clause makes a node do.
    review: Vec<String>,
    /// What an amendment changes, where the node that knows the agreement runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<String>>,
}

/// Reads and checks a proposal or agreement file.
///
/// # Errors
/// `damaged` for anything whose signatures do not hold.
pub fn read_agreement(path: &Path) -> Result<VerifiedFile, ServiceError> {
    let (label, bytes) = read_record(path, &[Label::Proposal, Label::Agreement])?;
    let file = AgreementFile::verify(&bytes).map_err(|e| record_error(path, &e))?;
    if file.record.is_complete() != (label == Label::Agreement) {
        let message = format!("{}: its first line does not fit its content", path.display());
        return Err(ServiceError::new(ErrorCode::Damaged, message, "ask for the file again"));
    }
    Ok(file)
}

impl ShownAgreement {
    /// What people and scripts see of `file`.
    pub fn of(file: &VerifiedFile) -> Self {
        let party = |party: &agreement::Party, signed| Party {
            entity: party.entity.to_string(),
            name: party.name.clone(),
            number: party.number.clone(),
            fingerprint: words::fingerprint(&party.entity),
            signed,
        };
        let complete = file.record.is_complete();
        let terms = shown_terms(&file.terms);
        Self {
            id: file.record.id.to_string(),
            version: file.terms.version,
            kind: if complete { "agreement" } else { "proposal" },
            proposer: party(&file.terms.proposer, file.record.has_signed(Side::Proposer)),
            acceptor: party(&file.terms.acceptor, file.record.has_signed(Side::Acceptor)),
            review: review::sentences(&terms),
            changes: None,
            terms,
        }
    }

    /// The agreement in words.
    pub fn text(&self) -> String {
        let what =
            if self.kind == "proposal" { "proposal, not yet countersigned" } else { "agreement, signed by both" };
        let what = if self.version > 1 { format!("amendment: {what}") } else { what.to_owned() };
        let text = agreement_text(&self.id, self.version, &self.proposer, &self.acceptor, &self.terms);
        let changes = self.changes.as_deref().map(changes_text).unwrap_or_default();
        format!("{what}\n{text}\n{}{changes}", review_text(&self.review))
    }

    /// The agreement's id and whether these are later terms than the first.
    pub fn amends(&self) -> Option<&str> {
        (self.version > 1).then_some(self.id.as_str())
    }

    /// The same with what it changes compared with the terms that count.
    pub fn compared_with(mut self, known: &Terms) -> Self {
        self.changes = Some(review::changes(known, &self.terms));
        self
    }
}

/// Terms as the API shows them.
pub fn shown_terms(terms: &agreement::AgreementTerms) -> Terms {
    let seconds = |seconds: u64| span(std::time::Duration::from_secs(seconds));
    Terms {
        purposes: terms.purposes.clone(),
        legal_basis: terms.legal_basis.clone(),
        valid_from: time_text(terms.valid_from),
        valid_until: time_text(terms.valid_until),
        accept_by: time_text(terms.accept_by),
        max_message_bytes: terms.message_bytes_max,
        hold_s: u64::from(terms.hold_seconds),
        retention: terms.retention_seconds.map(seconds).unwrap_or_default(),
        rate: terms.messages_per_hour.map(|count| format!("{count}/h")).unwrap_or_default(),
        controls: terms.controls.clone(),
        urgent_contact: terms.urgent_contact.clone(),
        relay: terms.relay,
    }
}

/// What the clauses make this node do, as a list.
pub fn review_text(review: &[String]) -> String {
    let lines: String = review.iter().map(|sentence| format!("\n  - {}", safe(sentence))).collect();
    format!("What this makes this node do:{lines}")
}

/// What an amendment changes, as a list.
pub fn changes_text(changes: &[String]) -> String {
    let lines: String = changes.iter().map(|change| format!("\n  - {}", safe(change))).collect();
    format!("\nWhat changes:{lines}")
}

/// Parties and terms in plain words.
pub fn agreement_text(id: &str, version: u32, proposer: &Party, accepter: &Party, terms: &Terms) -> String {
    let party = |party: &Party| {
        let signed = if party.signed { "signed" } else { "not yet signed" };
        format!("{}, {}, {signed}\nfingerprint: {}", safe(&party.name), safe(&party.number), party.fingerprint)
    };
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { safe(text) };
    let hold = span(std::time::Duration::from_secs(terms.hold_s));
    facts(&[
        ("id", format!("{id}, version {version}")),
        ("proposed by", party(proposer)),
        ("to", party(accepter)),
        ("purposes", or(&terms.purposes.join(", "), "any")),
        ("legal basis", or(&terms.legal_basis, "not stated")),
        ("valid", format!("{} to {}", moment(&terms.valid_from), moment(&terms.valid_until))),
        ("accept by", moment(&terms.accept_by)),
        ("largest message", size(terms.max_message_bytes)),
        ("undelivered", format!("held for {hold}, then reported to the sending group")),
        ("kept at least", or(&terms.retention, "not agreed")),
        ("at most", or(&terms.rate, "no limit")),
        ("controls", or(&terms.controls.join(", "), "none")),
        ("urgent contact", or(&terms.urgent_contact, "none")),
        ("relay", if terms.relay { "each node forwards connections for the other" } else { "no" }.to_owned()),
    ])
}

// --------------------------------------------------------------------------------------------------------- receipts

/// A verified receipt as it is shown.
#[derive(Debug, Serialize)]
pub struct ShownReceipt {
    valid: bool,
    verdict: String,
    tier: Option<u8>,
    envelope: String,
    message: String,
    from: ShownParty,
    to: ShownParty,
    at: String,
    offered_at: String,
    agreement: String,
    files: u64,
    bytes: u64,
}

/// An entity as records name it, with what its card adds.
#[derive(Debug, Serialize)]
pub(super) struct ShownParty {
    entity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    number: String,
}

impl ShownParty {
    /// The entity, with name and number if one of these cards is its own.
    pub(super) fn of(entity: &EntityId, cards: &[Card]) -> Self {
        let card = cards.iter().find(|card| card.node.entity == *entity);
        let text = |part: fn(&Card) -> &String| card.map(part).cloned().unwrap_or_default();
        Self { entity: entity.to_string(), name: text(|card| &card.body.name), number: text(|card| &card.body.number) }
    }

    /// Name and number in words.
    pub(super) fn text(&self) -> String {
        format!("{}, {}", safe(&self.name), safe(&self.number))
    }
}

/// Verifies a receipt with the two cards alone.
///
/// # Errors
/// `damaged` when it does not hold; the reason is in the message.
pub fn verify_receipt(path: &Path, cards: [&Path; 2]) -> Result<ShownReceipt, ServiceError> {
    let [first, second] = [read_card(cards[0])?, read_card(cards[1])?];
    let (_, bytes) = read_record(path, &[Label::Receipt])?;
    let receipt = receipt::verify_offline(&bytes, [&first, &second]).map_err(|e| record_error(path, &e))?;
    Ok(ShownReceipt::of(&receipt, &[first, second]))
}

impl ShownReceipt {
    fn of(receipt: &Receipt, cards: &[Card]) -> Self {
        let (verdict, tier) = (receipt.verdict.as_str(), receipt.verdict.tier().map(Tier::number));
        Self {
            valid: true,
            verdict: verdict.to_owned(),
            tier,
            envelope: receipt.envelope.to_string(),
            message: receipt.message.to_string(),
            from: ShownParty::of(&receipt.sender, cards),
            to: ShownParty::of(&receipt.recipient, cards),
            at: time_text(receipt.at),
            offered_at: time_text(receipt.offered_at),
            agreement: receipt.agreement.to_string(),
            files: receipt.counts.files,
            bytes: receipt.counts.plain_bytes,
        }
    }

    /// The receipt in words.
    pub fn text(&self) -> String {
        let verdict = match self.tier {
            Some(tier) => format!("{} (tier {tier})", self.verdict),
            None => self.verdict.clone(),
        };
        facts(&[
            ("receipt", "valid: signed by the receiver".into()),
            ("verdict", verdict),
            ("from", self.from.text()),
            ("to", self.to.text()),
            ("at", moment(&self.at)),
            ("envelope", self.envelope.clone()),
            ("message", self.message.clone()),
            ("content", format!("{}, {}", counted(self.files, "file"), size(self.bytes))),
            ("agreement", self.agreement.clone()),
        ])
    }
}
