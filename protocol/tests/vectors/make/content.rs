//! Sealed chunks and manifests.

use pakt_keys::object::{self, ObjectKey};
use pakt_protocol::ids::ObjectId;

use super::flipped;
use crate::file::Vector;
use crate::parties::secret;
use crate::story::{
    Story, chunk, chunks, dir, file, head, manifest_key, row, seal_segment, seal_with_salt, segment_body, totals, tree,
    zstd_frame,
};
use crate::wire::Wire;

pub(super) fn all(story: &Story) -> Vec<Vector> {
    [objects(), manifests(story), trees(), segments()].concat()
}

/// A vector of a row of the chunk table and an object.
fn pair(name: &str, expect: &str, row: &[u8], sealed: &[u8], note: &str) -> Vector {
    let row = Wire::v1().raw(row).0;
    Vector::new(&format!("object_{name}"), "object", expect, note).blocks(&[row, sealed.to_vec()])
}

fn objects() -> Vec<Vector> {
    let frame = zstd_frame(0x41, 64);
    let (raw, zstd) = (chunk(0, 5, b"hello"), chunk(1, 64, &frame));
    // Of one repeated byte the planes are the same as the chunk.
    let joined = chunk(2, 64, &frame);
    let good = |name: &str, (row, sealed): &(Vec<u8>, Vec<u8>), plain: &[u8], note: &str| {
        pair(name, "ok", row, sealed, note).with("plain", hex::encode(plain))
    };
    let planes = chunk(2, 260, &planes_frame());
    let mut vectors = vec![
        good("raw", &raw, b"hello", "a raw chunk"),
        good("zstd", &zstd, &[0x41; 64], "a zstd frame that repeats one byte"),
        good("planes16", &joined, &[0x41; 64], "planes of one repeated byte"),
        good("planes16_mixed", &planes, &planes_plain(), "bytes at even places first, then those at odd ones"),
        good("checksum", &chunk(1, 64, &with_checksum(&frame, [0x41; 64])), &[0x41; 64], "a frame with a checksum"),
    ];
    let widest = chunk(1, 64, &with_window(&frame, 13 << 3));
    vectors.push(good("window_8_mib", &widest, &[0x41; 64], "the longest window"));
    let zeros = image_of_zeros();
    vectors.push(good("image16_zeros", &chunk(3, 641, &zeros), &[0; 641], "an image of one token that needs no words"));
    let image = chunk(3, IMAGE_BYTES, IMAGE);
    vectors.push(good("image16", &image, &image_plain(), "an image of two contexts behind a header of odd length"));
    vectors.extend(bad_frames(&frame));
    vectors.extend(bad_images(&zeros));
    vectors.extend(seals(&raw));
    vectors
}

/// The frame with a window byte instead of a single segment.
fn with_window(frame: &[u8], byte: u8) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x80, byte], &64u32.to_le_bytes()[..], &frame[6..]].concat()
}

/// Sound seals around what is not the one way of writing a chunk.
fn bad_frames(frame: &[u8]) -> Vec<Vector> {
    type Row = (&'static str, &'static str, (Vec<u8>, Vec<u8>), &'static str);
    let entry = |codec, plain, encoded: &[u8]| chunk(codec, plain, encoded);
    let rows: [Row; 17] = [
        ("unknown_codec", "Content.UnknownCodec", entry(4, 5, b"hello"), "codec 4"),
        ("plain_0", "Content.Length", entry(1, 0, frame), "a chunk of no bytes"),
        ("plain_too_long", "Content.Length", entry(1, (1 << 20) + 1, frame), "a chunk above 1 MiB"),
        ("raw_of_other_length", "Content.WrongLength", entry(0, 6, b"hello"), "raw, but the lengths differ"),
        (
            "no_gain",
            "Content.WrongLength",
            entry(1, frame.len() as u32, frame),
            "encoded bytes that are not fewer than plain ones",
        ),
        ("not_a_frame", "Content.Frame", entry(1, 64, b"hello"), "no zstd frame at all"),
        ("states_more", "Content.WrongLength", entry(1, 65, frame), "the frame states 64 bytes, the row 65"),
        ("states_less", "Content.WrongLength", entry(1, 63, frame), "the frame states 64 bytes, the row 63"),
        (
            "states_nothing",
            "Content.Frame",
            entry(1, 64, &[&[0x28, 0xb5, 0x2f, 0xfd, 0, 0], &frame[6..]].concat()),
            "the frame does not state its length",
        ),
        (
            "holds_less",
            "Content.Frame",
            entry(1, 64, &[&frame[..6], &zstd_frame(0x41, 63)[6..]].concat()),
            "the frame states 64 bytes and holds 63",
        ),
        (
            "holds_more",
            "Content.Frame",
            entry(1, 64, &[&frame[..6], &zstd_frame(0x41, 65)[6..]].concat()),
            "the frame states 64 bytes and holds 65",
        ),
        ("two_frames", "Content.Frame", entry(1, 64, &[frame, frame].concat()), "two frames"),
        ("trailing", "Content.Frame", entry(1, 64, &[frame, &[0]].concat()), "a byte after the frame"),
        (
            "skippable",
            "Content.Frame",
            entry(1, 64, &[&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], frame].concat()),
            "a skippable frame before the frame",
        ),
        (
            "dictionary",
            "Content.Frame",
            entry(1, 64, &[&[0x28, 0xb5, 0x2f, 0xfd, 0x21, 1, 64], &frame[6..]].concat()),
            "a frame that wants a dictionary",
        ),
        ("window_too_long", "Content.Frame", entry(1, 64, &with_window(frame, 13 << 3 | 1)), "a window of 9 MiB"),
        (
            "reserved_bit",
            "Content.Frame",
            entry(1, 64, &[&[0x28, 0xb5, 0x2f, 0xfd, 0x28], &frame[5..]].concat()),
            "the reserved bit is set",
        ),
    ];
    rows.map(|(name, expect, (row, sealed), note)| pair(name, expect, &row, &sealed, note)).into()
}

/// What the first implementation made of [`image_plain`] once; other encoders may differ.
const IMAGE: &[u8] = include_bytes!("image16.bin");
const IMAGE_BYTES: u32 = 23 + 2 * 33 * 64;

/// 64 rows of 33 samples: a disc on a background, behind a line of text.
fn image_plain() -> Vec<u8> {
    let sample = |place: i32| {
        let (x, y) = (place % 33, place / 33);
        let disc = (x - 16) * (x - 16) + (y - 30) * (y - 30);
        let value = if disc < 200 { 700 + 2 * disc + (x * 31 + y * 17 + x * y) % 11 } else { 3 };
        (value as u16).to_le_bytes()
    };
    b"a header of odd length.".iter().copied().chain((0..33 * 64).flat_map(sample)).collect()
}

/// 641 zeros: stride 32, one context, its token 0 always; four states that stay, a last byte.
fn image_of_zeros() -> Vec<u8> {
    [&[32, 0, 0, 1, 0, 1, 136, 0, 16, 0, 0, 0][..], &[0, 0, 1, 0].repeat(4), &[0]].concat()
}

/// Images that are not the one way of writing a chunk.
fn bad_images(zeros: &[u8]) -> Vec<Vector> {
    let with = |place: usize, value: u8| {
        let mut changed = zeros.to_vec();
        changed[place] = value;
        changed
    };
    let rows = [
        ("stride", with(0, 31), "rows of 31 samples"),
        ("flags", with(2, 2), "a flag that does not exist"),
        ("contexts", with(3, 0), "no context"),
        ("predictor", with(4, 3), "a predictor that does not exist"),
        ("tokens", with(5, 0), "a table without tokens"),
        ("frequencies", with(7, 1), "frequencies that sum to 2,049"),
        ("length", with(8, 15), "no room for four states"),
        ("state", with(14, 0), "a state below 65,536"),
        ("ending", with(12, 1), "states that do not end where a writer begins"),
        ("cut", zeros[..zeros.len() - 1].to_vec(), "the last byte is missing"),
        ("trailing", [zeros, &[0]].concat(), "a byte too many"),
    ];
    let vector = |(name, encoded, note): (&str, Vec<u8>, &str)| {
        let (row, sealed) = chunk(3, 641, &encoded);
        pair(&format!("image16_{name}"), "Content.Image", &row, &sealed, note)
    };
    rows.map(vector).into()
}

/// Bytes that differ at even and odd places.
fn planes_plain() -> Vec<u8> {
    (0..260).map(|place| if place % 2 == 0 { 0x11 } else { 0x22 }).collect()
}

/// A frame of two blocks: 130 times one byte, then 130 times another.
fn planes_frame() -> Vec<u8> {
    let block = |last: u32, byte: u8| [&(last | 1 << 1 | 130u32 << 3).to_le_bytes()[..3], &[byte]].concat();
    // A length of two bytes counts from 256.
    let header = [&[0x28, 0xb5, 0x2f, 0xfd, 0x60][..], &4u16.to_le_bytes()].concat();
    [header, block(0, 0x11), block(1, 0x22)].concat()
}

/// The frame with the checksum flag and the low 32 bits of XXH64 of 64 times 0x41.
fn with_checksum(frame: &[u8], plain: [u8; 64]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[4] |= 4;
    [frame, (xxh64(&plain) as u32).to_le_bytes().to_vec()].concat()
}

/// XXH64 with seed 0 of whole stripes of 32 bytes.
fn xxh64(bytes: &[u8]) -> u64 {
    const P: [u64; 5] = [
        0x9e37_79b1_85eb_ca87,
        0xc2b2_ae3d_27d4_eb4f,
        0x1656_67b1_9e37_79f9,
        0x85eb_ca77_c2b2_ae63,
        0x27d4_eb2f_1656_67c5,
    ];
    let round = |lane: u64, input: u64| lane.wrapping_add(input.wrapping_mul(P[1])).rotate_left(31).wrapping_mul(P[0]);
    let mut lanes = [P[0].wrapping_add(P[1]), P[1], 0, 0u64.wrapping_sub(P[0])];
    for stripe in bytes.as_chunks::<32>().0 {
        for (lane, input) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*input));
        }
    }
    let turned = lanes.iter().zip([1, 7, 12, 18]).fold(0u64, |sum, (lane, by)| sum.wrapping_add(lane.rotate_left(by)));
    let merged = lanes.iter().fold(turned, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(P[0]).wrapping_add(P[3]));
    let mut hash = merged.wrapping_add(bytes.len() as u64);
    hash = (hash ^ hash >> 33).wrapping_mul(P[1]);
    hash = (hash ^ hash >> 29).wrapping_mul(P[2]);
    hash ^ hash >> 32
}

fn seals((row_bytes, sealed): &(Vec<u8>, Vec<u8>)) -> Vec<Vector> {
    let other = ObjectKey::from_bytes(secret("another object key"));
    let other_row = row(sealed, &other, 0, 5, 5);
    // The right commitment of another key before a body of the first: what a ciphertext for two keys would look like.
    let recommitted = [&object::seal(&other, b"hello")[..32], &sealed[32..]].concat();
    let two_keys = row(&recommitted, &other, 0, 5, 5);
    let rows: [(&str, Vec<u8>, Vec<u8>, &str); 8] = [
        ("flipped_commitment", row_bytes.clone(), flipped(sealed, 0, 0), "one bit of the commitment is flipped"),
        ("flipped_content", row_bytes.clone(), flipped(sealed, 33, 0), "one bit of the content is flipped"),
        ("flipped_seal_tag", row_bytes.clone(), flipped(sealed, sealed.len() - 1, 0), "one bit of the tag is flipped"),
        ("truncated", row_bytes.clone(), sealed[..sealed.len() - 1].to_vec(), "the last byte is missing"),
        ("longer", row_bytes.clone(), [sealed.as_slice(), &[0]].concat(), "one byte too many"),
        ("no_bytes", row_bytes.clone(), vec![], "no bytes at all"),
        ("other_key", other_row, sealed.clone(), "the row names another key"),
        ("recommitted", two_keys, recommitted, "another key with its commitment before the same content"),
    ];
    rows.map(|(name, row, sealed, note)| pair(name, "Sealed", &row, &sealed, note)).into()
}

/// A vector of sealed segments; `ok` ones name their root hash.
fn sealed(name: &str, expect: &str, segments: &[Vec<u8>], note: &str) -> Vector {
    let name = if name.is_empty() { "manifest".to_owned() } else { format!("manifest_{name}") };
    let vector = Vector::new(&name, "manifest", expect, note).with("key", hex::encode(manifest_key())).blocks(segments);
    let ids: Vec<u8> = segments.iter().flat_map(|sealed| ObjectId::of(sealed).0).collect();
    match expect {
        "ok" => vector.with("root", hex::encode(blake3::derive_key("pakt manifest root v1", &ids))),
        _ => vector,
    }
}

/// A lone segment with this body.
fn lone(name: &str, expect: &str, body: &[u8], note: &str) -> Vector {
    sealed(name, expect, &[seal_segment(&manifest_key(), 0, body)], note)
}

fn manifests(story: &Story) -> Vec<Vector> {
    let key = manifest_key();
    let good = story.segments();
    let body = segment_body(&head(None), &tree(), &chunks(), totals());
    let long = |length: usize| Wire::default().text(&"x".repeat(length)).0;
    let headed = |subject: usize, text: usize, group: usize| {
        let head = [long(subject), long(text), long(group), vec![0, 0], vec![0; 8]].concat();
        segment_body(&head, &tree(), &chunks(), totals())
    };
    let salted = seal_with_salt(&key, 0, &secret("any salt"), &body);
    let empty = segment_body(&head(None), &[], &[], [0, 0, 0, 0, 1]);
    let bent = |at: usize| vec![flipped(&good[0], at, 0)];
    let mut off_by_one = totals();
    off_by_one[2] += 1;
    let mut vectors = vec![
        sealed("", "ok", &good, "a folder with two files, in one segment"),
        lone("empty", "ok", &empty, "no files at all: a text only"),
        lone("longest_head", "ok", &headed(1000, 4000, 200), "the longest subject and group"),
        lone("subject_too_long", "HeadLength", &headed(1001, 0, 0), "a subject of 1,001 bytes"),
        lone("group_too_long", "HeadLength", &headed(0, 0, 201), "a sending group of 201 bytes"),
        sealed("flipped_salt", "Sealed", &bent(0), "one bit of the salt is flipped"),
        sealed("flipped_commitment", "Sealed", &bent(40), "one bit of the commitment is flipped"),
        sealed("flipped_body", "Sealed", &bent(100), "one bit of the body is flipped"),
        sealed("truncated", "Sealed", &[good[0][..79].to_vec()], "shorter than its seal"),
        sealed("other_salt", "Sealed", &[salted], "a salt that is not the one of its body"),
        sealed("other_place", "Sealed", &[seal_segment(&key, 1, &body)], "sealed as segment 1"),
        sealed(
            "other_key",
            "Sealed",
            &[seal_segment(&secret("another manifest key"), 0, &body)],
            "sealed under another manifest key",
        ),
        lone("future_version", "Codec.Newer", &[&[2], &body[1..]].concat(), "a body of version 2"),
        lone("trailing", "Codec.TrailingBytes", &[body.as_slice(), &[0]].concat(), "the body goes on"),
        lone("body_truncated", "Codec.Malformed", &body[..body.len() - 1], "the body is cut"),
        lone("option_2", "Codec.Malformed", &[&[1, 2], &body[2..]].concat(), "the option byte of the head is 2"),
        lone(
            "totals_off_by_one",
            "Totals",
            &segment_body(&head(None), &tree(), &chunks(), off_by_one),
            "the totals name one byte more",
        ),
        lone(
            "content_missing",
            "Totals",
            &segment_body(&head(None), &tree(), &[], [3, 2, 69, 0, 1]),
            "files of 69 bytes and no chunk",
        ),
        lone(
            "content_beyond",
            "Totals",
            &segment_body(&head(None), &[], &chunks(), [0, 0, 0, 2, 1]),
            "chunks of 69 bytes and no file",
        ),
        lone("claims_rows", "Codec.Malformed", &claims_rows(), "10^9 rows of tree are claimed"),
    ];
    let huge = vec![file(0, "a", b""), row_of_size("b", u64::MAX), row_of_size("c", 1)];
    vectors.push(lone(
        "sizes_overflow",
        "Bounds",
        &segment_body(&head(None), &huge, &[], totals()),
        "sizes of files above 2^64",
    ));
    vectors
}

fn row_of_size(name: &str, bytes: u64) -> Vec<u8> {
    Wire::default().u8(0).text(name).u32(1).u64(bytes).raw(&[0; 32]).0
}

fn claims_rows() -> Vec<u8> {
    Wire::v1().option(Some(&head(None))).u64(1_000_000_000).u64(0).u8(0).0
}

/// Rows that are no tree, and rows of chunks that cannot be.
fn trees() -> Vec<Vector> {
    let none = |name: &str| file(0, name, b"");
    let deep: Vec<_> = (0..64).map(|depth| dir(depth, "d")).collect();
    let deeper: Vec<_> = (0..65).map(|depth| dir(depth, "d")).collect();
    let long = "n".repeat(255);
    let longer = "n".repeat(256);
    let rows: [(&str, &str, Vec<Vec<u8>>, &str); 20] = [
        ("deepest", "ok", deep, "64 components in a path"),
        ("too_deep", "Order.Depth", deeper, "65 components in a path"),
        ("longest_name", "ok", vec![none(&long)], "a name of 255 bytes"),
        (
            "strange_names",
            "ok",
            vec![none("..."), none("C:\\x"), none("\u{202e}gpj.exe"), none("🩻")],
            "names that must not be followed, but may be sent",
        ),
        ("name_too_long", "Codec.Malformed", vec![none(&longer)], "a name of 256 bytes"),
        ("name_empty", "Codec.Malformed", vec![none("")], "an empty name"),
        ("name_dot", "Codec.Malformed", vec![none(".")], "the name ."),
        ("name_dot_dot", "Codec.Malformed", vec![none("..")], "the name .."),
        ("name_slash", "Codec.Malformed", vec![none("../x")], "a slash in a name"),
        ("name_absolute", "Codec.Malformed", vec![none("/etc")], "a name that begins with a slash"),
        ("name_nul", "Codec.Malformed", vec![none("a\0b")], "a NUL in a name"),
        ("unordered", "Order.Name", vec![none("b"), none("a")], "names out of order"),
        ("twice", "Order.Name", vec![none("a"), none("a")], "a name twice"),
        ("file_and_folder", "Order.Name", vec![dir(0, "a"), none("a")], "a folder and a file of one name"),
        (
            "folder_again",
            "Order.Name",
            vec![dir(0, "a"), file(1, "b", b""), dir(0, "a"), file(1, "c", b"")],
            "a folder that comes again",
        ),
        ("in_a_file", "Order.Parent", vec![none("a"), file(1, "b", b"")], "a file inside a file"),
        ("orphan", "Order.Parent", vec![file(1, "b", b"")], "a row without a parent"),
        ("gap", "Order.Parent", vec![dir(0, "a"), file(2, "b", b"")], "a row two deeper than the one above"),
        (
            "unknown_entry",
            "Codec.Malformed",
            vec![Wire::default().u8(0).text("link").u32(2).0],
            "a kind of entry that does not exist",
        ),
        ("depth_255", "Order.Depth", vec![dir(255, "a")], "a depth of 255"),
    ];
    let mut vectors: Vec<_> = rows
        .map(|(name, expect, tree, note)| {
            let files = tree.iter().filter(|row| row.len() > 50).count() as u64;
            let files = if name == "longest_name" { 1 } else { files };
            let files = if name == "deepest" { 0 } else { files };
            let totals = [tree.len() as u64, files, 0, 0, 1];
            lone(&format!("tree_{name}"), expect, &segment_body(&head(None), &tree, &[], totals), note)
        })
        .into();
    let key = ObjectKey::from_bytes(secret("any key"));
    for (name, expect, codec, plain, encoded, note) in [
        ("unknown_codec", "Content.UnknownCodec", 9, 5, 5, "codec 9"),
        ("plain_0", "Content.Length", 0, 0, 0, "a chunk of no bytes"),
        ("plain_too_long", "Content.Length", 0, (1 << 20) + 1, (1 << 20) + 1, "a chunk above 1 MiB"),
        ("grows", "Content.WrongLength", 1, 5, 5, "zstd that gains nothing"),
    ] {
        let body = segment_body(&head(None), &[], &[row(b"any", &key, codec, plain, encoded)], [0, 0, 0, 1, 1]);
        vectors.push(lone(&format!("chunk_{name}"), expect, &body, note));
    }
    vectors
}

/// Manifests of several segments, cut rightly and wrongly.
fn segments() -> Vec<Vector> {
    let key = manifest_key();
    let rows: Vec<_> = (0..300).map(|number| file(0, &format!("{number:04}"), b"")).collect();
    let body = |head: Option<Vec<u8>>, rows: &[Vec<u8>], totals: Option<[u64; 5]>| {
        let totals = totals.map(|totals| totals.iter().fold(Wire::default(), |wire, total| wire.u64(*total)).0);
        Wire::v1().option(head.as_deref()).list(rows).list(&[]).option(totals.as_deref()).0
    };
    let totals = |count: u64, segments: u64| Some([count, count, 0, 0, segments]);
    let some = || Some(head(None));
    let seal = |bodies: &[Vec<u8>]| -> Vec<Vec<u8>> {
        (0..).zip(bodies).map(|(index, body)| seal_segment(&key, index, body)).collect()
    };
    let first = body(some(), &rows[..256], None);
    let last = body(None, &rows[256..], totals(300, 2));
    let good = seal(&[first.clone(), last.clone()]);
    let swapped = vec![good[1].clone(), good[0].clone()];
    let cases: [(&str, &str, Vec<Vec<u8>>, &str); 11] = [
        ("two_segments", "ok", good.clone(), "300 files in two segments"),
        ("last_missing", "Cut", good[..1].to_vec(), "the second segment is missing"),
        ("first_missing", "Sealed", good[1..].to_vec(), "the first segment is missing"),
        ("segments_swapped", "Sealed", swapped, "the second segment comes first"),
        ("one_more", "Cut", [good.clone(), good[1..].to_vec()].concat(), "a segment after the last"),
        (
            "short_first",
            "Cut",
            seal(&[body(some(), &rows[..255], None)]),
            "a first segment of 255 rows that is not the last",
        ),
        ("too_many_rows", "Cut", seal(&[body(some(), &rows[..257], totals(257, 1))]), "257 rows in one segment"),
        ("empty_last", "Cut", seal(&[first.clone(), body(None, &[], totals(256, 2))]), "a second segment without rows"),
        ("no_head", "Head", seal(&[body(None, &rows[..1], totals(1, 1))]), "no head"),
        (
            "second_head",
            "Head",
            seal(&[first.clone(), body(some(), &rows[256..], totals(300, 2))]),
            "a head in the second segment",
        ),
        (
            "order_across",
            "Order.Name",
            seal(&[first, body(None, &rows[..44], totals(300, 2))]),
            "the second segment repeats names of the first",
        ),
    ];
    cases.map(|(name, expect, segments, note)| sealed(name, expect, &segments, note)).into()
}
