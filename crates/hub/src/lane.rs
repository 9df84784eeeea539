//! Lanes: queues whose work is done in batches.
//!
//! While one batch is under way the next one gathers. Under low load a batch has one item and nothing waits. Under high load batches grow by
//! themselves. A lane with a [`Pace`] also waits a little for more items at medium load; the others have no timers. The queue and each batch
//! are bounded in items and in bytes.

mod pace;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

pub use pace::Pace;
use pace::Rhythm;

use crate::essential;

/// An item that can wait on a lane.
pub trait Weigh {
    /// Returns roughly the memory that the item takes while it waits, bytes.
    fn bytes(&self) -> usize;
}

/// The limits of a lane or a batch.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Most items.
    pub items: usize,
    /// Most bytes. A batch has at least one item, however large.
    pub bytes: usize,
}

/// The end of a lane that takes items.
pub struct Lane<T> {
    sender: mpsc::Sender<T>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The end of a lane from which [`run`] takes batches.
pub struct LaneEnd<T> {
    receiver: mpsc::Receiver<T>,
    /// Bytes of the items that wait or are being worked on.
    bytes: Arc<AtomicUsize>,
    pace: Option<Pace>,
}

impl<T> LaneEnd<T> {
    /// Lets batches wait a little at medium load.
    #[must_use]
    pub fn paced(self, pace: Pace) -> LaneEnd<T> {
        LaneEnd { pace: Some(pace), ..self }
    }
}

impl<T: Weigh + Send + 'static> Lane<T> {
    /// Creates a lane with this limit, and the end for [`run`].
    pub fn new(bound: Bound) -> (Lane<T>, LaneEnd<T>) {
        let (sender, receiver) = mpsc::channel(bound.items);
        let bytes = Arc::new(AtomicUsize::new(0));
        let end = LaneEnd { receiver, bytes: bytes.clone(), pace: None };
        (Lane { sender, bytes, bytes_max: bound.bytes }, end)
    }

    /// Puts an item on the lane without waiting. Returns the item if the lane is full or closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        let bytes = item.bytes();
        // Count the item before it is sent, since it may be taken at once.
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(item);
        }
        self.sender.try_send(item).map_err(|error| {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item) => item,
            }
        })
    }

    /// Whether no item waits or is being worked on.
    pub fn is_idle(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }

    /// Returns the number of items that wait.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

/// Works on a lane until all of its senders are gone.
pub async fn run<T, F>(mut end: LaneEnd<T>, batch: Bound, mut work: impl FnMut(Vec<T>) -> F)
where
    T: Weigh,
    F: Future<Output = ()>,
{
    let pace = end.pace;
    let mut rhythm = Rhythm::default();
    loop {
        let mut gathered = Vec::new();
        if end.receiver.recv_many(&mut gathered, batch.items).await == 0 {
            return;
        }
        if let Some(next) = pace.and_then(|pace| rhythm.next(pace, gathered.len())) {
            sleep_until(next).await;
            while gathered.len() < batch.items {
                let Ok(item) = end.receiver.try_recv() else { break };
                gathered.push(item);
            }
        }
        let began = Instant::now();
        while !gathered.is_empty() {
            let (count, bytes) = fitting(&gathered, batch.bytes);
            let rest = gathered.split_off(count);
            work(std::mem::replace(&mut gathered, rest)).await;
            // Subtract only now, since the items take memory until they are done.
            end.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        if let Some(pace) = pace {
            rhythm.note(began, end.receiver.len(), pace);
        }
    }
}

/// Works on a lane in an essential task, for a part of the hub.
pub fn spawn<T, P, F>(
    runtime: &Handle,
    task: &'static str,
    end: LaneEnd<T>,
    batch: Bound,
    part: &Arc<P>,
    work: impl Fn(Arc<P>, Vec<T>) -> F + Send + 'static,
) where
    T: Weigh + Send + 'static,
    P: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let part = part.clone();
    essential::spawn(runtime, task, run(end, batch, move |items| work(part.clone(), items)));
}

/// Returns how many of the first items make one batch, and their bytes.
fn fitting<T: Weigh>(items: &[T], bytes_max: usize) -> (usize, usize) {
    let mut sum = 0;
    for (count, item) in items.iter().enumerate() {
        let bytes = item.bytes();
        if count > 0 && sum + bytes > bytes_max {
            return (count, sum);
        }
        sum += bytes;
    }
    (items.len(), sum)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own tasks")]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;

    /// An item with a given weight.
    #[derive(Debug, PartialEq)]
    struct Load(usize);

    impl Weigh for Load {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    /// Records the batches of a lane as their items' weights. Each batch waits for a permit.
    struct Watched {
        batches: Arc<Mutex<Vec<Vec<usize>>>>,
        started: Arc<Semaphore>,
        gate: Arc<Semaphore>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Watched {
        fn begin(end: LaneEnd<Load>, batch: Bound) -> Watched {
            let batches: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
            let (started, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
            let task = tokio::spawn({
                let (batches, started, gate) = (batches.clone(), started.clone(), gate.clone());
                run(end, batch, move |batch: Vec<Load>| {
                    let (batches, started, gate) = (batches.clone(), started.clone(), gate.clone());
                    async move {
                        batches.lock().push(batch.iter().map(|load| load.0).collect());
                        started.add_permits(1);
                        gate.acquire().await.expect("open").forget();
                    }
                })
            });
            Watched { batches, started, gate, task }
        }

        async fn has_started(&self) {
            self.started.acquire().await.expect("open").forget();
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_batch_is_under_way_is_the_next_batch() {
        let (lane, end) = Lane::new(Bound { items: 100, bytes: 1_000 });
        let watched = Watched::begin(end, Bound { items: 50, bytes: 1_000 });
        lane.push(Load(1)).expect("room");
        watched.has_started().await;
        for _ in 1..=60 {
            lane.push(Load(1)).expect("room");
        }
        watched.gate.add_permits(3);
        drop(lane);
        watched.task.await.expect("ends");
        assert_eq!(watched.batches.lock().iter().map(Vec::len).collect::<Vec<_>>(), [1, 50, 10]);
    }

    #[tokio::test]
    async fn a_batch_holds_so_many_bytes_and_one_item_at_least() {
        let (lane, end) = Lane::new(Bound { items: 100, bytes: 1_000 });
        for bytes in [40, 50, 20, 150, 30, 70, 1] {
            lane.push(Load(bytes)).expect("room");
        }
        drop(lane);
        let watched = Watched::begin(end, Bound { items: 50, bytes: 100 });
        watched.gate.add_permits(10);
        watched.task.await.expect("ends");
        assert_eq!(*watched.batches.lock(), [vec![40, 50], vec![20], vec![150], vec![30, 70], vec![1]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paced_lane_waits_for_more_only_while_more_keeps_coming() {
        let pace = Pace { interval: Duration::from_millis(2), full: 4 };
        let (lane, end) = Lane::new(Bound { items: 100, bytes: 1_000 });
        let watched = Watched::begin(end.paced(pace), Bound { items: 50, bytes: 1_000 });
        let started = Instant::now();
        // One after the other, each after the answer to the last one.
        for _ in 0..20 {
            lane.push(Load(1)).expect("room");
            watched.has_started().await;
            watched.gate.add_permits(1);
            tokio::task::yield_now().await;
        }
        assert_eq!(Instant::now(), started, "nothing waited");
        // Two come during each batch.
        for _ in 0..20 {
            lane.push(Load(1)).expect("room");
            watched.has_started().await;
            lane.push(Load(2)).expect("room");
            lane.push(Load(2)).expect("room");
            watched.gate.add_permits(1);
            watched.has_started().await;
            watched.gate.add_permits(1);
            tokio::task::yield_now().await;
        }
        assert!(Instant::now() > started + pace.interval, "no batch waited");
        let waited = Instant::now();
        lane.push(Load(3)).expect("room");
        tokio::task::yield_now().await;
        for _ in 0..3 {
            lane.push(Load(3)).expect("room");
        }
        watched.gate.add_permits(10);
        drop(lane);
        watched.task.await.expect("ends");
        assert_eq!(
            watched.batches.lock().last(),
            Some(&vec![3; 4]),
            "those that came while the first waited"
        );
        assert!(Instant::now() < waited + 2 * pace.interval);
    }

    #[tokio::test]
    async fn a_full_lane_gives_the_item_back() {
        let (lane, _end) = Lane::new(Bound { items: 1, bytes: 1_000 });
        assert_eq!(lane.push(Load(1)), Ok(()));
        assert_eq!(lane.push(Load(2)), Err(Load(2)));
        assert_eq!(lane.bytes.load(Ordering::Relaxed), 1, "what was given back does not wait");
    }

    #[tokio::test]
    async fn a_lane_holds_so_many_bytes_until_they_have_been_worked_on() {
        let (lane, end) = Lane::new(Bound { items: 100, bytes: 100 });
        let watched = Watched::begin(end, Bound { items: 50, bytes: 1_000 });
        lane.push(Load(60)).expect("room");
        watched.has_started().await;
        assert!(lane.depth() == 0 && !lane.is_idle(), "it is under way");
        assert_eq!(lane.push(Load(41)), Err(Load(41)), "the first is still held");
        lane.push(Load(40)).expect("room");
        watched.gate.add_permits(1);
        watched.has_started().await;
        lane.push(Load(60)).expect("the first is done");
        assert_eq!(lane.push(Load(1)), Err(Load(1)));
        watched.gate.add_permits(2);
        let bytes = lane.bytes.clone();
        drop(lane);
        watched.task.await.expect("ends");
        assert_eq!(bytes.load(Ordering::Relaxed), 0);
    }
}
