//! How a session gets its connection: it opens one, attaches, and enters its room.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::driving::Connection;
use super::line::Line;
use super::{Instruction, Resume, Session};
use crate::client::upgrade::upgrade;
use crate::scenario::RoomKind;

/// The longest time for a step of connecting: opening, upgrading, a reply.
const STEP_MAX: Duration = Duration::from_secs(30);

impl Session {
    /// Opens a connection, attaches the session and puts it into its room.
    pub(super) async fn connect(&self, failures: u32) -> Result<Connection> {
        let target = self.thread.target();
        let address = target.address(self.place.index + failures as usize);
        let mut stream =
            within("open a connection", address.open(self.place.index, target.sources())).await?;
        let rest = within("upgrade", upgrade(&mut stream, address, self.place.encoding)).await?;
        let mut connection = Connection::new(stream);
        {
            let mut line = self.line.borrow_mut();
            let waiting = std::mem::take(&mut line.waiting);
            *line = Line { waiting, ..Line::default() };
        }
        if !rest.is_empty() {
            self.receive(&mut connection, &rest)?;
        }
        let in_room = self.attach(&mut connection).await?;
        if !in_room {
            self.enter(&mut connection).await?;
        }
        self.instruction.set(if self.instruction.get() == Instruction::End {
            Instruction::End
        } else {
            Instruction::Stay
        });
        let mut line = self.line.borrow_mut();
        line.attached = true;
        for index in 0..line.waiting.len() {
            self.write_waiting(&mut line, index);
        }
        drop(line);
        Ok(connection)
    }

    /// Sends `connect`. Returns whether an earlier session was resumed, which puts it back into its room.
    async fn attach(&self, connection: &mut Connection) -> Result<bool> {
        let mut command = json!({"op": "connect", "token": self.thread.target().token(self.place.index)});
        if let Some(resume) = &*self.resume.borrow() {
            command["resume"] = self.cursors(resume);
        }
        let ok = self.request(connection, command).await.context("connect")?;
        *self.resume.borrow_mut() =
            Some(Resume { session: ok["session"].clone(), ticket: ok["ticket"].clone() });
        if ok["resumed"] != json!(true) {
            return Ok(false);
        }
        let (list, whole) = match self.thread.room_kind() {
            RoomKind::Conversation => ("conversations", "truncated"),
            RoomKind::Topic => ("topics", "recovered"),
            RoomKind::None => return Ok(true),
        };
        let room = &ok[list][self.room.as_str()];
        if room.is_null() {
            return Ok(false);
        }
        let complete = room[whole] == json!(list == "topics");
        if !complete {
            // What lies between is not replayed: a client would read it page by page.
            self.received.borrow_mut().position = None;
        }
        Ok(true)
    }

    fn cursors(&self, resume: &Resume) -> Value {
        let received = self.received.borrow();
        let mut value = json!({"session": resume.session, "ticket": resume.ticket, "cursors": {}});
        let Some(position) = received.position else { return value };
        match self.thread.room_kind() {
            RoomKind::Conversation => {
                value["cursors"][self.room.as_str()] = json!({"seq": position, "log": received.log});
            }
            RoomKind::Topic => {
                value["topics"] = json!({self.room.as_str(): {"epoch": received.log, "offset": position}});
            }
            RoomKind::None => {}
        }
        value
    }

    /// Creates the conversation if that is this session's part, and joins it, or subscribes to the topic.
    async fn enter(&self, connection: &mut Connection) -> Result<()> {
        let (command, position, log) = match self.thread.room_kind() {
            RoomKind::Conversation => {
                self.create(connection).await?;
                (json!({"op": "join", "conversation": self.room}), "head", "log")
            }
            RoomKind::Topic => (json!({"op": "subscribe", "topic": self.room}), "offset", "epoch"),
            RoomKind::None => return Ok(()),
        };
        let ok = self.request(connection, command).await.context("join")?;
        let mut received = self.received.borrow_mut();
        // Events that came right behind the reply have been counted already.
        let position = ok[position].as_u64().context("the reply has no position")?;
        received.position = Some(received.position.unwrap_or(0).max(position));
        received.log = ok[log].clone();
        Ok(())
    }

    /// The first session of a room creates the conversation, with all as members. The others wait for that.
    async fn create(&self, connection: &mut Connection) -> Result<()> {
        let rooms = self.thread.rooms();
        let members = rooms.members(self.place.room);
        if rooms.exists(self.place.room) {
            return Ok(());
        }
        if members.start == self.place.index {
            let names: Vec<String> = members.map(|member| self.thread.target().user(member)).collect();
            let command = json!({"op": "create", "conversation": self.room, "members": names});
            self.request(connection, command).await.context("create")?;
            rooms.created(self.place.room);
            return Ok(());
        }
        let exists = async {
            while !rooms.exists(self.place.room) {
                let _ = timeout(Duration::from_millis(20), self.drive(connection, |_| None::<()>)).await;
            }
            Ok(())
        };
        within("wait for the conversation to be created", exists).await
    }
}

/// Waits for a step, but not for longer than [`STEP_MAX`].
pub(super) async fn within<T>(step: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(STEP_MAX, future)
        .await
        .map_err(|_| anyhow!("{step}: no answer in {STEP_MAX:?}"))?
        .with_context(|| step.to_owned())
}
