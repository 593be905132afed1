//! What this implementation says to the vectors of recalls, reconciliations and questions about how an envelope ended.
//!
//! Where the rules of a message are those of its owner, not of its record, they are applied here as the specification
//! states them.

use pakt_keys::codec;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::Message;
use pakt_protocol::message::recall::PURGED_BEFORE_MAX;
use pakt_protocol::record::envelope::{CORE_BYTES_MAX, EnvelopeCore};
use pakt_protocol::record::receipt::Verdict;
use pakt_protocol::record::reconciliation::{NAMED_MAX, verify_held, verify_sent};
use pakt_protocol::record::{recall, receipt};

use crate::check::{node_of, of_codec, of_record};
use crate::network::signed;
use crate::story::Story;

type Outcome = Result<(), String>;

pub(crate) fn outcome(story: &Story, kind: &str, bytes: &[u8]) -> Outcome {
    let Story { a, b, .. } = story;
    let agreement = AgreementId(story.agreement_id());
    let (a_node, b_id) = (node_of(a), b.entity());
    match kind {
        "ask" => ask(story, bytes),
        "gap" => gap(bytes),
        "held" => {
            let asked = signed(&story.good_sent())?;
            verify_held(&signed(bytes)?, &asked, &node_of(b)).map(drop).map_err(|error| of_record(&error))
        }
        "purged" => purged(story, bytes),
        "recall" => {
            recall::verify(&signed(bytes)?, &agreement, &a_node, &b_id).map(drop).map_err(|error| of_record(&error))
        }
        "sent" => verify_sent(&signed(bytes)?, &agreement, &a_node, &b_id).map(drop).map_err(|error| of_record(&error)),
        unknown => Err(format!("no such kind of vector: {unknown}")),
    }
}

/// A asks B how an envelope ended.
fn ask(story: &Story, bytes: &[u8]) -> Outcome {
    let Message::AskEnded(message) = message(bytes)? else { return Err("another message".to_owned()) };
    let core: EnvelopeCore = codec::decode(1, &message.core, CORE_BYTES_MAX).map_err(of_codec)?;
    let expected = (story.a.entity(), story.b.entity(), AgreementId(story.agreement_id()));
    if (core.sender, core.recipient, core.agreement) != expected {
        return Err("Parties".to_owned());
    }
    Ok(())
}

/// A names to B what B does not hold.
fn gap(bytes: &[u8]) -> Outcome {
    let Message::ReconcileGap(message) = message(bytes)? else { return Err("another message".to_owned()) };
    if message.named.len() > NAMED_MAX {
        return Err("Field".to_owned());
    }
    Ok(())
}

/// A shows B, which was restored, what B itself had stated.
fn purged(story: &Story, bytes: &[u8]) -> Outcome {
    let Message::PurgedBefore(message) = message(bytes)? else { return Err("another message".to_owned()) };
    if message.receipts.len() > PURGED_BEFORE_MAX {
        return Err("Field".to_owned());
    }
    let (own, sender) = (node_of(&story.b), story.a.entity());
    for bytes in &message.receipts {
        let receipt = receipt::verify_from(bytes, &own, &sender).map_err(|error| of_record(&error))?;
        if !matches!(receipt.verdict, Verdict::Recalled | Verdict::Returned) {
            return Err("Field".to_owned());
        }
    }
    Ok(())
}

fn message(bytes: &[u8]) -> Result<Message, String> {
    let message = Message::from_bytes(bytes).map_err(of_codec)?;
    assert_eq!(message.to_bytes(), bytes, "one value has one encoding");
    Ok(message)
}
