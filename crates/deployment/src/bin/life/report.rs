//! The report: what clients saw in each phase, and what was lost, doubled or out of order over all.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use starling_deployment::talk::{History, Outcome};
use starling_testkit::client::Verdict;

use crate::autoscaling::Timeline;
use crate::phase::{Phase, Phases};

/// The report of a run.
pub struct Report {
    rows: Vec<Row>,
    verdict: Verdict,
    sent: u64,
    logged: u64,
    log_faults: u64,
    repeated: u64,
    refused: u64,
    fresh_sessions: u64,
    timeline: Timeline,
}

/// What clients saw in one phase.
struct Row {
    name: &'static str,
    note: String,
    seconds: f64,
    /// Messages that were acknowledged, by the time of their first try.
    sent: usize,
    /// The longest time from the first try of a send to its acknowledgement, in seconds.
    slowest_send: f64,
    /// Moves to another node that a node had asked for.
    moves: usize,
    /// Connections that ended before the client had another one, by how they ended.
    lost: BTreeMap<String, usize>,
    /// The longest time that a client was without a connection, in seconds.
    longest_interruption: f64,
}

impl Report {
    /// Computes the figures.
    pub fn of(phases: &Phases, outcome: &Outcome, timeline: Timeline) -> Self {
        let sum = |of: fn(&History) -> u64| outcome.histories.iter().map(of).sum();
        Self {
            rows: phases.list.iter().map(|phase| Row::of(phase, outcome)).collect(),
            verdict: outcome.verdict,
            sent: sum(|history| history.sent),
            logged: outcome.logged,
            log_faults: outcome.log_faults,
            repeated: outcome.repeated,
            refused: sum(|history| history.refused),
            fresh_sessions: sum(|history| history.fresh_sessions),
            timeline,
        }
    }

    /// Whether nothing was lost, doubled or out of order, and the log is whole.
    pub fn is_sound(&self) -> bool {
        self.verdict.is_clean() && self.verdict.messages > 0 && self.log_faults + self.repeated == 0
    }

    /// Prints it.
    pub fn print(&self) {
        println!(
            "\n{:<16} {:>7} {:>7} {:>12} {:>6} {:>6} {:>13}",
            "phase", "seconds", "sent", "slowest send", "moves", "lost", "interruption"
        );
        for row in &self.rows {
            let lost: usize = row.lost.values().sum();
            println!(
                "{:<16} {:>7.1} {:>7} {:>10.0} ms {:>6} {:>6} {:>10.0} ms  {}",
                row.name,
                row.seconds,
                row.sent,
                row.slowest_send * 1e3,
                row.moves,
                lost,
                row.longest_interruption * 1e3,
                row.lost.iter().map(|(how, number)| format!("{number} {how}")).collect::<Vec<_>>().join(", "),
            );
        }
        println!("\n{} sent, {} in the log; {}", self.sent, self.logged, self.verdict);
        println!(
            "retries that became second messages {}, faults of the log {}, refused with a time to retry {}, sessions begun afresh {}",
            self.repeated, self.log_faults, self.refused, self.fresh_sessions
        );
        println!("{}", if self.is_sound() { "all held" } else { "FAILED" });
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let verdict = &self.verdict;
        json!({
            "sound": self.is_sound(),
            "sent": self.sent,
            "logged": self.logged,
            "seen": verdict.messages,
            "lost": verdict.lost,
            "doubled": verdict.doubled,
            "out_of_order": verdict.out_of_order,
            "altered": verdict.altered,
            "strays": verdict.strays,
            "acknowledged": verdict.acknowledged,
            "acknowledged_not_kept": verdict.unkept,
            "repeated": self.repeated,
            "log_faults": self.log_faults,
            "refused": self.refused,
            "fresh_sessions": self.fresh_sessions,
            "phases": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "autoscaler": self.timeline.steps.iter().map(|step| json!({
                "seconds": step.at, "pods": step.current, "wanted": step.desired, "connections_per_pod": step.connections,
            })).collect::<Vec<_>>(),
        })
    }
}

impl Row {
    fn of(phase: &Phase, outcome: &Outcome) -> Self {
        let within = |at: &Instant| (phase.from..phase.to).contains(at);
        let histories = || outcome.histories.iter();
        let sends = histories().flat_map(|history| &history.acknowledged).filter(|(at, _)| within(at));
        let interruptions: Vec<_> =
            histories().flat_map(|history| &history.interruptions).filter(|i| within(&i.from)).collect();
        let mut lost = BTreeMap::new();
        for interruption in &interruptions {
            *lost.entry(interruption.cause.clone()).or_default() += 1;
        }
        Self {
            name: phase.name,
            note: phase.note.clone(),
            seconds: (phase.to - phase.from).as_secs_f64(),
            sent: sends.clone().count(),
            slowest_send: sends.map(|(_, took)| took.as_secs_f64()).fold(0.0, f64::max),
            moves: histories().flat_map(|history| &history.moves).filter(|at| within(at)).count(),
            lost,
            longest_interruption: interruptions.iter().map(|i| i.took.as_secs_f64()).fold(0.0, f64::max),
        }
    }

    fn json(&self) -> Value {
        json!({
            "phase": self.name,
            "note": self.note,
            "seconds": self.seconds,
            "acknowledged": self.sent,
            "slowest_send_seconds": self.slowest_send,
            "moves": self.moves,
            "lost_connections": self.lost,
            "longest_interruption_seconds": self.longest_interruption,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(verdict: Verdict) -> Report {
        let outcome = Outcome { histories: Vec::new(), verdict, logged: 9, log_faults: 0, repeated: 0 };
        Report::of(&Phases { begun: Instant::now(), list: Vec::new() }, &outcome, Timeline::default())
    }

    #[test]
    fn a_run_is_sound_only_if_messages_were_seen_and_none_is_missing() {
        let clean = Verdict { messages: 9, acknowledged: 9, ..Verdict::default() };
        assert!(report(clean).is_sound());
        assert!(!report(Verdict::default()).is_sound(), "nobody saw anything");
        assert!(!report(Verdict { lost: 1, ..clean }).is_sound());
        assert!(!report(Verdict { doubled: 1, ..clean }).is_sound());
        assert!(!report(Verdict { out_of_order: 1, ..clean }).is_sound());
        assert!(!report(Verdict { unkept: 1, ..clean }).is_sound());
        let retried = Report { repeated: 1, ..report(clean) };
        assert!(!retried.is_sound(), "a retry became a second message");
        assert!(!Report { log_faults: 1, ..report(clean) }.is_sound());
    }

    #[test]
    fn a_phase_without_clients_has_a_row_of_zeros() {
        let from = Instant::now();
        let phase = Phase { name: "calm", from, to: from + Duration::from_secs(2), note: String::new() };
        let outcome = Outcome {
            histories: Vec::new(),
            verdict: Verdict::default(),
            logged: 0,
            log_faults: 0,
            repeated: 0,
        };
        let row = Row::of(&phase, &outcome);
        assert_eq!((row.seconds, row.sent, row.moves, row.longest_interruption), (2.0, 0, 0, 0.0));
    }
}
