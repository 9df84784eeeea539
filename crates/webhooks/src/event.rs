//! Events that backends are told of.

use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;
use starling_model::{TenantName, UserName};
use starling_wire::protocol::Timestamp;
use uuid::Uuid;

/// The longest body of a delivery, bytes. A message with all its characters escaped fits.
pub const BODY_BYTES_MAX: usize = 512 << 10;
/// The longest order key, bytes.
pub const ORDER_KEY_BYTES_MAX: usize = 200;

/// The id of an event, which is also the id of its deliveries and the `webhook-id` of their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub Uuid);

impl EventId {
    /// Reads an id as [`fmt::Display`] writes it. `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// A message was committed.
    MessageCreated,
    /// A conversation was created.
    ConversationCreated,
    /// A conversation's title or metadata changed.
    ConversationUpdated,
    /// A conversation was deleted.
    ConversationDeleted,
    /// A user became a member.
    MemberAdded,
    /// A user is no longer a member.
    MemberRemoved,
    /// A user's first session connected.
    UserOnline,
    /// A user's last session is gone.
    UserOffline,
    /// An agent has answered.
    TurnFinished,
    /// An agent could not answer.
    TurnFailed,
    /// A job failed for good.
    JobFailed,
    /// Somebody has asked for a test. It goes to one webhook, whatever that wants, so it is not among [`Self::ALL`].
    WebhookTest,
}

impl EventType {
    /// All types that a webhook may want.
    pub const ALL: [Self; 11] = [
        Self::MessageCreated,
        Self::ConversationCreated,
        Self::ConversationUpdated,
        Self::ConversationDeleted,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::UserOnline,
        Self::UserOffline,
        Self::TurnFinished,
        Self::TurnFailed,
        Self::JobFailed,
    ];

    /// Returns the name that backends and the API use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessageCreated => "message.created",
            Self::ConversationCreated => "conversation.created",
            Self::ConversationUpdated => "conversation.updated",
            Self::ConversationDeleted => "conversation.deleted",
            Self::MemberAdded => "member.added",
            Self::MemberRemoved => "member.removed",
            Self::UserOnline => "user.online",
            Self::UserOffline => "user.offline",
            Self::TurnFinished => "turn.finished",
            Self::TurnFailed => "turn.failed",
            Self::JobFailed => "job.failed",
            Self::WebhookTest => "webhook.test",
        }
    }

    /// Returns the type of a name that a webhook may want; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The events that a webhook is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Events {
    /// All, also those of types that later versions add.
    All,
    /// Those of these types.
    Types(Vec<EventType>),
}

/// A list of events that is not valid. The giver is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events must be [\"*\"] or a list of types of events")]
pub struct InvalidEvents;

impl Events {
    /// Reads a list of types, or `*` alone.
    ///
    /// # Errors
    /// [`InvalidEvents`] if a type is unknown, and for an empty list.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidEvents> {
        let names: Vec<&str> = names.into_iter().take(EventType::ALL.len() + 1).collect();
        if names == ["*"] {
            return Ok(Self::All);
        }
        let types: Option<Vec<EventType>> = names.into_iter().map(EventType::parse).collect();
        types
            .filter(|types| (1..=EventType::ALL.len()).contains(&types.len()))
            .map(Self::Types)
            .ok_or(InvalidEvents)
    }

    /// Returns the names, as [`Self::parse`] reads them.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Self::All => vec!["*"],
            Self::Types(types) => types.iter().map(|kind| kind.as_str()).collect(),
        }
    }

    /// Returns the text that the databases keep.
    pub(crate) fn stored(&self) -> String {
        self.names().join(" ")
    }

    /// Reads that text. Skips types that a newer version has added.
    pub(crate) fn of_stored(text: &str) -> Self {
        match text {
            "*" => Self::All,
            types => Self::Types(types.split(' ').filter_map(EventType::parse).collect()),
        }
    }
}

/// An event that is to be delivered to all webhooks of its tenant that want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id. An event that is recorded again under the same id is delivered only once.
    pub id: EventId,
    /// The tenant that it belongs to.
    pub tenant: TenantName,
    /// What has happened.
    pub kind: EventType,
    /// Events with the same key keep their order at webhooks that ask for it: the name of the conversation.
    pub order_key: Option<String>,
    /// The body of the requests, JSON.
    body: String,
}

/// Why something is no event. A fault of the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// The body would be too long.
    #[error("the event has {0} bytes, but at most {BODY_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// The data is not JSON.
    #[error("the event's data is not JSON: {0}")]
    Data(String),
    /// The order key is out of range.
    #[error("the order key must have 1 to {ORDER_KEY_BYTES_MAX} bytes, and no zero bytes")]
    OrderKey,
}

impl NewEvent {
    /// Makes an event of what happened at `at`, with details as JSON.
    ///
    /// # Errors
    /// [`InvalidEvent`] for the first fault that is found.
    pub fn new(
        tenant: TenantName,
        kind: EventType,
        at: Timestamp,
        order_key: Option<String>,
        data: &str,
    ) -> Result<Self, InvalidEvent> {
        let is_key = |key: &String| (1..=ORDER_KEY_BYTES_MAX).contains(&key.len()) && !key.contains('\0');
        if !order_key.as_ref().is_none_or(is_key) {
            return Err(InvalidEvent::OrderKey);
        }
        let data: &RawValue =
            serde_json::from_str(data).map_err(|error| InvalidEvent::Data(error.to_string()))?;
        let body =
            body(kind.as_str(), at, &tenant, data).map_err(|error| InvalidEvent::Data(error.to_string()))?;
        if body.len() > BODY_BYTES_MAX {
            return Err(InvalidEvent::TooLarge(body.len()));
        }
        Ok(Self { id: EventId(Uuid::now_v7()), tenant, kind, order_key, body })
    }

    /// Makes the event that a user is online or offline. Events of one user keep their order.
    pub(crate) fn of_user(tenant: TenantName, user: &UserName, kind: EventType, at: Timestamp) -> Self {
        #[derive(Serialize)]
        struct ToldUser<'a> {
            user: &'a UserName,
        }
        // No conversation has such a name.
        let order_key = Some(format!("user {user}"));
        // Plain data can always be written.
        let body = body(kind.as_str(), at, &tenant, &ToldUser { user }).unwrap_or_default();
        Self { id: EventId(Uuid::now_v7()), tenant, kind, order_key, body }
    }

    /// Gives the event an id that was chosen when it was noted.
    #[must_use]
    pub fn with_id(self, id: EventId) -> Self {
        Self { id, ..self }
    }

    /// Returns the body of the requests.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }
}

/// Writes the body of a request to a backend.
pub(crate) fn body(
    kind: &str,
    at: Timestamp,
    tenant: &TenantName,
    data: &(impl Serialize + ?Sized),
) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Body<'a, D: ?Sized> {
        r#type: &'a str,
        timestamp: Timestamp,
        tenant: &'a TenantName,
        data: &'a D,
    }
    serde_json::to_string(&Body { r#type: kind, timestamp: at, tenant, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_fields_that_backends_expect() {
        let event = NewEvent::new(
            "acme".into(),
            EventType::MessageCreated,
            Timestamp(1_796_126_400_123),
            Some("c".into()),
            r#"{"seq": 1}"#,
        );
        assert_eq!(
            event.unwrap().body(),
            r#"{"type":"message.created","timestamp":"2026-12-01T12:00:00.123Z","tenant":"acme","data":{"seq": 1}}"#
        );
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let new = |key: &str, data: &str| {
            NewEvent::new("t".into(), EventType::JobFailed, Timestamp(0), Some(key.into()), data)
        };
        assert!(matches!(new("c", "{"), Err(InvalidEvent::Data(_))));
        assert!(matches!(
            new("c", &format!("\"{}\"", "a".repeat(BODY_BYTES_MAX))),
            Err(InvalidEvent::TooLarge(_))
        ));
        for key in ["", "a\0", &"a".repeat(201)] {
            assert_eq!(new(key, "1"), Err(InvalidEvent::OrderKey));
        }
        assert!(new("c", "1").is_ok());
    }

    #[test]
    fn events_are_read_as_they_are_listed() {
        for names in [vec!["*"], vec!["message.created"], vec!["user.online", "user.offline"]] {
            let events = Events::parse(names.iter().copied()).unwrap();
            assert_eq!(events.names(), names);
            assert_eq!(Events::of_stored(&events.stored()), events);
        }
        for names in [
            vec![],
            vec!["*", "message.created"],
            vec!["message"],
            vec!["webhook.test"],
            vec!["job.failed"; 12],
        ] {
            assert_eq!(Events::parse(names.iter().copied()), Err(InvalidEvents), "{names:?}");
        }
        assert_eq!(Events::of_stored("job.failed later.added"), Events::Types(vec![EventType::JobFailed]));
    }
}
