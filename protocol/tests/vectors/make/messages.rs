//! Control messages: one good vector of each kind, and what no reader may take.

use pakt_keys::signing::Domain;
use pakt_protocol::ids::ObjectId;

use super::{Damages, patched};
use crate::file::Vector;
use crate::parties::NOW;
use crate::story::{Story, group, id, sealed_chunks};
use crate::wire::{self, Wire};

pub(super) fn message(index: u32, body: &[u8]) -> Vec<u8> {
    Wire::v1().u32(index).raw(body).0
}

pub(super) fn envelope() -> Wire {
    Wire::default().raw(&id("envelope"))
}

fn offer(priority: u32) -> Vec<u8> {
    let wire = envelope().raw(&group("reception")).u32(priority).u32(1);
    wire.u64(2).u64(69).u64(3).u64(2000).u32(172_800).0
}

fn announce(entries: u64, last: u8) -> Vec<u8> {
    let wire = envelope().u64(0).u64(entries);
    let objects = sealed_chunks();
    let wire =
        objects.iter().fold(wire, |wire, (_, sealed)| wire.raw(&ObjectId::of(sealed).0).u32(sealed.len() as u32));
    wire.u8(last).0
}

pub(super) fn all(story: &Story) -> Vec<Vector> {
    let mut vectors = good(story);
    vectors.extend(bad(story));
    let contact = message(4, &Wire::default().bytes(&story.good_file(true)).0);
    vectors.extend(Damages { kind: "message", label: None, good: &contact, length_at: 5, bytes_max: 1 << 20 }.all());
    vectors
}

fn good(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let (end, roster) = (story.good_statement(), story.good_roster());
    let end = wire::signed(&end, &a.root.sign(Domain::AgreementStatement, &end));
    let roster = wire::signed(&roster, &b.sign(Domain::Roster, &roster));
    let receipt = story.good_receipt();
    let receipt = wire::record(&receipt, &b.sign(Domain::Receipt, &receipt));
    let limits = |wire: Wire| wire.u32(1).u32(1_052_672).u16(64).0;
    let id_only = || envelope().0;
    let amendment = story.amendment(&story.amended_terms().body(), None, Some(b));
    let addresses = [&[1][..], &b.entity().0, &a.entity().0, &story.agreement_id(), &[0; 8], &[0; 8]].concat();
    let addresses = wire::signed(&addresses, &b.sign(Domain::AddressUpdate, &addresses));
    let rows: [(&str, u32, Vec<u8>, &str); 41] = [
        ("open_control", 0, limits(Wire::default().u32(0).u8(0)), "a control lane"),
        ("open_bulk", 0, limits(Wire::default().u32(2).u8(3)), "the fourth bulk lane"),
        ("opened", 1, limits(Wire::default()), "the lane is up"),
        ("heartbeat", 2, vec![], "the shortest message"),
        ("want_lanes", 3, Wire::default().u32(2).u8(4).0, "four bulk lanes are wanted"),
        ("contact", 4, Wire::default().bytes(&story.good_file(true)).0, "the agreement comes back to A"),
        ("contacted", 5, story.agreement_id().to_vec(), "A has it"),
        ("statement", 6, Wire::default().raw(&end).u8(0).0, "A ends the agreement"),
        ("statement_known", 6, Wire::default().raw(&end).u8(1).0, "B knows it"),
        ("roster", 7, roster.clone(), "B's roster for A"),
        ("offer", 8, offer(1), "A offers"),
        ("accept", 9, Wire::default().u32(0).raw(&id_only()).0, "B accepts"),
        ("refuse", 9, Wire::default().u32(1).raw(&id_only()).u32(1).0, "B refuses: unknown group"),
        ("announce", 10, announce(2, 0), "A names the two chunks"),
        ("announce_nothing", 10, envelope().u64(3).u64(0).u8(1).0, "no further object: that was all"),
        ("progress", 11, envelope().u64(2).u64(120).0, "two objects are durable at B"),
        ("ready", 12, id_only(), "all objects are durable at B"),
        ("envelope", 13, envelope().raw(&story.envelope()).0, "A's envelope"),
        ("epoch_gone", 14, envelope().raw(&roster).0, "B's epoch was erased"),
        ("receipt", 15, envelope().bytes(&receipt).0, "B's receipt"),
        ("withdraw", 16, id_only(), "A takes the offer back"),
        ("withdrawn", 17, id_only(), "B has dropped it"),
        (
            "want_statements",
            27,
            Wire::default().raw(&b.entity().0).u64(2).0,
            "B's statements from number 3 on are wanted",
        ),
        ("amend", 28, Wire::default().bytes(&amendment).0, "B offers an amendment"),
        ("amended", 29, vec![7; 32], "terms with this hash are durable"),
        ("addresses", 18, addresses, "B tells where it is now"),
        ("relay_to", 19, Wire::default().u32(0).raw(&[7; 32]).0, "forward to this transport key"),
        ("relay_join", 19, Wire::default().u32(1).raw(&[8; 16]).0, "the end that was called"),
        ("relay_up", 20, vec![1], "forwarded bytes follow"),
        ("relay_no", 20, vec![0], "nobody is connected"),
        ("relay_call", 21, vec![8; 16], "somebody waits under this token"),
        ("deposit_offer", 22, vec![9; 32], "what the depositor wants to be kept"),
        ("deposit", 23, deposit(&[1]), "the one deposit of a set"),
        ("deposited", 24, vec![9; 32], "what is kept"),
        ("seek", 25, Wire::default().u32(5).raw(&[3; 128]).0, "eight tags"),
        ("sought", 26, Wire::default().u32(5).u64(1).bytes(&[4; 2_560]).0, "what was found, or looks like it"),
        ("grant", 34, story.signed_grant(a, b), "A grants B another way through its door"),
        ("granted", 35, Wire::default().raw(&story.agreement_id()).u64(1).0, "B has it"),
        ("receipt_held", 44, envelope().u32(0).u32(2).0, "A holds the receipt of tier 3, and those below"),
        ("receipt_held_unopenable", 44, envelope().u32(1).0, "A holds what was stated instead of a tier"),
        ("ask_ended", 45, Wire::default().bytes(&[1, 2, 3]).0, "A asks how an envelope ended"),
    ];
    rows.map(|(name, index, body, note)| {
        Vector::new(&format!("message_{name}"), "message", "ok", note).hex(&message(index, &body))
    })
    .into()
}

/// A set of one deposit, complete if `there` is 1.
fn deposit(there: &[u8]) -> Vec<u8> {
    let digest = [there, &[9; 32][..32 * usize::from(there[0] == 1)]].concat();
    Wire::default().u8(1).u64(1).raw(&[3; 16]).bytes(&[4; 512]).raw(&digest).0
}

fn bad(story: &Story) -> Vec<Vector> {
    let Story { a, b, .. } = story;
    let malformed = "Codec.Malformed";
    let end = story.good_statement();
    let end = wire::signed(&end, &a.root.sign(Domain::AgreementStatement, &end));
    let roster = story.good_roster();
    let roster = wire::signed(&roster, &b.sign(Domain::Roster, &roster));
    let heartbeat = message(2, &[]);
    let claims = |count: u64| message(10, &patched(&announce(2, 0), 24, &count.to_be_bytes()));
    let rows: [(&str, &str, Vec<u8>, &str); 21] = [
        ("relay_ask_2", malformed, message(19, &Wire::default().u32(2).raw(&[8; 16]).0), "neither To nor Join"),
        ("relay_answer_2", malformed, message(20, &[2]), "neither yes nor no"),
        ("deposit_option_2", malformed, message(23, &deposit(&[2])), "an option byte of 2"),
        ("seek_seven", malformed, message(25, &Wire::default().u32(5).raw(&[3; 112]).0), "seven tags"),
        ("unknown", malformed, message(1_000, &[]), "number 1,000 does not exist"),
        ("unknown_highest", malformed, message(u32::MAX, &[]), "the highest number"),
        ("number_cut", malformed, vec![1, 0, 0, 0], "three bytes of a number"),
        (
            "heartbeat_trailing",
            "Codec.TrailingBytes",
            [heartbeat.as_slice(), &[0]].concat(),
            "a heartbeat that goes on",
        ),
        ("little_endian", malformed, vec![1, 2, 0, 0, 0], "a heartbeat with its number the wrong way round"),
        (
            "open_unknown_kind",
            malformed,
            message(0, &Wire::default().u32(1_000).u8(0).u32(1).u32(1_052_672).u16(64).0),
            "a kind of lane that does not exist",
        ),
        ("statement_known_2", malformed, message(6, &Wire::default().raw(&end).u8(2).0), "a bool of 2"),
        ("announce_last_2", malformed, message(10, &announce(2, 2)), "a bool of 2"),
        ("announce_last_255", malformed, message(10, &announce(2, 255)), "a bool of 255"),
        ("announce_claims_less", malformed, claims(1), "one entry is claimed, two come: the bool is not one"),
        ("announce_claims_more", malformed, claims(3), "three entries are claimed, two come"),
        ("announce_claims_2_60", malformed, claims(1 << 60), "2^60 entries are claimed"),
        ("offer_unknown_priority", malformed, message(8, &offer(3)), "a priority that does not exist"),
        (
            "answer_unknown",
            malformed,
            message(9, &Wire::default().u32(2).raw(&envelope().0).0),
            "an answer that does not exist",
        ),
        (
            "refuse_unknown",
            malformed,
            message(9, &Wire::default().u32(1).raw(&envelope().0).u32(99).0),
            "a reason that does not exist",
        ),
        (
            "roster_trailing",
            "Codec.TrailingBytes",
            message(7, &[roster.as_slice(), &[0]].concat()),
            "a roster that goes on",
        ),
        ("withdraw_short", malformed, message(16, &envelope().u64(NOW).0[..15]), "an id of 15 bytes"),
    ];
    rows.map(|(name, expect, bytes, note)| Vector::new(&format!("message_{name}"), "message", expect, note).hex(&bytes))
        .into()
}
