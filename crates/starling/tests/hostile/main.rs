//! Attacks on a node: slow and half-open connections, floods, bombs, forged tokens and tickets, requests that
//! two servers read differently. Each test checks the response against the protocol and the node's memory against a bound, and
//! checks that another user of the same node is served all the time ([`witness`]).
//!
//! Other tests cover single bad frames, fields, tokens and names: `contract` (`frames`, `websocket`, `tokens`, `keys`, `limits`,
//! `tenants`, `resume`) and `http`. `docs/security.md` has the whole table.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bombs;
mod contents;
mod endings;
mod flooder;
mod floods;
mod handshakes;
mod hashing;
mod pace;
mod requests;
mod slow_lines;
mod starving;
mod tickets;
mod tokens;
mod wire;
mod witness;

use std::time::Duration;

use starling_testkit::node::Node;

/// Only one test at a time, because memory is measured.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Timeout for something that happens at once on an idle machine. On one that is busy with everything else, a minute was too short.
const SOON: Duration = Duration::from_secs(240);

/// A node's memory at an earlier time, for comparison.
struct Memory {
    before: u64,
}

impl Memory {
    fn of(node: &Node) -> Self {
        Self { before: node.rss_bytes().unwrap() }
    }

    /// Checks that the node has not grown by more than this since, and returns its growth.
    #[track_caller]
    fn grew_at_most(&self, node: &Node, bytes_max: u64, what: &str) {
        let growth = node.rss_bytes().unwrap().saturating_sub(self.before);
        println!("{what}: the node grew by {} KiB", growth >> 10);
        assert!(growth <= bytes_max, "{what}: the node grew by {growth} bytes");
    }
}

/// Returns the number of open files of the node, including sockets.
fn files(node: &Node) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count() as u64
}

/// Converts MiB to bytes.
const fn mib(count: u64) -> u64 {
    count << 20
}
