//! Where a node can be dialled: a host and a port, as text.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host (DNS name, IPv4 or bracketed IPv6 address) and a TCP port: `node.clinic.example:4100`, `[2001:db8::1]:4100`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: String,
}

/// A text that is not `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address: write HOST:PORT with a DNS name, an IPv4 address or a bracketed IPv6 address")]
pub struct AddressError;

/// Bytes of an address: the longest DNS name and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;
/// Addresses that a card may name.
pub const ADDRESSES_MAX: usize = 8;

impl Address {
    /// The host without brackets.
    pub fn host(&self) -> &str {
        let host = self.text.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The TCP port, never 0.
    pub fn port(&self) -> u16 {
        self.text.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
    }

    /// The IP address, if the host is one and not a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let number: u16 = port.parse().map_err(|_| AddressError)?;
        let canonical_port = number != 0 && port == number.to_string();
        let host_fits = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_name_or_v4(host),
        };
        if !canonical_port || !host_fits || text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError);
        }
        Ok(Address { text: text.to_owned() })
    }
}

fn is_name_or_v4(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        for good in ["a:1", "node.clinic.example:4100", "127.0.0.1:65535", "[::1]:4100", "[2001:db8::1]:1"] {
            let address: Address = good.parse().expect(good);
            assert_eq!(address.to_string(), good);
        }
        for bad in ["", "a", "a:", ":1", "a:0", "a:01", "a:65536", "::1:5", "[::1]", "a b:1", "a/b:1", "-a:1", "[a]:1"]
        {
            assert_eq!(bad.parse::<Address>(), Err(AddressError), "{bad}");
        }
    }
}
