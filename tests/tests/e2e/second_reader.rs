//! A second reader, in Python and from the specification alone, agrees with the node about every record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pakt_tests::output::Output;
use pakt_tests::pair::{Pair, id_of, text};
use pakt_tests::wait::secs;
use pakt_tests::{binary, tools, tree, turn};
use serde_json::Value;

struct Reader {
    python: PathBuf,
}

impl Reader {
    fn find(test: &str) -> Option<Reader> {
        let python = tools::python();
        if python.is_none() {
            tools::skip(test, tools::NO_PYTHON);
        }
        python.map(|python| Reader { python })
    }

    fn read(&self, args: &[&str]) -> Output {
        let script = binary::workspace().join("tests/reader/pakt_reader.py");
        Output::of(Command::new(&self.python).arg("-B").arg(script).args(args))
    }
}

#[test]
fn it_verifies_card_agreement_receipt_and_comparison() {
    let Some(reader) = Reader::find("it_verifies_card_agreement_receipt_and_comparison") else { return };
    let _turn = turn::beside();
    let pair = Pair::new();
    let (a, b, agreement) = (pair.at("a.card"), pair.at("b.card"), pair.at("agreement.pakt"));
    let status = pair.a.json(&["status"]);
    let card = reader.read(&["card", &a]).expect(0).json();
    for key in ["entity", "name", "number"] {
        assert_eq!(card[key], status[key], "{key}");
    }
    let shown = pair.b.json(&["card", "show", &a]);
    assert_eq!(card["fingerprint"], shown["fingerprint"]);

    let read = reader.read(&["agreement", &agreement, "--card", &a, "--card", &b]).expect(0).json();
    let listed = &pair.a.json(&["agreement", "list"])[0];
    assert_eq!((&read["id"], &read["version"]), (&listed["id"], &listed["version"]));

    let study = pair.path("study");
    tree::make_strange(&study, 20, 100_000);
    let sent = id_of(&pair.send("Second reader", &[&study]));
    pair.wait_delivered(&sent, secs(60));
    let receipt = pair.at("receipt.pakt");
    pair.a.cli(&["receipt", "export", &sent, "--out", &receipt]).expect(0);
    let read = reader.read(&["receipt", &receipt, "--card", &a, "--card", &b]).expect(0).json();
    let told = pair.a.json(&["receipt", "verify", &receipt, "--card", &a, "--card", &b]);
    for key in ["envelope", "tier"] {
        assert_eq!(plain(&read[key]), plain(&told[key]), "{key}");
    }

    let number_b = pair.b.number().to_owned();
    let compared = pair.at("compared.pakt");
    pair.a.cli(&["reconcile", "--with", &number_b]).expect(0);
    pair.a.cli(&["reconcile", "export", &number_b, "--out", &compared]).expect(0);
    let read = reader.read(&["reconciliation", &compared, "--card", &b, "--card", &a]).expect(0).json();
    let told = pair.a.json(&["reconcile", "verify", &compared, "--card", &a, "--card", &b]);
    let (read, told) = (read["comparisons"].as_array().unwrap(), told["comparisons"].as_array().unwrap());
    assert!(!told.is_empty() && told.len() == read.len(), "{read:?}");
    for (read, told) in read.iter().zip(told) {
        assert_eq!(read["from"]["entity"], told["from"]["entity"]);
        for key in ["delivered", "held", "explained"] {
            assert_eq!(plain(&read[key]), plain(&told[key]), "{key}");
        }
        for key in ["lost", "unknown"] {
            assert_eq!(read[key].as_array().map(Vec::len), told[key].as_array().map(Vec::len), "{key}: {read} {told}");
        }
    }
    assert!(read.iter().any(|one| one["held"] == 1), "{read:?}");

    assert_changes_refused(&reader, Path::new(&a), &["card"], &[]);
    let cards = ["--card", &a, "--card", &b];
    assert_changes_refused(&reader, Path::new(&agreement), &["agreement"], &cards);
    assert_changes_refused(&reader, Path::new(&receipt), &["receipt"], &cards);
    assert_changes_refused(&reader, Path::new(&compared), &["reconciliation"], &cards);
    // The right record with the wrong cards.
    assert_ne!(reader.read(&["receipt", &receipt, "--card", &a, "--card", &a]).code, 0);
    assert_ne!(reader.read(&["agreement", &agreement, "--card", &b, "--card", &b]).code, 0);
    assert_ne!(reader.read(&["reconciliation", &compared, "--card", &b, "--card", &b]).code, 0);
}

#[test]
fn it_reads_every_receipt_of_the_vectors() {
    let Some(reader) = Reader::find("it_reads_every_receipt_of_the_vectors") else { return };
    let vectors = binary::workspace().join("protocol/vectors");
    let folder = tempfile::tempdir().unwrap();
    // The records without the headers of their vectors.
    let record = |name: &str| {
        let vector = fs::read_to_string(vectors.join(name)).unwrap();
        let (header, record) = vector.split_once("\n\n").expect("a header and a record");
        let path = folder.path().join(name);
        fs::write(&path, record).unwrap();
        (header.contains("expect: ok"), text(&path))
    };
    let ((_, a), (_, b)) = (record("card_a.txt"), record("card_b.txt"));
    let verdicts =
        ["released", "taken", "unopenable", "purpose_not_agreed", "conflict", "quarantined", "recalled", "returned"];
    for verdict in verdicts.into_iter().chain(["not_held"]) {
        let (good, path) = record(&format!("receipt_{verdict}.txt"));
        assert!(good, "{verdict}");
        let read = reader.read(&["receipt", &path, "--card", &a, "--card", &b]).expect(0).json();
        assert_eq!(read["verdict"].as_str(), Some(&*verdict.replace('_', "-")), "{read}");
    }
}

/// Numbers and their text are the same here.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Bytes changed inside a sound armour: the reader refuses each.
#[track_caller]
fn assert_changes_refused(reader: &Reader, good: &Path, before: &[&str], after: &[&str]) {
    let (label, bytes) = pakt_tests::armour::open(&fs::read(good).unwrap());
    let changed = good.with_extension("changed");
    for at in (0..bytes.len()).step_by(bytes.len() / 16 + 1) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        fs::write(&changed, pakt_tests::armour::close(&label, &bytes)).unwrap();
        let path = text(&changed);
        let refused = reader.read(&[before, &[&path], after].concat());
        assert_eq!(refused.code, 6, "byte {at} changed\n{refused}");
    }
}
