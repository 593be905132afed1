//! Trees there and back through the whole pipeline, on a good disk, a full one and a damaged one.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_keys::object::SealBase;
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::content::manifest::{Bounds, Manifest, ManifestHead, ManifestKey};
use pakt_protocol::ids::ObjectId;
use pakt_protocol::limits::PATH_DEPTH_MAX;
use tar::{Archive, Builder, EntryType, Header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pool::SEAL_BYTES_MAX;
use super::*;
use crate::blob::{BlobError, Blobs, Owner};
use crate::disk::{Disk, DiskFile, FaultDisk};
use crate::store::Store;

const OWN: EntityId = EntityId([1; 32]);
const OWNER: Owner = [1; 16];

struct Node {
    disk: Arc<FaultDisk>,
    blobs: Blobs,
    pool: ContentPool,
}

impl Node {
    fn start() -> Node {
        let disk = FaultDisk::new();
        let store = Store::open(disk.clone(), Path::new("/data/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
        let blobs = Blobs::open(store, disk.clone(), Path::new("/data/chunks")).unwrap();
        Node { disk, blobs, pool: ContentPool::start().unwrap() }
    }

    async fn seal(&self, tar: Vec<u8>, owner: Owner) -> Result<SealedTree, SealTreeError> {
        self.seal_at_most(tar, owner, u64::MAX).await
    }

    async fn seal_at_most(&self, tar: Vec<u8>, owner: Owner, bytes_max: u64) -> Result<SealedTree, SealTreeError> {
        let (head, base) = (head(), SealBase::from_bytes([3; 32]));
        seal_tree(Cursor::new(tar), head, base, &self.blobs, OWN, owner, bytes_max, None, &self.pool).await
    }

    fn manifest(&self, sealed: &SealedTree) -> Manifest {
        let bounds = Bounds::from(sealed.totals);
        read_manifest(&self.blobs, OWN, &segments(sealed), sealed.manifest_key.clone(), bounds).unwrap()
    }

    async fn stream(&self, manifest: &Manifest) -> (Vec<u8>, std::io::Result<()>) {
        let mut stream = Box::pin(tar_stream(self.blobs.clone(), OWN, Arc::new(manifest.clone()), &self.pool));
        let mut out = Vec::new();
        let result = stream.read_to_end(&mut out).await;
        (out, result.map(drop))
    }

    fn objects(&self) -> Vec<PathBuf> {
        let paths = self.disk.contents().into_iter().map(|(path, _)| path);
        paths.filter(|path| path.starts_with("/data/chunks")).collect()
    }

    /// Waits for the background; fails if something stays.
    async fn assert_empty(&self) {
        for _ in 0..500 {
            self.blobs.reap().await.unwrap();
            if self.blobs.usage().unwrap().objects == 0 && self.objects().is_empty() && self.pool.bytes_held() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}, {} files", self.blobs.usage(), self.objects().len());
    }
}

fn head() -> ManifestHead {
    ManifestHead { subject: "MR hode".into(), from_group: "Reception".into(), ..ManifestHead::default() }
}

fn segments(sealed: &SealedTree) -> Vec<ObjectId> {
    let content = sealed.totals.chunks as usize;
    sealed.objects[content..].iter().map(|segment| segment.id).collect()
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// A tar of files, and of directories where there is no content.
fn tar_of(rows: &[Row<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in rows {
        let mut header = Header::new_gnu();
        let kind = if content.is_some() { EntryType::Regular } else { EntryType::Directory };
        header.set_entry_type(kind);
        let content = content.as_deref().unwrap_or_default();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A header with a path that the tar crate itself would refuse to write.
fn raw_tar(path: &[u8], kind: EntryType) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.resize(tar.len() + 1024, 0);
    tar
}

type Found = Vec<(String, Option<Vec<u8>>)>;

/// A path, and content unless it is a directory.
type Row<'a> = (&'a str, Option<Vec<u8>>);

fn rows_of(tar: &[u8]) -> Found {
    let mut archive = Archive::new(tar);
    let rows = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let dir = entry.header().entry_type() == EntryType::Directory;
        let mode = entry.header().mode().unwrap();
        assert_eq!(mode, if dir { 0o700 } else { 0o600 });
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path.trim_end_matches('/').to_owned(), (!dir).then_some(content))
    });
    rows.collect()
}

async fn check(node: &Node, rows: &[Row<'_>]) -> SealedTree {
    let sealed = node.seal(tar_of(rows), crate::ambient::random()).await.unwrap();
    let manifest = node.manifest(&sealed);
    assert_eq!(manifest.head, head());
    assert!(check_table(&manifest, &sealed.objects, &sealed.root_hash));
    let bytes: u64 = sealed.objects.iter().map(|object| u64::from(object.bytes)).sum();
    assert_eq!(bytes, sealed.sealed_bytes);
    assert!(sealed.objects.iter().all(|object| node.blobs.contains(OWN, object.id).unwrap()));
    let (tar, result) = node.stream(&manifest).await;
    result.unwrap();
    let expected: Found = rows.iter().map(|(path, content)| ((*path).to_owned(), content.clone())).collect();
    assert!(rows_of(&tar) == expected, "{} rows differ", expected.len());
    assert_eq!(node.pool.bytes_held(), 0);
    assert!(node.pool.bytes_held_peak() <= SEAL_BYTES_MAX);
    sealed
}

fn small_tree() -> Vec<Row<'static>> {
    vec![
        ("a", None),
        ("a/1", Some(noise(300_000, 1))),
        ("a/2", Some(noise(1_500_000, 2))),
        ("b", Some(noise(10_000, 3))),
        ("c", Some(noise(2_000_000, 4))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_come_back_as_they_were() {
    let node = Node::start();
    let long = "æ".repeat(127);
    let deep = vec!["mappe med et navn"; PATH_DEPTH_MAX];
    let paths: Vec<String> = (1..=deep.len()).map(|depth| deep[..depth].join("/")).collect();
    let deep: Vec<_> = paths.iter().map(|path| (path.as_str(), None)).collect();
    // The path is cut at 100 bytes within its header, here between two dots.
    let dots = format!("{}/..hidden", "d".repeat(97));
    let rows: [&[Row<'_>]; 7] = [
        &[],
        &[("tom mappe", None)],
        &[("tom", Some(vec![]))],
        &[(&dots[..97], None), (&dots, Some(vec![1]))],
        &[(&long, None), (&format!("{long}/{long}"), Some(noise(512, 1)))],
        &deep,
        &small_tree(),
    ];
    for rows in rows {
        check(&node, rows).await;
    }
}

/// Makes folders and files below `dir` as they occur in the field, and worse.
fn write_tree(dir: &Path) {
    let long = "n".repeat(255);
    let folders = ["study/empty", "study/صور", "study/many", "study/Ærlig måling", long.as_str()];
    for folder in folders {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for number in 0..3_000u64 {
        let content = noise((number % 700) as usize, number);
        std::fs::write(dir.join(format!("study/many/{number:05}")), content).unwrap();
    }
    let files = [
        ("study/Ærlig måling/pasient øst.dcm", noise(600_001, 1)),
        ("study/صور/🩻 👨‍👩‍👧.dcm", noise(70_000, 2)),
        ("study/blank", vec![]),
        ("study/large", noise(9_000_000, 3)),
        ("study/zeros", vec![0; 3_000_000]),
        (&format!("{long}/{long}"), noise(1000, 4)),
    ];
    for (path, content) in files {
        std::fs::write(dir.join(path), content).unwrap();
    }
}

fn walk(dir: &Path) -> impl Iterator<Item = walkdir::DirEntry> {
    let walk = walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name();
    walk.into_iter().map(Result::unwrap)
}

fn content_of(dir: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let rows = walk(dir).map(|entry| {
        let content = entry.file_type().is_file().then(|| std::fs::read(entry.path()).unwrap());
        (entry.path().strip_prefix(dir).unwrap().to_owned(), content)
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_on_disk_comes_back_bit_for_bit() {
    let node = Node::start();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_tree(from.path());
    let mut builder = Builder::new(Vec::new());
    for entry in walk(from.path()) {
        builder.append_path_with_name(entry.path(), entry.path().strip_prefix(from.path()).unwrap()).unwrap();
    }
    let sealed = node.seal(builder.into_inner().unwrap(), OWNER).await.unwrap();
    assert_eq!(sealed.totals.files, 3_006);
    let (tar, result) = node.stream(&node.manifest(&sealed)).await;
    result.unwrap();
    Archive::new(tar.as_slice()).unpack(to.path()).unwrap();
    assert!(content_of(from.path()) == content_of(to.path()));
    assert!((1..=SEAL_BYTES_MAX).contains(&node.pool.bytes_held_peak()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_content_is_pinned_and_not_written_again() {
    let node = Node::start();
    let first = check(&node, &small_tree()).await;
    let before = node.blobs.usage().unwrap();
    let mut longer = small_tree();
    longer.push(("d", Some(noise(300_000, 5))));
    let tar = tar_of(&longer);
    // One that fails after its content was found must not take the first one's with it.
    let cut = tar[..tar.len() - 1024].to_vec();
    assert!(matches!(node.seal(cut, [8; 16]).await, Err(SealTreeError::Truncated)));
    node.blobs.reap().await.unwrap();
    assert_eq!(node.blobs.usage().unwrap(), before);
    let second = node.seal(tar, [9; 16]).await.unwrap();
    let after = node.blobs.usage().unwrap();
    // The added file, the small one (sealed under each message's own secret) and the manifest.
    assert!(after.bytes - before.bytes < 313_000, "{} bytes more", after.bytes - before.bytes);
    assert_eq!(first.objects[0], second.objects[0]);
    let equal = [("a", Some(noise(400_000, 6))), ("b", Some(noise(400_000, 6)))];
    check(&node, &equal).await;
}

/// Nothing of a refused tree stays.
async fn check_refused(node: &Node, tar: Vec<u8>, expected: &str) {
    let error = node.seal_at_most(tar, crate::ambient::random(), 5_000_000).await.unwrap_err();
    assert!(error.message().contains(expected), "{} instead of {expected}", error.message());
    assert!(!format!("{error} {error:?}").contains("navn"), "a name in an error that may be logged");
    node.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p17_what_is_no_file_or_no_name_is_refused() {
    let node = Node::start();
    let rows: [(&[u8], EntryType, &str); 14] = [
        (b"navn", EntryType::Symlink, "navn cannot be sent: only files"),
        (b"navn", EntryType::Link, "only files"),
        (b"navn", EntryType::Char, "only files"),
        (b"navn", EntryType::Fifo, "only files"),
        (b"navn", EntryType::GNUSparse, "not a tar"),
        (b"/navn", EntryType::Regular, "empty"),
        (b"navn/", EntryType::Directory, ""),
        (b"navn//x", EntryType::Regular, "empty"),
        (b"../navn", EntryType::Regular, "another directory"),
        (b"./navn", EntryType::Regular, "another directory"),
        (b"navn/..", EntryType::Directory, "another directory"),
        (b"/", EntryType::Directory, "empty"),
        (b"navn/x", EntryType::Regular, "does not lie in"),
        (b"navn\xff", EntryType::Regular, "UTF-8"),
    ];
    for (path, kind, expected) in rows {
        let tar = raw_tar(path, kind);
        if expected.is_empty() {
            assert_eq!(node.seal(tar, crate::ambient::random()).await.unwrap().totals.entries, 1);
            node.blobs.remove_unpinned().await.unwrap();
            continue;
        }
        let fresh = Node::start();
        check_refused(&fresh, tar, expected).await;
    }
    let fresh = Node::start();
    check_refused(&fresh, tar_of(&[("b", Some(vec![])), ("a", Some(vec![]))]), "out of order").await;
    check_refused(&fresh, tar_of(&[("b", Some(vec![])), ("b", Some(vec![]))]), "twice").await;
    check_refused(&fresh, tar_of(&[("a", None), ("b", Some(noise(5_000_001, 1)))]), "5000000 bytes").await;
    let huge_name = "n".repeat(3 << 20);
    check_refused(&fresh, tar_of(&[(&huge_name, Some(vec![]))]), "not a tar").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_anywhere_leaves_nothing() {
    let node = Node::start();
    let tar = tar_of(&small_tree());
    let end = tar.len();
    for length in [
        0,
        1,
        511,
        512,
        1024,
        1500,
        301_536,
        302_080,
        2_000_000,
        end - 1536,
        end - 1025,
        end - 1024,
        end - 512,
        end - 1,
    ] {
        check_refused(&node, tar[..length].to_vec(), "before it was complete").await;
    }
    check_refused(&node, [&tar[..], b"x"].concat(), "not a tar").await;
    check_refused(&node, noise(100_000, 9), "not a tar").await;
    check_refused(&node, [&tar[..], &vec![0; 2 << 20]].concat(), "not a tar").await;
    // A tape's padding is part of a whole stream.
    node.seal([&tar[..], &[0; 9216]].concat(), [5; 16]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_breaks_is_told_apart_from_an_end() {
    let node = Node::start();
    let tar = tar_of(&small_tree());
    let broken = tokio_util::io::StreamReader::new(futures::stream::iter([
        Ok(bytes::Bytes::from(tar[..1_000_000].to_vec())),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
    ]));
    let base = SealBase::from_bytes([3; 32]);
    let sealed = seal_tree(broken, head(), base, &node.blobs, OWN, OWNER, u64::MAX, None, &node.pool).await;
    assert!(matches!(sealed, Err(SealTreeError::Read(std::io::ErrorKind::ConnectionReset))));
    node.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_at_any_point_it_leaves_nothing() {
    let tar = tar_of(&small_tree());
    for written in [0, 100_000, 1_000_000, 2_500_000, tar.len()] {
        let node = Node::start();
        let (mut user, stream) = tokio::io::duplex(64 << 10);
        let (blobs, pool) = (node.blobs.clone(), node.pool.clone());
        let sealing = tokio::spawn(async move {
            let base = SealBase::from_bytes([3; 32]);
            seal_tree(stream, head(), base, &blobs, OWN, OWNER, u64::MAX, None, &pool).await.map(drop)
        });
        user.write_all(&tar[..written]).await.unwrap();
        // A slow stream does not keep what it has brought in memory.
        if written >= 2_500_000 {
            while node.blobs.usage().unwrap().objects < 2 || node.pool.bytes_held() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        sealing.abort();
        assert!(sealing.await.unwrap_err().is_cancelled());
        drop(user);
        node.assert_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p31_a_full_disk_leaves_nothing() {
    let node = Node::start();
    let used: u64 = node.disk.contents().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    node.disk.set_capacity(Some(used + crate::blob::RESERVE_BYTES + (3 << 20)));
    let sealed = node.seal(tar_of(&small_tree()), OWNER).await;
    assert!(matches!(sealed, Err(SealTreeError::Blob(BlobError::Full))), "{sealed:?}");
    node.assert_empty().await;
}

fn flip(node: &Node, path: &Path, place: u64) {
    let file: Arc<dyn DiskFile> = node.disk.open(path).unwrap();
    let mut byte = [0];
    file.read_at(place, &mut byte).unwrap();
    file.write_at(place, &[byte[0] ^ 1]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_ends_the_stream_and_never_changes_it() {
    let node = Node::start();
    let sealed = node.seal(tar_of(&small_tree()), OWNER).await.unwrap();
    let manifest = node.manifest(&sealed);
    let (whole, result) = node.stream(&manifest).await;
    result.unwrap();
    for chunk in &manifest.chunks {
        let name = chunk.id.to_string();
        let path = node.objects().into_iter().find(|path| path.ends_with(&name)).unwrap();
        for place in [0, 40, u64::from(chunk.encoded_bytes) + 47] {
            flip(&node, &path, place);
            let (tar, result) = node.stream(&manifest).await;
            let error = result.unwrap_err().into_inner().unwrap().downcast::<TarStreamError>().unwrap();
            assert!(matches!(*error, TarStreamError::Local(BlobError::Damaged(id)) if id == chunk.id), "{error}");
            assert!(tar.len() < whole.len() - 1024 && whole.starts_with(&tar));
            flip(&node, &path, place);
        }
    }
    assert_eq!(node.stream(&manifest).await.0, whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_describes_other_content_is_blamed() {
    let node = Node::start();
    let sealed = node.seal(tar_of(&small_tree()), OWNER).await.unwrap();
    let manifest = node.manifest(&sealed);
    let (whole, _) = node.stream(&manifest).await;
    let mut swapped = manifest.clone();
    swapped.chunks.swap(1, 2);
    let mut rekeyed = manifest.clone();
    rekeyed.chunks[2].key = manifest.chunks[1].key.clone();
    let mut short = manifest.clone();
    short.chunks.pop();
    for (manifest, expected) in [(swapped, "not what its"), (rekeyed, "does not open"), (short, "less content")] {
        let (tar, result) = node.stream(&manifest).await;
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("the message is damaged, as it was sent") && error.contains(expected), "{error}");
        // Whatever came before it ends within a file: nobody takes it for a whole one.
        assert!(tar.len() < whole.len() - 1024);
        let mut archive = Archive::new(tar.as_slice());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let whole_files = entries.by_ref().map_while(|mut entry| {
            let mut content = Vec::new();
            let size = entry.size();
            entry.read_to_end(&mut content).ok().filter(|count| *count as u64 == size)?;
            Some((String::from_utf8(entry.path_bytes().into_owned()).unwrap(), content))
        });
        for (path, content) in whole_files.filter(|(path, _)| !path.ends_with('/')) {
            let row = small_tree().into_iter().find(|(name, _)| *name == path).unwrap();
            assert!(row.1.unwrap() == content, "a wrong file");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_is_judged_by_whose_fault_it_is() {
    let node = Node::start();
    let sealed = node.seal(tar_of(&small_tree()), OWNER).await.unwrap();
    let segments = segments(&sealed);
    let read = |key: ManifestKey, bounds| read_manifest(&node.blobs, OWN, &segments, key, bounds);
    let bounds = Bounds::from(sealed.totals);
    assert!(read(sealed.manifest_key.clone(), bounds).is_ok());
    let wrong_key = read(ManifestKey::from_bytes([0; 32]), bounds);
    assert!(matches!(wrong_key, Err(ReadManifestError::Unopenable(_))));
    let too_large = read(sealed.manifest_key.clone(), Bounds { bytes_max: 1000, ..bounds });
    assert!(matches!(too_large, Err(ReadManifestError::Unopenable(_))));
    let other = read_manifest(&node.blobs, EntityId([2; 32]), &segments, sealed.manifest_key.clone(), bounds);
    assert!(matches!(other, Err(ReadManifestError::Local(BlobError::Missing))), "objects are kept per origin");
    let name = segments[0].to_string();
    let path = node.objects().into_iter().find(|path| path.ends_with(&name)).unwrap();
    flip(&node, &path, 50);
    let damaged = read(sealed.manifest_key.clone(), bounds);
    assert!(matches!(damaged, Err(ReadManifestError::Local(BlobError::Damaged(_)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_differs_in_anything_is_noticed() {
    let node = Node::start();
    let sealed = node.seal(tar_of(&small_tree()), OWNER).await.unwrap();
    let manifest = node.manifest(&sealed);
    let (right, root) = (&sealed.objects, sealed.root_hash);
    assert!(check_table(&manifest, right, &root));
    assert!(!check_table(&manifest, right, &[0; 32]));
    assert!(!check_table(&manifest, &[], &root));
    for place in 0..right.len() {
        let mut changed = right.clone();
        changed.remove(place);
        assert!(!check_table(&manifest, &changed, &root));
        let mut changed = right.clone();
        changed.insert(place, right[place]);
        assert!(!check_table(&manifest, &changed, &root));
        let mut changed = right.clone();
        changed[place].id.0[0] ^= 1;
        assert!(!check_table(&manifest, &changed, &root));
        if place < manifest.chunks.len() {
            let mut changed = right.clone();
            changed[place].bytes += 1;
            assert!(!check_table(&manifest, &changed, &root));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_stops_the_work() {
    let node = Node::start();
    let sealed = node.seal(tar_of(&small_tree()), OWNER).await.unwrap();
    let manifest = Arc::new(node.manifest(&sealed));
    let mut stream = Box::pin(tar_stream(node.blobs.clone(), OWN, manifest.clone(), &node.pool));
    let mut first = [0; 512];
    stream.read_exact(&mut first).await.unwrap();
    drop(stream);
    while Arc::strong_count(&manifest) > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
