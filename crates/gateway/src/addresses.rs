//! Limits of one address: open connections, and handshakes per second.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use starling_rate::{Allowance, Line, Rate};
use starling_settings::{COUNT_MAX, count, settings};
use tokio::time::Instant;

use crate::metrics::METRICS;
use crate::swept::SweptMap;

settings! {
    /// What one address may do; 0: no limit.
    #[derive(Copy)]
    pub struct AddressLimits {
        /// Connections of one address on one node.
        setting connections: u32 = { Limits "limit_address_connections" count(1_000, 0..=COUNT_MAX) }
        /// Handshakes per second of one address on one node.
        setting handshakes_per_second: u32 = { Limits "limit_address_handshakes_per_second" count(100, 0..=COUNT_MAX) }
    }
}

/// Counts per address.
pub(crate) struct Addresses {
    limits: AddressLimits,
    began: Instant,
    /// Addresses with a connection, which are no more than the process may have files, and those of the last seconds.
    entries: Mutex<SweptMap<IpAddr, Entry>>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    open: u32,
    /// Its clock begins at [`Addresses::began`].
    handshakes: Allowance,
    /// Retry times given to refused connections, by the same clock.
    waiting: Line,
}

/// Least wait of a client that was refused a connection, microseconds: nobody knows when a place becomes free.
const FULL_US: u64 = 1_000_000;

/// The reason why an address may not connect now, and how long it should wait, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has as many connections as it may.
    Connections(u64),
    /// It makes handshakes too often.
    Handshakes(u64),
}

impl Refusal {
    /// How long to wait, milliseconds.
    pub fn retry_after_ms(self) -> u64 {
        match self {
            Refusal::Connections(ms) | Refusal::Handshakes(ms) => ms,
        }
    }

    /// Counts the refusal, whether the address is the peer's or one that a load balancer speaks for.
    pub fn count(self) {
        match self {
            Refusal::Connections(_) => METRICS.limited_connections.increment(1),
            Refusal::Handshakes(_) => METRICS.limited_handshakes.increment(1),
        }
    }

    /// The message for the client.
    pub fn message(self) -> &'static str {
        match self {
            Refusal::Connections(_) => "too many connections of this address",
            Refusal::Handshakes(_) => "too many handshakes of this address",
        }
    }
}

/// Counts a connection against its address for as long as it lives.
pub(crate) struct AddressGuard {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub fn new(limits: AddressLimits) -> Arc<Addresses> {
        Arc::new(Addresses { limits, began: Instant::now(), entries: Mutex::default() })
    }

    /// Counts a connection, if its address may have one more.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Option<AddressGuard>, Refusal> {
        self.count(address, self.limits.handshakes_per_second)
    }

    /// Counts a request that a load balancer forwards for this address, as a connection for as long as it is under way, but not as a
    /// handshake.
    pub fn enter_request(self: &Arc<Self>, address: IpAddr) -> Result<Option<AddressGuard>, Refusal> {
        self.count(address, 0)
    }

    fn count(
        self: &Arc<Self>,
        address: IpAddr,
        handshakes_per_second: u32,
    ) -> Result<Option<AddressGuard>, Refusal> {
        let connections = self.limits.connections;
        if connections == 0 && handshakes_per_second == 0 {
            return Ok(None);
        }
        let address = subject(address);
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut entries = self.entries.lock();
        let entry = entries.entry(address, |entry| entry.open > 0 || !entry.handshakes.is_whole(now));
        if connections > 0 && entry.open >= connections {
            // Refused clients come back as fast as they may make handshakes.
            let rate = Rate::per_second(self.limits.handshakes_per_second);
            let away_us = rate.map_or(FULL_US, |rate| entry.waiting.place(now, FULL_US, rate));
            return Err(Refusal::Connections(away_us.div_ceil(1_000)));
        }
        if let Some(rate) = Rate::per_second(handshakes_per_second) {
            let taken = entry.handshakes.take(now, rate);
            taken.map_err(|away_us| Refusal::Handshakes(away_us.div_ceil(1_000)))?;
        }
        entry.open += 1;
        Ok(Some(AddressGuard { addresses: self.clone(), address }))
    }
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        let mut entries = self.addresses.entries.lock();
        if let Some(entry) = entries.get_mut(&self.address) {
            entry.open -= 1;
            if entry.open == 0 && self.addresses.limits.handshakes_per_second == 0 {
                entries.remove(&self.address);
            }
        }
    }
}

/// Returns the key that limits count an address by: the IPv4 address, or the /64 prefix of an IPv6 address, since one customer usually
/// has a whole /64.
pub(crate) fn subject(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn connections_are_counted_while_they_live() {
        let addresses = Addresses::new(AddressLimits { connections: 2, handshakes_per_second: 0 });
        let first = addresses.enter(HERE);
        let _second = addresses.enter(HERE);
        assert!(matches!(addresses.enter(HERE), Err(Refusal::Connections(1_000))));
        drop(first);
        assert!(addresses.enter(HERE).is_ok());
    }

    #[test]
    fn requests_count_while_they_are_under_way_and_are_no_handshakes() {
        let addresses = Addresses::new(AddressLimits { connections: 2, handshakes_per_second: 1 });
        assert!((0..100).all(|_| addresses.enter_request(HERE).is_ok()));
        let _held = [addresses.enter_request(HERE), addresses.enter(HERE)];
        assert!(matches!(addresses.enter_request(HERE), Err(Refusal::Connections(_))));
    }

    #[test]
    fn a_burst_of_handshakes_ends() {
        let addresses = Addresses::new(AddressLimits { connections: 0, handshakes_per_second: 5 });
        let away = |refusal| match refusal {
            Err(Refusal::Handshakes(ms)) => Some(ms),
            _ => None,
        };
        let places: Vec<u64> = (0..20).filter_map(|_| away(addresses.enter(HERE))).collect();
        assert!((10..=15).contains(&places.len()), "{places:?}");
        assert!(places.is_sorted() && *places.last().expect("refused") > 1_000, "{places:?}");
    }

    #[test]
    fn a_holder_of_ipv6_is_one_subject() {
        let address = |text: &str| subject(text.parse().expect("address"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:127.0.0.1"), HERE);
    }
}
