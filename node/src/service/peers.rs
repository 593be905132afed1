//! The counterparts, whether each can be reached, and why not.

use std::collections::BTreeMap;
use std::sync::Arc;

use pakt_keys::EntityId;
use pakt_protocol::record::address::Address;
use pakt_protocol::time::Time;

use super::agreements::state_of;
use super::{Answer, Node, words};
use crate::ambient;
use crate::api::types::*;
use crate::book::{Agreement, Book, END_OPEN_FOR, Standing};
use crate::exchange::{LaneInfo, PeerState};
use crate::net::{LaneKind, Reach, SharedRules};

impl Node {
    /// The counterparts and how they can be reached, by name.
    ///
    /// # Errors
    /// None so far; the type is that of all calls.
    pub async fn peers(&self) -> Answer<Vec<Peer>> {
        let now = ambient::now();
        let state = |agreement: &Arc<Agreement>| self.inner.exchange.peer(&agreement.id);
        let peers = self.counterparts(now);
        let shown = |agreement: &Arc<Agreement>| Peer {
            controls_lacking: self.controls_lacking(agreement),
            ..peer(agreement, &state(agreement), (&self.inner.book, &self.inner.dial_rules), now)
        };
        Ok(peers.iter().map(shown).collect())
    }

    /// Controls that an agreement asks for and that this node cannot attest.
    pub(super) fn controls_lacking(&self, agreement: &Agreement) -> Vec<String> {
        let terms = &agreement.terms;
        self.inner.exchange.controls().lacking(&terms.controls, terms.retention_seconds)
    }

    /// The agreement that counts with each counterpart, ordered by name.
    pub(super) fn counterparts(&self, now: Time) -> Vec<Arc<Agreement>> {
        let mut entities: BTreeMap<EntityId, Arc<Agreement>> = BTreeMap::new();
        for agreement in self.inner.book.all() {
            let entity = agreement.counterpart().entity;
            if let Some(counts) = self.inner.book.by_entity(&entity) {
                entities.insert(entity, counts);
            }
        }
        let mut shown: Vec<_> = entities.into_values().filter(|agreement| is_shown(agreement, now)).collect();
        shown.sort_by(|a, b| a.counterpart().name.cmp(&b.counterpart().name));
        shown
    }
}

/// An ended agreement is shown as long as somebody may ask why nothing arrives.
fn is_shown(agreement: &Agreement, now: Time) -> bool {
    agreement.standing != Standing::Ended || agreement.ended_at.is_none_or(|at| now.distance(at) < END_OPEN_FOR)
}

fn peer(agreement: &Agreement, state: &PeerState, (book, rules): (&Book, &SharedRules), now: Time) -> Peer {
    let other = agreement.counterpart();
    let groups = agreement.roster.iter().flat_map(|roster| &roster.groups);
    let (addresses, addresses_ignored) = dialled(&agreement.addresses, rules);
    Peer {
        entity: other.entity.to_string(),
        name: other.name.clone(),
        number: other.number.clone(),
        agreement: PeerAgreement {
            id: agreement.id.to_string(),
            version: agreement.terms.version,
            state: state_of(agreement, now),
            valid_until: time_text(agreement.terms.valid_until),
            verified: agreement.verified,
        },
        online: state.online,
        since: state.since.map(time_text),
        reason: match state.online {
            true => not_in_force(agreement, now),
            false => Some(reason_of(agreement, state, now)),
        },
        groups: groups.map(|group| group.name.clone()).collect(),
        lanes: state.lanes.iter().map(|shown| lane(shown, book)).collect(),
        line_rate: state.line_rate,
        addresses,
        addresses_ignored,
        addresses_told_at: agreement.addresses_told_at.map(time_text),
        clock_difference_s: agreement.clock_difference_s,
        last_contact: agreement.last_contact.map(time_text),
        holding: state.holding.as_ref().map(|holding| holding.why.clone()),
        controls_lacking: Vec::new(),
    }
}

/// Why a counterpart is not online: what the agreement says goes before what was tried.
pub(super) fn reason_of(agreement: &Agreement, state: &PeerState, now: Time) -> String {
    if let Some(why) = not_in_force(agreement, now) {
        return why;
    }
    if let Some(problem) = &state.turned_away {
        return format!("its node was turned away: {problem}");
    }
    let tried = state.reason.clone().unwrap_or_else(|| "it is being dialled".to_owned());
    match agreement.addresses.is_empty() {
        true if state.reason.is_none() => "its card names no address: it has to dial this node".to_owned(),
        _ => tried,
    }
}

/// Why nothing may be exchanged under an agreement, if that is so.
pub(super) fn not_in_force(agreement: &Agreement, now: Time) -> Option<String> {
    if agreement.in_force(now) {
        return None;
    }
    if agreement.frozen_at.is_some() && agreement.standing == Standing::Active {
        return Some("its certificates contradict each other: call it, then end this agreement".to_owned());
    }
    let terms = &agreement.terms;
    Some(match state_of(agreement, now) {
        AgreementState::Proposed => {
            format!(
                "the agreement is proposed, the counterpart has until {} to accept it",
                words::moment(terms.accept_by)
            )
        }
        AgreementState::Expired if agreement.standing == Standing::Proposed => {
            "the proposal was not accepted in time".to_owned()
        }
        AgreementState::Expired => format!("the agreement ran out {}", words::moment(terms.valid_until)),
        AgreementState::Active => format!("the agreement begins {}", words::moment(terms.valid_from)),
        AgreementState::Suspended => suspended(agreement),
        AgreementState::Unconfirmed => {
            "the agreement came out of a backup and waits for `pakt agreement confirm`".to_owned()
        }
        _ => "the agreement has ended".to_owned(),
    })
}

/// Who has suspended an agreement, and since when.
fn suspended(agreement: &Agreement) -> String {
    let since = |at: Time| words::moment(at);
    match (agreement.suspended_here(), agreement.suspended_there()) {
        (Some(here), Some(there)) => {
            format!(
                "both sides have suspended the agreement, this one {}, the counterpart {}",
                since(here),
                since(there)
            )
        }
        (Some(here), None) => format!("this side has suspended the agreement {}", since(here)),
        (None, there) => {
            format!("the counterpart has suspended the agreement {}", there.map(since).unwrap_or_default())
        }
    }
}

/// Which addresses are dialled, and which are not and why. What a name resolves to is known only when it is dialled.
fn dialled(addresses: &[Address], rules: &SharedRules) -> (Vec<String>, Vec<String>) {
    let mut permitted = Vec::new();
    let mut ignored = Vec::new();
    for address in addresses {
        match address.ip() {
            Some(ip) if !rules.permit(ip) => {
                let kind = match Reach::of(ip) {
                    Reach::Loopback => "a loopback address",
                    Reach::LinkLocal => "a link-local address",
                    Reach::Private => "a private address",
                    Reach::Public | Reach::None => "no address that can be dialled",
                };
                ignored.push(format!(
                    "{} is {kind}, and neither this node's own addresses nor allow_range permit it",
                    address.as_str()
                ));
            }
            _ => permitted.push(address.as_str().to_owned()),
        }
    }
    (permitted, ignored)
}

fn lane(lane: &LaneInfo, book: &Book) -> PeerLane {
    let kind = match lane.kind {
        LaneKind::Control => "control",
        LaneKind::Urgent => "urgent",
        LaneKind::Bulk => "bulk",
        LaneKind::Relay => "relay",
    };
    PeerLane {
        kind: kind.to_owned(),
        remote: if lane.remote.port() == 0 { String::new() } else { lane.remote.to_string() },
        via: lane.via.and_then(|via| book.get(&via)).map(|partner| partner.counterpart().name.clone()),
        dialled: lane.dialer,
        bytes_sent: lane.sent,
        bytes_received: lane.received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::DialRules;

    #[test]
    fn addresses_that_are_not_dialled_say_why() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        let addresses = [address("10.0.0.5:4100"), address("node.example:4100"), address("127.0.0.1:4100")];
        let check = |own: &[&str], allowed: &[&str], ignored: &[&str]| {
            let rules = DialRules {
                own: own.iter().map(|ip| ip.parse().unwrap()).collect(),
                allowed: allowed.iter().map(|range| range.parse().unwrap()).collect(),
            };
            let (permitted, told) = dialled(&addresses, &rules.into());
            assert_eq!(permitted.len() + told.len(), addresses.len());
            assert!(permitted.contains(&"node.example:4100".to_owned()));
            let names: Vec<&str> = told.iter().filter_map(|text| text.split(' ').next()).collect();
            assert_eq!(names, ignored);
            assert!(told.iter().all(|text| text.contains("allow_range")));
        };
        check(&[], &[], &["10.0.0.5:4100", "127.0.0.1:4100"]);
        check(&["10.1.1.1"], &[], &["127.0.0.1:4100"]);
        check(&["127.0.0.1"], &["10.0.0.0/8"], &[]);
    }
}
