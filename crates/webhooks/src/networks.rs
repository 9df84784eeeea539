//! Addresses that requests may go to.
//!
//! An endpoint makes a node send requests where its owner wants. So nodes must not reach what only they can reach: their own machine, the
//! network of the cluster, and the services that cloud platforms offer to machines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The addresses that requests may go to: those of the public Internet, and those that the operator allows.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    allowed: Vec<IpNet>,
}

/// Why an address may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// It is an address of the public Internet.
    Public,
    /// The operator allows it.
    Operator,
}

/// An address that is not public and that the operator does not allow. It says what kind of address that is. It does not repeat the
/// address, since the owner of an endpoint must not learn the addresses behind internal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} addresses are refused")]
pub struct RefusedAddress(&'static str);

impl Networks {
    /// Makes the public Internet and these networks.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Checks an address.
    ///
    /// # Errors
    /// [`RefusedAddress`] if no request may go there.
    pub fn check(&self, address: IpAddr) -> Result<(), RefusedAddress> {
        self.permit(address).map(drop)
    }

    /// Checks an address, and returns why it may be used.
    pub(crate) fn permit(&self, address: IpAddr) -> Result<Permit, RefusedAddress> {
        let inside = embedded(address);
        let is_allowed = |network: &IpNet| {
            network.contains(&address) || inside.is_some_and(|inside| network.contains(&IpAddr::V4(inside)))
        };
        if self.allowed.iter().any(is_allowed) {
            return Ok(Permit::Operator);
        }
        let refused = match address {
            IpAddr::V4(address) => kind_of_v4(address),
            IpAddr::V6(address) => match inside {
                Some(inside) => kind_of_v4(inside),
                None => kind_of_v6(address),
            },
        };
        refused.map_or(Ok(Permit::Public), |kind| Err(RefusedAddress(kind)))
    }
}

/// The IPv4 networks that are not public, from IANA's registry of special-purpose addresses (RFC 6890), and what they are.
const NOT_PUBLIC_V4: [(&str, &str); 16] = [
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared (CGNAT)"),
    ("127.0.0.0/8", "loopback"),
    // Azure's platform answers virtual machines here, though the network is public.
    ("168.63.129.16/32", "cloud platform"),
    // Also the metadata services of cloud platforms.
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
];

/// The IPv6 networks that are not public. The first that contains an address says what it is. Whatever is outside of 2000::/3, the
/// only part that is given to public networks, is refused as well.
const NOT_PUBLIC_V6: [(&str, &str); 11] = [
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
    // Protocols, such as Teredo, which leads to any IPv4 address.
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "reserved"),
    // The translation prefix for use inside one network (RFC 8215).
    ("64:ff9b:1::/48", "private"),
];

/// The IPv6 networks whose addresses lead to an IPv4 address, and the first of the four bytes of that address.
const EMBEDDING: [(&str, usize); 3] = [
    // IPv4-mapped.
    ("::ffff:0:0/96", 12),
    // NAT64 (RFC 6052).
    ("64:ff9b::/96", 12),
    // 6to4 (RFC 3056).
    ("2002::/16", 2),
];

static REFUSED_V4: LazyLock<Vec<(Ipv4Net, &str)>> = LazyLock::new(|| parsed(&NOT_PUBLIC_V4));
static REFUSED_V6: LazyLock<Vec<(Ipv6Net, &str)>> = LazyLock::new(|| parsed(&NOT_PUBLIC_V6));
static EMBEDDING_V6: LazyLock<Vec<(Ipv6Net, usize)>> = LazyLock::new(|| parsed(&EMBEDDING));

fn parsed<N: std::str::FromStr, T: Copy>(networks: &[(&str, T)]) -> Vec<(N, T)> {
    // A test counts them, so that none is left out for a mistake in its text.
    networks.iter().filter_map(|(network, what)| Some((network.parse().ok()?, *what))).collect()
}

fn kind_of_v4(address: Ipv4Addr) -> Option<&'static str> {
    REFUSED_V4.iter().find(|(network, _)| network.contains(&address)).map(|(_, kind)| *kind)
}

fn kind_of_v6(address: Ipv6Addr) -> Option<&'static str> {
    let known = REFUSED_V6.iter().find(|(network, _)| network.contains(&address)).map(|(_, kind)| *kind);
    let is_global_unicast = address.segments()[0] & 0xe000 == 0x2000;
    known.or((!is_global_unicast).then_some("reserved"))
}

/// Returns the IPv4 address that this IPv6 address leads to, if it does.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let (_, first) = EMBEDDING_V6.iter().find(|(network, _)| network.contains(&address))?;
    let bytes: [u8; 4] = address.octets().get(*first..first + 4)?.try_into().ok()?;
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(networks: &Networks, address: &str) -> Result<(), RefusedAddress> {
        networks.check(address.parse().unwrap())
    }

    #[test]
    fn no_network_is_left_out() {
        assert_eq!(REFUSED_V4.len(), NOT_PUBLIC_V4.len());
        assert_eq!(REFUSED_V6.len(), NOT_PUBLIC_V6.len());
        assert_eq!(EMBEDDING_V6.len(), EMBEDDING.len());
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        for (address, kind) in [
            ("0.0.0.0", "unspecified"),
            ("10.255.0.1", "private"),
            ("100.64.0.1", "shared (CGNAT)"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("168.63.129.16", "cloud platform"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.192", "reserved"),
            ("192.0.2.1", "documentation"),
            ("192.168.1.1", "private"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "private"),
            ("ff02::1", "multicast"),
            ("2001:db8::1", "documentation"),
            ("3fff::1", "documentation"),
            ("100::1", "reserved"),
            ("4000::1", "reserved"),
        ] {
            assert_eq!(check(&Networks::default(), address), Err(RefusedAddress(kind)), "{address}");
        }
    }

    #[test]
    fn an_address_inside_another_one_is_refused_alike() {
        for (address, kind) in [
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link-local"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b:1::8.8.8.8", "private"),
            // 6to4 of 127.0.0.1 and of 192.168.0.1.
            ("2002:7f00:1::1", "loopback"),
            ("2002:c0a8:1::1", "private"),
            // The deprecated IPv4-compatible form, the translated form of RFC 2765, and Teredo.
            ("::127.0.0.1", "reserved"),
            ("::ffff:0:8.8.8.8", "reserved"),
            ("2001:0:7f00:1::", "reserved"),
        ] {
            assert_eq!(check(&Networks::default(), address), Err(RefusedAddress(kind)), "{address}");
        }
    }

    #[test]
    fn public_addresses_may_be_used() {
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert_eq!(check(&Networks::default(), address), Ok(()), "{address}");
        }
    }

    #[test]
    fn the_operator_allows_networks_in_each_form_of_their_addresses() {
        let networks = Networks::new(vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::1"] {
            assert_eq!(networks.permit(address.parse().unwrap()), Ok(Permit::Operator), "{address}");
        }
        assert!(check(&networks, "10.2.0.1").is_err() && check(&networks, "127.0.0.1").is_err());
        assert_eq!(networks.permit("1.1.1.1".parse().unwrap()), Ok(Permit::Public));
    }
}
