//! What a client does with what it is told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::time;
use super::super::witness::Shown;
use super::Client;
use super::connection::{Awaited, Connection, Over};

impl Client {
    /// Handles a frame.
    pub(super) fn take(&mut self, connection: &mut Connection, frame: &Value) -> Option<Over> {
        if frame["ev"].is_null() {
            return self.take_reply(connection, frame);
        }
        self.take_event(connection, frame);
        None
    }

    fn take_event(&mut self, connection: &mut Connection, frame: &Value) {
        let (conversation, user) = (text(&frame["conversation"]), text(&frame["user"]));
        match text(&frame["ev"]) {
            "message" => self.take_message(connection, frame),
            "read" => self.check_mark(conversation, user, frame["seq"].as_u64().unwrap_or(0)),
            "typing" => self.check_typing(conversation, user, &frame["typing"]),
            "deleted" => {
                self.check_end(conversation, text(&frame["log"]));
                self.is_out(connection, conversation);
            }
            "member" if *user == *self.user && frame["member"] == false => {
                self.check_removal(connection, conversation);
                self.is_out(connection, conversation);
            }
            "presence" => {
                let online = frame["online"] == true;
                if online {
                    self.check_online(conversation, user);
                }
                if let Some(Some(people)) = connection.joined.get_mut(conversation) {
                    people.insert(user.to_owned(), online);
                    self.publish_view(connection);
                }
            }
            "draining" => {
                connection.told = true;
                if self.follows_draining {
                    let after = frame["reconnect_after_ms"].as_u64().unwrap_or(0);
                    connection.leave_at = Some(Instant::now() + Duration::from_millis(after));
                }
            }
            _ => {}
        }
    }

    /// Notes that the client is out of a conversation. It soon tries to join the one that has this name then.
    fn is_out(&mut self, connection: &mut Connection, conversation: &str) {
        self.world.note(|| format!("client {} is out of {conversation}", self.number));
        connection.joined.remove(conversation);
        connection.join_again_at = Instant::now() + self.chance.millis(1, 200);
        self.publish_view(connection);
    }

    fn take_message(&mut self, connection: &mut Connection, frame: &Value) {
        let conversation = text(&frame["conversation"]);
        let seq = frame["seq"].as_u64().unwrap_or(0);
        let shown = Shown {
            seq,
            id: text(&frame["id"]).to_owned(),
            sender: text(&frame["sender"]).to_owned(),
            content: text(&frame["content"]).to_owned(),
        };
        let cursor = self.cursors.entry(conversation.to_owned()).or_default();
        cursor.seq = seq.max(cursor.seq);
        let place = (conversation.to_owned(), cursor.log.clone().unwrap_or_default());
        self.world.note(|| format!("client {} is shown {seq} of {place:?}", self.number));
        self.world.show(self.number, &place, shown);
        self.world.clients.borrow_mut()[self.number].cursors = self.cursors.clone();
        if self.chance.one_in(3) {
            connection.ask(Awaited::Read, json!({ "op": "read", "conversation": conversation, "seq": seq }));
        }
    }

    fn take_reply(&mut self, connection: &mut Connection, frame: &Value) -> Option<Over> {
        let id = frame["id"].as_u64().unwrap_or(0);
        let (awaited, _) = connection.awaited.remove(&id)?;
        let (ok, error) = (&frame["ok"], &frame["error"]);
        // A conversation does not exist while it is being created again.
        let is_expected =
            error["code"] == "unavailable" || (self.world.remakes && error["code"] == "not_found");
        if !error.is_null() && !is_expected {
            self.world.fault(&format!("client {} was told {error}", self.number));
        }
        let again_at =
            Instant::now() + Duration::from_millis(error["retry_after_ms"].as_u64().unwrap_or(300) / 3);
        if matches!(awaited, Awaited::Connect | Awaited::Join(_)) {
            self.world.clients.borrow_mut()[self.number].unanswered -= 1;
        }
        match awaited {
            Awaited::Connect if !error.is_null() => return Some(Over::Lost),
            Awaited::Connect => self.connected(connection, ok),
            Awaited::Join(_) if !error.is_null() => connection.join_again_at = again_at,
            Awaited::Join(conversation) => self.joined(connection, conversation, ok),
            Awaited::Typing(conversation) => {
                let typed = (conversation, self.user.clone());
                self.world.typed.borrow_mut().insert(typed, time::now_ms());
            }
            Awaited::Read => {}
            Awaited::Send(key) if !error.is_null() => {
                if let Some(outstanding) = self.outstanding.get_mut(&key) {
                    (outstanding.under_way, outstanding.again_at) = (false, again_at);
                }
            }
            Awaited::Send(key) => self.sent(&key, ok),
        }
        None
    }

    fn connected(&mut self, connection: &mut Connection, ok: &Value) {
        connection.connected = true;
        let resumed = ok["resumed"] == true;
        if self.session.is_some() {
            self.world.witness.borrow_mut().returns(resumed);
            if let Some(since) = connection.away_since {
                self.world.judge_return(self.number, since.elapsed(), resumed);
            }
        }
        if !resumed {
            // They belong to the session before this one, and no node has to close them for it.
            self.rivals.drain(..).for_each(|rival| rival.abort());
        }
        self.world.clients.borrow_mut()[self.number].session = text(&ok["session"]).to_owned();
        self.session = Some((text(&ok["session"]).to_owned(), text(&ok["ticket"]).to_owned()));
        self.world.note(|| format!("client {} is connected: {ok}", self.number));
        if !self.world.remakes && ok["gone"].as_array().is_some_and(|gone| !gone.is_empty()) {
            self.world.fault(&format!("client {} lost its conversations: {ok}", self.number));
        }
        for (conversation, resumed) in ok["conversations"].as_object().into_iter().flatten() {
            if resumed["truncated"] == true {
                self.world.fault(&format!("client {} was replayed less than it missed: {ok}", self.number));
            }
            self.take_log(conversation, resumed);
            connection.joined.insert(conversation.clone(), None);
        }
        self.publish_view(connection);
    }

    fn joined(&mut self, connection: &mut Connection, conversation: String, ok: &Value) {
        let online = ok["online"].as_array().into_iter().flatten();
        let people = online.map(|user| (text(user).to_owned(), true)).collect();
        self.take_log(&conversation, ok);
        for user in ok["online"].as_array().into_iter().flatten() {
            self.check_online(&conversation, text(user));
        }
        for (user, seq) in ok["reads"].as_object().into_iter().flatten() {
            self.check_mark(&conversation, user, seq.as_u64().unwrap_or(0));
        }
        connection.joined.insert(conversation, Some(people));
        self.publish_view(connection);
    }

    fn sent(&mut self, key: &str, ok: &Value) {
        let Some(outstanding) = self.outstanding.remove(key) else { return };
        let seq = ok["seq"].as_u64().unwrap_or(0);
        self.world.note(|| format!("client {} has {seq} for {:?}", self.number, outstanding.sending));
        self.world.witness.borrow_mut().acknowledge(&outstanding.sending, seq, text(&ok["id"]));
    }

    /// Takes over what a reply says about the log of a conversation.
    fn take_log(&mut self, conversation: &str, told: &Value) {
        let cursor = self.cursors.entry(conversation.to_owned()).or_default();
        let (log, is_reset) = (text(&told["log"]).to_owned(), told["reset"] == true);
        let is_other = cursor.log.as_ref().is_some_and(|known| *known != log);
        if is_other != is_reset {
            self.world.fault(&format!("client {} has {cursor:?} and was told {told}", self.number));
        }
        if is_reset {
            cursor.seq = 0;
        }
        cursor.log = Some(log.clone());
        self.world.clients.borrow_mut()[self.number].logs.insert((conversation.to_owned(), log));
    }

    fn publish_view(&self, connection: &Connection) {
        let state = &mut self.world.clients.borrow_mut()[self.number];
        state.joined = connection.joined.clone();
        state.cursors = self.cursors.clone();
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
