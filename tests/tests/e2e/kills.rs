//! P32 from outside: kill -9 of the receiver and of the sender, anywhere.
//!
//! Twenty kills in all, half of each side; `PAKT_KILLS=2000` for two thousand. They strike at a chosen share of the content,
//! at a random moment after a submission, and in the n-th write, sync or rename of the process (before, in the middle, after);
//! at least a fifth while the node recovers from the kill before. Nothing that was acknowledged may be lost, nothing doubled, and
//! a node that was killed answers again within five seconds.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pakt_tests::node::TestNode;
use pakt_tests::pair::{DELIVERED, Pair, id_of, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::Side;
use pakt_tests::{binary, tools, tree, turn};
use serde_json::Value;

/// Content of a message whose transfer is struck at a chosen share.
const LARGE_BYTES: u64 = 16_000_000;
/// Content of the others: two objects, and what shares one.
const SMALL_BYTES: u64 = 1_200_000;
/// The line's rate, so that a kill can be aimed.
const BYTES_PER_SECOND: u64 = 8_000_000;
/// What one kill may cost: content fetched a second time.
const REFETCHED_BYTES_MAX: u64 = 8_000_000;
/// A node that was killed answers within this time.
const READY_MAX: Duration = secs(5);
/// Kills that one pair of nodes takes, so that all its messages fit into one listing.
const KILLS_PER_PAIR: usize = 100;
/// Messages that a doomed node is sent until it dies; each costs tens of calls.
const MESSAGES_PER_DOOM_MAX: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Sender,
    Receiver,
}

/// How a kill comes about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Strike {
    /// When this share of a large message's content has arrived.
    Share(f64),
    /// So long after a small message was submitted.
    Moment(Duration),
    /// In this call of the process that recovers from the kill before, counted from its start.
    Call { kind: &'static str, at: u64, when: &'static str },
    /// So long after the process that recovers from the kill before was started.
    Start(Duration),
}

#[test]
fn p32_the_receiver_is_killed() {
    kill_again_and_again(Victim::Receiver);
}

#[test]
fn p32_the_sender_is_killed() {
    kill_again_and_again(Victim::Sender);
}

fn kill_again_and_again(victim: Victim) {
    let _turn = turn::alone();
    let kills = tools::count("PAKT_KILLS", 20) / 2;
    let mut toll = Toll::default();
    let plan: Vec<Strike> = (0..kills).map(|kill| strike(victim, kill)).collect();
    for strikes in plan.chunks(KILLS_PER_PAIR) {
        let mut round = Round::begin(victim, toll.kills);
        for strike in strikes {
            round.strike(*strike, &mut toll);
        }
        round.end(&mut toll);
        tools::tell(&format!("{victim:?}: {toll:?}"));
    }
    assert_eq!(toll.kills, kills);
    assert!(toll.in_recovery * 5 >= kills, "{toll:?}");
    assert!(toll.slowest_start <= READY_MAX, "ready within {READY_MAX:?}: {toll:?}");
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Toll {
    kills: usize,
    /// Of these in a call to the disk.
    in_calls: usize,
    /// Of these before the node answered again.
    in_recovery: usize,
    messages: usize,
    /// Of these not acknowledged, because the node died under the command.
    unacknowledged: usize,
    slowest_start: Duration,
}

/// A number that looks random and is the same in every run.
fn dice(victim: Victim, kill: usize, what: &str) -> u64 {
    let hash = blake3::hash(format!("{victim:?} {kill} {what}").as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

/// The kill number `kill`: of eight, two at a share of the content, one at a random moment, five in a call or a start.
fn strike(victim: Victim, kill: usize) -> Strike {
    let roll = |what: &str, below: u64| dice(victim, kill, what) % below;
    // Of each kind so many that a few messages of a sender or receiver need them.
    let (kind, calls) = [("write", 60), ("sync", 30), ("rename", 12)][roll("kind", 3) as usize];
    let when = ["before", "half", "after"][roll("when", 3) as usize];
    let call = |at: u64| Strike::Call { kind, at, when };
    match kill % 8 {
        0 => Strike::Share(0.01 + roll("share", 18) as f64 / 100.0),
        6 => Strike::Share(0.81 + roll("share", 18) as f64 / 100.0),
        3 => Strike::Moment(Duration::from_millis(roll("moment", 800))),
        5 => Strike::Start(Duration::from_millis(5 + roll("start", 350))),
        // The first calls are those of the recovery itself.
        1 | 7 => call(1 + roll("at", 4)),
        _ if !binary::is_release() => call(5 + roll("at", calls)),
        // A release binary cannot be told where to die.
        _ => Strike::Moment(Duration::from_millis(roll("moment", 800))),
    }
}

/// A message that was to be sent.
struct Sent {
    /// None if the command died with its node.
    envelope: Option<String>,
    folder: PathBuf,
}

/// Some kills of one pair, and the count at their end.
struct Round {
    pair: Pair,
    victim: Victim,
    /// By subject.
    sent: BTreeMap<String, Sent>,
    first: usize,
}

impl Round {
    fn begin(victim: Victim, first: usize) -> Round {
        let pair = Pair::wired();
        pair.wire().throttle(BYTES_PER_SECOND);
        Round { pair, victim, sent: BTreeMap::new(), first }
    }

    fn node(&mut self) -> &mut TestNode {
        match self.victim {
            Victim::Sender => &mut self.pair.a,
            Victim::Receiver => &mut self.pair.b,
        }
    }

    fn strike(&mut self, strike: Strike, toll: &mut Toll) {
        match strike {
            Strike::Share(share) => self.kill_at_share(share, toll),
            Strike::Moment(moment) => {
                self.bring_up(toll);
                self.send(SMALL_BYTES);
                std::thread::sleep(moment);
                self.node().kill();
            }
            Strike::Start(moment) => {
                self.node().kill();
                self.node().spawn_run();
                std::thread::sleep(moment);
                toll.in_recovery += usize::from(!self.node().home().join("data/api.sock").exists());
                self.node().kill();
            }
            Strike::Call { kind, at, when } => self.kill_in_call(&format!("{kind}:{at}:{when}"), toll),
        }
        toll.kills += 1;
    }

    /// Starts the victim, if it does not run, and waits until everything has arrived.
    fn bring_up(&mut self, toll: &mut Toll) {
        self.start(toll);
        self.wait_for_all();
    }

    fn start(&mut self, toll: &mut Toll) {
        if !self.node().is_running() {
            match self.node().try_start() {
                Ok(taken) => toll.slowest_start = toll.slowest_start.max(taken),
                Err(status) => panic!("it ended with {status}\n{}", self.node().log()),
            }
        }
    }

    fn wait_for_all(&mut self) {
        let sent = self.sent.values().filter_map(|sent| sent.envelope.clone()).collect::<Vec<_>>();
        until(secs(120), "everything acknowledged is delivered", || {
            let told = self.pair.a.cli_json(&["outbox", "list"]);
            let list = (told.code == 0).then(|| told.json())?;
            let delivered =
                |envelope: &&String| states(&list).any(|(id, state)| id == **envelope && is_delivered(state));
            (sent.iter().filter(delivered).count() == sent.len()).then_some(())
        });
    }

    /// Kills when this share of a large message has arrived, and looks what the kill has cost.
    fn kill_at_share(&mut self, share: f64, toll: &mut Toll) {
        self.bring_up(toll);
        // Nothing flows before `send` has returned, so that early kills are early.
        self.pair.wire().stall(true);
        let before = self.pair.wire().into_side(Side::B);
        self.send(LARGE_BYTES);
        self.pair.wire().stall(false);
        let fetched = |round: &Round| round.pair.wire().into_side(Side::B) - before;
        let (goal, end) = ((LARGE_BYTES as f64 * share) as u64, Instant::now() + secs(60));
        while fetched(self) < goal {
            assert!(Instant::now() < end, "only {} of {goal} bytes within a minute", fetched(self));
            std::thread::sleep(Duration::from_millis(2));
        }
        self.node().kill();
        let struck = fetched(self) as f64 / LARGE_BYTES as f64;
        assert!((share - 0.02..share + 0.15).contains(&struck), "aimed at {share}, struck at {struck}");
        self.bring_up(toll);
        let allowed = LARGE_BYTES + LARGE_BYTES / 100 + 500_000 + REFETCHED_BYTES_MAX;
        assert!(fetched(self) <= allowed, "{} bytes fetched, at most {allowed}; killed at {struck}", fetched(self));
    }

    /// Starts the victim so that it dies in this call, and sends until it has.
    fn kill_in_call(&mut self, doom: &str, toll: &mut Toll) {
        self.node().kill();
        self.node().doom(doom);
        toll.in_calls += 1;
        match self.node().try_start() {
            Ok(taken) => toll.slowest_start = toll.slowest_start.max(taken),
            Err(status) => {
                assert_eq!(status.signal(), Some(9), "{doom}\n{}", self.node().log());
                toll.in_recovery += 1;
                return;
            }
        }
        for _ in 0..MESSAGES_PER_DOOM_MAX {
            self.send(SMALL_BYTES);
            let end = Instant::now() + Duration::from_millis(700);
            while Instant::now() < end {
                if let Some(status) = self.node().ended() {
                    assert_eq!(status.signal(), Some(9), "{doom}\n{}", self.node().log());
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("{doom} never came");
    }

    /// Submits a message of A; where A is the victim it may die meanwhile, and acknowledges nothing then.
    fn send(&mut self, bytes: u64) {
        let number = self.first + self.sent.len();
        let subject = format!("Kill {} {}", self.first, self.sent.len());
        let folder = self.pair.path(&format!("kill-{}", self.sent.len()));
        std::fs::create_dir(&folder).unwrap();
        tree::write_noise(&folder.join("large.bin"), bytes, number as u64 * 100 + 10_000);
        for small in 0..5 {
            tree::write_noise(&folder.join(format!("s{small}")), small * 11, number as u64 * 100 + small + 50_000);
        }
        let (to, path) = (self.pair.to_b(), text(&folder));
        let told = self.pair.a.cli_json(&["send", "--to", &to, "--subject", &subject, &path]);
        let envelope = (told.code == 0).then(|| id_of(&told.json()["envelopes"][0]));
        assert!(envelope.is_some() || self.victim == Victim::Sender, "{}", told.complaint());
        self.sent.insert(subject, Sent { envelope, folder });
    }

    /// Everything that was acknowledged is there once and whole, and both logs are in order.
    fn end(mut self, toll: &mut Toll) {
        self.bring_up(toll);
        let list = self.pair.b.json(&["inbox", "list"]);
        let count = |subject: &str| items(&list).filter(|item| item["subject"] == subject).count();
        for (subject, sent) in &self.sent {
            let found = count(subject);
            assert!(found == 1 || (found == 0 && sent.envelope.is_none()), "{subject}: {found} times");
            if found == 1 {
                self.pair.assert_received_once(subject, &[&sent.folder]);
            }
        }
        let known = self.sent.values().filter(|sent| sent.envelope.is_some()).count();
        assert!(items(&list).count() <= self.sent.len() && items(&list).count() >= known, "{list}");
        for node in [&self.pair.a, &self.pair.b] {
            node.cli(&["log", "verify"]).expect(0);
        }
        toll.messages += self.sent.len();
        toll.unacknowledged += self.sent.len() - known;
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().unwrap().iter()
}

fn is_delivered(state: &str) -> bool {
    DELIVERED.contains(&state)
}

/// Ids and states of the envelopes in `outbox list`.
fn states(list: &Value) -> impl Iterator<Item = (&str, &str)> {
    items(list).filter_map(|row| Some((row["id"].as_str()?, row["state"].as_str()?)))
}

#[test]
fn the_plan_covers_start_end_calls_and_recovery() {
    for kills in [10, 50, 1_000] {
        let plan: Vec<Strike> = (0..kills).map(|kill| strike(Victim::Sender, kill)).collect();
        let share =
            |wanted: fn(&Strike) -> bool| plan.iter().filter(|strike| wanted(strike)).count() as f64 / kills as f64;
        assert!(share(|strike| matches!(strike, Strike::Share(at) if *at < 0.2)) > 0.12);
        assert!(share(|strike| matches!(strike, Strike::Share(at) if *at > 0.8)) > 0.09);
        let early = |strike: &Strike| matches!(strike, Strike::Start(_) | Strike::Call { at: ..5, .. });
        assert!(share(early) > 0.25);
        assert!(share(|strike| matches!(strike, Strike::Moment(_))) >= 0.1);
        for wanted in ["write", "sync", "rename", "before", "half", "after"] {
            let calls = |strike: &&Strike| matches!(strike, Strike::Call { kind, when, .. } if *kind == wanted || *when == wanted);
            assert!(plan.iter().any(|strike| calls(&strike)) || kills < 50, "{wanted}");
        }
    }
}
