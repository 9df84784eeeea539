//! Telling webhooks who comes online and goes offline.
//!
//! A node tells the database which users have come to it and gone from it, and the database decides what that means over all nodes. Nobody
//! waits for it: who connects leaves a note ([`WebhookService::note_sessions`]), and one task tells the database of all notes together
//! ([`WebhookService::follow_users_forever`]). Only tenants with a webhook that wants to know are followed.
//!
//! A node shows by beats that it lives. The others remove the users of one that is silent. A node that ends leaves its users to them, which is when
//! those must have come back elsewhere.

mod users;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::{TenantName, UserName};
use starling_webhooks::{Beaten, Error, Moved, NodeRun, UserMove};
use starling_wire::protocol::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use users::{User, Users};

use crate::WebhookService;
use crate::metrics::METRICS;
use crate::service::{about, now_ms};

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

/// Notes about users whose sessions have changed.
#[derive(Default)]
pub(crate) struct Notes {
    changed: Mutex<HashSet<User>>,
    /// Notified when there are notes, or when other tenants are to be followed.
    pub wanted: Notify,
}

/// What the task knows that follows users.
struct Following {
    sessions: Arc<dyn Sessions>,
    users: Users,
    /// The run of this node that the database lists.
    run: Option<NodeRun>,
    /// The tenants that are followed, and the version of what is wanted to which that belongs.
    tenants: HashSet<TenantName>,
    version: u64,
    beat_at: Instant,
    /// Whether there may be users of dead nodes.
    buries: bool,
    /// When there was last a tenant to follow.
    followed_at: Option<Instant>,
}

impl WebhookService {
    /// Records that a session of a user was attached to this node or is gone from it. Waits for nothing.
    pub fn note_sessions(&self, tenant: &TenantName, user: &UserName) {
        if self.wanted.follows(tenant) {
            self.notes.changed.lock().insert((tenant.clone(), user.clone()));
            self.notes.wanted.notify_one();
        }
    }

    /// Tells the database who is here, for tenants with webhooks that want to know. A user counts as here for `linger` after the last
    /// session. Never returns.
    pub async fn follow_users_forever(self: Arc<Self>, sessions: Arc<dyn Sessions>, linger: Duration) {
        let mut following = Following {
            sessions,
            users: Users::new(linger),
            run: None,
            tenants: HashSet::new(),
            version: 0,
            beat_at: Instant::now(),
            buries: false,
            followed_at: None,
        };
        loop {
            tokio::select! {
                () = self.notes.wanted.notified() => {}
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
        let changed = std::mem::take(&mut *self.notes.changed.lock());
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
            let some_were_buried = self.bury(following).await?;
            if !some_came && !some_went && !some_were_buried {
                return Ok(());
            }
        }
    }

    /// Follows the tenants that want it now.
    fn choose_tenants(&self, following: &mut Following, now: Instant) {
        let version = self.wanted.version();
        if version == following.version {
            return;
        }
        let tenants = self.wanted.followed();
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
        following.buries = beaten == Beaten::Watching;
        if beaten == Beaten::Dead {
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
        following.users.start_again();
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
            Ok(Moved::Kept(recorded)) => {
                following.users.have_come(&users);
                self.recorded(recorded);
            }
            Ok(Moved::Dead) => self.was_taken_for_dead(following),
            Err(error) => {
                following.users.come_again(users);
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
                following.users.have_gone(&users);
                self.recorded(recorded);
                Ok(true)
            }
            Err(error) => {
                following.users.go_again(users, Instant::now());
                Err(error)
            }
        }
    }

    /// Removes some users of dead nodes. Returns whether there may be more. Between two batches this node sends its own beats.
    async fn bury(&self, following: &mut Following) -> Result<bool, Error> {
        let Some(by) = following.run.filter(|_| following.buries) else { return Ok(false) };
        let left = self.store.bury_runs(by, SILENCE, BATCH).await?;
        following.buries = !left.is_empty();
        let mut of_runs: BTreeMap<NodeRun, Vec<UserMove>> = BTreeMap::new();
        for user in left {
            of_runs.entry(user.run).or_default().push(UserMove::went(user.tenant, user.user, at()));
        }
        for (run, moves) in of_runs {
            self.recorded(self.store.users_went(run, &moves).await?);
        }
        Ok(following.buries)
    }

    /// Counts deliveries that were recorded, and wakes the deliverer.
    fn recorded(&self, deliveries: u64) {
        if deliveries > 0 {
            METRICS.recorded.increment(deliveries);
            self.due_wanted.notify_one();
        }
    }
}

fn at() -> Timestamp {
    Timestamp(now_ms())
}
