//! Whether the node takes messages, and what a monitoring system is told of it.

use super::{Answer, Node, blocking};
use crate::ambient;
use crate::api::types::Status;
use crate::metrics::{Lanes, Measured};
use crate::net::LaneKind;
use crate::service::STORE_NAME;

/// How a warning begins that needs somebody now.
const ALARM: &str = "ALARM";

impl Node {
    /// Whether this node takes messages now.
    ///
    /// # Errors
    /// Why not, in words without names.
    pub async fn ready(&self) -> Result<(), &'static str> {
        if self.inner.stop.is_cancelled() {
            return Err("the node is stopping");
        }
        let node = self.clone();
        let room = blocking(move || {
            node.inner.mailroom.open_count()?;
            Ok(node.inner.blobs.room()?)
        });
        match room.await {
            Ok(0) => Err("the disk is full: messages are refused, reading and receipts go on"),
            Ok(_) => Ok(()),
            Err(_) => Err("the store cannot be read"),
        }
    }

    /// What is so at this moment, for metrics.
    ///
    /// # Errors
    /// When the store or the disk fails.
    pub async fn measure(&self) -> Answer<Measured> {
        let ready = self.ready().await.is_ok();
        let status = self.status().await?;
        let node = self.clone();
        blocking(move || node.measure_now(ready, &status)).await
    }

    fn measure_now(&self, ready: bool, status: &Status) -> Answer<Measured> {
        let inner = &self.inner;
        let now = ambient::now();
        let (mut lanes, mut agreements, mut oldest_seconds) = (Lanes::default(), 0, 0);
        for agreement in inner.book.all() {
            agreements += i64::from(agreement.in_force(now));
            for lane in inner.exchange.peer(&agreement.id).lanes {
                match lane.kind {
                    LaneKind::Control => lanes.control += 1,
                    LaneKind::Urgent => lanes.urgent += 1,
                    LaneKind::Bulk => lanes.bulk += 1,
                    LaneKind::Relay => lanes.relay += 1,
                }
            }
            if let Some(since) = inner.mailroom.oldest_open(&agreement.id)? {
                oldest_seconds = oldest_seconds.max(number(ambient::service_now().since(since).as_secs()));
            }
        }
        let alarms = alarms(&status.warnings);
        let records = std::fs::metadata(inner.config.dir.join(STORE_NAME)).map_or(0, |file| file.len());
        let relay = inner.exchange.relay_counts();
        let gaps = inner.book.gaps()?;
        let backup_at = self.last_backup_at()?.map_or(0, |at| at.0 / 1_000_000);
        Ok(Measured {
            uptime_seconds: number(status.uptime_s),
            ready,
            queued: number(status.queued),
            held: number(status.held),
            under_way: i64::try_from(inner.exchange.under_way().len()).unwrap_or(i64::MAX),
            oldest_seconds,
            agreements,
            peers_online: i64::try_from(status.peers_online).unwrap_or(i64::MAX),
            lanes,
            objects: (number(status.store.objects), number(status.store.bytes)),
            records_bytes: number(records),
            free_bytes: number(status.store.free),
            log_entries: number(status.log.entries),
            log_fault: status.log.is_faulty(),
            alarms: (count(alarms), count(status.warnings.len() - alarms)),
            restore_gaps: count(gaps.iter().filter(|(_, gap)| !gap.seen).count()),
            reconciliation_gaps: number(status.reconciliation_gaps),
            checks: (number(status.checking), number(status.quarantined)),
            backup_at: number(backup_at),
            relay: (relay.bytes, i64::try_from(relay.circuits).unwrap_or(i64::MAX)),
        })
    }
}

/// How many of these warnings need somebody now.
pub(super) fn alarms(warnings: &[String]) -> usize {
    warnings.iter().filter(|warning| warning.starts_with(ALARM)).count()
}

/// A number as gauges take it.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
