//! Every transition of the machine, as text that is reviewed when it changes: PAKT_WRITE_TRANSITIONS=1 writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::record::envelope::Priority;

const HOLD: Duration = Duration::from_secs(48 * 3600);

fn inputs() -> Vec<(&'static str, Input)> {
    vec![
        ("peer up", Input::PeerUp),
        ("peer down", Input::PeerDown),
        ("accepted", Input::Accepted),
        ("refused for good", Input::Refused(Refusal::TooLarge)),
        ("refused for now", Input::Refused(Refusal::Busy)),
        ("failed", Input::Failed),
        ("left", Input::Left),
        ("withdrawn", Input::Withdrawn),
        ("waits", Input::Waits(Reason::ControlMissing)),
        ("held", Input::Held(Reason::AgreementSuspended)),
        ("stopped", Input::Stopped(Reason::AgreementEnded)),
        ("recall", Input::Recall),
        ("tick", Input::Tick),
        ("receipt delivered", Input::Receipt(Verdict::Held(Tier::Delivered))),
        ("receipt released", Input::Receipt(Verdict::Held(Tier::Released))),
        ("receipt taken", Input::Receipt(Verdict::Held(Tier::Taken))),
        ("receipt unopenable", Input::Receipt(Verdict::Unopenable)),
        ("receipt conflict", Input::Receipt(Verdict::Conflict)),
        ("receipt purpose", Input::Receipt(Verdict::PurposeNotAgreed)),
        ("receipt quarantined", Input::Receipt(Verdict::Quarantined)),
        ("receipt recalled", Input::Receipt(Verdict::Recalled)),
        ("receipt returned", Input::Receipt(Verdict::Returned)),
        ("receipt not held", Input::Receipt(Verdict::NotHeld)),
    ]
}

/// A machine in this state, as the node would have brought it there.
fn at(state: State, (left, recalling, late): (bool, bool, bool), reason: Option<Reason>) -> Delivery {
    let mut record = Record::new(Priority::Normal, HOLD, Time(0));
    (record.left, record.recalling, record.reason) = (left, recalling, reason);
    (record.warned, record.reported) = (late, late && left && state.is_open());
    if record.reported {
        record.reason = Some(Reason::NotConfirmed);
    }
    let mut delivery = Delivery::new(record, Time(0));
    delivery.record.state = state;
    delivery.peer_up = state != State::Queued;
    delivery
}

fn outcome(mut delivery: Delivery, input: Input, now: Time) -> Option<String> {
    let before = delivery.record().clone();
    delivery.handle_input(input, now);
    let mut events = Vec::new();
    while let Some(output) = delivery.poll_output() {
        if let Output::Event(event) = output {
            events.push(format!("{event:?}"));
        }
    }
    let record = delivery.record();
    if (record.state, record.recalling, record.left) == (before.state, before.recalling, before.left)
        && (record.reason, record.stopped) == (before.reason, before.stopped)
        && events.is_empty()
    {
        return None;
    }
    let mut text = record.state.as_str().to_owned();
    let mut note = |what: String| write!(text, " {what}").expect("a string takes everything");
    if let Some(reason) = record.reason {
        note(format!("({})", reason.as_str()));
    }
    for (flag, name) in [(record.left != before.left, "+left"), (record.recalling && !before.recalling, "+recalling")] {
        if flag {
            note(name.to_owned());
        }
    }
    if !events.is_empty() {
        note(format!("[{}]", events.join(", ")));
    }
    Some(text)
}

fn table() -> String {
    let mut text = String::from(
        "# Every transition of an outgoing envelope. What is not listed changes nothing.\n\
         # state, flags: input -> state (reason) +flag [events]\n",
    );
    for state in State::ALL {
        let reasons = match state {
            State::Refused => vec![Some(Reason::Unopenable), Some(Reason::Quarantined)],
            _ => vec![None],
        };
        for reason in reasons {
            for flags in 0..8u8 {
                let (left, recalling, late) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                // What is settled has left, and time does nothing to it any more.
                if !state.is_open() && (!left || late) || state.is_final() && recalling {
                    continue;
                }
                let now = if late { Time::ZERO + HOLD } else { Time::from_seconds(60) };
                let flags = [(left, "left"), (recalling, "recalling"), (late, "hold over")];
                let flags: Vec<&str> = flags.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
                let why = reason.map(|reason| format!(" ({})", reason.as_str())).unwrap_or_default();
                writeln!(text, "\n{}{why}: {}", state.as_str(), flags.join(", ")).expect("a string takes everything");
                for (name, input) in inputs() {
                    if let Some(outcome) = outcome(at(state, (left, recalling, late), reason), input, now) {
                        writeln!(text, "  {name} -> {outcome}").expect("a string takes everything");
                    }
                }
            }
        }
    }
    text
}

#[test]
fn every_transition_is_as_it_was_reviewed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/delivery/transitions.txt");
    let table = table();
    if std::env::var_os("PAKT_WRITE_TRANSITIONS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (now, was)) in table.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(now, was, "line {}", line + 1);
    }
    assert_eq!(table.lines().count(), reviewed.lines().count());
}

#[test]
fn p30_a_final_state_stays_but_for_what_was_let_out_of_quarantine() {
    for state in State::ALL.into_iter().filter(|state| state.is_final()) {
        for (name, input) in inputs() {
            for now in [Time::from_seconds(60), Time::ZERO + HOLD] {
                let outcome = outcome(at(state, (true, false, false), Some(Reason::Unopenable)), input, now);
                assert_eq!(outcome, None, "{state:?} {name}");
            }
        }
    }
}
