//! Content lanes with the test at their other end: peers that stall, drip, lie, stop, and read nothing.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pakt_keys::entity::EntityId;
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::bulk::{BULK_HEAD_BYTES, BulkFrame, BulkKind};
use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::envelope::Priority;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::buffers::Buffers;
use super::bulk::{self, Surroundings};
use super::limit::{NodeLimits, PeerLimits};
use super::memory::{NODE_BYTES_MAX, NodeMemory, PEER_BYTES_MAX, PeerMemory};
use super::peer::Command;
use super::pull::{Pull, Shared};
use crate::blob::Blobs;
use crate::disk::RealDisk;
use crate::line::LineConfig;
use crate::store::Store;

const ENVELOPE: EnvelopeId = EnvelopeId([5; 16]);

/// A node; its counterparts are played by tests.
struct Receiver {
    _folder: TempDir,
    blobs: Blobs,
    memory: Arc<NodeMemory>,
    leaving: Arc<NodeMemory>,
    buffers: Arc<Buffers>,
    limits: Arc<NodeLimits>,
}

/// One counterpart of it.
struct Counterpart {
    shared: Arc<Shared>,
    origin: EntityId,
    actor: mpsc::Sender<Command>,
    told: mpsc::Receiver<Command>,
    lanes: JoinSet<()>,
    next: u64,
}

/// How the other end of a lane behaves.
#[derive(Clone, Copy)]
enum Manner {
    /// Serves everything.
    Honest,
    /// Begins each object and goes on no further.
    Stalls,
    /// Serves so many objects, then ends the lane.
    Stops(usize),
    /// Never answers for this index.
    Withholds(u64),
    /// Serves other bytes than announced for this index.
    Lies(u64),
}

fn object(index: u64, bytes: usize) -> Bytes {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&index.to_be_bytes()).finalize_xof().fill(&mut content);
    content.into()
}

impl Receiver {
    fn new() -> Receiver {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::shared();
        let path = |part: &str| Path::new(folder.path()).join(part);
        let store = Store::open(disk.clone(), &path("pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
        let blobs = Blobs::open(store, disk, &path("chunks")).unwrap();
        let limits = Arc::new(NodeLimits::new(LineConfig::default()));
        let (memory, leaving) = (Arc::default(), Arc::default());
        Receiver { _folder: folder, blobs, memory, leaving, buffers: Arc::default(), limits }
    }

    fn counterpart(&self, number: u8) -> Counterpart {
        let shared = Arc::new(Shared::new(PeerMemory::new(self.memory.clone()), PeerMemory::new(self.leaving.clone())));
        let (actor, told) = mpsc::channel(4_096);
        Counterpart { shared, origin: EntityId([number; 32]), actor, told, lanes: JoinSet::new(), next: 0 }
    }

    /// Adds a lane whose other end has this manner.
    fn lane(&self, peer: &mut Counterpart, manner: Manner, object_bytes: usize) {
        let far = self.lane_to(peer);
        peer.lanes.spawn(async move { drop(serve(far, manner, object_bytes).await) });
    }

    /// Adds a lane; gives its other end.
    fn lane_to(&self, peer: &mut Counterpart) -> DuplexStream {
        let (near, far) = tokio::io::duplex(256 << 10);
        let around = Surroundings {
            number: peer.next,
            kind: LaneKind::Bulk,
            origin: peer.origin,
            own: EntityId([0; 32]),
            shared: peer.shared.clone(),
            buffers: self.buffers.clone(),
            meter: Arc::default(),
            limits: PeerLimits::new(self.limits.clone()),
            blobs: self.blobs.clone(),
            actor: peer.actor.clone(),
        };
        peer.next += 1;
        peer.lanes.spawn(bulk::drive(near, around));
        far
    }
}

impl Counterpart {
    fn want(&self, objects: u64, bytes: usize) {
        self.shared.push((0..objects).map(|index| {
            let entry = ObjectEntry { id: ObjectId::of(&object(index, bytes)), bytes: bytes as u32 };
            Pull { envelope: ENVELOPE, index, entry, priority: Priority::Normal }
        }));
    }

    /// Waits until so many different objects are durable.
    async fn held(&mut self, objects: usize) {
        let mut held = HashSet::new();
        while held.len() < objects {
            match self.told.recv().await.unwrap() {
                Command::Held { ids, .. } => ids.into_iter().for_each(|id| assert!(held.insert(id), "stored twice")),
                _ => panic!("only objects come here"),
            }
        }
    }
}

/// The other end of a lane.
async fn serve(mut lane: DuplexStream, manner: Manner, object_bytes: usize) -> std::io::Result<()> {
    let mut served = 0;
    loop {
        let mut request = [0; 4 + BULK_HEAD_BYTES];
        lane.read_exact(&mut request).await?;
        let fixed: [u8; BULK_HEAD_BYTES] = request[4..].try_into().unwrap();
        let (request, _) = BulkFrame::parse(BULK_HEAD_BYTES, &fixed).unwrap();
        if request.kind != BulkKind::Request {
            continue;
        }
        let mut content = object(request.index, object_bytes);
        match manner {
            Manner::Stops(objects) if served == objects => return Ok(()),
            Manner::Withholds(index) if index == request.index => continue,
            Manner::Lies(index) if index == request.index => content = object(index + 1_000_000, object_bytes),
            _ => {}
        }
        let frame = BulkFrame { kind: BulkKind::Object, ..request };
        lane.write_all(&frame.head(content.len())).await?;
        if let Manner::Stalls = manner {
            lane.write_all(&content[..1]).await?;
            std::future::pending::<()>().await;
        }
        lane.write_all(&content).await?;
        served += 1;
    }
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap_or_else(|_| panic!("{what}: not within 30 s"))
}

#[tokio::test(flavor = "multi_thread")]
async fn p19_a_sender_that_stops_at_any_object_or_lies_is_continued_elsewhere() {
    const BYTES: usize = 100_000;
    let first = (0..6).map(Manner::Stops).chain((0..6).map(Manner::Lies));
    for (number, manner) in first.enumerate() {
        let receiver = Receiver::new();
        let mut peer = receiver.counterpart(number as u8 + 1);
        peer.want(6, BYTES);
        receiver.lane(&mut peer, manner, BYTES);
        receiver.lane(&mut peer, Manner::Honest, BYTES);
        soon("all objects", peer.held(6)).await;
        let used = async {
            while receiver.memory.used() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("memory is given back", used).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p19_a_withheld_object_delays_only_itself_and_is_asked_for_elsewhere() {
    const BYTES: usize = 100_000;
    let receiver = Receiver::new();
    let mut peer = receiver.counterpart(1);
    peer.want(20, BYTES);
    receiver.lane(&mut peer, Manner::Withholds(3), BYTES);
    soon("all others", peer.held(19)).await;
    assert_eq!(receiver.memory.used(), 0, "what was only asked for holds no memory");
    receiver.lane(&mut peer, Manner::Honest, BYTES);
    soon("the last", peer.held(1)).await;
}

/// Time that an honest peer needs for its objects beside so many that stall.
async fn honest_beside(stalling: u8) -> Duration {
    const BYTES: usize = 1 << 20;
    const OBJECTS: u64 = 96;
    let receiver = Receiver::new();
    let mut peers = Vec::new();
    for number in 0..stalling {
        let mut peer = receiver.counterpart(100 + number);
        peer.want(64, BYTES);
        (0..8).for_each(|_| receiver.lane(&mut peer, Manner::Stalls, BYTES));
        peers.push(peer);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stalled = receiver.memory.used();
    assert!(stalled <= u64::from(stalling) * PEER_BYTES_MAX, "{stalled}");
    let mut honest = receiver.counterpart(1);
    honest.want(OBJECTS, BYTES);
    let began = Instant::now();
    (0..4).for_each(|_| receiver.lane(&mut honest, Manner::Honest, BYTES));
    soon("the honest peer's objects", honest.held(OBJECTS as usize)).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_an_honest_peer_keeps_its_pace_beside_those_that_stall() {
    // The machine may be busy with something else for a moment: one good round of five is enough.
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let alone = honest_beside(0).await;
        let beside = honest_beside(4).await;
        ratios.push(alone.as_secs_f64() / beside.as_secs_f64());
        if ratios.last() >= Some(&0.8) {
            return;
        }
    }
    panic!("the honest peer kept {ratios:.2?} of its pace");
}

/// Asks for the first objects on a lane.
async fn ask(lane: &mut DuplexStream, objects: u64) {
    for index in 0..objects {
        let request = BulkFrame { kind: BulkKind::Request, envelope: ENVELOPE, index };
        lane.write_all(&request.head(0)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_readers_that_read_nothing_hold_bounded_memory_and_leave_the_others_theirs() {
    const BYTES: usize = 1 << 20;
    const OBJECTS: u64 = 4;
    const READERS: u64 = 30;
    let node = Receiver::new();
    let objects: Vec<Bytes> = (0..OBJECTS).map(|index| object(index, BYTES)).collect();
    let named: Vec<(ObjectId, Bytes)> = objects.iter().map(|bytes| (ObjectId::of(bytes), bytes.clone())).collect();
    node.blobs.write_batch(EntityId([0; 32]), &named).await.unwrap();
    let entries: Vec<ObjectEntry> =
        named.iter().map(|(id, bytes)| ObjectEntry { id: *id, bytes: bytes.len() as u32 }).collect();
    let served = |number| {
        let peer = node.counterpart(number);
        peer.shared.serve(ENVELOPE, Priority::Normal, &entries);
        peer
    };
    let mut readers = Vec::new();
    for number in 0..READERS {
        let mut reader = served(100 + number as u8);
        let mut lanes: Vec<DuplexStream> = (0..8).map(|_| node.lane_to(&mut reader)).collect();
        for lane in &mut lanes {
            ask(lane, OBJECTS).await;
        }
        readers.push((reader, lanes));
    }
    let full = async {
        while node.leaving.used() < NODE_BYTES_MAX / 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("objects wait for their readers", full).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let held = node.leaving.used();
    assert!(held <= NODE_BYTES_MAX + READERS * BYTES as u64, "{held} bytes");

    let mut honest = served(1);
    let mut lane = node.lane_to(&mut honest);
    ask(&mut lane, OBJECTS).await;
    for expected in &objects {
        let mut answer = vec![0; 4 + BULK_HEAD_BYTES + BYTES];
        soon("an honest reader is served", lane.read_exact(&mut answer)).await.unwrap();
        assert!(answer.ends_with(expected));
    }
    drop((lane, honest, readers));
    let freed = async {
        while node.leaving.used() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("memory is given back", freed).await;
}
