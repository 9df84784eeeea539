//! Names, each kind a type of its own. All are cheap to clone.
//!
//! A text becomes a name by `parse`, which checks it, or by `From`, for a text that was checked before: out of the database, a
//! verified token, or a message of another node. Maps with a name as their key can be asked with a `&str`.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::{NotAName, is_name};

macro_rules! name_type {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $Name(Arc<str>);

        impl $Name {
            /// Takes a text that comes from outside.
            ///
            /// # Errors
            ///
            /// [`NotAName`] where the text breaks the rule for names.
            pub fn parse(text: &str) -> Result<$Name, NotAName> {
                if is_name(text) { Ok($Name(text.into())) } else { Err(NotAName) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $Name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $Name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl PartialEq<str> for $Name {
            fn eq(&self, text: &str) -> bool {
                *self.0 == *text
            }
        }

        impl PartialEq<&str> for $Name {
            fn eq(&self, text: &&str) -> bool {
                *self.0 == **text
            }
        }

        impl From<&str> for $Name {
            fn from(text: &str) -> $Name {
                $Name(text.into())
            }
        }

        impl From<String> for $Name {
            fn from(text: String) -> $Name {
                $Name(text.into())
            }
        }

        impl From<Cow<'_, str>> for $Name {
            fn from(text: Cow<'_, str>) -> $Name {
                $Name(text.into())
            }
        }

        impl From<Arc<str>> for $Name {
            fn from(text: Arc<str>) -> $Name {
                $Name(text)
            }
        }

        impl From<$Name> for Arc<str> {
            fn from(name: $Name) -> Arc<str> {
                name.0
            }
        }

        impl From<$Name> for String {
            fn from(name: $Name) -> String {
                (*name.0).to_owned()
            }
        }
    };
}

name_type! {
    /// The name of a tenant. No name reaches across tenants.
    TenantName
}

name_type! {
    /// The name of a user within a tenant.
    UserName
}

name_type! {
    /// The name of a conversation within a tenant. One conversation after the other may have it: their numbers in the database tell them
    /// apart.
    ConversationName
}

name_type! {
    /// The name of a topic within a tenant.
    TopicName
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn only_what_keeps_the_rule_is_parsed() {
        assert_eq!(UserName::parse("ann@example.com").as_deref(), Ok("ann@example.com"));
        for text in ["", ".", "..", "a b", "jürgen", &"a".repeat(101)] {
            assert_eq!(UserName::parse(text), Err(NotAName), "{text:?}");
        }
    }

    #[test]
    fn a_map_is_asked_with_a_text() {
        let map = HashMap::from([(TenantName::from("t"), 1)]);
        assert_eq!(map.get("t"), Some(&1));
    }

    #[test]
    fn a_name_is_written_as_its_text() {
        let name = ConversationName::from("room:1");
        assert_eq!((format!("{name}"), format!("{name:?}")), ("room:1".into(), "\"room:1\"".into()));
        assert_eq!(serde_json::to_string(&name).ok().as_deref(), Some("\"room:1\""));
        assert_eq!(serde_json::from_str::<ConversationName>("\"room:1\"").ok(), Some(name));
    }
}
