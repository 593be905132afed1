//! `config.toml` of a data directory: what an operator may set, with the reason beside every key.
//!
//! **Invariant:** the order is flag, environment, this file, default; the flags and the environment are applied by the
//! command line before anything else sees the value.
//! **Invariant:** a data directory of a newer format is never touched: [`Config::load`] refuses it before reading more.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::api::terms::parse_size;
use crate::api::types::{ErrorCode, ServiceError};
use crate::backup::BackupConfig;
use crate::directory::DirectoryConfig;
use crate::files;
use crate::introductions::IntroductionsConfig;
use crate::line::LineConfig;
use crate::metrics::listen::MetricsConfig;
use crate::net::Proxy;
use crate::relay::RelayConfig;
use crate::scan::ScanConfig;

/// Name of the file in the data directory.
pub const CONFIG_NAME: &str = "config.toml";
/// The format of data directories that this program writes and the newest that it reads.
pub const FORMAT: u32 = 1;
/// The word for a node that does not listen.
pub const LISTEN_NONE: &str = "none";
/// The port of a node when none is given.
pub const DEFAULT_PORT: u16 = 4100;
/// A configuration is a page of text.
const CONFIG_BYTES_MAX: u64 = 256 << 10;
/// Credentials are a line.
const CREDENTIALS_BYTES_MAX: u64 = 4 << 10;

/// The settings of one node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data directory; not in the file, filled in by [`Config::load`].
    #[serde(skip)]
    pub dir: PathBuf,
    /// Format of the data directory.
    pub format: u32,
    /// The entity's name in its card.
    pub name: String,
    /// The entity's registered number in its card.
    pub number: String,
    /// Address and port of the one inbound listener, or `none`.
    pub listen: String,
    /// Addresses that the card names, as `HOST:PORT`.
    #[serde(default)]
    pub advertise: Vec<String>,
    /// Ranges of private addresses that may be dialled in addition, as `ADDRESS/BITS`.
    #[serde(default)]
    pub allow_range: Vec<String>,
    /// Proxy that every dial goes through, as `http://HOST:PORT` or `socks5://HOST:PORT`.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Private file with the proxy's credentials, one line `USER:PASSWORD`.
    #[serde(default)]
    pub proxy_credentials_file: Option<PathBuf>,
    /// Where the passphrase of the keystore lies.
    #[serde(default)]
    pub passphrase_file: Option<PathBuf>,
    /// Where `init` wrote the recovery file; `doctor` complains while it lies in the data directory.
    #[serde(default)]
    pub recovery_file: Option<PathBuf>,
    /// Whether messages go only to counterparts whose fingerprint was compared.
    #[serde(default)]
    pub require_verified: bool,
    /// How many persons must approve what the root signs, 1 or 2; with 2 nothing is signed before two approvers are named.
    #[serde(default)]
    pub approvals: Option<u8>,
    /// A fixed number of bulk lanes per peer, 1 to 8; adapted by measurement without it.
    #[serde(default)]
    pub bulk_lanes: Option<u8>,
    /// What lies in the data directory.
    #[serde(default)]
    pub store: StoreConfig,
    /// Where the ledger of purges lies.
    #[serde(default)]
    pub backup: BackupConfig,
    /// How much of the line content may take.
    #[serde(default)]
    pub line: LineConfig,
    /// How much is forwarded between counterparts.
    #[serde(default)]
    pub relay: RelayConfig,
    /// Whether this node keeps a directory for its counterparts.
    #[serde(default)]
    pub directory: DirectoryConfig,
    /// What this node does with introductions.
    #[serde(default)]
    pub introductions: IntroductionsConfig,
    /// Which malware scanner content passes.
    #[serde(default)]
    pub scan: ScanConfig,
    /// The local API.
    #[serde(default)]
    pub api: ApiConfig,
    /// The listener for monitoring.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
}

/// Settings of what lies in the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// How much sent content is kept to be known when it is sent again, as a size; "0" for none.
    pub known_content: Option<String>,
}

/// Settings of the local API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// A Unix group that may use the socket, by name or number.
    pub group: Option<String>,
    /// The loopback TCP listener.
    pub tcp: ApiTcp,
}

/// Whether and where the loopback TCP listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ApiTcp {
    /// Off, or on at a port that the system picks.
    Enabled(bool),
    /// On at this port.
    Port(u16),
}

impl Default for ApiTcp {
    fn default() -> Self {
        Self::Enabled(false)
    }
}

/// Settings of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// Unix socket of the machine's syslog that gets every entry of the audit log.
    pub syslog: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Only the key that says whether the rest can be understood.
#[derive(Deserialize)]
struct FormatOnly {
    format: Option<u32>,
}

impl Config {
    /// Reads the configuration of the data directory `dir`.
    ///
    /// # Errors
    /// `not_found` when there is no data directory, `damaged` when it is of a newer format or not a configuration.
    pub fn load(dir: &Path) -> Result<Config, ServiceError> {
        let path = dir.join(CONFIG_NAME);
        if let Some(owner) = files::foreign_owner(dir).filter(|_| std::fs::read_dir(dir).is_err()) {
            let message = format!("{} belongs to another user (number {owner})", dir.display());
            return Err(ServiceError::new(ErrorCode::Failed, message, "run this as that user, or name another --dir"));
        }
        if !path.exists() {
            let message = format!("there is no node in {}", dir.display());
            let hint = "create one with `pakt init`, or name its folder with --dir or PAKT_DIR";
            return Err(ServiceError::new(ErrorCode::NotFound, message, hint));
        }
        let bytes = files::read_bounded(&path, CONFIG_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| broken(&path, "it is not text"))?;
        let mut config = Self::parse(&text, &path)?;
        config.dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Ok(config)
    }

    fn parse(text: &str, path: &Path) -> Result<Config, ServiceError> {
        let head: FormatOnly = toml::from_str(text).map_err(|e| broken(path, &toml_error(text, &e)))?;
        match head.format {
            None => return Err(broken(path, "it has no `format`")),
            Some(found) if found > FORMAT => {
                let message = format!(
                    "{} is of format {found}, this program knows formats up to {FORMAT}",
                    path.parent().unwrap_or(path).display()
                );
                return Err(ServiceError::new(ErrorCode::Damaged, message, "use the newer `pakt` that wrote it"));
            }
            Some(_) => {}
        }
        let config: Config = toml::from_str(text).map_err(|e| broken(path, &toml_error(text, &e)))?;
        if config.approvals.is_some_and(|count| !(1..=2).contains(&count)) {
            return Err(broken(path, "`approvals` is 1 or 2"));
        }
        if config.backup.ledger.as_ref().is_some_and(|ledger| !ledger.is_absolute()) {
            return Err(broken(path, "`ledger` in [backup] is an absolute path"));
        }
        if config.bulk_lanes.is_some_and(|lanes| !(1..=8).contains(&lanes)) {
            return Err(broken(path, "`bulk_lanes` is 1 to 8"));
        }
        if config.store.known_content.is_some() && config.known_content_bytes().is_none() {
            return Err(broken(path, "`known_content` is a size such as \"20GB\", or \"0\""));
        }
        if let Some(problem) = config.scan.problem() {
            return Err(broken(path, problem));
        }
        Ok(config)
    }

    /// The proxy with its credentials, if one is set.
    ///
    /// # Errors
    /// `damaged` for a URL that names none, or a file of credentials that holds none; `locked` for one that others read.
    pub fn dial_proxy(&self) -> Result<Option<Proxy>, ServiceError> {
        let wrong = |key: &str, why: &dyn std::fmt::Display| {
            ServiceError::new(ErrorCode::Damaged, format!("config.toml: `{key}`: {why}"), "correct that line or file")
        };
        let Some(url) = &self.proxy else { return Ok(None) };
        let proxy = Proxy::parse(url).map_err(|why| wrong("proxy", &why))?;
        let Some(file) = &self.proxy_credentials_file else { return Ok(Some(proxy)) };
        files::refuse_open_to_others(file)?;
        let bytes = Zeroizing::new(files::read_private(file, CREDENTIALS_BYTES_MAX)?);
        let text = std::str::from_utf8(&bytes).map_err(|why| wrong("proxy_credentials_file", &why))?;
        Ok(Some(proxy.with_credentials(text).map_err(|why| wrong("proxy_credentials_file", &why))?))
    }

    /// Writes `advertise` into the settings of the data directory `dir`, all else as it is, and gives them.
    ///
    /// # Errors
    /// Those of [`Config::load`], or when the file cannot be written.
    pub fn set_advertise(dir: &Path, addresses: &[String]) -> Result<Config, ServiceError> {
        let path = dir.join(CONFIG_NAME);
        let bytes = files::read_bounded(&path, CONFIG_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| broken(&path, "it is not text"))?;
        let changed = with_advertise(&text, addresses).map_err(|e| broken(&path, &toml_error(&text, &e)))?;
        Self::parse(&changed, &path)?;
        files::write_private(&path, changed.as_bytes())?;
        Self::load(dir)
    }

    /// Bytes of sent content to keep, if it is set.
    pub fn known_content_bytes(&self) -> Option<u64> {
        parse_size(self.store.known_content.as_deref()?)
    }

    /// Where the node listens, unless it only dials.
    ///
    /// # Errors
    /// `damaged` for a text that is neither an address nor `none`.
    pub fn listen_address(&self) -> Result<Option<SocketAddr>, ServiceError> {
        if self.listen == LISTEN_NONE {
            return Ok(None);
        }
        self.listen.parse().map(Some).map_err(|_| {
            let message = format!("config.toml: `listen`: {} cannot be used", self.listen);
            ServiceError::new(ErrorCode::Damaged, message, "write an IP address of this machine and a port, or none")
        })
    }

    /// The addresses that the card names: those of `advertise`, else the listen address if it is a specific one.
    pub fn card_addresses(&self) -> Vec<String> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        let host = self.listen.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
        let unspecified = host.is_empty() || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if unspecified { Vec::new() } else { vec![self.listen.clone()] }
    }

    /// The file that `init` writes, with every key explained.
    pub fn render(&self) -> String {
        let mut text = String::new();
        text.push_str("# Settings of this Pakt node. A change takes effect at the next start.\n");
        for (comment, key, value) in self.rows() {
            if !comment.is_empty() {
                let _ = writeln!(text, "\n# {comment}");
            }
            let _ = match value {
                Some(value) => writeln!(text, "{key} = {value}"),
                None => writeln!(text, "# {key} ="),
            };
        }
        text.push_str(CONFIG_TAIL);
        text
    }

    /// The keys above all tables: what each is for, its name and its value.
    fn rows(&self) -> [(&'static str, &'static str, Option<String>); 13] {
        let quoted = |value: &str| toml::Value::from(value).to_string();
        let list = |values: &[String]| toml::Value::from(values.to_vec()).to_string();
        let path = |value: &Option<PathBuf>| value.as_ref().map(|p| quoted(&p.display().to_string()));
        [
            ("Format of this data directory; never change it by hand.", "format", Some(self.format.to_string())),
            ("Name and registered number of the entity, as its card says them.", "name", Some(quoted(&self.name))),
            ("", "number", Some(quoted(&self.number))),
            (
                "Address and port of the one inbound listener; \"none\": this node only dials.",
                "listen",
                Some(quoted(&self.listen)),
            ),
            (
                "Addresses at which counterparts reach this node, as HOST:PORT. Empty: the listen address, if it is\n# a specific one. A node without any can only dial.",
                "advertise",
                Some(list(&self.advertise)),
            ),
            (
                "Private address ranges that may be dialled although this node is not in such a range itself.",
                "allow_range",
                Some(list(&self.allow_range)),
            ),
            (
                "Proxy for every dial: \"http://HOST:PORT\" (CONNECT) or \"socks5://HOST:PORT\". It resolves names.",
                "proxy",
                self.proxy.as_deref().map(quoted),
            ),
            (
                "Private file (mode 0600) with one line USER:PASSWORD for the proxy.",
                "proxy_credentials_file",
                path(&self.proxy_credentials_file),
            ),
            (
                "File with the passphrase of the keystore, as `pakt init` was told. `--passphrase-file` and a systemd\n# credential `pakt-passphrase` go before it. Keep that file off this disk, or it protects nothing.",
                "passphrase_file",
                path(&self.passphrase_file),
            ),
            (
                "Where `pakt init` wrote the recovery file. Move it off this machine and change or remove this line.",
                "recovery_file",
                path(&self.recovery_file),
            ),
            (
                "true: send only to counterparts whose fingerprint was compared.",
                "require_verified",
                Some(self.require_verified.to_string()),
            ),
            (
                "2: the root signs nothing before two approvers are named with `pakt approver add`, who then must both agree.",
                "approvals",
                self.approvals.map(|count| count.to_string()),
            ),
            (
                "A fixed number of bulk lanes per peer, 1 to 8. Without it the node measures and adapts.",
                "bulk_lanes",
                self.bulk_lanes.map(|lanes| lanes.to_string()),
            ),
        ]
    }
}

const CONFIG_TAIL: &str = r#"
[store]
# How much sent content is kept, sealed, so that what is sent again need not be sealed and sent again.
# Without it a tenth of the free space, at most 100 GB; "0" keeps none. It is given up when space is short.
# known_content = "20GB"

[backup]
# A file beside the backups, on another disk, that names what was purged since: restoring an older backup then brings
# nothing back. An absolute path. Whoever reads it learns how many purges there were, no more.
# ledger = "/mnt/backup/nord.purges"

[line]
# How much of the line content may take: "20Mbit/s", "2.5MB/s" or "none", for all counterparts together and for each.
# What is urgent counts, but does not wait.
# send = "none"
# receive = "none"
# send_per_peer = "none"
# receive_per_peer = "none"
# At certain hours, local time; the first entry that fits decides.
# schedule = [{ days = "mon-fri", from = "07:00", to = "18:00", send = "20Mbit/s" }]

[relay]
# Only for counterparts whose agreements say relay = true: how much this node forwards between two of them that cannot
# dial each other. The bytes are encrypted from end to end; both counterparts' quotas count.
# enabled = true
# circuits_per_peer = 16
# bytes_per_hour = "20GB"
# rate = "none"

[directory]
# true: this entity is a steward. Counterparts may have themselves listed here and may ask who is; nobody else may.
# steward = false

[introductions]
# Whether counterparts are introduced to each other here; without it a steward does, others do not.
# pass_on = false
# What is done with proposals and requests that come through an introducer: "ask" the operator, or "never" take any.
# receive = "ask"
# Who gets this entity's card without the operator being asked: "listed" (who asks through a steward at which this
# entity is listed), "always" or "ask" (nobody).
# card = "listed"

[scan]
# The malware scanner: the path of clamd's socket, or a loopback address such as "127.0.0.1:3310". Where an agreement
# demands "malware-scan", what arrives is shown to nobody before this scanner has passed it.
# clamd = "/run/clamav/clamd.ctl"
# true: scan what arrives under every agreement.
# all = false
# true: scan what is sent, too, before anything of it leaves.
# outgoing = false
# Signatures that are older show nothing; "undated" for lists of your own, which carry no date.
# signatures_max_age = "7d"

[api]
# Unix group that may use the API socket besides this user.
# group = "pakt"
# Loopback listener for browsers and integrations: false, true (a port that the system picks) or a port.
# The token that it asks for is in `api.token`.
# tcp = false

[metrics]
# Listener for monitoring: /metrics (OpenMetrics), /livez and /readyz. false, true (127.0.0.1:4180), a port on loopback,
# or an address of this machine such as "10.0.0.5:4180". Whoever reaches it reads counts, never names.
# listen = false

[log]
# text or json, on stderr.
# format = "text"
# Unix socket of this machine's syslog: every entry of the audit log goes there as a line of RFC 5424. It holds ids only.
# syslog = "/dev/log"
"#;

/// The text of a configuration with another `advertise`.
fn with_advertise(text: &str, addresses: &[String]) -> Result<String, toml::de::Error> {
    #[derive(Deserialize)]
    struct AdvertiseOnly {
        advertise: Option<toml::Spanned<Vec<String>>>,
    }
    let value = toml::Value::from(addresses.to_vec()).to_string();
    let found: AdvertiseOnly = toml::from_str(text)?;
    Ok(match found.advertise {
        Some(written) => {
            let span = written.span();
            format!("{}{value}{}", &text[..span.start], &text[span.end..])
        }
        // Before everything else, as keys that stand behind a section belong to it.
        None => format!("advertise = {value}\n{text}"),
    })
}

/// An error in TOML as one sentence: the line, what stands there, what is wrong.
pub(crate) fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let Some(start) = error.span().map(|span| span.start.min(text.len())) else { return error.message().to_owned() };
    let number = text.bytes().take(start).filter(|byte| *byte == b'\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    format!("line {} (`{line}`): {}", number + 1, error.message())
}

fn broken(path: &Path, why: &str) -> ServiceError {
    let message = format!("{} cannot be used: {why}", path.display());
    ServiceError::new(ErrorCode::Damaged, message, "correct that line, or restore the file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Config {
        Config {
            dir: PathBuf::new(),
            format: FORMAT,
            name: "Sykehuset \"Nord\"".into(),
            number: "NO:ORGNR:999000101".into(),
            listen: "0.0.0.0:4100".into(),
            advertise: vec!["nord.example:4100".into()],
            allow_range: vec!["10.0.0.0/8".into()],
            proxy: Some("socks5://[::1]:1080".into()),
            proxy_credentials_file: None,
            passphrase_file: Some("/etc/pakt/passphrase".into()),
            recovery_file: None,
            require_verified: false,
            approvals: None,
            bulk_lanes: None,
            store: StoreConfig::default(),
            backup: Default::default(),
            line: LineConfig::default(),
            relay: RelayConfig::default(),
            directory: DirectoryConfig::default(),
            introductions: IntroductionsConfig::default(),
            metrics: MetricsConfig::default(),
            scan: ScanConfig::default(),
            api: ApiConfig::default(),
            log: LogConfig::default(),
        }
    }

    #[test]
    fn what_init_writes_is_what_load_reads() {
        let config = sample();
        assert_eq!(Config::parse(&config.render(), Path::new("d/config.toml")).unwrap(), config);
    }

    #[test]
    fn other_addresses_change_nothing_else() {
        let text = sample().render().replace("advertise = [", "advertise = [ # ours\n  ");
        let check = |text: &str, addresses: &[&str]| {
            let addresses: Vec<String> = addresses.iter().map(|a| (*a).to_owned()).collect();
            let changed = with_advertise(text, &addresses).unwrap();
            let read = Config::parse(&changed, Path::new("d/c")).unwrap();
            assert_eq!(read, Config { advertise: addresses, ..sample() });
            assert!(changed.contains("# Name and registered number"));
        };
        check(&text, &["[::1]:1", "a.example:2"]);
        check(&text, &[]);
        let start = text.find("advertise =").unwrap();
        let end = start + text[start..].find("]").unwrap() + 1;
        check(&format!("{}{}", &text[..start], &text[end..]), &["b.example:3"]);
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        let check = |edit: &dyn Fn(String) -> String, says: &str| {
            let error = Config::parse(&edit(sample().render()), Path::new("d/config.toml")).unwrap_err();
            assert_eq!(error.code, ErrorCode::Damaged);
            assert!(error.message.contains(says), "{}", error.message);
        };
        check(&|text| text.replace("format = 1", "format = 2"), "format 2");
        check(&|text| text.replace("format = 1", "format = 2\nnew_key = 7"), "format 2");
        check(&|text| text.replace("format = 1\n", "\n"), "no `format`");
        check(&|text| text.replace("listen =", "lisen ="), "lisen");
        check(&|text| text.replace("# bulk_lanes =", "bulk_lanes = 9"), "1 to 8");
        check(&|text| text.replace("# send = \"none\"", "send = \"20Mbit\""), "20Mbit/s");
        check(&|_| "\u{0}".into(), "cannot be used");
    }

    #[test]
    fn the_api_listener_is_off_unless_asked_for() {
        let check = |line: &str, tcp: ApiTcp| {
            let text = sample().render().replace("# tcp = false", line);
            assert_eq!(Config::parse(&text, Path::new("d/c")).unwrap().api.tcp, tcp);
        };
        check("", ApiTcp::Enabled(false));
        check("tcp = true", ApiTcp::Enabled(true));
        check("tcp = 8123", ApiTcp::Port(8123));
    }

    #[test]
    fn how_much_content_is_kept_is_a_size() {
        let check = |line: &str, bytes: Option<Option<u64>>| {
            let text = sample().render().replace("# known_content = \"20GB\"", line);
            let config = Config::parse(&text, Path::new("d/c"));
            assert_eq!(config.ok().map(|config| config.known_content_bytes()), bytes, "{line}");
        };
        check("", Some(None));
        check("known_content = \"20GB\"", Some(Some(20_000_000_000)));
        check("known_content = \"0\"", Some(Some(0)));
        check("known_content = \"much\"", None);
    }

    #[test]
    fn a_card_names_only_addresses_that_can_be_dialled() {
        let check = |listen: &str, advertise: &[&str], expected: &[&str]| {
            let mut config = sample();
            config.listen = listen.into();
            config.advertise = advertise.iter().map(|a| (*a).to_owned()).collect();
            assert_eq!(config.card_addresses(), expected, "{listen}");
        };
        check("0.0.0.0:4100", &[], &[]);
        check("[::]:4100", &[], &[]);
        check("127.0.0.1:4100", &[], &["127.0.0.1:4100"]);
        check("[fd00::1]:4100", &[], &["[fd00::1]:4100"]);
        check("0.0.0.0:4100", &["a.example:1"], &["a.example:1"]);
    }
}
