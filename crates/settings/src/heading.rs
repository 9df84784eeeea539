//! The headings under which settings are listed.

/// A heading of `--help`, of `starling config` and of the reference, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heading {
    /// The node and its public port.
    Node,
    /// Redis and the database.
    Stores,
    /// Tokens and tickets.
    Tokens,
    /// Sessions and delivery.
    Delivery,
    /// Webhooks and hooks that ask first.
    Webhooks,
    /// Bridges to RabbitMQ.
    Rabbitmq,
    /// Limits of connections, addresses and users.
    Limits,
    /// Logs and traces.
    Telemetry,
}

impl Heading {
    /// All headings, in order.
    pub const ALL: [Heading; 8] = [
        Heading::Node,
        Heading::Stores,
        Heading::Tokens,
        Heading::Delivery,
        Heading::Webhooks,
        Heading::Rabbitmq,
        Heading::Limits,
        Heading::Telemetry,
    ];

    /// The text of the heading.
    pub fn title(self) -> &'static str {
        match self {
            Heading::Node => "The node",
            Heading::Stores => "Redis and the database",
            Heading::Tokens => "Tokens",
            Heading::Delivery => "Sessions and delivery",
            Heading::Webhooks => "Webhooks and hooks",
            Heading::Rabbitmq => "RabbitMQ",
            Heading::Limits => "Limits (0: none, unless it says otherwise)",
            Heading::Telemetry => "Telemetry",
        }
    }
}
