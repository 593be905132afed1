//! The fixed workload: some forty messages in both directions, receipts, a report, a change of the agreement, and what a day brings beside.
//!
//! Every step goes through the same calls as the exchange and the service make, and notes in the [`Model`] what was
//! acknowledged by it: what a crash must not take back.

use std::collections::BTreeMap;
use std::time::Duration;

use pakt_protocol::audit::MessageStep;
use pakt_protocol::codec;
use pakt_protocol::delivery::{Input, Reason, Record};
use pakt_protocol::ids::CoreHash;
use pakt_protocol::message::Offer;
use pakt_protocol::record::envelope::{EnvelopeCore, Priority, SUITE};
use pakt_protocol::record::receipt::{RECEIPT_FILE_BYTES_MAX, Receipt, SignedReceipt, Tier, Verdict, receipt_bytes};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::settling::Late;
use pakt_protocol::time::Time;
use zeroize::Zeroizing;

use super::world::{Content, Node, World, envelope_id, message_id, subject};
use crate::ambient;
use crate::audit::verify::Held;
use crate::mailroom::inbox::{Arrival, ArrivalNote};
use crate::mailroom::receipts::{advance, after};
use crate::mailroom::rows::{InItem, InMessage, OutEnvelope, OutMessage, Stage};
use crate::mailroom::{MailError, incoming_owner, outgoing_owner};
use crate::store::StoreError;

/// Messages that are sent, and as many that are received.
const EACH_WAY: u8 = 20;
/// All messages; there is one more, which no step of the workload uses.
pub(super) const MESSAGES: u8 = 2 * EACH_WAY;
const GROUP: GroupId = GroupId([6; 16]);
pub(super) const NEW_GROUP: &str = "Radiology";
const DAY: Duration = Duration::from_secs(86_400);

/// One thing that a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Seals and submits.
    Send(u8),
    /// Accepts, stores, commits, answers.
    Receive(u8),
    /// Is offered once more what it has answered.
    Again(u8),
    /// Takes the receipt of something sent.
    Confirm(u8),
    /// Gives something up, and tells its group.
    Report(u8),
    /// Somebody looks into a message.
    Read(u8),
    /// A message that arrived is released, or taken.
    Advance(u8, Stage),
    /// The sender says that it holds what was stated so far.
    Told(u8),
    /// The counterpart's amendment comes.
    Offered,
    /// And is countersigned.
    Amend,
    /// A new epoch.
    Epoch,
    /// The slots are written anew.
    Slots,
    /// A new group.
    Group,
    /// The counterpart gets a head of the log.
    Head(u8),
    /// What nobody needs is removed.
    Tidy,
}

/// The workload.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for at in 0..EACH_WAY {
        steps.extend([Step::Send(at), Step::Receive(EACH_WAY + at)]);
        if let Some(earlier) = at.checked_sub(3) {
            steps.push(if earlier == 7 { Step::Report(earlier) } else { Step::Confirm(earlier) });
        }
        steps.extend(match at {
            1 => Some(Step::Read(EACH_WAY)),
            2 => Some(Step::Head(1)),
            4 => Some(Step::Offered),
            5 => Some(Step::Amend),
            6 => Some(Step::Advance(EACH_WAY + 2, Stage::Released)),
            7 => Some(Step::Slots),
            8 => Some(Step::Told(EACH_WAY + 2)),
            9 => Some(Step::Again(EACH_WAY + 3)),
            10 => Some(Step::Advance(EACH_WAY + 2, Stage::Taken)),
            11 => Some(Step::Epoch),
            13 => Some(Step::Tidy),
            14 => Some(Step::Advance(EACH_WAY + 9, Stage::Quarantined)),
            15 => Some(Step::Group),
            17 => Some(Step::Head(3)),
            18 => Some(Step::Slots),
            _ => None,
        });
    }
    steps
}

/// Whether something must be there after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sure {
    /// It was acknowledged.
    Yes,
    /// It was begun, and may be there, but whole.
    Maybe,
}

impl Sure {
    fn of<T, E>(outcome: &Result<T, E>) -> Sure {
        if outcome.is_ok() { Sure::Yes } else { Sure::Maybe }
    }
}

/// How a sent message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Receipt(Vec<u8>),
    Report,
}

/// What was acknowledged so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) sent: BTreeMap<u8, Sure>,
    /// The receipt that may have left, if it was.
    pub(super) received: BTreeMap<u8, Option<Vec<u8>>>,
    /// How far what arrived was moved on, and the newest receipt of that if it was acknowledged.
    pub(super) stated: BTreeMap<u8, (Stage, Option<Vec<u8>>)>,
    /// Whose receipts the sender has confirmed, up to then.
    pub(super) told: BTreeMap<u8, Sure>,
    pub(super) ended: BTreeMap<u8, (Sure, End)>,
    pub(super) amended: Option<Sure>,
    pub(super) epoch: u64,
    pub(super) group: Option<Sure>,
    /// What others hold of the log.
    pub(super) held: Vec<Held>,
}

impl Model {
    pub(super) async fn step(&mut self, step: Step, node: &Node, world: &World) {
        match step {
            Step::Send(message) => {
                let sent = Sure::of(&send(node, world, message).await);
                self.sent.insert(message, sent);
            }
            Step::Receive(message) => self.receive(node, world, message).await,
            Step::Again(message) => self.again(node, world, message).await,
            Step::Confirm(message) => self.confirm(node, world, message).await,
            Step::Report(message) => {
                let reported = report(node, message).await;
                self.ended.insert(message, (Sure::of(&reported), End::Report));
            }
            Step::Advance(message, stage) => self.advance(node, world, message, stage).await,
            Step::Told(message) => {
                let held = vec![(envelope_id(message), Verdict::Held(Tier::Released))];
                let told = node.mailroom.receipts_held(world.peer.id(), held).await;
                self.told.insert(message, Sure::of(&told));
            }
            Step::Read(message) => {
                if let Ok(InItem::Message(item)) = node.mailroom.item(&envelope_id(message).0) {
                    let _ = node.mailroom.note_access(&item, MessageStep::Read);
                }
            }
            Step::Offered => drop(node.book.take_offer_file(world.amendment.as_bytes()).await),
            Step::Amend => {
                let _ = node.book.take_offer_file(world.amendment.as_bytes()).await;
                let amended = node.book.accept_amendment(&world.agreement, None, &world.own_root()).await;
                self.amended = Some(Sure::of(&amended));
            }
            Step::Epoch => {
                if node.book.roll_epoch_if_due(ambient::now() + DAY).await.is_ok() {
                    self.epoch = node.book.current_epoch();
                }
            }
            Step::Slots => drop(node.slots.rewrite()),
            Step::Group => self.group = Some(Sure::of(&node.book.group_add(NEW_GROUP).await)),
            Step::Head(day) => {
                let given = node.log.give(world.agreement, ambient::now() + DAY * u32::from(day)).await;
                let head = given.ok().flatten().map(|given| given.head.peek().unwrap());
                self.held.extend(head.as_ref().map(Held::from));
            }
            Step::Tidy => drop(node.blobs.reap().await),
        }
    }

    pub(super) async fn receive(&mut self, node: &Node, world: &World, message: u8) {
        let answered = receive(node, world, message).await.ok();
        if let Some(answered) = &answered {
            self.held.push(held_of(answered));
        }
        self.received.insert(message, answered);
    }

    /// The counterpart never got the receipt: the same bytes leave again.
    async fn again(&mut self, node: &Node, world: &World, message: u8) {
        let settled = node.mailroom.settled(&world.peer.id(), &envelope_id(message));
        let again = node.mailroom.commit(world.peer.id(), envelope_id(message), arrival(world, message)).await;
        let Some(Some(receipt)) = self.received.get(&message) else { return };
        for answer in [settled.ok().map(|row| row.expect("it is settled").receipt), again.ok()].into_iter().flatten() {
            assert!(answer == *receipt, "a duplicate of {message} got another receipt");
        }
    }

    /// The receipt comes while a machine is at work on the envelope, or later.
    async fn confirm(&mut self, node: &Node, world: &World, message: u8) {
        let receipt = receipt(world, message, false);
        let bytes = receipt_bytes(&receipt.sign(world.peer.current().statement()));
        let how = End::Receipt(bytes.clone());
        let kept = if message.is_multiple_of(2) {
            let settled = node.mailroom.settle(world.peer.id(), bytes, receipt).await;
            matches!(settled, Ok(Late::Keep | Late::Held))
        } else {
            let Ok(row) = node.mailroom.envelope(&envelope_id(message)) else { return };
            let (record, steps) = after(row.delivery, Input::Receipt(receipt.verdict));
            let kept = node.mailroom.keep(row.id, record, Some((bytes, receipt)), steps, (0, 0)).await;
            matches!(kept, Ok(true))
        };
        self.ended.insert(message, (if kept { Sure::Yes } else { Sure::Maybe }, how));
    }

    async fn advance(&mut self, node: &Node, world: &World, message: u8, stage: Stage) {
        let (arrived, own) = ((world.peer.id(), envelope_id(message)), world.own.current());
        let moved = node.store.write(move |tx| advance(tx, &own, arrived, stage)).await;
        let moved: Result<_, StoreError> = moved;
        let row = moved.ok().and_then(|_| node.mailroom.settled(&arrived.0, &arrived.1).ok().flatten());
        let newest = row.and_then(|row| row.later.last().map(|stated| stated.receipt.clone()));
        self.stated.insert(message, (stage, newest));
    }
}

/// Seals (that is done already), stores and submits, as the service does.
async fn send(node: &Node, world: &World, number: u8) -> Result<(), MailError> {
    let (content, envelope, message) = (world.content(number), envelope_id(number), message_id(number));
    let owner = outgoing_owner(&message);
    node.mailroom.note_early(world.agreement, envelope).await?;
    let stored = node.blobs.write_batch_pinned(world.own.id(), owner, &content.batch()).await;
    let submitted = match stored {
        Ok(()) => submit(node, world, number).await,
        Err(error) => Err(error.into()),
    };
    if submitted.is_err() {
        let _ = node.blobs.release(owner).await;
        let _ = node.mailroom.forget_early(world.agreement, envelope).await;
    }
    submitted
}

/// The core of an envelope that is sent, before it has its number.
fn core(world: &World, number: u8, content: &Content) -> Vec<u8> {
    let core = EnvelopeCore {
        suite: SUITE,
        message: message_id(number),
        envelope: envelope_id(number),
        sender: world.own.id(),
        recipient: world.peer.id(),
        group: GROUP,
        priority: Priority::Normal,
        submitted_at: Time(1),
        counts: content.counts(),
        agreement: world.agreement,
        agreement_version: 1,
        number: 0,
        root_hash: [0; 32],
    };
    core.to_bytes()
}

async fn submit(node: &Node, world: &World, number: u8) -> Result<(), MailError> {
    let (content, envelope, message) = (world.content(number), envelope_id(number), message_id(number));
    let out = OutMessage {
        id: message,
        sequence: 0,
        from_group: GROUP,
        from_name: String::new(),
        subject: subject(number),
        priority: Priority::Normal,
        purpose: None,
        submitted_at: Time(1),
        counts: content.counts(),
        key: None,
        envelopes: vec![envelope],
        earlier: vec![],
    };
    let row = OutEnvelope {
        id: envelope,
        message,
        sequence: 0,
        number: 0,
        agreement: world.agreement,
        entity: world.peer.id(),
        entity_name: String::new(),
        group: GROUP,
        group_name: String::new(),
        core: core(world, number, content),
        delivery: Record::new(Priority::Normal, DAY, ambient::now()),
        wire_bytes: 0,
        durable_bytes: 0,
        receipts: vec![],
    };
    node.mailroom.submit(out, vec![row], &content.key(), content.tree.objects.clone()).await
}

/// Receives one message, as the exchange does; gives the receipt that could leave.
async fn receive(node: &Node, world: &World, number: u8) -> Result<Vec<u8>, MailError> {
    let (content, from, envelope) = (world.content(number), world.peer.id(), envelope_id(number));
    let offer = Offer {
        envelope,
        group: GROUP,
        priority: Priority::Normal,
        agreement_version: 1,
        files: content.tree.totals.files,
        plain_bytes: content.tree.totals.bytes,
        objects: content.objects.len() as u64,
        sealed_bytes: content.tree.sealed_bytes,
        seconds_left: 60,
    };
    node.mailroom.begin_incoming(from, offer, Time(1), None).await?;
    node.blobs.write_batch_pinned(from, incoming_owner(&from, &envelope), &content.batch()).await?;
    node.mailroom.commit(from, envelope, arrival(world, number)).await
}

fn receipt(world: &World, number: u8, received: bool) -> Receipt {
    let (own, peer) = (&world.own, &world.peer);
    let (sender, recipient) = if received { (peer, own) } else { (own, peer) };
    Receipt {
        verdict: Verdict::Held(Tier::Delivered),
        core: core_of(number),
        message: message_id(number),
        envelope: envelope_id(number),
        sender: sender.id(),
        recipient: recipient.id(),
        agreement: world.agreement,
        agreement_hash: [5; 32],
        counts: world.content(number).counts(),
        offered_at: Time(6),
        at: Time(7),
        log_head: None,
        chain: recipient.chain(),
    }
}

fn core_of(number: u8) -> CoreHash {
    EnvelopeCore::hash_of(&[number])
}

/// What the receipt's holder can compare the log with.
fn held_of(bytes: &[u8]) -> Held {
    let signed: SignedReceipt = codec::decode(1, bytes, RECEIPT_FILE_BYTES_MAX).unwrap();
    let receipt = signed.peek().unwrap();
    Held::Receipt { envelope: receipt.envelope, core: receipt.core, blinded: receipt.log_head.unwrap() }
}

fn arrival(world: &World, number: u8) -> Arrival {
    let content = world.content(number);
    let message = InMessage {
        envelope: envelope_id(number),
        message: message_id(number),
        agreement: world.agreement,
        from: world.peer.id(),
        from_name: String::new(),
        from_group: String::new(),
        group: GROUP,
        group_name: String::new(),
        subject: subject(number),
        text: String::new(),
        purpose: None,
        priority: Priority::Normal,
        received_at: Time(1),
        keep_until: None,
        counts: content.counts(),
        key: None,
        stage: Stage::Checking,
        words: Vec::new(),
    };
    let (unsigned, own) = (receipt(world, number, true), world.own.current());
    Arrival {
        message: Some(message),
        scan: false,
        key: Zeroizing::new(*content.key().as_bytes()),
        segments: content.segments(),
        note: ArrivalNote {
            message: message_id(number),
            agreement: world.agreement,
            core: core_of(number),
            number: u64::from(number) + 1,
        },
        answer: Box::new(move |head| {
            receipt_bytes(&Receipt { log_head: Some(head.0), ..unsigned }.sign(own.statement()))
        }),
    }
}

/// Gives an envelope up, as when its group is gone.
async fn report(node: &Node, message: u8) -> Result<bool, MailError> {
    let row = node.mailroom.envelope(&envelope_id(message))?;
    let (record, steps) = after(row.delivery, Input::Stopped(Reason::GroupGone));
    node.mailroom.keep(row.id, record, None, steps, (0, 0)).await
}
