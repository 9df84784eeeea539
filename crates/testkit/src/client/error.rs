//! Errors of a client.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// The error in a node's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// One of the protocol's codes, such as `not_found`.
    pub code: String,
    /// The message for people.
    pub message: String,
    /// After how many milliseconds to try again, where the node says so.
    pub retry_after_ms: Option<u64>,
}

impl ErrorReply {
    pub(super) fn from_wire(error: &Value) -> Result<Self> {
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        Ok(Self {
            code: text("code").with_context(|| format!("an error without a code: {error}"))?,
            message: text("message").with_context(|| format!("an error without a message: {error}"))?,
            retry_after_ms: error["retry_after_ms"].as_u64(),
        })
    }
}

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code of the close frame; none when the connection broke without one, or the frame bore no code.
    pub code: Option<u16>,
    /// The reason in the close frame, or how the connection broke.
    pub reason: String,
}

impl Closed {
    pub(super) fn by_frame(frame: Option<CloseFrame>) -> Self {
        match frame {
            Some(frame) => Self { code: Some(frame.code.into()), reason: frame.reason.to_string() },
            None => Self { code: None, reason: "a close frame without a code".to_owned() },
        }
    }

    pub(super) fn by_cut(how: &str) -> Self {
        Self { code: None, reason: how.to_owned() }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The node refused it.
    Refused(ErrorReply),
    /// The upgrade to a WebSocket was refused with this HTTP status.
    NotUpgraded {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// The socket ended.
    Closed(Closed),
    /// The node can't be reached, did not answer in time, or answered nonsense.
    Other(anyhow::Error),
}

impl Failure {
    /// The protocol's error code, where the node said no.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(reply) => Some(&reply.code),
            _ => None,
        }
    }

    /// The code of the close frame, where the socket ended with one.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::Closed(closed) => closed.code,
            _ => None,
        }
    }

    /// Whether the node's answer, had there been one, is unknown: the command may have been carried out or not.
    pub fn is_unknown(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reply) => write!(f, "refused: {}: {}", reply.code, reply.message),
            Self::NotUpgraded { status, body } => write!(f, "not upgraded: HTTP {status}: {body}"),
            Self::Closed(closed) => write!(f, "closed: {:?} {}", closed.code, closed.reason),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
