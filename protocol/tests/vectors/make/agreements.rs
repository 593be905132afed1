//! Proposals and agreements: the only door into a node.

use pakt_keys::signing::Domain;
use pakt_protocol::armour::Label;

use super::{Damages, flipped, patched, place, signature_rows};
use crate::file::Vector;
use crate::parties::Party;
use crate::story::Story;
use crate::wire::{self, CardFields, TermsFields, Wire};

fn vector(name: &str, expect: &str, file: &[u8], note: &str) -> Vector {
    Vector::new(&format!("agreement_{name}"), "agreement", expect, note).armour(Label::Agreement, file)
}

pub(super) fn all(story: &Story) -> Vec<Vector> {
    let (proposal, agreement) = (story.good_file(false), story.good_file(true));
    let bytes_max = 320 << 10;
    let mut vectors = vec![
        Vector::new("agreement", "agreement", "ok", "A and B agree").armour(Label::Agreement, &agreement),
        Vector::new("proposal", "proposal", "ok", "A proposes, B has not signed").armour(Label::Proposal, &proposal),
        Vector::new("proposal_as_card", "proposal", "Armour.WrongLabel", "the label of a card")
            .armour(Label::Card, &proposal),
        Vector::new("agreement_as_proposal", "agreement", "Armour.WrongLabel", "the label of a proposal")
            .armour(Label::Proposal, &agreement),
    ];
    for (kind, label, good) in [("agreement", Label::Agreement, &agreement), ("proposal", Label::Proposal, &proposal)] {
        // The length of the terms stands behind the version byte and the id.
        vectors.extend(Damages { kind, label: Some(label), good, length_at: 33, bytes_max }.all());
    }
    vectors.extend(signatures(story));
    vectors.extend(parties(story));
    vectors.extend(clauses(story));
    vectors.extend(grants(story));
    vectors.extend(amendments(story));
    vectors
}

/// Every rule of signatures, for the proposer in a proposal and for the acceptor in an agreement.
fn signatures(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let terms = story.terms().body();
    let sign = |party: &Party, domain| party.root.sign(domain, &terms).remove(0);
    let terms_domain = Domain::AgreementTerms;
    let mut vectors = Vec::new();
    for (name, expect, list, note) in
        signature_rows(&sign(a, terms_domain), sign(c, terms_domain), sign(a, Domain::AgreementStatement))
    {
        let file = story.file(&story.record(&terms, &list, None), false);
        vectors.push(Vector::new(&format!("proposal_{name}"), "proposal", expect, note).armour(Label::Proposal, &file));
    }
    let own = [sign(a, terms_domain)];
    for (name, expect, list, note) in
        signature_rows(&sign(b, terms_domain), sign(c, terms_domain), sign(b, Domain::Card))
    {
        let file = story.file(&story.record(&terms, &own, Some(&list)), true);
        vectors.push(vector(&format!("acceptor_{name}"), expect, &file, note));
    }
    let both_a = story.record(&terms, &own, Some(&own));
    let swapped = story.record(&terms, &[sign(b, terms_domain)], Some(&own));
    let by_statement_key = story.record(&terms, &a.statement.sign(terms_domain, &terms), None);
    let option_2 = {
        let mut record = story.record(&terms, &own, None);
        *record.last_mut().expect("a record has bytes") = 2;
        record
    };
    vectors.extend([
        vector("signed_by_a_twice", "Signature.Invalid", &story.file(&both_a, true), "A countersigns for B"),
        vector(
            "signatures_swapped",
            "Signature.Invalid",
            &story.file(&swapped, true),
            "each signature stands in the other's place",
        ),
        vector(
            "signed_by_statement_key",
            "Signature.Invalid",
            &story.file(&by_statement_key, false),
            "A's statement key instead of its root",
        ),
        vector(
            "option_2",
            "Codec.Malformed",
            &story.file(&option_2, false),
            "the option byte of the acceptor's list is 2",
        ),
    ]);
    vectors
}

/// Later versions of the terms, which either side may sign first.
fn amendments(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let terms = story.amended_terms().body();
    let elsewhere = TermsFields { nonce: [9; 32], ..story.amended_terms() }.body();
    let first = story.terms().body();
    let rows: [(&str, &str, Vec<u8>, &str); 7] = [
        ("amendment", "ok", story.amendment(&terms, Some(a), Some(b)), "version 2, signed by both"),
        ("amendment_by_acceptor", "ok", story.amendment(&terms, None, Some(b)), "B offers version 2"),
        ("amendment_by_proposer", "ok", story.amendment(&terms, Some(a), None), "A offers version 2"),
        ("amendment_unsigned", "Field", story.amendment(&terms, None, None), "nobody has signed version 2"),
        ("amendment_by_c", "Signature.Invalid", story.amendment(&terms, None, Some(c)), "C signs for B"),
        (
            "amendment_elsewhere",
            "Field",
            story.amendment(&elsewhere, Some(a), Some(b)),
            "version 2 names another agreement in its nonce",
        ),
        ("first_by_acceptor", "Field", story.amendment(&first, None, Some(b)), "version 1 without its proposer"),
    ];
    rows.map(|(name, expect, file, note)| vector(name, expect, &file, note)).into()
}

/// Files whose parts do not belong to each other.
fn parties(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let terms = story.terms().body();
    let record = story.signed_record(&terms, true);
    let grants = [story.signed_grant(a, b), story.signed_grant(b, a)];
    let (card_a, card_b, card_c) = (a.signed_card(), b.signed_card(), c.signed_card());
    let file = |record: &[u8], first: &[u8], second: &[u8]| story.file_of(record, first, second, &grants);
    let renamed = CardFields { name: "Another Name", ..b.card() }.body();
    let renamed = wire::signed(&renamed, &b.sign(Domain::Card, &renamed));
    let renumbered = CardFields { number: "NL:KVK:1", ..a.card() }.body();
    let renumbered = wire::signed(&renumbered, &a.sign(Domain::Card, &renumbered));
    let unsigned = wire::signed(&b.card().body(), &[]);
    let sign = |party: &Party| party.root.sign(Domain::AgreementTerms, &terms);
    let other_id = story.record_with_id(&[9; 32], &terms, &sign(a), Some(&sign(b)));
    let later = CardFields { chain: a.later_chain(), ..a.card() }.body();
    let later = wire::signed(&later, &a.sign(Domain::Card, &later));
    let good = story.good_file(true);
    let rows: [(&str, &str, Vec<u8>, &str); 10] = [
        ("cards_swapped", "Parties", file(&record, &card_b, &card_a), "each card stands in the other's place"),
        ("card_of_c_accepts", "Parties", file(&record, &card_a, &card_c), "the acceptor's card is another entity's"),
        ("card_of_c_proposes", "Parties", file(&record, &card_c, &card_b), "the proposer's card is another entity's"),
        (
            "card_renamed",
            "Parties",
            file(&record, &card_a, &renamed),
            "the acceptor's card has another name than the terms",
        ),
        (
            "card_renumbered",
            "Parties",
            file(&record, &renumbered, &card_b),
            "the proposer's card has another number than the terms",
        ),
        ("card_unsigned", "Signature.Missing", file(&record, &card_a, &unsigned), "the acceptor's card is not signed"),
        ("other_id", "Field", file(&other_id, &card_a, &card_b), "the id is not that of the terms"),
        (
            "root_replaced",
            "Signature.Invalid",
            file(&record, &later, &card_b),
            "the terms are signed by a root that the card says was replaced",
        ),
        (
            "flipped_terms",
            "Field",
            flipped(&good, place(&good, b"treatment"), 0),
            "one bit of the terms is flipped: the id no longer fits",
        ),
        (
            "flipped_grant",
            "Signature.Invalid",
            flipped(&good, good.len() - 200, 0),
            "one bit of the last grant is flipped",
        ),
    ];
    rows.map(|(name, expect, file, note)| vector(name, expect, &file, note)).into()
}

/// Terms that both have signed, and that break a rule.
fn clauses(story: &Story) -> Vec<Vector> {
    type Change = fn(&mut TermsFields);
    let rows: [(&str, &str, Change, &str); 29] = [
        ("any_purpose", "ok", |t| t.purposes = vec![], "an empty list of purposes: any purpose"),
        ("shortest_hold", "ok", |t| t.hold_seconds = 60, "a hold time of one minute"),
        ("blanks_in_contact", "ok", |t| t.urgent_contact = " ", "blanks around a clause that is no word of a list"),
        ("relay_agreed", "ok", |t| t.relay = 1, "each forwards connections for the other"),
        ("relay_2", "Codec.Malformed", |t| t.relay = 2, "a bool that is neither true nor false"),
        ("with_itself", "Parties", |t| t.acceptor = t.proposer, "A agrees with A"),
        ("same_number", "Parties", |t| t.acceptor.2 = t.proposer.2, "two entities with one registered number"),
        ("party_without_name", "Field", |t| t.proposer.1 = "", "a party without a name"),
        ("party_bad_number", "Field", |t| t.acceptor.2 = "NL-KVK-1", "a registered number in another form"),
        ("version_0", "Field", |t| t.version = 0, "version 0 of the terms"),
        ("version_2_without_previous", "Field", |t| t.version = 2, "version 2 without the hash of version 1"),
        (
            "version_1_with_previous",
            "Field",
            |t| t.previous = [&[1][..], &[5; 32]].concat(),
            "version 1 that names terms before it",
        ),
        (
            "version_2",
            "Field",
            |t| (t.version, t.previous) = (2, [&[1][..], &[5; 32]].concat()),
            "an amendment that does not name its agreement in the nonce",
        ),
        (
            "previous_option_3",
            "Codec.Malformed",
            |t| t.previous = vec![3],
            "the option byte of the previous terms is 3",
        ),
        ("ends_at_its_start", "Field", |t| t.valid_until = t.valid_from, "valid for no time at all"),
        ("hold_59", "Field", |t| t.hold_seconds = 59, "a hold time of 59 seconds"),
        ("hold_too_long", "Field", |t| t.hold_seconds = 48 * 3600 + 1, "a hold time above 48 hours"),
        ("nothing_may_be_sent", "Field", |t| t.message_bytes_max = 0, "a largest message of 0 bytes"),
        ("retention_0", "Field", |t| t.retention_seconds = Some(0), "a retention of 0 seconds"),
        ("rate_0", "Field", |t| t.messages_per_hour = Some(0), "0 messages per hour"),
        ("purposes_unordered", "Field", |t| t.purposes.reverse(), "purposes out of order"),
        ("purposes_twice", "Field", |t| t.purposes = vec!["radiology"; 2], "a purpose twice"),
        ("purpose_empty", "Field", |t| t.purposes = vec![""], "an empty purpose"),
        ("purpose_blank", "Field", |t| t.purposes = vec!["radiology "], "a purpose that ends in a blank"),
        ("controls_unordered", "Field", |t| t.controls = vec!["retention", "journal"], "controls out of order"),
        ("control_unknown", "Field", |t| t.controls = vec!["guard-dog"], "a control that nobody can attest"),
        ("basis_with_line", "Field", |t| t.legal_basis = "treat\nment", "a line break in a clause"),
        ("basis_reversed", "Field", |t| t.legal_basis = "treat\u{202e}tnem", "a right-to-left override in a clause"),
        ("purposes_33", "Field", |t| t.purposes = WORDS.to_vec(), "33 purposes"),
    ];
    const WORDS: [&str; 33] = [
        "00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14", "15", "16", "17",
        "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32",
    ];
    let of = |change: Change| {
        let mut terms = story.terms();
        change(&mut terms);
        let body = terms.body();
        let id = blake3::derive_key("pakt agreement v1", &body);
        let grants = [(&story.a, &story.b), (&story.b, &story.a)].map(|(issuer, holder)| {
            let grant = story.grant_body_of(&id, issuer, holder, 1, &[7; 32]);
            wire::signed(&grant, &issuer.sign(Domain::DoorGrant, &grant))
        });
        let record = story.signed_record(&body, true);
        story.file_of(&record, &story.a.signed_card(), &story.b.signed_card(), &grants)
    };
    rows.map(|(name, expect, change, note)| vector(&format!("terms_{name}"), expect, &of(change), note)).into()
}

fn grants(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let record = story.signed_record(&story.terms().body(), true);
    let id = story.agreement_id();
    let file = |grants: &[Vec<u8>]| story.file_of(&record, &a.signed_card(), &b.signed_card(), grants);
    let (of_a, of_b) = (story.signed_grant(a, b), story.signed_grant(b, a));
    let signed = |body: &[u8], signer: &Party| wire::signed(body, &signer.sign(Domain::DoorGrant, body));
    let to_c = signed(&story.grant_body(a, c), a);
    let by_c = signed(&story.grant_body(c, b), c);
    let for_b = signed(&story.grant_body(a, b), b);
    let elsewhere = signed(&story.grant_body_of(&[1; 32], a, b, 1, &[7; 32]), a);
    let second = signed(&story.grant_body_of(&id, a, b, 2, &[7; 32]), a);
    let truncated = signed(&story.grant_body(a, b)[..100], a);
    let claims = Wire::default().bytes(&story.grant_body(a, b)).u64(u64::MAX).0;
    let rows: [(&str, &str, Vec<u8>, &str); 10] = [
        ("no_grants", "ok", file(&[]), "no door grant: nobody can dial, but the agreement holds"),
        ("grants_in_other_order", "ok", file(&[of_b.clone(), of_a.clone()]), "the acceptor's grant first"),
        ("three_grants", "Field", file(&[of_a.clone(), of_b.clone(), of_a.clone()]), "three door grants"),
        ("two_grants_of_a", "Field", file(&[of_a.clone(), second]), "two door grants of one side"),
        ("grant_for_c", "Parties", file(&[to_c]), "a door grant for somebody else"),
        ("grant_by_c", "Signature.Invalid", file(&[by_c]), "a door grant by somebody else"),
        ("grant_signed_by_holder", "Signature.Invalid", file(&[for_b]), "A's grant, signed by B"),
        ("grant_of_other_agreement", "Parties", file(&[elsewhere]), "a door grant of another agreement"),
        ("grant_truncated", "Codec.Malformed", file(&[truncated]), "the body of the grant is cut"),
        ("grant_claims_signatures", "Codec.Malformed", file(&[claims]), "2^64 - 1 signatures are claimed"),
    ];
    let swapped = patched(&story.good_file(true), 33, &[0; 8]);
    let mut vectors: Vec<_> = rows.map(|(name, expect, file, note)| vector(name, expect, &file, note)).into();
    vectors.push(vector(
        "terms_of_no_bytes",
        "Codec.Malformed",
        &swapped,
        "the terms have length 0, so all that follows is out of place",
    ));
    vectors
}
