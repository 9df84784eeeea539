//! Ends a program that hangs, and tells what it was at.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// How many threads of a program are told of.
const THREADS_MAX: usize = 40;

/// A program that was ended.
#[derive(Debug)]
pub struct Ended {
    /// Its file's name.
    pub program: String,
    /// Its threads: name, state, what they waited for in the kernel, and the CPU time that they had used.
    pub threads: Vec<String>,
}

/// Ends the children of a process: cargo's test program, and cargo goes on with the next one. A process without children is
/// ended itself.
pub fn end(parent: u32) -> Vec<Ended> {
    let children = children(parent);
    let hung = if children.is_empty() { vec![parent] } else { children };
    let ended = hung.into_iter().map(|id| {
        let ended = look(id);
        if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::KILL);
        }
        ended
    });
    ended.collect()
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| read(&task.path().join("children")));
    lists.flat_map(|list| list.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

fn look(id: u32) -> Ended {
    let program = fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
    let program = program.file_name().map(|name| name.to_string_lossy().into_owned());
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    Ended {
        program: program.unwrap_or_else(|| format!("process {id}")),
        threads: tasks.take(THREADS_MAX).map(|task| thread(&task.path())).collect(),
    }
}

/// Rust's test runner names the thread of a test after it, so this says where a test stands.
fn thread(task: &Path) -> String {
    let status = read(&task.join("status"));
    let state = status.lines().find_map(|line| line.strip_prefix("State:\t")).unwrap_or("gone");
    // After the name in brackets: the state is the first field, the user's and the system's ticks the 12th and 13th.
    let stat = read(&task.join("stat"));
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let (name, wait) = (read(&task.join("comm")), read(&task.join("wchan")));
    format!("thread {name:<15} {state:<14} {wait:<24} {ticks} ticks of CPU")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}
