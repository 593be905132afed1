//! The whole way: a tree is packed, sealed, described, opened and unpacked again, bit for bit.

use std::collections::{BTreeMap, HashMap, HashSet};

use pakt_keys::object::SealBase;
use proptest::prelude::*;

use super::encode::{DecodeScratch, Effort, EncodeScratch};
use super::extent::Extent;
use super::known::ContentName;
use super::manifest::{Bounds, Manifest, ManifestHead, ManifestKey, ManifestReader, SegmentWriter};
use super::name::Component;
use super::pack::{PackError, Packed, Packer};
use super::seal::{open_chunk, seal_chunk};
use super::unpack::{Step, UnpackError, Unpacker};
use crate::ids::ObjectId;
use crate::limits::{CHUNK_BYTES_MAX, GUESSABLE_BYTES, SMALL_FILE_BYTES};

/// Paths in tree order: None is a directory.
type Files = BTreeMap<Vec<String>, Option<Vec<u8>>>;

fn base() -> SealBase {
    SealBase::from_bytes([1; 32])
}

fn random_base() -> SealBase {
    SealBase::from_bytes([2; 32])
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn components(path: &[String]) -> Vec<Component> {
    path.iter().map(|name| Component::parse(name).unwrap()).collect()
}

/// Packs in writes of `piece` bytes; hands each output to `take`.
fn pack(files: &Files, piece: usize, mut take: impl FnMut(Packed)) {
    let mut packer = Packer::new(&base());
    for (path, content) in files {
        let path = components(path);
        match content {
            None => packer.push_dir(&path).unwrap(),
            Some(content) => {
                packer.begin_file(&path, content.len() as u64).unwrap();
                content.chunks(piece).for_each(|piece| packer.write(piece).unwrap());
                packer.end_file().unwrap();
            }
        }
        std::iter::from_fn(|| packer.poll_output()).for_each(&mut take);
    }
    packer.finish().unwrap();
    std::iter::from_fn(|| packer.poll_output()).for_each(&mut take);
}

struct Sent {
    segments: Vec<Vec<u8>>,
    objects: HashMap<ObjectId, Vec<u8>>,
    key: ManifestKey,
}

fn send(files: &Files, piece: usize) -> Sent {
    let key = ManifestKey::from_bytes([3; 32]);
    let mut writer = SegmentWriter::new(key.clone(), ManifestHead::default()).unwrap();
    let mut objects = HashMap::new();
    let mut scratch = EncodeScratch::new();
    let mut next = 0;
    pack(files, piece, |packed| match packed {
        Packed::Entry(entry) => writer.push_entry(entry),
        Packed::Chunk(chunk) => {
            assert_eq!(chunk.index, next);
            next += 1;
            let sealed = seal_chunk(&chunk.bytes, &base(), &random_base(), Effort::LINE, &mut scratch);
            assert_eq!(sealed.reusable, sealed.entry.encoded_bytes as usize >= GUESSABLE_BYTES);
            objects.insert(sealed.entry.id, sealed.sealed);
            writer.push_chunk(sealed.entry);
        }
    });
    writer.finish();
    let segments = std::iter::from_fn(|| writer.poll_segment()).map(|segment| segment.sealed).collect();
    Sent { segments, objects, key }
}

fn read(sent: &Sent) -> Manifest {
    let mut reader = ManifestReader::new(sent.key.clone(), Bounds::PROTOCOL);
    sent.segments.iter().for_each(|segment| reader.feed(segment).unwrap());
    reader.finish().unwrap()
}

fn unpack(manifest: &Manifest, objects: &HashMap<ObjectId, Vec<u8>>) -> Result<Files, UnpackError> {
    let mut paths = Vec::new();
    let mut walk = manifest.tree.walk();
    while let Some((path, _)) = walk.step() {
        paths.push(path.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>());
    }
    let mut files = Files::new();
    let mut finished = HashSet::new();
    let mut unpacker = Unpacker::new();
    let mut scratch = DecodeScratch::new();
    let mut plain = Vec::new();
    for row in manifest.chunks.iter().map(Some).chain([None]) {
        match row {
            Some(row) => open_chunk(row, &objects[&row.id], &mut scratch, &mut plain).unwrap(),
            None => plain.clear(),
        }
        let mut content = &plain[..];
        while let Some(step) = unpacker.step(&manifest.tree, &mut content)? {
            match step {
                Step::Dir { entry } => drop(files.insert(paths[entry].clone(), None)),
                Step::Create { entry } => drop(files.insert(paths[entry].clone(), Some(Vec::new()))),
                Step::Append { entry, bytes } => {
                    files.get_mut(&paths[entry]).unwrap().as_mut().unwrap().extend_from_slice(bytes);
                }
                Step::Finish { entry } => assert!(finished.insert(entry)),
            }
        }
    }
    unpacker.finish(&manifest.tree)?;
    assert_eq!(finished.len() as u64, manifest.totals.files);
    Ok(files)
}

fn check(files: &Files, piece: usize) {
    let sent = send(files, piece);
    let manifest = read(&sent);
    assert_eq!(manifest.totals.entries, files.len() as u64);
    assert_within_bounds(&manifest, &sent);
    assert!(unpack(&manifest, &sent.objects).unwrap() == *files, "the tree changed");
}

/// What was told from the tree's extent alone is never less than what became of it.
fn assert_within_bounds(manifest: &Manifest, sent: &Sent) {
    let totals = manifest.totals;
    let extent = Extent { files: totals.files, folders: totals.entries - totals.files, plain_bytes: totals.bytes };
    let bounds = extent.bounds(&manifest.head);
    let chunks: usize = manifest.chunks.iter().map(|row| row.sealed_bytes()).sum();
    let segments: usize = sent.segments.iter().map(Vec::len).sum();
    assert!(totals.chunks + totals.segments <= bounds.objects, "{totals:?} {bounds:?}");
    assert!((chunks + segments) as u64 <= bounds.sealed_bytes, "{} {bounds:?}", chunks + segments);
}

fn path(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

#[test]
fn trees_come_back_bit_for_bit() {
    let big = |bytes, seed| Some(noise(bytes, seed));
    let mut many: Files = [(path("many"), None)].into();
    for number in 0..3_000u64 {
        many.insert(path(&format!("many/{number:05}.txt")), big((number % 700) as usize, number));
    }
    let edges: Vec<usize> = [0, 1, SMALL_FILE_BYTES as usize, CHUNK_BYTES_MAX, 2 * CHUNK_BYTES_MAX]
        .into_iter()
        .flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1])
        .collect();
    let edges: Files = edges
        .iter()
        .enumerate()
        .map(|(place, bytes)| (path(&format!("{place:03}")), big(*bytes, place as u64)))
        .collect();
    let rows: [Files; 6] = [
        Files::new(),
        [(path("empty folder"), None)].into(),
        [(path("empty file"), Some(vec![]))].into(),
        [
            (path("studie æøå"), None),
            (path("studie æøå/صورة"), None),
            (path("studie æøå/صورة/🩻.dcm"), big(600_000, 1)),
            (path("studie æøå/صورة/🩻.txt"), big(10, 1)),
            (path("studie æøå/tom"), None),
            (path("studie æøå.txt"), Some(vec![])),
        ]
        .into(),
        many,
        edges,
    ];
    for files in &rows {
        check(files, 100_000);
    }
}

/// Ids of the chunks that these files make: plain content is enough to compare borders.
fn chunk_hashes(files: &Files) -> Vec<[u8; 32]> {
    let mut hashes = Vec::new();
    pack(files, usize::MAX, |packed| {
        if let Packed::Chunk(chunk) = packed {
            assert!((1..=CHUNK_BYTES_MAX).contains(&chunk.bytes.len()));
            hashes.push(ContentName::of(&base(), &chunk.bytes).lookup());
        }
    });
    hashes
}

fn small_files(seed: u64, count: u64, bytes_max: u64) -> Files {
    let mut files: Files = [(path("study"), None)].into();
    for number in 0..count {
        let bytes = blake3::hash(&(seed << 32 | number).to_le_bytes());
        let bytes = u64::from_le_bytes(*bytes.as_bytes().first_chunk().unwrap()) % bytes_max;
        files.insert(path(&format!("study/{number:05}")), Some(noise(bytes as usize, seed << 32 | number)));
    }
    files
}

#[test]
fn one_added_file_changes_at_most_two_chunks() {
    let mut files = small_files(1, 3_000, 20_000);
    let before = chunk_hashes(&files);
    let known: HashSet<_> = before.iter().copied().collect();
    let bytes: usize = files.values().flatten().map(Vec::len).sum();
    assert!(before.len() < bytes / (300 << 10), "{} chunks for {bytes} bytes", before.len());
    for place in (0..3_000).step_by(307) {
        let added = path(&format!("study/{place:05}.new"));
        files.insert(added.clone(), Some(noise(9_000, place)));
        let new = chunk_hashes(&files).iter().filter(|hash| !known.contains(*hash)).count();
        assert!(new <= 2, "{new} chunks changed by a file at {place}");
        files.remove(&added);
    }
}

#[test]
fn chunks_of_small_files_are_large_enough_to_be_known_again() {
    for seed in 0..4 {
        let mut lengths = Vec::new();
        pack(&small_files(10 + seed, 3_000, 20_000), usize::MAX, |packed| {
            if let Packed::Chunk(chunk) = packed {
                lengths.push(chunk.bytes.len());
            }
        });
        let short = lengths.iter().filter(|bytes| **bytes < GUESSABLE_BYTES).count();
        assert!(
            short <= 2,
            "{short} of {} chunks are too short: the last one, and one after a forced cut",
            lengths.len()
        );
    }
}

#[test]
fn small_files_cost_no_more_objects_than_one_file_of_their_size() {
    let files = small_files(2, 3_000, 200);
    let chunks = chunk_hashes(&files).len();
    assert!(chunks <= 3, "{chunks} chunks for 300 KB");
    // A study: each image of 524 KB is one chunk.
    let study: Files =
        (0..20).map(|number| (path(&format!("{number:03}.dcm")), Some(noise(524_000, number)))).collect();
    assert_eq!(chunk_hashes(&study).len(), 20);
}

#[test]
fn equal_content_is_one_object_under_the_group_secret_only() {
    let mut scratch = EncodeScratch::new();
    let mut seal =
        |plain: &[u8], base: &SealBase, random: &SealBase| seal_chunk(plain, base, random, Effort::LINE, &mut scratch);
    let (other, large, small) = (SealBase::from_bytes([9; 32]), noise(100_000, 1), noise(60_000, 1));
    let first = seal(&large, &base(), &random_base());
    assert!(first.reusable && seal(&large, &base(), &other).entry == first.entry);
    assert_ne!(seal(&large, &other, &random_base()).entry.id, first.entry.id);
    let first = seal(&small, &base(), &random_base());
    assert!(!first.reusable && seal(&small, &base(), &other).entry.id != first.entry.id);
    assert_eq!(seal(&small, &other, &random_base()).entry, first.entry);
}

#[test]
fn p11_an_object_opens_with_its_own_key_to_its_own_content_only() {
    use super::seal::OpenChunkError;
    let mut scratch = EncodeScratch::new();
    let plain = noise(70_000, 4);
    let sealed = seal_chunk(&plain, &base(), &random_base(), Effort::LINE, &mut scratch);
    let other = seal_chunk(&noise(70_000, 5), &base(), &random_base(), Effort::LINE, &mut scratch);
    let mut out = Vec::new();
    let mut open = |entry: &super::seal::ChunkEntry, sealed: &[u8]| {
        let result = open_chunk(entry, sealed, &mut DecodeScratch::new(), &mut out);
        assert!(if result.is_ok() { out == plain } else { out.is_empty() });
        result
    };
    assert_eq!(open(&sealed.entry, &sealed.sealed), Ok(()));
    // A second manifest names the same object with another key; then a commitment that fits that key, and a wrong tag.
    let two_keys = super::seal::ChunkEntry { key: other.entry.key.clone(), ..sealed.entry.clone() };
    let mut recommitted = sealed.sealed.clone();
    recommitted[..32].copy_from_slice(&other.sealed[..32]);
    let mut bad_tag = sealed.sealed.clone();
    *bad_tag.last_mut().unwrap() ^= 1;
    let rows = [
        (&two_keys, &sealed.sealed),
        (&two_keys, &recommitted),
        (&sealed.entry, &bad_tag),
        (&sealed.entry, &other.sealed),
        (&sealed.entry, &sealed.sealed[..sealed.sealed.len() - 1].to_vec()),
        (&sealed.entry, &vec![]),
    ];
    for (entry, sealed) in rows {
        assert_eq!(open(entry, sealed), Err(OpenChunkError::Sealed));
    }
}

#[test]
fn a_file_that_is_not_what_was_described_is_never_finished() {
    let files: Files = [(path("a"), Some(noise(300_000, 1))), (path("b"), Some(noise(300_000, 2)))].into();
    let sent = send(&files, 1 << 20);
    let mut manifest = read(&sent);
    manifest.chunks.swap(0, 1);
    assert_eq!(unpack(&manifest, &sent.objects), Err(UnpackError::Changed { entry: 0 }));
    manifest.chunks.swap(0, 1);
    let last = manifest.chunks.pop().unwrap();
    assert_eq!(unpack(&manifest, &sent.objects), Err(UnpackError::TooLittle));
    manifest.chunks.extend([last.clone(), last]);
    assert_eq!(unpack(&manifest, &sent.objects), Err(UnpackError::TooMuch));
}

#[test]
fn misuse_of_the_packer_is_an_error() {
    let name = |text: &str| vec![Component::parse(text).unwrap()];
    let mut packer = Packer::new(&base());
    assert_eq!(packer.write(b"x"), Err(PackError::OutOfTurn));
    assert_eq!(packer.end_file(), Err(PackError::OutOfTurn));
    packer.begin_file(&name("b"), 3).unwrap();
    assert_eq!(packer.push_dir(&name("c")), Err(PackError::OutOfTurn));
    assert_eq!(packer.finish(), Err(PackError::OutOfTurn));
    assert_eq!(packer.write(b"four"), Err(PackError::FileChanged));
    packer.write(b"tw").unwrap();
    assert_eq!(packer.end_file(), Err(PackError::FileChanged));
    assert!(matches!(packer.push_dir(&name("a")), Err(PackError::Order(_))));
    assert!(matches!(packer.push_dir(&[]), Err(PackError::Order(_))));
}

/// Trees of up to three levels with files of all kinds of sizes.
fn any_tree() -> impl Strategy<Value = Files> {
    let name = prop_oneof!["[a-d]{1,2}", "[æ🩻ص.~ ]{1,3}x"];
    let content = prop_oneof![
        3 => (0usize..2_000, any::<u64>()).prop_map(|(bytes, seed)| noise(bytes, seed)),
        2 => (0usize..400_000, any::<u8>()).prop_map(|(bytes, fill)| (0..bytes).map(|i| (i / 7) as u8 ^ fill).collect()),
        1 => (0usize..1_300_000, any::<u64>()).prop_map(|(bytes, seed)| noise(bytes, seed)),
    ];
    let row = (proptest::collection::vec(name, 1..4), proptest::option::weighted(0.85, content));
    proptest::collection::vec(row, 0..14).prop_map(|rows| {
        let mut files = Files::new();
        for (path, content) in rows {
            let blocked = (1..path.len()).any(|end| matches!(files.get(&path[..end]), Some(Some(_))));
            if blocked || files.contains_key(&path) {
                continue;
            }
            for end in 1..path.len() {
                files.entry(path[..end].to_vec()).or_insert(None);
            }
            files.insert(path, content);
        }
        files
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_comes_back_bit_for_bit(files in any_tree(), piece in 1usize..300_000) {
        check(&files, piece.max(500));
    }
}
