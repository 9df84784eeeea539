//! Metrics of the process, with the names that Prometheus' client libraries use. They are read from `/proc` on demand. Values that
//! the system does not provide are left out.

use std::fmt::Write;
use std::fs;

use crate::catalogue::{self, Kind};

/// Clock ticks per second in `/proc`: Linux reports 100 to programs on every architecture that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the metrics of the process in the text format.
pub(crate) fn render(text: &mut String) {
    for metric in catalogue::PROCESS.metrics {
        let Some(value) = read(metric.name) else { continue };
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Histogram => "gauge",
        };
        // Writing to a `String` can't fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n",
            name = metric.name,
            help = metric.help
        );
    }
}

fn read(name: &str) -> Option<f64> {
    match name {
        "process_resident_memory_bytes" => status_bytes("VmRSS:"),
        "process_virtual_memory_bytes" => status_bytes("VmSize:"),
        "process_threads" => stat_field(20),
        "process_cpu_seconds_total" => Some((stat_field(14)? + stat_field(15)?) / TICKS_PER_SECOND),
        "process_start_time_seconds" => Some(boot_time()? + stat_field(22)? / TICKS_PER_SECOND),
        "process_open_fds" => open_files(),
        "process_max_fds" => limit("Max open files"),
        _ => None,
    }
}

/// Reads a field of `/proc/self/status`, which is in KiB, as bytes.
fn status_bytes(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1_024.0)
}

/// Reads a field of `/proc/self/stat`, numbered from 1 as in proc_pid_stat(5). Field 2 may contain spaces and ends with the last `)`.
fn stat_field(number: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Counts open file descriptors. Since Linux 6.2 the folder's size is their number; listing tens of thousands would take
/// milliseconds.
fn open_files() -> Option<f64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size as f64);
    }
    // One of them belongs to the listing itself.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn limit(name: &str) -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn every_figure_is_there_and_plausible() {
        for metric in catalogue::PROCESS.metrics {
            assert!(read(metric.name).is_some(), "{}", metric.name);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let start = read("process_start_time_seconds").unwrap();
        assert!((now - 3_600.0..=now + 2.0).contains(&start), "{start} {now}");
        let resident = read("process_resident_memory_bytes").unwrap();
        assert!(resident > 100_000.0 && resident <= read("process_virtual_memory_bytes").unwrap());
        assert!(read("process_open_fds").unwrap() <= read("process_max_fds").unwrap());
    }

    #[test]
    fn open_files_are_counted() {
        let before = open_files().unwrap();
        let held: Vec<_> = (0..100).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = open_files().unwrap();
        drop(held);
        assert!(after >= before + 90.0, "{before} {after}");
    }
}
