//! `pakt send`: walk, stream, wait.
//!
//! **Invariant:** nothing is sent when a path is missing, is no file or folder, or changes while it is read.
//! **Invariant:** exit code 0 without `--wait` means: sealed and durable here, PATH is no longer needed.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::args::{SendArgs, WaitFor};
use super::client::{Client, escaped};
use super::output::{Output, coming, moment, report, safe, size};
use super::progress::Progress;
use super::tar_out::{PIECES_MAX, StreamEnd, write_tree};
use super::walk::{self, Tree};
use super::{Exit, read_text};
use crate::api::types::*;

/// A subject is one line; the limit is that of a message's subject.
const SUBJECT_FILE_BYTES_MAX: u64 = 4 << 10;
/// A letter, not a book; content of any size goes into files.
const BODY_FILE_BYTES_MAX: u64 = 1 << 20;
/// How often is asked how much has arrived while the content is still being read.
const ARRIVED_EVERY: Duration = Duration::from_millis(500);
/// How long to wait before following an outgoing message again after the stream of events broke.
const EVENTS_RETRY: Duration = Duration::from_millis(500);

/// What `send` prints: the envelopes, and what went wrong with one of them.
#[derive(Serialize)]
struct SendResult {
    #[serde(flatten)]
    sent: Sent,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Whatever prevented the message from becoming durable.
pub async fn send(client: &Client, output: Output, args: SendArgs) -> Result<Exit, ServiceError> {
    let message = new_message(&args)?;
    let mut progress = Progress::new();
    let sent = submit(client, &args, message, &progress).await?;
    let Some(wait) = args.wait else {
        finish(output, sent, None);
        return Ok(Exit::DONE);
    };
    if !output.json {
        output.note(&format!("message {}: sealed and durable here, waiting for the receiver", sent.message));
    }
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let (sent, failure) = follow(client, sent, wait, deadline, &mut progress).await?;
    progress.clear();
    let exit = failure.as_ref().map_or(Exit::DONE, |error| Exit(error.code.exit_code()));
    finish(output, sent, failure);
    Ok(exit)
}

fn new_message(args: &SendArgs) -> Result<NewMessage, ServiceError> {
    let subject = match (&args.subject, &args.subject_file) {
        (Some(subject), _) => subject.clone(),
        (None, Some(file)) => read_text(file, SUBJECT_FILE_BYTES_MAX)?.trim_end_matches(['\r', '\n']).to_owned(),
        (None, None) => String::new(),
    };
    let body = args.body_file.as_ref().map(|file| read_text(file, BODY_FILE_BYTES_MAX)).transpose()?;
    Ok(NewMessage {
        from: args.from.clone(),
        to: args.to.clone(),
        subject,
        body: body.unwrap_or_default(),
        priority: args.priority.into(),
        purpose: args.purpose.clone(),
        bytes: None,
        files: None,
        folders: None,
        forwards: args.forwards.clone(),
        corrects: args.corrects.clone(),
    })
}

/// Seals the message in the node; tries again while files change and `--settle` allows it.
async fn submit(
    client: &Client,
    args: &SendArgs,
    mut message: NewMessage,
    progress: &Progress,
) -> Result<Sent, ServiceError> {
    let deadline = Instant::now() + args.settle.unwrap_or(Duration::ZERO);
    loop {
        let tree = match args.settle {
            Some(_) => walk::settled(&args.path, deadline).await?,
            None => Tree::scan(&args.path)?,
        };
        message.bytes = Some(tree.bytes);
        message.files = Some(tree.files);
        message.folders = Some(tree.entries.len() as u64 - tree.files);
        let draft: Draft = client.post("/v1/drafts", &message).await?;
        match stream(client, &draft, tree, &args.path, progress).await {
            Err(StreamEnd::Changed(_)) if Instant::now() < deadline => {}
            Err(end) => return Err(end.into_error().unwrap_or_else(stopped)),
            Ok(sent) => return Ok(sent),
        }
    }
}

fn stopped() -> ServiceError {
    ServiceError::new(ErrorCode::Failed, "the node stopped taking the content", "see its log")
}

/// Streams the tree into a draft. The reading side's reason goes before the transport's: that is only its echo.
async fn stream(
    client: &Client,
    draft: &Draft,
    tree: Tree,
    paths: &[PathBuf],
    progress: &Progress,
) -> Result<Sent, StreamEnd> {
    let bar = progress.bytes(tree.bytes, "sealing");
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let paths = paths.to_vec();
    let writer = tokio::task::spawn_blocking(move || {
        let verify = || match Tree::scan(&paths) {
            Ok(now) => match tree.difference(&now) {
                Some(path) => Err(StreamEnd::Changed(walk::changed(path))),
                None => Ok(()),
            },
            Err(error) => Err(StreamEnd::Changed(error)),
        };
        write_tree(&tree, sender, verify)
    });
    let counted = bar.clone();
    let pieces = futures::stream::unfold(receiver, move |mut receiver: mpsc::Receiver<_>| {
        let bar = counted.clone();
        async move {
            let piece: std::io::Result<bytes::Bytes> = receiver.recv().await?;
            if let Ok(bytes) = &piece {
                bar.inc(bytes.len() as u64);
            }
            Some((piece, receiver))
        }
    });
    let path = format!("/v1/drafts/{}/content", escaped(&draft.id));
    let answer = tokio::select! {
        answer = client.upload(&path, Box::pin(pieces)) => answer,
        never = show_arrived(client, draft, &bar) => match never {},
    };
    bar.finish_and_clear();
    let written = writer.await.unwrap_or(Err(StreamEnd::Stopped));
    match (written, answer) {
        (Err(end @ (StreamEnd::Changed(_) | StreamEnd::Failed(_))), _) => Err(end),
        (_, answer) => answer.map_err(StreamEnd::Failed),
    }
}

/// Shows beside the bar how much the receivers hold already.
async fn show_arrived(client: &Client, draft: &Draft, bar: &ProgressBar) -> Infallible {
    if bar.is_hidden() {
        return std::future::pending().await;
    }
    let path = format!("/v1/drafts/{}", escaped(&draft.id));
    loop {
        tokio::time::sleep(ARRIVED_EVERY).await;
        // It is only to look at: whatever is wrong shows in the answer to the upload.
        if let Ok(DraftProgress { bytes_durable }) = client.get(&path).await
            && bytes_durable > 0
        {
            bar.set_message(format!("sealing, {} arrived", size(bytes_durable)));
        }
    }
}

/// Follows the message until every envelope has reached `wait` or cannot; the failure is the worst one.
async fn follow(
    client: &Client,
    mut sent: Sent,
    wait: WaitFor,
    deadline: Option<Instant>,
    progress: &mut Progress,
) -> Result<(Sent, Option<ServiceError>), ServiceError> {
    let path = format!("/v1/outbox/{}/events", escaped(&sent.message));
    let sleep_until = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(365 * 86400));
    let mut timeout = std::pin::pin!(tokio::time::sleep_until(sleep_until));
    loop {
        let mut events = client.events(&path).await?;
        loop {
            if let Some(failure) = settled(&sent, wait) {
                return Ok((sent, failure));
            }
            let message: Option<OutboxMessage> = tokio::select! {
                message = events.next() => message?,
                () = &mut timeout => return Ok((sent, Some(timed_out()))),
            };
            let Some(message) = message else { break };
            progress.show(&message);
            sent.envelopes = message.envelopes;
        }
        tokio::select! {
            () = tokio::time::sleep(EVENTS_RETRY) => {}
            () = &mut timeout => return Ok((sent, Some(timed_out()))),
        }
    }
}

fn timed_out() -> ServiceError {
    ServiceError::new(
        ErrorCode::TimedOut,
        "not every recipient has it yet; the message stays queued",
        "see `pakt outbox list` and `pakt peers`",
    )
}

/// `None` while an envelope is still on its way; then the worst failure, if there is one.
fn settled(sent: &Sent, wait: WaitFor) -> Option<Option<ServiceError>> {
    let on_its_way = |envelope: &OutboxEnvelope| envelope.state.tier() < wait.tier() && !envelope.state.is_failure();
    if sent.envelopes.iter().any(on_its_way) {
        return None;
    }
    let failures = sent.envelopes.iter().filter(|envelope| envelope.state.is_failure()).map(failure);
    Some(failures.max_by_key(|error| error.code.exit_code()))
}

fn failure(envelope: &OutboxEnvelope) -> ServiceError {
    let default = if envelope.state == EnvelopeState::Refused { ErrorCode::Refused } else { ErrorCode::Failed };
    let reason = envelope.reason.as_deref().unwrap_or("no reason was given");
    let message = format!("{}/{}: {}: {reason}", envelope.name, envelope.group, envelope.state.as_str());
    let hint = format!("see `pakt outbox show {}`", envelope.id);
    ServiceError::new(envelope.reason_code.unwrap_or(default), message, hint)
}

fn finish(output: Output, sent: Sent, failure: Option<ServiceError>) {
    if let Some(error) = &failure {
        report(error);
    }
    let (error, hint) = failure.map(|error| (error.code, error.hint)).unzip();
    output.result(&SendResult { sent, error, hint }, |result| describe(&result.sent));
}

fn describe(sent: &Sent) -> String {
    let mut lines = vec![format!("message {}", sent.message)];
    for envelope in &sent.envelopes {
        let to = format!("{}/{}", safe(&envelope.name), safe(&envelope.group));
        let mut line =
            format!("  {}  {to}  {}  {}", envelope.id, envelope.state.as_str(), size(envelope.bytes_content));
        if envelope.state.tier() > 0 {
            line.push_str(&format!("  {:.1} s  {} on the wire", envelope.seconds, size(envelope.bytes_on_wire)));
        } else if !envelope.state.is_failure() {
            if let Some(next) = envelope.next_attempt_at.as_deref().and_then(coming) {
                line.push_str(&format!("  next attempt {next}"));
            }
            line.push_str(&format!("  expires {}", moment(&envelope.expires_at)));
        }
        if let Some(reason) = &envelope.reason {
            line.push_str(&format!("\n    {}", safe(reason)));
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(state: EnvelopeState, code: Option<ErrorCode>) -> OutboxEnvelope {
        OutboxEnvelope {
            id: "e".into(),
            message: "m".into(),
            entity: "ent1".into(),
            name: "Sør".into(),
            group: "Reception".into(),
            state,
            bytes_content: 0,
            bytes_on_wire: 0,
            bytes_total: 0,
            bytes_durable: 0,
            seconds: 0.0,
            next_attempt_at: None,
            expires_at: "2026-01-01T00:00:00Z".into(),
            reason: None,
            reason_code: code,
            recalling: false,
            history: vec![],
            receipts: vec![],
        }
    }

    #[test]
    fn waiting_ends_when_every_envelope_is_there_or_cannot_be() {
        use EnvelopeState::*;
        let check = |states: &[(EnvelopeState, Option<ErrorCode>)], wait, expected: Option<u8>| {
            let envelopes = states.iter().map(|(state, code)| envelope(*state, *code)).collect();
            let sent = Sent { message: "m".into(), envelopes };
            let exit = settled(&sent, wait).map(|failure| failure.map_or(0, |error| error.code.exit_code()));
            assert_eq!(exit, expected, "{states:?}");
        };
        check(&[(Queued, None)], WaitFor::Delivered, None);
        check(&[(Delivered, None), (Transferring, None)], WaitFor::Delivered, None);
        check(&[(Delivered, None), (Taken, None)], WaitFor::Delivered, Some(0));
        check(&[(Refused, None)], WaitFor::Delivered, Some(3));
        check(&[(Refused, Some(ErrorCode::NotFound)), (Refused, None)], WaitFor::Delivered, Some(4));
        check(&[(Expired, None), (Delivered, None)], WaitFor::Delivered, Some(1));
        check(&[(Refused, None), (Queued, None)], WaitFor::Delivered, None);
    }
}
