//! What close frames say to the developer of a client.

use starling_wire::protocol::CloseReason;

/// The text with 1012.
pub(super) const RESTARTING: &str = "restarting; reconnect with resume";

/// The text of a close frame.
pub(super) fn close_text(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Superseded => "this session was attached somewhere else",
        CloseReason::Ended => "the session was ended by an operator",
        CloseReason::Restart => RESTARTING,
        CloseReason::Unauthorized => "the token has expired",
        CloseReason::ConnectTimeout => "no connect in time",
        _ => "",
    }
}
