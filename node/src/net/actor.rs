//! The task that owns the swarm.
//!
//! **Invariant:** nothing that a peer sends is interpreted here; that happens in the tasks of the connections.
//! **Invariant:** every task of the network ends within [`SHUTDOWN_DEADLINE`] of the cancellation.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{DialError as SwarmDialError, SwarmEvent};
use libp2p::{Multiaddr, Swarm};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::swarm::{Lanes, Wanted};

/// How long the tasks of connections may take to end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// What a [`Net`](super::Net) asks of its actor.
pub(super) enum Command {
    /// Dial an address that ends in a ticket, for one lane.
    Dial { address: Multiaddr, wanted: Wanted },
}

/// The owner of the swarm.
pub(super) struct NetActor {
    pub(super) swarm: Swarm<Lanes>,
    pub(super) listener: Option<ListenerId>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) cancelled: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl NetActor {
    /// Runs until cancelled: stops accepting, ends every connection, waits for their tasks.
    pub(super) async fn run(mut self) {
        let cancelled = self.cancelled.clone();
        loop {
            tokio::select! {
                () = cancelled.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(Command::Dial { address, wanted }) => self.dial(address, wanted),
                    None => break,
                },
                event = self.swarm.select_next_some() => note(&event),
            }
        }
        if let Some(listener) = self.listener {
            self.swarm.remove_listener(listener);
        }
        self.commands.close();
        drop(self.swarm);
        self.tasks.close();
        if timeout(SHUTDOWN_DEADLINE, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "connections did not end in time");
        }
    }

    fn dial(&mut self, address: Multiaddr, wanted: Wanted) {
        let opts = DialOpts::unknown_peer_id().address(address).allocate_new_port().build();
        let connection = opts.connection_id();
        self.swarm.behaviour_mut().want(connection, wanted);
        if let Err(error) = self.swarm.dial(opts) {
            self.swarm.behaviour_mut().forget(connection);
            note_dial(&error);
        }
    }
}

fn note(event: &SwarmEvent<std::convert::Infallible>) {
    match event {
        SwarmEvent::ListenerClosed { reason, .. } => {
            tracing::error!(?reason, "the listener ended");
        }
        SwarmEvent::OutgoingConnectionError { error, .. } => note_dial(error),
        _ => {}
    }
}

fn note_dial(error: &SwarmDialError) {
    tracing::debug!(%error, "no connection");
}
