//! The running clients of one case: how they are started and stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Encoding, Failure, Log, RecordingClient};
use tokio::task::JoinSet;

use super::client::{self, History};
use super::progress::Progress;
use super::workload::{Busy, CONVERSATIONS, Member, RETRY_LIMIT, TENANTS, Workload};

/// The running clients.
pub struct Clients {
    /// Their shared state.
    pub workload: Arc<Workload>,
    members: JoinSet<Result<History>>,
}

impl Clients {
    /// Creates the conversations and starts the clients. Returns when they are connected.
    pub async fn start(
        name: &str,
        urls: Vec<String>,
        seed: u64,
        members: usize,
        sends_per_second: f64,
    ) -> Result<Self> {
        let workload = Arc::new(Workload {
            name: name.to_owned(),
            urls,
            seed,
            begun: Instant::now(),
            pause: Duration::from_secs_f64(members as f64 / sends_per_second),
            progress: progress(members, sends_per_second),
            members,
            stop: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        });
        for tenant in 0..TENANTS.len() {
            make_conversations(&workload, tenant).await?;
        }
        let mut clients = Self { workload: Arc::clone(&workload), members: JoinSet::new() };
        for number in 0..members {
            let (workload, member) = (Arc::clone(&workload), Member { number, of: members });
            clients.members.spawn(async move {
                let name = member.user();
                client::run(workload, member).await.with_context(|| name)
            });
        }
        clients.workload.wait_for_everybody(RETRY_LIMIT).await?;
        Ok(clients)
    }

    /// Fails if a client has given up.
    pub fn check(&mut self) -> Result<()> {
        match self.members.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?.map(drop).context("a client gave up"),
        }
    }

    /// Lets the clients finish their current sends, and returns their histories.
    pub async fn stop(mut self) -> Result<Vec<History>> {
        self.workload.stop.store(true, Ordering::Relaxed);
        let mut histories = Vec::with_capacity(self.workload.members);
        while let Some(ended) = self.members.join_next().await {
            histories.push(ended??);
        }
        histories.sort_by_key(|history| history.member.number);
        Ok(histories)
    }
}

/// Lets the clients listen until they have received everything in the logs, or a limit has passed.
pub async fn catch_up(
    workload: &Arc<Workload>,
    histories: Vec<History>,
    logs: &Arc<[Log; 2]>,
) -> Result<Vec<History>> {
    let mut listening = JoinSet::new();
    for history in histories {
        let (workload, logs) = (Arc::clone(workload), Arc::clone(logs));
        listening.spawn(async move { client::catch_up(&workload, history, &logs).await });
    }
    let mut histories = Vec::new();
    while let Some(ended) = listening.join_next().await {
        histories.push(ended??);
    }
    histories.sort_by_key(|history| history.member.number);
    Ok(histories)
}

fn progress(members: usize, sends_per_second: f64) -> Progress {
    let readers = (0..members).map(|number| {
        let member = Member { number, of: members };
        let conversations = member.conversations().map(|of| member.tenant() * CONVERSATIONS + of);
        (conversations, member.in_busy_conversation() != Some(Busy::StopsReading))
    });
    Progress::of(CONVERSATIONS * TENANTS.len(), readers, sends_per_second)
}

async fn make_conversations(workload: &Workload, tenant: usize) -> Result<()> {
    let deadline = Instant::now() + RETRY_LIMIT;
    let owner = Member { number: tenant, of: workload.members };
    let mut client = RecordingClient::connect(&workload.urls[0], &owner.token(), Encoding::Json).await?;
    for number in 0..CONVERSATIONS {
        let members: Vec<String> = (0..workload.members)
            .map(|number| Member { number, of: workload.members })
            .filter(|member| member.tenant() == tenant && member.conversations().contains(&number))
            .map(Member::user)
            .collect();
        let fields = json!({ "conversation": workload.conversation(number), "members": members });
        while let Err(failure) = client.command("create", fields.clone()).await {
            let again = matches!(&failure, Failure::Refused(reply) if reply.code == "unavailable");
            ensure!(again && Instant::now() < deadline, "create: {failure}");
        }
    }
    Ok(())
}
