//! P30: two sides stepped through virtual time: what was lost, what a restore explains, sessions that break.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::ranges::RANGES_MAX;
use super::*;
use crate::ids::AgreementId;
use crate::message::Message;
use crate::record::reconciliation::{hash_of, verify_held, verify_sent};
use crate::record::tests::Party;

/// What a sender knows of one of its envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Open,
    Delivered,
    Ended,
}

const AGREEMENT: AgreementId = AgreementId([4; 32]);

/// One side with its rows.
struct Side {
    party: Party,
    machine: Reconciler,
    sent: BTreeMap<u64, Sent>,
    held: Vec<u64>,
    restores: Restores,
    /// What the last complete comparisons found: as sender, as receiver.
    found: [Findings; 2],
    named: Vec<(u64, EnvelopeId)>,
    done: u32,
    unanswered: u32,
}

fn id(number: u64) -> EnvelopeId {
    EnvelopeId(u128::from(number).to_be_bytes())
}

impl Side {
    fn new(seed: u8) -> Side {
        let restores = Restores { sender: false, receiver: false };
        Side {
            party: Party::new(seed),
            machine: Reconciler::new(Known::default(), Time(0)),
            sent: BTreeMap::new(),
            held: Vec::new(),
            restores,
            found: Default::default(),
            named: Vec::new(),
            done: 0,
            unanswered: 0,
        }
    }

    fn page(&self, to: &Party, round: u64, first: u64) -> SentStatement {
        let given = self.sent.keys().last().copied().unwrap_or(0);
        let mut page = SentStatement {
            entity: self.party.entity(),
            reader: to.entity(),
            agreement: AGREEMENT,
            round,
            at: Time(round),
            given,
            first,
            last: u64::MAX,
            delivered: Ranges::default(),
            open: Ranges::default(),
            excused: Ranges::default(),
            forgotten: Ranges::default(),
        };
        for (number, sent) in self.sent.range(first..) {
            let set = match sent {
                Sent::Open => &mut page.open,
                Sent::Delivered => &mut page.delivered,
                Sent::Ended => continue,
            };
            if !set.has_room(*number) {
                page.last = number - 1;
                break;
            }
            set.push(*number, *number);
        }
        page
    }

    fn held_within(&self, first: u64, last: u64) -> (u64, Ranges) {
        let mut held = Ranges::default();
        for number in self.held.iter().filter(|number| (first..=last).contains(number)) {
            if !held.has_room(*number) {
                return (number - 1, held);
            }
            held.push(*number, *number);
        }
        (last, held)
    }

    fn sign<T: crate::record::Record>(&self, body: &T) -> Signed<T> {
        Signed::create(body, |domain, bytes| self.party.statement.sign(domain, bytes))
    }

    /// Does what the machine wants; gives what it says.
    fn work(&mut self, other: &Party, now: Time) -> Vec<Message> {
        let mut said = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Transmit(message) => said.push(message),
                Output::Persist(never) => match never {},
                Output::Deadline(_) => {}
                Output::Event(event) => self.deed(event, other, now),
            }
        }
        said
    }

    fn deed(&mut self, event: Event, other: &Party, now: Time) {
        match event {
            Event::State { round, first } => {
                let body = self.page(other, round, first);
                self.machine.handle_input(Input::Stated(self.sign(&body), Box::new(body)), now);
            }
            Event::Keep(asked, answer) => {
                let held = verify_held(&answer, &asked, &other.chain.verify().unwrap()).expect("a sound answer");
                let found = compare(&asked.peek().unwrap(), (held.last, &held.held), self.restores);
                let named = found.lost.numbers().take(8).map(|number| (number, id(number))).collect();
                self.merge(0, held.first, found);
                self.machine.handle_input(Input::Kept(named), now);
            }
            Event::Answer(statement) => {
                let node = other.chain.verify().unwrap();
                let sent = verify_sent(&statement, &AGREEMENT, &node, &self.party.entity()).expect("sound");
                let (last, held) = self.held_within(sent.first, sent.last);
                self.merge(1, sent.first, compare(&sent, (last, &held), self.restores));
                let body = HeldStatement {
                    entity: self.party.entity(),
                    reader: other.entity(),
                    agreement: AGREEMENT,
                    statement: hash_of(&statement),
                    at: now,
                    first: sent.first,
                    last,
                    held,
                    named: vec![],
                };
                self.machine.handle_input(Input::Answered(self.sign(&body), last == u64::MAX), now);
            }
            Event::Done => self.done += 1,
            Event::Unanswered => self.unanswered += 1,
            Event::Misbehaved(why) => panic!("{why}"),
        }
    }

    fn merge(&mut self, of: usize, first: u64, found: Findings) {
        if first == 1 {
            self.found[of] = Findings::default();
        }
        let all = &mut self.found[of];
        all.lost = all.lost.or(&found.lost);
        all.unknown = all.unknown.or(&found.unknown);
        all.explained = all.explained.or(&found.explained);
    }

    fn take(&mut self, message: Message, other: &Party, now: Time) {
        match message {
            Message::Reconcile(message) => self.machine.handle_input(Input::Statement(message.statement), now),
            Message::Reconciled(message) => self.machine.handle_input(Input::Answer(message.statement), now),
            Message::ReconcileGap(message) => self.named.extend(message.named),
            Message::WantReconcile(_) => self.machine.handle_input(Input::Asked, now),
            other => panic!("{other:?}"),
        }
        let _ = other;
    }
}

/// Steps both sides through time, second by second; `breaks` says whether a message is lost with its session.
fn run(a: &mut Side, b: &mut Side, seconds: std::ops::Range<u64>, mut breaks: impl FnMut() -> bool) {
    let mut live = false;
    for second in seconds {
        let now = Time::from_seconds(second);
        let input = if live { Input::Tick } else { Input::Live };
        live = true;
        a.machine.handle_input(input.clone(), now);
        b.machine.handle_input(input, now);
        loop {
            let (from_a, from_b) = (a.work(&b.party, now), b.work(&a.party, now));
            if from_a.is_empty() && from_b.is_empty() {
                break;
            }
            let heard = from_a.into_iter().map(|message| (true, message));
            let all: Vec<(bool, Message)> = heard.chain(from_b.into_iter().map(|message| (false, message))).collect();
            for (to_b, message) in all {
                if !live || breaks() {
                    live = false;
                    continue;
                }
                let (to, from) = if to_b { (&mut *b, &a.party) } else { (&mut *a, &b.party) };
                to.take(message, from, now);
            }
            if !live {
                a.machine.handle_input(Input::Lost, now);
                b.machine.handle_input(Input::Lost, now);
                a.work(&b.party, now);
                b.work(&a.party, now);
                break;
            }
        }
    }
}

fn pair() -> (Side, Side) {
    let (mut a, b) = (Side::new(1), Side::new(2));
    a.sent = (1..=41).map(|number| (number, Sent::Delivered)).collect();
    (a, b)
}

fn assert_same(a: &Side, b: &Side, lost: &Ranges, unknown: &Ranges) {
    for found in [&a.found[0], &b.found[1]] {
        assert_eq!((&found.lost, &found.unknown), (lost, unknown));
    }
}

#[test]
fn you_sent_41_i_hold_41() {
    let (mut a, mut b) = pair();
    b.held = (1..=41).collect();
    run(&mut a, &mut b, 0..29, || false);
    assert_eq!(a.done + b.done, 0, "what was held up goes first");
    run(&mut a, &mut b, 29..100, || false);
    assert_eq!((a.done, b.done), (1, 1), "both directions, once");
    assert_same(&a, &b, &Ranges::default(), &Ranges::default());
    // The next day, and not before.
    run(&mut a, &mut b, 86_000..86_400, || false);
    assert_eq!((a.done, b.done), (1, 1));
    run(&mut a, &mut b, 86_400..86_600, || false);
    assert_eq!((a.done, b.done), (2, 2));
}

#[test]
fn a_gap_shows_on_both_sides_and_closes() {
    let (mut a, mut b) = pair();
    a.sent.insert(42, Sent::Open);
    a.sent.insert(43, Sent::Ended);
    a.sent.insert(44, Sent::Open);
    b.held = (1..=44).filter(|number| ![7, 8, 42].contains(number)).chain([60]).collect();
    run(&mut a, &mut b, 0..100, || false);
    let mut unknown = Ranges::of(43, 43);
    unknown.push(60, 60);
    assert_same(&a, &b, &Ranges::of(7, 8), &unknown);
    assert_eq!(b.named, [(7, id(7)), (8, id(8))], "the receiver cannot know what it does not hold");
    // What was held back turns up again, and the sender learns that the other two arrived.
    b.held = (1..=44).collect();
    a.sent.extend([(42, Sent::Delivered), (43, Sent::Delivered), (44, Sent::Delivered)]);
    a.machine.handle_input(Input::Asked, Time::from_seconds(200));
    run(&mut a, &mut b, 200..210, || false);
    assert_eq!((a.done, b.done), (2, 1), "only what was asked for");
    assert_same(&a, &b, &Ranges::default(), &Ranges::default());
}

#[test]
fn a_restore_explains_only_where_it_is_known() {
    let check = |restores: Restores, lost: Ranges, unknown: Ranges, explained: u64| {
        let sent = SentStatement {
            excused: Ranges::of(30, 41),
            delivered: Ranges::of(1, 29),
            forgotten: Ranges::of(100, 1_000),
            ..Side::new(1).page(&Party::new(2), 1, 1)
        };
        let mut held = Ranges::of(1, 35);
        held.push(500, 501);
        held.push(2_000, 2_000);
        let found = compare(&sent, (u64::MAX, &held), restores);
        assert_eq!((found.lost, found.unknown, found.explained.count()), (lost, unknown, explained), "{restores:?}");
    };
    let (both, beyond) = (Ranges::of(500, 501), Ranges::of(2_000, 2_000));
    let all = both.or(&beyond);
    let restores = |sender: bool, receiver: bool| Restores { sender, receiver };
    check(restores(false, false), Ranges::of(36, 41), all.clone(), 0);
    check(restores(true, false), Ranges::of(36, 41), beyond.clone(), 2);
    check(restores(false, true), Ranges::default(), all, 6);
    check(restores(true, true), Ranges::default(), beyond, 8);
}

#[test]
fn what_is_broken_up_takes_more_pages() {
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    let count = RANGES_MAX as u64 * 6;
    a.sent = (1..=count).map(|n| (n, if n % 2 == 0 { Sent::Delivered } else { Sent::Ended })).collect();
    // The receiver's answer is more broken up than the question in places.
    a.sent.extend((count + 1..=count * 2).map(|n| (n, Sent::Delivered)));
    b.held = (1..=count * 2).filter(|n| if *n <= count { n % 2 == 0 } else { n % 3 == 0 }).collect();
    run(&mut a, &mut b, 0..100, || false);
    assert_eq!((a.done, b.done), (1, 1));
    assert!(a.found[0].unknown.is_empty());
    assert_eq!(a.found[0].lost.count(), count - count / 3);
    assert_same(&a, &b, &a.found[0].lost, &Ranges::default());
}

#[test]
fn no_answer_is_noticed_and_asked_for_again() {
    let (mut a, b) = pair();
    let tick = |a: &mut Side, second: u64| {
        a.machine.handle_input(Input::Tick, Time::from_seconds(second));
        a.work(&b.party, Time::from_seconds(second)).len()
    };
    a.machine.handle_input(Input::Live, Time(0));
    a.work(&b.party, Time(0));
    assert_eq!((tick(&mut a, 30), tick(&mut a, 89), a.unanswered), (1, 0, 0));
    assert_eq!((tick(&mut a, 90), a.unanswered), (0, 1));
    assert_eq!((tick(&mut a, 3_000), tick(&mut a, 3_690)), (0, 2), "its own round, and a reminder of the other one");
}

#[test]
fn answers_and_questions_are_bounded() {
    let (mut a, mut b) = pair();
    b.held = (1..=41).collect();
    // Asked for in every second, a round begins every five seconds.
    a.machine.handle_input(Input::Live, Time(0));
    b.machine.handle_input(Input::Live, Time(0));
    for second in 0..20 {
        a.machine.handle_input(Input::Asked, Time::from_seconds(second));
        run(&mut a, &mut b, second..second + 1, || false);
    }
    assert_eq!(a.done, 4);
    // A statement that comes before the last was answered is a rule broken; one that follows at once waits.
    let statement = a.sign(&a.page(&b.party, 5, 1));
    let mut machine = Reconciler::new(Known::default(), Time(0));
    let mut said = |input: Input, second: u64| -> Vec<Event> {
        machine.handle_input(input, Time::from_seconds(second));
        let all = std::iter::from_fn(|| machine.poll_output());
        all.filter_map(|output| if let Output::Event(event) = output { Some(event) } else { None }).collect()
    };
    assert_eq!(said(Input::Live, 0), []);
    assert_eq!(said(Input::Statement(statement.clone()), 1), [Event::Answer(statement.clone())]);
    assert!(matches!(said(Input::Statement(statement.clone()), 1)[..], [Event::Misbehaved(_)]));
    let answer: Signed<HeldStatement> = Signed::from_parts(vec![1], vec![]);
    assert_eq!(said(Input::Answered(answer.clone(), true), 1), []);
    assert_eq!(said(Input::Statement(statement.clone()), 2), [], "not before two seconds are over");
    assert_eq!(said(Input::Tick, 3), [Event::Answer(statement)]);
    assert!(matches!(said(Input::Answer(answer), 4)[..], [Event::Misbehaved(_)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever is lost and however sessions break, both sides find the same, and nothing else.
    #[test]
    fn p30_every_loss_is_found_by_both(
        lost in proptest::collection::btree_set(1u64..=41, 0..6),
        open in proptest::collection::btree_set(1u64..=41, 0..6),
        broken in proptest::collection::vec(any::<bool>(), 0..12),
    ) {
        let (mut a, mut b) = pair();
        a.sent.extend(open.iter().map(|number| (*number, Sent::Open)));
        b.held = (1..=41).filter(|number| !lost.contains(number)).collect();
        let mut broken = broken.into_iter();
        run(&mut a, &mut b, 0..1_000, || broken.next().unwrap_or(false));
        prop_assert!(a.done >= 1 && b.done >= 1);
        let expected: Vec<u64> = lost.difference(&open).copied().collect();
        for found in [&a.found[0], &b.found[1]] {
            prop_assert_eq!(found.lost.numbers().collect::<Vec<_>>(), expected.clone());
            prop_assert!(found.unknown.is_empty());
        }
    }
}
