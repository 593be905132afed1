//! What is shown beside messages: attestations of controls, heads of the audit log, later door grants.

use pakt_keys::EntityId;
use pakt_keys::sealing::ContactPublic;
use pakt_keys::signing::StatementKey;
use pakt_node::ambient;
use pakt_protocol::audit::LogHead;
use pakt_protocol::controls::{Attested, Control, Evidence};
use pakt_protocol::message::{AttestationUpdate, Grant, Granted, LogHeadUpdate, Message, WantAttestation};
use pakt_protocol::record::Signed;
use pakt_protocol::record::attestation::Attestation;
use pakt_protocol::record::grant::DoorGrant;

use super::{Met, Row, Stage, closed, honest, passed_over};
use crate::partner::Partner;

const NO_ATTESTATION: &str = "this is no valid attestation";
const TAMPERED: &str = "the counterpart's audit log was tampered with";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "attestation rolled back",
        does: "shows an attestation with a lower number than the last",
        meets: "session closed",
        says: "the attestation is older than one that is known",
        act: |stage| attested_after(stage, |attestation| attestation.counter -= 1),
    },
    Row {
        name: "attestation forked",
        does: "shows two attestations with one number",
        meets: "session closed",
        says: "there are two different attestations with one number",
        act: |stage| attested_after(stage, |attestation| attestation.controls = on("another scanner")),
    },
    Row {
        name: "attestation stale",
        does: "shows the attestation that is known once more, to make it look fresh",
        meets: "passed over",
        says: "",
        act: stale,
    },
    Row {
        name: "attestation by another",
        does: "signs an attestation with a key that is not certified",
        meets: "session closed",
        says: NO_ATTESTATION,
        act: attested_by_another,
    },
    Row {
        name: "attestation for another",
        does: "shows what it attests to its accomplice",
        meets: "session closed",
        says: NO_ATTESTATION,
        act: |stage| {
            let reader = stage.second.entity();
            attested(&mut stage.first, |attestation| attestation.reader = reader)
        },
    },
    Row {
        name: "attestation that deceives",
        does: "turns the writing direction in what it shows for a control",
        meets: "session closed",
        says: NO_ATTESTATION,
        act: |stage| attested(&mut stage.first, |attestation| attestation.controls = on("no\u{202e}renacs")),
    },
    Row {
        name: "attestation of one control twice",
        does: "attests one control twice, once with and once without",
        meets: "session closed",
        says: NO_ATTESTATION,
        act: |stage| {
            attested(&mut stage.first, |attestation| attestation.controls = [on("a scanner"), on("none")].concat())
        },
    },
    Row {
        name: "attestations wanted without end",
        does: "asks for a fresh attestation 200 times in a row",
        meets: "one answer at the most",
        says: "",
        act: wanted,
    },
    Row {
        name: "log head of another",
        does: "shows the head of its accomplice's log as its own",
        meets: "session closed",
        says: "this is no valid head of this entity's log",
        act: other_head,
    },
    Row {
        name: "log head by another",
        does: "has a key sign its log's head that is not certified",
        meets: "session closed",
        says: "this is no valid head of a log",
        act: head_by_another,
    },
    Row {
        name: "log that grows without proof",
        does: "shows a longer log without saying what it continues",
        meets: "asked for the proof",
        says: "",
        act: unproven,
    },
    Row {
        name: "log never proven",
        does: "shows longer and longer logs, and proves none of them when asked",
        meets: "asked for the proof",
        says: "the counterpart does not prove its audit log",
        act: never_proven,
    },
    Row {
        name: "log rewritten",
        does: "shows a longer log that does not continue the head that is held",
        meets: "passed over",
        says: TAMPERED,
        act: |stage| headed(stage, |held| (held + 10, held), 9),
    },
    Row {
        name: "log cut",
        does: "shows a shorter log than it has shown before",
        meets: "passed over",
        says: TAMPERED,
        act: |stage| headed(stage, |held| (held - 1, 0), 9),
    },
    Row {
        name: "log forked",
        does: "shows another log of the same length",
        meets: "passed over",
        says: TAMPERED,
        act: |stage| headed(stage, |held| (held, held), 8),
    },
    Row {
        name: "door grant rolled back",
        does: "gives a door grant with a lower number than the last",
        meets: "session closed",
        says: "the door grant is older than one that is known",
        act: |stage| granted_after(stage, |counter| counter - 1),
    },
    Row {
        name: "door grant forked",
        does: "gives two different door grants with one number",
        meets: "session closed",
        says: "there are two different door grants with one number",
        act: |stage| granted_after(stage, |counter| counter),
    },
    Row {
        name: "door grant by another",
        does: "gives a door grant that its accomplice has signed",
        meets: "session closed",
        says: "the door grant is not signed by this node",
        act: granted_by_another,
    },
    Row {
        name: "door grant for another",
        does: "gives the door grant that its accomplice should hold",
        meets: "session closed",
        says: "the door grant is for other parties",
        act: granted_to_another,
    },
    Row {
        name: "door grant sealed to nobody",
        does: "seals a door grant to a key that the victim does not have",
        meets: "session closed",
        says: "the door grant is not sealed to this node",
        act: granted_to_nobody,
    },
    Row {
        name: "confirmation of a grant elsewhere",
        does: "confirms a door grant of another agreement",
        meets: "session closed",
        says: "a confirmed door grant of another agreement",
        act: confirmed_elsewhere,
    },
];

fn on(evidence: &str) -> Vec<Attested> {
    vec![Attested { control: Control::MalwareScan, evidence: Evidence::On(evidence.into()) }]
}

fn attestation(partner: &mut Partner) -> Attestation {
    Attestation {
        issuer: partner.entity(),
        reader: partner.victim_entity(),
        agreement: partner.agreement(),
        counter: partner.next_counter(),
        at: ambient::now(),
        controls: on("a scanner of today"),
    }
}

fn signed(attestation: &Attestation, key: &StatementKey) -> AttestationUpdate {
    AttestationUpdate { attestation: Signed::create(attestation, |domain, bytes| key.sign(domain, bytes)) }
}

fn attested(partner: &mut Partner, change: impl FnOnce(&mut Attestation)) -> Met {
    let mut attestation = attestation(partner);
    change(&mut attestation);
    let mut session = honest!(partner.session());
    session.control.say(signed(&attestation, &partner.keys.statement));
    closed(session.control.is_closed())
}

/// A sound attestation, and then one changed like this.
fn attested_after(stage: &mut Stage, change: fn(&mut Attestation)) -> Met {
    let partner = &mut stage.first;
    let mut attestation = attestation(partner);
    let mut session = honest!(partner.session());
    session.control.say(signed(&attestation, &partner.keys.statement));
    if !session.control.stands() {
        return Met::Astray("a sound attestation was refused".into());
    }
    change(&mut attestation);
    session.control.say(signed(&attestation, &partner.keys.statement));
    closed(session.control.is_closed())
}

fn stale(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let update = signed(&attestation(partner), &partner.keys.statement);
    let mut session = honest!(partner.session());
    for _ in 0..3 {
        session.control.say(update.clone());
    }
    passed_over(session.control.stands())
}

fn attested_by_another(stage: &mut Stage) -> Met {
    let update = signed(&attestation(&mut stage.first), &Partner::foreign_statement());
    let mut session = honest!(stage.first.session());
    session.control.say(update);
    closed(session.control.is_closed())
}

fn wanted(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let questions = vec![Message::from(WantAttestation); 200];
    session.control.say_all(&questions);
    if !session.control.stands() {
        return Met::SessionClosed;
    }
    match session.control.kept(|message| matches!(message, Message::Attestation(_))).count() {
        0 | 1 => Met::Other("one answer at the most"),
        count => Met::Astray(format!("{count} answers")),
    }
}

fn head(partner: &Partner, size: u64, root: u8) -> LogHead {
    LogHead { entity: partner.entity(), size, root: [root; 32], at: ambient::now(), chain: partner.chain.clone() }
}

fn shown(head: &LogHead, key: &StatementKey, since: u64) -> LogHeadUpdate {
    LogHeadUpdate { head: head.sign(key), since, proof: vec![] }
}

fn other_head(stage: &mut Stage) -> Met {
    let update = shown(&head(&stage.second, 10, 9), &stage.second.keys.statement, 0);
    let mut session = honest!(stage.first.session());
    session.control.say(update);
    closed(session.control.is_closed())
}

fn head_by_another(stage: &mut Stage) -> Met {
    let update = shown(&head(&stage.first, 10, 9), &Partner::foreign_statement(), 0);
    let mut session = honest!(stage.first.session());
    session.control.say(update);
    closed(session.control.is_closed())
}

/// The size of the head that the victim holds of this partner, as it asks for the proof of a very long log.
fn held(session: &mut crate::session::Session, partner: &Partner) -> Option<u64> {
    session.control.say(shown(&head(partner, 1 << 40, 1), &partner.keys.statement, 1 << 39));
    let wanted = session.control.take_next(|message| match message {
        Message::WantLogHead(want) => Some(want.since),
        _ => None,
    });
    wanted.ok()
}

fn unproven(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    // The real node of before may have shown one; the first head of all is taken as it is.
    session.control.say(shown(&head(&stage.first, 500, 9), &stage.first.keys.statement, 0));
    match held(&mut session, &stage.first) {
        Some(_) => Met::Other("asked for the proof"),
        None => Met::Astray("the head was taken".into()),
    }
}

fn never_proven(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let asked = (0..4).filter(|_| held(&mut session, &stage.first).is_some()).count();
    if asked == 4 { Met::Other("asked for the proof") } else { Met::Astray(format!("asked {asked} times")) }
}

/// Shows a head with this root, of a size and as continuing a size that follow from the one that is held.
fn headed(stage: &mut Stage, sizes: fn(u64) -> (u64, u64), root: u8) -> Met {
    let partner = &mut stage.first;
    let mut session = honest!(partner.session());
    let Some(known) = held(&mut session, partner) else { return Met::Astray("no head is held".into()) };
    let (size, since) = sizes(known);
    session.control.say(shown(&head(partner, size, root), &partner.keys.statement, since));
    passed_over(session.control.stands())
}

fn grant(partner: &Partner, counter: u64, holder: EntityId, contact: &ContactPublic) -> Signed<DoorGrant> {
    let secret = ambient::random();
    let to = (holder, contact);
    let grant = DoorGrant::seal((partner.agreement(), counter), partner.entity(), to, &secret, &mut ambient::rng());
    Signed::create(&grant, |domain, bytes| partner.sign(domain, bytes))
}

fn good_grant(partner: &Partner, counter: u64) -> Grant {
    let node = partner.victim_node();
    Grant { grant: grant(partner, counter, node.entity, &node.contact) }
}

fn granted_after(stage: &mut Stage, next: fn(u64) -> u64) -> Met {
    let partner = &mut stage.first;
    let counter = partner.next_counter();
    let mut session = honest!(partner.session());
    session.control.say(good_grant(partner, counter));
    let taken = session.control.take_next(|message| match message {
        Message::Granted(granted) => (granted.counter == counter).then_some(()),
        _ => None,
    });
    honest!(taken);
    session.control.say(good_grant(partner, next(counter)));
    closed(session.control.is_closed())
}

fn give(stage: &mut Stage, grant: Signed<DoorGrant>) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(Grant { grant });
    closed(session.control.is_closed())
}

fn granted_by_another(stage: &mut Stage) -> Met {
    let counter = stage.second.next_counter();
    let grant = good_grant(&stage.second, counter).grant;
    give(stage, grant)
}

fn granted_to_another(stage: &mut Stage) -> Met {
    let counter = stage.first.next_counter();
    let grant = grant(&stage.first, counter, stage.second.entity(), &stage.second.keys.contact.public());
    give(stage, grant)
}

fn granted_to_nobody(stage: &mut Stage) -> Met {
    let counter = stage.first.next_counter();
    let grant = grant(&stage.first, counter, stage.first.victim_entity(), &stage.second.keys.contact.public());
    give(stage, grant)
}

fn confirmed_elsewhere(stage: &mut Stage) -> Met {
    let agreement = stage.second.agreement();
    let mut session = honest!(stage.first.session());
    session.control.say(Granted { agreement, counter: 1 });
    closed(session.control.is_closed())
}
