//! Connecting to one of the hosts in a URL.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Error, Socket};

use super::error::chain;

/// The most hosts in a URL.
pub(super) const HOSTS_MAX: usize = 16;
/// The most addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;
/// The time limit of a whole search for a connection, as a multiple of the limit of one address. The next search begins with other hosts,
/// since those that did not answer in time come last.
const SEARCH_LIMITS: u32 = 4;
/// How long a host that did not answer in time is tried after all others.
const LAST_FOR: Duration = Duration::from_secs(30);
/// PostgreSQL's port.
const PORT: u16 = 5432;

/// A client, and the task that works on its connection.
pub(super) type Connected = (Client, JoinHandle<()>);

/// Opens connections.
pub(super) trait Connect: Send + Sync {
    /// Opens a connection.
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Connected, Error>> + Send + '_>>;
}

/// Connects to the first host that answers, in the order of the URL. Each address of each host gets the same time for the whole set-up of a
/// connection. So a host that accepts connections and then stays silent is skipped, too.
pub(super) struct Hosts<T> {
    tls: T,
    /// All settings but the hosts.
    config: Config,
    hosts: Arc<[Candidate]>,
    shuffled: bool,
    limit: Duration,
}

/// One of the hosts.
struct Candidate {
    host: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
    /// Time at which the host last failed to answer in time.
    late: Mutex<Option<Instant>>,
}

impl<T> Hosts<T> {
    /// Makes the list of the hosts in `config`. Each of their addresses gets `limit`.
    pub(super) fn of(config: &Config, tls: T, limit: Duration) -> Self {
        let (names, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let candidate = |position: usize| Candidate {
            host: names.get(position).cloned(),
            address: addresses.get(position).copied(),
            port: ports.get(position).or(ports.first()).copied().unwrap_or(PORT),
            late: Mutex::default(),
        };
        Self {
            tls,
            config: without_hosts(config),
            hosts: (0..names.len().max(addresses.len())).map(candidate).collect(),
            shuffled: config.get_load_balance_hosts() == LoadBalanceHosts::Random,
            limit,
        }
    }

    /// Returns the positions of the hosts in the order in which they are tried.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        if self.shuffled {
            // Each new hasher has random keys.
            order.sort_by_cached_key(|position| RandomState::new().hash_one(position));
        }
        order.sort_by_key(|position| {
            self.hosts[*position].late.lock().is_some_and(|late| late.elapsed() < LAST_FOR)
        });
        order
    }
}

impl<T> Connect for Hosts<T>
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Connected, Error>> + Send + '_>> {
        let search = async move {
            let mut failure: Option<Error> = None;
            for position in self.order() {
                match self.connect_to(&self.hosts[position]).await {
                    Ok(connected) => return Ok(connected),
                    // Prefers a refusal, such as of a wrong password, to a timeout, as it says more.
                    Err(error) if failure.as_ref().is_some_and(|before| before.as_db_error().is_some()) => {
                        tracing::debug!(error = chain(&error), "another host failed, too");
                    }
                    Err(error) => failure = Some(error),
                }
            }
            Err(failure.unwrap_or_else(Error::__private_api_timeout))
        };
        Box::pin(async move {
            timeout(self.limit * SEARCH_LIMITS, search)
                .await
                .unwrap_or_else(|_| Err(Error::__private_api_timeout()))
        })
    }
}

impl<T> Hosts<T>
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    async fn connect_to(&self, host: &Candidate) -> Result<Connected, Error> {
        let mut failure = None;
        for config in self.configs(host).await {
            match timeout(self.limit, config.connect(self.tls.clone())).await {
                Ok(Ok((client, connection))) => {
                    *host.late.lock() = None;
                    let task = tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(error = chain(&error), "a connection to PostgreSQL ended");
                        }
                    });
                    return Ok((client, task));
                }
                Ok(Err(error)) => failure = Some(error),
                Err(_) => {
                    tracing::debug!(host = ?host.host, port = host.port, "did not respond in time");
                    *host.late.lock() = Some(Instant::now());
                    failure = Some(Error::__private_api_timeout());
                }
            }
        }
        Err(failure.unwrap_or_else(Error::__private_api_timeout))
    }

    /// Returns a configuration for each address of a host. For a name that can't be resolved in time, returns one with the name only, whose
    /// attempt fails with the reason.
    async fn configs(&self, host: &Candidate) -> Vec<Config> {
        let mut config = self.config.clone();
        config.port(host.port);
        match (&host.host, host.address) {
            (Some(Host::Unix(path)), _) => {
                config.host_path(path);
            }
            (Some(Host::Tcp(name)), None) => {
                config.host(name);
                let resolved = timeout(self.limit, lookup_host((name.as_str(), host.port))).await;
                let addresses: Vec<IpAddr> = match resolved {
                    Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).map(|address| address.ip()).collect(),
                    _ => Vec::new(),
                };
                if !addresses.is_empty() {
                    let of_address = |address| {
                        let mut config = config.clone();
                        config.hostaddr(address);
                        config
                    };
                    return addresses.into_iter().map(of_address).collect();
                }
            }
            (name, Some(address)) => {
                if let Some(Host::Tcp(name)) = name {
                    config.host(name);
                }
                config.hostaddr(address);
            }
            (None, None) => {}
        }
        vec![config]
    }
}

/// Returns a copy without the hosts and ports.
fn without_hosts(from: &Config) -> Config {
    let mut config = Config::new();
    if let Some(user) = from.get_user() {
        config.user(user);
    }
    if let Some(password) = from.get_password() {
        config.password(password);
    }
    if let Some(name) = from.get_dbname() {
        config.dbname(name);
    }
    if let Some(options) = from.get_options() {
        config.options(options);
    }
    if let Some(name) = from.get_application_name() {
        config.application_name(name);
    }
    if let Some(limit) = from.get_connect_timeout() {
        config.connect_timeout(*limit);
    }
    if let Some(limit) = from.get_tcp_user_timeout() {
        config.tcp_user_timeout(*limit);
    }
    if let Some(interval) = from.get_keepalives_interval() {
        config.keepalives_interval(interval);
    }
    if let Some(retries) = from.get_keepalives_retries() {
        config.keepalives_retries(retries);
    }
    config
        .keepalives(from.get_keepalives())
        .keepalives_idle(from.get_keepalives_idle())
        .ssl_mode(from.get_ssl_mode())
        .ssl_negotiation(from.get_ssl_negotiation())
        .target_session_attrs(from.get_target_session_attrs())
        .channel_binding(from.get_channel_binding());
    config
}

#[cfg(test)]
mod tests {
    use tokio_postgres::NoTls;

    use super::*;

    fn hosts(url: &str) -> Hosts<NoTls> {
        Hosts::of(&url.parse().unwrap(), NoTls, Duration::from_secs(1))
    }

    #[test]
    fn nothing_but_the_hosts_is_lost() {
        let url = "postgres://u:p@a:1,b:2/d?options=-c%20x%3D1&application_name=n&connect_timeout=7&tcp_user_timeout=8\
                   &keepalives=0&keepalives_idle=9&keepalives_interval=10&keepalives_retries=11&sslmode=require\
                   &sslnegotiation=direct&target_session_attrs=read-write&channel_binding=require";
        let given: Config = url.parse().unwrap();
        let mut copy = without_hosts(&given);
        assert!(copy.get_hosts().is_empty() && copy.get_ports().is_empty());
        copy.host("a").host("b").port(1).port(2);
        assert_eq!(copy, given);
    }

    #[test]
    fn each_host_has_its_port() {
        let of = |url| hosts(url).hosts.iter().map(|host| host.port).collect::<Vec<_>>();
        assert_eq!(of("postgres://u@a:1,b:2/d"), [1, 2]);
        assert_eq!(of("postgres://u@a,b/d"), [5432, 5432]);
        assert_eq!(of("host=a,b port=7"), [7, 7]);
    }

    #[test]
    fn a_host_that_was_late_is_tried_last() {
        let hosts = hosts("postgres://u@a,b,c/d");
        assert_eq!(hosts.order(), [0, 1, 2]);
        *hosts.hosts[0].late.lock() = Some(Instant::now());
        assert_eq!(hosts.order(), [1, 2, 0]);
        *hosts.hosts[0].late.lock() = Instant::now().checked_sub(LAST_FOR);
        assert_eq!(hosts.order(), [0, 1, 2]);
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_tried_under_its_name() {
        let hosts = hosts("postgres://u@localhost:7/d");
        let configs = hosts.configs(&hosts.hosts[0]).await;
        assert!(!configs.is_empty());
        for config in configs {
            assert_eq!(config.get_hosts(), [Host::Tcp("localhost".into())]);
            assert!(config.get_hostaddrs()[0].is_loopback() && config.get_ports() == [7], "{config:?}");
        }
    }
}
