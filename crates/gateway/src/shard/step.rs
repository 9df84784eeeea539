//! What a step of a connection's task works on.

use super::conn::Conn;
use super::settings::Env;
use super::table::Table;

/// What a step of a connection's task works on: its shard's table, and its own place there.
pub(super) struct Step<'a> {
    pub env: &'a Env,
    pub table: &'a mut Table,
    pub key: u32,
}

impl Step<'_> {
    /// The connection, while it is in the table.
    pub fn conn(&mut self) -> Option<&mut Conn> {
        self.table.get_mut(self.key)
    }
}
