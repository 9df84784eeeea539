//! The scripts that run inside Redis. Each runs as one atomic step.

use starling_redis_link::Script;

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) read: Script,
    pub(super) fill: Script,
    pub(super) invalidate: Script,
    pub(super) lease: Script,
}

/// The text of the script that fills.
pub(super) const FILL: &str = include_str!("lua/fill.lua");

/// Makes a script that runs even while Redis is full. What it writes is small and lives for seconds; without it, values could be read that
/// can't be dropped.
fn runs_when_full(lua: &str) -> Script {
    Script::new(format!("#!lua flags=allow-oom\n{lua}"))
}

impl Scripts {
    pub(super) fn new(fill: &str) -> Self {
        Self {
            read: runs_when_full(include_str!("lua/read.lua")),
            fill: Script::new(fill),
            invalidate: runs_when_full(include_str!("lua/invalidate.lua")),
            lease: runs_when_full(include_str!("lua/lease.lua")),
        }
    }

    /// Returns all of them, to be loaded into a server that does not know one.
    pub(super) fn all(&self) -> Vec<Script> {
        [&self.read, &self.fill, &self.invalidate, &self.lease].map(Script::clone).into()
    }
}
