//! Cards: who a counterpart says that it is.

use pakt_keys::signing::Domain;
use pakt_protocol::armour::Label;

use super::{Damages, flipped, patched, place, signature_rows};
use crate::file::Vector;
use crate::parties::Party;
use crate::story::Story;
use crate::wire::{self, CardFields, CertificateFields, Wire};

/// The record of a card with this body, signed by the party's statement key.
fn record(party: &Party, body: &[u8]) -> Vec<u8> {
    wire::record(body, &party.sign(Domain::Card, body))
}

fn vector(name: &str, expect: &str, bytes: &[u8], note: &str) -> Vector {
    Vector::new(&format!("card_{name}"), "card", expect, note).armour(Label::Card, bytes)
}

pub(super) fn all(story: &Story) -> Vec<Vector> {
    let Story { a, b, c } = story;
    let body = a.card().body();
    let good = record(a, &body);
    let bytes_max = 64 << 10;
    let mut vectors = vec![
        vector("a", "ok", &good, "the card of A"),
        vector(
            "b",
            "ok",
            &record(b, &b.card().body()),
            "the card of B: two addresses, letters beyond ASCII in no field",
        ),
        vector("c", "ok", &record(c, &c.card().body()), "the card of C, which only dials out"),
    ];
    vectors.extend(Damages { kind: "card", label: Some(Label::Card), good: &good, length_at: 1, bytes_max }.all());
    let own = a.sign(Domain::Card, &body).remove(0);
    let foreign = b.sign(Domain::Card, &body).remove(0);
    let other_domain = a.sign(Domain::Roster, &body).remove(0);
    for (name, expect, list, note) in signature_rows(&own, foreign, other_domain) {
        vectors.push(vector(name, expect, &wire::record(&body, &list), note));
    }
    vectors.extend(bodies(a, &body, &good));
    vectors.extend(fields(a));
    vectors.extend(keys(a, b));
    vectors
}

fn bodies(a: &Party, body: &[u8], good: &[u8]) -> Vec<Vector> {
    let name_at = place(good, a.name.as_bytes());
    let addresses_at = body.len() - 8 - (8 + 8 + a.addresses[0].len());
    let utf8_at = place(body, a.name.as_bytes());
    let rows: [(&str, &str, Vec<u8>, &str); 8] = [
        ("flipped_name", "Signature.Invalid", flipped(good, name_at, 0), "one bit of the name is flipped"),
        ("body_of_future_version", "Codec.Newer", record(a, &patched(body, 0, &[2])), "the body inside has version 2"),
        ("body_with_trailing", "Codec.TrailingBytes", record(a, &[body, &[0]].concat()), "the signed body goes on"),
        ("body_truncated", "Codec.Malformed", record(a, &body[..body.len() - 1]), "the signed body is cut"),
        ("body_empty", "Codec.Empty", record(a, &[]), "a signed body of no bytes"),
        (
            "body_claims_addresses",
            "Codec.Malformed",
            record(a, &patched(body, addresses_at, &(1u64 << 60).to_be_bytes())),
            "2^60 addresses are claimed",
        ),
        (
            "body_not_utf8",
            "Codec.Malformed",
            record(a, &patched(body, utf8_at, &[0xc3, 0x28])),
            "the name is not UTF-8",
        ),
        ("body_is_chain", "Codec.Malformed", record(a, &Wire::v1().raw(&a.chain()).0), "a chain where a card belongs"),
    ];
    rows.map(|(name, expect, bytes, note)| vector(name, expect, &bytes, note)).into()
}

fn fields(a: &Party) -> Vec<Vector> {
    const LONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
                        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const LONG_NUMBER: &str = "NO:ORGNR:99999999999999999999999999999999999999999999999999999999";
    let good = a.card();
    let named = |name| CardFields { name, ..good.clone() };
    let numbered = |number| CardFields { number, ..good.clone() };
    let at = |addresses: &[&'static str]| CardFields { addresses: addresses.to_vec(), ..good.clone() };
    let rows: [(&str, &str, CardFields, &str); 29] = [
        ("name_of_200", "ok", named(&LONG[1..]), "a name of 200 bytes"),
        ("name_beyond_ascii", "ok", named("Sykehuset i Å, عيادة 🏥"), "letters of several scripts"),
        ("name_empty", "Field", named(""), "no name"),
        ("name_of_201", "Field", named(LONG), "a name of 201 bytes"),
        ("name_with_blank", "Field", named(" Fjordklinikken"), "a blank before the name"),
        ("name_with_wide_blank", "Field", named("Fjordklinikken\u{3000}"), "an ideographic space after the name"),
        ("name_with_line", "Field", named("Fjord\nklinikken"), "a line break in the name"),
        ("name_with_c1", "Field", named("Fjord\u{9b}klinikken"), "a C1 control character in the name"),
        ("name_reversed", "Field", named("Fjord\u{202e}nekkinilk"), "a right-to-left override in the name"),
        ("name_isolated", "Field", named("Fjord\u{2066}klinikken"), "a directional isolate in the name"),
        ("number_lower_case", "Field", numbered("no:ORGNR:999000101"), "the country in lower case"),
        ("number_two_parts", "Field", numbered("NO:999000101"), "two parts"),
        ("number_four_parts", "Field", numbered("NO:ORGNR:999:000101"), "four parts"),
        ("number_empty_part", "Field", numbered("NO::999000101"), "an empty part"),
        ("number_long_country", "Field", numbered("NOR:ORGNR:999000101"), "three letters of country"),
        ("number_with_blank", "Field", numbered("NO:ORGNR:999 000 101"), "blanks"),
        ("number_of_65", "Field", numbered(LONG_NUMBER), "a number of 65 bytes"),
        ("no_addresses", "ok", at(&[]), "no address: it only dials out"),
        ("eight_addresses", "ok", at(&["a.example:1"; 8]), "8 addresses, all the same"),
        ("nine_addresses", "Field", at(&["a.example:1"; 9]), "9 addresses"),
        ("address_without_port", "Codec.Malformed", at(&["node.example"]), "an address without a port"),
        ("address_port_0", "Codec.Malformed", at(&["node.example:0"]), "port 0"),
        ("address_port_zeros", "Codec.Malformed", at(&["node.example:04100"]), "a port with a leading zero"),
        ("address_port_plus", "Codec.Malformed", at(&["node.example:+4100"]), "a port with a sign"),
        ("address_port_65536", "Codec.Malformed", at(&["node.example:65536"]), "port 65536"),
        ("address_bare_v6", "Codec.Malformed", at(&["2001:db8::12:4100"]), "IPv6 without brackets"),
        ("address_v6_zone", "Codec.Malformed", at(&["[fe80::1%eth0]:4100"]), "IPv6 with a zone"),
        ("address_url", "Codec.Malformed", at(&["https://node.example:4100"]), "a URL"),
        ("address_dash", "Codec.Malformed", at(&["-node.example:4100"]), "a label that begins with a dash"),
    ];
    rows.map(|(name, expect, fields, note)| vector(name, expect, &record(a, &fields.body()), note)).into()
}

/// Cards whose chain does not lead to the key that signed them.
fn keys(a: &Party, b: &Party) -> Vec<Vector> {
    let with_chain = |chain: Vec<u8>| record(a, &CardFields { chain, ..a.card() }.body());
    let of = |certificate: CertificateFields| a.chain_with(&certificate);
    let weak = CertificateFields { statement: [0; 32], ..a.certificate() };
    let mut unreduced_y = [0xff; 32];
    (unreduced_y[0], unreduced_y[31]) = (0xee, 0x7f);
    let uncanonical = CertificateFields { statement: unreduced_y, ..a.certificate() };
    let rows: [(&str, &str, Vec<u8>, &str); 6] = [
        ("after_a_new_root", "ok", with_chain(a.later_chain()), "the root was replaced by its committed successor"),
        ("chain_of_b", "Signature.Invalid", with_chain(b.chain()), "A signs a card that shows the chain of B"),
        ("weak_statement_key", "Signature.BadKey", with_chain(of(weak)), "the root certified a key of small order"),
        ("uncanonical_statement_key", "Signature.BadKey", with_chain(of(uncanonical)), "a key whose y is p + 1"),
        (
            "foreign_entity",
            "Chain.Foreign",
            with_chain(of(CertificateFields { entity: b.entity().0, ..a.certificate() })),
            "A's root certifies a node of B",
        ),
        (
            "no_root_link",
            "Chain.Length",
            with_chain(wire::chain(&[], &a.chain()[8 + a.link().len()..])),
            "a chain without a root link",
        ),
    ];
    rows.map(|(name, expect, bytes, note)| vector(name, expect, &bytes, note)).into()
}
