//! Two users who keep talking, whatever happens to the servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Encoding, RecordingClient};
use starling_testkit::node::Cluster;
use starling_testkit::wait;
use tokio::task::JoinHandle;

use crate::{SOON, log};

/// Pause between two messages of one speaker.
const PAUSE: Duration = Duration::from_millis(20);
/// Timeout of a send while Redis is down. It has nothing to wait for.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Number of messages that each speaker must get through, and each listener must receive, to count as progress.
const MORE: u64 = 20;

/// Talk between Ada on the first node and Bob on the second.
pub struct Talk {
    conversation: String,
    manner: Manner,
    stop: Arc<AtomicBool>,
    speakers: Vec<Speaker>,
}

/// What a speaker does when a message is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It stops, and the test fails: while Redis is away each send must be accepted at once.
    Once,
    /// It sends the message again, with the same key, until it is accepted: while the database is away.
    UntilAccepted,
}

struct Speaker {
    task: JoinHandle<Result<RecordingClient>>,
    progress: Arc<Progress>,
}

/// Progress of a speaker.
#[derive(Default)]
struct Progress {
    /// Number of the newest acknowledged message.
    accepted: AtomicU64,
    /// Number of acknowledged messages.
    sent: AtomicU64,
    /// Number of the newest message received.
    seen: AtomicU64,
    /// Longest time of a send in milliseconds.
    slowest_ms: AtomicU64,
}

impl Talk {
    /// Connects both and starts the talk.
    pub async fn begin(cluster: &Cluster, conversation: &str, manner: Manner) -> Result<Self> {
        let urls = cluster.ws_urls();
        let mut clients = Vec::new();
        for ((user, encoding), url) in
            [("ada", Encoding::Json), ("bob", Encoding::MessagePack)].into_iter().zip(urls)
        {
            let client = RecordingClient::connect(&url, &cluster.token(user), encoding).await?;
            clients.push((user, url, client));
        }
        let create = json!({"conversation": conversation, "members": ["bob"]});
        clients[0].2.command("create", create).await?;
        for (.., client) in &mut clients {
            client.join(conversation).await?;
        }
        let stop = Arc::<AtomicBool>::default();
        let start = |(user, url, client)| {
            let progress = Arc::<Progress>::default();
            let (stop, told, place) = (stop.clone(), progress.clone(), conversation.to_owned());
            let task = tokio::spawn(async move {
                let spoken = speak(client, user, url, &place, manner, &stop, &told);
                spoken.await.with_context(|| format!("{user} speaks"))
            });
            Speaker { task, progress }
        };
        let speakers = clients.into_iter().map(start).collect();
        Ok(Self { conversation: conversation.to_owned(), manner, stop, speakers })
    }

    /// Waits until more messages of both have been accepted, and both have received messages accepted from now on. A speaker
    /// whose send is refused has stopped, so this would time out.
    pub async fn goes_on(&self) -> Result<()> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let sent: Vec<u64> =
            self.speakers.iter().map(|speaker| load(&speaker.progress.sent) + MORE).collect();
        let head =
            self.speakers.iter().map(|speaker| load(&speaker.progress.accepted)).max().unwrap_or_default();
        wait::until_true(SOON, "the talk to go on", async || {
            let on = |(speaker, sent): (&Speaker, &u64)| {
                load(&speaker.progress.sent) >= *sent && load(&speaker.progress.seen) >= head + MORE
            };
            Ok(self.speakers.iter().zip(&sent).all(on))
        })
        .await
    }

    /// Ends the talk and checks that every send was accepted (at once, in the manner of [`Manner::Once`]), and that both received exactly
    /// the log, in order.
    pub async fn end(self, cluster: &Cluster) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut clients, mut slowest_ms) = (Vec::new(), 0);
        for speaker in self.speakers {
            clients.push(speaker.task.await??);
            slowest_ms = slowest_ms.max(speaker.progress.slowest_ms.load(Ordering::Relaxed));
        }
        let log = log::read(cluster.node(0), "ada", &self.conversation).await?;
        let head = log.head(&self.conversation);
        let mut verdicts = Vec::new();
        for client in &mut clients {
            client.listen_until(&self.conversation, head, SOON).await?;
            // Catches messages that arrive twice or too late.
            client.listen(Duration::from_millis(400)).await?;
            verdicts.push(client.record().verdict(&log));
        }
        println!(
            "{}: {head} messages, the slowest send took {slowest_ms} ms; {verdicts:?}",
            self.conversation
        );
        let acknowledged: u64 = verdicts.iter().map(|verdict| verdict.acknowledged).sum();
        ensure!(log.faults() == 0, "the log itself has {} faults", log.faults());
        ensure!(acknowledged == head, "{acknowledged} were acknowledged, and {head} are in the log");
        for verdict in verdicts {
            ensure!(verdict.is_clean() && verdict.messages == head, "{verdict:?}");
        }
        let at_once = u128::from(slowest_ms) < SEND_MAX.as_millis();
        ensure!(self.manner == Manner::UntilAccepted || at_once, "a send took {slowest_ms} ms");
        Ok(())
    }
}

/// Sends messages and receives, until told to stop.
async fn speak(
    mut client: RecordingClient,
    user: &str,
    url: String,
    conversation: &str,
    manner: Manner,
    stop: &AtomicBool,
    told: &Progress,
) -> Result<RecordingClient> {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let begun = Instant::now();
        let (key, content) = (format!("{user}-{n}"), format!("message {n} of {user}"));
        let sent = match manner {
            Manner::Once => client.send(conversation, &key, &content).await,
            Manner::UntilAccepted => {
                client.send_surely(std::slice::from_ref(&url), conversation, &key, &content, SOON).await
            }
        };
        let sent = sent.context(key)?;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        told.slowest_ms.fetch_max(took, Ordering::Relaxed);
        told.accepted.store(sent.seq, Ordering::Relaxed);
        told.sent.fetch_add(1, Ordering::Relaxed);
        client.listen(PAUSE).await?;
        told.seen.store(client.record().cursor(conversation).unwrap_or_default(), Ordering::Relaxed);
    }
    Ok(client)
}
