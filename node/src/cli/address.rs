//! `pakt address`: where counterparts dial this node.

use clap::Subcommand;

use super::Exit;
use super::client::Client;
use super::output::{Output, safe};
use crate::api::types::*;

/// `pakt address …`
#[derive(Debug, Subcommand)]
pub enum AddressCommand {
    /// List the addresses that counterparts are told.
    List,
    /// Name other addresses: the settings keep them, and every counterpart is told at once or when it comes.
    #[command(after_help = "Examples:
  pakt address set pakt.nord.example:4100
  pakt address set pakt.nord.example:4100 [2001:db8::5]:4100
  pakt address set --none")]
    Set {
        /// Addresses in the order in which they are to be tried, at most eight.
        #[arg(value_name = "HOST:PORT", required_unless_present = "none", conflicts_with = "none")]
        addresses: Vec<String>,
        /// Name none: the listen address counts, if it is a specific one; else this node only dials.
        #[arg(long)]
        none: bool,
    },
}

/// `pakt address`
///
/// # Errors
/// What the node says.
pub async fn address(client: &Client, output: Output, command: AddressCommand) -> Result<Exit, ServiceError> {
    let addresses: Addresses = match command {
        AddressCommand::List => client.get("/v1/addresses").await?,
        AddressCommand::Set { addresses, .. } => client.post("/v1/addresses", &AddressesRequest { addresses }).await?,
    };
    output.result(&addresses, text);
    Ok(Exit::DONE)
}

fn text(told: &Addresses) -> String {
    if told.addresses.is_empty() {
        return "none: this node only dials, counterparts cannot dial it".into();
    }
    let why = if told.from_listen { "\n(the listen address, as `advertise` in config.toml is empty)" } else { "" };
    format!("{}{why}", safe(&told.addresses.join("\n")))
}
