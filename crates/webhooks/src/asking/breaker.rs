//! Breakers: a backend that fails is not asked for a while (M. Nygard, "Release It!", "Circuit Breaker").

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::TenantName;
use tokio::time::Instant;

use crate::{Endpoint, Hook, HookPoint};

/// The most hooks whose failures are remembered.
const HOOKS_MAX: usize = 10_000;

/// When a backend is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row open the breaker.
    pub failures: u32,
    /// How long it is open at first. The time doubles with each trial that fails.
    pub open: Duration,
    /// The longest time that it is open.
    pub open_max: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(1), open_max: Duration::from_secs(30) }
    }
}

/// The breakers of all hooks. Those whose newest question was answered have none.
pub(super) struct Breakers {
    settings: BreakerSettings,
    hooks: Mutex<HashMap<Key, Breaker>>,
}

type Key = (TenantName, HookPoint);

/// The failures of one hook.
struct Breaker {
    /// The backend that failed. Another one gets another chance.
    endpoint: Endpoint,
    /// Failures in a row.
    failures: u32,
    open: Option<Open>,
}

/// The time in which a backend is not asked.
struct Open {
    until: Instant,
    /// Trials that failed.
    trials: u32,
    /// Whether a question is under way that tests the backend.
    is_tried: bool,
}

impl Breaker {
    fn is_open(&self, now: Instant) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_tried || now < open.until)
    }
}

/// A question that may be asked. It counts as neither answered nor failed if it is dropped without its end.
pub(super) struct Attempt {
    breakers: Arc<Breakers>,
    key: Key,
    endpoint: Endpoint,
    /// Whether this question tests the backend.
    is_trial: bool,
    has_ended: bool,
}

impl Breakers {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self { settings, hooks: Mutex::default() }
    }

    /// Begins a question; `None` if the backend is not to be asked now.
    pub(super) fn begin(self: &Arc<Self>, hook: &Hook, now: Instant) -> Option<Attempt> {
        let key = (hook.tenant.clone(), hook.point);
        let mut hooks = self.hooks.lock();
        let mut is_trial = false;
        match hooks.get_mut(&key) {
            Some(breaker) if breaker.endpoint != hook.endpoint => {
                hooks.remove(&key);
            }
            Some(breaker) if breaker.is_open(now) => return None,
            Some(Breaker { open: Some(open), .. }) => {
                open.is_tried = true;
                is_trial = true;
            }
            Some(_) | None => {}
        }
        drop(hooks);
        let (breakers, endpoint) = (Arc::clone(self), hook.endpoint.clone());
        Some(Attempt { breakers, key, endpoint, is_trial, has_ended: false })
    }

    /// Returns the number of backends that have failed too often and have not answered since.
    pub(super) fn open(&self) -> usize {
        self.hooks.lock().values().filter(|breaker| breaker.open.is_some()).count()
    }

    /// Forgets what no longer belongs to one of these hooks.
    pub(super) fn keep<'a>(&self, hooks: impl Iterator<Item = &'a Hook>) {
        let hooks: HashMap<(&TenantName, HookPoint), &Endpoint> =
            hooks.map(|hook| ((&hook.tenant, hook.point), &hook.endpoint)).collect();
        let mut breakers = self.hooks.lock();
        breakers.retain(|(tenant, point), breaker| {
            hooks.get(&(tenant, *point)).is_some_and(|endpoint| **endpoint == breaker.endpoint)
        });
    }

    fn end(&self, attempt: &Attempt, is_answered: bool, now: Instant) {
        let mut hooks = self.hooks.lock();
        let settings = self.settings;
        if !hooks.contains_key(&attempt.key) {
            if is_answered {
                return;
            }
            if hooks.len() >= HOOKS_MAX {
                hooks.retain(|_, breaker| breaker.is_open(now));
            }
            if hooks.len() >= HOOKS_MAX {
                return;
            }
        }
        let breaker = hooks.entry(attempt.key.clone()).or_insert_with(|| Breaker {
            endpoint: attempt.endpoint.clone(),
            failures: 0,
            open: None,
        });
        if breaker.endpoint != attempt.endpoint {
            // The hook was changed meanwhile.
            return;
        }
        match (&mut breaker.open, is_answered) {
            // Only the trial tells whether the backend works again.
            (Some(_), _) if !attempt.is_trial => {}
            (_, true) => {
                hooks.remove(&attempt.key);
            }
            (Some(open), false) => {
                open.trials = open.trials.saturating_add(1);
                open.until =
                    now + settings.open.saturating_mul(1 << open.trials.min(20)).min(settings.open_max);
                open.is_tried = false;
            }
            (None, false) => {
                breaker.failures = breaker.failures.saturating_add(1);
                if breaker.failures >= settings.failures {
                    let until = now + settings.open.min(settings.open_max);
                    breaker.open = Some(Open { until, trials: 0, is_tried: false });
                }
            }
        }
    }
}

impl Attempt {
    /// Notes whether the backend decided.
    pub(super) fn end(mut self, is_answered: bool, now: Instant) {
        self.has_ended = true;
        self.breakers.end(&self, is_answered, now);
    }
}

impl Drop for Attempt {
    /// Lets another question test the backend, if this one was to do it and was given up.
    fn drop(&mut self) {
        if self.has_ended || !self.is_trial {
            return;
        }
        let mut hooks = self.breakers.hooks.lock();
        let breaker = hooks.get_mut(&self.key).filter(|breaker| breaker.endpoint == self.endpoint);
        if let Some(open) = breaker.and_then(|breaker| breaker.open.as_mut()) {
            open.is_tried = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OnFailure;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 3, open: Duration::from_secs(1), open_max: Duration::from_secs(5) };

    fn hook(url: &str) -> Hook {
        Hook {
            tenant: "t".into(),
            point: HookPoint::Send,
            endpoint: Endpoint::parse(url).unwrap(),
            timeout: Duration::from_secs(1),
            on_failure: OnFailure::Refuse,
        }
    }

    fn opened(hook: &Hook, now: Instant) -> Arc<Breakers> {
        let breakers = Arc::new(Breakers::new(SETTINGS));
        for _ in 0..SETTINGS.failures {
            breakers.begin(hook, now).unwrap().end(false, now);
        }
        breakers
    }

    #[tokio::test]
    async fn failures_in_a_row_open_it_and_an_answer_in_between_does_not() {
        let (hook, now) = (hook("https://example.com/"), Instant::now());
        let breakers = Arc::new(Breakers::new(SETTINGS));
        for is_answered in [false, false, true, false, false] {
            breakers.begin(&hook, now).unwrap().end(is_answered, now);
        }
        breakers.begin(&hook, now).unwrap().end(false, now);
        assert!(breakers.begin(&hook, now).is_none());
        let other = Hook { point: HookPoint::Join, ..hook.clone() };
        assert!(breakers.begin(&other, now).is_some(), "each hook has its own");
        let other = Hook { tenant: "u".into(), ..hook };
        assert!(breakers.begin(&other, now).is_some(), "each tenant has its own");
    }

    #[tokio::test]
    async fn one_trial_at_a_time_decides_and_each_that_fails_doubles_the_time() {
        let (hook, mut now) = (hook("https://example.com/"), Instant::now());
        let breakers = opened(&hook, now);
        for seconds in [1, 2, 4, 5, 5] {
            now += Duration::from_millis(seconds * 1000 - 1);
            assert!(breakers.begin(&hook, now).is_none());
            now += Duration::from_millis(1);
            let trial = breakers.begin(&hook, now).unwrap();
            assert!(breakers.begin(&hook, now + Duration::from_secs(100)).is_none(), "a trial is under way");
            trial.end(false, now);
        }
        now += SETTINGS.open_max;
        breakers.begin(&hook, now).unwrap().end(true, now);
        assert!(breakers.begin(&hook, now).is_some() && breakers.hooks.lock().is_empty());
    }

    #[tokio::test]
    async fn a_trial_that_is_given_up_makes_way_for_another() {
        let (hook, now) = (hook("https://example.com/"), Instant::now());
        let breakers = opened(&hook, now);
        let later = now + SETTINGS.open;
        drop(breakers.begin(&hook, later).unwrap());
        let trial = breakers.begin(&hook, later).unwrap();
        assert!(breakers.begin(&hook, later).is_none());
        trial.end(true, later);
    }

    #[tokio::test]
    async fn questions_from_before_do_not_close_it() {
        let (hook, now) = (hook("https://example.com/"), Instant::now());
        let breakers = Arc::new(Breakers::new(SETTINGS));
        let [early, late] = [0, 1].map(|_| breakers.begin(&hook, now).unwrap());
        for _ in 0..SETTINGS.failures {
            breakers.begin(&hook, now).unwrap().end(false, now);
        }
        early.end(true, now);
        late.end(false, now);
        assert!(breakers.begin(&hook, now + SETTINGS.open - Duration::from_millis(1)).is_none());
        assert!(breakers.begin(&hook, now + SETTINGS.open).is_some());
    }

    #[tokio::test]
    async fn another_backend_gets_another_chance() {
        let now = Instant::now();
        let breakers = opened(&hook("https://example.com/"), now);
        assert!(breakers.begin(&hook("https://other.example/"), now).is_some());
    }

    #[tokio::test]
    async fn a_breaker_counts_as_open_until_an_answer_or_until_its_hook_is_gone() {
        let (hook, now) = (hook("https://example.com/"), Instant::now());
        let breakers = opened(&hook, now);
        assert_eq!(breakers.open(), 1);
        let later = now + SETTINGS.open;
        let trial = breakers.begin(&hook, later).unwrap();
        assert_eq!(breakers.open(), 1, "nobody has answered");
        trial.end(true, later);
        assert_eq!(breakers.open(), 0);
        let breakers = opened(&hook, now);
        breakers.keep([&hook].into_iter());
        assert_eq!(breakers.open(), 1);
        breakers.keep([&Hook { point: HookPoint::Join, ..hook.clone() }].into_iter());
        assert_eq!(breakers.open(), 0, "the hook was removed");
        let breakers = opened(&hook, now);
        breakers.keep(
            [&Hook { endpoint: Endpoint::parse("https://other.example/").unwrap(), ..hook }].into_iter(),
        );
        assert_eq!(breakers.open(), 0, "the hook has another backend");
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let now = Instant::now();
        let breakers = Arc::new(Breakers::new(SETTINGS));
        let of_tenant =
            |number: usize| Hook { tenant: number.to_string().into(), ..hook("https://example.com/") };
        let open = of_tenant(0);
        for _ in 0..SETTINGS.failures {
            breakers.begin(&open, now).unwrap().end(false, now);
        }
        for number in 1..=HOOKS_MAX {
            breakers.begin(&of_tenant(number), now).unwrap().end(false, now);
        }
        assert!(breakers.hooks.lock().len() <= HOOKS_MAX);
        assert!(breakers.begin(&open, now).is_none(), "an open one is not forgotten");
    }
}
