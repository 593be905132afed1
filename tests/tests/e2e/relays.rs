//! Two nodes that cannot be dialled, and a partner that forwards between them.

use std::fs;
use std::path::Path;

use pakt_tests::mesh::{agree, peer, wait_sees};
use pakt_tests::node::{Setup, TestNode};
use pakt_tests::pair::{inbox, text};
use pakt_tests::scan;
use pakt_tests::turn;
use pakt_tests::wait::{secs, until};

const RELAY: &str = "relay = true";

/// A and B, which do not listen, and R, which both dial.
struct Three {
    a: TestNode,
    b: TestNode,
    r: TestNode,
    desk: tempfile::TempDir,
}

fn silent(name: &str, number: &str) -> TestNode {
    let mut setup = Setup::new(name, number);
    setup.listen = "none".into();
    setup.init_args = vec!["--allow-range".into(), "127.0.0.0/8".into()];
    TestNode::init(setup)
}

impl Three {
    /// With these terms between R and each of the others.
    fn new(terms_a: &str, terms_b: &str) -> Three {
        Three::at_rate("none", terms_a, terms_b)
    }

    /// The same, forwarding so much.
    fn at_rate(rate: &str, terms_a: &str, terms_b: &str) -> Three {
        let desk = tempfile::tempdir().unwrap();
        let mut a = silent("Fjordbyen sykehus", "NO:ORGNR:999000101");
        let mut b = silent("Kliniek De Vaart", "NL:KVK:99000102");
        let mut r = TestNode::init(Setup::new("Regional relay", "NO:ORGNR:999000103"));
        let settings = r.dir().join("config.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let limited = text.replace("# rate = \"none\"", &format!("rate = \"{rate}\""));
        assert_ne!(text, limited);
        fs::write(&settings, limited).unwrap();
        r.start();
        a.start();
        b.start();
        agree(&a, &r, desk.path(), terms_a);
        agree(&b, &r, desk.path(), terms_b);
        wait_sees(&a, &r, 20);
        wait_sees(&b, &r, 20);
        agree(&a, &b, desk.path(), "");
        Three { a, b, r, desk }
    }

    fn sees_each_other(&self, seconds: u64) {
        wait_sees(&self.a, &self.b, seconds);
        wait_sees(&self.b, &self.a, seconds);
    }

    fn send(&self, subject: &str, file: &Path, wait: &str) -> pakt_tests::output::Output {
        let to = format!("{}/Reception", self.b.number());
        self.a.cli(&["send", "--to", &to, "--subject", subject, "--wait", wait, "--timeout", "120s", &text(file)])
    }
}

#[test]
fn two_that_only_dial_exchange_through_a_partner_that_learns_nothing() {
    let _turn = turn::alone();
    let three = Three::new(RELAY, RELAY);
    three.sees_each_other(40);
    assert_eq!(peer(&three.a, three.b.number())["lanes"][0]["via"], "Regional relay");
    let file = three.desk.path().join("canary-relay-name.bin");
    let body = "canary-relay-body ".repeat(400_000);
    fs::write(&file, &body).unwrap();
    three.send("canary-relay-subject", &file, "delivered").expect(0);
    let items = inbox(&three.b, "canary-relay-subject");
    assert_eq!(items.len(), 1);
    let saved = three.desk.path().join("saved");
    three.b.cli(&["inbox", "save", items[0]["id"].as_str().unwrap(), "--to", &text(&saved)]).expect(0);
    assert_eq!(fs::read_to_string(saved.join("canary-relay-name.bin")).unwrap(), body);

    let relay = three.r.json(&["status"])["relay"].clone();
    assert!(relay["circuits"].as_u64() >= Some(1) && relay["bytes"].as_u64() > Some(10_000), "{relay}");
    let words: Vec<String> =
        ["canary-relay-name", "canary-relay-subject", "canary-relay-body"].map(String::from).into();
    assert_eq!(scan::hits(&[three.r.dir(), &three.r.log_path()], &words), [], "on the relay's disk or in its log");
    let memory = memory_of(three.r.pid());
    assert!(memory.len() > 1 << 20, "the memory was read");
    for word in &words {
        for form in scan::forms(word) {
            assert!(!holds(&memory, &form), "{word} in the relay's memory");
        }
    }
    assert!(holds(&memory_of(three.b.pid()), b"Kliniek De Vaart"), "the search finds what is there");
}

/// All readable memory of a process of ours.
fn memory_of(pid: u32) -> Vec<u8> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut part = Vec::new();
        if memory.seek(SeekFrom::Start(from)).is_ok() && (&mut memory).take(to - from).read_to_end(&mut part).is_ok() {
            all.extend(part);
        }
    }
    all
}

fn holds(memory: &[u8], word: &[u8]) -> bool {
    memory.windows(word.len()).any(|window| window == word)
}

#[test]
fn a_relay_that_dies_in_mid_transfer_costs_a_pause() {
    let _turn = turn::alone();
    let mut three = Three::at_rate("32Mbit/s", RELAY, RELAY);
    three.sees_each_other(40);
    let file = three.desk.path().join("large.bin");
    let mut noise = vec![0; 40 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(&file, &noise).unwrap();
    let to = format!("{}/Reception", three.b.number());
    let sent = three.a.json(&["send", "--to", &to, "--subject", "large", &text(&file)]);
    let envelope = sent["envelopes"][0]["id"].as_str().unwrap().to_owned();
    until(secs(60), "content moves", || {
        (three.r.json(&["status"])["relay"]["bytes"].as_u64()? > 3 << 20).then_some(())
    });
    three.r.kill();
    until(secs(20), "both notice", || (peer(&three.a, three.b.number())["online"] == false).then_some(()));
    three.r.start();
    until(secs(150), "delivery after the relay is back", || {
        let shown = pakt_tests::pair::outbox(&three.a, &envelope)?;
        pakt_tests::pair::DELIVERED.contains(&shown["state"].as_str()?).then_some(())
    });
    assert_eq!(inbox(&three.b, "large").len(), 1);
}

#[test]
fn p6_without_the_clause_or_after_its_end_nothing_is_forwarded() {
    let _turn = turn::beside();
    let three = Three::new(RELAY, "");
    let reason = until(secs(60), "a request in vain", || {
        (three.r.json(&["status"])["relay"]["refused"].as_u64()? > 0).then_some(())?;
        peer(&three.a, three.b.number())["reason"].as_str().map(str::to_owned)
    });
    assert_eq!(peer(&three.a, three.b.number())["online"], false, "{reason}");
    assert_eq!(three.r.json(&["status"])["relay"]["forwarded"], 0);
}

#[test]
fn p6_the_end_of_the_relays_agreement_cuts_what_it_forwards() {
    let _turn = turn::beside();
    let three = Three::new(RELAY, RELAY);
    three.sees_each_other(40);
    let agreement = peer(&three.r, three.a.number())["agreement"]["id"].as_str().unwrap().to_owned();
    three.r.cli(&["agreement", "end", &agreement, "--yes"]).expect(0);
    until(secs(10), "the circuit is cut", || {
        (three.r.json(&["status"])["relay"]["circuits"] == 0 && peer(&three.a, three.b.number())["online"] == false)
            .then_some(())
    });
}
