//! Short functions for scenarios. They panic on failure.

use std::time::Duration;

use serde_json::{Value, json};
use starling_testkit::client::{Client, ErrorReply, Failure};

/// Timeout for something that should happen at once.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a connection is watched for something that must not arrive.
pub const SILENCE: Duration = Duration::from_millis(400);

pub trait Talk {
    /// Sends a command that must succeed, and returns its `ok`.
    async fn ask(&mut self, op: &str, fields: Value) -> Value;
    /// Sends a command that must fail, and returns its error.
    async fn refusal(&mut self, op: &str, fields: Value) -> ErrorReply;
    /// Sends a command that must fail, and returns the error code.
    async fn refused(&mut self, op: &str, fields: Value) -> String;
    /// Sends a message and returns its number.
    async fn say(&mut self, conversation: &str, content: &str) -> u64;
    /// Joins without a cursor.
    async fn join(&mut self, conversation: &str) -> Value;
    /// Returns the first event of this name that satisfies `wanted`.
    async fn event(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value;
    /// Returns the numbers of the next `count` messages.
    async fn numbers(&mut self, count: usize) -> Vec<u64>;
    /// Returns the next reply or event.
    async fn frame(&mut self) -> Value;
    /// Returns all events of this name that arrive before a silence.
    async fn rest(&mut self, name: &str) -> Vec<Value>;
    /// Returns the code with which the node closes the connection.
    async fn close_code(&mut self) -> Option<u16>;
    /// Returns the `resume` of a client, without cursors.
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

/// Returns the keys of an object in alphabetical order.
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
