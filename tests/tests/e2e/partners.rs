//! Two nodes that both moved while neither could hear of the other: a partner of both helps them to find each other.

use pakt_tests::mesh::{agree, free_port, peer, set_config, wait_sees};
use pakt_tests::node::{Setup, TestNode};
use pakt_tests::pair::{inbox, text};
use pakt_tests::turn;
use pakt_tests::wait::{secs, until};

#[test]
fn both_moved_and_find_each_other_through_a_common_partner() {
    let _turn = turn::beside();
    let desk = tempfile::tempdir().unwrap();
    let node = |name: &str, number: &str| {
        let mut setup = Setup::new(name, number);
        setup.listen = format!("127.0.0.1:{}", free_port());
        TestNode::init(setup)
    };
    let mut a = node("Fjordbyen sykehus", "NO:ORGNR:999000101");
    let mut b = node("Kliniek De Vaart", "NL:KVK:99000102");
    let mut p = node("Partner of both", "NO:ORGNR:999000103");
    for node in [&mut a, &mut b, &mut p] {
        node.start();
    }
    agree(&a, &b, desk.path(), "");
    agree(&a, &p, desk.path(), "");
    agree(&b, &p, desk.path(), "");
    wait_sees(&a, &b, 20);

    // A message waits; then both are down and come back elsewhere.
    b.terminate();
    let file = desk.path().join("letter.txt");
    std::fs::write(&file, "found").unwrap();
    let to = format!("{}/Reception", b.number());
    a.cli(&["send", "--to", &to, "--subject", "waits", &text(&file)]).expect(0);
    a.terminate();
    for node in [&a, &b] {
        set_config(node, "listen", &format!("\"127.0.0.1:{}\"", free_port()));
    }
    a.start();
    b.start();
    wait_sees(&a, &p, 20);
    wait_sees(&b, &p, 20);
    assert_eq!(peer(&a, b.number())["online"], false, "they do not know where the other is");
    wait_sees(&a, &b, 150);
    until(secs(30), "what waited arrives", || (inbox(&b, "waits").len() == 1).then_some(()));
    for other in [&a, &b] {
        let log = p.log();
        assert!(!log.contains(other.name()) && !log.contains(other.number()), "{log}");
    }
}
