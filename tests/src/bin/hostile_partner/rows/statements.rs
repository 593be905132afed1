//! What is said about the agreement itself.

use pakt_keys::signing::RootKey;
use pakt_node::ambient;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::contact::CONTACT_BYTES_MAX;
use pakt_protocol::message::{Contact, Contacted, Statement};
use pakt_protocol::record::Signed;
use pakt_protocol::record::statement::{Action, AgreementStatement};

use super::{Met, Row, Stage, closed, honest, passed_over};
use crate::partner::Partner;

const NOT_VALID: &str = "this is not a valid end of this agreement";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "end by the statement key",
        does: "ends the agreement without its root",
        meets: "session closed",
        says: NOT_VALID,
        act: by_statement_key,
    },
    Row {
        name: "end by another root",
        does: "has somebody else's root end the agreement",
        meets: "session closed",
        says: NOT_VALID,
        act: by_other_root,
    },
    Row {
        name: "end of another agreement",
        does: "ends, on this lane, an agreement that is not this one",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| by_root(&mut stage.first, |statement| statement.agreement = AgreementId([7; 32])),
    },
    Row {
        name: "end in the victim's name",
        does: "signs an end that the victim is said to state",
        meets: "session closed",
        says: NOT_VALID,
        act: in_the_victims_name,
    },
    Row {
        name: "end with a gap",
        does: "numbers its first statement 2",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| by_root(&mut stage.first, |statement| statement.number = 2),
    },
    Row {
        name: "end echoed that was never stated",
        does: "confirms an end that the victim has not stated",
        meets: "session closed",
        says: "the agreement has ended",
        act: echo,
    },
    Row {
        name: "contact of noise",
        does: "brings 5,000 random bytes as the countersigned agreement",
        meets: "session closed",
        says: "this is not the agreement that was proposed",
        act: |stage| contact(&mut stage.first, ambient::random::<5_000>().to_vec()),
    },
    Row {
        name: "contact too large",
        does: "brings an agreement of 64 KiB and one byte",
        meets: "session closed",
        says: "a contact of more than 64 KiB",
        act: |stage| contact(&mut stage.first, vec![1; CONTACT_BYTES_MAX + 1]),
    },
    Row {
        name: "contact of another agreement",
        does: "brings its accomplice's agreement",
        meets: "session closed",
        says: "this is not the agreement that was proposed",
        act: other_contact,
    },
    Row {
        name: "confirmation of nothing",
        does: "confirms a countersignature that nobody brought",
        meets: "passed over",
        says: "",
        act: contacted,
    },
];

fn statement(partner: &Partner) -> AgreementStatement {
    AgreementStatement {
        agreement: partner.agreement(),
        party: partner.entity(),
        number: 1,
        previous: None,
        action: Action::End,
        at: ambient::now(),
    }
}

fn state(partner: &mut Partner, statement: Signed<AgreementStatement>) -> Met {
    let mut session = honest!(partner.session());
    session.control.say(Statement { statement, known: false });
    closed(session.control.is_closed())
}

fn by_root(partner: &mut Partner, change: fn(&mut AgreementStatement)) -> Met {
    let mut statement = statement(partner);
    change(&mut statement);
    let signed = Signed::create(&statement, |domain, bytes| partner.root().sign(domain, bytes));
    state(partner, signed)
}

fn by_statement_key(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let signed = Signed::create(&statement(partner), |domain, bytes| partner.sign(domain, bytes));
    state(partner, signed)
}

fn by_other_root(stage: &mut Stage) -> Met {
    let root = RootKey::generate(&mut ambient::rng());
    let signed = Signed::create(&statement(&stage.first), |domain, bytes| root.sign(domain, bytes));
    state(&mut stage.first, signed)
}

fn in_the_victims_name(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let statement = AgreementStatement { party: partner.victim_entity(), ..statement(partner) };
    let signed = Signed::create(&statement, |domain, bytes| partner.root().sign(domain, bytes));
    state(partner, signed)
}

fn echo(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let signed = Signed::create(&statement(partner), |domain, bytes| partner.root().sign(domain, bytes));
    let mut session = honest!(partner.session());
    session.control.say(Statement { statement: signed, known: true });
    closed(session.control.is_closed())
}

fn contact(partner: &mut Partner, file: Vec<u8>) -> Met {
    let mut session = honest!(partner.session());
    session.control.say(Contact { file });
    closed(session.control.is_closed())
}

fn other_contact(stage: &mut Stage) -> Met {
    let file = stage.second.file.to_bytes();
    contact(&mut stage.first, file)
}

fn contacted(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(Contacted { agreement: AgreementId([7; 32]) });
    passed_over(session.control.stands())
}
