//! The partner as recipient: receipts and the other answers to a message that the victim sends it.

use pakt_node::ambient;
use pakt_protocol::ids::{CoreHash, EnvelopeId, MessageId};
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::{
    Answer, AskEnded, EpochGone, Offer, Progress, Ready, ReceiptHeld, ReceiptMessage, RosterUpdate, WantLanes,
    Withdrawn,
};
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, Priority, SUITE};
use pakt_protocol::record::receipt::{Receipt, Tier, Verdict, receipt_bytes};

use super::{Met, Row, Stage, answered, closed, honest, passed_over};
use crate::partner::Partner;
use crate::session::Session;

const UNEXPECTED: &str = "a message that this state does not expect";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "receipt for nothing",
        does: "signs a receipt for an envelope that the victim never sent",
        meets: "passed over",
        says: "",
        act: for_nothing,
    },
    Row {
        name: "receipt of another envelope",
        does: "answers for one envelope with a receipt that names another",
        meets: "session closed",
        says: "a receipt of another envelope",
        act: of_another,
    },
    Row {
        name: "receipt by another",
        does: "has its accomplice sign the receipt",
        meets: "session closed",
        says: "a receipt that does not verify",
        act: by_another,
    },
    Row {
        name: "receipt to another",
        does: "signs a receipt that names another sender",
        meets: "session closed",
        says: "a receipt that does not verify",
        act: to_another,
    },
    Row {
        name: "receipt of noise",
        does: "sends noise as a receipt",
        meets: "session closed",
        says: "a receipt that does not verify",
        act: of_noise,
    },
    Row {
        name: "Ready before acceptance",
        does: "claims to hold everything before it has accepted the offer",
        meets: "session closed",
        says: UNEXPECTED,
        act: |stage| answers(stage, |session, offer, _| session.control.say(Ready { envelope: offer.envelope })),
    },
    Row {
        name: "epoch gone before the envelope",
        does: "says that an epoch is gone to which nothing was sealed yet",
        meets: "session closed",
        says: UNEXPECTED,
        act: |stage| {
            answers(stage, |session, offer, partner| {
                session.control.say(EpochGone { envelope: offer.envelope, roster: partner.roster.clone() })
            })
        },
    },
    Row {
        name: "epoch gone with an old roster",
        does: "asks for the seal of an older epoch, with a roster from before",
        meets: "session closed",
        says: "the roster is older than one that is known",
        act: old_epoch,
    },
    Row {
        name: "epoch gone for ever",
        does: "says nine times that the epoch is gone",
        meets: "session closed",
        says: UNEXPECTED,
        act: gone_for_ever,
    },
    Row {
        name: "progress without end",
        does: "claims to hold 2^64 - 1 bytes of a message that it was offered",
        meets: "passed over",
        says: "",
        act: progress,
    },
    Row {
        name: "withdrawal of nothing",
        does: "confirms a withdrawal that the victim has not asked for",
        meets: "passed over",
        says: "",
        act: withdrawn,
    },
    Row {
        name: "lanes without number",
        does: "asks for 255 lanes of each kind",
        meets: "passed over",
        says: "",
        act: want_lanes,
    },
    Row {
        name: "receipt for other content",
        does: "signs that it holds something else under the envelope's id",
        meets: "conflict: the sender is told, nothing counts as delivered",
        says: "reason=\"conflict\"",
        act: other_content,
    },
    Row {
        name: "confirmation of what was never signed",
        does: "says that it holds receipts that the victim never signed",
        meets: "passed over",
        says: "",
        act: held_nothing,
    },
    Row {
        name: "question about another's",
        does: "asks how an envelope of its accomplice ended",
        meets: "session closed",
        says: "a question about what it did not send",
        act: asks_for_another,
    },
    Row {
        name: "question about nothing",
        does: "asks how an envelope ended that it never sent",
        meets: "receipt not held",
        says: "the sender was told that this node does not hold it",
        act: asks_for_nothing,
    },
];

fn receipt(partner: &Partner, envelope: EnvelopeId) -> Receipt {
    Receipt {
        verdict: Verdict::Held(Tier::Delivered),
        core: CoreHash([5; 32]),
        message: MessageId([5; 16]),
        envelope,
        sender: partner.victim_entity(),
        recipient: partner.entity(),
        agreement: partner.agreement(),
        agreement_hash: partner.file.record.hash(),
        counts: Counts::default(),
        offered_at: ambient::now(),
        at: ambient::now(),
        log_head: None,
        chain: partner.chain.clone(),
    }
}

fn signed(partner: &Partner, receipt: &Receipt) -> Vec<u8> {
    receipt_bytes(&receipt.sign(&partner.keys.statement))
}

/// A session in which the victim offers its message.
fn offered(partner: &mut Partner) -> Result<(Session, Offer), String> {
    let mut session = partner.session().map_err(|stop| format!("{stop:?}"))?;
    let offer = session.offered().ok_or("nothing is offered")?;
    Ok((session, offer))
}

fn answers(stage: &mut Stage, say: fn(&mut Session, &Offer, &Partner)) -> Met {
    let (mut session, offer) = honest!(offered(&mut stage.first));
    say(&mut session, &offer, &stage.first);
    closed(session.control.is_closed())
}

fn answers_with(partner: &mut Partner, make: impl FnOnce(&Partner, EnvelopeId) -> Vec<u8>) -> Met {
    let (mut session, offer) = honest!(offered(partner));
    let receipt = make(partner, offer.envelope);
    session.control.say(ReceiptMessage { envelope: offer.envelope, receipt });
    closed(session.control.is_closed())
}

fn for_nothing(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let envelope = EnvelopeId(ambient::random());
    let receipt = signed(&stage.first, &receipt(&stage.first, envelope));
    session.control.say(ReceiptMessage { envelope, receipt });
    passed_over(session.control.stands())
}

fn of_another(stage: &mut Stage) -> Met {
    answers_with(&mut stage.first, |partner, _| signed(partner, &receipt(partner, EnvelopeId([6; 16]))))
}

fn by_another(stage: &mut Stage) -> Met {
    let accomplice = &stage.second;
    answers_with(&mut stage.first, |partner, envelope| signed(accomplice, &receipt(partner, envelope)))
}

fn to_another(stage: &mut Stage) -> Met {
    let accomplice = stage.second.entity();
    answers_with(&mut stage.first, |partner, envelope| {
        signed(partner, &Receipt { sender: accomplice, ..receipt(partner, envelope) })
    })
}

fn of_noise(stage: &mut Stage) -> Met {
    answers_with(&mut stage.first, |_, _| ambient::random::<2_000>().to_vec())
}

/// Gets the victim as far as the signed envelope.
fn left(partner: &mut Partner) -> Result<(Session, Offer), String> {
    let (mut session, offer) = offered(partner)?;
    let envelope = offer.envelope;
    // The group that the real node had, or nothing would be sealed to it any more.
    let mut roster = partner.fresh_roster();
    roster.groups[0].id = offer.group;
    partner.roster = partner.sign_roster(&roster);
    session.control.say(RosterUpdate { roster: partner.roster.clone() });
    session.control.say(Answer::Accept { envelope });
    session.control.say(Progress { envelope, objects: offer.objects, bytes: offer.sealed_bytes });
    // All is named ahead of the answer; what is held is the partner's word.
    session.control.say(Ready { envelope });
    session.sealed(envelope).ok_or("no envelope came")?;
    Ok((session, offer))
}

fn old_epoch(stage: &mut Stage) -> Met {
    let (mut session, offer) = honest!(left(&mut stage.first));
    let mut old = honest!(stage.first.roster.peek());
    old.counter -= 1;
    let roster = stage.first.sign_roster(&old);
    session.control.say(EpochGone { envelope: offer.envelope, roster });
    closed(session.control.is_closed())
}

fn gone_for_ever(stage: &mut Stage) -> Met {
    let (mut session, offer) = honest!(left(&mut stage.first));
    for _ in 0..8 {
        session.control.forget(offer.envelope);
        session.control.say(EpochGone { envelope: offer.envelope, roster: stage.first.roster.clone() });
        if session.sealed(offer.envelope).is_none() {
            return Met::Astray("it was not sealed again".into());
        }
    }
    session.control.say(EpochGone { envelope: offer.envelope, roster: stage.first.roster.clone() });
    closed(session.control.is_closed())
}

fn progress(stage: &mut Stage) -> Met {
    let (mut session, offer) = honest!(offered(&mut stage.first));
    let envelope = offer.envelope;
    session.control.say(Answer::Accept { envelope });
    session.control.say(Progress { envelope, objects: u64::MAX, bytes: u64::MAX });
    session.control.say(Progress { envelope, objects: 0, bytes: 0 });
    passed_over(session.control.stands())
}

fn withdrawn(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(Withdrawn { envelope: EnvelopeId(ambient::random()) });
    passed_over(session.control.stands())
}

fn want_lanes(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    for kind in LaneKind::ALL {
        session.control.say(WantLanes { kind, count: 255 });
    }
    passed_over(session.control.stands())
}

fn other_content(stage: &mut Stage) -> Met {
    let (mut session, offer) = honest!(left(&mut stage.first));
    let receipt = signed(&stage.first, &receipt(&stage.first, offer.envelope));
    session.control.say(ReceiptMessage { envelope: offer.envelope, receipt });
    match session.control.stands() {
        true => Met::Other("conflict: the sender is told, nothing counts as delivered"),
        false => Met::SessionClosed,
    }
}

fn held_nothing(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    for verdict in [Verdict::Held(Tier::Taken), Verdict::NotHeld, Verdict::Returned] {
        session.control.say(ReceiptHeld { envelope: EnvelopeId(ambient::random()), verdict });
    }
    passed_over(session.control.stands())
}

/// A question about an envelope of `sender`, in the first partner's session.
fn asks(stage: &mut Stage, sender: pakt_keys::EntityId) -> Result<(Session, EnvelopeId), String> {
    let mut session = stage.first.session().map_err(|stop| format!("{stop:?}"))?;
    let partner = &stage.first;
    let core = EnvelopeCore {
        suite: SUITE,
        message: MessageId(ambient::random()),
        envelope: EnvelopeId(ambient::random()),
        sender,
        recipient: partner.victim_entity(),
        group: pakt_protocol::record::roster::GroupId([5; 16]),
        priority: Priority::Normal,
        submitted_at: ambient::now(),
        counts: Counts::default(),
        agreement: partner.agreement(),
        agreement_version: 1,
        number: 1,
        root_hash: [5; 32],
    };
    session.control.say(AskEnded { core: core.to_bytes() });
    Ok((session, core.envelope))
}

fn asks_for_another(stage: &mut Stage) -> Met {
    let accomplice = stage.second.entity();
    let (mut session, _) = honest!(asks(stage, accomplice));
    closed(session.control.is_closed())
}

fn asks_for_nothing(stage: &mut Stage) -> Met {
    let own = stage.first.entity();
    let (mut session, envelope) = honest!(asks(stage, own));
    answered(session.answer(envelope))
}
