//! What lies before and beside control messages: door flights, hellos, bulk frames.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};

use super::{Damages, flipped, patched};
use crate::file::Vector;
use crate::parties::{NOW, secret};
use crate::story::{FLIGHT_COUNTER, Story, client_hello, id};
use crate::wire::Wire;

pub(super) fn all(story: &Story) -> Vec<Vector> {
    [flights(story), hellos(story), bulk()].concat()
}

/// A flight around any 1,984 bytes, made by hand.
fn flight_around(door: &[u8; 32], nonce: [u8; 32], body: &[u8]) -> Vec<u8> {
    let tag = blake3::keyed_hash(&blake3::derive_key("pakt door tag v1", door), &nonce);
    let key = blake3::keyed_hash(&blake3::derive_key("pakt door flight v1", door), &nonce);
    let prefix = [&nonce[..], &tag.as_bytes()[..16]].concat();
    let mut sealed = body.to_vec();
    let cipher = Aes256Gcm::new(key.as_bytes().into());
    let gcm_tag = cipher.encrypt_inout_detached(&Nonce::default(), &prefix, sealed.as_mut_slice().into());
    [prefix, sealed, gcm_tag.expect("a flight is short").to_vec()].concat()
}

fn body(length: u16, hello: &[u8]) -> Vec<u8> {
    let mut body = Wire::default().u64(FLIGHT_COUNTER).u16(length).raw(hello).0;
    body.resize(1984, 0);
    body
}

fn flights(story: &Story) -> Vec<Vector> {
    let good = story.flight().to_vec();
    let door = *story.door().as_bytes();
    let nonce = secret("nonce by hand");
    let hello = client_hello();
    let length = hello.len() as u16;
    let mut padded = body(length, &hello);
    padded[1983] = 1;
    let strangers = flight_around(&secret("door of nobody"), nonce, &body(length, &hello));
    let replaced = patched(&good, 0, &nonce);
    let rows: [(&str, &str, Vec<u8>, &str); 15] = [
        ("", "ok", good.clone(), "A dials B through the door that B granted"),
        (
            "by_hand",
            "ok",
            flight_around(&door, nonce, &body(length, &hello)),
            "another nonce: how it was made cannot be seen",
        ),
        ("truncated", "Door", good[..2047].to_vec(), "2,047 bytes"),
        ("trailing", "Door", [good.as_slice(), &[0]].concat(), "2,049 bytes"),
        ("zeros", "Door", vec![0; 2048], "nothing but zeros"),
        ("flipped_nonce", "Door", flipped(&good, 3, 0), "one bit of the nonce is flipped"),
        ("other_nonce", "Door", replaced, "another nonce before the same tag"),
        ("flipped_tag", "Door", flipped(&good, 40, 0), "one bit of the tag is flipped"),
        ("flipped_counter", "Door", flipped(&good, 50, 0), "one bit of the sealed counter is flipped"),
        ("flipped_padding", "Door", flipped(&good, 2031, 0), "one bit of the sealed padding is flipped"),
        ("flipped_gcm_tag", "Door", flipped(&good, 2047, 7), "one bit of the GCM tag is flipped"),
        ("of_a_stranger", "Door", strangers, "sealed under a secret that B did not grant"),
        (
            "length_too_long",
            "Door",
            flight_around(&door, nonce, &body(1975, &hello)),
            "a length of 1,975 bytes, of which 1,974 are there",
        ),
        ("length_highest", "Door", flight_around(&door, nonce, &body(u16::MAX, &hello)), "a length of 65,535 bytes"),
        ("padding_not_zero", "Door", flight_around(&door, nonce, &padded), "the last byte of the padding is 1"),
    ];
    rows.map(|(name, expect, bytes, note)| {
        let name = if name.is_empty() { "flight".to_owned() } else { format!("flight_{name}") };
        let vector = Vector::new(&name, "flight", expect, note).hex(&bytes);
        if expect == "ok" {
            vector.with("counter", FLIGHT_COUNTER).with("door_secret", hex::encode(door))
        } else {
            vector
        }
    })
    .into()
}

fn hellos(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let hello = |chain: &[u8], oldest: u16, newest: u16| Wire::v1().raw(chain).u16(oldest).u16(newest).u64(NOW).0;
    let good = hello(&a.chain(), 1, 1);
    let mixed = [&a.chain()[..8 + a.link().len()], &b.chain()[8 + b.link().len()..]].concat();
    let rows: [(&str, &str, Vec<u8>, &str); 7] = [
        ("", "ok", good.clone(), "A's hello"),
        ("newer_too", "ok", hello(&a.chain(), 1, 9), "a node that speaks versions 1 to 9"),
        ("only_newer", "Versions", hello(&a.chain(), 2, 3), "a node that no longer speaks version 1"),
        ("only_older", "Versions", hello(&a.chain(), 0, 0), "a node of version 0"),
        ("upside_down", "Versions", hello(&a.chain(), 2, 1), "the oldest version is above the newest"),
        ("mixed_chain", "Chain.Certificate", hello(&mixed, 1, 1), "A's root with B's certificate"),
        (
            "flipped_key",
            "Chain.Certificate",
            flipped(&good, good.len() - 300, 0),
            "one bit of the certificate is flipped",
        ),
    ];
    let mut vectors: Vec<_> = rows
        .map(|(name, expect, bytes, note)| {
            let name = if name.is_empty() { "hello".to_owned() } else { format!("hello_{name}") };
            Vector::new(&name, "hello", expect, note).hex(&bytes)
        })
        .into();
    vectors.extend(Damages { kind: "hello", label: None, good: &good, length_at: 1, bytes_max: 64 << 10 }.all());
    vectors
}

fn bulk() -> Vec<Vector> {
    let frame = |length: u32, kind: u8, envelope: [u8; 16], index: u64| {
        Wire::default().u32(length).u8(kind).raw(&envelope).u64(index).0
    };
    let envelope = id("envelope");
    let object = [frame(25 + 5, 1, envelope, 1), b"hello".to_vec()].concat();
    let rows: [(&str, &str, Vec<u8>, &str); 15] = [
        ("request", "ok", frame(25, 0, envelope, 1), "a request for the second object"),
        ("object", "ok", object, "an object of 5 bytes: its name is compared later"),
        ("unknown", "ok", frame(25, 2, envelope, 99), "there is no such object"),
        ("heartbeat", "ok", frame(25, 3, [0; 16], 0), "a heartbeat"),
        ("heartbeat_filled", "ok", frame(25, 3, envelope, 7), "envelope and index of a heartbeat are not looked at"),
        (
            "largest_object",
            "ok",
            frame(1_052_697, 1, envelope, 0),
            "the head of the largest object, whose bytes are left out here",
        ),
        ("kind_4", "Bulk.Kind", frame(25, 4, envelope, 0), "a kind that does not exist"),
        ("kind_255", "Bulk.Kind", frame(25, 255, envelope, 0), "a kind that does not exist"),
        ("too_short", "Bulk.Length", frame(24, 0, envelope, 0), "shorter than its head"),
        ("length_0", "Bulk.Length", frame(0, 3, envelope, 0), "a frame of no bytes"),
        ("empty_object", "Bulk.Length", frame(25, 1, envelope, 0), "an object of no bytes"),
        ("too_long", "Bulk.Length", frame(1_052_698, 1, envelope, 0), "an object one byte above the limit"),
        (
            "longest",
            "Bulk.Length",
            frame(u32::MAX, 1, envelope, 0),
            "an object of 4 GiB: nothing may be reserved for it",
        ),
        ("request_with_payload", "Bulk.Length", frame(26, 0, envelope, 0), "a request with a payload"),
        ("heartbeat_with_payload", "Bulk.Length", frame(1000, 3, [0; 16], 0), "a heartbeat with a payload"),
    ];
    rows.map(|(name, expect, bytes, note)| Vector::new(&format!("bulk_{name}"), "bulk", expect, note).hex(&bytes))
        .into()
}
