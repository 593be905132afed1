//! P16: manifests made to cost memory, time or truth are refused; P11 for segments.

use proptest::prelude::*;

use super::super::{SegmentWriter, root_hash};
use super::*;
use crate::content::encode::Codec;
use crate::content::name::Component;
use crate::limits::{CHUNK_BYTES_MAX, SUBJECT_BYTES_MAX, TEXT_BYTES_MAX};
use pakt_keys::object::ObjectKey;

fn key() -> ManifestKey {
    ManifestKey::from_bytes([7; 32])
}

fn head() -> ManifestHead {
    ManifestHead { subject: "Thorax".into(), ..ManifestHead::default() }
}

fn file(depth: u8, name: &str, bytes: u64) -> TreeEntry {
    let name = Component::parse(name).unwrap();
    TreeEntry { depth, name, kind: EntryKind::File { bytes, blake3: [1; 32] } }
}

fn dir(depth: u8, name: &str) -> TreeEntry {
    TreeEntry { depth, name: Component::parse(name).unwrap(), kind: EntryKind::Dir }
}

fn chunk(plain_bytes: u32) -> ChunkEntry {
    chunk_of(Codec::Raw.into(), plain_bytes, plain_bytes)
}

fn chunk_of(codec: u8, plain_bytes: u32, encoded_bytes: u32) -> ChunkEntry {
    let key = ObjectKey::from_bytes([3; 32]);
    ChunkEntry { id: ObjectId([2; 32]), key, codec, plain_bytes, encoded_bytes }
}

fn totals(entries: u64, files: u64, bytes: u64, chunks: u64, segments: u64) -> Option<Totals> {
    Some(Totals { entries, files, bytes, chunks, segments })
}

const OFFER: Bounds = Bounds { entries_max: 1_000, bytes_max: 10_000_000, chunks_max: 1_000 };

/// Seals hand-made bodies as a hostile sender can, and reads them within [`OFFER`].
fn read(bodies: Vec<SegmentBody>) -> Result<Totals, ManifestError> {
    let mut reader = ManifestReader::new(key(), OFFER);
    for (index, body) in bodies.iter().enumerate() {
        reader.feed(&key().seal(index as u64, &body.encode()))?;
    }
    reader.finish().map(|manifest| manifest.totals)
}

fn one(tree: Vec<TreeEntry>, chunks: Vec<ChunkEntry>, totals: Option<Totals>) -> Vec<SegmentBody> {
    vec![SegmentBody { head: Some(head()), tree, chunks, totals }]
}

fn full_segment(start: usize) -> Vec<TreeEntry> {
    (start..start + SEGMENT_ENTRIES_MAX).map(|number| file(0, &format!("{number:06}"), 0)).collect()
}

fn check(name: &str, bodies: Vec<SegmentBody>, expected: Result<(), ManifestError>) {
    assert_eq!(read(bodies).map(drop), expected, "{name}");
}

#[test]
fn p16_one_segment_is_right_or_refused() {
    use ManifestError::{Bounds, Cut, Totals as Sum};
    let file_10 = || vec![file(0, "a", 10)];
    let ok = totals(1, 1, 10, 1, 1);
    let length = |bytes| ManifestError::Chunk(DecodeError::Length { bytes });
    let wrong_length = ManifestError::Chunk(DecodeError::WrongLength);
    let megabyte = CHUNK_BYTES_MAX as u32;
    let rows = [
        ("right", one(file_10(), vec![chunk(10)], ok), Ok(())),
        ("empty message", one(vec![], vec![], totals(0, 0, 0, 0, 1)), Ok(())),
        ("zstd", one(file_10(), vec![chunk_of(1, 10, 9)], ok), Ok(())),
        ("no end", one(file_10(), vec![chunk(10)], None), Err(Cut)),
        ("more files claimed", one(file_10(), vec![chunk(10)], totals(2, 2, 10, 1, 1)), Err(Sum)),
        ("10^9 entries claimed", one(file_10(), vec![chunk(10)], totals(1_000_000_000, 1, 10, 1, 1)), Err(Sum)),
        ("more segments claimed", one(file_10(), vec![chunk(10)], totals(1, 1, 10, 1, 2)), Err(Sum)),
        ("less content than files", one(file_10(), vec![chunk(9)], ok), Err(Sum)),
        ("more content than files", one(file_10(), vec![chunk(11)], ok), Err(Sum)),
        ("content without files", one(vec![], vec![chunk(1)], totals(0, 0, 0, 1, 1)), Err(Sum)),
        ("file without content", one(file_10(), vec![], totals(1, 1, 10, 0, 1)), Err(Sum)),
        ("file of 2^64 - 1", one(vec![file(0, "a", u64::MAX)], vec![], totals(1, 1, u64::MAX, 0, 1)), Err(Bounds)),
        ("sum above 2^64", one(vec![file(0, "a", 9), file(0, "b", u64::MAX)], vec![], None), Err(Cut)),
        ("sum above 2^64, ended", one(vec![file(0, "a", 9), file(0, "b", u64::MAX)], vec![], ok), Err(Bounds)),
        ("more bytes than offered", one(vec![], vec![chunk(megabyte); 10], ok), Err(Bounds)),
        ("empty chunk", one(file_10(), vec![chunk(10), chunk(0)], ok), Err(length(0))),
        ("chunk above 1 MiB", one(vec![], vec![chunk(megabyte + 1)], ok), Err(length(1_048_577))),
        ("raw that shrinks", one(file_10(), vec![chunk_of(0, 10, 9)], ok), Err(wrong_length)),
        ("zstd that grows", one(file_10(), vec![chunk_of(1, 10, 10)], ok), Err(wrong_length)),
        ("encoded to nothing", one(file_10(), vec![chunk_of(1, 10, 0)], ok), Err(wrong_length)),
        (
            "future codec",
            one(file_10(), vec![chunk_of(9, 10, 9)], ok),
            Err(ManifestError::Chunk(DecodeError::UnknownCodec { byte: 9 })),
        ),
        (
            "duplicate",
            one(vec![file(0, "a", 5), file(0, "a", 5)], vec![chunk(10)], totals(2, 2, 10, 1, 1)),
            Err(ManifestError::Order(OrderError::Name)),
        ),
        (
            "file as parent",
            one(vec![file(0, "a", 5), file(1, "a", 5)], vec![chunk(10)], totals(2, 2, 10, 1, 1)),
            Err(ManifestError::Order(OrderError::Parent)),
        ),
        (
            "no head",
            vec![SegmentBody { head: None, tree: vec![], chunks: vec![], totals: ok }],
            Err(ManifestError::Head),
        ),
    ];
    for (name, bodies, expected) in rows {
        check(name, bodies, expected);
    }
}

#[test]
fn p16_segments_are_cut_in_one_way() {
    let body = |head, tree, totals| SegmentBody { head, tree, chunks: vec![], totals };
    let first = || body(Some(head()), full_segment(0), None);
    let end = |entries, segments| totals(entries, entries, 0, 0, segments);
    let short = || (0..SEGMENT_ENTRIES_MAX - 1).map(|number| file(0, &format!("{number:06}"), 0)).collect();
    let long = || [full_segment(0), vec![file(0, "z", 0)]].concat();
    check("two", vec![first(), body(None, vec![file(0, "z", 0)], end(257, 2))], Ok(()));
    check("exactly full", vec![body(Some(head()), full_segment(0), end(256, 1))], Ok(()));
    check("ends empty", vec![first(), body(None, vec![], end(256, 2))], Err(ManifestError::Cut));
    check("short within", vec![body(Some(head()), short(), None)], Err(ManifestError::Cut));
    check("overfull", vec![body(Some(head()), long(), end(257, 1))], Err(ManifestError::Cut));
    check(
        "head again",
        vec![first(), body(Some(head()), vec![file(0, "z", 0)], end(257, 2))],
        Err(ManifestError::Head),
    );
    check(
        "order across segments",
        vec![first(), body(None, full_segment(0), None)],
        Err(ManifestError::Order(OrderError::Name)),
    );
    let ended = || body(Some(head()), vec![], end(0, 1));
    check("after the last", vec![ended(), ended()], Err(ManifestError::Cut));
}

#[test]
fn p16_a_storm_of_empty_files_stops_at_the_offer() {
    let storm = (0..5).map(|number| SegmentBody {
        head: (number == 0).then(head),
        tree: full_segment(number * SEGMENT_ENTRIES_MAX),
        chunks: vec![],
        totals: None,
    });
    check("1,280 files where 1,000 were offered", storm.collect(), Err(ManifestError::Bounds));
}

#[test]
fn p16_claimed_lengths_take_no_memory() {
    // head absent, then a tree of 10^9, 2^32 or 2^64 - 1 rows, of which none follows.
    for claimed in [1_000_000_000, 1 << 32, u64::MAX] {
        let body = [&[1, 0][..], &u64::to_be_bytes(claimed)].concat();
        let mut reader = SegmentReader::new(key(), OFFER);
        let error = reader.feed(&key().seal(0, &body)).unwrap_err();
        assert_eq!(error, ManifestError::Codec(CodecError::Malformed), "{claimed}");
    }
    let mut reader = SegmentReader::new(key(), OFFER);
    assert_eq!(reader.feed(&vec![0; OBJECT_BYTES_MAX + 1]).unwrap_err(), ManifestError::Sealed);
}

#[test]
fn p16_heads_have_limits() {
    let rows = [
        ("subject", ManifestHead { subject: "s".repeat(SUBJECT_BYTES_MAX + 1), ..head() }),
        ("text", ManifestHead { text: "t".repeat(TEXT_BYTES_MAX + 1), ..head() }),
        ("purpose", ManifestHead { purpose: Some("p".repeat(101)), ..head() }),
    ];
    for (part, head) in rows {
        assert_eq!(SegmentWriter::new(key(), head.clone()).err().map(|error| error.part), Some(part));
        let body = SegmentBody { head: Some(head), tree: vec![], chunks: vec![], totals: totals(0, 0, 0, 0, 1) };
        let error = read(vec![body]).unwrap_err();
        assert!(matches!(error, ManifestError::HeadLength(HeadError { part: found, .. }) if found == part));
    }
}

#[test]
fn the_largest_segment_fits_one_object() {
    let head = ManifestHead {
        subject: "s".repeat(SUBJECT_BYTES_MAX),
        text: "t".repeat(TEXT_BYTES_MAX),
        purpose: Some("p".repeat(100)),
        ..head()
    };
    let mut writer = SegmentWriter::new(key(), head).unwrap();
    for number in 0..SEGMENT_ENTRIES_MAX {
        writer.push_entry(file(0, &format!("{number:0255}"), 0));
    }
    writer.finish();
    assert!(writer.poll_segment().unwrap().sealed.len() <= OBJECT_BYTES_MAX);
}

/// A tree of `count` files of `bytes` bytes in one directory, with chunks of that size.
fn written(count: usize, bytes: u32) -> (Vec<Vec<u8>>, Totals, [u8; 32]) {
    let mut writer = SegmentWriter::new(key(), head()).unwrap();
    writer.push_entry(dir(0, "study"));
    let mut segments = Vec::new();
    for number in 0..count {
        writer.push_entry(file(1, &format!("{number:06}"), bytes.into()));
        if bytes > 0 {
            writer.push_chunk(chunk(bytes));
        }
        segments.extend(std::iter::from_fn(|| writer.poll_segment()));
    }
    let (totals, root) = writer.finish();
    segments.extend(std::iter::from_fn(|| writer.poll_segment()));
    assert_eq!(root, root_hash(segments.iter().map(|segment| &segment.id)));
    assert!(segments.iter().enumerate().all(|(index, segment)| segment.index == index as u64));
    (segments.into_iter().map(|segment| segment.sealed).collect(), totals, root)
}

#[test]
fn what_is_written_is_read() {
    for (count, bytes) in [(0, 0), (1, 5), (127, 10), (128, 10), (255, 0), (256, 0), (400, 7), (100_000, 0)] {
        let (segments, totals, root) = written(count, bytes);
        let mut reader = ManifestReader::new(key(), totals.into());
        segments.iter().for_each(|sealed| reader.feed(sealed).unwrap());
        let manifest = reader.finish().unwrap();
        assert_eq!((manifest.totals, manifest.root, manifest.head.clone()), (totals, root, head()));
        assert_eq!(manifest.tree.entries().len(), count + 1);
        assert_eq!(totals.segments as usize, segments.len());
        for entry in [1, count / 2, count] {
            let spans: Vec<_> = manifest.spans(entry).collect();
            let whole = Span { chunk: entry.wrapping_sub(1), range: 0..bytes as usize };
            let expected = if bytes > 0 && entry > 0 { vec![whole] } else { vec![] };
            assert_eq!(spans, expected, "{count} files, entry {entry}");
        }
    }
}

#[test]
fn spans_follow_files_over_chunks() {
    let tree = vec![dir(0, "a"), file(1, "b", 3), file(1, "c", 0), file(1, "d", 25), file(1, "e", 2)];
    let body = SegmentBody { head: Some(head()), tree, chunks: vec![chunk(10); 3], totals: totals(5, 4, 30, 3, 1) };
    let mut reader = ManifestReader::new(key(), OFFER);
    reader.feed(&key().seal(0, &body.encode())).unwrap();
    let manifest = reader.finish().unwrap();
    let spans = |entry| manifest.spans(entry).map(|span| (span.chunk, span.range)).collect::<Vec<_>>();
    assert_eq!(spans(0), []);
    assert_eq!(spans(1), [(0, 0..3)]);
    assert_eq!(spans(2), []);
    assert_eq!(spans(3), [(0, 3..10), (1, 0..10), (2, 0..8)]);
    assert_eq!(spans(4), [(2, 8..10)]);
    assert_eq!(spans(5), []);
}

#[test]
fn segments_open_at_their_place_with_their_key_only() {
    let (segments, totals, _) = written(400, 7);
    let feed = |key: ManifestKey, sealed: &[u8]| SegmentReader::new(key, totals.into()).feed(sealed).map(drop);
    assert_eq!(feed(key(), &segments[0]), Ok(()));
    assert_eq!(feed(key(), &segments[1]), Err(ManifestError::Sealed));
    assert_eq!(feed(ManifestKey::from_bytes([8; 32]), &segments[0]), Err(ManifestError::Sealed));
    for place in [0, 31, 32, 63, 64, 200, segments[0].len() - 1] {
        let mut changed = segments[0].clone();
        changed[place] ^= 1;
        assert_eq!(feed(key(), &changed), Err(ManifestError::Sealed), "byte {place}");
        assert_eq!(feed(key(), &segments[0][..place]), Err(ManifestError::Sealed), "cut at {place}");
    }
    let mut reader = SegmentReader::new(key(), totals.into());
    reader.feed(&segments[0]).unwrap();
    assert_eq!(reader.finish(), Err(ManifestError::Cut));
}

#[test]
fn p12_a_cloned_manifest_key_never_seals_two_bodies_under_one_key() {
    let body = |subject: &str| {
        let head = ManifestHead { subject: subject.into(), ..head() };
        SegmentBody { head: Some(head), tree: vec![], chunks: vec![], totals: totals(0, 0, 0, 0, 1) }.encode()
    };
    let (one, two) = (key().seal(0, &body("one")), key().seal(0, &body("two")));
    // Equal commitments would mean equal keys.
    assert_ne!(one[32..64], two[32..64]);
    assert_ne!(key().seal(0, &body("one"))[32..64], key().seal(1, &body("one"))[32..64]);
    assert_eq!(one, key().seal(0, &body("one")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn p16_any_body_is_an_error_or_whole(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut reader = ManifestReader::new(key(), OFFER);
        if reader.feed(&key().seal(0, &bytes)).is_ok() {
            let _ = reader.finish();
        }
    }

    #[test]
    fn p16_any_changed_body_is_an_error_or_within_bounds(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let tree = vec![dir(0, "a"), file(1, "b", 10), file(1, "c", 20)];
        let body = SegmentBody { head: Some(head()), tree, chunks: vec![chunk(30)], totals: totals(3, 2, 30, 1, 1) };
        let mut bytes = body.encode().to_vec();
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let mut reader = ManifestReader::new(key(), OFFER);
        if reader.feed(&key().seal(0, &bytes)).is_ok() && let Ok(manifest) = reader.finish() {
            prop_assert!(manifest.totals.bytes <= OFFER.bytes_max);
            prop_assert_eq!(manifest.totals.bytes, manifest.chunks.iter().map(|chunk| u64::from(chunk.plain_bytes)).sum::<u64>());
        }
    }
}
