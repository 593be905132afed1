//! Recalls. Of what was sent: taken back while it has not left, asked for afterwards. Of what arrived: purged if nobody
//! has taken it, and answered with a receipt either way.
//!
//! Which receipt answers what is found here, says the table of [`pakt_protocol::recalls`].
//!
//! **Invariant:** whatever is answered is durable, and what contradicts it can no longer happen.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pakt_keys::EntityId;
use pakt_protocol::audit::{Event, MessageStep};
use pakt_protocol::delivery::Input;
use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::recalls::{Repeated, Request, repeated};
use pakt_protocol::record::envelope::Counts;
use pakt_protocol::record::recall::RecallRequest;
use pakt_protocol::record::receipt::{Receipt, Verdict, receipt_bytes};
use pakt_protocol::time::Time;

use super::purge::{Cause, PurgeError};
use super::receipts::{self, Arrived, find};
use super::rows::{OutEnvelope, SettledRow, Stated};
use super::{MailError, Mailroom, incoming_owner, outbox};
use crate::audit;
use crate::backup::ledger::LedgerKey;
use crate::blob::Blobs;
use crate::entity::{Entity, Identity};
use crate::store::tables::{
    INCOMING, LEDGERED, OPEN_RECALLS, OUT_ENVELOPES, OWED, PURGED, PURGING, RECALL_WISHES, SETTLED,
};
use crate::store::{StoreError, WriteTx};

/// What a recall has led to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// A receipt is owed that answers it.
    Stated,
    /// It is on hold: answered later.
    Waits,
    /// The counterpart has asked for too many that never came: nothing is done, it asks again.
    Later,
    /// It is about another core than came under this id.
    OtherCore,
}

impl Mailroom {
    /// Does what a verified request asks for, and owes the answer.
    ///
    /// # Errors
    /// [`MailError`]; nothing is answered then.
    pub(crate) async fn recall_here(
        &self,
        entity: &Entity,
        request: RecallRequest,
        agreement_hash: [u8; 32],
        now: Time,
    ) -> Result<Answered, MailError> {
        let key = (request.sender, request.envelope);
        let own = entity.current();
        let core = request.core;
        let judged = self.store.write(move |tx| {
            let judged = Request::judge(core, tx.get(&SETTLED, &key)?.map(|row| row.core));
            if judged == Request::NeverCame {
                never_held(tx, &own, &request, agreement_hash, now)?;
            }
            Ok::<_, StoreError>(judged)
        });
        match judged.await? {
            Request::NeverCame => Ok(Answered::Stated),
            Request::OtherCore => Ok(Answered::OtherCore),
            Request::Came => self.recall_settled(entity, key, now).await,
        }
    }

    async fn recall_settled(&self, entity: &Entity, key: Arrived, now: Time) -> Result<Answered, MailError> {
        match self.purge(entity, key, Cause::Recalled, now).await {
            Ok(_) | Err(PurgeError::Taken | PurgeError::Missing) => {
                let own = entity.current();
                self.store.write(move |tx| answer_again(tx, &own, key)).await?;
                Ok(Answered::Stated)
            }
            Err(PurgeError::OnHold) => {
                let kept: Result<(), StoreError> = self.store.write(move |tx| tx.put(&RECALL_WISHES, &key, &())).await;
                kept?;
                Ok(Answered::Waits)
            }
            Err(PurgeError::Mail(error)) => Err(error),
            Err(PurgeError::KeptUntil(_) | PurgeError::NotTaken) => Ok(Answered::Waits),
        }
    }

    /// Whether the sender of a message asked for it back while it was on hold.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub(crate) fn is_recall_wished(&self, key: &Arrived) -> Result<bool, MailError> {
        Ok(self.store.read(|tx| tx.contains(&RECALL_WISHES, key))?)
    }

    /// Does what was wished while the message was on hold.
    ///
    /// # Errors
    /// [`MailError`].
    pub(crate) async fn grant_wish(&self, entity: &Entity, key: Arrived, now: Time) -> Result<Answered, MailError> {
        let answered = self.recall_settled(entity, key, now).await?;
        if answered == Answered::Stated {
            let done: Result<bool, StoreError> = self.store.write(move |tx| tx.remove(&RECALL_WISHES, &key)).await;
            done?;
        }
        Ok(answered)
    }

    /// Purges again what this entity itself had stated as purged before it was restored from a backup, and takes it in no
    /// more; the receipt was verified as its own.
    ///
    /// # Errors
    /// [`MailError`].
    pub(crate) async fn purge_again(
        &self,
        entity: &Entity,
        bytes: Vec<u8>,
        receipt: Receipt,
        now: Time,
    ) -> Result<bool, MailError> {
        let key = (receipt.sender, receipt.envelope);
        let remembered = self.store.write(move |tx| {
            let Some(mut row) = tx.get(&SETTLED, &key)? else {
                tx.remove(&INCOMING, &key)?;
                Blobs::let_go(tx, incoming_owner(&key.0, &key.1))?;
                tx.put(&SETTLED, &key, &SettledRow { core: receipt.core, receipt: bytes, later: Vec::new() })?;
                return Ok(false);
            };
            if row.core == receipt.core && row.later.iter().all(|stated| stated.verdict != receipt.verdict) {
                row.later.push(Stated { verdict: receipt.verdict, receipt: bytes });
                tx.put(&SETTLED, &key, &row)?;
            }
            Ok::<_, StoreError>(row.core == receipt.core && find(tx, &key)?.is_some())
        });
        if !remembered.await? {
            return Ok(false);
        }
        match self.purge(entity, key, Cause::Again, now).await {
            Ok(_) => Ok(true),
            Err(PurgeError::Mail(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Whether a restored backup's ledger says that this was purged.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub(crate) fn is_forgotten(&self, (from, envelope): &Arrived) -> Result<bool, MailError> {
        let tag = LedgerKey::of(self.store.key()).tag(from, envelope);
        Ok(self.store.read(|tx| tx.contains(&LEDGERED, &tag))?)
    }

    // ------------------------------------------------------------------------------------------------ what was sent

    /// Wants back an envelope that no machine is at work on: its row says what follows.
    ///
    /// # Errors
    /// [`MailError::Missing`] or [`MailError::Store`].
    pub(crate) async fn want_back(&self, id: EnvelopeId) -> Result<(), MailError> {
        let blobs = self.blobs.clone();
        let wanted = self.store.write(move |tx| {
            let Some(row) = tx.get(&OUT_ENVELOPES, &id)? else { return Err(MailError::Missing) };
            let (record, steps) = receipts::after(row.delivery.clone(), Input::Recall);
            Ok(outbox::keep_in(tx, &blobs, row, record, (None, &steps))?.slot)
        });
        if let Some(slot) = wanted.await? {
            self.erase(slot).await;
        }
        self.changed();
        Ok(())
    }

    /// Envelopes of an agreement whose receiver has not answered a recall; forgets those that were answered.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub(crate) async fn open_recalls(&self, agreement: AgreementId) -> Result<Vec<OutEnvelope>, MailError> {
        let rows = self.store.read(|tx| {
            let keys = tx.prefix_keys(&OPEN_RECALLS, &agreement, usize::MAX)?;
            keys.into_iter()
                .map(|(_, id)| Ok((id, tx.get(&OUT_ENVELOPES, &id)?)))
                .collect::<Result<Vec<_>, StoreError>>()
        })?;
        let (mut open, mut answered) = (Vec::new(), Vec::new());
        for (id, row) in rows {
            match row.filter(|row| row.delivery.recalling) {
                // What has not left is taken back, not asked for.
                Some(row) if row.delivery.left || !row.delivery.state.is_open() => open.push(row),
                Some(_) => {}
                None => answered.push(id),
            }
        }
        if !answered.is_empty() {
            let forgotten: Result<(), StoreError> = self
                .store
                .write(move |tx| {
                    answered.iter().try_for_each(|id| tx.remove(&OPEN_RECALLS, &(agreement, *id)).map(drop))
                })
                .await;
            forgotten?;
        }
        Ok(open)
    }

    /// The newest receipts in which a counterpart has stated that it purged something, oldest first, at most `max`; and how
    /// many there are. Reads every envelope that was sent: blocks on the disk.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub(crate) fn purges_of(&self, counterpart: &EntityId, max: usize) -> Result<(Vec<Vec<u8>>, usize), MailError> {
        let places = [Verdict::Recalled.place(), Verdict::Returned.place()];
        let (mut newest, mut total) = (BTreeSet::new(), 0);
        self.store.read(|tx| {
            tx.scan(&OUT_ENVELOPES, .., |_, row: OutEnvelope| {
                if row.entity == *counterpart {
                    for held in row.receipts.into_iter().filter(|held| places.contains(&held.tier)) {
                        total += 1;
                        newest.insert((held.at, held.bytes));
                    }
                    while newest.len() > max {
                        newest.pop_first();
                    }
                }
                Ok(ControlFlow::Continue(()))
            })
        })?;
        Ok((newest.into_iter().map(|(_, bytes)| bytes).collect(), total))
    }
}

/// Notes that the receiver of an envelope is to be asked for it back until it answers, in the commit that says so.
pub(super) fn note_asked(tx: &mut WriteTx, row: &OutEnvelope) -> Result<(), StoreError> {
    tx.put(&OPEN_RECALLS, &(row.agreement, row.id), &())?;
    let &OutEnvelope { id: envelope, message, agreement, entity, .. } = row;
    audit::append(tx, Event::Message { envelope, message, agreement, entity, step: MessageStep::RecallAsked })
}

/// Settles for good an envelope that never came.
fn never_held(
    tx: &mut WriteTx,
    own: &Identity,
    request: &RecallRequest,
    agreement_hash: [u8; 32],
    now: Time,
) -> Result<(), StoreError> {
    let RecallRequest { sender, recipient, agreement, message, envelope, core, .. } = *request;
    let key = (sender, envelope);
    tx.remove(&INCOMING, &key)?;
    Blobs::let_go(tx, incoming_owner(&sender, &envelope))?;
    let head = audit::append_blinded(tx, |blinder| {
        let step = MessageStep::RefusedHere { core, blinder };
        Event::Message { envelope, message, agreement, entity: sender, step }
    })?;
    let receipt = Receipt {
        verdict: Verdict::NotHeld,
        core,
        message,
        envelope,
        sender,
        recipient,
        agreement,
        agreement_hash,
        counts: Counts::default(),
        offered_at: now,
        at: now,
        log_head: Some(head.0),
        chain: own.chain().clone(),
    };
    let receipt = receipt_bytes(&receipt.sign(own.statement()));
    tx.put(&OWED, &(sender, envelope, Verdict::NotHeld.place()), &receipt)?;
    tx.put(&SETTLED, &key, &SettledRow { core, receipt, later: Vec::new() })
}

/// Owes the receipt again that answers a recall; one that says "purged" is signed where there is none yet.
fn answer_again(tx: &mut WriteTx, own: &Identity, key: Arrived) -> Result<(), StoreError> {
    let Some(row) = tx.get(&SETTLED, &key)? else { return Err(StoreError::Damaged(SETTLED.name())) };
    let is_purged = tx.contains(&PURGED, &key)? && !tx.contains(&PURGING, &key)?;
    let stated: Vec<Verdict> = row.later.iter().map(|stated| stated.verdict).collect();
    match repeated(&stated, is_purged) {
        Repeated::Later(at) => {
            let Stated { verdict, receipt } = &row.later[at];
            tx.put(&OWED, &(key.0, key.1, verdict.place()), receipt)
        }
        Repeated::State(verdict) => receipts::owe_receipt(tx, own, key, verdict).map(drop),
        Repeated::First => tx.put(&OWED, &(key.0, key.1, 0), &row.receipt),
    }
}
