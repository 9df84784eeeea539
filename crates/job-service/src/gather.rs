//! Calls of many callers that go to the database together: while a call is under way, the next ones gather, and share one transaction.
//!
//! A caller that is alone waits for nobody. No timer is involved: the busier the database, the larger the batches.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use starling_jobs::{Ending, Enqueued, Error, JobState, JobStore, NewJob, Outcome};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The most items of a call.
const ITEMS_MAX: usize = 100;
/// The bytes from which a call takes no further item.
const BYTES_MAX: usize = 1 << 20;

/// Jobs to be added.
pub(crate) type Additions = Gather<NewJob, Enqueued>;
/// Attempts to be ended.
pub(crate) type Endings = Gather<Ending, Option<JobState>>;

/// The answer to an item.
pub(crate) type Answer<R> = Result<R, Error>;
/// Items, each with its caller.
pub(crate) type Batch<T, R> = Vec<(T, oneshot::Sender<Answer<R>>)>;
type Call<T, R> = dyn Fn(Arc<[T]>) -> BoxFuture<'static, Answer<Vec<R>>> + Send + Sync;

/// What many callers ask of one function, which takes many items at once.
pub(crate) struct Gather<T, R> {
    /// One line: with more calls under way batches are smaller, and cost the database more.
    lines: Arc<Lines<(), T, R>>,
    call: Arc<Call<T, R>>,
    runtime: Handle,
}

/// Items that wait for a call, in a line for each key. The calls of one line come one after the other; no line waits for another.
pub(crate) struct Lines<K, T, R> {
    /// The size of an item.
    bytes: fn(&T) -> usize,
    /// The lines with a call under way. Each item has a caller with an open request, so their number is limited by that of connections.
    waiting: Mutex<HashMap<K, Waiting<T, R>>>,
}

type Waiting<T, R> = VecDeque<(T, oneshot::Sender<Answer<R>>)>;

/// Adds jobs to this store.
pub(crate) fn additions(store: &Arc<dyn JobStore>, runtime: &Handle) -> Additions {
    let store = store.clone();
    let call = move |jobs: Arc<[NewJob]>| -> BoxFuture<'static, _> {
        let store = store.clone();
        Box::pin(async move { store.enqueue(&jobs).await })
    };
    Gather::new(call, |job| job.payload.len(), runtime)
}

/// Ends attempts in this store.
pub(crate) fn endings(store: &Arc<dyn JobStore>, runtime: &Handle) -> Endings {
    let store = store.clone();
    let call = move |endings: Arc<[Ending]>| -> BoxFuture<'static, _> {
        let store = store.clone();
        Box::pin(async move { store.finish(&endings).await })
    };
    Gather::new(call, |ending| bytes_of(&ending.outcome), runtime)
}

impl<T, R> Gather<T, R>
where
    T: Clone + Send + Sync + 'static,
    R: Send + 'static,
{
    /// Gathers calls of this function, which answers each item in its place.
    fn new(
        call: impl Fn(Arc<[T]>) -> BoxFuture<'static, Answer<Vec<R>>> + Send + Sync + 'static,
        bytes: fn(&T) -> usize,
        runtime: &Handle,
    ) -> Self {
        Self { lines: Arc::new(Lines::new(bytes)), call: Arc::new(call), runtime: runtime.clone() }
    }

    /// Passes an item on, and returns its answer. It is passed on even if the caller has gone.
    ///
    /// # Errors
    /// Those of the function.
    pub async fn ask(&self, item: T) -> Answer<R> {
        let (receiver, turn) = self.lines.join((), item);
        if let Some(turn) = turn {
            self.runtime.spawn(run(turn, self.call.clone()));
        }
        receiver.await.unwrap_or_else(|_| Err(stopping()))
    }
}

/// What a caller is told whose item was not passed on.
pub(crate) fn stopping() -> Error {
    Error::Unavailable("the node is stopping".into())
}

impl<K: Clone + Eq + Hash, T, R> Lines<K, T, R> {
    /// Lines without items. `bytes`: the size of an item.
    pub fn new(bytes: fn(&T) -> usize) -> Self {
        Self { bytes, waiting: Mutex::default() }
    }

    /// Adds an item to the line of a key. Returns where its answer comes, and a turn to be taken if the line has no call under way.
    pub fn join(self: &Arc<Self>, key: K, item: T) -> (oneshot::Receiver<Answer<R>>, Option<Turn<K, T, R>>) {
        let (sender, receiver) = oneshot::channel();
        let turn = match self.waiting.lock().entry(key) {
            Entry::Occupied(mut line) => {
                line.get_mut().push_back((item, sender));
                None
            }
            Entry::Vacant(line) => {
                let turn = Turn { lines: self.clone(), key: line.key().clone(), ended: false };
                line.insert(VecDeque::from([(item, sender)]));
                Some(turn)
            }
        };
        (receiver, turn)
    }
}

/// The calls of a line, one after the other.
pub(crate) struct Turn<K: Eq + Hash, T, R> {
    lines: Arc<Lines<K, T, R>>,
    key: K,
    ended: bool,
}

impl<K: Eq + Hash, T, R> Turn<K, T, R> {
    /// Takes the items of the next call. `None` ends the turn: whoever comes now begins another one.
    pub fn next_batch(&mut self) -> Option<Batch<T, R>> {
        let mut lines = self.lines.waiting.lock();
        let line = lines.get_mut(&self.key)?;
        let (mut items, mut bytes) = (0, 0);
        while let Some((item, _)) = line.get(items).filter(|_| items < ITEMS_MAX && bytes < BYTES_MAX) {
            bytes += (self.lines.bytes)(item);
            items += 1;
        }
        if items == 0 {
            lines.remove(&self.key);
            self.ended = true;
            return None;
        }
        Some(line.drain(..items).collect())
    }
}

impl<K: Eq + Hash, T, R> Drop for Turn<K, T, R> {
    fn drop(&mut self) {
        if !self.ended {
            // The call has panicked, or the node is stopping. Those who wait are told, since their senders are dropped.
            self.lines.waiting.lock().remove(&self.key);
        }
    }
}

/// Calls a function with what waits, until nothing does.
async fn run<T: Clone, R>(mut turn: Turn<(), T, R>, call: Arc<Call<T, R>>) {
    while let Some(batch) = turn.next_batch() {
        let (items, callers): (Vec<T>, Vec<_>) = batch.into_iter().unzip();
        for (caller, answer) in callers.into_iter().zip(answers(&*call, items).await) {
            // A caller that has gone wants no answer.
            let _ = caller.send(answer);
        }
    }
}

async fn answers<T: Clone, R>(call: &Call<T, R>, items: Vec<T>) -> Vec<Answer<R>> {
    let items: Arc<[T]> = items.into();
    let error = match call(items.clone()).await {
        Ok(answers) if answers.len() == items.len() => return answers.into_iter().map(Ok).collect(),
        Ok(answers) => Error::Refused(format!("{} answers to {} items", answers.len(), items.len())),
        Err(error) => error,
    };
    if let Error::Unavailable(why) = &error {
        return items.iter().map(|_| Err(Error::Unavailable(why.clone()))).collect();
    }
    if items.len() == 1 {
        return vec![Err(error)];
    }
    // What is wrong with one item is no concern of the others.
    let mut answers = Vec::with_capacity(items.len());
    for item in items.iter() {
        let answered = call(Arc::from([item.clone()])).await;
        let missing = || Error::Refused("an item got no answer".into());
        answers.push(answered.and_then(|answers| answers.into_iter().next().ok_or_else(missing)));
    }
    answers
}

fn bytes_of(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Done(result) => result.as_ref().map_or(0, String::len),
        Outcome::Failed { error, .. } => error.len(),
        Outcome::HandedBack | Outcome::Cancelled => 0,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    type Numbers = Gather<usize, usize>;

    /// Doubles numbers. Says how many items each call has, and lets it go on when there is a permit.
    fn doubling(gate: &Arc<Semaphore>, refused: usize) -> (Arc<Numbers>, mpsc::Receiver<usize>) {
        let (calls, seen) = mpsc::channel(100);
        let gate = gate.clone();
        let call = move |items: Arc<[usize]>| -> BoxFuture<'static, _> {
            let (gate, calls) = (gate.clone(), calls.clone());
            Box::pin(async move {
                calls.send(items.len()).await.unwrap();
                gate.acquire().await.unwrap().forget();
                assert!(!items.contains(&666), "a panic on purpose");
                if items.contains(&refused) {
                    return Err(Error::Refused("this number".into()));
                }
                Ok(items.iter().map(|number| number * 2).collect())
            })
        };
        let gather = Gather::new(call, |_| 1, &Handle::current());
        (Arc::new(gather), seen)
    }

    fn ask(gather: &Arc<Numbers>, number: usize) -> tokio::task::JoinHandle<Answer<usize>> {
        let gather = gather.clone();
        tokio::spawn(async move { gather.ask(number).await })
    }

    #[tokio::test]
    async fn items_gather_while_calls_are_under_way_and_each_gets_its_own_answer() {
        let gate = Arc::new(Semaphore::new(0));
        let (gather, mut calls) = doubling(&gate, usize::MAX);
        let mut callers = vec![ask(&gather, 0)];
        assert_eq!(calls.recv().await, Some(1), "the first one waits for nobody");
        callers.extend((1..201).map(|number| ask(&gather, number)));
        while gather.lines.waiting.lock().get(&()).is_none_or(|line| line.len() < 200) {
            tokio::task::yield_now().await;
        }
        gate.add_permits(100);
        assert_eq!(calls.recv().await, Some(ITEMS_MAX));
        assert_eq!(calls.recv().await, Some(ITEMS_MAX));
        for (number, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.await.unwrap().unwrap(), number * 2);
        }
        while !gather.lines.waiting.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn no_line_waits_for_another() {
        let lines: Arc<Lines<&str, usize, ()>> = Arc::new(Lines::new(|_| 1));
        let (_, busy) = lines.join("busy", 1);
        let mut busy = busy.expect("the first one begins");
        assert_eq!(busy.next_batch().map(|batch| batch.len()), Some(1));
        let (_, again) = lines.join("busy", 2);
        assert!(again.is_none(), "a call of this line is under way");
        let (_, other) = lines.join("other", 3);
        let mut other = other.expect("another line begins at once");
        assert_eq!(other.next_batch().map(|batch| batch.len()), Some(1));
        assert!(other.next_batch().is_none());
        assert_eq!(busy.next_batch().map(|batch| batch.len()), Some(1));
        assert!(busy.next_batch().is_none());
        assert!(lines.waiting.lock().is_empty(), "lines without calls are forgotten");
    }

    #[tokio::test]
    async fn what_is_refused_of_a_batch_is_no_concern_of_the_others() {
        let gate = Arc::new(Semaphore::new(100));
        let (gather, _calls) = doubling(&gate, 3);
        let answers = join_all((0..6).map(|number| gather.ask(number))).await;
        let refused: Vec<bool> = answers.iter().map(Result::is_err).collect();
        assert_eq!(refused, [false, false, false, true, false, false]);
    }

    #[tokio::test]
    async fn a_call_that_panics_does_not_keep_others_from_theirs() {
        let gate = Arc::new(Semaphore::new(100));
        let (gather, _calls) = doubling(&gate, usize::MAX);
        for _ in 0..2 {
            assert!(matches!(gather.ask(666).await, Err(Error::Unavailable(_))));
        }
        assert_eq!(gather.ask(4).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn an_item_whose_caller_has_gone_is_passed_on() {
        let gate = Arc::new(Semaphore::new(0));
        let (gather, mut calls) = doubling(&gate, usize::MAX);
        let caller = ask(&gather, 1);
        assert_eq!(calls.recv().await, Some(1));
        caller.abort();
        assert!(caller.await.is_err());
        gate.add_permits(2);
        assert_eq!(gather.ask(2).await.unwrap(), 4);
        assert_eq!(gate.available_permits(), 0, "both calls were made to their ends");
    }
}
