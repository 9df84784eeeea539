//! Limits of HTTP requests, per connection or address and per user.
//!
//! A request is counted on its connection or, behind a load balancer, on the client's address; and on its user. A large answer counts as
//! several requests, since it costs as much.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use starling_model::{TenantName, UserName};
use starling_rate::{Allowance, Rate};
use starling_settings::{COUNT_MAX, count, settings};
use tokio::time::Instant;

use crate::addresses::subject;
use crate::swept::SweptMap;

/// Bytes of an answer that one request pays for. Each further piece of this size counts as another request.
const BYTES_PER_REQUEST: u64 = 16 * 1024;

settings! {
    /// HTTP requests per second, with a burst of as many; 0: no limit.
    #[derive(Copy)]
    pub struct RequestLimits {
        /// HTTP requests per second on one connection; behind `trusted_proxies`, of one address. A response counts as one request
        /// per started 16 KiB.
        setting connection_per_second: u32 = { Limits "limit_connection_requests_per_second" count(1_000, 0..=COUNT_MAX) }
        /// HTTP requests per second of one user on one node, counted in the same way.
        setting user_per_second: u32 = { Limits "limit_user_requests_per_second" count(5_000, 0..=COUNT_MAX) }
    }
}

/// Counts of HTTP requests.
pub(crate) struct Requests {
    limits: RequestLimits,
    began: Instant,
    under_way: AtomicU64,
    /// Allowances of addresses behind load balancers.
    addresses: Mutex<SweptMap<IpAddr, Allowance>>,
    users: Mutex<SweptMap<User, Allowance>>,
}

/// Tenant and user.
type User = (TenantName, UserName);

/// A connection's own allowance. Its clock is that of [`Requests`].
pub(crate) type ConnectionAllowance = Cell<Allowance>;

/// Those on whom a request is counted.
pub(crate) struct RequestAccounts<'a> {
    requests: &'a Requests,
    connection: &'a ConnectionAllowance,
    /// The client's address behind a load balancer, which is counted in place of the connection.
    forwarded: Option<IpAddr>,
    user: Option<User>,
}

impl Requests {
    /// Counts without requests.
    pub fn new(limits: RequestLimits) -> Requests {
        Requests {
            limits,
            began: Instant::now(),
            under_way: AtomicU64::new(0),
            addresses: Mutex::default(),
            users: Mutex::default(),
        }
    }

    /// Counts a request as under way until the guard is dropped.
    pub fn enter(&self) -> UnderWay<'_> {
        UnderWay::new(&self.under_way)
    }

    /// Those on whom a request of a connection is counted. `forwarded` is the client's address behind a load balancer.
    pub fn accounts<'a>(
        &'a self,
        connection: &'a ConnectionAllowance,
        forwarded: Option<IpAddr>,
    ) -> RequestAccounts<'a> {
        RequestAccounts { requests: self, connection, forwarded: forwarded.map(subject), user: None }
    }

    /// Number of requests that are under way.
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl RequestAccounts<'_> {
    /// Counts the request on a user, too.
    pub fn set_user(&mut self, tenant: TenantName, user: UserName) {
        self.user = Some((tenant, user));
    }

    /// Charges one request to the connection, or to the address. `Err`: how long to wait, microseconds.
    pub fn take_for_source(&self) -> Result<(), u64> {
        let Some(rate) = Rate::per_second(self.requests.limits.connection_per_second) else { return Ok(()) };
        let now_us = self.requests.now_us();
        self.with_source(now_us, |allowance| allowance.take(now_us, rate))
    }

    /// Charges one request to the user. `Err`: how long to wait, microseconds.
    pub fn take_for_user(&self) -> Result<(), u64> {
        let Some(rate) = Rate::per_second(self.requests.limits.user_per_second) else { return Ok(()) };
        let now_us = self.requests.now_us();
        self.with_user(now_us, |allowance| allowance.take(now_us, rate)).unwrap_or(Ok(()))
    }

    /// Counts an answer of so many bytes as the further requests that it costs.
    pub fn charge_answer(&self, bytes: u64) {
        self.charge(bytes.saturating_sub(1) / BYTES_PER_REQUEST);
    }

    fn charge(&self, cells: u64) {
        if cells == 0 {
            return;
        }
        let (now_us, limits) = (self.requests.now_us(), self.requests.limits);
        if let Some(rate) = Rate::per_second(limits.connection_per_second) {
            self.with_source(now_us, |allowance| allowance.charge(now_us, cells, rate));
        }
        if let Some(rate) = Rate::per_second(limits.user_per_second) {
            self.with_user(now_us, |allowance| allowance.charge(now_us, cells, rate));
        }
    }

    fn with_source<T>(&self, now_us: u64, act: impl FnOnce(&mut Allowance) -> T) -> T {
        match self.forwarded {
            Some(address) => {
                let mut addresses = self.requests.addresses.lock();
                act(addresses.entry(address, |allowance| !allowance.is_whole(now_us)))
            }
            None => {
                let mut allowance = self.connection.get();
                let done = act(&mut allowance);
                self.connection.set(allowance);
                done
            }
        }
    }

    fn with_user<T>(&self, now_us: u64, act: impl FnOnce(&mut Allowance) -> T) -> Option<T> {
        let user = self.user.clone()?;
        let mut users = self.requests.users.lock();
        Some(act(users.entry(user, |allowance| !allowance.is_whole(now_us))))
    }
}

/// Counts a request for as long as it is under way, however it ends.
pub(crate) struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicU64) -> UnderWay<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        UnderWay(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    /// So slow that no test lives to see an allowance become whole.
    const LIMITS: RequestLimits = RequestLimits { connection_per_second: 20, user_per_second: 30 };

    fn taken(take: impl Fn() -> Result<(), u64>) -> usize {
        (0..1_000).take_while(|_| take().is_ok()).count()
    }

    fn accounts<'a>(
        requests: &'a Requests,
        connection: &'a ConnectionAllowance,
        forwarded: Option<IpAddr>,
        user: &str,
    ) -> RequestAccounts<'a> {
        RequestAccounts { requests, connection, forwarded, user: Some(("t".into(), user.into())) }
    }

    #[test]
    fn a_connection_has_its_own_allowance_and_so_has_each_address_behind_a_load_balancer() {
        let requests = Requests::new(LIMITS);
        let (one, other) = (Cell::default(), Cell::default());
        let by = |connection, forwarded| {
            let accounts = accounts(&requests, connection, forwarded, "ada");
            taken(|| accounts.take_for_source())
        };
        // On a slow machine some more are allowed meanwhile.
        assert!((20..500).contains(&by(&one, None)));
        assert!((20..500).contains(&by(&other, None)));
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));
        assert!((20..500).contains(&by(&one, Some(HERE))), "the balancer's own connection does not count");
        assert!((20..500).contains(&by(&one, Some(elsewhere))));
    }

    #[test]
    fn a_user_has_one_allowance_over_all_connections_and_pays_for_large_answers() {
        let requests = Requests::new(LIMITS);
        let (one, other) = (Cell::default(), Cell::default());
        let ada = accounts(&requests, &one, None, "ada");
        assert!((30..500).contains(&taken(|| ada.take_for_user())));
        let bob = accounts(&requests, &other, None, "bob");
        bob.charge(64 * 1_000);
        let away_us = bob.take_for_user().expect_err("64,000 are more than 30");
        assert!(away_us > 1_000 * 1_000_000, "{away_us}");
        assert!(bob.take_for_source().is_err());
        assert!(accounts(&requests, &other, None, "eve").take_for_user().is_ok());
    }

    #[test]
    fn without_limits_nothing_is_remembered() {
        let requests = Requests::new(RequestLimits { connection_per_second: 0, user_per_second: 0 });
        let connection = Cell::default();
        let ada = accounts(&requests, &connection, Some(HERE), "ada");
        assert_eq!(taken(|| ada.take_for_source().and_then(|()| ada.take_for_user())), 1_000);
        ada.charge(1 << 40);
        assert!(ada.take_for_source().is_ok());
    }
}
