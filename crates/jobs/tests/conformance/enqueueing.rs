//! Adding jobs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_jobs::{Backoff, JobState, KeyHeld, NewJob, Outcome, RunAt, UniqueKey};
use tokio::task::JoinSet;

use crate::place::{Place, ending, job};

/// An hour from any clock of a test machine.
const FAR_MS: i64 = 4_000_000_000_000;

fn with_key(number: usize, held: KeyHeld) -> NewJob {
    NewJob { unique: Some(UniqueKey { key: "the one".into(), held }), ..job(number) }
}

pub async fn a_job_is_kept_as_it_was_given(place: &Place) -> Result<()> {
    let given = NewJob {
        payload: "{\"text\": \"grüße 🙂\",\n \"n\": 1e2}".into(),
        priority: -3,
        attempts_max: 7,
        backoff: Backoff { first: Duration::from_millis(250), max: Duration::from_secs(9) },
        ..job(0)
    };
    let store = place.store();
    store.enqueue(std::slice::from_ref(&given)).await?;
    let kept = store.job(given.id).await?.context("the job is gone")?;
    ensure!((&kept.payload, &kept.kind, kept.attempts_max) == (&given.payload, &given.kind, 7), "{kept:?}");
    ensure!((kept.backlog.priority, kept.state, kept.attempts.len()) == (-3, JobState::Ready, 0), "{kept:?}");
    let claimed = place.claim_one(place.worker().await?).await?;
    ensure!(
        (&claimed.payload, claimed.backoff, claimed.attempt) == (&given.payload, given.backoff, 1),
        "{claimed:?}"
    );
    ensure!(store.job(starling_jobs::JobId::new()).await?.is_none());
    Ok(())
}

pub async fn a_job_added_again_is_not_added_twice(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let given = [job(0), with_key(1, KeyHeld::UntilEnded)];
    let first = store.enqueue(&given).await?;
    ensure!(first.iter().all(|answer| answer.added), "{first:?}");
    for state in [JobState::Ready, JobState::Running, JobState::Done] {
        let again = store.enqueue(&given).await?;
        ensure!(
            again.iter().zip(&given).all(|(answer, job)| !answer.added && answer.job == job.id),
            "{state:?}: {again:?}"
        );
        let claimed = place.claim(worker, 10).await?;
        ensure!(claimed.len() == if state == JobState::Ready { 2 } else { 0 }, "{state:?}: {claimed:?}");
        if state == JobState::Running {
            for job in &given {
                let done = starling_jobs::Ending { job: job.id, generation: 1, outcome: Outcome::Done(None) };
                ensure!(store.finish(&[done]).await? == [Some(JobState::Done)]);
            }
        }
    }
    Ok(())
}

pub async fn a_key_is_held_for_as_long_as_it_was_asked(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    for (held, free_when) in [
        (KeyHeld::UntilClaimed, JobState::Running),
        (KeyHeld::UntilEnded, JobState::Done),
        (KeyHeld::UntilTrimmed, JobState::Cancelled),
    ] {
        let first = with_key(0, held);
        ensure!(store.enqueue(std::slice::from_ref(&first)).await?[0].added);
        for state in [JobState::Ready, JobState::Running, JobState::Done] {
            let second = with_key(1, held);
            let answer = store.enqueue(std::slice::from_ref(&second)).await?[0];
            ensure!(answer.added == (state >= free_when), "{held:?}, {state:?}: {answer:?}");
            if answer.added {
                store.cancel(&[second.id]).await?;
                store.discard(&[second.id]).await?;
            } else {
                ensure!(answer.job == first.id, "{held:?}, {state:?}: {answer:?}");
            }
            match state {
                JobState::Ready => drop(place.claim_one(worker).await?),
                _ => {
                    let done =
                        starling_jobs::Ending { job: first.id, generation: 1, outcome: Outcome::Done(None) };
                    store.finish(&[done]).await?;
                }
            }
        }
        ensure!(store.discard(&[first.id]).await? == [first.id]);
        let after = with_key(2, held);
        ensure!(
            store.enqueue(std::slice::from_ref(&after)).await?[0].added,
            "{held:?}: the key is free again"
        );
        store.cancel(&[after.id]).await?;
        store.discard(&[after.id]).await?;
    }
    Ok(())
}

pub async fn a_retried_job_takes_its_key_again_unless_another_job_has_it(place: &Place) -> Result<()> {
    let store = place.store();
    let (first, second) = (with_key(0, KeyHeld::UntilEnded), with_key(1, KeyHeld::UntilEnded));
    store.enqueue(std::slice::from_ref(&first)).await?;
    store.cancel(&[first.id]).await?;
    ensure!(store.retry(&[first.id]).await? == [first.id]);
    let refused = store.enqueue(std::slice::from_ref(&second)).await?[0];
    ensure!(refused.job == first.id && !refused.added, "{refused:?}");
    store.cancel(&[first.id]).await?;
    ensure!(store.enqueue(std::slice::from_ref(&second)).await?[0].added);
    ensure!(store.retry(&[first.id]).await?.is_empty(), "the second job has the key");
    store.cancel(&[second.id]).await?;
    ensure!(store.retry(&[first.id, second.id]).await?.len() == 1, "one of them takes it");
    Ok(())
}

pub async fn a_key_added_from_many_callers_at_once_is_held_by_one(place: &Place) -> Result<()> {
    let mut callers = JoinSet::new();
    for number in 0..8 {
        let store = place.store();
        callers.spawn(async move {
            let other = NewJob {
                unique: Some(UniqueKey { key: "a".into(), held: KeyHeld::UntilEnded }),
                ..job(number)
            };
            let batch = if number % 2 == 0 {
                [with_key(number, KeyHeld::UntilEnded), other]
            } else {
                [other, with_key(number, KeyHeld::UntilEnded)]
            };
            store.enqueue(&batch).await
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = callers.join_next().await {
        answers.extend(answer??);
    }
    ensure!(answers.iter().filter(|answer| answer.added).count() == 2, "{answers:?}");
    let mut holders: Vec<_> = answers.iter().map(|answer| answer.job).collect();
    holders.sort();
    holders.dedup();
    ensure!(holders.len() == 2, "{answers:?}");
    Ok(())
}

pub async fn a_delay_counts_from_when_the_job_was_added(place: &Place) -> Result<()> {
    let store = place.store();
    let hour = Duration::from_secs(3600);
    let later = NewJob { run_at: RunAt::After(hour), ..job(0) };
    let (now, fixed) = (job(1), NewJob { run_at: RunAt::At(FAR_MS), ..job(2) });
    store.enqueue(&[later.clone(), now.clone(), fixed.clone()]).await?;
    let found = async |new: &NewJob| store.job(new.id).await?.context("the job is gone");
    let waiting = found(&later).await?;
    let delay_ms = waiting.run_at_ms - waiting.created_at_ms;
    ensure!(
        waiting.state == JobState::Scheduled && (3_540_000..=3_600_000).contains(&delay_ms),
        "{waiting:?}"
    );
    ensure!(found(&now).await?.state == JobState::Ready);
    ensure!(found(&fixed).await?.run_at_ms == FAR_MS);
    Ok(())
}

pub async fn a_job_waits_for_its_time(place: &Place) -> Result<()> {
    let (store, worker) = (place.store(), place.worker().await?);
    let (past, later) =
        (NewJob { run_at: RunAt::At(1), ..job(0) }, NewJob { run_at: RunAt::At(FAR_MS), ..job(1) });
    store.enqueue(&[past.clone(), later.clone()]).await?;
    let claimed = place.claim(worker, 10).await?;
    ensure!(claimed.len() == 1 && claimed[0].id == past.id, "{claimed:?}");
    let waiting = store.job(later.id).await?.context("the job is gone")?;
    ensure!((waiting.state, waiting.run_at_ms) == (JobState::Scheduled, FAR_MS), "{waiting:?}");
    // A retry without a delay of a whole clock tick is due at the next look.
    let again = Outcome::Failed { error: "again".into(), retry_in: Some(Duration::from_millis(1)) };
    ensure!(store.finish(&[ending(&claimed[0], again)]).await? == [Some(JobState::Scheduled)]);
    let mut since_ms = 0;
    loop {
        let (promoted, next_ms) = store.promote(since_ms, 10).await?;
        since_ms = next_ms;
        if promoted == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    ensure!(place.claim_one(worker).await?.attempt == 2);
    ensure!(store.promote(since_ms, 10).await?.0 == 0, "the other one still waits");
    Ok(())
}
