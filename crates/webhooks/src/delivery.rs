//! Delivering an event to a webhook.

use std::time::Duration;

use bytes::Bytes;

use crate::client::{Answer, Client, Post};
use crate::{Endpoint, Failure, Secret};

/// How much of an answer's body is read, bytes.
pub const ANSWER_BYTES_MAX: usize = 1024;
/// Why an attempt failed whose host is not found, or only at addresses that requests must not go to.
const NO_ADDRESS: &str = "the host has no address that requests may go to";

/// An event on its way to a webhook.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Where it goes.
    pub endpoint: &'a Endpoint,
    /// See [`crate::SignedHeaders::id`].
    pub id: &'a str,
    /// It is signed with each of them.
    pub secrets: &'a [Secret],
    /// The event, JSON.
    pub body: &'a Bytes,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What follows from it.
    pub outcome: Outcome,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The beginning of the answer's body, for people. It ends with `…` if there was more.
    pub answer: String,
}

/// What follows from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend has the event: it answered with 2xx.
    Delivered,
    /// The backend wants no more events: it answered with 410. The webhook is to be removed, unless it goes elsewhere by now.
    Gone,
    /// The backend does not have the event. It is to be tried again.
    Failed {
        /// Why, for people.
        reason: String,
        /// How long the backend asks to wait.
        retry_after: Option<Duration>,
    },
}

impl Client {
    /// Makes one attempt, which takes at most `limit`.
    pub async fn deliver(&self, delivery: Delivery<'_>, limit: Duration) -> Delivered {
        let Delivery { endpoint, id, secrets, body } = delivery;
        let answer_bytes_max = ANSWER_BYTES_MAX;
        let post = Post { endpoint, id, secrets, body: body.clone(), limit, answer_bytes_max };
        match self.post(&post).await {
            Ok(answer) => of_answer(&answer),
            Err(failure) => of_failure(endpoint, &failure),
        }
    }
}

/// Judges by the status alone: once it is there, the backend has decided, even if the body is long or breaks off.
fn of_answer(answer: &Answer) -> Delivered {
    let outcome = match answer.status {
        200..=299 => Outcome::Delivered,
        410 => Outcome::Gone,
        status => {
            let hint = if (300..=399).contains(&status) { "; redirects are not followed" } else { "" };
            let reason = format!("the answer was {status}{hint}");
            Outcome::Failed { reason, retry_after: answer.retry_after }
        }
    };
    // The databases keep no zero bytes in texts.
    let mut text = String::from_utf8_lossy(&answer.body).replace('\0', "\u{fffd}");
    if answer.incomplete.is_some() {
        text.push('…');
    }
    Delivered { outcome, status: Some(answer.status), answer: text }
}

fn of_failure(endpoint: &Endpoint, failure: &Failure) -> Delivered {
    // Else whoever may set webhooks could find out which names there are inside.
    let hides = matches!(failure, Failure::Resolve(_) | Failure::Refused(_));
    if hides {
        tracing::debug!(origin = endpoint.origin(), %failure, "an event could not be sent");
    }
    let reason = if hides { NO_ADDRESS.to_owned() } else { failure.to_string() };
    let outcome = Outcome::Failed { reason, retry_after: None };
    Delivered { outcome, status: None, answer: String::new() }
}
