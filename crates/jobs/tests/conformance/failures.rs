//! Jobs that have failed for good, and who is told of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_jobs::{JobId, NewJob, Outcome};
use starling_model::TenantName;

use crate::place::{Place, by, ending, from_the_start, job};

/// A job that is tried once.
fn once(tenant: &str, queue: &str) -> NewJob {
    NewJob { attempts_max: 1, ..NewJob::new(tenant.into(), queue, "k", "{}".to_owned()) }
}

fn failed(retry_in: Option<Duration>) -> Outcome {
    Outcome::Failed { error: "it broke".into(), retry_in }
}

async fn listen(place: &Place, tenants: &[&str], version: i64) -> Result<()> {
    let tenants: Vec<TenantName> = tenants.iter().map(|tenant| (*tenant).into()).collect();
    Ok(place.store().note_failures_of(&tenants, version).await?)
}

/// The jobs of which somebody is to be told.
async fn noted(place: &Place) -> Result<Vec<JobId>> {
    Ok(place.store().failures(100).await?.iter().map(|failure| failure.job).collect())
}

pub async fn a_job_that_fails_for_good_is_noted_for_who_listens(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    listen(place, &["t", "other"], 3).await?;
    let (heard, unheard, internal) = (once("t", "q"), once("u", "q"), once("t", "starling.q"));
    let again = NewJob { attempts_max: 2, ..once("t", "q") };
    store.enqueue(&[heard.clone(), unheard, internal, again.clone()]).await?;
    let claimed = place.claim(worker, 10).await?;
    ensure!(claimed.len() == 4, "{claimed:?}");
    let endings: Vec<_> = claimed
        .iter()
        .map(|job| ending(job, failed((job.id == again.id).then_some(Duration::ZERO))))
        .collect();
    store.finish(&endings).await?;
    let failures = store.failures(100).await?;
    ensure!(failures.len() == 1, "{failures:?}");
    let failure = &failures[0];
    ensure!((failure.job, failure.queue.as_str(), &*failure.tenant) == (heard.id, "q", "t"), "{failure:?}");
    ensure!(failure.failed_at_ms > 1_700_000_000_000 && !failure.event.is_nil(), "{failure:?}");
    // A cancelled one has not failed, and the last attempt of the other one succeeds.
    let last = place.claim_one(worker).await?;
    store.finish(&[ending(&last, Outcome::Done(None))]).await?;
    store.enqueue(&[once("t", "q")]).await?;
    let cancelled = place.claim_one(worker).await?;
    store.finish(&[ending(&cancelled, Outcome::Cancelled)]).await?;
    ensure!(noted(place).await? == [heard.id]);
    // One that is tried again and fails again is another failure.
    store.retry(&[heard.id]).await?;
    let retried = place.claim_one(worker).await?;
    store.finish(&[ending(&retried, failed(None))]).await?;
    let both = store.failures(100).await?;
    ensure!(both.len() == 2 && both[0] == *failure && both[1].job == heard.id, "{both:?}");
    ensure!(both[0].event != both[1].event);
    ensure!(store.failures(1).await?.len() == 1);
    store.forget_failures(&[both[0].position]).await?;
    ensure!(store.failures(100).await? == both[1..]);
    Ok(())
}

pub async fn a_job_whose_last_worker_died_is_noted(place: &Place) -> Result<()> {
    let (store, silent) = (place.store(), place.worker().await?);
    listen(place, &["t"], 1).await?;
    let (buried, leased) = (once("t", "buried"), once("t", "leased"));
    store.enqueue(&[buried.clone(), leased.clone()]).await?;
    let lease = by(silent, Some(Duration::from_millis(1)));
    ensure!(store.claim(&lease, &[from_the_start(&leased, 1)]).await?.jobs.len() == 1);
    ensure!(store.claim(&by(silent, None), &[from_the_start(&buried, 1)]).await?.jobs.len() == 1);
    tokio::time::sleep(Duration::from_millis(30)).await;
    ensure!(store.bury_silent(Duration::from_millis(20), 10).await?.attempts == 1);
    ensure!(store.expire_leases(0, 10).await?.0 == 1);
    let mut found = noted(place).await?;
    found.sort_unstable();
    let mut expected = [buried.id, leased.id];
    expected.sort_unstable();
    ensure!(found == expected, "{found:?}");
    // The worker was only frozen. Its report is refused, and tells of nothing.
    store.bury_silent(Duration::from_millis(20), 10).await?;
    ensure!(noted(place).await?.len() == 2);
    Ok(())
}

pub async fn an_older_list_of_listeners_replaces_no_newer_one(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let fail = async |number: usize| -> Result<usize> {
        store.enqueue(&[NewJob { attempts_max: 1, ..job(number) }]).await?;
        let claimed = place.claim_one(worker).await?;
        store.finish(&[ending(&claimed, failed(None))]).await?;
        Ok(noted(place).await?.len())
    };
    ensure!(fail(0).await? == 0, "nobody listens");
    listen(place, &["t", "u"], 5).await?;
    ensure!(fail(1).await? == 1);
    listen(place, &["u"], 4).await?;
    ensure!(fail(2).await? == 2, "that list was older");
    listen(place, &["t", "u"], 5).await?;
    ensure!(fail(3).await? == 3, "another node has the same list");
    listen(place, &["u"], 6).await?;
    ensure!(fail(4).await? == 3);
    Ok(())
}
