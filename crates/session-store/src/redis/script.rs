//! The scripts that run inside Redis, each one step that nothing can come between.

use fred::types::scripts::Script;

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

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            attach: Script::from_lua(include_str!("lua/attach.lua")),
            beat: Script::from_lua(include_str!("lua/beat.lua")),
            connections: Script::from_lua(include_str!("lua/connections.lua")),
            detach: Script::from_lua(include_str!("lua/detach.lua")),
            end: Script::from_lua(include_str!("lua/end.lua")),
            hold: Script::from_lua(include_str!("lua/hold.lua")),
            leave: Script::from_lua(include_str!("lua/leave.lua")),
            page: Script::from_lua(include_str!("lua/page.lua")),
            restore: Script::from_lua(include_str!("lua/restore.lua")),
            set: Script::from_lua(include_str!("lua/set.lua")),
            take: Script::from_lua(include_str!("lua/take.lua")),
            unset: Script::from_lua(include_str!("lua/unset.lua")),
            update: Script::from_lua(include_str!("lua/update.lua")),
        }
    }

    pub(super) fn all(&self) -> [&Script; 13] {
        [
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
        ]
    }
}
