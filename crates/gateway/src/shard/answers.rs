//! What an answer does to its connection.

use starling_hub::{
    Answer, CommandError, PreparedConnect, PreparedJoin, PreparedSubscribe, Reply, TopicAttachment,
};
use starling_wire::protocol::{CloseReason, ErrorCode};

use super::chunks::Kind;
use super::close_text::close_text;
use super::running::{Outcome, Resumption, Running, TopicSubscribed};
use super::step::Step;

impl Step<'_> {
    /// Applies the result of a command that ran.
    pub(super) fn done(&mut self, id: u64, done: Outcome) {
        match done {
            Outcome::Answer(answer) => self.answer_now(id, answer),
            Outcome::Subscribed(subscription) => self.subscribed(id, subscription),
            Outcome::Resumed(resumption) => self.resumed(id, resumption),
        }
    }

    /// Applies an answer to the connection and sends its reply.
    pub(super) fn answer(&mut self, id: u64, answer: Answer) {
        match answer {
            Answer::Reply(reply) => self.reply(id, &reply),
            Answer::Refreshed(refreshed, topics) => {
                for topic in topics {
                    self.table.unsubscribe(self.key, topic);
                }
                self.reply(id, &Ok(Reply::Refreshed(refreshed)));
                self.watch_token();
            }
            Answer::Refused(error) => self.refuse(id, error),
            Answer::Connect(prepared) => self.connect(id, *prepared),
            Answer::Close(reason) => self.table.close(self.key, reason, close_text(reason)),
            Answer::Join(prepared) => self.join(id, prepared),
            Answer::Subscribe(prepared) => self.subscribe(id, prepared),
            Answer::Leave(channel) => {
                if let Some(channel) = channel {
                    self.table.unsubscribe(self.key, channel);
                }
                self.reply(id, &Ok(Reply::Empty));
            }
        }
    }

    /// Sends the error of a refused `connect`, then closes the connection.
    fn refuse(&mut self, id: u64, error: CommandError) {
        let (reason, text) = match error.code {
            ErrorCode::RateLimited => (CloseReason::Overloaded, "over the limit on connections"),
            _ => (CloseReason::Unauthorized, "connect with a valid token first"),
        };
        self.reply(id, &Err(error));
        self.table.close(self.key, reason, text);
    }

    /// Attaches a session. Where it has topics, their histories come before the answer.
    fn connect(&mut self, id: u64, prepared: PreparedConnect) {
        let Some(conn) = self.table.get_mut(self.key).filter(|conn| conn.is_open()) else {
            return prepared.abandon();
        };
        let session = prepared.session().clone();
        let (connected, attachments, topics) = match prepared.attach() {
            Ok(attached) => attached,
            Err(reason) => return self.table.close(self.key, reason, close_text(reason)),
        };
        conn.client.connected(session);
        for attachment in attachments {
            self.table.subscribe(self.key, attachment.channel, Some(attachment));
        }
        self.watch_token();
        let connected = Box::new(connected);
        if topics.is_empty() {
            return self.reply(id, &Ok(Reply::Connected(connected)));
        }
        if let Some(conn) = self.conn() {
            conn.early.begin();
        }
        for topic in &topics {
            topic.attach();
            self.table.subscribe(self.key, topic.channel(), None);
        }
        let bytes_max = self.env.settings.outbox_bytes_soft();
        self.run(Running::connect(id, connected, topics, bytes_max));
    }

    /// Answers a `connect` whose topics' histories have been read, then replays them.
    fn resumed(&mut self, id: u64, resumption: Resumption) {
        let Resumption { mut connected, topics: subscriptions } = resumption;
        let mut replays = Vec::new();
        let mut topics = connected.topics.take().unwrap_or_default();
        for (topic, history) in subscriptions {
            match history {
                Ok(attachment) => {
                    topics.insert(topic.name().clone(), attachment.subscribed.clone());
                    replays.push((topic, attachment));
                }
                // The client finds the topic missing from the answer, and subscribes again.
                Err(_) => self.undo(&topic),
            }
        }
        connected.topics = Some(topics);
        self.reply(id, &Ok(Reply::Connected(connected)));
        if let Some(conn) = self.conn() {
            conn.tell_early();
        }
        for (topic, attachment) in replays {
            self.replay(&topic, &attachment);
        }
    }

    fn join(&mut self, id: u64, prepared: PreparedJoin) {
        match prepared.attach() {
            Ok((joined, attachment)) => {
                self.table.subscribe(self.key, attachment.channel, Some(attachment));
                self.reply(id, &Ok(Reply::Joined(Box::new(joined))));
            }
            Err(error) => self.reply(id, &Err(error)),
        }
    }

    /// Attaches the socket to a topic, whose history comes before the answer.
    fn subscribe(&mut self, id: u64, prepared: PreparedSubscribe) {
        prepared.attach();
        self.table.subscribe(self.key, prepared.channel(), None);
        let bytes_max = self.env.settings.outbox_bytes_soft();
        self.run(Running::subscribe(id, prepared, bytes_max));
    }

    /// Answers a `subscribe` whose topic's history has been read, then replays it.
    fn subscribed(&mut self, id: u64, (topic, history): TopicSubscribed) {
        match history {
            Ok(attachment) => {
                self.reply(id, &Ok(Reply::Subscribed(attachment.subscribed.clone())));
                self.replay(&topic, &attachment);
            }
            Err(error) => {
                self.undo(&topic);
                self.reply(id, &Err(error));
            }
        }
    }

    /// Sends a topic's history, and lets the subscription go live behind it.
    fn replay(&mut self, topic: &PreparedSubscribe, attachment: &TopicAttachment) {
        if let Some(conn) = self.conn() {
            for (_, event) in &attachment.replay {
                // The answer has promised it, so it must not be lost.
                conn.push(conn.framing.event(event), Kind::Reply);
            }
        }
        let at = &attachment.subscribed;
        self.table.release(self.key, topic.channel(), &at.epoch, at.offset);
    }

    /// Ends a subscription because its topic's history could not be read.
    fn undo(&mut self, topic: &PreparedSubscribe) {
        topic.undo();
        self.table.unsubscribe(self.key, topic.channel());
    }

    /// Sets the deadline at which the connection is closed because its token expires.
    fn watch_token(&mut self) {
        let Some(conn) = self.conn() else { return };
        if let Some(session) = conn.client.session() {
            let ends_at_ms = session.expires_at_ms();
            conn.deadlines.set_token_end(ends_at_ms);
        }
    }

    fn run(&mut self, running: Running) {
        if let Some(conn) = self.conn() {
            conn.queue.run(running);
        }
    }

    fn reply(&mut self, id: u64, reply: &Result<Reply, CommandError>) {
        if let Some(conn) = self.conn() {
            conn.reply(id, reply);
        }
    }
}
