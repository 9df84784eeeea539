//! What follows from a question.

use std::time::Duration;

use starling_wire::protocol::Json;

use crate::Failure;

/// What a question came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What follows.
    pub verdict: Verdict,
    /// Why the backend did not decide, for logs and metrics.
    pub failure: Option<AskFailure>,
}

/// What follows from a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may happen, with these changes.
    Allow(Rewrite),
    /// It must not happen: the error `forbidden`, with this message.
    Refuse(String),
    /// It must not happen now: the error `unavailable`, with this time to retry.
    Unavailable(Duration),
}

/// Why a backend did not decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskFailure {
    /// It gave no answer.
    #[error("{0}")]
    Request(Failure),
    /// It answered with another status than 200.
    #[error("the answer was {0}")]
    Status(u16),
    /// What it answered is no decision, or a message that nobody may send.
    #[error("the answer can't be used: {0}")]
    Answer(String),
    /// It was not asked, since it has failed several times in a row.
    #[error("the backend has failed and is not asked at present")]
    Open,
    /// It was not asked, since too many questions of its tenant are under way.
    #[error("too many questions are under way")]
    Busy,
}

/// The changes of a backend to a message. `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    /// The text.
    pub content: Option<String>,
    /// The metadata, a JSON object.
    pub metadata: Option<Json>,
}
