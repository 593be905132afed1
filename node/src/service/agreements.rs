//! Making and showing agreements.
//!
//! **Invariant:** nothing is signed when a fingerprint was typed that is not the one of the file.

use std::time::Duration;

use pakt_keys::{EntityId, words};
use pakt_protocol::armour::{self, Label};
use pakt_protocol::record::agreement::{self, AgreementFile, AgreementTerms, Side};
use pakt_protocol::record::card::Card;
use pakt_protocol::time::Time;

use super::introductions::check_bundle;
use super::peers::not_in_force;
use super::{Answer, Node, ids, words as text};
use crate::ambient;
use crate::api::review;
use crate::api::terms::TermsInput;
use crate::api::types::*;
use crate::book::{self, Agreement, Amendment, Standing, TermsDraft, read_card};
use crate::exchange::NoContact;

/// How long `accept` waits for the proposer's node.
const CONTACT_WAIT: Duration = Duration::from_secs(10);
/// Proposals in one request.
const CARDS_MAX: usize = 256;

impl Node {
    /// This entity's card, armoured.
    ///
    /// # Errors
    /// None so far; the type is that of all calls.
    pub async fn card(&self) -> Answer<String> {
        Ok(self.card_text().clone())
    }

    /// All agreements and proposals, newest first.
    ///
    /// # Errors
    /// None so far; the type is that of all calls.
    pub async fn agreements(&self) -> Answer<Vec<AgreementSummary>> {
        let mut all = self.inner.book.all();
        all.sort_by_key(|agreement| std::cmp::Reverse(agreement.made_at));
        let mut summaries: Vec<_> = all.iter().map(|agreement| summary(agreement, ambient::now())).collect();
        self.decorate(&mut summaries)?;
        summaries.extend(self.received_summaries()?);
        Ok(summaries)
    }

    /// Proposes an agreement to the entity of each card; all cards and the terms are checked before any is signed.
    ///
    /// # Errors
    /// What is wrong with a card or the terms, `fingerprint_mismatch`, or `conflict` where an agreement exists.
    pub async fn propose(&self, request: ProposeRequest) -> Answer<Vec<Proposal>> {
        let now = ambient::now();
        let terms = terms_draft(request.terms_toml.as_deref(), now)?;
        let usage = |message: &str, hint: &str| Err(ServiceError::new(ErrorCode::Usage, message, hint));
        if request.cards.is_empty() || request.cards.len() > CARDS_MAX {
            return usage("a proposal needs at least one card, and at most 256", "name the counterpart's card");
        }
        if request.fingerprint.is_some() && request.cards.len() > 1 {
            return usage("a fingerprint goes with one card", "propose to one entity at a time");
        }
        let mut cards = Vec::with_capacity(request.cards.len());
        for card in &request.cards {
            let signed = read_card(card.as_bytes())?;
            let entity = Card::verify(&signed)?.node.entity;
            check_fingerprint(&entity, request.fingerprint.as_deref())?;
            cards.push(signed);
        }
        check_bundle(request.bundle.as_deref())?;
        let verified = request.fingerprint.is_some();
        let root = self.root(&request.signing).await?;
        let mut proposals = Vec::with_capacity(cards.len());
        for card in &cards {
            let (agreement, file) = self.inner.book.propose(card, terms.clone(), verified, &root).await?;
            self.inner.exchange.agreement_changed(&agreement.id).await;
            if let Some(name) = &request.bundle {
                self.inner.introductions.bundle(vec![agreement.id], name.clone()).await?;
            }
            let summary = AgreementSummary { bundle: request.bundle.clone(), ..summary(&agreement, now) };
            proposals.push(Proposal { summary, file });
        }
        Ok(proposals)
    }

    /// Countersigns a proposal and tries for a while to bring it to the proposer's node.
    ///
    /// # Errors
    /// What keeps it from being countersigned; that the proposer cannot be reached is none.
    pub async fn accept(&self, request: AcceptRequest) -> Answer<Accepted> {
        let own = self.inner.entity.id();
        let signer = |bytes: &[u8]| Ok(counterpart_of(&AgreementFile::verify(bytes)?.terms, &own, Side::Acceptor));
        let verified = checked_file(&request.file, request.fingerprint.as_deref(), signer)?;
        if let Some((id, hash)) = self.inner.book.take_offer_file(request.file.as_bytes()).await? {
            let agreement = self.inner.book.get(&id).ok_or(book::BookError::Unknown)?;
            if verified {
                self.inner.book.verified(&id).await?;
            }
            return self.countersign_amendment(&agreement, hash, &request.signing).await;
        }
        let root = self.root(&request.signing).await?;
        let (agreement, file) = self.inner.book.accept(request.file.as_bytes(), verified, &root).await?;
        let exchange = &self.inner.exchange;
        exchange.agreement_changed(&agreement.id).await;
        let confirmed = exchange.contact_confirmed(&agreement.id, CONTACT_WAIT).await;
        let note = accepted_note(confirmed.as_ref().err());
        let agreement = self.inner.book.get(&agreement.id).unwrap_or(agreement);
        Ok(Accepted { summary: summary(&agreement, ambient::now()), file, delivered: confirmed.is_ok(), note })
    }

    /// Takes in an agreement that both have signed.
    ///
    /// # Errors
    /// What is wrong with the file, or `fingerprint_mismatch`.
    pub async fn import(&self, request: ImportRequest) -> Answer<AgreementSummary> {
        let own = self.inner.entity.id();
        let counterpart = |bytes: &[u8]| Ok(counterpart_of(&AgreementFile::verify(bytes)?.terms, &own, Side::Proposer));
        let verified = checked_file(&request.file, request.fingerprint.as_deref(), counterpart)?;
        let agreement = self.inner.book.import(request.file.as_bytes(), verified).await?;
        self.inner.exchange.agreement_changed(&agreement.id).await;
        Ok(summary(&agreement, ambient::now()))
    }

    /// The armoured record of an agreement.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn export(&self, id: String) -> Answer<String> {
        let id = self.agreement_named(&id)?.id;
        Ok(self.inner.book.export_for_contact(&id)?)
    }

    /// An agreement with both parties and all its terms.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn agreement(&self, id: String) -> Answer<AgreementDetail> {
        let agreement = match self.agreement_named(&id) {
            Ok(agreement) => agreement,
            // Not an agreement of this node yet: perhaps it came through an introducer.
            Err(unknown) => return self.received_detail(&id).map_err(|_| unknown),
        };
        let AgreementTerms { proposer, acceptor, .. } = &agreement.terms;
        Ok(AgreementDetail {
            summary: summary(&agreement, ambient::now()),
            proposer: party(proposer, true),
            accepter: party(acceptor, agreement.record.is_complete()),
            review: review::sentences(&shown_terms(&agreement.terms)),
            terms: shown_terms(&agreement.terms),
        })
    }

    pub(super) fn agreement_named(&self, typed: &str) -> Answer<std::sync::Arc<Agreement>> {
        let all = self.inner.book.all();
        let candidates = all.iter().enumerate().map(|(at, agreement)| (agreement.id.to_string(), at));
        let at = ids::pick("agreement", typed, "pakt agreement list", candidates)?;
        Ok(all[at].clone())
    }
}

/// Whose fingerprint a file asks for; `otherwise` is this side in a file of others.
fn counterpart_of(terms: &AgreementTerms, own: &EntityId, otherwise: Side) -> EntityId {
    terms.party(terms.side_of(own).unwrap_or(otherwise).other()).entity
}

/// What became of a countersigned agreement, and what is left to do.
fn accepted_note(missed: Option<&NoContact>) -> String {
    const MAIL: &str = "mail the agreement to the proposer, who runs `pakt agreement import FILE`";
    match missed {
        None => "countersigned; the proposer's node has it".to_owned(),
        Some(NoContact::NoAddress) => {
            format!("countersigned, but the proposer's card names no address, so that nobody can dial it: {MAIL}")
        }
        Some(NoContact::Unreached(why)) => format!(
            "countersigned, but the proposer's node could not be reached: {why}. This node keeps trying; if nobody can \
             dial, {MAIL}"
        ),
    }
}

/// Whether a fingerprint was typed, which must then be that of the entity that `of` finds in the file.
fn checked_file(file: &str, typed: Option<&str>, of: impl FnOnce(&[u8]) -> Answer<EntityId>) -> Answer<bool> {
    let Some(typed) = typed else { return Ok(false) };
    let (label, bytes) = armour::decode_any(file.as_bytes())?;
    if !matches!(label, Label::Proposal | Label::Agreement) {
        let message = format!("this is a {}, not a proposal or agreement", label.as_str());
        return Err(ServiceError::new(ErrorCode::Usage, message, "name the right file"));
    }
    check_fingerprint(&of(&bytes)?, Some(typed))?;
    Ok(true)
}

pub(super) fn check_fingerprint(entity: &EntityId, typed: Option<&str>) -> Answer<()> {
    if typed.is_none_or(|typed| words::matches(entity, typed)) {
        return Ok(());
    }
    Err(ServiceError::new(
        ErrorCode::FingerprintMismatch,
        "the fingerprint is not the one of this file; nothing was signed",
        "read it to each other again; if it still differs, somebody has replaced the file",
    ))
}

pub(super) fn terms_draft(toml: Option<&str>, now: Time) -> Answer<TermsDraft> {
    let Some(toml) = toml else { return Ok(TermsDraft::standard(now)) };
    Ok(draft_of(TermsInput::parse(toml, now)?))
}

/// Terms as typed, as what is signed.
pub(super) fn draft_of(terms: TermsInput) -> TermsDraft {
    let hold_seconds = u32::try_from(terms.hold.as_secs()).unwrap_or(agreement::HOLD_SECONDS_MAX);
    TermsDraft {
        accept_by: terms.accept_by,
        purposes: terms.purposes,
        legal_basis: terms.legal_basis,
        valid_from: terms.valid_from,
        valid_until: terms.valid_until,
        message_bytes_max: terms.max_message_bytes,
        hold_seconds,
        retention_seconds: terms.retention.map(|retention| retention.as_secs()),
        messages_per_hour: terms.messages_per_hour,
        controls: terms.controls,
        urgent_contact: terms.urgent_contact,
        relay: terms.relay,
    }
}

/// An agreement in short, as of `now`.
pub(super) fn summary(agreement: &Agreement, now: Time) -> AgreementSummary {
    let other = agreement.counterpart();
    AgreementSummary {
        id: agreement.id.to_string(),
        version: agreement.terms.version,
        state: state_of(agreement, now),
        entity: other.entity.to_string(),
        name: other.name.clone(),
        number: other.number.clone(),
        purposes: agreement.terms.purposes.clone(),
        valid_from: time_text(agreement.terms.valid_from),
        valid_until: time_text(agreement.terms.valid_until),
        fingerprint: words::fingerprint(&other.entity),
        verified: agreement.verified,
        reason: not_in_force(agreement, now),
        suspended_by: suspended_by(agreement),
        ends_in_days: ends_in_days(agreement, now),
        known: agreement.version_known && agreement.standing == Standing::Active,
        forked: agreement.forked,
        amendments: amendments(agreement),
        bundle: None,
    }
}

fn suspended_by(agreement: &Agreement) -> Option<SuspendedBy> {
    match (agreement.suspended_here(), agreement.suspended_there()) {
        (Some(_), Some(_)) => Some(SuspendedBy::Both),
        (Some(_), None) => Some(SuspendedBy::Us),
        (None, Some(_)) => Some(SuspendedBy::Them),
        (None, None) => None,
    }
}

fn ends_in_days(agreement: &Agreement, now: Time) -> Option<i64> {
    let days = |span: Duration| i64::try_from(span.as_secs() / 86_400).unwrap_or(i64::MAX);
    let until = agreement.terms.valid_until;
    (agreement.standing == Standing::Active).then(|| match until > now {
        true => days(until.since(now)),
        false => -days(now.since(until)),
    })
}

/// What either side offers, in the words of the API.
fn amendments(agreement: &Agreement) -> Vec<OfferedAmendment> {
    let before = shown_terms(&agreement.terms);
    let shown = |amendment: &Amendment, ours: bool| {
        let terms = shown_terms(&amendment.terms);
        OfferedAmendment {
            version: amendment.terms.version,
            hash: hex::encode(amendment.hash()),
            ours,
            accept_by: time_text(amendment.terms.accept_by),
            known: !ours || agreement.offer_known,
            changes: review::changes(&before, &terms),
            terms,
        }
    };
    let ours = agreement.offered.iter().map(|amendment| shown(amendment, true));
    let theirs = agreement.received.iter().map(|amendment| shown(amendment, false));
    ours.chain(theirs).collect()
}

/// Where an agreement is in its life, in the API's words.
pub(super) fn state_of(agreement: &Agreement, now: Time) -> AgreementState {
    match agreement.state_for_people(now) {
        book::AgreementState::Proposed => AgreementState::Proposed,
        book::AgreementState::Active => AgreementState::Active,
        book::AgreementState::Suspended => AgreementState::Suspended,
        book::AgreementState::Unconfirmed => AgreementState::Unconfirmed,
        book::AgreementState::Ended => AgreementState::Ended,
        book::AgreementState::Expired => AgreementState::Expired,
    }
}

pub(super) fn party(party: &agreement::Party, signed: bool) -> Party {
    Party {
        entity: party.entity.to_string(),
        name: party.name.clone(),
        number: party.number.clone(),
        fingerprint: words::fingerprint(&party.entity),
        signed,
    }
}

pub(super) fn shown_terms(terms: &AgreementTerms) -> Terms {
    let retention = terms.retention_seconds.map(|seconds| text::span(Duration::from_secs(seconds)));
    Terms {
        purposes: terms.purposes.clone(),
        legal_basis: terms.legal_basis.clone(),
        valid_from: time_text(terms.valid_from),
        valid_until: time_text(terms.valid_until),
        accept_by: time_text(terms.accept_by),
        max_message_bytes: terms.message_bytes_max,
        hold_s: u64::from(terms.hold_seconds),
        retention: retention.unwrap_or_default(),
        rate: terms.messages_per_hour.map(|count| format!("{count}/h")).unwrap_or_default(),
        controls: terms.controls.clone(),
        urgent_contact: terms.urgent_contact.clone(),
        relay: terms.relay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_790_000_000_000_000);

    #[test]
    fn terms_without_a_start_reach_back_and_a_written_start_stays() {
        let back = NOW - Duration::from_secs(30 * 86_400);
        let check = |toml: Option<&str>, from: Time| {
            let draft = terms_draft(toml, NOW).unwrap();
            assert_eq!(draft.valid_from, from, "{toml:?}");
        };
        check(None, back);
        check(Some(""), back);
        check(Some("valid_from = \"0s\""), NOW);
        check(Some("valid_from = 2026-09-01"), Time::from_seconds(1_788_220_800));
        check(Some("valid_from = \"1d\""), NOW + Duration::from_secs(86_400));
    }

    #[test]
    fn terms_become_what_is_signed() {
        let toml =
            "hold = \"1m\"\nmax_message = \"1MB\"\nretention = \"10d\"\nrate = \"5/h\"\npurposes = [\"b\", \"a\"]";
        let draft = terms_draft(Some(toml), NOW).unwrap();
        assert_eq!((draft.hold_seconds, draft.message_bytes_max), (60, 1_000_000));
        assert_eq!((draft.retention_seconds, draft.messages_per_hour), (Some(864_000), Some(5)));
        assert_eq!(draft.purposes, ["a", "b"]);
        assert_eq!(terms_draft(Some("hold = \"99h\""), NOW).unwrap_err().code, ErrorCode::Usage);
    }

    #[test]
    fn accepting_says_when_the_file_must_be_mailed() {
        let check = |missed: Option<NoContact>, says: &str, mail: bool| {
            let note = accepted_note(missed.as_ref());
            assert!(note.starts_with("countersigned") && note.contains(says), "{note}");
            assert_eq!(note.contains("agreement import"), mail, "{note}");
        };
        check(None, "has it", false);
        check(Some(NoContact::NoAddress), "no address", true);
        check(Some(NoContact::Unreached("it timed out".into())), "it timed out. This node keeps trying", true);
    }

    #[test]
    fn a_foreign_fingerprint_signs_nothing() {
        let (entity, other) = (EntityId([1; 32]), EntityId([2; 32]));
        assert!(check_fingerprint(&entity, None).is_ok());
        assert!(check_fingerprint(&entity, Some(&words::fingerprint(&entity).to_uppercase())).is_ok());
        let error = check_fingerprint(&entity, Some(&words::fingerprint(&other))).unwrap_err();
        assert_eq!(error.code, ErrorCode::FingerprintMismatch);
    }
}
