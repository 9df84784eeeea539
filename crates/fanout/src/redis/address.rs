//! The address in `REDIS_URL`: what may be written there, and what it says.

use fred::types::config::{Config, ServerConfig};

use crate::Error;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const SCHEMES: &str =
    "redis://, rediss://, redis-cluster://, rediss-cluster://, redis-sentinel:// or rediss-sentinel://";

/// Where Redis is, and how to reach it.
///
/// ```text
/// redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]
/// redis-cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]
/// redis-sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST:PORT…][/NAME[/DATABASE]]
/// ```
///
/// Each with `rediss` in place of `redis` for TLS. Further hosts may also be given as `?node=HOST:PORT`, the name
/// that the sentinels know as `?sentinelServiceName=NAME` (`mymaster` when it is absent), and what the sentinels
/// want to hear as `?sentinelUsername=USER&sentinelPassword=PASSWORD`.
pub(super) struct Address {
    pub(super) config: Config,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| wrong(format!("must begin with {SCHEMES}")))?;
        let (tls, kind) = match scheme.split_once('-') {
            Some((base, kind)) => (base, kind),
            None => (scheme, ""),
        };
        if !matches!(tls, "redis" | "rediss") || !matches!(kind, "" | "cluster" | "sentinel") {
            return Err(wrong(format!("must begin with {SCHEMES}")));
        }
        if tls == "rediss" && rustls::crypto::CryptoProvider::get_default().is_none() {
            // A provider that somebody else installed meanwhile is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let url = one_host_url(scheme, kind, rest)?;
        // What the parser says names the part that is wrong and never holds what stands before the `@`.
        let config = Config::from_url(&url).map_err(|error| wrong(error.details().to_owned()))?;
        Ok(Self { config })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.config.server, ServerConfig::Clustered { .. })
    }
}

/// Rewrites lists of hosts, and a sentinel's name in the path, to the form that the client understands.
fn one_host_url(scheme: &str, kind: &str, rest: &str) -> Result<String, Error> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (path, query) = match tail.split_once('?') {
        Some((path, query)) => (path, query.split('#').next().unwrap_or_default()),
        None => (tail.split('#').next().unwrap_or_default(), ""),
    };
    let (credentials, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    let mut hosts = hosts.split(',').map(str::trim);
    let first = hosts.next().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host".into()))?;
    let mut query: Vec<String> =
        query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
    for host in hosts {
        if kind.is_empty() {
            return Err(wrong("only redis-cluster:// and redis-sentinel:// take more than one host".into()));
        }
        if host.is_empty() {
            return Err(wrong("has an empty host in its list".into()));
        }
        let port = if kind == "sentinel" { SENTINEL_PORT } else { PORT };
        let has_port = host.rfind(':').is_some_and(|colon| !host[colon..].contains(']'));
        query.push(if has_port { format!("node={host}") } else { format!("node={host}:{port}") });
    }
    let path = match kind {
        "sentinel" => sentinel_path(path, &mut query),
        _ => path.to_owned(),
    };
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(format!("{scheme}://{credentials}{first}{path}{mark}{}", query.join("&")))
}

/// Takes the name out of `/NAME/DATABASE`, and puts it, or the usual one, into the query.
fn sentinel_path(path: &str, query: &mut Vec<String>) -> String {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let named = segments.first().is_some_and(|segment| segment.parse::<u8>().is_err());
    let name = if named { segments.remove(0) } else { "mymaster" };
    if !query.iter().any(|pair| pair.starts_with("sentinelServiceName=")) {
        query.push(format!("sentinelServiceName={name}"));
    }
    segments.iter().map(|segment| format!("/{segment}")).collect()
}

fn wrong(what: String) -> Error {
    Error::Address(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<String> {
        let config = Address::parse(url).unwrap().config;
        let mut hosts: Vec<_> =
            config.server.hosts().iter().map(|host| format!("{}:{}", host.host, host.port)).collect();
        hosts.sort();
        hosts
    }

    #[test]
    fn one_server_with_credentials_and_database() {
        let config = Address::parse("redis://me:p%40ss@redis.example/3").unwrap().config;
        assert_eq!(config.username.as_deref(), Some("me"));
        assert_eq!(config.password.as_deref(), Some("p@ss"));
        assert_eq!(config.database, Some(3));
        assert_eq!(hosts("redis://redis.example"), ["redis.example:6379"]);
        assert!(Address::parse("rediss://redis.example").unwrap().config.tls.is_some());
    }

    #[test]
    fn a_cluster_by_list_and_by_query() {
        let address = Address::parse("redis-cluster://:secret@a:1,b:2,c").unwrap();
        assert!(address.is_cluster());
        assert_eq!(address.config.password.as_deref(), Some("secret"));
        assert_eq!(hosts("redis-cluster://a:1,b:2,c"), ["a:1", "b:2", "c:6379"]);
        assert_eq!(hosts("redis-cluster://a:1?node=b:2&node=c:3"), ["a:1", "b:2", "c:3"]);
    }

    #[test]
    fn sentinels_with_and_without_a_name() {
        for (url, expected) in [
            ("redis-sentinel://a,b:1/events/2", ("events", Some(2))),
            ("redis-sentinel://a,b:1/2", ("mymaster", Some(2))),
            ("redis-sentinel://a,b:1", ("mymaster", None)),
            ("redis-sentinel://a?node=b:1&sentinelServiceName=events", ("events", None)),
        ] {
            let config = Address::parse(url).unwrap().config;
            let ServerConfig::Sentinel { service_name, .. } = &config.server else { panic!("{url}") };
            assert_eq!((service_name.as_str(), config.database), expected, "{url}");
            assert_eq!(hosts(url), ["a:26379", "b:1"], "{url}");
        }
    }

    #[test]
    fn a_bad_address_is_named_and_its_password_is_not() {
        for url in [
            "",
            "redis.example:6379",
            "http://u:secret@redis.example",
            "redis-pool://u:secret@redis.example",
            "redis://u:secret@",
            "redis://u:secret@a:6379,b:6379",
            "redis://u:secret@redis.example:port",
            "redis://u:secret@redis.example/db",
            "redis-cluster://u:secret@a:1,",
            "redis-cluster://u:secret@a:1,b:port",
        ] {
            let Err(error @ Error::Address(_)) = Address::parse(url).map(|_| ()) else { panic!("{url}") };
            let text = error.to_string();
            assert!(text.starts_with("redis_url: "), "{url}: {text}");
            assert!(!text.contains("secret"), "{url}: {text}");
        }
    }
}
