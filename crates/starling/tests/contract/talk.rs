//! What a scenario says to a node, in short words that fail loudly.

use std::time::Duration;

use serde_json::{Value, json};
use starling_testkit::client::{Client, ErrorReply, Failure};

/// How long something may take that should come at once.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a socket is listened to for what should not come.
pub const SILENCE: Duration = Duration::from_millis(400);

pub trait Talk {
    /// A command that succeeds.
    async fn ask(&mut self, op: &str, fields: Value) -> Value;
    /// A command that is refused.
    async fn refusal(&mut self, op: &str, fields: Value) -> ErrorReply;
    /// The code of a command's refusal.
    async fn refused(&mut self, op: &str, fields: Value) -> String;
    /// `send`; answers the number.
    async fn say(&mut self, conversation: &str, content: &str) -> u64;
    /// `join` without a cursor.
    async fn join(&mut self, conversation: &str) -> Value;
    /// The first event of this name for which `wanted` holds.
    async fn event(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value;
    /// The numbers of the next `count` messages.
    async fn numbers(&mut self, count: usize) -> Vec<u64>;
    /// The next frame that is an object: a reply or an event.
    async fn frame(&mut self) -> Value;
    /// All events of this name that come before some silence.
    async fn rest(&mut self, name: &str) -> Vec<Value>;
    /// The code with which the node closes.
    async fn close_code(&mut self) -> Option<u16>;
    /// What a client remembers to come back with, without cursors.
    fn resumption(&self) -> Value;
}

impl Talk for Client {
    async fn ask(&mut self, op: &str, fields: Value) -> Value {
        match self.command(op, fields.clone()).await {
            Ok(answer) => answer,
            Err(failure) => panic!("{op} {fields}: {failure}"),
        }
    }

    async fn refusal(&mut self, op: &str, fields: Value) -> ErrorReply {
        match self.command(op, fields.clone()).await {
            Err(Failure::Refused(reply)) => reply,
            other => panic!("{op} {} was not refused: {other:?}", shortened(&fields)),
        }
    }

    async fn refused(&mut self, op: &str, fields: Value) -> String {
        self.refusal(op, fields).await.code
    }

    async fn say(&mut self, conversation: &str, content: &str) -> u64 {
        let key = format!("{:032x}", rand::random::<u128>());
        let sent =
            self.ask("send", json!({"conversation": conversation, "key": key, "content": content})).await;
        sent["seq"].as_u64().expect("seq")
    }

    async fn join(&mut self, conversation: &str) -> Value {
        self.ask("join", json!({ "conversation": conversation })).await
    }

    async fn event(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = self.wait_for(|event| event["ev"] == name && wanted(event)).await;
        found.unwrap_or_else(|failure| panic!("waiting for {name}: {failure}"))
    }

    async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(count);
        while numbers.len() < count {
            numbers.push(self.event("message", |_| true).await["seq"].as_u64().expect("seq"));
        }
        numbers
    }

    async fn frame(&mut self) -> Value {
        loop {
            let message = self.next_raw(SOON).await.unwrap();
            if let Some(frame) = self.encoding().decode(&message).unwrap() {
                return frame;
            }
        }
    }

    async fn rest(&mut self, name: &str) -> Vec<Value> {
        let events = self.drain_events(SILENCE).await.unwrap();
        events.into_iter().filter(|event| event["ev"] == name).collect()
    }

    async fn close_code(&mut self) -> Option<u16> {
        self.closed(SOON).await.unwrap().code
    }

    fn resumption(&self) -> Value {
        let (session, ticket) = (&self.welcome()["session"], &self.welcome()["ticket"]);
        json!({"session": session, "ticket": ticket, "cursors": {}})
    }
}

/// The keys of an object, in alphabetical order.
pub fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Asserts that a text is a time in UTC with milliseconds.
pub fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let pattern = "0000-00-00T00:00:00.000Z";
    let fits = |(is, wanted): (char, char)| if wanted == '0' { is.is_ascii_digit() } else { is == wanted };
    assert!(text.len() == pattern.len() && text.chars().zip(pattern.chars()).all(fits), "{value} is no time");
}

fn shortened(fields: &Value) -> String {
    fields.to_string().chars().take(200).collect()
}
