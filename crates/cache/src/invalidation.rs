/// What a node hears from the others about cached values. The fan-out calls it from its own tasks; it does not block.
pub trait Invalidations: Send + Sync + 'static {
    /// Records that a key now has this version: older values are dropped, and refused when they come later.
    fn invalidate(&self, key: &str, version: u64);

    /// Records that invalidations may have been missed. Everything in the process is dropped, and of the entries in Redis only those are
    /// believed whose load began later.
    fn gap(&self);
}

/// The way to tell the other nodes. It does not block, and may lose what it is given, as long as the receivers then learn of a gap.
pub trait Announcer: Send + Sync + 'static {
    /// Calls [`Invalidations::invalidate`] on the other nodes.
    fn changed(&self, key: &str, version: u64);

    /// Calls [`Invalidations::gap`] on the other nodes, because this one has lost track of what it changed while Redis was away.
    fn lost(&self);
}

/// Announces nothing, for a node without others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOthers;

impl Announcer for NoOthers {
    fn changed(&self, _key: &str, _version: u64) {}

    fn lost(&self) {}
}
