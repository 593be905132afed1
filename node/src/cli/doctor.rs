//! `pakt doctor`: what is wrong with this node, and what to do about each finding.
//!
//! Works without a running node; with one it also looks at peers and agreements.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use pakt_protocol::time::Time;

use super::Exit;
use super::args::DoctorArgs;
use super::client::Client;
use super::output::{Output, moment, safe, size, span, table};
use super::records;
use crate::api::types::*;
use crate::config::{CONFIG_NAME, Config, LISTEN_NONE};
use crate::service::root_place;
use crate::{ambient, files, setup};

/// Below this a node refuses large messages before anything else helps.
const FREE_BYTES_MIN: u64 = 5_000_000_000;
/// An agreement that ends sooner than this needs somebody's attention.
const AGREEMENT_ENDS_SOON: Duration = Duration::from_secs(30 * 86400);
/// How long a proxy may take to accept a connection, and how many of its addresses are tried.
const PROXY_CONNECT: Duration = Duration::from_secs(3);
const PROXY_ADDRESSES_MAX: usize = 4;
/// Clocks further apart than this are named.
const CLOCK_DIFFERENCE_S_MAX: u64 = 60;
/// A backup older than this is not what anyone wants to go back to.
const BACKUP_AGE_MAX: Duration = Duration::from_secs(7 * 86400);
/// No clock of a machine that runs this program is right before this: 2026-01-01.
const CLOCK_US_MIN: u64 = 1_767_225_600_000_000;

/// Checks everything; exit 1 when something was found.
///
/// # Errors
/// When there is no data directory or its settings cannot be read.
pub async fn doctor(client: &Client, dir: &Path, output: Output, args: &DoctorArgs) -> Result<Exit, ServiceError> {
    let config = Config::load(dir)?;
    let status: Result<Status, _> = client.get("/v1/status").await;
    let mut findings = Findings::default();
    findings.clock();
    findings.disk(&config);
    findings.permissions(&config);
    findings.recovery(&config);
    findings.keystore(&config, args.passphrase_file.as_deref(), status.is_ok());
    findings.card(&config);
    findings.listen(&config, status.is_ok());
    findings.proxy(&config);
    match status {
        Ok(status) => findings.online(client, &status).await,
        Err(error) if error.code == ErrorCode::NotRunning => {
            let finding = "it does not run; peers, agreements and the audit log were not looked at";
            findings.fine("node", finding.into());
        }
        Err(error) => findings.bad("node", error.message, error.hint),
    }
    let all_fine = findings.0.iter().all(|finding| finding.ok);
    output.result(&findings.0, |findings| text(findings));
    Ok(if all_fine { Exit::DONE } else { Exit(ErrorCode::Failed.exit_code()) })
}

fn text(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let mark = if finding.ok { "ok" } else { "!!" };
        let remedy = if finding.remedy.is_empty() { String::new() } else { format!("\n-> {}", safe(&finding.remedy)) };
        vec![mark.to_owned(), finding.check.clone(), format!("{}{remedy}", safe(&finding.finding))]
    };
    table(&["", "CHECK", "FINDING"], findings.iter().map(row).collect())
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn fine(&mut self, check: &str, finding: String) {
        self.0.push(Finding { check: check.into(), ok: true, finding, remedy: String::new() });
    }

    fn bad(&mut self, check: &str, finding: String, remedy: impl Into<String>) {
        self.0.push(Finding { check: check.into(), ok: false, finding, remedy: remedy.into() });
    }

    fn clock(&mut self) {
        let now = ambient::now();
        if now.0 < CLOCK_US_MIN {
            self.bad("clock", format!("the clock says {}", moment(&time_text(now))), "set it, and keep it with NTP");
        } else {
            self.fine("clock", moment(&time_text(now)));
        }
    }

    fn disk(&mut self, config: &Config) {
        match rustix::fs::statvfs(&config.dir) {
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                let finding = format!("{} free for {}", size(free), config.dir.display());
                if free < FREE_BYTES_MIN {
                    self.bad("disk", finding, "make room: large messages are refused before they start");
                } else {
                    self.fine("disk", finding);
                }
            }
            Err(e) => self.bad("disk", format!("{}: {e}", config.dir.display()), "check the disk"),
        }
    }

    fn permissions(&mut self, config: &Config) {
        let dir_mask = if config.api.group.is_some() { 0o067 } else { 0o077 };
        let keys = config.dir.join(setup::KEYS_NAME);
        let mut paths = vec![
            (config.dir.clone(), dir_mask),
            (keys.clone(), 0o077),
            (keys.join(setup::KEYSTORE_NAME), 0o077),
            (keys.join("slots"), 0o077),
            (config.dir.join(CONFIG_NAME), 0o022),
            (config.dir.join("pakt.redb"), 0o077),
            (config.dir.join(crate::api::listen::TOKEN_NAME), 0o077),
        ];
        paths.extend(config.passphrase_file.clone().map(|file| (file, 0o077)));
        let open = |(path, mask): &(std::path::PathBuf, u32)| {
            files::open_to_others(path).filter(|mode| mode & mask != 0).map(|mode| (path.clone(), mode))
        };
        let before = self.0.len();
        for (path, mode) in paths.iter().filter_map(open) {
            let finding = format!("{} is open to others (mode {mode:o})", path.display());
            let wanted = if path.is_dir() { "700" } else { "600" };
            self.bad("permissions", finding, format!("chmod {wanted} {}", path.display()));
        }
        if self.0.len() == before {
            self.fine("permissions", "keys and data are private".into());
        }
    }

    fn recovery(&mut self, config: &Config) {
        let inside = config.dir.join(setup::RECOVERY_NAME);
        let named = config.recovery_file.iter().cloned().chain([inside]);
        let found = named.into_iter().find(|file| file.starts_with(&config.dir) && file.exists());
        match found {
            Some(file) => {
                let finding =
                    format!("the recovery file lies beside the keys that it must survive: {}", file.display());
                self.bad("recovery", finding, "move it to a safe on another machine or medium");
            }
            None => self.fine("recovery", "no recovery file lies in the data directory".into()),
        }
    }

    fn keystore(&mut self, config: &Config, passphrase: Option<&Path>, running: bool) {
        match setup::is_unprotected(config) {
            Ok(true) => {
                if let Ok(keys) = setup::unlock(config, None) {
                    self.root(root_place(keys.root.as_ref()), config);
                }
                let finding = "unprotected: the keys lie on disk without a passphrase".into();
                self.bad(
                    "keystore",
                    finding,
                    "whoever reads this disk is this entity; stop the node, then `pakt keystore passphrase`",
                );
            }
            Ok(false) if running && matches!(setup::passphrase(config, passphrase), Ok(None)) => {
                self.fine("keystore", "protected; the running node was given the passphrase".into());
            }
            Ok(false) => match setup::unlock(config, passphrase) {
                Ok(keys) => {
                    self.fine("keystore", "protected, and the passphrase opens it".into());
                    self.root(root_place(keys.root.as_ref()), config);
                }
                Err(error) => self.bad_unless_known("keystore", error),
            },
            Err(error) => self.bad_unless_known("keystore", error),
        }
    }

    fn root(&mut self, place: RootPlace, config: &Config) {
        let finding = match place {
            RootPlace::Elsewhere => "it is kept elsewhere",
            RootPlace::Approved => "it lies in the keystore, and two approvers must open it",
            RootPlace::Here if config.approvals == Some(2) => {
                let finding = "the settings demand two approvals, but fewer than two approvers are named".into();
                return self.bad("root", finding, "nothing can be signed: name them with `pakt approver add`");
            }
            RootPlace::Here => "it lies in the keystore, and opens with it",
        };
        self.fine("root", finding.into());
    }

    /// A finding that another check has not made already: open files are found by more than one.
    fn bad_unless_known(&mut self, check: &str, error: ServiceError) {
        let known =
            |finding: &Finding| !finding.ok && !finding.remedy.is_empty() && error.hint.ends_with(&finding.remedy);
        if !self.0.iter().any(known) {
            self.bad(check, error.message, error.hint);
        }
    }

    fn card(&mut self, config: &Config) {
        match records::read_card(&config.dir.join(setup::CARD_NAME)) {
            Ok(card) if card.body.addresses.is_empty() => {
                let finding = "it names no address: counterparts cannot dial this node, it can only dial them".into();
                self.bad(
                    "card",
                    finding,
                    "fine behind a firewall; else name one in config.toml: advertise = [\"HOST:PORT\"]",
                );
            }
            Ok(card) => {
                let addresses: Vec<_> = card.body.addresses.iter().map(|address| address.as_str()).collect();
                self.fine("card", format!("counterparts dial {}", addresses.join(", ")));
            }
            Err(error) => self.bad("card", error.message, error.hint),
        }
    }

    fn listen(&mut self, config: &Config, running: bool) {
        if config.listen == LISTEN_NONE {
            return self.fine("listen", "this node does not listen, it only dials".into());
        }
        if running {
            self.fine("listen", format!("the node listens on {}", config.listen));
            return;
        }
        match TcpListener::bind(&config.listen) {
            Ok(_) => self.fine("listen", format!("{} is free", config.listen)),
            Err(e) => {
                let remedy = "stop what listens there, or change `listen` in config.toml";
                self.bad("listen", format!("cannot listen on {}: {e}", config.listen), remedy);
            }
        }
    }

    fn proxy(&mut self, config: &Config) {
        let proxy = match config.dial_proxy() {
            Ok(Some(proxy)) => proxy,
            Ok(None) => return,
            Err(error) => return self.bad("proxy", error.message, error.hint),
        };
        let addresses = proxy.host_and_port().to_socket_addrs().into_iter().flatten().take(PROXY_ADDRESSES_MAX);
        let connects = |address: &SocketAddr| TcpStream::connect_timeout(address, PROXY_CONNECT).is_ok();
        match addresses.into_iter().any(|address| connects(&address)) {
            true => self.fine("proxy", format!("every dial goes through {proxy}, which accepts connections")),
            false => self.bad(
                "proxy",
                format!("{proxy} cannot be reached"),
                "correct `proxy` in config.toml, or ask who runs it",
            ),
        }
    }

    async fn online(&mut self, client: &Client, status: &Status) {
        self.fine("node", format!("running for {}", span(Duration::from_secs(status.uptime_s))));
        // What is wrong with this node's own log has its own finding below.
        let is_below = |alarm: &&str| status.log.fault.as_ref().is_some_and(|fault| alarm.contains(fault));
        let alarms = status.warnings.iter().filter_map(|warning| warning.strip_prefix("ALARM: "));
        for alarm in alarms.filter(|alarm| !is_below(alarm)) {
            self.bad("alarm", alarm.to_owned(), "do what it says; `pakt status` names it until then");
        }
        self.backup(status.last_backup.as_ref());
        self.audit_log(&status.log);
        self.scanner(status);
        match client.get::<Vec<Peer>>("/v1/peers").await {
            Ok(peers) => peers.iter().for_each(|peer| self.peer(peer)),
            Err(error) => self.bad("peers", error.message, error.hint),
        }
        match client.get::<Vec<AgreementSummary>>("/v1/agreements").await {
            Ok(agreements) => agreements.iter().for_each(|agreement| self.agreement(agreement)),
            Err(error) => self.bad("agreements", error.message, error.hint),
        }
    }

    fn backup(&mut self, last: Option<&KeptBackup>) {
        const REMEDY: &str = "pakt backup create FILE, on another disk; every day by a timer";
        let Some(last) = last else {
            self.bad("backup", "there is no backup of this node".into(), REMEDY);
            return;
        };
        let made = last.made_at.parse::<jiff::Timestamp>().map(|at| at.as_microsecond());
        let made = made.ok().and_then(|at| u64::try_from(at).ok()).unwrap_or_default();
        let age = ambient::now().since(Time(made));
        let finding = format!("the last backup is of {}, {} ago", moment(&last.made_at), span(age));
        if age > BACKUP_AGE_MAX {
            self.bad("backup", finding, REMEDY);
        } else {
            self.fine("backup", finding);
        }
    }

    fn audit_log(&mut self, log: &LogStatus) {
        let entries = log.entries;
        match (&log.fault, &log.unread, &log.verified_at) {
            (Some(fault), ..) => {
                let remedy =
                    "keep this data directory as it is, and compare with heads of counterparts: pakt log verify --head";
                self.bad("audit log", format!("it is not what it was: {fault}"), remedy);
            }
            (None, Some(why), _) => {
                let remedy = "check the disk, then pakt log verify; the node tries again every hour";
                self.bad("audit log", format!("it could not be read to its end: {why}"), remedy);
            }
            (None, None, Some(at)) => {
                self.fine("audit log", format!("{entries} entries; all were as written at {}", moment(at)));
            }
            (None, None, None) => self.fine("audit log", format!("{entries} entries; not read since the start yet")),
        }
    }

    fn scanner(&mut self, status: &Status) {
        if let Some(ScannerStatus { at, fit, says }) = &status.scanner {
            match fit {
                true => self.fine("scanner", format!("{at}: {says}")),
                false => self.bad(
                    "scanner",
                    format!("the malware scanner at {at} cannot be used: {says}"),
                    "see to clamd; what waits for it is kept, and shown to nobody meanwhile",
                ),
            }
        }
        if status.quarantined > 0 {
            let finding = format!("{} in quarantine", status.quarantined);
            self.bad("quarantine", finding, "see `pakt quarantine list`; delete them, or release what is harmless");
        }
    }

    fn peer(&mut self, peer: &Peer) {
        let contact = match &peer.last_contact {
            Some(at) => format!("last contact {}", moment(at)),
            None => "never reached yet".into(),
        };
        if peer.online {
            self.fine("peer", format!("{} is online", peer.name));
        } else if peer.agreement.state == AgreementState::Active {
            let reason = peer.reason.as_deref().unwrap_or("no reason is known");
            let finding = format!("{} is not online: {reason}; {contact}", peer.name);
            self.bad("peer", finding, "ask its operator whether the node runs; check both firewalls and the address");
        }
        for ignored in &peer.addresses_ignored {
            let remedy = "if it is right, allow its range: allow_range in config.toml";
            self.bad("peer", format!("{}: not dialled: {ignored}", peer.name), remedy);
        }
        if !peer.controls_lacking.is_empty() {
            let finding = format!(
                "the agreement with {} asks this node for {}, which it cannot attest: nothing is sent to it",
                peer.name,
                peer.controls_lacking.join(" and ")
            );
            self.bad("controls", finding, "set the control up, or agree on terms without it");
        }
        if let Some(why) = &peer.holding {
            let finding = format!("what is queued for {} waits: {why}", peer.name);
            self.bad("controls", finding, "ask its operator; it goes by itself once that is so");
        }
        if let Some(difference) = peer.clock_difference_s.filter(|s| s.unsigned_abs() > CLOCK_DIFFERENCE_S_MAX) {
            let apart = span(Duration::from_secs(difference.unsigned_abs()));
            let finding = format!("the clocks of this node and of {} are {apart} apart", peer.name);
            self.bad("clock", finding, "keep both with NTP; delivery goes on meanwhile");
        }
    }

    fn agreement(&mut self, agreement: &AgreementSummary) {
        if agreement.state != AgreementState::Active {
            return;
        }
        if !agreement.verified {
            let finding = format!("the fingerprint of {} was never compared", agreement.name);
            let remedy = format!("read it to each other over the telephone: {}", agreement.fingerprint);
            self.bad("agreement", finding, remedy);
        }
        let ends_soon = agreement.valid_until.parse::<jiff::Timestamp>().is_ok_and(|until| {
            let soon = ambient::now() + AGREEMENT_ENDS_SOON;
            u64::try_from(until.as_microsecond()).is_ok_and(|until| until < soon.0)
        });
        if ends_soon {
            let finding = format!("the agreement with {} ends {}", agreement.name, moment(&agreement.valid_until));
            self.bad("agreement", finding, "propose the next one before that");
        } else if agreement.verified {
            self.fine("agreement", format!("with {}, until {}", agreement.name, moment(&agreement.valid_until)));
        }
    }
}
