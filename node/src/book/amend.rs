//! Amendments: later versions of the terms, offered by either side, countersigned by the other.
//!
//! ```text
//! A: amend --offer, by wire or file--> B: received --accept--> complete at B --by wire or file--> complete at A
//! ```
//! Whoever holds the higher complete version shows it when the two meet.
//!
//! **Invariant:** this entity's root signs one text per version number, and what it signed is durable before it leaves.
//! **Invariant:** versions never go back; of two complete texts under one number the lower hash counts, and both sides
//! raise an alarm.

use std::sync::Arc;

use pakt_keys::signing::RootKey;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::audit::AgreementStep;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::agreement::{
    AgreementFile, AgreementRecord, AgreementTerms, Side, Succession, VerifiedFile, succession,
};
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::time::Time;

use super::draft::TermsDraft;
use super::peer::{check_chain, not_replaced};
use super::rows::AgreementRow;
use super::sign::{note, note_paced, read_file};
use super::{Agreement, Amendment, Book, BookError, HelloProblem, Outcome, Standing};
use crate::ambient;
use crate::entity::Entity;
use crate::store::WriteTx;
use crate::store::tables::AGREEMENTS;

/// How a later version came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// From the counterpart's node, which proved its newest keys: it stands by what an earlier root of it signed.
    ByLane,
    /// From anybody.
    ByFile,
}

/// What became of a later version that the counterpart showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmendmentAnswer {
    /// These terms count here now, or the offer of them is kept: say so.
    Known([u8; 32]),
    /// This side holds a newer complete version: show it.
    ShowNewer,
    /// Nothing: an offer that cannot be accepted any more.
    Nothing,
}

/// How far the number of an offer may be above the version that counts: offers that were withdrawn leave gaps.
const VERSIONS_AHEAD_MAX: u32 = 1024;

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
        let received = agreement.received.as_ref().map_or(0, |received| received.terms.version);
        let number = before.version.max(row.signed.0).max(received).checked_add(1).ok_or(BookError::NotActive)?;
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
        let (base, signed, hash) = (row.file.record.hash(), row.signed, file.record.hash());
        let text = armour::encode(Label::Proposal, &file.to_bytes());
        self.change(*id, move |tx, row| {
            if row.signed != signed || row.file.record.hash() != base || row.standing != Standing::Active {
                return Err(BookError::ChangedMeanwhile);
            }
            row.signed = (number, hash);
            (row.offered, row.offer_known) = (Some(file), false);
            note(tx, row, AgreementStep::Offered)?;
            Ok(Outcome::Changed(()))
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
        let signing = (terms.version, file.record.hash());
        may_sign(&row, &terms, signing, now)?;
        signed_by_present_root(&row, &AgreementFile::verify(&file.to_bytes())?)?;
        let card = match agreement.side {
            Side::Proposer => file.acceptor.clone(),
            Side::Acceptor => file.proposer.clone(),
        };
        let complete = self.file_with(file.record.countersign(root), &row, card)?;
        AgreementFile::verify(&complete.to_bytes())?;
        let entity = self.inner.entity.clone();
        self.change(*id, move |tx, row| {
            may_sign(row, &terms, signing, now)?;
            let checked = AgreementFile::verify(&complete.to_bytes())?;
            signed_by_present_root(row, &checked)?;
            row.signed = signing;
            let chain = counterpart_chain(row.side, &checked);
            install((tx, row), complete, &entity, chain, now)?;
            Ok(Outcome::Changed(()))
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
            match row.standing {
                Standing::Ended => return Err(BookError::Ended),
                Standing::Proposed => return Err(BookError::NotCountersigned),
                Standing::Active => {}
            }
            match (file.record.is_complete(), came, signed_by_present_root(row, &checked)) {
                (_, Came::ByFile, Err(replaced)) => Err(replaced),
                // It is shown at every session until it is withdrawn.
                (false, Came::ByLane, Err(_)) => Ok(Outcome::Same(AmendmentAnswer::Nothing)),
                (true, ..) => take_complete((tx, row), file, &checked, &entity, now),
                (false, _, Ok(())) => take_offer((tx, row), file, &checked, now),
            }
        })
        .await
    }

    /// The counterpart has said that it holds these terms: those that count, or an offer.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn amendment_known(&self, id: &AgreementId, hash: [u8; 32]) -> Result<(), BookError> {
        self.change(*id, move |_, row| {
            let counts = row.file.record.hash() == hash;
            let offers = row.offered.as_ref().is_some_and(|offered| offered.record.hash() == hash);
            if (!counts || row.version_known) && (!offers || row.offer_known) {
                return Ok(Outcome::Same(()));
            }
            row.version_known |= counts;
            row.offer_known |= offers;
            Ok(Outcome::Changed(()))
        })
        .await
    }

    /// The file (codec bytes) of the terms that count, to be shown to the counterpart.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub fn current_file(&self, id: &AgreementId) -> Result<Vec<u8>, BookError> {
        let row = self.inner.store.read(|tx| tx.get(&AGREEMENTS, id))?.ok_or(BookError::Unknown)?;
        Ok(row.file.to_bytes())
    }

    /// A file with this side's current card and the counterpart's card that is known.
    pub(super) fn file_of(&self, record: AgreementRecord, row: &AgreementRow) -> Result<AgreementFile, BookError> {
        let card = match row.side {
            Side::Proposer => row.file.acceptor.clone(),
            Side::Acceptor => row.file.proposer.clone(),
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
        let (proposer, acceptor) = match row.side {
            Side::Proposer => (own, other),
            Side::Acceptor => (other, own),
        };
        let grants = row.file.grants.clone();
        let file = AgreementFile { record, proposer, acceptor, grants };
        // Grants of certificates that were replaced since stay behind: the file would not hold with them.
        let keep = |grants: Vec<_>| AgreementFile { grants, ..file.clone() };
        let (whole, none) = (keep(file.grants.clone()), keep(vec![]));
        Ok(if AgreementFile::verify(&whole.to_bytes()).is_ok() { whole } else { none })
    }
}

/// Whether this entity's root may sign an offered amendment.
fn may_sign(row: &AgreementRow, terms: &AgreementTerms, signing: (u32, [u8; 32]), now: Time) -> Result<(), BookError> {
    let is_offered = row.received.as_ref().is_some_and(|offer| offer.record.hash() == signing.1);
    if row.standing != Standing::Active || !is_offered {
        Err(BookError::NothingOffered)
    } else if terms.previous != Some(row.file.record.hash()) {
        Err(BookError::OtherBase)
    } else if now > terms.accept_by {
        Err(BookError::AcceptByPassed)
    } else if signing.0 < row.signed.0 || (signing.0 == row.signed.0 && signing.1 != row.signed.1) {
        Err(BookError::SignedOther(row.signed.0))
    } else {
        Ok(())
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
    let own = match row.side {
        Side::Proposer => &checked.proposer,
        Side::Acceptor => &checked.acceptor,
    };
    check_chain(&own.body.chain, &own.node, &entity.chain())?;
    let known = row.chain.verify().map_err(HelloProblem::from)?;
    match check_chain(&row.chain, &known, counterpart_chain(row.side, checked)) {
        // What was signed under an earlier certificate still holds.
        Ok(_) | Err(HelloProblem::Superseded) => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

/// Refuses what a root of the counterpart signed that was replaced since.
fn signed_by_present_root(row: &AgreementRow, checked: &VerifiedFile) -> Result<(), BookError> {
    let known = row.chain.verify().map_err(HelloProblem::from)?;
    Ok(not_replaced(&row.chain, &known, counterpart_chain(row.side, checked))?)
}

fn take_complete(
    (tx, row): (&mut WriteTx, &mut AgreementRow),
    file: AgreementFile,
    checked: &VerifiedFile,
    entity: &Entity,
    now: Time,
) -> Result<Outcome<AmendmentAnswer>, BookError> {
    let (id, hash) = (file.record.id, file.record.hash());
    match succession(&row.file.record, &file.record)? {
        Succession::Older => Ok(Outcome::Same(AmendmentAnswer::ShowNewer)),
        Succession::Same if row.version_known => Ok(Outcome::Same(AmendmentAnswer::Known(hash))),
        Succession::Same => {
            row.version_known = true;
            Ok(Outcome::Changed(AmendmentAnswer::Known(hash)))
        }
        Succession::Loses => {
            if !row.forked {
                tracing::warn!(agreement = %id, "both have signed two texts under one version; the known one counts");
                note(tx, row, AgreementStep::Forked)?;
            }
            row.forked = true;
            Ok(Outcome::Changed(AmendmentAnswer::ShowNewer))
        }
        Succession::Newer { forked } => {
            if forked {
                tracing::warn!(agreement = %id, "both have signed two texts under one version; another one counts now");
            }
            row.forked |= forked;
            let chain = counterpart_chain(row.side, checked);
            install((tx, row), file, entity, chain, now)?;
            row.version_known = true;
            tracing::info!(agreement = %id, version = checked.terms.version, "the agreement was amended");
            Ok(Outcome::Changed(AmendmentAnswer::Known(hash)))
        }
    }
}

/// Keeps an offer of the counterpart, if it can still be accepted.
fn take_offer(
    (tx, row): (&mut WriteTx, &mut AgreementRow),
    file: AgreementFile,
    checked: &VerifiedFile,
    now: Time,
) -> Result<Outcome<AmendmentAnswer>, BookError> {
    let (hash, terms) = (file.record.hash(), &checked.terms);
    let before = row.file.record.peek()?;
    if file.record.has_signed(row.side) || terms.proposer != before.proposer || terms.acceptor != before.acceptor {
        return Err(BookError::NotForUs);
    }
    if terms.version <= before.version || terms.previous != Some(row.file.record.hash()) {
        let is_behind = terms.version <= before.version;
        return Ok(Outcome::Same(if is_behind { AmendmentAnswer::ShowNewer } else { AmendmentAnswer::Nothing }));
    }
    if let Some(known) = &row.received {
        let version = known.record.peek()?.version;
        if known.record.hash() == hash {
            return Ok(Outcome::Same(AmendmentAnswer::Known(hash)));
        }
        if version == terms.version && row.forked {
            return Ok(Outcome::Same(AmendmentAnswer::Nothing));
        }
        if version == terms.version {
            tracing::warn!(agreement = %file.record.id, "the counterpart has signed two texts under one version");
            row.forked = true;
            note(tx, row, AgreementStep::Forked)?;
            return Ok(Outcome::Changed(AmendmentAnswer::Nothing));
        }
        if version > terms.version {
            return Ok(Outcome::Same(AmendmentAnswer::Nothing));
        }
    }
    let is_far = terms.version > before.version.saturating_add(VERSIONS_AHEAD_MAX);
    if is_far || now > terms.accept_by || row.peer.has_withdrawn(&hash) {
        return Ok(Outcome::Same(AmendmentAnswer::Nothing));
    }
    row.received = Some(file);
    note_paced(tx, row, AgreementStep::OfferedByPeer)?;
    Ok(Outcome::Changed(AmendmentAnswer::Known(hash)))
}

/// Lets complete terms count from now on; offers that followed the terms before are void.
fn install(
    (tx, row): (&mut WriteTx, &mut AgreementRow),
    file: AgreementFile,
    entity: &Entity,
    chain: &CertificateChain,
    now: Time,
) -> Result<(), BookError> {
    let signed = (file.record.peek()?.version, file.record.hash());
    let known = row.chain.verify().map_err(HelloProblem::from)?;
    if check_chain(&row.chain, &known, chain).is_ok_and(|node| node.is_newer_than(&known)) {
        row.chain = chain.clone();
        note_paced(tx, row, AgreementStep::KeysReplacedByPeer)?;
    }
    debug_assert!(file.record.peek()?.side_of(&entity.id()) == Some(row.side));
    if signed.0 > row.signed.0 {
        row.signed = signed;
    }
    let step = step_between(&row.file.record.peek()?, &file.record.peek()?);
    row.file = file;
    note(tx, row, step)?;
    (row.version_at, row.version_known) = (now, false);
    (row.offered, row.received, row.offer_known) = (None, None, false);
    Ok(())
}

/// What the log calls the way from one version to another: terms that only last longer were renewed.
fn step_between(before: &AgreementTerms, after: &AgreementTerms) -> AgreementStep {
    let as_before = AgreementTerms {
        version: before.version,
        previous: before.previous,
        nonce: before.nonce,
        accept_by: before.accept_by,
        valid_from: before.valid_from,
        valid_until: before.valid_until,
        ..after.clone()
    };
    if as_before == *before { AgreementStep::Renewed } else { AgreementStep::Amended }
}
