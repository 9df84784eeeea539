//! Telling webhooks who comes online and goes offline.
//!
//! A node tells the database which users have come to it and gone from it, and the database decides what that means over all nodes. Nobody
//! waits for it: who connects leaves a note ([`Online::note`]), and one task tells the database of all notes together
//! ([`Online::follow_forever`]). Only tenants with a webhook that wants to know are followed.
//!
//! A node shows by beats that it lives. The others remove the users of one that is silent. A node that ends leaves its users to them, which is when
//! those must have come back elsewhere.

mod users;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::{TenantName, UserName};
use starling_webhooks::{BeatOutcome, Error, MoveOutcome, NodeRun, UserMove, WebhookStore};
use starling_wire::protocol::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use users::{User, Users};

use crate::knowledge::Knowledge;
use crate::metrics::METRICS;
use crate::recorder::Recorder;
use crate::time::{about, now_ms};

/// How long a node may send no beat until it is taken for dead. Its users have so long to come back, as after a lost connection.
const SILENCE: Duration = Duration::from_secs(10);
/// How often a node sends a beat and looks for dead ones, on average.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// How long a node waits for notes, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most users in one transaction.
const BATCH: u16 = 500;
/// How long nodes go on after the last webhook that wants to know was removed, to clear up: longer than it takes to find a dead node.
const CLEAR_UP: Duration = Duration::from_secs(60);

/// The sessions of this node.
pub trait Sessions: Send + Sync + 'static {
    /// Whether a user has a session that is attached here.
    fn has_session(&self, tenant: &TenantName, user: &UserName) -> bool;

    /// Returns the users of these tenants who have sessions here, perhaps several times.
    fn users_of(&self, is_wanted: &dyn Fn(&TenantName) -> bool) -> Vec<(TenantName, UserName)>;
}

/// A node that takes no clients.
pub struct NoSessions;

impl Sessions for NoSessions {
    fn has_session(&self, _: &TenantName, _: &UserName) -> bool {
        false
    }

    fn users_of(&self, _: &dyn Fn(&TenantName) -> bool) -> Vec<(TenantName, UserName)> {
        Vec::new()
    }
}

/// Tells the database which users have come to this node and gone from it.
pub(crate) struct Online {
    store: Arc<dyn WebhookStore>,
    knowledge: Arc<Knowledge>,
    recorder: Arc<Recorder>,
    /// Users whose sessions have changed.
    changed: Mutex<HashSet<User>>,
    /// Notified when there are such users.
    noted: Notify,
}

/// What the task knows that follows users.
struct Following {
    sessions: Arc<dyn Sessions>,
    users: Users,
    /// The run of this node that the database lists.
    run: Option<NodeRun>,
    /// Tells when other tenants may have to be followed.
    changes: watch::Receiver<u64>,
    /// The tenants that are followed, and the number of the change to which that belongs.
    tenants: HashSet<TenantName>,
    version: u64,
    beat_at: Instant,
    /// Whether there may be users of dead nodes.
    may_reap: bool,
    /// When there was last a tenant to follow.
    followed_at: Option<Instant>,
}

impl Online {
    pub fn new(store: Arc<dyn WebhookStore>, knowledge: Arc<Knowledge>, recorder: Arc<Recorder>) -> Self {
        Self { store, knowledge, recorder, changed: Mutex::default(), noted: Notify::new() }
    }

    /// Records that a session of a user was attached to this node or is gone from it. Waits for nothing.
    pub fn note(&self, tenant: &TenantName, user: &UserName) {
        if self.knowledge.wanted().follows(tenant) {
            self.changed.lock().insert((tenant.clone(), user.clone()));
            self.noted.notify_one();
        }
    }

    /// Tells the database who is here, for tenants with webhooks that want to know. A user counts as here for `linger` after the last
    /// session. Never returns.
    pub async fn follow_forever(&self, sessions: Arc<dyn Sessions>, linger: Duration) {
        let mut following = Following {
            sessions,
            users: Users::new(linger),
            run: None,
            changes: self.knowledge.wanted().changes(),
            tenants: HashSet::new(),
            version: 0,
            beat_at: Instant::now(),
            may_reap: false,
            followed_at: None,
        };
        loop {
            tokio::select! {
                () = self.noted.notified() => {}
                // What tells of changes lives as long as this.
                _ = following.changes.changed() => {}
                () = sleep(about(LOOK_EVERY)) => {}
            }
            if let Err(error) = self.follow(&mut following).await {
                tracing::debug!(%error, "the database could not be told who is online");
                sleep(about(LOOK_EVERY)).await;
            }
            METRICS.users_online.set(following.users.len() as f64);
        }
    }

    /// Tells the database what has changed.
    async fn follow(&self, following: &mut Following) -> Result<(), Error> {
        let now = Instant::now();
        self.choose_tenants(following, now);
        if !following.tenants.is_empty() {
            following.followed_at = Some(now);
        }
        // In a statement of its own, so that nobody who connects waits for the lock.
        let changed = std::mem::take(&mut *self.changed.lock());
        for (tenant, user) in changed {
            if following.tenants.contains(&tenant) {
                let is_here = following.sessions.has_session(&tenant, &user);
                following.users.observe((tenant, user), is_here, now);
            }
        }
        if following.followed_at.is_none_or(|at| at + CLEAR_UP < now) && following.users.len() == 0 {
            return match following.run.take() {
                Some(run) => self.store.unlist_run(run).await,
                None => Ok(()),
            };
        }
        loop {
            self.beat(following).await?;
            let some_came = self.tell_coming(following).await?;
            let some_went = self.tell_gone(following).await?;
            let some_were_reaped = self.reap(following).await?;
            if !some_came && !some_went && !some_were_reaped {
                return Ok(());
            }
        }
    }

    /// Follows the tenants that want it now.
    fn choose_tenants(&self, following: &mut Following, now: Instant) {
        let version = *following.changes.borrow_and_update();
        if version == following.version {
            return;
        }
        let tenants = self.knowledge.wanted().followed();
        following.users.dismiss(|tenant| tenants.contains(tenant), now);
        let is_new = |tenant: &TenantName| tenants.contains(tenant) && !following.tenants.contains(tenant);
        if tenants.iter().any(is_new) {
            for user in following.sessions.users_of(&is_new) {
                following.users.observe(user, true, now);
            }
        }
        (following.tenants, following.version) = (tenants, version);
    }

    /// Sends a beat if it is time, and removes the users of dead nodes.
    async fn beat(&self, following: &mut Following) -> Result<(), Error> {
        let now = Instant::now();
        let Some(run) = following.run.filter(|_| now >= following.beat_at) else {
            return self.begin_run(following).await;
        };
        let beaten = self.store.beat_run(run, SILENCE).await?;
        following.beat_at = now + about(BEAT_EVERY);
        following.may_reap = beaten == BeatOutcome::MayReap;
        if beaten == BeatOutcome::Dead {
            self.was_taken_for_dead(following);
        }
        self.begin_run(following).await
    }

    /// Lists this node, unless it is listed.
    async fn begin_run(&self, following: &mut Following) -> Result<(), Error> {
        if following.run.is_none() {
            let run = NodeRun::new();
            self.store.list_run(run).await?;
            (following.run, following.beat_at) = (Some(run), Instant::now() + about(BEAT_EVERY));
        }
        Ok(())
    }

    fn was_taken_for_dead(&self, following: &mut Following) {
        tracing::warn!("this node was taken for dead; webhooks are told again who is online here");
        following.run = None;
        following.users.reset();
    }

    /// Tells of some users who have come. Returns whether there may be more.
    async fn tell_coming(&self, following: &mut Following) -> Result<bool, Error> {
        let Some(run) = following.run else { return Ok(false) };
        let users = following.users.take_coming(usize::from(BATCH));
        if users.is_empty() {
            return Ok(false);
        }
        let moves: Vec<UserMove> = users.iter().cloned().map(|(t, u)| UserMove::came(t, u, at())).collect();
        match self.store.users_came(run, &moves).await {
            Ok(MoveOutcome::Recorded(recorded)) => {
                following.users.confirm_coming(&users);
                self.recorder.recorded(recorded);
            }
            Ok(MoveOutcome::Dead) => self.was_taken_for_dead(following),
            Err(error) => {
                following.users.retry_coming(users);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Tells of some users who are gone. Returns whether there may be more.
    async fn tell_gone(&self, following: &mut Following) -> Result<bool, Error> {
        let Some(run) = following.run else { return Ok(true) };
        let users = following.users.take_gone(usize::from(BATCH), Instant::now());
        if users.is_empty() {
            return Ok(false);
        }
        let moves: Vec<UserMove> = users.iter().cloned().map(|(t, u)| UserMove::went(t, u, at())).collect();
        match self.store.users_went(run, &moves).await {
            Ok(recorded) => {
                following.users.confirm_gone(&users);
                self.recorder.recorded(recorded);
                Ok(true)
            }
            Err(error) => {
                following.users.retry_gone(users, Instant::now());
                Err(error)
            }
        }
    }

    /// Removes some users of dead nodes. Returns whether there may be more. Between two batches this node sends its own beats.
    async fn reap(&self, following: &mut Following) -> Result<bool, Error> {
        let Some(by) = following.run.filter(|_| following.may_reap) else { return Ok(false) };
        let left = self.store.reap_runs(by, SILENCE, BATCH).await?;
        following.may_reap = !left.is_empty();
        let mut of_runs: BTreeMap<NodeRun, Vec<UserMove>> = BTreeMap::new();
        for user in left {
            of_runs.entry(user.run).or_default().push(UserMove::went(user.tenant, user.user, at()));
        }
        for (run, moves) in of_runs {
            self.recorder.recorded(self.store.users_went(run, &moves).await?);
        }
        Ok(following.may_reap)
    }
}

fn at() -> Timestamp {
    Timestamp(now_ms())
}
