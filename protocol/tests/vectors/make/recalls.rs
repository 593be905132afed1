//! How an envelope ended: recalls, purges that a restored node is shown, receipts that are confirmed or asked for.

use pakt_keys::signing::Domain;

use super::messages::{envelope, message};
use super::statements::{Row, shared, vectors};
use super::{Damages, patched};
use crate::file::Vector;
use crate::parties::{DAY, NOW, Party};
use crate::story::{DELIVERED, Story, id};
use crate::wire::{self, Wire};

const RECALLED: [u8; 4] = [0, 0, 0, 5];
const RETURNED: [u8; 4] = [0, 0, 0, 6];
const NOT_HELD: [u8; 4] = [0, 0, 0, 7];

const MALFORMED: &str = "Codec.Malformed";

pub(super) fn all(story: &Story) -> Vec<Vector> {
    [recalls(story), purges(story), questions(story), confirmations(), in_messages(story)].concat()
}

fn recall_body(story: &Story, sender: &Party, recipient: &Party, agreement: &[u8; 32]) -> Vec<u8> {
    let wire = Wire::v1().raw(&sender.entity().0).raw(&recipient.entity().0).raw(agreement);
    let wire = wire.raw(&id("message")).raw(&id("envelope"));
    wire.raw(&blake3::derive_key("pakt envelope core v1", &story.core())).u64(NOW + 2 * DAY).0
}

fn good_recall(story: &Story) -> Vec<u8> {
    recall_body(story, &story.a, &story.b, &story.agreement_id())
}

fn recalls(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let agreement = story.agreement_id();
    let record = |body: &[u8]| wire::record(body, &a.sign(Domain::Recall, body));
    let between = |sender: &Party, recipient: &Party| record(&recall_body(story, sender, recipient, &agreement));
    let body = good_recall(story);
    let by_root = wire::record(&body, &a.root.sign(Domain::Recall, &body));
    let rows: [Row; 13] = [
        ("", "ok", record(&body), "A wants its envelope back from B"),
        (
            "by_b",
            "Signature.Invalid",
            wire::record(&body, &b.sign(Domain::Recall, &body)),
            "B recalls what A has sent to it",
        ),
        ("by_root", "Signature.Invalid", by_root, "A's root instead of its statement key"),
        (
            "as_receipt",
            "Signature.Invalid",
            wire::record(&body, &a.sign(Domain::Receipt, &body)),
            "signed as a receipt",
        ),
        ("swapped", "Parties", between(b, a), "A asks itself in the name of B"),
        ("in_name_of_c", "Parties", between(c, b), "A wants back what C has sent"),
        ("from_c", "Parties", between(a, c), "C is asked"),
        (
            "of_other_agreement",
            "Parties",
            record(&recall_body(story, a, b, &[1; 32])),
            "an envelope of another agreement",
        ),
        ("cut", MALFORMED, record(&body[..body.len() - 1]), "the last byte of the signed body is missing"),
        ("without_time", MALFORMED, record(&body[..body.len() - 8]), "the last field of the signed body is missing"),
        ("body_trailing", "Codec.TrailingBytes", record(&[body.as_slice(), &[0]].concat()), "the signed body goes on"),
        ("body_future", "Codec.Newer", record(&patched(&body, 0, &[2])), "a signed body of version 2"),
        ("body_oversized", "Codec.TooLong", record(&[body.as_slice(), &[0; 512]].concat()), "a body above 512 bytes"),
    ];
    let mut all = vectors("recall", rows);
    all.extend(shared("recall", Domain::Recall, &body, a));
    all
}

fn purged_before(receipts: &[Vec<u8>]) -> Vec<u8> {
    let items: Vec<_> = receipts.iter().map(|receipt| Wire::default().bytes(receipt).0).collect();
    message(51, &Wire::default().list(&items).0)
}

fn receipt(body: &[u8], signer: &Party) -> Vec<u8> {
    wire::record(body, &signer.sign(Domain::Receipt, body))
}

/// What B had stated about A's envelope.
fn stated(story: &Story, verdict: &[u8]) -> Vec<u8> {
    receipt(&story.receipt_body(verdict, &story.a, &story.b, &story.b.chain()), &story.b)
}

fn purges(story: &Story) -> Vec<Vector> {
    let one = |receipt: Vec<u8>| purged_before(&[receipt]);
    let (recalled, returned) = (stated(story, &RECALLED), stated(story, &RETURNED));
    let good = purged_before(&[recalled.clone(), returned]);
    let by_new_root = story.receipt_body(&RECALLED, &story.a, &story.b, &story.b.later_chain());
    // The agreement stands behind version, verdict, core, message, envelope, sender and recipient.
    let elsewhere = patched(
        &story.receipt_body(&RECALLED, &story.a, &story.b, &story.b.chain()),
        1 + 4 + 32 + 16 + 16 + 32 + 32,
        &[1; 32],
    );
    let rows: [Row; 10] = [
        ("", "ok", good.clone(), "A shows B, which was restored, what B had stated: recalled, and returned"),
        ("nothing", "ok", purged_before(&[]), "no receipt"),
        ("after_a_new_root", "ok", one(receipt(&by_new_root, &story.b)), "B's root was replaced before it was stated"),
        (
            "of_other_agreement",
            "ok",
            one(receipt(&elsewhere, &story.b)),
            "a purge under another agreement of the same two: only the two are compared",
        ),
        ("delivered", "Field", one(stated(story, &DELIVERED)), "B holds it: this is no purge"),
        ("not_held", "Field", one(stated(story, &NOT_HELD)), "B never held it: this is no purge"),
        ("receipts_65", "Field", purged_before(&vec![vec![]; 65]), "65 receipts: their number is looked at first"),
        (
            "second_delivered",
            "Field",
            purged_before(&[recalled, stated(story, &DELIVERED)]),
            "the first is a purge, the second is not",
        ),
        ("claims_receipts", MALFORMED, patched(&good, 5, &3u64.to_be_bytes()), "three receipts are claimed, two come"),
        (
            "claims_one_receipt",
            "Codec.TrailingBytes",
            patched(&good, 5, &1u64.to_be_bytes()),
            "one receipt is claimed, two come",
        ),
    ];
    let mut all = vectors("purged", rows);
    all.extend(vectors("purged", purges_of_others(story)));
    all.extend(Damages { kind: "purged", label: None, good: &good, length_at: 5, bytes_max: 1 << 20 }.all());
    let long = Wire::default().u64(1).u64((40 << 10) + 1).raw(&stated(story, &RECALLED)).0;
    let note = "a receipt of 40,961 bytes";
    let missing = 8 + 8 + (40 << 10) + 1 - long.len();
    all.push(
        Vector::new("purged_receipt_oversized", "purged", "Codec.TooLong", note)
            .hex(&message(51, &long))
            .with("zeros", missing),
    );
    all
}

/// Receipts that B did not sign, or not about an envelope of A, or that are none.
fn purges_of_others(story: &Story) -> [Row; 10] {
    let Story { a, b, c } = story;
    let one = |receipt: Vec<u8>| purged_before(&[receipt]);
    let body = |sender: &Party, recipient: &Party, chain: &Party| {
        story.receipt_body(&RECALLED, sender, recipient, &chain.chain())
    };
    let good = stated(story, &RECALLED);
    let forged = receipt(&body(a, b, b), a);
    [
        ("signed_by_a", "Signature.Invalid", one(forged.clone()), "A signs the receipt that shows B's chain"),
        (
            "second_signed_by_a",
            "Signature.Invalid",
            purged_before(&[good.clone(), forged]),
            "the first is B's, the second is not",
        ),
        ("by_a", "Parties", one(receipt(&body(a, b, a), a)), "A states it for B with its own chain"),
        ("by_c", "Parties", one(receipt(&body(a, b, c), c)), "C states it for B with its own chain"),
        ("of_c", "Parties", one(receipt(&body(a, c, c), c)), "C has purged what A sent to C"),
        ("for_c", "Parties", one(receipt(&body(c, b, b), b)), "B has purged what C sent"),
        ("swapped", "Parties", one(receipt(&body(b, a, a), a)), "A has purged what B sent"),
        ("receipt_empty", "Codec.Empty", one(vec![]), "a receipt of no bytes"),
        (
            "receipt_cut",
            MALFORMED,
            one(good[..good.len() - 1].to_vec()),
            "the last byte of the receipt is missing, and its length says so",
        ),
        ("receipt_trailing", "Codec.TrailingBytes", one([good.as_slice(), &[0]].concat()), "the receipt goes on"),
    ]
}

fn questions(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let asked = |core: &[u8]| message(45, &Wire::default().bytes(core).0);
    let core = story.core();
    let good = asked(&core);
    // The agreement stands before version, number and root hash.
    let elsewhere = patched(&core, core.len() - 32 - 8 - 4 - 32, &[1; 32]);
    let rows: [Row; 13] = [
        ("", "ok", good.clone(), "A asks how its envelope ended"),
        ("urgent", "ok", asked(&story.core_between(a, b, 1, 0)), "how an urgent one ended"),
        ("swapped", "Parties", asked(&story.core_between(b, a, 1, 1)), "A asks about what B has sent"),
        ("from_c", "Parties", asked(&story.core_between(c, b, 1, 1)), "A asks about what C has sent"),
        ("to_c", "Parties", asked(&story.core_between(a, c, 1, 1)), "A asks B about what it has sent to C"),
        ("of_other_agreement", "Parties", asked(&elsewhere), "an envelope of another agreement"),
        ("core_empty", "Codec.Empty", asked(&[]), "a core of no bytes"),
        ("core_truncated", MALFORMED, asked(&core[..core.len() - 1]), "the core is cut"),
        ("core_trailing", "Codec.TrailingBytes", asked(&[core.as_slice(), &[0]].concat()), "the core goes on"),
        ("core_future", "Codec.Newer", asked(&patched(&core, 0, &[2])), "a core of version 2"),
        ("core_oversized", "Codec.TooLong", asked(&[core.as_slice(), &[0; 1024]].concat()), "a core above 1,024 bytes"),
        ("priority_3", MALFORMED, asked(&story.core_between(a, b, 1, 3)), "an unknown priority"),
        (
            "claims_less",
            "Codec.TrailingBytes",
            patched(&good, 5, &(core.len() as u64 - 1).to_be_bytes()),
            "the length of the core is one too small",
        ),
    ];
    let mut all = vectors("ask", rows);
    all.extend(Damages { kind: "ask", label: None, good: &good, length_at: 5, bytes_max: 1 << 20 }.all());
    all
}

/// ReceiptHeld: an envelope and a verdict, nothing that is signed.
fn confirmations() -> Vec<Vector> {
    let held = |verdict: &[u8]| message(44, &envelope().raw(verdict).0);
    let rows: [Row; 8] = [
        ("receipt_held_recalled", "ok", held(&RECALLED), "A holds that its envelope was purged"),
        ("receipt_held_not_held", "ok", held(&NOT_HELD), "A holds that B never held it"),
        ("receipt_held_unknown_verdict", MALFORMED, held(&[0, 0, 0, 8]), "a verdict that does not exist"),
        ("receipt_held_unknown_tier", MALFORMED, held(&[0, 0, 0, 0, 0, 0, 0, 3]), "a tier that does not exist"),
        ("receipt_held_without_tier", MALFORMED, held(&[0; 4]), "Held without a tier"),
        ("receipt_held_little_endian", MALFORMED, held(&[5, 0, 0, 0]), "the verdict the wrong way round"),
        (
            "receipt_held_tier_too_many",
            "Codec.TrailingBytes",
            held(&[0, 0, 0, 5, 0, 0, 0, 2]),
            "a tier behind a verdict that has none",
        ),
        ("receipt_held_short", MALFORMED, message(44, &id("envelope")[..15]), "an id of 15 bytes, and no verdict"),
    ];
    vectors("message", rows)
}

/// Recall and PurgedBefore as messages, whatever is within.
fn in_messages(story: &Story) -> Vec<Vector> {
    let body = good_recall(story);
    let recall = message(50, &wire::signed(&body, &story.a.sign(Domain::Recall, &body)));
    let purged = purged_before(&[stated(story, &RECALLED)]);
    let rows: [Row; 6] = [
        ("recall", "ok", recall.clone(), "A wants its envelope back"),
        ("recall_cut", MALFORMED, recall[..recall.len() - 1].to_vec(), "the last byte is missing"),
        ("recall_trailing", "Codec.TrailingBytes", [recall.as_slice(), &[0]].concat(), "a recall that goes on"),
        (
            "recall_claims_2_60",
            MALFORMED,
            patched(&recall, 5, &(1u64 << 60).to_be_bytes()),
            "a body of 2^60 bytes is claimed",
        ),
        ("purged_before", "ok", purged.clone(), "A shows what B had purged"),
        ("purged_before_cut", MALFORMED, purged[..purged.len() - 1].to_vec(), "the last byte is missing"),
    ];
    vectors("message", rows)
}
