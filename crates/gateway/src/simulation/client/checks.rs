//! What a client checks at once, as it is told.

use serde_json::Value;

use super::super::names;
use super::Client;
use super::connection::Connection;

impl Client {
    /// Checks that nobody has read further than the database says of this log.
    pub(super) fn check_mark(&self, conversation: &str, user: &str, seq: u64) {
        let log = self.log_of(conversation);
        let mark = self.world.log.mark_of(conversation, log, user);
        if seq > mark.get() {
            let text = format!("client {} is told that {user} has read {seq} of {conversation}", self.number);
            self.world.fault(&format!("{text} {log}; it is {mark}"));
        }
    }

    /// Checks that a user who types in this log has sent `typing` since it was created.
    pub(super) fn check_typing(&self, conversation: &str, user: &str, typing: &Value) {
        let log = self.log_of(conversation);
        let made_at_ms = self.world.log.made_at_ms(conversation, log).unwrap_or(i64::MIN);
        let typed = self.world.typed.borrow();
        let until_ms = typed.get(&(conversation.to_owned(), user.into())).copied().unwrap_or(i64::MIN);
        if *typing == true && until_ms < made_at_ms {
            self.world.fault(&format!(
                "client {} is told that {user} types in {conversation} {log}, where they never did",
                self.number
            ));
        }
    }

    /// Checks that a user who is shown as online in this log has ever joined it.
    pub(super) fn check_online(&self, conversation: &str, user: &str) {
        let log = self.log_of(conversation);
        let clients = self.world.clients.borrow();
        let shown = (0..clients.len()).find(|number| *names::user(*number) == *user);
        if !shown.is_some_and(|number| clients[number].may_have_joined(conversation, log)) {
            self.world.fault(&format!(
                "client {} is told that {user} is online in {conversation} {log}, which they never joined",
                self.number
            ));
        }
    }

    /// Checks that a client that is told to be out of a log was removed from this one.
    pub(super) fn check_removal(&self, connection: &Connection, conversation: &str) {
        let log = self.log_of(conversation);
        if connection.joined.contains_key(conversation)
            && !self.world.log.has_removed(conversation, log, &self.user)
        {
            self.world.fault(&format!(
                "client {} is told to be out of {conversation} {log}, and is not",
                self.number
            ));
        }
    }

    /// Checks that the log whose end is told is the one that the client knows.
    pub(super) fn check_end(&self, conversation: &str, log: &str) {
        let known = self.cursors.get(conversation).and_then(|cursor| cursor.log.as_deref());
        if known != Some(log) {
            self.world.fault(&format!(
                "client {} knows {known:?} of {conversation} and was told of the end of {log}",
                self.number
            ));
        }
    }

    /// Returns the log id of a conversation, as far as the client knows it.
    fn log_of(&self, conversation: &str) -> &str {
        self.cursors.get(conversation).and_then(|cursor| cursor.log.as_deref()).unwrap_or_default()
    }
}
