//! From content to a message that is sealed, durable and on its way.
//!
//! ```text
//! draft + tar --seal_tree--> objects, pinned --one envelope core per recipient--> mailroom (one commit) --> exchange
//!      |                       | as they become durable                                                      ^
//!      \--what the walk found--+--> early offers ------------------------------------------------------------/
//! ```
//!
//! **Invariant:** a message is either submitted whole or nothing of it is left behind.

use std::pin::Pin;
use std::time::Duration;

use pakt_protocol::content::encode::Effort;
use pakt_protocol::delivery;
use pakt_protocol::ids::{EnvelopeId, MessageId};
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, SUITE};
use pakt_protocol::time::Time;
use tokio::io::AsyncRead;

use super::delivery::priority_for;
use super::drafts::{Recipient, Waiting, check_size};

use super::{Answer, Node, blocking, errors};
use crate::ambient;
use crate::api::types::*;
use crate::blob::Owner;
use crate::book::Agreement;
use crate::content::{DurableSoFar, SealTree, SealTreeError, SealedTree, seal_tree};
use crate::exchange::EarlyOffer;
use crate::mailroom::outgoing_owner;
use crate::mailroom::rows::{OutEnvelope, OutMessage};
use crate::scan::Scanner;

/// A message's content as a tar stream.
type Content = Pin<Box<dyn AsyncRead + Send>>;

/// Smaller messages are sealed before an early offer would be answered.
const EARLY_BYTES_MIN: u64 = 1 << 20;

/// The ids of a message and of its envelopes, one per recipient.
struct Ids {
    message: MessageId,
    envelopes: Vec<EnvelopeId>,
}

impl Ids {
    fn draw(waiting: &Waiting) -> Ids {
        let envelopes = waiting.recipients.iter().map(|_| EnvelopeId(ambient::random())).collect();
        Ids { message: MessageId(ambient::random()), envelopes }
    }
}

impl Node {
    /// Gives a draft its content; answers once the message is sealed and durable.
    ///
    /// The work goes on by itself if the caller goes away: then the content breaks off and all is undone, unless it had
    /// come whole.
    ///
    /// # Errors
    /// What is wrong with the content, `full`, `refused` when it is larger than agreed, `no_agreement`; nothing of the
    /// message is left then.
    pub async fn submit(&self, draft: String, content: Content) -> Answer<Sent> {
        let waiting = self.inner.drafts.take(&draft)?;
        let node = self.clone();
        let work = self.inner.submissions.spawn(async move { node.seal_and_submit(draft, waiting, content).await });
        work.await.unwrap_or_else(|_| Err(errors::broken_off()))
    }

    async fn seal_and_submit(&self, draft: String, waiting: Waiting, content: Content) -> Answer<Sent> {
        let inner = &self.inner;
        let ids = Ids::draw(&waiting);
        let _sealing = inner.drafts.begin_sealing(draft, &ids.envelopes);
        let dedup = inner.book.dedup_secret(&waiting.from.id, ambient::now()).await?;
        let durable = self.offer_early(&waiting, &ids).await;
        let what = SealTree {
            bytes_max: waiting.bytes_max,
            extent: waiting.extent,
            effort: self.effort_for(&waiting.recipients),
            durable: durable.clone(),
            known: inner.known.if_on(),
            scanner: self.outgoing_scanner().cloned(),
            ..SealTree::new(waiting.head.clone(), dedup, inner.entity.id(), outgoing_owner(&ids.message))
        };
        let sealed = seal_tree(content, what, &inner.blobs, &inner.pool);
        let sealed = tokio::select! {
            biased;
            () = inner.stop.cancelled() => return Err(errors::stopping()),
            sealed = sealed => sealed,
        };
        let tree = sealed.map_err(|error| sealing_failed(error, &waiting))?;
        let owner = outgoing_owner(&ids.message);
        let submitted = self.submit_sealed(ids, waiting, tree).await;
        if submitted.is_err() {
            self.release(owner, durable).await;
        }
        submitted
    }

    /// The scanner that what is sent must pass, where the operator wants that.
    fn outgoing_scanner(&self) -> Option<&Scanner> {
        self.inner.release.scanner().filter(|_| self.inner.config.scan.outgoing)
    }

    /// How small the content is to be made: as the slowest line asks for that is known.
    fn effort_for(&self, recipients: &[Recipient]) -> Effort {
        let rates = recipients.iter().filter_map(|found| self.inner.exchange.line_rate(&found.agreement.id));
        Effort::for_line(rates.min())
    }

    /// Offers each envelope to its recipient while the content is still being read; gives what they follow.
    async fn offer_early(&self, waiting: &Waiting, ids: &Ids) -> Option<DurableSoFar> {
        // What must be scanned before it leaves cannot leave while it is still read.
        if self.outgoing_scanner().is_some() {
            return None;
        }
        let extent = waiting.extent.filter(|extent| extent.plain_bytes >= EARLY_BYTES_MIN)?;
        let (durable, now) = (DurableSoFar::default(), ambient::service_now());
        for (Recipient { agreement, group }, envelope) in waiting.recipients.iter().zip(&ids.envelopes) {
            let offer = EarlyOffer {
                envelope: *envelope,
                group: group.id,
                priority: priority_for(waiting.priority),
                extent,
                bounds: extent.bounds(&waiting.head),
                expires_at: now + Duration::from_secs(agreement.terms.hold_seconds.into()),
                objects: durable.follow(),
            };
            self.inner.exchange.offer_early(&agreement.id, offer).await;
        }
        Some(durable)
    }

    /// Lets go of the objects of a message that was sealed but not submitted; whoever was offered it lets go first.
    async fn release(&self, owner: Owner, durable: Option<DurableSoFar>) {
        let blobs = self.inner.blobs.clone();
        let release = async move {
            if let Some(durable) = durable {
                durable.let_go().await;
            }
            if let Err(error) = blobs.release(owner).await {
                tracing::warn!(%error, "cannot release the objects of a message that was not submitted");
            }
        };
        // Not waited for: a counterpart's answer is no business of whoever sends. The next start does it otherwise.
        tokio::spawn(release);
    }

    async fn submit_sealed(&self, ids: Ids, waiting: Waiting, tree: SealedTree) -> Answer<Sent> {
        let inner = &self.inner;
        let now = ambient::service_now();
        // Hours may have passed since the draft, and what was agreed then may have ended.
        let recipients: Vec<Recipient> = waiting.recipients.iter().filter_map(|found| self.still(found, now)).collect();
        if recipients.len() < waiting.recipients.len() {
            let message = "an agreement ended while the content was read; nothing was sent";
            return Err(ServiceError::new(ErrorCode::NoAgreement, message, "see `pakt agreement list`"));
        }
        let counts = counts_of(&tree);
        let message = OutMessage {
            id: ids.message,
            sequence: 0,
            from_group: waiting.from.id,
            from_name: waiting.from.name.clone(),
            subject: waiting.head.subject.clone(),
            priority: priority_for(waiting.priority),
            purpose: waiting.head.purpose.clone(),
            submitted_at: ambient::now(),
            counts,
            key: None,
            envelopes: ids.envelopes,
            earlier: waiting.earlier.clone(),
        };
        let envelopes: Vec<OutEnvelope> = recipients
            .iter()
            .zip(&message.envelopes)
            .map(|(recipient, envelope)| self.envelope(*envelope, recipient, &message, &tree.root_hash, now))
            .collect();
        let SealedTree { manifest_key, objects, .. } = tree;
        inner.mailroom.submit(message.clone(), envelopes.clone(), &manifest_key, objects).await?;
        for envelope in &envelopes {
            inner.exchange.submitted(&envelope.agreement, envelope.id).await;
        }
        let node = self.clone();
        blocking(move || Ok(node.sent(&message, envelopes))).await
    }

    /// A recipient with its agreement as it is now, if messages may still go there.
    fn still(&self, found: &Recipient, now: Time) -> Option<Recipient> {
        let agreement = self
            .inner
            .book
            .get(&found.agreement.id)
            .filter(|agreement: &std::sync::Arc<Agreement>| agreement.in_force(now))?;
        Some(Recipient { agreement, group: found.group.clone() })
    }

    fn envelope(
        &self,
        id: EnvelopeId,
        Recipient { agreement, group }: &Recipient,
        message: &OutMessage,
        root_hash: &[u8; 32],
        now: Time,
    ) -> OutEnvelope {
        let other = agreement.counterpart();
        let core = EnvelopeCore {
            suite: SUITE,
            message: message.id,
            envelope: id,
            sender: self.inner.entity.id(),
            recipient: other.entity,
            group: group.id,
            priority: message.priority,
            submitted_at: message.submitted_at,
            counts: message.counts,
            agreement: agreement.id,
            agreement_version: agreement.terms.version,
            // Given with the commit that makes it durable.
            number: 0,
            root_hash: *root_hash,
        };
        let hold = Duration::from_secs(agreement.terms.hold_seconds.into());
        let early = self.inner.exchange.progress(&id).unwrap_or_default();
        OutEnvelope {
            id,
            message: message.id,
            sequence: 0,
            number: 0,
            agreement: agreement.id,
            entity: other.entity,
            entity_name: other.name.clone(),
            group: group.id,
            group_name: group.name.clone(),
            core: core.to_bytes(),
            delivery: delivery::Record::new(message.priority, hold, now),
            wire_bytes: early.wire_bytes,
            durable_bytes: early.durable_bytes,
            receipts: Vec::new(),
        }
    }

    /// What was submitted, as far as it is by now.
    fn sent(&self, message: &OutMessage, envelopes: Vec<OutEnvelope>) -> Sent {
        let latest = |row: OutEnvelope| self.inner.mailroom.envelope(&row.id).unwrap_or(row);
        let envelopes = envelopes.into_iter().map(|row| self.outbox_envelope(message, &latest(row))).collect();
        Sent { message: message.id.to_string(), envelopes }
    }
}

fn counts_of(tree: &SealedTree) -> Counts {
    Counts {
        files: tree.totals.files,
        plain_bytes: tree.totals.bytes,
        chunks: tree.totals.chunks,
        segments: tree.totals.segments,
        sealed_bytes: tree.sealed_bytes,
    }
}

/// Content that is too large is explained by the agreement that is too small.
fn sealing_failed(error: SealTreeError, waiting: &Waiting) -> ServiceError {
    if let SealTreeError::TooLarge { bytes_max } = error {
        let smallest = |recipient: &&Recipient| recipient.agreement.terms.message_bytes_max == bytes_max;
        let agreement = waiting.recipients.iter().find(smallest).map(|recipient| &*recipient.agreement);
        let told = agreement.map(|agreement| check_size(bytes_max.saturating_add(1), &[agreement]));
        if let Some(Err(error)) = told {
            return error;
        }
    }
    error.into()
}
