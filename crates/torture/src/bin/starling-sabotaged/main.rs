//! Starling with a defect put in on purpose, to check that the torture finds it. The variable `STARLING_SABOTAGE` names the defect. Without
//! it there is none, but a node with the role `worker` also does jobs that only tests add.

mod bridges;
mod log;
mod sabotage;
mod shards;
mod test_jobs;

use std::process::ExitCode;
use std::sync::Arc;

use sabotage::Sabotage;
use starling::Layers;

fn main() -> ExitCode {
    let name = std::env::var("STARLING_SABOTAGE").unwrap_or_default();
    if name.is_empty() {
        let handlers = Box::new(test_jobs::add);
        return starling::main_with(&Layers { handlers, ..Layers::default() });
    }
    match Sabotage::named(&name) {
        Some(sabotage) => starling::main_with(&layers(sabotage)),
        None => {
            eprintln!("STARLING_SABOTAGE: there is no defect named {name}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the layers with a defect.
fn layers(sabotage: Sabotage) -> Layers {
    match sabotage {
        Sabotage::EarlyOk | Sabotage::RetryTwice | Sabotage::Panic | Sabotage::TellLate => Layers {
            conversations: Box::new(move |log| Arc::new(log::FaultyLog::new(log, sabotage))),
            ..Layers::default()
        },
        Sabotage::EarlyAck => Layers {
            rabbitmq_jobs: Box::new(|jobs| Arc::new(bridges::EarlySink::new(jobs))),
            ..Layers::default()
        },
        Sabotage::EarlyDone => Layers {
            handlers: Box::new(|handlers| handlers.map(|inner| Arc::new(bridges::EarlyHandler::new(inner)))),
            ..Layers::default()
        },
        _ => Layers {
            shards: Box::new(move |shards| Arc::new(shards::FaultyShards::new(shards, sabotage))),
            ..Layers::default()
        },
    }
}
