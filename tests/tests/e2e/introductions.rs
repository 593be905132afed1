//! Two entities come to an agreement through one that has an agreement with both, and cannot read it.

use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use pakt_tests::network::{Network, NetworkPlan, agreement_in, strings};
use pakt_tests::node::TestNode;
use pakt_tests::pair::{DELIVERED, id_of, inbox, outbox, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::{scan, tools, turn};
use serde_json::Value;

const CANARY: &str = "Kanariklausul-5519";

/// Terms with a clause that no introducer may ever hold.
fn terms(network: &Network) -> String {
    let path = network.path("terms.toml");
    fs::write(&path, format!("legal_basis = \"{CANARY}\"\npurposes = [\"second opinion\"]\n")).unwrap();
    text(&path)
}

fn entity(node: &TestNode) -> String {
    node.json(&["status"])["entity"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn received(node: &TestNode) -> Value {
    until(secs(60), "a proposal is received", || agreement_in(node, "received"))
}

#[track_caller]
fn active_with(node: &TestNode, number: &str) {
    until(secs(60), "an active agreement", || {
        let list = node.json(&["agreement", "list"]);
        list.as_array()?.iter().any(|one| one["number"] == number && one["state"] == "active").then_some(())
    });
}

#[test]
fn from_an_introduction_to_the_first_message() {
    let _turn = turn::alone();
    let network = Network::new(NetworkPlan::of(2));
    let [a, b] = [&network.members[0], &network.members[1]];
    let (steward, terms) = (network.steward.number(), terms(&network));
    network.list(1, "Fjordbyen", "MR");
    let done = a.json(&["introduce", "--to", b.number(), "--via", steward, "--terms", &terms]);
    assert_eq!(strings(&done, "outcome"), ["proposed"]);

    let proposal = received(b);
    let id = id_of(&proposal);
    assert_eq!((&proposal["number"], &proposal["verified"]), (&a.number().into(), &false.into()));
    assert!(b.cli(&["agreement", "show", &id]).expect(0).text().contains(CANARY), "the operator reads the clause");
    assert_eq!(b.json(&["peers"]).as_array().map(Vec::len), Some(1), "nobody is dialled before it is accepted");
    let words = proposal["fingerprint"].as_str().expect("words");
    let wrong = b.json(&["card", "show", &text(&b.dir().join("card.pakt"))]);
    if let Some(wrong) = wrong["fingerprint"].as_str() {
        assert_ne!(b.cli(&["agreement", "accept", &id, "--fingerprint", wrong]).code, 0);
    }
    b.cli(&["agreement", "accept", &id, "--fingerprint", words]).expect(0);
    active_with(a, b.number());
    active_with(b, a.number());
    assert!(agreement_in(b, "received").is_none());

    let file = network.path("first.txt");
    fs::write(&file, "the first message").unwrap();
    let to = format!("{}/Reception", b.number());
    let sent = until(secs(60), "the groups of the other are known", || {
        let out = a.cli_json(&["send", "--to", &to, "--subject", "Hei", "--purpose", "second opinion", &text(&file)]);
        (out.code == 0).then(|| out.json())
    });
    let envelope = id_of(&sent["envelopes"][0]);
    until(secs(60), "the first message is delivered", || {
        let state = outbox(a, &envelope)?["state"].as_str()?.to_owned();
        DELIVERED.contains(&&*state).then_some(())
    });
    assert_eq!(inbox(b, "Hei").len(), 1);

    let log = network.steward.log_path();
    let hits = scan::hits(&[network.steward.dir(), &log], &[CANARY.to_owned()]);
    assert!(hits.is_empty(), "the introducer holds a clause: {hits:?}");
    assert_eq!(a.cli(&["directory", "list", "--with", b.number()]).code, 3, "a partner is no steward");
}

#[test]
fn what_waits_for_somebody_offline_is_kept_and_a_no_is_told() {
    let _turn = turn::beside();
    let mut network = Network::new(NetworkPlan::of(2));
    let terms = terms(&network);
    network.list(1, "", "MR");
    let (number, steward) = (network.members[1].number().to_owned(), network.steward.number().to_owned());
    network.members[1].kill();
    let args = ["introduce", "--to", &number, "--via", &steward, "--terms", &terms];
    network.members[0].cli(&args).expect(0);
    // Sent again while it is open: no second proposal comes of it.
    assert_eq!(strings(&network.members[0].json(&args), "outcome"), ["sent_again"]);
    std::thread::sleep(secs(2));
    network.steward.kill();
    network.steward.start();
    network.members[1].start();
    let id = id_of(&received(&network.members[1]));
    let list = network.members[1].json(&["introduce", "list"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    network.members[1].cli(&["introduce", "decline", &id]).expect(0);
    assert_ne!(network.members[1].cli(&["agreement", "accept", &id]).code, 0, "decided is decided");
    let declined = until(secs(60), "the proposer is told", || agreement_in(&network.members[0], "declined"));
    assert_eq!(id_of(&declined), id);
    let hits = scan::hits(&[network.steward.dir(), &network.steward.log_path()], &[CANARY.to_owned()]);
    assert!(hits.is_empty(), "the introducer holds a clause: {hits:?}");
}

#[test]
fn where_nobody_can_dial_the_agreement_goes_back_through_the_introducer() {
    let _turn = turn::beside();
    let mut plan = NetworkPlan::of(2);
    for member in &mut plan.members {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        member.advertise = vec![closed.to_string()];
    }
    let network = Network::new(plan);
    let [a, b] = [&network.members[0], &network.members[1]];
    network.list(1, "", "MR");
    a.cli(&["introduce", "--to", b.number(), "--via", network.steward.number()]).expect(0);
    let id = id_of(&received(b));
    let accepted = b.cli(&["agreement", "accept", &id]).expect(0);
    assert!(accepted.stderr.contains("introducer"), "{accepted}");
    active_with(a, b.number());
}

#[test]
fn a_card_is_given_when_the_operator_says_so_and_only_a_steward_introduces_unasked() {
    let _turn = turn::beside();
    let network = Network::new(NetworkPlan::of(2));
    let [a, b] = [&network.members[0], &network.members[1]];
    let (steward, card) = (network.steward.number(), network.at("b.card"));
    let (id_a, id_b) = (entity(a), entity(b));
    let ask = |to: &str| a.cli(&["introduce", "--to", to, "--via", steward, "--out", &card, "--timeout", "2s"]);
    assert_eq!(ask(&id_b).code, 7, "it is not listed: its operator decides");
    let asked = until(secs(30), "the operator is asked", || {
        let list = b.json(&["introduce", "list"]);
        list.as_array()?.first().cloned()
    });
    assert_eq!((&asked["id"], &asked["kind"]), (&id_a.as_str().into(), &"card".into()));
    b.cli(&["introduce", "answer", &id_a]).expect(0);
    until(secs(30), "the card comes", || (ask(&id_b).code == 0).then_some(()));
    assert_eq!(a.json(&["card", "show", &card])["entity"], id_b.as_str());

    // Whom the introducer does not know it does not tell.
    let stranger = TestNode::init(pakt_tests::node::Setup::new("Ukjent", "NO:ORGNR:997000001"));
    let shown = a.json(&["card", "show", &text(&stranger.dir().join("card.pakt"))]);
    assert_eq!(ask(shown["entity"].as_str().expect("an id")).code, 7);
    assert_eq!(ask("NO:ORGNR:997000001").code, 4, "a number is looked for in the directory only");
}

#[test]
fn an_ordinary_partner_introduces_nobody() {
    let _turn = turn::beside();
    let network = Network::new(NetworkPlan { steward: false, ..NetworkPlan::of(2) });
    let (a, to) = (&network.members[0], entity(&network.members[1]));
    let card = network.at("b.card");
    let refused = a.cli(&["introduce", "--to", &to, "--via", network.steward.number(), "--out", &card]);
    assert_eq!(refused.code, 3, "{refused}");
    let list = network.members[1].json(&["introduce", "list"]);
    assert_eq!(list.as_array().map(Vec::len), Some(0));
}

/// A newcomer joins everybody who is listed; `PAKT_JOIN_NODES=50` takes fifty.
#[test]
fn a_newcomer_joins_everybody_with_one_command_and_one_signature_each() {
    let _turn = turn::alone();
    let count: usize = tools::count("PAKT_JOIN_NODES", 3);
    let network = Network::new(NetworkPlan::of(count + 1));
    let (newcomer, others) = (&network.members[0], &network.members[1..]);
    for member in 1..=count {
        network.list(member, "", "MR");
    }
    let terms = terms(&network);
    let started = Instant::now();
    let join = ["directory", "join", "--with", network.steward.number(), "--all", "--terms", &terms];
    let done = newcomer.json(&[&join[..], &["--bundle", "nett"]].concat());
    assert_eq!(strings(&done, "outcome"), vec!["proposed"; count]);
    let joined = started.elapsed();
    for other in others {
        let id = id_of(&received(other));
        other.cli(&["agreement", "accept", &id]).expect(0);
    }
    let bundle = until(secs(60 + count as u64 * 4), "all are active and online", || {
        let bundle = newcomer.json(&["agreement", "bundle", "nett"]);
        (bundle["active"] == count && bundle["online"] == count).then_some(bundle)
    });
    let all = started.elapsed();
    tools::tell(&format!("{count} entities: proposed in {joined:.1?}, all active and online after {all:.1?}\n"));
    assert_eq!((&bundle["total"], &bundle["verified"]), (&count.into(), &0.into()));
    let listed = newcomer.json(&["agreement", "list", "--bundle", "nett"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(count));
    assert!(newcomer.cli(&["agreement", "bundle", "nett"]).expect(0).text().contains("active"));
    assert_eq!(newcomer.cli(&["agreement", "bundle", "annet"]).code, 4);
    let renewed = newcomer.json(&["agreement", "renew", "--bundle", "nett"]);
    assert_eq!(renewed.as_array().map(Vec::len), Some(count));
    assert!(renewed.as_array().unwrap().iter().all(|one| one["offered"] == true), "{renewed}");
    let again = newcomer.json(&["agreement", "renew", "--ending-within", "400d"]);
    let left = strings(&again, "name");
    assert_eq!(left, [network.steward.name()], "each is offered once: {again}");
    // Again: everybody has an agreement.
    assert_eq!(newcomer.json(&join).as_array().map(Vec::len), Some(0));
}
