//! Lanes: queues whose work is done in batches.
//!
//! While one batch is under way the next one gathers; there are no timers. When little is asked a batch is one and nothing
//! waits; when much is asked the batches grow by themselves.

use std::future::Future;

use tokio::sync::mpsc;

/// The end of a lane that takes work.
pub struct Lane<T> {
    sender: mpsc::Sender<T>,
}

impl<T> Clone for Lane<T> {
    fn clone(&self) -> Lane<T> {
        Lane { sender: self.sender.clone() }
    }
}

impl<T: Send + 'static> Lane<T> {
    /// A lane that holds `queue_max` items, and the end that [`run`] works on.
    pub fn new(queue_max: usize) -> (Lane<T>, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(queue_max);
        (Lane { sender }, receiver)
    }

    /// Puts an item on the lane, at once; gives it back if the lane is full or closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.sender.try_send(item).map_err(|error| match error {
            mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item) => item,
        })
    }

    /// How many items wait.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

/// Works on a lane until all its senders are gone.
pub async fn run<T, F>(mut receiver: mpsc::Receiver<T>, batch_max: usize, mut work: impl FnMut(Vec<T>) -> F)
where
    F: Future<Output = ()>,
{
    loop {
        let mut batch = Vec::new();
        if receiver.recv_many(&mut batch, batch_max).await == 0 {
            return;
        }
        work(batch).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_comes_while_a_batch_is_under_way_is_the_next_batch() {
        let (lane, receiver) = Lane::new(100);
        let (batches, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let started = Arc::new(Semaphore::new(0));
        let task = tokio::spawn({
            let (batches, gate, started) = (batches.clone(), gate.clone(), started.clone());
            run(receiver, 50, move |batch: Vec<u32>| {
                let (batches, gate, started) = (batches.clone(), gate.clone(), started.clone());
                async move {
                    batches.lock().push(batch.len());
                    started.add_permits(1);
                    gate.acquire().await.expect("open").forget();
                }
            })
        });
        lane.push(0).expect("room");
        started.acquire().await.expect("open").forget();
        for n in 1..=60 {
            lane.push(n).expect("room");
        }
        gate.add_permits(3);
        drop(lane);
        task.await.expect("ends");
        assert_eq!(*batches.lock(), [1, 50, 10]);
    }

    #[tokio::test]
    async fn a_full_lane_gives_the_item_back() {
        let (lane, _receiver) = Lane::new(1);
        assert_eq!(lane.push(1), Ok(()));
        assert_eq!(lane.push(2), Err(2));
    }
}
