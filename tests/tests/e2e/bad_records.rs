//! Every record that the command line reads, truncated, changed, oversized, of a future version and of another kind.

use std::fs;
use std::path::Path;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, Plan, id_of, text};
use pakt_tests::wait::secs;
use pakt_tests::{armour, tree, turn};

/// A damage, what it makes of a good record, and a word that the message must say.
type Damage = (&'static str, fn(&[u8]) -> Vec<Vec<u8>>, &'static str);

const DAMAGES: [Damage; 7] = [
    ("truncated", truncated, ""),
    ("bit flipped", bit_flipped, ""),
    ("byte exchanged inside", resealed, ""),
    ("oversized", oversized, ""),
    ("future version", future_version, "newer"),
    ("empty", |_| vec![Vec::new()], ""),
    ("not a record", |_| vec![b"\x00\xff\x00".repeat(500), b"hello\n".to_vec()], ""),
];

fn truncated(good: &[u8]) -> Vec<Vec<u8>> {
    [good.len() / 3, good.len() / 2, good.len() - 40, good.len() - 12].map(|end| good[..end].to_vec()).to_vec()
}

/// One bit at a time, spread over the block.
fn bit_flipped(good: &[u8]) -> Vec<Vec<u8>> {
    let start = good.iter().position(|&byte| byte == b'\n').expect("armoured text has lines") + 1;
    let end = good.len() - 40;
    let step = (end - start) / 12;
    (start..end)
        .step_by(step.max(1))
        .filter(|&at| good[at] != b'\n')
        .enumerate()
        .map(|(nth, at)| {
            let mut bytes = good.to_vec();
            bytes[at] ^= 1 << (nth % 7);
            bytes
        })
        .collect()
}

/// Bytes of the record changed under an armour that is right again: only signatures can tell.
fn resealed(good: &[u8]) -> Vec<Vec<u8>> {
    let (label, bytes) = armour::open(good);
    (1..bytes.len())
        .step_by(bytes.len() / 24 + 1)
        .map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            armour::close(&label, &bytes)
        })
        .collect()
}

fn oversized(good: &[u8]) -> Vec<Vec<u8>> {
    let (label, bytes) = armour::open(good);
    let trailing = armour::close(&label, &[&bytes[..], &[0]].concat());
    let huge = armour::close(&label, &[&bytes[..], &vec![7; 20_000_000]].concat());
    vec![trailing, huge]
}

fn future_version(good: &[u8]) -> Vec<Vec<u8>> {
    let (label, mut bytes) = armour::open(good);
    bytes[0] = 250;
    vec![armour::close(&label, &bytes)]
}

/// Runs `args` (with `FILE` for the damaged file) on every damage of `good`.
#[track_caller]
fn assert_refused(node: &TestNode, desk: &Path, good: &[u8], args: &[&str]) {
    let (file, out) = (desk.join("damaged.pakt"), desk.join("never-written"));
    for (name, damage, word) in DAMAGES {
        for bytes in damage(good) {
            fs::write(&file, &bytes).unwrap();
            let (file, out) = (text(&file), text(&out));
            let args: Vec<&str> = args
                .iter()
                .map(|arg| match *arg {
                    "FILE" => file.as_str(),
                    "OUT" => out.as_str(),
                    other => other,
                })
                .collect();
            let refused = node.cli_json(&args);
            assert_eq!(refused.code, 6, "{name} was not refused as damaged\n{refused}");
            assert!(refused.complaint().to_lowercase().contains(word), "{name}: `{word}` is not said\n{refused}");
            assert!(!refused.stderr.contains("panicked"), "{refused}");
            assert!(!desk.join("never-written").exists(), "{name}: something was written");
        }
    }
    assert_eq!(node.cli(&["status"]).code == 0, node.is_running(), "the node has not survived");
}

#[test]
fn p4_damaged_cards_and_proposals_are_refused() {
    let _turn = turn::beside();
    let pair = Pair::strangers(Plan::default());
    pair.exchange_cards();
    let card = fs::read(pair.path("b.card")).unwrap();
    assert_refused(&pair.a, pair.desk.path(), &card, &["card", "show", "FILE"]);
    assert_refused(&pair.a, pair.desk.path(), &card, &["agreement", "propose", "--with", "FILE", "--out", "OUT"]);
    assert_eq!(pair.a.json(&["agreement", "list"]).as_array().map(Vec::len), Some(0));

    pair.propose();
    let proposal = fs::read(pair.path("proposal.pakt")).unwrap();
    assert_refused(&pair.b, pair.desk.path(), &proposal, &["agreement", "show", "FILE"]);
    assert_refused(&pair.b, pair.desk.path(), &proposal, &["agreement", "accept", "FILE", "--out", "OUT"]);
    assert_eq!(pair.b.json(&["agreement", "list"]).as_array().map(Vec::len), Some(0));
    // The good one still works.
    pair.b.cli(&["agreement", "accept", &pair.at("proposal.pakt")]).expect(0);
}

#[test]
fn p4_damaged_agreements_and_receipts_are_refused() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let agreement = fs::read(pair.path("agreement.pakt")).unwrap();
    for args in [&["agreement", "show", "FILE"], &["agreement", "import", "FILE"]] {
        assert_refused(&pair.a, pair.desk.path(), &agreement, args);
    }
    let study = pair.path("study");
    tree::make_strange(&study, 10, 10_000);
    let sent = id_of(&pair.send("x", &[&study]));
    pair.wait_delivered(&sent, secs(60));
    let receipt = pair.a.cli(&["receipt", "export", &sent]).expect(0).stdout;
    let (a, b) = (pair.at("a.card"), pair.at("b.card"));
    assert_refused(&pair.a, pair.desk.path(), &receipt, &["receipt", "verify", "FILE", "--card", &a, "--card", &b]);
    fs::write(pair.path("receipt.pakt"), &receipt).unwrap();
    let card = fs::read(&a).unwrap();
    let good = pair.at("receipt.pakt");
    assert_refused(&pair.a, pair.desk.path(), &card, &["receipt", "verify", &good, "--card", "FILE", "--card", &b]);
}

#[test]
fn one_kind_of_record_is_not_taken_for_another() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let (card, proposal, agreement) = (pair.at("a.card"), pair.at("proposal.pakt"), pair.at("agreement.pakt"));
    let rows: [&[&str]; 6] = [
        &["card", "show", &proposal],
        &["agreement", "show", &card],
        &["agreement", "accept", &agreement],
        &["agreement", "import", &proposal],
        &["agreement", "propose", "--with", &agreement],
        &["receipt", "verify", &agreement, "--card", &card, "--card", &card],
    ];
    for args in rows {
        let refused = pair.b.cli_json(args);
        assert!([2, 3, 6].contains(&refused.code), "{refused}");
        refused.complaint();
    }
}

#[test]
fn what_mail_and_shells_do_to_text_is_tolerated() {
    let _turn = turn::beside();
    let pair = Pair::strangers(Plan::default());
    pair.exchange_cards();
    let good = String::from_utf8(fs::read(pair.path("b.card")).unwrap()).unwrap();
    let utf16: Vec<u8> = std::iter::once(0xFEFF).chain(good.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let rows: [(&str, Vec<u8>); 5] = [
        ("CRLF", good.replace('\n', "\r\n").into_bytes()),
        ("UTF-8 mark", [&b"\xEF\xBB\xBF"[..], good.as_bytes()].concat()),
        ("PowerShell's UTF-16", utf16),
        ("blank lines around", format!("\n\n{good}\n\n").into_bytes()),
        ("blanks at line ends", good.replace('\n', "  \n").into_bytes()),
    ];
    for (what, bytes) in rows {
        let path = pair.path("mailed.card");
        fs::write(&path, bytes).unwrap();
        let shown = pair.a.cli_json(&["card", "show", &text(&path)]);
        assert_eq!(shown.code, 0, "{what}\n{shown}");
        assert!(shown.text().contains(pair.b.number()), "{what}\n{shown}");
    }
    let missing = pair.a.cli_json(&["card", "show", &pair.at("absent.card")]);
    assert!([1, 4].contains(&missing.code), "{missing}");
    assert!(missing.complaint().contains("absent.card"), "{missing}");
}
