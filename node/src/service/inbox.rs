//! What arrived: messages from counterparts and reports of this node.

use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pakt_protocol::audit::MessageStep;
use pakt_protocol::content::manifest::{Bounds, EntryKind, Manifest, Tree};
use pakt_protocol::record::roster::GroupId;
use tokio::io::AsyncRead;

use super::delivery::priority_of;
use super::{Answer, Node, blocking, ids, words};
use crate::api::types::*;
use crate::content::{read_manifest, tar_stream};
use crate::mailroom::page::Page;
use crate::mailroom::rows::{InItem, InMessage, Report, Stage};

/// How long a message that needs no scanner is waited for.
const RELEASE_WAIT: Duration = Duration::from_secs(60);
/// A tar stream without entries: the end mark alone.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

impl Node {
    /// What arrived, newest first, for one group or for all.
    ///
    /// # Errors
    /// `not_found` for an unknown group or item, or when the store fails.
    pub async fn inbox_list(&self, what: ListQuery) -> Answer<Vec<InboxItem>> {
        let group = what.group.map(|name| self.own_group(&name)).transpose()?;
        let node = self.clone();
        blocking(move || {
            let before = what.before.map(|id| node.inbox_named(&id)).transpose()?.map(|item| item.id());
            let page = Page::new(what.limit, before);
            Ok(node.inner.mailroom.inbox_page(group.as_ref(), &page, |item| node.inbox_item(item))?)
        })
        .await
    }

    /// One item with text and tree.
    ///
    /// # Errors
    /// `not_found`, or what is wrong with the stored message.
    pub async fn inbox_show(&self, id: String) -> Answer<InboxDetail> {
        self.until_released(&id).await?;
        let node = self.clone();
        blocking(move || {
            let item = node.inbox_named(&id)?;
            check_released(&item)?;
            let row = node.inbox_item(&item);
            match &item {
                InItem::Message(message) => {
                    let manifest = node.manifest(message)?;
                    node.inner.mailroom.note_access(message, MessageStep::Read)?;
                    let (tree, folders) = listed(&manifest.tree);
                    Ok(InboxDetail {
                        item: row,
                        message: message.message.to_string(),
                        purpose: message.purpose.clone(),
                        keep_until: node.inner.mailroom.kept_until(message)?.map(time_text),
                        text: message.text.clone(),
                        tree,
                        folders,
                    })
                }
                InItem::Report(report) => Ok(node.shown_report(row, report)),
            }
        })
        .await
    }

    /// The files of an item as a tar stream; a report has none.
    ///
    /// # Errors
    /// `not_found`, or what is wrong with the stored message. What is found to be damaged later ends the stream with an
    /// error.
    pub async fn inbox_content(&self, id: String) -> Answer<Pin<Box<dyn AsyncRead + Send>>> {
        self.until_released(&id).await?;
        let node = self.clone();
        let opened =
            blocking(move || match node.inbox_named(&id).and_then(|item| check_released(&item).map(|()| item))? {
                InItem::Message(message) => {
                    let manifest = node.manifest(&message)?;
                    node.inner.mailroom.note_access(&message, MessageStep::Saved)?;
                    Ok(Some((message.from, manifest)))
                }
                InItem::Report(_) => Ok(None),
            });
        Ok(match opened.await? {
            Some((from, manifest)) => {
                Box::pin(tar_stream(self.inner.blobs.clone(), from, Arc::new(manifest), &self.inner.pool))
            }
            None => Box::pin(Cursor::new(EMPTY_TAR)),
        })
    }

    /// Waits a little for the check of a message that needs no scanner: it follows delivery by itself.
    async fn until_released(&self, id: &str) -> Answer<()> {
        let mut changes = self.inner.mailroom.changes();
        let waiting = async {
            loop {
                let (node, id) = (self.clone(), id.to_owned());
                let waits = blocking(move || match node.inbox_named(&id)? {
                    InItem::Message(message) if message.stage == Stage::Checking => {
                        let waiting = node.inner.mailroom.waiting_to_release((message.from, message.envelope))?;
                        Ok(waiting.is_some_and(|row| !node.inner.release.scans(&row)))
                    }
                    _ => Ok(false),
                });
                if !waits.await? || changes.changed().await.is_err() {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(RELEASE_WAIT, waiting).await.unwrap_or(Ok(()))
    }

    /// A group of this entity.
    pub(super) fn own_group(&self, name: &str) -> Answer<GroupId> {
        let groups = self.inner.book.groups();
        let found = groups.iter().find(|group| group.name == name).map(|group| group.id);
        found.ok_or_else(|| {
            let names = words::list(groups.iter().map(|group| group.name.as_str()));
            let message = format!("this entity has no group {name}");
            ServiceError::new(ErrorCode::NotFound, message, format!("its groups are: {names}"))
        })
    }

    /// The item that was named, off the thread that asks.
    pub(super) async fn inbox_item_named(&self, id: String) -> Answer<InItem> {
        let node = self.clone();
        blocking(move || node.inbox_named(&id)).await
    }

    /// The item whose id, or the first digits of it, was typed.
    pub(super) fn inbox_named(&self, typed: &str) -> Answer<InItem> {
        let mailroom = &self.inner.mailroom;
        let found = ids::span(typed).map(|(first, last)| mailroom.items_named(first..=last)).transpose()?;
        let candidates = found.into_iter().flatten().map(|id| (hex::encode(id), id));
        let id = ids::pick("received message", typed, "pakt inbox list", candidates)?;
        Ok(mailroom.item(&id)?)
    }

    fn manifest(&self, message: &InMessage) -> Answer<Manifest> {
        let (segments, key) = self.inner.mailroom.opening(message)?;
        Ok(read_manifest(&self.inner.blobs, message.from, &segments, key, Bounds::PROTOCOL)?)
    }

    pub(super) fn inbox_item(&self, item: &InItem) -> InboxItem {
        match item {
            InItem::Message(message) => shown_message(message),
            InItem::Report(report) => {
                let own = self.inner.entity.party();
                let from =
                    Sender { entity: own.entity.to_string(), name: own.name.clone(), group: report.group_name.clone() };
                shown_report_row(report, from)
            }
        }
    }

    fn shown_report(&self, item: InboxItem, report: &Report) -> InboxDetail {
        let about = self.inner.mailroom.envelope(&report.envelope).map(|envelope| envelope.message.to_string());
        InboxDetail {
            item,
            message: about.unwrap_or_else(|_| report.envelope.to_string()),
            purpose: None,
            keep_until: None,
            text: report.text.clone(),
            tree: Vec::new(),
            folders: Vec::new(),
        }
    }
}

/// Nobody sees what is not released.
fn check_released(item: &InItem) -> Answer<()> {
    let InItem::Message(message) = item else { return Ok(()) };
    match message.stage {
        Stage::Released | Stage::Taken => Ok(()),
        Stage::Checking => Err(ServiceError::new(
            ErrorCode::Busy,
            "this message is not released yet: it is still being checked",
            "try again in a moment; `pakt status` says if the malware scanner keeps it waiting",
        )),
        Stage::Quarantined => Err(ServiceError::new(
            ErrorCode::Conflict,
            "this message is held in quarantine: the malware check found something in it",
            "ask this node's operator, who sees why with `pakt quarantine list`",
        )),
    }
}

pub(super) fn sender_of(message: &InMessage) -> Sender {
    Sender { entity: message.from.to_string(), name: message.from_name.clone(), group: message.from_group.clone() }
}

fn shown_message(message: &InMessage) -> InboxItem {
    InboxItem {
        id: message.envelope.to_string(),
        kind: InboxKind::Message,
        from: sender_of(message),
        group: message.group_name.clone(),
        subject: message.subject.clone(),
        received_at: time_text(message.received_at),
        priority: priority_of(message.priority),
        state: shown_stage(message.stage),
        files: message.counts.files,
        bytes: message.counts.plain_bytes,
    }
}

/// A stage in the API's words.
fn shown_stage(stage: Stage) -> EnvelopeState {
    match stage {
        Stage::Checking => EnvelopeState::Checking,
        Stage::Released => EnvelopeState::Released,
        Stage::Taken => EnvelopeState::Taken,
        Stage::Quarantined => EnvelopeState::Quarantined,
    }
}

fn shown_report_row(report: &Report, from: Sender) -> InboxItem {
    InboxItem {
        id: hex::encode(report.id),
        kind: InboxKind::Report,
        from,
        group: report.group_name.clone(),
        subject: report.subject.clone(),
        received_at: time_text(report.at),
        priority: Priority::Normal,
        state: EnvelopeState::Released,
        files: 0,
        bytes: 0,
    }
}

/// Files and folders of a tree with their whole paths, in order.
fn listed(tree: &Tree) -> (Vec<TreeFile>, Vec<String>) {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let mut walk = tree.walk();
    while let Some((path, entry)) = walk.step() {
        let path = path.iter().map(|component| component.as_str()).collect::<Vec<_>>().join("/");
        match entry.kind {
            EntryKind::Dir => folders.push(path),
            EntryKind::File { bytes, blake3 } => files.push(TreeFile { path, bytes, blake3: hex::encode(blake3) }),
        }
    }
    (files, folders)
}

#[cfg(test)]
mod tests {
    use pakt_keys::EntityId;
    use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId};
    use pakt_protocol::record::envelope::{self, Counts};
    use pakt_protocol::time::Time;

    use super::*;

    #[test]
    fn a_report_is_an_item_of_its_own_kind() {
        let report = Report {
            id: [7; 16],
            group: GroupId([1; 16]),
            group_name: "Reception".into(),
            envelope: EnvelopeId([2; 16]),
            subject: "Not delivered: x".into(),
            text: "Not delivered.".into(),
            at: Time(1_790_000_000_000_000),
        };
        let from = Sender { entity: "ent1".into(), name: "Nord".into(), group: "Reception".into() };
        let item = shown_report_row(&report, from);
        assert_eq!((item.kind, item.id.as_str()), (InboxKind::Report, "07".repeat(16).as_str()));
        assert_eq!((item.files, item.bytes, item.group.as_str()), (0, 0, "Reception"));
        assert_eq!(item.received_at, "2026-09-21T14:13:20Z");
    }

    #[test]
    fn the_id_of_a_message_is_that_of_its_envelope() {
        let slot = serde_json::from_str("{\"index\":0,\"tag\":[0,0,0,0,0,0,0,0]}").expect("a slot id");
        let message = InMessage {
            envelope: EnvelopeId([3; 16]),
            message: MessageId([4; 16]),
            agreement: AgreementId([5; 32]),
            from: EntityId([6; 32]),
            from_name: "Sør".into(),
            from_group: "MR".into(),
            group: GroupId([1; 16]),
            group_name: "Reception".into(),
            subject: "x".into(),
            text: "y".into(),
            purpose: None,
            words: Vec::new(),
            priority: envelope::Priority::Urgent,
            received_at: Time(0),
            keep_until: None,
            counts: Counts { files: 3, plain_bytes: 9, ..Counts::default() },
            key: slot,
            stage: Stage::Checking,
        };
        let item = shown_message(&message);
        assert_eq!(item.id, "03".repeat(16));
        assert_eq!((item.files, item.bytes, item.priority), (3, 9, Priority::Urgent));
        assert_eq!((item.from.name.as_str(), item.from.group.as_str()), ("Sør", "MR"));
    }
}
