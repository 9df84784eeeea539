//! Measures what attaching costs: `cargo run --release -p starling-session-store --example attaches [REDIS_URL] [SESSIONS]`.
//! Without an address it starts a Redis of its own.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use starling_session_store::redis::{RedisConfig, RedisStore};
use starling_session_store::{
    Attach, Attached, Change, Dropped, Held, Hold, NodeRecord, ResumeAttach, SessionChange, SessionStore,
};
use starling_testkit::redis::Redis;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next();
    let sessions: usize = arguments.next().map_or(Ok(10_000), |count| count.parse())?;
    let own = if url.is_none() { Some(Redis::start().await?) } else { None };
    let url = url.or(own.as_ref().map(Redis::url)).context("there is an address")?;
    let store = Arc::new(RedisStore::connect(RedisConfig::new(url.parse().expect("an address"))).await?);
    store.check().await?;
    for node in ["n1", "n2"] {
        store.beat(&NodeRecord { node: node.into(), ..NodeRecord::default() }).await?;
    }
    // Loads the scripts.
    store.attach(&attach("first", "n1", false)).await?;

    let ids: Vec<String> = (0..sessions).map(|i| format!("session-{i}")).collect();
    let attaching = |resume: bool, node: &'static str| {
        let (store, ids) = (store.clone(), ids.clone());
        async move {
            let mut tasks = tokio::task::JoinSet::new();
            for id in ids {
                let store = store.clone();
                tasks.spawn(async move { attach_wholly(&store, &attach(&id, node, resume)).await });
            }
            let mut dropped = Vec::new();
            while let Some(attached) = tasks.join_next().await {
                dropped.push(attached??);
            }
            Ok(dropped)
        }
    };
    report("new", sessions, own.as_ref(), attaching(false, "n1")).await?;
    let joins: Vec<_> = ids
        .iter()
        .map(|id| SessionChange { session: id.clone(), change: Change::Joined("plans".into()) })
        .collect();
    report("update", sessions, own.as_ref(), async { Ok(store.update(&joins).await?) }).await?;
    let held = report("resume, node living", sessions, own.as_ref(), attaching(true, "n2")).await?;
    let detach = async { Ok(store.detach("n2", &held, now_ms()).await?) };
    report("detach", sessions, own.as_ref(), detach).await?;
    report("resume, dropped", sessions, own.as_ref(), attaching(true, "n1")).await?;
    store.leave("n1").await?;
    report("resume, node dead", sessions, own.as_ref(), attaching(true, "n2")).await?;
    let begun = Instant::now();
    for _ in 0..1_000 {
        attach_wholly(&store, &attach("first", "n2", true)).await?;
    }
    println!("one after the other: {:.0} µs each", begun.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// Runs it, and prints the rate, this process's time and the time of the server per session.
async fn report<T>(
    what: &str,
    sessions: usize,
    redis: Option<&Redis>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (server, process, begun) = (cpu(redis).await?, own_cpu()?, Instant::now());
    let outcome = work.await?;
    let (wall, process) = (begun.elapsed(), own_cpu()?.saturating_sub(process));
    let server = cpu(redis).await?.saturating_sub(server);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / sessions as f64;
    println!(
        "{what:>20}: {sessions} in {:.2} s, {:.0}/s; per session {:.1} µs here, {:.1} µs in Redis",
        wall.as_secs_f64(),
        sessions as f64 / wall.as_secs_f64(),
        each(process),
        each(server),
    );
    Ok(outcome)
}

/// What the server has used of a processor.
async fn cpu(redis: Option<&Redis>) -> Result<Duration> {
    let Some(redis) = redis else { return Ok(Duration::ZERO) };
    let text = redis.cli(&["INFO", "cpu"]).await?.text();
    let of = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    };
    Ok(Duration::from_secs_f64(of("used_cpu_user_main_thread:") + of("used_cpu_sys_main_thread:")))
}

/// What this process has used, in the ticks of a hundredth of a second that the kernel counts.
fn own_cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 =
        fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Attaches from beginning to end, as a node does.
async fn attach_wholly(store: &RedisStore, attach: &Attach) -> Result<Dropped> {
    let stamp = match store.attach(attach).await? {
        Attached::New { stamp } => stamp,
        Attached::Resumed { stamp, .. } => {
            let hold = Hold {
                session: attach.session.clone(),
                tenant: attach.tenant.clone(),
                user: attach.user.clone(),
                node: attach.node.clone(),
                stamp,
                created_at_ms: attach.now_ms,
                now_ms: attach.now_ms,
                window_ms: attach.window_ms,
            };
            if !matches!(store.hold(&hold).await?, Held::Held { .. }) {
                bail!("a session was not held");
            }
            stamp
        }
        Attached::Refused | Attached::Rebuilt { .. } => bail!("a session was not attached"),
    };
    Ok(Dropped { session: attach.session.clone(), stamp })
}

fn attach(session: &str, node: &str, resume: bool) -> Attach {
    Attach {
        session: session.into(),
        tenant: "default".into(),
        user: format!("user-of-{session}").into(),
        node: node.into(),
        now_ms: now_ms(),
        resume: resume.then(|| ResumeAttach { ticket_issued_at_ms: now_ms() }),
        waited: Duration::ZERO,
        after: 0,
        again: false,
        window_ms: 120_000,
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
