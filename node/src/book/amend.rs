//! Amendments: later versions of the terms, offered by either side, countersigned by the other.
//!
//! ```text
//! A: amend --offer, by wire or file--> B: received --accept--> complete at B --by wire or file--> complete at A
//! ```
//! Which version counts, [`pakt_protocol::agreement`] decides.
//!
//! **Invariant:** what this entity's root has signed is durable before it leaves.

use std::sync::Arc;

use pakt_keys::signing::RootKey;
use pakt_protocol::agreement::AmendmentAnswer;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::audit::AgreementStep;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::agreement::{AgreementFile, AgreementRecord, AgreementTerms, Side, VerifiedFile};
use pakt_protocol::record::chain::CertificateChain;

use super::draft::TermsDraft;
use super::peer::{check_chain, not_replaced};
use super::rows::AgreementRow;
use super::sign::{keep_change, read_file};
use super::{Agreement, Amendment, Book, BookError, HelloProblem, Outcome};
use crate::ambient;
use crate::entity::Entity;
use crate::store::tables::AGREEMENTS;

/// How a later version came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// From the counterpart's node, which proved its newest keys: it stands by what an earlier root of it signed.
    ByLane,
    /// From anybody.
    ByFile,
}

impl Book {
    /// Offers an amendment and gives its armoured file. An earlier open offer is replaced.
    ///
    /// # Errors
    /// [`BookError::NotActive`], [`BookError::NothingChanged`], what is wrong with the terms, or when the store fails.
    pub async fn amend(
        &self,
        id: &AgreementId,
        draft: TermsDraft,
        root: &RootKey,
    ) -> Result<(Arc<Agreement>, String), BookError> {
        let agreement = self.active(id)?;
        let row = self.inner.store.read(|tx| tx.get(&AGREEMENTS, id))?.ok_or(BookError::Unknown)?;
        let before = agreement.terms.clone();
        let number = row.life.next_version()?.ok_or(BookError::NotActive)?;
        let terms = draft.after(&before, number, agreement.record.hash(), id);
        let unchanged = AgreementTerms {
            version: before.version,
            previous: before.previous,
            nonce: before.nonce,
            accept_by: before.accept_by,
            ..terms.clone()
        };
        if unchanged == before {
            return Err(BookError::NothingChanged);
        }
        let record = AgreementRecord::offer(&terms, agreement.side, root)?;
        let file = self.file_of(record, &row)?;
        AgreementFile::verify(&file.to_bytes())?;
        let seen = (row.life.signed, row.life.file.record.hash());
        let text = armour::encode(Label::Proposal, &file.to_bytes());
        self.change(*id, move |tx, row| {
            let change = row.life.offer(file, number, seen)?;
            keep_change(tx, row, change)
        })
        .await?;
        Ok((self.get(id).ok_or(BookError::Unknown)?, text))
    }

    /// Countersigns the amendment that the counterpart offers, and gives the armoured agreement. `reviewed` is the hash of
    /// the terms that people have looked at: another offer that came meanwhile is not signed.
    ///
    /// # Errors
    /// [`BookError::NothingOffered`], [`BookError::ChangedMeanwhile`], [`BookError::AcceptByPassed`], [`BookError::SignedOther`],
    /// [`BookError::OtherBase`], or when the store fails.
    pub async fn accept_amendment(
        &self,
        id: &AgreementId,
        reviewed: Option<[u8; 32]>,
        root: &RootKey,
    ) -> Result<(Arc<Agreement>, String), BookError> {
        let now = ambient::now();
        let agreement = self.active(id)?;
        let Amendment { file, terms } = agreement.received.clone().ok_or(BookError::NothingOffered)?;
        if reviewed.is_some_and(|reviewed| reviewed != file.record.hash()) {
            return Err(BookError::ChangedMeanwhile);
        }
        let row = self.inner.store.read(|tx| tx.get(&AGREEMENTS, id))?.ok_or(BookError::Unknown)?;
        row.life.may_sign(&terms, file.record.hash(), now)?;
        signed_by_present_root(&row, &AgreementFile::verify(&file.to_bytes())?)?;
        let card = match agreement.side {
            Side::Proposer => file.acceptor.clone(),
            Side::Acceptor => file.proposer.clone(),
        };
        let complete = self.file_with(file.record.countersign(root), &row, card)?;
        AgreementFile::verify(&complete.to_bytes())?;
        self.change(*id, move |tx, row| {
            let checked = AgreementFile::verify(&complete.to_bytes())?;
            signed_by_present_root(row, &checked)?;
            let newer = newer_chain(row, &checked)?;
            let change = row.life.accept(complete, newer, now)?;
            keep_change(tx, row, change)
        })
        .await?;
        Ok((self.get(id).ok_or(BookError::Unknown)?, self.export(id)?))
    }

    /// Takes the counterpart's offer of an amendment from an armoured file; gives the agreement and the terms' hash, or none if the file holds
    /// no amendment but a first proposal or a complete agreement.
    ///
    /// # Errors
    /// [`BookError::Unknown`] without the agreement that it amends, or why it cannot be accepted.
    pub async fn take_offer_file(&self, proposal: &[u8]) -> Result<Option<(AgreementId, [u8; 32])>, BookError> {
        let (label, bytes) = armour::decode_any(proposal)?;
        if label != Label::Proposal {
            return Ok(None);
        }
        let (file, checked) = read_file(&bytes)?;
        if checked.terms.version == 1 || file.record.is_complete() {
            return Ok(None);
        }
        let (id, hash) = (file.record.id, file.record.hash());
        let known = self.active(&id)?;
        if file.record.has_signed(known.side) {
            return Err(BookError::OwnProposal);
        }
        self.take_later(file, checked.clone(), Came::ByFile).await?;
        let kept = self.get(&id).and_then(|agreement| agreement.received.clone());
        match kept {
            Some(kept) if kept.hash() == hash => Ok(Some((id, hash))),
            _ if checked.terms.version <= known.terms.version => Err(BookError::Older),
            _ if ambient::now() > checked.terms.accept_by => Err(BookError::AcceptByPassed),
            _ if known.peer.has_withdrawn(&hash) => Err(BookError::Withdrawn),
            _ => Err(BookError::OtherBase),
        }
    }

    /// Takes a later version that came over a lane: complete, or an offer.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take_amendment(&self, id: &AgreementId, file: &[u8]) -> Result<AmendmentAnswer, &'static str> {
        let taken = match read_file(file) {
            Ok((file, checked)) if file.record.id == *id => self.take_later(file, checked, Came::ByLane).await,
            Ok(_) => Err(BookError::NotForUs),
            Err(error) => Err(error),
        };
        taken.map_err(|error| {
            tracing::warn!(agreement = %id, %error, "an amendment of the counterpart was refused");
            match error {
                BookError::Store(_) => "it could not be stored",
                _ => "this is not a valid amendment of this agreement",
            }
        })
    }

    /// Takes a later version of a known agreement from a checked file.
    pub(super) async fn take_later(
        &self,
        file: AgreementFile,
        checked: VerifiedFile,
        came: Came,
    ) -> Result<AmendmentAnswer, BookError> {
        let (entity, now) = (self.inner.entity.clone(), ambient::now());
        self.change(file.record.id, move |tx, row| {
            check_parties(row, &checked, &entity)?;
            row.life.may_amend()?;
            match (file.record.is_complete(), came, signed_by_present_root(row, &checked)) {
                (_, Came::ByFile, Err(replaced)) => return Err(replaced),
                // It is shown at every session until it is withdrawn.
                (false, Came::ByLane, Err(_)) => return Ok(Outcome::Same(AmendmentAnswer::Nothing)),
                (true, ..) | (false, _, Ok(())) => {}
            }
            let newer = newer_chain(row, &checked)?;
            let change = row.life.take_later(file, newer, now)?;
            if change.notes.iter().any(|note| matches!(note.step, AgreementStep::Amended | AgreementStep::Renewed)) {
                tracing::info!(agreement = %row.life.id(), version = checked.terms.version, "the agreement was amended");
            }
            keep_change(tx, row, change)
        })
        .await
    }

    /// The counterpart has said that it holds these terms: those that count, or an offer.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn amendment_known(&self, id: &AgreementId, hash: [u8; 32]) -> Result<(), BookError> {
        self.change(*id, move |_, row| {
            Ok(if row.life.terms_known(hash) { Outcome::Changed(()) } else { Outcome::Same(()) })
        })
        .await
    }

    /// The file (codec bytes) of the terms that count, to be shown to the counterpart.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub fn current_file(&self, id: &AgreementId) -> Result<Vec<u8>, BookError> {
        let row = self.inner.store.read(|tx| tx.get(&AGREEMENTS, id))?.ok_or(BookError::Unknown)?;
        Ok(row.life.file.to_bytes())
    }

    /// A file with this side's current card and the counterpart's card that is known.
    pub(super) fn file_of(&self, record: AgreementRecord, row: &AgreementRow) -> Result<AgreementFile, BookError> {
        let card = match row.life.side {
            Side::Proposer => row.life.file.acceptor.clone(),
            Side::Acceptor => row.life.file.proposer.clone(),
        };
        self.file_with(record, row, card)
    }

    fn file_with(
        &self,
        record: AgreementRecord,
        row: &AgreementRow,
        other: pakt_protocol::record::card::SignedCard,
    ) -> Result<AgreementFile, BookError> {
        let own = self.own_card()?;
        let (proposer, acceptor) = match row.life.side {
            Side::Proposer => (own, other),
            Side::Acceptor => (other, own),
        };
        let grants = row.life.file.grants.clone();
        let file = AgreementFile { record, proposer, acceptor, grants };
        // Grants of certificates that were replaced since stay behind: the file would not hold with them.
        let keep = |grants: Vec<_>| AgreementFile { grants, ..file.clone() };
        let (whole, none) = (keep(file.grants.clone()), keep(vec![]));
        Ok(if AgreementFile::verify(&whole.to_bytes()).is_ok() { whole } else { none })
    }
}

fn counterpart_chain(side: Side, checked: &VerifiedFile) -> &CertificateChain {
    match side {
        Side::Proposer => &checked.acceptor.body.chain,
        Side::Acceptor => &checked.proposer.body.chain,
    }
}

/// Checks that the cards of a file are of the two entities whose roots are pinned, whatever their certificates.
fn check_parties(row: &AgreementRow, checked: &VerifiedFile, entity: &Entity) -> Result<(), BookError> {
    let own = match row.life.side {
        Side::Proposer => &checked.proposer,
        Side::Acceptor => &checked.acceptor,
    };
    check_chain(&own.body.chain, &own.node, &entity.chain())?;
    let known = row.life.chain.verify().map_err(HelloProblem::from)?;
    match check_chain(&row.life.chain, &known, counterpart_chain(row.life.side, checked)) {
        // What was signed under an earlier certificate still holds.
        Ok(_) | Err(HelloProblem::Superseded) => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

/// Refuses what a root of the counterpart signed that was replaced since.
fn signed_by_present_root(row: &AgreementRow, checked: &VerifiedFile) -> Result<(), BookError> {
    let known = row.life.chain.verify().map_err(HelloProblem::from)?;
    Ok(not_replaced(&row.life.chain, &known, counterpart_chain(row.life.side, checked))?)
}

/// The counterpart's certificates in a file, if they are newer than those that are known.
fn newer_chain<'a>(row: &AgreementRow, checked: &'a VerifiedFile) -> Result<Option<&'a CertificateChain>, BookError> {
    let known = row.life.chain.verify().map_err(HelloProblem::from)?;
    let chain = counterpart_chain(row.life.side, checked);
    let is_newer = check_chain(&row.life.chain, &known, chain).is_ok_and(|node| node.is_newer_than(&known));
    Ok(is_newer.then_some(chain))
}
