//! `pakt quarantine`: what the malware check holds.

use clap::Subcommand;

use super::Exit;
use super::client::{Client, escaped};
use super::output::{Output, moment, safe, table};
use crate::api::types::*;

/// `pakt quarantine …`
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what was found, what could not be checked and what waits for the scanner, the newest 1,000 of each: who sent it and why it is held, no subject and no content.
    List,
    /// Let a message out, on your word and without a scan; the audit log notes it, and the sender is told. One that waits
    /// for the scanner can be let out whether it is listed or not.
    #[command(after_help = "Examples:\n  pakt quarantine release ID")]
    Release {
        /// Id of the message.
        id: String,
    },
    /// Delete a message in which something was found, with the key that opens it.
    #[command(after_help = "Examples:\n  pakt quarantine delete ID")]
    Delete {
        /// Id of the message.
        id: String,
    },
}

/// `pakt quarantine`
///
/// # Errors
/// What the node says.
pub async fn quarantine(client: &Client, output: Output, command: QuarantineCommand) -> Result<Exit, ServiceError> {
    let (id, step) = match command {
        QuarantineCommand::List => {
            let items: Vec<QuarantineItem> = client.get("/v1/quarantine").await?;
            output.result(&items, |items| text(items));
            return Ok(Exit::DONE);
        }
        QuarantineCommand::Release { id } => {
            output.confirm("Nothing has passed this message as harmless. Show it to its group all the same?")?;
            (id, "release")
        }
        QuarantineCommand::Delete { id } => {
            output.confirm("Delete this message for good?")?;
            (id, "delete")
        }
    };
    let () = client.post(&format!("/v1/quarantine/{}/{step}", escaped(&id)), &()).await?;
    let done = serde_json::json!({ "id": id, "done": step });
    output.result(&done, |_| format!("{step}d"));
    Ok(Exit::DONE)
}

fn text(items: &[QuarantineItem]) -> String {
    if items.is_empty() {
        return "nothing is held".to_owned();
    }
    let row = |item: &QuarantineItem| {
        let state = match item.state {
            QuarantineState::Found => "found",
            QuarantineState::Held => "held",
        };
        let from = format!("{}/{}", safe(&item.from.name), safe(&item.from.group));
        vec![item.id.clone(), state.to_owned(), safe(&item.what), from, safe(&item.group), moment(&item.received_at)]
    };
    table(&["id", "state", "what", "from", "for", "received"], items.iter().map(row).collect())
}
