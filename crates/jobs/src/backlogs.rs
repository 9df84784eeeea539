//! Whose turn it is: which backlogs a node claims from next.

use std::collections::{BTreeMap, HashMap};

use starling_model::TenantName;

use crate::{Arrivals, BacklogClaim, BacklogLeft, BacklogName, Claimed, Hold, Mark};

/// How long a job waits until it counts as one priority higher, ms.
const AGING_MS: f64 = 10_000.0;
/// The most backlogs that one claim asks.
const BACKLOGS_MAX: usize = 32;
/// How long a backlog rests whose queue runs as many jobs as may, unless one ends, ms.
const FULL_MS: i64 = 1_000;
/// The least time that a backlog rests under a limit, although something may have changed, ms: others may end many jobs.
const REST_LEAST_MS: i64 = 50;

/// The weights of tenants. A tenant of weight 2 gets twice as many turns as one of weight 1, which is the default.
#[derive(Clone, Debug, Default)]
pub struct Weights(HashMap<TenantName, f64>);

impl Weights {
    /// Sets the weight of a tenant. Values that are not positive are ignored.
    pub fn set(&mut self, tenant: TenantName, weight: f64) {
        if weight.is_finite() && weight > 0.0 {
            self.0.insert(tenant, weight);
        }
    }

    fn of(&self, tenant: &TenantName) -> f64 {
        self.0.get(tenant).copied().unwrap_or(1.0)
    }
}

/// The backlogs that have jobs, as far as a node knows, and whose turn it is.
///
/// Within a queue, tenants take turns by weight, however many jobs they have: each tenant has a virtual time, which grows by one over its weight with
/// each of its jobs, and the tenant with the lowest one is next (stride scheduling; Waldspurger and Weihl, 1995). Within a tenant, the backlog with
/// the highest priority is next. A priority grows by one with every ten seconds that the backlog's first job has waited, so that no backlog
/// starves.
///
/// A backlog whose limits let no job begin rests until its time comes, or until a job of its queue ends.
#[derive(Debug, Default)]
pub struct Backlogs {
    weights: Weights,
    queues: BTreeMap<String, Queue>,
    moment: Moment,
}

/// A moment in the life of [`Backlogs`]. An answer that a claim gets may be older than arrivals that were noted meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

#[derive(Debug, Default)]
struct Queue {
    tenants: BTreeMap<TenantName, Tenant>,
    /// The virtual time of the tenant whose turn was last.
    time: f64,
}

#[derive(Debug)]
struct Tenant {
    time: f64,
    /// By priority.
    backlogs: BTreeMap<i16, Backlog>,
}

#[derive(Clone, Copy, Debug)]
struct Backlog {
    mark: Mark,
    ready_since_ms: i64,
    rest: Option<Rest>,
    /// When jobs were last seen to arrive.
    noted: Moment,
}

/// A time in which a backlog gives no jobs, Unix milliseconds.
#[derive(Clone, Copy, Debug)]
struct Rest {
    since_ms: i64,
    until_ms: i64,
}

impl Backlogs {
    /// Makes an empty list.
    #[must_use]
    pub fn new(weights: Weights) -> Self {
        Self { weights, queues: BTreeMap::new(), moment: Moment::default() }
    }

    /// Forgets all backlogs, because the database was restored to an earlier state.
    pub fn forget_all(&mut self) {
        self.queues.clear();
    }

    /// Returns the present moment. Whoever claims takes it with the plan.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// Whether no backlog is known to have jobs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether a tenant is known to have jobs in a queue that may begin. `now_ms`: the present time, Unix milliseconds.
    #[must_use]
    pub fn has(&self, queue: &str, tenant: &TenantName, now_ms: i64) -> bool {
        let tenant = self.queues.get(queue).and_then(|queue| queue.tenants.get(tenant));
        tenant.is_some_and(|tenant| tenant.is_awake(now_ms))
    }

    /// Returns the names of the queues that are known to have jobs.
    pub fn queues(&self) -> impl Iterator<Item = &str> {
        self.queues.keys().map(String::as_str)
    }

    /// Whether a queue is known to have jobs that may begin, of a tenant that `wanted` accepts. `now_ms`: the present time, Unix milliseconds.
    #[must_use]
    pub fn has_of(&self, queue: &str, now_ms: i64, wanted: impl Fn(&TenantName) -> bool) -> bool {
        self.queues.get(queue).is_some_and(|queue| queue.awake(now_ms).any(|(tenant, _)| wanted(tenant)))
    }

    /// Whether a tenant is known to have jobs in a queue of which limits let none begin now.
    #[must_use]
    pub fn rests(&self, queue: &str, tenant: &TenantName, now_ms: i64) -> bool {
        let tenant = self.queues.get(queue).and_then(|queue| queue.tenants.get(tenant));
        tenant.is_some_and(|tenant| !tenant.is_awake(now_ms))
    }

    /// Returns when the next backlog that rests wakes, Unix milliseconds.
    #[must_use]
    pub fn next_waking(&self, now_ms: i64) -> Option<i64> {
        let rests = self.all().filter_map(|backlog| backlog.rest).map(|rest| rest.until_ms);
        rests.filter(|until_ms| *until_ms > now_ms).min()
    }

    /// Wakes the backlogs of a queue: one of its jobs has ended.
    pub fn wake(&mut self, queue: &str) {
        let tenants = self.queues.get_mut(queue).into_iter().flat_map(|queue| queue.tenants.values_mut());
        tenants.flat_map(|tenant| tenant.backlogs.values_mut()).for_each(|backlog| backlog.rest = None);
    }

    /// Lets all backlogs rest for the shortest time only: jobs may have ended elsewhere.
    pub fn wake_soon(&mut self) {
        let tenants = self.queues.values_mut().flat_map(|queue| queue.tenants.values_mut());
        tenants.flat_map(|tenant| tenant.backlogs.values_mut()).for_each(Backlog::wake_soon);
    }

    fn all(&self) -> impl Iterator<Item = &Backlog> {
        let tenants = self.queues.values().flat_map(|queue| queue.tenants.values());
        tenants.flat_map(|tenant| tenant.backlogs.values())
    }

    /// Returns since when the first job of each known backlog has been ready, Unix milliseconds.
    pub fn ready_since(&self) -> impl Iterator<Item = (&str, &TenantName, i64)> {
        let tenants =
            self.queues.iter().flat_map(|(name, queue)| queue.tenants.iter().map(move |t| (name, t)));
        tenants.filter_map(|(name, (tenant, state))| {
            let first = state.backlogs.values().map(|backlog| backlog.ready_since_ms).min()?;
            Some((name.as_str(), tenant, first))
        })
    }

    /// Returns claims of no job from the known backlogs that `wanted` accepts, at most `backlogs_max`, those that have waited longest first: what
    /// is left of them says which are empty.
    pub fn look(&self, backlogs_max: usize, wanted: impl Fn(&str, &TenantName) -> bool) -> Vec<BacklogClaim> {
        let mut look: Vec<(i64, BacklogClaim)> = Vec::new();
        for (name, queue) in &self.queues {
            for (tenant, state) in queue.tenants.iter().filter(|(tenant, _)| wanted(name, tenant)) {
                look.extend(state.backlogs.iter().map(|(&priority, backlog)| {
                    let name = BacklogName { queue: name.clone(), tenant: tenant.clone(), priority };
                    (backlog.ready_since_ms, BacklogClaim { backlog: name, mark: backlog.mark, limit: 0 })
                }));
            }
        }
        look.sort_by_key(|(since_ms, _)| *since_ms);
        look.truncate(backlogs_max);
        look.into_iter().map(|(_, claim)| claim).collect()
    }

    /// Records backlogs in which jobs have become ready.
    pub fn note(&mut self, arrivals: Arrivals) {
        self.moment.0 += 1;
        let noted = self.moment;
        for arrival in arrivals.backlogs {
            let queue = self.queues.entry(arrival.backlog.queue).or_default();
            let time = queue.time;
            // A tenant that had no jobs for a while has saved no turns.
            let tenant = queue
                .tenants
                .entry(arrival.backlog.tenant)
                .or_insert_with(|| Tenant { time, backlogs: BTreeMap::new() });
            let new =
                Backlog { mark: arrival.mark, ready_since_ms: arrival.ready_since_ms, rest: None, noted };
            let backlog = tenant.backlogs.entry(arrival.backlog.priority).or_insert(new);
            // The mark of a backlog that is known lies before all that arrived since. The new jobs may have other keys than those that wait
            // for a place.
            backlog.noted = noted;
            backlog.wake_soon();
        }
    }

    /// Returns the backlogs of these queues to claim `jobs` jobs from, of tenants that `wanted` accepts. `now_ms`: the present time, Unix
    /// milliseconds.
    #[must_use]
    pub fn plan<'q>(
        &self,
        queues: impl IntoIterator<Item = &'q str>,
        jobs: u16,
        now_ms: i64,
        wanted: impl Fn(&str, &TenantName) -> bool,
    ) -> Vec<BacklogClaim> {
        // Each queue with its tenants, and their times as they would be after the claim. What was really claimed is counted later.
        let candidates = queues.into_iter().filter_map(|name| {
            let tenants = self.queues.get(name)?.awake(now_ms).filter(|(tenant, _)| wanted(name, tenant));
            let tenants: Vec<_> = tenants.map(|(tenant, state)| (tenant, state, state.time)).collect();
            (!tenants.is_empty()).then_some((name, tenants))
        });
        let mut candidates: Vec<_> = candidates.collect();
        let count = candidates.len().max(1);
        let mut plan: Vec<BacklogClaim> = Vec::new();
        for turn in 0..usize::from(jobs) {
            // Queues take turns one after another; within a queue the lowest time is next.
            let Some((name, tenants)) = candidates.get_mut(turn % count) else { break };
            let next = tenants.iter_mut().min_by(|a, b| a.2.total_cmp(&b.2));
            let Some((tenant, state, time)) = next else { continue };
            let Some((priority, Backlog { mark, .. })) = state.most_urgent(now_ms) else { continue };
            *time += 1.0 / self.weights.of(tenant);
            let is_of = |claim: &BacklogClaim| {
                let backlog = &claim.backlog;
                backlog.priority == priority && backlog.queue == *name && backlog.tenant == **tenant
            };
            match plan.iter().position(is_of) {
                Some(place) => plan[place].limit += 1,
                None if plan.len() < BACKLOGS_MAX => {
                    let backlog =
                        BacklogName { queue: (*name).to_owned(), tenant: (*tenant).clone(), priority };
                    plan.push(BacklogClaim { backlog, mark, limit: 1 });
                }
                None => break,
            }
        }
        plan
    }

    /// Records what a claim returned, and forgets backlogs that are empty. `now_ms`: the present time, Unix milliseconds. `planned`: the moment
    /// at which the claim was planned.
    pub fn claimed(&mut self, plan: &[BacklogClaim], claimed: &Claimed, now_ms: i64, planned: Moment) {
        for (claim, left) in plan.iter().zip(&claimed.left) {
            let backlog = &claim.backlog;
            let Some(queue) = self.queues.get_mut(&backlog.queue) else { continue };
            let Some(tenant) = queue.tenants.get_mut(&backlog.tenant) else { continue };
            let jobs = claimed.jobs.iter().filter(|job| job.backlog == *backlog).count();
            queue.time = queue.time.max(tenant.time);
            #[expect(clippy::cast_precision_loss, reason = "a claim has few jobs")]
            let turns = jobs as f64;
            tenant.time += turns / self.weights.of(&backlog.tenant);
            let known = tenant.backlogs.get(&backlog.priority);
            // The claim may not have seen jobs that have arrived since it was planned.
            let arrived = known.map(|known| known.noted).filter(|noted| *noted > planned);
            match left.ready_since_ms {
                Some(ready_since_ms) => {
                    // Who has asked for nothing has learned nothing of limits.
                    let rest = if claim.limit == 0 {
                        known.and_then(|known| known.rest)
                    } else {
                        Rest::of(left, now_ms)
                    };
                    let noted = arrived.unwrap_or(planned);
                    let mut left = Backlog { mark: left.mark, ready_since_ms, rest, noted };
                    if arrived.is_some() {
                        left.wake_soon();
                    }
                    tenant.backlogs.insert(backlog.priority, left);
                }
                None if arrived.is_some() => {}
                None => {
                    tenant.backlogs.remove(&backlog.priority);
                }
            }
            if tenant.backlogs.is_empty() {
                queue.tenants.remove(&backlog.tenant);
            }
            if queue.tenants.is_empty() {
                self.queues.remove(&backlog.queue);
            }
        }
    }
}

impl Queue {
    /// Returns the tenants with a backlog that does not rest.
    fn awake(&self, now_ms: i64) -> impl Iterator<Item = (&TenantName, &Tenant)> {
        self.tenants.iter().filter(move |(_, tenant)| tenant.is_awake(now_ms))
    }
}

impl Backlog {
    fn is_awake(&self, now_ms: i64) -> bool {
        self.rest.is_none_or(|rest| rest.until_ms <= now_ms)
    }

    fn wake_soon(&mut self) {
        if let Some(rest) = &mut self.rest {
            rest.until_ms = rest.until_ms.min(rest.since_ms.saturating_add(REST_LEAST_MS));
        }
    }
}

impl Rest {
    /// Returns how long a backlog rests after a claim.
    fn of(left: &BacklogLeft, now_ms: i64) -> Option<Rest> {
        let rest_ms = match left.hold? {
            Hold::Full => FULL_MS,
            Hold::For(time) => i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
        };
        Some(Rest { since_ms: now_ms, until_ms: now_ms.saturating_add(rest_ms) })
    }
}

impl Tenant {
    fn is_awake(&self, now_ms: i64) -> bool {
        self.backlogs.values().any(|backlog| backlog.is_awake(now_ms))
    }

    /// Returns the backlog whose priority is highest, with what waiting adds to it, among those that do not rest.
    fn most_urgent(&self, now_ms: i64) -> Option<(i16, Backlog)> {
        #[expect(clippy::cast_precision_loss, reason = "waiting times have few digits")]
        let urgency = |priority: i16, backlog: &Backlog| {
            f64::from(priority) + now_ms.saturating_sub(backlog.ready_since_ms).max(0) as f64 / AGING_MS
        };
        let awake = self.backlogs.iter().filter(|(_, backlog)| backlog.is_awake(now_ms));
        let most = awake.max_by(|a, b| urgency(*a.0, a.1).total_cmp(&urgency(*b.0, b.1)));
        most.map(|(priority, backlog)| (*priority, *backlog))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::{Arrival, Backoff, ClaimedJob, JobId};

    fn backlog(tenant: &str, priority: i16) -> BacklogName {
        BacklogName { queue: "q".into(), tenant: tenant.into(), priority }
    }

    fn arrivals(backlogs: &[(&str, i16, i64)]) -> Arrivals {
        let backlogs = backlogs.iter().map(|(tenant, priority, ready_since_ms)| Arrival {
            backlog: backlog(tenant, *priority),
            mark: Mark::default(),
            ready_since_ms: *ready_since_ms,
        });
        Arrivals { backlogs: backlogs.collect(), mark: Mark::default() }
    }

    fn job(backlog: &BacklogName) -> ClaimedJob {
        ClaimedJob {
            id: JobId::new(),
            generation: 1,
            backlog: backlog.clone(),
            kind: "k".into(),
            payload: "{}".into(),
            attempt: 1,
            attempts_max: 3,
            backoff: Backoff::default(),
            ready_at_ms: 0,
            lease_until_ms: None,
        }
    }

    /// Claims `rounds` times `jobs` jobs from backlogs that never run empty, and counts the jobs of each tenant.
    fn run(backlogs: &mut Backlogs, rounds: usize, jobs: u16) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for _ in 0..rounds {
            let plan = backlogs.plan(["q"], jobs, 0, |_, _| true);
            let mut claimed = Claimed::default();
            for claim in &plan {
                claimed.jobs.extend((0..claim.limit).map(|_| job(&claim.backlog)));
                claimed.left.push(BacklogLeft {
                    mark: claim.mark,
                    ready_since_ms: Some(0),
                    ..BacklogLeft::default()
                });
                *counts.entry(claim.backlog.tenant.to_string()).or_default() += usize::from(claim.limit);
            }
            backlogs.claimed(&plan, &claimed, 0, backlogs.moment());
        }
        counts
    }

    #[test]
    fn tenants_take_turns_by_weight() {
        let mut weights = Weights::default();
        weights.set("large".into(), 3.0);
        weights.set("small".into(), f64::NAN);
        for jobs in [1, 8] {
            let mut backlogs = Backlogs::new(weights.clone());
            backlogs.note(arrivals(&[("large", 0, 0), ("small", 0, 0)]));
            let counts = run(&mut backlogs, 80 / usize::from(jobs), jobs);
            assert_eq!((counts["large"], counts["small"]), (60, 20), "{jobs} at a time");
        }
    }

    #[test]
    fn a_tenant_that_comes_late_has_saved_no_turns_and_waits_for_none() {
        let mut backlogs = Backlogs::default();
        backlogs.note(arrivals(&[("early", 0, 0)]));
        run(&mut backlogs, 1000, 1);
        backlogs.note(arrivals(&[("late", 0, 0)]));
        let counts = run(&mut backlogs, 100, 1);
        assert!((49..=51).contains(&counts["late"]), "{counts:?}");
    }

    #[test]
    fn a_higher_priority_is_first_until_the_lower_one_has_waited() {
        let mut backlogs = Backlogs::default();
        backlogs.note(arrivals(&[("t", 0, 0), ("t", 5, 0)]));
        assert_eq!(backlogs.plan(["q"], 1, 0, |_, _| true)[0].backlog, backlog("t", 5));
        let mut backlogs = Backlogs::default();
        backlogs.note(arrivals(&[("t", 0, 0), ("t", 5, 100_000)]));
        assert_eq!(
            backlogs.plan(["q"], 1, 100_000, |_, _| true)[0].backlog,
            backlog("t", 0),
            "a hundred seconds are ten priorities"
        );
    }

    #[test]
    fn a_look_at_many_backlogs_is_at_those_that_have_waited_longest() {
        let mut backlogs = Backlogs::default();
        backlogs.note(arrivals(&[("a", 0, 30), ("b", 0, 10), ("b", 5, 40), ("c", 0, 20)]));
        let look: Vec<_> = backlogs.look(3, |_, _| true).into_iter().map(|claim| claim.backlog).collect();
        assert_eq!(look, [backlog("b", 0), backlog("c", 0), backlog("a", 0)]);
    }

    #[test]
    fn an_empty_backlog_is_forgotten_until_jobs_arrive() {
        let mut backlogs = Backlogs::default();
        backlogs.note(arrivals(&[("t", 0, 0)]));
        assert!(backlogs.plan(["other"], 4, 0, |_, _| true).is_empty());
        assert!(backlogs.plan(["q"], 4, 0, |_, tenant| **tenant == *"other").is_empty());
        let look = backlogs.look(9, |_, _| true);
        assert_eq!((look.len(), look[0].limit, backlogs.has("q", &"t".into(), 0)), (1, 0, true));
        let plan = backlogs.plan(["q"], 4, 0, |_, _| true);
        assert_eq!((plan.len(), plan[0].limit), (1, 4));
        let left = vec![BacklogLeft { mark: Mark { transaction: 7, position: 0 }, ..BacklogLeft::default() }];
        backlogs.claimed(&plan, &Claimed { jobs: vec![job(&plan[0].backlog)], left }, 0, backlogs.moment());
        assert!(backlogs.is_empty());
        assert!(backlogs.plan(["q"], 4, 0, |_, _| true).is_empty());
        backlogs.note(arrivals(&[("t", 0, 0)]));
        assert!(!backlogs.is_empty());
    }

    #[test]
    fn a_claim_that_was_planned_before_jobs_arrived_does_not_forget_them() {
        let mut backlogs = Backlogs::default();
        backlogs.note(arrivals(&[("t", 0, 0)]));
        let empty = || Claimed { jobs: Vec::new(), left: vec![BacklogLeft::default()] };
        let (plan, planned) = (backlogs.plan(["q"], 4, 0, |_, _| true), backlogs.moment());
        backlogs.note(arrivals(&[("t", 0, 0)]));
        backlogs.claimed(&plan, &empty(), 0, planned);
        assert!(backlogs.has("q", &"t".into(), 0), "they may have arrived after the claim had looked");
        let full = BacklogLeft { ready_since_ms: Some(0), hold: Some(Hold::Full), ..BacklogLeft::default() };
        backlogs.claimed(&plan, &Claimed { jobs: Vec::new(), left: vec![full] }, 0, planned);
        assert_eq!(backlogs.next_waking(0), Some(REST_LEAST_MS), "their keys may have a place");
        backlogs.claimed(&plan, &empty(), 0, backlogs.moment());
        assert!(backlogs.is_empty());
    }

    /// Claims from a backlog of `tenant` at this time, which gives nothing because of a limit.
    fn hold(backlogs: &mut Backlogs, tenant: &str, hold: Hold, now_ms: i64) {
        let plan = [BacklogClaim { backlog: backlog(tenant, 0), mark: Mark::default(), limit: 1 }];
        let left = BacklogLeft { ready_since_ms: Some(0), hold: Some(hold), ..BacklogLeft::default() };
        let claimed = Claimed { jobs: Vec::new(), left: vec![left] };
        backlogs.claimed(&plan, &claimed, now_ms, backlogs.moment());
    }

    fn next(backlogs: &mut Backlogs, now_ms: i64) -> Option<String> {
        let plan = backlogs.plan(["q"], 1, now_ms, |_, _| true);
        plan.first().map(|claim| claim.backlog.tenant.to_string())
    }

    #[test]
    fn a_backlog_whose_limits_let_nothing_begin_rests_and_others_go_on() {
        let mut backlogs = Backlogs::default();
        backlogs.note(arrivals(&[("a", 0, 0), ("b", 0, 0)]));
        assert_eq!(next(&mut backlogs, 0).as_deref(), Some("a"));
        hold(&mut backlogs, "a", Hold::For(Duration::from_millis(300)), 0);
        assert_eq!(next(&mut backlogs, 299).as_deref(), Some("b"));
        assert!(!backlogs.has("q", &"a".into(), 299) && backlogs.rests("q", &"a".into(), 299));
        assert!(backlogs.has("q", &"a".into(), 300) && !backlogs.rests("q", &"a".into(), 300));
        hold(&mut backlogs, "b", Hold::Full, 0);
        assert_eq!((next(&mut backlogs, 299), backlogs.next_waking(299)), (None, Some(300)));
        assert!(!backlogs.has_of("q", 299, |_| true) && !backlogs.is_empty(), "they are not forgotten");
        assert_eq!(
            (next(&mut backlogs, 300).as_deref(), backlogs.next_waking(300)),
            (Some("a"), Some(1_000))
        );
        let look = backlogs.look(9, |_, _| true);
        let left = vec![BacklogLeft { ready_since_ms: Some(0), ..BacklogLeft::default() }; 2];
        backlogs.claimed(&look, &Claimed { jobs: Vec::new(), left }, 300, backlogs.moment());
        assert!(!backlogs.has("q", &"b".into(), 300), "a look that asks for no job wakes none");
    }

    #[test]
    fn a_backlog_that_rests_wakes_when_something_may_have_changed() {
        let full = || {
            let mut backlogs = Backlogs::default();
            backlogs.note(arrivals(&[("a", 0, 0)]));
            hold(&mut backlogs, "a", Hold::Full, 0);
            assert_eq!(next(&mut backlogs, 999), None);
            backlogs
        };
        let mut ended_here = full();
        ended_here.wake("other");
        assert_eq!(next(&mut ended_here, 0), None);
        ended_here.wake("q");
        assert_eq!(next(&mut ended_here, 0).as_deref(), Some("a"));
        let (mut ended_elsewhere, mut arrived) = (full(), full());
        ended_elsewhere.wake_soon();
        arrived.note(arrivals(&[("a", 0, 0)]));
        for mut backlogs in [ended_elsewhere, arrived] {
            assert_eq!((next(&mut backlogs, 49), backlogs.next_waking(49)), (None, Some(50)));
            assert_eq!(next(&mut backlogs, 50).as_deref(), Some("a"));
        }
    }
}
