//! Counterparts whose certificates contradict each other: nothing is exchanged with them until people have spoken.
//!
//! Two roots that follow one root, two certificates with one number, or a certificate by a root whose successor is known:
//! only a root key in two hands can sign these. Both chains are kept as evidence.
//!
//! **Invariant:** a frozen agreement carries no traffic and its door is shut; only ending it is left.

use pakt_protocol::audit::AgreementStep;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode};
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::sign::note;
use super::{Book, BookError, HelloProblem, Inner};
use crate::ambient;
use crate::store::WriteTx;
use crate::store::tables::{AGREEMENTS, CHAINS};

/// What is known about a counterpart's certificates beside the newest chain.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct ChainRow {
    /// Generation and highest serial known of the root before the current one.
    pub(super) outrun: Option<(u32, u64)>,
    /// The contradiction, once there is one.
    pub(super) frozen: Option<Evidence>,
    /// Transport keys before the current one, newest first.
    pub(super) former: Vec<[u8; 32]>,
}

/// Transport keys that are remembered of one counterpart.
const FORMER_MAX: usize = 8;

/// Two chains that one entity cannot both have made honestly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When the second one was shown.
    pub at: Time,
    /// The chain that was known.
    pub known: CertificateChain,
    /// The chain that was shown.
    pub shown: CertificateChain,
}

impl Book {
    /// Freezes an agreement, durably, and keeps both chains; the first contradiction stays.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn freeze(&self, id: &AgreementId, shown: &CertificateChain) -> Result<(), BookError> {
        let (inner, id, shown, at) = (self.inner.clone(), *id, shown.clone(), ambient::now());
        let write = self.inner.store.write(move |tx| {
            let row = tx.get(&AGREEMENTS, &id)?.ok_or(BookError::Unknown)?;
            let before: ChainRow = tx.get(&CHAINS, &id)?.unwrap_or_default();
            if before.frozen.is_some() {
                return Ok(false);
            }
            note(tx, &row, AgreementStep::Frozen)?;
            let frozen = Some(Evidence { at, known: row.life.chain, shown });
            tx.put(&CHAINS, &id, &ChainRow { frozen, ..before })?;
            inner.on_commit(tx, move |state| state.amend(&id, |agreement| agreement.frozen_at = Some(at)));
            Ok::<_, BookError>(true)
        });
        if write.await? {
            tracing::error!(agreement = %id, "the counterpart's certificates contradict each other: nothing is exchanged with it");
            self.inner.frozen.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Grows whenever an agreement was frozen.
    pub fn frozen(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.frozen.subscribe()
    }

    /// The contradiction for which an agreement was frozen.
    ///
    /// # Errors
    /// When the store fails.
    pub fn evidence(&self, id: &AgreementId) -> Result<Option<Evidence>, BookError> {
        Ok(self.inner.store.read(|tx| tx.get(&CHAINS, id))?.and_then(|row| row.frozen))
    }
}

impl Inner {
    /// Remembers the transport key that was replaced, and where a root ended when its successor takes over.
    pub(super) fn note_replaced(
        self: &std::sync::Arc<Inner>,
        tx: &mut WriteTx,
        id: AgreementId,
        before: &CertifiedNode,
        after: &CertifiedNode,
    ) -> Result<(), BookError> {
        let mut known: ChainRow = tx.get(&CHAINS, &id)?.unwrap_or_default();
        if after.root_generation > before.root_generation {
            known.outrun = Some((before.root_generation, before.serial));
        }
        if after.transport != before.transport {
            known.former.retain(|key| *key != before.transport.0);
            known.former.insert(0, before.transport.0);
            known.former.truncate(FORMER_MAX);
        }
        tx.put(&CHAINS, &id, &known)?;
        let ChainRow { outrun, former, .. } = known;
        self.on_commit(tx, move |state| {
            state.amend(&id, |agreement| (agreement.outrun, agreement.former) = (outrun, former));
        });
        Ok(())
    }
}

/// Whether a superseded certificate is one that its root must have signed after its successor was known.
pub(super) fn is_late(outrun: Option<(u32, u64)>, shown: &CertifiedNode) -> bool {
    outrun.is_some_and(|(generation, serial)| shown.root_generation == generation && shown.serial > serial)
}

impl HelloProblem {
    /// Whether nothing may be exchanged any more after this.
    pub fn freezes(&self) -> bool {
        matches!(self, HelloProblem::Forked)
    }
}
