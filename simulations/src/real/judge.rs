//! What the receivers hold in the end, against what was sent: nothing lost, nothing twice, nothing at a stranger, nothing changed.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use pakt_node::api::types::{EnvelopeState, InboxDetail, InboxItem, InboxKind, ListQuery};
use pakt_node::service::Node;
use pakt_protocol::delivery::Reason;

use super::events::Events;
use super::ledger::{Ledger, Tracked};
use super::mesh::Mesh;
use crate::outcome::{Finding, Record};

/// Messages whose files are compared with what was sent, spread over all.
const COMPARED_MAX: usize = 2_000;
const PAGE: usize = 1_000;

/// What was looked through.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) finding: Option<Finding>,
    /// Messages whose files were compared.
    pub(super) compared: u64,
    /// Reports to sending groups.
    pub(super) reports: u64,
}

/// Looks through every inbox.
pub(super) async fn judge(mesh: &Mesh, ledger: &Ledger, events: &mut Events<'_>) -> Result<Judged> {
    let mut judged = Judged::default();
    let mut arrived: HashSet<String> = HashSet::new();
    let stride = ledger.envelopes.len().div_ceil(COMPARED_MAX).max(1);
    for (index, site) in mesh.sites.iter().enumerate() {
        let Some(node) = site.node() else { continue };
        let items = inbox(node).await.with_context(|| format!("the inbox of node {index}"))?;
        for item in items {
            let found = match item.kind {
                InboxKind::Report => {
                    judged.reports += 1;
                    report(node, index, &item, ledger, events).await?
                }
                InboxKind::Message => {
                    let compare = arrived.len().is_multiple_of(stride);
                    judged.compared += u64::from(compare);
                    message(node, index, &item, (ledger, &mut arrived, compare), events).await?
                }
            };
            if let Some((rule, what, nodes)) = found {
                let at = events.pace.now();
                judged.finding.get_or_insert(Finding { rule: rule.into(), at, what, nodes });
            }
        }
    }
    let lost = ledger
        .envelopes
        .iter()
        .find(|(id, one)| one.is_delivered() && !arrived.contains(*id) && mesh.sites[one.to].node().is_some());
    if let Some((id, one)) = lost {
        let what = format!("{id} is {} at its sender, and its recipient does not hold it", one.state.as_str());
        let at = events.pace.now();
        judged.finding.get_or_insert(Finding { rule: "lost".into(), at, what, nodes: vec![one.message.from, one.to] });
    }
    Ok(judged)
}

/// A rule that was broken, how, and by whom.
type Broken = Option<(&'static str, String, Vec<usize>)>;

async fn inbox(node: &Node) -> Result<Vec<InboxItem>> {
    let mut all: Vec<InboxItem> = Vec::new();
    loop {
        let before = all.last().map(|item| item.id.clone());
        let page = node.inbox_list(ListQuery { group: None, limit: Some(PAGE), before }).await?;
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

async fn message(
    node: &Node,
    index: usize,
    item: &InboxItem,
    (ledger, arrived, compare): (&Ledger, &mut HashSet<String>, bool),
    events: &mut Events<'_>,
) -> Result<Broken> {
    let Some(one) = ledger.envelopes.get(&item.id).filter(|one| one.to == index) else {
        let what = format!("{} is in an inbox that it was not sent to", item.id);
        return Ok(Some(("stranger", what, vec![index])));
    };
    let nodes = vec![one.message.from, index];
    if !arrived.insert(item.id.clone()) {
        return Ok(Some(("twice", format!("{} was received twice", item.id), nodes)));
    }
    let at = item.received_at.parse().unwrap_or_else(|_| Timestamp::now());
    for record in records_of(item.state) {
        events.record(index, (one.message.number, one.message.from, index), (at, record));
    }
    let readable = matches!(item.state, EnvelopeState::Released | EnvelopeState::Taken);
    if compare && readable && !is_same(&node.inbox_show(item.id.clone()).await?, one) {
        return Ok(Some(("changed", format!("{} holds other files than were sent", item.id), nodes)));
    }
    Ok(None)
}

/// What the receiver has done with a message that is in this state now.
fn records_of(state: EnvelopeState) -> Vec<Record> {
    let all = [Record::Delivered, Record::Released, Record::Taken];
    all.into_iter().take(usize::from(state.tier()).max(1)).collect()
}

fn is_same(shown: &InboxDetail, sent: &Tracked) -> bool {
    let row = |bytes: u64, blake3: &str| (bytes, blake3.to_owned());
    let held: HashMap<String, (u64, String)> =
        shown.tree.iter().map(|file| (file.path.clone(), row(file.bytes, &file.blake3))).collect();
    let listing = sent.message.content.listing();
    held.len() == listing.len()
        && listing.iter().all(|(name, bytes, blake3)| held.get(name) == Some(&row(*bytes, blake3)))
}

/// A report goes to the group that sent the message that it is about.
async fn report(
    node: &Node,
    index: usize,
    item: &InboxItem,
    ledger: &Ledger,
    events: &mut Events<'_>,
) -> Result<Broken> {
    let shown = node.inbox_show(item.id.clone()).await?;
    let about = shown.text.lines().find_map(|line| line.strip_prefix("Envelope: ")).unwrap_or_default();
    let Some(one) = ledger.envelopes.get(about).filter(|one| one.message.from == index) else {
        return Ok(Some(("stranger", "a report about a message of somebody else".into(), vec![index])));
    };
    let what = report_of(&item.subject);
    let at = item.received_at.parse().unwrap_or_else(|_| Timestamp::now());
    events.record(index, (one.message.number, index, one.to), (at, Record::Report(what)));
    Ok(None)
}

/// What a report says, in the words of the virtual mesh where it has one for it.
fn report_of(subject: &str) -> String {
    let what = subject.split(": ").next().unwrap_or_default();
    let word = match what {
        "Delayed" => "late",
        "Recalled" | "Delivered after all" => "resolved",
        "Not confirmed, may have been delivered" => Reason::NotConfirmed.as_str(),
        other => other,
    };
    word.to_owned()
}
