//! What a hostile node says instead of what it should.

use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::offer::Answer;
use pakt_protocol::message::{Contacted, Message, ReceiptHeld, WantReconcile};
use pakt_protocol::record::receipt::{Tier, Verdict};

use crate::scenario::HostileKind;

/// Records that a flood adds to each message: more than the allowance of a counterpart.
const FLOOD: usize = 300;

/// The messages that leave for the one that should.
pub(super) fn instead(kind: Option<HostileKind>, message: Message) -> Vec<Message> {
    match kind {
        None => vec![message],
        Some(HostileKind::Garbage) => {
            let nonsense = Contacted { agreement: AgreementId([0xff; 32]) };
            vec![message, nonsense.into()]
        }
        Some(HostileKind::Replay) => vec![message.clone(), message],
        Some(HostileKind::Forge) => vec![forged(message)],
        Some(HostileKind::Flood) => {
            let flood = std::iter::repeat_n(Message::from(WantReconcile), FLOOD);
            std::iter::once(message).chain(flood).collect()
        }
        Some(HostileKind::Early) => early(message),
        Some(HostileKind::Silent) => match message {
            Message::Answer(Answer::Accept { .. }) | Message::Roster(_) | Message::Heartbeat(_) => vec![message],
            _ => Vec::new(),
        },
    }
}

/// A receipt that nobody has signed.
fn forged(message: Message) -> Message {
    match message {
        Message::Receipt(mut receipt) => {
            if let Some(last) = receipt.receipt.last_mut() {
                *last ^= 1;
            }
            receipt.into()
        }
        other => other,
    }
}

/// A sender that says at once that it holds every receipt.
fn early(message: Message) -> Vec<Message> {
    match message.envelope() {
        Some(envelope) => {
            let verdict = Verdict::Held(Tier::Taken);
            vec![ReceiptHeld { envelope, verdict }.into(), message]
        }
        None => vec![message],
    }
}
