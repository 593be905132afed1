//! What nodes of a network state to each other beside their agreements: listings, pages, introductions, attestations, log
//! heads, restore notices, deposits.

use pakt_keys::signing::Domain;
use pakt_keys::{EntityId, codec};
use pakt_protocol::deposit;
use pakt_protocol::introduction::PADDED_TO;
use pakt_protocol::record::Signed;

use super::statements::{Row, shared, vectors};
use super::{Damages, flipped, patched};
use crate::file::Vector;
use crate::parties::{DAY, NOW, NamedRng, Party, secret};
use crate::story::{Story, id};
use crate::wire::{self, Wire};

pub(super) fn all(story: &Story) -> Vec<Vector> {
    [
        listings(story),
        pages(story),
        letters(story),
        declines(story),
        attestations(story),
        heads(story),
        notices(story),
        deposits(story),
    ]
    .concat()
}

/// A listing of `party` at the steward C with this entry.
fn listing_body(party: &Party, steward: &Party, until: u64, entry: Option<&[u8]>) -> Vec<u8> {
    let wire = Wire::v1().raw(&party.entity().0).raw(&steward.entity().0).u64(NOW).u64(NOW).u64(until);
    wire.option(entry).0
}

fn entry(party: &Party, name: &str, town: &str, offers: &[&str], card: &[u8]) -> Vec<u8> {
    Wire::default().text(name).text(party.number).text(town).texts(offers).raw(card).0
}

fn good_entry(party: &Party) -> Vec<u8> {
    entry(party, party.name, "Bergen", &["MR", "CT"], &party.signed_card())
}

fn listings(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let month = NOW + 30 * DAY;
    let of = |body: &[u8]| wire::record(body, &a.sign(Domain::Listing, body));
    let with = |entry: &[u8]| of(&listing_body(a, c, month, Some(entry)));
    let body = listing_body(a, c, month, Some(&good_entry(a)));
    let card = a.signed_card();
    let offers: Vec<&str> = vec!["MR"; 17];
    let rows: [Row; 11] = [
        ("", "ok", of(&body), "A has itself listed at the steward C"),
        ("without_town", "ok", with(&entry(a, a.name, "", &[], &card)), "neither a town nor what it offers"),
        ("taken_back", "Field", of(&listing_body(a, c, month, None)), "A is listed no more: nothing to be shown"),
        ("for_b", "Parties", of(&listing_body(a, b, month, Some(&good_entry(a)))), "a listing for another steward"),
        ("of_b", "Parties", of(&listing_body(b, c, month, Some(&good_entry(a)))), "A's card under B's id"),
        ("renamed", "Parties", with(&entry(a, "Another name", "", &[], &card)), "named otherwise than in the card"),
        ("card_of_b", "Parties", with(&entry(a, a.name, "", &[], &b.signed_card())), "B's card within"),
        ("offers_17", "Field", with(&entry(a, a.name, "", &offers, &card)), "17 lines of what is offered"),
        ("offer_empty", "Field", with(&entry(a, a.name, "", &[""], &card)), "an empty line of what is offered"),
        (
            "lasts_61_days",
            "Field",
            of(&listing_body(a, c, NOW + 61 * DAY, Some(&good_entry(a)))),
            "it lasts longer than 60 days",
        ),
        ("lasts_no_time", "Field", of(&listing_body(a, c, NOW, Some(&good_entry(a)))), "it is over when it is made"),
    ];
    let mut all = vectors("listing", rows);
    all.extend(shared("listing", Domain::Listing, &body, a));
    all
}

/// What C answers to A.
struct PageFields<'a> {
    steward: &'a Party,
    asker: &'a Party,
    nonce: [u8; 32],
    after: Option<[u8; 32]>,
    at: u64,
    listings: Vec<Vec<u8>>,
    more: u8,
}

impl PageFields<'_> {
    fn signed_by(&self, party: &Party) -> Vec<u8> {
        let wire = Wire::v1().raw(&self.steward.entity().0).raw(&self.asker.entity().0).raw(&self.nonce);
        let wire = wire.option(self.after.as_ref().map(<[u8; 32]>::as_slice)).u64(self.at);
        let body = wire.list(&self.listings).u8(self.more).0;
        wire::record(&body, &party.sign(Domain::DirectoryPage, &body))
    }
}

fn pages(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let listed = |party: &Party, steward: &Party| {
        let body = listing_body(party, steward, NOW + 30 * DAY, Some(&good_entry(party)));
        wire::signed(&body, &party.sign(Domain::Listing, &body))
    };
    let mut both: Vec<(EntityId, Vec<u8>)> = [a, b].map(|party| (party.entity(), listed(party, c))).into();
    both.sort();
    let listings: Vec<Vec<u8>> = both.into_iter().map(|(_, listing)| listing).collect();
    let reversed = listings.iter().rev().cloned().collect::<Vec<_>>();
    let good = || PageFields {
        steward: c,
        asker: a,
        nonce: secret("page nonce"),
        after: None,
        at: NOW,
        listings: listings.clone(),
        more: 0,
    };
    let page = |change: fn(&mut PageFields)| {
        let mut page = good();
        change(&mut page);
        page.signed_by(c)
    };
    let with = |listings: Vec<Vec<u8>>, more: u8| PageFields { listings, more, ..good() }.signed_by(c);
    let body = listing_body(b, c, NOW + 30 * DAY, Some(&good_entry(b)));
    let by_steward = wire::signed(&body, &c.sign(Domain::Listing, &body));
    let rows: [Row; 13] = [
        ("", "ok", good().signed_by(c), "the steward C answers A, who drew DK(vector key, \"page nonce\")"),
        ("of_nobody", "ok", with(vec![], 0), "nobody is listed"),
        ("goes_on", "ok", with(listings.clone(), 1), "there are further pages"),
        ("by_b", "Page.NotSigned", good().signed_by(b), "signed by another node than the steward's"),
        ("other_nonce", "Page.OtherQuestion", page(|page| page.nonce = [7; 32]), "the answer to an earlier question"),
        (
            "behind_somebody",
            "Page.OtherQuestion",
            page(|page| page.after = Some([7; 32])),
            "a page from another place on",
        ),
        ("for_b", "Page.OtherQuestion", PageFields { asker: b, ..good() }.signed_by(c), "the answer to another asker"),
        ("of_b", "Page.OtherQuestion", PageFields { steward: b, ..good() }.signed_by(c), "C answers in B's name"),
        ("days_old", "Page.OtherTime", page(|page| page.at = NOW - 3 * DAY), "made three days ago"),
        ("reversed", "Page.Order", with(reversed, 0), "listings out of order"),
        ("twice", "Page.Order", with(vec![listings[0].clone(); 2], 0), "one entity twice"),
        ("endless", "Page.Order", with(vec![], 1), "no listing, and yet there are more"),
        ("listed_by_c", "Signature.Invalid", with(vec![by_steward], 0), "C signs a listing of B"),
    ];
    let mut all = vectors("page", rows);
    let record = good().signed_by(c);
    all.extend(Damages { kind: "page", label: None, good: &record, length_at: 1, bytes_max: 1 << 20 }.all());
    all
}

/// A letter from A to B, or what looks like one: `plain` sealed for these parties.
fn letter(from: &Party, to: &Party, number: &[u8; 16], plain: &[u8], name: &str) -> Vec<u8> {
    let info = [b"pakt introduction v1".as_slice(), number, &from.entity().0, &to.entity().0].concat();
    let wrapped = to.contact.public().wrap(&info, plain, &mut NamedRng::new(name));
    Wire::v1().bytes(&wrapped.encapsulation).bytes(&wrapped.ciphertext).0
}

/// A letter's plaintext: its length, its bytes, zeros.
fn padded(letter: &[u8]) -> Vec<u8> {
    let length = u32::try_from(letter.len()).expect("letters are short");
    let mut plain = Wire::default().u32(length).raw(letter).0;
    plain.resize(plain.len().next_multiple_of(PADDED_TO), 0);
    plain
}

fn letters(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let number = id("letter");
    let proposal = Wire::v1().u32(0).bytes(&story.good_file(false)).0;
    let good = letter(a, b, &number, &padded(&proposal), "letter");
    let declined = {
        let body = decline_body(&story.agreement_id(), a, b);
        Wire::v1().u32(2).raw(&wire::signed(&body, &b.sign(Domain::Decline, &body))).0
    };
    let with = |plain: &[u8]| letter(a, b, &number, plain, "another letter");
    let mut dirty = padded(&proposal);
    *dirty.last_mut().expect("it is padded") = 1;
    let long = [padded(&proposal), vec![0; PADDED_TO]].concat();
    let short = [&[0, 0, 0, 2][..], &[1, 2]].concat();
    let beyond = patched(&padded(&proposal), 0, &u32::MAX.to_be_bytes());
    let rows: [Row; 14] = [
        ("", "ok", good.clone(), "A's proposal to B, sealed to B's contact key"),
        ("declined", "ok", with(&padded(&declined)), "a letter that holds a signed \"no\""),
        ("for_c", "Sealed", letter(a, c, &number, &padded(&proposal), "letter"), "sealed to the introducer"),
        (
            "from_c",
            "Sealed",
            letter(c, b, &number, &padded(&proposal), "letter"),
            "sealed in the name of another sender",
        ),
        ("other_id", "Sealed", letter(a, b, &[7; 16], &padded(&proposal), "letter"), "sealed under another id"),
        ("bent_encapsulation", "Sealed", flipped(&good, 100, 0), "one bit of the encapsulation is flipped"),
        ("bent_ciphertext", "Sealed", flipped(&good, good.len() - 1, 0), "one bit of the ciphertext is flipped"),
        ("dirty", "Letter", with(&dirty), "the padding is not all zeros"),
        ("padded_twice", "Letter", with(&long), "8,192 bytes more padding than needed"),
        ("not_padded", "Letter", with(&short), "no padding"),
        ("length_beyond", "Letter", with(&beyond), "the length is larger than the letter"),
        ("nothing", "Letter", with(&[]), "an empty plaintext"),
        ("unknown_kind", "Letter", with(&padded(&Wire::v1().u32(3).0)), "a kind of letter that does not exist"),
        ("goes_on", "Letter", with(&padded(&[declined.as_slice(), &[0]].concat())), "the letter goes on"),
    ];
    let mut all = vectors("letter", rows);
    all.extend(Damages { kind: "letter", label: None, good: &good, length_at: 1, bytes_max: 1 << 20 }.all());
    all
}

fn decline_body(agreement: &[u8; 32], proposer: &Party, decliner: &Party) -> Vec<u8> {
    Wire::v1().raw(agreement).raw(&proposer.entity().0).raw(&decliner.entity().0).u64(NOW).0
}

fn declines(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let agreement = story.agreement_id();
    let of = |body: &[u8]| wire::record(body, &b.sign(Domain::Decline, body));
    let body = decline_body(&agreement, a, b);
    let rows: [Row; 4] = [
        ("", "ok", of(&body), "B does not want A's agreement"),
        ("of_other_agreement", "Parties", of(&decline_body(&[1; 32], a, b)), "about another agreement"),
        ("of_c", "Parties", of(&decline_body(&agreement, c, b)), "about a proposal of somebody else"),
        ("in_name_of_c", "Parties", of(&decline_body(&agreement, a, c)), "B declines in the name of C"),
    ];
    let mut all = vectors("decline", rows);
    all.extend(shared("decline", Domain::Decline, &body, b));
    all
}

fn attestations(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let none = |control: u32| Wire::default().u32(control).u32(0).0;
    let on = |control: u32, line: &str| Wire::default().u32(control).u32(1).text(line).0;
    let kept = |days: u64| Wire::default().u32(2).u32(2).option(Some(&(days * 86_400).to_be_bytes())).0;
    let of = |issuer: &Party, reader: &Party, agreement: [u8; 32], controls: &[Vec<u8>]| {
        let wire = Wire::v1().raw(&issuer.entity().0).raw(&reader.entity().0).raw(&agreement).u64(NOW).u64(NOW);
        wire.list(controls).0
    };
    let agreement = story.agreement_id();
    let record = |body: &[u8]| wire::record(body, &b.sign(Domain::Attestation, body));
    let with = |controls: &[Vec<u8>]| record(&of(b, a, agreement, controls));
    let three = [on(0, "clamd, signatures of today"), none(1), kept(3_650)];
    let body = of(b, a, agreement, &three);
    let long = "x".repeat(201);
    let rows: [Row; 12] = [
        ("", "ok", record(&body), "B shows A what it has of the three controls"),
        ("none", "ok", with(&[]), "nothing is named, so nothing is shown"),
        ("kept_for_ever", "ok", with(&[Wire::default().u32(2).u32(2).option(None).0]), "nothing is ever deleted"),
        ("unordered", "Field", with(&[none(1), none(0)]), "controls out of order"),
        ("twice", "Field", with(&[none(1), none(1)]), "one control twice"),
        ("empty_line", "Field", with(&[on(0, "")]), "evidence without a word"),
        ("long_line", "Field", with(&[on(0, &long)]), "evidence of 201 bytes"),
        ("unknown_control", "Codec.Malformed", with(&[none(3)]), "a control that does not exist"),
        ("unknown_evidence", "Codec.Malformed", with(&[Wire::default().u32(0).u32(3).0]), "evidence of no known kind"),
        ("by_a", "Parties", record(&of(a, a, agreement, &three)), "B attests in A's name"),
        ("for_c", "Parties", record(&of(b, c, agreement, &three)), "said to somebody else"),
        ("of_other_agreement", "Parties", record(&of(b, a, [1; 32], &three)), "under another agreement"),
    ];
    let mut all = vectors("attestation", rows);
    all.extend(shared("attestation", Domain::Attestation, &body, b));
    all
}

fn heads(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let of = |entity: &Party, chain: &[u8]| {
        Wire::v1().raw(&entity.entity().0).u64(41).raw(&secret("log root")).u64(NOW).raw(chain).0
    };
    let record = |body: &[u8]| wire::record(body, &a.sign(Domain::LogHead, body));
    let body = of(a, &a.chain());
    let rows: [Row; 6] = [
        ("", "ok", record(&body), "A's log has 41 entries; the root is DK(vector key, \"log root\")"),
        ("later_chain", "ok", record(&of(a, &a.later_chain())), "after A's root was replaced"),
        ("of_b", "Parties", record(&of(b, &a.chain())), "A signs a head of B's log"),
        ("chain_of_b", "Signature.Invalid", record(&of(b, &b.chain())), "A signs under B's chain"),
        (
            "flipped_chain",
            "Chain.Link",
            record(&flipped(&body, 1 + 32 + 8 + 32 + 8 + 8 + 8 + 10, 0)),
            "one bit of the root link is flipped",
        ),
        ("cut", "Codec.Malformed", record(&body[..body.len() - 1]), "the last byte of the chain is missing"),
    ];
    let mut all = vectors("head", rows);
    all.extend(shared("head", Domain::LogHead, &body, a));
    all
}

fn notices(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let agreement = story.agreement_id();
    let of = |entity: &Party, reader: &Party, agreement: [u8; 32], generation: u64, backup_at: u64| {
        let wire = Wire::v1().raw(&entity.entity().0).raw(&reader.entity().0).raw(&agreement).u64(generation);
        wire.raw(&secret("restore nonce")).u64(backup_at).u64(NOW).0
    };
    let record = |body: &[u8]| wire::record(body, &b.sign(Domain::RestoreNotice, body));
    let body = of(b, a, agreement, NOW, NOW - DAY);
    let rows: [Row; 7] = [
        ("", "ok", record(&body), "B was restored from a backup of the day before"),
        ("at_once", "ok", record(&of(b, a, agreement, 1, NOW)), "restored the moment it was backed up"),
        ("generation_0", "Field", record(&of(b, a, agreement, 0, NOW)), "restore number 0"),
        ("before_backup", "Field", record(&of(b, a, agreement, 1, NOW + 1)), "restored before the backup was made"),
        ("by_a", "Parties", record(&of(a, a, agreement, 1, NOW)), "B speaks in A's name"),
        ("for_c", "Parties", record(&of(b, c, agreement, 1, NOW)), "for somebody else"),
        ("of_other_agreement", "Parties", record(&of(b, a, [1; 32], 1, NOW)), "under another agreement"),
    ];
    let mut all = vectors("notice", rows);
    all.extend(shared("notice", Domain::RestoreNotice, &body, b));
    all
}

fn deposits(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let left = |addresses: &[&str], keeper: &Party, signer: &Party| {
        let wire = Wire::v1().raw(&b.entity().0).raw(&a.entity().0).raw(&story.agreement_id()).u64(NOW);
        let body = wire.texts(addresses).0;
        let record = wire::record(&body, &signer.sign(Domain::AddressUpdate, &body));
        let update: Signed<_> = codec::decode(1, &record, 1 << 20).expect("it was just encoded");
        deposit::seal(&story.door(), &keeper.entity(), &update).expect("it is no longer than an update may be")
    };
    let short = left(&["pakt.vaart.example:4100"], c, b);
    let label = "x".repeat(63);
    let name = format!("{label}.{label}.{label}.example:4100");
    let long = left(&[name.as_str(); 8], c, b);
    let filled = [short.as_slice(), &[9; 2_048]].concat();
    let rows: [Row; 9] = [
        ("", "ok", short.clone(), "B leaves its addresses for A at C, under the secret that B granted to A"),
        ("long", "ok", long.clone(), "eight long addresses: 2,560 bytes"),
        ("filled", "ok", filled, "as C answers with it: filled up to 2,560 bytes"),
        ("at_a", "Sealed", left(&["pakt.vaart.example:4100"], a, b), "left at another keeper"),
        ("by_c", "Signature.Invalid", left(&["pakt.vaart.example:4100"], c, c), "C's signature within"),
        ("bent_salt", "Sealed", flipped(&short, 0, 0), "one bit of the salt is flipped"),
        ("bent_plain", "Sealed", flipped(&short, 40, 0), "one bit of what is sealed is flipped"),
        ("bent_tag", "Sealed", flipped(&short, 511, 7), "one bit of the tag is flipped"),
        ("cut", "Sealed", long[..2_559].to_vec(), "one byte is missing"),
    ];
    vectors("deposit", rows)
}
