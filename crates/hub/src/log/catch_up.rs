//! Reads of the log for sockets that are behind.
//!
//! Thousands may fall behind in one moment: when an inbox runs over, or when all come back at once. Their reads must not take the
//! connections that sends need, so only a few are under way at a time, and users take turns; whoever wants what is being read already
//! gets that; and while the database does not answer, nobody is kept in a queue to be told so.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use starling_conversation_store::{ConversationId, ConversationStore, Page, Range};
use starling_model::{ConversationName, UserName};
use starling_wire::protocol::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::encoded::Encoded;
use crate::reads::{Reads, User, further_reads};
use crate::room::Room;
use crate::{CommandError, Map, Set};

use super::stored;

/// The most bytes of one page.
const PAGE_BYTES_MAX: usize = 128 * 1024;
/// The most messages of one page.
const PAGE: u32 = 100;
/// For how long after a read without an answer others are told the same without asking. Those who were told ask again at their own pace.
const FAULT_HOLDS: Duration = Duration::from_millis(250);

/// A page of a conversation's log: numbers and events, which are encoded once for all sockets that get them.
pub type LogPage = Arc<[(u64, Encoded)]>;

type Answer = Result<LogPage, CommandError>;
/// After which number of which conversation.
type Wanted = (ConversationId, u64);
type Told = oneshot::Receiver<Answer>;
/// A read, for whoever's turn it is made in.
type Read = Box<dyn FnOnce(User) -> BoxFuture<'static, Answer> + Send>;

/// Serves sockets that are behind from the log.
pub(crate) struct CatchUp {
    store: Arc<dyn ConversationStore>,
    /// The users whose turns the pages were made in pay for them.
    reads: Arc<Reads>,
    shared: Arc<LogReads>,
    /// Where reads are made that several sockets share.
    runtime: Handle,
}

impl CatchUp {
    /// So many reads at once.
    pub fn new(
        store: Arc<dyn ConversationStore>,
        reads: Arc<Reads>,
        at_once: usize,
        runtime: Handle,
    ) -> CatchUp {
        CatchUp { store, reads, shared: LogReads::new(at_once), runtime }
    }

    /// A page of a conversation's log after a number, from the primary. Sockets that want the same at the same time share it; with many
    /// that want different ones, it waits its turn, however long that takes. Charged to the user whose turn it was made in.
    pub fn page(
        &self,
        room: &Arc<Room>,
        reader: &UserName,
        after: u64,
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

/// Reads of the log that sockets share.
struct LogReads {
    turns: Arc<Reads>,
    /// What is being read or waits for a turn. No more than there are sockets, since each wants one thing at a time.
    under_way: Mutex<Map<Wanted, UnderWay>>,
    /// The last read that had no answer.
    fault: Mutex<Option<(Instant, CommandError)>>,
}

struct UnderWay {
    told: WeakShared<Told>,
    pending: Arc<Mutex<Pending>>,
}

/// A read that has not begun, or did (`read` is `None` then). It waits in the line of each user who wants it, and begins with the first
/// turn of one of them: who wants the same as somebody with a long line does not wait in that.
struct Pending {
    read: Option<(oneshot::Sender<Answer>, Read)>,
    readers: Set<User>,
}

impl LogReads {
    /// So many at once.
    pub fn new(at_once: usize) -> Arc<LogReads> {
        Arc::new(LogReads {
            turns: Reads::new(at_once, 0),
            under_way: Mutex::default(),
            fault: Mutex::default(),
        })
    }

    /// Reads what is wanted by `read`, on `runtime`, in a turn of the reader's or of another one who wants the same. It is dropped if
    /// that is being read already.
    pub fn read<F, R>(
        self: &Arc<Self>,
        runtime: &Handle,
        wanted: Wanted,
        reader: User,
        read: F,
    ) -> impl Future<Output = Answer> + use<F, R>
    where
        F: FnOnce(User) -> R + Send + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        let (shared, pending) = self.join(wanted).unwrap_or_else(|| {
            let (teller, told) = oneshot::channel();
            let shared = told.shared();
            let read: Read = Box::new(move |reader| read(reader).boxed());
            let pending = Pending { read: Some((teller, read)), readers: Set::default() };
            let pending = Arc::new(Mutex::new(pending));
            if let Some(told) = shared.downgrade() {
                self.under_way.lock().insert(wanted, UnderWay { told, pending: pending.clone() });
            }
            (shared, pending)
        });
        let is_in_line = {
            let mut pending = pending.lock();
            pending.read.is_none() || !pending.readers.insert(reader.clone())
        };
        if !is_in_line {
            runtime.spawn(self.clone().perform(wanted, reader, pending));
        }
        async move {
            let gone = |_| Err(CommandError::unavailable("the node is stopping"));
            shared.await.unwrap_or_else(gone)
        }
    }

    fn join(&self, wanted: Wanted) -> Option<(Shared<Told>, Arc<Mutex<Pending>>)> {
        let under_way = self.under_way.lock();
        let found = under_way.get(&wanted)?;
        Some((found.told.upgrade()?, found.pending.clone()))
    }

    async fn perform(self: Arc<Self>, wanted: Wanted, reader: User, pending: Arc<Mutex<Pending>>) {
        let Ok(_turn) = self.turns.turn_some_time(&reader).await else { return };
        // Another one's turn may have come first.
        let Some((teller, read)) = pending.lock().read.take() else { return };
        if teller.is_closed() {
            self.forget(wanted, &pending);
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
        self.forget(wanted, &pending);
        // All who wanted it may have gone.
        let _ = teller.send(answer);
    }

    /// Who comes from now on has it read anew: the log may have grown.
    fn forget(&self, wanted: Wanted, pending: &Arc<Mutex<Pending>>) {
        let mut under_way = self.under_way.lock();
        // If all had gone, somebody may have come since and be waiting for a read of his own.
        if under_way.get(&wanted).is_some_and(|found| Arc::ptr_eq(&found.pending, pending)) {
            under_way.remove(&wanted);
        }
    }

    fn known_fault(&self) -> Option<CommandError> {
        let fault = self.fault.lock();
        fault.as_ref().filter(|(at, _)| at.elapsed() < FAULT_HOLDS).map(|(_, fault)| fault.clone())
    }

    /// An absent database is absent for all; what is wrong with one conversation says nothing about others.
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

/// A page, as events.
fn events(conversation: &ConversationName, page: Page) -> LogPage {
    page.messages
        .into_iter()
        .map(|message| (message.seq, Encoded::new(stored(conversation, message))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// A log that answers when it is told to.
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
        wanted: Wanted,
        answer: Answer,
    ) -> impl Future<Output = Answer> + use<> {
        // A reader for each conversation.
        reading_of(&wanted.0.to_string(), reads, log, wanted, answer)
    }

    fn reading_of(
        user: &str,
        reads: &Arc<LogReads>,
        log: &Arc<Log>,
        wanted: Wanted,
        answer: Answer,
    ) -> impl Future<Output = Answer> + use<> {
        let log = log.clone();
        reads.read(&Handle::current(), wanted, ("t".into(), user.into()), |_| log.read(answer))
    }

    fn page() -> Answer {
        Ok(Arc::from([]))
    }

    /// Lets every task come to where it waits: this is one thread.
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
