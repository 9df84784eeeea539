//! The scripts that number, keep and publish, and how a link knows which of them a server has.

use std::sync::Arc;
use std::sync::LazyLock;

use fred::types::Value;
use parking_lot::Mutex;
use starling_redis_link::{Command, Script};

use crate::PARTITIONS;

/// The script that returns the run id of a server.
static RUN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("server_run.lua")));

/// The purpose of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Publish,
    /// To publish while nodes of an older version are there.
    PublishForOlder,
    History,
}

impl Task {
    /// Returns the script for one run of a server.
    fn script(self, run: &str) -> Script {
        let text = match self {
            Task::Publish => include_str!("publish.lua"),
            Task::PublishForOlder => include_str!("publish_for_older.lua"),
            Task::History => include_str!("history.lua"),
        };
        let text = text.replace("%NUMBERS%", include_str!("numbers.lua"));
        Script::new(text.replace("%EPOCHS%", include_str!("older_epochs.lua")).replace("%RUN%", run))
    }
}

/// The scripts of one link. Each group of partitions has scripts that are bound to the run id of its server, once that is known.
#[derive(Default)]
pub(in crate::redis) struct Scripts {
    groups: Mutex<[[Option<Arc<Script>>; 3]; PARTITIONS as usize]>,
}

impl Scripts {
    pub(super) fn get(&self, group: usize, task: Task) -> Option<Arc<Script>> {
        self.groups.lock()[group][task as usize].clone()
    }

    /// Makes the script for a server with this run id.
    pub(super) fn set(&self, group: usize, task: Task, run: &str) {
        self.groups.lock()[group][task as usize] = Some(Arc::new(task.script(run)));
    }

    pub(super) fn forget(&self, group: usize, task: Task) {
        self.groups.lock()[group][task as usize] = None;
    }
}

/// Returns the command that asks a server for its run id. Its answer can't be read as that of any other script.
pub(super) fn ask_run(slot: u16) -> Command {
    RUN.by_text(slot, vec![0.into()])
}

/// Reads `[1, run]`.
pub(super) fn read_run(answer: Value) -> Option<String> {
    let Value::Array(answer) = answer else { return None };
    let [_, run] = <[Value; 2]>::try_from(answer).ok()?;
    // It becomes part of a script's text.
    run.into_string().filter(|run| run.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
