//! P25: whoever owns the machine and all its keys cannot change the log unseen by those who hold a head of it.

use std::path::Path;
use std::time::Duration;

use pakt_keys::keystore::{HeldRoot, Keystore};
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_keys::store_seal::StoreKey;
use pakt_keys::{EntityId, codec};
use pakt_protocol::audit::{AdministratorStep, AgreementStep, MessageStep};
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::time::Time;
use tokio::net::UnixDatagram;
use tokio_util::sync::CancellationToken;

use super::heads::{HEAD_EVERY, Taken};
use super::verify::{Held, Tampered, verify};
use super::*;
use crate::disk::FaultDisk;
use crate::entity::Entity;
use crate::store::Store;

/// A generator whose numbers are the same in every run.
struct Draw(blake3::OutputReader);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_be_bytes(bytes) % bound
    }
}

fn event(draw: &mut Draw) -> Event {
    let (agreement, entity) = (AgreementId([1; 32]), EntityId([2; 32]));
    let number = draw.below(250) as u8;
    match draw.below(3) {
        0 => Event::Administrator(AdministratorStep::ConfigurationChanged([number; 32])),
        1 => Event::Agreement { agreement, entity, version: u32::from(number), step: AgreementStep::Verified },
        _ => {
            let (envelope, message) = (EnvelopeId([number; 16]), MessageId([number; 16]));
            Event::Message { envelope, message, agreement, entity, step: MessageStep::Sent }
        }
    }
}

/// A log of `entries`, with a receipt in the middle, and what others hold of it.
struct World {
    store: Store,
    held: Vec<Held>,
    draw: Draw,
}

fn world(seed: u64, entries: u64) -> World {
    let store = Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
    let mut draw = Draw(blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof());
    let events: Vec<Event> = (0..entries).map(|_| event(&mut draw)).collect();
    let held = store.write_blocking(move |tx| {
        let mut blinded = None;
        for (at, event) in events.into_iter().enumerate() {
            append(tx, event)?;
            if at as u64 == entries / 2 {
                let core = CoreHash([9; 32]);
                let (envelope, message) = (EnvelopeId([251; 16]), MessageId([1; 16]));
                let (agreement, entity) = (AgreementId([1; 32]), EntityId([2; 32]));
                let step = |blinder| MessageStep::Received { core, blinder };
                let of = |blinder| Event::Message { envelope, message, agreement, entity, step: step(blinder) };
                blinded = Some((envelope, core, append_blinded(tx, of)?.0));
            }
        }
        let size = size(tx)?;
        let mut held = vec![Held::Head { size, root: root(tx, size)? }];
        held.extend(blinded.map(|(envelope, core, blinded)| Held::Receipt { envelope, core, blinded }));
        Ok::<_, StoreError>(held)
    });
    World { store, held: held.unwrap(), draw }
}

fn verdict(world: &World, held: &[Held]) -> Result<u64, Tampered> {
    world.store.read(|tx| verify(tx, held)).unwrap().map(|verified| verified.entries)
}

/// Writes these entries as if nothing else had ever been.
fn rewrite(tx: &mut WriteTx, entries: &[Vec<u8>]) -> Result<(), StoreError> {
    let old: Vec<u64> = tx.prefix_keys(&AUDIT, &(), usize::MAX)?;
    for index in old {
        tx.remove(&AUDIT, &index)?;
    }
    for (index, entry) in (0..).zip(entries) {
        let hashes = tree::completed(index, tree::leaf_hash(entry), |end, level| subtree(tx, end, level))?;
        tx.put(&AUDIT, &index, &AuditRow { entry: entry.clone(), hashes })?;
    }
    tx.put(&AUDIT_SIZE, &(), &(entries.len() as u64))
}

fn entity(number: &str) -> Entity {
    let mut rng = ambient::rng();
    let (root, next) = (RootKey::generate(&mut rng), RootKey::generate(&mut rng));
    let (transport, statement) = (TransportKey::generate(&mut rng), StatementKey::generate(&mut rng));
    let contact = ContactKey::generate(&mut rng);
    let keys = (transport.public(), statement.public(), contact.public());
    let chain = codec::encode(1, &CertificateChain::create(&root, &next.public(), keys, ambient::now()));
    let (root, store) = (Some(HeldRoot::open(root)), StoreKey::from_bytes([7; 32]));
    let keystore = Keystore { root, transport, statement, contact, store, chain };
    Entity::new(keystore, "Nord".to_owned(), number.to_owned()).unwrap()
}

fn log_of(world: &World) -> Log {
    Log::new(world.store.clone(), entity("NO:ORGNR:1"))
}

/// Tampers with the rows in one of many ways; all but the first two write a log that is sound by itself.
fn tamper(world: &mut World) -> String {
    let rows: Vec<(u64, AuditRow)> = world.store.read(|tx| tx.range(&AUDIT, .., usize::MAX)).unwrap();
    let mut entries: Vec<Vec<u8>> = rows.iter().map(|(_, row)| row.entry.clone()).collect();
    let (draw, count) = (&mut world.draw, rows.len() as u64);
    let at = draw.below(count) as usize;
    let way = draw.below(9);
    let bit = draw.below(8 * entries[at].len() as u64) as usize;
    let other = (at + 1 + draw.below(count - 1) as usize) % rows.len();
    match way {
        0 | 1 => entries[at][bit / 8] ^= 1 << (bit % 8),
        2 => drop(entries.remove(at)),
        3 => entries.truncate(at),
        4 if entries[at] != entries[other] => entries.swap(at, other),
        5 | 4 => {
            let mut entry = Entry::from_bytes(&entries[at]).unwrap();
            entry.at = Time(entry.at.0 - 1 - draw.below(1 << 40));
            entries[at] = entry.to_bytes();
        }
        6 => {
            let entry = Entry { at: Time(1 + draw.below(1 << 50)), event: event(draw) };
            entries.insert(at, entry.to_bytes());
        }
        7 => {
            // An old state of the store, on which life went on.
            entries.truncate(at);
            entries.extend((0..count).map(|_| Entry { at: ambient::now(), event: event(draw) }.to_bytes()));
        }
        _ => entries[at] = Entry { at: Time(5), event: Event::Restored }.to_bytes(),
    }
    let patched = entries.get(at).cloned();
    let write = world.store.write_blocking(move |tx| match (way, patched) {
        // Only the row, as a flipped bit on disk or a clumsy hand would.
        (0, Some(entry)) => tx.put(&AUDIT, &(at as u64), &AuditRow { entry, hashes: rows[at].1.hashes.clone() }),
        _ => rewrite(tx, &entries),
    });
    write.unwrap();
    format!("way {way} at {at} of {count}")
}

#[test]
fn p25_five_hundred_random_tamperings_are_all_found_against_a_head_that_a_counterpart_holds() {
    for seed in 0..500 {
        let mut world = world(seed, 2 + seed % 40);
        let all = world.held.clone();
        assert_eq!(verdict(&world, &all), Ok(3 + seed % 40), "untouched {seed}");
        let how = tamper(&mut world);
        assert!(verdict(&world, &all[..1]).is_err(), "against the head: {how}, seed {seed}");
        if let Ok(entries) = verdict(&world, &all[1..]) {
            // The receipt vouches for what came before it, and no more.
            let unchanged = 2 + (2 + seed % 40) / 2;
            let told: Vec<_> = world.store.read(|tx| page(tx, 0, unchanged as usize)).unwrap();
            assert!(entries >= unchanged && told.len() as u64 == unchanged, "{how}, seed {seed}");
        }
    }
}

#[test]
fn p25_a_log_that_goes_on_still_begins_with_every_head() {
    let mut world = world(1, 20);
    let (held, more) = (world.held.clone(), event(&mut world.draw));
    world.store.write_blocking(move |tx| append(tx, more)).unwrap();
    assert_eq!(verdict(&world, &held), Ok(22));
}

#[test]
fn an_entry_is_there_if_and_only_if_its_change_is() {
    let world = world(2, 5);
    let before = verdict(&world, &[]).unwrap();
    let failed = world.store.write_blocking(|tx| {
        append(tx, Event::Restored)?;
        Err::<(), _>(StoreError::Full)
    });
    assert!(failed.is_err());
    assert_eq!(verdict(&world, &world.held), Ok(before));
}

/// A counterpart does not wait for anybody to verify: the next head that it gets does not follow from the one it holds.
#[tokio::test]
async fn p25_a_log_that_was_rewritten_is_an_alarm_with_the_counterpart_at_the_next_head() {
    let agreement = AgreementId([3; 32]);
    let mut seen = 0;
    for seed in 1_000..1_080 {
        let mut world = world(seed, 2 + seed % 40);
        let (log, counterpart) = (log_of(&world), log_of(&self::world(1, 2)));
        let (now, signer) = (Time::from_seconds(1_800_000_000), log.entity().node());
        let first = log.give(agreement, now).await.unwrap().unwrap();
        assert_eq!(counterpart.take(agreement, &signer, first).await, Ok(Taken::Held));
        let how = tamper(&mut world);
        if how.starts_with("way 0") {
            // Only a row was changed, not what is said of it: reading it again finds it, see the test above.
            continue;
        }
        let next = log.give(agreement, now + HEAD_EVERY).await.unwrap().unwrap();
        let taken = counterpart.take(agreement, &signer, next).await;
        assert!(matches!(taken, Ok(Taken::Alarm(..))), "{how}, seed {seed}: {taken:?}");
        assert!(counterpart.alarm(&agreement).unwrap().is_some());
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

#[tokio::test]
async fn p25_the_daily_look_finds_what_the_node_itself_holds_against_the_log() {
    let running = CancellationToken::new();
    for seed in 2_000..2_040 {
        let mut world = world(seed, 2 + seed % 40);
        let log = log_of(&world);
        assert_eq!(log.looked(), None);
        log.head().await.unwrap();
        assert!(log.look(&running).unwrap());
        let looked = log.looked().unwrap();
        assert_eq!((looked.entries, looked.fault), (3 + seed % 40, None));
        let how = tamper(&mut world);
        assert!(log.look(&running).unwrap());
        assert!(log.looked().unwrap().fault.is_some(), "{how}, seed {seed}");
    }
    let stopped = CancellationToken::new();
    stopped.cancel();
    let log = log_of(&world(1, 9));
    assert!(!log.look(&stopped).unwrap(), "a node that stops does not wait for it");
    assert_eq!(log.looked(), None);
}

#[test]
fn a_look_that_cannot_read_shows_until_one_can() {
    let running = CancellationToken::new();
    let mut world = world(3, 9);
    let log = log_of(&world);
    log.note_unread("the disk failed".to_owned());
    let unread = log.looks().unread.map(|unread| unread.why);
    assert_eq!((log.looked(), unread.as_deref()), (None, Some("the disk failed")));
    assert!(log.look(&running).unwrap());
    assert_eq!(log.looks().unread, None);
    assert_eq!(log.looked().unwrap().fault, None);
    // What an earlier look found is not forgotten because a later one cannot read.
    rewrite_first(&mut world);
    assert!(log.look(&running).unwrap());
    let found = log.looked();
    assert!(found.as_ref().unwrap().fault.is_some());
    world.store.close();
    assert!(log.look(&running).is_err());
    assert_eq!(log.looked(), found);
    assert!(log.looks().unread.is_some());
}

/// Changes the row of the first entry, as a clumsy hand would.
fn rewrite_first(world: &mut World) {
    let entry = Entry { at: Time(5), event: event(&mut world.draw) }.to_bytes();
    let write = world.store.write_blocking(move |tx| {
        let row = tx.get(&AUDIT, &0)?.expect("it has entries");
        tx.put(&AUDIT, &0, &AuditRow { entry, ..row })
    });
    write.unwrap();
}

/// A log in which somebody changed something after a head of it was signed, and that was read since.
pub(crate) async fn tampered_log() -> Log {
    let mut world = world(2_000, 9);
    let log = log_of(&world);
    log.head().await.unwrap();
    tamper(&mut world);
    assert!(log.look(&CancellationToken::new()).unwrap());
    log
}

async fn numbers(socket: &UnixDatagram, count: usize) -> Vec<u64> {
    let mut line = [0; 4096];
    let mut numbers = Vec::new();
    for _ in 0..count {
        let read = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut line)).await.unwrap().unwrap();
        let text = std::str::from_utf8(&line[..read]).unwrap();
        let number = text.split_once(" number=\"").unwrap().1.split_once('"').unwrap().0;
        numbers.push(number.parse().unwrap());
    }
    numbers
}

#[tokio::test]
async fn every_entry_reaches_the_syslog_socket_in_order_also_one_that_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut world = world(5, 600);
    let (log, stop) = (log_of(&world), CancellationToken::new());
    let feeding = tokio::spawn(feed::feed(log.clone(), path.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!feeding.is_finished(), "without a socket it waits");
    let late = ambient::now() + Duration::from_secs(7_200);
    assert_eq!(log.feed_behind(late).unwrap(), Some(601));
    assert_eq!(log.feed_behind(ambient::now()).unwrap(), None, "not for long yet");
    let socket = UnixDatagram::bind(&path).unwrap();
    assert_eq!(numbers(&socket, 601).await, (0..601).collect::<Vec<u64>>());
    let more = event(&mut world.draw);
    world.store.write_blocking(move |tx| append(tx, more)).unwrap();
    assert_eq!(numbers(&socket, 1).await, [601]);
    until_sent(&log, 602).await;
    stop.cancel();
    feeding.await.unwrap();
    // The next run goes on where this one ended.
    let more = event(&mut world.draw);
    world.store.write_blocking(move |tx| append(tx, more)).unwrap();
    let stop = CancellationToken::new();
    let feeding = tokio::spawn(feed::feed(log.clone(), path, stop.clone()));
    assert_eq!(numbers(&socket, 1).await, [602]);
    until_sent(&log, 603).await;
    assert_eq!(log.feed_behind(late).unwrap(), None);
    stop.cancel();
    feeding.await.unwrap();
}

async fn until_sent(log: &Log, count: u64) {
    let sent = || log.store().read(|tx| tx.get(&crate::store::tables::SYSLOG_SENT, &())).unwrap();
    for _ in 0..2_000 {
        if sent() == Some(count) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?} of {count} are noted", sent());
}
