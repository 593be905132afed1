//! What a node says about itself, and what its operator should know.

use std::time::Duration;

use pakt_keys::keystore::HeldRoot;
use pakt_keys::signing::TransportPublic;

use super::life::life_warnings;
use super::{Answer, Node, blocking, words};
use crate::ambient;
use crate::api::types::*;
use crate::book::{Agreement, Standing};
use crate::exchange::RelayCounts;
use crate::line::Limits;
use crate::setup;

/// Below this a node refuses large messages before anything else helps.
const FREE_BYTES_MIN: u64 = 5_000_000_000;
/// An agreement that ends sooner than this needs somebody's attention.
pub(super) const ENDS_SOON: Duration = Duration::from_secs(30 * 86_400);
/// Clocks further apart than this are named.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(3_600);

impl Node {
    /// State and counts of this node.
    ///
    /// # Errors
    /// When the store or the disk fails.
    pub async fn status(&self) -> Answer<Status> {
        let node = self.clone();
        blocking(move || node.status_now()).await
    }

    fn status_now(&self) -> Answer<Status> {
        let inner = &self.inner;
        let party = inner.entity.party();
        let (mut held, mut peers_online) = (0, 0);
        for agreement in inner.book.all() {
            if inner.exchange.peer(&agreement.id).online {
                peers_online += 1;
            } else {
                held += inner.mailroom.open_count_of(&agreement.id)?;
            }
        }
        let usage = inner.blobs.usage()?;
        let free = inner.blobs.free_bytes()?;
        let (checking, quarantined) = self.check_counts()?;
        Ok(Status {
            entity: party.entity.to_string(),
            name: party.name.clone(),
            number: party.number.clone(),
            peer_id: peer_id(&inner.entity.node().transport),
            listen: inner.listen.map(|address| address.to_string()).unwrap_or_default(),
            api: String::new(),
            api_tcp: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: inner.started.elapsed().as_secs(),
            queued: inner.mailroom.open_count()?,
            held,
            peers_online,
            reconciliation_gaps: self.reconciliation_gaps()?,
            unprotected: inner.unprotected,
            root: root_place(inner.entity.current().root()),
            relay: relay_of(inner.exchange.relay_counts()),
            limits: limits_of(inner.exchange.limits()),
            store: StoreUsage { objects: usage.objects, bytes: usage.bytes, free },
            last_backup: self.last_backup()?,
            log: self.log_status()?,
            checking,
            quarantined,
            scanner: self.scanner_status(),
            warnings: self.warnings(free)?,
        })
    }

    fn warnings(&self, free: u64) -> Answer<Vec<String>> {
        let now = ambient::now();
        let mut warnings = Vec::new();
        if self.inner.unprotected {
            warnings.push("the keys lie on disk without a passphrase".to_owned());
        }
        if let Some(file) = self.recovery_file() {
            warnings.push(format!(
                "the recovery file lies beside the keys that it must survive: move {} to another machine",
                file.display()
            ));
        }
        if let Some(seconds) = self.inner.clock_jump {
            let span = words::span(Duration::from_secs(seconds.unsigned_abs()));
            let direction = if seconds > 0 { "forward" } else { "back" };
            warnings.push(format!(
                "the clock went {span} {direction} before this start: set it right; what waits keeps the time it had left"
            ));
        }
        if free < FREE_BYTES_MIN {
            warnings.push(format!("only {} are free: large messages are refused before they start", words::size(free)));
        }
        let frozen = self.inner.book.all().into_iter().filter(|agreement| agreement.frozen_at.is_some());
        warnings.extend(frozen.filter_map(|agreement| frozen_warning(&agreement)));
        warnings.extend(self.check_warnings()?);
        warnings.extend(self.restore_warnings(now)?);
        warnings.extend(self.own_log_warnings(now)?);
        warnings.extend(self.ledger_warnings());
        warnings.extend(self.retention_warnings()?);
        warnings.extend(self.received_summaries()?.iter().map(|proposal| {
            let AgreementSummary { id, name, number, .. } = proposal;
            format!("{name} ({number}) proposes an agreement: `pakt agreement show {id}`")
        }));
        for agreement in self.inner.book.all() {
            if agreement.in_force(now) {
                warnings.extend(agreement_warnings(&agreement));
                warnings.extend(self.controls_warning(&agreement));
            }
            warnings.extend(self.log_warning(&agreement));
            warnings.extend(self.reconciliation_warnings(&agreement)?);
            warnings.extend(life_warnings(&agreement, now, ENDS_SOON));
        }
        Ok(warnings)
    }

    /// What the operator must know about controls that this node lacks.
    fn controls_warning(&self, agreement: &Agreement) -> Option<String> {
        let lacking = self.controls_lacking(agreement);
        let (name, lacking) = (&agreement.counterpart().name, (!lacking.is_empty()).then(|| lacking.join(" and "))?);
        Some(format!(
            "the agreement with {name} asks this node for {lacking}, which it cannot attest: {name} sends nothing"
        ))
    }

    /// The recovery file while it lies in the data directory.
    fn recovery_file(&self) -> Option<std::path::PathBuf> {
        let config = &self.inner.config;
        let named = config.recovery_file.iter().cloned().chain([config.dir.join(setup::RECOVERY_NAME)]);
        named.into_iter().find(|file| file.starts_with(&config.dir) && file.exists())
    }
}

/// Where the root is that lies in the keystore, or not.
pub(crate) fn root_place(held: Option<&HeldRoot>) -> RootPlace {
    match held {
        None => RootPlace::Elsewhere,
        Some(held) if held.needs_approvals() => RootPlace::Approved,
        Some(_) => RootPlace::Here,
    }
}

fn agreement_warnings(agreement: &Agreement) -> Vec<String> {
    let name = &agreement.counterpart().name;
    let mut warnings = Vec::new();
    if !agreement.verified {
        warnings.push(format!("the fingerprint of {name} was never compared"));
    }
    warnings.extend(agreement.clock_difference_s.and_then(|seconds| clock_warning(name, seconds)));
    warnings
}

/// The alarm of an agreement whose counterpart's certificates contradict each other, until it is ended.
fn frozen_warning(agreement: &Agreement) -> Option<String> {
    let at = agreement.frozen_at.filter(|_| agreement.standing != Standing::Ended)?;
    let name = &agreement.counterpart().name;
    Some(format!(
        "ALARM: {name} has shown certificates that contradict each other ({}): its root key is in other hands, nothing is \
         exchanged with it. Call it, then end agreement {} and make a new one",
        words::moment(at),
        agreement.id
    ))
}

/// Names a clock that is far from ours; `seconds` is the counterpart's minus ours.
fn clock_warning(name: &str, seconds: i64) -> Option<String> {
    let apart = Duration::from_secs(seconds.unsigned_abs());
    let direction = if seconds > 0 { "ahead of" } else { "behind" };
    (apart > CLOCK_DIFFERENCE_MAX)
        .then(|| format!("the clock of {name} is {} {direction} this node's: keep both with NTP", words::span(apart)))
}

/// The text form of a libp2p peer id: base58 of the identity multihash over the public key's protobuf.
pub(crate) fn peer_id(key: &TransportPublic) -> String {
    const HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    base58(&[&HEAD[..], &key.0].concat())
}

fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    // Digits of the whole number, lowest first.
    let mut digits: Vec<u8> = Vec::with_capacity(bytes.len() * 138 / 100 + 1);
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).map(|_| 0);
    let all = zeros.chain(digits.iter().rev().copied());
    all.map(|digit| char::from(ALPHABET[usize::from(digit)])).collect()
}

fn relay_of(counts: RelayCounts) -> RelayStatus {
    let RelayCounts { circuits, forwarded, refused, bytes } = counts;
    RelayStatus { circuits, forwarded, refused, bytes }
}

fn limits_of(limits: Limits) -> LineLimits {
    let Limits { send, receive, send_per_peer, receive_per_peer } = limits;
    LineLimits { send, receive, send_per_peer, receive_per_peer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base58_is_that_of_bitcoin() {
        let check = |bytes: &[u8], text: &str| assert_eq!(base58(bytes), text);
        check(b"", "");
        check(b"Hello World!", "2NEpo7TZRRrLZSi2U");
        check(&[0, 0, 0x28, 0x7f, 0xb4, 0xcd], "11233QC4");
    }

    #[test]
    fn a_clock_is_named_when_it_is_more_than_an_hour_off() {
        let check = |seconds: i64, says: Option<&str>| {
            let warning = clock_warning("Sør", seconds);
            assert_eq!(warning.is_some(), says.is_some(), "{seconds}");
            assert!(warning.unwrap_or_default().contains(says.unwrap_or_default()));
        };
        check(0, None);
        check(3_600, None);
        check(-3_599, None);
        check(259_200, Some("3 days ahead of"));
        check(-93_600, Some("1 day 2 hours behind"));
    }
}
