//! Rosters: older, forked, foreign, absurd.

use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::RosterUpdate;
use pakt_protocol::record::Signed;
use pakt_protocol::record::roster::{GroupId, Roster, RosterGroup};

use super::{Met, Row, Stage, closed, honest};
use crate::partner::Partner;

const NOT_VALID: &str = "the roster is not valid";
const OTHER_PARTIES: &str = "the roster is for other parties";
const NOT_SIGNED: &str = "the roster is not signed by this node";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "roster rolled back",
        does: "shows a roster with a lower number than the last",
        meets: "session closed",
        says: "the roster is older than one that is known",
        act: rolled_back,
    },
    Row {
        name: "roster forked",
        does: "shows two rosters with one number",
        meets: "session closed",
        says: "there are two different rosters with one number",
        act: forked,
    },
    Row {
        name: "roster for another reader",
        does: "shows the roster that its accomplice should read",
        meets: "session closed",
        says: OTHER_PARTIES,
        act: other_reader,
    },
    Row {
        name: "roster of another issuer",
        does: "names its accomplice as the issuer",
        meets: "session closed",
        says: OTHER_PARTIES,
        act: other_issuer,
    },
    Row {
        name: "roster of another agreement",
        does: "names an agreement that is not this one",
        meets: "session closed",
        says: OTHER_PARTIES,
        act: |stage| changed(stage, |roster| roster.agreement = AgreementId([7; 32])),
    },
    Row {
        name: "roster of 1,001 groups",
        does: "shows one group more than fit",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| changed(stage, |roster| roster.groups = groups(1_001)),
    },
    Row {
        name: "roster with one id twice",
        does: "gives two groups one id",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| {
            changed(stage, |roster| {
                roster.groups = groups(2);
                roster.groups[1].id = roster.groups[0].id;
            })
        },
    },
    Row {
        name: "roster with one name twice",
        does: "gives two groups one name",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| {
            changed(stage, |roster| {
                roster.groups = groups(2);
                roster.groups[1].name = roster.groups[0].name.clone();
            })
        },
    },
    Row {
        name: "roster with a name that deceives",
        does: "turns the writing direction in a group's name",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| changed(stage, |roster| roster.groups[0].name = "Rece\u{202e}noitp".into()),
    },
    Row {
        name: "roster too large",
        does: "shows a roster of 600 KiB",
        meets: "session closed",
        says: NOT_SIGNED,
        act: |stage| {
            changed(stage, |roster| {
                roster.groups = groups(1_000);
                roster.groups.iter_mut().for_each(|group| group.name += &"x".repeat(600));
            })
        },
    },
    Row {
        name: "roster signed by another",
        does: "has its accomplice sign the roster",
        meets: "session closed",
        says: NOT_SIGNED,
        act: other_signer,
    },
    Row {
        name: "roster signed by the root",
        does: "signs the roster with the wrong one of its own keys",
        meets: "session closed",
        says: NOT_SIGNED,
        act: root_signer,
    },
];

fn groups(count: u16) -> Vec<RosterGroup> {
    let group = |number: u16| {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        RosterGroup { id: GroupId(id), name: format!("Group {number:05}") }
    };
    (0..count).map(group).collect()
}

fn show(partner: &mut Partner, roster: Signed<Roster>) -> Met {
    let mut session = honest!(partner.session());
    session.control.say(RosterUpdate { roster });
    closed(session.control.is_closed())
}

fn changed(stage: &mut Stage, change: fn(&mut Roster)) -> Met {
    let mut roster = stage.first.fresh_roster();
    change(&mut roster);
    let signed = stage.first.sign_roster(&roster);
    show(&mut stage.first, signed)
}

fn rolled_back(stage: &mut Stage) -> Met {
    let mut roster = honest!(stage.first.roster.peek());
    roster.counter -= 1;
    let signed = stage.first.sign_roster(&roster);
    show(&mut stage.first, signed)
}

fn forked(stage: &mut Stage) -> Met {
    let mut roster = honest!(stage.first.roster.peek());
    roster.groups = groups(3);
    let signed = stage.first.sign_roster(&roster);
    show(&mut stage.first, signed)
}

fn other_reader(stage: &mut Stage) -> Met {
    let mut roster = stage.first.fresh_roster();
    roster.reader = stage.second.entity();
    let signed = stage.first.sign_roster(&roster);
    show(&mut stage.first, signed)
}

fn other_issuer(stage: &mut Stage) -> Met {
    let mut roster = stage.first.fresh_roster();
    roster.issuer = stage.second.entity();
    let signed = stage.first.sign_roster(&roster);
    show(&mut stage.first, signed)
}

fn other_signer(stage: &mut Stage) -> Met {
    let roster = stage.first.fresh_roster();
    let signed = stage.second.sign_roster(&roster);
    show(&mut stage.first, signed)
}

fn root_signer(stage: &mut Stage) -> Met {
    let roster = stage.first.fresh_roster();
    let signed = Signed::create(&roster, |domain, bytes| stage.first.root().sign(domain, bytes));
    show(&mut stage.first, signed)
}
