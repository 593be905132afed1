//! Addresses as cards carry them, and which of them this node dials.
//!
//! **Invariant:** a counterpart cannot make this node connect into its own machine or network: loopback, link-local and
//! private ranges are dialled only by a node that itself lives in such a range, or where the operator allowed it. The
//! rule is applied to the resolved address of each connection, so that a host name is no way around it.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// The reach of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This machine only.
    Loopback,
    /// This network segment only.
    LinkLocal,
    /// Some organisation's network.
    Private,
    /// The internet.
    Public,
    /// Nothing that can be dialled: unspecified, multicast, broadcast.
    None,
}

impl Reach {
    /// The reach of `ip`; an IPv4 address in IPv6 clothes is an IPv4 address.
    pub fn of(ip: IpAddr) -> Reach {
        match ip.to_canonical() {
            ip if ip.is_unspecified() || ip.is_multicast() => Reach::None,
            ip if ip.is_loopback() => Reach::Loopback,
            IpAddr::V4(ip) => match ip.octets() {
                [255, 255, 255, 255] | [0, ..] => Reach::None,
                [169, 254, ..] => Reach::LinkLocal,
                [100, 64..128, ..] => Reach::Private,
                _ if ip.is_private() => Reach::Private,
                _ => Reach::Public,
            },
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Reach::LinkLocal,
            IpAddr::V6(ip) if ip.is_unique_local() => Reach::Private,
            IpAddr::V6(ip) if ip.segments()[..3] == [0x64, 0xff9b, 1] => of_own_translator(ip),
            IpAddr::V6(ip) => match embedded(ip) {
                Some(inner) => Reach::of(inner),
                None => Reach::Public,
            },
        }
    }
}

/// The reach of an address in 64:ff9b:1::/48 (RFC 8215): it belongs to a translator of one's own network, which may lead
/// anywhere in there. Where the IPv4 address stands depends on its prefix (RFC 6052, section 2.2): each place counts.
fn of_own_translator(ip: Ipv6Addr) -> Reach {
    let bytes = ip.octets();
    let places = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
    let inner = places.map(|place| Reach::of(IpAddr::V4(place.map(|at| bytes[at]).into())));
    let of_this_kind = |reach: &Reach| matches!(reach, Reach::Loopback | Reach::LinkLocal);
    inner.into_iter().find(of_this_kind).unwrap_or(Reach::Private)
}

/// The IPv4 address that a translator or tunnel would make of an IPv6 address: 64:ff9b::/96, 2002::/16 and ::/96.
fn embedded(ip: Ipv6Addr) -> Option<IpAddr> {
    let bits = match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => [high, low],
        [0x2002, high, low, ..] => [high, low],
        _ => return None,
    };
    Some(IpAddr::V4((u32::from(bits[0]) << 16 | u32::from(bits[1])).into()))
}

/// A range of addresses in the form `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    ip: IpAddr,
    prefix: u32,
}

/// A text that is not a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a range of addresses such as 10.0.0.0/8 or fd00::/8")]
pub struct RangeError;

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<AddressRange, RangeError> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix.parse().map_err(|_| RangeError)?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| RangeError)?;
        let bits = bits_of(ip);
        let prefix = prefix.unwrap_or(bits);
        match prefix <= bits {
            true => Ok(AddressRange { ip, prefix }),
            false => Err(RangeError),
        }
    }
}

impl AddressRange {
    /// Whether `ip` lies in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let bits = bits_of(ip);
        let differing = number_of(ip) ^ number_of(self.ip);
        bits == bits_of(self.ip) && differing.checked_shr(bits - self.prefix).unwrap_or(0) == 0
    }
}

fn bits_of(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn number_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// Which addresses this node dials.
#[derive(Debug, Clone, Default)]
pub struct DialRules {
    /// The listen and advertised addresses of this node itself.
    pub own: Vec<IpAddr>,
    /// What the operator allowed besides.
    pub allowed: Vec<AddressRange>,
}

impl DialRules {
    /// Whether `ip` may be dialled.
    pub fn permit(&self, ip: IpAddr) -> bool {
        match Reach::of(ip) {
            Reach::None => false,
            Reach::Public => true,
            reach => {
                self.own.iter().any(|own| Reach::of(*own) == reach)
                    || self.allowed.iter().any(|range| range.contains(ip))
            }
        }
    }
}

/// The rules that hold now; clones share them.
#[derive(Debug, Clone, Default)]
pub struct SharedRules(Arc<RwLock<DialRules>>);

impl SharedRules {
    /// Whether `ip` may be dialled.
    pub fn permit(&self, ip: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).permit(ip)
    }

    /// Other rules from the next dial on.
    pub fn replace(&self, rules: DialRules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }
}

impl From<DialRules> for SharedRules {
    fn from(rules: DialRules) -> SharedRules {
        SharedRules(Arc::new(RwLock::new(rules)))
    }
}

/// The address in a text of the form `host:port`, `1.2.3.4:port` or `[2001:db8::1]:port`.
pub(super) fn parse(text: &str) -> Option<Multiaddr> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => Protocol::Ip6(v6.parse().ok()?),
        None => match host.parse() {
            Ok(v4) => Protocol::Ip4(v4),
            Err(_) if is_host_name(host) => Protocol::Dns(host.to_owned().into()),
            Err(_) => return None,
        },
    };
    Some(Multiaddr::from(host).with(Protocol::Tcp(port)))
}

fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

/// Whether a name belongs to no public zone: a single word, or one of the suffixes set aside for networks of one's own.
///
/// Only where a proxy resolves names is this all that can be known.
pub(super) fn is_internal(name: &str) -> bool {
    const SUFFIXES: [&str; 8] = ["localhost", "local", "internal", "intranet", "lan", "corp", "home", "home.arpa"];
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    // What ends in a number is an address in one of the old notations, 127.1 or 0x7f.1, which a resolver would take.
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
    is_number || !name.contains('.') || SUFFIXES.iter().any(|suffix| name.ends_with(&format!(".{suffix}")))
}

/// Whether a text is an address that can be put on a card: `host:port`, an IPv6 host in brackets.
pub fn is_address(text: &str) -> bool {
    parse(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_addresses_or_not() {
        for (text, expected) in [
            ("1.2.3.4:4100", Some("/ip4/1.2.3.4/tcp/4100")),
            ("[2001:db8::1]:1", Some("/ip6/2001:db8::1/tcp/1")),
            ("pakt.example.no:4100", Some("/dns/pakt.example.no/tcp/4100")),
            ("host.:65535", Some("/dns/host./tcp/65535")),
            ("localhost:80", Some("/dns/localhost/tcp/80")),
            ("1.2.3.4", None),
            ("1.2.3.4:0", None),
            ("1.2.3.4:65536", None),
            ("2001:db8::1:80", None),
            ("[1.2.3.4]:80", None),
            (":80", None),
            ("a b:80", None),
            ("a..b:80", None),
            ("-a:80", None),
            ("a/tcp/1:80", None),
            ("", None),
        ] {
            let parsed = parse(text).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_of_ones_own_network_are_known() {
        for (name, internal) in [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("intranet", true),
            ("pacs.hospital.local", true),
            ("x.home.arpa.", true),
            ("node.example.no", false),
            ("local.example", false),
            ("notlocal.no", false),
        ] {
            assert_eq!(is_internal(name), internal, "{name}");
        }
    }

    #[test]
    fn reach_sees_through_clothes() {
        for (ip, reach) in [
            ("127.0.0.1", Reach::Loopback),
            ("127.9.9.9", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("64:ff9b::7f00:1", Reach::Loopback),
            ("64:ff9b::a00:1", Reach::Private),
            ("64:ff9b::808:808", Reach::Public),
            // Wherever the prefix of one's own translator ends, the address behind it is what counts.
            ("64:ff9b:1::808:808", Reach::Private),
            ("64:ff9b:1:7f00:0:100::", Reach::Loopback),
            ("64:ff9b:1:7f::1:0", Reach::Loopback),
            ("64:ff9b:1:0:7f:0:100:0", Reach::Loopback),
            ("64:ff9b:1::7f00:1", Reach::Loopback),
            ("64:ff9b:1::a9fe:a9fe", Reach::LinkLocal),
            ("64:ff9b:1:ffff::a00:1", Reach::Private),
            ("::7f00:1", Reach::Loopback),
            ("2002:7f00:1::", Reach::Loopback),
            ("169.254.169.254", Reach::LinkLocal),
            ("fe80::1", Reach::LinkLocal),
            ("10.1.1.1", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("::ffff:10.0.0.1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("8.8.8.8", Reach::Public),
            ("172.32.0.1", Reach::Public),
            ("2a00::1", Reach::Public),
            ("0.0.0.0", Reach::None),
            ("0.1.2.3", Reach::None),
            ("::", Reach::None),
            ("224.0.0.1", Reach::None),
            ("ff02::1", Reach::None),
            ("255.255.255.255", Reach::None),
        ] {
            assert_eq!(Reach::of(ip.parse().unwrap()), reach, "{ip}");
        }
    }

    #[test]
    fn ranges_hold_what_they_say() {
        for (range, ip, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "fd00::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe00::1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.9", true),
        ] {
            let parsed: AddressRange = range.parse().unwrap();
            assert_eq!(parsed.contains(ip.parse().unwrap()), inside, "{range} {ip}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8", "10.0.0.0/-1", "10.0.0.0/"] {
            assert_eq!(bad.parse::<AddressRange>(), Err(RangeError), "{bad}");
        }
    }

    #[test]
    fn only_neighbours_and_the_public_are_dialled() {
        let check = |own: &[&str], allowed: &[&str], ip: &str, expected: bool| {
            let rules = DialRules {
                own: own.iter().map(|ip| ip.parse().unwrap()).collect(),
                allowed: allowed.iter().map(|range| range.parse().unwrap()).collect(),
            };
            assert_eq!(rules.permit(ip.parse().unwrap()), expected, "{own:?} {ip}");
        };
        check(&[], &[], "8.8.8.8", true);
        check(&[], &[], "127.0.0.1", false);
        check(&[], &[], "10.0.0.1", false);
        check(&["0.0.0.0"], &[], "10.0.0.1", false);
        check(&["10.0.0.9"], &[], "192.168.0.1", true);
        check(&["10.0.0.9"], &[], "127.0.0.1", false);
        check(&["127.0.0.1"], &[], "::1", true);
        check(&["8.8.8.8"], &[], "169.254.169.254", false);
        check(&[], &["10.0.0.0/8"], "10.2.3.4", true);
        check(&[], &["10.0.0.0/8"], "192.168.0.1", false);
        check(&["127.0.0.1"], &["0.0.0.0/0"], "0.0.0.0", false);
    }
}
