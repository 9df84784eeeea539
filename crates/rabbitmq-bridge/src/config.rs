//! The settings of the bridge.

use std::path::PathBuf;
use std::time::Duration;

use starling_settings::{
    Table, Url, count, list, optional_choice, parsed, path, seconds, secret_url, settings, switch, text,
};

use crate::template::{JobField, MessageField, Template};

/// The longest name of a bridge, characters.
const NAME_LENGTH_MAX: usize = 60;

settings! {
    /// What an operator can set about RabbitMQ.
    pub struct RabbitmqSettings {
        /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps://…` with TLS, for the bridges of `[rabbitmq.in.NAME]` and `[rabbitmq.out.NAME]`.
        /// Nodes with the role `worker` connect. Without it nothing connects to RabbitMQ.
        setting url: Option<Url> = { Rabbitmq "rabbitmq_url" secret_url(); "RABBITMQ_URL" }
        /// PEM file with the authorities that may sign RabbitMQ's certificate. Without it: those of the system and of browsers.
        setting ca_file: Option<PathBuf> = { Rabbitmq "rabbitmq_ca_file" path() }
        /// A bridge in: messages of a queue of RabbitMQ become jobs. [rabbitmq.md](rabbitmq.md) explains the fields in braces.
        table incoming: Table<IncomingSettings> = { "rabbitmq.in" bridge_name; "[rabbitmq.in.orders]\nexchange = \"shop\"\nrouting_keys = [\"order.*\"]\nqueue = \"orders\"\n" }
        /// A bridge out: jobs of a queue are published to an exchange of RabbitMQ. [rabbitmq.md](rabbitmq.md) explains the fields in braces.
        table outgoing: Table<OutgoingSettings> = { "rabbitmq.out" bridge_name; "[rabbitmq.out.events]\nqueue = \"events\"\nexchange = \"starling\"\n" }
    }
}

settings! {
    /// What can be set about a bridge in.
    pub struct IncomingSettings {
        /// The topic exchange that the messages are published to. Needed.
        setting exchange: Option<String> = { Rabbitmq "exchange" text() }
        /// Which messages are wanted: patterns of routing keys, comma-separated.
        setting routing_keys: Vec<String> = { Rabbitmq "routing_keys" parsed("LIST", patterns).or("#") }
        /// The durable queue of RabbitMQ, which only bridges may consume from. Without it: `starling.NAME`.
        setting rabbitmq_queue: Option<String> = { Rabbitmq "rabbitmq_queue" text() }
        /// The type of that queue, and of the one for dead letters. Without it: what RabbitMQ makes by default.
        setting queue_type: Option<QueueType> = { Rabbitmq "queue_type" optional_choice(&QUEUE_TYPES) }
        /// The durable topic exchange for messages that can't become jobs. Without it: the name of the queue of RabbitMQ and `.dead-letters`.
        setting dead_letter_exchange: Option<String> = { Rabbitmq "dead_letter_exchange" text() }
        /// Whether the bridge declares the exchanges, queues and bindings. Otherwise they have to be there.
        setting declare: bool = { Rabbitmq "declare" switch(true) }
        /// Messages that a node may have at once that are not acknowledged yet.
        setting prefetch: u16 = { Rabbitmq "prefetch" count(50, 1..=1_000) }
        /// The tenant of the jobs: a name, or a template with `{routing_key}`, `{type}` or `{header.NAME}`.
        setting tenant: Template<MessageField> = { Rabbitmq "tenant" parsed("TEMPLATE", Template::parse).or("default") }
        /// The tenants that messages may choose, comma-separated, if `tenant` has fields: names, `PREFIX*`, or `*` for all.
        setting allowed_tenants: Vec<String> = { Rabbitmq "allowed_tenants" list() }
        /// The queue of the jobs: a name, or a template. Needed.
        setting queue: Template<MessageField> = { Rabbitmq "queue" parsed("TEMPLATE", Template::parse) }
        /// The queues that messages may choose, comma-separated, if `queue` has fields: names, `PREFIX*`, or `*` for all.
        setting allowed_queues: Vec<String> = { Rabbitmq "allowed_queues" list() }
        /// The kind of the jobs: a name, or a template.
        setting kind: Template<MessageField> = { Rabbitmq "kind" parsed("TEMPLATE", Template::parse).or("{routing_key}") }
        /// Attempts that the jobs have.
        setting attempts: u16 = { Rabbitmq "attempts" count(3, 1..=1_000) }
    }
}

settings! {
    /// What can be set about a bridge out.
    pub struct OutgoingSettings {
        /// The queue whose jobs are published. Needed.
        setting queue: Option<String> = { Rabbitmq "queue" text() }
        /// The tenant whose jobs are published. Without it: all tenants.
        setting tenant: Option<String> = { Rabbitmq "tenant" text() }
        /// The durable topic exchange that they are published to. Needed.
        setting exchange: Option<String> = { Rabbitmq "exchange" text() }
        /// The routing key: a text, or a template with `{tenant}`, `{queue}` or `{kind}`.
        setting routing_key: Template<JobField> = { Rabbitmq "routing_key" parsed("TEMPLATE", Template::parse).or("{queue}.{kind}") }
        /// Whether the bridge declares the exchange. Otherwise it has to be there.
        setting declare: bool = { Rabbitmq "declare" switch(true) }
        /// Jobs that a node publishes at once, besides `jobs_at_once`.
        setting at_once: u16 = { Rabbitmq "at_once" count(16, 1..=500) }
        /// How long RabbitMQ may take to confirm a message. Then the attempt has failed.
        setting confirm_timeout: Duration = { Rabbitmq "confirm_timeout_seconds" seconds(30, 1..=600) }
    }
}

/// The type of a queue of RabbitMQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueType {
    /// On one node of RabbitMQ.
    Classic,
    /// On several nodes, a majority of which has each message.
    Quorum,
}

impl QueueType {
    /// Returns the name that RabbitMQ uses.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

/// The types of queues, by name.
const QUEUE_TYPES: [(&str, QueueType); 2] = [("classic", QueueType::Classic), ("quorum", QueueType::Quorum)];

/// Says what is wrong with the name of a bridge, which labels of metrics and connections show.
fn bridge_name(name: &str) -> Result<(), String> {
    let is_name = !name.is_empty()
        && name.len() <= NAME_LENGTH_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_name {
        return Ok(());
    }
    Err(format!("{name:?} is no name of a bridge: 1 to {NAME_LENGTH_MAX} characters out of A-Z a-z 0-9 _ -"))
}

/// Reads patterns of routing keys.
fn patterns(text: &str) -> Result<Vec<String>, String> {
    let patterns: Vec<String> = starling_settings::elements(text).map(str::to_owned).collect();
    if patterns.is_empty() { Err("names no routing key; # stands for all".to_owned()) } else { Ok(patterns) }
}
