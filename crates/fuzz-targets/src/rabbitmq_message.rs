//! Messages of RabbitMQ: any message is a job that the database can keep, within what the bridge allows, or a dead letter.

use starling_rabbitmq_bridge::fuzzing::message;

/// Reads the first three lines as the routing key, the id and a header, and the rest as the body.
pub fn rabbitmq_message(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (routing_key, id, header) = (text(), text(), text());
    message(&routing_key, &id, &header, parts.next().unwrap_or_default());
}
