//! `cargo xtask cluster`: what it prints can be used, and what it started is gone with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::program;
use starling_testkit::process::{Signal, is_alive};
use starling_testkit::{Folder, Launch, Process, wait};

const NODES: usize = 3;
/// How long the start, and the end, may take on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(120);
/// What all processes that start servers share, in the system's temporary folder, besides the day's template of PostgreSQL.
const SHARED: [&str; 2] = ["ports", "runs.lock"];

#[tokio::test]
async fn a_link_is_good_for_a_talk_and_ctrl_c_leaves_nothing() -> Result<()> {
    let cluster = Running::start().await?;
    cluster.printed("Ctrl-C stops all of it.").await?;
    let log = cluster.process.log();
    let (url, token) = link(&log, "ada")?;
    let mut ada = Client::connect(&url, token, Encoding::Json).await?;
    ada.command("create", json!({"conversation": "c", "members": ["grace"]})).await?;
    let (url, token) = link(&log, "grace")?;
    let mut grace = Client::connect(&url, token, Encoding::MessagePack).await?;
    grace.command("join", json!({"conversation": "c"})).await?;
    let sent = ada.command("send", json!({"conversation": "c", "key": "k", "content": "hello"})).await?;
    ensure!(sent["seq"] == 1, "{sent}");
    let message = grace.wait_for_event("message").await?;
    ensure!(message["content"] == "hello" && message["sender"] == "ada", "{message}");
    for n in 1..=NODES {
        let name = format!("node-{n}");
        let (url, token) = link(&log, &name)?;
        let client = Client::connect(&url, token, Encoding::Json).await?;
        ensure!(client.welcome()["node"] == name, "the link of {name} leads to {}", client.welcome());
    }

    let started = descendants(cluster.process.pid())?;
    for (name, count) in [("starling", NODES), ("redis-server", 1), ("postgres", 1), ("nginx", 1)] {
        let running = started.values().filter(|running| *running == name).count();
        ensure!(running >= count, "{running} processes {name} run: {started:?}");
    }
    cluster.ends_by(Signal::INT).await?;
    let left: Vec<_> = started.iter().filter(|(pid, _)| is_alive(**pid)).collect();
    ensure!(left.is_empty(), "still running: {left:?}");
    cluster.has_left_nothing()
}

#[tokio::test]
async fn sigterm_in_the_middle_of_the_start_leaves_nothing() -> Result<()> {
    let cluster = Running::start().await?;
    cluster.printed("Starting PostgreSQL").await?;
    let started = wait::until(LIMIT, "a process", async || {
        let started = descendants(cluster.process.pid())?;
        Ok((!started.is_empty()).then_some(started))
    });
    let started = started.await?;
    cluster.ends_by(Signal::TERM).await?;
    wait::until_true(LIMIT, "the end of what was started", async || {
        Ok(!started.keys().any(|pid| is_alive(*pid)))
    })
    .await?;
    cluster.has_left_nothing()
}

/// `cargo xtask cluster`, with temporary folders of its own.
struct Running {
    process: Process,
    folder: Folder,
}

impl Running {
    async fn start() -> Result<Self> {
        let program = tokio::task::spawn_blocking(program).await??;
        let folder = Folder::new("play")?;
        let temporary = folder.join("t");
        fs::create_dir(&temporary)?;
        // PostgreSQL runs as another user when this runs as root, and must get through to its own.
        for path in [folder.path(), &temporary] {
            fs::set_permissions(path, Permissions::from_mode(0o711))?;
        }
        let launch = Launch::new("testkit", env!("CARGO_BIN_EXE_testkit"), folder.path())
            .args(["cluster", "--nodes", &NODES.to_string(), "--program"])
            .args([program])
            .env("TMPDIR", &temporary);
        Ok(Self { process: Process::start(launch).await?, folder })
    }

    async fn printed(&self, text: &str) -> Result<()> {
        self.process.ready(LIMIT, text, async || Ok(self.process.log().contains(text))).await
    }

    async fn ends_by(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)?;
        let status = self.process.ended(LIMIT).await?;
        ensure!(status.success(), "{status}: {}", self.process.log_tail());
        Ok(())
    }

    /// In the folder that all such processes share there is nothing but what they share: locks, and which ports are taken.
    fn has_left_nothing(&self) -> Result<()> {
        let mut left = BTreeSet::new();
        for shared in fs::read_dir(self.folder.join("t"))? {
            for entry in fs::read_dir(shared?.path())? {
                left.insert(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        left.retain(|name| !SHARED.contains(&name.as_str()) && !name.starts_with("postgres-template"));
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }
}

/// The WebSocket address and the token in the first link on the line that begins with this word.
fn link<'a>(log: &'a str, name: &str) -> Result<(String, &'a str)> {
    let line = log.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
    let line = line.with_context(|| format!("no line of {name}:\n{log}"))?;
    let link = line.split_whitespace().last().and_then(|link| link.strip_prefix("http://"));
    let (address, token) = link.and_then(|link| link.split_once("/#token=")).context("a link")?;
    // Further nodes may follow, for the page to go on with.
    let token = token.split('&').next().unwrap_or(token);
    Ok((format!("ws://{address}/v1/ws"), token))
}

/// The children of a process, their children, and so on, each with its name.
fn descendants(of: u32) -> Result<BTreeMap<u32, String>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended since.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // `pid (name) state parent …`
        let Some((head, rest)) = stat.rsplit_once(") ") else { continue };
        let name = head.split_once(" (").map_or("", |(_, name)| name).to_owned();
        let parent = rest.split(' ').nth(1).context("a parent")?.parse::<u32>()?;
        parents.push((pid, parent, name));
    }
    let mut found = BTreeMap::new();
    let mut known = BTreeSet::from([of]);
    loop {
        let before = found.len();
        for (pid, parent, name) in &parents {
            if known.contains(parent) && known.insert(*pid) {
                found.insert(*pid, name.clone());
            }
        }
        if found.len() == before {
            return Ok(found);
        }
    }
}
