//! The outcome as JSON.

use serde_json::{Value, json};

use super::measure::Percentiles;
use super::outcome::Outcome;

/// The settings that all cases of a run share.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed of all random choices.
    pub seed: u64,
    /// Duration of each fault.
    pub seconds: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of clients.
    pub members: usize,
    /// Sends per second of all clients together.
    pub sends_per_second: f64,
    /// Whether the program was built with optimisations.
    pub release: bool,
    /// Number of planned cases. The report of an unfinished run has fewer.
    pub cases: usize,
}

/// Renders the report. Times are in milliseconds, sizes in bytes.
pub fn json(run: &Run, outcomes: &[Outcome]) -> Value {
    json!({
        "sound": outcomes.iter().all(Outcome::is_sound),
        "seed": run.seed,
        "seconds": run.seconds,
        "nodes": run.nodes,
        "members": run.members,
        "sends_per_second": run.sends_per_second,
        "release": run.release,
        "cases": run.cases,
        "faults": outcomes.iter().map(one).collect::<Vec<_>>(),
    })
}

fn one(outcome: &Outcome) -> Value {
    let (measures, verdict) = (&outcome.measures, &outcome.measures.verdict);
    let windows = outcome.windows.iter();
    let curve = measures.curve.iter();
    json!({
        "fault": outcome.name,
        "about": outcome.about,
        "sound": outcome.is_sound(),
        "sent": measures.sent,
        "acknowledged": verdict.acknowledged,
        "delivered": verdict.messages,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "out_of_order": verdict.out_of_order,
        "altered": verdict.altered,
        "strays": verdict.strays,
        "unkept": verdict.unkept,
        "logged": measures.logged,
        "repeated": measures.repeated,
        "detect_ms": measures.detect.map(ms),
        "recover_ms": measures.recover.map(ms),
        "acknowledge": percentiles(&measures.acknowledge),
        "deliver": percentiles(&measures.deliver),
        "deliver_meanwhile": percentiles(&measures.deliver_meanwhile),
        "back": measures.back.map(|back| json!({
            "clients": back.clients, "half_ms": ms(back.half), "p99_ms": ms(back.most), "all_ms": ms(back.all),
        })),
        "away": percentiles(&measures.away),
        "interruptions": percentiles(&measures.interruptions),
        "cuts": measures.cuts,
        "retries": measures.retries,
        "duplicates": measures.duplicates,
        "sockets_ended": measures.ends,
        "refused": measures.refused,
        "sessions_begun_afresh": measures.fresh_sessions,
        "memory": outcome.memory.iter().map(|memory| json!({
            "node": memory.node, "before": memory.before, "after": memory.after,
        })).collect::<Vec<_>>(),
        "moments": windows.map(|window| json!({
            "fault": window.label, "from_ms": ms(window.from), "to_ms": ms(window.to),
        })).collect::<Vec<_>>(),
        "single_speakers": outcome.single_sender.map(|single_sender| json!({
            "sent": single_sender.sent, "lost": single_sender.verdict.lost, "took": percentiles(&single_sender.took),
        })),
        "curve": curve.map(|point| json!({
            "at_ms": ms(point.at), "deliver": percentiles(&point.deliver),
            "acknowledged_per_second": point.acknowledged, "refused_per_second": point.refused,
        })).collect::<Vec<_>>(),
        "notes": outcome.notes,
        "warnings": outcome.warnings,
        "failures": outcome.failures,
        "took_ms": outcome.took.as_millis() as u64,
    })
}

fn percentiles(percentiles: &Percentiles) -> Value {
    json!({ "count": percentiles.count, "p50_ms": ms(percentiles.p50), "p99_ms": ms(percentiles.p99), "max_ms": ms(percentiles.max) })
}

/// Milliseconds, to the microsecond.
fn ms(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::faults::measure::{FaultWindow, Measures, Point};

    /// An outcome without failures.
    pub fn outcome(name: &str) -> Outcome {
        let point = |at: u32| Point {
            at: f64::from(at),
            deliver: Percentiles::of(vec![0.001, 0.002, 0.1]),
            acknowledged: 100.0,
            refused: 0.0,
        };
        let measures = Measures {
            sent: 120,
            recover: Some(0.5),
            curve: (0..20).map(point).collect(),
            ..Measures::default()
        };
        Outcome {
            name: name.to_owned(),
            about: "Something <breaks> & is mended".to_owned(),
            measures,
            windows: vec![FaultWindow { label: name.to_owned(), from: 5.0, to: 8.0, drains: false }],
            memory: Vec::new(),
            single_sender: None,
            notes: vec!["a note".to_owned()],
            warnings: Vec::new(),
            failures: Vec::new(),
            took: Duration::from_secs(20),
        }
    }

    /// A run with this many cases.
    pub fn run(cases: usize) -> Run {
        Run { seed: 7, seconds: 6, nodes: 3, members: 200, sends_per_second: 200.0, release: false, cases }
    }

    #[test]
    fn a_failure_of_one_is_that_of_the_whole() {
        let run = run(2);
        let mut bad = outcome("two");
        assert_eq!(json(&run, &[outcome("one"), bad.clone()])["sound"], true);
        bad.failures.push("1 lost".to_owned());
        let report = json(&run, &[outcome("one"), bad]);
        assert_eq!((&report["sound"], &report["seed"]), (&Value::Bool(false), &Value::from(7)));
        assert_eq!(report["faults"][0]["recover_ms"], 500.0);
        assert_eq!(report["faults"][1]["failures"][0], "1 lost");
    }
}
