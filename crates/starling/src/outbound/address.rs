//! Where a node is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use starling_settings::BadConfig;
use url::Url;

use crate::config::Config;

/// The path of the WebSocket endpoint.
const SOCKET_PATH: &str = "/v1/ws";

/// Where a node is, as a client sees it: a port of its own, or one of a load balancer in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands before the node's own paths: nothing, or what a load balancer removes.
    prefix: String,
}

impl NodeAddress {
    /// Where the node with this configuration answers `/health` and `/ready`.
    pub fn of_own_node(config: &Config) -> Result<NodeAddress, BadConfig> {
        let has_public_port = config.node.roles.gateway;
        let (key, address) = match has_public_port {
            true => ("listen", config.gateway.listen),
            false => ("metrics_listen", config.node.metrics_listen),
        };
        if address.port() == 0 {
            let why = "port 0 stands for one that the node chooses at its start; set a fixed one to be found";
            return Err(BadConfig(format!("{key}: {why}")));
        }
        let tls = config.gateway.tls().map_err(|error| BadConfig(error.to_string()))?;
        Ok(NodeAddress {
            tls: has_public_port && tls.is_some(),
            host: reachable(address).to_string(),
            port: address.port(),
            prefix: String::new(),
        })
    }

    /// Reads a URL that a person wrote: `wss://chat.example`, `ws://10.0.0.1:8080/v1/ws`, also `https://…`.
    pub fn parse(text: &str) -> Result<NodeAddress, BadConfig> {
        let bad = |why: &str| BadConfig(format!("--url: {why}; write ws://HOST:PORT or wss://HOST"));
        let url = Url::parse(text.trim()).map_err(|error| bad(&format!("is not a URL: {error}")))?;
        let tls = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            other => return Err(bad(&format!("{other}:// leads to no node"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("a user or password has no place in it; give the token as --token-file"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("has no host"))?;
        let path = url.path().trim_end_matches('/');
        Ok(NodeAddress {
            tls,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 }),
            prefix: path.strip_suffix(SOCKET_PATH).unwrap_or(path).to_owned(),
        })
    }

    /// The host and port, as a `Host` header has them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let is_default = self.port == if self.tls { 443 } else { 80 };
        if is_default { host } else { format!("{host}:{}", self.port) }
    }

    /// The URL of a path of the node.
    pub fn http_url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path(path))
    }

    /// The URL of the WebSocket endpoint.
    pub fn socket_url(&self) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.authority(), self.path(SOCKET_PATH))
    }

    /// A path of the node, as the load balancer sees it.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

/// The address to connect to where a node listens on this one: a node that listens on all addresses also does on loopback.
fn reachable(address: SocketAddr) -> IpAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Values;

    fn own(file: &str) -> Result<String, String> {
        let mut values = Values::default();
        values.read_text(&"starling.toml", file).map_err(|error| error.to_string())?;
        let address = NodeAddress::of_own_node(&values.settings).map_err(|error| error.to_string())?;
        Ok(address.http_url("/ready"))
    }

    #[test]
    fn a_node_is_asked_where_it_listens() {
        for (file, url) in [
            ("", "http://127.0.0.1:8080/ready"),
            ("listen = '0.0.0.0:80'", "http://127.0.0.1/ready"),
            ("listen = '[::]:8443'", "http://[::1]:8443/ready"),
            ("listen = '10.1.2.3:8080'", "http://10.1.2.3:8080/ready"),
            ("tls_certificate_file = 'c'\ntls_key_file = 'k'", "https://127.0.0.1:8080/ready"),
            (
                "roles = 'worker'\ntls_certificate_file = 'c'\ntls_key_file = 'k'",
                "http://127.0.0.1:9090/ready",
            ),
            ("roles = 'worker'\nmetrics_listen = '0.0.0.0:9'", "http://127.0.0.1:9/ready"),
        ] {
            assert_eq!(own(file).as_deref(), Ok(url), "{file}");
        }
        assert!(own("listen = '127.0.0.1:0'").expect_err("no port").starts_with("listen: port 0"));
        assert!(own("tls_key_file = 'k'").expect_err("half").starts_with("tls_certificate_file: "));
    }

    #[test]
    fn a_url_leads_to_the_endpoint_below_its_path() {
        for (text, url) in [
            ("ws://h", "ws://h/v1/ws"),
            ("wss://h:443/", "wss://h/v1/ws"),
            ("https://h", "wss://h/v1/ws"),
            ("ws://h:8080/v1/ws", "ws://h:8080/v1/ws"),
            ("ws://h/chat/", "ws://h/chat/v1/ws"),
            ("ws://h/chat/v1/ws\n", "ws://h/chat/v1/ws"),
            ("ws://[::1]:9/v1/ws", "ws://[::1]:9/v1/ws"),
        ] {
            assert_eq!(
                NodeAddress::parse(text).ok().map(|address| address.socket_url()).as_deref(),
                Some(url),
                "{text}"
            );
        }
        let other = NodeAddress::parse("wss://h/chat").expect("good");
        assert_eq!(other.http_url("/v1/conversations/a"), "https://h/chat/v1/conversations/a");
    }

    #[test]
    fn what_is_no_url_of_a_node_is_refused_without_its_password() {
        for text in ["", "localhost:8080", "localhost", "ftp://h", "ws://", "ws://ann:hush@h"] {
            let error = NodeAddress::parse(text).expect_err(text).to_string();
            assert!(error.starts_with("--url: ") && !error.contains("hush"), "{error}");
        }
    }
}
