//! The scripts that run inside Redis, each one step that nothing can come between.

use starling_redis_link::Script;

/// All scripts, with their digests.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) attach: Script,
    pub(super) beat: Script,
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

/// A script that runs also while Redis is full (`maxmemory` with `noeviction`), when it would refuse whatever may take memory. What
/// these keep is bounded by the nodes and their sockets, and without it nodes would take each other, and people, for gone. What a
/// limit counts is not, so that script is refused, and limits hold per node.
fn runs_when_full(lua: &str) -> Script {
    Script::new(format!("#!lua flags=allow-oom\n{lua}"))
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            attach: runs_when_full(include_str!("lua/attach.lua")),
            beat: runs_when_full(include_str!("lua/beat.lua")),
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
