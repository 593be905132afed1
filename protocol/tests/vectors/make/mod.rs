//! The rows from which the vectors are made.

mod agreements;
mod cards;
mod chains;
mod content;
mod lanes;
mod messages;
mod network;
mod recalls;
mod reconciliations;
mod statements;
mod texts;

use pakt_keys::signing::{Signature, successor_commitment};
use pakt_keys::words;
use pakt_protocol::armour::Label;

use crate::file::Vector;
use crate::parties::secret;
use crate::story::{Story, id, manifest_key, sealed_chunks};

/// Every vector.
pub(crate) fn all() -> Vec<Vector> {
    let story = Story::new();
    let sets = [
        cards::all(&story),
        chains::all(&story),
        agreements::all(&story),
        statements::all(&story),
        network::all(&story),
        recalls::all(&story),
        reconciliations::all(&story),
        messages::all(&story),
        lanes::all(&story),
        content::all(&story),
        texts::all(&story),
    ];
    sets.concat()
}

/// What the worked examples of the specification must show.
pub(crate) fn examples() -> Vec<(&'static str, String)> {
    let story = Story::new();
    let (entity, terms, core) = (story.a.entity(), story.terms().body(), story.core());
    let (flight, segments) = (story.flight(), story.segments());
    let (row, sealed) = sealed_chunks().remove(0);
    vec![
        ("seed", hex::encode(secret("a root"))),
        ("root", hex::encode(story.a.root.public().0)),
        ("entity", hex::encode(entity.0)),
        ("entity's text", entity.to_string()),
        ("fingerprint", words::fingerprint(&entity)),
        ("successor", hex::encode(successor_commitment(&story.a.next.public()))),
        ("agreement", hex::encode(story.agreement_id())),
        ("terms hash", hex::encode(blake3::derive_key("pakt agreement terms v1", &terms))),
        ("object", hex::encode(&row[..32])),
        ("object key", hex::encode(&row[32..64])),
        ("commitment", hex::encode(&sealed[..32])),
        ("manifest key", hex::encode(manifest_key())),
        ("salt", hex::encode(&segments[0][..32])),
        ("root hash", hex::encode(&core[core.len() - 32..])),
        ("core hash", hex::encode(blake3::derive_key("pakt envelope core v1", &core))),
        ("envelope", hex::encode(id("envelope"))),
        ("door secret", hex::encode(story.door().as_bytes())),
        ("nonce", hex::encode(&flight[..32])),
        ("tag", hex::encode(&flight[32..48])),
    ]
}

/// How the good bytes of one kind may be bent.
struct Damages<'a> {
    kind: &'a str,
    label: Option<Label>,
    good: &'a [u8],
    /// Where a length stands that covers most of what follows.
    length_at: usize,
    bytes_max: usize,
}

impl Damages<'_> {
    /// What every decoder must refuse: too short, too long, of another version, with impossible lengths.
    fn all(&self) -> Vec<Vector> {
        let good = self.good;
        let version = |byte: u8| [&[byte], &good[1..]].concat();
        let claim = |length: u64| {
            let at = self.length_at;
            [&good[..at], &length.to_be_bytes(), &good[at + 8..]].concat()
        };
        let rows: [(&str, &str, Vec<u8>, &str); 10] = [
            ("empty", "Codec.Empty", vec![], "not even a version byte"),
            ("version_only", "Codec.Malformed", vec![1], "nothing but the version byte"),
            ("truncated_half", "Codec.Malformed", good[..good.len() / 2].to_vec(), "the second half is missing"),
            ("truncated_last", "Codec.Malformed", good[..good.len() - 1].to_vec(), "the last byte is missing"),
            ("trailing", "Codec.TrailingBytes", [good, &[0]].concat(), "one byte too many"),
            ("future_version", "Codec.Newer", version(2), "version byte 2"),
            ("version_255", "Codec.Newer", version(255), "version byte 255"),
            ("version_0", "Codec.Older", version(0), "version byte 0"),
            ("claims_much", "Codec.Malformed", claim(u64::MAX), "a length of 2^64 - 1"),
            (
                "claims_a_gigabyte",
                "Codec.Malformed",
                claim(1 << 30),
                "a length of 2^30: nothing may be reserved for it",
            ),
        ];
        let mut vectors: Vec<Vector> =
            rows.map(|(name, expect, bytes, note)| self.vector(name, expect, &bytes, note)).into();
        let oversized = self.named("oversized", "Codec.TooLong", "one byte above the limit of its kind");
        vectors.push(oversized.hex(good).with("zeros", self.bytes_max + 1 - good.len()));
        vectors
    }

    fn named(&self, name: &str, expect: &str, note: &str) -> Vector {
        Vector::new(&format!("{}_{name}", self.kind), self.kind, expect, note)
    }

    fn vector(&self, name: &str, expect: &str, bytes: &[u8], note: &str) -> Vector {
        let vector = self.named(name, expect, note);
        match self.label {
            Some(label) if !bytes.is_empty() => vector.armour(label, bytes),
            _ => vector.hex(bytes),
        }
    }
}

/// `bytes` with one bit changed.
fn flipped(bytes: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

/// `bytes` with `with` written over them at `at`.
fn patched(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// Where `part` stands in `bytes` for the first time.
fn place(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("the part is there")
}

fn suite(suite: u8, bytes: &[u8]) -> Signature {
    Signature { suite, bytes: bytes.to_vec() }
}

/// The same signature with the group order added to its scalar: the equation holds, strictness refuses it.
fn unreduced(signature: &Signature) -> Signature {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = signature.bytes.clone();
    let mut carry = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    suite(signature.suite, &bytes)
}

/// What may be wrong with the list of signatures beside a body; the good one comes first.
fn signature_rows(
    good: &Signature,
    foreign: Signature,
    other_domain: Signature,
) -> Vec<(&'static str, &'static str, Vec<Signature>, &'static str)> {
    let nine = std::iter::once(good.clone()).chain((2..10).map(|number| suite(number, &[7]))).collect();
    let short = suite(1, &good.bytes[..63]);
    let long = suite(1, &[good.bytes.as_slice(), &[0]].concat());
    let bent = suite(1, &flipped(&good.bytes, 5, 3));
    vec![
        ("unsigned", "Signature.Missing", vec![], "an empty list of signatures"),
        ("unknown_suite_only", "Signature.Missing", vec![suite(2, &good.bytes)], "no signature of suite 1"),
        (
            "unknown_suite_beside",
            "ok",
            vec![good.clone(), suite(2, &[1, 2, 3])],
            "a signature of a suite to come is passed over",
        ),
        ("unknown_suite_before", "ok", vec![suite(9, &[]), good.clone()], "the order of suites does not matter"),
        ("signed_twice", "Signature.Duplicate", vec![good.clone(), good.clone()], "the same signature twice"),
        (
            "second_suite_twice",
            "Signature.Duplicate",
            vec![good.clone(), suite(2, &[1]), suite(2, &[2])],
            "an unknown suite twice",
        ),
        ("nine_signatures", "Signature.Duplicate", nine, "more than 8 signatures, each of its own suite"),
        ("short_signature", "Signature.Invalid", vec![short], "63 bytes"),
        ("long_signature", "Signature.Invalid", vec![long], "65 bytes"),
        ("bent_signature", "Signature.Invalid", vec![bent], "one bit of the signature is flipped"),
        (
            "unreduced_signature",
            "Signature.Invalid",
            vec![unreduced(good)],
            "the scalar is S + L: only strict verification refuses it",
        ),
        ("foreign_signature", "Signature.Invalid", vec![foreign], "signed by another entity's key of the same purpose"),
        (
            "other_domain",
            "Signature.Invalid",
            vec![other_domain],
            "the right key signed these bytes under another domain",
        ),
    ]
}
