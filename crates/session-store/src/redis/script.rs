//! The scripts that run inside Redis. Each runs as one atomic step.

use starling_redis_link::Script;

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) attach: Script,
    pub(super) beat: Script,
    pub(super) begin: Script,
    pub(super) connections: Script,
    pub(super) detach: Script,
    pub(super) end: Script,
    pub(super) hold: Script,
    pub(super) leave: Script,
    pub(super) page: Script,
    pub(super) restore: Script,
    pub(super) set: Script,
    pub(super) take: Script,
    pub(super) unset: Script,
    pub(super) update: Script,
}

/// Makes a script that runs even while Redis is full (`maxmemory` with `noeviction`) and refuses other commands that may need memory.
/// The data of these scripts is bounded by the number of nodes and sockets, and without it nodes would take other nodes and users for
/// gone. The data of limits is not bounded in this way, so their scripts fail then, and limits apply per node.
fn runs_when_full(lua: &str) -> Script {
    Script::new(format!("#!lua flags=allow-oom\n{lua}"))
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            attach: runs_when_full(include_str!("lua/attach.lua")),
            beat: runs_when_full(include_str!("lua/beat.lua")),
            begin: runs_when_full(include_str!("lua/begin.lua")),
            connections: Script::new(include_str!("lua/connections.lua")),
            detach: runs_when_full(include_str!("lua/detach.lua")),
            end: runs_when_full(include_str!("lua/end.lua")),
            hold: runs_when_full(include_str!("lua/hold.lua")),
            leave: runs_when_full(include_str!("lua/leave.lua")),
            page: runs_when_full(include_str!("lua/page.lua")),
            restore: runs_when_full(include_str!("lua/restore.lua")),
            set: runs_when_full(include_str!("lua/set.lua")),
            take: Script::new(include_str!("lua/take.lua")),
            unset: runs_when_full(include_str!("lua/unset.lua")),
            update: runs_when_full(include_str!("lua/update.lua")),
        }
    }

    /// Returns all of them, to be loaded into a server that does not know one.
    pub(super) fn all(&self) -> Vec<Script> {
        let all = [
            &self.attach,
            &self.beat,
            &self.begin,
            &self.connections,
            &self.detach,
            &self.end,
            &self.hold,
            &self.leave,
            &self.page,
            &self.restore,
            &self.set,
            &self.take,
            &self.unset,
            &self.update,
        ];
        all.map(Script::clone).into()
    }
}
