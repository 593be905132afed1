//! What is asked of a running node with many messages, over its API, and how long each answer takes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use pakt_node::api::types::{
    Draft, EnvelopeState, InboxDetail, InboxItem, NewMessage, OutboxMessage, Priority, Sent, Status,
};
use pakt_node::cli::client::Client;

use super::fill::envelope_id;
use crate::bench::process::check_interrupted;

/// Items of one part of a list.
const PART: usize = 100;
/// How often is looked whether a message has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(30);

/// How long the answers to one question took.
pub(super) struct Asked {
    /// The question.
    pub(super) what: &'static str,
    /// Of each time that it was asked.
    pub(super) seconds: Vec<f64>,
}

struct Questions {
    full: Client,
    other: Client,
    numbers: [&'static str; 2],
    messages: u64,
    random: fastrand::Rng,
}

/// Asks everything `rounds` times, in turn.
///
/// # Errors
/// If an answer is missing or wrong.
pub(super) async fn ask(
    full: &Path,
    other: &Path,
    messages: u64,
    rounds: usize,
    numbers: [&'static str; 2],
) -> Result<Vec<Asked>> {
    let mut questions = Questions {
        full: Client::new(full),
        other: Client::new(other),
        numbers,
        messages,
        random: fastrand::Rng::with_seed(messages),
    };
    const NAMES: [&str; 9] = [
        "list the inbox",
        "list the inbox far back",
        "list the outbox",
        "show a received message",
        "show a message by its first digits",
        "show a sent message",
        "status",
        "send",
        "receive",
    ];
    let mut asked: Vec<Asked> = NAMES.iter().map(|what| Asked { what, seconds: Vec::new() }).collect();
    // The first of each opens files and lanes.
    for which in 0..NAMES.len() {
        questions.once(which).await?;
    }
    for _ in 0..rounds {
        check_interrupted()?;
        for (which, asked) in asked.iter_mut().enumerate() {
            asked.seconds.push(questions.once(which).await.with_context(|| asked.what)?);
        }
    }
    Ok(asked)
}

impl Questions {
    /// Any message: even numbers were received, odd ones sent.
    fn any(&mut self, odd: u64) -> String {
        envelope_id(self.random.u64(0..self.messages / 2) * 2 + odd).to_string()
    }

    async fn once(&mut self, which: usize) -> Result<f64> {
        let (received, sent) = (self.any(0), self.any(1));
        let start = Instant::now();
        match which {
            0 => check_part(self.full.get::<Vec<InboxItem>>(&format!("/v1/inbox?limit={PART}")).await?.len(), PART)?,
            1 => {
                let path = format!("/v1/inbox?limit={PART}&before={received}");
                check_part(self.full.get::<Vec<InboxItem>>(&path).await?.len(), 0)?;
            }
            2 => {
                check_part(self.full.get::<Vec<OutboxMessage>>(&format!("/v1/outbox?limit={PART}")).await?.len(), PART)?
            }
            3 => check_shown(&self.full.get(&format!("/v1/inbox/{received}")).await?, &received)?,
            4 => check_shown(&self.full.get(&format!("/v1/inbox/{}", &received[..14])).await?, &received)?,
            5 => {
                let shown: OutboxMessage = self.full.get(&format!("/v1/outbox/{sent}")).await?;
                if shown.envelopes[0].id != sent {
                    bail!("another message was shown");
                }
            }
            6 => drop(self.full.get::<Status>("/v1/status").await?),
            7 => drop(submit(&self.full, self.numbers[1]).await?),
            _ => return self.receive().await,
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// From the submission at the other node until this one lists the message.
    async fn receive(&mut self) -> Result<f64> {
        let start = Instant::now();
        let sent = submit(&self.other, self.numbers[0]).await?;
        let id = &sent.envelopes[0].id;
        loop {
            let newest: Vec<InboxItem> = self.full.get("/v1/inbox?limit=1").await?;
            if newest.first().is_some_and(|item| item.id == *id) {
                return Ok(start.elapsed().as_secs_f64());
            }
            let shown: OutboxMessage = self.other.get(&format!("/v1/outbox/{id}")).await?;
            if start.elapsed() > ARRIVAL_DEADLINE || shown.envelopes[0].state == EnvelopeState::Refused {
                bail!("a message did not arrive: {:?}", shown.envelopes[0].reason);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn check_part(found: usize, expected: usize) -> Result<()> {
    if found < expected {
        bail!("{found} items were listed, not {expected}");
    }
    Ok(())
}

fn check_shown(shown: &InboxDetail, id: &str) -> Result<()> {
    if shown.item.id != id || shown.tree.len() != 1 {
        bail!("another message was shown");
    }
    Ok(())
}

/// One small message; answered once it is sealed and durable.
async fn submit(client: &Client, to: &str) -> Result<Sent> {
    let content = tar_of_one("letter.txt", b"A letter.\n")?;
    let message = NewMessage {
        from: None,
        to: vec![format!("{to}/Reception")],
        subject: "Bench".into(),
        body: "A letter is attached.".into(),
        priority: Priority::Normal,
        purpose: None,
        bytes: None,
        files: None,
        folders: None,
        forwards: None,
        corrects: None,
    };
    let draft: Draft = client.post("/v1/drafts", &message).await?;
    let pieces = futures::stream::iter([Ok(Bytes::from(content))]);
    let sent: Sent = client.upload(&format!("/v1/drafts/{}/content", draft.id), Box::pin(pieces)).await?;
    super::some(sent.envelopes.first(), "a message has an envelope")?;
    Ok(sent)
}

/// A tar stream with one small file.
pub(super) fn tar_of_one(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    builder.append_data(&mut header, name, content)?;
    Ok(builder.into_inner()?)
}
