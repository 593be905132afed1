//! One outgoing envelope in the API's words: where it is, since when, and why not further.

use std::time::Duration;

use pakt_protocol::delivery::{Reason, State};
use pakt_protocol::message::offer::Refusal;
use pakt_protocol::record::envelope;
use pakt_protocol::time::Time;

use crate::api::types::*;
use crate::exchange::{PeerState, Progress};
use crate::mailroom::outbox::reason_text;
use crate::mailroom::rows::{OutEnvelope, OutMessage};

/// How urgent, in the API's words.
pub(super) fn priority_of(priority: envelope::Priority) -> Priority {
    match priority {
        envelope::Priority::Urgent => Priority::Urgent,
        envelope::Priority::Normal => Priority::Normal,
        envelope::Priority::Bulk => Priority::Bulk,
    }
}

/// How urgent, in the protocol's words.
pub(super) fn priority_for(priority: Priority) -> envelope::Priority {
    match priority {
        Priority::Urgent => envelope::Priority::Urgent,
        Priority::Normal => envelope::Priority::Normal,
        Priority::Bulk => envelope::Priority::Bulk,
    }
}

/// One envelope as people and scripts see it.
pub(super) fn shown(
    message: &OutMessage,
    row: &OutEnvelope,
    peer: Option<&PeerState>,
    live: Option<&Progress>,
    now: Time,
) -> OutboxEnvelope {
    let state = state_of(row);
    let delivered = state.tier() > 0;
    let (live_wire, live_durable) = live.map_or((0, 0), |live| (live.wire_bytes, live.durable_bytes));
    let total = message.counts.sealed_bytes;
    let next = if state == EnvelopeState::Queued { next_attempt(row, peer, now) } else { None };
    OutboxEnvelope {
        id: row.id.to_string(),
        message: row.message.to_string(),
        entity: row.entity.to_string(),
        name: row.entity_name.clone(),
        group: row.group_name.clone(),
        state,
        bytes_content: message.counts.plain_bytes,
        bytes_on_wire: row.wire_bytes.max(live_wire),
        bytes_total: total,
        bytes_durable: if delivered { total } else { row.durable_bytes.max(live_durable).min(total) },
        seconds: seconds_to(row, state).as_secs_f64(),
        next_attempt_at: next.map(time_text),
        expires_at: time_text(row.delivery.expires_at),
        reason: if delivered { None } else { row_reason(row, peer) },
        reason_code: if state.is_failure() { row.delivery.reason.map(code_of) } else { None },
        recalling: row.delivery.recalling,
        history: history_of(row),
        receipts: receipts_of(row),
    }
}

/// When an envelope that waits is tried next, never in the past. While the counterpart is away that is when it is
/// dialled; none when it has to dial this node, or while nobody knows when the agreement lets it go.
fn next_attempt(row: &OutEnvelope, peer: Option<&PeerState>, now: Time) -> Option<Time> {
    let due = row.delivery.next_attempt_at.max(now);
    match peer {
        Some(away) if !away.online => away.next_dial_at.map(|dial| due.max(dial)),
        Some(PeerState { holding: Some(holding), .. }) => holding.until.map(|until| due.max(until)),
        _ => Some(due),
    }
}

/// The state, with the one that is no end: not confirmed.
fn state_of(row: &OutEnvelope) -> EnvelopeState {
    if row.delivery.is_unconfirmed() { EnvelopeState::Unconfirmed } else { plain_state(row.delivery.state) }
}

fn plain_state(state: State) -> EnvelopeState {
    match state {
        State::Queued => EnvelopeState::Queued,
        State::Offered => EnvelopeState::Offered,
        State::Transferring => EnvelopeState::Transferring,
        State::Delivered => EnvelopeState::Delivered,
        State::Released => EnvelopeState::Released,
        State::Taken => EnvelopeState::Taken,
        State::Refused => EnvelopeState::Refused,
        State::Expired => EnvelopeState::Expired,
        State::Recalled => EnvelopeState::Recalled,
    }
}

fn submitted_at(row: &OutEnvelope) -> Time {
    row.delivery.history.first().map_or(Time::ZERO, |(_, at)| *at)
}

/// From submission to the last time the shown state was entered.
fn seconds_to(row: &OutEnvelope, state: EnvelopeState) -> Duration {
    let entered = |wanted: State| row.delivery.history.iter().rev().find(|(state, _)| *state == wanted);
    let at = match state {
        EnvelopeState::Unconfirmed => Some(row.delivery.expires_at),
        _ => entered(row.delivery.state).map(|(_, at)| *at),
    };
    at.unwrap_or(Time::ZERO).since(submitted_at(row))
}

fn history_of(row: &OutEnvelope) -> Vec<StateAt> {
    let moved = row.delivery.history.iter();
    moved.map(|(state, at)| StateAt { state: plain_state(*state), at: time_text(*at) }).collect()
}

fn receipts_of(row: &OutEnvelope) -> Vec<ReceiptAt> {
    let held = row.receipts.iter().filter(|held| (1..=3).contains(&held.tier));
    held.map(|held| ReceiptAt { tier: held.tier, at: time_text(held.at) }).collect()
}

/// Why an envelope waits or failed. While the counterpart is away, that is why, in the exchange's words.
fn row_reason(row: &OutEnvelope, peer: Option<&PeerState>) -> Option<String> {
    let reason = row.delivery.reason;
    let away = peer.filter(|peer| !peer.online);
    let holding = peer.and_then(|peer| peer.holding.as_ref());
    match (reason, away) {
        (None | Some(Reason::Unreachable | Reason::ConnectionLost), Some(peer)) => {
            let text = reason_text(Reason::Unreachable);
            Some(peer.reason.as_ref().map_or_else(|| text.to_owned(), |why| format!("{text}: {why}")))
        }
        (_, None) if row.delivery.state == State::Queued && holding.is_some() => {
            holding.map(|holding| holding.why.clone())
        }
        // The counterpart is back: what was is no reason any more.
        (Some(Reason::Unreachable | Reason::ControlMissing | Reason::RateReached), None)
            if row.delivery.state.is_open() =>
        {
            None
        }
        (reason, _) => reason.map(|reason| reason_text(reason).to_owned()),
    }
}

/// The kind of a failure, so that the exit code is right.
fn code_of(reason: Reason) -> ErrorCode {
    match reason {
        Reason::AgreementEnded
        | Reason::AgreementExpired
        | Reason::AgreementSuspended
        | Reason::AgreementNotBegun
        | Reason::Refused(Refusal::NoAgreement | Refusal::Expired | Refusal::Suspended | Refusal::NotBegun) => {
            ErrorCode::NoAgreement
        }
        Reason::GroupGone | Reason::Refused(Refusal::UnknownGroup) => ErrorCode::NotFound,
        Reason::Refused(_)
        | Reason::Unopenable
        | Reason::Conflict
        | Reason::PurposeNotAgreed
        | Reason::Quarantined
        | Reason::Returned => ErrorCode::Refused,
        Reason::Unreachable
        | Reason::ConnectionLost
        | Reason::HoldTimeOver
        | Reason::NotConfirmed
        | Reason::ControlMissing
        | Reason::RateReached
        | Reason::RecalledTooLate
        | Reason::Fault
        | Reason::RestoredSince => ErrorCode::Failed,
    }
}

#[cfg(test)]
mod tests {
    use pakt_keys::EntityId;
    use pakt_protocol::delivery::Record;
    use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId};
    use pakt_protocol::record::envelope::Counts;
    use pakt_protocol::record::roster::GroupId;

    use super::*;
    use crate::exchange::Holding;
    use crate::mailroom::rows::HeldReceipt;

    const NOW: Time = Time(1_790_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn message() -> OutMessage {
        let counts = Counts { files: 2, plain_bytes: 500, chunks: 1, segments: 1, sealed_bytes: 700 };
        OutMessage {
            id: MessageId([1; 16]),
            sequence: 1,
            from_group: GroupId([2; 16]),
            from_name: "Reception".into(),
            subject: "x".into(),
            priority: envelope::Priority::Normal,
            purpose: None,
            submitted_at: NOW,
            counts,
            key: None,
            envelopes: vec![EnvelopeId([3; 16])],
            earlier: vec![],
        }
    }

    fn row(state: State, reason: Option<Reason>, tiers: &[u8]) -> OutEnvelope {
        let mut delivery = Record::new(envelope::Priority::Normal, HOUR, NOW);
        delivery.state = state;
        delivery.reason = reason;
        if state != State::Queued {
            delivery.history.push((state, NOW + Duration::from_millis(2_500)));
        }
        let receipts = tiers.iter().map(|tier| HeldReceipt { tier: *tier, at: NOW + HOUR, bytes: vec![*tier] });
        OutEnvelope {
            id: EnvelopeId([3; 16]),
            message: MessageId([1; 16]),
            sequence: 1,
            number: 1,
            agreement: AgreementId([4; 32]),
            entity: EntityId([5; 32]),
            entity_name: "Sør".into(),
            group: GroupId([6; 16]),
            group_name: "Reception".into(),
            core: vec![],
            delivery,
            wire_bytes: 100,
            durable_bytes: 50,
            receipts: receipts.collect(),
        }
    }

    fn peer(online: bool, reason: Option<&str>) -> PeerState {
        PeerState { online, reason: reason.map(str::to_owned), ..PeerState::default() }
    }

    fn view(row: &OutEnvelope, peer: Option<&PeerState>) -> OutboxEnvelope {
        shown(&message(), row, peer, None, NOW + Duration::from_secs(9))
    }

    #[test]
    fn states_come_from_the_record_and_the_receipts() {
        let check = |state, reason, tiers: &[u8], expected: EnvelopeState| {
            let shown = view(&row(state, reason, tiers), None);
            assert_eq!(shown.state, expected);
            assert_eq!(shown.receipts.len(), tiers.iter().filter(|tier| (1..=3).contains(*tier)).count());
        };
        check(State::Queued, None, &[], EnvelopeState::Queued);
        check(State::Transferring, None, &[], EnvelopeState::Transferring);
        check(State::Queued, Some(Reason::NotConfirmed), &[], EnvelopeState::Unconfirmed);
        check(State::Delivered, None, &[1], EnvelopeState::Delivered);
        check(State::Released, None, &[1, 2], EnvelopeState::Released);
        check(State::Taken, None, &[1, 3], EnvelopeState::Taken);
        check(State::Refused, Some(Reason::Quarantined), &[1, 4], EnvelopeState::Refused);
        check(State::Recalled, None, &[1, 5], EnvelopeState::Recalled);
        check(State::Refused, Some(Reason::Conflict), &[0], EnvelopeState::Refused);
        check(State::Expired, Some(Reason::HoldTimeOver), &[], EnvelopeState::Expired);
    }

    #[test]
    fn reasons_name_the_counterpart_only_while_it_is_away() {
        let away = peer(false, Some("nobody listens on 10.0.0.1:4100"));
        let check = |reason: Option<Reason>, peer: Option<&PeerState>, says: Option<&str>| {
            let told = view(&row(State::Queued, reason, &[]), peer).reason;
            assert_eq!(told.is_some(), says.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(says.unwrap_or_default()));
        };
        check(None, Some(&away), Some("nobody listens on 10.0.0.1:4100"));
        check(Some(Reason::ConnectionLost), Some(&away), Some("nobody listens"));
        check(Some(Reason::Refused(Refusal::Busy)), Some(&away), Some("busy"));
        check(Some(Reason::Unreachable), Some(&peer(true, None)), None);
        check(Some(Reason::Refused(Refusal::Busy)), Some(&peer(true, None)), Some("busy"));
        let holding = Some(Holding { why: "the agreement asks for malware-scan".into(), until: None });
        let held = PeerState { holding, ..peer(true, None) };
        check(Some(Reason::ControlMissing), Some(&held), Some("malware-scan"));
        assert_eq!(view(&row(State::Queued, None, &[]), Some(&held)).next_attempt_at, None);
        check(Some(Reason::ControlMissing), Some(&peer(true, None)), None);
        check(None, Some(&peer(true, None)), None);
        check(None, Some(&peer(false, None)), Some("cannot be reached"));
        let delivered = view(&row(State::Delivered, Some(Reason::ConnectionLost), &[1]), None);
        assert_eq!(delivered.reason, None);
    }

    #[test]
    fn failures_have_the_exit_code_that_scripts_rely_on() {
        let check = |state, reason, exit: Option<u8>| {
            let code = view(&row(state, Some(reason), &[]), None).reason_code;
            assert_eq!(code.map(ErrorCode::exit_code), exit, "{reason:?}");
        };
        check(State::Refused, Reason::AgreementEnded, Some(3));
        check(State::Refused, Reason::Refused(Refusal::NoAgreement), Some(3));
        check(State::Refused, Reason::Refused(Refusal::TooLarge), Some(3));
        check(State::Refused, Reason::Refused(Refusal::NoSpace), Some(3));
        check(State::Refused, Reason::Refused(Refusal::UnknownGroup), Some(4));
        check(State::Refused, Reason::GroupGone, Some(4));
        check(State::Expired, Reason::HoldTimeOver, Some(1));
        check(State::Queued, Reason::NotConfirmed, Some(1));
        check(State::Queued, Reason::Refused(Refusal::Busy), None);
    }

    #[test]
    fn the_next_attempt_is_the_next_dial_while_the_counterpart_is_away() {
        let now = NOW + Duration::from_secs(9);
        let check = |online: bool, next_dial_at: Option<Time>, state: State, expected: Option<Time>| {
            let peer = PeerState { next_dial_at, ..peer(online, None) };
            assert_eq!(view(&row(state, None, &[]), Some(&peer)).next_attempt_at, expected.map(time_text));
        };
        let later = now + Duration::from_secs(20);
        check(false, Some(later), State::Queued, Some(later));
        check(false, Some(NOW), State::Queued, Some(now));
        check(false, None, State::Queued, None);
        check(true, Some(later), State::Queued, Some(now));
        check(false, Some(later), State::Transferring, None);
    }

    #[test]
    fn times_and_bytes_are_those_of_the_shown_state() {
        let queued = view(&row(State::Queued, None, &[]), None);
        assert_eq!(queued.seconds, 0.0);
        assert_eq!(queued.next_attempt_at, Some(time_text(NOW + Duration::from_secs(9))));
        assert_eq!((queued.bytes_durable, queued.bytes_total, queued.bytes_content), (50, 700, 500));
        let delivered = view(&row(State::Released, None, &[1, 2]), None);
        assert_eq!(delivered.seconds, 2.5);
        assert_eq!(delivered.next_attempt_at, None);
        assert_eq!(delivered.bytes_durable, 700);
        assert_eq!(delivered.history.len(), 2);
        let live = Progress { wire_bytes: 400, durable_bytes: 9_999 };
        let moving = shown(&message(), &row(State::Transferring, None, &[]), None, Some(&live), NOW);
        assert_eq!((moving.bytes_on_wire, moving.bytes_durable), (400, 700));
    }
}
