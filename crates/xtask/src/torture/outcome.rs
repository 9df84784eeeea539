//! How a case ended, and what is to be thought of it.

use std::time::Duration;

use super::fault::{Case, Fault, Promise};
use super::measure::{Measures, Moment};
use super::quiet::Hearing;

/// How soon a message is shown to all where one alone speaks, and no later one shows that it was missed.
const SINGLE_SPEAKER: Duration = Duration::from_secs(2);
/// What a node may need more after a case than before it, bytes: some times what the busiest case makes it keep.
const GROWTH_MAX: u64 = 512 << 20;

/// How a case ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// What was done, in a sentence.
    pub about: String,
    /// The figures.
    pub measures: Measures,
    /// What was seen where one alone speaks; none where nobody does.
    pub hearing: Option<Hearing>,
    /// The faults.
    pub moments: Vec<Moment>,
    /// Memory of each node: name, bytes before and after; none where it was not there.
    pub memory: Vec<Memory>,
    /// What else is worth to be said.
    pub notes: Vec<String>,
    /// Promises that were not kept to the second.
    pub warnings: Vec<String>,
    /// What makes the whole a failure.
    pub failures: Vec<String>,
    /// How long it took with everything.
    pub took: Duration,
}

/// The memory of a node.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The node.
    pub node: String,
    /// Before the case, bytes; none for a node that came later.
    pub before: Option<u64>,
    /// After it; none for one that has gone.
    pub after: Option<u64>,
}

impl Outcome {
    /// Whether nothing was lost, doubled, swapped, altered or unkept, and everything recovered.
    pub fn is_sound(&self) -> bool {
        self.failures.is_empty()
    }

    /// One that could not be carried to its end.
    pub fn broken(case: Case, error: &anyhow::Error, took: Duration) -> Self {
        Self {
            name: case.name(),
            about: case.fault.about(),
            measures: Measures::default(),
            moments: Vec::new(),
            memory: Vec::new(),
            hearing: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            failures: vec![format!("{error:#}")],
            took,
        }
    }

    /// Holds it against what is promised. Times that are missed a little are warnings: a busy machine misses them too.
    pub fn judge(&mut self, promise: Promise, log_faults: u64) {
        let (measures, verdict) = (&self.measures, &self.measures.verdict);
        let hearing = self.hearing.unwrap_or_default();
        if !verdict.is_clean() {
            self.failures.push(verdict.to_string());
        }
        if !hearing.verdict.is_clean() {
            self.failures.push(format!("where one alone speaks: {}", hearing.verdict));
        }
        if log_faults > 0 {
            self.failures.push(format!("the log itself has {log_faults} faults"));
        }
        if measures.repeated > 0 {
            self.failures.push(format!("{} retries became second messages", measures.repeated));
        }
        if verdict.acknowledged < measures.sent || measures.sent < 100 {
            self.failures.push(format!("{} sends, {} acknowledged", measures.sent, verdict.acknowledged));
        }
        let sent = measures.sent + hearing.sent;
        if measures.logged != sent {
            self.failures.push(format!("{sent} sends, and {} messages in the log", measures.logged));
        }
        for grown in self.memory.iter().filter_map(|memory| memory.grown(GROWTH_MAX)) {
            self.failures.push(grown);
        }
        if measures.recover.is_none() {
            self.warnings.push("full speed was not seen again before the next fault".to_owned());
        }
        let times = [
            ("until it had recovered", measures.recover, Some(promise.recovered_within)),
            (
                "while it lasted, from a message to somebody connected",
                Some(measures.deliver_meanwhile.max),
                promise.shown_within,
            ),
            (
                "without anything shown to a client that follows draining",
                Some(measures.interruptions.max),
                promise.interruption,
            ),
        ];
        for (what, took, promised) in times {
            let (Some(took), Some(promised)) = (took, promised) else { continue };
            let (took, limit) = (Duration::from_secs_f64(took), Promise::limit(promised));
            if took > promised {
                let list = if took > limit { &mut self.failures } else { &mut self.warnings };
                list.push(format!("{took:.2?} {what}; {promised:?} are promised"));
            }
        }
        if hearing.took.max > SINGLE_SPEAKER.as_secs_f64() {
            self.warnings.push(format!(
                "where one alone speaks, {:.1} s from a message to its readers; {SINGLE_SPEAKER:?} are promised",
                hearing.took.max
            ));
        }
    }

    /// Says what else is worth to be said.
    pub fn remark(&mut self, fault: Fault, catch_ups: f64) {
        let Measures {
            back,
            interruptions,
            refused,
            afresh,
            cuts,
            retries,
            duplicates,
            deliver_meanwhile,
            ..
        } = &self.measures;
        if let (Fault::KillNode | Fault::Storm, Some(back)) = (fault, back) {
            self.notes.push(format!(
                "of {} clients without a socket half were back after {:.2} s, 99 % after {:.2} s, all after {:.2} s",
                back.clients, back.half, back.most, back.all
            ));
        }
        if interruptions.count > 0 {
            self.notes.push(format!(
                "{} clients followed draining: interrupted for {} at p50, {} at most",
                interruptions.count,
                milliseconds(interruptions.p50),
                milliseconds(interruptions.max)
            ));
        }
        if deliver_meanwhile.count > 0 {
            self.notes.push(format!(
                "while it lasted, messages took {} at p99 to whom was connected, {} at most",
                milliseconds(deliver_meanwhile.p99),
                milliseconds(deliver_meanwhile.max)
            ));
        }
        if let Some(hearing) = self.hearing.filter(|hearing| hearing.took.count > 0) {
            self.notes.push(format!(
                "where one alone speaks on each node, messages took {} at p99 to the others, {} at most",
                milliseconds(hearing.took.p99),
                milliseconds(hearing.took.max)
            ));
        }
        if *retries > 0 {
            self.notes.push(format!(
                "{retries} sends repeated because their answers were lost; {duplicates} had been committed already"
            ));
        }
        if fault == Fault::SlowReader {
            self.notes.push(format!("{catch_ups:.0} times somebody was served from the log"));
            if catch_ups == 0.0 {
                self.failures
                    .push("nobody was so slow that the node noticed: nothing is shown by this".to_owned());
            }
        }
        if fault == Fault::Combination {
            let drawn: Vec<&str> = self.moments.iter().map(|moment| moment.label.as_str()).collect();
            self.notes.push(format!("drawn: {}", drawn.join("; ")));
        }
        let away = &self.measures.away;
        if away.count > 0 {
            self.notes.push(format!(
                "{} times a client came back: {} at p50, {} at p99, {} at most",
                away.count,
                milliseconds(away.p50),
                milliseconds(away.p99),
                milliseconds(away.max)
            ));
        }
        let mut counts = vec![format!("{cuts} sockets cut by their clients at random")];
        counts.extend(self.measures.ends.iter().map(|(how, count)| format!("{count} {how}")));
        if *refused > 0 {
            counts.push(format!("{refused} sends refused for a while"));
        }
        if *afresh > 0 {
            counts.push(format!("{afresh} sessions begun afresh"));
        }
        self.notes.push(counts.join(", "));
    }
}

impl Memory {
    /// Says so where it grew by more than this.
    fn grown(&self, most: u64) -> Option<String> {
        let more = self.after?.checked_sub(self.before.unwrap_or(0))?;
        (more > most).then(|| format!("{} needs {} MB more than before", self.node, more >> 20))
    }
}

/// Seconds in words.
pub fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        ms if ms < 0.05 => "0 ms".to_owned(),
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::report::tests::outcome;

    fn judged(change: impl FnOnce(&mut Outcome)) -> Outcome {
        let mut outcome = outcome("redis-stop");
        outcome.measures.verdict.acknowledged = outcome.measures.sent;
        outcome.measures.logged = outcome.measures.sent;
        change(&mut outcome);
        outcome.judge(Fault::RedisStop.promise(), 0);
        outcome
    }

    #[test]
    fn a_time_missed_a_little_is_a_warning_and_one_missed_by_far_a_failure() {
        let sound = judged(|_| ());
        assert!(sound.is_sound() && sound.warnings.is_empty(), "{sound:?}");
        for (took, warnings, failures) in [(3.0, 1, 0), (30.0, 0, 1)] {
            let late = judged(|outcome| outcome.measures.deliver_meanwhile.max = took);
            assert_eq!((late.warnings.len(), late.failures.len()), (warnings, failures), "{late:?}");
        }
        for (took, warnings, failures) in [(8.0, 1, 0), (60.0, 0, 1)] {
            let late = judged(|outcome| outcome.measures.recover = Some(took));
            assert_eq!((late.warnings.len(), late.failures.len()), (warnings, failures), "{late:?}");
        }
    }

    #[test]
    fn a_retry_that_became_a_second_message_is_a_failure() {
        let twice = judged(|outcome| {
            outcome.measures.logged += 1;
            outcome.measures.repeated = 1;
        });
        assert_eq!(twice.failures.len(), 2, "{twice:?}");
        assert!(!judged(|outcome| outcome.measures.logged -= 1).is_sound(), "one is missing");
    }

    #[test]
    fn where_one_alone_speaks_late_is_a_warning_and_never_a_failure() {
        let late = judged(|outcome| {
            let took = crate::torture::measure::Spread::of(vec![9.0]);
            outcome.hearing = Some(Hearing { took, ..Hearing::default() });
        });
        assert!(late.is_sound() && late.warnings.len() == 1, "{late:?}");
        let never = judged(|outcome| {
            let mut hearing = Hearing::default();
            hearing.verdict.lost = 1;
            outcome.hearing = Some(hearing);
        });
        assert!(!never.is_sound(), "{never:?}");
    }

    #[test]
    fn a_node_that_grows_without_bound_is_a_failure() {
        let grown = judged(|outcome| {
            outcome.memory =
                vec![Memory { node: "n".to_owned(), before: Some(50 << 20), after: Some(900 << 20) }];
        });
        assert!(!grown.is_sound(), "{grown:?}");
    }
}
