//! What a job becomes: a message.

use std::borrow::Cow;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use starling_jobs::ClaimedJob;

use crate::check::{AMQP_NAME_BYTES_MAX, Outgoing};
use crate::template::JobField;

/// The delivery mode of messages that survive a restart.
const PERSISTENT: u8 = 2;
/// What the messages say of the program that they come from.
const APP: &str = "starling";

/// Returns the routing key of a job's message.
///
/// # Errors
/// It is longer than RabbitMQ allows.
pub(super) fn routing_key(bridge: &Outgoing, job: &ClaimedJob) -> Result<ShortString, String> {
    let value = |field: &JobField| {
        Some(Cow::Borrowed(match field {
            JobField::Tenant => job.backlog.tenant.as_str(),
            JobField::Queue => job.backlog.queue.as_str(),
            JobField::Kind => job.kind.as_str(),
        }))
    };
    let key = bridge.routing_key.fill(value).unwrap_or_default();
    ShortString::try_new(key)
        .map_err(|_| format!("its routing key has more than {AMQP_NAME_BYTES_MAX} bytes"))
}

/// Returns the properties of a job's message. Its id is the job's, so that consumers can tell that a message comes again.
pub(super) fn properties(job: &ClaimedJob) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut add = |name: &str, value: AMQPValue| {
        headers.insert(name.into(), value);
    };
    add("starling-tenant", AMQPValue::LongString(job.backlog.tenant.as_str().into()));
    add("starling-queue", AMQPValue::LongString(job.backlog.queue.as_str().into()));
    add("starling-kind", AMQPValue::LongString(job.kind.as_str().into()));
    add("starling-attempt", AMQPValue::LongInt(job.attempt.into()));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(job.id.to_string().into())
        // Names have at most 100 bytes.
        .with_type(ShortString::try_new(job.kind.as_str()).unwrap_or_default())
        .with_priority(u8::try_from(job.backlog.priority.clamp(0, 255)).unwrap_or_default())
        .with_app_id(APP.into())
        .with_headers(headers)
}
