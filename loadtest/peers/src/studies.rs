//! Growth: how Starling's costs change with members, sessions, load and nodes.

use std::collections::BTreeMap;

use anyhow::Result;
use starling_peers_load::{Dialect, Outcome, Pace, Shape};

use crate::peer::Peer;
use crate::results::{Point, fault};
use crate::servers::{Setup, Task};

/// Connections that a node gets at most: a process may open 20,000 files on many machines.
const CONNECTIONS_PER_NODE: usize = 15_000;

/// A study: what grows, and the figures that are drawn; the first one is the chart's.
pub struct Study {
    /// Its name in files.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What grows.
    pub axis: &'static str,
    /// The names of its figures, which are headings, too.
    pub figures: &'static [(&'static str, &'static str)],
}

const NODE_US: &str = "node µs a delivery";
const NODE_US_MESSAGE: &str = "node µs a message";
const REDIS_COMMANDS: &str = "Redis commands a message";
const REDIS_BYTES: &str = "Redis output bytes a message";
const STATEMENTS: &str = "SQL statements a message";
const RATE: &str = "messages a second";
const BYTES: &str = "bytes a session";

/// All studies.
pub const STUDIES: &[Study] = &[
    Study {
        name: "members",
        title: "Processor time of the nodes by members of a room",
        axis: "members",
        figures: &[(NODE_US, NODE_US), (RATE, RATE)],
    },
    Study {
        name: "sessions",
        title: "Memory by idle sessions",
        axis: "sessions",
        figures: &[(BYTES, BYTES)],
    },
    Study {
        name: "load-redis",
        title: "Commands of Redis by load",
        axis: "messages a second",
        figures: &[(REDIS_COMMANDS, REDIS_COMMANDS), (NODE_US_MESSAGE, NODE_US_MESSAGE)],
    },
    Study {
        name: "load-sql",
        title: "Statements of PostgreSQL by load",
        axis: "messages a second",
        figures: &[(STATEMENTS, STATEMENTS)],
    },
    Study {
        name: "nodes-redis",
        title: "What Redis sends for a message of a room on two nodes, by nodes",
        axis: "nodes",
        figures: &[(REDIS_BYTES, REDIS_BYTES), (REDIS_COMMANDS, REDIS_COMMANDS)],
    },
    Study {
        name: "nodes-cpu",
        title: "Processor time of all nodes for a message of a room on two nodes, by nodes",
        axis: "nodes",
        figures: &[(NODE_US_MESSAGE, NODE_US_MESSAGE)],
    },
];

/// One measurement of a study.
pub struct Measurement {
    /// The names of the studies that it belongs to.
    pub studies: &'static [&'static str],
    line: &'static str,
    amount: f64,
    task: Task,
}

/// What is measured, from small to large.
pub fn measurements() -> Vec<Measurement> {
    let mut all = Vec::new();
    let task = |nodes, dialect, shape, pace| Task {
        peer: Peer::Starling,
        nodes,
        dialect,
        shape,
        pace,
        generator_per_node: false,
        counts_statements: false,
    };
    for members in [10, 100, 1_000, 10_000] {
        let shape = Shape::FanOut { subscribers: members };
        let steady = Pace::PerSecond(20_000.0 / members as f64);
        for (line, pace) in
            [("as fast as it goes", Pace::Outstanding(32)), ("20,000 deliveries a second", steady)]
        {
            let task = task(2, Dialect::StarlingTopic, shape, pace);
            all.push(Measurement { studies: &["members"], line, amount: members as f64, task });
        }
    }
    for sessions in [1_000, 5_000, 10_000, 50_000_usize] {
        let nodes = sessions.div_ceil(CONNECTIONS_PER_NODE);
        let shape = Shape::Idle { connections: sessions / nodes, rooms: 1_000 };
        let idle = task(nodes, Dialect::StarlingTopic, shape, Pace::Silent);
        let task = Task { generator_per_node: true, ..idle };
        all.push(Measurement { studies: &["sessions"], line: "topic, JSON", amount: sessions as f64, task });
    }
    let rooms = Shape::Rooms { rooms: 1_000, members: 5, spread: 2 };
    for rate in [100, 500, 1_500, 5_000] {
        for (line, dialect) in
            [("conversations", Dialect::StarlingConversation), ("topics", Dialect::StarlingTopic)]
        {
            let steady = task(2, dialect, rooms, Pace::PerSecond(f64::from(rate)));
            let task = Task { counts_statements: true, ..steady };
            all.push(Measurement {
                studies: &["load-redis", "load-sql"],
                line,
                amount: f64::from(rate),
                task,
            });
        }
    }
    for nodes in [1, 2, 4, 6] {
        for (line, dialect) in
            [("conversations", Dialect::StarlingConversation), ("topics", Dialect::StarlingTopic)]
        {
            let shape = Shape::Rooms { rooms: 600, members: 4, spread: nodes.min(2) };
            let task = task(nodes, dialect, shape, Pace::PerSecond(1_000.0));
            let studies = &["nodes-redis", "nodes-cpu"];
            all.push(Measurement { studies, line, amount: nodes as f64, task });
        }
    }
    all
}

impl Measurement {
    /// What it is, in a few words.
    pub fn name(&self) -> String {
        format!("{} {} ({})", self.studies.join(", "), self.amount, self.line)
    }

    /// Measures. Returns a point for each of its studies.
    ///
    /// # Errors
    /// When the servers or a generator fail.
    pub async fn run(&self, setup: &Setup) -> Result<Vec<Point>> {
        let outcomes = Box::pin(setup.run(self.task)).await?;
        let figures = figures(&outcomes);
        let fault = outcomes.iter().find_map(fault);
        let point = |study: &&str| Point {
            study: (*study).to_owned(),
            line: self.line.to_owned(),
            amount: self.amount,
            fault: fault.clone(),
            figures: figures.clone(),
        };
        Ok(self.studies.iter().map(point).collect())
    }
}

/// The figures of a measurement, over all of its generators.
fn figures(outcomes: &[Outcome]) -> BTreeMap<String, f64> {
    let sum = |figure: fn(&Outcome) -> f64| outcomes.iter().map(figure).sum::<f64>();
    let (sent, delivered) = (sum(|one| one.sent as f64), sum(|one| one.delivered as f64));
    let mut figures = BTreeMap::new();
    let mut set = |name: &str, value: f64| figures.insert(name.to_owned(), value);
    if sent > 0.0 {
        set(NODE_US, sum(|one| one.nodes_us) / delivered.max(1.0));
        set(NODE_US_MESSAGE, sum(|one| one.nodes_us) / sent);
        set(REDIS_COMMANDS, sum(|one| one.redis_commands as f64) / sent);
        set(REDIS_BYTES, sum(|one| one.redis_output_bytes as f64) / sent);
        set(RATE, sum(|one| one.messages_per_second));
        if outcomes.iter().all(|one| one.statements.is_some()) {
            set(STATEMENTS, sum(|one| one.statements.unwrap_or(0) as f64) / sent);
        }
    }
    let connected = sum(|one| one.connected as f64);
    set(BYTES, sum(|one| one.connection_bytes * one.connected as f64) / connected.max(1.0));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_belongs_to_a_study_and_every_study_has_some() {
        let measurements = measurements();
        for study in STUDIES {
            assert!(measurements.iter().any(|one| one.studies.contains(&study.name)), "{}", study.name);
        }
        for measurement in &measurements {
            for name in measurement.studies {
                assert!(STUDIES.iter().any(|study| study.name == *name), "{name}");
            }
            let Task { shape, nodes, generator_per_node, .. } = measurement.task;
            let all = shape.connections(nodes) * if generator_per_node { nodes } else { 1 };
            assert!(all / nodes <= CONNECTIONS_PER_NODE, "{}", measurement.name());
        }
    }

    #[test]
    fn figures_are_sums_over_the_generators() {
        let one = |connected, bytes| Outcome { connected, connection_bytes: bytes, ..Outcome::default() };
        assert_eq!(figures(&[one(100, 10.0), one(300, 20.0)])[BYTES], 17.5);
        let busy =
            Outcome { sent: 10, delivered: 50, nodes_us: 100.0, redis_commands: 20, ..Outcome::default() };
        let figures = figures(&[busy]);
        assert_eq!((figures[NODE_US], figures[NODE_US_MESSAGE], figures[REDIS_COMMANDS]), (2.0, 10.0, 2.0));
        assert!(!figures.contains_key(STATEMENTS), "what was not counted is not zero");
    }
}
