//! P25, P24: heads of a counterpart that are never proven, and a log that begins anew with a restore.

use std::time::Duration;

use pakt_protocol::audit::Event;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::restored::RestoreNotice;
use pakt_protocol::time::Time;

use super::append;
use super::heads::{AlarmKind, Given, HEAD_EVERY, Log, Taken, begin_anew};
use crate::backup::rows::GapRow;
use crate::reconcile::tests::{entity, store};
use crate::store::StoreError;
use crate::store::tables::GAPS;

const AGREEMENT: AgreementId = AgreementId([4; 32]);

/// The counterpart's log, and the day that it is there.
struct Peer {
    log: Log,
    day: u32,
}

impl Peer {
    fn new() -> Peer {
        Peer { log: Log::new(store(), entity(20)), day: 0 }
    }

    /// Another day on which something happened; the head that is given then.
    async fn next(&mut self) -> Given {
        self.log.store().write_blocking(|tx| append(tx, Event::Restored)).unwrap();
        self.day += 1;
        let now = Time::from_seconds(1) + HEAD_EVERY * self.day + Duration::from_secs(1);
        self.log.give(AGREEMENT, now).await.unwrap().expect("a day has passed")
    }
}

async fn take(own: &Log, given: Given) -> Taken {
    own.take(AGREEMENT, entity(20).current().node(), given).await.unwrap()
}

/// The counterpart says that it was restored.
fn told_of_restore(own: &Log) {
    let notice = RestoreNotice {
        entity: entity(20).id(),
        reader: entity(10).id(),
        agreement: AGREEMENT,
        generation: 1,
        nonce: [1; 32],
        backup_at: Time(1),
        restored_at: Time(2),
    };
    let row = GapRow { notice, learned_at: Time(3), envelopes: vec![], count: 0, seen: false, log_settled: false };
    own.store().write_blocking(move |tx| tx.put(&GAPS, &AGREEMENT, &row)).unwrap();
}

/// What `pakt backup gaps --seen` does.
fn seen(own: &Log) {
    let write = own.store().write_blocking(|tx| {
        let row = tx.get(&GAPS, &AGREEMENT)?.expect("a gap");
        let log_settled = row.log_settled || begin_anew(tx, AGREEMENT)?;
        tx.put(&GAPS, &AGREEMENT, &GapRow { seen: true, log_settled, ..row })
    });
    let written: Result<(), StoreError> = write;
    written.unwrap();
}

fn alarm(own: &Log) -> Option<(AlarmKind, bool)> {
    own.alarm(&AGREEMENT).unwrap().map(|alarm| (alarm.kind, alarm.restored))
}

#[tokio::test]
async fn p25_a_log_that_is_never_proven_is_an_alarm_until_it_is() {
    let (own, mut peer) = (Log::new(store(), entity(10)), Peer::new());
    let first = peer.next().await;
    let size = first.head.peek().unwrap().size;
    assert_eq!(take(&own, first).await, Taken::Held);
    for _ in 0..3 {
        let unproven = Given { since: 0, proof: vec![], ..peer.next().await };
        assert_eq!(take(&own, unproven).await, Taken::NeedsProof(size));
        assert_eq!(alarm(&own), None);
    }
    let unproven = Given { since: 0, proof: vec![], ..peer.next().await };
    assert_eq!(take(&own, unproven).await, Taken::Unproven(size), "it is asked for again all the same");
    assert_eq!(alarm(&own), Some((AlarmKind::Unproven, false)));
    let proven = peer.log.give_again(AGREEMENT, size).unwrap().expect("a head");
    assert_eq!(take(&own, proven).await, Taken::Held);
    assert_eq!(alarm(&own), None);
    let unproven = Given { since: 0, proof: vec![], ..peer.next().await };
    assert!(matches!(take(&own, unproven).await, Taken::NeedsProof(_)), "and counted from the beginning");
}

/// A counterpart whose log has ten entries here, and which goes on from two of them.
async fn restored() -> (Log, Peer) {
    let (own, mut peer) = (Log::new(store(), entity(10)), Peer::new());
    for _ in 0..10 {
        assert_eq!(take(&own, peer.next().await).await, Taken::Held);
    }
    let mut restored = Peer { day: 20, ..Peer::new() };
    restored.next().await;
    (own, restored)
}

#[tokio::test]
async fn p24_an_honest_restore_is_no_lasting_alarm() {
    let (own, mut peer) = restored().await;
    told_of_restore(&own);
    assert_eq!(take(&own, peer.next().await).await, Taken::Alarm(AlarmKind::Shorter, true));
    assert_eq!(alarm(&own), Some((AlarmKind::Shorter, true)));
    seen(&own);
    assert_eq!(alarm(&own), None);
    assert_eq!(take(&own, peer.next().await).await, Taken::Held, "it goes on from there");
    // Once: what does not continue that is tampering.
    let mut other = Peer { day: 40, ..Peer::new() };
    assert_eq!(take(&own, other.next().await).await, Taken::Alarm(AlarmKind::Shorter, false));
    seen(&own);
    assert_eq!(alarm(&own), Some((AlarmKind::Shorter, false)), "and no restore's");
}

#[tokio::test]
async fn p24_a_restore_that_was_dealt_with_before_its_first_head_is_no_alarm_either() {
    let (own, mut peer) = restored().await;
    told_of_restore(&own);
    seen(&own);
    assert_eq!(take(&own, peer.next().await).await, Taken::BegunAnew);
    assert_eq!((take(&own, peer.next().await).await, alarm(&own)), (Taken::Held, None));
    let mut other = Peer { day: 40, ..Peer::new() };
    assert_eq!(take(&own, other.next().await).await, Taken::Alarm(AlarmKind::Shorter, false));
}

#[tokio::test]
async fn p25_a_log_that_goes_on_settles_the_restore() {
    let (own, mut peer) = (Log::new(store(), entity(10)), Peer::new());
    assert_eq!(take(&own, peer.next().await).await, Taken::Held);
    told_of_restore(&own);
    assert_eq!(take(&own, peer.next().await).await, Taken::Held);
    let mut other = Peer { day: 40, ..Peer::new() };
    assert_eq!(take(&own, other.next().await).await, Taken::Alarm(AlarmKind::Shorter, false));
}

#[tokio::test]
async fn p25_without_a_restore_the_alarm_stays() {
    let (own, mut peer) = restored().await;
    assert_eq!(take(&own, peer.next().await).await, Taken::Alarm(AlarmKind::Shorter, false));
    let held = own.held(&AGREEMENT).unwrap().unwrap().peek().unwrap();
    assert_eq!(held.size, 10, "what was held stays as it was");
}
