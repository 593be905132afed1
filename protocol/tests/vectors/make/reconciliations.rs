//! Reconciliation: what A states that it has sent, what B states that it holds, and the names of what is lost.

use pakt_keys::signing::Domain;

use super::messages::message;
use super::statements::{Row, shared, vectors};
use super::{Damages, patched};
use crate::file::Vector;
use crate::parties::NOW;
use crate::story::{Story, id};
use crate::wire::{self, HeldFields, SentFields, Wire};

const MALFORMED: &str = "Codec.Malformed";
/// The last number of the last page.
const END: u64 = u64::MAX;

pub(super) fn all(story: &Story) -> Vec<Vector> {
    [sent(story), held(story), gaps(), in_messages(story)].concat()
}

/// So many ranges of one number each, with gaps of one number between them.
fn scattered(count: u64) -> Vec<(u64, u64)> {
    (0..count).map(|at| (2 * at + 1, 2 * at + 1)).collect()
}

/// So many numbers, each with an envelope.
fn many_named(count: u64) -> Vec<(u64, [u8; 16])> {
    (1..=count).map(|number| (number, id("envelope"))).collect()
}

type SentChange = fn(&mut SentFields);

fn sent(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let body = story.sent().body();
    let sign = |domain| wire::record(&body, &a.sign(domain, &body));
    let of = |body: &[u8]| wire::record(body, &a.sign(Domain::SentStatement, body));
    // The list of what was delivered stands behind version, parties and five numbers.
    let delivered_at = 1 + 96 + 40;
    let claim = |count: [u8; 8]| of(&patched(&body, delivered_at, &count));
    let rows: [Row; 9] = [
        ("by_b", "Signature.Invalid", wire::record(&body, &b.sign(Domain::SentStatement, &body)), "B states it for A"),
        (
            "by_root",
            "Signature.Invalid",
            wire::record(&body, &a.root.sign(Domain::SentStatement, &body)),
            "A's root instead of its statement key",
        ),
        ("as_held", "Signature.Invalid", sign(Domain::HeldStatement), "signed as what A holds"),
        ("claims_ranges", MALFORMED, claim((1u64 << 50).to_be_bytes()), "2^50 ranges are claimed"),
        ("claims_one_more", MALFORMED, claim(3u64.to_be_bytes()), "three ranges are claimed, two come"),
        ("ranges_little_endian", MALFORMED, claim(2u64.to_le_bytes()), "the number of ranges the wrong way round"),
        ("cut", MALFORMED, of(&body[..body.len() - 1]), "the last byte of the signed body is missing"),
        ("body_trailing", "Codec.TrailingBytes", of(&[body.as_slice(), &[0]].concat()), "the signed body goes on"),
        ("body_future", "Codec.Newer", of(&patched(&body, 0, &[2])), "a signed body of version 2"),
    ];
    let changed = |(name, expect, change, note): (&'static str, &'static str, SentChange, &'static str)| {
        let mut fields = story.sent();
        change(&mut fields);
        (name, expect, of(&fields.body()), note)
    };
    let mut all = vectors("sent", SENT_GOOD.map(changed));
    all.extend(vectors("sent", SENT_FIELDS.map(changed)));
    all.extend(vectors("sent", SENT_RANGES.map(changed)));
    all.extend(vectors("sent", sent_of_others(story)));
    all.extend(vectors("sent", rows));
    all.extend(shared("sent", Domain::SentStatement, &body, a));
    all
}

/// Statements of A that a reader takes.
const SENT_GOOD: [(&str, &str, SentChange, &str); 5] = [
    ("", "ok", |_| {}, "A states to B what became of its numbers 1 to 40"),
    ("last_page", "ok", last_page, "the page behind that, and the last one"),
    ("nothing", "ok", nothing, "A has sent nothing yet"),
    ("every_number", "ok", every_number, "every number that there is was delivered"),
    ("longest", "ok", |sent| broken_up(sent, 1_024), "1,024 ranges"),
];

fn last_page(sent: &mut SentFields) {
    nothing(sent);
    (sent.round, sent.given, sent.first, sent.delivered) = (NOW, 60, 41, vec![(41, 60)]);
}

fn nothing(sent: &mut SentFields) {
    (sent.round, sent.given, sent.first, sent.last) = (1, 0, 1, END);
    (sent.delivered, sent.open, sent.excused, sent.forgotten) = (vec![], vec![], vec![], vec![]);
}

fn every_number(sent: &mut SentFields) {
    nothing(sent);
    (sent.given, sent.delivered) = (END, vec![(1, END)]);
}

fn broken_up(sent: &mut SentFields, ranges: u64) {
    nothing(sent);
    (sent.given, sent.delivered) = (END, scattered(ranges));
}

fn backwards(sent: &mut SentFields) {
    nothing(sent);
    (sent.first, sent.last) = (41, 40);
}

/// Statements whose numbers do not fit each other.
const SENT_FIELDS: [(&str, &str, SentChange, &str); 10] = [
    ("round_0", "Field", |sent| sent.round = 0, "round number 0"),
    ("first_0", "Field", |sent| sent.first = 0, "numbers begin at 1"),
    ("backwards", "Field", backwards, "about the numbers from 41 to 40"),
    ("delivered_not_given", "Field", |sent| sent.given = 29, "number 30 was delivered, 29 were given"),
    (
        "open_not_given",
        "Field",
        |sent| (sent.last, sent.open) = (END, vec![(12, 12), (61, 61)]),
        "number 61 is under way, 60 were given",
    ),
    ("delivered_before", "Field", |sent| sent.first = 2, "number 1 in a statement from number 2 on"),
    ("open_behind", "Field", |sent| sent.open = vec![(12, 12), (41, 41)], "number 41 in a statement up to number 40"),
    ("excused_behind", "Field", |sent| sent.excused = vec![(13, 41)], "a range that ends behind the statement"),
    ("forgotten_behind", "Field", |sent| sent.last = 39, "number 40 in a statement up to number 39"),
    ("number_0", "Field", |sent| sent.delivered = vec![(0, 10)], "number 0 in a range"),
];

/// Lists of ranges that are none, or not the one encoding of their set.
const SENT_RANGES: [(&str, &str, SentChange, &str); 9] = [
    ("range_reversed", MALFORMED, |sent| sent.delivered = vec![(10, 1)], "a range from 10 to 1"),
    ("ranges_touch", MALFORMED, |sent| sent.open = vec![(11, 12), (13, 14)], "11 to 12 and 13 to 14 are 11 to 14"),
    ("ranges_overlap", MALFORMED, |sent| sent.excused = vec![(11, 13), (13, 14)], "number 13 in two ranges"),
    ("ranges_unordered", MALFORMED, |sent| sent.forgotten = vec![(36, 40), (31, 33)], "the higher range first"),
    ("range_twice", MALFORMED, |sent| sent.delivered = vec![(1, 10), (1, 10)], "one range twice"),
    ("range_within", MALFORMED, |sent| sent.delivered = vec![(1, 10), (3, 5)], "a range within the one before"),
    (
        "range_behind_the_end",
        MALFORMED,
        |sent| (sent.last, sent.given, sent.delivered) = (END, END, vec![(1, END), (END, END)]),
        "a range behind the one that ends at 2^64 - 1",
    ),
    ("ranges_1025", MALFORMED, |sent| broken_up(sent, 1_025), "1,025 ranges"),
    (
        "forgotten_1025",
        MALFORMED,
        |sent| (sent.last, sent.forgotten) = (END, scattered(1_025)),
        "1,025 ranges in the last list",
    ),
];

/// Statements that A signs, and that are not A's to B under the agreement.
fn sent_of_others(story: &Story) -> [Row; 4] {
    let Story { a, b, c } = story;
    let of = |fields: SentFields| {
        let body = fields.body();
        wire::record(&body, &a.sign(Domain::SentStatement, &body))
    };
    let swapped = SentFields { entity: b.entity().0, reader: a.entity().0, ..story.sent() };
    [
        ("swapped", "Parties", of(swapped), "A states in B's name what B has sent"),
        ("of_c", "Parties", of(SentFields { entity: c.entity().0, ..story.sent() }), "A states what C has sent"),
        (
            "for_c",
            "Parties",
            of(SentFields { reader: c.entity().0, ..story.sent() }),
            "what A has sent to somebody else",
        ),
        (
            "of_other_agreement",
            "Parties",
            of(SentFields { agreement: [1; 32], ..story.sent() }),
            "what A has sent under another agreement",
        ),
    ]
}

/// B's answer to the statement of A: it has got number 14, which A calls undelivered, and lost nothing.
fn good_held(story: &Story) -> HeldFields {
    HeldFields {
        entity: story.b.entity().0,
        reader: story.a.entity().0,
        agreement: story.agreement_id(),
        statement: blake3::derive_key("pakt sent statement v1", &story.sent().body()),
        at: NOW + 1_000_000,
        first: 1,
        last: 40,
        held: vec![(1, 10), (12, 12), (14, 30)],
        named: vec![(14, id("envelope 14"))],
    }
}

type HeldChange = fn(&mut HeldFields);

fn held(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let body = good_held(story).body();
    let sign = |domain| wire::record(&body, &b.sign(domain, &body));
    let of = |body: &[u8]| wire::record(body, &b.sign(Domain::HeldStatement, body));
    // One name of 24 bytes is the last in the body, behind the number of names.
    let named_at = body.len() - 24 - 8;
    let claim = |count: u64| of(&patched(&body, named_at, &count.to_be_bytes()));
    let rows: [Row; 8] = [
        ("by_a", "Signature.Invalid", wire::record(&body, &a.sign(Domain::HeldStatement, &body)), "A answers itself"),
        (
            "by_root",
            "Signature.Invalid",
            wire::record(&body, &b.root.sign(Domain::HeldStatement, &body)),
            "B's root instead of its statement key",
        ),
        ("as_sent", "Signature.Invalid", sign(Domain::SentStatement), "signed as what B has sent"),
        ("claims_names", MALFORMED, claim(1 << 50), "2^50 names are claimed"),
        ("claims_no_name", "Codec.TrailingBytes", claim(0), "no name is claimed, one comes"),
        ("cut", MALFORMED, of(&body[..body.len() - 1]), "the last byte of the signed body is missing"),
        ("body_trailing", "Codec.TrailingBytes", of(&[body.as_slice(), &[0]].concat()), "the signed body goes on"),
        ("body_future", "Codec.Newer", of(&patched(&body, 0, &[2])), "a signed body of version 2"),
    ];
    let changed = |(name, expect, change, note): (&'static str, &'static str, HeldChange, &'static str)| {
        let mut fields = good_held(story);
        change(&mut fields);
        (name, expect, of(&fields.body()), note)
    };
    let mut all = vectors("held", HELD_GOOD.map(changed));
    all.extend(vectors("held", HELD_FIELDS.map(changed)));
    all.extend(vectors("held", held_of_others(story)));
    all.extend(vectors("held", rows));
    all.extend(shared("held", Domain::HeldStatement, &body, b));
    all
}

/// Answers of B that a reader takes.
const HELD_GOOD: [(&str, &str, HeldChange, &str); 5] = [
    ("", "ok", |_| {}, "B answers A's statement, and names number 14, which A calls undelivered"),
    ("nothing", "ok", |held| (held.held, held.named) = (vec![], vec![]), "B holds nothing"),
    ("as_far_as_20", "ok", |held| (held.last, held.held) = (20, vec![(1, 10), (12, 12), (14, 20)]), "half of the page"),
    (
        "named_twice",
        "ok",
        |held| held.named = vec![(1, id("envelope")), (1, id("another envelope"))],
        "both envelopes that came with number 1",
    ),
    ("names_256", "ok", |held| held.named = vec![(14, id("envelope 14")); 256], "as many names as there may be"),
];

/// Answers to something else, and lists that are none.
const HELD_FIELDS: [(&str, &str, HeldChange, &str); 14] = [
    ("other_statement", "Field", |held| held.statement = [7; 32], "the answer to another statement"),
    ("first_0", "Field", |held| held.first = 0, "numbers begin at 1"),
    ("first_2", "Field", |held| (held.first, held.held) = (2, vec![(2, 10)]), "from another number on than asked"),
    ("last_41", "Field", |held| held.last = 41, "further than was asked"),
    (
        "backwards",
        "Field",
        |held| (held.last, held.held, held.named) = (0, vec![], vec![]),
        "about the numbers from 1 to 0",
    ),
    ("held_behind", "Field", |held| held.held = vec![(1, 41)], "a range that ends behind the answer"),
    ("held_behind_20", "Field", |held| held.last = 20, "numbers behind the last that the answer is about"),
    ("named_behind", "Field", |held| held.named = vec![(41, id("envelope"))], "a name behind the answer"),
    ("named_0", "Field", |held| held.named = vec![(0, id("envelope"))], "a name for number 0"),
    ("names_257", "Field", |held| held.named = vec![(14, id("envelope 14")); 257], "257 names"),
    ("range_reversed", MALFORMED, |held| held.held = vec![(10, 1)], "a range from 10 to 1"),
    ("ranges_touch", MALFORMED, |held| held.held = vec![(1, 10), (11, 12)], "1 to 10 and 11 to 12 are 1 to 12"),
    ("ranges_unordered", MALFORMED, |held| held.held = vec![(14, 30), (1, 10)], "the higher range first"),
    ("ranges_1025", MALFORMED, |held| held.held = scattered(1_025), "1,025 ranges"),
];

/// Answers that B signs, and that are not B's to A under the agreement.
fn held_of_others(story: &Story) -> [Row; 4] {
    let Story { a, b, c } = story;
    let of = |fields: HeldFields| {
        let body = fields.body();
        wire::record(&body, &b.sign(Domain::HeldStatement, &body))
    };
    let good = || good_held(story);
    let swapped = HeldFields { entity: a.entity().0, reader: b.entity().0, ..good() };
    [
        ("swapped", "Parties", of(swapped), "B answers in A's name"),
        ("of_c", "Parties", of(HeldFields { entity: c.entity().0, ..good() }), "B states what C holds"),
        ("for_c", "Parties", of(HeldFields { reader: c.entity().0, ..good() }), "an answer to somebody else"),
        (
            "of_other_agreement",
            "Parties",
            of(HeldFields { agreement: [1; 32], ..good() }),
            "what B holds under another agreement",
        ),
    ]
}

fn gap(named: &[(u64, [u8; 16])]) -> Vec<u8> {
    message(48, &Wire::default().u64(NOW).named(named).0)
}

fn gaps() -> Vec<Vector> {
    let good = gap(&[(1, id("envelope")), (7, id("another envelope"))]);
    // The number of names stands behind version, number of the message and round.
    let claim = |count: [u8; 8]| patched(&good, 13, &count);
    let rows: [Row; 9] = [
        ("", "ok", good.clone(), "A names two envelopes that B has receipted and does not hold"),
        ("of_nothing", "ok", gap(&[]), "no name"),
        ("names_256", "ok", gap(&many_named(256)), "as many names as there may be"),
        ("names_257", "Field", gap(&many_named(257)), "257 names"),
        ("claims_more", MALFORMED, claim(3u64.to_be_bytes()), "three names are claimed, two come"),
        ("claims_less", "Codec.TrailingBytes", claim(1u64.to_be_bytes()), "one name is claimed, two come"),
        ("claims_2_60", MALFORMED, claim((1u64 << 60).to_be_bytes()), "2^60 names are claimed"),
        ("little_endian", MALFORMED, claim(2u64.to_le_bytes()), "the number of names the wrong way round"),
        ("round_only", MALFORMED, message(48, &NOW.to_be_bytes()), "a round and no list"),
    ];
    let mut all = vectors("gap", rows);
    all.extend(Damages { kind: "gap", label: None, good: &good, length_at: 13, bytes_max: 1 << 20 }.all());
    all
}

/// The four messages, whatever is stated within.
fn in_messages(story: &Story) -> Vec<Vector> {
    let (sent, held) = (story.sent().body(), good_held(story).body());
    let reconcile = message(46, &wire::signed(&sent, &story.a.sign(Domain::SentStatement, &sent)));
    let reconciled = message(47, &wire::signed(&held, &story.b.sign(Domain::HeldStatement, &held)));
    let goes_on = |message: &[u8]| [message, &[0]].concat();
    let gap = gap(&[(1, id("envelope"))]);
    let rows: [Row; 11] = [
        ("reconcile", "ok", reconcile.clone(), "A says what it has sent"),
        ("reconcile_cut", MALFORMED, reconcile[..reconcile.len() - 1].to_vec(), "the last byte is missing"),
        ("reconcile_trailing", "Codec.TrailingBytes", goes_on(&reconcile), "a statement that goes on"),
        (
            "reconcile_claims_2_60",
            MALFORMED,
            patched(&reconcile, 5, &(1u64 << 60).to_be_bytes()),
            "a body of 2^60 bytes is claimed",
        ),
        ("reconciled", "ok", reconciled.clone(), "B says what it holds"),
        ("reconciled_cut", MALFORMED, reconciled[..reconciled.len() - 1].to_vec(), "the last byte is missing"),
        ("reconciled_trailing", "Codec.TrailingBytes", goes_on(&reconciled), "an answer that goes on"),
        ("reconcile_gap", "ok", gap.clone(), "A names what B does not hold"),
        ("reconcile_gap_cut", MALFORMED, gap[..gap.len() - 1].to_vec(), "an id of 15 bytes"),
        ("want_reconcile", "ok", message(49, &[]), "what was sent is asked for"),
        ("want_reconcile_trailing", "Codec.TrailingBytes", goes_on(&message(49, &[])), "a question that goes on"),
    ];
    vectors("message", rows)
}
