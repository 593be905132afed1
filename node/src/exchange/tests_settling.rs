//! What a counterpart asks about and never sent: answered at a pace, so that it cannot fill the store.

use std::time::Instant;

use pakt_keys::EntityId;
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use pakt_protocol::message::{AskEnded, Message, Recall};
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, Priority, SUITE};
use pakt_protocol::record::recall::RecallRequest;
use pakt_protocol::record::roster::GroupId;

use super::peer::Command;
use super::tests::{TestNode, pair, until};
use crate::ambient;

/// What one burst may settle.
const AT_ONCE: usize = 64;

fn ask(from: &TestNode, recipient: EntityId, agreement: AgreementId, envelope: EnvelopeId) -> Message {
    let core = EnvelopeCore {
        suite: SUITE,
        message: MessageId(ambient::random()),
        envelope,
        sender: from.entity.id(),
        recipient,
        group: GroupId([5; 16]),
        priority: Priority::Normal,
        submitted_at: ambient::now(),
        counts: Counts::default(),
        agreement,
        agreement_version: 1,
        number: 1,
        root_hash: [5; 32],
    };
    AskEnded { core: core.to_bytes() }.into()
}

fn recall(from: &TestNode, recipient: EntityId, agreement: AgreementId, envelope: EnvelopeId) -> Message {
    let request = RecallRequest {
        sender: from.entity.id(),
        recipient,
        agreement,
        message: MessageId(ambient::random()),
        envelope,
        core: CoreHash(ambient::random()),
        at: ambient::now(),
    };
    Recall { request: request.sign(from.entity.current().statement()) }.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn p19_questions_about_what_never_came_are_settled_at_a_pace() {
    let (a, b, id) = pair().await;
    let first = a.send(&id, 100).await;
    until("delivered", || !a.mailroom.envelope(&first).unwrap().receipts.is_empty()).await;
    let begin = Instant::now();
    let mut asked = Vec::new();
    for number in 0..200 {
        let envelope = EnvelopeId(ambient::random());
        let message = if number % 10 == 0 { recall } else { ask }(&a, b.entity.id(), id, envelope);
        a.exchange.tell(&id, Command::Transmit(Box::new(message))).await;
        asked.push(envelope);
    }
    let known = ask(&a, b.entity.id(), id, asked[0]);
    a.exchange.tell(&id, Command::Transmit(Box::new(known))).await;
    // Whatever was said before this is answered when this is.
    let last = a.send(&id, 100).await;
    until("delivered", || !a.mailroom.envelope(&last).unwrap().receipts.is_empty()).await;
    let settled = asked.iter().filter(|id| b.mailroom.settled(&a.entity.id(), id).unwrap().is_some()).count();
    let most = AT_ONCE + begin.elapsed().as_secs() as usize + 1;
    assert!((AT_ONCE..=most).contains(&settled), "{settled} envelopes that never came were settled");
    a.stop().await;
    b.stop().await;
}
