//! Introductions: as somebody else, to oneself, of noise, without end.

use pakt_keys::EntityId;
use pakt_keys::sealing::{ENCAPSULATION_BYTES, Wrapped};
use pakt_node::ambient;
use pakt_protocol::introduction::{INTRODUCTION_BYTES_MAX, Letter, PER_DAY, SHARE};
use pakt_protocol::message::Message;
use pakt_protocol::message::introduction::{
    Introduction, IntroductionBody, IntroductionFate, IntroductionId, IntroductionTaken,
};

use super::{Met, Row, Stage, honest, passed_over};
use crate::partner::Partner;
use crate::session::Session;

const TAKEN: &str = "taken, and goes nowhere";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "introduction of somebody else",
        does: "hands over, for its accomplice, what another shall read as said by the accomplice",
        meets: TAKEN,
        says: "",
        act: |stage| {
            let (from, to) = (stage.second.entity(), EntityId([7; 32]));
            nowhere(stage, from, to, letter(100))
        },
    },
    Row {
        name: "introduction to itself",
        does: "has itself introduced to itself",
        meets: TAKEN,
        says: "",
        act: |stage| {
            let own = stage.first.entity();
            nowhere(stage, own, own, letter(100))
        },
    },
    Row {
        name: "introduction to a stranger",
        does: "has itself introduced to an entity with which the victim has no agreement",
        meets: TAKEN,
        says: "",
        act: |stage| {
            let own = stage.first.entity();
            nowhere(stage, own, EntityId([7; 32]), letter(100))
        },
    },
    Row {
        name: "introduction too large",
        does: "hands over a letter that is larger than any can be",
        meets: TAKEN,
        says: "",
        act: |stage| {
            let (own, to) = (stage.first.entity(), stage.second.entity());
            nowhere(stage, own, to, letter(INTRODUCTION_BYTES_MAX))
        },
    },
    Row {
        name: "letter of noise",
        does: "introduces somebody with a letter that was sealed to nobody",
        meets: TAKEN,
        says: "the letter does not open",
        act: |stage| to_victim(stage, letter(8 << 10)),
    },
    Row {
        name: "letter with something else",
        does: "introduces somebody whose letter holds noise instead of a proposal",
        meets: TAKEN,
        says: "an introduction message was dropped",
        act: |stage| sealed(stage, Letter::Proposal(ambient::random::<5_000>().to_vec())),
    },
    Row {
        name: "letter with another's proposal",
        does: "introduces somebody with a proposal that is not theirs",
        meets: TAKEN,
        says: "an introduction message was dropped",
        act: |stage| {
            let file = stage.first.file.to_bytes();
            sealed(stage, Letter::Proposal(file))
        },
    },
    Row {
        name: "letter with an answer to no proposal",
        does: "introduces somebody with the answer to a proposal that the victim has not made",
        meets: TAKEN,
        says: "an introduction message was dropped",
        act: |stage| {
            let file = stage.second.file.to_bytes();
            sealed(stage, Letter::Agreement(file))
        },
    },
    Row {
        name: "card request with another's card",
        does: "asks for the victim's card in the name of somebody whose card it does not have",
        meets: TAKEN,
        says: "the card is another entity's",
        act: |stage| {
            let card = stage.first.file.acceptor.clone();
            to_victim(stage, IntroductionBody::CardRequest(card))
        },
    },
    Row {
        name: "card for which nobody asked",
        does: "hands over a card for which the victim has not asked",
        meets: TAKEN,
        says: "nobody has asked for this card",
        act: unasked,
    },
    Row {
        name: "confirmation of no introduction",
        does: "confirms an introduction that the victim has not handed over",
        meets: "passed over",
        says: "",
        act: confirmed,
    },
    Row {
        name: "introductions without end",
        does: "hands over 1,200 letters for as many recipients",
        meets: "later, from the 1,025th of a day on",
        says: "",
        act: without_end,
    },
    Row {
        name: "introductions for one recipient without end",
        does: "hands over 100 letters for one recipient",
        meets: "later, from the 33rd of a week on",
        says: "",
        act: for_one_without_end,
    },
];

fn letter(bytes: usize) -> IntroductionBody {
    IntroductionBody::Letter(Wrapped { encapsulation: vec![7; ENCAPSULATION_BYTES], ciphertext: vec![7; bytes] })
}

fn hand_over(session: &mut Session, from: EntityId, to: EntityId, body: IntroductionBody) -> Option<IntroductionFate> {
    hand_over_as(session, ambient::random(), (from, to), body)
}

fn hand_over_as(
    session: &mut Session,
    id: IntroductionId,
    (from, to): (EntityId, EntityId),
    body: IntroductionBody,
) -> Option<IntroductionFate> {
    session.control.say(Introduction { id, from, to, body });
    let fate = session.control.take_next(|message| match message {
        Message::IntroductionTaken(taken) => (taken.id == id).then_some(taken.fate),
        _ => None,
    });
    fate.ok()
}

fn taken(fate: Option<IntroductionFate>) -> Met {
    match fate {
        Some(IntroductionFate::Taken) => Met::Other(TAKEN),
        other => Met::Astray(format!("{other:?}")),
    }
}

/// Hands something over that must not reach the accomplice, who listens.
fn nowhere(stage: &mut Stage, from: EntityId, to: EntityId, body: IntroductionBody) -> Met {
    let mut theirs = honest!(stage.second.session());
    let mut session = honest!(stage.first.session());
    let met = taken(hand_over(&mut session, from, to, body));
    if !theirs.control.stands() {
        return Met::Astray("the accomplice's session ended".into());
    }
    match theirs.control.kept(|message| matches!(message, Message::Introduction(_))).next() {
        Some(_) => Met::Astray("it was passed on".into()),
        None => met,
    }
}

/// Introduces the accomplice to the victim.
fn to_victim(stage: &mut Stage, body: IntroductionBody) -> Met {
    let mut session = honest!(stage.first.session());
    let (from, to) = (stage.second.entity(), stage.first.victim_entity());
    taken(hand_over(&mut session, from, to, body))
}

/// The same with a letter that opens.
fn sealed(stage: &mut Stage, letter: Letter) -> Met {
    let mut session = honest!(stage.first.session());
    let (id, from, node) = (ambient::random(), stage.second.entity(), stage.first.victim_node());
    let wrapped = letter.seal(&id, &from, (&node.entity, &node.contact), &mut ambient::rng());
    let body = IntroductionBody::Letter(honest!(wrapped));
    taken(hand_over_as(&mut session, id, (from, node.entity), body))
}

fn unasked(stage: &mut Stage) -> Met {
    let card = own_card(&stage.second);
    to_victim(stage, IntroductionBody::Card(card))
}

fn own_card(partner: &Partner) -> pakt_protocol::record::card::SignedCard {
    partner.file.acceptor.clone()
}

fn confirmed(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(IntroductionTaken { id: ambient::random(), fate: IntroductionFate::Taken });
    passed_over(session.control.stands())
}

fn without_end(stage: &mut Stage) -> Met {
    let recipient = |at: u16| EntityId([at.to_be_bytes(); 16].concat().try_into().expect("32 bytes"));
    match flood(&mut stage.second, 1_200, recipient) {
        Ok([PER_DAY, _]) => Met::Other("later, from the 1,025th of a day on"),
        counts => Met::Astray(format!("{counts:?}")),
    }
}

fn for_one_without_end(stage: &mut Stage) -> Met {
    match flood(&mut stage.first, 100, |_| EntityId([77; 32])) {
        Ok([SHARE, _]) => Met::Other("later, from the 33rd of a week on"),
        counts => Met::Astray(format!("{counts:?}")),
    }
}

/// Hands over so many letters, and counts what was taken and what put off.
fn flood(partner: &mut Partner, letters: u16, to: impl Fn(u16) -> EntityId) -> Result<[u32; 2], String> {
    let mut session = partner.session().map_err(|error| format!("{error:?}"))?;
    let from = partner.entity();
    let mut counts = [0; 2];
    for at in 0..letters {
        match hand_over(&mut session, from, to(at), letter(100)) {
            Some(IntroductionFate::Taken) => counts[0] += 1,
            Some(IntroductionFate::Later) => counts[1] += 1,
            other => return Err(format!("{other:?} after {counts:?}")),
        }
    }
    Ok(counts)
}
