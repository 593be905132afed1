//! What is about the agreement itself: statements of both sides, restores, and what follows from them for traffic.

use std::rc::Rc;

use pakt_protocol::agreement::Traffic;
use pakt_protocol::delivery::Reason;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{Message, Restored, RestoredKnown, Statement, WantStatements};
use pakt_protocol::policy::Footing;
use pakt_protocol::record::restored::RestoreNotice;
use pakt_protocol::record::statement::{Action, AgreementStatement, Stated, StatementChain, Taken};
use pakt_protocol::record::{RecordError, Signed};
use pakt_protocol::session::Input;
use pakt_protocol::time::Time;

use super::agreement::{Agreement, follow};
use super::{Actor, Timer};
use crate::mesh::Defect;
use crate::mesh::disk::rows::AgreementRow;
use crate::mesh::disk::{Full, Key, Value};

/// A receipt signed shortly before the backup may have become durable after it.
const BACKUP_GRACE_MICROS: i64 = 60_000_000;

/// What is to be answered to a statement that was shown.
enum Answer {
    Known,
    Missing(u64),
    Nothing,
    EndKnown,
}

fn say(statement: Signed<AgreementStatement>, known: bool) -> Message {
    Statement { statement, known }.into()
}

fn has_ended(chain: &StatementChain) -> bool {
    matches!(chain.stated(), Stated::Ended(_))
}

impl Actor<'_> {
    /// What this side shows about the agreement when a session starts.
    pub(super) fn shown_at_start(&self) -> Vec<Message> {
        let row = &self.peer.agreement.row;
        let own = row.own.newest().cloned().map(|statement| say(self.signed_today(statement), false));
        let peer = row.peer.newest().cloned().map(|statement| say(statement, true));
        own.into_iter().chain(peer).collect()
    }

    /// A statement as the node's keys of today sign it: what keys before them have signed does not verify any more.
    fn signed_today(&self, signed: Signed<AgreementStatement>) -> Signed<AgreementStatement> {
        let identity = &self.home.identity;
        match signed.peek() {
            Ok(statement) if !statement.action.needs_root() => {
                Signed::create(&statement, |domain, bytes| identity.statement.sign(domain, bytes))
            }
            _ => signed,
        }
    }

    fn keep_agreement(&mut self, what: &'static str, change: impl FnOnce(&mut AgreementRow)) -> Result<(), Full> {
        let mut row = AgreementRow::clone(&self.peer.agreement.row);
        change(&mut row);
        let row = Rc::new(row);
        self.commit(what, vec![(Key::Agreement(self.peer.slot), Some(Value::Agreement(row.clone())))])?;
        self.peer.agreement = Agreement { row };
        Ok(())
    }

    /// Somebody here makes a statement; whether it could be made.
    pub(crate) fn state(&mut self, action: Action) -> bool {
        let (now, identity) = (self.wall(), &self.home.identity);
        let agreement = &self.peer.agreement;
        if agreement.row.unconfirmed {
            return false;
        }
        let Ok(statement) = agreement.row.own.next(self.peer.id, identity.entity, action, now) else { return false };
        let signed = Signed::create(&statement, |domain, bytes| match action.needs_root() {
            true => identity.root.sign(domain, bytes),
            false => identity.statement.sign(domain, bytes),
        });
        let (id, node) = (self.peer.id, identity.certified.clone());
        let made = self.keep_agreement("statement", |row| {
            let _ = row.own.take(&signed, &id, &node);
            follow(row, action, now);
        });
        if made.is_err() {
            return false;
        }
        let now = self.now();
        for statement in self.peer.agreement.row.own.after(self.peer.agreement.row.own_known).to_vec() {
            let statement = self.signed_today(statement);
            self.transmit(say(statement, false));
        }
        self.follow_agreement();
        if self.peer.live.is_none() {
            self.peer.timers.set(Timer::Dial, now);
        }
        true
    }

    /// Whatever the agreement no longer allows ends, and whatever it allows again begins.
    pub(super) fn follow_agreement(&mut self) {
        let is_ended = self.peer.agreement.row.ended;
        if is_ended {
            self.shared.ill.insert(self.peer.link);
            self.tell_session(Input::Ended);
        }
        self.enforce_terms();
        if is_ended {
            self.forget_stale();
        }
    }

    /// A record of the counterpart, or a question about one.
    pub(super) fn take_record(&mut self, message: Message) {
        match message {
            Message::Statement(message) => self.take_statement(message),
            Message::WantStatements(want) => self.show_statements(&want),
            Message::ReceiptHeld(held) => self.take_receipt_held(held),
            Message::AskEnded(ask) => self.answer_ask(&ask),
            Message::Restored(message) => self.take_restored(&message),
            Message::RestoredKnown(message) => self.take_restored_known(message.generation),
            Message::Reconcile(message) => self.take_sent_statement(message),
            Message::Reconciled(message) => self.take_held_statement(message),
            Message::ReconcileGap(message) => self.take_reconcile_gap(&message),
            Message::WantReconcile(_) => self.reconcile_now(),
            Message::Recall(message) => self.take_recall(&message),
            Message::PurgedBefore(message) => self.take_purged_before(message),
            // Nothing else is said in simulated meshes.
            _ => {}
        }
    }

    fn take_statement(&mut self, message: Statement) {
        let Statement { statement, known } = message;
        let Ok(party) = statement.peek().map(|statement| statement.party) else {
            return self.close_session("a statement that cannot be read");
        };
        let is_own = party == self.home.identity.entity;
        let taken = if is_own { self.take_own(&statement) } else { self.take_peer(&statement, known) };
        let Ok(answer) = taken else {
            return self.close_session("this is not a valid statement about this agreement");
        };
        match answer {
            Answer::Known => self.transmit(say(statement, true)),
            Answer::Missing(after) => self.transmit(WantStatements { party, after }),
            Answer::Nothing => {}
            Answer::EndKnown => {
                if is_own {
                    self.transmit(say(statement, true));
                }
                self.follow_agreement();
                return self.end_if_settled();
            }
        }
        self.follow_agreement();
    }

    /// One of this side's statements comes back: a confirmation, or what a restored backup had lost.
    fn take_own(&mut self, signed: &Signed<AgreementStatement>) -> Result<Answer, RecordError> {
        let (id, node, now) = (self.peer.id, self.home.identity.certified.clone(), self.wall());
        let mut own = self.peer.agreement.row.own.clone();
        match own.take(signed, &id, &node) {
            Ok(Taken::Known(number)) => {
                let is_end = has_ended(&own) && number == own.number();
                let kept = self.keep_agreement("statement known", |row| {
                    row.end_confirmed |= is_end;
                    row.own_known = row.own_known.max(number);
                });
                Ok(if is_end && kept.is_ok() { Answer::EndKnown } else { Answer::Nothing })
            }
            Ok(Taken::New(action)) => {
                let _ = self.keep_agreement("own statement", |row| {
                    row.own_known = own.number();
                    row.own = own;
                    follow(row, action, now);
                });
                Ok(Answer::Nothing)
            }
            Ok(Taken::Gap(after)) => Ok(Answer::Missing(after)),
            // This entity has stated two different things under one number.
            Err(RecordError::Field(_)) => Ok(Answer::Nothing),
            Err(error) => Err(error),
        }
    }

    fn take_peer(&mut self, signed: &Signed<AgreementStatement>, known: bool) -> Result<Answer, RecordError> {
        let (id, node, now) = (self.peer.id, self.peer.certified.clone(), self.wall());
        let mut peer = self.peer.agreement.row.peer.clone();
        match peer.take(signed, &id, &node)? {
            Taken::Known(_) if known && has_ended(&peer) => {
                let kept = self.keep_agreement("end known", |row| row.end_confirmed = true);
                Ok(if kept.is_ok() { Answer::EndKnown } else { Answer::Nothing })
            }
            Taken::Known(_) => Ok(Answer::Known),
            Taken::New(action) => {
                let kept = self.keep_agreement("statement", |row| {
                    row.peer = peer;
                    follow(row, action, now);
                });
                Ok(if kept.is_ok() { Answer::Known } else { Answer::Nothing })
            }
            Taken::Gap(after) => Ok(Answer::Missing(after)),
        }
    }

    fn show_statements(&mut self, want: &WantStatements) {
        let row = self.peer.agreement.row.clone();
        let (chain, is_own) = match want.party == self.home.identity.entity {
            true => (&row.own, true),
            false => (&row.peer, false),
        };
        for statement in chain.after(want.after) {
            let statement = if is_own { self.signed_today(statement.clone()) } else { statement.clone() };
            self.transmit(say(statement, false));
        }
    }

    /// Stops at once what the agreement no longer allows, lets go on what it allows again.
    pub(super) fn enforce_terms(&mut self) {
        let now = self.now();
        let footing = self.peer.agreement.footing(now);
        let is_changed = self.peer.footing.replace(footing) != Some(footing);
        let view = self.peer.agreement.view();
        if let Some(at) = view.next_date(now) {
            self.peer.timers.set(Timer::Terms, at);
        }
        if self.shared.is_broken(Defect::IgnoreEnd) {
            return;
        }
        if is_changed {
            self.tell_session(Input::InForce(footing == Footing::InForce));
        }
        match view.traffic(now) {
            Traffic::Waits(reason) if is_changed => {
                self.halt_receiving(footing);
                self.hold_traffic(reason);
            }
            Traffic::Goes | Traffic::Waits(_) => {}
            Traffic::Stops(reason) => self.stop_traffic(reason),
        }
        let expired = self.peer.live.as_ref().is_some_and(|live| live.machine.is_expired());
        if self.peer.live.is_some() && !view.keeps_session(now, expired) {
            self.close_session("the agreement has expired");
        }
    }

    /// No content for now; what is queued waits while its hold time goes on.
    fn hold_traffic(&mut self, reason: Reason) {
        self.end_content();
        self.suspend_sending();
        let queued: Vec<EnvelopeId> = self.peer.deliveries.keys().copied().collect();
        for envelope in queued {
            self.hold_delivery(envelope, reason);
        }
    }

    fn stop_traffic(&mut self, reason: Reason) {
        self.end_content();
        let queued: Vec<EnvelopeId> = self.peer.deliveries.keys().copied().collect();
        for envelope in queued {
            self.stop_delivery(envelope, reason);
        }
    }

    /// The operator confirms what came out of a backup.
    pub(crate) fn confirm(&mut self) {
        if self.peer.agreement.row.unconfirmed
            && self.keep_agreement("confirmed", |row| row.unconfirmed = false).is_ok()
        {
            self.follow_agreement();
            let now = self.now();
            self.peer.timers.set(Timer::Dial, now);
        }
    }

    // ------------------------------------------------------------------------------------------------------- restores

    /// Tells the counterpart of a restore that it does not know of.
    pub(super) fn tell_restored(&mut self) {
        let Some((generation, backup_at, restored_at)) = self.home.own().restored else { return };
        if self.peer.agreement.row.told_generation >= generation {
            return;
        }
        let notice = RestoreNotice {
            entity: self.home.identity.entity,
            reader: self.peer.entity,
            agreement: self.peer.id,
            generation,
            nonce: [0; 32],
            backup_at,
            restored_at,
        };
        let notice = self.shared.suite.sign(&notice, &self.home.identity);
        self.transmit(Restored { notice });
    }

    fn take_restored(&mut self, message: &Restored) {
        let notice = self.shared.suite.open(&message.notice, &self.peer.certified);
        let Some(notice) = notice.filter(|notice| notice.agreement == self.peer.id) else {
            return self.close_session("this is not a valid notice of a restore");
        };
        let RestoreNotice { generation, backup_at, restored_at, .. } = notice;
        if self.peer.agreement.row.peer_generation < generation {
            let span: (Time, Time) = (backup_at.shifted(-BACKUP_GRACE_MICROS), restored_at);
            let kept = self.keep_agreement("restore of the counterpart", |row| {
                row.peer_generation = generation;
                row.peer_restores.push(span);
            });
            if kept.is_err() {
                return self.close_session("it could not be stored");
            }
        }
        self.show_purges(generation);
        self.transmit(RestoredKnown { generation });
    }

    fn take_restored_known(&mut self, generation: u64) {
        if self.peer.agreement.row.told_generation < generation {
            let _ = self.keep_agreement("restore known", |row| row.told_generation = generation);
        }
    }
}
