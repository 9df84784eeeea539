//! Free ports of the loopback, reserved for one process.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};
use rand::Rng;

use crate::folder;

/// A port of the loopback, reserved as long as this value lives, even while nothing listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The reservation: a lock on a file named for the port, which the kernel frees with the process.
    _reservation: File,
}

impl Port {
    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Reserves a port that nobody listens on.
///
/// # Errors
/// When none is found, or the reservations can't be written.
pub fn free_port() -> Result<Port> {
    let reservations = folder::base()?.join("ports");
    fs::create_dir_all(&reservations).context("make the folder of port reservations")?;
    let ports = below_outgoing_ports();
    for _ in 0..ATTEMPTS_MAX {
        let number = rand::rng().random_range(ports.clone());
        let file = File::create(reservations.join(number.to_string())).context("reserve a port")?;
        if file.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
            return Ok(Port { number, _reservation: file });
        }
    }
    bail!("found no free port in {ports:?}")
}

const ATTEMPTS_MAX: usize = 500;

/// Outgoing connections take their ports from a range of the kernel's. A listener's port from there could be gone when the
/// server comes back after a restart, so take it from below.
fn below_outgoing_ports() -> std::ops::Range<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
    if lowest > 14_000 { 10_000..lowest } else { 10_000..60_000 }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn reserved_ports_differ_and_can_be_bound() {
        let ports: Vec<Port> = (0..50).map(|_| free_port().unwrap()).collect();
        let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        for port in &ports {
            TcpListener::bind(port.address()).unwrap();
        }
    }
}
