//! Introductions: cards and proposals through a steward or a common partner, and what came that way.
//!
//! **Invariant:** nothing that came through an introducer is dialled before the operator has accepted it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pakt_keys::signing::RootKey;
use pakt_keys::{EntityId, words};
use pakt_protocol::armour::{self, Label};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::agreement::{AgreementFile, VerifiedFile};
use pakt_protocol::record::card::{Card, SignedCard, card_bytes};

use super::agreements::{check_fingerprint, party, shown_terms, terms_draft};
use super::{Answer, Node, ids};
use crate::ambient;
use crate::api::review;
use crate::api::types::*;
use crate::book::{Agreement, Standing, TermsDraft, read_card};
use crate::introductions::{Decision, IntroductionError};

/// Cards in one request: a whole network.
const CARDS_MAX: usize = 1_024;
/// How long a request may wait for a card.
const WAIT_MAX: Duration = Duration::from_secs(300);

impl Node {
    /// The card of an entity: from the introducer's directory, or asked for through it.
    ///
    /// # Errors
    /// `not_found`, `no_agreement`, `refused` when the introducer passes nothing on, `timed_out` when no answer came yet.
    pub async fn introduce_card(&self, request: CardRequest) -> Answer<CardAnswer> {
        let via = self.counterpart_in_force(&request.via)?;
        let listed = self.read_directory(&via).await;
        let typed = request.to.parse::<EntityId>();
        let fits = |card: &Card| match &typed {
            Ok(entity) => card.node.entity == *entity,
            Err(_) => card.body.number == request.to || card.body.name == request.to,
        };
        let mut cards = listed.iter().flat_map(|read| &read.listed).filter(|listed| fits(&listed.card));
        match (cards.next(), cards.next()) {
            (Some(listed), None) => return Ok(card_answer(&listed.card, &listed.entry.card)),
            (Some(_), Some(_)) => {
                let message = format!("{} fits more than one entity of the directory", request.to);
                return Err(ServiceError::new(ErrorCode::Usage, message, "give its number or entity id"));
            }
            (None, _) => {}
        }
        let Ok(to) = typed else {
            let message = format!("{} is in no directory that {} shows", request.to, via.counterpart().name);
            return Err(ServiceError::new(ErrorCode::NotFound, message, "ask for the entity id, and give that"));
        };
        if to == self.inner.entity.id() {
            return Err(ServiceError::new(ErrorCode::Usage, "this is this entity itself", "name another one"));
        }
        self.inner.introductions.ask_card(&via, to, ambient::now()).await?;
        self.inner.exchange.introductions_wait(&via.id).await;
        self.wait_for_card(to, Duration::from_secs(request.wait_s).min(WAIT_MAX)).await
    }

    async fn wait_for_card(&self, to: EntityId, wait: Duration) -> Answer<CardAnswer> {
        let end = tokio::time::Instant::now() + wait;
        let mut changes = self.changes();
        loop {
            let row = self.inner.introductions.asked(&to)?;
            if row.as_ref().is_some_and(|row| row.not_passed_on) {
                let message = "the introducer introduces nobody";
                return Err(ServiceError::new(ErrorCode::Refused, message, "ask another common partner"));
            }
            if let Some(signed) = row.and_then(|row| row.card)
                && let Ok(card) = Card::verify(&signed)
            {
                return Ok(card_answer(&card, &signed));
            }
            if tokio::time::Instant::now() >= end {
                let message = "the card has been asked for, no answer came yet";
                let hint = "run the same command again later: either the entity or its operator has not answered, or the \
                            introducer does not know it";
                return Err(ServiceError::new(ErrorCode::TimedOut, message, hint));
            }
            let _ = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
        }
    }

    /// Proposes an agreement to the entity of each card through an introducer. All cards and the terms are checked before
    /// any is signed; an entity with an agreement is left out, an open proposal is sent again.
    ///
    /// # Errors
    /// What is wrong with a card or the terms, `fingerprint_mismatch`, or what keeps the introducer from being used.
    pub async fn introduce(&self, request: IntroduceRequest) -> Answer<Vec<IntroducedProposal>> {
        let via = self.counterpart_in_force(&request.via)?;
        let usage = |message: &str, hint: &str| Err(ServiceError::new(ErrorCode::Usage, message, hint));
        if request.cards.is_empty() || request.cards.len() > CARDS_MAX {
            return usage("at least one card is needed, and at most 1,024", "name whom to propose to");
        }
        if request.fingerprint.is_some() && request.cards.len() > 1 {
            return usage("a fingerprint goes with one card", "propose to one entity at a time");
        }
        check_bundle(request.bundle.as_deref())?;
        let terms = terms_draft(request.terms_toml.as_deref(), ambient::now())?;
        let mut cards = Vec::with_capacity(request.cards.len());
        for card in &request.cards {
            let signed = read_card(card.as_bytes())?;
            let card = Card::verify(&signed)?;
            check_fingerprint(&card.node.entity, request.fingerprint.as_deref())?;
            cards.push((card, signed));
        }
        let root = self.root(&request.signing).await?;
        let verified = request.fingerprint.is_some();
        let mut done = Vec::with_capacity(cards.len());
        for (card, signed) in cards {
            let proposed = self.introduce_one(&via, (&card, &signed), (&terms, verified), &root).await;
            let (outcome, agreement, note) = match proposed {
                Ok((outcome, agreement)) => (outcome, Some(agreement), String::new()),
                Err(error) => (IntroducedOutcome::Failed, None, error.message),
            };
            if let (Some(name), Some(id)) = (&request.bundle, &agreement) {
                self.inner.introductions.bundle(vec![*id], name.clone()).await?;
            }
            let agreement = agreement.map(|id| id.to_string());
            let (entity, name, number) = (card.node.entity.to_string(), card.body.name, card.body.number);
            done.push(IntroducedProposal { entity, name, number, outcome, agreement, note });
        }
        self.inner.exchange.introductions_wait(&via.id).await;
        Ok(done)
    }

    async fn introduce_one(
        &self,
        via: &Agreement,
        (card, signed): (&Card, &SignedCard),
        (terms, verified): (&TermsDraft, bool),
        root: &RootKey,
    ) -> Answer<(IntroducedOutcome, AgreementId)> {
        let now = ambient::now();
        let known = self.inner.book.all().into_iter().filter(|known| known.counterpart().entity == card.node.entity);
        let known: Vec<Arc<Agreement>> = known.collect();
        if let Some(active) = known.iter().find(|known| known.in_force(now)) {
            return Ok((IntroducedOutcome::AgreedAlready, active.id));
        }
        let is_open = |known: &&Arc<Agreement>| known.standing == Standing::Proposed && known.door_open(now);
        if let Some(open) = known.iter().find(is_open).filter(|open| open.counterpart_card() == signed) {
            self.inner.introductions.send_proposal(via, open).await?;
            return Ok((IntroducedOutcome::SentAgain, open.id));
        }
        let (proposal, _) = self.inner.book.propose(signed, terms.clone(), verified, root).await?;
        self.inner.exchange.agreement_changed(&proposal.id).await;
        self.inner.introductions.send_proposal(via, &proposal).await?;
        Ok((IntroducedOutcome::Proposed, proposal.id))
    }

    /// What came through introducers and what this entity has asked for, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn introductions(&self) -> Answer<Vec<Introduction>> {
        let introductions = &self.inner.introductions;
        let mut all = Vec::new();
        for (entity, row) in introductions.all_requests()? {
            let state = match row.decision {
                Decision::Waiting => "waiting",
                Decision::Accepted => "given",
                Decision::Declined => "declined",
            };
            let card = Card::verify(&row.card).ok();
            all.push((row.at, self.shown(IntroductionDirection::In, entity, card.as_ref(), &row.via, state)));
        }
        for (entity, row) in introductions.all_asked()? {
            let card = row.card.as_ref().and_then(|card| Card::verify(card).ok());
            let state = match (&card, row.not_passed_on) {
                (Some(_), _) => "arrived",
                (None, true) => "not_passed_on",
                (None, false) => "waiting",
            };
            all.push((row.asked_at, self.shown(IntroductionDirection::Out, entity, card.as_ref(), &row.via, state)));
        }
        for (id, row) in introductions.all_received()? {
            let Ok(file) = AgreementFile::verify(&row.file) else { continue };
            let state = match row.decision {
                Decision::Waiting => "waiting",
                Decision::Accepted => "accepted",
                Decision::Declined => "declined",
            };
            let entity = file.proposer.node.entity;
            let shown = self.shown(IntroductionDirection::In, entity, Some(&file.proposer), &row.via, state);
            all.push((row.at, Introduction { id: id.to_string(), kind: IntroductionKind::Proposal, ..shown }));
        }
        for (id, row) in introductions.offered()? {
            let (Some(via), Some(proposal)) = (row.via, self.inner.book.get(&id)) else { continue };
            let state = match (proposal.standing, row.declined_at, row.not_passed_on) {
                (Standing::Proposed, Some(_), _) => "declined",
                (Standing::Proposed, None, true) => "not_passed_on",
                (Standing::Proposed, None, false) => "waiting",
                _ => "accepted",
            };
            let card = Card::verify(proposal.counterpart_card()).ok();
            let entity = proposal.counterpart().entity;
            let shown = self.shown(IntroductionDirection::Out, entity, card.as_ref(), &via, state);
            all.push((
                proposal.made_at,
                Introduction { id: id.to_string(), kind: IntroductionKind::Proposal, ..shown },
            ));
        }
        all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Ok(all.into_iter().map(|(at, shown)| Introduction { at: time_text(at), ..shown }).collect())
    }

    /// An introduction about a card; a proposal differs in id and kind.
    fn shown(
        &self,
        direction: IntroductionDirection,
        entity: EntityId,
        card: Option<&Card>,
        via: &AgreementId,
        state: &str,
    ) -> Introduction {
        let via = self.inner.book.get(via).map(|via| via.counterpart().name.clone());
        Introduction {
            id: entity.to_string(),
            direction,
            kind: IntroductionKind::Card,
            entity: entity.to_string(),
            name: card.map(|card| card.body.name.clone()),
            number: card.map(|card| card.body.number.clone()),
            fingerprint: words::fingerprint(&entity),
            via: via.unwrap_or_default(),
            at: String::new(),
            state: state.to_owned(),
        }
    }

    /// Countersigns a proposal that came through an introducer; if the proposer cannot be dialled, the countersigned file
    /// goes back the same way.
    ///
    /// # Errors
    /// `not_found`, `conflict` when it was decided before, and those of [`Node::accept`].
    pub async fn accept_received(&self, id: String, request: AcceptReceived) -> Answer<Accepted> {
        let (id, bytes, decision) = self.received_named(&id)?;
        if decision == Decision::Declined {
            return Err(IntroductionError::Decided.into());
        }
        let file = armour::encode(Label::Proposal, &bytes);
        let AcceptReceived { fingerprint, signing } = request;
        let mut accepted = self.accept(AcceptRequest { file, fingerprint, signing }).await?;
        self.inner.introductions.accepted(id).await?;
        let agreement = self.inner.book.get(&id).filter(|_| !accepted.delivered);
        if let Some(agreement) = agreement {
            match self.inner.introductions.send_agreement(&agreement).await {
                Ok(via) => {
                    self.inner.exchange.introductions_wait(&via).await;
                    accepted.note =
                        "countersigned; the proposer's node could not be reached directly, so the agreement goes \
                                     back through the introducer, sealed"
                            .to_owned();
                }
                Err(error) => tracing::info!(agreement = %id, %error, "not sent back through the introducer"),
            }
        }
        Ok(accepted)
    }

    /// Declines a proposal, or a request for the card, that came through an introducer.
    ///
    /// # Errors
    /// `not_found`, or `conflict` when it was decided before.
    pub async fn decline_received(&self, id: String) -> Answer<Vec<Introduction>> {
        let via = match id.parse::<EntityId>() {
            Ok(entity) => self.inner.introductions.answer_request(entity, false).await?,
            Err(_) => self.inner.introductions.decline(self.received_named(&id)?.0).await?,
        };
        self.inner.exchange.introductions_wait(&via).await;
        self.introductions().await
    }

    /// Gives this entity's card to one that asked for it.
    ///
    /// # Errors
    /// `not_found`, or `conflict` when it was decided before.
    pub async fn give_card(&self, id: String) -> Answer<Vec<Introduction>> {
        let entity = id.parse::<EntityId>().map_err(|_| ServiceError::from(IntroductionError::Unknown))?;
        let via = self.inner.introductions.answer_request(entity, true).await?;
        self.inner.exchange.introductions_wait(&via).await;
        self.introductions().await
    }

    /// Proposals that wait for the operator's decision, in short.
    pub(super) fn received_summaries(&self) -> Answer<Vec<AgreementSummary>> {
        let waiting =
            self.inner.introductions.all_received()?.into_iter().filter(|(_, row)| row.decision == Decision::Waiting);
        let files = waiting.filter_map(|(_, row)| AgreementFile::verify(&row.file).ok());
        Ok(files.map(|file| received_summary(&file)).collect())
    }

    /// A received proposal with all its terms.
    pub(super) fn received_detail(&self, typed: &str) -> Answer<AgreementDetail> {
        let (_, bytes, _) = self.received_named(typed)?;
        let file = AgreementFile::verify(&bytes)?;
        Ok(AgreementDetail {
            summary: received_summary(&file),
            proposer: party(&file.terms.proposer, true),
            accepter: party(&file.terms.acceptor, false),
            review: review::sentences(&shown_terms(&file.terms)),
            terms: shown_terms(&file.terms),
        })
    }

    fn received_named(&self, typed: &str) -> Answer<(AgreementId, Vec<u8>, Decision)> {
        let all = self.inner.introductions.all_received()?;
        let candidates = all.iter().enumerate().map(|(at, (id, _))| (id.to_string(), at));
        let at = ids::pick("received proposal", typed, "pakt introduce list", candidates)?;
        let (id, row) = &all[at];
        Ok((*id, row.file.clone(), row.decision))
    }

    /// How far the proposals of one bundle are, by name.
    ///
    /// # Errors
    /// `not_found` when there is none of this name.
    pub async fn bundle(&self, name: String) -> Answer<Bundle> {
        let now = ambient::now();
        let mut bundle = Bundle { name: name.clone(), ..Bundle::default() };
        for (id, row) in self.inner.introductions.offered()? {
            let Some(agreement) = self.inner.book.get(&id).filter(|_| row.bundle.as_ref() == Some(&name)) else {
                continue;
            };
            let mut summary = super::agreements::summary(&agreement, now);
            summary.bundle = Some(name.clone());
            if row.declined_at.is_some() && summary.state == AgreementState::Proposed {
                summary.state = AgreementState::Declined;
            }
            let peer = self.inner.exchange.peer(&id);
            let note = match summary.state {
                AgreementState::Active if peer.online => String::new(),
                AgreementState::Active => peer.reason.unwrap_or_default(),
                AgreementState::Proposed if row.not_passed_on => "the introducer introduces nobody".to_owned(),
                _ => String::new(),
            };
            bundle.add(BundleMember { summary, online: peer.online, note });
        }
        if bundle.total == 0 {
            let message = format!("there is no bundle named {name}");
            return Err(ServiceError::new(ErrorCode::NotFound, message, "see `pakt agreement list`"));
        }
        bundle.agreements.sort_by(|a, b| a.summary.name.cmp(&b.summary.name));
        Ok(bundle)
    }

    /// Adds to agreements in short what is known beside them: bundle, declined.
    pub(super) fn decorate(&self, summaries: &mut [AgreementSummary]) -> Answer<()> {
        let offered = self.inner.introductions.offered()?;
        let by_id: HashMap<String, _> = offered.into_iter().map(|(id, row)| (id.to_string(), row)).collect();
        for summary in summaries {
            let Some(row) = by_id.get(&summary.id) else { continue };
            summary.bundle.clone_from(&row.bundle);
            if row.declined_at.is_some() && summary.state == AgreementState::Proposed {
                summary.state = AgreementState::Declined;
            }
        }
        Ok(())
    }
}

/// Whether `name` can be a bundle's name.
pub(super) fn check_bundle(name: Option<&str>) -> Answer<()> {
    let fits = |name: &str| !name.is_empty() && name.len() <= 100 && name.trim() == name;
    if name.is_none_or(|name| fits(name) && !name.chars().any(char::is_control)) {
        return Ok(());
    }
    let message = "a bundle's name has 1 to 100 bytes and no control characters or outer blanks";
    Err(ServiceError::new(ErrorCode::Usage, message, "choose another name"))
}

fn received_summary(file: &VerifiedFile) -> AgreementSummary {
    let (terms, proposer) = (&file.terms, &file.terms.proposer);
    AgreementSummary {
        id: file.record.id.to_string(),
        version: terms.version,
        state: AgreementState::Received,
        entity: proposer.entity.to_string(),
        name: proposer.name.clone(),
        number: proposer.number.clone(),
        purposes: terms.purposes.clone(),
        valid_from: time_text(terms.valid_from),
        valid_until: time_text(terms.valid_until),
        fingerprint: words::fingerprint(&proposer.entity),
        verified: false,
        bundle: None,
        suspended_by: None,
        reason: Some("it waits for this side: accept or decline it".to_owned()),
        ends_in_days: None,
        known: false,
        forked: false,
        amendments: vec![],
    }
}

fn card_answer(card: &Card, signed: &SignedCard) -> CardAnswer {
    CardAnswer {
        entity: card.node.entity.to_string(),
        name: card.body.name.clone(),
        number: card.body.number.clone(),
        fingerprint: words::fingerprint(&card.node.entity),
        card: armour::encode(Label::Card, &card_bytes(signed)),
    }
}
