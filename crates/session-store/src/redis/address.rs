//! The address in `REDIS_URL`.

use fred::types::config::{Config, ServerConfig};

use crate::Error;

/// The name of the master that sentinels are asked for when the address has none.
const SENTINEL_SERVICE: &str = "mymaster";

/// Reads an address:
///
/// ```text
/// redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]
/// redis-cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]
/// redis-sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/SERVICE][/DATABASE]
/// ```
///
/// `rediss…` means TLS. Further hosts may instead be given by `?node=HOST:PORT`, the service by
/// `?sentinelServiceName=`.
///
/// # Errors
/// [`Error::Address`] with what is wrong, and never with what stands before the `@`.
pub(super) fn parse(url: &str) -> Result<Config, Error> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("has no scheme such as redis://"))?;
    let default_port = match scheme.strip_prefix("rediss").or_else(|| scheme.strip_prefix("redis")) {
        Some("" | "-cluster") => 6379,
        Some("-sentinel") => 26379,
        _ => {
            return Err(wrong(
                "has to begin with redis://, rediss://, redis-cluster:// or redis-sentinel:// \
                 (rediss-cluster://, rediss-sentinel:// for TLS)",
            ));
        }
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
        None => (String::new(), authority),
    };
    let mut hosts = hosts.split(',').map(|host| with_port(host.trim(), default_port));
    let first = hosts.next().flatten().ok_or_else(|| wrong("has no host"))?;
    let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(Into::into).collect();
    for host in hosts {
        let host = host.ok_or_else(|| wrong("has an empty place in its list of hosts"))?;
        if !scheme.contains('-') {
            return Err(wrong(
                "has several hosts, which only redis-cluster:// and redis-sentinel:// can have",
            ));
        }
        pairs.push(format!("node={host}"));
    }
    let mut path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if scheme.ends_with("-sentinel") {
        let service = match path.first() {
            Some(name) if name.parse::<u8>().is_err() => path.remove(0),
            _ => SENTINEL_SERVICE,
        };
        if !pairs.iter().any(|pair| pair.starts_with("sentinelServiceName=")) {
            pairs.push(format!("sentinelServiceName={service}"));
        }
    }
    let url = format!("{scheme}://{credentials}{first}/{}?{}", path.join("/"), pairs.join("&"));
    let mut config =
        Config::from_url(url.trim_end_matches(['?', '/'])).map_err(|error| wrong(error.details()))?;
    // A server that is away at the start is waited for like one that goes away later.
    config.fail_fast = false;
    if let ServerConfig::Clustered { policy, .. } = &mut config.server {
        *policy = fred::types::config::ClusterDiscoveryPolicy::UseCache;
    }
    Ok(config)
}

/// The host with its port; `None` when there is none. Brackets hold the colons of an IPv6 address.
fn with_port(host: &str, default_port: u16) -> Option<String> {
    let has_port = host.rfind(':').is_some_and(|colon| !host[colon..].contains(']'));
    match host {
        "" => None,
        _ if has_port => Some(host.into()),
        _ => Some(format!("{host}:{default_port}")),
    }
}

fn wrong(what: &str) -> Error {
    Error::Address(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(config: &Config) -> Vec<String> {
        let mut hosts: Vec<_> = config.server.hosts().iter().map(ToString::to_string).collect();
        hosts.sort();
        hosts
    }

    #[test]
    fn one_server() {
        let config = parse("redis://me:p%40ss@redis.example/3").unwrap();
        assert!(config.server.is_centralized());
        assert_eq!(hosts(&config), ["redis.example:6379"]);
        assert_eq!((config.username.as_deref(), config.password.as_deref()), (Some("me"), Some("p@ss")));
        assert_eq!(config.database, Some(3));
        assert_eq!(hosts(&parse("redis://[::1]:7000/").unwrap()), ["[::1]:7000"]);
    }

    #[test]
    fn a_cluster() {
        for url in ["redis-cluster://a:1,b:2,c", "redis-cluster://a:1?node=b:2&node=c:6379"] {
            let config = parse(url).unwrap();
            assert!(config.server.is_clustered(), "{url}");
            assert_eq!(hosts(&config), ["a:1", "b:2", "c:6379"], "{url}");
        }
    }

    #[test]
    fn sentinels() {
        for (url, name, database) in [
            ("redis-sentinel://a,b:1", "mymaster", None),
            ("redis-sentinel://a,b:1/2", "mymaster", Some(2)),
            ("redis-sentinel://a,b:1/live/2", "live", Some(2)),
            ("redis-sentinel://a?node=b:1&sentinelServiceName=live", "live", None),
        ] {
            let config = parse(url).unwrap();
            let ServerConfig::Sentinel { service_name, .. } = &config.server else { panic!("{url}") };
            assert_eq!((service_name.as_str(), config.database), (name, database), "{url}");
            assert_eq!(hosts(&config), ["a:26379", "b:1"], "{url}");
        }
    }

    #[test]
    fn a_bad_address_says_what_is_wrong_and_not_the_password() {
        for url in [
            "",
            "localhost:6379",
            "http://u:hush@a",
            "redis-ring://u:hush@a",
            "redis://u:hush@",
            "redis://u:hush@a,b",
            "redis://u:hush@a:port",
            "redis://u:hush@a/database",
            "redis-cluster://u:hush@a,,b",
            "redis-cluster://u:hush@a,b:port",
        ] {
            let error = parse(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            let text = error.to_string();
            assert!(matches!(error, Error::Address(_)), "{url}: {text}");
            assert!(text.starts_with("redis_url: ") && !text.contains("hush"), "{url}: {text}");
        }
    }
}
