//! `[relay]` of `config.toml`: how much this node forwards between counterparts whose agreements say `relay`.
//!
//! **Invariant:** without such an agreement nothing is forwarded, whatever stands here.

use serde::{Deserialize, Deserializer, de};

use crate::api::terms::parse_size;
use crate::line::Limit;

/// What an operator set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Whether this node forwards at all.
    pub enabled: bool,
    /// Connections of one counterpart that are forwarded at the same time.
    pub circuits_per_peer: u16,
    /// Bytes of one counterpart in an hour, both directions together.
    #[serde(deserialize_with = "size")]
    pub bytes_per_hour: u64,
    /// Bytes of one counterpart in a second, both directions together.
    pub rate: Limit,
}

impl Default for RelayConfig {
    /// Enough for a few studies an hour, and little enough that forwarding cannot fill a line for long.
    fn default() -> RelayConfig {
        RelayConfig { enabled: true, circuits_per_peer: 16, bytes_per_hour: 20_000_000_000, rate: Limit(None) }
    }
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    parse_size(&text).ok_or_else(|| de::Error::custom("`bytes_per_hour` is a size such as \"20GB\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_has_its_default() {
        let check = |text: &str, expected: Option<RelayConfig>| {
            assert_eq!(toml::from_str(text).ok(), expected, "{text}");
        };
        check("", Some(RelayConfig::default()));
        check("enabled = false", Some(RelayConfig { enabled: false, ..RelayConfig::default() }));
        let limited = RelayConfig {
            circuits_per_peer: 2,
            bytes_per_hour: 1_000_000,
            rate: Limit(Some(1_000_000)),
            ..RelayConfig::default()
        };
        check("circuits_per_peer = 2\nbytes_per_hour = \"1MB\"\nrate = \"8Mbit/s\"", Some(limited));
        check("bytes_per_hour = \"much\"", None);
        check("circuits = 2", None);
    }
}
