//! Requests about schedules: what the token allows, and what the answers mean.

use std::time::Duration;

use starling_auth::Identity;
use starling_job_service::SCHEDULES_MAX;
use starling_job_service::jobs::{
    Backoff, InvalidSchedule, Missed, PutSchedule, Schedule, ScheduleTimes, ScheduledJob, is_internal,
};
use starling_wire::protocol::ErrorCode;

use super::jobs::{need_queue, needs_scope};
use crate::hub::Hub;
use crate::{CommandError, clock};

/// How often a change is tried while others change the same schedule.
const TRIES: usize = 4;
/// How many schedules are read at once.
const READ_AT_ONCE: u16 = 100;

/// A schedule to be kept.
#[derive(Clone, Debug)]
pub struct ScheduleRequest {
    /// Its name.
    pub name: String,
    /// The cron expression.
    pub cron: String,
    /// The time zone.
    pub zone: String,
    /// What is done about missed firings.
    pub missed: Missed,
    /// The queue of its jobs.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// The details for the worker, as compact JSON.
    pub payload: String,
    /// The jobs' priority; 9 is first.
    pub priority: i16,
    /// Maximum number of attempts of each job.
    pub attempts: u16,
    /// The delay after the first failed attempt.
    pub backoff: Duration,
}

impl Hub {
    /// Keeps a schedule under its name. Returns it, and whether there was none of this name.
    pub async fn put_schedule(
        &self,
        identity: &Identity,
        request: ScheduleRequest,
    ) -> Result<(Schedule, bool), CommandError> {
        let jobs = self.jobs_of(identity, &request.queue)?;
        let ScheduleRequest { name, cron, zone, missed, queue, kind, payload, priority, attempts, backoff } =
            request;
        let backoff = Backoff { first: backoff, ..Backoff::default() };
        let job = ScheduledJob { queue, kind, payload, priority, attempts_max: attempts, backoff };
        let times = ScheduleTimes { cron, zone, missed };
        let schedule = Schedule::new(identity.tenant.clone(), name, times, job, clock::now_ms());
        let schedule = schedule.map_err(|invalid| match invalid {
            InvalidSchedule::PayloadTooLarge(_) => CommandError::too_large(invalid.to_string()),
            _ => CommandError::bad_request(invalid.to_string()),
        })?;
        for _ in 0..TRIES {
            let seen = jobs.schedule(&schedule.tenant, &schedule.name).await?;
            if let Some(seen) = &seen {
                need_queue(identity, &seen.job.queue)?;
            }
            match jobs.put_schedule(&schedule, seen.as_ref().map(|seen| seen.revision)).await? {
                PutSchedule::Created => return Ok((schedule, true)),
                PutSchedule::Replaced => {
                    // Times that stayed as they were have gone on where they were.
                    let kept = jobs.schedule(&schedule.tenant, &schedule.name).await?;
                    return Ok((kept.unwrap_or(schedule), false));
                }
                PutSchedule::TooMany => {
                    let why = format!("the tenant has {SCHEDULES_MAX} schedules, which is the most");
                    return Err(CommandError::conflict(why));
                }
                PutSchedule::Changed => {}
            }
        }
        Err(changed_by_others())
    }

    /// Returns a schedule.
    pub async fn schedule(&self, identity: &Identity, name: &str) -> Result<Schedule, CommandError> {
        let found = self.job_service()?.schedule(&identity.tenant, name).await?;
        let schedule = found.ok_or_else(no_such_schedule)?;
        need_queue(identity, &schedule.job.queue)?;
        Ok(schedule)
    }

    /// Removes a schedule. Jobs that it has added stay.
    pub async fn delete_schedule(&self, identity: &Identity, name: &str) -> Result<(), CommandError> {
        for _ in 0..TRIES {
            let schedule = self.schedule(identity, name).await?;
            if self.job_service()?.delete_schedule(&schedule).await? {
                return Ok(());
            }
        }
        Err(changed_by_others())
    }

    /// Lists the schedules that the token covers, at most `limit`, whose names come after this one. Returns whether more follow, too.
    pub async fn list_schedules(
        &self,
        identity: &Identity,
        after: Option<String>,
        limit: u16,
    ) -> Result<(Vec<Schedule>, bool), CommandError> {
        let jobs = self.job_service()?;
        if !identity.scopes.may_use_jobs() {
            return Err(needs_scope("jobs:QUEUE"));
        }
        let (mut schedules, mut after) = (Vec::new(), after.unwrap_or_default());
        loop {
            let read = jobs.schedules(&identity.tenant, &after, READ_AT_ONCE).await?;
            let is_end = read.len() < usize::from(READ_AT_ONCE);
            for schedule in read {
                schedule.name.clone_into(&mut after);
                let queue = &schedule.job.queue;
                if is_internal(queue) || !identity.scopes.may_use_jobs_of(queue) {
                    continue;
                }
                if schedules.len() == usize::from(limit) {
                    return Ok((schedules, true));
                }
                schedules.push(schedule);
            }
            if is_end {
                return Ok((schedules, false));
            }
        }
    }
}

fn no_such_schedule() -> CommandError {
    CommandError::new(ErrorCode::NotFound, "no such schedule")
}

fn changed_by_others() -> CommandError {
    CommandError::conflict("others change this schedule at the same time; try again")
}
