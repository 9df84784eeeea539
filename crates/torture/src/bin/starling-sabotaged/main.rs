//! Starling with a defect put in on purpose, to check that the torture finds it. The variable `STARLING_SABOTAGE` names the defect. Without
//! it there is none, but a node with the role `worker` also does jobs that only tests add.

mod bridges;
mod log;
mod shards;
mod test_jobs;

use std::process::ExitCode;
use std::sync::Arc;

use starling::Layers;

/// The defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    /// Some messages are not shown to anybody.
    Lose,
    /// Some messages are shown twice.
    Duplicate,
    /// Some messages are shown after the one that follows them.
    Swap,
    /// Some `send`s are answered with `ok` first and committed a little later.
    EarlyOk,
    /// A `send` repeated with its key becomes a second message. Some answers of the log are lost, so that there are such repetitions.
    RetryTwice,
    /// Some messages are shown in another conversation, of any tenant.
    Leak,
    /// The first message ends the node with a panic, whose text quotes the message.
    Panic,
    /// Messages are noted for webhooks a little after their commit, outside of the transaction.
    TellLate,
    /// A connection stays open when a later one has attached its session.
    KeepOlder,
    /// A message of RabbitMQ is acknowledged before its job is committed.
    EarlyAck,
    /// A job that goes to RabbitMQ is done before RabbitMQ has confirmed its message.
    EarlyDone,
}

impl Sabotage {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "lose" => Self::Lose,
            "double" => Self::Duplicate,
            "swap" => Self::Swap,
            "early-ok" => Self::EarlyOk,
            "retry-twice" => Self::RetryTwice,
            "leak" => Self::Leak,
            "panic" => Self::Panic,
            "tell-late" => Self::TellLate,
            "keep-older" => Self::KeepOlder,
            "early-ack" => Self::EarlyAck,
            "early-done" => Self::EarlyDone,
            _ => return None,
        })
    }

    fn layers(self) -> Layers {
        match self {
            Self::EarlyOk | Self::RetryTwice | Self::Panic | Self::TellLate => Layers {
                conversations: Box::new(move |log| Arc::new(log::FaultyLog::new(log, self))),
                ..Layers::default()
            },
            Self::EarlyAck => Layers {
                rabbitmq_jobs: Box::new(|jobs| Arc::new(bridges::EarlySink::new(jobs))),
                ..Layers::default()
            },
            Self::EarlyDone => Layers {
                handlers: Box::new(|handlers| {
                    handlers.map(|inner| Arc::new(bridges::EarlyHandler::new(inner)))
                }),
                ..Layers::default()
            },
            _ => Layers {
                shards: Box::new(move |shards| Arc::new(shards::FaultyShards::new(shards, self))),
                ..Layers::default()
            },
        }
    }
}

fn main() -> ExitCode {
    let name = std::env::var("STARLING_SABOTAGE").unwrap_or_default();
    if name.is_empty() {
        let handlers = Box::new(test_jobs::add);
        return starling::main_with(&Layers { handlers, ..Layers::default() });
    }
    match Sabotage::named(&name) {
        Some(sabotage) => starling::main_with(&sabotage.layers()),
        None => {
            eprintln!("STARLING_SABOTAGE: there is no defect named {name}");
            ExitCode::FAILURE
        }
    }
}
