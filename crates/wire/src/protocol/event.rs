//! What a node tells without being asked: the list of events. The order of their fields is the order on the wire; `ev` comes first.

use std::sync::Arc;

use serde::Serialize;
use starling_model::{ConversationName, TopicName, UserName};

use super::object_writer::{Field, ObjectWriter};
use super::{Json, Timestamp};

/// How an event reaches clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClass {
    /// By number, from the log: none is lost.
    Durable,
    /// By offset, from a topic's history: a short gap is filled.
    Topic,
    /// To those who joined, at once or not at all.
    Ephemeral,
    /// To single connections.
    Session,
}

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// The key on the wire.
    pub name: &'static str,
    /// Whether it may be absent.
    pub is_optional: bool,
}

/// Makes a struct whose fields are written one after the other.
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

/// Makes `Event`, `EventKind` and the encoder of the list of events.
macro_rules! events {
    ($( $(#[$doc:meta])* $Variant:ident($Object:ident) = $name:literal, $class:ident; )*) => {
        /// Which event a frame holds: what its `ev` says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventKind { $( $(#[$doc])* $Variant, )* }

        impl EventKind {
            /// All kinds of events.
            pub const ALL: &'static [EventKind] = &[ $( EventKind::$Variant, )* ];

            /// The word on the wire.
            pub fn name(self) -> &'static str {
                match self { $( EventKind::$Variant => $name, )* }
            }

            /// How it reaches clients.
            pub fn class(self) -> EventClass {
                match self { $( EventKind::$Variant => EventClass::$class, )* }
            }

            /// The event's fields, without `ev`.
            pub fn fields(self) -> &'static [FieldInfo] {
                match self { $( EventKind::$Variant => $Object::FIELDS, )* }
            }
        }

        /// An event.
        #[derive(Clone, Debug)]
        pub enum Event { $( $(#[$doc])* $Variant($Object), )* }

        impl Event {
            /// Which event this is.
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

            /// About how long it becomes on the wire.
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
    /// Something was said.
    Message(Message) = "message", Durable;
    /// Somebody has read.
    Read(ReadMark) = "read", Ephemeral;
    /// Somebody types, or stopped.
    Typing(Typing) = "typing", Ephemeral;
    /// Somebody came online, or went offline.
    Presence(Presence) = "presence", Ephemeral;
    /// Somebody became a member, or is none any more.
    Member(Membership) = "member", Ephemeral;
    /// A conversation's title or metadata changed. Carries both as they are now.
    Updated(Updated) = "updated", Ephemeral;
    /// A conversation was deleted.
    Deleted(Deleted) = "deleted", Session;
    /// Something was published.
    Publication(Publication) = "publication", Topic;
    /// The node drains.
    Draining(Draining) = "draining", Session;
}

object! {
    /// A message of a conversation: in a `message` event, and in a page of history.
    #[derive(Clone, Debug, Serialize)]
    pub struct Message {
        /// Where.
        pub conversation: ConversationName,
        /// Its number.
        pub seq: u64,
        /// Its id: a UUID as a number.
        #[serde(serialize_with = "super::uuid::serialize")]
        pub id: u128,
        /// The user that it stands under.
        pub sender: UserName,
        /// `user`, `assistant`, `system`, `tool`.
        pub role: &'static str,
        /// The text.
        pub content: Arc<str>,
        /// A JSON object.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub metadata: Option<Json>,
        /// When it was committed.
        pub at: Timestamp,
    }
}

object! {
    /// How far a user has read a conversation.
    #[derive(Clone, Debug)]
    pub struct ReadMark {
        /// Where.
        pub conversation: ConversationName,
        /// The reader.
        pub user: UserName,
        /// Up to and with this number.
        pub seq: u64,
    }
}

object! {
    /// Whether a user types.
    #[derive(Clone, Debug)]
    pub struct Typing {
        /// Where.
        pub conversation: ConversationName,
        /// The one who types.
        pub user: UserName,
        /// `false`: the user stopped.
        pub typing: bool,
    }
}

object! {
    /// Whether a user is online in a conversation.
    #[derive(Clone, Debug)]
    pub struct Presence {
        /// Where.
        pub conversation: ConversationName,
        /// The user.
        pub user: UserName,
        /// `false`: the user went offline.
        pub online: bool,
        /// When the user was last online, for one who went offline.
        pub last_seen: Option<Timestamp>,
    }
}

object! {
    /// Whether a user is a member of a conversation.
    #[derive(Clone, Debug)]
    pub struct Membership {
        /// Where.
        pub conversation: ConversationName,
        /// The user.
        pub user: UserName,
        /// `false`: the user is no member any more.
        pub member: bool,
    }
}

object! {
    /// A conversation's title and metadata.
    #[derive(Clone, Debug)]
    pub struct Updated {
        /// Where.
        pub conversation: ConversationName,
        /// Shown to people.
        pub title: Option<Arc<str>>,
        /// A JSON object.
        pub metadata: Option<Json>,
    }
}

object! {
    /// The log of a conversation that was deleted.
    #[derive(Clone, Debug)]
    pub struct Deleted {
        /// Where.
        pub conversation: ConversationName,
        /// The log that is gone: a conversation that is made again under the name has another one.
        pub log: Arc<str>,
    }
}

object! {
    /// A publication of a topic.
    #[derive(Clone, Debug)]
    pub struct Publication {
        /// Where.
        pub topic: TopicName,
        /// Its number.
        pub offset: u64,
        /// Any value.
        pub data: Json,
        /// The user who published it.
        pub sender: Option<UserName>,
    }
}

object! {
    /// A node that drains.
    #[derive(Clone, Debug)]
    pub struct Draining {
        /// When to open a second socket.
        pub reconnect_after_ms: u64,
    }
}
