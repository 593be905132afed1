//! The machine of one delivery, input by input.

use super::*;
use crate::record::envelope::Priority;

const HOLD: Duration = Duration::from_secs(3600);

fn start() -> Delivery {
    Delivery::new(Record::new(Priority::Normal, HOLD, Time(0)), Time(0))
}

fn events(delivery: &mut Delivery) -> Vec<Event> {
    std::iter::from_fn(|| delivery.poll_output())
        .filter_map(|output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        })
        .collect()
}

fn at(seconds: u64) -> Time {
    Time::from_seconds(seconds)
}

#[test]
fn the_straight_path() {
    let mut delivery = start();
    delivery.handle_input(Input::PeerUp, at(5));
    assert_eq!(events(&mut delivery), [Event::Attempt]);
    for (input, state) in [
        (Input::Accepted, State::Transferring),
        (Input::Left, State::Transferring),
        (Input::Receipt(Verdict::Held(Tier::Delivered)), State::Delivered),
    ] {
        delivery.handle_input(input, at(6));
        assert_eq!(delivery.record().state, state);
    }
    assert_eq!(events(&mut delivery), [], "delivered mail is not reported");
    delivery.handle_input(Input::Withdrawn, at(7));
    assert_eq!(delivery.record().state, State::Delivered, "final states stay");
}

#[test]
fn what_the_agreement_holds_back_waits_with_its_reason_and_expires_in_time() {
    let mut delivery = start();
    delivery.handle_input(Input::PeerUp, at(5));
    assert_eq!(events(&mut delivery), [Event::Attempt]);
    delivery.handle_input(Input::Waits(Reason::ControlMissing), at(6));
    assert_eq!((delivery.record().state, delivery.record().reason), (State::Queued, Some(Reason::ControlMissing)));
    delivery.handle_input(Input::Tick, at(1800));
    assert_eq!(events(&mut delivery), [], "nothing is tried while it is held");
    delivery.handle_input(Input::PeerUp, at(1900));
    assert_eq!(events(&mut delivery), [Event::Attempt]);
    delivery.handle_input(Input::Waits(Reason::RateReached), at(1901));
    delivery.handle_input(Input::Tick, at(3600));
    assert_eq!(events(&mut delivery), [Event::Report(Reason::HoldTimeOver)]);
}

#[test]
fn p27_a_jump_of_the_clock_leaves_the_time_that_is_left() {
    let jump = 30 * 86_400;
    let mut record = start().record().clone();
    record.shift(jump * 1_000_000);
    let now = at(jump as u64 + 60);
    let mut delivery = Delivery::new(record, now);
    delivery.handle_input(Input::Tick, now);
    assert_eq!(delivery.record().state, State::Queued);
    delivery.handle_input(Input::Tick, now + HOLD);
    assert_eq!(delivery.record().state, State::Expired);
}

#[test]
fn p30_every_end_is_reported_once() {
    type Row = (&'static str, &'static [(Input, u64)], State, &'static [Event]);
    let rows: [Row; 7] = [
        (
            "never reachable",
            &[(Input::Tick, 3599), (Input::Tick, 3600)],
            State::Expired,
            &[Event::Report(Reason::HoldTimeOver)],
        ),
        (
            "refused",
            &[(Input::PeerUp, 1), (Input::Refused(Refusal::TooLarge), 2), (Input::Tick, 4000)],
            State::Refused,
            &[Event::Attempt, Event::Report(Reason::Refused(Refusal::TooLarge))],
        ),
        (
            "lost before the envelope left",
            &[(Input::PeerUp, 1), (Input::Accepted, 2), (Input::PeerDown, 3), (Input::Tick, 3600)],
            State::Expired,
            &[Event::Attempt, Event::Report(Reason::HoldTimeOver)],
        ),
        (
            "lost after it left",
            &[
                (Input::PeerUp, 1),
                (Input::Accepted, 2),
                (Input::Left, 3),
                (Input::PeerDown, 4),
                (Input::Tick, 3600),
                (Input::Tick, 9999),
            ],
            State::Queued,
            &[Event::Attempt, Event::Report(Reason::NotConfirmed)],
        ),
        (
            "refused without a signature after the envelope left",
            &[
                (Input::PeerUp, 1),
                (Input::Left, 2),
                (Input::Refused(Refusal::NoSpace), 3),
                (Input::PeerDown, 4),
                (Input::Tick, 3600),
            ],
            State::Queued,
            &[Event::Attempt, Event::Report(Reason::NotConfirmed)],
        ),
        (
            "hold time ends while it is pulled",
            &[(Input::PeerUp, 1), (Input::Accepted, 2), (Input::Tick, 3600), (Input::Withdrawn, 3601)],
            State::Expired,
            &[Event::Attempt, Event::Withdraw, Event::Report(Reason::HoldTimeOver)],
        ),
        (
            "agreement ended",
            &[(Input::Stopped(Reason::AgreementEnded), 9), (Input::Tick, 3600)],
            State::Refused,
            &[Event::Report(Reason::AgreementEnded)],
        ),
    ];
    for (what, inputs, state, expected) in rows {
        let mut delivery = start();
        for &(input, seconds) in inputs {
            delivery.handle_input(input, at(seconds));
        }
        assert_eq!(delivery.record().state, state, "{what}");
        assert_eq!(events(&mut delivery), expected, "{what}");
    }
}

#[test]
fn a_late_receipt_settles_what_was_not_confirmed() {
    let mut delivery = start();
    for input in [Input::PeerUp, Input::Accepted, Input::Left, Input::PeerDown] {
        delivery.handle_input(input, at(1));
    }
    delivery.handle_input(Input::Tick, at(3600));
    assert_eq!(delivery.record().reason, Some(Reason::NotConfirmed));
    events(&mut delivery);
    delivery.handle_input(Input::PeerUp, at(5000));
    assert_eq!(events(&mut delivery), [Event::Ask], "it asks");
    delivery.handle_input(Input::Receipt(Verdict::Held(Tier::Delivered)), at(5001));
    assert_eq!(delivery.record().state, State::Delivered);
}

#[test]
fn busy_peers_are_tried_again_with_back_off() {
    let mut delivery = start();
    delivery.handle_input(Input::PeerUp, at(0));
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..8 {
        delivery.handle_input(Input::Refused(Refusal::Busy), now);
        waits.push(delivery.record().next_attempt_at.since(now).as_secs());
        now = delivery.record().next_attempt_at;
        delivery.handle_input(Input::Tick, now);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
}

#[test]
fn warns_once_when_late() {
    let record = Record::new(Priority::Urgent, Duration::from_secs(48 * 3600), Time(0));
    let mut delivery = Delivery::new(record, Time(0));
    for seconds in [899, 900, 901, 2000] {
        delivery.handle_input(Input::Tick, at(seconds));
    }
    assert_eq!(events(&mut delivery), [Event::Warn(Reason::Unreachable)]);
}

#[test]
fn a_recall_ends_where_the_receiver_was_restored_and_holds_nothing() {
    for tier in [Tier::Delivered, Tier::Released] {
        let mut delivery = start();
        for input in [Input::PeerUp, Input::Accepted, Input::Left, Input::Receipt(Verdict::Held(tier))] {
            delivery.handle_input(input, at(1));
        }
        events(&mut delivery);
        delivery.handle_input(Input::Receipt(Verdict::NotHeld), at(2));
        assert_eq!((delivery.record().state, events(&mut delivery)), (tier.into(), vec![]), "nobody wants it back");
        delivery.handle_input(Input::Recall, at(3));
        delivery.handle_input(Input::Receipt(Verdict::NotHeld), at(4));
        assert_eq!(events(&mut delivery), [Event::AskRecall, Event::Resolved]);
        assert_eq!((delivery.record().state, delivery.record().recalling), (State::Recalled, false));
    }
}

#[test]
fn a_recall_that_was_not_kept_can_be_wished_again() {
    let mut delivery = start();
    for input in [Input::PeerUp, Input::Accepted, Input::Left, Input::Recall] {
        delivery.handle_input(input, at(1));
    }
    events(&mut delivery);
    delivery.forget_recall();
    delivery.handle_input(Input::Recall, at(2));
    assert_eq!(events(&mut delivery), [Event::AskRecall]);
}
