//! `pakt inbox return|delete|hold|unhold` and `pakt outbox recall`: what takes messages away for good, and what keeps them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Subcommand;

use super::Exit;
use super::client::{Client, escaped};
use super::output::{Output, moment, table};
use crate::api::types::*;
use crate::files;

/// How often is looked whether a recall was answered.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Commands of `pakt inbox` that take messages away or keep them.
#[derive(Debug, Subcommand)]
pub enum KeepCommand {
    /// Send a message back as not meant for this entity: it is purged here, and its sender gets a signed proof.
    #[command(after_help = "Examples:\n  pakt inbox return 3f2a…\n  pakt inbox return 3f2a… --out purge-proof.receipt")]
    Return {
        /// Id, as in the list.
        id: String,
        /// Write the purge proof here as well.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Delete a message for good once it may go, or a report.
    Delete {
        /// Id, as in the list.
        id: String,
    },
    /// Keep a message whatever its agreement says: nothing deletes it, no recall reaches it.
    Hold {
        /// Id, as in the list.
        id: String,
    },
    /// Lift a hold; a recall that came meanwhile is done now.
    Unhold {
        /// Id, as in the list.
        id: String,
    },
}

/// Commands of `pakt outbox` that take messages back.
#[derive(Debug, Subcommand)]
pub enum RecallCommand {
    /// Take a message back: certain while it has not left, afterwards its receiver purges it unless somebody has taken it.
    #[command(after_help = "Examples:\n  pakt outbox recall 3f2a…\n  pakt outbox recall 3f2a… --wait --timeout 1m

Exits with 0 once it is recalled or asked for; with --wait once the receiver has answered: 3 if it came too late.")]
    Recall {
        /// Message or envelope id.
        id: String,
        /// Wait for the receiver's signed answer.
        #[arg(long)]
        wait: bool,
        /// How long to wait.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "1m", requires = "wait")]
        timeout: Duration,
    },
}

/// Runs one of the commands of `pakt inbox`.
///
/// # Errors
/// What the node says.
pub async fn keep(client: &Client, output: Output, command: KeepCommand) -> Result<Exit, ServiceError> {
    let path = |id: &str, what: &str| format!("/v1/inbox/{}/{what}", escaped(id));
    let nothing = serde_json::json!({});
    match command {
        KeepCommand::Return { id, out } => {
            let purged: PurgedItem = client.post(&path(&id, "return"), &nothing).await?;
            if let (Some(out), Some(proof)) = (&out, &purged.proof) {
                files::write_public(out, proof.as_bytes())?;
            }
            output.result(&purged, |purged| {
                format!("{} was purged {}; its sender is told", purged.id, moment(&purged.purged_at))
            });
        }
        KeepCommand::Delete { id } => {
            let purged: PurgedItem = client.post(&path(&id, "delete"), &nothing).await?;
            output.result(&purged, |purged| format!("{} is deleted for good", purged.id));
        }
        KeepCommand::Hold { id } => {
            let held: HeldItem = client.post(&path(&id, "hold"), &nothing).await?;
            output.result(&held, |held| format!("{} is on hold: nothing deletes it", held.id));
        }
        KeepCommand::Unhold { id } => {
            let held: HeldItem = client.post(&path(&id, "unhold"), &nothing).await?;
            output.result(&held, |held| match held.recalled {
                true => format!("{} was purged: its sender had asked for it back while it was on hold", held.id),
                false => format!("{} is not on hold any more", held.id),
            });
        }
    }
    Ok(Exit::DONE)
}

/// Runs `pakt outbox recall`.
///
/// # Errors
/// What the node says.
pub async fn recall(client: &Client, output: Output, command: RecallCommand) -> Result<Exit, ServiceError> {
    let RecallCommand::Recall { id, wait, timeout } = command;
    let path = format!("/v1/outbox/{}", escaped(&id));
    let mut message: OutboxMessage = client.post(&format!("{path}/recall"), &serde_json::json!({})).await?;
    let begun = Instant::now();
    while wait && message.envelopes.iter().any(|envelope| is_asked(envelope.state)) && begun.elapsed() < timeout {
        tokio::time::sleep(LOOK_EVERY).await;
        message = client.get(&path).await?;
    }
    let exit = exit_of(&message.envelopes, wait);
    output.result(&message, |message| {
        let row = |envelope: &OutboxEnvelope| {
            vec![envelope.id.clone(), super::output::safe(&envelope.name), what_became(envelope.state).to_owned()]
        };
        table(&["ENVELOPE", "TO", ""], message.envelopes.iter().map(row).collect())
    });
    Ok(exit)
}

/// Whether the receiver is still to answer.
fn is_asked(state: EnvelopeState) -> bool {
    use EnvelopeState::{Expired, Recalled, Refused, Taken};
    !matches!(state, Recalled | Taken | Refused | Expired)
}

fn what_became(state: EnvelopeState) -> &'static str {
    match state {
        EnvelopeState::Recalled => "recalled: nothing of it is left at the recipient",
        EnvelopeState::Taken => "too late: the recipient has taken it",
        EnvelopeState::Refused | EnvelopeState::Expired => "it was not delivered",
        _ => "asked for: the recipient purges it unless somebody there has taken it",
    }
}

fn exit_of(envelopes: &[OutboxEnvelope], waited: bool) -> Exit {
    let code = |state: EnvelopeState| match state {
        EnvelopeState::Taken => ErrorCode::Refused.exit_code(),
        state if waited && is_asked(state) => ErrorCode::TimedOut.exit_code(),
        _ => 0,
    };
    Exit(envelopes.iter().map(|envelope| code(envelope.state)).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_words_and_its_end() {
        let check = |state, over: bool| {
            assert_eq!(!is_asked(state), over, "{state:?}");
            assert!(!what_became(state).is_empty());
        };
        check(EnvelopeState::Recalled, true);
        check(EnvelopeState::Taken, true);
        check(EnvelopeState::Delivered, false);
        check(EnvelopeState::Released, false);
        check(EnvelopeState::Unconfirmed, false);
        check(EnvelopeState::Queued, false);
    }
}
