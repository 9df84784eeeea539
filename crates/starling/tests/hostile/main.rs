//! What strangers do to a node on purpose: slow and half-open connections, floods, bombs, forged tokens and tickets, requests that
//! two servers read differently. Each test holds the answer against the protocol, the node's memory against a bound, and
//! asks all along whether somebody else on the same node is served ([`witness`]).
//!
//! What single bad frames, fields, tokens and names get is shown elsewhere: `contract` (`frames`, `websocket`, `tokens`, `keys`, `limits`,
//! `tenants`, `resume`) and `http`. `docs/security.md` has the whole table.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bombs;
mod contents;
mod endings;
mod flooder;
mod floods;
mod handshakes;
mod hashing;
mod requests;
mod slow_lines;
mod starving;
mod tickets;
mod tokens;
mod wire;
mod witness;

use std::time::Duration;

use starling_testkit::node::Node;

/// One at a time: the machine is small, and memory is measured.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long something may take that happens at once on a machine that is not busy.
const SOON: Duration = Duration::from_secs(60);

/// What a node's memory was before something, to be compared with what it is later.
struct Memory {
    before: u64,
}

impl Memory {
    fn of(node: &Node) -> Self {
        Self { before: node.rss_bytes().unwrap() }
    }

    /// The node has not grown by more than this since, and says by how much it has.
    #[track_caller]
    fn grew_at_most(&self, node: &Node, bytes_max: u64, what: &str) {
        let growth = node.rss_bytes().unwrap().saturating_sub(self.before);
        println!("{what}: the node grew by {} KiB", growth >> 10);
        assert!(growth <= bytes_max, "{what}: the node grew by {growth} bytes");
    }
}

/// How many files, sockets among them, the node has open.
fn files(node: &Node) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count() as u64
}

/// So many MiB.
const fn mib(count: u64) -> u64 {
    count << 20
}
