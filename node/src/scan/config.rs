//! `[scan]` of `config.toml`: which scanner content passes, and which content.
//!
//! **Invariant:** nothing that stands here is evidence of anything; that is what the running scanner shows (`probe`).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Signatures are older than this only where nobody fetches new ones.
const SIGNATURES_AGE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// What an operator set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScanConfig {
    /// Where clamd listens; without it nothing is scanned.
    pub clamd: Option<Endpoint>,
    /// Whether what arrives is scanned where no agreement demands it, too.
    pub all: bool,
    /// Whether what is sent is scanned before anything of it leaves.
    pub outgoing: bool,
    /// How old the scanner's signatures may be.
    pub signatures_max_age: SignaturesAge,
}

impl ScanConfig {
    /// What is wrong with these settings together, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        let wants = self.all || self.outgoing;
        (wants && self.clamd.is_none()).then_some("`[scan]`: `all` and `outgoing` need `clamd`, the scanner's address")
    }
}

/// Where a scanner listens: on this machine, for content goes there as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "{address}"),
        }
    }
}

impl Endpoint {
    fn parse(text: &str) -> Option<Endpoint> {
        if text.starts_with('/') {
            return Some(Endpoint::Unix(text.into()));
        }
        let address: SocketAddr = text.parse().ok()?;
        address.ip().is_loopback().then_some(Endpoint::Tcp(address))
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Endpoint, D::Error> {
        let text = String::deserialize(from)?;
        Endpoint::parse(&text).ok_or_else(|| {
            de::Error::custom("`clamd` is the path of its socket, or a loopback address such as \"127.0.0.1:3310\"")
        })
    }
}

/// The most that signatures may age; without a number they need not even carry a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignaturesAge(pub Option<Duration>);

impl Default for SignaturesAge {
    fn default() -> SignaturesAge {
        SignaturesAge(Some(SIGNATURES_AGE_MAX))
    }
}

impl<'de> Deserialize<'de> for SignaturesAge {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SignaturesAge, D::Error> {
        let text = String::deserialize(from)?;
        let age = match text.as_str() {
            "undated" => Some(None),
            text => humantime::parse_duration(text).ok().filter(|age| !age.is_zero()).map(Some),
        };
        age.map(SignaturesAge).ok_or_else(|| {
            de::Error::custom("`signatures_max_age` is a span such as \"7d\", or \"undated\" for lists of your own")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scanner_is_on_this_machine() {
        let read = |text: &str| toml::from_str::<ScanConfig>(text).map_err(|error| error.message().to_owned());
        assert_eq!(read("").unwrap(), ScanConfig::default());
        let socket = read("clamd = \"/run/clamav/clamd.ctl\"\nall = true").unwrap();
        assert_eq!(
            (socket.clamd.clone(), socket.problem()),
            (Some(Endpoint::Unix("/run/clamav/clamd.ctl".into())), None)
        );
        let tcp = read("clamd = \"[::1]:3310\"\nsignatures_max_age = \"36h\"").unwrap();
        assert_eq!(tcp.signatures_max_age, SignaturesAge(Some(Duration::from_secs(36 * 3_600))));
        assert_eq!(read("signatures_max_age = \"undated\"").unwrap().signatures_max_age, SignaturesAge(None));
        for wrong in ["clamd = \"10.0.0.1:3310\"", "clamd = \"clamd\"", "clamd = \"0.0.0.0:3310\""] {
            assert!(read(wrong).unwrap_err().contains("loopback"), "{wrong}");
        }
        for wrong in ["signatures_max_age = \"0s\"", "signatures_max_age = \"old\""] {
            assert!(read(wrong).unwrap_err().contains("undated"), "{wrong}");
        }
        assert!(read("outgoing = true").unwrap().problem().is_some());
        assert!(read("incoming = true").is_err());
    }
}
