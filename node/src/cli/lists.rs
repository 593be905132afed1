//! The commands that ask the node and print what it says: groups, peers, inbox, outbox, receipts, status.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::Exit;
use super::args::{GroupCommand, InboxCommand, ListArgs, OutboxCommand, ReceiptCommand};
use super::client::{Client, escaped};
use super::keep;
use super::output::{Output, coming, counted, facts, moment, safe, size, span, table, with_hint};
use super::progress::Progress;
use super::records;
use super::save::{self, Saved};
use crate::api::types::*;

/// `pakt group`
///
/// # Errors
/// What the node says.
pub async fn group(client: &Client, output: Output, command: GroupCommand) -> Result<Exit, ServiceError> {
    let groups: Vec<Group> = match command {
        GroupCommand::List => {
            let groups: Vec<Group> = client.get("/v1/groups").await?;
            let names = names_for(client, output, &groups).await;
            output.result(&groups, |groups| group_table(groups, &names));
            return Ok(Exit::DONE);
        }
        GroupCommand::Add { name } => vec![client.post("/v1/groups", &GroupRequest { name }).await?],
        GroupCommand::Show { name, to } => vec![audience(client, &name, "show", to).await?],
        GroupCommand::Hide { name, to } => vec![audience(client, &name, "hide", to).await?],
    };
    let names = names_for(client, output, &groups).await;
    if let Some(group) = groups.first() {
        output.result(group, |_| group_table(&groups, &names));
    }
    Ok(Exit::DONE)
}

async fn audience(client: &Client, name: &str, action: &str, to: String) -> Result<Group, ServiceError> {
    client.post(&format!("/v1/groups/{}/{action}", escaped(name)), &GroupAudience { to }).await
}

/// What people call the entities that see these groups, by id. Where names cannot be had the ids remain.
async fn names_for(client: &Client, output: Output, groups: &[Group]) -> BTreeMap<String, String> {
    let is_id = |shown: &String| shown != "all";
    if output.json || !groups.iter().flat_map(|group| &group.shown_to).any(is_id) {
        return BTreeMap::new();
    }
    let agreements: Vec<AgreementSummary> = client.get("/v1/agreements").await.unwrap_or_default();
    names(&agreements)
}

/// Names by entity id; the number stands with a name that several entities have.
fn names(agreements: &[AgreementSummary]) -> BTreeMap<String, String> {
    let is_shared =
        |one: &AgreementSummary| agreements.iter().any(|other| other.name == one.name && other.entity != one.entity);
    let named = |one: &AgreementSummary| {
        let name = if is_shared(one) { format!("{} ({})", one.name, one.number) } else { one.name.clone() };
        (one.entity.clone(), name)
    };
    // The newest agreement comes first, and its name counts.
    agreements.iter().rev().map(named).collect()
}

fn group_table(groups: &[Group], names: &BTreeMap<String, String>) -> String {
    let shown = |group: &Group| {
        let to: Vec<_> = group.shown_to.iter().map(|to| names.get(to).unwrap_or(to).as_str()).collect();
        if to.is_empty() { "nobody".into() } else { to.join(", ") }
    };
    table(&["GROUP", "SHOWN TO"], groups.iter().map(|group| vec![safe(&group.name), safe(&shown(group))]).collect())
}

/// `pakt peers`
///
/// # Errors
/// What the node says.
pub async fn peers(client: &Client, output: Output) -> Result<Exit, ServiceError> {
    let peers: Vec<Peer> = client.get("/v1/peers").await?;
    output.result(&peers, |peers| {
        if peers.is_empty() {
            return "no counterparts: make an agreement first, see `pakt agreement --help`".into();
        }
        peers.iter().map(peer_text).collect::<Vec<_>>().join("\n\n")
    });
    Ok(Exit::DONE)
}

fn peer_text(peer: &Peer) -> String {
    let since = peer.since.as_deref().map(|at| format!(" since {}", moment(at))).unwrap_or_default();
    let state = if peer.online { "online" } else { "not online" };
    let agreement = &peer.agreement;
    let verified = if agreement.verified { "" } else { ", fingerprint NOT compared" };
    let mut rows = vec![
        ("name", format!("{}, {}", safe(&peer.name), safe(&peer.number))),
        ("state", format!("{state}{since}")),
        ("groups", if peer.groups.is_empty() { "none shown".into() } else { safe(&peer.groups.join(", ")) }),
        (
            "agreement",
            format!(
                "{}, {}, until {}{verified}",
                agreement.id,
                agreement.state.as_str(),
                moment(&agreement.valid_until)
            ),
        ),
        ("entity", peer.entity.clone()),
    ];
    if let Some(reason) = &peer.reason {
        rows.insert(2, ("why", safe(reason)));
    }
    if let Some(why) = &peer.holding {
        rows.push(("queued", format!("waits: {}", safe(why))));
    }
    if !peer.controls_lacking.is_empty() {
        rows.push(("controls", format!("this node cannot attest {}", safe(&peer.controls_lacking.join(" and ")))));
    }
    if let Some(difference) = peer.clock_difference_s.filter(|seconds| seconds.unsigned_abs() >= 60) {
        let apart = span(std::time::Duration::from_secs(difference.unsigned_abs()));
        let direction = if difference > 0 { "ahead of" } else { "behind" };
        rows.push(("clock", format!("its clock is {apart} {direction} ours")));
    }
    if !peer.addresses.is_empty() {
        let told = peer.addresses_told_at.as_deref().map(|at| format!(", told {}", moment(at))).unwrap_or_default();
        rows.push(("addresses", format!("{}{told}", safe(&peer.addresses.join(", ")))));
    }
    if !peer.addresses_ignored.is_empty() {
        rows.push(("not dialled", safe(&peer.addresses_ignored.join("; "))));
    }
    if !peer.lanes.is_empty() {
        let at = |lane: &PeerLane| match &lane.via {
            Some(partner) => format!("{} through {}", lane.kind, safe(partner)),
            None if lane.remote.is_empty() => format!("{} through the proxy", lane.kind),
            None => format!("{} {}", lane.kind, lane.remote),
        };
        let lanes: Vec<_> = peer.lanes.iter().map(at).collect();
        rows.push(("lanes", lanes.join(", ")));
    }
    if let Some(rate) = peer.line_rate {
        rows.push(("carried lately", format!("{} per second", size(rate))));
    }
    facts(&rows)
}

/// `pakt inbox`
///
/// # Errors
/// What the node says, and what [`save::save`] says.
pub async fn inbox(client: &Client, output: Output, command: InboxCommand) -> Result<Exit, ServiceError> {
    match command {
        InboxCommand::List(part) => {
            let items: Vec<InboxItem> = client.get(&format!("/v1/inbox?{}", part.query())).await?;
            output.result(&items, |items| inbox_table(output, items));
            tell_of_more(output, &part, items.len(), items.last().map(|item| item.id.as_str()));
        }
        InboxCommand::Show { id } => {
            let detail: InboxDetail = client.get(&format!("/v1/inbox/{}", escaped(&id))).await?;
            output.result(&detail, inbox_text);
        }
        InboxCommand::Take { id } => {
            let item: InboxItem = client.post(&format!("/v1/inbox/{}/take", escaped(&id)), &()).await?;
            output.result(&item, |item| format!("{} is {}: its sender is told", item.id, item.state.as_str()));
        }
        InboxCommand::Save { id, to } => save_item(client, output, &id, to).await?,
        InboxCommand::Keep(command) => return keep::keep(client, output, command).await,
    }
    Ok(Exit::DONE)
}

impl ListArgs {
    fn query(&self) -> String {
        let limit = ("limit", Some(self.limit.to_string()));
        let given = [limit, ("group", self.group.clone()), ("before", self.before.clone())];
        let set = given.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped(&value?))));
        set.collect::<Vec<_>>().join("&")
    }
}

/// Says below a full list how to see what is older.
fn tell_of_more(output: Output, part: &ListArgs, shown: usize, last: Option<&str>) {
    if let Some(last) = last.filter(|_| !output.json && shown == part.limit as usize) {
        output.note(&format!("there may be older ones: add --before {last}"));
    }
}

fn inbox_table(output: Output, items: &[InboxItem]) -> String {
    if items.is_empty() {
        return "nothing was received yet".into();
    }
    let row = |item: &InboxItem| {
        vec![
            output.id(&item.id),
            moment(&item.received_at),
            format!("{}/{}", safe(&item.from.name), safe(&item.from.group)),
            safe(&item.group),
            if item.kind == InboxKind::Report {
                format!("report: {}", safe(&item.subject))
            } else {
                safe(&item.subject)
            },
            format!("{}, {}", counted(item.files, "file"), size(item.bytes)),
        ]
    };
    table(&["ID", "RECEIVED", "FROM", "GROUP", "SUBJECT", "CONTENT"], items.iter().map(row).collect())
}

fn inbox_text(detail: &InboxDetail) -> String {
    let item = &detail.item;
    let mut head = vec![
        ("from", format!("{}/{}", safe(&item.from.name), safe(&item.from.group))),
        ("to", safe(&item.group)),
        ("subject", safe(&item.subject)),
        ("received", moment(&item.received_at)),
        ("priority", item.priority.as_str().into()),
    ];
    if let Some(purpose) = detail.purpose.as_deref().filter(|purpose| !purpose.is_empty()) {
        head.push(("purpose", safe(purpose)));
    }
    if let Some(until) = &detail.keep_until {
        head.push(("kept", format!("until {} at least", moment(until))));
    }
    head.push(("content", format!("{}, {}", counted(item.files, "file"), size(item.bytes))));
    let text: Vec<String> = detail.text.lines().map(safe).collect();
    let files = detail.tree.iter().map(|file| vec![size(file.bytes), safe(&file.path)]).collect::<Vec<_>>();
    let mut parts = vec![facts(&head)];
    if !text.is_empty() {
        parts.push(text.join("\n"));
    }
    if !files.is_empty() {
        parts.push(table(&["SIZE", "PATH"], files));
    }
    parts.join("\n\n")
}

#[derive(Serialize)]
struct SaveResult {
    id: String,
    to: PathBuf,
    #[serde(flatten)]
    saved: Saved,
}

async fn save_item(client: &Client, output: Output, id: &str, to: PathBuf) -> Result<(), ServiceError> {
    let detail: InboxDetail = client.get(&format!("/v1/inbox/{}", escaped(id))).await?;
    let content = client.download(&format!("/v1/inbox/{}/content", escaped(id))).await?;
    let bar = Progress::new().bytes(detail.item.bytes, "saving");
    let reader = SyncIoBridge::new(StreamReader::new(content));
    let target = to.clone();
    let moving = bar.clone();
    let interrupted = Arc::new(AtomicBool::new(false));
    let content = Counted { reader, bar: moving, interrupted: Arc::clone(&interrupted) };
    let mut work = tokio::task::spawn_blocking(move || save::save(&detail, content, &target));
    let saved = tokio::select! {
        saved = &mut work => saved,
        _ = tokio::signal::ctrl_c() => {
            // The writer notices with its next read, and removes what it made.
            interrupted.store(true, Ordering::Relaxed);
            work.await
        }
    };
    let broken_off = || Err(ServiceError::new(ErrorCode::Failed, "saving was broken off", "try again"));
    let saved = saved.unwrap_or_else(|_| broken_off())?;
    bar.finish_and_clear();
    for escaped in &saved.escaped {
        output.note(&format!("{} was saved as {}", safe(&escaped.name), safe(&escaped.saved_as)));
    }
    let result = SaveResult { id: id.to_owned(), to, saved };
    output.result(&result, |result| {
        let Saved { files, bytes, .. } = &result.saved;
        format!("saved {}, {} to {}", crate::cli::output::counted(*files, "file"), size(*bytes), result.to.display())
    });
    Ok(())
}

/// A stream whose bytes move a bar, and which ends when the person at the terminal says so.
struct Counted<R> {
    reader: R,
    bar: indicatif::ProgressBar,
    interrupted: Arc<AtomicBool>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("it was interrupted"));
        }
        let read = self.reader.read(buffer)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}

/// `pakt outbox`
///
/// # Errors
/// What the node says.
pub async fn outbox(client: &Client, output: Output, command: OutboxCommand) -> Result<Exit, ServiceError> {
    match command {
        OutboxCommand::List(part) => {
            let messages: Vec<OutboxMessage> = client.get(&format!("/v1/outbox?{}", part.query())).await?;
            let rows: Vec<OutboxRow> = messages.iter().flat_map(OutboxRow::of).collect();
            output.result(&rows, |rows| outbox_table(output, rows));
            tell_of_more(output, &part, messages.len(), rows.last().map(|row| row.envelope.id.as_str()));
        }
        OutboxCommand::Show { id } => {
            let message: OutboxMessage = client.get(&format!("/v1/outbox/{}", escaped(&id))).await?;
            let envelope = match message.envelopes.as_slice() {
                [one] => Some(one.clone()),
                _ => None,
            };
            output.result(&ShownMessage { message, envelope }, |shown| message_text(&shown.message));
        }
        OutboxCommand::Recall(command) => return keep::recall(client, output, command).await,
    }
    Ok(Exit::DONE)
}

/// An envelope with what its message adds.
#[derive(Serialize)]
struct OutboxRow<'a> {
    #[serde(flatten)]
    envelope: &'a OutboxEnvelope,
    from: &'a str,
    subject: &'a str,
    priority: Priority,
    purpose: Option<&'a str>,
    submitted_at: &'a str,
    files: u64,
}

impl<'a> OutboxRow<'a> {
    fn of(message: &'a OutboxMessage) -> impl Iterator<Item = OutboxRow<'a>> {
        message.envelopes.iter().map(|envelope| OutboxRow {
            envelope,
            from: &message.from,
            subject: &message.subject,
            priority: message.priority,
            purpose: message.purpose.as_deref(),
            submitted_at: &message.submitted_at,
            files: message.files,
        })
    }
}

/// A message; when it has one envelope, that envelope's fields stand at the top as well.
struct ShownMessage {
    message: OutboxMessage,
    envelope: Option<OutboxEnvelope>,
}

impl Serialize for ShownMessage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let mut value = serde_json::to_value(&self.message).map_err(S::Error::custom)?;
        let envelope = serde_json::to_value(&self.envelope).map_err(S::Error::custom)?;
        if let (Some(fields), serde_json::Value::Object(envelope)) = (value.as_object_mut(), envelope) {
            fields.extend(envelope);
        }
        value.serialize(serializer)
    }
}

fn outbox_table(output: Output, rows: &[OutboxRow<'_>]) -> String {
    if rows.is_empty() {
        return "nothing was sent yet".into();
    }
    let row = |row: &OutboxRow<'_>| {
        vec![
            output.id(&row.envelope.id),
            moment(row.submitted_at),
            format!("{}/{}", safe(&row.envelope.name), safe(&row.envelope.group)),
            safe(row.subject),
            row.envelope.state.as_str().to_owned(),
            row.envelope.reason.as_deref().map(safe).unwrap_or_default(),
        ]
    };
    table(&["ID", "SENT", "TO", "SUBJECT", "STATE", "WHY"], rows.iter().map(row).collect())
}

fn message_text(message: &OutboxMessage) -> String {
    let head = facts(&[
        ("message", message.message.clone()),
        ("from", safe(&message.from)),
        ("subject", safe(&message.subject)),
        ("submitted", moment(&message.submitted_at)),
        ("content", format!("{}, {}", counted(message.files, "file"), size(message.bytes))),
    ]);
    let envelopes = message.envelopes.iter().map(envelope_text);
    std::iter::once(head).chain(envelopes).collect::<Vec<_>>().join("\n\n")
}

fn envelope_text(envelope: &OutboxEnvelope) -> String {
    let history = envelope.history.iter().map(|step| format!("{}  {}", moment(&step.at), step.state.as_str()));
    let receipts = envelope.receipts.iter().map(|receipt| format!("tier {} at {}", receipt.tier, moment(&receipt.at)));
    let receipts: Vec<_> = receipts.collect();
    let mut rows = vec![
        ("envelope", envelope.id.clone()),
        ("to", format!("{}/{}", safe(&envelope.name), safe(&envelope.group))),
        ("state", envelope.state.as_str().to_owned()),
        ("durable there", format!("{} of {}", size(envelope.bytes_durable), size(envelope.bytes_total))),
        ("on the wire", format!("{} in {:.1} s", size(envelope.bytes_on_wire), envelope.seconds)),
        ("history", history.collect::<Vec<_>>().join("\n")),
        ("receipts", if receipts.is_empty() { "none".into() } else { receipts.join("\n") }),
    ];
    if let Some(reason) = &envelope.reason {
        rows.push(("why", safe(reason)));
    }
    if envelope.recalling {
        rows.push(("recall", "asked for; the recipient has not answered yet".to_owned()));
    }
    if envelope.state.tier() == 0 && !envelope.state.is_failure() {
        if let Some(next) = envelope.next_attempt_at.as_deref().and_then(coming) {
            rows.push(("next attempt", next));
        }
        rows.push(("expires", moment(&envelope.expires_at)));
    }
    facts(&rows)
}

/// `pakt receipt`; verifying needs no node.
///
/// # Errors
/// What the node says; `damaged` for a receipt that does not hold.
pub async fn receipt(client: &Client, output: Output, command: ReceiptCommand) -> Result<Exit, ServiceError> {
    match command {
        ReceiptCommand::Export { id, page: Some(path), .. } => {
            let made = receipt_page(client, &id).await?;
            output.file(&made, &made.page, Some(&path))?;
            Ok(Exit::DONE)
        }
        ReceiptCommand::Export { id, tier, out, .. } => {
            let query = tier.map(|tier| format!("?tier={tier}")).unwrap_or_default();
            let file: ArmouredFile = client.get(&format!("/v1/outbox/{}/receipt{query}", escaped(&id))).await?;
            output.file(&file, &file.file, out.as_deref())?;
            Ok(Exit::DONE)
        }
        ReceiptCommand::Verify { file, card } => {
            let [first, second] = card.as_slice() else {
                let message = "a receipt is verified with two cards, the sender's and the receiver's";
                return Err(ServiceError::new(ErrorCode::Usage, message, "give --card twice"));
            };
            Ok(verify(output, &file, [first, second]))
        }
    }
}

/// A page of receipts as `--json` shows it.
#[derive(Serialize)]
struct ReceiptPage {
    page: String,
}

/// All receipts of one envelope on one page.
async fn receipt_page(client: &Client, id: &str) -> Result<ReceiptPage, ServiceError> {
    let path = format!("/v1/outbox/{}", escaped(id));
    // The last one first: it also says when there is none, or when the message went to several recipients.
    let last: ArmouredFile = client.get(&format!("{path}/receipt")).await?;
    let message: OutboxMessage = client.get(&path).await?;
    let mut files = Vec::new();
    for held in message.envelopes.iter().flat_map(|envelope| &envelope.receipts) {
        let file: ArmouredFile = client.get(&format!("{path}/receipt?tier={}", held.tier)).await?;
        files.push(file.file);
    }
    if files.last() != Some(&last.file) {
        files.push(last.file);
    }
    let status: Status = client.get("/v1/status").await?;
    let to = message.envelopes.first().map(|envelope| envelope.name.clone()).unwrap_or_default();
    let names = super::page::Names { from: format!("{}, {}", status.name, status.number), to };
    Ok(ReceiptPage { page: super::page::page(&names, &files)? })
}

#[derive(Serialize)]
struct InvalidReceipt<'a> {
    valid: bool,
    verdict: &'static str,
    #[serde(flatten)]
    error: &'a ServiceError,
}

fn verify(output: Output, file: &Path, cards: [&Path; 2]) -> Exit {
    match records::verify_receipt(file, cards) {
        Ok(receipt) => {
            output.result(&receipt, records::ShownReceipt::text);
            Exit::DONE
        }
        Err(error) => {
            let error = with_hint(error);
            super::output::report(&error);
            if output.json {
                output.result(&InvalidReceipt { valid: false, verdict: "invalid", error: &error }, |_| String::new());
            }
            Exit(error.code.exit_code())
        }
    }
}

/// `pakt status`
///
/// # Errors
/// What the node says.
pub async fn status(client: &Client, output: Output) -> Result<Exit, ServiceError> {
    let status: Status = client.get("/v1/status").await?;
    output.result(&status, status_text);
    Ok(Exit::DONE)
}

fn limits_text(limits: &LineLimits) -> String {
    let rows = [
        ("send", limits.send),
        ("receive", limits.receive),
        ("send per peer", limits.send_per_peer),
        ("receive per peer", limits.receive_per_peer),
    ];
    let set = rows.iter().filter_map(|(what, rate)| Some(format!("{what} {} Mbit/s", (*rate)? as f64 / 125_000.0)));
    set.collect::<Vec<_>>().join(", ")
}

fn root_text(place: RootPlace) -> &'static str {
    match place {
        RootPlace::Here => "here, opened with the keystore",
        RootPlace::Approved => "here, opened by two approvers",
        RootPlace::Elsewhere => "elsewhere: name its file with --root",
    }
}

fn log_text(log: &LogStatus) -> String {
    let read = match (&log.fault, &log.unread, &log.verified_at) {
        (Some(fault), ..) => format!("NOT WHAT IT WAS: {}", safe(fault)),
        (None, Some(why), _) => format!("NOT READ: {}", safe(why)),
        (None, None, Some(at)) => format!("all as written at {}", moment(at)),
        (None, None, None) => "not read since the start yet".to_owned(),
    };
    format!("{} entries; {read}", log.entries)
}

fn status_text(status: &Status) -> String {
    let store = &status.store;
    let keys = if status.unprotected { "UNPROTECTED: they lie on disk without a passphrase" } else { "protected" };
    let mut rows = vec![
        ("name", format!("{}, {}", safe(&status.name), safe(&status.number))),
        ("entity", status.entity.clone()),
        ("peer id", status.peer_id.clone()),
        ("listens on", status.listen.clone()),
        ("API", status.api.clone()),
        ("version", status.version.clone()),
        ("running for", span(std::time::Duration::from_secs(status.uptime_s))),
        ("queued", format!("{}, of these {} held", status.queued, status.held)),
        ("peers online", status.peers_online.to_string()),
        ("keys", keys.to_owned()),
        ("root", root_text(status.root).to_owned()),
        ("store", format!("{}, {}, {} free", counted(store.objects, "object"), size(store.bytes), size(store.free))),
        ("audit log", log_text(&status.log)),
    ];
    if let Some(tcp) = &status.api_tcp {
        rows.insert(5, ("API on TCP", tcp.clone()));
    }
    if status.relay != RelayStatus::default() {
        let RelayStatus { circuits, forwarded, refused, bytes } = status.relay;
        let text = format!("{circuits} connections now, {forwarded} so far, {} in all; {refused} refused", size(bytes));
        rows.push(("forwards", text));
    }
    if status.limits != LineLimits::default() {
        rows.push(("line limits", limits_text(&status.limits)));
    }
    if status.reconciliation_gaps > 0 {
        rows.push(("gaps", format!("{} that a reconciliation shows", status.reconciliation_gaps)));
    }
    if let Some(scanner) = &status.scanner {
        let fit = if scanner.fit { "" } else { "UNFIT: " };
        rows.push(("scanner", format!("{fit}{} ({})", safe(&scanner.says), safe(&scanner.at))));
    }
    if status.checking > 0 {
        rows.push(("being checked", counted(status.checking, "message")));
    }
    for warning in &status.warnings {
        rows.push(("warning", safe(warning)));
    }
    facts(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(entity: &str, name: &str, number: &str) -> AgreementSummary {
        AgreementSummary {
            id: "a".into(),
            version: 1,
            state: AgreementState::Active,
            entity: entity.into(),
            name: name.into(),
            number: number.into(),
            purposes: vec![],
            valid_from: String::new(),
            valid_until: String::new(),
            fingerprint: String::new(),
            verified: true,
            reason: None,
            suspended_by: None,
            ends_in_days: None,
            known: true,
            forked: false,
            amendments: vec![],
            bundle: None,
        }
    }

    #[test]
    fn groups_name_those_who_see_them() {
        let agreements =
            [agreement("ent1a", "Nord", "N:1"), agreement("ent1b", "Sør", "N:2"), agreement("ent1c", "Sør", "N:3")];
        let names = names(&agreements);
        let check = |shown_to: &[&str], says: &str| {
            let shown_to = shown_to.iter().map(|to| (*to).to_owned()).collect();
            let text = group_table(&[Group { name: "Radiology".into(), shown_to }], &names);
            assert!(text.ends_with(says), "{text}");
        };
        check(&[], "nobody");
        check(&["all"], "all");
        check(&["ent1a"], "Nord");
        check(&["ent1a", "ent1c"], "Nord, Sør (N:3)");
        check(&["ent1unknown"], "ent1unknown");
    }
}
