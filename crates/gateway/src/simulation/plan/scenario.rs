//! What a run is about.

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Publications are late, out of order, repeated or lost.
    Order,
    /// Links to the broker are cut, or deaf.
    Links,
    /// A node dies, as by kill -9. Its clients come back elsewhere, or not at all.
    Crash,
    /// Nodes are replaced one after the other.
    Drain,
    /// The database or the session store is down or loses its data, and calls get no answer.
    Outages,
    /// Clients stop reading; inboxes and outboxes are small.
    SlowReaders,
    /// A node stands still for a while, perhaps for longer than its lease.
    Freeze,
    /// Clients are away for longer than the resume window, or for almost as long.
    Absence,
    /// Connections reach their highest age, tokens expire, nodes ask some of their clients to move.
    Moves,
    /// Clients open one connection after the other for the same session, on several nodes, and operators end sessions.
    Races,
    /// All of these.
    Mixed,
    /// Conversations are deleted, and created again under their names.
    Remakes,
}

/// Every scenario, in the order in which seeds take them.
pub const SCENARIOS: [Scenario; 12] = [
    Scenario::Order,
    Scenario::Links,
    Scenario::Crash,
    Scenario::Drain,
    Scenario::Outages,
    Scenario::SlowReaders,
    Scenario::Freeze,
    Scenario::Absence,
    Scenario::Moves,
    Scenario::Races,
    Scenario::Mixed,
    Scenario::Remakes,
];
