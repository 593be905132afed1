//! The demo: two entities, one agreement, one study, on one machine.

pub mod phantom;

use crate::api::types::ServiceError;
use crate::cli::Exit;
use crate::cli::args::DemoArgs;
use crate::cli::output::Output;

/// x
pub async fn run(_output: Output, _args: &DemoArgs) -> Result<Exit, ServiceError> {
    Ok(Exit::DONE)
}
