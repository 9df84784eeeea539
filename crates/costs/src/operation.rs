//! The operations whose instructions are counted, and how each is done.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding, Message, Upgrade};
use starling_testkit::node::Node;

use super::callgrind::{CountedNode, Precision, Units};

/// Clients that receive each message when deliveries are counted.
const RECEIVERS: usize = 50;
/// How long a client waits for the node, which callgrind slows down.
const PATIENCE: Duration = Duration::from_secs(120);
/// Handshakes of two runs, whose difference is counted.
const HANDSHAKES: Units = Units { few: 20, many: 120 };
/// Commands of one client.
const COMMANDS: Units = Units { few: 50, many: 350 };
/// Messages to many clients.
const FAN_OUT: Units = Units { few: 10, many: 90 };
/// The text of each message and publication.
const TEXT: &str = "A message of 64 bytes, which is a usual length in conversations.";

/// Something that a client does, or that happens for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A WebSocket handshake without `connect`.
    Upgrade,
    /// A handshake, and `connect` with a token.
    Connect,
    /// A handshake, `connect`, and `join` of a conversation.
    Join,
    /// A `ping` and its reply.
    Ping,
    /// A `publish` to a topic without subscribers.
    Publish(Encoding),
    /// A `send` to a conversation that nobody has joined, committed by SQLite.
    Send(Encoding),
    /// The delivery of a publication to one subscriber.
    DeliverPublication(Encoding),
    /// The delivery of a message to one session that has joined its conversation.
    DeliverMessage(Encoding),
}

/// The instructions of each operation.
pub type Cost = HashMap<Operation, f64>;

impl Operation {
    /// All operations.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Upgrade, Self::Connect, Self::Join, Self::Ping];
        for of in [Self::Publish, Self::Send, Self::DeliverPublication, Self::DeliverMessage] {
            all.extend(Encoding::ALL.map(of));
        }
        all
    }

    /// A short description.
    pub fn name(self) -> String {
        let (what, encoding) = match self {
            Self::Upgrade => ("upgrade", None),
            Self::Connect => ("upgrade + connect", None),
            Self::Join => ("upgrade + connect + join", None),
            Self::Ping => ("ping", None),
            Self::Publish(encoding) => ("publish", Some(encoding)),
            Self::Send(encoding) => ("send", Some(encoding)),
            Self::DeliverPublication(encoding) => ("delivery of a publication", Some(encoding)),
            Self::DeliverMessage(encoding) => ("delivery of a message", Some(encoding)),
        };
        match encoding {
            None => what.to_owned(),
            Some(Encoding::Json) => format!("{what}, JSON"),
            Some(Encoding::MessagePack) => format!("{what}, MessagePack"),
        }
    }
}

/// Counts the instructions that a node of this program executes for each operation.
///
/// # Errors
/// When the node can't be started under callgrind, or refuses something.
pub async fn instructions(program: &Path, precision: Precision) -> Result<Cost> {
    let mut node = CountedNode::start(program, precision).await?;
    let mut cost = Cost::new();
    // They stay until the end: a session that ends costs something later.
    let mut clients = Vec::new();
    for operation in [Operation::Upgrade, Operation::Connect, Operation::Join] {
        cost.insert(operation, arrivals(&mut node, operation, &mut clients).await?);
    }
    let mut pinger = client(node.node(), "pinger", Encoding::Json).await?;
    let pings = async |_: &Node, amount| {
        for _ in 0..amount {
            pinger.command("ping", json!({})).await?;
        }
        Ok(())
    };
    cost.insert(Operation::Ping, node.per_unit(COMMANDS, pings).await?);
    for encoding in Encoding::ALL {
        for write in [Write::Publish, Write::Send] {
            let alone = write.count(&mut node, encoding, 0, COMMANDS, &mut clients).await?;
            let shared = write.count(&mut node, encoding, RECEIVERS, FAN_OUT, &mut clients).await?;
            let (command, delivery) = write.operations(encoding);
            cost.insert(command, alone);
            cost.insert(delivery, (shared - alone) / RECEIVERS as f64);
        }
    }
    Ok(cost)
}

/// Counts arrivals of one user.
async fn arrivals(node: &mut CountedNode, operation: Operation, clients: &mut Vec<Client>) -> Result<f64> {
    if operation == Operation::Join {
        let mut host = client(node.node(), "guest", Encoding::Json).await?;
        host.command("create", json!({"conversation": "hall"})).await?;
        // The first one comes online, which is an event for the others.
        host.command("join", json!({"conversation": "hall"})).await?;
        clients.push(host);
    }
    let work = async |node: &Node, amount| {
        for _ in 0..amount {
            let mut arrived = match operation {
                Operation::Upgrade => Upgrade::to(&node.ws_url()).open().await?,
                _ => client(node, "guest", Encoding::Json).await?,
            };
            if operation == Operation::Join {
                arrived.command("join", json!({"conversation": "hall"})).await?;
            }
            clients.push(arrived);
        }
        Ok(())
    };
    node.per_unit(HANDSHAKES, work).await
}

/// A command that is delivered to others.
#[derive(Clone, Copy)]
enum Write {
    Publish,
    Send,
}

impl Write {
    fn operations(self, encoding: Encoding) -> (Operation, Operation) {
        match self {
            Self::Publish => (Operation::Publish(encoding), Operation::DeliverPublication(encoding)),
            Self::Send => (Operation::Send(encoding), Operation::DeliverMessage(encoding)),
        }
    }

    /// Counts the command together with its delivery to this many receivers. The next command follows when everybody has the last
    /// one, so that each is delivered by itself.
    async fn count(
        self,
        node: &mut CountedNode,
        encoding: Encoding,
        receivers: usize,
        units: Units,
        clients: &mut Vec<Client>,
    ) -> Result<f64> {
        let place = format!("{}{encoding:?}{receivers}", if matches!(self, Self::Send) { "c" } else { "t" });
        let mut writer = client(node.node(), "writer", encoding).await?;
        if matches!(self, Self::Send) {
            let create = json!({"conversation": place, "members": ["reader"]});
            writer.command("create", create).await?;
        }
        let mut readers = Vec::new();
        for _ in 0..receivers {
            let mut reader = client(node.node(), "reader", encoding).await?;
            match self {
                Self::Publish => reader.command("subscribe", json!({"topic": place})).await?,
                Self::Send => reader.command("join", json!({"conversation": place})).await?,
            };
            readers.push(reader);
        }
        for reader in &mut readers {
            // Whatever came of the others' joins is not in the way of what follows.
            reader.has_been_read().await?;
        }
        let mut key = 0_u64;
        let work = async |_: &Node, amount| {
            for _ in 0..amount {
                key += 1;
                let (op, fields) = match self {
                    Self::Publish => ("publish", json!({"topic": place, "data": {"text": TEXT}})),
                    Self::Send => {
                        let key = format!("key-{key:06}");
                        ("send", json!({"conversation": place, "key": key, "content": TEXT}))
                    }
                };
                writer.command(op, fields).await?;
                for reader in &mut readers {
                    let frame = reader.next_raw(PATIENCE).await?;
                    ensure!(matches!(frame, Message::Text(_) | Message::Binary(_)), "{frame:?}");
                }
            }
            Ok(())
        };
        let count = node.per_unit(units, work).await.with_context(|| place.clone())?;
        clients.push(writer);
        clients.append(&mut readers);
        Ok(count)
    }
}

async fn client(node: &Node, user: &str, encoding: Encoding) -> Result<Client> {
    let mut client = Client::connect(&node.ws_url(), &node.token(user), encoding).await?;
    client.set_patience(PATIENCE);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut names: Vec<String> = Operation::all().into_iter().map(Operation::name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Operation::all().len());
    }
}
