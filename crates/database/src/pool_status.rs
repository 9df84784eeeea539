/// The state of a pool of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// `appends`, `primary`, `replica`, `writer` or `readers`.
    pub name: &'static str,
    /// How many connections it may open.
    pub size_max: usize,
    /// How many are open.
    pub size: usize,
    /// How many of these are free.
    pub idle: usize,
    /// How many callers wait for one.
    pub waiting: usize,
}
