//! What one node states to another: door grants, rosters, ends, envelopes, receipts; and the recovery key.

use pakt_keys::signing::{Domain, RootKey};
use pakt_protocol::armour::Label;

use super::{Damages, flipped, patched, place, signature_rows};
use crate::file::Vector;
use crate::parties::{NOW, Party, secret};
use crate::story::{DELIVERED, EPOCH, Story};
use crate::wire::{self, Wire};

/// One row: name, expected outcome, bytes of the record, note.
type Row = (&'static str, &'static str, Vec<u8>, &'static str);

fn vectors(kind: &str, rows: impl IntoIterator<Item = Row>) -> Vec<Vector> {
    rows.into_iter()
        .map(|(name, expect, bytes, note)| {
            let name = if name.is_empty() { kind.to_owned() } else { format!("{kind}_{name}") };
            Vector::new(&name, kind, expect, note).hex(&bytes)
        })
        .collect()
}

pub(super) fn all(story: &Story) -> Vec<Vector> {
    [grants(story), addresses(story), rosters(story), ends(story), envelopes(story), receipts(story), recovery(story)]
        .concat()
}

/// The rules that all signed records share.
fn shared(kind: &str, domain: Domain, body: &[u8], signer: &Party) -> Vec<Vector> {
    let good = wire::record(body, &signer.sign(domain, body));
    let mut shared = Damages { kind, label: None, good: &good, length_at: 1, bytes_max: 1 << 20 }.all();
    let other = if domain == Domain::Card { Domain::Roster } else { Domain::Card };
    let foreign = Party::c().sign(domain, body).remove(0);
    let own = signer.sign(domain, body).remove(0);
    for (name, expect, list, note) in signature_rows(&own, foreign, signer.sign(other, body).remove(0)) {
        shared.extend(vectors(kind, [(name, expect, wire::record(body, &list), note)]));
    }
    shared
}

fn grants(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let id = story.agreement_id();
    let record = |body: &[u8]| wire::record(body, &a.sign(Domain::DoorGrant, body));
    let body = story.grant_body(a, b);
    let counter_at = 1 + 96;
    let sealed_at = counter_at + 8 + 8;
    let short = [&body[..body.len() - 8 - 48], &0u64.to_be_bytes()].concat();
    let rows: [Row; 10] = [
        ("", "ok", record(&body), "A's door grant for B; the secret is DK(vector key, \"door of NO:ORGNR:999000101\")"),
        (
            "renumbered",
            "Unwrap",
            record(&patched(&body, counter_at, &9u64.to_be_bytes())),
            "A signs another counter than the secret was sealed for",
        ),
        (
            "bent_encapsulation",
            "Unwrap",
            record(&flipped(&body, sealed_at + 100, 0)),
            "A signs an encapsulation with a flipped bit",
        ),
        (
            "bent_ciphertext",
            "Unwrap",
            record(&flipped(&body, body.len() - 1, 0)),
            "A signs a ciphertext with a flipped bit",
        ),
        (
            "x25519_stripped",
            "Unwrap",
            record(&patched(&body, sealed_at + 1088, &[0; 32])),
            "the X25519 half of the encapsulation is zero",
        ),
        ("no_ciphertext", "Unwrap", record(&short), "a ciphertext of no bytes"),
        ("secret_of_31", "Unwrap", record(&story.grant_body_of(&id, a, b, 1, &[7; 31])), "a door secret of 31 bytes"),
        ("for_c", "Parties", record(&story.grant_body(a, c)), "a grant for somebody else"),
        ("swapped", "Parties", record(&story.grant_body(b, a)), "issuer and holder are swapped"),
        (
            "of_other_agreement",
            "Parties",
            record(&story.grant_body_of(&[1; 32], a, b, 1, &[7; 32])),
            "a grant of another agreement",
        ),
    ];
    let mut all = vectors("grant", rows);
    all.extend(shared("grant", Domain::DoorGrant, &body, a));
    let oversized = record(&[body.as_slice(), &[0; 4096]].concat());
    all.extend(vectors("grant", [("body_oversized", "Codec.TooLong", oversized, "a body above 4,096 bytes")]));
    all
}

fn addresses(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let of = |issuer: [u8; 32], reader: [u8; 32], agreement: [u8; 32], addresses: &[&str]| {
        Wire::v1().raw(&issuer).raw(&reader).raw(&agreement).u64(NOW).texts(addresses).0
    };
    let (a_id, b_id, c_id, id) = (a.entity().0, b.entity().0, c.entity().0, story.agreement_id());
    let record = |body: &[u8]| wire::record(body, &b.sign(Domain::AddressUpdate, body));
    let body = of(b_id, a_id, id, &["pakt.vaart.example:4100", "[2001:db8::5]:4100"]);
    let with = |addresses: &[&str]| record(&of(b_id, a_id, id, addresses));
    let rows: [Row; 8] = [
        ("", "ok", record(&body), "B tells A where it is now"),
        ("none", "ok", with(&[]), "B only dials"),
        ("nine", "Field", with(&["a:1", "a:2", "a:3", "a:4", "a:5", "a:6", "a:7", "a:8", "a:9"]), "nine addresses"),
        ("port_0", "Codec.Malformed", with(&["a:0"]), "port 0"),
        ("by_a", "Parties", record(&of(a_id, a_id, id, &[])), "B signs addresses of A"),
        ("for_c", "Parties", record(&of(b_id, c_id, id, &[])), "addresses for somebody else"),
        ("of_other_agreement", "Parties", record(&of(b_id, a_id, [1; 32], &[])), "under another agreement"),
        ("body_trailing", "Codec.TrailingBytes", record(&[body.as_slice(), &[0]].concat()), "the signed body goes on"),
    ];
    let mut all = vectors("addresses", rows);
    all.extend(shared("addresses", Domain::AddressUpdate, &body, b));
    all
}

fn rosters(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let key = b.epoch.public();
    let record = |body: &[u8]| wire::record(body, &b.sign(Domain::Roster, body));
    let with = |groups: &[(&str, &str)]| record(&story.roster_body(groups, key.as_bytes()));
    let body = story.good_roster();
    let mut stripped = key.as_bytes().to_vec();
    stripped[1184..].fill(0);
    let many: Vec<String> = (0..1001).map(|number| format!("{number:04}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let rows: [Row; 16] = [
        ("", "ok", record(&body), "B shows two groups to A"),
        ("empty_of_groups", "ok", with(&[]), "no group: nobody to write to"),
        ("one_group_twice", "Field", with(&[("x", "A"), ("x", "B")]), "one id under two names"),
        ("groups_unordered", "Field", with(&[("r", "Reception"), ("x", "Radiology reception")]), "groups out of order"),
        ("groups_twice", "Field", with(&[("r", "Reception"), ("x", "Reception")]), "one name twice"),
        ("groups_1001", "Field", with(&many), "1,001 groups"),
        ("group_with_slash", "Field", with(&[("x", "Radiology/Night")]), "a slash in a group's name"),
        ("group_without_name", "Field", with(&[("x", "")]), "a group without a name"),
        ("group_reversed", "Field", with(&[("x", "A\u{202e}B")]), "a right-to-left override in a group's name"),
        (
            "epoch_key_short",
            "Codec.Malformed",
            record(&story.roster_body(&[], &key.as_bytes()[..1215])),
            "an epoch key of 1,215 bytes",
        ),
        (
            "epoch_key_stripped",
            "Codec.Malformed",
            record(&story.roster_body(&[], &stripped)),
            "the X25519 half of the epoch key is zero",
        ),
        ("by_a", "Parties", record(&patched(&body, 1, &a.entity().0)), "B signs a roster of A"),
        ("for_c", "Parties", record(&patched(&body, 33, &c.entity().0)), "a roster for somebody else"),
        ("of_other_agreement", "Parties", record(&patched(&body, 65, &[1; 32])), "a roster of another agreement"),
        (
            "claims_groups",
            "Codec.Malformed",
            record(&patched(&body, 105, &(1u64 << 50).to_be_bytes())),
            "2^50 groups are claimed",
        ),
        ("body_trailing", "Codec.TrailingBytes", record(&[body.as_slice(), &[0]].concat()), "the signed body goes on"),
    ];
    let mut all = vectors("roster", rows);
    all.extend(shared("roster", Domain::Roster, &body, b));
    all
}

fn ends(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let id = story.agreement_id();
    let record = |body: &[u8]| wire::record(body, &a.root.sign(Domain::AgreementStatement, body));
    let body = story.good_statement();
    let rest = |option: &[u8], action: u32| Wire::default().raw(option).u32(action).u64(NOW).0;
    let of = |number: u64, rest: &[u8]| record(&story.statement_body(&id, a, number, rest));
    let chained = [&[1][..], &[5; 32]].concat();
    let by_statement_key = wire::record(&body, &a.sign(Domain::AgreementStatement, &body));
    let by_next = wire::record(&body, &a.next.sign(Domain::AgreementStatement, &body));
    let of_node = |number: u64, rest: &[u8]| {
        let body = story.statement_body(&id, a, number, rest);
        wire::record(&body, &a.sign(Domain::AgreementStatement, &body))
    };
    let withdraw = Wire::default().raw(&[0]).u32(3).raw(&[7; 32]).u64(NOW).0;
    let rows: [Row; 15] = [
        ("", "ok", record(&body), "A ends the agreement"),
        ("suspend", "ok", of_node(1, &rest(&[0], 1)), "A's statement key suspends the agreement"),
        ("suspend_by_root", "Signature.Invalid", of(1, &rest(&[0], 1)), "a suspension is signed by the statement key"),
        ("resume", "ok", of(2, &rest(&chained, 2)), "A's root resumes it"),
        ("resume_by_statement_key", "Signature.Invalid", of_node(2, &rest(&chained, 2)), "only a root resumes"),
        ("withdraw", "ok", of_node(1, &withdraw), "A takes back its offer of an amendment"),
        ("by_statement_key", "Signature.Invalid", by_statement_key, "only a root ends an agreement"),
        ("by_next_root", "Signature.Invalid", by_next, "signed by a root that has not succeeded yet"),
        (
            "of_other_agreement",
            "Parties",
            record(&story.statement_body(&[1; 32], a, 1, &rest(&[0], 0))),
            "an end of another agreement",
        ),
        (
            "of_b",
            "Parties",
            record(&story.statement_body(&id, b, 1, &rest(&[0], 0))),
            "A states an end in the name of B",
        ),
        ("number_0", "Field", of(0, &rest(&[0], 0)), "statement number 0"),
        ("number_2", "Field", of(2, &rest(&[0], 0)), "a second statement that names none before it"),
        ("number_1_chained", "Field", of(1, &rest(&chained, 0)), "a first statement that names one before it"),
        ("unknown_action", "Codec.Malformed", of(1, &rest(&[0], 4)), "an action that does not exist"),
        ("option_2", "Codec.Malformed", of(1, &rest(&[2], 0)), "an option byte of 2"),
    ];
    let mut all = vectors("statement", rows);
    let own = a.root.sign(Domain::AgreementStatement, &body).remove(0);
    let foreign = b.root.sign(Domain::AgreementStatement, &body).remove(0);
    let other = a.root.sign(Domain::AgreementTerms, &body).remove(0);
    for (name, expect, list, note) in signature_rows(&own, foreign, other) {
        all.extend(vectors("statement", [(name, expect, wire::record(&body, &list), note)]));
    }
    let good = record(&body);
    all.extend(Damages { kind: "statement", label: None, good: &good, length_at: 1, bytes_max: 1 << 20 }.all());
    all
}

fn envelopes(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let encoded = |envelope: &[u8]| Wire::v1().raw(envelope).0;
    let core = story.core();
    let of = |core: &[u8]| encoded(&story.envelope_of(core, a, Domain::Envelope));
    let good = encoded(&story.envelope());
    let epoch_at = 1 + 8 + core.len();
    let sealed_at = epoch_at + 8 + 8;
    let other_core = patched(&good, 9, &story.core_between(a, b, 1, 0));
    let rows: [Row; 16] = [
        ("", "ok", good.clone(), "A's envelope for B's group Reception"),
        (
            "by_c",
            "Signature.Invalid",
            encoded(&story.envelope_of(&core, c, Domain::Envelope)),
            "signed by somebody else",
        ),
        (
            "other_domain",
            "Signature.Invalid",
            encoded(&story.envelope_of(&core, a, Domain::Receipt)),
            "signed as a receipt",
        ),
        ("other_core", "Signature.Invalid", other_core, "the priority was changed after signing"),
        (
            "other_epoch",
            "Signature.Invalid",
            patched(&good, epoch_at, &(EPOCH + 1).to_be_bytes()),
            "the number of the epoch was changed after signing",
        ),
        (
            "bent_encapsulation",
            "Signature.Invalid",
            flipped(&good, sealed_at + 10, 0),
            "one bit of the encapsulation is flipped",
        ),
        (
            "bent_ciphertext",
            "Signature.Invalid",
            flipped(&good, sealed_at + 1120 + 8, 0),
            "one bit of the sealed key is flipped",
        ),
        ("suite_2", "Field", of(&story.core_between(a, b, 2, 1)), "an unknown suite"),
        ("swapped", "Parties", of(&story.core_between(b, a, 1, 1)), "sender and recipient are swapped"),
        ("for_c", "Parties", of(&story.core_between(a, c, 1, 1)), "an envelope for somebody else"),
        ("from_c", "Parties", of(&story.core_between(c, b, 1, 1)), "A signs an envelope of somebody else"),
        ("priority_3", "Codec.Malformed", of(&story.core_between(a, b, 1, 3)), "an unknown priority"),
        ("core_trailing", "Codec.TrailingBytes", of(&[core.as_slice(), &[0]].concat()), "the core goes on"),
        ("core_truncated", "Codec.Malformed", of(&core[..core.len() - 1]), "the core is cut"),
        ("core_future", "Codec.Newer", of(&patched(&core, 0, &[2])), "a core of version 2"),
        ("core_oversized", "Codec.TooLong", of(&[core.as_slice(), &[0; 1024]].concat()), "a core above 1,024 bytes"),
    ];
    let mut all = vectors("envelope", rows);
    all.extend(Damages { kind: "envelope", label: None, good: &good, length_at: 1, bytes_max: 1 << 20 }.all());
    all
}

/// Receipts that are signed rightly, but say what they may not, and those that are good.
fn receipt_rows(story: &Story) -> Vec<Row> {
    let Story { a, b, c } = story;
    let of = |body: &[u8], signer: &Party| wire::record(body, &signer.sign(Domain::Receipt, body));
    let with = |verdict: &[u32]| {
        let verdict: Vec<u8> = verdict.iter().flat_map(|index| index.to_be_bytes()).collect();
        of(&story.receipt_body(&verdict, a, b, &b.chain()), b)
    };
    let body = story.good_receipt();
    let forked = {
        let body = wire::link(0, &b.root.public().0, &secret("another successor"));
        let link = wire::signed(&body, &b.root.sign(Domain::RootLink, &body));
        wire::chain(&[link], &b.chain()[8 + b.link().len()..])
    };
    let option_at = body.len() - b.chain().len() - 1;
    vec![
        ("", "ok", of(&body, b), "B holds A's message: verify with card_a and card_b"),
        ("released", "ok", with(&[0, 1]), "tier 2"),
        ("taken", "ok", with(&[0, 2]), "tier 3"),
        ("unopenable", "ok", with(&[1]), "B received everything but cannot open it"),
        ("purpose_not_agreed", "ok", with(&[3]), "B opened it, and its purpose is none of the agreement's"),
        ("conflict", "ok", with(&[2]), "B holds another message under this id"),
        ("quarantined", "ok", with(&[4]), "B's malware check found something"),
        ("recalled", "ok", with(&[5]), "B has purged it on A's wish"),
        ("returned", "ok", with(&[6]), "it was not for B, who has purged it"),
        ("not_held", "ok", with(&[7]), "B does not hold it and never will"),
        (
            "after_a_new_root",
            "ok",
            of(&story.receipt_body(&DELIVERED, a, b, &b.later_chain()), b),
            "B's root was replaced after its card was made",
        ),
        ("unknown_tier", "Codec.Malformed", with(&[0, 3]), "a tier that does not exist"),
        ("unknown_verdict", "Codec.Malformed", with(&[8]), "a verdict that does not exist"),
        (
            "option_2",
            "Codec.Malformed",
            of(&patched(&body, option_at, &[2]), b),
            "the option byte of the log head is 2",
        ),
        (
            "by_sender",
            "Parties",
            of(&story.receipt_body(&DELIVERED, a, b, &a.chain()), a),
            "A makes the receipt for B with its own chain",
        ),
        ("signed_by_sender", "Signature.Invalid", of(&body, a), "A signs the receipt that shows B's chain"),
        ("to_itself", "Parties", of(&story.receipt_body(&DELIVERED, b, b, &b.chain()), b), "B is sender and recipient"),
        ("of_c", "Parties", of(&story.receipt_body(&DELIVERED, a, c, &c.chain()), c), "a receipt of somebody else"),
        ("for_c", "Parties", of(&story.receipt_body(&DELIVERED, c, b, &b.chain()), b), "a receipt for somebody else"),
        (
            "forked_root",
            "Parties",
            of(&story.receipt_body(&DELIVERED, a, b, &forked), b),
            "B's root commits to another successor than in its card",
        ),
        (
            "flipped_time",
            "Signature.Invalid",
            flipped(&of(&body, b), 9 + option_at - 1, 0),
            "one bit of the time is flipped",
        ),
        ("body_trailing", "Codec.TrailingBytes", of(&[body.as_slice(), &[0]].concat(), b), "the signed body goes on"),
    ]
}

fn receipts(story: &Story) -> Vec<Vector> {
    let Story { b, c, .. } = story;
    let of = |body: &[u8], signer: &Party| wire::record(body, &signer.sign(Domain::Receipt, body));
    let vector = |name: &str, expect: &str, bytes: &[u8], note: &str| {
        let name = if name.is_empty() { "receipt".to_owned() } else { format!("receipt_{name}") };
        Vector::new(&name, "receipt", expect, note).armour(Label::Receipt, bytes)
    };
    let body = story.good_receipt();
    let mut all: Vec<_> =
        receipt_rows(story).iter().map(|(name, expect, bytes, note)| vector(name, expect, bytes, note)).collect();
    let own = b.sign(Domain::Receipt, &body).remove(0);
    let foreign = c.sign(Domain::Receipt, &body).remove(0);
    for (name, expect, list, note) in signature_rows(&own, foreign, b.sign(Domain::Card, &body).remove(0)) {
        all.push(vector(name, expect, &wire::record(&body, &list), note));
    }
    let good = of(&body, b);
    let label = Some(Label::Receipt);
    all.extend(Damages { kind: "receipt", label, good: &good, length_at: 1, bytes_max: 40 << 10 }.all());
    all.push(
        Vector::new("receipt_as_card", "receipt", "Armour.WrongLabel", "the label of a card")
            .armour(Label::Card, &good),
    );
    all
}

fn recovery(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let record = |seed: &[u8; 32], root: &RootKey| Wire::v1().raw(seed).raw(&root.public().0).0;
    let seed = a.next.seed();
    let good = record(&seed, &a.next);
    let mut version_2 = good.clone();
    version_2[0] = 2;
    let rows: [Row; 9] = [
        ("", "ok", good.clone(), "A's next root; its public half fits the commitment in card_a"),
        ("of_two", "Codec.Malformed", record(&seed, &b.next), "the public half of another root"),
        ("flipped_seed", "Codec.Malformed", flipped(&good, 5, 0), "one bit of the seed is flipped"),
        ("flipped_public", "Codec.Malformed", flipped(&good, 64, 7), "one bit of the public half is flipped"),
        ("truncated", "Codec.Malformed", good[..64].to_vec(), "one byte is missing"),
        ("trailing", "Codec.TooLong", [good.as_slice(), &[0]].concat(), "one byte too many is already above the limit"),
        ("future_version", "Codec.Newer", version_2, "version byte 2"),
        ("seed_only", "Codec.Malformed", good[..33].to_vec(), "the public half is missing"),
        ("version_0", "Codec.Older", patched(&good, 0, &[0]), "version byte 0"),
    ];
    let mut all: Vec<_> = rows
        .into_iter()
        .map(|(name, expect, bytes, note)| {
            let name = if name.is_empty() { "recovery".to_owned() } else { format!("recovery_{name}") };
            Vector::new(&name, "recovery", expect, note).armour(Label::Recovery, &bytes)
        })
        .collect();
    let card = Vector::new("recovery_as_card", "recovery", "Armour.WrongLabel", "the label of a card");
    all.push(card.armour(Label::Card, &good));
    debug_assert!(place(&good, &*seed) == 1);
    all
}
