//! The names of the keys. In a cluster the part in `{…}` determines the slot.
//!
//! | key | what | lifetime |
//! |---|---|---|
//! | `starling:v1:{instance}:NODE` | hash: `record` (JSON), `since` | the lease |
//! | `starling:v1:{instance}s:active` | sorted set of nodes by last beat | a day |
//! | `starling:v1:{instance}s:born` | time at which the store was found empty | 30 days |
//! | `starling:v1:{instance}s:room` | written to learn whether Redis accepts writes | a minute |
//! | `starling:v1:session:{ID}` | hash: `tenant`, `user`, `node`, `created_at`, `stamp` …, `in:CONVERSATION`, `on:TOPIC` | 7 days attached; window + 60 s dropped; a day ended |
//! | `starling:v1:sessions:{TENANT:USER}` | sorted set of the user's sessions by expiry | 7 days |
//! | `starling:v1:sessions:{TENANT}` | sorted set of the tenant's sessions by expiry | 7 days |
//! | `starling:v1:presence:{TENANT:CONVERSATION}/ID` | hash: `NODE/USER` → number of sessions; `ID` is the conversation's id | 2 hours |
//! | `starling:v1:presence:{TENANT:CONVERSATION}` | the same for nodes of the previous version; written while one of them is alive | 2 hours |
//! | `starling:v1:connections:{TENANT}` | hash: node → its number of the tenant's connections, if these are limited | a minute |
//! | `starling:v1:limit:{TENANT:USER}` | time at which the allowance is whole again, microseconds | until then |
//! | `starling:v1:line:{TENANT:USER}` | time of the last place given to a refused cell, microseconds | until then |
//!
//! The prefix `starling:v1:` can be configured. Names of tenants and of users may contain a colon, so a colon in a tenant's name is
//! written `%3A` where the two are joined.

use std::borrow::Cow;

use crate::ConversationKey;

/// The names of all keys with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Returns the prefix of all instances' keys.
    pub(super) fn instances(&self) -> String {
        format!("{}{{instance}}:", self.prefix)
    }

    pub(super) fn instance(&self, node: &str) -> String {
        format!("{}{{instance}}:{node}", self.prefix)
    }

    pub(super) fn active(&self) -> String {
        format!("{}{{instance}}s:active", self.prefix)
    }

    pub(super) fn born(&self) -> String {
        format!("{}{{instance}}s:born", self.prefix)
    }

    pub(super) fn room(&self) -> String {
        format!("{}{{instance}}s:room", self.prefix)
    }

    pub(super) fn session(&self, id: &str) -> String {
        format!("{}session:{{{id}}}", self.prefix)
    }

    pub(super) fn sessions_of_user(&self, tenant: &str, user: &str) -> String {
        format!("{}sessions:{{{}:{user}}}", self.prefix, escaped(tenant))
    }

    pub(super) fn sessions_of_tenant(&self, tenant: &str) -> String {
        format!("{}sessions:{{{}}}", self.prefix, escaped(tenant))
    }

    pub(super) fn presence(&self, of: &ConversationKey) -> String {
        format!("{}/{}", self.presence_by_name(of), of.id)
    }

    /// Returns the key at which nodes of the previous version keep a conversation's presence.
    pub(super) fn presence_by_name(&self, of: &ConversationKey) -> String {
        format!("{}presence:{{{}:{}}}", self.prefix, escaped(&of.tenant), of.conversation)
    }

    pub(super) fn connections(&self, tenant: &str) -> String {
        format!("{}connections:{{{}}}", self.prefix, escaped(tenant))
    }

    pub(super) fn limit(&self, tenant: &str, user: &str) -> String {
        format!("{}limit:{{{}:{user}}}", self.prefix, escaped(tenant))
    }

    pub(super) fn line(&self, tenant: &str, user: &str) -> String {
        format!("{}line:{{{}:{user}}}", self.prefix, escaped(tenant))
    }
}

/// Replaces the colons in a tenant's name. Names contain no `%`, so two tenants never get the same result.
fn escaped(tenant: &str) -> Cow<'_, str> {
    match tenant.contains(':') {
        true => tenant.replace(':', "%3A").into(),
        false => tenant.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_colons_do_not_meet_across_tenants() {
        let keys = Keys::new("starling:v1:");
        assert_eq!(keys.limit("acme", "alice"), "starling:v1:limit:{acme:alice}");
        assert_ne!(keys.limit("a:b", "c"), keys.limit("a", "b:c"));
        assert_ne!(keys.sessions_of_tenant("a:b"), keys.sessions_of_user("a", "b"));
    }
}
