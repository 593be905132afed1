//! One urgent or bulk lane: pulls objects for this side and serves objects to the other, both at once.
//!
//! ```text
//! puller --requests--> writer --> lane --> reader --objects--> batches --> blobs --durable--> the peer's actor
//! server <--requests-- reader          server --objects--> writer
//! ```
//!
//! **Invariants:** an object is compared with its name before it is written anywhere; payload passes no actor; every
//! queue is bounded; whatever was asked for and did not arrive goes back into the queue when the lane ends.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pakt_keys::EntityId;
use pakt_protocol::bulk::{BULK_FRAME_BYTES_MAX, BULK_HEAD_BYTES, BulkFrame, BulkKind, REQUESTS_MAX};
use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::session::{HEARTBEAT_EVERY, SILENCE_MAX};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::peer::Command;
use super::pull::{Claimed, Credit, Pull, Shared};
use crate::blob::{BlobError, Blobs};
use crate::mailroom::incoming_owner;
use crate::net::LaneStream;

/// Objects asked for at once on one lane: the sender serves at most [`REQUESTS_MAX`].
const OUTSTANDING_MAX: usize = REQUESTS_MAX / 2;
/// Bytes asked for at once on one lane.
const LANE_CREDIT_BYTES: u64 = 4 << 20;
/// Bytes after which what has arrived is made durable.
const BATCH_BYTES: usize = 1 << 20;
/// Batches of one lane that are being made durable at once.
const BATCHES_MAX: usize = 4;
/// Frames that wait for the lane; an object holds up to 1 MiB, so few.
const WRITES_MAX: usize = 4;
/// Slower than this is not a line but an attack.
const PAYLOAD_BYTES_PER_SECOND_MIN: u64 = 1024;
const WRITE_BUFFER_BYTES: usize = 64 << 10;
const READ_BUFFER_BYTES: usize = 64 << 10;

/// What a lane needs from its surroundings.
pub(super) struct Surroundings {
    pub(super) kind: LaneKind,
    pub(super) origin: EntityId,
    pub(super) own: EntityId,
    pub(super) shared: Arc<Shared>,
    pub(super) blobs: Blobs,
    pub(super) actor: mpsc::Sender<Command>,
}

/// A frame on its way out.
struct Out {
    frame: BulkFrame,
    payload: Bytes,
}

/// Asked for on this lane and not yet arrived.
#[derive(Default)]
struct Outstanding {
    claims: Mutex<HashMap<(EnvelopeId, u64), Claimed>>,
    fewer: Notify,
}

impl Outstanding {
    fn lock(&self) -> MutexGuard<'_, HashMap<(EnvelopeId, u64), Claimed>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self) -> bool {
        let claims = self.lock();
        let bytes: u64 = claims.values().map(|claimed| u64::from(claimed.pull.entry.bytes)).sum();
        claims.len() < OUTSTANDING_MAX && bytes < LANE_CREDIT_BYTES
    }

    async fn room(&self) {
        loop {
            let fewer = self.fewer.notified();
            tokio::pin!(fewer);
            fewer.as_mut().enable();
            if self.has_room() {
                return;
            }
            fewer.await;
        }
    }
}

/// Runs a lane until it ends, for whatever reason.
pub(super) async fn drive(stream: LaneStream, around: Surroundings) {
    let (read, write) = tokio::io::split(stream);
    let around = Arc::new(around);
    let outstanding = Arc::new(Outstanding::default());
    let (out, outbox) = mpsc::channel(WRITES_MAX);
    let (requests, serve_queue) = mpsc::channel(REQUESTS_MAX);
    let mut parts = JoinSet::new();
    parts.spawn(write_frames(BufWriter::with_capacity(WRITE_BUFFER_BYTES, write), outbox));
    parts.spawn(serve(around.clone(), serve_queue, out.clone()));
    parts.spawn(pull(around.clone(), outstanding.clone(), out.clone()));
    let reader = BufReader::with_capacity(READ_BUFFER_BYTES, read);
    parts.spawn(read_frames(reader, around.clone(), outstanding.clone(), requests));
    drop(out);
    // The first part that ends, ends the lane.
    if let Some(Ok(Err(error))) = parts.join_next().await {
        tracing::debug!(peer = %around.origin, %error, "lane ended");
    }
    parts.shutdown().await;
    let left: Vec<Pull> = outstanding.lock().drain().map(|(_, claimed)| claimed.pull).collect();
    around.shared.give_back(left);
}

async fn write_frames(mut lane: impl AsyncWrite + Unpin, mut outbox: mpsc::Receiver<Out>) -> io::Result<()> {
    loop {
        let next = match outbox.try_recv() {
            Ok(out) => Some(out),
            Err(_) => {
                lane.flush().await?;
                match timeout(HEARTBEAT_EVERY, outbox.recv()).await {
                    Ok(Some(out)) => Some(out),
                    Ok(None) => return Ok(()),
                    Err(_) => None,
                }
            }
        };
        let out = next.unwrap_or(Out { frame: BulkFrame::HEARTBEAT, payload: Bytes::new() });
        lane.write_all(&out.frame.head(out.payload.len())).await?;
        lane.write_all(&out.payload).await?;
    }
}

async fn serve(
    around: Arc<Surroundings>,
    mut requests: mpsc::Receiver<(EnvelopeId, u64)>,
    out: mpsc::Sender<Out>,
) -> io::Result<()> {
    while let Some((envelope, index)) = requests.recv().await {
        let payload = read_served(&around, &envelope, index).await;
        let kind = if payload.is_some() { BulkKind::Object } else { BulkKind::Unknown };
        let frame = BulkFrame { kind, envelope, index };
        let sent = out.send(Out { frame, payload: payload.unwrap_or_default() }).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
    Ok(())
}

/// The object; one that comes from the disk was compared with its name: a flipped bit is never served.
async fn read_served(around: &Arc<Surroundings>, envelope: &EnvelopeId, index: u64) -> Option<Bytes> {
    let id = around.shared.served(envelope, index)?;
    let around = around.clone();
    let read = tokio::task::spawn_blocking(move || around.blobs.read_to_serve(around.own, id)).await;
    match read {
        Ok(Ok(bytes)) => Some(bytes),
        Ok(Err(error)) => {
            tracing::error!(object = %id, %error, "an object that is being sent cannot be read");
            None
        }
        Err(_) => None,
    }
}

async fn pull(around: Arc<Surroundings>, outstanding: Arc<Outstanding>, out: mpsc::Sender<Out>) -> io::Result<()> {
    loop {
        outstanding.room().await;
        let claimed = around.shared.claim(around.kind).await;
        let Pull { envelope, index, .. } = claimed.pull;
        outstanding.lock().insert((envelope, index), claimed);
        let frame = BulkFrame { kind: BulkKind::Request, envelope, index };
        let sent = out.send(Out { frame, payload: Bytes::new() }).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
}

async fn read_frames(
    mut lane: impl AsyncRead + Unpin,
    around: Arc<Surroundings>,
    outstanding: Arc<Outstanding>,
    requests: mpsc::Sender<(EnvelopeId, u64)>,
) -> io::Result<()> {
    let mut batch = Batch::new(around.clone());
    loop {
        let (frame, payload) = read_frame(&mut lane).await?;
        match frame.kind {
            BulkKind::Heartbeat => {}
            BulkKind::Request => {
                let taken = requests.try_send((frame.envelope, frame.index));
                taken.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "more requests than agreed"))?;
            }
            BulkKind::Object => {
                let claimed = take_claim(&outstanding, &frame)?;
                batch.add(claimed, payload)?;
                let idle = outstanding.lock().is_empty();
                if idle || batch.bytes >= BATCH_BYTES {
                    batch.flush().await;
                }
            }
            BulkKind::Unknown => {
                let claimed = take_claim(&outstanding, &frame)?;
                let lost = Command::PullFailed { envelope: claimed.pull.envelope, full: false };
                around.actor.send(lost).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
        }
    }
}

fn take_claim(outstanding: &Outstanding, frame: &BulkFrame) -> io::Result<Claimed> {
    let claimed = outstanding.lock().remove(&(frame.envelope, frame.index));
    outstanding.fewer.notify_waiters();
    claimed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an object that was not asked for"))
}

/// Reads one frame; a payload is bounded before it is allocated. A peer that falls silent, or drips, is cut off.
async fn read_frame(lane: &mut (impl AsyncRead + Unpin)) -> io::Result<(BulkFrame, Bytes)> {
    let mut head = [0; 4 + BULK_HEAD_BYTES];
    timeout(SILENCE_MAX, lane.read_exact(&mut head)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let [a, b, c, d, fixed @ ..] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > BULK_FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a bulk frame of impossible length"));
    }
    let parsed = BulkFrame::parse(length, &fixed);
    let (frame, payload) = parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let mut bytes = vec![0; payload];
    let patience = SILENCE_MAX + Duration::from_secs(payload as u64 / PAYLOAD_BYTES_PER_SECOND_MIN);
    timeout(patience, lane.read_exact(&mut bytes)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok((frame, bytes.into()))
}

/// Objects that have arrived and are not durable yet.
struct Batch {
    around: Arc<Surroundings>,
    objects: Vec<(Claimed, Bytes)>,
    bytes: usize,
    slots: Arc<Semaphore>,
}

impl Batch {
    fn new(around: Arc<Surroundings>) -> Batch {
        Batch { around, objects: Vec::new(), bytes: 0, slots: Arc::new(Semaphore::new(BATCHES_MAX)) }
    }

    /// Takes an object whose bytes are those that its name says.
    fn add(&mut self, claimed: Claimed, payload: Bytes) -> io::Result<()> {
        let entry = claimed.pull.entry;
        if payload.len() != entry.bytes as usize || ObjectId::of(&payload) != entry.id {
            self.around.shared.give_back([claimed.pull]);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an object that is not what its name says"));
        }
        self.bytes += payload.len();
        self.objects.push((claimed, payload));
        Ok(())
    }

    /// Starts making the batch durable; waits only while too many batches are under way.
    async fn flush(&mut self) {
        if self.objects.is_empty() {
            return;
        }
        let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
        let objects = std::mem::take(&mut self.objects);
        self.bytes = 0;
        let around = self.around.clone();
        // Not tied to the lane: what has arrived is kept even if the lane ends now.
        tokio::spawn(async move {
            store(&around, objects).await;
            drop(slot);
        });
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let left = self.objects.drain(..).map(|(claimed, _)| claimed.pull);
        self.around.shared.give_back(left.collect::<Vec<_>>());
    }
}

async fn store(around: &Surroundings, objects: Vec<(Claimed, Bytes)>) {
    let mut by_envelope: HashMap<EnvelopeId, Vec<(Claimed, Bytes)>> = HashMap::new();
    for (claimed, bytes) in objects {
        by_envelope.entry(claimed.pull.envelope).or_default().push((claimed, bytes));
    }
    for (envelope, objects) in by_envelope {
        let mut batch = Vec::with_capacity(objects.len());
        let mut credits: Vec<Credit> = Vec::with_capacity(objects.len());
        for (claimed, bytes) in objects {
            batch.push((claimed.pull.entry.id, bytes));
            credits.push(claimed.credit);
        }
        let owner = incoming_owner(&around.origin, &envelope);
        let ids: Vec<ObjectId> = batch.iter().map(|(id, _)| *id).collect();
        let command = match around.blobs.write_batch_pinned(around.origin, owner, &batch).await {
            Ok(()) => Command::Held { envelope, ids },
            Err(error) => {
                tracing::warn!(%envelope, %error, "received objects cannot be stored");
                Command::PullFailed { envelope, full: matches!(error, BlobError::Full) }
            }
        };
        drop(credits);
        let _ = timeout(Duration::from_secs(30), around.actor.send(command)).await;
    }
}
