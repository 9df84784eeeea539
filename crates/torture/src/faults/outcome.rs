//! The outcome of a case, and its verdict.

use std::time::Duration;

use super::fault::{Case, Fault, Promise};
use super::measure::{FaultWindow, Measures};
use super::single_sender::SingleSenderReport;

/// The promised delivery time in a conversation with a single sender, where no later message reveals a missing one.
const SINGLE_SENDER_LIMIT: Duration = Duration::from_secs(2);
/// The largest growth of a node's memory in one case, in bytes: several times what the busiest case needs.
const GROWTH_MAX: u64 = 512 << 20;

/// The outcome of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The name of the case.
    pub name: String,
    /// The description of the fault.
    pub about: String,
    /// The figures.
    pub measures: Measures,
    /// The result of the single senders, if there were any.
    pub single_sender: Option<SingleSenderReport>,
    /// The times in which faults were active.
    pub windows: Vec<FaultWindow>,
    /// The memory of each node.
    pub memory: Vec<Memory>,
    /// Further facts for the reader.
    pub notes: Vec<String>,
    /// Promised times that were missed by a little.
    pub warnings: Vec<String>,
    /// The reasons why the case has failed.
    pub failures: Vec<String>,
    /// Duration of the whole case.
    pub took: Duration,
}

/// The memory of a node before and after a case.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The name of the node.
    pub node: String,
    /// Bytes before the case; `None` for a node that started later.
    pub before: Option<u64>,
    /// Bytes after the case; `None` for a node that has gone.
    pub after: Option<u64>,
}

impl Outcome {
    /// Whether nothing was lost, duplicated, reordered, altered or unkept, and everything recovered.
    pub fn is_sound(&self) -> bool {
        self.failures.is_empty()
    }

    /// The outcome of a case that could not be carried out.
    pub fn broken(case: Case, error: &anyhow::Error, took: Duration) -> Self {
        Self {
            name: case.name(),
            about: case.fault.about(),
            measures: Measures::default(),
            windows: Vec::new(),
            memory: Vec::new(),
            single_sender: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            failures: vec![format!("{error:#}")],
            took,
        }
    }

    /// Compares the figures with the promise. Times missed by a little are warnings, since a busy machine misses them, too.
    pub fn judge(&mut self, promise: Promise, log_faults: u64) {
        let (measures, verdict) = (&self.measures, &self.measures.verdict);
        let single_sender = self.single_sender.unwrap_or_default();
        if !verdict.is_clean() {
            self.failures.push(verdict.to_string());
        }
        if !single_sender.verdict.is_clean() {
            self.failures.push(format!("single senders: {}", single_sender.verdict));
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
        let sent = measures.sent + single_sender.sent;
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
        if single_sender.took.max > SINGLE_SENDER_LIMIT.as_secs_f64() {
            self.warnings.push(format!(
                "a message of a single sender took {:.1} s; {SINGLE_SENDER_LIMIT:?} are promised",
                single_sender.took.max
            ));
        }
    }

    /// Adds notes for the reader.
    pub fn remark(&mut self, fault: Fault, catch_ups: f64) {
        let Measures {
            back,
            interruptions,
            refused,
            fresh_sessions,
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
        if let Some(single_sender) = self.single_sender.filter(|single_sender| single_sender.took.count > 0) {
            self.notes.push(format!(
                "messages of single senders took {} at p99, {} at most",
                milliseconds(single_sender.took.p99),
                milliseconds(single_sender.took.max)
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
            let drawn: Vec<&str> = self.windows.iter().map(|window| window.label.as_str()).collect();
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
        if *fresh_sessions > 0 {
            counts.push(format!("{fresh_sessions} sessions begun afresh"));
        }
        self.notes.push(counts.join(", "));
    }
}

impl Memory {
    /// The failure if the memory grew by more than this.
    fn grown(&self, most: u64) -> Option<String> {
        let more = self.after?.checked_sub(self.before.unwrap_or(0))?;
        (more > most).then(|| format!("{} needs {} MB more than before", self.node, more >> 20))
    }
}

/// Formats a duration in seconds for the reader.
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
    use crate::faults::report::tests::outcome;

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
    fn a_late_message_of_a_single_sender_is_a_warning_and_never_a_failure() {
        let late = judged(|outcome| {
            let took = crate::faults::measure::Percentiles::of(vec![9.0]);
            outcome.single_sender = Some(SingleSenderReport { took, ..SingleSenderReport::default() });
        });
        assert!(late.is_sound() && late.warnings.len() == 1, "{late:?}");
        let never = judged(|outcome| {
            let mut single_sender = SingleSenderReport::default();
            single_sender.verdict.lost = 1;
            outcome.single_sender = Some(single_sender);
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
