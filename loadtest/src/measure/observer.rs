//! What the servers use while the run goes on: processes of this machine by their ids, and nodes by their metrics.

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

/// The longest page of metrics.
const PAGE_MAX: u64 = 8 * 1024 * 1024;
/// The kernel's unit of processor time in `/proc`: `USER_HZ`, 100 on every architecture that Linux supports today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Something to observe, with the name that the report uses.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A process of this machine and its children.
    Process {
        /// The name.
        name: String,
        /// The process id.
        pid: u32,
    },
    /// The metrics of a node.
    Metrics {
        /// The name.
        name: String,
        /// `http://HOST:PORT/metrics`.
        url: Url,
    },
}

/// What one source used in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Observation {
    /// Processors in use: 1 is one whole processor.
    pub processors: f64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Whether a pool of database connections had none left; nothing if that is not known.
    pub pool_exhausted: Option<bool>,
}

/// All observations: by the name of the source, then by the second of the run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observed(pub BTreeMap<String, BTreeMap<u32, Observation>>);

impl Observed {
    /// How much more memory the nodes use in the last tenth of the run than in its second tenth. The first tenth is left out, since
    /// memory grows while caches and pools fill.
    pub fn memory_growth_percent(&self) -> Option<f64> {
        let growth = self.0.iter().filter(|(name, _)| name.starts_with("node")).filter_map(|(_, seconds)| {
            let tenth = seconds.len() / 10;
            let mean = |skip: usize| {
                let sum: u64 = seconds.values().skip(skip).take(tenth).map(|one| one.memory_bytes).sum();
                (tenth > 0 && sum > 0).then(|| sum as f64 / tenth as f64)
            };
            Some((mean(seconds.len() - tenth)? / mean(tenth)? - 1.0) * 100.0)
        });
        growth.reduce(f64::max)
    }

    /// Seconds in which a pool had no connection left.
    pub fn pools_exhausted(&self) -> Option<u64> {
        let known = self.0.values().flat_map(BTreeMap::values).filter_map(|one| one.pool_exhausted);
        let mut known = known.peekable();
        known.peek()?;
        Some(known.filter(|exhausted| *exhausted).count() as u64)
    }
}

/// Observes the sources once a second.
pub struct Observer {
    sources: Vec<(Source, Option<(Instant, f64)>)>,
}

impl Observer {
    /// Of these sources.
    pub fn new(sources: Vec<Source>) -> Self {
        Self { sources: sources.into_iter().map(|source| (source, None)).collect() }
    }

    /// Observes until the receiver is gone. A source that can't be read is left out for that second.
    ///
    /// # Errors
    /// When no runtime can be made.
    pub fn run(mut self, start: Instant, into: &SyncSender<(u32, String, Observation)>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            loop {
                ticks.tick().await;
                let second = u32::try_from(start.elapsed().as_secs()).unwrap_or(u32::MAX);
                for (source, before) in &mut self.sources {
                    let Ok(reading) = timeout(Duration::from_millis(900), source.read()).await else {
                        continue;
                    };
                    let Ok((seconds, observation)) = reading else { continue };
                    let now = Instant::now();
                    if let Some((then, used)) = before.replace((now, seconds)) {
                        let processors = (seconds - used) / (now - then).as_secs_f64();
                        let observation = Observation { processors, ..observation };
                        if into.send((second, source.name().to_owned(), observation)).is_err() {
                            return Ok(());
                        }
                    }
                }
                if self.sources.is_empty() {
                    return Ok(());
                }
            }
        })
    }
}

impl Source {
    /// Reads `NAME=PID`.
    ///
    /// # Errors
    /// When it is not that, or there is no such process.
    pub fn process(text: &str) -> Result<Self> {
        let (name, pid) =
            text.split_once('=').with_context(|| format!("--process {text}: write NAME=PID"))?;
        let pid = pid.parse().with_context(|| format!("--process {text}: not a process id"))?;
        read_process(pid).with_context(|| format!("--process {text}: no such process on this machine"))?;
        Ok(Self::Process { name: name.to_owned(), pid })
    }

    /// Reads `NAME=URL`.
    ///
    /// # Errors
    /// When it is not that.
    pub fn metrics(text: &str) -> Result<Self> {
        let (name, url) =
            text.split_once('=').with_context(|| format!("--metrics {text}: write NAME=URL"))?;
        let url = Url::parse(url).with_context(|| format!("--metrics {text}: not an address"))?;
        if url.scheme() != "http" {
            bail!("--metrics {text}: only http:// is supported");
        }
        Ok(Self::Metrics { name: name.to_owned(), url })
    }

    fn name(&self) -> &str {
        match self {
            Self::Process { name, .. } | Self::Metrics { name, .. } => name,
        }
    }

    /// The processor time used so far in seconds, and the rest.
    async fn read(&self) -> Result<(f64, Observation)> {
        match self {
            Self::Process { pid, .. } => read_process(*pid),
            Self::Metrics { url, .. } => read_metrics(&scrape(url).await?),
        }
    }
}

/// Reads a process and all of its children: a PostgreSQL consists of many.
fn read_process(pid: u32) -> Result<(f64, Observation)> {
    let (mut seconds, mut memory_bytes) = (0.0, 0);
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name in parentheses may contain anything, so fields are counted from its end.
        let (_, fields) = stat.rsplit_once(')').context("the process has no name")?;
        let fields: Vec<u64> = fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        // proc(5): utime, stime, cutime, cstime are fields 14 to 17; the vector starts with field 3.
        seconds += fields.get(11..15).unwrap_or_default().iter().sum::<u64>() as f64 / TICKS_PER_SECOND;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // Pages that processes share, such as PostgreSQL's buffers, would be counted once per process.
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = anonymous.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        memory_bytes += kibibytes.unwrap_or(0) * 1024;
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        left.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    if memory_bytes == 0 {
        bail!("process {pid} is not there");
    }
    Ok((seconds, Observation { processors: 0.0, memory_bytes, pool_exhausted: None }))
}

async fn scrape(url: &Url) -> Result<String> {
    let (host, port) = (url.host_str().context("no host")?, url.port_or_known_default().context("no port")?);
    let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let request = format!("GET {} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n", url.path());
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.take(PAGE_MAX).read_to_string(&mut page).await?;
    Ok(page)
}

fn read_metrics(page: &str) -> Result<(f64, Observation)> {
    let value = |name: &str| -> Option<f64> {
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    let seconds = value("process_cpu_seconds_total").context("the page has no process_cpu_seconds_total")?;
    let memory_bytes = value("process_resident_memory_bytes").unwrap_or(0.0) as u64;
    Ok((seconds, Observation { processors: 0.0, memory_bytes, pool_exhausted: pool_exhausted(page) }))
}

/// Whether calls wait for a connection of some pool. A pool without an idle connection may still grow, so that alone means nothing.
fn pool_exhausted(page: &str) -> Option<bool> {
    let lines = page.lines().filter(|line| line.starts_with("starling_pool_waiting{"));
    let waiting = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    waiting.map(|calls| calls > 0.0).reduce(|one, other| one || other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_observed() {
        let (seconds, observation) = read_process(std::process::id()).unwrap();
        assert!(seconds >= 0.0 && observation.memory_bytes > 100_000, "{observation:?}");
        assert!(Source::process("node=0").is_err());
    }

    #[test]
    fn memory_that_grows_is_seen_after_the_first_tenth() {
        let seconds = (0..100).map(|second| {
            let memory_bytes = if second < 10 { 1 } else { 1_000_000 + u64::from(second) * 10_000 };
            (second, Observation { memory_bytes, ..Observation::default() })
        });
        let observed = Observed(BTreeMap::from([("node 1".to_owned(), seconds.collect())]));
        let growth = observed.memory_growth_percent().unwrap();
        assert!((65.0..75.0).contains(&growth), "{growth}");
    }

    #[test]
    fn a_pool_for_which_calls_wait_is_exhausted() {
        let page = |calls| {
            format!(
                "starling_pool_waiting{{pool=\"reads\"}} 0\nstarling_pool_waiting{{pool=\"writes\"}} {calls}\n"
            )
        };
        assert_eq!(pool_exhausted(&page(0)), Some(false));
        assert_eq!(pool_exhausted(&page(2)), Some(true));
        assert_eq!(pool_exhausted(""), None);
    }
}
