//! Two who go on talking, whatever happens to what is under them.

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

/// Between two messages of one speaker.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a send may take to its `ok` while Redis is away. There is nothing that it would have to wait for.
const SEND_MAX: Duration = Duration::from_secs(5);
/// How many messages each speaker gets through, and how many of them each listener is shown, for the talk to have gone on.
const MORE: u64 = 20;

/// A talk between Ada at the first node and Bob at the second.
pub struct Talk {
    conversation: String,
    stop: Arc<AtomicBool>,
    speakers: Vec<Speaker>,
}

struct Speaker {
    task: JoinHandle<Result<RecordingClient>>,
    progress: Arc<Progress>,
}

/// What a speaker has come to.
#[derive(Default)]
struct Progress {
    /// The number of its newest message that was answered with `ok`.
    accepted: AtomicU64,
    /// How many such answers there were.
    sent: AtomicU64,
    /// The newest message that it was shown.
    seen: AtomicU64,
    /// The longest that a send took, milliseconds.
    slowest_ms: AtomicU64,
}

impl Talk {
    /// They come together and begin.
    pub async fn begin(cluster: &Cluster, conversation: &str) -> Result<Self> {
        let urls = cluster.ws_urls();
        let mut clients = Vec::new();
        for ((user, encoding), url) in
            [("ada", Encoding::Json), ("bob", Encoding::MessagePack)].into_iter().zip(urls)
        {
            clients.push((user, RecordingClient::connect(&url, &cluster.token(user), encoding).await?));
        }
        let create = json!({"conversation": conversation, "members": ["bob"]});
        clients[0].1.command("create", create).await?;
        for (_, client) in &mut clients {
            client.join(conversation).await?;
        }
        let stop = Arc::<AtomicBool>::default();
        let start = |(user, client)| {
            let progress = Arc::<Progress>::default();
            let (stop, told, place) = (stop.clone(), progress.clone(), conversation.to_owned());
            let task = tokio::spawn(async move {
                speak(client, user, &place, &stop, &told).await.with_context(|| format!("{user} speaks"))
            });
            Speaker { task, progress }
        };
        let speakers = clients.into_iter().map(start).collect();
        Ok(Self { conversation: conversation.to_owned(), stop, speakers })
    }

    /// Waits until both have had more messages accepted, and have been shown more of what was accepted from now on. A speaker
    /// whose send is refused has stopped, so that this waits in vain.
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

    /// Ends the talk: every send was accepted at once, and each was shown exactly what the log holds, in order.
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
            // What would come twice, or too late.
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
        ensure!(u128::from(slowest_ms) < SEND_MAX.as_millis(), "a send took {slowest_ms} ms");
        Ok(())
    }
}

/// Sends, each message once, and listens, until told to stop.
async fn speak(
    mut client: RecordingClient,
    user: &str,
    conversation: &str,
    stop: &AtomicBool,
    told: &Progress,
) -> Result<RecordingClient> {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let begun = Instant::now();
        let key = format!("{user}-{n}");
        let sent = client.send(conversation, &key, &format!("message {n} of {user}")).await.context(key)?;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        told.slowest_ms.fetch_max(took, Ordering::Relaxed);
        told.accepted.store(sent.seq, Ordering::Relaxed);
        told.sent.fetch_add(1, Ordering::Relaxed);
        client.listen(PAUSE).await?;
        told.seen.store(client.record().cursor(conversation).unwrap_or_default(), Ordering::Relaxed);
    }
    Ok(client)
}
