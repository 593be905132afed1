//! Three tiers of receipts, as two operators see them: told, exported, printed, verified without a node.

use std::fs;

use pakt_tests::pair::{Pair, id_of, inbox, outbox, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::{binary, tools, turn};

#[test]
fn p28_three_tiers_are_told_and_proven_to_anybody() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let path = pair.path("kanari-file.txt");
    fs::write(&path, "kanari-text").unwrap();
    let (to, file) = (pair.to_b(), text(&path));
    let args = ["send", "--to", &to, "--subject", "kanari-subject", "--wait", "released", "--timeout", "60s", &file];
    let sent = pair.a.json(&args)["envelopes"][0].clone();
    let id = id_of(&sent);
    assert_eq!(sent["state"], "released", "{sent}");
    let item = inbox(&pair.b, "kanari-subject").pop().expect("it arrived");
    assert_eq!(item["state"], "released", "{item}");
    pair.a.cli(&["receipt", "export", &id, "--tier", "3"]).expect(4);

    // Taken while the sender is away: it is told when it is back.
    pair.a.terminate();
    let taken = pair.b.json(&["inbox", "take", &id_of(&item)]);
    assert_eq!((&taken["state"], &taken["subject"]), (&"taken".into(), &item["subject"]), "{taken}");
    pair.b.cli(&["inbox", "take", &id_of(&item)]).expect(0);
    pair.b.cli(&["inbox", "take", "00000000000000000000000000000000"]).expect(4);
    pair.a.start();
    let taken = |state: &serde_json::Value| state["state"] == "taken";
    let shown = until(secs(30), "the sender is told", || outbox(&pair.a, &id).filter(taken));
    let tiers: Vec<_> = shown["receipts"].as_array().into_iter().flatten().map(|held| held["tier"].clone()).collect();
    assert_eq!(tiers, [1, 2, 3], "{shown}");

    let cards = ["--card".to_owned(), pair.at("a.card"), "--card".to_owned(), pair.at("b.card")];
    for (tier, verdict) in [(1, "delivered"), (2, "released"), (3, "taken")] {
        let (out, tier) = (pair.at(&format!("tier-{tier}.receipt")), tier.to_string());
        pair.a.cli(&["receipt", "export", &id, "--tier", &tier, "--out", &out]).expect(0);
        let args = [vec!["receipt".to_owned(), "verify".to_owned(), out.clone()], cards.to_vec()].concat();
        let told = pair.b.json(&args);
        assert_eq!((&told["valid"], told["verdict"].as_str()), (&true.into(), Some(verdict)), "{told}");
        read_by_another(&[vec!["receipt".to_owned(), out], cards.to_vec()].concat(), verdict);
    }

    let page = pair.path("receipts.html");
    pair.a.cli(&["receipt", "export", &id, "--page", &text(&page)]).expect(0);
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("BEGIN PAKT RECEIPT").count(), 3, "{page}");
    assert!(page.contains(&id) && page.contains("taken (tier 3)"), "{page}");
    for forbidden in ["kanari", "<script", "href=", "src=", "url(", "http://", "https://"] {
        assert!(!page.contains(forbidden), "{forbidden} on the page");
    }
}

/// The reader that was written from the specification alone says the same.
fn read_by_another(args: &[String], verdict: &str) {
    let Some(python) = tools::python() else {
        return tools::skip("the second reader", tools::NO_PYTHON);
    };
    let script = binary::workspace().join("tests/reader/pakt_reader.py");
    let output = pakt_tests::output::Output::of(std::process::Command::new(python).arg("-B").arg(script).args(args));
    assert_eq!(output.expect(0).json()["verdict"], verdict);
}
