//! A command that keeps the later ones of its connection waiting.

use std::pin::Pin;
use std::task::{Context, Poll};

use starling_hub::{Answer, CommandError, PreparedSubscribe, TopicAttachment};
use starling_wire::protocol::Connected;
use tokio::time::Instant;

use crate::metrics::METRICS;

/// A command that keeps the later ones of its connection waiting.
pub(super) struct Running {
    id: u64,
    work: Work,
}

enum Work {
    /// The hub's part of a command.
    Command { began: Instant, future: Pin<Box<dyn Future<Output = Answer> + Send>> },
    /// `subscribe`, whose topic's history is being read.
    Subscribe(Pin<Box<dyn Future<Output = TopicSubscribed>>>),
    /// `connect`, for whose topics the histories are being read.
    Connect(Pin<Box<dyn Future<Output = Resumption>>>),
}

/// What a running command came to.
pub(super) enum Outcome {
    /// The hub's answer.
    Answer(Answer),
    /// The topic's history.
    Subscribed(TopicSubscribed),
    /// The session that was resumed.
    Resumed(Resumption),
}

/// A subscription, and its topic's history.
pub(super) type TopicSubscribed = (PreparedSubscribe, Result<TopicAttachment, CommandError>);

/// A session that was resumed: the answer so far, and its topics.
pub(super) struct Resumption {
    pub connected: Box<Connected>,
    pub topics: Vec<TopicSubscribed>,
}

impl Running {
    /// A command that the hub answers when `future` is done.
    pub fn command(id: u64, began: Instant, future: Pin<Box<dyn Future<Output = Answer> + Send>>) -> Running {
        Running { id, work: Work::Command { began, future } }
    }

    /// A `subscribe` whose socket is attached. At most `bytes_max` are replayed.
    pub fn subscribe(id: u64, prepared: PreparedSubscribe, bytes_max: usize) -> Running {
        let future = Box::pin(async move {
            let history = prepared.history(bytes_max).await;
            (prepared, history)
        });
        Running { id, work: Work::Subscribe(future) }
    }

    /// A `connect` whose session is attached, and its socket to each of the topics. At most `bytes_max` are replayed, over all topics.
    pub fn connect(
        id: u64,
        connected: Box<Connected>,
        topics: Vec<PreparedSubscribe>,
        mut bytes_max: usize,
    ) -> Running {
        let future = Box::pin(async move {
            let mut subscriptions = Vec::with_capacity(topics.len());
            for topic in topics {
                let history = topic.history(bytes_max).await;
                bytes_max -= history.as_ref().map_or(0, |history| history.bytes).min(bytes_max);
                subscriptions.push((topic, history));
            }
            Resumption { connected, topics: subscriptions }
        });
        Running { id, work: Work::Connect(future) }
    }

    /// Polls the command. Returns its id and its result.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(u64, Outcome)> {
        let done = match &mut self.work {
            Work::Command { began, future } => future.as_mut().poll(cx).map(|answer| {
                METRICS.command_seconds.record(began.elapsed());
                Outcome::Answer(answer)
            }),
            Work::Subscribe(future) => future.as_mut().poll(cx).map(Outcome::Subscribed),
            Work::Connect(future) => future.as_mut().poll(cx).map(Outcome::Resumed),
        };
        done.map(|done| (self.id, done))
    }
}
