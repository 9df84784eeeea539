//! Schedules, as plain data, and what is due.

use starling_model::{NAME_RULE, TenantName, is_name};
use uuid::Uuid;

use crate::{Backoff, CronTimes, InvalidJob, InvalidTimes, KeyHeld, NewJob, RunAt, UniqueKey};

/// The largest payload of a schedule's jobs, bytes: lists show it.
pub const SCHEDULE_PAYLOAD_BYTES_MAX: usize = 16 << 10;
/// A firing that comes later than this, because no node could make it, was missed.
const LATE_MAX_MS: i64 = 30_000;
/// The most missed firings that are made up for.
const MISSED_MAX: usize = 100;
/// The most schedules among which tenants take turns, those that are most overdue.
pub(crate) const DUE_READ_MAX: u16 = 10_000;
/// When to look again at a schedule whose expression this program can't read.
const UNREADABLE_MS: i64 = 3_600_000;

/// What is done about firings that no node could make in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// No job is added.
    Skip,
    /// One job is added for all of them.
    Once,
    /// A job is added for each, for the last hundred at most.
    All,
}

impl Missed {
    /// All policies. Each one's place here is its number in the database.
    pub const ALL: [Self; 3] = [Self::Skip, Self::Once, Self::All];

    /// Returns the name that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }

    /// Returns the policy of a name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|missed| missed.as_str() == name)
    }

    pub(crate) const fn number(self) -> i16 {
        self as i16
    }

    pub(crate) fn of_number(number: i16) -> Option<Self> {
        usize::try_from(number).ok().and_then(|place| Self::ALL.get(place).copied())
    }
}

/// The id of one version of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(Uuid);

impl Revision {
    /// Makes the id of a new version.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    pub(crate) const fn from_bytes(id: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(id))
    }

    pub(crate) const fn uuid(self) -> Uuid {
        self.0
    }

    pub(crate) const fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl Default for Revision {
    fn default() -> Self {
        Self::new()
    }
}

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleTimes {
    /// The cron expression.
    pub cron: String,
    /// The time zone, as in the IANA database.
    pub zone: String,
    /// What is done about missed firings.
    pub missed: Missed,
}

/// What a schedule adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledJob {
    /// See [`NewJob::queue`].
    pub queue: String,
    /// See [`NewJob::kind`].
    pub kind: String,
    /// See [`NewJob::payload`]; at most [`SCHEDULE_PAYLOAD_BYTES_MAX`].
    pub payload: String,
    /// See [`NewJob::priority`].
    pub priority: i16,
    /// See [`NewJob::attempts_max`].
    pub attempts_max: u16,
    /// See [`NewJob::backoff`].
    pub backoff: Backoff,
}

/// A schedule: a job that is added again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The tenant that it belongs to.
    pub tenant: TenantName,
    /// Its name, unique within the tenant.
    pub name: String,
    /// Its version.
    pub revision: Revision,
    /// When it fires.
    pub times: ScheduleTimes,
    /// What it adds.
    pub job: ScheduledJob,
    /// The moment of its next firing, Unix milliseconds; `None`: never again.
    pub next_ms: Option<i64>,
    /// The moment of its last firing for which a job was added, Unix milliseconds.
    pub last_ms: Option<i64>,
}

/// Why a schedule can't be kept. The caller is at fault, and another try won't help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSchedule {
    /// The name of the schedule is none.
    #[error("the name of a schedule must have {NAME_RULE}")]
    Name,
    /// The times can't be used.
    #[error("{0}")]
    Times(#[from] InvalidTimes),
    /// The payload is too large.
    #[error("the payload has {0} bytes, but at most {SCHEDULE_PAYLOAD_BYTES_MAX} are allowed in a schedule")]
    PayloadTooLarge(usize),
    /// The jobs can't be added.
    #[error("{0}")]
    Job(#[from] InvalidJob),
}

impl Schedule {
    /// Makes a schedule that has not fired, from `now_ms` on, Unix milliseconds. Checks everything that comes from outside.
    ///
    /// # Errors
    /// [`InvalidSchedule`] for the first fault that is found.
    pub fn new(
        tenant: TenantName,
        name: String,
        times: ScheduleTimes,
        job: ScheduledJob,
        now_ms: i64,
    ) -> Result<Self, InvalidSchedule> {
        if !is_name(&name) {
            return Err(InvalidSchedule::Name);
        }
        if job.payload.len() > SCHEDULE_PAYLOAD_BYTES_MAX {
            return Err(InvalidSchedule::PayloadTooLarge(job.payload.len()));
        }
        let next_ms = CronTimes::parse(&times.cron, &times.zone)?.after(now_ms);
        let schedule = Self { tenant, name, revision: Revision::new(), times, job, next_ms, last_ms: None };
        schedule.job_at(now_ms).check()?;
        Ok(schedule)
    }

    /// Returns the job of the firing at this moment, Unix milliseconds. Its unique key lets it be added once, as long as anything is kept of it.
    pub(crate) fn job_at(&self, moment_ms: i64) -> NewJob {
        let ScheduledJob { queue, kind, payload, priority, attempts_max, backoff } = self.job.clone();
        NewJob {
            priority,
            run_at: RunAt::At(moment_ms),
            attempts_max,
            backoff,
            unique: Some(UniqueKey { key: key_at(&self.name, moment_ms), held: KeyHeld::UntilTrimmed }),
            ..NewJob::new(self.tenant.clone(), &queue, &kind, payload)
        }
    }
}

/// Returns the unique key of a firing's job.
pub(crate) fn key_at(name: &str, moment_ms: i64) -> String {
    format!("schedule:{name}@{moment_ms}")
}

/// The outcome of keeping a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutSchedule {
    /// There was none of this name.
    Created,
    /// It stands in the place of the earlier version.
    Replaced,
    /// Nothing has changed: the version that the caller had seen is not the present one.
    Changed,
    /// Nothing has changed: the tenant has as many schedules as it may.
    TooMany,
}

/// A schedule whose moment has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueSchedule {
    /// See [`Schedule::tenant`].
    pub tenant: TenantName,
    /// See [`Schedule::name`].
    pub name: String,
    /// See [`Schedule::revision`].
    pub revision: Revision,
    /// When it fires.
    pub times: ScheduleTimes,
    /// The first moment for which it has not fired, Unix milliseconds.
    pub due_ms: i64,
}

/// Schedules whose moments have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueSchedules {
    /// The schedules. Tenants take turns, each with its most overdue one first.
    pub schedules: Vec<DueSchedule>,
    /// The present time by the database's clock, Unix milliseconds.
    pub now_ms: i64,
}

/// The firing of a schedule: jobs, and the next moment. It happens once, whichever nodes try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The schedule.
    pub schedule: DueSchedule,
    /// The moments for which a job is added, in order, Unix milliseconds.
    pub moments_ms: Vec<i64>,
    /// The moment of the next firing; `None`: never again.
    pub next_ms: Option<i64>,
}

impl DueSchedule {
    /// Whether no node has kept its moment in time, at `now_ms` by the database's clock.
    #[must_use]
    pub const fn is_missed(&self, now_ms: i64) -> bool {
        self.due_ms <= now_ms - LATE_MAX_MS
    }

    /// Returns what is to be done now, at `now_ms` by the database's clock.
    #[must_use]
    pub fn firing(self, now_ms: i64) -> Firing {
        match CronTimes::parse(&self.times.cron, &self.times.zone) {
            Ok(times) => {
                let moments_ms = moments(&times, self.times.missed, self.due_ms, now_ms);
                Firing { moments_ms, next_ms: times.after(now_ms), schedule: self }
            }
            Err(error) => {
                tracing::warn!(tenant = %self.tenant, schedule = self.name, %error, "a schedule can't be read");
                Firing { moments_ms: Vec::new(), next_ms: Some(now_ms + UNREADABLE_MS), schedule: self }
            }
        }
    }
}

/// Returns the moments from `due_ms` to `now_ms` for which a job is added.
fn moments(times: &CronTimes, missed: Missed, due_ms: i64, now_ms: i64) -> Vec<i64> {
    // Firings after this one are in time.
    let late_ms = now_ms - LATE_MAX_MS;
    let mut moments = Vec::new();
    let mut next_ms = Some(due_ms);
    if due_ms <= late_ms {
        let count = match missed {
            Missed::Skip => 0,
            Missed::Once => 1,
            Missed::All => MISSED_MAX,
        };
        let mut before_ms = late_ms + 1;
        while moments.len() < count
            && let Some(moment_ms) = times.before(before_ms).filter(|moment_ms| *moment_ms >= due_ms)
        {
            moments.push(moment_ms);
            before_ms = moment_ms;
        }
        moments.reverse();
        next_ms = times.after(late_ms);
    }
    // There is at most one firing each second, so these are few.
    while let Some(moment_ms) = next_ms.filter(|moment_ms| *moment_ms <= now_ms) {
        moments.push(moment_ms);
        next_ms = times.after(moment_ms);
    }
    moments
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A minute that begins an hour, Unix milliseconds.
    const HOUR: i64 = 1_800_000_000_000;
    const MINUTE: i64 = 60_000;

    fn due(cron: &str, missed: Missed, due_ms: i64) -> DueSchedule {
        let times = ScheduleTimes { cron: cron.into(), zone: "UTC".into(), missed };
        DueSchedule { tenant: "t".into(), name: "s".into(), revision: Revision::new(), times, due_ms }
    }

    #[test]
    fn a_firing_in_time_is_made_whatever_the_policy() {
        for missed in Missed::ALL {
            let firing = due("* * * * *", missed, HOUR).firing(HOUR + 400);
            assert_eq!((firing.moments_ms, firing.next_ms), (vec![HOUR], Some(HOUR + MINUTE)));
            let late = due("* * * * * *", missed, HOUR).firing(HOUR + 3000);
            assert_eq!(late.moments_ms, [HOUR, HOUR + 1000, HOUR + 2000, HOUR + 3000]);
        }
    }

    #[test]
    fn missed_firings_are_skipped_or_made_up_for() {
        // It was due at the hour; now it is five past and a second, and the last one is in time.
        let fire = |missed| due("* * * * *", missed, HOUR).firing(HOUR + 5 * MINUTE + 1000);
        let at = |minutes: &[i64]| minutes.iter().map(|minute| HOUR + minute * MINUTE).collect::<Vec<_>>();
        assert_eq!(fire(Missed::Skip).moments_ms, at(&[5]));
        assert_eq!(fire(Missed::Once).moments_ms, at(&[4, 5]));
        assert_eq!(fire(Missed::All).moments_ms, at(&[0, 1, 2, 3, 4, 5]));
        for missed in Missed::ALL {
            assert_eq!(fire(missed).next_ms, Some(HOUR + 6 * MINUTE));
        }
    }

    #[test]
    fn a_moment_counts_as_missed_when_its_firing_would_be_made_up_for() {
        let schedule = due("0 * * * *", Missed::Skip, HOUR);
        for late_ms in [0, LATE_MAX_MS - 1, LATE_MAX_MS, 2 * LATE_MAX_MS] {
            let now_ms = HOUR + late_ms;
            let is_skipped = schedule.clone().firing(now_ms).moments_ms.is_empty();
            assert_eq!(schedule.is_missed(now_ms), is_skipped, "{late_ms} ms late");
        }
    }

    #[test]
    fn a_long_outage_adds_a_hundred_jobs_at_most() {
        let now_ms = HOUR + 30 * 24 * 60 * MINUTE;
        let firing = due("* * * * * *", Missed::All, HOUR).firing(now_ms);
        assert_eq!(firing.moments_ms.len(), MISSED_MAX + 30);
        assert_eq!((firing.moments_ms.last(), firing.next_ms), (Some(&now_ms), Some(now_ms + 1000)));
        assert!(firing.moments_ms.is_sorted());
        assert_eq!(due("0 0 * * *", Missed::Skip, HOUR).firing(HOUR + MINUTE).moments_ms, [0; 0]);
    }

    #[test]
    fn a_schedule_that_can_not_be_read_is_looked_at_later() {
        let mut schedule = due("* * * * *", Missed::All, HOUR);
        schedule.times.zone = "Mars/Olympus".into();
        let firing = schedule.firing(HOUR);
        assert_eq!((firing.moments_ms, firing.next_ms), (vec![], Some(HOUR + UNREADABLE_MS)));
    }

    fn scheduled(payload: String) -> ScheduledJob {
        let backoff = Backoff { first: Duration::from_secs(1), ..Backoff::default() };
        ScheduledJob { queue: "q".into(), kind: "k".into(), payload, priority: 5, attempts_max: 3, backoff }
    }

    #[test]
    fn what_is_wrong_with_a_schedule_is_named() {
        let new = |name: &str, cron: &str, zone: &str, job: ScheduledJob| {
            let times = ScheduleTimes { cron: cron.into(), zone: zone.into(), missed: Missed::Once };
            Schedule::new("t".into(), name.into(), times, job, HOUR).map(|schedule| schedule.next_ms)
        };
        let good = || scheduled("{}".into());
        assert_eq!(new("s", "* * * * *", "UTC", good()), Ok(Some(HOUR + MINUTE)));
        assert_eq!(new("a b", "* * * * *", "UTC", good()), Err(InvalidSchedule::Name));
        assert_eq!(new("s", "* * * * *", "Zurich", good()), Err(InvalidTimes::Zone.into()));
        assert_eq!(new("s", "0 0 30 2 *", "UTC", good()), Err(InvalidTimes::Never.into()));
        let bytes = SCHEDULE_PAYLOAD_BYTES_MAX + 1;
        let large = scheduled("1".repeat(bytes));
        assert_eq!(new("s", "* * * * *", "UTC", large), Err(InvalidSchedule::PayloadTooLarge(bytes)));
        let broken = new("s", "* * * * *", "UTC", scheduled("{".into()));
        assert!(matches!(broken, Err(InvalidSchedule::Job(InvalidJob::Payload(_)))), "{broken:?}");
        let key = key_at(&"n".repeat(100), i64::MAX);
        assert!(key.len() <= crate::KEY_BYTES_MAX, "{key}");
    }
}
