//! Backups of the running node, and what restored counterparts lost.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use pakt_keys::backup::ID_BYTES;
use pakt_protocol::audit::{BackupStep, Event};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::time::Time;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Answer, Node, blocking, words};
use crate::api::types::*;
use crate::backup::ledger::Ledger;
use crate::backup::rows::{GapRow, KeptRow};
use crate::backup::{BackupError, Source, Summary, create};
use crate::store::tables::{KNOWN_USAGE, LAST_BACKUP, RESTORED};
use crate::store::{Store, StoreError};
use crate::{ambient, audit};

/// Pieces of a backup that wait for whoever takes it.
const PIECES_MAX: usize = 4;
/// A backup that nobody takes for so long is broken off: it holds back the removal of files.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// How long a restore is worth a warning.
const RESTORED_WARN: Duration = Duration::from_secs(14 * 86_400);

/// The backup that is being made, or was made last.
#[derive(Default)]
pub(super) struct Backups(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    running: bool,
    last: Option<([u8; ID_BYTES], Result<Summary, ServiceError>)>,
}

impl Backups {
    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Piece = Result<Bytes, ServiceError>;

/// A backup that is being made; its end, however it comes, lets the next one begin.
struct Making {
    node: Node,
    id: [u8; ID_BYTES],
    made: Option<Result<Summary, ServiceError>>,
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut slot = self.node.inner.backups.slot();
        let made = self.made.take().unwrap_or_else(|| Err(super::errors::broken_off()));
        slot.last = Some((self.id, made));
        slot.running = false;
    }
}

impl Making {
    fn make(mut self, pieces: mpsc::Sender<Piece>) {
        let inner = &self.node.inner;
        let source = Source {
            dir: inner.config.dir.clone(),
            entity: inner.entity.id(),
            store: self.node.store().clone(),
            blobs: inner.blobs.clone(),
            slots: inner.mailroom.slots.clone(),
        };
        let stop = inner.stop.clone();
        let mut out = |piece: Vec<u8>| give(&pieces, &stop, piece);
        let made = begin(&source.store).and_then(|()| create(&source, self.id, &mut out));
        let made = made.map_err(ServiceError::from);
        match &made {
            Ok(summary) => tracing::info!(
                objects = summary.objects,
                bytes = summary.bytes,
                missing = summary.missing_count,
                "a backup was made"
            ),
            Err(error) => {
                tracing::warn!(%error, "a backup was broken off");
                let _ = pieces.try_send(Err(error.clone()));
            }
        }
        let step = if made.is_ok() { BackupStep::Made } else { BackupStep::BrokenOff };
        if let Err(error) = note(&source.store, step) {
            tracing::error!(%error, "a step of a backup is not in the audit log");
        }
        self.made = Some(made);
        // Before the stream ends: whoever took it asks next.
        drop(self);
        drop(pieces);
    }
}

impl Node {
    /// What is known about backups.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn backup_state(&self) -> Answer<BackupState> {
        let node = self.clone();
        blocking(move || {
            let store = node.store();
            let known = store.read(|tx| tx.get(&KNOWN_USAGE, &()))?.map_or(0, |usage| usage.bytes);
            let all = node.inner.blobs.usage()?.bytes;
            Ok(BackupState {
                last: last_kept(store)?,
                bytes_expected: all.saturating_sub(known),
                restored: restored_from(store)?,
            })
        })
        .await
    }

    /// Makes a backup and streams it.
    ///
    /// # Errors
    /// `busy` while another one is made, and what stops it before its first byte.
    pub async fn backup(&self) -> Answer<impl Stream<Item = std::io::Result<Bytes>> + use<>> {
        let running = std::mem::replace(&mut self.inner.backups.slot().running, true);
        if running {
            let hint = "wait until it is done";
            return Err(ServiceError::new(ErrorCode::Busy, "another backup is being made", hint));
        }
        let making = Making { node: self.clone(), id: ambient::random(), made: None };
        let (pieces, mut taken) = mpsc::channel::<Piece>(PIECES_MAX);
        tokio::task::spawn_blocking(move || making.make(pieces));
        let first = taken.recv().await.unwrap_or_else(|| Err(super::errors::broken_off()))?;
        let rest = futures::stream::poll_fn(move |cx| taken.poll_recv(cx));
        let all = futures::StreamExt::chain(futures::stream::iter([Ok(first)]), rest);
        Ok(futures::StreamExt::map(all, |piece| piece.map_err(std::io::Error::other)))
    }

    /// Notes that a backup was written whole, and says what it holds.
    ///
    /// # Errors
    /// Why it broke off, or `not_found` if it is not the last one made.
    pub async fn backup_kept(&self, request: BackupKept) -> Answer<BackupSummary> {
        let made = self.inner.backups.slot().last.clone().filter(|(id, _)| hex::encode(id) == request.id);
        let unknown = || {
            ServiceError::new(ErrorCode::NotFound, "this is not the last backup that the node made", "make another one")
        };
        let (_, made) = made.ok_or_else(unknown)?;
        let summary = made?;
        let row = KeptRow { made_at: summary.made_at, kept_at: ambient::now(), bytes: request.bytes };
        let write = self.store().write(move |tx| {
            audit::append(tx, Event::Backup(BackupStep::Kept))?;
            tx.put(&LAST_BACKUP, &(), &row)
        });
        let written: Result<(), StoreError> = write.await;
        written?;
        Ok(summary_view(&summary))
    }

    /// Counterparts that were restored from a backup, and what they lost.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn gaps(&self) -> Answer<Vec<Gap>> {
        let node = self.clone();
        blocking(move || {
            let rows = node.inner.book.gaps()?;
            Ok(rows.into_iter().map(|(id, row)| node.gap_view(id, row)).collect())
        })
        .await
    }

    /// Notes that somebody has dealt with the gap of a counterpart.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn gap_seen(&self, counterpart: String) -> Answer<Gap> {
        let agreement = self.find_agreement(&counterpart)?;
        self.inner.book.gap_seen(&agreement).await?;
        let gaps = self.gaps().await?;
        let id = agreement.to_string();
        gaps.into_iter().find(|gap| gap.agreement == id).ok_or_else(super::errors::broken_off)
    }

    fn find_agreement(&self, text: &str) -> Answer<AgreementId> {
        let found = self.inner.book.find(text).map(|agreement| agreement.id);
        found.map_err(|error| ServiceError::new(ErrorCode::NotFound, error.to_string(), "see `pakt backup gaps`"))
    }

    fn gap_view(&self, id: AgreementId, row: GapRow) -> Gap {
        let agreement = self.inner.book.get(&id);
        Gap {
            entity: row.notice.entity.to_string(),
            name: agreement.map(|agreement| agreement.counterpart().name.clone()).unwrap_or_default(),
            agreement: id.to_string(),
            backup_at: time_text(row.notice.backup_at),
            restored_at: time_text(row.notice.restored_at),
            learned_at: time_text(row.learned_at),
            generation: row.notice.generation,
            count: row.count,
            envelopes: row.envelopes.iter().map(ToString::to_string).collect(),
            seen: row.seen,
        }
    }

    /// What an operator should know about restores: this node's own, and those of counterparts.
    pub(super) fn restore_warnings(&self, now: Time) -> Answer<Vec<String>> {
        let mut warnings = Vec::new();
        let own = self.store().read(|tx| tx.get(&RESTORED, &()))?;
        if let Some(row) = own.filter(|row| now.since(row.restored_at) < RESTORED_WARN) {
            let (restored, backup) = (words::moment(row.restored_at), words::moment(row.backup_at));
            warnings.push(format!(
                "this node was restored {restored} from a backup of {backup}: what it got in between is lost here"
            ));
        }
        for (id, row) in self.inner.book.gaps()?.into_iter().filter(|(_, row)| !row.seen) {
            let gap = self.gap_view(id, row);
            warnings.push(format!(
                "{} was restored from a backup of {}: it lost {} that it had received since then; see `pakt backup gaps`",
                gap.name, gap.backup_at, counted(gap.count)
            ));
        }
        Ok(warnings)
    }

    /// What an operator should know about the ledger of purges.
    pub(super) fn ledger_warnings(&self) -> Vec<String> {
        let trouble = self.inner.ledger.as_ref().and_then(Ledger::trouble);
        trouble.map(|why| format!("purged messages wait to be named beside the backups: {why}")).into_iter().collect()
    }

    fn store(&self) -> &Store {
        &self.inner.mailroom.store
    }

    /// When the last backup that was kept was made.
    pub(super) fn last_backup_at(&self) -> Answer<Option<Time>> {
        Ok(self.store().read(|tx| tx.get(&LAST_BACKUP, &()))?.map(|row| row.made_at))
    }

    pub(super) fn last_backup(&self) -> Answer<Option<KeptBackup>> {
        last_kept(self.store())
    }
}

fn counted(count: u64) -> String {
    format!("{count} message{}", if count == 1 { "" } else { "s" })
}

/// Notes that a backup begins; a full store, which reads from a copy that must not be held for long, says so here.
fn begin(store: &Store) -> Result<(), BackupError> {
    Ok(note(store, BackupStep::Begun)?)
}

fn note(store: &Store, step: BackupStep) -> Result<(), StoreError> {
    store.write_blocking(move |tx| audit::append(tx, Event::Backup(step)))
}

/// Hands a piece on, unless nobody takes it for a while or the node stops.
fn give(pieces: &mpsc::Sender<Piece>, stop: &CancellationToken, piece: Vec<u8>) -> Result<(), BackupError> {
    Handle::current().block_on(async {
        tokio::select! {
            () = stop.cancelled() => Err(BackupError::Stopped),
            sent = tokio::time::timeout(STALLED_MAX, pieces.send(Ok(piece.into()))) => match sent {
                Ok(Ok(())) => Ok(()),
                _ => Err(BackupError::Stopped),
            },
        }
    })
}

fn last_kept(store: &Store) -> Answer<Option<KeptBackup>> {
    let row = store.read(|tx| tx.get(&LAST_BACKUP, &()))?;
    Ok(row.map(|KeptRow { made_at, kept_at, bytes }| KeptBackup {
        made_at: time_text(made_at),
        kept_at: time_text(kept_at),
        bytes,
    }))
}

fn restored_from(store: &Store) -> Answer<Option<RestoredFrom>> {
    let row = store.read(|tx| tx.get(&RESTORED, &()))?;
    Ok(row.map(|row| RestoredFrom {
        backup_at: time_text(row.backup_at),
        restored_at: time_text(row.restored_at),
        generation: row.generation,
    }))
}

/// A summary as the API and the command line show it.
pub(crate) fn summary_view(summary: &Summary) -> BackupSummary {
    BackupSummary {
        entity: summary.entity.map(|entity| entity.to_string()).unwrap_or_default(),
        program: summary.program.clone(),
        made_at: time_text(summary.made_at),
        generation: summary.generation,
        sequence: summary.sequence,
        protected: summary.protected,
        agreements: summary.agreements,
        received: summary.received,
        sent: summary.sent,
        rows: summary.rows,
        keys: summary.keys,
        objects: summary.objects,
        object_bytes: summary.object_bytes,
        bytes: summary.bytes,
        missing_count: summary.missing_count,
        missing: summary.missing.clone(),
    }
}
