//! What a reboot must find: everything that was acknowledged, whole; of what was not, nothing by half.

use std::collections::HashSet;
use std::fmt::Debug;

use pakt_protocol::content::manifest::{Bounds, ManifestKey};
use pakt_protocol::delivery::State;
use pakt_protocol::ids::ObjectId;
use pakt_protocol::record::receipt::Verdict;

use super::work::{End, MESSAGES, Model, NEW_GROUP, Sure};
use super::world::{AMENDED_BYTES_MAX, CHUNKS, Node, World, envelope_id, message_id, subject};
use crate::audit;
use crate::content::read_manifest;
use crate::disk::FaultDisk;
use crate::mailroom::MailError;
use crate::mailroom::rows::{InItem, InMessage, OutEnvelope, SettledRow, Stage};

/// One reboot's findings are compared with the model.
pub(super) struct Check<'a> {
    pub(super) node: &'a Node,
    pub(super) world: &'a World,
    pub(super) model: &'a Model,
    /// Which messages' content is read whole: these, and those of the last steps.
    pub(super) sample: u64,
    pub(super) context: &'a dyn Debug,
}

/// Content is read of one message in so many, and of the newest ones.
const SAMPLE_EVERY: u64 = 8;
const NEWEST: usize = 3;
/// More receipts than the workload owes.
const OWED_MAX: usize = 1_000;

impl Check<'_> {
    pub(super) async fn all(&self, disk: &FaultDisk) {
        self.received();
        self.sent();
        self.book();
        self.log();
        self.slots();
        self.tidy(disk).await;
    }

    fn reads(&self, message: u8, newest: impl DoubleEndedIterator<Item = u8>) -> bool {
        (u64::from(message) + self.sample).is_multiple_of(SAMPLE_EVERY)
            || newest.rev().take(NEWEST).any(|new| new == message)
    }

    fn received(&self) {
        let Check { node, world, model, context, .. } = self;
        let items = node.mailroom.inbox(None).unwrap();
        let mut count = 0;
        for (message, receipt) in &model.received {
            let settled = node.mailroom.settled(&world.peer.id(), &envelope_id(*message)).unwrap();
            let found: Vec<&InMessage> = items.iter().filter_map(|item| of(item, *message)).collect();
            assert_eq!(found.len(), usize::from(settled.is_some()), "message {message} and its answer {context:?}");
            match (receipt, &settled) {
                (Some(receipt), Some(settled)) => assert!(*receipt == settled.receipt, "{message} {context:?}"),
                (Some(_), None) => panic!("a receipt for {message} has left, and it is lost {context:?}"),
                (None, _) => {}
            }
            if let (Some(settled), [item]) = (&settled, &found[..]) {
                count += 1;
                self.stated(*message, settled, item);
                if self.reads(*message, model.received.keys().copied()) {
                    assert_eq!(item.subject, subject(*message));
                    let (segments, key) =
                        node.mailroom.opening(item).unwrap_or_else(|error| panic!("{error} {context:?}"));
                    assert_eq!(segments, world.content(*message).segments());
                    self.content(*message, world.peer.id(), key);
                }
            }
        }
        let messages = items.iter().filter(|item| matches!(item, InItem::Message(_))).count();
        assert_eq!(messages, count, "something nobody sent is in the inbox {context:?}");
    }

    /// Stage and statements belong together, none of them is lost, and the sender is told until it has confirmed.
    fn stated(&self, message: u8, settled: &SettledRow, item: &InMessage) {
        let Check { node, world, model, context, .. } = self;
        let newest = settled.later.last();
        let stage = newest.map_or(Stage::Checking, |stated| match stated.verdict {
            Verdict::Quarantined => Stage::Quarantined,
            verdict if verdict.place() == 3 => Stage::Taken,
            _ => Stage::Released,
        });
        assert_eq!(item.stage, stage, "{message} {context:?}");
        if let Some((stage, Some(receipt))) = model.stated.get(&message) {
            assert!(newest.is_some_and(|newest| newest.receipt == *receipt), "{message} {stage:?} {context:?}");
        }
        let owed = node.mailroom.owed(&world.peer.id(), &HashSet::new(), OWED_MAX).unwrap();
        let owed: Vec<Vec<u8>> =
            owed.into_iter().filter(|((envelope, _), _)| *envelope == item.envelope).map(|(_, owed)| owed).collect();
        let told = model.told.get(&message);
        for receipt in [&settled.receipt].into_iter().chain(settled.later.iter().map(|stated| &stated.receipt)) {
            let is_owed = owed.contains(receipt);
            assert!(is_owed || told.is_some(), "a receipt for {message} is not told any more {context:?}");
        }
        assert!(told != Some(&Sure::Yes) || owed.len() <= 1, "what is confirmed is told again {context:?}");
    }

    /// Every object bit for bit, and the manifest opens with this key.
    fn content(&self, message: u8, origin: pakt_keys::EntityId, key: ManifestKey) {
        let (content, context) = (self.world.content(message), self.context);
        for (entry, bytes) in &content.objects {
            let found = self.node.blobs.read_verified(origin, entry.id);
            assert!(found.as_ref().is_ok_and(|found| found == bytes), "an object of {message}: {found:?} {context:?}");
        }
        let manifest = read_manifest(&self.node.blobs, origin, &content.segments(), key, Bounds::PROTOCOL);
        let manifest = manifest.unwrap_or_else(|error| panic!("{message} does not open: {error} {context:?}"));
        assert_eq!(manifest.head.subject, subject(message));
    }

    fn sent(&self) {
        let Check { node, world, model, context, .. } = self;
        let open = node.mailroom.open_envelopes(&world.agreement).unwrap();
        let early = node.mailroom.early_offers(&world.agreement).unwrap();
        let mut count = 0;
        for (message, sure) in &model.sent {
            let row = match node.mailroom.envelope(&envelope_id(*message)) {
                Err(MailError::Missing) if *sure == Sure::Maybe => continue,
                row => row.unwrap_or_else(|error| panic!("sent {message}: {error} {context:?}")),
            };
            assert!(!early.contains(&row.id), "{message} would be withdrawn {context:?}");
            let is_open = open.iter().any(|open| open.id == row.id);
            assert_eq!(is_open, row.delivery.state.is_open(), "{message} {context:?}");
            self.end_of(*message, &row);
            if is_open {
                count += 1;
                self.unsent(*message);
            }
        }
        assert_eq!(open.len(), count, "something nobody submitted is in the queue {context:?}");
    }

    /// What has not ended can still be sent whole.
    fn unsent(&self, message: u8) {
        let Check { node, world, context, .. } = self;
        let objects: Vec<ObjectId> =
            node.mailroom.objects(&message_id(message)).unwrap().iter().map(|entry| entry.id).collect();
        let wanted: Vec<ObjectId> = world.content(message).tree.objects.iter().map(|entry| entry.id).collect();
        assert!(objects == wanted, "the objects of {message} {context:?}");
        let key = node.mailroom.manifest_key(&message_id(message));
        let key = key.unwrap_or_else(|error| panic!("the key of {message}: {error} {context:?}"));
        self.content(message, world.own.id(), ManifestKey::from_bytes(*key));
    }

    /// A state that was made known stays; one that was not may be there, with all that belongs to it.
    fn end_of(&self, message: u8, row: &OutEnvelope) {
        let (state, context) = (row.delivery.state, self.context);
        let reports = self.reports(message);
        let Some((sure, how)) = self.model.ended.get(&message) else {
            assert_eq!((state, reports), (State::Queued, 0), "{message} {context:?}");
            return;
        };
        assert!(!state.is_open() || *sure == Sure::Maybe, "{message} has ended, and is {state:?} again {context:?}");
        match how {
            _ if state.is_open() => assert_eq!((row.receipts.len(), reports), (0, 0), "{message} {context:?}"),
            End::Receipt(bytes) => {
                assert_eq!((state, reports), (State::Delivered, 0), "{message} {context:?}");
                assert!(row.receipts.iter().map(|held| &held.bytes).eq([bytes]), "{message} {context:?}");
            }
            End::Report => assert_eq!((state, reports), (State::Refused, 1), "one report of {message} {context:?}"),
        }
    }

    fn reports(&self, message: u8) -> usize {
        let items = self.node.mailroom.inbox(None).unwrap();
        let about = |item: &&InItem| matches!(item, InItem::Report(report) if report.envelope == envelope_id(message));
        items.iter().filter(about).count()
    }

    fn book(&self) {
        let Check { node, world, model, context, .. } = self;
        let agreement = node.book.get(&world.agreement).unwrap_or_else(|| panic!("no agreement {context:?}"));
        let amended = agreement.terms.message_bytes_max == AMENDED_BYTES_MAX;
        assert_eq!(amended, agreement.terms.version == 2);
        assert!(amended || model.amended != Some(Sure::Yes), "the amendment is lost {context:?}");
        assert!(!amended || model.amended.is_some(), "{context:?}");
        let epoch = node.book.current_epoch();
        assert!(epoch >= model.epoch && node.book.epoch_key(epoch).is_some(), "epoch {epoch} {context:?}");
        let group = node.book.group_by_name(NEW_GROUP).is_some();
        assert!(group || model.group != Some(Sure::Yes), "the group is lost {context:?}");
        assert!(!group || model.group.is_some(), "{context:?}");
    }

    fn log(&self) {
        let Check { node, model, context, .. } = self;
        let verified = node.store.read(|tx| audit::verify::verify(tx, &model.held)).unwrap();
        assert!(verified.is_ok(), "{verified:?} {context:?}");
    }

    /// No slot without a row, no row without a slot.
    fn slots(&self) {
        let Check { node, context, .. } = self;
        let mut needed = node.book.slots_in_use();
        for item in node.mailroom.inbox(None).unwrap() {
            needed.extend(if let InItem::Message(message) = item { message.key } else { None });
        }
        for message in 0..=MESSAGES {
            needed.extend(node.mailroom.message(&message_id(message)).ok().and_then(|message| message.key));
        }
        let mut kept = node.slots.list().unwrap();
        kept.sort();
        needed.sort();
        assert_eq!(kept, needed, "{context:?}");
    }

    /// Nothing that a crash littered remains.
    async fn tidy(&self, disk: &FaultDisk) {
        let (node, context) = (self.node, self.context);
        node.blobs.reap().await.unwrap();
        node.blobs.sweep().unwrap();
        let files = disk.contents().into_iter().filter(|(path, _)| path.starts_with(CHUNKS)).count();
        assert_eq!(files as u64, node.blobs.usage().unwrap().objects, "{context:?}");
    }

    /// While a fault goes on: an error is an answer, another byte or "there is none" is not.
    pub(super) fn serves_nothing_wrong(&self) {
        let Check { node, world, model, context, .. } = self;
        let acknowledged = model.received.iter().filter_map(|(message, receipt)| Some((message, receipt.as_ref()?)));
        for (message, receipt) in acknowledged {
            if let Ok(settled) = node.mailroom.settled(&world.peer.id(), &envelope_id(*message)) {
                let settled = settled.unwrap_or_else(|| panic!("{message} looks unanswered {context:?}"));
                assert!(settled.receipt == *receipt, "a wrong receipt for {message} {context:?}");
            }
            match node.mailroom.item(&envelope_id(*message).0) {
                Ok(InItem::Message(item)) => assert_eq!(item.subject, subject(*message), "{context:?}"),
                Ok(InItem::Report(_)) => panic!("{message} is a report {context:?}"),
                Err(MailError::Missing) => panic!("{message} is not found {context:?}"),
                Err(_) => {}
            }
        }
        for (message, sure) in &model.sent {
            let row = node.mailroom.envelope(&envelope_id(*message));
            assert!(!matches!(row, Err(MailError::Missing)) || *sure == Sure::Maybe, "{message} {context:?}");
        }
        let origins = model.sent.keys().map(|message| (world.own.id(), *message));
        let origins = origins.chain(model.received.keys().map(|message| (world.peer.id(), *message)));
        for (origin, message) in origins.filter(|(_, message)| (u64::from(*message) + self.sample).is_multiple_of(3)) {
            for (entry, bytes) in &world.content(message).objects {
                let served = node.blobs.read_to_serve(origin, entry.id);
                assert!(served.is_err() || served.is_ok_and(|served| served == *bytes), "{message} {context:?}");
            }
        }
    }
}

fn of(item: &InItem, message: u8) -> Option<&InMessage> {
    match item {
        InItem::Message(found) if found.envelope == envelope_id(message) => Some(found),
        _ => None,
    }
}
