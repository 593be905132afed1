//! The victim as steward, and the partner as a steward that lies.

use std::time::Duration;

use pakt_node::ambient;
use pakt_protocol::directory::PAGES_PER_MINUTE;
use pakt_protocol::message::{Message, Publish, Published, Query, QueryAnswer};
use pakt_protocol::record::Signed;
use pakt_protocol::record::card::SignedCard;
use pakt_protocol::record::listing::{Entry, LISTING_LASTS_MAX, Listing};
use pakt_protocol::record::page::Page;

use super::{Met, Row, Stage, honest, passed_over};
use crate::partner::Partner;
use crate::session::Session;

const NOT_BELIEVED: &str = "a directory was not believed";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "listing of another",
        does: "has its accomplice listed in the victim's directory",
        meets: "not listed",
        says: "",
        act: |stage| {
            let entity = stage.second.entity();
            listed(&mut stage.first, |listing, _| listing.entity = entity)
        },
    },
    Row {
        name: "listing under another name",
        does: "has itself listed under another name than the agreement's",
        meets: "not listed",
        says: "",
        act: |stage| listed(&mut stage.first, |_, entry| entry.name = "Universitetssykehuset".into()),
    },
    Row {
        name: "listing with another's card",
        does: "has itself listed with its accomplice's card",
        meets: "not listed",
        says: "",
        act: |stage| {
            let card = card(&stage.second);
            listed(&mut stage.first, |_, entry| entry.card = card)
        },
    },
    Row {
        name: "listing for another steward",
        does: "hands in the listing that another steward should have",
        meets: "not listed",
        says: "",
        act: |stage| {
            let steward = stage.second.entity();
            listed(&mut stage.first, |listing, _| listing.steward = steward)
        },
    },
    Row {
        name: "listing for ever",
        does: "hands in a listing that lasts a year",
        meets: "not listed",
        says: "",
        act: |stage| {
            listed(&mut stage.first, |listing, _| listing.valid_until = listing.made_at + LISTING_LASTS_MAX * 6)
        },
    },
    Row {
        name: "listing rolled back",
        does: "hands in a listing with a lower number than the last",
        meets: "not listed",
        says: "",
        act: rolled_back,
    },
    Row {
        name: "listings without end",
        does: "hands in 60 listings, each numbered and signed as it should be",
        meets: "48 a day are taken",
        says: "",
        act: without_end,
    },
    Row {
        name: "directory asked without end",
        does: "asks for 400 pages of the directory in a row",
        meets: "256 a minute are answered",
        says: "",
        act: asked_without_end,
    },
    Row {
        name: "answer to no question about a directory",
        does: "sends a page of a directory for which nobody asked",
        meets: "passed over",
        says: "an answer to no question",
        act: unasked,
    },
    Row {
        name: "fate of no listing",
        does: "confirms a listing that the victim has not handed in",
        meets: "passed over",
        says: "",
        act: published,
    },
    Row {
        name: "directory answer signed by another",
        does: "answers the victim's question with a page that its accomplice has signed",
        meets: "passed over",
        says: "the answer is not signed by the steward's node",
        act: |stage| answer(stage, |page, stage| stage.second.keys.statement.sign(page.0, page.1), |_, _| {}),
    },
    Row {
        name: "directory answer to another",
        does: "answers the victim with the page that its accomplice should have",
        meets: "passed over",
        says: "the answer belongs to another question",
        act: |stage| answer(stage, own_key, |page, stage| page.asker = stage.second.entity()),
    },
    Row {
        name: "directory answer of yesteryear",
        does: "answers with a page from another time",
        meets: "passed over",
        says: "the answer is from another time",
        act: |stage| answer(stage, own_key, |page, _| page.at = pakt_protocol::time::Time(page.at.0 / 2)),
    },
    Row {
        name: "directory answer without an end",
        does: "answers with an empty page after which there are said to be more",
        meets: "passed over",
        says: "the answer's listings are out of order",
        act: |stage| answer(stage, own_key, |page, _| page.more = true),
    },
    Row {
        name: "directory answer with a listing altered",
        does: "answers with its accomplice's listing in which it has moved it to another town",
        meets: "passed over",
        says: NOT_BELIEVED,
        act: |stage| answer(stage, own_key, |page, stage| page.listings = vec![altered(stage)]),
    },
    Row {
        name: "directory answer with one listed twice",
        does: "answers with one listing twice",
        meets: "passed over",
        says: "the answer's listings are out of order",
        act: |stage| answer(stage, own_key, |page, stage| page.listings = vec![genuine(stage), genuine(stage)]),
    },
];

fn card(partner: &Partner) -> SignedCard {
    if partner.checked.terms.proposer.entity == partner.entity() {
        partner.file.proposer.clone()
    } else {
        partner.file.acceptor.clone()
    }
}

fn listing(partner: &mut Partner, steward: pakt_keys::EntityId) -> (Listing, Entry) {
    let card = card(partner);
    let party = partner.checked.terms.party(partner.side()).clone();
    let entry =
        Entry { name: party.name, number: party.number, town: "Bergen".into(), offers: vec!["MR".into()], card };
    let now = ambient::now();
    let listing = Listing {
        entity: partner.entity(),
        steward,
        counter: partner.next_counter(),
        made_at: now,
        valid_until: now + LISTING_LASTS_MAX,
        entry: None,
    };
    (listing, entry)
}

fn sign(partner: &Partner, listing: &Listing) -> Signed<Listing> {
    Signed::create(listing, |domain, bytes| partner.sign(domain, bytes))
}

/// Hands in a listing and gives whether it was taken.
fn hand_in(session: &mut Session, listing: Signed<Listing>) -> Option<bool> {
    let counter = listing.peek().ok()?.counter;
    session.control.say(Publish { listing });
    let fate = session.control.take_next(|message| match message {
        Message::Published(published) => (published.counter == counter).then_some(published.taken),
        _ => None,
    });
    fate.ok()
}

fn not_listed(taken: Option<bool>) -> Met {
    match taken {
        Some(false) => Met::Other("not listed"),
        other => Met::Astray(format!("{other:?}")),
    }
}

fn listed(partner: &mut Partner, change: impl FnOnce(&mut Listing, &mut Entry)) -> Met {
    let (mut listing, mut entry) = listing(partner, partner.victim_entity());
    change(&mut listing, &mut entry);
    listing.entry = Some(entry);
    let mut session = honest!(partner.session());
    not_listed(hand_in(&mut session, sign(partner, &listing)))
}

fn rolled_back(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let (mut listing, entry) = listing(partner, partner.victim_entity());
    listing.entry = Some(entry);
    let mut session = honest!(partner.session());
    if hand_in(&mut session, sign(partner, &listing)) != Some(true) {
        return Met::Astray("a sound listing was not taken".into());
    }
    listing.counter -= 1;
    not_listed(hand_in(&mut session, sign(partner, &listing)))
}

fn without_end(stage: &mut Stage) -> Met {
    let partner = &mut stage.second;
    let mut session = honest!(partner.session());
    let mut taken = 0;
    for _ in 0..60 {
        let (mut listing, entry) = listing(partner, partner.victim_entity());
        listing.entry = Some(entry);
        match hand_in(&mut session, sign(partner, &listing)) {
            Some(is_taken) => taken += usize::from(is_taken),
            None => return Met::SessionClosed,
        }
    }
    if taken == 48 { Met::Other("48 a day are taken") } else { Met::Astray(format!("{taken} were taken")) }
}

fn asked_without_end(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let mut pages = 0;
    for _ in 0..400 {
        let nonce = ambient::random();
        session.control.say(Query { nonce, after: None });
        let answer = session.control.take_next(|message| match message {
            Message::QueryAnswer(QueryAnswer::Page(page)) => {
                page.peek().is_ok_and(|page| page.nonce == nonce).then_some(true)
            }
            Message::QueryAnswer(QueryAnswer::Later { nonce: of }) => (*of == nonce).then_some(false),
            _ => None,
        });
        pages += u32::from(honest!(answer));
    }
    match pages {
        PAGES_PER_MINUTE => Met::Other("256 a minute are answered"),
        pages => Met::Astray(format!("{pages} pages")),
    }
}

fn unasked(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(QueryAnswer::Closed { nonce: ambient::random() });
    passed_over(session.control.stands())
}

fn published(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(Published { counter: 7, taken: true });
    passed_over(session.control.stands())
}

type Signing<'a> = (pakt_keys::signing::Domain, &'a [u8]);

fn own_key((domain, bytes): Signing<'_>, stage: &Stage) -> Vec<pakt_keys::signing::Signature> {
    stage.first.sign(domain, bytes)
}

/// Waits for the victim's question, which its operator asks meanwhile, and answers with a page bent like this.
fn answer(
    stage: &mut Stage,
    sign: fn(Signing<'_>, &Stage) -> Vec<pakt_keys::signing::Signature>,
    bend: fn(&mut Page, &mut Stage),
) -> Met {
    let mut session = honest!(stage.first.session());
    let query = session.control.hear_within(Duration::from_secs(20), |message| match message {
        Message::Query(query) => Some(query.clone()),
        _ => None,
    });
    let Query { nonce, after } = honest!(query);
    let mut page = Page {
        steward: stage.first.entity(),
        asker: stage.first.victim_entity(),
        nonce,
        after,
        at: ambient::now(),
        listings: vec![],
        more: false,
    };
    bend(&mut page, stage);
    let signed = Signed::create(&page, |domain, bytes| sign((domain, bytes), stage));
    session.control.say(QueryAnswer::Page(Box::new(signed)));
    passed_over(session.control.stands())
}

fn genuine(stage: &mut Stage) -> Signed<Listing> {
    let (mut listing, entry) = listing(&mut stage.second, stage.first.entity());
    listing.entry = Some(entry);
    sign(&stage.second, &listing)
}

fn altered(stage: &mut Stage) -> Signed<Listing> {
    let genuine = genuine(stage);
    let mut listing = genuine.peek().expect("it was made here");
    if let Some(entry) = &mut listing.entry {
        entry.town = "Elsewhere".into();
    }
    let body = pakt_protocol::codec::encode(1, &listing);
    Signed::from_parts(body, genuine.signatures().to_vec())
}
