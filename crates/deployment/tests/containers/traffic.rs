//! Clients that talk through a load balancer, and requests beside them, while something is done to the nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use starling_deployment::talk::Talk;
use starling_testkit::http;
use tokio::task::JoinHandle;

/// How many clients talk.
const CLIENTS: usize = 12;
/// Between two requests.
const REQUESTS_EVERY: Duration = Duration::from_millis(100);

/// What talks.
pub struct Traffic {
    talk: Talk,
    over: Arc<AtomicBool>,
    requests: JoinHandle<Requests>,
}

/// How requests fared.
#[derive(Default)]
struct Requests {
    answered: u32,
    failed: Vec<String>,
}

impl Traffic {
    /// Starts it through the load balancer at this address (`HOST:PORT`). Returns when all clients are connected.
    pub async fn start(address: &str, secret: &str) -> Result<Self> {
        let talk = Talk::start(&format!("ws://{address}/v1/ws"), secret, CLIENTS, 0).await?;
        let over = Arc::new(AtomicBool::new(false));
        let requests = tokio::spawn(ask(format!("http://{address}/ready"), Arc::clone(&over)));
        Ok(Self { talk, over, requests })
    }

    /// Fails if a client has given up.
    pub fn check(&mut self) -> Result<()> {
        self.talk.check()
    }

    /// Ends it. Fails unless each message came to each client once and in order, and each request got its response.
    pub async fn finish(self, what: &str) -> Result<()> {
        self.over.store(true, Ordering::SeqCst);
        let requests = self.requests.await?;
        let outcome = self.talk.finish().await?;
        let interruptions = outcome.histories.iter().flat_map(|history| &history.interruptions);
        let longest = interruptions.map(|interruption| interruption.took).max().unwrap_or_default();
        let moves: usize = outcome.histories.iter().map(|history| history.moves.len()).sum();
        println!(
            "{what}: {} messages; {}; {moves} moves, longest interruption {longest:?}; {} of {} requests failed",
            outcome.logged,
            outcome.verdict,
            requests.failed.len(),
            requests.failed.len() + requests.answered as usize,
        );
        ensure!(outcome.logged > 0 && moves > 0, "nobody talked, or nobody moved");
        ensure!(
            outcome.verdict.is_clean() && outcome.log_faults == 0 && outcome.repeated == 0,
            "{}",
            outcome.verdict
        );
        ensure!(requests.failed.is_empty(), "requests failed: {:?}", requests.failed);
        Ok(())
    }
}

/// Asks whether a node is ready, again and again.
async fn ask(url: String, over: Arc<AtomicBool>) -> Requests {
    let mut requests = Requests::default();
    while !over.load(Ordering::SeqCst) {
        match http::get(&url).await {
            Ok(response) if response.status == 200 => requests.answered += 1,
            Ok(response) => requests.failed.push(format!("{} {}", response.status, response.text())),
            Err(error) => requests.failed.push(format!("{error:#}")),
        }
        tokio::time::sleep(REQUESTS_EVERY).await;
    }
    requests
}
