//! A steward's directory: for participants, and with those only who want to be in it.

use pakt_tests::network::{Network, NetworkPlan, agreement_in, strings};
use pakt_tests::wait::{secs, until};
use pakt_tests::{scan, turn};

const TOWN: &str = "Kanariby-7731";

#[test]
fn participants_see_who_wants_to_be_seen_and_nobody_else_is_shown() {
    let _turn = turn::alone();
    let network = Network::new(NetworkPlan::of(3));
    let steward = network.steward.number();
    assert!(network.names(2).is_empty(), "nobody has asked to be listed");
    network.list(0, TOWN, "MR,CT");
    network.list(1, "", "XA");
    for member in 0..3 {
        assert_eq!(network.names(member), ["Klinikk 1", "Klinikk 2"], "the third is not listed");
    }

    let asker = &network.members[2];
    let listed = asker.json(&["directory", "list", "--with", steward, "--search", "ct"]);
    assert_eq!(strings(&listed, "name"), ["Klinikk 1"]);
    assert_eq!((&listed[0]["town"], &listed[0]["own"]), (&TOWN.into(), &false.into()));
    let card = network.at("listed.card");
    std::fs::write(&card, listed[0]["card"].as_str().expect("a card")).unwrap();
    let shown = asker.json(&["card", "show", &card]);
    assert_eq!(shown["fingerprint"], listed[0]["fingerprint"]);
    let found = network.members[0].json(&["directory", "list"]);
    assert_eq!(strings(&found, "name").len(), 2, "one who is listed need not name the steward");
    assert_eq!(asker.cli(&["directory", "list"]).code, 2, "one who is not must");

    // Whoever keeps no directory says so alike, whatever it knows.
    assert_eq!(network.steward.cli(&["directory", "list", "--with", "Klinikk 1"]).code, 3);
    assert_eq!(network.steward.cli(&["directory", "publish", "--with", "Klinikk 1"]).code, 3);

    let logs = [network.steward.log_path(), asker.log_path()];
    let roots = [network.steward.dir(), asker.dir(), &logs[0], &logs[1]];
    assert!(scan::hits(&roots, &[TOWN.to_owned()]).is_empty(), "a listing lies open on a disk or in a log");

    network.members[0].cli(&["directory", "publish", "--with", steward, "--withdraw"]).expect(0);
    assert_eq!(network.names(2), ["Klinikk 2"], "what was taken back is gone");
    let agreement = agreement_in(&network.members[1], "active").expect("the steward's");
    network.members[1].cli(&["agreement", "end", agreement["id"].as_str().unwrap(), "--yes"]).expect(0);
    until(secs(20), "the listing goes with the agreement", || network.names(2).is_empty().then_some(()));
    assert_eq!(network.members[1].cli(&["directory", "list", "--with", steward]).code, 3);
}

#[test]
fn a_listing_outlives_restarts_of_both_sides() {
    let _turn = turn::beside();
    let mut network = Network::new(NetworkPlan::of(2));
    network.list(0, "Fjordbyen", "MR");
    network.steward.kill();
    network.members[0].kill();
    network.steward.start();
    until(secs(60), "the listing is there again", || {
        let out = network.members[1].cli_json(&["directory", "list", "--with", network.steward.number()]);
        (out.code == 0 && strings(&out.json(), "name") == ["Klinikk 1"]).then_some(())
    });
}
