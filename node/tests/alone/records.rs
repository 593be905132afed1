//! Cards, proposals, agreements and receipts as files: shown when they hold, refused with six when anything is changed.

use std::fs;
use std::path::Path;

use pakt_keys::codec;
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_protocol::armour::{self, Label};
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use pakt_protocol::record::agreement::{AgreementFile, AgreementRecord, AgreementTerms, Party};
use pakt_protocol::record::card::{Card, CardBody, SignedCard, card_bytes};
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::envelope::Counts;
use pakt_protocol::record::receipt::{Receipt, Tier, Verdict, receipt_bytes};
use pakt_protocol::time::Time;

use crate::{damage, init, listing, pakt};

struct Entity {
    root: RootKey,
    statement: StatementKey,
    chain: CertificateChain,
    card: SignedCard,
}

impl Entity {
    fn new(seed: u8, name: &str, number: &str) -> Entity {
        let root = RootKey::from_seed([seed; 32]);
        let transport = TransportKey::from_seed([seed + 1; 32]);
        let statement = StatementKey::from_seed([seed + 2; 32]);
        let contact = ContactKey::from_bytes(&[seed + 3; 32]);
        let node = (transport.public(), statement.public(), contact.public());
        let next = RootKey::from_seed([seed + 4; 32]);
        let chain = CertificateChain::create(&root, &next.public(), node, Time(1));
        let body = CardBody {
            name: name.into(),
            number: number.into(),
            chain: chain.clone(),
            addresses: vec!["127.0.0.1:4100".parse().unwrap()],
            issued_at: Time(1),
        };
        let card = body.sign(&statement).unwrap();
        Entity { root, statement, chain, card }
    }

    fn party(&self) -> Party {
        let Card { body, node } = Card::verify(&self.card).unwrap();
        Party { entity: node.entity, name: body.name, number: body.number }
    }

    fn card(&self) -> String {
        armour::encode(Label::Card, &card_bytes(&self.card))
    }
}

fn pair() -> (Entity, Entity) {
    (Entity::new(10, "Sykehuset Nord", "NO:ORGNR:999000101"), Entity::new(20, "Kliniek Zuid", "NL:KVK:99000102"))
}

fn agreement(nord: &Entity, zuid: &Entity, complete: bool) -> String {
    let terms = AgreementTerms {
        proposer: nord.party(),
        acceptor: zuid.party(),
        version: 1,
        previous: None,
        nonce: [7; 32],
        accept_by: Time(2_000_000_000_000_000),
        purposes: vec!["treatment".into()],
        legal_basis: "Pasientjournalloven § 19".into(),
        valid_from: Time(1_000_000),
        valid_until: Time(2_000_000_000_000_000),
        message_bytes_max: 100_000_000_000,
        hold_seconds: 3600,
        retention_seconds: None,
        messages_per_hour: None,
        controls: vec![],
        urgent_contact: String::new(),
        relay: false,
    };
    let mut record = AgreementRecord::propose(&terms, &nord.root).unwrap();
    if complete {
        record = record.countersign(&zuid.root);
    }
    let file = AgreementFile { record, proposer: nord.card.clone(), acceptor: zuid.card.clone(), grants: vec![] };
    let label = if complete { Label::Agreement } else { Label::Proposal };
    armour::encode(label, &file.to_bytes())
}

fn receipt(nord: &Entity, zuid: &Entity, verdict: Verdict) -> String {
    let receipt = Receipt {
        verdict,
        core: CoreHash([1; 32]),
        message: MessageId([2; 16]),
        envelope: EnvelopeId([3; 16]),
        sender: nord.party().entity,
        recipient: zuid.party().entity,
        agreement: AgreementId([4; 32]),
        agreement_hash: [5; 32],
        counts: Counts { files: 240, plain_bytes: 126_000_000, ..Counts::default() },
        offered_at: Time(1_790_000_000_000_000),
        at: Time(1_790_000_001_000_000),
        log_head: None,
        chain: zuid.chain.clone(),
    };
    armour::encode(Label::Receipt, &receipt_bytes(&receipt.sign(&zuid.statement)))
}

/// Writes the records of one pair into `desk`.
fn lay_out(desk: &Path) {
    let (nord, zuid) = pair();
    let files = [
        ("nord.card", nord.card()),
        ("zuid.card", zuid.card()),
        ("other.card", Entity::new(30, "Other", "DE:IK:999000103").card()),
        ("proposal", agreement(&nord, &zuid, false)),
        ("agreement", agreement(&nord, &zuid, true)),
        ("receipt", receipt(&nord, &zuid, Verdict::Held(Tier::Delivered))),
        ("unopenable", receipt(&nord, &zuid, Verdict::Unopenable)),
    ];
    for (name, text) in files {
        fs::write(desk.join(name), text).unwrap();
    }
}

const VERIFY: [&str; 7] = ["receipt", "verify", "receipt", "--card", "nord.card", "--card", "zuid.card"];

#[test]
fn good_records_are_shown_without_a_node() {
    let desk = tempfile::tempdir().unwrap();
    lay_out(desk.path());
    let card = pakt(desk.path(), &["card", "show", "nord.card", "--json"]).expect(0).json();
    assert_eq!((&card["name"], &card["number"]), (&"Sykehuset Nord".into(), &"NO:ORGNR:999000101".into()));
    assert_eq!(card["fingerprint"].as_str().unwrap().split(' ').count(), 10);
    for (file, says) in [("proposal", "not yet countersigned"), ("agreement", "signed by both")] {
        let text = pakt(desk.path(), &["agreement", "show", file]).expect(0).out;
        for part in [says, "Sykehuset Nord", "NL:KVK:99000102", "treatment", "§ 19", "100 GB", "1 h"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let valid = pakt(desk.path(), &[&VERIFY[..], &["--json"]].concat()).expect(0).json();
    assert_eq!((&valid["valid"], &valid["verdict"], &valid["tier"]), (&true.into(), &"delivered".into(), &1.into()));
    assert_eq!(valid["at"], "2026-09-21T14:13:21Z");
    assert_eq!(valid["to"]["name"], "Kliniek Zuid");
    let mut other = VERIFY;
    other[2] = "unopenable";
    let told = pakt(desk.path(), &[&other[..], &["--json"]].concat()).expect(0).json();
    assert_eq!((&told["verdict"], &told["tier"]), (&"unopenable".into(), &serde_json::Value::Null));
}

#[test]
fn p4_every_damaged_record_is_refused_with_six_and_nothing_is_written() {
    let desk = tempfile::tempdir().unwrap();
    lay_out(desk.path());
    init(desk.path(), "n", "DE:IK:999000104");
    let rows: [(&str, &[&str]); 8] = [
        ("nord.card", &["card", "show", "X"]),
        ("nord.card", &["agreement", "propose", "--with", "X", "--out", "out"]),
        ("proposal", &["agreement", "show", "X"]),
        ("proposal", &["agreement", "accept", "X", "--out", "out"]),
        ("agreement", &["agreement", "show", "X"]),
        ("agreement", &["agreement", "import", "X"]),
        ("receipt", &["receipt", "verify", "X", "--card", "nord.card", "--card", "zuid.card"]),
        ("zuid.card", &["receipt", "verify", "receipt", "--card", "nord.card", "--card", "X"]),
    ];
    for (good, args) in rows {
        let good = fs::read_to_string(desk.path().join(good)).unwrap();
        for (says, bytes) in damage::all(&good) {
            fs::write(desk.path().join("X"), bytes).unwrap();
            let before = listing(desk.path());
            let told = pakt(desk.path(), &[args, &["--dir", "n", "--json"]].concat()).expect(6);
            assert!(told.complaint().contains(says), "{says}: {}", told.out);
            assert!(listing(desk.path()) == before, "{args:?} has written something");
        }
    }
}

#[test]
fn p4_a_receipt_needs_the_cards_of_its_two_parties() {
    let desk = tempfile::tempdir().unwrap();
    lay_out(desk.path());
    let verify = |cards: &[&str]| {
        let cards: Vec<&str> = cards.iter().flat_map(|card| ["--card", card]).collect();
        pakt(desk.path(), &[&["receipt", "verify", "receipt", "--json"], &cards[..]].concat())
    };
    verify(&["zuid.card", "nord.card"]).expect(0);
    for wrong in [["nord.card", "other.card"], ["other.card", "zuid.card"], ["nord.card", "nord.card"]] {
        let told = verify(&wrong).expect(6);
        assert_eq!(told.json()["valid"], false);
        told.complaint();
    }
    verify(&["nord.card"]).expect(2);
    verify(&["nord.card", "zuid.card", "other.card"]).expect(2);
    verify(&["nord.card", "absent.card"]).expect(1);
}

#[test]
fn one_kind_of_record_is_not_taken_for_another() {
    let desk = tempfile::tempdir().unwrap();
    lay_out(desk.path());
    let rows: [&[&str]; 6] = [
        &["card", "show", "proposal"],
        &["agreement", "show", "nord.card"],
        &["agreement", "accept", "agreement"],
        &["agreement", "import", "proposal"],
        &["agreement", "propose", "--with", "receipt"],
        &["receipt", "verify", "agreement", "--card", "nord.card", "--card", "zuid.card"],
    ];
    for args in rows {
        let told = pakt(desk.path(), &[args, &["--dir", "absent", "--json"]].concat()).expect(2);
        assert!(told.complaint().contains("not a PAKT"), "{}", told.out);
    }
    // A right record under a wrong first line.
    let proposal = fs::read_to_string(desk.path().join("proposal")).unwrap();
    fs::write(desk.path().join("posing"), proposal.replace("PROPOSAL", "AGREEMENT")).unwrap();
    pakt(desk.path(), &["agreement", "show", "posing", "--json"]).expect(6).complaint();
}

#[test]
fn a_fingerprint_is_compared_before_the_node_is_asked() {
    let desk = tempfile::tempdir().unwrap();
    lay_out(desk.path());
    let words = |card: &str| {
        let shown = pakt(desk.path(), &["card", "show", card, "--json"]).expect(0).json();
        shown["fingerprint"].as_str().unwrap().to_owned()
    };
    let (nord, zuid) = (words("nord.card"), words("zuid.card"));
    let accept = |fingerprint: &str| {
        pakt(desk.path(), &["agreement", "accept", "proposal", "--fingerprint", fingerprint, "--dir", "absent"])
    };
    let told = accept(&zuid).expect(1);
    assert!(told.err.contains("nothing was signed"), "{}", told.err);
    // The right one gets as far as the node, which is not there.
    let told = accept(&nord.to_uppercase()).expect(5);
    assert!(told.err.contains(&nord) && told.err.contains(&zuid), "both are shown before anyone signs: {}", told.err);
}

#[test]
fn terms_that_make_no_sense_are_refused_before_anyone_signs() {
    let desk = tempfile::tempdir().unwrap();
    lay_out(desk.path());
    let template = pakt(desk.path(), &["agreement", "terms"]).expect(0).out;
    fs::write(desk.path().join("terms.toml"), &template).unwrap();
    let propose = ["agreement", "propose", "--with", "zuid.card", "--terms", "terms.toml", "--dir", "absent", "--json"];
    pakt(desk.path(), &propose).expect(5);
    for (bad, key) in [("hold = \"72h\"", "hold"), ("surprise = 1", "surprise"), ("max_message = -1", "max_message")] {
        fs::write(desk.path().join("terms.toml"), bad).unwrap();
        let told = pakt(desk.path(), &propose).expect(2);
        assert!(told.complaint().contains(key), "{}", told.out);
    }
}

#[test]
fn what_mail_and_shells_do_to_text_is_tolerated() {
    let desk = tempfile::tempdir().unwrap();
    lay_out(desk.path());
    let good = fs::read_to_string(desk.path().join("nord.card")).unwrap();
    let utf16: Vec<u8> = std::iter::once(0xfeff).chain(good.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for bytes in [good.replace('\n', "\r\n").into_bytes(), format!("\n\n{good}\n").into_bytes(), utf16] {
        fs::write(desk.path().join("mailed"), bytes).unwrap();
        pakt(desk.path(), &["card", "show", "mailed"]).expect(0);
    }
}

#[test]
fn p17_a_name_cannot_speak_to_the_terminal() {
    let desk = tempfile::tempdir().unwrap();
    // Cards refuse such names, so the check is on the last line of defence: what is shown of a foreign file name.
    let name = "evil\u{1b}[2Jname\u{202e}";
    fs::write(desk.path().join(name), "x").unwrap();
    let told = pakt(desk.path(), &["card", "show", name]).expect(6);
    assert!(!told.err.contains('\u{1b}') && !told.err.contains('\u{202e}'), "{:?}", told.err);
}

#[test]
fn the_encoding_of_a_record_is_the_codec_s() {
    let (nord, _) = pair();
    let decoded: SignedCard = codec::decode(1, &card_bytes(&nord.card), 64 << 10).unwrap();
    assert_eq!(decoded, nord.card);
}
