//! The channels that a bridge publishes on.
//!
//! Each carries one message at a time. RabbitMQ returns a message that no queue takes before it confirms it, and the client gives what was
//! returned to whichever confirmation it sees next: with several messages on a channel, that may be another's.

use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use parking_lot::Mutex;

use crate::Error;
use crate::connection::{BrokerConnection, within};

/// The free channels of a connection.
#[derive(Default)]
pub(super) struct Channels(Mutex<Vec<Channel>>);

/// What RabbitMQ said of a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has the message, and a queue takes it.
    Confirmed,
    /// No queue takes it.
    Returned(String),
    /// It has refused the message.
    Refused,
}

impl Channels {
    /// Publishes a message, and waits for the answer. There are as many channels as calls at the same time.
    pub async fn publish(
        &self,
        connection: &BrokerConnection,
        exchange: ShortString,
        routing_key: ShortString,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<Answer, Error> {
        let channel = self.take(connection).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = channel.basic_publish(exchange, routing_key, options, body, properties).await?;
        let answer = answer(confirm.await?);
        // A call that is dropped before this point takes its channel with it, and so do errors.
        self.0.lock().push(channel);
        Ok(answer)
    }

    async fn take(&self, connection: &BrokerConnection) -> Result<Channel, Error> {
        loop {
            let Some(channel) = self.0.lock().pop() else { break };
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = connection.channel().await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }
}

fn answer(confirmation: Confirmation) -> Answer {
    match confirmation {
        Confirmation::Ack(None) => Answer::Confirmed,
        Confirmation::Ack(Some(returned)) => Answer::Returned(why(&returned)),
        Confirmation::Nack(_) | Confirmation::NotRequested => Answer::Refused,
    }
}

fn why(returned: &BasicReturnMessage) -> String {
    format!("{} {}", returned.reply_code, returned.reply_text)
}
