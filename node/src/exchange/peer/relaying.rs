//! Being reached through a partner, where neither side can dial the other.
//!
//! **Invariant:** a partner is asked only after a direct dial has failed or where there is no address to dial.

use std::time::Duration;

use pakt_protocol::ids::AgreementId;

use super::{PeerActor, lock, now};
use crate::book::Agreement;
use crate::exchange::relay::{self, Hop};
use crate::net::{DialTarget, LaneKind};

/// While a partner forwards, the direct way is tried so often.
const DIRECT_AGAIN: Duration = Duration::from_secs(300);
/// Partners that are asked one after the other in one attempt.
const HOPS_MAX: usize = 4;

impl PeerActor {
    /// The partners that may forward to this counterpart: those that are online and whose agreements say so.
    pub(super) fn hops(&self) -> Vec<Hop> {
        let all = self.context.book.all();
        let may = all.iter().filter(|one| one.id != self.id && one.terms.relay && one.in_force(now()));
        may.filter_map(|one| self.hop(one)).take(HOPS_MAX).collect()
    }

    /// One partner, if it is online and can be dialled.
    fn hop(&self, agreement: &Agreement) -> Option<Hop> {
        let entity = agreement.counterpart().entity;
        let shown = lock(&self.context.peers).get(&agreement.id).map(|peer| lock(&peer.state).to_state())?;
        let control = shown.lanes.iter().find(|lane| lane.kind == LaneKind::Control && lane.via.is_none())?;
        // What answered is dialled again; a partner that dialled this node may still be dialled where its card says.
        let addresses: Vec<String> = match control.dialer && control.remote.port() != 0 {
            true => vec![control.remote.to_string()],
            false => agreement.addresses.iter().map(|address| address.as_str().to_owned()).collect(),
        };
        let target = |addr| DialTarget { agreement: agreement.id, entity, addr };
        let targets: Vec<DialTarget> = addresses.into_iter().map(target).collect();
        let hop = Hop { agreement: agreement.id, targets, version: agreement.terms.version };
        Some(hop).filter(|hop| shown.online && !hop.targets.is_empty())
    }

    /// The one partner that forwards the control lane, for content lanes beside it.
    pub(super) fn hop_via(&self, via: &AgreementId) -> Vec<Hop> {
        self.hops().into_iter().filter(|hop| hop.agreement == *via).collect()
    }

    /// The counterpart is a partner that forwards, and somebody there wants to reach this node.
    pub(super) fn answer_relay_call(&mut self, token: [u8; 16]) {
        let Some(agreement) = self.agreement().filter(|one| one.terms.relay && one.in_force(now())) else { return };
        let Some(hop) = self.hop(&agreement) else { return };
        self.tasks.spawn(relay::answer_call(self.context.clone(), hop, token));
    }

    /// While a partner forwards, the direct way is tried now and then.
    pub(super) fn plan_direct_dial(&mut self) {
        if self.is_forwarded() {
            self.timers.set(super::Timer::Dial, now() + DIRECT_AGAIN);
        }
    }

    /// Whether a partner forwards the control lane.
    pub(super) fn is_forwarded(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.via.is_some())
    }
}
