//! What one side holds about one agreement, and what statements of either side make of it.
//!
//! **Invariant:** no more becomes of it than what was signed by whoever has to sign it.

use serde::{Deserialize, Serialize};

use super::{AgreementView, Own, Standing, StatementAnswer, Statements, Told};
use crate::audit::AgreementStep;
use crate::ids::AgreementId;
use crate::record::agreement::{AgreementFile, Side};
use crate::record::chain::{CertificateChain, CertifiedNode};
use crate::record::statement::{Action, AgreementStatement};
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
    /// What both have stated about it.
    pub statements: Statements,
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
            statements: Statements::default(),
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
            own: self.statements.own.stated(),
            peer: self.statements.peer.stated(),
            held_back: self.unconfirmed || frozen,
            accept_by: terms.accept_by,
            valid_from: terms.valid_from,
            valid_until: terms.valid_until,
            offered_until: offered.map(|offered| offered.valid_until),
            ended_at: self.statements.ended_at,
            end_confirmed: self.statements.end_confirmed,
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
        let action = self.statements.state(signed, &self.id(), own, now)?.ok_or(LifeError::ChangedMeanwhile)?;
        let notes = vec![self.follow(action, true)?];
        Ok(Change::of((), notes))
    }

    /// Takes one of this side's statements that comes back: a confirmation, or what a restored backup had lost.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take_own(
        &mut self,
        signed: &Signed<AgreementStatement>,
        own: &Own<'_>,
        now: Time,
    ) -> Result<Change<StatementAnswer>, LifeError> {
        let told = self.statements.take_own(signed, &self.id(), own, now)?;
        self.change(told, true)
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
        let told = self.statements.take_peer(signed, &self.id(), peer, known, now)?;
        self.change(told, false)
    }

    fn change(&mut self, told: Told, own: bool) -> Result<Change<StatementAnswer>, LifeError> {
        let mut change = Change { is_changed: told.is_changed, ..Change::none(told.answer) };
        for action in told.actions {
            change.notes.push(self.follow(action, own)?);
        }
        if told.is_fork {
            change.notes.push(self.note(AgreementStep::Forked)?);
            // A backup was used that was too old, or was used twice; or a key is abroad.
            change.alarm = Some(match own {
                true => "this entity has stated two different things under one number",
                false => "the counterpart has stated two different things under one number",
            });
        }
        Ok(change)
    }

    /// Nothing more has to be said about the end. Gives whether that is new.
    pub fn confirm_end(&mut self) -> bool {
        let is_new = self.standing == Standing::Ended && !self.statements.end_confirmed;
        self.statements.end_confirmed |= is_new;
        is_new
    }

    /// What else changes with a statement of one side.
    fn follow(&mut self, action: Action, own: bool) -> Result<Note, RecordError> {
        let note = self.note(self.step_of(action, own))?;
        match action {
            Action::End => {
                self.standing = Standing::Ended;
                (self.offered, self.received) = (None, None);
            }
            Action::Withdraw { terms } => {
                let offer = if own { &mut self.offered } else { &mut self.received };
                offer.take_if(|offer| offer.record.hash() == terms);
            }
            Action::Suspend | Action::Resume => {}
        }
        Ok(note)
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
