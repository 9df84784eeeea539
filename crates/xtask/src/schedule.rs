//! Runs steps beside each other, each as soon as those before it have ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::output::{Print, Screen};
use crate::step::Outcome;

/// A step.
pub struct Step {
    /// Its name in the summary.
    pub name: &'static str,
    /// Whether it also runs with `--quick`.
    pub quick: bool,
    /// The steps whose results it uses. It does not run if one of them fails.
    pub needs: &'static [&'static str],
    /// The steps that must have ended before, however they end.
    pub after: &'static [&'static str],
    /// What it does.
    pub run: fn(Print<'_>) -> Outcome,
}

/// A step that has ended.
pub struct Ended {
    /// Its name.
    pub name: &'static str,
    /// How long it ran.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// Runs the steps. Steps that are not in the list count as done. Returns them in their order.
pub fn run(steps: &[&Step], show: impl FnMut(&str) + Send) -> Vec<Ended> {
    let screen = Screen::new(steps.iter().map(|step| step.name.to_owned()), show);
    let mut started = vec![false; steps.len()];
    let mut ended: Vec<Option<Ended>> = steps.iter().map(|_| None).collect();
    let (done, endings) = sync_channel(steps.len());
    std::thread::scope(|scope| {
        loop {
            while let Some(next) =
                (0..steps.len()).find(|at| !started[*at] && is_free(steps[*at], steps, &ended))
            {
                started[next] = true;
                let (screen, step, done) = (&screen, steps[next], done.clone());
                if let Some(failed) = failed_need(step, &ended) {
                    let outcome = Err(anyhow!("it did not run, since {failed} failed")).into();
                    ended[next] = Some(end(screen, next, step, Duration::ZERO, outcome));
                    continue;
                }
                scope.spawn(move || {
                    let begun = Instant::now();
                    let print = |line: &str| screen.line(next, line);
                    let outcome = catch_unwind(AssertUnwindSafe(|| (step.run)(&print)))
                        .unwrap_or_else(|_| Err(anyhow!("it panicked")).into());
                    // The receiver lives as long as this thread.
                    let _ = done.send((next, begun.elapsed(), outcome));
                });
            }
            if started.iter().zip(&ended).all(|(started, ended)| !started || ended.is_some()) {
                return;
            }
            let Ok((at, took, outcome)) = endings.recv() else { return };
            ended[at] = Some(end(&screen, at, steps[at], took, outcome));
        }
    });
    ended.into_iter().flatten().collect()
}

/// Whether all steps before this one have ended.
fn is_free(step: &Step, steps: &[&Step], ended: &[Option<Ended>]) -> bool {
    let before = |name: &&str| step.needs.contains(name) || step.after.contains(name);
    steps.iter().zip(ended).all(|(other, ended)| !before(&other.name) || ended.is_some())
}

/// A step that this one needs and that has failed.
fn failed_need(step: &Step, ended: &[Option<Ended>]) -> Option<&'static str> {
    let mut failed = ended.iter().flatten().filter(|ended| ended.outcome.result.is_err());
    failed.find(|ended| step.needs.contains(&ended.name)).map(|ended| ended.name)
}

fn end(screen: &Screen<'_>, at: usize, step: &Step, took: Duration, outcome: Outcome) -> Ended {
    let word = if outcome.result.is_ok() { "ok" } else { "FAILED" };
    screen.end(at, &format!("--- {}: {word}, {:.1} s", step.name, took.as_secs_f64()));
    Ended { name: step.name, took, outcome }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    static MEETING: Barrier = Barrier::new(2);

    const fn step(
        name: &'static str,
        needs: &'static [&'static str],
        after: &'static [&'static str],
        run: fn(Print<'_>) -> Outcome,
    ) -> Step {
        Step { name, quick: true, needs, after, run }
    }

    fn names_and_results(steps: &[&Step]) -> Vec<(&'static str, bool)> {
        run(steps, |_| {}).iter().map(|ended| (ended.name, ended.outcome.result.is_ok())).collect()
    }

    #[test]
    fn independent_steps_run_beside_each_other() {
        // Each waits for the other one.
        let meet = |_: Print<'_>| {
            MEETING.wait();
            Ok(()).into()
        };
        let [a, b] = ["a", "b"].map(|name| step(name, &[], &[], meet));
        assert_eq!(names_and_results(&[&a, &b]), [("a", true), ("b", true)]);
    }

    #[test]
    fn a_step_does_not_run_without_what_it_needs_and_runs_after_what_only_comes_before() {
        let fails = step("fails", &[], &[], |_| Err(anyhow!("no")).into());
        let uses = step("uses", &["fails"], &[], |_| Ok(()).into());
        let follows = step("follows", &["absent"], &["fails", "uses"], |_| Ok(()).into());
        let ended = run(&[&fails, &uses, &follows], |_| {});
        assert_eq!(
            ended[1].outcome.result.as_ref().unwrap_err().to_string(),
            "it did not run, since fails failed"
        );
        assert!(ended[2].outcome.result.is_ok());
    }

    #[test]
    fn a_step_that_panics_has_failed() {
        let panics = step("panics", &[], &[], |_| panic!("on purpose"));
        assert_eq!(names_and_results(&[&panics]), [("panics", false)]);
    }
}
