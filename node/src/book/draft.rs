//! The terms that a proposer decides about.

use std::time::Duration;

use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::agreement::{AgreementTerms, HOLD_SECONDS_MAX, Party};
use pakt_protocol::record::card::Card;
use pakt_protocol::time::Time;

use crate::ambient;
use crate::entity::Entity;

/// What a proposer decides about the terms; the rest follows from the two cards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermsDraft {
    /// The proposal is void afterwards.
    pub accept_by: Time,
    /// What messages may be for, in any order; empty for any purpose.
    pub purposes: Vec<String>,
    /// The law or contract that the exchange rests on.
    pub legal_basis: String,
    /// No traffic before.
    pub valid_from: Time,
    /// No traffic afterwards.
    pub valid_until: Time,
    /// Plain bytes of one message, at most.
    pub message_bytes_max: u64,
    /// Seconds that a sender tries before it reports non-delivery.
    pub hold_seconds: u32,
    /// Seconds that the receiver keeps a message at least.
    pub retention_seconds: Option<u64>,
    /// Messages per hour in each direction, at most.
    pub messages_per_hour: Option<u32>,
    /// Controls that the receiver must attest, in any order.
    pub controls: Vec<String>,
    /// Whom to call when something is urgent.
    pub urgent_contact: String,
    /// Whether each node forwards connections for the other.
    pub relay: bool,
}

const DAY: Duration = Duration::from_secs(86_400);

impl TermsDraft {
    /// All purposes, one year, 100 GB, hold 48 h, 30 days for accepting, no controls.
    ///
    /// It is valid from 30 days ago, so that a counterpart whose clock is behind does not have to wait for it.
    pub fn standard(now: Time) -> TermsDraft {
        TermsDraft {
            accept_by: now + 30 * DAY,
            purposes: vec![],
            legal_basis: String::new(),
            valid_from: now - 30 * DAY,
            valid_until: now + 365 * DAY,
            message_bytes_max: 100_000_000_000,
            hold_seconds: HOLD_SECONDS_MAX,
            retention_seconds: None,
            messages_per_hour: None,
            controls: vec![],
            urgent_contact: String::new(),
            relay: false,
        }
    }

    /// What is agreed now, to be changed by an amendment that must be accepted within 30 days.
    pub fn of(terms: &AgreementTerms, now: Time) -> TermsDraft {
        TermsDraft {
            accept_by: now + 30 * DAY,
            purposes: terms.purposes.clone(),
            legal_basis: terms.legal_basis.clone(),
            valid_from: terms.valid_from,
            valid_until: terms.valid_until,
            message_bytes_max: terms.message_bytes_max,
            hold_seconds: terms.hold_seconds,
            retention_seconds: terms.retention_seconds,
            messages_per_hour: terms.messages_per_hour,
            controls: terms.controls.clone(),
            urgent_contact: terms.urgent_contact.clone(),
            relay: terms.relay,
        }
    }

    /// The first terms between two entities.
    pub(super) fn between(self, proposer: &Entity, acceptor: &Card) -> AgreementTerms {
        let Card { body, node } = acceptor;
        let acceptor = Party { entity: node.entity, name: body.name.clone(), number: body.number.clone() };
        self.terms((proposer.party().clone(), acceptor), (1, None), ambient::random())
    }

    /// A later version of the terms `before`, whose hash is `previous`.
    pub(super) fn after(
        self,
        before: &AgreementTerms,
        version: u32,
        previous: [u8; 32],
        id: &AgreementId,
    ) -> AgreementTerms {
        self.terms((before.proposer.clone(), before.acceptor.clone()), (version, Some(previous)), id.0)
    }

    fn terms(
        self,
        (proposer, acceptor): (Party, Party),
        (version, previous): (u32, Option<[u8; 32]>),
        nonce: [u8; 32],
    ) -> AgreementTerms {
        let ordered = |mut list: Vec<String>| {
            list.sort();
            list.dedup();
            list
        };
        AgreementTerms {
            proposer,
            acceptor,
            version,
            previous,
            nonce,
            accept_by: self.accept_by,
            purposes: ordered(self.purposes),
            legal_basis: self.legal_basis,
            valid_from: self.valid_from,
            valid_until: self.valid_until,
            message_bytes_max: self.message_bytes_max,
            hold_seconds: self.hold_seconds,
            retention_seconds: self.retention_seconds,
            messages_per_hour: self.messages_per_hour,
            controls: ordered(self.controls),
            urgent_contact: self.urgent_contact,
            relay: self.relay,
        }
    }
}
