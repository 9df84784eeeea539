//! Claims: order, marks, and many workers at once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use starling_jobs::{Arrival, Arrivals, BacklogClaim, Backlogs, Mark, NewJob};
use tokio::task::JoinSet;

use crate::place::{self, Place, from_the_start, job};

pub async fn jobs_of_a_backlog_are_claimed_in_order(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let jobs: Vec<NewJob> = (0..25).map(job).collect();
    for batch in jobs.chunks(10) {
        store.enqueue(batch).await?;
    }
    let mut claim = from_the_start(&jobs[0], 4);
    let mut order = Vec::new();
    loop {
        let claimed = store.claim(&place::by(worker, None), std::slice::from_ref(&claim)).await?;
        order.extend(claimed.jobs.iter().map(|job| job.id));
        ensure!(claimed.left.len() == 1, "{claimed:?}");
        claim.mark = claimed.left[0].mark;
        if claimed.left[0].ready_since_ms.is_none() {
            break;
        }
    }
    ensure!(order == jobs.iter().map(|job| job.id).collect::<Vec<_>>());
    ensure!(store.claim(&place::by(worker, None), &[claim]).await?.jobs.is_empty());
    Ok(())
}

pub async fn many_workers_claim_each_job_once(place: &Place) -> Result<()> {
    const JOBS: usize = 300;
    let store = place.store();
    let jobs: Vec<NewJob> = (0..JOBS)
        .map(|number| NewJob { tenant: ["t", "u", "v"][number % 3].into(), ..job(number) })
        .collect();
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let (store, worker) = (place.store(), place.worker().await?);
        workers.spawn(async move {
            let (mut backlogs, mut mark, mut claimed_ids, mut idle) =
                (Backlogs::default(), Mark::default(), Vec::new(), 0);
            // Two looks in a row without a job, since the others may hold the last ones.
            while idle < 200 {
                let arrivals = store.arrivals(mark).await?;
                mark = arrivals.mark;
                backlogs.note(arrivals);
                let plan = backlogs.plan(backlogs.queues(), 7, 0, |_, _| true);
                let claimed = store.claim(&place::by(worker, None), &plan).await?;
                backlogs.claimed(&plan, &claimed, 0, backlogs.moment());
                idle = if claimed.jobs.is_empty() { idle + 1 } else { 0 };
                claimed_ids.extend(claimed.jobs.iter().map(|job| job.id));
            }
            anyhow::Ok(claimed_ids)
        });
    }
    for batch in jobs.chunks(17) {
        store.enqueue(batch).await?;
    }
    let mut claimed = Vec::new();
    while let Some(ids) = workers.join_next().await {
        claimed.extend(ids??);
    }
    // What arrived after a worker had given up.
    claimed.extend(place.claim(place.worker().await?, 1000).await?.iter().map(|job| job.id));
    ensure!(claimed.len() == JOBS, "{} claims of {JOBS} jobs", claimed.len());
    ensure!(claimed.into_iter().collect::<BTreeSet<_>>().len() == JOBS);
    Ok(())
}

/// Returns the statement that adds a job as [`job`] makes it.
fn enqueue_sql(job: &NewJob) -> String {
    format!(
        "SELECT * FROM starling_jobs_enqueue(ARRAY['{}'::uuid], ARRAY['t'], ARRAY['q'], ARRAY['k'], ARRAY['{{}}'], ARRAY[0]::smallint[],
         ARRAY[NULL]::timestamptz[], ARRAY[3]::smallint[], ARRAY[1], ARRAY[1], ARRAY[NULL]::text[], ARRAY[0]::smallint[])",
        job.id
    )
}

/// A transaction that began earlier may commit later. Its job must not be hidden by marks of scans in between.
pub async fn marks_hide_no_job_that_is_committed_late(place: &Place) -> Result<()> {
    // SQLite has one writer, so there a later transaction commits later.
    let Some(late) = place.session().await? else { return Ok(()) };
    let (store, worker) = (place.store(), place.worker().await?);
    let early = job(0);
    late.batch_execute("BEGIN").await?;
    late.batch_execute(&enqueue_sql(&early)).await?;
    let second = job(1);
    store.enqueue(std::slice::from_ref(&second)).await?;
    let mut arrivals = store.arrivals(Mark::default()).await?;
    let mut claim = from_the_start(&second, 10);
    let claimed = store.claim(&place::by(worker, None), std::slice::from_ref(&claim)).await?;
    ensure!(claimed.jobs.len() == 1 && claimed.jobs[0].id == second.id, "{claimed:?}");
    claim.mark = claimed.left[0].mark;
    late.batch_execute("COMMIT").await?;
    arrivals = store.arrivals(arrivals.mark).await?;
    ensure!(arrivals.backlogs.len() == 1, "{arrivals:?}");
    let claimed = store.claim(&place::by(worker, None), &[claim]).await?;
    ensure!(claimed.jobs.len() == 1 && claimed.jobs[0].id == early.id, "{claimed:?}");
    Ok(())
}

/// A node that has heard of a backlog before goes on where it was.
pub async fn a_known_backlog_hides_no_job_that_is_committed_late(place: &Place) -> Result<()> {
    let Some(late) = place.session().await? else { return Ok(()) };
    let (store, worker) = (place.store(), place.worker().await?);
    let (early, second) = (job(0), job(1));
    late.batch_execute("BEGIN").await?;
    late.batch_execute(&enqueue_sql(&early)).await?;
    store.enqueue(std::slice::from_ref(&second)).await?;
    let mut backlogs = Backlogs::default();
    let arrivals = store.arrivals(Mark::default()).await?;
    let mark = arrivals.mark;
    backlogs.note(arrivals);
    late.batch_execute("COMMIT").await?;
    backlogs.note(store.arrivals(mark).await?);
    let mut claimed_ids = BTreeSet::new();
    while !backlogs.is_empty() {
        let plan = backlogs.plan(backlogs.queues(), 1, 0, |_, _| true);
        let claimed = store.claim(&place::by(worker, None), &plan).await?;
        claimed_ids.extend(claimed.jobs.iter().map(|job| job.id));
        backlogs.claimed(&plan, &claimed, 0, backlogs.moment());
    }
    ensure!(claimed_ids == [early.id, second.id].into(), "{claimed_ids:?}");
    Ok(())
}

/// While one worker's claim is uncommitted, another one's mark must not pass the rows that it has locked.
pub async fn a_claim_that_is_rolled_back_is_found_again(place: &Place) -> Result<()> {
    let Some(other) = place.session().await? else { return Ok(()) };
    let (store, worker) = (place.store(), place.worker().await?);
    let jobs = [job(0), job(1)];
    store.enqueue(&jobs).await?;
    other.batch_execute("BEGIN").await?;
    other
        .batch_execute("DELETE FROM job_ready WHERE position = (SELECT min(position) FROM job_ready)")
        .await?;
    let mut claim = from_the_start(&jobs[0], 10);
    let claimed = store.claim(&place::by(worker, None), std::slice::from_ref(&claim)).await?;
    ensure!(claimed.jobs.len() == 1 && claimed.jobs[0].id == jobs[1].id, "{claimed:?}");
    ensure!(claimed.left[0].ready_since_ms.is_some(), "the locked one may come back: {claimed:?}");
    claim.mark = claimed.left[0].mark;
    other.batch_execute("ROLLBACK").await?;
    let claimed = store.claim(&place::by(worker, None), &[claim]).await?;
    ensure!(claimed.jobs.len() == 1 && claimed.jobs[0].id == jobs[0].id, "{claimed:?}");
    Ok(())
}

pub async fn a_paused_queue_gives_none(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.pause(&"t".into(), "q", true).await?;
    store.pause(&"t".into(), "q", true).await?;
    ensure!(store.paused(&"t".into()).await? == ["q"]);
    store.pause(&"u".into(), "other", true).await?;
    let mut pauses = store.pauses().await?;
    pauses.sort();
    ensure!(pauses == [("t".into(), "q".into()), ("u".into(), "other".into())], "{pauses:?}");
    store.enqueue(&[job(0), NewJob { queue: "other".into(), ..job(1) }]).await?;
    let claimed = place.claim(worker, 10).await?;
    ensure!(claimed.len() == 1 && claimed[0].backlog.queue == "other", "{claimed:?}");
    store.pause(&"t".into(), "q", false).await?;
    ensure!(store.paused(&"t".into()).await?.is_empty());
    ensure!(store.pauses().await?.len() == 1);
    ensure!(place.claim(worker, 10).await?.len() == 1);
    Ok(())
}

pub async fn arrivals_name_each_backlog(place: &Place) -> Result<()> {
    let store = place.store();
    let of = |tenant: &str, queue: &str, priority| NewJob {
        tenant: tenant.into(),
        queue: queue.into(),
        priority,
        ..job(0)
    };
    store
        .enqueue(&[of("t", "q", 0), of("t", "q", 0), of("u", "q", 0), of("t", "q", 5), of("t", "p", 0)])
        .await?;
    let first = store.arrivals(Mark::default()).await?;
    let names: BTreeSet<_> = first
        .backlogs
        .iter()
        .map(|arrival| (&*arrival.backlog.queue, &*arrival.backlog.tenant, arrival.backlog.priority))
        .collect();
    ensure!(names == [("p", "t", 0), ("q", "t", 0), ("q", "t", 5), ("q", "u", 0)].into(), "{names:?}");
    ensure!(first.backlogs.len() == 4);
    store.enqueue(&[of("v", "q", 0)]).await?;
    let second = store.arrivals(first.mark).await?;
    ensure!(second.backlogs.iter().any(|arrival| &*arrival.backlog.tenant == "v"), "{second:?}");
    Ok(())
}

/// Many jobs, so that their backlogs are found without reading them.
pub async fn arrivals_of_many_jobs_name_each_backlog_with_its_first_job(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let mark = store.arrivals(Mark::default()).await?.mark;
    let of = |number: usize| NewJob {
        tenant: ["t", "u", "v"][number % 3].into(),
        queue: ["p", "q"][number % 2].into(),
        priority: i16::from(number.is_multiple_of(5)),
        ..job(number)
    };
    let jobs: Vec<NewJob> = (0..2400).map(of).collect();
    for batch in jobs.chunks(400) {
        store.enqueue(batch).await?;
    }
    let mut expected: BTreeMap<_, _> = BTreeMap::new();
    for job in &jobs {
        expected.entry((&*job.queue, &*job.tenant, job.priority)).or_insert(job.id);
    }
    ensure!(expected.len() == 12);
    let of_all = store.arrivals(Mark::default()).await?;
    let since_then = store.arrivals(mark).await?;
    // Marks also depend on what others do in the server.
    let firsts = |arrivals: &Arrivals| {
        let all = arrivals.backlogs.iter();
        all.map(|first| (first.backlog.clone(), first.ready_since_ms)).collect::<Vec<_>>()
    };
    ensure!(firsts(&since_then) == firsts(&of_all), "nothing was there before: {since_then:?}");
    let claim =
        |arrival: &Arrival| BacklogClaim { backlog: arrival.backlog.clone(), mark: arrival.mark, limit: 1 };
    let claims: Vec<BacklogClaim> = of_all.backlogs.iter().map(claim).collect();
    let claimed = store.claim(&place::by(worker, None), &claims).await?.jobs;
    let firsts: BTreeMap<_, _> = claimed
        .iter()
        .map(|job| ((&*job.backlog.queue, &*job.backlog.tenant, job.backlog.priority), job.id))
        .collect();
    ensure!(firsts == expected, "{firsts:?}");
    Ok(())
}
