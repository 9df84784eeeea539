//! What lists show.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_jobs::{AttemptOutcome, JobId, JobState, NewJob, Outcome, RunAt};

use crate::place::{Place, ending, job};

/// Longer than any test.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub async fn a_summary_shows_the_newest_attempt_and_reads_no_payload(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let (tried, waiting) = (job(0), NewJob { run_at: RunAt::At(4_000_000_000_000), ..job(1) });
    store.enqueue(std::slice::from_ref(&tried)).await?;
    for error in ["first", "second"] {
        let claimed = place.claim_one(worker).await?;
        let failed = Outcome::Failed { error: error.into(), retry_in: Some(Duration::ZERO) };
        store.finish(&[ending(&claimed, failed)]).await?;
        store.promote(0, 10).await?;
    }
    place.claim_one(worker).await?;
    store.enqueue(std::slice::from_ref(&waiting)).await?;
    let summaries = store.summaries(&[tried.id, JobId::new(), waiting.id]).await?;
    let ids: Vec<JobId> = summaries.iter().map(|summary| summary.id).collect();
    ensure!(ids == [waiting.id, tried.id], "{summaries:?}");
    let details = store.jobs(&ids).await?;
    for (summary, details) in summaries.iter().zip(&details) {
        ensure!(summary.backlog == details.backlog && summary.kind == details.kind, "{summary:?}");
        ensure!((summary.state, &summary.running) == (details.state, &details.running), "{summary:?}");
        let times = (summary.created_at_ms, summary.run_at_ms, summary.ended_at_ms);
        ensure!(times == (details.created_at_ms, details.run_at_ms, details.ended_at_ms), "{summary:?}");
        ensure!((summary.attempts_max, summary.backoff) == (details.attempts_max, details.backoff));
        ensure!(summary.newest.as_ref() == details.attempts.last(), "{summary:?}");
    }
    ensure!(summaries[0].newest.is_none() && summaries[0].state == JobState::Scheduled);
    let newest = summaries[1].newest.as_ref().context("an attempt")?;
    ensure!((newest.number, newest.outcome) == (2, AttemptOutcome::Failed), "{newest:?}");
    ensure!(newest.error.as_deref() == Some("second"), "{newest:?}");
    ensure!(store.summaries(&[]).await?.is_empty());
    Ok(())
}

pub async fn jobs_that_were_done_lately_are_counted_by_queue(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let mut jobs: Vec<NewJob> = (0..6).map(job).collect();
    jobs[4].queue = "r".into();
    jobs[5].tenant = "other".into();
    store.enqueue(&jobs).await?;
    // Queues and tenants take turns.
    let claimed = place.claim(worker, 30).await?;
    ensure!(claimed.len() == 6, "{claimed:?}");
    let endings = claimed.iter().map(|claimed| {
        let failed = claimed.id == jobs[3].id;
        let error = Outcome::Failed { error: "no".into(), retry_in: None };
        ending(claimed, if failed { error } else { Outcome::Done(None) })
    });
    store.finish(&endings.collect::<Vec<_>>()).await?;
    let queues: Vec<String> = ["q", "r", "empty"].map(str::to_owned).into();
    let lately = store.done_lately(&"t".into(), &queues, DAY, 10).await?;
    let counted: Vec<_> = lately.iter().map(|lately| (&*lately.queue, lately.jobs)).collect();
    ensure!(counted == [("q", 3), ("r", 1)], "{lately:?}");
    ensure!(lately.iter().all(|lately| lately.oldest < DAY), "{lately:?}");
    ensure!(store.done_lately(&"t".into(), &queues, DAY, 2).await?[0].jobs == 2, "the limit holds");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let later = store.done_lately(&"t".into(), &queues, DAY, 10).await?;
    ensure!(later[0].oldest > lately[0].oldest, "{later:?}");
    let window = Duration::from_millis(1);
    ensure!(store.done_lately(&"t".into(), &queues, window, 10).await?.is_empty(), "the window holds");
    ensure!(store.done_lately(&"t".into(), &[], DAY, 10).await?.is_empty());
    Ok(())
}
