//! What is refused, and that it is refused up front, with a reason, and without telling what is hidden.

use std::fs;

use pakt_tests::output::Output;
use pakt_tests::pair::{Pair, Plan, id_of, inbox, outbox, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::Side;
use pakt_tests::{tree, turn};

fn send(pair: &Pair, to: &str, path: &str) -> Output {
    pair.a.cli_json(&["send", "--to", to, "--subject", "Refused?", path])
}

#[track_caller]
fn assert_nothing_queued(pair: &Pair) {
    assert_eq!(pair.a.json(&["outbox", "list"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn p3_unknown_and_hidden_groups_are_the_same_answer() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    pair.b.cli(&["group", "add", "Fertilitet-7731"]).expect(0);
    pair.b.cli(&["group", "hide", "Fertilitet-7731", "--to", "all"]).expect(0);
    std::thread::sleep(secs(2));
    let answer = |group: &str| {
        let refused = send(&pair, &format!("{}/{group}", pair.b.number()), &text(&path)).expect(4);
        refused.complaint().replace(group, "GROUP")
    };
    assert_eq!(answer("Fertilitet-7731"), answer("Fertilitet-9999"));
    assert_nothing_queued(&pair);
    assert!(!pair.a.json(&["peers"]).to_string().contains("Fertilitet"));

    pair.b.cli(&["group", "show", "Fertilitet-7731", "--to", pair.a.number()]).expect(0);
    until(secs(15), "a group that is shown can be written to", || {
        (send(&pair, &format!("{}/Fertilitet-7731", pair.b.number()), &text(&path)).code == 0).then_some(())
    });
}

#[test]
fn without_an_agreement_nothing_leaves() {
    let _turn = turn::beside();
    let pair = Pair::strangers(Plan { wired: true, ..Plan::default() });
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    let refused = send(&pair, &pair.to_b(), &text(&path));
    assert!([3, 4].contains(&refused.code), "{refused}");
    refused.complaint();
    pair.exchange_cards();
    pair.propose();
    let refused = send(&pair, &pair.to_b(), &text(&path));
    assert!([3, 4].contains(&refused.code), "a proposal is no agreement\n{refused}");
    assert_nothing_queued(&pair);
    assert_eq!(pair.wire().both(), 0, "bytes were exchanged without an agreement");
}

#[test]
fn too_large_is_refused_before_the_first_content_byte() {
    let _turn = turn::beside();
    let pair = Pair::of(Plan { wired: true, terms: Some("max_message = \"1MB\"\n".into()), ..Plan::default() });
    let (large, fits) = (pair.path("large.bin"), pair.path("fits.bin"));
    tree::write_noise(&large, 3_000_000, 71);
    tree::write_noise(&fits, 900_000, 72);
    let before = pair.wire().into_side(Side::B);
    let refused = send(&pair, &pair.to_b(), &text(&large)).expect(3);
    assert!(refused.complaint().to_lowercase().contains("mb"), "the limit is not named\n{refused}");
    assert!(pair.wire().into_side(Side::B) - before < 100_000, "content was sent");
    assert_nothing_queued(&pair);
    // Many references to one content count each at their full length.
    let folder = pair.path("copies");
    fs::create_dir(&folder).unwrap();
    for at in 0..4 {
        fs::copy(&fits, folder.join(at.to_string())).unwrap();
    }
    send(&pair, &pair.to_b(), &text(&folder)).expect(3);
    let sent = pair.send("Fits", &[&fits]);
    pair.wait_delivered(&id_of(&sent), secs(60));
}

#[test]
fn a_refusal_while_offline_reaches_the_sending_group() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    pair.b.cli(&["group", "add", "Midlertidig"]).expect(0);
    pair.b.cli(&["group", "show", "Midlertidig", "--to", "all"]).expect(0);
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    let to = format!("{}/Midlertidig", pair.b.number());
    until(secs(15), "the new group is known", || {
        pair.a.json(&["peers"]).to_string().contains("Midlertidig").then_some(())
    });
    // The roster changes while the sender cannot see it.
    pair.a.terminate();
    pair.b.cli(&["group", "hide", "Midlertidig", "--to", "all"]).expect(0);
    pair.b.terminate();
    pair.a.start();
    let sent = pair.a.json(&["send", "--to", &to, "--subject", "Hidden meanwhile", &text(&path)]);
    pair.b.start();
    let envelope = id_of(&sent["envelopes"][0]);
    let shown = until(secs(30), "the refusal is known", || {
        outbox(&pair.a, &envelope).filter(|shown| shown["state"] == "refused")
    });
    assert!(shown["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{shown}");
    assert!(inbox(&pair.b, "Hidden meanwhile").is_empty());
    let reports = until(secs(10), "the sending group gets a report", || {
        let list = pair.a.json(&["inbox", "list"]);
        let reports: Vec<_> = list.as_array()?.iter().filter(|item| item["kind"] == "report").cloned().collect();
        (!reports.is_empty()).then_some(reports)
    });
    assert_eq!(reports.len(), 1, "{reports:?}");
}
