//! Whose turn it is: which backlogs a node claims from next.

use std::collections::{BTreeMap, HashMap};

use starling_model::TenantName;

use crate::{Arrivals, BacklogClaim, BacklogName, Claimed, Mark};

/// How long a job waits until it counts as one priority higher, ms.
const AGING_MS: f64 = 10_000.0;
/// The most backlogs that one claim asks.
const BACKLOGS_MAX: usize = 32;

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
#[derive(Debug, Default)]
pub struct Backlogs {
    weights: Weights,
    queues: BTreeMap<String, Queue>,
}

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
}

impl Backlogs {
    /// Makes an empty list.
    #[must_use]
    pub fn new(weights: Weights) -> Self {
        Self { weights, queues: BTreeMap::new() }
    }

    /// Whether no backlog is known to have jobs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether a tenant is known to have jobs in a queue.
    #[must_use]
    pub fn has(&self, queue: &str, tenant: &TenantName) -> bool {
        self.queues.get(queue).is_some_and(|queue| queue.tenants.contains_key(tenant))
    }

    /// Whether any tenant's queue that `wanted` accepts is known to have jobs.
    #[must_use]
    pub fn has_any(&self, wanted: impl Fn(&str, &TenantName) -> bool) -> bool {
        let mut queues = self.queues.iter();
        queues.any(|(name, queue)| queue.tenants.keys().any(|tenant| wanted(name, tenant)))
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

    /// Takes note of backlogs in which jobs have become ready.
    pub fn note(&mut self, arrivals: Arrivals) {
        for arrival in arrivals.backlogs {
            let queue = self.queues.entry(arrival.backlog.queue).or_default();
            let time = queue.time;
            // A tenant that had no jobs for a while has saved no turns.
            let tenant = queue
                .tenants
                .entry(arrival.backlog.tenant)
                .or_insert_with(|| Tenant { time, backlogs: BTreeMap::new() });
            let new = Backlog { mark: arrival.mark, ready_since_ms: arrival.ready_since_ms };
            // The mark of a backlog that is known lies before all that arrived since.
            tenant.backlogs.entry(arrival.backlog.priority).or_insert(new);
        }
    }

    /// Returns the backlogs to claim `jobs` jobs from, whose queues and tenants `wanted` accepts. `now_ms`: the present time, Unix milliseconds.
    pub fn plan(
        &mut self,
        jobs: u16,
        now_ms: i64,
        wanted: impl Fn(&str, &TenantName) -> bool,
    ) -> Vec<BacklogClaim> {
        let mut plan: Vec<BacklogClaim> = Vec::new();
        // Times as they would be after the claim. What was really claimed is counted later.
        let mut times: HashMap<(&str, &TenantName), f64> = HashMap::new();
        for turn in 0..jobs {
            // Queues take turns one after another; within a queue the lowest time is next.
            let wanted_tenants =
                |name: &str, queue: &Queue| queue.tenants.keys().any(|tenant| wanted(name, tenant));
            let queues: Vec<_> =
                self.queues.iter().filter(|(name, queue)| wanted_tenants(name, queue)).collect();
            let Some((name, queue)) = queues.get(usize::from(turn) % queues.len().max(1)) else { break };
            let time_of = |tenant: &TenantName, state: &Tenant| {
                times.get(&(name.as_str(), tenant)).copied().unwrap_or(state.time)
            };
            let tenants = queue.tenants.iter().filter(|(tenant, _)| wanted(name, tenant));
            let next = tenants.min_by(|a, b| time_of(a.0, a.1).total_cmp(&time_of(b.0, b.1)));
            let Some((tenant, state)) = next else { continue };
            let Some((priority, Backlog { mark, .. })) = state.most_urgent(now_ms) else { continue };
            let time = time_of(tenant, state) + 1.0 / self.weights.of(tenant);
            times.insert((name.as_str(), tenant), time);
            let backlog = BacklogName { queue: (*name).clone(), tenant: tenant.clone(), priority };
            match plan.iter().position(|claim| claim.backlog == backlog) {
                Some(place) => plan[place].limit += 1,
                None if plan.len() < BACKLOGS_MAX => plan.push(BacklogClaim { backlog, mark, limit: 1 }),
                None => break,
            }
        }
        plan
    }

    /// Takes note of what a claim gave, and forgets backlogs that are empty.
    pub fn claimed(&mut self, plan: &[BacklogClaim], claimed: &Claimed) {
        for (claim, left) in plan.iter().zip(&claimed.left) {
            let backlog = &claim.backlog;
            let Some(queue) = self.queues.get_mut(&backlog.queue) else { continue };
            let Some(tenant) = queue.tenants.get_mut(&backlog.tenant) else { continue };
            let jobs = claimed.jobs.iter().filter(|job| job.backlog == *backlog).count();
            queue.time = queue.time.max(tenant.time);
            #[expect(clippy::cast_precision_loss, reason = "a claim has few jobs")]
            let turns = jobs as f64;
            tenant.time += turns / self.weights.of(&backlog.tenant);
            match left.ready_since_ms {
                Some(ready_since_ms) => {
                    tenant.backlogs.insert(backlog.priority, Backlog { mark: left.mark, ready_since_ms });
                }
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

impl Tenant {
    /// Returns the backlog whose priority is highest, with what waiting adds to it.
    fn most_urgent(&self, now_ms: i64) -> Option<(i16, Backlog)> {
        #[expect(clippy::cast_precision_loss, reason = "waiting times have few digits")]
        let urgency = |priority: i16, backlog: &Backlog| {
            f64::from(priority) + now_ms.saturating_sub(backlog.ready_since_ms).max(0) as f64 / AGING_MS
        };
        let most = self.backlogs.iter().max_by(|a, b| urgency(*a.0, a.1).total_cmp(&urgency(*b.0, b.1)));
        most.map(|(priority, backlog)| (*priority, *backlog))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arrival, BacklogLeft, Backoff, ClaimedJob, JobId};

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
            let plan = backlogs.plan(jobs, 0, |_, _| true);
            let mut claimed = Claimed::default();
            for claim in &plan {
                claimed.jobs.extend((0..claim.limit).map(|_| job(&claim.backlog)));
                claimed.left.push(BacklogLeft { mark: claim.mark, ready_since_ms: Some(0) });
                *counts.entry(claim.backlog.tenant.to_string()).or_default() += usize::from(claim.limit);
            }
            backlogs.claimed(&plan, &claimed);
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
        assert_eq!(backlogs.plan(1, 0, |_, _| true)[0].backlog, backlog("t", 5));
        let mut backlogs = Backlogs::default();
        backlogs.note(arrivals(&[("t", 0, 0), ("t", 5, 100_000)]));
        assert_eq!(
            backlogs.plan(1, 100_000, |_, _| true)[0].backlog,
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
        assert!(backlogs.plan(4, 0, |queue, _| queue == "other").is_empty());
        assert!(backlogs.plan(4, 0, |_, tenant| **tenant == *"other").is_empty());
        let look = backlogs.look(9, |_, _| true);
        assert_eq!((look.len(), look[0].limit, backlogs.has("q", &"t".into())), (1, 0, true));
        let plan = backlogs.plan(4, 0, |_, _| true);
        assert_eq!((plan.len(), plan[0].limit), (1, 4));
        let left = vec![BacklogLeft { mark: Mark { transaction: 7, position: 0 }, ready_since_ms: None }];
        backlogs.claimed(&plan, &Claimed { jobs: vec![job(&plan[0].backlog)], left });
        assert!(backlogs.is_empty());
        assert!(backlogs.plan(4, 0, |_, _| true).is_empty());
        backlogs.note(arrivals(&[("t", 0, 0)]));
        assert!(!backlogs.is_empty());
    }
}
