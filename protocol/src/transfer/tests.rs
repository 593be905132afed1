//! Both machines against each other, with every cut of the conversation and hostile input at every step.

use super::incoming::{self, ASKED_MAX, Incoming, OpenRefusal};
use super::outgoing::{self, Outcome, Outgoing};
use crate::ids::{AgreementId, CoreHash, EnvelopeId, MessageId, ObjectId};
use crate::machine::Output;
use crate::message::offer::{ANNOUNCE_AHEAD_MAX, ANNOUNCE_ENTRIES_MAX, ObjectEntry, Refusal};
use crate::message::{Announce, Answer, Envelope, Message, Offer, Ready, Withdraw};
use crate::record::envelope::{Counts, EnvelopeCore, OpenEnvelope, Priority, SUITE, SealedEnvelope};
use crate::record::receipt::{Receipt, Tier, Verdict};
use crate::record::roster::GroupId;
use crate::record::tests::Party;
use crate::time::Time;
use getrandom::SysRng;
use pakt_keys::sealing::EpochKey;
use rand_core::UnwrapErr;

const ENVELOPE: EnvelopeId = EnvelopeId([1; 16]);

fn offer(objects: u64) -> Offer {
    Offer {
        envelope: ENVELOPE,
        group: GroupId([2; 16]),
        priority: Priority::Normal,
        agreement_version: 1,
        files: 1,
        plain_bytes: 100 * objects,
        objects,
        sealed_bytes: 100 * objects,
        seconds_left: 60,
    }
}

fn entry(at: u64) -> ObjectEntry {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&at.to_be_bytes());
    ObjectEntry { id: ObjectId(id), bytes: 100 }
}

fn core(objects: u64) -> EnvelopeCore {
    EnvelopeCore {
        suite: SUITE,
        message: MessageId([3; 16]),
        envelope: ENVELOPE,
        sender: Party::new(1).entity(),
        recipient: Party::new(2).entity(),
        group: GroupId([2; 16]),
        priority: Priority::Normal,
        submitted_at: Time(1),
        counts: Counts { files: 1, plain_bytes: 100, chunks: objects - 1, segments: 1, sealed_bytes: 100 * objects },
        agreement: AgreementId([4; 32]),
        agreement_version: 1,
        number: 1,
        root_hash: [5; 32],
    }
}

fn receipt(verdict: Verdict) -> Box<Receipt> {
    let core = core(2);
    Box::new(Receipt {
        verdict,
        core: CoreHash([0; 32]),
        message: core.message,
        envelope: ENVELOPE,
        sender: core.sender,
        recipient: core.recipient,
        agreement: core.agreement,
        agreement_hash: [0; 32],
        counts: core.counts,
        offered_at: Time(1),
        at: Time(2),
        log_head: None,
        chain: Party::new(2).chain,
    })
}

/// Two machines, their owners, and a count of what was pulled.
struct Pair {
    outgoing: Outgoing,
    incoming: Option<Incoming>,
    held: Vec<ObjectId>,
    objects: u64,
    transmitted: Vec<String>,
    pulled: u64,
    outcome: Option<Outcome>,
    epochs_gone: u8,
    sealed: SealedEnvelope,
}

impl Pair {
    fn new(objects: u64, held: Vec<ObjectId>) -> Pair {
        let epoch = EpochKey::generate(&mut UnwrapErr(SysRng));
        let statement = &Party::new(1).statement;
        let bytes = core(objects).to_bytes();
        let sealed = SealedEnvelope::seal(&bytes, &[6; 32], (1, &epoch.public()), statement, &mut UnwrapErr(SysRng));
        Pair {
            outgoing: Outgoing::new(offer(objects)),
            incoming: None,
            held,
            objects,
            transmitted: Vec::new(),
            pulled: 0,
            outcome: None,
            epochs_gone: 0,
            sealed,
        }
    }

    fn run(&mut self) {
        while self.step_outgoing() || self.step_incoming() {}
    }

    fn step_outgoing(&mut self) -> bool {
        let Some(output) = self.outgoing.poll_output() else {
            return false;
        };
        match output {
            Output::Transmit(message) => self.hand_to_receiver(message),
            Output::Persist(_) => self.outgoing.handle_input(outgoing::Input::Persisted),
            Output::Event(outgoing::Event::NameObjects { first, max }) => {
                let end = self.objects.min(first + max as u64);
                let entries = (first..end).map(entry).collect();
                self.outgoing.handle_input(outgoing::Input::Objects { first, entries, last: end == self.objects });
            }
            Output::Event(outgoing::Event::Seal | outgoing::Event::SealAgain(_)) => {
                self.outgoing.handle_input(outgoing::Input::Sealed(Box::new(self.sealed.clone())));
            }
            Output::Event(outgoing::Event::Finished(outcome)) => self.outcome = Some(outcome),
            Output::Event(outgoing::Event::Misbehaved(what)) => panic!("{what}"),
            Output::Event(outgoing::Event::Accepted | outgoing::Event::Progress(_)) | Output::Deadline(_) => {}
        }
        true
    }

    fn hand_to_receiver(&mut self, message: Message) {
        self.transmitted.push(name(&message));
        match message {
            Message::Offer(offer) => self.incoming = Some(Incoming::new(offer, Time(1))),
            message => {
                let incoming = self.incoming.as_mut().expect("offered first");
                incoming.handle_input(incoming::Input::Message(message));
            }
        }
    }

    fn step_incoming(&mut self) -> bool {
        let Some(incoming) = self.incoming.as_mut() else {
            return false;
        };
        let Some(output) = incoming.poll_output() else {
            return false;
        };
        match output {
            Output::Transmit(Message::Receipt(message)) => {
                self.transmitted.push("Receipt".into());
                let receipt = receipt(Verdict::Held(Tier::Delivered));
                self.outgoing.handle_input(outgoing::Input::Receipt(message.receipt, receipt));
            }
            Output::Transmit(message) => {
                self.transmitted.push(name(&message));
                self.outgoing.handle_input(outgoing::Input::Message(message));
            }
            Output::Persist(incoming::Persist::Commit(..)) => {
                self.transmitted.push("COMMIT".into());
                incoming.handle_input(incoming::Input::Persisted(Some(vec![9])));
            }
            Output::Persist(_) => incoming.handle_input(incoming::Input::Persisted(None)),
            Output::Event(incoming::Event::Pull(wanted)) => {
                let fresh = wanted.iter().filter(|(_, entry)| !self.held.contains(&entry.id)).count();
                self.pulled += fresh as u64;
                self.held.extend(wanted.iter().map(|(_, entry)| entry.id));
                incoming.handle_input(incoming::Input::Held(wanted.iter().map(|(_, entry)| entry.id).collect()));
            }
            Output::Event(incoming::Event::Open(_)) => {
                let opened = if self.epochs_gone > 0 {
                    self.epochs_gone -= 1;
                    let roster = crate::record::Signed::from_parts(vec![], vec![]);
                    Err(OpenRefusal::EpochGone(Box::new(roster)))
                } else {
                    Ok(Box::new(OpenEnvelope { core: core(self.objects), hash: CoreHash([0; 32]) }))
                };
                incoming.handle_input(incoming::Input::Opened(opened));
            }
            Output::Event(incoming::Event::Misbehaved(what)) => panic!("{what}"),
            Output::Event(incoming::Event::Finished(_)) | Output::Deadline(_) => {}
        }
        true
    }
}

fn name(message: &Message) -> String {
    let text = format!("{message:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}

#[test]
fn the_straight_path_commits_before_the_receipt() {
    let mut pair = Pair::new(3, vec![]);
    pair.run();
    let expected =
        ["Offer", "Announce", "Answer", "Progress", "Ready", "Envelope", "COMMIT", "Receipt"].map(String::from);
    assert_eq!(pair.transmitted, expected);
    assert_eq!(pair.outcome, Some(Outcome::Settled(Verdict::Held(Tier::Delivered))));
}

#[test]
fn what_is_held_is_not_pulled_again() {
    let mut pair = Pair::new(10_000, (0..9_000).map(|at| entry(at).id).collect());
    pair.run();
    assert_eq!(pair.pulled, 1_000);
    assert!(pair.outcome.is_some());
}

#[test]
fn an_epoch_that_is_gone_moves_no_content_again() {
    let mut pair = Pair::new(3, vec![]);
    pair.epochs_gone = 3;
    pair.run();
    assert_eq!(pair.pulled, 3);
    assert_eq!(pair.transmitted.iter().filter(|name| *name == "Envelope").count(), 4);
    assert!(pair.outcome.is_some());
}

#[test]
fn a_withdrawn_offer_is_dropped_durably_first() {
    let mut pair = Pair::new(3, vec![]);
    pair.outgoing.handle_input(outgoing::Input::Withdraw);
    pair.run();
    assert_eq!(pair.outcome, Some(Outcome::Withdrawn));
    assert!(!pair.transmitted.contains(&"COMMIT".to_owned()));
}

fn receiver_at_ready() -> Incoming {
    let mut incoming = Incoming::new(offer(2), Time(1));
    incoming.handle_input(incoming::Input::Persisted(None));
    let announce = Announce { envelope: ENVELOPE, first: 0, entries: vec![entry(0), entry(1)], last: true };
    incoming.handle_input(incoming::Input::Message(announce.into()));
    incoming.handle_input(incoming::Input::Held(vec![entry(0).id, entry(1).id]));
    while incoming.poll_output().is_some() {}
    incoming
}

#[test]
fn p19_a_sender_that_lies_is_refused() {
    let announce = |first, entries: Vec<ObjectEntry>, last| {
        Message::Announce(Announce { envelope: ENVELOPE, first, entries, last })
    };
    let sized = |bytes| vec![ObjectEntry { bytes, ..entry(0) }];
    let rows: [(&str, Vec<Message>); 6] = [
        ("out of order", vec![announce(1, vec![entry(1)], false)]),
        ("empty object", vec![announce(0, sized(0), true)]),
        ("huge object", vec![announce(0, sized(u32::MAX), true)]),
        ("one object with two sizes", vec![announce(0, [sized(100), sized(99)].concat(), true)]),
        ("envelope before its objects", vec![announce(0, vec![entry(0)], false), ready()]),
        ("announces after the last", vec![announce(0, vec![entry(0)], true), announce(1, vec![entry(1)], true)]),
    ];
    for (what, messages) in rows {
        let mut incoming = Incoming::new(offer(2), Time(1));
        incoming.handle_input(incoming::Input::Persisted(None));
        for message in messages {
            incoming.handle_input(incoming::Input::Message(message));
        }
        let outputs: Vec<_> = std::iter::from_fn(|| incoming.poll_output()).collect();
        let caught = outputs.iter().any(|o| matches!(o, Output::Event(incoming::Event::Misbehaved(_))));
        assert!(caught, "{what}: {outputs:?}");
        assert_eq!(incoming.state(), incoming::State::Done, "{what}");
    }
}

fn ready() -> Message {
    Ready { envelope: ENVELOPE }.into()
}

#[test]
fn more_than_offered_is_refused() {
    let mut incoming = Incoming::new(offer(2), Time(1));
    incoming.handle_input(incoming::Input::Persisted(None));
    let entries = vec![entry(0), entry(1), entry(2)];
    let message = Announce { envelope: ENVELOPE, first: 0, entries, last: true };
    incoming.handle_input(incoming::Input::Message(message.into()));
    let outputs: Vec<_> = std::iter::from_fn(|| incoming.poll_output()).collect();
    let refused =
        Output::Transmit(Message::Answer(Answer::Refuse { envelope: ENVELOPE, reason: Refusal::OutsideOffer }));
    assert!(outputs.contains(&refused), "{outputs:?}");
}

#[test]
fn an_envelope_must_lie_within_its_offer() {
    type Change = fn(&mut EnvelopeCore);
    let rows: [Change; 6] = [
        |core| core.envelope = EnvelopeId([9; 16]),
        |core| core.group = GroupId([9; 16]),
        |core| core.priority = Priority::Urgent,
        |core| core.counts.files = 2,
        |core| core.counts.plain_bytes = 201,
        |core| core.counts.chunks = 2,
    ];
    for change in rows {
        let mut incoming = receiver_at_ready();
        let sealed = Pair::new(2, vec![]).sealed;
        incoming.handle_input(incoming::Input::Message(Envelope { envelope: ENVELOPE, sealed }.into()));
        let mut core = core(2);
        change(&mut core);
        let open = Box::new(OpenEnvelope { core, hash: CoreHash([0; 32]) });
        incoming.handle_input(incoming::Input::Opened(Ok(open)));
        let outputs: Vec<_> = std::iter::from_fn(|| incoming.poll_output()).collect();
        assert!(!outputs.iter().any(|o| matches!(o, Output::Persist(incoming::Persist::Commit(..)))), "{outputs:?}");
    }
}

#[test]
fn p28_a_withdrawal_after_the_envelope_gets_the_receipt() {
    let mut incoming = receiver_at_ready();
    let sealed = Pair::new(2, vec![]).sealed;
    incoming.handle_input(incoming::Input::Message(Envelope { envelope: ENVELOPE, sealed }.into()));
    incoming.handle_input(incoming::Input::Message(Withdraw { envelope: ENVELOPE }.into()));
    let open = Box::new(OpenEnvelope { core: core(2), hash: CoreHash([0; 32]) });
    incoming.handle_input(incoming::Input::Opened(Ok(open)));
    incoming.handle_input(incoming::Input::Persisted(Some(vec![7])));
    let outputs: Vec<_> = std::iter::from_fn(|| incoming.poll_output()).collect();
    assert!(outputs.iter().any(|o| matches!(o, Output::Transmit(Message::Receipt(_)))), "{outputs:?}");
}

/// Everything that the sender says until it wants something.
fn transmitted(outgoing: &mut Outgoing) -> Vec<Message> {
    std::iter::from_fn(|| outgoing.poll_output())
        .filter_map(|output| match output {
            Output::Transmit(message) => Some(message),
            _ => None,
        })
        .collect()
}

#[test]
fn objects_are_named_as_they_become_durable() {
    let mut outgoing = Outgoing::new(offer(10));
    assert!(matches!(transmitted(&mut outgoing)[..], [Message::Offer(_)]), "there is nothing to name yet");
    // One announcement may overtake the answer, and no more.
    outgoing.handle_input(named(0, false));
    outgoing.handle_input(named(1, false));
    assert!(matches!(&transmitted(&mut outgoing)[..], [Message::Announce(announce)] if announce.first == 0));
    let accept = Message::Answer(Answer::Accept { envelope: ENVELOPE });
    outgoing.handle_input(outgoing::Input::Message(accept));
    let wanted: Vec<_> = std::iter::from_fn(|| outgoing.poll_output()).collect();
    let name = outgoing::Event::NameObjects { first: 1, max: ANNOUNCE_ENTRIES_MAX };
    assert_eq!(wanted, [Output::Event(outgoing::Event::Accepted), Output::Event(name)]);
    // However long that takes; meanwhile the receiver says how far it is.
    let progress = crate::message::Progress { envelope: ENVELOPE, objects: 1, bytes: 100 };
    outgoing.handle_input(outgoing::Input::Message(progress.into()));
    outgoing.handle_input(named(1, false));
    outgoing.handle_input(named(2, true));
    assert_eq!(outgoing.state(), outgoing::State::Pulled);
    let announced = transmitted(&mut outgoing);
    assert!(matches!(&announced[..], [Message::Announce(one), Message::Announce(two)]
        if (one.first, one.last, two.first, two.last) == (1, false, 2, true)));
}

/// One object in answer to the machine's question.
fn named(first: u64, last: bool) -> outgoing::Input {
    outgoing::Input::Objects { first, entries: vec![entry(first)], last }
}

#[test]
fn a_question_that_is_answered_twice_names_nothing_twice() {
    let mut outgoing = Outgoing::new(offer(10));
    // Nothing is durable yet when the offer is accepted, so the question of the offer is still open.
    outgoing.handle_input(outgoing::Input::Message(Message::Answer(Answer::Accept { envelope: ENVELOPE })));
    outgoing.handle_input(named(0, false));
    outgoing.handle_input(named(0, false));
    outgoing.handle_input(named(1, true));
    let places: Vec<u64> = transmitted(&mut outgoing)
        .into_iter()
        .filter_map(|message| match message {
            Message::Announce(announce) => Some(announce.first),
            _ => None,
        })
        .collect();
    assert_eq!(places, [0, 1]);
    assert_eq!(outgoing.state(), outgoing::State::Pulled);
}

#[test]
fn a_ready_before_the_last_object_is_named_is_a_lie() {
    let mut outgoing = Outgoing::new(offer(10));
    outgoing.handle_input(outgoing::Input::Message(Message::Answer(Answer::Accept { envelope: ENVELOPE })));
    outgoing.handle_input(named(0, false));
    outgoing.handle_input(outgoing::Input::Message(ready()));
    let outputs: Vec<_> = std::iter::from_fn(|| outgoing.poll_output()).collect();
    assert!(outputs.iter().any(|o| matches!(o, Output::Event(outgoing::Event::Misbehaved(_)))), "{outputs:?}");
    assert!(!outputs.iter().any(|o| matches!(o, Output::Persist(_))), "nothing leaves");
}

#[test]
fn what_is_named_early_can_be_taken_back_at_any_time() {
    for named in 0..3 {
        let mut incoming = Incoming::new(offer(9), Time(1));
        incoming.handle_input(incoming::Input::Persisted(None));
        for at in 0..named {
            let announce = Announce { envelope: ENVELOPE, first: at, entries: vec![entry(at)], last: false };
            incoming.handle_input(incoming::Input::Message(announce.into()));
        }
        incoming.handle_input(incoming::Input::Held((0..named / 2).map(|at| entry(at).id).collect()));
        incoming.handle_input(incoming::Input::Message(Withdraw { envelope: ENVELOPE }.into()));
        // What a lane still brings changes nothing.
        incoming.handle_input(incoming::Input::Held((0..named).map(|at| entry(at).id).collect()));
        let outputs: Vec<_> = std::iter::from_fn(|| incoming.poll_output()).collect();
        assert!(outputs.contains(&Output::Persist(incoming::Persist::Drop(ENVELOPE))), "{outputs:?}");
        assert!(!outputs.iter().any(|o| matches!(o, Output::Transmit(Message::Ready(_)))), "{outputs:?}");
        incoming.handle_input(incoming::Input::Persisted(None));
        let withdrawn = std::iter::from_fn(|| incoming.poll_output());
        assert!(withdrawn.into_iter().any(|o| matches!(o, Output::Transmit(Message::Withdrawn(_)))));
    }
}

#[test]
fn space_is_needed_for_what_was_offered_until_everything_is_named() {
    let mut incoming = Incoming::new(offer(10), Time(1));
    incoming.handle_input(incoming::Input::Persisted(None));
    assert_eq!(incoming.bytes_to_come(), 1_000);
    let announce = |first, entries, last| Message::Announce(Announce { envelope: ENVELOPE, first, entries, last });
    incoming.handle_input(incoming::Input::Message(announce(0, vec![entry(0), entry(1)], false)));
    incoming.handle_input(incoming::Input::Held(vec![entry(0).id]));
    assert_eq!(incoming.bytes_to_come(), 900);
    incoming.handle_input(incoming::Input::Message(announce(2, vec![entry(2)], true)));
    assert_eq!(incoming.bytes_to_come(), 200);
    incoming.handle_input(incoming::Input::Held(vec![entry(1).id, entry(2).id]));
    assert_eq!(incoming.bytes_to_come(), 0);
}

#[test]
fn an_announcement_may_overtake_the_decision_but_only_one() {
    let announce = |first, count: u64| {
        let entries = (first..first + count).map(entry).collect();
        incoming::Input::Message(Announce { envelope: ENVELOPE, first, entries, last: false }.into())
    };
    let mut incoming = Incoming::new(offer(5_000), Time(1));
    incoming.handle_input(announce(0, 2));
    incoming.handle_input(incoming::Input::Persisted(None));
    let outputs: Vec<_> = std::iter::from_fn(|| incoming.poll_output()).collect();
    assert!(
        matches!(&outputs[..], [
        Output::Persist(incoming::Persist::Begin(..)),
        Output::Transmit(Message::Answer(Answer::Accept { .. })),
        Output::Event(incoming::Event::Pull(wanted)),
    ] if wanted.len() == 2),
        "{outputs:?}"
    );

    for hostile in [vec![announce(0, 2), announce(2, 2)], vec![announce(0, ANNOUNCE_AHEAD_MAX as u64 + 1)]] {
        let mut incoming = Incoming::new(offer(5_000), Time(1));
        hostile.into_iter().for_each(|input| incoming.handle_input(input));
        assert_eq!(incoming.state(), incoming::State::Done);
    }
}

#[test]
fn however_many_objects_are_named_only_some_are_asked_for_at_a_time() {
    const MANY: u64 = 10 * ASKED_MAX as u64 + 77;
    let mut incoming = Incoming::new(Offer { files: MANY, ..offer(MANY) }, Time(1));
    incoming.handle_input(incoming::Input::Persisted(None));
    let mut asked: Vec<ObjectId> = Vec::new();
    let pull = |incoming: &mut Incoming, asked: &mut Vec<ObjectId>| {
        while let Some(output) = incoming.poll_output() {
            if let Output::Event(incoming::Event::Pull(wanted)) = output {
                asked.extend(wanted.iter().map(|(_, entry)| entry.id));
            }
        }
    };
    for first in (0..MANY).step_by(ANNOUNCE_ENTRIES_MAX) {
        let end = MANY.min(first + ANNOUNCE_ENTRIES_MAX as u64);
        let entries = (first..end).map(entry).collect();
        let announce = Announce { envelope: ENVELOPE, first, entries, last: end == MANY };
        incoming.handle_input(incoming::Input::Message(announce.into()));
        pull(&mut incoming, &mut asked);
    }
    assert_eq!(asked.len(), ASKED_MAX, "the sender may name all of them at once");
    assert_eq!(incoming.bytes_to_come(), 100 * MANY);
    let mut held = 0;
    while incoming.state() == incoming::State::Pulling {
        let batch = asked[held..asked.len().min(held + 1_000)].to_vec();
        held += batch.len();
        incoming.handle_input(incoming::Input::Held(batch));
        pull(&mut incoming, &mut asked);
        assert!(asked.len() - held <= ASKED_MAX);
        assert!(
            held as u64 == MANY || asked.len() - held > ASKED_MAX / 2 || asked.len() as u64 == MANY,
            "lanes are busy"
        );
    }
    assert_eq!((incoming.state(), held as u64, incoming.bytes_to_come()), (incoming::State::Ready, MANY, 0));
}

#[test]
fn what_cannot_be_kept_is_dropped_and_refused_once() {
    use incoming::{Event, Fault, Input, Persist};
    let rows = [(Fault::Full, Refusal::NoSpace), (Fault::IdTaken, Refusal::Conflict), (Fault::Other, Refusal::Busy)];
    for (fault, reason) in rows {
        let mut machine = Incoming::new(offer(2), Time(1));
        assert!(matches!(machine.poll_output(), Some(Output::Persist(Persist::Begin(..)))));
        machine.handle_input(Input::Failed(fault));
        machine.handle_input(Input::Failed(fault));
        let outputs: Vec<_> = std::iter::from_fn(|| machine.poll_output()).collect();
        let refusal = Answer::Refuse { envelope: ENVELOPE, reason }.into();
        let dropped = Output::Persist(Persist::Drop(ENVELOPE));
        assert_eq!(outputs, [dropped, Output::Transmit(refusal), Output::Event(Event::Finished(false))]);
    }
}

#[test]
fn p6_what_is_halted_is_refused_and_what_is_durable_of_it_stays() {
    use incoming::{Event, Input, Persist};
    for reason in [Refusal::Suspended, Refusal::NotBegun] {
        let mut machine = Incoming::new(offer(2), Time(1));
        assert!(matches!(machine.poll_output(), Some(Output::Persist(Persist::Begin(..)))));
        machine.handle_input(Input::Persisted(None));
        machine.handle_input(Input::Halted(reason));
        machine.handle_input(Input::Halted(reason));
        let outputs: Vec<_> = std::iter::from_fn(|| machine.poll_output()).collect();
        let accepted = Output::Transmit(Answer::Accept { envelope: ENVELOPE }.into());
        let refused = Output::Transmit(Answer::Refuse { envelope: ENVELOPE, reason }.into());
        assert_eq!(outputs, [accepted, refused, Output::Event(Event::Finished(false))]);
    }
}

#[test]
fn an_envelope_goes_by_this_agreement_and_its_purposes() {
    let core = core(2);
    let check = |agreement, version| incoming::check_agreement(&core, &agreement, version).is_ok();
    assert!(check(core.agreement, 1) && check(core.agreement, 2), "it was sealed before an amendment");
    assert!(!check(core.agreement, 0) && !check(AgreementId([0; 32]), 1));
    let (agreed, other) = (["radiology".to_owned()], "billing".to_owned());
    let rows = [(&agreed[..], Some(&agreed[0]), true), (&agreed, Some(&other), false), (&agreed, None, false)];
    for (agreed, purpose, lets_in) in rows {
        assert_eq!(incoming::is_for_agreed_purpose(agreed, purpose), lets_in);
        assert!(incoming::is_for_agreed_purpose(&[], purpose));
    }
}
