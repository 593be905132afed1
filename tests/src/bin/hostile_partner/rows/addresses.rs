//! Where the partner claims to be, and what it leaves for others.

use pakt_keys::signing::StatementKey;
use pakt_node::ambient;
use pakt_protocol::deposit::{DEPOSIT_BYTES_LONG, DEPOSIT_BYTES_SHORT, DEPOSITS_MAX, SEEK_TAGS};
use pakt_protocol::message::deposit::DepositEntry;
use pakt_protocol::message::{AddressNews, Deposit, Deposited, Message, Seek, Sought};
use pakt_protocol::record::Signed;
use pakt_protocol::record::address::Address;
use pakt_protocol::record::address_update::AddressUpdate;

use super::{Met, Row, Stage, closed, honest, passed_over};
use crate::partner::Partner;
use crate::session::Session;

const NOT_VALID: &str = "the addresses are not valid";
const NOT_DIALLED: &str = "the address lies in a range that this node does not dial";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "addresses rolled back",
        does: "tells addresses with a lower number than the last",
        meets: "session closed",
        says: "the addresses are older than those that are known",
        act: rolled_back,
    },
    Row {
        name: "addresses forked",
        does: "tells two lists of addresses with one number",
        meets: "session closed",
        says: "there are two different lists of addresses with one number",
        act: forked,
    },
    Row {
        name: "nine addresses",
        does: "tells one address more than fit",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| told(stage, |update, _| update.addresses = vec![address("203.0.113.1:4100"); 9]),
    },
    Row {
        name: "addresses for another reader",
        does: "tells addresses that its accomplice should read",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| told(stage, |update, stage| update.reader = stage.second.entity()),
    },
    Row {
        name: "addresses of another",
        does: "tells where its accomplice is said to be",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| told(stage, |update, stage| update.issuer = stage.second.entity()),
    },
    Row {
        name: "addresses signed by another",
        does: "signs its addresses with a key that is not certified",
        meets: "session closed",
        says: NOT_VALID,
        act: other_signer,
    },
    Row {
        name: "address of a cloud's metadata",
        does: "claims to be at 169.254.169.254, and hangs up to be dialled there",
        meets: "dialled nowhere",
        says: NOT_DIALLED,
        act: |stage| aimed(stage, "169.254.169.254:80"),
    },
    Row {
        name: "address in the victim's network",
        does: "claims to be at 10.0.0.1, written as an IPv6 address",
        meets: "dialled nowhere",
        says: NOT_DIALLED,
        act: |stage| aimed(stage, "[::ffff:10.0.0.1]:22"),
    },
    Row {
        name: "address of the victim itself",
        does: "claims to be at 0.0.0.0, where the victim would reach its own services",
        meets: "dialled nowhere",
        says: NOT_DIALLED,
        act: |stage| aimed(stage, "0.0.0.0:22"),
    },
    Row {
        name: "deposits of no size",
        does: "leaves deposits of a length that none has",
        meets: "session closed",
        says: "these are not deposits",
        act: |stage| leave(stage, deposits(1, DEPOSIT_BYTES_SHORT + 1)),
    },
    Row {
        name: "too many deposits at once",
        does: "leaves 1,025 deposits in one message",
        meets: "session closed",
        says: "these are not deposits",
        act: |stage| leave(stage, deposits(DEPOSITS_MAX + 1, DEPOSIT_BYTES_SHORT)),
    },
    Row {
        name: "deposits without end",
        does: "leaves a thousand deposits, five times over",
        meets: "1,024 are kept",
        says: "",
        act: hoard,
    },
    Row {
        name: "questions for deposits in a row",
        does: "asks twice within a second for what its accomplice has left",
        meets: "noise of the same length",
        says: "",
        act: hurried,
    },
    Row {
        name: "answer to no question",
        does: "tells where somebody is for whom nobody asked",
        meets: "passed over",
        says: "",
        act: unasked,
    },
    Row {
        name: "deposits kept that were not left",
        does: "claims to keep another set than the victim has left, ten times over",
        meets: "the set is sent once",
        says: "",
        act: forgetful,
    },
];

fn address(text: &str) -> Address {
    text.parse().expect("an address of the tests can be parsed")
}

fn update(partner: &mut Partner) -> AddressUpdate {
    AddressUpdate {
        issuer: partner.entity(),
        reader: partner.victim_entity(),
        agreement: partner.agreement(),
        counter: partner.next_counter(),
        addresses: vec![address("127.0.0.1:9")],
    }
}

fn signed(update: &AddressUpdate, key: &StatementKey) -> AddressNews {
    AddressNews { update: Signed::create(update, |domain, bytes| key.sign(domain, bytes)) }
}

/// A session in which these addresses were told and taken.
fn after(partner: &mut Partner, update: &AddressUpdate) -> Result<Session, String> {
    let mut session = partner.session().map_err(|stop| format!("{stop:?}"))?;
    session.control.say(signed(update, &partner.keys.statement));
    if session.control.stands() { Ok(session) } else { Err("sound addresses were refused".into()) }
}

fn rolled_back(stage: &mut Stage) -> Met {
    let good = update(&mut stage.first);
    let mut session = honest!(after(&mut stage.first, &good));
    let old = AddressUpdate { counter: good.counter - 1, ..good };
    session.control.say(signed(&old, &stage.first.keys.statement));
    closed(session.control.is_closed())
}

fn forked(stage: &mut Stage) -> Met {
    let good = update(&mut stage.first);
    let mut session = honest!(after(&mut stage.first, &good));
    let fork = AddressUpdate { addresses: vec![address("127.0.0.1:10")], ..good };
    session.control.say(signed(&fork, &stage.first.keys.statement));
    closed(session.control.is_closed())
}

fn told(stage: &mut Stage, change: fn(&mut AddressUpdate, &Stage)) -> Met {
    let mut update = update(&mut stage.first);
    change(&mut update, stage);
    let mut session = honest!(stage.first.session());
    session.control.say(signed(&update, &stage.first.keys.statement));
    closed(session.control.is_closed())
}

fn other_signer(stage: &mut Stage) -> Met {
    let update = update(&mut stage.first);
    let mut session = honest!(stage.first.session());
    session.control.say(signed(&update, &Partner::foreign_statement()));
    closed(session.control.is_closed())
}

/// The victim's log tells whether it dialled.
fn aimed(stage: &mut Stage, at: &str) -> Met {
    let aimed = AddressUpdate { addresses: vec![address(at)], ..update(&mut stage.first) };
    let session = honest!(after(&mut stage.first, &aimed));
    drop(session);
    Met::Other("dialled nowhere")
}

fn deposits(count: usize, bytes: usize) -> Vec<DepositEntry> {
    (0..count).map(|_| DepositEntry { tag: ambient::random(), sealed: vec![7; bytes] }).collect()
}

fn leave(stage: &mut Stage, entries: Vec<DepositEntry>) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(Deposit { first: true, entries, digest: None });
    closed(session.control.is_closed())
}

/// What is found under these tags, as `partner` is told.
fn seek(session: &mut Session, tags: [[u8; 16]; SEEK_TAGS]) -> Option<Vec<Vec<u8>>> {
    let number = u32::from_be_bytes(ambient::random());
    session.control.say(Seek { number, tags });
    let found = session.control.hear_until(|message| match message {
        Message::Sought(sought) => (sought.number == number).then(|| sought.found.clone()),
        _ => None,
    });
    found.ok()
}

fn hoard(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.second.session());
    let mut tags = [[0; 16]; SEEK_TAGS];
    for (round, tag) in tags.iter_mut().take(5).enumerate() {
        let entries = deposits(1_000, DEPOSIT_BYTES_SHORT);
        // Of each thousand one is asked for: the first is kept whole, of the others no more than there is room for.
        *tag = entries[999].tag;
        session.control.say(Deposit { first: round == 0, entries, digest: None });
    }
    if !session.control.stands() {
        return Met::SessionClosed;
    }
    let mut asker = honest!(stage.first.session());
    let Some(found) = seek(&mut asker, tags) else { return Met::Astray("no answer".into()) };
    let kept: Vec<bool> = found.iter().map(|found| found.starts_with(&[7; DEPOSIT_BYTES_SHORT])).collect();
    match kept.iter().position(|kept| !kept) {
        Some(1) if !kept[1..].contains(&true) => Met::Other("1,024 are kept"),
        _ => Met::Astray(format!("kept: {kept:?}")),
    }
}

fn hurried(stage: &mut Stage) -> Met {
    let mut theirs = honest!(stage.second.session());
    let entries = deposits(1, DEPOSIT_BYTES_SHORT);
    let tags = [entries[0].tag; SEEK_TAGS];
    theirs.control.say(Deposit { first: true, entries, digest: None });
    if !theirs.control.stands() {
        return Met::Astray("the accomplice's deposit was refused".into());
    }
    let mut session = honest!(stage.first.session());
    let answers = [seek(&mut session, tags), seek(&mut session, tags)];
    let [Some(first), Some(second)] = answers else { return Met::Astray("no answer".into()) };
    let is_found = |found: &Vec<u8>| found.starts_with(&[7; DEPOSIT_BYTES_SHORT]);
    let same_shape = first.iter().chain(&second).all(|found| found.len() == DEPOSIT_BYTES_LONG);
    match (first.iter().all(is_found), second.iter().any(is_found), same_shape && first.len() == second.len()) {
        (true, false, true) => Met::Other("noise of the same length"),
        other => Met::Astray(format!("{other:?}")),
    }
}

fn unasked(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(Sought { number: 7, found: vec![vec![7; DEPOSIT_BYTES_LONG]; SEEK_TAGS] });
    passed_over(session.control.stands())
}

fn forgetful(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    for _ in 0..10 {
        session.control.say(Deposited { digest: ambient::random() });
    }
    if !session.control.stands() {
        return Met::SessionClosed;
    }
    let sets = session.control.kept(|message| matches!(message, Message::Deposit(Deposit { first: true, .. }))).count();
    if sets == 1 { Met::Other("the set is sent once") } else { Met::Astray(format!("{sets} sets")) }
}
