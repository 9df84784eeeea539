//! What backends are asked.

use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use starling_model::{ConversationName, TopicName, UserName};
use starling_wire::protocol::{Json, Timestamp};

use crate::event::body;
use crate::{Hook, HookPoint};

/// What is about to happen. Its fields are the `data` of the request.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Question<'a> {
    /// A user connects.
    Connect {
        /// The user.
        user: &'a UserName,
    },
    /// A user creates a conversation.
    Create {
        /// The user.
        user: &'a UserName,
        /// The name that the user chose.
        #[serde(skip_serializing_if = "Option::is_none")]
        conversation: Option<&'a ConversationName>,
        /// The title.
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        /// The members besides the user.
        members: &'a [UserName],
        /// The metadata.
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a Json>,
    },
    /// A user joins a conversation.
    Join {
        /// The user.
        user: &'a UserName,
        /// The conversation.
        conversation: &'a ConversationName,
    },
    /// A user sends a message.
    Send {
        /// The user.
        user: &'a UserName,
        /// The conversation.
        conversation: &'a ConversationName,
        /// The idempotency key. If a client repeats its command, the backend is asked again with the same one.
        key: &'a str,
        /// The text.
        content: &'a str,
        /// The metadata.
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a Json>,
    },
    /// A user publishes on a topic.
    Publish {
        /// The user.
        user: &'a UserName,
        /// The topic.
        topic: &'a TopicName,
        /// What is published.
        data: &'a Json,
    },
    /// A user subscribes to a topic.
    Subscribe {
        /// The user.
        user: &'a UserName,
        /// The topic.
        topic: &'a TopicName,
    },
}

/// A question as its backend gets it.
#[derive(Clone, Debug)]
pub struct WrittenQuestion {
    pub(super) body: Bytes,
}

impl Question<'_> {
    /// Writes the request to the backend of a hook, which must be one of this question's point.
    #[must_use]
    pub fn write(&self, hook: &Hook) -> WrittenQuestion {
        // Plain data can always be written. An empty body would make the backend refuse the request.
        let body = body(hook.point.as_str(), now(), &hook.tenant, self).unwrap_or_default();
        WrittenQuestion { body: Bytes::from(body) }
    }

    /// Returns the point that the question is about.
    #[must_use]
    pub const fn point(&self) -> HookPoint {
        match self {
            Self::Connect { .. } => HookPoint::Connect,
            Self::Create { .. } => HookPoint::Create,
            Self::Join { .. } => HookPoint::Join,
            Self::Send { .. } => HookPoint::Send,
            Self::Publish { .. } => HookPoint::Publish,
            Self::Subscribe { .. } => HookPoint::Subscribe,
        }
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_has_the_fields_of_its_command() {
        let (user, conversation, topic) = ("ann".into(), "c".into(), "news".into());
        let (json, members) = (Json::from_compact(r#"{"a":1}"#), ["bob".into()]);
        let (conversation, metadata) = (&conversation, Some(&json));
        let questions = [
            (Question::Connect { user: &user }, r#"{"user":"ann"}"#),
            (
                Question::Create {
                    user: &user,
                    conversation: None,
                    title: None,
                    members: &[],
                    metadata: None,
                },
                r#"{"user":"ann","members":[]}"#,
            ),
            (
                Question::Create {
                    user: &user,
                    conversation: Some(conversation),
                    title: Some("T"),
                    members: &members,
                    metadata,
                },
                r#"{"user":"ann","conversation":"c","title":"T","members":["bob"],"metadata":{"a":1}}"#,
            ),
            (Question::Join { user: &user, conversation }, r#"{"user":"ann","conversation":"c"}"#),
            (
                Question::Send { user: &user, conversation, key: "k", content: "hi", metadata },
                r#"{"user":"ann","conversation":"c","key":"k","content":"hi","metadata":{"a":1}}"#,
            ),
            (
                Question::Publish { user: &user, topic: &topic, data: &json },
                r#"{"user":"ann","topic":"news","data":{"a":1}}"#,
            ),
            (Question::Subscribe { user: &user, topic: &topic }, r#"{"user":"ann","topic":"news"}"#),
        ];
        for (question, expected) in questions {
            assert_eq!(serde_json::to_string(&question).unwrap(), expected, "{:?}", question.point());
        }
    }
}
