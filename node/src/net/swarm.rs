//! How lanes look to the swarm: one stream per connection, its protocol name is the lane's kind.
//!
//! **Invariant:** an accepted lane is never dropped because somebody is slow to take it: it waits, and so does its dialer.
//! **Invariant:** a connection without a lane ends within two lane deadlines; one with a lane is never closed as idle.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, Stream,
    StreamUpgradeError, SubstreamProtocol, THandlerInEvent, ToSwarm,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::PollSender;

use super::error::DialError;
use super::lane::Lane;
use super::registry::{Pass, Registry};
use pakt_protocol::message::lane::LaneKind;

/// What a dial wants of its connection, and where its stream goes.
pub(super) struct Wanted {
    pub(super) kind: LaneKind,
    pub(super) reply: oneshot::Sender<Result<Stream, DialError>>,
}

/// Refused: the chain has no record of this connection.
#[derive(Debug, thiserror::Error)]
#[error("no record of this connection")]
struct Unknown;

/// The behaviour: hands each established connection to its handler.
pub(super) struct Lanes {
    registry: Arc<Registry>,
    inbound: mpsc::Sender<Lane>,
    wanted: HashMap<ConnectionId, Wanted>,
    deadline: Duration,
}

impl Lanes {
    pub(super) fn new(registry: Arc<Registry>, inbound: mpsc::Sender<Lane>, deadline: Duration) -> Lanes {
        Lanes { registry, inbound, wanted: HashMap::new(), deadline }
    }

    /// Notes what the dial that becomes this connection is for.
    pub(super) fn want(&mut self, connection: ConnectionId, wanted: Wanted) {
        self.wanted.insert(connection, wanted);
    }

    /// Forgets a dial that failed; its caller learns it by the dropped reply.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.wanted.remove(&connection);
    }
}

impl NetworkBehaviour for Lanes {
    type ConnectionHandler = LaneHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<LaneHandler, ConnectionDenied> {
        let pass = self.registry.take_accepted(&(local.clone(), remote.clone()));
        let pass = pass.ok_or_else(|| ConnectionDenied::new(Unknown))?;
        Ok(LaneHandler {
            deadline: self.deadline,
            side: Side::Listener { pass, inbound: PollSender::new(self.inbound.clone()), arrived: None },
        })
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<LaneHandler, ConnectionDenied> {
        let wanted = self.wanted.remove(&connection);
        let wanted = wanted.ok_or_else(|| ConnectionDenied::new(Unknown))?;
        Ok(LaneHandler { deadline: self.deadline, side: Side::Dialer { wanted: Some(wanted) } })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::DialFailure(failure) = event {
            self.forget(failure.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

enum Side {
    Dialer { wanted: Option<Wanted> },
    Listener { pass: Arc<Pass>, inbound: PollSender<Lane>, arrived: Option<Box<Lane>> },
}

/// One connection's side of [`Lanes`].
pub(super) struct LaneHandler {
    deadline: Duration,
    side: Side,
}

impl ConnectionHandler for LaneHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = oneshot::Sender<Result<Stream, DialError>>;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer, ()> {
        SubstreamProtocol::new(Offer(LaneKind::ALL.to_vec()), ()).with_timeout(self.deadline)
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Self::OutboundOpenInfo>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(negotiated) => {
                let (kind, stream) = negotiated.protocol;
                if let Side::Listener { pass, arrived, .. } = &mut self.side {
                    *arrived = Some(Box::new(Lane::new(kind, false, pass, stream)));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(negotiated) => {
                // A caller that gave up drops the stream, and with it the connection.
                let _ = negotiated.info.send(Ok(negotiated.protocol.1));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(match error {
                    StreamUpgradeError::Timeout => DialError::TimedOut,
                    _ => DialError::Broken,
                }));
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, Self::OutboundOpenInfo, Infallible>> {
        match &mut self.side {
            Side::Dialer { wanted } => {
                if let Some(Wanted { kind, reply }) = wanted.take() {
                    let protocol = SubstreamProtocol::new(Offer(vec![kind]), reply);
                    let protocol = protocol.with_timeout(self.deadline);
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
                }
            }
            Side::Listener { inbound, arrived, .. } => {
                if arrived.is_some()
                    && let Poll::Ready(reserved) = inbound.poll_reserve(cx)
                    && let Some(lane) = arrived.take()
                    && reserved.is_ok()
                {
                    // Fails only when nobody takes lanes any more; the lane is dropped then.
                    let _ = inbound.send_item(*lane);
                }
            }
        }
        Poll::Pending
    }
}

/// The lane kinds that one side names in the negotiation of a stream.
pub(super) struct Offer(Vec<LaneKind>);

impl UpgradeInfo for Offer {
    type Info = LaneKind;
    type InfoIter = std::vec::IntoIter<LaneKind>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (LaneKind, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, kind: LaneKind) -> Self::Future {
        ready(Ok((kind, stream)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (LaneKind, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, kind: LaneKind) -> Self::Future {
        ready(Ok((kind, stream)))
    }
}
