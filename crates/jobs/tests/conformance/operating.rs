//! What an operator does with jobs: cancel, retry, discard, count, trim.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use starling_jobs::{Beat, FoundJob, JobFilter, JobId, JobState, JobStore, Mark, NewJob, Outcome, RunAt};
use starling_testkit::wait::until;

use crate::place::{self, Place, ending, job};

/// The numbers of all jobs in queue `q`, after deltas were added up.
async fn counts(place: &Place) -> Result<BTreeMap<&'static str, u64>> {
    let store = place.store();
    let before = store.counts(None).await?;
    let mut mark = Mark::default();
    for _ in 0..2 {
        mark = store.fold_counts(mark).await?;
    }
    ensure!(store.counts(None).await? == before, "adding up changed the counts");
    Ok(before.into_iter().map(|count| (count.state.as_str(), count.jobs)).collect())
}

pub async fn a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let (running, ready) = (job(0), job(1));
    let scheduled = NewJob { run_at: RunAt::At(4_000_000_000_000), ..job(2) };
    store.enqueue(&[running.clone(), ready.clone(), scheduled.clone()]).await?;
    let claimed = place.claim_one(worker).await?;
    let mut states = store.cancel(&[running.id, ready.id, scheduled.id, JobId::new()]).await?;
    states.sort_by_key(|(job, _)| *job);
    let cancelled = JobState::Cancelled;
    ensure!(
        states == [(running.id, JobState::Running), (ready.id, cancelled), (scheduled.id, cancelled)],
        "{states:?}"
    );
    ensure!(store.beat(worker).await? == Beat::Alive(vec![(running.id, claimed.generation)]));
    // A worker that does not listen, and fails, gets no other attempt.
    let failed = Outcome::Failed { error: "no time".into(), retry_in: Some(std::time::Duration::ZERO) };
    ensure!(store.finish(&[ending(&claimed, failed)]).await? == [Some(cancelled)]);
    ensure!(store.beat(worker).await? == Beat::Alive(Vec::new()));
    ensure!(place.claim(worker, 10).await?.is_empty());
    ensure!(store.cancel(&[ready.id]).await? == [(ready.id, cancelled)], "once more changes nothing");
    Ok(())
}

pub async fn an_ended_job_is_tried_again_or_discarded(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let jobs = [NewJob { attempts_max: 1, ..job(0) }, job(1)];
    store.enqueue(&jobs).await?;
    let claimed = place.claim_one(worker).await?;
    ensure!(store.retry(&[jobs[0].id, jobs[1].id]).await?.is_empty(), "neither has ended");
    ensure!(store.discard(&[jobs[0].id]).await?.is_empty(), "it runs");
    let failed = Outcome::Failed { error: "no".into(), retry_in: None };
    store.finish(&[ending(&claimed, failed)]).await?;
    ensure!(store.retry(&[jobs[0].id]).await? == [jobs[0].id]);
    let claimed = place.claim(worker, 10).await?;
    let again = claimed.iter().find(|claimed| claimed.id == jobs[0].id).context("it is not ready")?;
    ensure!(
        (again.attempt, again.generation) == (1, 2),
        "it has all its attempts again, and its old fence holds: {again:?}"
    );
    store.finish(&[ending(again, Outcome::Done(None))]).await?;
    ensure!(store.job(jobs[0].id).await?.context("it is gone")?.attempts.len() == 2);
    ensure!(store.discard(&[jobs[0].id]).await? == [jobs[0].id]);
    ensure!(store.job(jobs[0].id).await?.is_none());
    Ok(())
}

pub async fn counts_follow_every_change(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    ensure!(counts(place).await?.is_empty());
    let far = NewJob { run_at: RunAt::At(4_000_000_000_000), ..job(9) };
    let mut jobs: Vec<NewJob> = (0..6).map(job).collect();
    jobs.push(far.clone());
    store.enqueue(&jobs).await?;
    ensure!(counts(place).await? == [("ready", 6), ("scheduled", 1)].into());
    let claimed = place.claim(worker, 4).await?;
    ensure!(counts(place).await? == [("ready", 2), ("running", 4), ("scheduled", 1)].into());
    let failed = Outcome::Failed { error: "no".into(), retry_in: None };
    store
        .finish(&[
            ending(&claimed[0], Outcome::Done(None)),
            ending(&claimed[1], failed),
            ending(&claimed[2], Outcome::HandedBack),
        ])
        .await?;
    store.cancel(&[far.id]).await?;
    ensure!(
        counts(place).await?
            == [("cancelled", 1), ("done", 1), ("failed", 1), ("ready", 3), ("running", 1)].into()
    );
    store.discard(&[far.id]).await?;
    store.retry(&[claimed[1].id]).await?;
    ensure!(counts(place).await? == [("done", 1), ("ready", 4), ("running", 1)].into());
    Ok(())
}

/// A queue that has been empty for long costs nothing.
pub async fn nothing_is_kept_of_numbers_that_are_zero(place: &Place) -> Result<()> {
    // Of SQLite only what the store shows can be seen.
    let Some(session) = place.session().await? else { return Ok(()) };
    let store = place.store();
    let rows = async || -> Result<i64> {
        Ok(session.query_one("SELECT count(*) FROM job_counts", &[]).await?.get(0))
    };
    let jobs: Vec<NewJob> =
        (0..20).map(|number| NewJob { queue: format!("q{number}"), ..job(number) }).collect();
    store.enqueue(&jobs).await?;
    counts(place).await?;
    ensure!(rows().await? == 20);
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    store.discard(&ids[1..]).await?;
    ensure!(counts(place).await? == [("ready", 1)].into());
    ensure!(rows().await? == 1, "{} rows", rows().await?);
    store.discard(&ids).await?;
    store.enqueue(&[job(20)]).await?;
    ensure!(counts(place).await? == [("ready", 1)].into());
    Ok(())
}

pub async fn trimming_keeps_the_newest(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let jobs: Vec<NewJob> = (0..9).map(job).collect();
    for job in &jobs {
        store.enqueue(std::slice::from_ref(job)).await?;
        let claimed = place.claim_one(worker).await?;
        store.finish(&[ending(&claimed, Outcome::Done(None))]).await?;
        // The order is that of whole milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    ensure!(store.trim(&"t".into(), "q", JobState::Failed, 0, 0, 9).await?.0 == 0);
    ensure!(store.trim(&"t".into(), "other", JobState::Done, 0, 0, 9).await?.0 == 0);
    let mut since_ms = 0;
    for expected in [3, 2, 0] {
        let trimmed;
        (trimmed, since_ms) = store.trim(&"t".into(), "q", JobState::Done, 4, since_ms, 3).await?;
        ensure!(trimmed == expected, "{trimmed}, not {expected}");
    }
    for (place_in_order, job) in jobs.iter().enumerate() {
        ensure!(exists(&*store, job.id).await? == (place_in_order >= 5), "job {place_in_order}");
    }
    Ok(())
}

pub async fn who_comes_second_leaves_trimming_to_the_first(place: &Place) -> Result<()> {
    // SQLite has one writer.
    let Some(first) = place.session().await? else { return Ok(()) };
    let store = place.store();
    store.enqueue(&[job(0), NewJob { queue: "r".into(), ..job(1) }]).await?;
    let done: Vec<_> = place.claim(place.worker().await?, 2).await?;
    store.finish(&done.iter().map(|job| ending(job, Outcome::Done(None))).collect::<Vec<_>>()).await?;
    first.batch_execute("BEGIN; SELECT starling_jobs_trim_6('t', 'q', 3::smallint, 0, 9, 'epoch')").await?;
    ensure!(
        store.trim(&"t".into(), "q", JobState::Done, 0, 0, 9).await?.0 == 0,
        "it would wait for the first"
    );
    ensure!(store.trim(&"t".into(), "r", JobState::Done, 0, 0, 9).await?.0 == 1, "another queue is free");
    first.batch_execute("ROLLBACK").await?;
    ensure!(store.trim(&"t".into(), "q", JobState::Done, 0, 0, 9).await?.0 == 1);
    Ok(())
}

pub async fn what_is_done_to_a_queue_concerns_one_tenant(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let other = NewJob { tenant: "other".into(), ..job(1) };
    store.enqueue(&[job(0), other.clone()]).await?;
    let claimed = place.claim(worker, 2).await?;
    let done: Vec<_> = claimed.iter().map(|job| ending(job, Outcome::Done(None))).collect();
    store.finish(&done).await?;
    ensure!(store.trim(&"t".into(), "q", JobState::Done, 0, 0, 9).await?.0 == 1);
    ensure!(exists(&*store, other.id).await?);
    store.pause(&"other".into(), "q", true).await?;
    ensure!(store.paused(&"t".into()).await?.is_empty());
    let counts = store.counts(Some(&"other".into())).await?;
    ensure!(counts.len() == 1 && *counts[0].tenant == *"other", "{counts:?}");
    Ok(())
}

pub async fn a_waiting_job_is_discarded(place: &Place) -> Result<()> {
    let store = place.store();
    let far = NewJob { run_at: RunAt::At(4_000_000_000_000), ..job(1) };
    store.enqueue(&[job(0), far.clone(), job(2)]).await?;
    let found = store.find(&all()).await?;
    let mut discarded = store.discard(&[found[0].id, far.id]).await?;
    discarded.sort();
    ensure!(discarded == [far.id, found[0].id], "{discarded:?}");
    ensure!(!exists(&*store, far.id).await?);
    ensure!(counts(place).await? == [("ready", 1)].into());
    Ok(())
}

pub async fn a_cancelled_job_loses_its_lease(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.enqueue(&[job(0)]).await?;
    let claimant = place::by(worker, Some(std::time::Duration::from_secs(3600)));
    let claimed = store.claim(&claimant, &[place::from_the_start(&job(0), 1)]).await?.jobs;
    ensure!(store.cancel(&[claimed[0].id]).await? == [(claimed[0].id, JobState::Cancelled)]);
    ensure!(store.finish(&[ending(&claimed[0], Outcome::Done(None))]).await? == [None]);
    ensure!(store.beat(worker).await? == Beat::Alive(Vec::new()), "nobody needs to stop it");
    ensure!(counts(place).await? == [("cancelled", 1)].into());
    Ok(())
}

/// Does something to jobs while another transaction has moved them, but has not committed. Returns what came of it after it was.
async fn while_moving<T: Send + 'static>(
    place: &Place,
    moves: &str,
    act: impl Future<Output = Result<T, starling_jobs::Error>> + Send + 'static,
) -> Result<Option<T>> {
    // SQLite has one writer.
    let (Some(mover), Some(session)) = (place.session().await?, place.session().await?) else {
        return Ok(None);
    };
    mover.batch_execute("BEGIN").await?;
    mover.batch_execute(moves).await?;
    let acting = tokio::spawn(act);
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (
        SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    until(std::time::Duration::from_secs(60), "the call to wait", async || {
        Ok((session.query_one(waiting, &[]).await?.get::<_, i64>(0) > 0).then_some(()))
    })
    .await?;
    mover.batch_execute("COMMIT").await?;
    Ok(Some(acting.await??))
}

const PROMOTION: &str =
    "UPDATE job_scheduled SET run_at = 'epoch'; SELECT starling_jobs_promote_6('epoch', 9)";

pub async fn a_job_that_is_made_ready_meanwhile_is_cancelled(place: &Place) -> Result<()> {
    let store = place.store();
    let scheduled = NewJob { run_at: RunAt::At(4_000_000_000_000), ..job(0) };
    store.enqueue(std::slice::from_ref(&scheduled)).await?;
    let (cancelling, id) = (place.store(), scheduled.id);
    let states = while_moving(place, PROMOTION, async move { cancelling.cancel(&[id]).await }).await?;
    let Some(states) = states else { return Ok(()) };
    ensure!(states == [(id, JobState::Cancelled)], "{states:?}");
    ensure!(counts(place).await? == [("cancelled", 1)].into());
    Ok(())
}

pub async fn a_job_that_is_made_ready_meanwhile_is_discarded(place: &Place) -> Result<()> {
    let store = place.store();
    let scheduled = NewJob { run_at: RunAt::At(4_000_000_000_000), ..job(0) };
    store.enqueue(std::slice::from_ref(&scheduled)).await?;
    let (discarding, id) = (place.store(), scheduled.id);
    let discarded = while_moving(place, PROMOTION, async move { discarding.discard(&[id]).await }).await?;
    let Some(discarded) = discarded else { return Ok(()) };
    ensure!(discarded == [id] && !exists(&*store, id).await?, "{discarded:?}");
    ensure!(counts(place).await?.is_empty());
    Ok(())
}

pub async fn a_job_that_fails_meanwhile_is_cancelled_and_not_tried_again(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.enqueue(&[job(0)]).await?;
    let claimed = place.claim_one(worker).await?;
    let (cancelling, id) = (place.store(), claimed.id);
    let fails = format!(
        "SELECT starling_jobs_finish_6(ARRAY['{id}'::uuid], ARRAY[1], ARRAY[1::smallint], ARRAY[0::bigint], NULL, NULL)"
    );
    let states = while_moving(place, &fails, async move { cancelling.cancel(&[id]).await }).await?;
    let Some(states) = states else { return Ok(()) };
    ensure!(states == [(id, JobState::Cancelled)], "{states:?}");
    ensure!(store.beat(worker).await? == Beat::Alive(Vec::new()), "nobody needs to stop it");
    Ok(())
}

fn all() -> JobFilter {
    let queues = vec!["q".to_owned(), "r".to_owned()];
    JobFilter { tenant: "t".into(), queues, state: None, kind: None, before: None, limit: 100 }
}

pub async fn jobs_are_found_newest_first_by_queue_state_and_kind(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let mut jobs: Vec<NewJob> = (0..8).map(job).collect();
    jobs[1].queue = "r".into();
    jobs[2].kind = "other".into();
    jobs[3].tenant = "other".into();
    jobs[4].run_at = RunAt::At(4_000_000_000_000);
    store.enqueue(&jobs).await?;
    // Queues and tenants take turns.
    let claimed = place.claim(worker, 30).await?;
    let ids = |numbers: &[usize]| numbers.iter().map(|number| jobs[*number].id).collect::<Vec<_>>();
    let failed = Outcome::Failed { error: "no".into(), retry_in: None };
    let of = |number: usize| claimed.iter().find(|claimed| claimed.id == jobs[number].id);
    let end = |number, outcome| Ok::<_, anyhow::Error>(ending(of(number).context("not claimed")?, outcome));
    store
        .finish(&[
            end(1, Outcome::Done(Some("[1]".into())))?,
            end(2, failed)?,
            end(5, Outcome::Cancelled)?,
            end(6, Outcome::HandedBack)?,
            end(7, Outcome::HandedBack)?,
        ])
        .await?;
    let find = async |filter: JobFilter| {
        let found: Vec<FoundJob> = store.find(&filter).await?;
        anyhow::Ok(found.into_iter().map(|found| found.id).collect::<Vec<_>>())
    };
    ensure!(find(all()).await? == ids(&[7, 6, 5, 4, 2, 1, 0]));
    let only = |queue: &str| vec![queue.to_owned()];
    ensure!(find(JobFilter { queues: only("r"), ..all() }).await? == ids(&[1]));
    ensure!(find(JobFilter { kind: Some("other".into()), ..all() }).await? == ids(&[2]));
    for (state, numbers) in [
        (JobState::Scheduled, &[4][..]),
        (JobState::Ready, &[7, 6]),
        (JobState::Running, &[0]),
        (JobState::Done, &[1]),
        (JobState::Failed, &[2]),
        (JobState::Cancelled, &[5]),
    ] {
        ensure!(find(JobFilter { state: Some(state), ..all() }).await? == ids(numbers), "{state:?}");
    }
    let page = JobFilter { before: Some(jobs[5].id), limit: 2, ..all() };
    ensure!(find(page).await? == ids(&[4, 2]));
    let found = store.find(&JobFilter { queues: only("r"), ..all() }).await?;
    ensure!(found[0].bytes == jobs[1].payload.len() as u64 + 3, "{found:?}");
    let details = store.jobs(&ids(&[0, 1])).await?;
    ensure!(details[0].id == jobs[1].id && details[0].result.as_deref() == Some("[1]"), "{details:?}");
    let running = details[1].running.as_ref().context("it runs")?;
    ensure!((running.number, &*running.worker) == (1, "the worker"), "{running:?}");
    let standing = store.standing(jobs[0].id).await?.context("the job is gone")?;
    ensure!(standing.state == JobState::Running && standing.running == details[1].running, "{standing:?}");
    ensure!((standing.attempts_max, standing.backoff) == (3, jobs[0].backoff), "{standing:?}");
    ensure!(store.standing(jobs[1].id).await?.is_some_and(|standing| standing.running.is_none()));
    ensure!(store.standing(JobId::new()).await?.is_none());
    Ok(())
}

async fn exists(store: &dyn JobStore, id: JobId) -> Result<bool> {
    Ok(store.job(id).await?.is_some())
}
