//! A node that runs under callgrind, which counts its instructions.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use starling_testkit::node::Node;

/// The longest time that callgrind may take to answer a command.
const LIMIT: Duration = Duration::from_secs(60);
/// The shortest time for which the node is left alone after each work.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// Prefix of the files that callgrind writes into the node's folder; a number follows.
const FILE: &str = "callgrind";

/// A single node with SQLite under callgrind. It counts instructions of the program and its libraries, not of the kernel.
#[derive(Debug)]
pub struct CountedNode {
    node: Node,
    precision: Precision,
    /// How many counts callgrind has written.
    written: u32,
    /// When it wrote the last one.
    since: Instant,
}

/// How exactly is counted what the node does by itself, which is taken off the instructions for the work.
#[derive(Clone, Copy, Debug)]
pub enum Precision {
    /// After each work the node is left alone for up to 15 s, so that two programs can be compared.
    Exact,
    /// For up to 6 s. That is enough for budgets, which leave room.
    Rough,
}

impl Precision {
    /// The longest time for which the node is left alone.
    fn idle_max(self) -> Duration {
        Duration::from_secs(match self {
            Precision::Exact => 15,
            Precision::Rough => 6,
        })
    }
}

/// Two amounts of work. The difference of their instructions is divided by the difference of the amounts, so that what happens once for
/// each amount does not count.
#[derive(Clone, Copy, Debug)]
pub struct Units {
    /// The smaller amount.
    pub few: u64,
    /// The larger amount.
    pub many: u64,
}

impl CountedNode {
    /// Starts this program under callgrind, without limits on clients and heartbeats, and with one shard, so that the counts are the same
    /// on machines with more processors. Returns when it is ready.
    ///
    /// # Errors
    /// When valgrind is not installed, or the node does not become ready, with its log.
    pub async fn start(program: &Path, precision: Precision) -> Result<Self> {
        let node = Node::builder()
            .program("valgrind")
            .arg("--tool=callgrind")
            .arg(&format!("--callgrind-out-file={FILE}"))
            // Otherwise, one thread may wait for another one for a long time.
            .arg("--fair-sched=yes")
            .arg(program.to_str().context("the program's path is not text")?)
            .env("STARLING_SHARDS", "1")
            .env("STARLING_HEARTBEAT_SECONDS", "3600")
            .env("STARLING_CONNECT_TIMEOUT_SECONDS", "3600")
            .unlimited()
            .start()
            .await?;
        Ok(Self { node, precision, written: 0, since: Instant::now() })
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The instructions for one unit of work, without what the node does by itself in that time. `work` does so many units.
    ///
    /// # Errors
    /// When the work fails, or callgrind does not answer.
    pub async fn per_unit(
        &mut self,
        units: Units,
        mut work: impl AsyncFnMut(&Node, u64) -> Result<()>,
    ) -> Result<f64> {
        ensure!(units.many > units.few, "the two amounts of work are the same");
        // What is done once, at the first use, does not count.
        work(&self.node, 1).await?;
        let mut counts = [0.0; 2];
        for (count, amount) in counts.iter_mut().zip([units.few, units.many]) {
            self.take().await?;
            work(&self.node, amount).await?;
            let taken = self.take().await?;
            // On a busy machine the work takes longer, and the node does more by itself meanwhile.
            tokio::time::sleep(
                Duration::from_secs_f64(taken.seconds).clamp(IDLE_MIN, self.precision.idle_max()),
            )
            .await;
            let idle = self.take().await?;
            *count = taken.instructions - idle.instructions / idle.seconds * taken.seconds;
        }
        Ok((counts[1] - counts[0]) / (units.many - units.few) as f64)
    }

    /// Takes the count of instructions since the last call; the next count begins at 0.
    async fn take(&mut self) -> Result<Taken> {
        let vgdb = tokio::process::Command::new("vgdb")
            .arg(format!("--pid={}", self.node.pid()))
            .arg("dump")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LIMIT, vgdb).await.context("callgrind does not answer")?;
        let output = output.context("run vgdb, which is part of valgrind")?;
        ensure!(output.status.success(), "vgdb: {}", String::from_utf8_lossy(&output.stderr));
        self.written += 1;
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        let path = self.node.folder().join(format!("{FILE}.{}", self.written));
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Taken { instructions: total(&text)?, seconds })
    }
}

/// Instructions in a span of time.
struct Taken {
    instructions: f64,
    seconds: f64,
}

/// The sum in a file of callgrind.
fn total(text: &str) -> Result<f64> {
    let Some(total) = text.lines().rev().find_map(|line| line.strip_prefix("totals: ")) else {
        bail!("callgrind wrote no total");
    };
    total.trim().parse().with_context(|| format!("the total {total}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_last_line_that_says_so() {
        assert_eq!(total("events: Ir\nsummary: 7\nfn=(1)\n1 5\ntotals: 12\n").unwrap(), 12.0);
        assert!(total("events: Ir\nsummary: 7\n").is_err());
        assert!(total("totals: many\n").is_err());
    }
}
