//! Recalls of what the partner did not send, and purges that the victim never stated.

use pakt_node::ambient;
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use pakt_protocol::message::{PurgedBefore, Recall};
use pakt_protocol::record::envelope::Counts;
use pakt_protocol::record::recall::RecallRequest;
use pakt_protocol::record::receipt::{Receipt, Verdict, receipt_bytes};
use pakt_protocol::record::{Record, Signed};

use super::{Met, Row, Stage, answered, closed, honest};
use crate::partner::Partner;

const NOT_VALID: &str = "a recall that does not verify";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "recall by another",
        does: "wants a message back with a key that is not certified",
        meets: "session closed",
        says: NOT_VALID,
        act: by_another,
    },
    Row {
        name: "recall of another's message",
        does: "wants back what its accomplice has sent",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| {
            let accomplice = stage.second.entity();
            asked(&mut stage.first, |request| request.sender = accomplice)
        },
    },
    Row {
        name: "recall under another agreement",
        does: "wants a message back under an agreement that is not this one",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| asked(&mut stage.first, |request| request.agreement = AgreementId([7; 32])),
    },
    Row {
        name: "recall of what never came",
        does: "wants a message back that it has never sent",
        meets: "receipt not held",
        says: "",
        act: of_nothing,
    },
    Row {
        name: "purge that was never stated",
        does: "shows the victim, as its own, a statement that a message was purged",
        meets: "session closed",
        says: "a purge that this entity did not state",
        act: never_stated,
    },
];

fn request(partner: &Partner) -> RecallRequest {
    RecallRequest {
        sender: partner.entity(),
        recipient: partner.victim_entity(),
        agreement: partner.agreement(),
        message: MessageId(ambient::random()),
        envelope: EnvelopeId(ambient::random()),
        core: CoreHash(ambient::random()),
        at: ambient::now(),
    }
}

fn signed(partner: &Partner, request: &RecallRequest) -> Signed<RecallRequest> {
    Signed::create(request, |domain, bytes| partner.sign(domain, bytes))
}

fn asked(partner: &mut Partner, change: impl FnOnce(&mut RecallRequest)) -> Met {
    let mut request = request(partner);
    change(&mut request);
    let request = signed(partner, &request);
    let mut session = honest!(partner.session());
    session.control.say(Recall { request });
    closed(session.control.is_closed())
}

fn by_another(stage: &mut Stage) -> Met {
    let request = request(&stage.first).sign(&Partner::foreign_statement());
    let mut session = honest!(stage.first.session());
    session.control.say(Recall { request });
    closed(session.control.is_closed())
}

fn of_nothing(stage: &mut Stage) -> Met {
    let request = request(&stage.first);
    let signed = signed(&stage.first, &request);
    let mut session = honest!(stage.first.session());
    session.control.say(Recall { request: signed });
    answered(session.answer(request.envelope))
}

fn never_stated(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let receipt = Receipt {
        verdict: Verdict::Recalled,
        core: CoreHash([1; 32]),
        message: MessageId([2; 16]),
        envelope: EnvelopeId([3; 16]),
        sender: partner.entity(),
        recipient: partner.victim_entity(),
        agreement: partner.agreement(),
        agreement_hash: [4; 32],
        counts: Counts::default(),
        offered_at: ambient::now(),
        at: ambient::now(),
        log_head: None,
        chain: partner.recertify(|_| {}),
    };
    let signed: Signed<Receipt> = Signed::create(&receipt, |_, bytes| partner.sign(Receipt::DOMAIN, bytes));
    let mut session = honest!(partner.session());
    session.control.say(PurgedBefore { receipts: vec![receipt_bytes(&signed)] });
    closed(session.control.is_closed())
}
