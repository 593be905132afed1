//! Amendments: later versions of the terms, offered by either side, countersigned by the other.
//!
//! ```text
//! A: amend --offer, by wire or file--> B: received --accept--> complete at B --by wire or file--> complete at A
//! ```
//! Whoever holds the higher complete version shows it when the two meet.
//!
//! **Invariant:** this entity's root signs one text per version number.
//! **Invariant:** versions never go back; of two complete texts under one number the lower hash counts, and both sides
//! raise an alarm.

use super::{Change, Life, LifeError, Note, Standing};
use crate::audit::AgreementStep;
use crate::record::RecordError;
use crate::record::agreement::{AgreementFile, AgreementTerms, Succession, succession};
use crate::record::chain::CertificateChain;
use crate::time::Time;

/// How far the number of an offer may be above the version that counts: offers that were withdrawn leave gaps.
pub const VERSIONS_AHEAD_MAX: u32 = 1024;

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

impl Life {
    /// The version number of this side's next offer: above all that count or were signed or received; none if there is none.
    ///
    /// # Errors
    /// A [`RecordError`] if terms cannot be read.
    pub fn next_version(&self) -> Result<Option<u32>, RecordError> {
        let received = self.received.as_ref().map(|received| received.record.peek()).transpose()?;
        let received = received.map_or(0, |terms| terms.version);
        Ok(self.file.record.peek()?.version.max(self.signed.0).max(received).checked_add(1))
    }

    /// Keeps an offer of this side, signed by its root under this number. An earlier open offer is replaced. `seen` is what
    /// had been signed, and which terms counted, when it was made.
    ///
    /// # Errors
    /// [`LifeError::ChangedMeanwhile`].
    pub fn offer(
        &mut self,
        file: AgreementFile,
        number: u32,
        seen: ((u32, [u8; 32]), [u8; 32]),
    ) -> Result<Change<()>, LifeError> {
        if (self.signed, self.file.record.hash()) != seen || self.standing != Standing::Active {
            return Err(LifeError::ChangedMeanwhile);
        }
        self.signed = (number, file.record.hash());
        (self.offered, self.offer_known) = (Some(file), false);
        Ok(Change::of((), vec![self.note(AgreementStep::Offered)?]))
    }

    /// Whether this entity's root may sign an offered amendment, with these terms and this hash.
    ///
    /// # Errors
    /// Why not.
    pub fn may_sign(&self, terms: &AgreementTerms, hash: [u8; 32], now: Time) -> Result<(), LifeError> {
        let is_offered = self.received.as_ref().is_some_and(|offer| offer.record.hash() == hash);
        if self.standing != Standing::Active || !is_offered {
            Err(LifeError::NothingOffered)
        } else if terms.previous != Some(self.file.record.hash()) {
            Err(LifeError::OtherBase)
        } else if now > terms.accept_by {
            Err(LifeError::AcceptByPassed)
        } else if terms.version < self.signed.0 || (terms.version == self.signed.0 && hash != self.signed.1) {
            Err(LifeError::SignedOther(self.signed.0))
        } else {
            Ok(())
        }
    }

    /// Lets the amendment count that this side has countersigned; `newer` are newer certificates of the counterpart in its
    /// file.
    ///
    /// # Errors
    /// Why its root may not sign it.
    pub fn accept(
        &mut self,
        file: AgreementFile,
        newer: Option<&CertificateChain>,
        now: Time,
    ) -> Result<Change<()>, LifeError> {
        let (terms, hash) = (file.record.peek()?, file.record.hash());
        self.may_sign(&terms, hash, now)?;
        self.signed = (terms.version, hash);
        let notes = self.install(file, newer, now)?;
        Ok(Change::of((), notes))
    }

    /// Takes a later version of which every part and both parties were checked: complete, or an offer of the counterpart.
    ///
    /// # Errors
    /// Why it is none of this agreement.
    pub fn take_later(
        &mut self,
        file: AgreementFile,
        newer: Option<&CertificateChain>,
        now: Time,
    ) -> Result<Change<AmendmentAnswer>, LifeError> {
        self.may_amend()?;
        if file.record.is_complete() { self.take_complete(file, newer, now) } else { self.take_offer(file, now) }
    }

    /// Whether later versions are taken at all.
    ///
    /// # Errors
    /// Why not.
    pub fn may_amend(&self) -> Result<(), LifeError> {
        match self.standing {
            Standing::Ended => Err(LifeError::Ended),
            Standing::Proposed => Err(LifeError::NotCountersigned),
            Standing::Active => Ok(()),
        }
    }

    fn take_complete(
        &mut self,
        file: AgreementFile,
        newer: Option<&CertificateChain>,
        now: Time,
    ) -> Result<Change<AmendmentAnswer>, LifeError> {
        let known = AmendmentAnswer::Known(file.record.hash());
        match succession(&self.file.record, &file.record)? {
            Succession::Older => Ok(Change::none(AmendmentAnswer::ShowNewer)),
            Succession::Same if self.version_known => Ok(Change::none(known)),
            Succession::Same => {
                self.version_known = true;
                Ok(Change::of(known, vec![]))
            }
            Succession::Loses => {
                let mut change = Change::of(AmendmentAnswer::ShowNewer, vec![]);
                if !self.forked {
                    change.alarm = Some("both have signed two texts under one version; the known one counts");
                    change.notes.push(self.note(AgreementStep::Forked)?);
                }
                self.forked = true;
                Ok(change)
            }
            Succession::Newer { forked } => {
                const OTHER: &str = "both have signed two texts under one version; another one counts now";
                self.forked |= forked;
                let notes = self.install(file, newer, now)?;
                self.version_known = true;
                Ok(Change { alarm: forked.then_some(OTHER), ..Change::of(known, notes) })
            }
        }
    }

    /// Keeps an offer of the counterpart, if it can still be accepted.
    fn take_offer(&mut self, file: AgreementFile, now: Time) -> Result<Change<AmendmentAnswer>, LifeError> {
        let (hash, terms, before) = (file.record.hash(), file.record.peek()?, self.file.record.peek()?);
        if file.record.has_signed(self.side) || terms.proposer != before.proposer || terms.acceptor != before.acceptor {
            return Err(LifeError::NotForUs);
        }
        if terms.version <= before.version {
            return Ok(Change::none(AmendmentAnswer::ShowNewer));
        }
        if terms.previous != Some(self.file.record.hash()) {
            return Ok(Change::none(AmendmentAnswer::Nothing));
        }
        if let Some(known) = &self.received {
            let version = known.record.peek()?.version;
            if known.record.hash() == hash {
                return Ok(Change::none(AmendmentAnswer::Known(hash)));
            }
            if version == terms.version && !self.forked {
                self.forked = true;
                let alarm = Some("the counterpart has signed two texts under one version");
                let notes = vec![self.note(AgreementStep::Forked)?];
                return Ok(Change { alarm, ..Change::of(AmendmentAnswer::Nothing, notes) });
            }
            if version >= terms.version {
                return Ok(Change::none(AmendmentAnswer::Nothing));
            }
        }
        let is_far = terms.version > before.version.saturating_add(VERSIONS_AHEAD_MAX);
        if is_far || now > terms.accept_by || self.statements.peer.has_withdrawn(&hash) {
            return Ok(Change::none(AmendmentAnswer::Nothing));
        }
        self.received = Some(file);
        Ok(Change::of(AmendmentAnswer::Known(hash), vec![self.note(AgreementStep::OfferedByPeer)?]))
    }

    /// Lets complete terms count from now on; offers that followed the terms before are void.
    fn install(
        &mut self,
        file: AgreementFile,
        newer: Option<&CertificateChain>,
        now: Time,
    ) -> Result<Vec<Note>, RecordError> {
        let (before, after) = (self.file.record.peek()?, file.record.peek()?);
        let mut notes = Vec::new();
        if let Some(chain) = newer {
            self.chain = chain.clone();
            notes.push(self.note(AgreementStep::KeysReplacedByPeer)?);
        }
        if after.version > self.signed.0 {
            self.signed = (after.version, file.record.hash());
        }
        self.file = file;
        notes.push(self.note(step_between(&before, &after))?);
        (self.version_at, self.version_known) = (now, false);
        (self.offered, self.received, self.offer_known) = (None, None, false);
        Ok(notes)
    }

    /// The counterpart holds these terms: those that count, or an offer. Gives whether that is new.
    pub fn terms_known(&mut self, hash: [u8; 32]) -> bool {
        let counts = self.file.record.hash() == hash && !self.version_known;
        let offers = self.offered.as_ref().is_some_and(|offered| offered.record.hash() == hash) && !self.offer_known;
        self.version_known |= counts;
        self.offer_known |= offers;
        counts || offers
    }
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
