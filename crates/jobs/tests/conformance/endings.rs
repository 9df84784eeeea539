//! Ends of attempts and their fences.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_jobs::{AttemptOutcome, Ending, JobState, NewJob, Outcome};
use tokio::task::JoinSet;

use crate::place::{Place, by, ending, from_the_start, job};

fn failed(retry_in: Option<Duration>) -> Outcome {
    Outcome::Failed { error: "it broke".into(), retry_in }
}

pub async fn a_failed_job_is_tried_again_and_then_fails(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let given = NewJob { attempts_max: 2, ..job(0) };
    store.enqueue(std::slice::from_ref(&given)).await?;
    let first = place.claim_one(worker).await?;
    ensure!(first.retry_in(1.0).is_some());
    ensure!(store.finish(&[ending(&first, failed(Some(Duration::ZERO)))]).await? == [Some(JobState::Ready)]);
    let second = place.claim_one(worker).await?;
    ensure!(
        (second.id, second.attempt, second.generation) == (first.id, 2, first.generation + 1),
        "{second:?}"
    );
    ensure!(second.retry_in(1.0).is_none());
    ensure!(store.finish(&[ending(&second, failed(None))]).await? == [Some(JobState::Failed)]);
    let kept = store.job(given.id).await?.context("the job is gone")?;
    let outcomes: Vec<_> = kept.attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect();
    ensure!(outcomes == [(1, AttemptOutcome::Failed), (2, AttemptOutcome::Failed)], "{kept:?}");
    ensure!(kept.attempts.iter().all(|attempt| attempt.error.as_deref() == Some("it broke")), "{kept:?}");
    ensure!(kept.state == JobState::Failed && kept.ended_at_ms.is_some(), "{kept:?}");
    Ok(())
}

pub async fn a_late_ending_changes_nothing(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.enqueue(&[job(0)]).await?;
    let first = place.claim_one(worker).await?;
    store.finish(&[ending(&first, failed(Some(Duration::ZERO)))]).await?;
    let second = place.claim_one(worker).await?;
    let result = Some("{\"by\":\"the second\"}".to_owned());
    let late =
        [ending(&first, Outcome::Done(Some("1".into()))), ending(&second, Outcome::Done(result.clone()))];
    ensure!(store.finish(&late).await? == [None, Some(JobState::Done)]);
    ensure!(store.finish(&late).await? == [None, None], "nothing ends twice");
    ensure!(store.extend(second.id, second.generation, Duration::from_secs(9)).await?.is_none());
    let kept = store.job(first.id).await?.context("the job is gone")?;
    ensure!((kept.state, kept.result, kept.attempts.len()) == (JobState::Done, result, 2));
    Ok(())
}

pub async fn a_job_that_is_handed_back_has_lost_no_attempt(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.enqueue(&[NewJob { attempts_max: 1, ..job(0) }]).await?;
    for _ in 0..3 {
        let claimed = place.claim_one(worker).await?;
        ensure!(claimed.attempt == 1, "{claimed:?}");
        ensure!(store.finish(&[ending(&claimed, Outcome::HandedBack)]).await? == [Some(JobState::Ready)]);
    }
    let last = place.claim_one(worker).await?;
    ensure!((last.attempt, last.generation) == (1, 4), "{last:?}");
    Ok(())
}

pub async fn many_endings_at_once_end_each_job_once(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.enqueue(&(0..40).map(job).collect::<Vec<_>>()).await?;
    let claimed = place.claim(worker, 40).await?;
    ensure!(claimed.len() == 40);
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let store = place.store();
        let mut endings: Vec<Ending> = claimed.iter().map(|job| ending(job, Outcome::Done(None))).collect();
        // Each caller names them in another order.
        endings.rotate_left(caller * 11);
        if caller % 2 == 1 {
            endings.reverse();
        }
        callers.spawn(async move { store.finish(&endings).await });
    }
    let mut done = 0;
    while let Some(states) = callers.join_next().await {
        done += states??.into_iter().flatten().count();
    }
    ensure!(done == 40, "{done} endings of 40 jobs");
    Ok(())
}

/// A job that workers hand back again and again.
pub async fn the_newest_attempts_are_shown_and_only_so_many_are_kept(place: &Place) -> Result<()> {
    const ROUNDS: i32 = 1005;
    if place.is_pooled() {
        return Ok(());
    }
    let (store, worker) = (place.store(), place.worker().await?);
    let given = NewJob { attempts_max: 1, ..job(0) };
    store.enqueue(std::slice::from_ref(&given)).await?;
    let mut claim = from_the_start(&given, 1);
    for _ in 0..ROUNDS {
        let claimed = store.claim(&by(worker, None), std::slice::from_ref(&claim)).await?;
        claim.mark = claimed.left[0].mark;
        let handed_back = claimed.jobs.first().map(|job| ending(job, Outcome::HandedBack));
        store.finish(&[handed_back.context("it was handed back")?]).await?;
    }
    let attempts = store.job(given.id).await?.context("the job is gone")?.attempts;
    let generations: Vec<i32> = attempts.iter().map(|attempt| attempt.generation).collect();
    ensure!(generations == (ROUNDS - 99..=ROUNDS).collect::<Vec<_>>(), "{generations:?}");
    if let Some(session) = place.session().await? {
        let kept = session.query_one("SELECT count(*), min(generation) FROM job_attempts", &[]).await?;
        ensure!((kept.get::<_, i64>(0), kept.get::<_, i32>(1)) == (1000, ROUNDS - 999), "{kept:?}");
    }
    Ok(())
}
