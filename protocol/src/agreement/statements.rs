//! What both sides have stated about one agreement, and what becomes of a statement that is shown.
//!
//! **One thing under one number.** A party that was restored from an old backup may state something else under a number that
//! it has used. What the counterpart took first counts: it shows it, and the party puts it in the place of its own. Two
//! things are not lost by that: a suspension is stated again at once, and an end counts wherever it stands. What the party
//! cannot verify any more, because it has new keys since, it does not take over; then its own statement counts, and a
//! suspension that it is told of it states anew.
//!
//! **Invariant:** a party's statements are kept whole and in order, so that either side can show them again; only what an end
//! overtakes may be missing.

use pakt_keys::signing::{Domain, Signature};
use serde::{Deserialize, Serialize};

use crate::ids::AgreementId;
use crate::record::chain::CertifiedNode;
use crate::record::statement::{Action, AgreementStatement, Stated, StatementChain, Taken};
use crate::record::{RecordError, Signed};
use crate::time::Time;

/// What both have stated about one agreement. It is stored as it is: order and types of the fields are a format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statements {
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
    /// Whether one of them has stated two different things under one number.
    pub forked: bool,
}

/// What is to be answered to a statement that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementAnswer {
    /// It is durable here: say so.
    Known,
    /// Others are missing: ask for all after this number.
    Missing(u64),
    /// Something else was taken: show, as known, all of the counterpart's after this number.
    Other(u64),
    /// This side has stated something again: show what the counterpart has not confirmed.
    Again,
    /// Nothing.
    Nothing,
    /// Both sides know of the end.
    EndKnown,
}

/// What a statement that was shown has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What is to be said.
    pub answer: StatementAnswer,
    /// What its party has stated that was not known.
    pub actions: Vec<Action>,
    /// Whether the statements are to be made durable before that.
    pub is_changed: bool,
    /// Whether it shows, for the first time, that a party has stated two different things under one number.
    pub is_fork: bool,
}

/// This side, as it states.
pub struct Own<'a> {
    /// Its keys.
    pub node: &'a CertifiedNode,
    /// Signs with today's statement key.
    pub sign: &'a dyn Fn(Domain, &[u8]) -> Vec<Signature>,
    /// Whether it was restored from a backup since the agreement was made.
    pub restored: bool,
}

impl Told {
    fn of(answer: StatementAnswer) -> Told {
        Told { answer, actions: Vec::new(), is_changed: false, is_fork: false }
    }

    fn news(answer: StatementAnswer, action: Action) -> Told {
        Told { actions: vec![action], is_changed: true, ..Told::of(answer) }
    }

    fn changed(answer: StatementAnswer) -> Told {
        Told { is_changed: true, ..Told::of(answer) }
    }

    fn fork(answer: StatementAnswer) -> Told {
        Told { is_fork: true, ..Told::of(answer) }
    }
}

impl Statements {
    /// Takes a statement that this side has just made; none if it is not the next one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn state(
        &mut self,
        signed: &Signed<AgreementStatement>,
        agreement: &AgreementId,
        own: &CertifiedNode,
        now: Time,
    ) -> Result<Option<Action>, RecordError> {
        match self.own.take(signed, agreement, own)? {
            Taken::New(action) => {
                self.follow(action, now);
                Ok(Some(action))
            }
            Taken::Known(_) | Taken::Gap(_) | Taken::Fork(_) => Ok(None),
        }
    }

    /// Takes one of this side's statements that comes back: a confirmation, or what a restored backup had lost.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take_own(
        &mut self,
        signed: &Signed<AgreementStatement>,
        agreement: &AgreementId,
        own: &Own<'_>,
        now: Time,
    ) -> Result<Told, RecordError> {
        let told = self.follow_own(signed, agreement, own, now)?;
        Ok(self.note_fork(told))
    }

    fn note_fork(&mut self, told: Told) -> Told {
        let is_fork = told.is_fork && !self.forked;
        self.forked |= is_fork;
        Told { is_fork, is_changed: told.is_changed || is_fork, ..told }
    }

    fn follow_own(
        &mut self,
        signed: &Signed<AgreementStatement>,
        agreement: &AgreementId,
        own: &Own<'_>,
        now: Time,
    ) -> Result<Told, RecordError> {
        let was_suspended = matches!(self.own.stated(), Stated::Suspended(_));
        let is_end = signed.peek()?.action == Action::End;
        let taken = match self.own.take(signed, agreement, own.node) {
            Err(RecordError::Signature(_)) if own.restored => return self.doubt(signed, agreement, own, now),
            taken => taken?,
        };
        let mut told = match taken {
            Taken::Known(number) => {
                self.end_confirmed |= is_end;
                self.own_known = self.own_known.max(number);
                return Ok(Told::changed(if is_end { StatementAnswer::EndKnown } else { StatementAnswer::Nothing }));
            }
            Taken::Gap(_) | Taken::Fork(_) if has_ended(&self.own) => {
                // The counterpart takes the end wherever it stands.
                self.end_confirmed |= is_end;
                let answer = if is_end { StatementAnswer::EndKnown } else { StatementAnswer::Nothing };
                return Ok(Told { is_changed: is_end, ..Told::fork(answer) });
            }
            Taken::New(action) => Told::news(StatementAnswer::Nothing, action),
            Taken::Gap(after) if !(is_end && self.forked) => return Ok(Told::of(StatementAnswer::Missing(after))),
            Taken::Fork(_) if self.own.parts_at(signed)? => {
                self.own.replace_from(signed)?;
                let action = signed.peek()?.action;
                Told { is_fork: true, ..Told::news(StatementAnswer::Nothing, action) }
            }
            Taken::Gap(_) | Taken::Fork(_) if is_end => {
                self.own.close(signed)?;
                Told { is_fork: true, ..Told::news(StatementAnswer::Nothing, Action::End) }
            }
            // They part further back.
            Taken::Gap(_) | Taken::Fork(_) => return Ok(Told::fork(StatementAnswer::Missing(0))),
        };
        told.actions.iter().for_each(|action| self.follow(*action, now));
        self.own_known = self.own.number();
        if was_suspended && (told.is_fork || self.forked) && self.own.stated() == Stated::Open {
            self.suspend(agreement, own, now)?;
            told.actions.push(Action::Suspend);
            told.answer = StatementAnswer::Again;
        }
        Ok(told)
    }

    /// Something that this side may have stated before it was restored, under keys that are not known here.
    fn doubt(
        &mut self,
        signed: &Signed<AgreementStatement>,
        agreement: &AgreementId,
        own: &Own<'_>,
        now: Time,
    ) -> Result<Told, RecordError> {
        let statement = signed.peek()?;
        if statement.agreement != *agreement {
            return Err(RecordError::Parties("the statement is about another agreement"));
        }
        if statement.action != Action::Suspend || self.own.stated() != Stated::Open {
            return Ok(Told::fork(StatementAnswer::Nothing));
        }
        self.suspend(agreement, own, now)?;
        Ok(Told { is_fork: true, ..Told::news(StatementAnswer::Again, Action::Suspend) })
    }

    fn suspend(&mut self, agreement: &AgreementId, own: &Own<'_>, now: Time) -> Result<(), RecordError> {
        let statement = self.own.next(*agreement, own.node.entity, Action::Suspend, now)?;
        self.own.take(&Signed::create(&statement, own.sign), agreement, own.node).map(drop)
    }

    /// Takes a statement of the counterpart, whose newest keys are those of `peer`; `known` says that it only shows what it
    /// holds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take_peer(
        &mut self,
        signed: &Signed<AgreementStatement>,
        agreement: &AgreementId,
        peer: &CertifiedNode,
        known: bool,
        now: Time,
    ) -> Result<Told, RecordError> {
        let told = self.follow_peer(signed, agreement, peer, known, now)?;
        Ok(self.note_fork(told))
    }

    fn follow_peer(
        &mut self,
        signed: &Signed<AgreementStatement>,
        agreement: &AgreementId,
        peer: &CertifiedNode,
        known: bool,
        now: Time,
    ) -> Result<Told, RecordError> {
        let was_ended = has_ended(&self.peer);
        let is_new_end = signed.peek()?.action == Action::End && !was_ended;
        let outdated = |chain: &StatementChain, after, number| chain.is_outdated(after, number, agreement, peer);
        match self.peer.take(signed, agreement, peer)? {
            // The counterpart knows that this side knows.
            Taken::Known(_) if known && has_ended(&self.peer) => {
                self.end_confirmed = true;
                Ok(Told::changed(StatementAnswer::EndKnown))
            }
            Taken::Known(_) => Ok(Told::of(StatementAnswer::Known)),
            Taken::New(action) => {
                self.follow(action, now);
                Ok(Told::news(StatementAnswer::Known, action))
            }
            Taken::Gap(after) if !(was_ended || is_new_end && self.forked) => {
                Ok(Told::of(StatementAnswer::Missing(after)))
            }
            Taken::Gap(_) | Taken::Fork(_) if is_new_end => {
                self.peer.close(signed)?;
                self.follow(Action::End, now);
                Ok(Told { is_fork: true, ..Told::news(StatementAnswer::Known, Action::End) })
            }
            // What its new keys cannot verify it cannot take over: then what it says counts.
            Taken::Fork(number)
                if !was_ended && self.peer.parts_at(signed)? && outdated(&self.peer, number - 1, number) =>
            {
                self.peer.replace_from(signed)?;
                let action = signed.peek()?.action;
                Ok(Told { is_fork: true, ..Told::news(StatementAnswer::Known, action) })
            }
            Taken::Fork(number) if !was_ended && !self.peer.parts_at(signed)? && outdated(&self.peer, 0, number) => {
                Ok(Told::fork(StatementAnswer::Missing(0)))
            }
            Taken::Gap(number) | Taken::Fork(number) => {
                let held = number.min(self.peer.number()).saturating_sub(1);
                Ok(Told::fork(StatementAnswer::Other(held)))
            }
        }
    }

    fn follow(&mut self, action: Action, now: Time) {
        if action == Action::End {
            self.ended_at.get_or_insert(now);
        }
    }
}

fn has_ended(chain: &StatementChain) -> bool {
    matches!(chain.stated(), Stated::Ended(_))
}
