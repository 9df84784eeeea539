//! Schedules: each moment counts once.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use starling_jobs::{
    Backoff, DueSchedule, Firing, JobFilter, JobState, Missed, PutSchedule, Revision, Schedule,
    ScheduleTimes, ScheduledJob,
};

use crate::place::Place;

/// More than any case has.
const MANY: u32 = 1000;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// A schedule whose next moment has come already.
fn due(name: &str) -> Schedule {
    let times =
        ScheduleTimes { cron: "* * * * *".into(), zone: "Europe/Zurich".into(), missed: Missed::Once };
    let backoff = Backoff { first: Duration::from_secs(7), ..Backoff::default() };
    let payload = r#"{"of":"a schedule"}"#.to_owned();
    let job =
        ScheduledJob { queue: "q".into(), kind: "k".into(), payload, priority: 3, attempts_max: 5, backoff };
    // The moment that follows a time two minutes ago.
    Schedule::new("t".into(), name.into(), times, job, now_ms() - 120_000).expect("a schedule")
}

fn of(schedule: &Schedule) -> DueSchedule {
    DueSchedule {
        tenant: schedule.tenant.clone(),
        name: schedule.name.clone(),
        revision: schedule.revision,
        times: schedule.times.clone(),
        due_ms: schedule.next_ms.expect("a moment"),
    }
}

/// A firing for these moments, after which the schedule is due at `next_ms`.
fn firing(schedule: &Schedule, moments_ms: &[i64], next_ms: i64) -> Firing {
    Firing { schedule: of(schedule), moments_ms: moments_ms.to_vec(), next_ms: Some(next_ms) }
}

pub async fn a_schedule_is_kept_as_it_was_given(place: &Place) -> Result<()> {
    let (store, schedule) = (place.store(), due("s"));
    ensure!(store.put_schedule(&schedule, None, MANY).await? == PutSchedule::Created);
    ensure!(store.schedule(&"t".into(), "s").await?.as_ref() == Some(&schedule));
    ensure!(store.schedule(&"other".into(), "s").await?.is_none(), "a schedule belongs to a tenant");
    ensure!(store.put_schedule(&due("s"), None, MANY).await? == PutSchedule::Changed, "there is one");
    ensure!(store.put_schedule(&due("s"), Some(Revision::new()), MANY).await? == PutSchedule::Changed);
    ensure!(store.schedule(&"t".into(), "s").await?.as_ref() == Some(&schedule));
    ensure!(!store.delete_schedule(&"t".into(), "s", Revision::new()).await?);
    ensure!(store.delete_schedule(&"t".into(), "s", schedule.revision).await?);
    ensure!(store.schedule(&"t".into(), "s").await?.is_none());
    Ok(())
}

pub async fn a_replaced_schedule_goes_on_where_it_was_unless_its_times_change(place: &Place) -> Result<()> {
    let (store, first) = (place.store(), due("s"));
    store.put_schedule(&first, None, MANY).await?;
    let mut second = Schedule { next_ms: Some(1), revision: Revision::new(), ..first.clone() };
    second.job.queue = "other".into();
    ensure!(store.put_schedule(&second, Some(first.revision), MANY).await? == PutSchedule::Replaced);
    let kept = store.schedule(&"t".into(), "s").await?.context("it is there")?;
    ensure!(kept == Schedule { next_ms: first.next_ms, ..second.clone() }, "{kept:?}");
    let mut third = Schedule { next_ms: Some(1), revision: Revision::new(), ..second.clone() };
    third.times.zone = "UTC".into();
    ensure!(store.put_schedule(&third, Some(second.revision), MANY).await? == PutSchedule::Replaced);
    ensure!(store.schedule(&"t".into(), "s").await? == Some(third));
    Ok(())
}

pub async fn schedules_are_listed_by_name_and_limited(place: &Place) -> Result<()> {
    let store = place.store();
    for name in ["b", "a", "c"] {
        ensure!(store.put_schedule(&due(name), None, 3).await? == PutSchedule::Created);
    }
    ensure!(store.put_schedule(&due("d"), None, 3).await? == PutSchedule::TooMany);
    ensure!(store.put_schedule(&due("a"), None, 3).await? == PutSchedule::Changed, "it is one of the three");
    let names = async |after: &str, limit| -> Result<Vec<String>> {
        let listed = store.schedules(&"t".into(), after, limit).await?;
        Ok(listed.into_iter().map(|schedule| schedule.name).collect())
    };
    ensure!(names("", 2).await? == ["a", "b"] && names("b", 2).await? == ["c"]);
    ensure!(store.schedules(&"other".into(), "", 9).await?.is_empty());
    Ok(())
}

pub async fn a_due_schedule_is_found_and_fires_once(place: &Place) -> Result<()> {
    let (store, schedule) = (place.store(), due("s"));
    let later = Schedule { next_ms: Some(now_ms() + 3_600_000), ..due("later") };
    store.put_schedule(&schedule, None, MANY).await?;
    store.put_schedule(&later, None, MANY).await?;
    let found = store.due_schedules(10).await?;
    ensure!(found.schedules == [of(&schedule)], "{found:?}");
    ensure!((now_ms() - found.now_ms).abs() < 3_600_000, "{found:?}");
    let moment_ms = schedule.next_ms.context("a moment")?;
    let once = firing(&schedule, &[moment_ms], moment_ms + 60_000);
    let added = store.fire(std::slice::from_ref(&once)).await?;
    ensure!(added.len() == 1);
    ensure!(store.fire(&[once]).await?.is_empty(), "another node has done it");
    let job = store.job(added[0]).await?.context("the job is there")?;
    let ScheduledJob { queue, kind, payload, priority, attempts_max, backoff } = schedule.job.clone();
    ensure!((&job.backlog.queue, &job.kind, &job.payload) == (&queue, &kind, &payload), "{job:?}");
    ensure!((job.backlog.priority, job.attempts_max, job.backoff) == (priority, attempts_max, backoff));
    ensure!((job.state, job.run_at_ms) == (JobState::Ready, moment_ms), "{job:?}");
    let kept = store.schedule(&"t".into(), "s").await?.context("it is there")?;
    ensure!((kept.next_ms, kept.last_ms) == (Some(moment_ms + 60_000), Some(moment_ms)), "{kept:?}");
    Ok(())
}

pub async fn many_nodes_fire_each_moment_once(place: &Place) -> Result<()> {
    let store = place.store();
    let schedules: Vec<Schedule> = (0..20).map(|number| due(&format!("s{number}"))).collect();
    for schedule in &schedules {
        store.put_schedule(schedule, None, MANY).await?;
    }
    // Each node knows them in another order.
    let nodes = (0..8).map(|node| {
        let (store, mut firings) = (place.store(), Vec::new());
        for schedule in &schedules {
            let moment_ms = schedule.next_ms.unwrap_or_default();
            firings.push(firing(schedule, &[moment_ms, moment_ms + 1000], moment_ms + 60_000));
        }
        firings.rotate_left(node * 2);
        tokio::spawn(async move { store.fire(&firings).await })
    });
    let mut added = Vec::new();
    for node in nodes.collect::<Vec<_>>() {
        added.extend(node.await??);
    }
    ensure!(added.len() == 40, "{} jobs", added.len());
    let (tenant, queues) = ("t".into(), vec!["q".to_owned()]);
    let filter = JobFilter { tenant, queues, state: None, kind: None, before: None, limit: 200 };
    ensure!(store.find(&filter).await?.len() == 40);
    Ok(())
}

pub async fn a_moment_that_comes_again_adds_no_second_job(place: &Place) -> Result<()> {
    let (store, schedule) = (place.store(), due("s"));
    store.put_schedule(&schedule, None, MANY).await?;
    let moment_ms = schedule.next_ms.context("a moment")?;
    ensure!(store.fire(&[firing(&schedule, &[moment_ms], moment_ms + 60_000)]).await?.len() == 1);
    // It is deleted and made again, as it was.
    store.delete_schedule(&"t".into(), "s", schedule.revision).await?;
    let again = Schedule { revision: Revision::new(), ..schedule };
    store.put_schedule(&again, None, MANY).await?;
    let both = firing(&again, &[moment_ms, moment_ms + 60_000], moment_ms + 120_000);
    ensure!(store.fire(&[both]).await?.len() == 1, "only the second moment is new");
    Ok(())
}

pub async fn a_firing_of_an_earlier_version_or_without_moments_adds_nothing(place: &Place) -> Result<()> {
    let (store, first) = (place.store(), due("s"));
    store.put_schedule(&first, None, MANY).await?;
    let second = Schedule { revision: Revision::new(), ..first.clone() };
    store.put_schedule(&second, Some(first.revision), MANY).await?;
    let moment_ms = first.next_ms.context("a moment")?;
    ensure!(store.fire(&[firing(&first, &[moment_ms], moment_ms + 60_000)]).await?.is_empty());
    ensure!(store.fire(&[firing(&second, &[], moment_ms + 60_000)]).await?.is_empty());
    let kept = store.schedule(&"t".into(), "s").await?.context("it is there")?;
    ensure!((kept.next_ms, kept.last_ms) == (Some(moment_ms + 60_000), None), "it has moved on: {kept:?}");
    let over = Firing { schedule: of(&kept), moments_ms: Vec::new(), next_ms: None };
    ensure!(store.fire(&[over]).await?.is_empty());
    ensure!(store.schedule(&"t".into(), "s").await?.context("it is there")?.next_ms.is_none());
    Ok(())
}

pub async fn tenants_take_turns_when_many_schedules_are_due(place: &Place) -> Result<()> {
    let store = place.store();
    let mut schedules: Vec<Schedule> = (0..5).map(|number| due(&format!("s{number}"))).collect();
    for (schedule, earlier) in schedules.iter_mut().zip(1..) {
        schedule.next_ms = schedule.next_ms.map(|next_ms| next_ms - earlier * 3_600_000);
    }
    // Those of another tenant have become due last.
    schedules
        .extend([Schedule { tenant: "u".into(), ..due("a") }, Schedule { tenant: "u".into(), ..due("b") }]);
    for schedule in &schedules {
        store.put_schedule(schedule, None, MANY).await?;
    }
    let found = store.due_schedules(4).await?.schedules;
    let tenants: Vec<&str> = found.iter().map(|schedule| &*schedule.tenant).collect();
    ensure!(tenants == ["t", "u", "t", "u"], "{found:?}");
    ensure!((&*found[0].name, &*found[2].name) == ("s4", "s3"), "the most overdue ones: {found:?}");
    Ok(())
}
