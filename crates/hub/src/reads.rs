//! Limits on the reads of the database that clients ask for: an allowance per user, and turns.
//!
//! Few reads are under way at once, and one user has at most a part of them. Further reads wait in a queue per user, and users take turns,
//! so that a user with a thousand connections gets as much as a user with one. Sends don't wait here: they use other connections to the
//! database.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_conversation_store::{Message, Page};
use starling_model::{TenantName, UserName};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::metrics::METRICS;
use crate::{CommandError, Map};

/// Most reads of one user that may wait: the default limit of connections per address.
const USER_WAITING_MAX: usize = 1_024;
/// Most reads that may wait, over all users.
const WAITING_MAX: usize = 16_384;
/// Longest time that a read waits for its turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest time to wait for an allowance.
const ALLOWANCE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest time to retry that is given to a refused user, microseconds.
const AWAY_MAX_US: u64 = 30_000_000;
/// Part of an allowance that may be used at once, microseconds.
const BURST_US: u64 = 1_000_000;
/// Number of users below which no account is forgotten.
const USERS_MIN: usize = 1_024;
/// Bytes of a page that count as one read. A larger page counts as several.
const BYTES_PER_READ: usize = 16 * 1024;
/// A user has at most `at_once / USER_PART` reads under way.
const USER_PART: usize = 4;

/// A user, with its tenant.
pub(crate) type User = (TenantName, UserName);

/// Limits on the reads of the database that clients ask for.
pub(crate) struct Reads {
    /// Most reads that may be under way, over all users and of one user.
    at_once: usize,
    user_at_once: usize,
    /// Reads that a user may make per second; 0: no limit.
    per_second: u32,
    began: Instant,
    turns: Mutex<Turns>,
    spent: Mutex<Spent>,
}

/// A read's turn. Dropping it ends the turn.
pub(crate) struct ReadTurn {
    reads: Arc<Reads>,
    user: Option<User>,
}

#[derive(Default)]
struct Turns {
    under_way: usize,
    waiting: usize,
    lines: Map<User, Line>,
    /// Users whose reads wait, in the order of their turns. Each is listed once.
    next: VecDeque<User>,
}

#[derive(Default)]
struct Line {
    under_way: usize,
    waiting: VecDeque<oneshot::Sender<ReadTurn>>,
}

/// What users have used of their allowances, by the generic cell rate algorithm (ITU-T I.371).
#[derive(Default)]
struct Spent {
    users: Map<User, Account>,
    sweep_at: usize,
}

/// A user's state. Times are in microseconds since the node began.
#[derive(Clone, Copy, Default)]
struct Account {
    /// When the whole allowance is available again.
    whole_at: u64,
    /// The latest time to retry that a refused read was given.
    away_until: u64,
}

impl Reads {
    /// Allows `at_once` reads at the same time, and `per_second` reads a second for each user (0: no limit).
    pub fn new(at_once: usize, per_second: u32) -> Arc<Reads> {
        let at_once = at_once.max(1);
        Arc::new(Reads {
            at_once,
            user_at_once: (at_once / USER_PART).max(1),
            per_second,
            began: Instant::now(),
            turns: Mutex::default(),
            spent: Mutex::default(),
        })
    }

    /// Charges one read to a user's allowance.
    ///
    /// # Errors
    /// `rate_limited`. Each refused read gets a later time to retry than the one before, so that retries come at the allowed rate.
    pub fn take(&self, tenant: &TenantName, user: &UserName) -> Result<(), CommandError> {
        if self.per_second == 0 {
            return Ok(());
        }
        let (now, cost) = (self.now_us(), self.cost_us(1));
        let mut spent = self.spent.lock();
        let account = spent.account(tenant, user, now);
        let whole_at = account.whole_at.max(now) + cost;
        if whole_at <= now + BURST_US.max(cost) {
            account.whole_at = whole_at;
            return Ok(());
        }
        METRICS.limited_user_reads.increment(1);
        let earliest = whole_at - BURST_US;
        account.away_until = (account.away_until.max(earliest) + cost).min(now + AWAY_MAX_US);
        let retry_after_ms = (account.away_until - now).div_ceil(1_000);
        let message = format!("more than {} reads of this user a second", self.per_second);
        Err(CommandError::rate_limited(message, retry_after_ms))
    }

    /// Charges reads to a user's allowance, and waits until they are available.
    ///
    /// # Errors
    /// `rate_limited`, if the wait would be too long. Then nothing is taken.
    pub async fn wait(&self, tenant: &TenantName, user: &UserName, reads: u64) -> Result<(), CommandError> {
        if self.per_second == 0 || reads == 0 {
            return Ok(());
        }
        let away_us = {
            let (now, cost) = (self.now_us(), self.cost_us(reads));
            let mut spent = self.spent.lock();
            let account = spent.account(tenant, user, now);
            let whole_at = account.whole_at.max(now) + cost;
            let away_us = whole_at.saturating_sub(now + BURST_US.max(cost));
            if Duration::from_micros(away_us) > ALLOWANCE_WAIT_MAX {
                METRICS.limited_user_reads.increment(1);
                let message = format!("more than {} reads of this user a second", self.per_second);
                return Err(CommandError::rate_limited(message, away_us.div_ceil(1_000)));
            }
            account.whole_at = whole_at;
            away_us
        };
        if away_us > 0 {
            sleep(Duration::from_micros(away_us)).await;
        }
        Ok(())
    }

    /// Charges what a finished read cost beyond one read, since its size is known only afterwards. A user's debt is at most what the
    /// allowance regains in [`AWAY_MAX_US`].
    pub fn charge(&self, tenant: &TenantName, user: &UserName, reads: u64) {
        if self.per_second == 0 || reads == 0 {
            return;
        }
        let (now, cost) = (self.now_us(), self.cost_us(reads));
        let mut spent = self.spent.lock();
        let account = spent.account(tenant, user, now);
        let whole_at = (account.whole_at.max(now) + cost).min(now + AWAY_MAX_US);
        account.whole_at = account.whole_at.max(whole_at);
    }

    /// Waits for a read's turn.
    ///
    /// # Errors
    /// `unavailable`, if too many reads wait or the turn does not come in time.
    pub async fn turn(
        self: &Arc<Self>,
        tenant: &TenantName,
        user: &UserName,
    ) -> Result<ReadTurn, CommandError> {
        let turn = self.line_up((tenant.clone(), user.clone()), USER_WAITING_MAX, WAITING_MAX)?;
        match timeout(TURN_WAIT_MAX, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => {
                METRICS.limited_reads_waiting.increment(1);
                Err(CommandError::unavailable("the read did not get its turn in time"))
            }
        }
    }

    /// Waits for a read's turn without a time limit, for reads whose number is bounded elsewhere.
    pub async fn turn_some_time(self: &Arc<Self>, user: &User) -> Result<ReadTurn, CommandError> {
        let turn = self.line_up(user.clone(), usize::MAX, usize::MAX)?;
        turn.await.map_err(|_| CommandError::unavailable("the node is stopping"))
    }

    fn line_up(
        self: &Arc<Self>,
        user: User,
        user_waiting_max: usize,
        waiting_max: usize,
    ) -> Result<oneshot::Receiver<ReadTurn>, CommandError> {
        let (teller, turn) = oneshot::channel();
        {
            let mut turns = self.turns.lock();
            let turns = &mut *turns;
            let line = turns.lines.entry(user.clone()).or_default();
            if turns.under_way >= self.at_once || line.under_way >= self.user_at_once {
                if line.waiting.len() >= user_waiting_max || turns.waiting >= waiting_max {
                    if line.under_way == 0 && line.waiting.is_empty() {
                        turns.lines.remove(&user);
                    }
                    METRICS.limited_reads_waiting.increment(1);
                    return Err(CommandError::unavailable("too many reads wait for the database"));
                }
                if line.waiting.is_empty() {
                    turns.next.push_back(user);
                }
                line.waiting.push_back(teller);
                turns.waiting += 1;
                return Ok(turn);
            }
            turns.under_way += 1;
            line.under_way += 1;
        }
        // The receiver still exists, since this function returns it.
        let _ = teller.send(ReadTurn { reads: self.clone(), user: Some(user) });
        Ok(turn)
    }

    /// Returns the number of reads that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.turns.lock().waiting
    }

    /// Ends a read's turn and grants it to the next read.
    fn end(self: &Arc<Self>, user: &User) {
        let granted = {
            let mut turns = self.turns.lock();
            turns.under_way = turns.under_way.saturating_sub(1);
            if let Some(line) = turns.lines.get_mut(user) {
                line.under_way = line.under_way.saturating_sub(1);
                if line.under_way == 0 && line.waiting.is_empty() {
                    turns.lines.remove(user);
                }
            }
            turns.grant(self.at_once, self.user_at_once)
        };
        for (user, teller) in granted {
            // If the waiting read was just given up, `send` returns the turn, and dropping it grants it to the next read.
            let _ = teller.send(ReadTurn { reads: self.clone(), user: Some(user) });
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn cost_us(&self, reads: u64) -> u64 {
        reads.saturating_mul(1_000_000) / u64::from(self.per_second.max(1))
    }
}

impl Turns {
    /// Grants free turns to waiting reads, one user after the other.
    fn grant(&mut self, at_once: usize, user_at_once: usize) -> Vec<(User, oneshot::Sender<ReadTurn>)> {
        let mut granted = Vec::new();
        let mut looked_at = 0;
        while self.under_way < at_once && looked_at < self.next.len() {
            let Some(user) = self.next.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&user) else { continue };
            // Skip reads that were given up.
            while line.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                line.waiting.pop_front();
                self.waiting -= 1;
            }
            if line.waiting.is_empty() {
                if line.under_way == 0 {
                    self.lines.remove(&user);
                }
                continue;
            }
            if line.under_way >= user_at_once {
                looked_at += 1;
                self.next.push_back(user);
                continue;
            }
            if let Some(teller) = line.waiting.pop_front() {
                looked_at = 0;
                self.waiting -= 1;
                self.under_way += 1;
                line.under_way += 1;
                if !line.waiting.is_empty() {
                    self.next.push_back(user.clone());
                }
                granted.push((user, teller));
            }
        }
        granted
    }
}

/// Returns the number of reads that a page counts for, beyond the first.
pub(crate) fn further_reads(page: &Page) -> u64 {
    let size = |message: &Message| message.content.len() + message.metadata.as_ref().map_or(0, String::len);
    let bytes: usize = page.messages.iter().map(size).sum();
    (bytes / BYTES_PER_READ) as u64
}

impl Spent {
    fn account(&mut self, tenant: &TenantName, user: &UserName, now: u64) -> &mut Account {
        let key = (tenant.clone(), user.clone());
        if self.users.len() >= self.sweep_at.max(USERS_MIN) && !self.users.contains_key(&key) {
            self.users.retain(|_, account| account.whole_at > now);
            self.sweep_at = self.users.len() * 2;
        }
        self.users.entry(key).or_default()
    }
}

impl Drop for ReadTurn {
    fn drop(&mut self) {
        if let Some(user) = self.user.take() {
            self.reads.end(&user);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own tasks")]
mod tests {
    use super::*;

    /// Lets every task run until it waits. The test has one thread.
    async fn settle() {
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_with_many_reads_gets_as_much_as_a_user_with_few() {
        let reads = Reads::new(4, 0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (user, count) in [("loud", 900), ("ann", 3), ("bob", 3)] {
            for _ in 0..count {
                let (reads, order) = (reads.clone(), order.clone());
                tasks.push(tokio::spawn(async move {
                    let _turn = reads.turn(&"t".into(), &user.into()).await.expect("a turn");
                    order.lock().push(user);
                    sleep(Duration::from_millis(1)).await;
                }));
            }
        }
        for task in tasks {
            task.await.expect("ends");
        }
        let order = order.lock();
        let last_quiet = order.iter().rposition(|user| *user != "loud").expect("some");
        assert!(last_quiet < 16, "those who ask for little are through at once: {last_quiet}");
        assert_eq!(order.len(), 906);
        assert_eq!(reads.waiting(), 0);
        assert!(reads.turns.lock().lines.is_empty() && reads.turns.lock().next.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_never_has_all_turns() {
        let reads = Reads::new(8, 0);
        let first = reads.turn(&"t".into(), &"loud".into()).await.expect("a turn");
        let _second = reads.turn(&"t".into(), &"loud".into()).await.expect("a turn");
        let third = tokio::spawn({
            let reads = reads.clone();
            async move { reads.turn(&"t".into(), &"loud".into()).await.map(drop) }
        });
        settle().await;
        assert!(!third.is_finished(), "a quarter of eight is two");
        reads.turn(&"t".into(), &"ann".into()).await.map(drop).expect("a turn at once");
        reads.turn(&"other".into(), &"loud".into()).await.map(drop).expect("of another tenant");
        drop(first);
        third.await.expect("ends").expect("a turn");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_is_too_many_is_told_so() {
        let reads = Reads::new(1, 0);
        let held = reads.turn(&"t".into(), &"ann".into()).await.expect("a turn");
        let mut waiting = Vec::new();
        for _ in 0..USER_WAITING_MAX {
            let reads = reads.clone();
            waiting.push(tokio::spawn(async move { reads.turn(&"t".into(), &"ann".into()).await.map(drop) }));
        }
        settle().await;
        let surplus = reads.turn(&"t".into(), &"ann".into()).await.map(drop).expect_err("one too many");
        assert!(surplus.retry_after_ms.is_some());
        for task in waiting {
            let refused = task.await.expect("ends").expect_err("nothing came free");
            assert!(refused.retry_after_ms.is_some());
        }
        drop(held);
        assert_eq!(reads.waiting(), 0, "those who have gone are forgotten");
        reads.turn(&"t".into(), &"ann".into()).await.map(drop).expect("a turn");
        assert!(reads.turns.lock().lines.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_refused_are_given_each_their_own_time() {
        let reads = Reads::new(1, 100);
        let (tenant, ann) = (TenantName::from("t"), UserName::from("ann"));
        assert_eq!((0..200).take_while(|_| reads.take(&tenant, &ann).is_ok()).count(), 100);
        let away = || reads.take(&tenant, &ann).expect_err("too many").retry_after_ms.expect("a time");
        let times: Vec<u64> = (0..50).map(|_| away()).collect();
        assert!(times.windows(2).all(|two| two[0] + 10 == two[1]), "{times:?}");
        assert!(reads.take(&tenant, &"bob".into()).is_ok());
        // A large read is charged afterwards.
        sleep(Duration::from_secs(60)).await;
        reads.charge(&tenant, &ann, 300);
        assert!(reads.take(&tenant, &ann).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_may_wait_are_served_at_the_rate_and_refused_where_it_takes_too_long() {
        let reads = Reads::new(1, 100);
        let (tenant, ann) = (TenantName::from("t"), UserName::from("ann"));
        let began = Instant::now();
        for _ in 0..300 {
            reads.wait(&tenant, &ann, 1).await.expect("a turn later");
        }
        let took = began.elapsed();
        assert!(Duration::from_millis(1_990) <= took && took < Duration::from_millis(2_100), "{took:?}");
        let all = futures_util::future::join_all((0..3_000).map(|_| reads.wait(&tenant, &ann, 1))).await;
        let served = all.iter().filter(|answer| answer.is_ok()).count();
        assert!((1_000..=1_001).contains(&served), "what comes back in ten seconds: {served}");
    }
}
