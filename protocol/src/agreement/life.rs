//! What one side holds about one agreement, and what statements of either side make of it.
//!
//! **Invariant:** a party's statements are kept whole and in order, so that either side can show them again.

use serde::{Deserialize, Serialize};

use super::{AgreementView, Standing};
use crate::audit::AgreementStep;
use crate::ids::AgreementId;
use crate::record::agreement::{AgreementFile, Side};
use crate::record::chain::{CertificateChain, CertifiedNode};
use crate::record::statement::{Action, AgreementStatement, Stated, StatementChain, Taken};
use crate::record::{RecordError, Signed};
use crate::time::Time;

/// What one side holds about one agreement. It is stored as it is: order and types of the fields are a format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The newest terms that both have signed, or the proposal: terms, signatures, cards and first grants, as mailed.
    pub file: AgreementFile,
    /// Which side this is.
    pub side: Side,
    /// How far it is.
    pub standing: Standing,
    /// Whether the operator has compared the counterpart's fingerprint.
    pub verified: bool,
    /// Whether the proposer has not confirmed the countersigned file yet.
    pub contact_pending: bool,
    /// Whether it came out of a backup and the operator has not confirmed it.
    pub unconfirmed: bool,
    /// This party's statements.
    pub own: StatementChain,
    /// How many of them the counterpart has confirmed.
    pub own_known: u64,
    /// The counterpart's statements.
    pub peer: StatementChain,
    /// Whether nothing more has to be said about the end.
    pub end_confirmed: bool,
    /// When an end was stated or learned.
    pub ended_at: Option<Time>,
    /// The highest version that this entity's root has signed, and the hash of that text: no other text is signed under
    /// it or a lower one.
    pub signed: (u32, [u8; 32]),
    /// When the terms in `file` began to count here.
    pub version_at: Time,
    /// Whether the counterpart has confirmed that these terms count.
    pub version_known: bool,
    /// Whether both roots have signed two texts where one was allowed.
    pub forked: bool,
    /// An amendment that this side offers.
    pub offered: Option<AgreementFile>,
    /// Whether the counterpart holds that offer.
    pub offer_known: bool,
    /// An amendment that the counterpart offers.
    pub received: Option<AgreementFile>,
    /// The newest certificate chain of the counterpart.
    pub chain: CertificateChain,
}

/// A step for the audit log, under the version of the terms that counted when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// That version.
    pub version: u32,
    /// The step.
    pub step: AgreementStep,
}

/// What an input has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<T> {
    /// What is to be said.
    pub answer: T,
    /// Whether the life is to be made durable before that.
    pub is_changed: bool,
    /// What the audit log notes with it.
    pub notes: Vec<Note>,
    /// Why people must be alarmed.
    pub alarm: Option<&'static str>,
}

impl<T> Change<T> {
    pub(super) fn none(answer: T) -> Change<T> {
        Change { answer, is_changed: false, notes: Vec::new(), alarm: None }
    }

    pub(super) fn of(answer: T, notes: Vec<Note>) -> Change<T> {
        Change { answer, is_changed: true, notes, alarm: None }
    }
}

/// What is to be answered to a statement that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementAnswer {
    /// It is durable here: say so.
    Known,
    /// Others before it are missing: ask for all after this number.
    Missing(u64),
    /// Nothing.
    Nothing,
    /// Both sides know of the end.
    EndKnown,
}

/// Why something does not become part of an agreement's life.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifeError {
    /// A record is not valid, or not possible now.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It changed meanwhile.
    #[error("the agreement changed meanwhile")]
    ChangedMeanwhile,
    /// It has ended.
    #[error("the agreement has ended")]
    Ended,
    /// Nobody has countersigned it yet.
    #[error("the proposal is not countersigned")]
    NotCountersigned,
    /// It is for other parties.
    #[error("this is for other parties")]
    NotForUs,
    /// The counterpart offers no such terms.
    #[error("the counterpart offers no such terms")]
    NothingOffered,
    /// The offer follows other terms than those that count.
    #[error("the offer follows other terms")]
    OtherBase,
    /// The time for accepting is over.
    #[error("the time for accepting is over")]
    AcceptByPassed,
    /// Another text was signed under this version or a higher one.
    #[error("another text was signed under version {0}")]
    SignedOther(u32),
}

impl Life {
    /// A proposal of this side, or what it has just countersigned or regained, if `standing` says so.
    pub fn new(file: AgreementFile, side: Side, standing: Standing, chain: CertificateChain, now: Time) -> Life {
        let version = file.record.peek().map_or(1, |terms| terms.version);
        Life {
            signed: (version, file.record.hash()),
            file,
            side,
            standing,
            verified: false,
            contact_pending: false,
            unconfirmed: false,
            own: StatementChain::default(),
            own_known: 0,
            peer: StatementChain::default(),
            end_confirmed: false,
            ended_at: None,
            version_at: now,
            version_known: version == 1,
            forked: false,
            offered: None,
            offer_known: false,
            received: None,
            chain,
        }
    }

    /// The agreement's name.
    pub fn id(&self) -> AgreementId {
        self.file.record.id
    }

    /// What decides what it allows; `frozen` if the counterpart's certificates contradict each other.
    ///
    /// # Errors
    /// A [`RecordError`] if the terms cannot be read.
    pub fn view(&self, frozen: bool, holds_grant: bool) -> Result<AgreementView, RecordError> {
        let terms = self.file.record.peek()?;
        let offered = self.offered.as_ref().map(|offered| offered.record.peek()).transpose()?;
        Ok(AgreementView {
            standing: self.standing,
            is_complete: self.file.record.is_complete(),
            own: self.own.stated(),
            peer: self.peer.stated(),
            held_back: self.unconfirmed || frozen,
            accept_by: terms.accept_by,
            valid_from: terms.valid_from,
            valid_until: terms.valid_until,
            offered_until: offered.map(|offered| offered.valid_until),
            ended_at: self.ended_at,
            end_confirmed: self.end_confirmed,
            holds_grant,
        })
    }

    /// Takes a statement that this side has just made.
    ///
    /// # Errors
    /// [`LifeError::ChangedMeanwhile`] if it is not the next one, and what is wrong with it.
    pub fn state(
        &mut self,
        signed: &Signed<AgreementStatement>,
        own: &CertifiedNode,
        now: Time,
    ) -> Result<Change<()>, LifeError> {
        let AgreementStatement { number, action, .. } = signed.peek()?;
        if self.own.number() + 1 != number {
            return Err(LifeError::ChangedMeanwhile);
        }
        self.own.take(signed, &self.id(), own)?;
        let notes = self.follow(action, true, now)?;
        Ok(Change::of((), notes))
    }

    /// Takes one of this side's statements that comes back: a confirmation, or what a restored backup had lost.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take_own(
        &mut self,
        signed: &Signed<AgreementStatement>,
        own: &CertifiedNode,
        now: Time,
    ) -> Result<Change<StatementAnswer>, LifeError> {
        match self.own.take(signed, &self.id(), own) {
            Ok(Taken::Known(number)) => {
                let is_end = has_ended(&self.own) && number == self.own.number();
                self.end_confirmed |= is_end;
                self.own_known = self.own_known.max(number);
                Ok(Change::of(if is_end { StatementAnswer::EndKnown } else { StatementAnswer::Nothing }, vec![]))
            }
            Ok(Taken::New(action)) => {
                self.own_known = self.own.number();
                let notes = self.follow(action, true, now)?;
                Ok(Change::of(StatementAnswer::Nothing, notes))
            }
            Ok(Taken::Gap(after)) => Ok(Change::none(StatementAnswer::Missing(after))),
            // Signed by this entity's key, and not what is known here: a backup was used twice, or a key is abroad.
            Err(RecordError::Field(_)) if !self.forked => {
                self.forked = true;
                let alarm = Some("this entity has stated two different things under one number");
                Ok(Change { alarm, ..Change::of(StatementAnswer::Nothing, vec![self.note(AgreementStep::Forked)?]) })
            }
            Err(RecordError::Field(_)) => Ok(Change::none(StatementAnswer::Nothing)),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a statement of the counterpart, whose newest keys are those of `peer`; `known` says that it only shows what it
    /// holds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take_peer(
        &mut self,
        signed: &Signed<AgreementStatement>,
        peer: &CertifiedNode,
        known: bool,
        now: Time,
    ) -> Result<Change<StatementAnswer>, LifeError> {
        match self.peer.take(signed, &self.id(), peer)? {
            // The counterpart knows that this side knows.
            Taken::Known(_) if known && has_ended(&self.peer) => {
                self.end_confirmed = true;
                Ok(Change::of(StatementAnswer::EndKnown, vec![]))
            }
            Taken::Known(_) => Ok(Change::none(StatementAnswer::Known)),
            Taken::New(action) => {
                let notes = self.follow(action, false, now)?;
                Ok(Change::of(StatementAnswer::Known, notes))
            }
            Taken::Gap(after) => Ok(Change::none(StatementAnswer::Missing(after))),
        }
    }

    /// Nothing more has to be said about the end. Gives whether that is new.
    pub fn confirm_end(&mut self) -> bool {
        let is_new = self.standing == Standing::Ended && !self.end_confirmed;
        self.end_confirmed |= is_new;
        is_new
    }

    /// What else changes with a statement of one side.
    fn follow(&mut self, action: Action, own: bool, now: Time) -> Result<Vec<Note>, RecordError> {
        let note = self.note(self.step_of(action, own))?;
        match action {
            Action::End => {
                self.standing = Standing::Ended;
                self.ended_at.get_or_insert(now);
                (self.offered, self.received) = (None, None);
            }
            Action::Withdraw { terms } => {
                let offer = if own { &mut self.offered } else { &mut self.received };
                offer.take_if(|offer| offer.record.hash() == terms);
            }
            Action::Suspend | Action::Resume => {}
        }
        Ok(vec![note])
    }

    /// What the log calls a statement, before anything follows from it.
    fn step_of(&self, action: Action, own: bool) -> AgreementStep {
        match (action, own) {
            (Action::End, true) if self.standing == Standing::Proposed => AgreementStep::Withdrawn,
            (Action::End, true) => AgreementStep::Ended,
            (Action::End, false) => AgreementStep::EndedByPeer,
            (Action::Suspend, true) => AgreementStep::Suspended,
            (Action::Suspend, false) => AgreementStep::SuspendedByPeer,
            (Action::Resume, true) => AgreementStep::Resumed,
            (Action::Resume, false) => AgreementStep::ResumedByPeer,
            (Action::Withdraw { .. }, true) => AgreementStep::Withdrawn,
            (Action::Withdraw { .. }, false) => AgreementStep::WithdrawnByPeer,
        }
    }

    pub(super) fn note(&self, step: AgreementStep) -> Result<Note, RecordError> {
        Ok(Note { version: self.file.record.peek()?.version, step })
    }
}

fn has_ended(chain: &StatementChain) -> bool {
    matches!(chain.stated(), Stated::Ended(_))
}
