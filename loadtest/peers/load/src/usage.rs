//! What processes use: processor time by the kernel's clock of each process, memory, and Redis' own counters.

use std::fs::read_to_string;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::Watched;

/// The kernel's unit for the time of children that have ended: `USER_HZ`, 100 a second on every architecture.
const TICK_NS: u64 = 10_000_000;
/// The longest time that Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer of Redis that is read.
const ANSWER_MAX: usize = 64 * 1024;

/// What the watched processes have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Nanoseconds of the nodes.
    pub nodes_ns: u64,
    /// Nanoseconds of Redis.
    pub redis_ns: u64,
    /// Nanoseconds of PostgreSQL.
    pub postgres_ns: u64,
    /// Nanoseconds of this process.
    pub own_ns: u64,
    /// Commands that Redis has run.
    pub redis_commands: u64,
    /// Bytes that Redis has sent.
    pub redis_output_bytes: u64,
}

impl Usage {
    /// Reads all clocks and counters.
    pub fn now(watched: &Watched) -> Self {
        let (redis_commands, redis_output_bytes) = watched.redis_address.and_then(redis).unwrap_or_default();
        let all = |pids: &[u32]| pids.iter().map(|pid| processor_ns(*pid)).sum();
        Self {
            nodes_ns: all(&watched.nodes),
            redis_ns: watched.redis.map_or(0, processor_ns),
            postgres_ns: watched.postgres.map_or(0, processor_ns),
            own_ns: clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0, nanoseconds),
            redis_commands,
            redis_output_bytes,
        }
    }
}

/// Resident memory of processes and their children, in bytes.
pub fn resident_bytes(pids: &[u32]) -> u64 {
    let resident = |pid: u32| {
        let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    pids.iter().map(|pid| resident(*pid) + resident_bytes(&children(*pid))).sum()
}

/// The processor time of a process, of its children, and of children that have ended.
pub fn processor_ns(pid: u32) -> u64 {
    let own = clock_getcpuclockid(Pid::from_raw(pid as i32)).and_then(clock_gettime).map_or(0, nanoseconds);
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // `pid (name) state …`: the name may hold anything. Fields 16 and 17 are the times of ended children.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').skip(13).take(2);
    let ended: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    own + ended * TICK_NS + children(pid).into_iter().map(processor_ns).sum::<u64>()
}

fn children(pid: u32) -> Vec<u32> {
    let list = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn nanoseconds(time: nix::sys::time::TimeSpec) -> u64 {
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// The commands that a Redis has run, and the bytes that it has sent.
fn redis(address: SocketAddr) -> Option<(u64, u64)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"INFO stats\r\n").ok()?;
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let field = |name: &str| {
            let (value, _) = text.split_once(name)?.1.split_once('\r')?;
            value.parse().ok()
        };
        let found = (field("total_commands_processed:"), field("total_net_output_bytes:"));
        if let (Some(commands), Some(bytes)) = found {
            return Some((commands, bytes));
        }
        if text.len() > ANSWER_MAX {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_time_of_a_process_and_of_its_children_is_counted() {
        let script = "sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; echo; read line";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        child.stdout.take().unwrap().read_exact(&mut line).unwrap();
        let used = processor_ns(child.id());
        assert!(used > 10_000_000, "{used} ns for a loop of 100,000 rounds in an ended child");
        assert!(resident_bytes(&[child.id()]) > 100_000);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
