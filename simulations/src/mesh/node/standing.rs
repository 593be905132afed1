//! What is about the agreement itself: statements of both sides, restores, and what follows from them for traffic.

use std::rc::Rc;

use pakt_protocol::agreement::{Own, StatementAnswer, Traffic};
use pakt_protocol::delivery::Reason;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::{Message, Restored, RestoredKnown, Statement, WantStatements};
use pakt_protocol::policy::Footing;
use pakt_protocol::record::restored::RestoreNotice;
use pakt_protocol::record::statement::{Action, AgreementStatement};
use pakt_protocol::record::{RecordError, Signed};
use pakt_protocol::session::Input;
use pakt_protocol::time::Time;

use super::agreement::Agreement;
use super::{ALARM_SEEN, Actor, Timer};
use crate::mesh::Defect;
use crate::mesh::disk::rows::AgreementRow;
use crate::mesh::disk::{Full, Key, Value};
use crate::mesh::event::Due;

/// A receipt signed shortly before the backup may have become durable after it.
const BACKUP_GRACE_MICROS: i64 = 60_000_000;

fn say(statement: Signed<AgreementStatement>, known: bool) -> Message {
    Statement { statement, known }.into()
}

impl Actor<'_> {
    /// What this side shows about the agreement when a session starts.
    pub(super) fn shown_at_start(&self) -> Vec<Message> {
        let row = &self.peer.agreement.row.statements;
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
        let Ok(statement) = agreement.row.statements.own.next(self.peer.id, identity.entity, action, now) else {
            return false;
        };
        let signed = Signed::create(&statement, |domain, bytes| match action.needs_root() {
            true => identity.root.sign(domain, bytes),
            false => identity.statement.sign(domain, bytes),
        });
        let (id, node) = (self.peer.id, identity.certified.clone());
        let made = self.keep_agreement("statement", |row| {
            row.ended |= matches!(row.statements.state(&signed, &id, &node, now), Ok(Some(Action::End)));
        });
        if made.is_err() {
            return false;
        }
        let now = self.now();
        self.show_unconfirmed();
        self.follow_agreement();
        if self.peer.live.is_none() {
            self.peer.timers.set(Timer::Dial, now);
        }
        true
    }

    /// Whatever the agreement no longer allows ends, and whatever it allows again begins.
    pub(super) fn follow_agreement(&mut self) {
        let is_ended = self.peer.agreement.row.ended;
        // Before the session learns of an end: what had left is asked for then, and must not be offered.
        self.enforce_terms();
        if is_ended {
            self.shared.ill.insert(self.peer.link);
            self.tell_session(Input::Ended);
            self.forget_stale();
        }
    }

    /// A record of the counterpart, or a question about one.
    pub(super) fn take_record(&mut self, message: Message) {
        match message {
            Message::Statement(message) => self.take_statement(message),
            Message::WantStatements(want) => {
                self.show_statements(want.party == self.home.identity.entity, want.after, false);
            }
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
        let Ok(answer) = self.take_shown(&statement, is_own, known) else {
            return self.close_session("this is not a valid statement about this agreement");
        };
        match answer {
            StatementAnswer::Known => self.transmit(say(statement, true)),
            StatementAnswer::Missing(after) => self.transmit(WantStatements { party, after }),
            StatementAnswer::Other(after) => self.show_statements(is_own, after, true),
            StatementAnswer::Again => {
                self.show_unconfirmed();
                let at = self.shared.plans.now() + ALARM_SEEN;
                self.shared.plans.plan(at, Due::LookAtSuspensions { node: self.home.index });
            }
            StatementAnswer::Nothing => {}
            StatementAnswer::EndKnown => {
                if is_own {
                    self.transmit(say(statement, true));
                }
                self.follow_agreement();
                return self.end_if_settled();
            }
        }
        self.follow_agreement();
    }

    /// Takes a statement that the counterpart shows; what cannot be kept is answered with nothing.
    fn take_shown(
        &mut self,
        signed: &Signed<AgreementStatement>,
        own: bool,
        known: bool,
    ) -> Result<StatementAnswer, RecordError> {
        let (id, now) = (self.peer.id, self.wall());
        let mut row = AgreementRow::clone(&self.peer.agreement.row);
        let told = if own {
            let identity = &self.home.identity;
            let sign = |domain, bytes: &[u8]| identity.statement.sign(domain, bytes);
            let restored = self.home.own().restored.is_some();
            let own = Own { node: &identity.certified, sign: &sign, restored };
            row.statements.take_own(signed, &id, &own, now)?
        } else {
            row.statements.take_peer(signed, &id, &self.peer.certified, known, now)?
        };
        row.ended |= told.actions.contains(&Action::End);
        if !told.is_changed {
            return Ok(told.answer);
        }
        let kept = self.keep_agreement("statement", |held| *held = row);
        Ok(if kept.is_ok() { told.answer } else { StatementAnswer::Nothing })
    }

    /// Shows this side's statements that the counterpart has not confirmed.
    fn show_unconfirmed(&mut self) {
        let known = self.peer.agreement.row.statements.own_known;
        self.show_statements(true, known, false);
    }

    fn show_statements(&mut self, own: bool, after: u64, known: bool) {
        let row = self.peer.agreement.row.clone();
        let chain = if own { &row.statements.own } else { &row.statements.peer };
        for statement in chain.after(after) {
            let statement = if own { self.signed_today(statement.clone()) } else { statement.clone() };
            self.transmit(say(statement, known));
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
