//! Reads of the log for subscriptions that are behind.
//!
//! Thousands may fall behind at once, when an inbox overflows or when all clients reconnect. Their reads must not take the connections to
//! the database that sends need. So few of them are under way at once, users take turns, and equal reads are made once for all. While the
//! database does not respond, waiting reads fail at once instead of one after the other.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use starling_conversation_store::{ConversationId, ConversationStore, Page, Range};
use starling_model::{ConversationName, Seq, UserName};
use starling_wire::protocol::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::encoded::Encoded;
use crate::reads::{Reads, User, further_reads};
use crate::room::Room;
use crate::{CommandError, Map, Set};

use super::stored;

/// Most bytes of a page.
const PAGE_BYTES_MAX: usize = 128 * 1024;
/// Most messages of a page.
const PAGE: u32 = 100;
/// After the database did not respond, other reads fail for this long without asking it. Their callers retry at their own pace.
const FAULT_HOLDS: Duration = Duration::from_millis(250);

/// A page of a conversation's log: each message's seq and its event, which is encoded once for all connections.
pub type LogPage = Arc<[(Seq, Encoded)]>;

type Answer = Result<LogPage, CommandError>;
/// The key of a read: a conversation, and the seq after which its page begins.
type PageKey = (ConversationId, Seq);
type AnswerReceiver = oneshot::Receiver<Answer>;
/// A read that has not begun. It is charged to the user in whose turn it is made.
type Read = Box<dyn FnOnce(User) -> BoxFuture<'static, Answer> + Send>;

/// Serves subscriptions that are behind from the log.
pub(crate) struct LogPages {
    store: Arc<dyn ConversationStore>,
    /// Charges large pages to the user in whose turn they were read.
    reads: Arc<Reads>,
    shared: Arc<LogReads>,
    /// Runs the reads, since several connections may wait for one.
    runtime: Handle,
}

impl LogPages {
    /// Allows `at_once` reads at the same time.
    pub fn new(
        store: Arc<dyn ConversationStore>,
        reads: Arc<Reads>,
        at_once: usize,
        runtime: Handle,
    ) -> LogPages {
        LogPages { store, reads, shared: LogReads::new(at_once), runtime }
    }

    /// Reads from the primary the page of a conversation's log that follows the seq `after`. Callers that want the same page at the same
    /// time share one read. A read waits for its turn without a time limit. A large page is charged to the user in whose turn it was read.
    pub fn page(
        &self,
        room: &Arc<Room>,
        reader: &UserName,
        after: Seq,
    ) -> impl Future<Output = Result<LogPage, CommandError>> + use<> {
        let (store, reads, room) = (self.store.clone(), self.reads.clone(), room.clone());
        let reader = (room.key.tenant.clone(), reader.clone());
        self.shared.read(&self.runtime, (room.conversation, after), reader, move |reader| async move {
            let (id, range) = (room.conversation, Range::After(after));
            let page = store.messages(id, range, PAGE, PAGE_BYTES_MAX, true).await?;
            reads.charge(&reader.0, &reader.1, further_reads(&page));
            Ok(events(&room.key.name, page))
        })
    }
}

/// Reads of the log that several connections share.
struct LogReads {
    turns: Arc<Reads>,
    /// Reads that are under way or wait for a turn. There are at most as many as connections, since each connection makes one at a time.
    under_way: Mutex<Map<PageKey, UnderWay>>,
    /// The last read to which the database did not respond.
    fault: Mutex<Option<(Instant, CommandError)>>,
}

struct UnderWay {
    told: WeakShared<AnswerReceiver>,
    pending: Arc<Mutex<Pending>>,
}

/// A read that waits for a turn, or has begun (`read` is then `None`). It waits in the queue of each user who wants it, and begins with the
/// first turn that one of them gets. So a user with few reads need not wait behind the many reads of another user who wants the same page.
struct Pending {
    read: Option<(oneshot::Sender<Answer>, Read)>,
    readers: Set<User>,
}

impl LogReads {
    /// Allows `at_once` reads at the same time.
    pub fn new(at_once: usize) -> Arc<LogReads> {
        Arc::new(LogReads {
            turns: Reads::new(at_once, 0),
            under_way: Mutex::default(),
            fault: Mutex::default(),
        })
    }

    /// Makes the read with this key on `runtime`, in the first turn of a user who wants it. If the same read is already under way, its answer is
    /// shared and `read` is dropped.
    pub fn read<F, R>(
        self: &Arc<Self>,
        runtime: &Handle,
        key: PageKey,
        reader: User,
        read: F,
    ) -> impl Future<Output = Answer> + use<F, R>
    where
        F: FnOnce(User) -> R + Send + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        let (shared, pending) = self.join(key).unwrap_or_else(|| {
            let (teller, told) = oneshot::channel();
            let shared = told.shared();
            let read: Read = Box::new(move |reader| read(reader).boxed());
            let pending = Pending { read: Some((teller, read)), readers: Set::default() };
            let pending = Arc::new(Mutex::new(pending));
            if let Some(told) = shared.downgrade() {
                self.under_way.lock().insert(key, UnderWay { told, pending: pending.clone() });
            }
            (shared, pending)
        });
        let is_in_line = {
            let mut pending = pending.lock();
            pending.read.is_none() || !pending.readers.insert(reader.clone())
        };
        if !is_in_line {
            #[expect(
                clippy::disallowed_methods,
                reason = "a read that fails is told to those who wait for it"
            )]
            runtime.spawn(self.clone().perform(key, reader, pending));
        }
        async move {
            let gone = |_| Err(CommandError::unavailable("the node is stopping"));
            shared.await.unwrap_or_else(gone)
        }
    }

    fn join(&self, key: PageKey) -> Option<(Shared<AnswerReceiver>, Arc<Mutex<Pending>>)> {
        let under_way = self.under_way.lock();
        let found = under_way.get(&key)?;
        Some((found.told.upgrade()?, found.pending.clone()))
    }

    async fn perform(self: Arc<Self>, key: PageKey, reader: User, pending: Arc<Mutex<Pending>>) {
        let Ok(_turn) = self.turns.turn_some_time(&reader).await else { return };
        // Another user's turn may have come first.
        let Some((teller, read)) = pending.lock().read.take() else { return };
        if teller.is_closed() {
            self.forget(key, &pending);
            return;
        }
        let answer = match self.known_fault() {
            Some(fault) => Err(fault),
            None => {
                let answer = read(reader).await;
                self.learn(&answer);
                answer
            }
        };
        self.forget(key, &pending);
        // Every caller may have gone.
        let _ = teller.send(answer);
    }

    /// Forgets a read that has ended, so that the next caller reads the log again: it may have grown.
    fn forget(&self, key: PageKey, pending: &Arc<Mutex<Pending>>) {
        let mut under_way = self.under_way.lock();
        // If all callers had gone, another one may have started a new read under the same key.
        if under_way.get(&key).is_some_and(|found| Arc::ptr_eq(&found.pending, pending)) {
            under_way.remove(&key);
        }
    }

    fn known_fault(&self) -> Option<CommandError> {
        let fault = self.fault.lock();
        fault.as_ref().filter(|(at, _)| at.elapsed() < FAULT_HOLDS).map(|(_, fault)| fault.clone())
    }

    /// Remembers whether the database responds. Other errors concern one conversation only.
    fn learn(&self, answer: &Answer) {
        match answer {
            Ok(_) => *self.fault.lock() = None,
            Err(fault) if fault.code == ErrorCode::Unavailable => {
                *self.fault.lock() = Some((Instant::now(), fault.clone()));
            }
            Err(_) => {}
        }
    }
}

/// Turns a page into events.
fn events(conversation: &ConversationName, page: Page) -> LogPage {
    page.messages
        .into_iter()
        .map(|message| (message.seq, Encoded::new(stored(conversation, message))))
        .collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own tasks")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// A log that responds when the test tells it to.
    #[derive(Default)]
    struct Log {
        asked: AtomicUsize,
        at_once: AtomicUsize,
        most_at_once: AtomicUsize,
        answers: Notify,
    }

    impl Log {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }

        async fn read(self: Arc<Self>, answer: Answer) -> Answer {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_at_once.fetch_max(now, Ordering::Relaxed);
            self.answers.notified().await;
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            answer
        }
    }

    fn reading(
        reads: &Arc<LogReads>,
        log: &Arc<Log>,
        wanted: (i64, u64),
        answer: Answer,
    ) -> impl Future<Output = Answer> + use<> {
        // Each conversation has its own reader.
        reading_of(&wanted.0.to_string(), reads, log, wanted, answer)
    }

    fn reading_of(
        user: &str,
        reads: &Arc<LogReads>,
        log: &Arc<Log>,
        (conversation, after): (i64, u64),
        answer: Answer,
    ) -> impl Future<Output = Answer> + use<> {
        let (log, wanted) = (log.clone(), (ConversationId::new(conversation), Seq::new(after)));
        reads.read(&Handle::current(), wanted, ("t".into(), user.into()), |_| log.read(answer))
    }

    fn page() -> Answer {
        Ok(Arc::from([]))
    }

    /// Lets every task run until it waits. The test has one thread.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn all_who_want_the_same_share_one_read_and_who_comes_later_gets_a_new_one() {
        let (reads, log) = (LogReads::new(8), Arc::new(Log::default()));
        let all = tokio::spawn(join_all((0..1_000).map(|_| reading(&reads, &log, (1, 7), page()))));
        let other = tokio::spawn(reading(&reads, &log, (1, 8), page()));
        settle().await;
        assert_eq!(log.asked(), 2);
        log.answers.notify_waiters();
        let all = all.await.expect("ends");
        other.await.expect("ends").expect("a page");
        let first = all[0].as_ref().expect("a page");
        assert!(all.iter().flatten().all(|page| Arc::ptr_eq(page, first)) && all.iter().all(Result::is_ok));
        assert!(reads.under_way.lock().is_empty());
        let later = tokio::spawn(reading(&reads, &log, (1, 7), page()));
        settle().await;
        log.answers.notify_waiters();
        later.await.expect("ends").expect("a page");
        assert_eq!(log.asked(), 3);
    }

    #[tokio::test]
    async fn few_are_under_way_at_once_however_many_are_wanted() {
        let (reads, log) = (LogReads::new(3), Arc::new(Log::default()));
        let all = tokio::spawn(join_all((0..100).map(|room| reading(&reads, &log, (room, 0), page()))));
        while !all.is_finished() {
            settle().await;
            log.answers.notify_waiters();
        }
        assert_eq!((log.asked(), log.most_at_once.load(Ordering::Relaxed)), (100, 3));
    }

    #[tokio::test]
    async fn a_user_with_many_reads_does_not_keep_others_waiting_even_for_the_same() {
        let (reads, log) = (LogReads::new(4), Arc::new(Log::default()));
        let loud = (0..900).map(|room| reading_of("loud", &reads, &log, (room, 0), page()));
        let loud = tokio::spawn(join_all(loud));
        settle().await;
        assert_eq!(log.asked(), 1, "a quarter of four");
        let other = tokio::spawn(reading_of("ann", &reads, &log, (1_000, 0), page()));
        let same = tokio::spawn(reading_of("bob", &reads, &log, (899, 0), page()));
        settle().await;
        assert_eq!(log.asked(), 3);
        log.answers.notify_waiters();
        other.await.expect("ends").expect("a page");
        same.await.expect("ends").expect("a page");
        while !loud.is_finished() {
            settle().await;
            log.answers.notify_waiters();
        }
        assert_eq!(log.asked(), 901, "what two want is read once");
        settle().await;
        assert!(reads.under_way.lock().is_empty());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_read() {
        let (reads, log) = (LogReads::new(1), Arc::new(Log::default()));
        let first = tokio::spawn(reading(&reads, &log, (1, 0), page()));
        drop(reading(&reads, &log, (2, 0), page()));
        settle().await;
        log.answers.notify_waiters();
        first.await.expect("ends").expect("a page");
        settle().await;
        assert_eq!(log.asked(), 1);
        assert!(reads.under_way.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_database_is_away_those_who_wait_are_told_and_then_it_is_asked_again() {
        let (reads, log) = (LogReads::new(1), Arc::new(Log::default()));
        let away = || Err(CommandError::unavailable("away"));
        let all = tokio::spawn(join_all((0..100).map(|room| reading(&reads, &log, (room, 0), away()))));
        settle().await;
        log.answers.notify_waiters();
        let all = all.await.expect("ends");
        assert!(all.iter().all(Result::is_err));
        assert_eq!(log.asked(), 1, "one asked for all");
        tokio::time::advance(FAULT_HOLDS).await;
        let again = tokio::spawn(reading(&reads, &log, (1, 0), page()));
        settle().await;
        log.answers.notify_waiters();
        again.await.expect("ends").expect("a page");
    }

    #[tokio::test]
    async fn what_is_wrong_with_one_conversation_is_not_wrong_with_others() {
        let (reads, log) = (LogReads::new(1), Arc::new(Log::default()));
        let broken = || Err(CommandError::new(ErrorCode::Internal, "broken"));
        let first = tokio::spawn(reading(&reads, &log, (1, 0), broken()));
        let second = tokio::spawn(reading(&reads, &log, (2, 0), page()));
        settle().await;
        log.answers.notify_waiters();
        settle().await;
        log.answers.notify_waiters();
        first.await.expect("ends").expect_err("a fault");
        second.await.expect("ends").expect("a page");
    }
}
