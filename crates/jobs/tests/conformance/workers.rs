//! Workers that die, and leases.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_jobs::{AttemptOutcome, Beat, JobState, LostLock, NewJob, Outcome};
use starling_testkit::wait::until;

use crate::place::{self, Place, ending, from_the_start, job};

/// Longer than any case takes.
const LONG: Duration = Duration::from_secs(3600);
/// Longer than something takes that should happen at once.
const SOON: Duration = Duration::from_secs(60);

/// Buries everybody but `alive`, who beats until the others are gone.
async fn bury_all_but(place: &Place, alive: starling_jobs::WorkerId) -> Result<u64> {
    let store = place.store();
    // The silent one's last beat is older by one beat of the other one, at least.
    tokio::time::sleep(Duration::from_millis(30)).await;
    store.register(alive, "node").await?;
    Ok(store.bury_silent(Duration::from_millis(20), 10).await?.attempts)
}

pub async fn the_jobs_of_a_silent_worker_are_given_to_others(place: &Place) -> Result<()> {
    let (store, silent) = (place.store(), place.worker().await?);
    let (again, last) = (job(0), NewJob { attempts_max: 1, ..job(1) });
    store.enqueue(&[again.clone(), last.clone()]).await?;
    let claimed = place.claim(silent, 10).await?;
    ensure!(claimed.len() == 2);
    ensure!(store.bury_silent(LONG, 10).await?.attempts == 0, "a worker that beats keeps its jobs");
    let other = place.worker().await?;
    ensure!(bury_all_but(place, other).await? == 2);
    let second = place.claim_one(place.worker().await?).await?;
    ensure!((second.id, second.attempt) == (again.id, 2), "{second:?}");
    let kept = store.job(last.id).await?.context("the job is gone")?;
    ensure!(kept.state == JobState::Failed && kept.attempts[0].outcome == AttemptOutcome::Lost, "{kept:?}");
    // The silent one was only frozen, and goes on.
    let late: Vec<_> = claimed.iter().map(|job| ending(job, Outcome::Done(None))).collect();
    ensure!(store.finish(&late).await? == [None, None]);
    Ok(())
}

pub async fn a_buried_worker_gets_no_jobs_and_is_told(place: &Place) -> Result<()> {
    let (store, silent) = (place.store(), place.worker().await?);
    store.enqueue(&[job(0)]).await?;
    ensure!(store.beat(silent).await? == Beat::Alive(Vec::new()));
    bury_all_but(place, place.worker().await?).await?;
    ensure!(store.beat(silent).await? == Beat::Buried);
    let claimed = store.claim(&place::by(silent, None), &[from_the_start(&job(0), 1)]).await?;
    ensure!(claimed.jobs.is_empty() && claimed.left.is_empty(), "{claimed:?}");
    ensure!(place.claim(place.worker().await?, 1).await?.len() == 1);
    Ok(())
}

pub async fn a_lease_that_is_over_is_given_to_others(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.enqueue(&[job(0), job(1)]).await?;
    let short = store
        .claim(&place::by(worker, Some(Duration::from_millis(1))), &[from_the_start(&job(0), 1)])
        .await?;
    let long = store.claim(&place::by(worker, Some(LONG)), &[from_the_start(&job(0), 1)]).await?;
    tokio::time::sleep(Duration::from_millis(5)).await;
    ensure!(
        store.extend(short.jobs[0].id, short.jobs[0].generation, LONG).await?.is_none(),
        "the lease is over"
    );
    ensure!(
        store.extend(long.jobs[0].id, long.jobs[0].generation, LONG).await? > long.jobs[0].lease_until_ms
    );
    let late = [ending(&short.jobs[0], Outcome::Done(None))];
    ensure!(store.finish(&late).await? == [None], "a lease is over even while nobody else has the job");
    ensure!(store.expire_leases(0, 10).await?.0 == 1);
    ensure!(
        bury_all_but(place, place.worker().await?).await? == 0,
        "a lease outlives the worker that gave it"
    );
    let again = place.claim_one(place.worker().await?).await?;
    ensure!((again.id, again.attempt) == (short.jobs[0].id, 2), "{again:?}");
    ensure!(store.finish(&[ending(&long.jobs[0], Outcome::Done(None))]).await? == [Some(JobState::Done)]);
    Ok(())
}

/// Waits until the lock of a worker is gone, and returns what tells of it.
async fn lost_locks(place: &Place, besides: starling_jobs::WorkerId) -> Result<Vec<LostLock>> {
    let store = place.store();
    until(SOON, "the lock to be gone", async || {
        let lost = store.lost_locks(besides).await?;
        Ok((!lost.is_empty()).then_some(lost))
    })
    .await
}

pub async fn the_jobs_of_a_worker_whose_lock_is_gone_are_given_to_others(place: &Place) -> Result<()> {
    let (store, killed, other) = (place.store(), place.worker().await?, place.worker().await?);
    store.enqueue(&[job(0)]).await?;
    let Some(lock) = store.lock(killed).await? else {
        ensure!(place.is_pooled(), "there must be a lock");
        ensure!(store.lost_locks(other).await?.is_empty(), "without a lock only beats count");
        return Ok(());
    };
    ensure!(!place.is_pooled(), "a lock would stay on a connection that others use");
    let claimed = place.claim_one(killed).await?;
    ensure!(store.lost_locks(other).await?.is_empty());
    drop(lock);
    let lost = lost_locks(place, other).await?;
    ensure!(store.lost_locks(killed).await?.is_empty(), "a worker does not look at itself");
    let burial = store.bury_unlocked(&lost).await?;
    ensure!((burial.workers, burial.attempts) == (1, 1), "{burial:?}");
    ensure!(store.bury_unlocked(&lost).await?.workers == 0, "nobody dies twice");
    let again = place.claim_one(other).await?;
    ensure!((again.id, again.attempt) == (claimed.id, 2), "{again:?}");
    ensure!(store.finish(&[ending(&claimed, Outcome::Done(None))]).await? == [None]);
    Ok(())
}

pub async fn a_worker_that_has_locked_again_keeps_its_jobs(place: &Place) -> Result<()> {
    let (store, worker, other) = (place.store(), place.worker().await?, place.worker().await?);
    if place.is_pooled() {
        return Ok(());
    }
    store.enqueue(&[job(0)]).await?;
    let claimed = place.claim_one(worker).await?;
    drop(store.lock(worker).await?);
    let lost = lost_locks(place, other).await?;
    let _lock = store.lock(worker).await?.context("there must be a lock")?;
    ensure!(store.bury_unlocked(&lost).await?.workers == 0);
    ensure!(store.finish(&[ending(&claimed, Outcome::Done(None))]).await? == [Some(JobState::Done)]);
    ensure!(store.lock(starling_jobs::WorkerId::new()).await?.is_none(), "this worker is not listed");
    Ok(())
}

pub async fn silent_workers_are_buried_a_few_at_a_time(place: &Place) -> Result<()> {
    let store = place.store();
    store.enqueue(&(0..5).map(job).collect::<Vec<_>>()).await?;
    for _ in 0..5 {
        ensure!(place.claim(place.worker().await?, 1).await?.len() == 1);
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    let mut buried = Vec::new();
    for _ in 0..4 {
        let burial = store.bury_silent(Duration::from_millis(20), 2).await?;
        buried.push((burial.workers, burial.attempts));
    }
    ensure!(buried == [(2, 2), (2, 2), (1, 1), (0, 0)], "{buried:?}");
    ensure!(place.claim(place.worker().await?, 10).await?.len() == 5);
    Ok(())
}

/// So many that one call which compares each with each takes far longer than a node waits.
pub async fn many_leases_that_end_together_are_taken_back(place: &Place) -> Result<()> {
    const JOBS: u16 = 20_000;
    let (store, worker) = (place.impatient_store()?, place.worker().await?);
    if place.is_pooled() {
        return Ok(());
    }
    let jobs: Vec<NewJob> = (0..usize::from(JOBS)).map(job).collect();
    for batch in jobs.chunks(1000) {
        store.enqueue(batch).await?;
    }
    let mut claim = from_the_start(&jobs[0], 1000);
    for _ in 0..JOBS / 1000 {
        let claimed = store
            .claim(&place::by(worker, Some(Duration::from_millis(1))), std::slice::from_ref(&claim))
            .await?;
        ensure!(claimed.jobs.len() == 1000, "{} jobs", claimed.jobs.len());
        claim.mark = claimed.left[0].mark;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (mut taken_back, mut since_ms) = (Vec::new(), 0);
    while taken_back.last() != Some(&0) {
        let expired;
        (expired, since_ms) = store.expire_leases(since_ms, 1000).await?;
        taken_back.push(expired);
    }
    ensure!(taken_back.iter().sum::<u64>() == u64::from(JOBS), "{taken_back:?}");
    ensure!(taken_back.iter().all(|expired| *expired <= 1000), "{taken_back:?}");
    ensure!(place.claim_one(worker).await?.attempt == 2);
    Ok(())
}
