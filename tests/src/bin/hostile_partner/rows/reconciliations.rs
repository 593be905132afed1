//! What a partner states about what it has sent, and answers about what it holds.

use pakt_keys::signing::StatementKey;
use pakt_node::ambient;
use pakt_protocol::message::{Message, Reconcile, ReconcileGap, Reconciled};
use pakt_protocol::reconcile::ranges::Ranges;
use pakt_protocol::record::Signed;
use pakt_protocol::record::reconciliation::{HeldStatement, SentStatement};

use super::{Met, Row, Stage, closed, honest};
use crate::partner::Partner;

const NO_STATEMENT: &str = "this is no valid statement of what was sent";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "reconciliation by another",
        does: "has a key sign what it has sent that is not certified",
        meets: "session closed",
        says: NO_STATEMENT,
        act: |stage| stated(&mut stage.first, &Partner::foreign_statement(), |_| {}),
    },
    Row {
        name: "reconciliation of another pair",
        does: "shows what its accomplice states about the accomplice's own messages",
        meets: "session closed",
        says: NO_STATEMENT,
        act: |stage| {
            let statement = statement(&stage.second);
            let signed = signed(&statement, &stage.second.keys.statement);
            let mut session = honest!(stage.first.session());
            session.control.say(Reconcile { statement: signed });
            closed(session.control.is_closed())
        },
    },
    Row {
        name: "reconciliation beside itself",
        does: "states numbers that lie outside of what the statement is about",
        meets: "session closed",
        says: NO_STATEMENT,
        act: |stage| {
            let key = StatementKey::from_seed(*stage.first.keys.statement.seed());
            stated(&mut stage.first, &key, |statement| statement.last = 5)
        },
    },
    Row {
        name: "reconciliation of countless messages",
        does: "states that it has a receipt for every number that there is",
        meets: "answered",
        says: "a reconciliation shows a gap",
        act: countless,
    },
    Row {
        name: "reconciliations without end",
        does: "states what it has sent 50 times in a row without hearing an answer",
        meets: "session closed",
        says: "a second statement before the first was answered",
        act: without_end,
    },
    Row {
        name: "reconciliation answered unasked",
        does: "says what it holds although nobody has asked",
        meets: "session closed",
        says: "an answer to no statement",
        act: unasked,
    },
    Row {
        name: "reconciliation that names without end",
        does: "names a thousand messages that the victim should have lost",
        meets: "session closed",
        says: "more names than a reconciliation has",
        act: names,
    },
];

fn statement(partner: &Partner) -> SentStatement {
    SentStatement {
        entity: partner.entity(),
        reader: partner.victim_entity(),
        agreement: partner.agreement(),
        round: ambient::now().0,
        at: ambient::now(),
        given: u64::MAX,
        first: 1,
        last: u64::MAX,
        delivered: Ranges::of(1, u64::MAX),
        open: Ranges::default(),
        excused: Ranges::default(),
        forgotten: Ranges::default(),
    }
}

fn signed(statement: &SentStatement, key: &StatementKey) -> Signed<SentStatement> {
    Signed::create(statement, |domain, bytes| key.sign(domain, bytes))
}

fn stated(partner: &mut Partner, key: &StatementKey, change: fn(&mut SentStatement)) -> Met {
    let mut statement = statement(partner);
    change(&mut statement);
    let mut session = honest!(partner.session());
    session.control.say(Reconcile { statement: signed(&statement, key) });
    closed(session.control.is_closed())
}

fn countless(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let signed = signed(&statement(partner), &partner.keys.statement);
    let mut session = honest!(partner.session());
    session.control.say(Reconcile { statement: signed });
    let answered = session.control.take_next(|message| match message {
        Message::Reconciled(answer) => answer.statement.peek().ok(),
        _ => None,
    });
    match answered {
        Ok(_) => Met::Other("answered"),
        Err(_) => Met::Astray("no answer".into()),
    }
}

fn without_end(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let statement = signed(&statement(partner), &partner.keys.statement);
    let mut session = honest!(partner.session());
    session.control.say_all(&vec![Message::from(Reconcile { statement }); 50]);
    closed(session.control.is_closed())
}

fn unasked(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let held = HeldStatement {
        entity: partner.entity(),
        reader: partner.victim_entity(),
        agreement: partner.agreement(),
        statement: [7; 32],
        at: ambient::now(),
        first: 1,
        last: u64::MAX,
        held: Ranges::of(1, 9),
        named: vec![],
    };
    let key = &partner.keys.statement;
    let statement = Signed::create(&held, |domain, bytes| key.sign(domain, bytes));
    let mut session = honest!(partner.session());
    session.control.say(Reconciled { statement });
    closed(session.control.is_closed())
}

fn names(stage: &mut Stage) -> Met {
    let named = (1..=1_000).map(|number| (number, pakt_protocol::ids::EnvelopeId([7; 16]))).collect();
    let mut session = honest!(stage.first.session());
    session.control.say(ReconcileGap { round: 1, named });
    closed(session.control.is_closed())
}
