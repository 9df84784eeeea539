use std::sync::Arc;
use std::time::Duration;

use crate::config::KEY_BYTES_MAX;

/// Why a lookup failed. An unavailable Redis is never the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The source failed. Whether to try again is for it to say.
    #[error("{0}")]
    Source(Arc<E>),
    /// The source took longer than it may. Try again later.
    #[error("the source took longer than {0:?}")]
    TimedOut(Duration),
    /// This node is looking up too many keys already. Try again later.
    #[error("too many keys are being looked up")]
    Busy,
    /// The source panicked: an error in the program.
    #[error("the lookup ended early")]
    Ended,
    /// The caller's key is too long.
    #[error("a key has at most {KEY_BYTES_MAX} bytes")]
    Key,
}

impl<E> Clone for Error<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Source(error) => Self::Source(Arc::clone(error)),
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::Busy => Self::Busy,
            Self::Ended => Self::Ended,
            Self::Key => Self::Key,
        }
    }
}
