//! What a session does with the frames that it gets.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::driving::Connection;
use super::received::Arrival;
use super::{Instruction, Session};
use crate::client::encoding::Kind;
use crate::client::frames::{self, Opcode};
use crate::client::marker::Marker;

impl Session {
    /// Takes bytes that were read.
    pub(super) fn receive(&self, connection: &mut Connection, bytes: &[u8]) -> Result<()> {
        let mask = connection.mask;
        let now_us = self.thread.now_us();
        connection.frames.feed(bytes, |opcode, payload| {
            match opcode {
                Opcode::Text | Opcode::Binary => self.take(payload, now_us)?,
                Opcode::Ping => frames::write(&mut self.line.borrow_mut().out, Opcode::Pong, mask, payload),
                Opcode::Pong => {}
                Opcode::Close => {
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    return Err(anyhow!("closed with {code} {reason}"));
                }
            }
            Ok(())
        })?;
        let line = self.line.borrow();
        if !line.out.is_empty() {
            line.wake();
        }
        Ok(())
    }

    /// Takes a reply or an event.
    fn take(&self, payload: &[u8], now_us: u64) -> Result<()> {
        let encoding = self.place.encoding;
        match encoding.kind(payload) {
            Kind::Reply(id) => self.take_reply(id, payload, now_us),
            Kind::Event => match Marker::find(payload) {
                Some((at, marker)) => {
                    self.take_message(&payload[..at], marker, now_us);
                    Ok(())
                }
                None => self.take_event(payload),
            },
            Kind::Unknown => bail!("a frame that is neither a reply nor an event"),
        }
    }

    fn take_reply(&self, id: u64, payload: &[u8], now_us: u64) -> Result<()> {
        let encoding = self.place.encoding;
        let mut line = self.line.borrow_mut();
        if line.awaited == Some(id) {
            line.awaited = None;
            line.reply = Some(encoding.read(payload)?);
            return Ok(());
        }
        let Some(index) = line.waiting.iter().position(|waiting| waiting.id == id) else { return Ok(()) };
        let Some(waiting) = line.waiting.remove(index) else { return Ok(()) };
        drop(line);
        if !encoding.is_ok(payload) {
            self.thread.meter().error(&error_code(&encoding.read(payload)?));
            self.thread.finished();
            return Ok(());
        }
        let number = encoding.field(payload, if self.is_topic() { "offset" } else { "seq" });
        self.thread.rooms().reached(self.place.room, number.unwrap_or(0));
        self.thread.meter().acknowledged(now_us.saturating_sub(waiting.due_us));
        Ok(())
    }

    /// Takes a message or publication. `head` is the frame before the text.
    fn take_message(&self, head: &[u8], marker: Marker, now_us: u64) {
        let number = self.place.encoding.field(head, if self.is_topic() { "offset" } else { "seq" });
        let mut meter = self.thread.meter();
        meter.delivered(now_us.saturating_sub(marker.due_us));
        if let Some(number) = number {
            match self.received.borrow_mut().take(number) {
                Arrival::Newest { passed_over } => meter.missing(passed_over),
                Arrival::Late => meter.late_arrival(),
                Arrival::Doubled => meter.doubled(),
            }
        }
        drop(meter);
        if marker.sender as usize == self.place.index {
            self.thread.finished();
        }
    }

    fn take_event(&self, payload: &[u8]) -> Result<()> {
        // Rare events only: presence and the like have no marker either, but `draining` is the one that matters.
        if memchr::memmem::find(payload, b"draining").is_none() {
            return Ok(());
        }
        let event = self.place.encoding.read(payload)?;
        if event["ev"] == json!("draining") {
            let after = Duration::from_millis(event["reconnect_after_ms"].as_u64().unwrap_or(0));
            let own = self.own.clone();
            tokio::task::spawn_local(async move {
                sleep(after).await;
                if let Some(session) =
                    own.upgrade().filter(|session| session.instruction.get() == Instruction::Stay)
                {
                    session.tell(Instruction::Move);
                }
            });
        }
        Ok(())
    }
}

/// The code of an error in a reply.
pub(super) fn error_code(reply: &Value) -> String {
    reply["error"]["code"].as_str().unwrap_or("a reply without `ok`").to_owned()
}
