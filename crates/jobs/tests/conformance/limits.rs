//! Limits: never more at the same time, nobody starved by a full key, rates by the database's clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use starling_jobs::{
    Backlogs, ClaimedJob, Hold, JobState, Limit, Mark, NewJob, Outcome, QueueLimits, StartRate,
};
use starling_testkit::wait::until;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::place::{Place, by, ending, from_the_start, job};

const DONE: Outcome = Outcome::Done(None);

fn at_once(jobs: u32) -> Limit {
    Limit { concurrency: Some(jobs), rate: None }
}

fn total(limit: Limit) -> QueueLimits {
    QueueLimits { total: limit, ..QueueLimits::default() }
}

fn per_key(limit: Limit) -> QueueLimits {
    QueueLimits { per_key: limit, ..QueueLimits::default() }
}

fn rate(per_1000_seconds: u32, burst: u32) -> Limit {
    Limit { concurrency: None, rate: Some(StartRate { per_1000_seconds, burst }) }
}

fn keyed(number: usize, key: &str) -> NewJob {
    NewJob { concurrency_key: Some(key.to_owned()), ..job(number) }
}

/// Returns the numbers of claimed jobs, as their payloads tell them.
fn numbers(jobs: &[ClaimedJob]) -> Vec<usize> {
    let number = |job: &ClaimedJob| job.payload.chars().filter(char::is_ascii_digit).collect::<String>();
    jobs.iter().map(|job| number(job).parse().unwrap_or(usize::MAX)).collect()
}

/// What runs at the same time, and the most of it, by what is counted.
#[derive(Default)]
struct Gauge(Mutex<BTreeMap<String, (usize, usize)>>);

impl Gauge {
    fn begin(&self, of: &str) {
        let mut gauge = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (now, most) = gauge.entry(of.to_owned()).or_default();
        *now += 1;
        *most = (*most).max(*now);
    }

    fn end(&self, of: &str) {
        let mut gauge = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        gauge.entry(of.to_owned()).or_default().0 -= 1;
    }

    fn most(&self, of: &str) -> usize {
        let gauge = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        gauge.get(of).map_or(0, |(_, most)| *most)
    }
}

/// Lets many workers do jobs at once, and returns how many of all, of each tenant and of each key were under way at the same time.
async fn work_through(place: &Place, jobs: Vec<NewJob>, limits: &QueueLimits) -> Result<Gauge> {
    const WORKERS: usize = 8;
    let store = place.store();
    if !limits.is_none() {
        ensure!(store.put_limits("q", limits).await?);
    }
    for batch in jobs.chunks(50) {
        store.enqueue(batch).await?;
    }
    let what: BTreeMap<_, _> = jobs
        .iter()
        .map(|job| {
            let key = job.concurrency_key.clone().unwrap_or_default();
            (job.id, [String::new(), (*job.tenant).to_owned(), format!("{} {key}", &*job.tenant)])
        })
        .collect();
    let (gauge, what) = (Arc::new(Gauge::default()), Arc::new(what));
    let (left, mut workers) = (Arc::new(AtomicUsize::new(jobs.len())), JoinSet::new());
    for _ in 0..WORKERS {
        let (store, worker) = (place.store(), place.worker().await?);
        let (gauge, what, left) = (gauge.clone(), what.clone(), left.clone());
        workers.spawn(async move {
            while left.load(Ordering::SeqCst) > 0 {
                let mut backlogs = Backlogs::default();
                backlogs.note(store.arrivals(Mark::default()).await?);
                let plan = backlogs.plan(backlogs.queues(), 3, 0, |_, _| true);
                let claimed = store.claim(&by(worker, None), &plan).await?.jobs;
                let of = || claimed.iter().flat_map(|job| what.get(&job.id).into_iter().flatten());
                of().for_each(|of| gauge.begin(of));
                // Others claim meanwhile.
                for _ in 0..5 {
                    store.standing(starling_jobs::JobId::new()).await?;
                }
                // What is under way is counted for no longer than the database counts it.
                of().for_each(|of| gauge.end(of));
                let endings: Vec<_> = claimed.iter().map(|job| ending(job, DONE)).collect();
                let states = store.finish(&endings).await?;
                ensure!(states.iter().all(|state| *state == Some(JobState::Done)), "{states:?}");
                left.fetch_sub(claimed.len(), Ordering::SeqCst);
            }
            Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    drop(workers);
    Arc::try_unwrap(gauge).map_err(|_| anyhow::anyhow!("a worker goes on"))
}

/// Two tenants with three keys each, and jobs without a key.
fn mixture() -> Vec<NewJob> {
    let one = |number: usize| {
        let key = ["a", "b", "c"].get(number % 4).map(|key| (*key).to_owned());
        NewJob { tenant: ["t", "u"][number % 2].into(), concurrency_key: key, ..job(number) }
    };
    (0..160).map(one).collect()
}

pub async fn never_more_run_at_once_than_the_limits_allow(place: &Place) -> Result<()> {
    let limits = QueueLimits { total: at_once(5), per_tenant: at_once(4), per_key: at_once(2) };
    let gauge = work_through(place, mixture(), &limits).await?;
    let (all, tenants) = (gauge.most(""), ["t", "u"].map(|tenant| gauge.most(tenant)));
    ensure!((2..=5).contains(&all), "{all} at once");
    ensure!(tenants.iter().all(|most| (1..=4).contains(most)), "{tenants:?} of each tenant");
    for key in ["t a", "t c", "u b"] {
        ensure!((1..=2).contains(&gauge.most(key)), "{} of {key}", gauge.most(key));
    }
    ensure!(place.store().counts(None).await?.iter().all(|count| count.state == JobState::Done));
    Ok(())
}

/// The same work without limits, which shows that the case above would notice an excess.
pub async fn without_limits_the_same_work_exceeds_them(place: &Place) -> Result<()> {
    let gauge = work_through(place, mixture(), &QueueLimits::default()).await?;
    ensure!(gauge.most("") > 5, "{} at once", gauge.most(""));
    let keys = ["t a", "t c", "u b"].map(|key| gauge.most(key));
    ensure!(keys.iter().any(|most| *most > 2), "{keys:?} of each key");
    Ok(())
}

/// Changes the text of a function.
async fn change(session: &Client, function: &str, from: &str, to: &str) -> Result<()> {
    let definition = format!("SELECT pg_get_functiondef('{function}'::regproc)");
    let text: String = session.query_one(&definition, &[]).await?.get(0);
    ensure!(text.contains(from), "{function} has no {from}");
    Ok(session.batch_execute(&text.replace(from, to)).await?)
}

/// Claims that count and then wait a moment: with their lock the limit holds, without it they exceed it.
pub async fn it_is_the_lock_of_the_limits_that_lets_them_hold(place: &Place) -> Result<()> {
    // SQLite has one writer, and needs no lock.
    let Some(session) = place.session().await? else { return Ok(()) };
    let slow = "most := free; PERFORM pg_sleep(0.01);";
    change(&session, "starling_limits_claim_6", "most := free;", slow).await?;
    let limits = total(at_once(2));
    let with_lock = work_through(place, (0..40).map(job).collect(), &limits).await?.most("");
    ensure!(with_lock <= 2, "{with_lock} at once");
    change(&session, "starling_jobs_claim_6", "FOR UPDATE;", ";").await?;
    let without_lock = work_through(place, (40..160).map(job).collect(), &limits).await?.most("");
    ensure!(without_lock > 2, "{without_lock} at once");
    Ok(())
}

pub async fn jobs_behind_those_of_a_full_key_begin(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.put_limits("q", &per_key(at_once(1))).await?;
    let mut jobs: Vec<NewJob> = (0..700).map(|number| keyed(number, "full")).collect();
    jobs.extend([keyed(700, "other"), job(701)]);
    store.enqueue(&jobs).await?;
    let (mut claim, mut order, mut calls) = (from_the_start(&jobs[0], 10), Vec::new(), 0);
    loop {
        let claimed = store.claim(&by(worker, None), std::slice::from_ref(&claim)).await?;
        order.extend(numbers(&claimed.jobs));
        calls += 1;
        claim.mark = claimed.left[0].mark;
        ensure!(claimed.left[0].ready_since_ms.is_some(), "those of the full key are not forgotten");
        if claimed.left[0].hold == Some(Hold::Full) {
            break;
        }
        ensure!(calls < 10, "{claimed:?}");
    }
    ensure!(order == [0, 700, 701], "{order:?}");
    // Nothing is looked at twice.
    let again = store.claim(&by(worker, None), std::slice::from_ref(&claim)).await?;
    ensure!(again.jobs.is_empty() && again.left[0].set_aside == 0, "{again:?}");
    Ok(())
}

pub async fn blocked_jobs_begin_in_order_when_one_of_their_key_ends(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.put_limits("q", &per_key(at_once(1))).await?;
    let jobs: Vec<NewJob> = (0..4).map(|number| keyed(number, "k")).collect();
    store.enqueue(&jobs).await?;
    for expected in 0..4 {
        let claimed = place.claim(worker, 10).await?;
        ensure!(numbers(&claimed) == [expected], "{claimed:?}");
        ensure!(place.claim(worker, 10).await?.is_empty(), "one at a time");
        // Later jobs don't overtake.
        store.enqueue(&[keyed(10 + expected, "k")]).await?;
        // However it ends: here it fails for good, is done, is handed back, and is cancelled.
        let (outcome, again) = match expected {
            0 => (Outcome::Failed { error: "no".into(), retry_in: None }, false),
            1 => (DONE, false),
            2 => (Outcome::HandedBack, true),
            _ => (Outcome::Cancelled, false),
        };
        store.finish(&[ending(&claimed[0], outcome)]).await?;
        if again {
            let next = place.claim(worker, 10).await?;
            ensure!(numbers(&next) == [3], "one that was handed back waits behind the others: {next:?}");
            store.cancel(&[claimed[0].id]).await?;
            store.finish(&[ending(&next[0], Outcome::HandedBack)]).await?;
            let next = place.claim(worker, 10).await?;
            ensure!(numbers(&next) == [10], "{next:?}");
            return Ok(());
        }
    }
    Ok(())
}

pub async fn the_place_of_a_dead_worker_is_free_again(place: &Place) -> Result<()> {
    let store = place.store();
    store.put_limits("q", &QueueLimits { total: at_once(1), ..per_key(at_once(1)) }).await?;
    store.enqueue(&[keyed(0, "k"), keyed(1, "k")]).await?;
    let (dead, alive) = (place.worker().await?, place.worker().await?);
    ensure!(numbers(&place.claim(dead, 10).await?) == [0]);
    ensure!(place.claim(alive, 10).await?.is_empty());
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.beat(alive).await?;
    let burial = store.bury_silent(Duration::from_millis(40), 10).await?;
    ensure!(burial.attempts == 1, "{burial:?}");
    let alive = place.worker().await?;
    let claimed = place.claim(alive, 10).await?;
    ensure!(claimed.len() == 1, "{claimed:?}");
    ensure!(place.claim(alive, 10).await?.is_empty());
    Ok(())
}

pub async fn a_rate_lets_so_many_begin_and_says_when_the_next_may(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let jobs: Vec<NewJob> = (0..10).map(job).collect();
    // One in 1,000 s, so that a slow machine changes nothing.
    for limits in [total(rate(1, 3)), QueueLimits { per_tenant: rate(1, 3), ..QueueLimits::default() }] {
        store.put_limits("q", &limits).await?;
        store.enqueue(&jobs).await?;
        let claim = from_the_start(&jobs[0], 10);
        let claimed = store.claim(&by(worker, None), std::slice::from_ref(&claim)).await?;
        ensure!(claimed.jobs.len() == 3, "{claimed:?}");
        // What begins is counted, not what runs.
        store.finish(&claimed.jobs.iter().map(|job| ending(job, DONE)).collect::<Vec<_>>()).await?;
        for claimed in [claimed, store.claim(&by(worker, None), std::slice::from_ref(&claim)).await?] {
            let Some(Hold::For(wait)) = claimed.left[0].hold else { anyhow::bail!("{claimed:?}") };
            ensure!((Duration::from_secs(900)..=Duration::from_secs(1000)).contains(&wait), "{wait:?}");
        }
        store.discard(&jobs.iter().map(|job| job.id).collect::<Vec<_>>()).await?;
        ensure!(store.remove_limits("q").await?);
    }
    // A fast one lets them all begin in a while.
    store.put_limits("q", &total(rate(20_000, 1))).await?;
    let jobs: Vec<NewJob> = (0..4).map(job).collect();
    store.enqueue(&jobs).await?;
    let (mut begun, claim) = (0, from_the_start(&jobs[0], 10));
    while begun < 4 {
        let claimed = store.claim(&by(worker, None), std::slice::from_ref(&claim)).await?;
        ensure!(claimed.jobs.len() <= 1, "evenly: {claimed:?}");
        begun += claimed.jobs.len();
        if let Some(Hold::For(wait)) = claimed.left[0].hold {
            ensure!(wait <= Duration::from_millis(51), "{wait:?}");
            tokio::time::sleep(wait).await;
        }
    }
    Ok(())
}

fn filter(state: JobState) -> starling_jobs::JobFilter {
    starling_jobs::JobFilter {
        tenant: "t".into(),
        queues: vec!["q".into()],
        state: Some(state),
        kind: None,
        before: None,
        limit: 100,
    }
}

pub async fn a_key_whose_rate_is_used_up_holds_no_other_key(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.put_limits("q", &per_key(rate(1, 2))).await?;
    let jobs = [keyed(0, "a"), keyed(1, "a"), keyed(2, "a"), keyed(3, "b"), job(4)];
    store.enqueue(&jobs).await?;
    let claim = from_the_start(&jobs[0], 10);
    let first = store.claim(&by(worker, None), std::slice::from_ref(&claim)).await?;
    ensure!(numbers(&first.jobs) == [0, 1, 3, 4], "{first:?}");
    // An end changes nothing.
    store.finish(&first.jobs.iter().map(|job| ending(job, DONE)).collect::<Vec<_>>()).await?;
    for _ in 0..2 {
        let held = store.claim(&by(worker, None), std::slice::from_ref(&claim)).await?;
        ensure!(held.jobs.is_empty(), "{held:?}");
        ensure!(
            matches!(held.left[0].hold, Some(Hold::For(wait)) if wait > Duration::from_secs(900)),
            "{held:?}"
        );
    }
    // A higher limit holds at once.
    store.put_limits("q", &per_key(rate(1, 3))).await?;
    ensure!(numbers(&store.claim(&by(worker, None), &[claim]).await?.jobs) == [2]);
    Ok(())
}

pub async fn jobs_that_run_when_limits_are_set_are_counted(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let jobs: Vec<NewJob> = (0..6).map(|number| keyed(number, "k")).collect();
    store.enqueue(&jobs).await?;
    let running = place.claim(worker, 2).await?;
    store.put_limits("q", &total(at_once(3))).await?;
    ensure!(place.claim(worker, 10).await?.len() == 1);
    store.put_limits("q", &per_key(at_once(3))).await?;
    ensure!(place.claim(worker, 10).await?.is_empty(), "three of the key run");
    store.finish(&[ending(&running[0], DONE)]).await?;
    ensure!(place.claim(worker, 10).await?.len() == 1);
    Ok(())
}

pub async fn blocked_jobs_are_ready_for_everybody_else(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.put_limits("q", &per_key(at_once(1))).await?;
    let jobs: Vec<NewJob> = (0..5).map(|number| keyed(number, "k")).collect();
    store.enqueue(&jobs).await?;
    ensure!(numbers(&place.claim(worker, 10).await?) == [0]);
    ensure!(place.claim(worker, 10).await?.is_empty());
    ensure!(store.find(&filter(JobState::Ready)).await?.len() == 4, "they are listed");
    let details = store.job(jobs[1].id).await?;
    let details = details.ok_or_else(|| anyhow::anyhow!("no such job"))?;
    ensure!((details.state, details.concurrency_key.as_deref()) == (JobState::Ready, Some("k")));
    let summary = store.summaries(&[jobs[1].id]).await?;
    ensure!(summary[0].concurrency_key.as_deref() == Some("k"), "{summary:?}");
    let cancelled = store.cancel(&[jobs[1].id]).await?;
    ensure!(cancelled == [(jobs[1].id, JobState::Cancelled)], "{cancelled:?}");
    ensure!(store.discard(&[jobs[2].id]).await? == [jobs[2].id]);
    // Somebody who has just started hears of them.
    let arrivals = store.arrivals(Mark::default()).await?;
    ensure!(arrivals.backlogs.len() == 1, "{arrivals:?}");
    // Without limits they begin as others do.
    ensure!(store.remove_limits("q").await? && !store.remove_limits("q").await?);
    ensure!(numbers(&place.claim(worker, 10).await?) == [3, 4]);
    let counts = store.counts(None).await?;
    let running = counts.iter().find(|count| count.state == JobState::Running);
    ensure!(running.is_some_and(|count| count.jobs == 3), "{counts:?}");
    ensure!(counts.iter().all(|count| count.state != JobState::Ready), "{counts:?}");
    Ok(())
}

pub async fn limits_are_kept_as_they_were_given(place: &Place) -> Result<()> {
    let store = place.store();
    let limits = QueueLimits {
        total: Limit { concurrency: Some(7), ..rate(2_500, 3) },
        per_tenant: at_once(2),
        per_key: rate(1, 1),
    };
    ensure!(store.limits().await?.is_empty());
    ensure!(store.put_limits("q", &total(at_once(1))).await?);
    ensure!(store.put_limits("q", &limits).await? && store.put_limits("other", &total(at_once(1))).await?);
    ensure!(store.limits().await? == [("other".to_owned(), total(at_once(1))), ("q".to_owned(), limits)]);
    store.tidy_limits().await?;
    ensure!(store.remove_limits("q").await?);
    ensure!(store.limits().await?.len() == 1);
    Ok(())
}

/// What is not needed any more goes, and what is needed stays.
pub async fn tidying_loses_no_turn(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    store.put_limits("q", &per_key(Limit { concurrency: Some(1), ..rate(1_000_000, 1) })).await?;
    store.enqueue(&[keyed(0, "k"), keyed(1, "k"), keyed(2, "alone")]).await?;
    let claimed = place.claim(worker, 10).await?;
    ensure!(numbers(&claimed) == [0, 2], "{claimed:?}");
    store.finish(&claimed.iter().map(|job| ending(job, DONE)).collect::<Vec<_>>()).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.tidy_limits().await?;
    ensure!(numbers(&place.claim(worker, 10).await?) == [1]);
    Ok(())
}

/// A claim finds no place for a key. The last job of that key ends before the claim takes note of it.
pub async fn a_job_that_ends_while_a_claim_counts_wakes_the_next_one(place: &Place) -> Result<()> {
    // SQLite has one writer: nothing ends while a claim counts.
    let (Some(gate), Some(session)) = (place.session().await?, place.session().await?) else { return Ok(()) };
    let (store, worker) = (place.store(), place.worker().await?);
    store.put_limits("q", &per_key(at_once(1))).await?;
    store.enqueue(&[keyed(0, "k"), keyed(1, "k")]).await?;
    let running = place.claim(worker, 10).await?;
    ensure!(numbers(&running) == [0] && place.claim(worker, 10).await?.is_empty());
    // Limits that are set anew make every key with blocked jobs be looked at.
    store.put_limits("q", &per_key(at_once(1))).await?;
    let counted = "FROM starling_limits_key_places(l, of_tenant, turn.key, now_us) p;";
    let waits = format!("{counted} PERFORM pg_advisory_xact_lock(77);");
    change(&session, "starling_limits_claim_6", counted, &waits).await?;
    gate.batch_execute("SELECT pg_advisory_lock(77)").await?;
    let (store_of_claim, claim) = (place.store(), from_the_start(&job(0), 10));
    let claiming = tokio::spawn(async move { store_of_claim.claim(&by(worker, None), &[claim]).await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until(Duration::from_secs(60), "the claim to count", async || {
        Ok((session.query_one(waiting, &[]).await?.get::<_, i64>(0) > 0).then_some(()))
    })
    .await?;
    store.finish(&[ending(&running[0], DONE)]).await?;
    gate.batch_execute("SELECT pg_advisory_unlock(77)").await?;
    ensure!(claiming.await??.jobs.is_empty(), "the key had no place when it was looked at");
    ensure!(numbers(&place.claim(worker, 10).await?) == [1], "its blocked job waits for ever");
    Ok(())
}

pub async fn tidying_wakes_a_key_that_nothing_else_would_wake(place: &Place) -> Result<()> {
    let Some(session) = place.session().await? else { return Ok(()) };
    let (store, worker) = (place.store(), place.worker().await?);
    let lose_turns = async || session.execute("DELETE FROM job_key_turns", &[]).await;
    store.put_limits("q", &per_key(at_once(1))).await?;
    store.enqueue(&[keyed(0, "k"), keyed(1, "k")]).await?;
    let running = place.claim(worker, 10).await?;
    ensure!(numbers(&running) == [0] && place.claim(worker, 10).await?.is_empty());
    store.tidy_limits().await?;
    ensure!(lose_turns().await? == 0, "the job that runs will wake the next one");
    store.finish(&[ending(&running[0], DONE)]).await?;
    ensure!(lose_turns().await? == 1);
    ensure!(place.claim(worker, 10).await?.is_empty(), "nobody knows of it");
    store.tidy_limits().await?;
    ensure!(numbers(&place.claim(worker, 10).await?) == [1]);
    Ok(())
}
