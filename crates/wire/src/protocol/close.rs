//! Close codes.

/// Why a connection is closed, as the number in the close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseReason {
    /// The answer to a client's close without a code, or an orderly end.
    Normal = 1000,
    /// Going away.
    GoingAway = 1001,
    /// WebSocket protocol error.
    Protocol = 1002,
    /// Binary where text was agreed, or the reverse.
    Unsupported = 1003,
    /// Not UTF-8.
    InvalidPayload = 1007,
    /// Frame over the limit.
    TooBig = 1009,
    /// Something unexpected on the node's side.
    Internal = 1011,
    /// Restarting: reconnect with `resume`.
    Restart = 1012,
    /// Not a frame of this protocol.
    NotAFrame = 4400,
    /// Token missing, invalid or expired.
    Unauthorized = 4401,
    /// No `connect` in time.
    ConnectTimeout = 4408,
    /// This session was attached somewhere else.
    Superseded = 4409,
    /// Session ended by an operator.
    Ended = 4410,
    /// Over a limit on connections, or too far behind to be served.
    Overloaded = 4429,
}

impl CloseReason {
    /// The number.
    pub fn code(self) -> u16 {
        self as u16
    }
}
