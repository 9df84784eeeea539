//! Ordinary user of a node that is under attack.

use std::time::Duration;

use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::SOON;

/// Pause between two messages. Without it a quick node is asked for more than the default 50 commands per second.
const PAUSE: Duration = Duration::from_millis(50);

/// User who sends a message, waits for its event, and sends the next one, until asked for the result.
pub struct Witness {
    task: JoinHandle<u64>,
    stop: watch::Sender<bool>,
}

impl Witness {
    /// Starts in a new conversation.
    pub async fn of(node: &Node) -> Self {
        Self::called(node, "witness").await
    }

    /// Starts as this user, in the conversation of that name.
    pub async fn called(node: &Node, user: &str) -> Self {
        let mut client = Client::connect(&node.ws_url(), &node.token(user), Encoding::Json).await.unwrap();
        client.set_patience(SOON);
        client.command("create", json!({"conversation": user})).await.unwrap();
        client.command("join", json!({"conversation": user})).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let conversation = user.to_owned();
        let task = tokio::spawn(async move {
            let mut served = 0;
            // At least one message after the end of the attack.
            loop {
                let last = *stopped.borrow();
                served += 1;
                let fields =
                    json!({"conversation": conversation, "key": format!("k{served}"), "content": "x"});
                let sent = client.command("send", fields).await.expect("a send that is served");
                assert_eq!(sent["seq"], served);
                let event = client.wait_for_event("message").await.expect("the message");
                assert_eq!(event["seq"], served);
                if last {
                    return served;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { task, stop }
    }

    /// Returns the number of messages. Panics if one was not delivered.
    pub async fn was_served(self) -> u64 {
        self.stop.send_replace(true);
        let served = self.task.await.expect("a witness that was served");
        println!("the witness was served {served} messages");
        served
    }
}
