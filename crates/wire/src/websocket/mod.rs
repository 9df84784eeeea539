//! The WebSocket codec, server side.
