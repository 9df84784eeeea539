//! Which users of this node the database knows, and which moves it must be told.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use starling_model::{TenantName, UserName};
use tokio::time::Instant;

/// A user of a tenant.
pub(super) type User = (TenantName, UserName);

/// What this node and the database know of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The user is here, and the database must be told. Perhaps it has been, and the answer got lost.
    Coming { asked: bool },
    /// The user is here, and the database knows.
    Here,
    /// The user's last session is gone. If none comes by this time, the database must be told. Perhaps it has been, and the answer got lost.
    Lingering { until: Instant, asked: bool },
}

/// The users of this node of whom the database knows, or must be told.
#[derive(Debug)]
pub(super) struct Users {
    /// How long a user whose last session is gone still counts as here.
    linger: Duration,
    standings: HashMap<User, Standing>,
    /// Users who are coming. Some may have left meanwhile.
    coming: VecDeque<User>,
    /// Users who linger, in the order of their ends. Some may have come back meanwhile.
    lingering: VecDeque<(Instant, User)>,
}

impl Users {
    pub fn new(linger: Duration) -> Self {
        Self { linger, standings: HashMap::new(), coming: VecDeque::new(), lingering: VecDeque::new() }
    }

    /// Records whether a user has sessions here.
    pub fn observe(&mut self, user: User, is_here: bool, now: Instant) {
        let next = match (self.standings.get(&user), is_here) {
            (None, true) => {
                self.coming.push_back(user.clone());
                Standing::Coming { asked: false }
            }
            (Some(Standing::Lingering { asked: false, .. }), true) => Standing::Here,
            (Some(Standing::Lingering { asked: true, .. }), true) => {
                self.coming.push_back(user.clone());
                Standing::Coming { asked: true }
            }
            (Some(Standing::Coming { asked: false }), false) => {
                // Nobody was told.
                self.standings.remove(&user);
                return;
            }
            (Some(Standing::Coming { asked: true } | Standing::Here), false) => self.linger(&user, now),
            (None | Some(Standing::Lingering { .. }), false) | (Some(_), true) => return,
        };
        self.standings.insert(user, next);
    }

    /// Makes all users of tenants go at once that are no longer followed.
    pub fn dismiss(&mut self, is_followed: impl Fn(&TenantName) -> bool, now: Instant) {
        let dismissed: Vec<User> =
            self.standings.keys().filter(|(tenant, _)| !is_followed(tenant)).cloned().collect();
        for user in dismissed {
            self.lingering.push_front((now, user.clone()));
            self.standings.insert(user, Standing::Lingering { until: now, asked: false });
        }
    }

    /// Returns some users who are coming, of whom the database is told now.
    pub fn take_coming(&mut self, limit: usize) -> Vec<User> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(user) = self.coming.pop_front()
        {
            // A user may be listed twice, after having left and come back.
            if let Some(Standing::Coming { asked }) = self.standings.get_mut(&user)
                && !taken.contains(&user)
            {
                *asked = true;
                taken.push(user);
            }
        }
        taken
    }

    /// Notes that the database knows that these users have come.
    pub fn confirm_coming(&mut self, users: &[User]) {
        for user in users {
            if let Some(standing @ Standing::Coming { .. }) = self.standings.get_mut(user) {
                *standing = Standing::Here;
            }
        }
    }

    /// Takes back users whose coming the database could not be told. It will be told again.
    pub fn retry_coming(&mut self, users: Vec<User>) {
        for user in users.into_iter().rev() {
            self.coming.push_front(user);
        }
    }

    /// Returns some users whose lingering is over, of whom the database is told now.
    pub fn take_gone(&mut self, limit: usize, now: Instant) -> Vec<User> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some((_, user)) = self.lingering.pop_front_if(|(until, _)| *until <= now)
        {
            if let Some(Standing::Lingering { until, asked }) = self.standings.get_mut(&user)
                && *until <= now
                && !taken.contains(&user)
            {
                *asked = true;
                taken.push(user);
            }
        }
        taken
    }

    /// Notes that the database knows that these users are gone.
    pub fn confirm_gone(&mut self, users: &[User]) {
        for user in users {
            self.standings.remove(user);
        }
    }

    /// Takes back users whose going the database could not be told. It will be told again.
    pub fn retry_gone(&mut self, users: Vec<User>, now: Instant) {
        for user in users.into_iter().rev() {
            self.lingering.push_front((now, user));
        }
    }

    /// Begins anew after this node was taken for dead: the database knows of nobody here.
    pub fn reset(&mut self) {
        self.standings.retain(|_, standing| !matches!(standing, Standing::Lingering { .. }));
        self.lingering.clear();
        for standing in self.standings.values_mut() {
            *standing = Standing::Coming { asked: false };
        }
        self.coming = self.standings.keys().cloned().collect();
    }

    /// Returns the number of users.
    pub fn len(&self) -> usize {
        self.standings.len()
    }

    fn linger(&mut self, user: &User, now: Instant) -> Standing {
        let until = now + self.linger;
        self.lingering.push_back((until, user.clone()));
        Standing::Lingering { until, asked: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(10);

    fn user(name: &str) -> User {
        ("t".into(), name.into())
    }

    /// Users of whom the database knows `ann` and `bob`.
    fn two(now: Instant) -> Users {
        let mut users = Users::new(LINGER);
        for name in ["ann", "bob"] {
            users.observe(user(name), true, now);
        }
        assert_eq!(users.take_coming(10), [user("ann"), user("bob")]);
        users.confirm_coming(&[user("ann"), user("bob")]);
        users
    }

    #[tokio::test]
    async fn a_user_who_comes_back_within_the_linger_never_went() {
        let now = Instant::now();
        let mut users = two(now);
        users.observe(user("ann"), false, now);
        users.observe(user("bob"), false, now);
        users.observe(user("ann"), true, now + LINGER / 2);
        assert!(users.take_gone(10, now + LINGER / 2).is_empty());
        assert_eq!(users.take_gone(10, now + LINGER), [user("bob")]);
        users.confirm_gone(&[user("bob")]);
        assert!(users.take_coming(10).is_empty());
        assert_eq!(users.len(), 1);
        // The next time counts anew.
        users.observe(user("ann"), false, now + LINGER);
        assert!(users.take_gone(10, now + LINGER).is_empty());
        assert_eq!(users.take_gone(10, now + 2 * LINGER), [user("ann")]);
    }

    #[tokio::test]
    async fn a_user_who_left_before_anybody_was_told_is_forgotten() {
        let now = Instant::now();
        let mut users = Users::new(LINGER);
        users.observe(user("ann"), true, now);
        users.observe(user("ann"), false, now);
        assert!(users.take_coming(10).is_empty() && users.len() == 0);
        // Twice listed, once told.
        users.observe(user("ann"), true, now);
        users.observe(user("ann"), false, now);
        users.observe(user("ann"), true, now);
        assert_eq!(users.take_coming(10), [user("ann")]);
    }

    #[tokio::test]
    async fn what_the_database_could_not_be_told_is_told_again() {
        let now = Instant::now();
        let mut users = Users::new(LINGER);
        users.observe(user("ann"), true, now);
        let coming = users.take_coming(10);
        users.retry_coming(coming);
        // The answer may have got lost, so the database may know the user.
        users.observe(user("ann"), false, now);
        assert!(users.take_coming(10).is_empty());
        let gone = users.take_gone(10, now + LINGER);
        assert_eq!(gone, [user("ann")]);
        users.retry_gone(gone, now + LINGER);
        assert_eq!(users.take_gone(10, now + LINGER), [user("ann")]);
        // The database may have forgotten the user.
        users.retry_gone(vec![user("ann")], now + LINGER);
        users.observe(user("ann"), true, now + LINGER);
        assert!(users.take_gone(10, now + LINGER).is_empty());
        assert_eq!(users.take_coming(10), [user("ann")]);
    }

    #[tokio::test]
    async fn a_node_that_was_taken_for_dead_tells_who_is_here() {
        let now = Instant::now();
        let mut users = two(now);
        users.observe(user("bob"), false, now);
        users.reset();
        assert_eq!(users.take_coming(10), [user("ann")]);
        assert!(users.take_gone(10, now + LINGER).is_empty());
    }

    #[tokio::test]
    async fn users_of_a_tenant_that_nobody_follows_go_at_once() {
        let now = Instant::now();
        let mut users = two(now);
        users.observe(("u".into(), "cid".into()), true, now);
        users.dismiss(|tenant| **tenant == *"u", now);
        let mut gone = users.take_gone(10, now);
        gone.sort();
        assert_eq!(gone, [user("ann"), user("bob")]);
        assert_eq!(users.take_coming(10).len(), 1);
    }

    #[tokio::test]
    async fn many_users_come_in_batches() {
        let now = Instant::now();
        let mut users = Users::new(LINGER);
        for number in 0..1_000 {
            users.observe(user(&number.to_string()), true, now);
        }
        let mut batches = Vec::new();
        loop {
            let batch = users.take_coming(400);
            if batch.is_empty() {
                break;
            }
            users.confirm_coming(&batch);
            batches.push(batch.len());
        }
        assert_eq!(batches, [400, 400, 200]);
    }
}
