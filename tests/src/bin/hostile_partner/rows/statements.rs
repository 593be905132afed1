//! What is said about the agreement itself.

use pakt_keys::signing::RootKey;
use pakt_node::ambient;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::contact::CONTACT_BYTES_MAX;
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::{Contact, Contacted, Message, Statement, WantStatements};
use pakt_protocol::record::Signed;
use pakt_protocol::record::statement::{Action, AgreementStatement};
use pakt_protocol::time::Time;

use super::{Met, Row, Stage, answered, closed, honest, passed_over, stopped};
use crate::parcel::Parcel;
use crate::partner::Partner;
use crate::session::Control;

const NOT_VALID: &str = "this is not a valid statement about this agreement";

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
        does: "ends the agreement with its second statement, before the first",
        meets: "asked for what is missing",
        says: "",
        act: gap,
    },
    Row {
        name: "end confirmed that was never stated",
        does: "shows, as known, an end that it says the victim has stated",
        meets: "session closed",
        says: NOT_VALID,
        act: echo,
    },
    Row {
        name: "suspension by another",
        does: "suspends with a key that is not certified",
        meets: "session closed",
        says: NOT_VALID,
        act: suspended_by_another,
    },
    Row {
        name: "suspension by the root",
        does: "suspends with the wrong one of its own keys",
        meets: "session closed",
        says: NOT_VALID,
        act: suspended_by_root,
    },
    Row {
        name: "resumption of what runs",
        does: "resumes an agreement that nobody has suspended",
        meets: "session closed",
        says: "only the party that has suspended the agreement resumes it",
        act: resumed,
    },
    Row {
        name: "statements forked",
        does: "suspends, and shows another suspension under the same number",
        meets: "shown what is held",
        says: "the counterpart has stated two different things under one number",
        act: forked,
    },
    Row {
        name: "statement after another than the last",
        does: "resumes with a statement that follows one which does not exist",
        meets: "shown what is held",
        says: "",
        act: other_previous,
    },
    Row {
        name: "resumption by the statement key",
        does: "takes its suspension back without its root",
        meets: "session closed",
        says: NOT_VALID,
        act: resumed_by_statement_key,
    },
    Row {
        name: "offer under a suspension",
        does: "offers a message under an agreement that it has suspended itself",
        meets: "refuse agreement_suspended",
        says: "",
        act: offer_suspended,
    },
    Row {
        name: "content lane under a suspension",
        does: "opens a bulk lane under an agreement that is suspended",
        meets: "lane not opened",
        says: "",
        act: lane_suspended,
    },
    Row {
        name: "statements of a third party",
        does: "asks for what its accomplice has stated about another agreement",
        meets: "passed over",
        says: "",
        act: others_statements,
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
    let statement = AgreementStatement { party: partner.victim_entity(), ..statement(partner) };
    let signed = Signed::create(&statement, |domain, bytes| partner.root().sign(domain, bytes));
    let mut session = honest!(partner.session());
    session.control.say(Statement { statement: signed, known: true });
    closed(session.control.is_closed())
}

fn gap(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let statement = AgreementStatement { number: 2, previous: Some([7; 32]), ..statement(partner) };
    let signed = Signed::create(&statement, |domain, bytes| partner.root().sign(domain, bytes));
    let mut session = honest!(partner.session());
    session.control.say(Statement { statement: signed, known: false });
    let missing = session.control.hear_until(|message| match message {
        Message::WantStatements(want) => Some(want.after),
        _ => None,
    });
    match (missing, session.control.stands()) {
        (Ok(0), true) => Met::Other("asked for what is missing"),
        other => Met::Astray(format!("{other:?}")),
    }
}

fn suspended_by_another(stage: &mut Stage) -> Met {
    let statement = AgreementStatement { action: Action::Suspend, ..statement(&stage.first) };
    let key = Partner::foreign_statement();
    state(&mut stage.first, Signed::create(&statement, |domain, bytes| key.sign(domain, bytes)))
}

fn suspended_by_root(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let statement = AgreementStatement { action: Action::Suspend, ..statement(partner) };
    let signed = Signed::create(&statement, |domain, bytes| partner.root().sign(domain, bytes));
    state(partner, signed)
}

fn resumed(stage: &mut Stage) -> Met {
    by_root(&mut stage.first, |statement| statement.action = Action::Resume)
}

fn is_echo(message: &Message) -> Option<()> {
    matches!(message, Message::Statement(Statement { known: true, .. })).then_some(())
}

fn forked(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let suspension = AgreementStatement { action: Action::Suspend, ..statement(partner) };
    let fork = AgreementStatement { at: Time(suspension.at.0 + 1), ..suspension.clone() };
    let signed = partner.sign_statement(&suspension);
    honest!(partner.stated.take(&signed, &partner.agreement(), &honest!(partner.chain.verify())));
    let fork = partner.sign_statement(&fork);
    let mut session = honest!(partner.session());
    session.control.say(Statement { statement: signed, known: false });
    honest!(session.control.hear_until(is_echo));
    session.control.forget_echoes();
    session.control.say(Statement { statement: fork, known: false });
    shown_what_is_held(&mut session.control, partner)
}

fn other_previous(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let resumption =
        AgreementStatement { number: 2, previous: Some([7; 32]), action: Action::Resume, ..statement(partner) };
    let signed = Signed::create(&resumption, |domain, bytes| partner.root().sign(domain, bytes));
    let mut session = honest!(partner.session());
    session.control.forget_echoes();
    session.control.say(Statement { statement: signed, known: false });
    shown_what_is_held(&mut session.control, partner)
}

/// Whether the victim shows, as known, what it took first, and lets the session stand.
fn shown_what_is_held(control: &mut Control, partner: &Partner) -> Met {
    let shown = control.hear_until(|message| match message {
        Message::Statement(Statement { statement, known: true }) => Some(statement.clone()),
        _ => None,
    });
    let held = partner.stated.newest();
    match (shown, control.stands()) {
        (Ok(shown), true) if held.is_some_and(|held| held.body() == shown.body()) => Met::Other("shown what is held"),
        other => Met::Astray(format!("{other:?}")),
    }
}

fn resumed_by_statement_key(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let next = honest!(partner.next_statement(Action::Resume));
    let signed = Signed::create(&next, |domain, bytes| partner.sign(domain, bytes));
    state(partner, signed)
}

fn offer_suspended(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let parcel = Parcel::new(&stage.first, &session);
    answered(session.offer(&parcel.offer))
}

fn lane_suspended(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let mut session = honest!(partner.session());
    let met = stopped(partner.bulk(LaneKind::Bulk));
    // All that follows needs the agreement.
    let next = honest!(partner.next_statement(Action::Resume));
    let signed = partner.sign_statement(&next);
    honest!(partner.stated.take(&signed, &partner.agreement(), &honest!(partner.chain.verify())));
    session.control.forget_echoes();
    session.control.say(Statement { statement: signed, known: false });
    honest!(session.control.hear_until(is_echo));
    met
}

fn others_statements(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(WantStatements { party: stage.second.entity(), after: 0 });
    passed_over(session.control.stands())
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
