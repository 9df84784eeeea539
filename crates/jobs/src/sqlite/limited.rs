//! Giving jobs of queues with limits to workers.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};

use super::claim::start;
use super::inspect::delay;
use super::limits::{LimitOf, now_us};
use crate::{
    BacklogClaim, BacklogName, Backoff, Claimant, ClaimedJob, Error, Hold, JobId, Limit, QueueLimits,
};

/// The most ready jobs that one claim looks at.
const LOOK_MAX: u16 = 500;
/// The most keys with blocked jobs that one claim looks at.
const TURNS_MAX: u16 = 100;

const NEEDLESS_GONE: &str = "
    DELETE FROM job_key_turns AS u WHERE u.queue = ?1 AND u.tenant = ?2 AND u.due_us <= ?3 AND NOT EXISTS (
        SELECT 1 FROM job_blocked b WHERE b.queue = u.queue AND b.tenant = u.tenant AND b.key = u.key)";
const TURNS: &str = "
    SELECT u.key FROM job_key_turns u WHERE u.queue = ?1 AND u.tenant = ?2 AND u.due_us <= ?3 AND EXISTS (
        SELECT 1 FROM job_blocked b WHERE b.queue = u.queue AND b.tenant = u.tenant AND b.key = u.key AND b.priority = ?4)
    GROUP BY u.key ORDER BY min(u.position) LIMIT ?5";
const TURNS_GONE: &str =
    "DELETE FROM job_key_turns WHERE queue = ?1 AND tenant = ?2 AND key = ?3 AND due_us <= ?4";
const TURN: &str = "INSERT INTO job_key_turns (queue, tenant, key, due_us) VALUES (?1, ?2, ?3, ?4)";
const NEXT_TURN: &str =
    "SELECT min(due_us) FROM job_key_turns WHERE queue = ?1 AND tenant = ?2 AND due_us > ?3";
const BLOCKED: &str = "
    SELECT position, job, attempt, generation, ready_at_ms, key FROM job_blocked
    WHERE queue = ?1 AND tenant = ?2 AND key = ?3 AND priority = ?4 ORDER BY position LIMIT ?5";
const READY: &str = "
    SELECT r.position, r.job, r.attempt, r.generation, r.ready_at_ms, j.concurrency_key FROM job_ready r JOIN jobs j ON j.id = r.job
    WHERE r.queue = ?1 AND r.tenant = ?2 AND r.priority = ?3 ORDER BY r.position LIMIT ?4";
const JOB: &str =
    "SELECT kind, payload, attempts_max, backoff_first_ms, backoff_max_ms FROM jobs WHERE id = ?1";
const LIMITED: &str = "UPDATE job_running SET limited = 1, concurrency_key = ?2 WHERE job = ?1";
const SET_ASIDE: &str = "
    INSERT INTO job_blocked (position, queue, tenant, key, priority, job, attempt, generation, ready_at_ms)
    SELECT position, queue, tenant, ?2, priority, job, attempt, generation, ready_at_ms FROM job_ready WHERE position = ?1";

/// What a claim of one backlog gave.
#[derive(Default)]
pub(super) struct Begun {
    pub jobs: Vec<ClaimedJob>,
    pub set_aside: u32,
    pub hold: Option<Hold>,
}

/// A claim that is under way.
struct Claim<'a> {
    connection: &'a Connection,
    claimant: &'a Claimant,
    until_ms: Option<i64>,
    backlog: &'a BacklogName,
    limits: &'a QueueLimits,
    now_us: u64,
    /// How many more jobs may begin.
    free: u32,
    begun: Begun,
}

/// A job that waits.
struct Waiting {
    position: i64,
    job: JobId,
    attempt: u16,
    generation: i32,
    ready_at_ms: i64,
    key: Option<String>,
}

/// Gives a worker the next jobs of a backlog whose queue has limits.
pub(super) fn claim(
    connection: &Connection,
    claimant: &Claimant,
    until_ms: Option<i64>,
    BacklogClaim { backlog, limit: wanted, .. }: &BacklogClaim,
    limits: &QueueLimits,
) -> Result<Begun, Error> {
    let (now_us, free, begun) = (now_us(), u32::from(*wanted), Begun::default());
    let mut claim = Claim { connection, claimant, until_ms, backlog, limits, now_us, free, begun };
    claim.free = claim.places(limits.total, claim.whole(), claim.free)?.0;
    claim.free = claim.places(limits.per_tenant, claim.tenant(), claim.free)?.0;
    let most = claim.free;
    claim.take_blocked()?;
    claim.take_ready()?;
    let begun = claim.begun.jobs.len();
    for (limit, of) in [(limits.total, claim.whole()), (limits.per_tenant, claim.tenant())] {
        if let Some(rate) = limit.rate.filter(|_| begun > 0) {
            of.charge(connection, rate, now_us, begun)?;
        }
    }
    if begun < usize::from(*wanted) && u32::try_from(begun) == Ok(most) {
        claim.begun.hold = Some(claim.hold_of_rates()?);
    } else if begun == 0 && claim.begun.set_aside == 0 {
        claim.begun.hold = Some(claim.hold_of_keys()?);
    }
    Ok(claim.begun)
}

impl<'a> Claim<'a> {
    fn whole(&self) -> LimitOf<'a> {
        LimitOf { queue: &self.backlog.queue, tenant: None, key: None }
    }

    fn tenant(&self) -> LimitOf<'a> {
        LimitOf { tenant: Some(&*self.backlog.tenant), ..self.whole() }
    }

    /// Returns how many jobs may begin under a limit, at most `most`; and if only its rate allows none, after how many microseconds one may.
    fn places(&self, limit: Limit, of: LimitOf<'_>, most: u32) -> Result<(u32, Option<u64>), Error> {
        let places = match limit.concurrency {
            Some(concurrency) => concurrency.saturating_sub(of.running(self.connection)?).min(most),
            None => most,
        };
        let Some(rate) = limit.rate.filter(|_| places > 0) else { return Ok((places, None)) };
        let (allowed, wait_us) = of.allows(self.connection, rate, self.now_us, places)?;
        Ok((allowed, (allowed == 0).then_some(wait_us)))
    }

    /// Returns how many jobs of a key may begin. If its rate allows none, its next turn is noted.
    fn places_of_key(&self, key: &str) -> Result<u32, Error> {
        let of = LimitOf { key: Some(key), ..self.tenant() };
        let (places, wait_us) = self.places(self.limits.per_key, of, self.free.max(1))?;
        if let Some(wait_us) = wait_us {
            let due_us = i64::try_from(self.now_us.saturating_add(wait_us)).unwrap_or(i64::MAX);
            let BacklogName { queue, tenant, .. } = self.backlog;
            self.connection.prepare_cached(TURN)?.execute(params![queue, &**tenant, key, due_us])?;
        }
        Ok(places)
    }

    /// Begins blocked jobs whose keys have a place by now: they have waited longer than the others. A key's turns go when it has no blocked
    /// jobs or no place; with its next end or time there is another one.
    fn take_blocked(&mut self) -> Result<(), Error> {
        let (connection, now_us) = (self.connection, i64::try_from(self.now_us).unwrap_or(i64::MAX));
        let BacklogName { queue, tenant, priority } = self.backlog;
        if self.free == 0 {
            return Ok(());
        }
        connection.prepare_cached(NEEDLESS_GONE)?.execute(params![queue, &**tenant, now_us])?;
        let turns = connection
            .prepare_cached(TURNS)?
            .query_map(params![queue, &**tenant, now_us, priority, TURNS_MAX], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        for key in turns {
            if self.free == 0 {
                break;
            }
            let gone = || {
                let due = params![queue, &**tenant, key, now_us];
                connection.prepare_cached(TURNS_GONE)?.execute(due).map(drop)
            };
            let places = self.places_of_key(&key)?;
            let blocked = connection
                .prepare_cached(BLOCKED)?
                .query_map(params![queue, &**tenant, key, priority, places.min(self.free)], waiting)?
                .collect::<Result<Vec<Waiting>, _>>()?;
            let has_begun = !blocked.is_empty();
            for waiting in blocked {
                let position = [waiting.position];
                connection
                    .prepare_cached("DELETE FROM job_blocked WHERE position = ?1")?
                    .execute(position)?;
                self.begin(waiting)?;
            }
            if places == 0 || has_begun && self.places_of_key(&key)? == 0 {
                gone()?;
            }
        }
        Ok(())
    }

    /// Begins ready jobs, and sets those aside whose keys have no place.
    fn take_ready(&mut self) -> Result<(), Error> {
        let BacklogName { queue, tenant, priority } = self.backlog;
        if self.free == 0 {
            return Ok(());
        }
        // Without limits of keys nothing is set aside, and no more need be looked at than may begin.
        let has_keys = !self.limits.per_key.is_none();
        let look = if has_keys { u32::from(LOOK_MAX) } else { self.free };
        let ready = self
            .connection
            .prepare_cached(READY)?
            .query_map(params![queue, &**tenant, priority, look], waiting)?
            .collect::<Result<Vec<Waiting>, _>>()?;
        // How many jobs of each key may still begin, as far as it is known. `None`: it has no place, and its turn is noted.
        let mut places: HashMap<String, Option<u32>> = HashMap::new();
        for waiting in ready {
            if self.free == 0 {
                break;
            }
            if let Some(key) = waiting.key.as_ref().filter(|_| has_keys) {
                let known = match places.get(key) {
                    None | Some(Some(0)) => Some(self.places_of_key(key)?).filter(|places| *places > 0),
                    Some(known) => *known,
                };
                places.insert(key.clone(), known.map(|places| places - 1));
                if known.is_none() {
                    self.connection.prepare_cached(SET_ASIDE)?.execute(params![waiting.position, key])?;
                    self.gone_from_ready(waiting.position)?;
                    self.begun.set_aside += 1;
                    continue;
                }
            }
            self.gone_from_ready(waiting.position)?;
            self.begin(waiting)?;
        }
        Ok(())
    }

    fn gone_from_ready(&self, position: i64) -> Result<(), Error> {
        self.connection.prepare_cached("DELETE FROM job_ready WHERE position = ?1")?.execute([position])?;
        Ok(())
    }

    /// Gives the worker a job that waits nowhere any more.
    fn begin(&mut self, waiting: Waiting) -> Result<(), Error> {
        let job = self.connection.prepare_cached(JOB)?.query_row([waiting.job.bytes()], |row| {
            Ok(ClaimedJob {
                id: waiting.job,
                generation: waiting.generation + 1,
                backlog: self.backlog.clone(),
                kind: row.get(0)?,
                payload: row.get(1)?,
                attempt: waiting.attempt + 1,
                attempts_max: row.get(2)?,
                backoff: Backoff { first: delay(row, 3)?, max: delay(row, 4)? },
                ready_at_ms: waiting.ready_at_ms,
                lease_until_ms: self.until_ms,
            })
        })?;
        start(self.connection, self.claimant, &job)?;
        let key = waiting.key.filter(|_| !self.limits.per_key.is_none());
        self.connection.prepare_cached(LIMITED)?.execute(params![job.id.bytes(), key])?;
        if let (Some(key), Some(rate)) = (&key, self.limits.per_key.rate) {
            let of = LimitOf { key: Some(key), ..self.tenant() };
            of.charge(self.connection, rate, self.now_us, 1)?;
        }
        self.begun.jobs.push(job);
        self.free -= 1;
        Ok(())
    }

    /// The queue or the tenant may begin no more: until a rate allows it, or until a job ends.
    fn hold_of_rates(&self) -> Result<Hold, Error> {
        let mut wait_us = 0;
        for (limit, of) in [(self.limits.total, self.whole()), (self.limits.per_tenant, self.tenant())] {
            if let Some(rate) = limit.rate {
                wait_us = wait_us.max(of.allows(self.connection, rate, self.now_us, 1)?.1);
            }
        }
        Ok(hold_for(wait_us))
    }

    /// What there is waits for its keys.
    fn hold_of_keys(&self) -> Result<Hold, Error> {
        let now_us = i64::try_from(self.now_us).unwrap_or(i64::MAX);
        let BacklogName { queue, tenant, .. } = self.backlog;
        let next_us: Option<i64> = self
            .connection
            .prepare_cached(NEXT_TURN)?
            .query_row(params![queue, &**tenant, now_us], |row| row.get(0))?;
        Ok(hold_for(next_us.and_then(|next_us| u64::try_from(next_us - now_us).ok()).unwrap_or(0)))
    }
}

/// Returns the hold that lasts so long; 0: until a job ends.
fn hold_for(wait_us: u64) -> Hold {
    Hold::of_ms(i64::try_from(wait_us.div_ceil(1000)).unwrap_or(i64::MAX))
}

fn waiting(row: &Row<'_>) -> Result<Waiting, rusqlite::Error> {
    Ok(Waiting {
        position: row.get(0)?,
        job: JobId::from_bytes(row.get(1)?),
        attempt: row.get(2)?,
        generation: row.get(3)?,
        ready_at_ms: row.get(4)?,
        key: row.get(5)?,
    })
}
