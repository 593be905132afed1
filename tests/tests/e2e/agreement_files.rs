//! Agreements as operators make and end them: files that can be mailed, fingerprints compared over the telephone.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use pakt_tests::pair::{Pair, Plan, active_agreement};
use pakt_tests::turn;
use pakt_tests::wait::{secs, until, within};

#[test]
fn accepting_dials_the_proposer_and_no_file_goes_back() {
    let _turn = turn::beside();
    let mut pair = Pair::strangers(Plan::default());
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.json(&["agreement", "list"]).as_array().map(Vec::len), Some(0));
        assert_eq!(node.json(&["peers"]).as_array().map(Vec::len), Some(0));
    }
    pair.exchange_cards();
    pair.propose();
    let proposal = pair.at("proposal.pakt");
    let shown = pair.b.cli_json(&["agreement", "show", &proposal]).expect(0).text();
    for part in [pair.a.name(), pair.a.number(), pair.b.name(), pair.b.number()] {
        assert!(shown.contains(part), "{part} is not shown: {shown}");
    }
    assert!(active_agreement(&pair.a).is_none(), "a proposal is no agreement");

    pair.b.cli(&["agreement", "accept", &proposal]).expect(0);
    pair.agreement = until(secs(10), "the proposer learns of it by itself", || active_agreement(&pair.a));
    assert_eq!(active_agreement(&pair.b), Some(pair.agreement.clone()));
    pair.wait_online();

    let again = pair.b.cli(&["agreement", "accept", &proposal]);
    assert_eq!(active_agreement(&pair.b), Some(pair.agreement.clone()), "accepted twice: {again}");
    let [a, b] = [&pair.a, &pair.b].map(|node| node.cli(&["agreement", "export", &pair.agreement]).expect(0).stdout);
    assert_eq!(a, b, "both hold the same record");
}

#[test]
fn an_agreement_comes_by_mail_where_nobody_can_dial() {
    let _turn = turn::beside();
    let closed = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let mut plan = Plan::default();
    plan.a.advertise = vec![closed()];
    plan.b.advertise = vec![closed()];
    let pair = Pair::strangers(plan);
    pair.exchange_cards();
    pair.propose();
    let (proposal, out) = (pair.at("proposal.pakt"), pair.at("agreement.pakt"));
    let accepted = pair.b.cli(&["agreement", "accept", &proposal, "--out", &out]).expect(0);
    assert!(accepted.stdout.is_empty(), "{accepted}");
    assert!(accepted.stderr.to_lowercase().contains("mail"), "it says what to do with the file\n{accepted}");
    assert!(active_agreement(&pair.b).is_some());
    assert!(active_agreement(&pair.a).is_none());

    pair.a.cli(&["agreement", "import", &out]).expect(0);
    assert_eq!(active_agreement(&pair.a), active_agreement(&pair.b));
    pair.a.cli(&["agreement", "import", &out]).expect(0);
    assert_eq!(pair.a.json(&["agreement", "list"]).as_array().map(Vec::len), Some(1));

    let peer = &pair.a.json(&["peers"])[0];
    assert_eq!(peer["online"], false);
    until(secs(15), "peers says why nobody is reached", || {
        let peers = pair.a.json(&["peers"]);
        peers[0]["reason"].as_str().filter(|reason| !reason.is_empty()).map(str::to_owned)
    });
}

#[test]
fn a_fingerprint_is_compared_before_anyone_signs() {
    let _turn = turn::beside();
    let mut pair = Pair::strangers(Plan::default());
    pair.exchange_cards();
    let words = |card: &str| {
        let shown = pair.b.json(&["card", "show", &pair.at(card)]);
        let words = shown["fingerprint"].as_str().expect("a fingerprint").to_owned();
        assert_eq!(words.split_whitespace().count(), 10, "{words}");
        words
    };
    let (of_a, of_b) = (words("a.card"), words("b.card"));
    assert_ne!(of_a, of_b);
    let (card, out) = (pair.at("b.card"), pair.at("proposal.pakt"));
    let propose =
        |words: &str| pair.a.cli(&["agreement", "propose", "--with", &card, "--fingerprint", words, "--out", &out]);
    let refused = propose(&of_a);
    assert_ne!(refused.code, 0, "a foreign fingerprint was accepted\n{refused}");
    assert!(!pair.path("proposal.pakt").exists(), "nothing is written");
    propose(&of_b.to_uppercase()).expect(0);

    let refused = pair.b.cli(&["agreement", "accept", &out, "--fingerprint", &of_b]);
    assert_ne!(refused.code, 0, "a foreign fingerprint was accepted\n{refused}");
    assert!(active_agreement(&pair.b).is_none());
    pair.b.cli(&["agreement", "accept", &out, "--fingerprint", &of_a]).expect(0);
    pair.agreement = until(secs(10), "the proposer learns", || active_agreement(&pair.a));
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.json(&["agreement", "list"])[0]["verified"], true);
    }
}

#[test]
fn p6_an_ended_agreement_stays_ended_after_restarts() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let export = pair.at("export.pakt");
    pair.a.cli(&["agreement", "export", &pair.agreement, "--out", &export]).expect(0);
    pair.a.cli(&["agreement", "end", &pair.agreement]).expect(0);
    until(secs(20), "the counterpart learns", || active_agreement(&pair.b).is_none().then_some(()));
    pair.a.terminate();
    pair.b.kill();
    pair.a.start();
    pair.b.start();
    // P5: the signed record of an ended agreement does not bring it back.
    for (node, proposal) in [(&pair.a, &export), (&pair.b, &export), (&pair.b, &pair.at("proposal.pakt"))] {
        let _ = node.cli(&["agreement", "import", proposal]);
        let _ = node.cli(&["agreement", "accept", proposal]);
        assert_eq!(active_agreement(node), None);
    }
    let seen =
        within(secs(6), || (pakt_tests::pair::online(&pair.a) || pakt_tests::pair::online(&pair.b)).then_some(()));
    assert!(seen.is_none(), "a counterpart of an ended agreement is online");
}

#[test]
fn terms_are_agreed_as_written_and_errors_name_the_key() {
    let _turn = turn::beside();
    let pair = Pair::strangers(Plan {
        terms: Some(
            "purposes = [\"treatment\"]\nlegal_basis = \"Pasientjournalloven § 19\"\nmax_message = \"2GB\"\n".into(),
        ),
        ..Plan::default()
    });
    let template = pair.a.cli(&["agreement", "terms"]).expect(0).text();
    for key in [
        "purposes",
        "legal_basis",
        "valid_from",
        "valid_until",
        "accept_by",
        "max_message",
        "hold",
        "retention",
        "rate",
        "controls",
        "urgent_contact",
        "relay",
    ] {
        assert!(template.contains(key), "{key} is not in the template");
    }
    pair.exchange_cards();
    pair.propose();
    let shown = pair.b.cli(&["agreement", "show", &pair.at("proposal.pakt")]).expect(0).text();
    assert!(shown.contains("treatment") && shown.contains("Pasientjournalloven § 19"), "{shown}");

    let rows = [
        ("hold = \"72h\"", "hold"),
        ("hold = \"soon\"", "hold"),
        ("max_message = -1", "max_message"),
        ("valid_until = \"2001-01-01\"", "valid_until"),
        ("surprise = 1", "surprise"),
        ("purposes = \"x", ""),
    ];
    for (terms, key) in rows {
        fs::write(pair.path("bad.toml"), terms).unwrap();
        let (card, bad) = (pair.at("b.card"), pair.at("bad.toml"));
        let refused = pair.a.cli_json(&["agreement", "propose", "--with", &card, "--terms", &bad]);
        assert!([1, 2, 6].contains(&refused.code), "{terms}: {refused}");
        assert!(refused.complaint().contains(key), "{terms}: the key is not named\n{refused}");
    }
}

#[test]
fn a_node_that_comes_back_is_connected_within_ten_seconds() {
    let _turn = turn::alone();
    let mut pair = Pair::new();
    for kill in [true, false] {
        if kill {
            pair.b.kill();
        } else {
            let (status, took) = pair.b.terminate();
            assert!(status.success() && took < secs(10), "SIGTERM: {status} after {took:?}");
        }
        until(secs(60), "the absence is seen", || (!pakt_tests::pair::online(&pair.a)).then_some(()));
        std::thread::sleep(Duration::from_secs(3));
        pair.b.start();
        let back = Instant::now();
        until(secs(10), "it is connected again", || pakt_tests::pair::online(&pair.a).then_some(()));
        pakt_tests::tools::tell(&format!("connected again after {:?}", back.elapsed()));
    }
}
