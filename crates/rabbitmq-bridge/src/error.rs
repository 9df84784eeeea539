//! What can go wrong between Starling and RabbitMQ.

use std::io;

/// Why the bridge could not do something. Nothing is lost by any of them: messages and jobs stay where they are, and are tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// RabbitMQ can't be reached.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// RabbitMQ did not answer in time.
    #[error("RabbitMQ has not answered for {0} s")]
    Silent(u64),
    /// RabbitMQ refused something, or ended the connection.
    #[error("{0}")]
    Refused(#[from] lapin::Error),
    /// RabbitMQ ended the consumer, for example because its queue was deleted.
    #[error("RabbitMQ has ended the consumer of the queue")]
    Cancelled,
    /// A message that can't become a job could not be given to the dead letters. It stays in its queue.
    #[error("a message that can't become a job was not taken by the dead-letter exchange: {0}")]
    DeadLetter(String),
    /// What goes to RabbitMQ has to be set up anew.
    #[error("the exchange is gone")]
    ExchangeGone,
}

impl Error {
    /// Whether RabbitMQ says that what was named does not exist.
    pub(crate) fn is_not_found(error: &lapin::Error) -> bool {
        use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
        matches!(error.kind(), lapin::ErrorKind::ProtocolError(error)
            if *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
    }
}
