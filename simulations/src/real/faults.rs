//! What people and operators do besides sending: recalls, and those faults that complete nodes can be made to have from outside.
//!
//! Lines, disks and clocks of a real mesh are this machine's own; faults of these belong to the virtual mesh, and a scenario with
//! them is refused here rather than run without them.

use std::time::Duration;

use anyhow::{Result, bail};
use pakt_node::api::types::{SignedRequest, Signing};

use super::events::Events;
use super::mesh::Mesh;
use crate::outcome::What;
use crate::scenario::{Fault, FaultKind, Scenario};

/// Something that is done at a time.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// A fault begins.
    Fault(Box<Fault>),
    /// A node that was stopped starts again.
    StartAgain(Box<Fault>, usize),
    /// A sender wants a message back.
    Recall { node: usize, message: String },
}

/// Refuses what no mesh of complete nodes can be made to have.
///
/// # Errors
/// That, by name.
pub(super) fn check(scenario: &Scenario) -> Result<()> {
    if scenario.random_faults.is_some() {
        bail!("random_faults: a mesh of complete nodes has none; run this scenario in the virtual mesh");
    }
    for fault in &scenario.faults {
        let known = match &fault.what {
            FaultKind::Suspend { .. }
            | FaultKind::Resume { .. }
            | FaultKind::End { .. }
            | FaultKind::RotateKeys { .. } => true,
            FaultKind::Crash { lose_unsynced, torn, at_persist, .. } => !lose_unsynced && !torn && at_persist.is_none(),
            _ => false,
        };
        if !known {
            bail!(
                "faults: {:?} cannot be made with complete nodes of one process; run this scenario in the virtual mesh",
                fault.what.name()
            );
        }
    }
    Ok(())
}

/// The faults of a scenario by their times.
pub(super) fn acts(faults: &[Fault]) -> impl Iterator<Item = (Duration, Act)> {
    faults.iter().map(|fault| (fault.at, Act::Fault(Box::new(fault.clone()))))
}

impl Act {
    /// Does it; gives what is to be done later because of it, and in how much simulated time.
    pub(super) async fn apply(self, mesh: &mut Mesh, events: &mut Events<'_>) -> Result<Option<(Duration, Act)>> {
        match self {
            Act::Fault(fault) => {
                let node = fault.what.node().or(fault.what.pair().map(|(a, _)| a)).unwrap_or(0);
                events.now(node, What::FaultBegan { fault: (*fault).clone() });
                begin(fault, mesh, events).await
            }
            Act::StartAgain(fault, node) => {
                mesh.start_again(node).await?;
                events.now(node, What::Started);
                events.now(node, What::FaultEnded { fault: *fault });
                Ok(None)
            }
            Act::Recall { node, message } => {
                if let Some(node) = mesh.sites[node].node() {
                    // Refused where nothing can be recalled any more, which is no failure.
                    let _ = node.outbox_recall(message).await;
                }
                Ok(None)
            }
        }
    }
}

async fn begin(fault: Box<Fault>, mesh: &mut Mesh, events: &mut Events<'_>) -> Result<Option<(Duration, Act)>> {
    match fault.what {
        FaultKind::Crash { node, .. } => {
            mesh.sites[node].stop().await?;
            events.now(node, What::Stopped);
            return Ok(Some((fault.for_.unwrap_or_default(), Act::StartAgain(fault, node))));
        }
        FaultKind::RotateKeys { node } => {
            if let Some(node) = mesh.sites[node].node() {
                node.rotate(SignedRequest { signing: Signing::default() }).await?;
            }
        }
        FaultKind::Suspend { a, b } | FaultKind::Resume { a, b } | FaultKind::End { a, b } => {
            let (Some(place), Some(node)) = (mesh.place(a, b), mesh.sites[a].node()) else { return Ok(None) };
            let id = mesh.agreements[place].clone();
            let request = SignedRequest { signing: Signing::default() };
            match fault.what {
                FaultKind::Suspend { .. } => {
                    node.suspend(id).await?;
                    let resume = Fault { at: fault.at, for_: None, what: FaultKind::Resume { a, b } };
                    return Ok(fault.for_.map(|after| (after, Act::Fault(Box::new(resume)))));
                }
                FaultKind::Resume { .. } => node.resume(id, request).await?,
                _ => node.end(id, request).await?,
            };
        }
        _ => bail!("a fault that was not refused before the start"),
    }
    Ok(None)
}
