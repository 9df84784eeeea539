//! Where a scan of ready jobs begins.

/// A position in the order in which jobs became ready. Every ready job before it has been claimed or seen, and no further one can appear there.
///
/// A mark is only valid for the database that returned it, and only until an operator restores that database. A mark that is too low costs
/// time; the default is the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The transaction that made the job ready. SQLite has none, and always says 0.
    pub(crate) transaction: i64,
    /// The position within all ready jobs.
    pub(crate) position: i64,
}
