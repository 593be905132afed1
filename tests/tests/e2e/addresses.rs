//! Where nodes are dialled: several addresses, IPv6, names, and addresses that change.

use pakt_tests::mesh::{free_port, peer, set_config, wait_sees};
use pakt_tests::node::Setup;
use pakt_tests::pair::{Pair, Plan};
use pakt_tests::turn;
use pakt_tests::wait::{secs, until};

/// Where nobody answers.
const DEAD: &str = "127.0.0.1:1";

/// A pair in which only A can dial: B listens at `listen` and is told by `advertise`, A tells a dead address.
fn only_a_dials(listen: &str, advertise: &[&str]) -> Pair {
    let mut plan = Plan::default();
    plan.a.advertise = vec![DEAD.into()];
    plan.b = Setup { listen: listen.into(), advertise: advertise.iter().map(|a| (*a).into()).collect(), ..plan.b };
    let pair = Pair::strangers(plan);
    pakt_tests::mesh::agree(&pair.b, &pair.a, pair.desk.path(), "");
    wait_sees(&pair.a, &pair.b, 20);
    let lanes = peer(&pair.a, pair.b.number())["lanes"].clone();
    assert_eq!(lanes[0]["dialled"], true, "{lanes}");
    pair
}

#[test]
fn ipv6_a_name_and_a_dead_first_address_are_dialled() {
    let _turn = turn::beside();
    let port = free_port();
    let (v6, name) = (format!("[::1]:{port}"), format!("localhost:{port}"));
    let pair = only_a_dials(&v6, &[&v6]);
    assert_eq!(peer(&pair.a, pair.b.number())["lanes"][0]["remote"], v6);
    drop(pair);
    let port4 = free_port();
    let pair = only_a_dials(&format!("127.0.0.1:{port4}"), &[DEAD, "[::1]:1", &format!("localhost:{port4}")]);
    drop(pair);
    // A name that has an address at all is dialled at each of them.
    drop(only_a_dials(&v6, &[DEAD, &name, &v6]));
}

#[test]
fn an_address_that_is_not_dialled_is_named_by_doctor() {
    let _turn = turn::beside();
    let mut plan = Plan::default();
    plan.b.advertise = vec!["192.168.7.7:4100".into(), "169.254.1.1:80".into()];
    let mut pair = Pair::strangers(plan);
    pair.agree();
    pair.wait_online();
    let found = pair.a.cli_json(&["doctor"]).json().to_string();
    for address in ["192.168.7.7:4100", "169.254.1.1:80"] {
        assert!(found.contains(address), "{found}");
        assert!(peer(&pair.a, pair.b.number())["addresses_ignored"].to_string().contains(address));
    }
    assert!(found.contains("allow_range"), "{found}");
}

#[test]
fn a_node_that_only_the_other_can_dial_is_connected_within_ten_seconds() {
    let _turn = turn::beside();
    let mut pair = only_a_dials("127.0.0.1:0", &[]);
    pair.b.kill();
    std::thread::sleep(secs(45));
    pair.b.start();
    wait_sees(&pair.a, &pair.b, 11);
}

#[test]
fn new_addresses_reach_everybody_and_stay() {
    let _turn = turn::beside();
    let old = free_port();
    let mut pair = only_a_dials(&format!("127.0.0.1:{old}"), &[]);
    let new = free_port();
    let address = format!("127.0.0.1:{new}");
    let told = pair.b.json(&["address", "set", &address]);
    assert_eq!(told["addresses"][0], address.as_str());
    until(secs(10), "A knows the new address", || {
        (peer(&pair.a, pair.b.number())["addresses"][0] == address.as_str()).then_some(())
    });
    assert!(peer(&pair.a, pair.b.number())["addresses_told_at"].is_string());
    assert!(pair.b.cli(&["card"]).expect(0).text().contains("PAKT CARD"));
    let card = pair.path("new.card");
    pair.b.cli(&["card", "--out", card.to_str().unwrap()]).expect(0);
    assert!(pair.a.cli(&["card", "show", card.to_str().unwrap()]).expect(0).text().contains(&address));

    // B moves; only A can dial, and has to know where.
    pair.b.terminate();
    set_config(&pair.b, "listen", &format!("\"{address}\""));
    pair.b.start();
    assert_eq!(pair.b.json(&["address", "list"])["addresses"][0], address.as_str(), "kept over the restart");
    wait_sees(&pair.a, &pair.b, 30);

    // A is away while B names another one beside; it is told at the next session.
    pair.a.terminate();
    pair.b.cli(&["address", "set", &address, "node.example:4100"]).expect(0);
    pair.a.start();
    until(secs(20), "A knows both addresses", || {
        (peer(&pair.a, pair.b.number())["addresses"].as_array()?.len() == 2).then_some(())
    });
    for bad in ["nonsense", "1.2.3.4:0", "[::1:4100"] {
        pair.b.cli(&["address", "set", bad]).expect(2);
    }
    let nine: Vec<String> = (1..=9).map(|n| format!("10.0.0.{n}:1")).collect();
    let mut args = vec!["address", "set"];
    args.extend(nine.iter().map(String::as_str));
    pair.b.cli(&args).expect(2);
}
