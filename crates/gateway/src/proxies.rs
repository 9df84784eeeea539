//! Trusted load balancers, and the clients that they forward.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;
use starling_settings::elements;

/// Load balancers whose `X-Forwarded-For` is trusted: addresses and networks.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<IpNet>);

/// An entry that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network such as 10.0.0.0/8")]
pub struct NoNetwork(String);

impl Proxies {
    /// Load balancers at these addresses (`10.0.0.1`, `fd00::1`) and in these networks (`10.0.0.0/8`, `fd00::/8`).
    ///
    /// # Errors
    /// [`NoNetwork`] with the first entry that is neither.
    pub fn new<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Proxies, NoNetwork> {
        let network = |text: &str| match text.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address.to_canonical())),
            Err(_) => text.parse().map_err(|_| NoNetwork(text.to_owned())),
        };
        given.into_iter().map(network).collect::<Result<_, _>>().map(Proxies)
    }

    /// Reads `trusted_proxies`, with commas between its entries.
    pub(crate) fn parse(text: &str) -> Result<Proxies, String> {
        Proxies::new(elements(text)).map_err(|error| error.to_string())
    }

    /// Whether this address is a trusted load balancer.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        // On a port for both versions, an IPv4 peer has an IPv6 address.
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// Whether a trusted load balancer says that its client used TLS. `None` if the peer is none, or does not say.
    pub(crate) fn client_used_tls(&self, peer: IpAddr, headers: &HeaderMap) -> Option<bool> {
        let scheme = last_scheme(headers).filter(|_| self.trusts(peer))?;
        Some(scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss"))
    }

    /// Returns the client that a trusted load balancer forwards: the last address in `X-Forwarded-For` that is no trusted load balancer,
    /// since anybody could have written those before it. Where there is none, or it can't be read, returns the peer itself.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.trusts(peer) {
            return None;
        }
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(address_of);
        let client = hops.map_while(|hop| hop).find(|hop| !self.trusts(*hop));
        Some(client.unwrap_or(peer))
    }
}

/// The scheme named by the proxy nearest to the node: some proxies append theirs to the list that they got.
fn last_scheme(headers: &HeaderMap) -> Option<&str> {
    let line = headers.get_all("x-forwarded-proto").iter().next_back()?;
    line.to_str().ok()?.rsplit(',').next().map(str::trim)
}

/// The address of a hop. Some load balancers write its port, too.
fn address_of(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || hop.parse().ok().map(|hop: SocketAddr| hop.ip());
    hop.parse().ok().or_else(with_port).or_else(in_brackets).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn client(lines: &[&[u8]]) -> IpAddr {
        let proxies = Proxies::new(["10.0.0.0/8", "fd00::/8", "192.0.2.1"]).expect("networks");
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line).expect("a header"));
        }
        assert_eq!(proxies.client(address("203.0.113.200"), &headers), None);
        proxies.client(address("192.0.2.1"), &headers).expect("a trusted peer")
    }

    #[test]
    fn the_last_hop_that_is_not_ours_is_the_client() {
        for lines in [
            &[&b"203.0.113.7"[..]][..],
            &[b"198.51.100.1, 203.0.113.7"],
            &[b"198.51.100.1,203.0.113.7 , 10.9.8.7,fd00::5"],
            &[b"198.51.100.1", b"203.0.113.7, 10.0.0.1"],
            &[b"203.0.113.7", b"10.0.0.1", b"10.0.0.2:99"],
            &[b"203.0.113.7:4711"],
            &[b"198.51.100.1, 203.0.113.7:4711, [fd00::5]:443, [fd00::6]"],
            &[b"::ffff:203.0.113.7, ::ffff:10.0.0.1"],
            &[b"nonsense, 203.0.113.7"],
        ] {
            assert_eq!(client(lines), address("203.0.113.7"), "{lines:?}");
        }
        for line in [&b"2001:db8::7"[..], b"198.51.100.1, [2001:db8::7]:50000", b"[2001:db8::7]"] {
            assert_eq!(client(&[line]), address("2001:db8::7"), "{line:?}");
        }
    }

    #[test]
    fn nothing_before_a_hop_that_cannot_be_read_is_believed() {
        for line in [
            &b"198.51.100.1, unknown"[..],
            b"198.51.100.1, 203.0.113.7:port",
            b"198.51.100.1, 203.0.113.7:99999",
            b"198.51.100.1, [2001:db8::7",
            b"198.51.100.1, [2001:db8::7]x",
            b"198.51.100.1, \xff, 10.0.0.1",
            b"198.51.100.1,, 10.0.0.1",
            b"198.51.100.1, ",
            b"10.0.0.1, 10.0.0.2",
            b"",
        ] {
            assert_eq!(client(&[line]), address("192.0.2.1"), "{line:?}");
        }
        assert_eq!(client(&[]), address("192.0.2.1"));
        assert_eq!(client(&[b"198.51.100.1", b"unknown"]), address("192.0.2.1"));
    }

    #[test]
    fn a_trusted_load_balancer_says_whether_its_client_used_tls() {
        let proxies = Proxies::new(["10.0.0.0/8"]).expect("networks");
        let said = |peer: &str, lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-proto", HeaderValue::from_static(line));
            }
            proxies.client_used_tls(address(peer), &headers)
        };
        assert_eq!(said("10.0.0.1", &["https"]), Some(true));
        assert_eq!(said("10.0.0.1", &["HTTPS"]), Some(true));
        assert_eq!(said("10.0.0.1", &["http"]), Some(false));
        assert_eq!(said("10.0.0.1", &["http, https"]), Some(true));
        assert_eq!(said("10.0.0.1", &["https", "http"]), Some(false));
        assert_eq!(said("10.0.0.1", &[]), None);
        assert_eq!(said("192.0.2.1", &["https"]), None);
    }

    #[test]
    fn networks_hold_their_addresses_also_where_ipv4_comes_as_ipv6() {
        let proxies =
            Proxies::new(["10.0.0.0/8", "fd00::/8", "192.0.2.1", "::ffff:192.0.2.2"]).expect("networks");
        for inside in
            ["10.255.0.1", "::ffff:10.0.0.1", "fdff::1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"]
        {
            assert!(proxies.trusts(address(inside)), "{inside}");
        }
        for outside in ["11.0.0.1", "::ffff:11.0.0.1", "fe00::1", "192.0.2.3", "::"] {
            assert!(!proxies.trusts(address(outside)), "{outside}");
        }
        assert!(!Proxies::default().trusts(address("127.0.0.1")));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for bad in ["10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.1:80", "balancer.internal", "/8", ""] {
            assert_eq!(Proxies::new(["10.0.0.1", bad]).expect_err(bad), NoNetwork(bad.to_owned()));
        }
    }
}
