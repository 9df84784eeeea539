use std::fmt;
use std::str::FromStr;

use fred::types::config::Config;

use crate::{Error, tls};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// The name of the master that sentinels are asked for when the address has none.
const SENTINEL_SERVICE: &str = "mymaster";
const SCHEMES: &str =
    "redis://, rediss://, redis-cluster://, rediss-cluster://, redis-sentinel:// or rediss-sentinel://";

/// The address in `REDIS_URL`: where Redis is, and how to reach it.
///
/// ```text
/// redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]
/// redis-cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]
/// redis-sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/SERVICE][/DATABASE]
/// ```
///
/// `rediss…` in place of `redis…` means TLS. Further hosts may also be given as `?node=HOST:PORT`, the name that the sentinels know the
/// master by as `?sentinelServiceName=SERVICE` (`mymaster` when it is absent), and the login at the sentinels as
/// `?sentinelUsername=USER&sentinelPassword=PASSWORD`.
#[derive(Clone)]
pub struct RedisAddress {
    config: Config,
}

/// The parts of an address, of which only the scheme was read.
struct Parts<'a> {
    kind: Kind,
    /// Including the `@`.
    credentials: &'a str,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Cluster,
    Sentinel,
}

impl RedisAddress {
    /// Returns whether keys are spread over several servers.
    pub fn is_cluster(&self) -> bool {
        self.config.server.is_clustered()
    }

    /// Returns the number of the database, where the address names one.
    pub fn database(&self) -> Option<u8> {
        self.config.database
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }
}

impl FromStr for RedisAddress {
    type Err = Error;

    /// # Errors
    /// [`Error::Address`] with the reason, which never contains the credentials.
    fn from_str(url: &str) -> Result<Self, Error> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| wrong(format!("must begin with {SCHEMES}")))?;
        let (kind, uses_tls) = match scheme {
            "redis" => (Kind::Single, false),
            "rediss" => (Kind::Single, true),
            "redis-cluster" => (Kind::Cluster, false),
            "rediss-cluster" => (Kind::Cluster, true),
            "redis-sentinel" => (Kind::Sentinel, false),
            "rediss-sentinel" => (Kind::Sentinel, true),
            _ => return Err(wrong(format!("must begin with {SCHEMES}"))),
        };
        let url = Parts::of(kind, rest).client_url()?;
        // The client's message names the wrong part, and never contains the credentials.
        let mut config = Config::from_url(&url).map_err(|error| wrong(error.details().to_owned()))?;
        if uses_tls {
            config.tls = Some(tls::config()?);
        }
        Ok(Self { config })
    }
}

impl fmt::Debug for RedisAddress {
    /// Shows only the hosts, since the rest may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisAddress").field(&self.config.server.hosts()).finish()
    }
}

impl<'a> Parts<'a> {
    fn of(kind: Kind, rest: &'a str) -> Self {
        // The fragment of a URL means nothing to the server.
        let rest = rest.split('#').next().unwrap_or_default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rfind('@') {
            Some(at) => authority.split_at(at + 1),
            None => ("", authority),
        };
        Self { kind, credentials, hosts, path, query }
    }

    /// Returns the address in the form that the client reads: one host, with the others and the sentinels' service in the query. It has the
    /// scheme without TLS, for which the client would need a provider that is installed for the whole process.
    fn client_url(&self) -> Result<String, Error> {
        let Parts { kind, credentials, path, query, .. } = *self;
        let mut hosts = self.hosts.split(',').map(|host| kind.with_port(host.trim()));
        let first = hosts.next().flatten().ok_or_else(|| wrong("has no host".into()))?;
        let mut pairs: Vec<String> =
            query.split('&').filter(|pair| !pair.is_empty()).map(Into::into).collect();
        for host in hosts {
            let host = host.ok_or_else(|| wrong("has an empty host in its list".into()))?;
            if kind == Kind::Single {
                return Err(wrong(
                    "only redis-cluster:// and redis-sentinel:// take more than one host".into(),
                ));
            }
            pairs.push(format!("node={host}"));
        }
        let mut path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if kind == Kind::Sentinel {
            let is_named = path.first().is_some_and(|part| part.parse::<u8>().is_err());
            let service = if is_named { path.remove(0) } else { SENTINEL_SERVICE };
            if !pairs.iter().any(|pair| pair.starts_with("sentinelServiceName=")) {
                pairs.push(format!("sentinelServiceName={service}"));
            }
        }
        let scheme = match kind {
            Kind::Single => "redis",
            Kind::Cluster => "redis-cluster",
            Kind::Sentinel => "redis-sentinel",
        };
        let url = format!("{scheme}://{credentials}{first}/{}?{}", path.join("/"), pairs.join("&"));
        Ok(url.trim_end_matches(['?', '/']).to_owned())
    }
}

impl Kind {
    /// Returns the host with its port; `None` for an empty one. Brackets hold the colons of an IPv6 address.
    fn with_port(self, host: &str) -> Option<String> {
        let default_port = if self == Kind::Sentinel { SENTINEL_PORT } else { PORT };
        let has_port = host.rfind(':').is_some_and(|colon| !host[colon..].contains(']'));
        match host {
            "" => None,
            _ if has_port => Some(host.into()),
            _ => Some(format!("{host}:{default_port}")),
        }
    }
}

fn wrong(what: String) -> Error {
    Error::Address(what)
}

#[cfg(test)]
mod tests {
    use fred::types::config::ServerConfig;

    use super::*;

    fn config(url: &str) -> Config {
        url.parse::<RedisAddress>().unwrap_or_else(|error| panic!("{url}: {error}")).config
    }

    fn hosts(url: &str) -> Vec<String> {
        let mut hosts: Vec<_> = config(url).server.hosts().iter().map(ToString::to_string).collect();
        hosts.sort();
        hosts
    }

    #[test]
    fn one_server_with_credentials_and_database() {
        let url = "redis://me:p%40ss@redis.example/3";
        let config = config(url);
        assert!(config.server.is_centralized() && config.tls.is_none());
        assert_eq!(hosts(url), ["redis.example:6379"]);
        assert_eq!((config.username.as_deref(), config.password.as_deref()), (Some("me"), Some("p@ss")));
        assert_eq!(config.database, Some(3));
        assert_eq!(hosts("redis://[::1]:7000/"), ["[::1]:7000"]);
        assert_eq!(hosts("redis://[::1]"), ["[::1]:6379"]);
    }

    #[test]
    fn tls_is_asked_for_by_the_scheme() {
        for url in ["rediss://a", "rediss-cluster://a,b", "rediss-sentinel://a"] {
            assert!(config(url).tls.is_some(), "{url}");
        }
    }

    #[test]
    fn a_cluster_by_list_and_by_query() {
        for url in ["redis-cluster://:hush@a:1,b:2,c", "redis-cluster://:hush@a:1?node=b:2&node=c:6379"] {
            assert!(url.parse::<RedisAddress>().unwrap().is_cluster(), "{url}");
            assert_eq!(config(url).password.as_deref(), Some("hush"), "{url}");
            assert_eq!(hosts(url), ["a:1", "b:2", "c:6379"], "{url}");
        }
    }

    #[test]
    fn sentinels_with_and_without_a_name() {
        for (url, name, database) in [
            ("redis-sentinel://a,b:1", "mymaster", None),
            ("redis-sentinel://a,b:1/2", "mymaster", Some(2)),
            ("redis-sentinel://a,b:1/live/2", "live", Some(2)),
            ("redis-sentinel://a?node=b:1&sentinelServiceName=live", "live", None),
        ] {
            let config = config(url);
            let ServerConfig::Sentinel { service_name, .. } = &config.server else { panic!("{url}") };
            assert_eq!((service_name.as_str(), config.database), (name, database), "{url}");
            assert_eq!(hosts(url), ["a:26379", "b:1"], "{url}");
        }
    }

    #[test]
    fn a_fragment_says_nothing() {
        assert_eq!(config("redis://a/3#b").database, Some(3));
        assert_eq!(hosts("redis-cluster://a:1,b:2#c"), ["a:1", "b:2"]);
        assert_eq!(hosts("redis-cluster://a:1?node=b:2#node=c:3"), ["a:1", "b:2"]);
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
            "redis-cluster://u:hush@a:1,",
            "redis-cluster://u:hush@a,,b",
            "redis-cluster://u:hush@a,b:port",
        ] {
            let error = url.parse::<RedisAddress>().err().unwrap_or_else(|| panic!("{url} was taken"));
            let text = error.to_string();
            assert!(matches!(error, Error::Address(_)), "{url}: {text}");
            assert!(text.starts_with("redis_url: ") && !text.contains("hush"), "{url}: {text}");
        }
    }

    #[test]
    fn an_address_shows_its_hosts_and_no_password() {
        let text = format!("{:?}", "redis://u:hush@redis.example".parse::<RedisAddress>().unwrap());
        assert!(text.contains("redis.example") && !text.contains("hush"), "{text}");
    }
}
