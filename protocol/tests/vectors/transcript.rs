//! The golden transcript: what two nodes of the first release said to each other over one message, kept as it was said.
//!
//! A later version proves with it that it still talks to that release: it takes each side's place in turn, is fed what the
//! other side said, and has to go the same way. A file is written once, when a release is made
//! (`PAKT_WRITE_TRANSCRIPT=1 cargo test -p pakt-protocol --test vectors transcript`), and never again.
//!
//! **Invariant:** what was recorded is read from the file, also by the build that wrote it.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;

use pakt_protocol::bulk::{BULK_HEAD_BYTES, BulkFrame, BulkKind};
use pakt_protocol::content::manifest::{Bounds, ManifestKey, ManifestReader};
use pakt_protocol::door::DoorTable;
use pakt_protocol::hello::{Hello, VersionRange};
use pakt_protocol::ids::{AgreementId, EnvelopeId, ObjectId};
use pakt_protocol::machine::Output;
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::message::{
    Announce, Answer, Envelope, LaneOpen, LaneOpened, Message, Offer, Progress, Ready, ReceiptMessage, RosterUpdate,
    WantLanes,
};
use pakt_protocol::policy::{Footing, OfferView};
use pakt_protocol::record::Signed;
use pakt_protocol::record::chain::CertifiedNode;
use pakt_protocol::record::envelope::{EnvelopeCore, Priority, SealedEnvelope};
use pakt_protocol::record::receipt::{Tier, Verdict, verify_from};
use pakt_protocol::record::roster::{GroupId, Roster, RosterGroup};
use pakt_protocol::session::{self, Opening, Session, Standing};
use pakt_protocol::time::Time;
use pakt_protocol::transfer::{incoming, outgoing};

use crate::parties::{NOW, Party};
use crate::story::{self, EPOCH, FLIGHT_COUNTER, Story, manifest_key, sealed_chunks};
use crate::wire::{self, Wire};

/// The release whose words are kept here.
const RELEASE: &str = "0.1";

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    A,
    B,
}

/// Something that was said: on which lane, by whom, which bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    lane: &'static str,
    by: By,
    bytes: Vec<u8>,
}

const LANES: [&str; 4] = ["door", "hello", "control", "bulk"];

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join("transcripts").join(format!("{RELEASE}.txt"))
}

/// Reads the file; writes it first if that is asked for.
fn recorded() -> Vec<Said> {
    if std::env::var_os("PAKT_WRITE_TRANSCRIPT").is_some_and(|value| value == "1") {
        let lines = conversation(&Story::new())
            .into_iter()
            .map(|said| format!("{} {:?} {}\n", said.lane, said.by, hex::encode(said.bytes)));
        fs::create_dir_all(file().parent().expect("a folder")).expect("the folder can be made");
        fs::write(file(), lines.collect::<String>()).expect("the transcript can be written");
    }
    let text = fs::read_to_string(file()).expect("the transcript is there");
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("not a line of a transcript: {line:.60}"))).collect()
}

fn parse(line: &str) -> Option<Said> {
    let mut words = line.split(' ');
    let (lane, by, bytes) = (words.next()?, words.next()?, words.next()?);
    let lane = LANES.into_iter().find(|known| *known == lane)?;
    let by = match by {
        "A" => By::A,
        "B" => By::B,
        _ => return None,
    };
    Some(Said { lane, by, bytes: hex::decode(bytes).ok()? })
}

/// What A and B say over one message, from the door to the receipt.
fn conversation(story: &Story) -> Vec<Said> {
    let Story { a, b, .. } = story;
    let said = |lane, by, bytes: Vec<u8>| Said { lane, by, bytes };
    let control = |by, message: Message| said("control", by, message.to_bytes());
    let hello = |party: &Party| Wire::v1().raw(&party.chain()).u16(1).u16(1).u64(NOW).0;
    let limits = (1, 1_052_672, 64);
    let open = LaneOpen {
        kind: LaneKind::Control,
        slot: 0,
        agreement_version: limits.0,
        object_bytes_max: limits.1,
        requests_max: limits.2,
    };
    let opened = LaneOpened { agreement_version: limits.0, object_bytes_max: limits.1, requests_max: limits.2 };
    let receipt = story.good_receipt();
    let receipt = wire::record(&receipt, &b.sign(pakt_keys::signing::Domain::Receipt, &receipt));
    let envelope = EnvelopeId(story::id("envelope"));
    let objects = objects(story);
    let sealed = Message::from_bytes(&Wire::v1().u32(13).raw(&envelope.0).raw(&story.envelope()).0);
    let mut all = vec![
        said("door", By::A, story.flight().to_vec()),
        said("hello", By::A, hello(a)),
        said("hello", By::B, hello(b)),
        control(By::A, open.into()),
        control(By::B, opened.into()),
        control(By::A, RosterUpdate { roster: roster_of(story, a, b) }.into()),
        control(By::B, RosterUpdate { roster: roster_of(story, b, a) }.into()),
        control(By::A, offer(story, &objects).into()),
        control(By::A, announce(envelope, &objects).into()),
        control(By::B, Answer::Accept { envelope }.into()),
        control(By::B, WantLanes { kind: LaneKind::Bulk, count: 1 }.into()),
    ];
    for (index, object) in (0..).zip(&objects) {
        let frame =
            |kind, payload: &[u8]| [&BulkFrame { kind, envelope, index }.head(payload.len())[..], payload].concat();
        all.push(said("bulk", By::B, frame(BulkKind::Request, &[])));
        all.push(said("bulk", By::A, frame(BulkKind::Object, object)));
    }
    let bytes: u64 = objects.iter().map(|object| object.len() as u64).sum();
    all.extend([
        control(By::B, Progress { envelope, objects: objects.len() as u64, bytes }.into()),
        control(By::B, Ready { envelope }.into()),
        control(By::A, sealed.expect("the story's envelope is one")),
        control(By::B, ReceiptMessage { envelope, receipt }.into()),
    ]);
    all
}

/// Content first, then the manifest's segments.
fn objects(story: &Story) -> Vec<Vec<u8>> {
    sealed_chunks().into_iter().map(|(_, sealed)| sealed).chain(story.segments()).collect()
}

fn roster_of(story: &Story, issuer: &Party, reader: &Party) -> Signed<Roster> {
    let groups = vec![RosterGroup { id: GroupId(story::group("reception")), name: "Reception".into() }];
    let roster = Roster {
        issuer: issuer.entity(),
        reader: reader.entity(),
        agreement: AgreementId(story.agreement_id()),
        counter: 7,
        groups,
        epoch: EPOCH,
        epoch_key: issuer.epoch.public(),
    };
    Signed::create(&roster, |domain, bytes| issuer.sign(domain, bytes))
}

fn offer(story: &Story, objects: &[Vec<u8>]) -> Offer {
    let core: EnvelopeCore = pakt_protocol::codec::decode(1, &story.core(), 1024).expect("the story's core is one");
    Offer {
        envelope: core.envelope,
        group: core.group,
        priority: Priority::Normal,
        agreement_version: 1,
        files: core.counts.files,
        plain_bytes: core.counts.plain_bytes,
        objects: objects.len() as u64,
        sealed_bytes: core.counts.sealed_bytes,
        seconds_left: 3_600,
    }
}

fn announce(envelope: EnvelopeId, objects: &[Vec<u8>]) -> Announce {
    let entry = |object: &Vec<u8>| ObjectEntry { id: ObjectId::of(object), bytes: object.len() as u32 };
    Announce { envelope, first: 0, entries: objects.iter().map(entry).collect(), last: true }
}

/// What was said on control lanes by one side, after the lane was up.
fn heard(all: &[Said], by: By) -> VecDeque<Message> {
    let control = all.iter().filter(|said| said.lane == "control" && said.by == by).skip(1);
    control.map(|said| Message::from_bytes(&said.bytes).expect("a message of this release")).collect()
}

fn node_of(all: &[Said], by: By) -> CertifiedNode {
    let hello = all.iter().find(|said| said.lane == "hello" && said.by == by).expect("a hello");
    let hello = Hello::from_bytes(&hello.bytes).expect("a hello of this release");
    assert!(VersionRange::OURS.common(hello.versions).is_some(), "the versions meet");
    hello.chain.verify().expect("the chain holds")
}

fn session_with(roster: &Message) -> Session {
    let Message::Roster(update) = roster else { panic!("{roster:?} instead of a roster") };
    let roster = Some(update.roster.clone());
    let opening =
        Opening { standing: Standing::Active, contact: None, roster, shown: vec![], in_force: true, settling: false };
    Session::new(opening, Time(NOW))
}

/// The session's outputs; what it transmits goes to `spoken`.
fn session_events(session: &mut Session, spoken: &mut Vec<Message>) -> Vec<session::Event> {
    let mut events = Vec::new();
    while let Some(output) = session.poll_output() {
        match output {
            Output::Transmit(message) => spoken.push(message),
            Output::Event(event) => events.push(event),
            Output::Deadline(_) => {}
            Output::Persist(never) => match never {},
        }
    }
    events
}

fn check_roster(update: &Signed<Roster>, issuer: &CertifiedNode) {
    issuer.open_statement(update).expect("the roster is signed").check().expect("the roster is sound");
}

#[test]
fn every_frame_of_the_first_release_is_read_and_written_alike() {
    let all = recorded();
    let story = Story::new();
    for said in &all {
        match said.lane {
            "door" => {
                let mut doors = DoorTable::new();
                doors.set(AgreementId(story.agreement_id()), story.a.entity(), &[story.door()]);
                let flight = said.bytes.as_slice().try_into().expect("a flight has one length");
                assert_eq!(doors.open(flight).expect("it opens").counter, FLIGHT_COUNTER);
            }
            "hello" => assert_eq!(Hello::from_bytes(&said.bytes).expect("a hello").to_bytes(), said.bytes),
            "control" => assert_eq!(Message::from_bytes(&said.bytes).expect("a message").to_bytes(), said.bytes),
            _ => {
                let (length, rest) = said.bytes.split_at(4);
                let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
                let head: &[u8; BULK_HEAD_BYTES] = rest[..BULK_HEAD_BYTES].try_into().expect("a head");
                let (frame, payload) = BulkFrame::parse(length, head).expect("a bulk frame");
                assert_eq!([&frame.head(payload)[..], &rest[BULK_HEAD_BYTES..]].concat(), said.bytes);
            }
        }
    }
    assert!(all.len() >= 20, "{} frames are too few", all.len());
}

#[test]
fn this_build_receives_from_the_first_release() {
    let (all, story) = (recorded(), Story::new());
    let (mut from_a, expected) = (heard(&all, By::A), heard(&all, By::B));
    let (node_a, own) = (node_of(&all, By::A), story.b.entity());
    let mut session = session_with(&expected[0]);
    let (mut spoken, mut transfer) = (Vec::new(), None::<incoming::Incoming>);
    while let Some(message) = from_a.pop_front() {
        session.handle_input(session::Input::Message(message), Time(NOW));
        let mut events = VecDeque::from(session_events(&mut session, &mut spoken));
        while let Some(event) = events.pop_front() {
            match event {
                session::Event::TakeRoster(roster) => {
                    check_roster(&roster, &node_a);
                    session.handle_input(session::Input::RosterTaken(Ok(())), Time(NOW));
                }
                session::Event::LookUp(offer) => {
                    session.handle_input(session::Input::Found(offer, view(), None), Time(NOW));
                }
                session::Event::Receive(offer) => transfer = Some(incoming::Incoming::new(offer, Time(NOW))),
                session::Event::Incoming(_, message) => {
                    transfer.as_mut().expect("it was offered").handle_input(incoming::Input::Message(message));
                }
                session::Event::TellOwed | session::Event::Live => {}
                other => panic!("{other:?}"),
            }
            events.extend(session_events(&mut session, &mut spoken));
            if let Some(transfer) = &mut transfer {
                receive(transfer, &all, &story, (&node_a, &own), &mut spoken);
            }
        }
    }
    assert_eq!(spoken, without_lanes(expected));
}

/// Does what the receiving machine asks for, with the objects, the envelope and the receipt of the transcript.
fn receive(
    transfer: &mut incoming::Incoming,
    all: &[Said],
    story: &Story,
    (sender, own): (&CertifiedNode, &pakt_keys::EntityId),
    spoken: &mut Vec<Message>,
) {
    while let Some(output) = transfer.poll_output() {
        match output {
            Output::Transmit(message) => spoken.push(message),
            Output::Persist(incoming::Persist::Commit(..)) => {
                let receipt = heard(all, By::B).into_iter().find_map(|message| match message {
                    Message::Receipt(message) => Some(message.receipt),
                    _ => None,
                });
                transfer.handle_input(incoming::Input::Persisted(receipt));
            }
            Output::Persist(_) => transfer.handle_input(incoming::Input::Persisted(None)),
            Output::Event(incoming::Event::Pull(wanted)) => {
                let pulled = pulled(all);
                assert!(wanted.iter().all(|(index, entry)| ObjectId::of(&pulled[*index as usize]) == entry.id));
                transfer.handle_input(incoming::Input::Held(wanted.iter().map(|(_, entry)| entry.id).collect()));
            }
            Output::Event(incoming::Event::Open(sealed)) => {
                let open = sealed.verify(sender, own).expect("the envelope is signed");
                check_content(&sealed, story, all);
                transfer.handle_input(incoming::Input::Opened(Ok(Box::new(open))));
            }
            Output::Event(incoming::Event::Finished(committed)) => assert!(committed),
            Output::Event(incoming::Event::Misbehaved(what)) => panic!("{what}"),
            Output::Deadline(_) => {}
        }
    }
}

/// The objects as they came on bulk lanes.
fn pulled(all: &[Said]) -> Vec<Vec<u8>> {
    let objects = all.iter().filter(|said| said.lane == "bulk" && said.by == By::A);
    objects.map(|said| said.bytes[4 + BULK_HEAD_BYTES..].to_vec()).collect()
}

fn check_content(sealed: &SealedEnvelope, story: &Story, all: &[Said]) {
    let key = sealed.unwrap(&story.b.epoch).expect("the key unwraps");
    assert_eq!(*key, manifest_key());
    let mut reader = ManifestReader::new(ManifestKey::from_bytes(*key), Bounds::PROTOCOL);
    for segment in pulled(all).iter().skip(sealed_chunks().len()) {
        reader.feed(segment).expect("a segment opens");
    }
    reader.finish().expect("the manifest is whole");
}

fn view() -> OfferView {
    OfferView {
        footing: Footing::InForce,
        agreement_version: 1,
        message_bytes_max: u64::MAX,
        hold_seconds: u32::MAX,
        group_shown: true,
        free_bytes: u64::MAX,
        incoming: 0,
        incoming_objects: 0,
        rate_exceeded: false,
        is_resumed: false,
        is_purged: false,
        is_id_taken: false,
    }
}

/// Asking for lanes is the owner's business, not the machine's.
fn without_lanes(said: VecDeque<Message>) -> Vec<Message> {
    said.into_iter().filter(|message| !matches!(message, Message::WantLanes(_))).collect()
}

#[test]
fn this_build_sends_to_the_first_release() {
    let (all, story) = (recorded(), Story::new());
    let (mut from_b, expected) = (heard(&all, By::B), heard(&all, By::A));
    let node_b = node_of(&all, By::B);
    let mut session = session_with(&expected[0]);
    let (mut spoken, mut transfer) = (Vec::new(), None::<outgoing::Outgoing>);
    let mut outcome = None;
    while let Some(message) = from_b.pop_front() {
        session.handle_input(session::Input::Message(message), Time(NOW));
        let mut events = VecDeque::from(session_events(&mut session, &mut spoken));
        while let Some(event) = events.pop_front() {
            match event {
                session::Event::TakeRoster(roster) => {
                    check_roster(&roster, &node_b);
                    session.handle_input(session::Input::RosterTaken(Ok(())), Time(NOW));
                }
                session::Event::Live => {
                    let Message::Offer(offer) = &expected[1] else { panic!("an offer comes second") };
                    transfer = Some(outgoing::Outgoing::new(offer.clone()));
                }
                session::Event::Outgoing(_, Message::Receipt(message)) => {
                    let receipt = verify_from(&message.receipt, &node_b, &story.a.entity()).expect("it is signed");
                    let input = outgoing::Input::Receipt(message.receipt, Box::new(receipt));
                    transfer.as_mut().expect("it was offered").handle_input(input);
                }
                session::Event::Outgoing(_, message) => {
                    transfer.as_mut().expect("it was offered").handle_input(outgoing::Input::Message(message));
                }
                session::Event::TellOwed | session::Event::OpenLanes(LaneKind::Bulk, 1) => {}
                other => panic!("{other:?}"),
            }
            events.extend(session_events(&mut session, &mut spoken));
            if let Some(transfer) = &mut transfer {
                send(transfer, &expected, &mut spoken, &mut outcome);
            }
        }
    }
    assert_eq!(spoken, Vec::from(expected));
    assert_eq!(outcome, Some(outgoing::Outcome::Settled(Verdict::Held(Tier::Delivered))));
}

/// Does what the sending machine asks for, with the objects and the envelope of the transcript.
fn send(
    transfer: &mut outgoing::Outgoing,
    expected: &VecDeque<Message>,
    spoken: &mut Vec<Message>,
    outcome: &mut Option<outgoing::Outcome>,
) {
    while let Some(output) = transfer.poll_output() {
        match output {
            Output::Transmit(message) => spoken.push(message),
            Output::Persist(_) => transfer.handle_input(outgoing::Input::Persisted),
            Output::Event(outgoing::Event::NameObjects { first: 0, .. }) => {
                let Message::Announce(Announce { entries, .. }) = &expected[2] else { panic!("an announcement") };
                transfer.handle_input(outgoing::Input::Objects { first: 0, entries: entries.clone(), last: true });
            }
            Output::Event(outgoing::Event::Seal) => {
                let Some(Message::Envelope(Envelope { sealed, .. })) = expected.back() else { panic!("an envelope") };
                transfer.handle_input(outgoing::Input::Sealed(Box::new(sealed.clone())));
            }
            Output::Event(outgoing::Event::Finished(how)) => *outcome = Some(how),
            Output::Event(outgoing::Event::Accepted | outgoing::Event::Progress(_)) | Output::Deadline(_) => {}
            Output::Event(other) => panic!("{other:?}"),
        }
    }
}
