//! P30, P24, P12: what was lost is found by both sides, what a restore explains is no alarm, and a sender that goes back in
//! time shows.

use std::path::Path;
use std::time::Duration;

use futures::executor::block_on;
use pakt_keys::keystore::{HeldRoot, Keystore};
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::codec;
use pakt_protocol::delivery::{Record, State};
use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId};
use pakt_protocol::reconcile::ranges::Ranges;
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::comparison;
use pakt_protocol::record::envelope::Priority;
use pakt_protocol::record::reconciliation::{SentStatement, verify_held};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;

use super::numbers;
use super::rounds::{Changed, Compared, GAPS_MAX, Rounds};
use super::rows::{GapKind, Side};
use crate::ambient;
use crate::audit;
use crate::backup::rows::RestoredRow;
use crate::disk::FaultDisk;
use crate::entity::Entity;
use crate::mailroom::rows::{HeldReceipt, OutEnvelope};
use crate::store::tables::{
    FORGOTTEN, HELD_NUMBERS, LAST_NUMBERS, OPEN_ENVELOPES, PEER_RESTORES, RESTORED, SENT_NUMBERS,
};
use crate::store::{Store, StoreError, WriteTx};

const AGREEMENT: AgreementId = AgreementId([4; 32]);

/// An entity whose keys follow from a number.
pub(crate) fn entity(seed: u8) -> Entity {
    let (root, next) = (RootKey::from_seed([seed; 32]), RootKey::from_seed([seed + 1; 32]));
    let (transport, statement) = (TransportKey::from_seed([seed; 32]), StatementKey::from_seed([seed; 32]));
    let contact = ContactKey::from_bytes(&[seed; 32]);
    let keys = (transport.public(), statement.public(), contact.public());
    let chain = CertificateChain::create(&root, &next.public(), keys, Time(1));
    let keystore = Keystore {
        root: Some(HeldRoot::open(root)),
        transport,
        statement,
        contact,
        store: StoreKey::from_bytes([7; 32]),
        chain: codec::encode(1, &chain),
    };
    Entity::new(keystore, format!("Entity {seed}"), format!("NO:ORGNR:{seed}")).unwrap()
}

/// A store on a disk in memory.
pub(crate) fn store() -> Store {
    Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap()
}

struct Node {
    store: Store,
    entity: Entity,
    rounds: Rounds,
}

fn node(seed: u8) -> Node {
    let (store, entity) = (store(), entity(seed));
    Node { rounds: Rounds::new(store.clone(), entity.clone()), store, entity }
}

fn id(number: u64) -> EnvelopeId {
    EnvelopeId(u128::from(number).to_be_bytes())
}

impl Node {
    fn write<T: Send + 'static>(&self, work: impl FnOnce(&mut WriteTx) -> Result<T, StoreError> + Send + 'static) -> T {
        self.store.write_blocking(work).unwrap()
    }

    /// Submits an envelope; its number.
    fn submit(&self, envelope: EnvelopeId) -> u64 {
        self.write(move |tx| {
            let number = numbers::give(tx, AGREEMENT, envelope)?;
            tx.put(&OPEN_ENVELOPES, &(AGREEMENT, number), &envelope)?;
            Ok(number)
        })
    }

    fn arrived(&self, number: u64, envelope: EnvelopeId) {
        self.write(move |tx| numbers::arrived(tx, (AGREEMENT, number), envelope));
    }

    /// The receipt of an envelope is held, signed at this time; or it ended without one.
    fn ended(&self, number: u64, envelope: EnvelopeId, receipt: Option<Time>) {
        let mut delivery = Record::new(Priority::Normal, Duration::from_secs(60), Time(1));
        delivery.state = if receipt.is_some() { State::Delivered } else { State::Expired };
        let receipts = receipt.map(|at| HeldReceipt { tier: 1, at, bytes: vec![] });
        let row = OutEnvelope {
            id: envelope,
            message: MessageId([1; 16]),
            sequence: number,
            agreement: AGREEMENT,
            number,
            entity: self.entity.id(),
            entity_name: String::new(),
            group: GroupId([6; 16]),
            group_name: String::new(),
            core: vec![],
            delivery,
            wire_bytes: 0,
            durable_bytes: 0,
            receipts: receipts.into_iter().collect(),
        };
        self.write(move |tx| {
            tx.remove(&OPEN_ENVELOPES, &(AGREEMENT, number))?;
            numbers::follow(tx, &row)
        });
    }

    fn restored(&self, backup_at: Time, restored_at: Time) {
        let (settled, grants_renewed) = (true, true);
        let row = RestoredRow { backup_at, restored_at, generation: 1, nonce: [1; 32], settled, grants_renewed };
        self.write(move |tx| tx.put(&RESTORED, &(), &row));
    }

    /// Kind, number and envelope of every gap of a direction.
    fn gaps(&self, side: Side) -> Vec<(GapKind, u64, Option<EnvelopeId>)> {
        let gaps = self.rounds.gaps(&AGREEMENT, side).unwrap();
        gaps.into_iter().map(|(number, gap)| (gap.kind, number, gap.envelope)).collect()
    }

    fn entries(&self) -> u64 {
        self.store.read(audit::size).unwrap()
    }
}

/// Two nodes, 41 envelopes delivered from one to the other, number n at time n.
fn pair() -> (Node, Node) {
    let (a, b) = (node(10), node(20));
    for number in 1..=41 {
        assert_eq!(a.submit(id(number)), number);
        b.arrived(number, id(number));
        a.ended(number, id(number), Some(Time::from_seconds(1_000 + number * 100)));
    }
    (a, b)
}

fn round(a: &Node, b: &Node) -> (Compared, Changed) {
    let number = a.rounds.row(&AGREEMENT, Side::Sent).unwrap().round + 1;
    let stated = a.rounds.state((AGREEMENT, b.entity.id()), number, 1).unwrap();
    let asked = stated.signed.clone();
    let asked = (asked, a.entity.chain());
    let (answer, changed) = b.rounds.answer((AGREEMENT, a.entity.id()), asked, (&stated.body, u64::MAX)).unwrap();
    let held = verify_held(&answer, &stated.signed, b.entity.current().node()).unwrap();
    let compared = a.rounds.take_answer(AGREEMENT, &stated, (answer, b.entity.chain()), &held).unwrap();
    block_on(b.rounds.name_lost(AGREEMENT, compared.named.clone())).unwrap();
    (compared, changed)
}

fn lose(node: &Node, numbers: impl IntoIterator<Item = u64> + Send + 'static) {
    node.write(move |tx| {
        for number in numbers {
            tx.remove(&HELD_NUMBERS, &(AGREEMENT, number))?;
        }
        Ok(())
    });
}

#[test]
fn p30_what_is_lost_is_named_on_both_sides_until_it_is_there() {
    let (a, b) = pair();
    // One is under way, one was refused.
    a.submit(id(42));
    a.submit(id(43));
    a.ended(43, id(43), None);
    assert_eq!(round(&a, &b), Default::default());
    for (node, side) in [(&a, Side::Sent), (&b, Side::Received)] {
        let tally = node.rounds.row(&AGREEMENT, side).unwrap().complete.unwrap().tally;
        assert_eq!((tally.given, tally.delivered, tally.open, tally.held, tally.gaps), (43, 41, 1, 41, 0));
        assert_eq!((node.rounds.open_gaps().unwrap(), node.entries()), (0, 0));
    }
    lose(&b, [7, 9]);
    let (compared, changed) = round(&a, &b);
    assert_eq!((compared.changed.fresh.len(), changed.fresh.len()), (2, 2));
    let expected = vec![(GapKind::Lost, 7, Some(id(7))), (GapKind::Lost, 9, Some(id(9)))];
    for (node, side) in [(&a, Side::Sent), (&b, Side::Received)] {
        assert_eq!(node.gaps(side), expected, "the receiver was told the names");
        assert_eq!((node.rounds.open_gaps().unwrap(), node.entries()), (2, 1));
        assert!(node.rounds.row(&AGREEMENT, side).unwrap().evidence.is_some());
    }
    // Dealt with: no alarm, still on record, and not found anew.
    block_on(a.rounds.seen(AGREEMENT)).unwrap();
    assert_eq!(
        round(&a, &b),
        (Compared { named: vec![(7, id(7)), (9, id(9))], ..Default::default() }, Changed::default())
    );
    assert_eq!((a.rounds.open_gaps().unwrap(), b.rounds.open_gaps().unwrap(), a.gaps(Side::Sent).len()), (0, 2, 2));
    b.arrived(7, id(7));
    b.arrived(9, id(9));
    let (compared, changed) = round(&a, &b);
    assert_eq!((compared.changed.closed, changed.closed), (2, 2));
    assert_eq!((a.gaps(Side::Sent), b.gaps(Side::Received)), (vec![], vec![]));
    assert_eq!(b.rounds.open_gaps().unwrap(), 0);
    assert_eq!((a.entries(), b.entries()), (1, 1), "the log hears of it once an hour at most");
}

#[test]
fn p24_a_restored_receiver_is_no_alarm() {
    let (a, b) = pair();
    // Its backup is from number 30.
    let (backup_at, restored_at) = (Time::from_seconds(4_050), Time::from_seconds(9_000));
    lose(&b, 31..=41);
    a.write(move |tx| numbers::counterpart_restored(tx, AGREEMENT, (backup_at, restored_at)));
    round(&a, &b);
    assert_eq!(a.gaps(Side::Sent), [], "explained at the sender");
    assert_eq!(b.gaps(Side::Received).len(), 11, "a receiver that was never restored does not believe in it");
    b.restored(backup_at, restored_at);
    round(&a, &b);
    for (node, side) in [(&a, Side::Sent), (&b, Side::Received)] {
        let tally = node.rounds.row(&AGREEMENT, side).unwrap().complete.unwrap().tally;
        assert_eq!((tally.delivered, tally.held, tally.explained, tally.gaps), (41, 30, 11, 0));
        assert_eq!(node.rounds.open_gaps().unwrap(), 0);
    }
    // What it loses besides is none of the restore's.
    lose(&b, [5]);
    round(&a, &b);
    assert_eq!(a.gaps(Side::Sent), [(GapKind::Lost, 5, Some(id(5)))]);
    assert_eq!(b.gaps(Side::Received), a.gaps(Side::Sent));
}

/// The sender as it was when it had sent 30.
fn back_to_30(a: &Node, next: u64) {
    a.write(move |tx| {
        for number in 31..=41 {
            tx.remove(&SENT_NUMBERS, &(AGREEMENT, number))?;
        }
        tx.put(&LAST_NUMBERS, &AGREEMENT, &next)
    });
}

#[test]
fn p24_a_restored_sender_is_no_alarm() {
    let (a, b) = pair();
    back_to_30(&a, 1_000);
    a.write(|tx| tx.put(&FORGOTTEN, &AGREEMENT, &vec![(31, 1_000)]));
    a.restored(Time(1), Time(2));
    assert_eq!(a.submit(id(7_000)), 1_001);
    round(&a, &b);
    assert_eq!(a.gaps(Side::Sent), []);
    assert_eq!(b.gaps(Side::Received).len(), 11, "a restore that nobody told of explains nothing");
    b.write(|tx| tx.put(&PEER_RESTORES, &AGREEMENT, &vec![(Time(1), Time(2))]));
    round(&a, &b);
    for (node, side) in [(&a, Side::Sent), (&b, Side::Received)] {
        let tally = node.rounds.row(&AGREEMENT, side).unwrap().complete.unwrap().tally;
        assert_eq!((tally.given, tally.held, tally.explained, tally.gaps), (1_001, 41, 11, 0));
        assert_eq!(node.gaps(side), []);
    }
}

#[test]
fn p12_a_sender_that_goes_back_in_time_shows() {
    let (a, b) = pair();
    // A snapshot of the machine, with nothing said about it.
    back_to_30(&a, 30);
    assert_eq!(a.submit(id(500)), 31);
    b.arrived(31, id(500));
    a.ended(31, id(500), Some(Time::from_seconds(9_999)));
    assert_eq!(b.gaps(Side::Received), [(GapKind::Twice, 31, Some(id(500)))], "at once");
    assert_eq!(b.rounds.open_gaps().unwrap(), 1);
    round(&a, &b);
    let unknown = (32..=41).map(|number| (GapKind::Unknown, number, Some(id(number))));
    let expected: Vec<_> = [(GapKind::Twice, 31, Some(id(500)))].into_iter().chain(unknown).collect();
    assert_eq!(b.gaps(Side::Received), expected);
    // The sender knows 500, and learns of the one that it has forgotten.
    assert_eq!(a.gaps(Side::Sent)[0], (GapKind::Twice, 31, Some(id(31))));
    assert_eq!(a.gaps(Side::Sent)[1..], expected[1..]);
}

#[test]
fn p30_a_sender_that_loses_track_says_so() {
    let (a, b) = pair();
    a.submit(id(42));
    a.submit(id(43));
    a.write(|tx| {
        // One fell out of the queue, of another nothing is left at all.
        tx.remove(&OPEN_ENVELOPES, &(AGREEMENT, 42))?;
        tx.remove(&SENT_NUMBERS, &(AGREEMENT, 17))
    });
    round(&a, &b);
    let expected = [(GapKind::Unknown, 17, Some(id(17))), (GapKind::Unaccounted, 42, Some(id(42)))];
    assert_eq!(a.gaps(Side::Sent), expected);
    assert_eq!(b.gaps(Side::Received), expected[..1], "what the sender never sent is no business of the receiver");
    lose(&b, [17]);
    round(&a, &b);
    assert_eq!(a.gaps(Side::Sent)[0], (GapKind::Unaccounted, 17, None));
}

#[test]
fn what_both_have_signed_is_kept_and_holds_for_others() {
    let (a, b) = pair();
    let shown = |node: &Node| {
        let all = node.rounds.comparisons(&AGREEMENT).unwrap();
        let read = comparison::read(&comparison::file_bytes(&all));
        if all.is_empty() { vec![] } else { read.unwrap().into_iter().map(|one| one.findings.lost).collect() }
    };
    assert_eq!(shown(&a), [] as [Ranges; 0], "nothing was compared yet");
    round(&a, &b);
    assert_eq!((shown(&a), shown(&b)), (vec![Ranges::default()], vec![Ranges::default()]));
    lose(&b, [7]);
    round(&a, &b);
    assert_eq!((shown(&a), shown(&b)), (vec![Ranges::of(7, 7)], vec![Ranges::of(7, 7)]));
    b.arrived(7, id(7));
    round(&a, &b);
    assert_eq!((shown(&a), shown(&b)), (vec![Ranges::default()], vec![Ranges::default()]));
    assert_eq!(a.rounds.comparisons(&AGREEMENT).unwrap(), b.rounds.comparisons(&AGREEMENT).unwrap());
}

#[test]
fn p19_a_statement_of_countless_numbers_costs_little() {
    let (a, b) = pair();
    let mut body = a.rounds.state((AGREEMENT, b.entity.id()), 1, 1).unwrap().body;
    (body.given, body.delivered) = (u64::MAX, Ranges::of(1, u64::MAX));
    let sign = |body: &SentStatement| {
        let own = a.entity.current();
        pakt_protocol::record::Signed::create(body, |domain, bytes| own.statement().sign(domain, bytes))
    };
    let asked = (sign(&body), a.entity.chain());
    let (_, changed) = b.rounds.answer((AGREEMENT, a.entity.id()), asked, (&body, u64::MAX)).unwrap();
    assert_eq!((changed.fresh.len(), b.gaps(Side::Received).len()), (GAPS_MAX, GAPS_MAX));
    let tally = b.rounds.row(&AGREEMENT, Side::Received).unwrap().tally;
    assert_eq!((tally.gaps, tally.held), (u64::MAX - 41, 41));
    for number in 0..3_000 {
        b.arrived(7, EnvelopeId(ambient::random()));
        assert!(number > 0 || b.gaps(Side::Received).len() == GAPS_MAX);
    }
    assert_eq!(b.gaps(Side::Received).len(), GAPS_MAX);
}

#[test]
fn p30_what_comes_after_the_statement_is_no_gap() {
    let (a, b) = pair();
    let stated = a.rounds.state((AGREEMENT, b.entity.id()), 1, 1).unwrap();
    assert_eq!(b.rounds.highest_held(AGREEMENT).unwrap(), 41);
    let highest = b.rounds.highest_held(AGREEMENT).unwrap();
    // The answer waits for its turn; meanwhile the next message is sent and committed.
    b.arrived(a.submit(id(42)), id(42));
    let asked = (AGREEMENT, a.entity.id());
    let (answer, changed) =
        b.rounds.answer(asked, (stated.signed.clone(), a.entity.chain()), (&stated.body, highest)).unwrap();
    let held = verify_held(&answer, &stated.signed, b.entity.current().node()).unwrap();
    assert_eq!((held.last, held.held.count()), (u64::MAX, 41), "the round is complete");
    let compared = a.rounds.take_answer(AGREEMENT, &stated, (answer, b.entity.chain()), &held).unwrap();
    assert_eq!((compared.changed, changed), Default::default());
    assert_eq!((a.gaps(Side::Sent), b.gaps(Side::Received)), (vec![], vec![]));
}

#[test]
fn p30_a_loss_beyond_those_on_record_is_an_alarm() {
    let (a, b) = (node(10), node(20));
    let most = GAPS_MAX as u64;
    for number in 1..=most + 3 {
        a.submit(id(number));
        b.arrived(number, id(number));
        a.ended(number, id(number), Some(Time::from_seconds(number)));
    }
    lose(&b, 1..=most);
    round(&a, &b);
    let unseen = |node: &Node| node.rounds.open_gaps().unwrap();
    assert_eq!((unseen(&a), unseen(&b)), (most, most));
    for node in [&a, &b] {
        block_on(node.rounds.seen(AGREEMENT)).unwrap();
    }
    round(&a, &b);
    assert_eq!((unseen(&a), unseen(&b)), (0, 0));
    lose(&b, [most + 1]);
    let (compared, changed) = round(&a, &b);
    assert_eq!((compared.changed.beyond, changed.beyond), (1, 1));
    // Said once, counted until somebody has dealt with it.
    let (compared, changed) = round(&a, &b);
    assert_eq!((compared.changed.beyond, changed.beyond), (0, 0));
    assert_eq!((unseen(&a), unseen(&b)), (1, 1));
    block_on(a.rounds.seen(AGREEMENT)).unwrap();
    round(&a, &b);
    assert_eq!((unseen(&a), unseen(&b)), (0, 1));
    // A place on record is free: it is there by its name, and not counted twice.
    b.arrived(1, id(1));
    round(&a, &b);
    assert_eq!((unseen(&a), unseen(&b)), (1, 1));
    assert!(b.gaps(Side::Received).iter().any(|(_, number, _)| *number == most + 1));
}
