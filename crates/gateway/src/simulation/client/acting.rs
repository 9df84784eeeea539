//! What a client does by itself: its script, its joins, its sends.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use starling_auth::{Identity, Scopes};
use tokio::time::Instant;

use super::super::names::{self, TENANT};
use super::super::plan::Deed;
use super::connection::{Awaited, Connection, Over, PATIENCE};
use super::{Client, Outstanding};

/// Most sends without a reply.
const UNDER_WAY_MAX: usize = 8;
/// When to look again for another node to move to, if there is none.
const MOVE_AGAIN: Duration = Duration::from_millis(200);

impl Client {
    /// Does what is due.
    pub(super) async fn act(&mut self, connection: &mut Connection, now: Instant) -> Option<Over> {
        if connection.awaited.values().any(|(_, until)| *until <= now) {
            self.world.note(|| format!("client {} has waited long enough", self.number));
            return Some(Over::Lost);
        }
        if connection.leave_at.is_some_and(|at| at <= now) {
            match self.open(Some(&connection.node)) {
                Some(opened) => return Some(Over::Moved(Box::new(opened))),
                None => connection.leave_at = Some(now + MOVE_AGAIN),
            }
        }
        while let Some((at, deed)) = self.script.front().copied()
            && self.began + at <= now
        {
            self.script.pop_front();
            if let Some(over) = self.perform(deed, connection, now).await {
                return Some(over);
            }
        }
        self.world.clients.borrow_mut()[self.number].is_done = self.script.is_empty();
        if connection.connected {
            self.join_missing(connection, now);
            self.send_waiting(connection, now);
        }
        None
    }

    /// Returns when something is due next.
    pub(super) fn wakes_at(&self, connection: &Connection) -> Instant {
        let script = self.script.front().map(|(at, _)| self.began + *at);
        let replies = connection.awaited.values().map(|(_, until)| *until);
        let again =
            self.outstanding.values().filter(|o| !o.under_way && connection.connected).map(|o| o.again_at);
        let ghosts = self.ghosts.iter().map(|(_, until)| *until);
        let joins = (connection.connected && connection.joined.len() < self.world.conversations)
            .then_some(connection.join_again_at);
        let soonest =
            replies.chain(again).chain(ghosts).chain(script).chain(connection.leave_at).chain(joins).min();
        // If something is due now but can't be done yet, the client looks again with the next frame, or in a millisecond.
        let floor = Instant::now() + Duration::from_millis(1);
        soonest.unwrap_or_else(|| floor + Duration::from_secs(3_600)).max(floor)
    }

    async fn perform(&mut self, deed: Deed, connection: &mut Connection, now: Instant) -> Option<Over> {
        match deed {
            Deed::Send { conversation } => self.compose(conversation, now),
            Deed::Cut => return Some(Over::Lost),
            Deed::Away(time) => return Some(Over::Away(time)),
            Deed::Vanish(time) => return Some(Over::Vanished(time)),
            Deed::Stall(time) => tokio::time::sleep(time).await,
            // Without a session the two connections would begin two sessions.
            Deed::Race(_) if self.session.is_none() => {}
            Deed::Race(apart) => return Some(Over::Raced(apart)),
            Deed::Falter(after) => self.falter(connection, after),
            Deed::Type { conversation } => self.type_in(connection, &names::conversation(conversation)),
            Deed::BeEnded => self.be_ended(connection).await,
            Deed::Quit => return Some(Over::Quit),
        }
        None
    }

    /// Opens another connection for the client's session, which breaks after this time.
    fn falter(&mut self, connection: &mut Connection, after: Duration) {
        if self.session.is_none() {
            return;
        }
        let Some((node, mut pipe)) = self.open(None) else { return };
        self.world.note(|| format!("client {} falters on {}", self.number, node.name));
        pipe.send(&self.connect_command(1));
        self.asks_to_join();
        self.connect_sent_at = Some(Instant::now());
        connection.rivalled = true;
        tokio::task::spawn_local(async move {
            let _ = tokio::time::timeout(after, async { while pipe.next().await.is_some() {} }).await;
        });
    }

    fn type_in(&self, connection: &mut Connection, conversation: &str) {
        if !connection.joined.contains_key(conversation) {
            return;
        }
        self.world.typed.borrow_mut().insert((conversation.to_owned(), self.user.clone()), i64::MAX);
        let typing = json!({ "op": "typing", "conversation": conversation, "typing": true });
        connection.ask(Awaited::Typing(conversation.to_owned()), typing);
    }

    /// Has an operator end the client's session, through the node that the client is connected to.
    async fn be_ended(&self, connection: &Connection) {
        let Some((session, _)) = &self.session else { return };
        let operator = Identity {
            user: "operator".into(),
            tenant: TENANT.into(),
            scopes: Arc::new(Scopes::parse("admin")),
            expires_at_ms: i64::MAX,
        };
        // A dead node does not answer.
        let ended = tokio::time::timeout(PATIENCE, connection.node.hub.end_session(&operator, session)).await;
        if ended.is_ok_and(|ended| ended.is_ok()) {
            self.world.note(|| format!("the session of client {} is ended", self.number));
            self.world.ended.borrow_mut().insert(session.clone());
        }
    }

    /// Makes a message, which is sent as soon as the client is connected.
    fn compose(&mut self, conversation: usize, now: Instant) {
        self.keys += 1;
        let (key, conversation) = (format!("{:04}", self.keys), names::conversation(conversation));
        let padding = "x".repeat(self.chance.index(120));
        let content = format!("{} {key} in {conversation} {padding}", self.user);
        let sending = (conversation, self.user.to_string(), key.clone());
        self.world.witness.borrow_mut().sends(sending.clone(), content.clone());
        self.outstanding.insert(key, Outstanding { sending, content, again_at: now, under_way: false });
    }

    fn join_missing(&mut self, connection: &mut Connection, now: Instant) {
        if connection.join_again_at > now {
            return;
        }
        for conversation in (0..self.world.conversations).map(names::conversation) {
            if connection.joined.contains_key(&conversation) || connection.is_joining(&conversation) {
                continue;
            }
            // The session may be in the conversation from now on, whether or not the reply arrives.
            let cursor = self.cursors.entry(conversation.clone()).or_default();
            let mut join = json!({ "op": "join", "conversation": conversation, "after": cursor.seq });
            if let Some(log) = &cursor.log {
                join["log"] = log.as_str().into();
            }
            self.asks_to_join();
            connection.ask(Awaited::Join(conversation), join);
        }
    }

    fn send_waiting(&mut self, connection: &mut Connection, now: Instant) {
        let under_way = self.outstanding.values().filter(|outstanding| outstanding.under_way).count();
        let waiting = self.outstanding.iter_mut().filter(|(_, o)| !o.under_way && o.again_at <= now);
        for (key, outstanding) in waiting.take(UNDER_WAY_MAX.saturating_sub(under_way)) {
            outstanding.under_way = true;
            let (conversation, content) = (&outstanding.sending.0, &outstanding.content);
            let send = json!({ "op": "send", "conversation": conversation, "key": key, "content": content });
            connection.ask(Awaited::Send(key.clone()), send);
        }
    }
}
