//! What goes over the wire, without any I/O: the WebSocket codec ([`websocket`]; RFC 6455, RFC 7692) and Starling's client
//! protocol ([`protocol`]; JSON and MessagePack).
//!
//! Everything here is a pure function or a state machine that is fed bytes. Nothing here trusts its input.

pub mod protocol;
pub mod websocket;
