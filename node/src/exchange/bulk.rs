//! One urgent or bulk lane: pulls objects for this side and serves objects to the other, both at once.
//!
//! ```text
//! puller --requests--> writer --> lane --> reader --objects--> batches --> blobs --durable--> the peer's actor
//! server <--requests-- reader          server --objects--> writer
//! ```
//!
//! **Invariants:** an object is compared with its name before it is written anywhere; payload passes no actor; every
//! queue is bounded; memory for a payload is taken when its head has come; whatever was asked for and did not arrive
//! goes back into the queue when the lane ends.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pakt_keys::EntityId;
use pakt_protocol::bulk::{BULK_FRAME_BYTES_MAX, BULK_HEAD_BYTES, BulkFrame, BulkKind, REQUESTS_MAX};
use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::record::envelope::Priority;
use pakt_protocol::session::{HEARTBEAT_EVERY, SILENCE_MAX};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::buffers::Buffers;
use super::limit::PeerLimits;
use super::memory::InHand;
use super::meter::SendMeter;
use super::peer::Command;
use super::pull::{Arrival, Pull, Shared};
use crate::blob::{BlobError, Blobs};
use crate::mailroom::incoming_owner;

/// Bytes after which what has arrived is made durable.
const BATCH_BYTES: usize = 1 << 20;
/// And objects: small ones cost more than their bytes.
const BATCH_OBJECTS_MAX: usize = 64;
/// An object counts for at least so many bytes of memory.
const OBJECT_COST_MIN: usize = 4 << 10;
/// On a slow lane what has arrived does not wait for so many bytes.
const BATCH_AGE_MAX: Duration = Duration::from_millis(250);
/// Batches of one lane that are being made durable at once.
const BATCHES_MAX: usize = 4;
/// Slower than this is not a line but an attack.
const PAYLOAD_BYTES_PER_SECOND_MIN: u64 = 1024;
/// What is written in one go: between two of these something urgent may step in.
const SLICE_BYTES: usize = 64 << 10;
const WRITE_BUFFER_BYTES: usize = 64 << 10;
const READ_BUFFER_BYTES: usize = 64 << 10;
/// A lane is closed when the other side has asked for nothing on it for so long.
const QUIET_MIN: Duration = Duration::from_secs(2);

/// What a lane needs from its surroundings.
pub(super) struct Surroundings {
    pub(super) number: u64,
    pub(super) kind: LaneKind,
    pub(super) origin: EntityId,
    pub(super) own: EntityId,
    pub(super) shared: Arc<Shared>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) meter: Arc<SendMeter>,
    pub(super) limits: Arc<PeerLimits>,
    pub(super) blobs: Blobs,
    pub(super) actor: mpsc::Sender<Command>,
}

/// An answer on its way out; at most two of a lane are in memory, one being written and one read ahead, and fewer where many
/// lanes are served.
struct Out {
    frame: BulkFrame,
    payload: Bytes,
    priority: Priority,
    _in_hand: Option<InHand>,
}

/// What the parts of one lane know of each other.
struct Activity {
    started: Instant,
    writing: AtomicBool,
    /// When the other side asked last, in milliseconds after the start.
    asked_ms: AtomicU64,
}

impl Activity {
    fn note_request(&self) {
        self.asked_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// When the other side will have asked for nothing for long enough.
    fn quiet_at(&self) -> Instant {
        self.started + Duration::from_millis(self.asked_ms.load(Ordering::Relaxed)) + QUIET_MIN
    }
}

/// Runs a lane until it ends, for whatever reason.
pub(super) async fn drive(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, around: Surroundings) {
    let (read, write) = tokio::io::split(stream);
    let around = Arc::new(around);
    let activity =
        Arc::new(Activity { started: Instant::now(), writing: AtomicBool::new(false), asked_ms: AtomicU64::new(0) });
    let joined = Joined::join(&around);
    let (out, outbox) = mpsc::channel(1);
    let (ask, asks) = mpsc::channel(1);
    let (requests, serve_queue) = mpsc::channel(REQUESTS_MAX);
    let mut parts = JoinSet::new();
    let writer = BufWriter::with_capacity(WRITE_BUFFER_BYTES, write);
    parts.spawn(told(around.origin, write_frames(writer, asks, outbox, around.clone(), activity.clone())));
    parts.spawn(told(around.origin, serve(around.clone(), serve_queue, out)));
    parts.spawn(told(around.origin, pull(around.clone(), activity.clone(), ask)));
    let reader = BufReader::with_capacity(READ_BUFFER_BYTES, read);
    parts.spawn(told(around.origin, read_frames(reader, around.clone(), activity, requests)));
    // The first part that ends, ends the lane.
    let _ = parts.join_next().await;
    parts.shutdown().await;
    drop(joined);
}

/// Runs a part of a lane and says why it failed, before another part that fails for it can be taken for the reason.
async fn told(peer: EntityId, part: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    part.await.inspect_err(|error| tracing::debug!(%peer, %error, "lane ended"))
}

/// A lane's place among those that pull; what it was asked for goes back when it is dropped, however the lane ends.
struct Joined(Arc<Surroundings>);

impl Joined {
    fn join(around: &Arc<Surroundings>) -> Joined {
        around.shared.join(around.number, around.kind);
        Joined(around.clone())
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.0.shared.leave(self.0.number);
    }
}

/// Writes requests before objects; ends the lane cleanly once nobody will ask here any more.
async fn write_frames(
    mut lane: impl AsyncWrite + Unpin,
    mut asks: mpsc::Receiver<BulkFrame>,
    mut outbox: mpsc::Receiver<Out>,
    around: Arc<Surroundings>,
    activity: Arc<Activity>,
) -> io::Result<()> {
    loop {
        if let Ok(frame) = asks.try_recv() {
            lane.write_all(&frame.head(0)).await?;
            continue;
        }
        if let Ok(out) = outbox.try_recv() {
            write_object(&mut lane, out, &around, &activity).await?;
            continue;
        }
        lane.flush().await?;
        let heartbeat = tokio::time::sleep(HEARTBEAT_EVERY);
        tokio::select! {
            biased;
            ask = asks.recv() => match ask {
                Some(frame) => lane.write_all(&frame.head(0)).await?,
                // Nothing is asked for here any more.
                None => return lane.shutdown().await,
            },
            out = outbox.recv() => match out {
                Some(out) => write_object(&mut lane, out, &around, &activity).await?,
                None => return Ok(()),
            },
            () = heartbeat => lane.write_all(&BulkFrame::HEARTBEAT.head(0)).await?,
        }
    }
}

/// Writes an answer in slices; one that is not urgent stops between two of them while something urgent is under way.
async fn write_object(
    lane: &mut (impl AsyncWrite + Unpin),
    out: Out,
    around: &Surroundings,
    activity: &Activity,
) -> io::Result<()> {
    activity.writing.store(true, Ordering::Relaxed);
    let is_urgent = out.priority == Priority::Urgent;
    lane.write_all(&out.frame.head(out.payload.len())).await?;
    for slice in out.payload.chunks(SLICE_BYTES) {
        if is_urgent {
            around.shared.gate.moved();
        } else if around.shared.gate.is_closed() {
            // What the lane holds back is part of something that the other side may wait for.
            lane.flush().await?;
            around.shared.gate.pass().await;
        }
        let writing = around.meter.writing();
        if around.limits.hold_back() {
            // What was written so far does not wait with the rest.
            lane.flush().await?;
        }
        around.limits.send(slice.len(), is_urgent).await;
        timeout(patience(slice.len()), lane.write_all(slice)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        writing.wrote(slice.len());
        around.shared.wrote(&out.frame.envelope, slice.len());
    }
    activity.writing.store(false, Ordering::Relaxed);
    Ok(())
}

async fn serve(
    around: Arc<Surroundings>,
    mut requests: mpsc::Receiver<(EnvelopeId, u64)>,
    out: mpsc::Sender<Out>,
) -> io::Result<()> {
    while let Some((envelope, index)) = requests.recv().await {
        // Read only once it may go next, so that a reader who takes nothing costs two objects at most.
        let place = out.reserve().await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        let unknown = || Out {
            frame: BulkFrame { kind: BulkKind::Unknown, envelope, index },
            payload: Bytes::new(),
            priority: Priority::Normal,
            _in_hand: None,
        };
        place.send(read_served(&around, envelope, index).await.unwrap_or_else(unknown));
    }
    Ok(())
}

/// The object; one that comes from the disk was compared with its name: a flipped bit is never served.
async fn read_served(around: &Arc<Surroundings>, envelope: EnvelopeId, index: u64) -> Option<Out> {
    let (entry, priority) = around.shared.served(&envelope, index)?;
    let id = entry.id;
    let in_hand = around.shared.leaving.take(around.kind, entry.bytes as usize).await;
    let from = around.clone();
    let read = tokio::task::spawn_blocking(move || from.blobs.read_to_serve(from.own, id)).await;
    match read {
        Ok(Ok(payload)) => {
            let frame = BulkFrame { kind: BulkKind::Object, envelope, index };
            Some(Out { frame, payload, priority, _in_hand: Some(in_hand) })
        }
        Ok(Err(error)) => {
            tracing::error!(object = %id, %error, "an object that is being sent cannot be read");
            None
        }
        Err(_) => None,
    }
}

/// Asks for one object after the other, until the lane is to be closed and neither side waits for anything on it.
async fn pull(around: Arc<Surroundings>, activity: Arc<Activity>, ask: mpsc::Sender<BulkFrame>) -> io::Result<()> {
    let quiet = || !activity.writing.load(Ordering::Relaxed);
    loop {
        tokio::select! {
            pull = around.shared.claim(around.number, quiet) => {
                let frame = BulkFrame { kind: BulkKind::Request, envelope: pull.envelope, index: pull.index };
                ask.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            () = around.shared.closed(around.number) => break,
        }
    }
    while activity.quiet_at() > Instant::now() {
        tokio::time::sleep_until(activity.quiet_at()).await;
    }
    // The writer ends the lane when it finds no asker.
    drop(ask);
    std::future::pending().await
}

async fn read_frames(
    mut lane: impl AsyncBufRead + Unpin,
    around: Arc<Surroundings>,
    activity: Arc<Activity>,
    requests: mpsc::Sender<(EnvelopeId, u64)>,
) -> io::Result<()> {
    let mut batch = Batch::new(around.clone());
    loop {
        if !batch.objects.is_empty() && timeout(BATCH_AGE_MAX, lane.fill_buf()).await.is_err() {
            // Nothing comes: what has arrived does not wait for it.
            batch.flush().await;
        }
        let (frame, payload) = read_head(&mut lane).await?;
        let key = (frame.envelope, frame.index);
        match frame.kind {
            BulkKind::Heartbeat => {}
            BulkKind::Request => {
                activity.note_request();
                requests.try_send(key).map_err(|_| broken("more requests than agreed"))?;
            }
            BulkKind::Object => {
                read_object(&mut lane, key, payload, &around, &mut batch).await?;
                let idle = around.shared.is_empty(around.number);
                if idle || batch.is_full() || batch.is_old() {
                    batch.flush().await;
                }
            }
            BulkKind::Unknown => {
                if let Arrival::Unasked = around.shared.arrived(around.number, &key) {
                    return Err(broken("an answer that was not asked for"));
                }
                let lost = Command::PullFailed { envelope: frame.envelope, full: false };
                around.actor.send(lost).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
        }
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads the head of a frame; gives it and its payload's length, bounded. A peer that falls silent is cut off.
async fn read_head(lane: &mut (impl AsyncRead + Unpin)) -> io::Result<(BulkFrame, usize)> {
    let mut head = [0; 4 + BULK_HEAD_BYTES];
    timeout(SILENCE_MAX, lane.read_exact(&mut head)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let [a, b, c, d, fixed @ ..] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > BULK_FRAME_BYTES_MAX {
        return Err(broken("a bulk frame of impossible length"));
    }
    BulkFrame::parse(length, &fixed).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads the payload of an object that was asked for here into the batch; drops it if another lane was faster.
async fn read_object(
    lane: &mut (impl AsyncRead + Unpin),
    key: (EnvelopeId, u64),
    payload: usize,
    around: &Surroundings,
    batch: &mut Batch,
) -> io::Result<()> {
    let asked = around.shared.answering(around.number, &key);
    let (entry, wanted) = asked.ok_or_else(|| broken("an object that was not asked for"))?;
    if payload != entry.bytes as usize {
        return Err(broken("an object of another length than announced"));
    }
    if !wanted {
        skip_payload(lane, payload).await?;
        around.shared.arrived(around.number, &key);
        return Ok(());
    }
    let in_hand = match around.shared.memory.try_take(around.kind, payload.max(OBJECT_COST_MIN)) {
        Some(in_hand) => in_hand,
        None => {
            // Nobody waits for memory while holding what could be made durable.
            batch.flush().await;
            around.shared.memory.take(around.kind, payload.max(OBJECT_COST_MIN)).await
        }
    };
    let mut buffer = around.buffers.take(payload);
    read_payload(lane, buffer.as_mut(), around).await?;
    let bytes = buffer.freeze();
    // A fifth of a millisecond for a megabyte: about what a way to another thread and back would cost.
    if ObjectId::of(&bytes) != entry.id {
        return Err(broken("an object that is not what its name says"));
    }
    if let Arrival::First(pull) = around.shared.arrived(around.number, &key) {
        batch.add(Arrived { pull, bytes, in_hand });
    }
    Ok(())
}

/// How long so many bytes may take: a drip is late by more than a silence may last.
fn patience(bytes: usize) -> Duration {
    SILENCE_MAX + Duration::from_secs(bytes as u64 / PAYLOAD_BYTES_PER_SECOND_MIN)
}

/// Fills `payload`. One that drips slower than agreed is cut off once it is late by more than a silence may last.
async fn read_payload(
    lane: &mut (impl AsyncRead + Unpin),
    payload: &mut [u8],
    around: &Surroundings,
) -> io::Result<()> {
    let mut started = Instant::now();
    let mut filled = 0;
    while filled < payload.len() {
        let read = timeout_at(started + patience(filled), lane.read(&mut payload[filled..])).await;
        match read.map_err(|_| io::ErrorKind::TimedOut)?? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                filled += bytes;
                around.shared.received(around.kind, bytes);
                // What this side holds back is not the peer's slowness.
                started += around.limits.receive(bytes, around.kind == LaneKind::Urgent).await;
            }
        }
    }
    Ok(())
}

/// Reads past a payload that nobody wants any more.
async fn skip_payload(lane: &mut (impl AsyncRead + Unpin), payload: usize) -> io::Result<()> {
    let mut scratch = vec![0; SLICE_BYTES.min(payload)];
    let mut left = payload;
    let started = Instant::now();
    while left > 0 {
        let part = left.min(scratch.len());
        let read = timeout_at(started + patience(payload - left), lane.read(&mut scratch[..part])).await;
        match read.map_err(|_| io::ErrorKind::TimedOut)?? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => left -= bytes,
        }
    }
    Ok(())
}

/// An object that is what its name says.
struct Arrived {
    pull: Pull,
    bytes: Bytes,
    in_hand: InHand,
}

/// Objects that have arrived and are not durable yet.
struct Batch {
    around: Arc<Surroundings>,
    objects: Vec<Arrived>,
    bytes: usize,
    since: Instant,
    slots: Arc<Semaphore>,
}

impl Batch {
    fn new(around: Arc<Surroundings>) -> Batch {
        let slots = Arc::new(Semaphore::new(BATCHES_MAX));
        Batch { around, objects: Vec::new(), bytes: 0, since: Instant::now(), slots }
    }

    fn add(&mut self, arrived: Arrived) {
        if self.objects.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += arrived.bytes.len();
        self.objects.push(arrived);
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.objects.len() >= BATCH_OBJECTS_MAX
    }

    fn is_old(&self) -> bool {
        self.since.elapsed() >= BATCH_AGE_MAX
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
        let left: Vec<Pull> = self.objects.drain(..).map(|arrived| arrived.pull).collect();
        self.around.shared.give_back(left);
    }
}

async fn store(around: &Surroundings, objects: Vec<Arrived>) {
    let mut by_envelope: HashMap<EnvelopeId, Vec<Arrived>> = HashMap::new();
    for arrived in objects {
        by_envelope.entry(arrived.pull.envelope).or_default().push(arrived);
    }
    for (envelope, objects) in by_envelope {
        let mut batch = Vec::with_capacity(objects.len());
        let mut in_hand: Vec<InHand> = Vec::with_capacity(objects.len());
        for arrived in objects {
            batch.push((arrived.pull.entry.id, arrived.bytes));
            in_hand.push(arrived.in_hand);
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
        drop((batch, in_hand));
        around.shared.stored();
        // Not given up, however busy the actor is: what is durable and not told of would be missed for ever.
        let _ = around.actor.send(command).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p19_a_drip_is_cut_off_within_a_minute_and_a_thin_line_is_not() {
        let cut_off_at = |bytes_per_second: usize| {
            (1..2_000).find(|second| patience(second * bytes_per_second) < Duration::from_secs(*second as u64))
        };
        assert!(cut_off_at(1).is_some_and(|second| second < 60));
        assert!(cut_off_at(500).is_some_and(|second| second < 120));
        assert_eq!(cut_off_at(1_100), None);
    }
}
