//! Serving subscriptions that are behind from the log, at the pace of their socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use starling_conversation_store::Page;
use starling_hub::{CommandError, Hub, Room, from_log};
use starling_wire::protocol::CloseReason;

use super::conn::{Phase, SubState};
use super::outbox::Kind;
use super::task::{Boxed, ConnTask};
use super::{Service, Table};
use crate::metrics::METRICS;

/// How many messages one read of the log takes.
const LOG_PAGE: u32 = 100;

/// A read of the log that is under way for one of a connection's subscriptions.
pub(super) struct Reading {
    sub: usize,
    room: Arc<Room>,
    cursor: u64,
    future: Boxed<Result<Page, CommandError>>,
}

impl ConnTask {
    /// Serves subscriptions that are behind from the log, a page at a time, as fast as the socket takes it.
    pub(super) fn serve_from_log(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
        if self.is_connecting() {
            // The answer to `connect` comes first.
            return false;
        }
        let Service::Hub(hub) = self.shard.service.clone() else { return false };
        let mut any = false;
        loop {
            if let Some(reading) = &mut self.reading {
                let Poll::Ready(page) = reading.future.as_mut().poll(cx) else { return any };
                if let Some(reading) = self.reading.take() {
                    self.take_page(table, &reading, page);
                }
                any = true;
            }
            let Some(conn) = table.conns.get_mut(self.key as usize) else { return any };
            if conn.behind == 0 || conn.phase != Phase::Open {
                return any;
            }
            if conn.outbox.bytes() > self.shard.settings.outbox_bytes_soft / 4 {
                return any;
            }
            let Some(sub) = table.next_behind(self.key, self.served) else { return any };
            self.served = sub;
            self.reading = start_reading(table, self.key, sub, &hub);
            if self.reading.is_none() {
                return any;
            }
        }
    }

    fn take_page(&mut self, table: &mut Table, reading: &Reading, page: Result<Page, CommandError>) {
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return };
        let Some(sub) = conn.subs.get_mut(reading.sub) else { return };
        let is_same = sub.log.as_ref().is_some_and(|log| Arc::ptr_eq(log, &reading.room));
        if !is_same || sub.cursor != reading.cursor || !matches!(sub.state, SubState::Behind { .. }) {
            // Left, or joined afresh, meanwhile.
            return;
        }
        match page {
            Ok(page) => {
                METRICS.catch_up_pages.increment(1);
                let name = reading.room.key.name.clone();
                let delivered = page.messages.len() as u64;
                METRICS.deliveries.increment(delivered);
                if let Some(gauges) = self.shard.gauges() {
                    gauges.deliveries.fetch_add(delivered, Ordering::Relaxed);
                }
                let empty = page.messages.is_empty();
                for message in page.messages {
                    let seq = message.seq;
                    let frame = from_log(&name, message).frame(conn.encoding).clone();
                    conn.push(frame, Kind::Durable { sub: reading.sub, first: seq });
                    if let Some(sub) = conn.subs.get_mut(reading.sub) {
                        sub.cursor = seq;
                    }
                }
                let delivered = table.rooms.get(&reading.room.id).map_or(0, |room| room.delivered);
                if let Some(sub) =
                    table.conns.get_mut(self.key as usize).and_then(|c| c.subs.get_mut(reading.sub))
                    && empty
                {
                    // The log is shorter than what was handed out: the conversation is gone. Nothing more will come.
                    let until = if let SubState::Behind { until } = sub.state { until } else { 0 };
                    sub.cursor = sub.cursor.max(delivered).max(until);
                }
            }
            // The client has been promised these messages: on another connection it gets them.
            Err(_) => {
                table.close(
                    self.key,
                    CloseReason::Restart,
                    "the log is not available; reconnect with resume",
                );
            }
        }
    }
}

fn start_reading(table: &Table, key: u32, sub: usize, hub: &Arc<Hub>) -> Option<Reading> {
    let subscription = table.conns.get(key as usize)?.subs.get(sub)?;
    let (room, cursor) = (subscription.log.clone()?, subscription.cursor);
    let (hub, log) = (hub.clone(), room.clone());
    let future = Box::pin(async move { hub.read_log(&log, cursor, LOG_PAGE).await });
    Some(Reading { sub, room, cursor, future })
}
