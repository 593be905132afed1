//! The text that a monitoring system gets.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::counted::{Counted, Labels};

type Gauges = Family<Labels, Gauge>;

/// Lanes that are up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Control lanes.
    pub control: i64,
    /// Lanes for what is urgent.
    pub urgent: i64,
    /// Lanes for everything else.
    pub bulk: i64,
    /// Lanes that are forwarded, or ask to be.
    pub relay: i64,
}

/// What is so at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Seconds since the start.
    pub uptime_seconds: i64,
    /// Whether the node takes messages.
    pub ready: bool,
    /// Envelopes that have not ended.
    pub queued: i64,
    /// Those of them whose counterpart is not online.
    pub held: i64,
    /// Envelopes under way.
    pub under_way: i64,
    /// How long the oldest envelope that has not ended waits, in seconds.
    pub oldest_seconds: i64,
    /// Agreements in force.
    pub agreements: i64,
    /// Counterparts that are online.
    pub peers_online: i64,
    /// Lanes.
    pub lanes: Lanes,
    /// Sealed objects, and their bytes.
    pub objects: (i64, i64),
    /// Bytes of the database.
    pub records_bytes: i64,
    /// Free bytes on the disk.
    pub free_bytes: i64,
    /// Entries of the audit log.
    pub log_entries: i64,
    /// Whether the node's own look at the audit log found it changed, or could not read it.
    pub log_fault: bool,
    /// Lines of `pakt status` that begin with ALARM, and all others.
    pub alarms: (i64, i64),
    /// Counterparts that came out of a backup and whose gap nobody has dealt with.
    pub restore_gaps: i64,
    /// Envelopes that a reconciliation found something wrong with.
    pub reconciliation_gaps: i64,
    /// Messages that wait for their check, and those that are in quarantine.
    pub checks: (i64, i64),
    /// When the last backup that was kept was made, in seconds since 1970; 0 for never.
    pub backup_at: i64,
    /// Bytes forwarded between counterparts, and connections that are forwarded now.
    pub relay: (u64, i64),
}

/// The text of OpenMetrics.
pub fn render(counted: &Counted, measured: &Measured) -> String {
    let mut registry = Registry::with_prefix("pakt");
    register_counters(&mut registry, counted, measured);
    register_queue(&mut registry, measured);
    register_state(&mut registry, measured);
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

fn register_counters(registry: &mut Registry, counted: &Counted, measured: &Measured) {
    let mut family = |name: &str, help: &str, family: &super::counted::Counters| {
        registry.register(name, help, family.clone());
    };
    family("envelopes", "States that envelopes of this node reached", &counted.reached);
    family("retries", "Envelopes of this node that went back to wait", &counted.retries);
    family("refusals_there", "Envelopes that counterparts refused, for good or for now", &counted.refused_there);
    family("refusals_here", "Envelopes that this node refused", &counted.refused_here);
    registry.register("messages_submitted", "Messages submitted here", counted.submitted.clone());
    registry.register("messages_received", "Messages that arrived whole", counted.received.clone());
    registry.register("reports", "Warnings and reports to sending groups", counted.reports.clone());
    let forwarded: prometheus_client::metrics::counter::Counter = Default::default();
    forwarded.inc_by(measured.relay.0);
    registry.register("relay_bytes", "Bytes forwarded between counterparts", forwarded);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn register_queue(registry: &mut Registry, measured: &Measured) {
    for (name, help, value) in [
        ("queue_envelopes", "Envelopes that have not ended", measured.queued),
        ("queue_held", "Envelopes whose counterpart is not online", measured.held),
        ("queue_under_way", "Envelopes that are being offered or transferred", measured.under_way),
        ("queue_oldest_seconds", "How long the oldest envelope that has not ended waits", measured.oldest_seconds),
        ("agreements", "Agreements in force", measured.agreements),
        ("peers_online", "Counterparts that are online", measured.peers_online),
        ("relay_circuits", "Connections that are forwarded between counterparts now", measured.relay.1),
    ] {
        gauge(registry, name, help, value);
    }
    let lanes: Gauges = Family::default();
    let Lanes { control, urgent, bulk, relay } = measured.lanes;
    for (kind, count) in [("control", control), ("urgent", urgent), ("bulk", bulk), ("relay", relay)] {
        lanes.get_or_create(&vec![("kind", kind)]).set(count);
    }
    registry.register("lanes", "Lanes that are up", lanes);
}

fn register_state(registry: &mut Registry, measured: &Measured) {
    for (name, help, value) in [
        ("ready", "1 while the node takes messages", i64::from(measured.ready)),
        ("uptime_seconds", "Time since the start", measured.uptime_seconds),
        ("store_objects", "Sealed objects in the store", measured.objects.0),
        ("store_bytes", "Bytes of sealed objects in the store", measured.objects.1),
        ("store_records_bytes", "Bytes of the database", measured.records_bytes),
        ("store_free_bytes", "Free bytes on the disk of the store", measured.free_bytes),
        ("log_entries", "Entries of the audit log", measured.log_entries),
        (
            "log_fault",
            "1 while the audit log is not what it was, or could not be read to its end",
            i64::from(measured.log_fault),
        ),
        ("alarms", "Alarms in pakt status", measured.alarms.0),
        ("warnings", "Warnings in pakt status that are no alarms", measured.alarms.1),
        ("restore_gaps", "Counterparts whose restore lost something and was not dealt with", measured.restore_gaps),
        (
            "reconciliation_gaps",
            "Envelopes that a reconciliation found lost, unknown or twice",
            measured.reconciliation_gaps,
        ),
        ("checking", "Messages that wait for their check before release", measured.checks.0),
        ("quarantined", "Messages in quarantine", measured.checks.1),
        ("backup_timestamp_seconds", "When the last backup that was kept was made, 0 for never", measured.backup_at),
    ] {
        gauge(registry, name, help, value);
    }
}
