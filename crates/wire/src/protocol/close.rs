//! Close codes.

/// The reason for which a connection is closed, sent as the code of the close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseReason {
    /// An orderly end, or the reply to a client's close without a code.
    Normal = 1000,
    /// The node or client goes away.
    GoingAway = 1001,
    /// The WebSocket protocol was violated.
    Protocol = 1002,
    /// Binary came although text was agreed, or the reverse.
    Unsupported = 1003,
    /// The text is not UTF-8.
    InvalidPayload = 1007,
    /// The frame is too large.
    TooBig = 1009,
    /// An unexpected fault of the node.
    Internal = 1011,
    /// The client must reconnect with `resume`.
    Restart = 1012,
    /// The frame is not one of this protocol.
    NotAFrame = 4400,
    /// The token is missing, invalid or expired.
    Unauthorized = 4401,
    /// No `connect` came in time.
    ConnectTimeout = 4408,
    /// The session was attached to another connection.
    Superseded = 4409,
    /// An operator ended the session.
    Ended = 4410,
    /// A limit on connections was exceeded, or the client was too far behind to be served.
    Overloaded = 4429,
}

impl CloseReason {
    /// Returns the code of the close frame.
    pub fn code(self) -> u16 {
        self as u16
    }
}
