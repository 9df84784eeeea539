//! Entering a connection whose handshake is done into its shard.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use starling_auth::Identity;
use starling_wire::protocol::Encoding;
use starling_wire::websocket::deflate::Params;

use super::client::Client;
use super::conn::Conn;
use super::framing::Framing;
use super::reading::Reader;
use super::socket::Socket;
use super::table::Shard;
use crate::addresses::AddressGuard;
use crate::metrics::METRICS;

/// A connection whose handshake is done, and what the handshake agreed on.
pub(crate) struct Opening {
    pub socket: Socket,
    pub encoding: Encoding,
    pub deflate: Option<Params>,
    /// Who the handshake's token says the client is.
    pub identity: Option<Identity>,
    /// The `traceparent` of the handshake, if it is traced.
    pub traceparent: Option<Box<str>>,
    /// Counts the connection against its address.
    pub address: Option<AddressGuard>,
    /// What came behind the handshake.
    pub early: Bytes,
}

impl Opening {
    /// Enters the connection into the shard's table. Returns its key, and its incoming side.
    pub(super) fn enter(self, shard: &Shard) -> (u32, Reader) {
        METRICS.opened.increment(1);
        METRICS.connections.increment(1.0);
        if let Some(gauges) = shard.env.gauges() {
            gauges.connections.fetch_add(1, Ordering::Relaxed);
        }
        let settings = &shard.env.settings;
        let reader = Reader::new(settings, self.deflate, self.early);
        let client = Client::new(self.identity, self.traceparent, self.address);
        let framing = Framing::new(self.encoding, self.deflate);
        let make = |generation, deadlines| Conn::new(generation, client, self.socket, framing, deadlines);
        let key = shard.table.borrow_mut().insert(settings, make);
        (key, reader)
    }
}
