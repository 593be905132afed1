//! Offers and what is named under them.

use pakt_node::ambient;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::message::{Announce, Message, Offer, Withdraw};
use pakt_protocol::record::envelope::Priority;
use pakt_protocol::record::roster::GroupId;

use super::{Met, Row, Stage, answered, closed, fate, honest, passed_over};
use crate::parcel::{Fate, Parcel, entry};
use crate::session::{Answered, Session};

const IMPOSSIBLE: &str = "objects out of order or of impossible size";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "offer to no group",
        does: "offers to a group that does not exist",
        meets: "refuse unknown_group",
        says: "",
        act: |stage| offer(stage, |offer| offer.group = GroupId([9; 16])),
    },
    Row {
        name: "offer to a hidden group",
        does: "offers to a group that only its accomplice was shown",
        meets: "refuse unknown_group",
        says: "",
        act: hidden_group,
    },
    Row {
        name: "offer under a version to come",
        does: "offers under version 99 of the agreement",
        meets: "refuse other_agreement_version",
        says: "",
        act: |stage| offer(stage, |offer| offer.agreement_version = 99),
    },
    Row {
        name: "offer under no version",
        does: "offers under version 0 of the agreement",
        meets: "refuse other_agreement_version",
        says: "",
        act: |stage| offer(stage, |offer| offer.agreement_version = 0),
    },
    Row {
        name: "offer too large",
        does: "offers more plain bytes than the agreement allows",
        meets: "refuse too_large",
        says: "",
        act: |stage| offer(stage, |offer| offer.plain_bytes = u64::MAX),
    },
    Row {
        name: "offer of too many files",
        does: "offers 2,000,001 files",
        meets: "refuse too_large",
        says: "",
        act: |stage| offer(stage, |offer| offer.files = 2_000_001),
    },
    Row {
        name: "offer of too many objects",
        does: "offers 2^64 - 1 objects",
        meets: "refuse too_large",
        says: "",
        act: |stage| offer(stage, |offer| offer.objects = u64::MAX),
    },
    Row {
        name: "offer of more objects than content",
        does: "offers 8,000 objects for one file of 3 KB",
        meets: "refuse too_large",
        says: "",
        act: |stage| offer(stage, |offer| offer.objects = 8_000),
    },
    Row {
        name: "offer of nothing",
        does: "offers an envelope of no object",
        meets: "refuse too_large",
        says: "",
        act: |stage| offer(stage, |offer| offer.objects = 0),
    },
    Row {
        name: "offer of impossible objects",
        does: "offers two objects of a gigabyte",
        meets: "refuse too_large",
        says: "",
        act: |stage| {
            offer(stage, |offer| {
                offer.objects = 2;
                offer.sealed_bytes = 1 << 30;
            })
        },
    },
    Row {
        name: "offer of more than the disk",
        does: "offers a terabyte of sealed objects",
        meets: "refuse no_space",
        says: "",
        act: |stage| {
            offer(stage, |offer| {
                (offer.files, offer.plain_bytes, offer.objects) = (1_000_000, 1_000_000, 1_000_000);
                offer.sealed_bytes = 1_000_000_000_000;
            })
        },
    },
    Row {
        name: "offers without end",
        does: "offers 3,000 envelopes that it never names",
        meets: "refuse busy",
        says: "",
        act: without_end,
    },
    Row {
        name: "objects out of order",
        does: "begins to name its objects with the sixth",
        meets: "session closed",
        says: IMPOSSIBLE,
        act: |stage| announce(stage, |parcel| Announce { first: 5, ..parcel.announce() }),
    },
    Row {
        name: "objects of no size",
        does: "names an object of 0 bytes",
        meets: "session closed",
        says: IMPOSSIBLE,
        act: |stage| {
            announce(stage, |parcel| {
                let mut announce = parcel.announce();
                announce.entries[0].bytes = 0;
                announce
            })
        },
    },
    Row {
        name: "object of two sizes",
        does: "names one object twice, with different sizes",
        meets: "session closed",
        says: "one object with two sizes",
        act: |stage| {
            announce(stage, |parcel| {
                let mut announce = parcel.announce();
                let ObjectEntry { id, bytes } = announce.entries[0];
                announce.entries = vec![ObjectEntry { id, bytes: 40 }, ObjectEntry { id, bytes: bytes.min(41) }];
                announce
            })
        },
    },
    Row {
        name: "objects beyond the offer",
        does: "names more objects than it offered",
        meets: "refuse outside_offer",
        says: "",
        act: beyond,
    },
    Row {
        name: "too many objects at once",
        does: "names 4,097 objects in one go",
        meets: "session closed",
        says: IMPOSSIBLE,
        act: too_many_at_once,
    },
    Row {
        name: "objects of no offer",
        does: "names objects of an envelope that it never offered",
        meets: "passed over",
        says: "",
        act: no_offer,
    },
    Row {
        name: "withdrawal of somebody else's",
        does: "withdraws the message that its accomplice has delivered",
        meets: "the accomplice's receipt stays",
        says: "",
        act: withdraw_foreign,
    },
    Row {
        name: "same id, other content",
        does: "offers another message under the id of one that was delivered",
        meets: "the first receipt, byte for byte",
        says: "",
        act: same_id,
    },
];

fn parcel(stage: &mut Stage) -> Result<(Session, Parcel), crate::wire::Stop> {
    let session = stage.first.session()?;
    let parcel = Parcel::new(&stage.first, &session);
    Ok((session, parcel))
}

fn offer(stage: &mut Stage, change: fn(&mut Offer)) -> Met {
    let (mut session, mut parcel) = honest!(parcel(stage));
    change(&mut parcel.offer);
    answered(session.offer(&parcel.offer))
}

fn hidden_group(stage: &mut Stage) -> Met {
    let seen = honest!(stage.second.session()).roster.groups;
    let (mut session, mut parcel) = honest!(parcel(stage));
    let hidden = seen.iter().find(|group| session.roster.groups.iter().all(|own| own.id != group.id));
    let Some(hidden) = hidden else { return Met::Astray("the accomplice sees no group more".into()) };
    parcel.offer.group = hidden.id;
    answered(session.offer(&parcel.offer))
}

/// Offers a sound message and says this where its objects are to be named.
fn announce(stage: &mut Stage, change: fn(&Parcel) -> Announce) -> Met {
    let (mut session, parcel) = honest!(parcel(stage));
    match session.offer(&parcel.offer) {
        Answered::Accepted => {}
        other => return Met::Astray(format!("{other:?}")),
    }
    session.control.say(change(&parcel));
    closed(session.control.is_closed())
}

fn beyond(stage: &mut Stage) -> Met {
    let (mut session, mut parcel) = honest!(parcel(stage));
    parcel.entries.push(entry(b"one more"));
    let mut bulk = honest!(stage.first.bulk(pakt_protocol::message::lane::LaneKind::Bulk));
    fate(parcel.deliver(&mut session, &mut bulk))
}

fn too_many_at_once(stage: &mut Stage) -> Met {
    let (mut session, mut parcel) = honest!(parcel(stage));
    (parcel.offer.files, parcel.offer.objects) = (5_000, 5_000);
    parcel.offer.sealed_bytes = 5_000 * 100;
    parcel.entries = (0..4_097u32).map(|number| ObjectEntry { bytes: 50, ..entry(&number.to_be_bytes()) }).collect();
    if session.offer(&parcel.offer) != Answered::Accepted {
        return Met::Astray("the offer was not accepted".into());
    }
    session.control.say(parcel.announce());
    closed(session.control.is_closed())
}

fn no_offer(stage: &mut Stage) -> Met {
    let (mut session, parcel) = honest!(parcel(stage));
    session.control.say(parcel.announce());
    session.control.say(parcel.sealed());
    passed_over(session.control.stands())
}

fn without_end(stage: &mut Stage) -> Met {
    let (mut session, parcel) = honest!(parcel(stage));
    let offers: Vec<Message> = (0..3_000)
        .map(|_| Offer { envelope: EnvelopeId(ambient::random()), priority: Priority::Bulk, ..parcel.offer.clone() })
        .map(Message::from)
        .collect();
    let last = offers.last().and_then(Message::envelope).unwrap_or(parcel.offer.envelope);
    for part in offers.chunks(100) {
        session.control.say_all(part);
        // Read along: who does not is dealt with in another row.
        let Some(Message::Offer(asked)) = part.last() else { continue };
        if asked.envelope != last {
            session.answer(asked.envelope);
        }
    }
    answered(session.answer(last))
}

fn withdraw_foreign(stage: &mut Stage) -> Met {
    let kind = pakt_protocol::message::lane::LaneKind::Bulk;
    let mut theirs = honest!(stage.second.session());
    let parcel = Parcel::new(&stage.second, &theirs);
    let mut bulk = honest!(stage.second.bulk(kind));
    let Fate::Answered(Answered::Receipt(receipt)) = parcel.deliver(&mut theirs, &mut bulk) else {
        return Met::Astray("the accomplice's message was not delivered".into());
    };
    let mut session = honest!(stage.first.session());
    session.control.say(Withdraw { envelope: parcel.offer.envelope });
    if !session.control.stands() {
        return Met::Astray("the session ended".into());
    }
    let again = theirs.offer_again(&parcel.offer);
    if again == Answered::Receipt(receipt) {
        Met::Other("the accomplice's receipt stays")
    } else {
        Met::Astray(format!("{again:?}"))
    }
}

fn same_id(stage: &mut Stage) -> Met {
    let (mut session, first) = honest!(parcel(stage));
    let mut bulk = honest!(stage.first.bulk(pakt_protocol::message::lane::LaneKind::Bulk));
    let Fate::Answered(Answered::Receipt(receipt)) = first.deliver(&mut session, &mut bulk) else {
        return Met::Astray("a sound message was not delivered".into());
    };
    let mut other = Parcel::new(&stage.first, &session);
    other.offer.envelope = first.offer.envelope;
    let again = session.offer_again(&other.offer);
    if again == Answered::Receipt(receipt) {
        Met::Other("the first receipt, byte for byte")
    } else {
        Met::Astray(format!("{again:?}"))
    }
}
