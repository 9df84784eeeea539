//! A run: threads that hold the sessions, and the course that the scenario gives them.

mod course;
mod pace;
mod plan;
mod progress;
mod storm;
mod thread;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

pub(crate) use pace::Pace;
pub use plan::{Plan, Target};
pub use thread::Thread;

use crate::measure::{Observer, Second, Series};
use progress::Progress;

/// What a thread measured in a second.
struct Sample {
    number: u32,
    second: Second,
}

/// Runs the plan to its end. Shows the progress in the terminal if `show` is set.
///
/// # Errors
/// When a thread can't be started, or fails.
pub fn run(plan: &Arc<Plan>, observer: Observer, show: bool) -> Result<Series> {
    let (samples, received) = sync_channel(plan.threads() * 8);
    let threads: Vec<_> = (0..plan.threads())
        .map(|index| {
            let (plan, samples) = (Arc::clone(plan), samples.clone());
            let body = move || thread::run(&plan, index, &samples);
            std::thread::Builder::new().name(format!("load-{index}")).spawn(body).context("start a thread")
        })
        .collect::<Result<_>>()?;
    drop(samples);
    let (observations, observed) = sync_channel(1024);
    let start = plan.start();
    // It ends at its first observation after the receiver is gone.
    std::thread::Builder::new().name("observer".into()).spawn(move || observer.run(start, &observations))?;

    let mut series = Series::default();
    let mut progress = Progress::new(plan, show);
    collect(plan, &received, &mut series, |series, number| {
        while let Ok((second, name, observation)) = observed.try_recv() {
            series.observed.0.entry(name).or_default().insert(second, observation);
        }
        progress.show(series, number);
    })?;
    progress.finish();
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a thread of the generator panicked"))??;
    }
    Ok(series)
}

/// Adds up samples until all threads have ended. Ends a growing run at the first stage that fails.
fn collect(
    plan: &Plan,
    received: &Receiver<Sample>,
    series: &mut Series,
    mut each: impl FnMut(&mut Series, u32),
) -> Result<()> {
    let mut newest = 0;
    loop {
        match received.recv_timeout(Duration::from_secs(2)) {
            Ok(Sample { number, second }) => {
                let stage = second.stage;
                series.add(number, &second, plan.is_measured(stage))?;
                if number > newest {
                    newest = number;
                    each(series, number);
                    if plan.grows() {
                        end_at_failure(plan, series, stage);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => each(series, newest),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Ends a growing run when the stage before this one has failed.
fn end_at_failure(plan: &Plan, series: &Series, stage: usize) {
    let before = stage.checked_sub(1).and_then(|before| series.stages.get(&before));
    let failed = before.filter(|result| result.measured).is_some_and(|result| !plan.passes(&result.meter));
    if failed {
        plan.stop();
    }
}
