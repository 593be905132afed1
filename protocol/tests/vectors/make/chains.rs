//! Certificate chains: how a root leads to the keys of a node.

use pakt_keys::signing::{Domain, RootKey, successor_commitment};

use super::{Damages, flipped, patched, suite};
use crate::file::Vector;
use crate::parties::{Party, secret};
use crate::story::Story;
use crate::wire::{self, CertificateFields, Wire};

fn vector(name: &str, expect: &str, chain: &[u8], note: &str) -> Vector {
    Vector::new(&format!("chain_{name}"), "chain", expect, note).hex(&Wire::v1().raw(chain).0)
}

fn link(root: &RootKey, generation: u32, successor: &[u8; 32]) -> Vec<u8> {
    let body = wire::link(generation, &root.public().0, successor);
    wire::signed(&body, &root.sign(Domain::RootLink, &body))
}

fn certificate(root: &RootKey, fields: &CertificateFields) -> Vec<u8> {
    let body = fields.body();
    wire::signed(&body, &root.sign(Domain::NodeCertificate, &body))
}

pub(super) fn all(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let good = Wire::v1().raw(&a.chain()).0;
    let mut vectors = vec![
        vector("first", "ok", &a.chain(), "an inception root and its node certificate"),
        vector("second_root", "ok", &a.later_chain(), "after the inception root was replaced"),
        vector("longest", "ok", &roots(64), "64 root links"),
        vector("too_long", "Chain.Length", &roots(65), "65 root links"),
    ];
    vectors.extend(Damages { kind: "chain", label: None, good: &good, length_at: 1, bytes_max: 64 << 10 }.all());
    vectors.extend(links(a, b));
    vectors.extend(certificates(a, b));
    vectors.extend(contacts(a));
    vectors
}

/// A chain of `count` roots, each committed to by the one before.
fn roots(count: u32) -> Vec<u8> {
    let root = |number: u32| RootKey::from_seed(secret(&format!("root {number}")));
    let links: Vec<_> = (0..count)
        .map(|number| link(&root(number), number, &successor_commitment(&root(number + 1).public())))
        .collect();
    let entity = pakt_keys::EntityId::of(&root(0).public()).0;
    let fields = CertificateFields { entity, root_generation: count - 1, ..Party::a().certificate() };
    wire::chain(&links, &certificate(&root(count - 1), &fields))
}

fn links(a: &Party, b: &Party) -> Vec<Vector> {
    let own = certificate(&a.root, &a.certificate());
    let of = |links: &[Vec<u8>]| wire::chain(links, &own);
    let body = wire::link(0, &a.root.public().0, &successor_commitment(&a.next.public()));
    let signed = |list: &[pakt_keys::Signature]| wire::signed(&body, list);
    let right = a.root.sign(Domain::RootLink, &body);
    let second = certificate(&a.next, &CertificateFields { root_generation: 1, ..a.certificate() });
    let usurper = wire::link(1, &b.next.public().0, &[0; 32]);
    let usurper = wire::signed(&usurper, &b.next.sign(Domain::RootLink, &usurper));
    let usurped = certificate(&b.next, &CertificateFields { root_generation: 1, ..a.certificate() });
    let weak = wire::signed(&wire::link(0, &[0; 32], &[0; 32]), &right);
    let rows: [(&str, &str, Vec<u8>, &str); 14] = [
        ("no_links", "Chain.Length", of(&[]), "no root link"),
        (
            "link_signed_by_b",
            "Chain.Link",
            of(&[signed(&b.root.sign(Domain::RootLink, &body))]),
            "the link is signed by another root",
        ),
        (
            "link_of_other_domain",
            "Chain.Link",
            of(&[signed(&a.root.sign(Domain::Card, &body))]),
            "the link is signed as a card",
        ),
        ("link_unsigned", "Chain.Link", of(&[signed(&[])]), "the link has no signature"),
        (
            "link_signed_twice",
            "Chain.Link",
            of(&[signed(&[right.clone(), right.clone()].concat())]),
            "the link has its signature twice",
        ),
        ("link_garbage", "Chain.Link", of(&[wire::signed(b"garbage", &right)]), "the body of the link is not a link"),
        ("link_oversized", "Chain.Link", of(&[wire::signed(&[1; 257], &right)]), "the body of the link has 257 bytes"),
        ("link_weak_root", "Chain.Link", of(&[weak]), "a root of small order"),
        ("link_begins_at_1", "Chain.Order", of(&[link(&a.root, 1, &[0; 32])]), "the first link has generation 1"),
        ("link_repeated", "Chain.Order", of(&[a.link(), a.link()]), "the inception root twice"),
        ("links_swapped", "Chain.Order", wire::chain(&[a.second_link(), a.link()], &second), "the second link first"),
        (
            "uncommitted",
            "Chain.Uncommitted",
            wire::chain(&[a.link(), usurper], &usurped),
            "a second root that the first did not commit to",
        ),
        (
            "old_root_certifies",
            "Chain.Certificate",
            wire::chain(&[a.link(), a.second_link()], &own),
            "the certificate is signed by a root that was replaced",
        ),
        (
            "second_link_cut_off",
            "Chain.Certificate",
            wire::chain(&[a.link()], &second),
            "the certificate is signed by a root whose link is missing",
        ),
    ];
    rows.map(|(name, expect, chain, note)| vector(name, expect, &chain, note)).into()
}

fn certificates(a: &Party, b: &Party) -> Vec<Vector> {
    const BAD: &str = "Chain.Certificate";
    let of = |fields: &CertificateFields| a.chain_with(fields);
    let good = a.certificate();
    let body = good.body();
    let signed =
        |body: &[u8]| wire::chain(&[a.link()], &wire::signed(body, &a.root.sign(Domain::NodeCertificate, body)));
    let with = |list: &[pakt_keys::Signature]| wire::chain(&[a.link()], &wire::signed(&body, list));
    let rows: [(&str, &str, Vec<u8>, &str); 10] = [
        (
            "serial_highest",
            "ok",
            of(&CertificateFields { serial: u64::MAX, ..good.clone() }),
            "the highest serial number",
        ),
        (
            "certificate_of_b",
            BAD,
            wire::chain(&[a.link()], &certificate(&b.root, &b.certificate())),
            "A's root with B's certificate",
        ),
        (
            "certificate_self_signed",
            BAD,
            with(&a.statement.sign(Domain::NodeCertificate, &body)),
            "signed by the statement key that it certifies",
        ),
        ("certificate_other_domain", BAD, with(&a.root.sign(Domain::RootLink, &body)), "signed as a root link"),
        ("certificate_unknown_suite", BAD, with(&[suite(2, &[0; 64])]), "signed with an unknown suite only"),
        (
            "certificate_flipped",
            BAD,
            wire::chain(
                &[a.link()],
                &wire::signed(&flipped(&body, 40, 1), &a.root.sign(Domain::NodeCertificate, &body)),
            ),
            "one bit of the certificate is flipped",
        ),
        ("certificate_future", BAD, signed(&patched(&body, 0, &[2])), "the certificate's body has version 2"),
        ("certificate_trailing", BAD, signed(&[body.as_slice(), &[0]].concat()), "the certificate's body goes on"),
        (
            "foreign",
            "Chain.Foreign",
            of(&CertificateFields { entity: b.entity().0, ..good.clone() }),
            "the certificate names another entity",
        ),
        (
            "other_generation",
            "Chain.Foreign",
            of(&CertificateFields { root_generation: 1, ..good.clone() }),
            "the certificate names another generation of root",
        ),
    ];
    rows.map(|(name, expect, chain, note)| vector(name, expect, &chain, note)).into()
}

/// Certificates of contact keys that are none.
fn contacts(a: &Party) -> Vec<Vector> {
    let good = a.certificate();
    let contact = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut contact = good.contact.clone();
        change(&mut contact);
        a.chain_with(&CertificateFields { contact, ..good.clone() })
    };
    let rows: [(&str, &str, Vec<u8>, &str); 4] = [
        ("contact_short", "Chain.Certificate", contact(&|key| key.truncate(1215)), "a contact key of 1,215 bytes"),
        (
            "contact_without_x25519",
            "Chain.Certificate",
            contact(&|key| key[1184..].fill(0)),
            "the X25519 half is zero: one half of the hybrid is stripped",
        ),
        (
            "contact_high_bit",
            "Chain.Certificate",
            contact(&|key| key[1215] |= 0x80),
            "the X25519 half has its highest bit set",
        ),
        (
            "contact_unreduced",
            "Chain.Certificate",
            contact(&|key| key[..1152].fill(0xff)),
            "coefficients of ML-KEM above 3,328",
        ),
    ];
    rows.map(|(name, expect, chain, note)| vector(name, expect, &chain, note)).into()
}
