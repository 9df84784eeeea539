/// Why the database could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database can't be reached, is shutting down, or took too long. It may have committed what it did not confirm; try again.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The address in `DATABASE_URL` can't be used. The operator has to act.
    #[error("database_url: {0}")]
    Address(String),
    /// The database is of a version that Starling can't use, or holds a schema that is too new. The operator has to act.
    #[error("{0}")]
    Unsupported(String),
    /// The database refused something that Starling should not have asked. A fault of this program.
    #[error("the database refused: {0}")]
    Refused(String),
}

impl Error {
    /// Returns whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }
}
