//! The list of events that a node sends. The fields are in the order in which they are sent, after `ev`.

use std::sync::Arc;

use serde::Serialize;
use starling_model::{ConversationName, TopicName, UserName};

use super::object_writer::{Field, ObjectWriter};
use super::{Json, Timestamp};

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// The key on the wire.
    pub name: &'static str,
    /// Whether it may be absent.
    pub is_optional: bool,
}

/// Defines a struct whose fields are written one after the other.
macro_rules! object {
    (
        $(#[$meta:meta])*
        pub struct $Object:ident { $( $(#[$field_meta:meta])* pub $field:ident: $Type:ty, )* }
    ) => {
        $(#[$meta])*
        pub struct $Object { $( $(#[$field_meta])* pub $field: $Type, )* }

        impl $Object {
            const FIELDS: &'static [FieldInfo] =
                &[ $( FieldInfo { name: stringify!($field), is_optional: <$Type as Field>::OPTIONAL }, )* ];

            fn write_fields(&self, object: &mut impl ObjectWriter) {
                $( self.$field.write(object, stringify!($field)); )*
            }

            fn size(&self) -> usize {
                0 $( + Field::size(&self.$field) )*
            }
        }
    };
}

/// Defines `Event`, `EventKind` and the encoder from the list of events.
macro_rules! events {
    ($( $(#[$doc:meta])* $Variant:ident($Object:ident) = $name:literal; )*) => {
        /// The kind of an event, which is its `ev`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventKind { $( $(#[$doc])* $Variant, )* }

        impl EventKind {
            /// All kinds of events.
            pub const ALL: &'static [EventKind] = &[ $( EventKind::$Variant, )* ];

            /// Returns the event's `ev`.
            pub fn name(self) -> &'static str {
                match self { $( EventKind::$Variant => $name, )* }
            }

            /// Returns the event's fields, without `ev`.
            pub fn fields(self) -> &'static [FieldInfo] {
                match self { $( EventKind::$Variant => $Object::FIELDS, )* }
            }
        }

        /// An event.
        #[derive(Clone, Debug)]
        pub enum Event { $( $(#[$doc])* $Variant($Object), )* }

        impl Event {
            /// Returns the event's kind.
            pub fn kind(&self) -> EventKind {
                match self { $( Event::$Variant(_) => EventKind::$Variant, )* }
            }

            pub(super) fn write(&self, mut object: impl ObjectWriter) {
                match self { $( Event::$Variant(event) => {
                    object.text("ev", $name);
                    event.write_fields(&mut object);
                } )* }
                object.end();
            }

            /// Returns roughly the length of the encoded event, bytes.
            pub(super) fn capacity(&self) -> usize {
                224 + match self { $( Event::$Variant(event) => event.size(), )* }
            }
        }

        $( impl From<$Object> for Event {
            fn from(event: $Object) -> Event {
                Event::$Variant(event)
            }
        } )*
    };
}

events! {
    /// A message was committed.
    Message(Message) = "message";
    /// A read mark rose.
    Read(ReadMark) = "read";
    /// A user began or stopped typing.
    Typing(Typing) = "typing";
    /// A user came online or went offline.
    Presence(Presence) = "presence";
    /// A user became a member or is no longer one.
    Member(Membership) = "member";
    /// A conversation's title or metadata changed. The event has both as they are now.
    Updated(Updated) = "updated";
    /// A conversation was deleted.
    Deleted(Deleted) = "deleted";
    /// A publication came on a topic.
    Publication(Publication) = "publication";
    /// The node drains.
    Draining(Draining) = "draining";
}

object! {
    /// A message of a conversation, in a `message` event or in a page of history.
    #[derive(Clone, Debug, Serialize)]
    pub struct Message {
        /// The conversation's name.
        pub conversation: ConversationName,
        /// The message's seq.
        pub seq: u64,
        /// The message's id, a UUID as a number.
        #[serde(serialize_with = "super::uuid::serialize")]
        pub id: u128,
        /// The sender's name.
        pub sender: UserName,
        /// The sender's role: `user`, `assistant`, `system` or `tool`.
        pub role: &'static str,
        /// The message's text.
        pub content: Arc<str>,
        /// Metadata, a JSON object.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub metadata: Option<Json>,
        /// When the message was committed.
        pub at: Timestamp,
    }
}

object! {
    /// A user's read mark in a conversation.
    #[derive(Clone, Debug)]
    pub struct ReadMark {
        /// The conversation's name.
        pub conversation: ConversationName,
        /// The user who has read.
        pub user: UserName,
        /// The seq of the last message that was read.
        pub seq: u64,
    }
}

object! {
    /// Whether a user types.
    #[derive(Clone, Debug)]
    pub struct Typing {
        /// The conversation's name.
        pub conversation: ConversationName,
        /// The user who types.
        pub user: UserName,
        /// Whether the user types. `false`: the user stopped.
        pub typing: bool,
    }
}

object! {
    /// Whether a user is online in a conversation.
    #[derive(Clone, Debug)]
    pub struct Presence {
        /// The conversation's name.
        pub conversation: ConversationName,
        /// The user's name.
        pub user: UserName,
        /// Whether the user is online. `false`: the user went offline.
        pub online: bool,
        /// When the user was last seen, if they went offline.
        pub last_seen: Option<Timestamp>,
    }
}

object! {
    /// Whether a user is a member of a conversation.
    #[derive(Clone, Debug)]
    pub struct Membership {
        /// The conversation's name.
        pub conversation: ConversationName,
        /// The user's name.
        pub user: UserName,
        /// Whether the user is a member. `false`: the user no longer is.
        pub member: bool,
    }
}

object! {
    /// A conversation's title and metadata.
    #[derive(Clone, Debug)]
    pub struct Updated {
        /// The conversation's name.
        pub conversation: ConversationName,
        /// A title to show to people.
        pub title: Option<Arc<str>>,
        /// Metadata, a JSON object.
        pub metadata: Option<Json>,
    }
}

object! {
    /// The deletion of a conversation and its log.
    #[derive(Clone, Debug)]
    pub struct Deleted {
        /// The conversation's name.
        pub conversation: ConversationName,
        /// The id of the deleted log. A later conversation of the same name has another log.
        pub log: Arc<str>,
    }
}

object! {
    /// A publication of a topic.
    #[derive(Clone, Debug)]
    pub struct Publication {
        /// The topic's name.
        pub topic: TopicName,
        /// The publication's offset.
        pub offset: u64,
        /// The publication's data, any JSON value.
        pub data: Json,
        /// The user who published it.
        pub sender: Option<UserName>,
    }
}

object! {
    /// A node that drains.
    #[derive(Clone, Debug)]
    pub struct Draining {
        /// When the client should open a second connection, milliseconds from now.
        pub reconnect_after_ms: u64,
    }
}
