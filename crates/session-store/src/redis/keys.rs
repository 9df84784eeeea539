//! The names of the keys. What stands in `{…}` decides the slot in a cluster.
//!
//! | key | what | lifetime |
//! |---|---|---|
//! | `starling:v1:{instance}:NODE` | hash: `record` (JSON), `since` | the lease |
//! | `starling:v1:{instance}s:active` | sorted set of nodes by last beat | a day |
//! | `starling:v1:{instance}s:born` | when the store was found empty | 30 days |
//! | `starling:v1:{instance}s:room` | written to see whether Redis takes writes | a minute |
//! | `starling:v1:session:{ID}` | hash: `tenant`, `user`, `node`, `created_at`, `stamp` …, `in:CONVERSATION`, `on:TOPIC` | 7 days attached; window + 60 s dropped; a day ended |
//! | `starling:v1:sessions:{TENANT:USER}` | sorted set of the user's sessions by expiry | 7 days |
//! | `starling:v1:sessions:{TENANT}` | sorted set of the tenant's sessions by expiry | 7 days |
//! | `starling:v1:presence:{TENANT:CONVERSATION}/ID` | hash: `NODE/USER` → number of sessions; `ID` is the conversation's number in the database | 2 hours |
//! | `starling:v1:presence:{TENANT:CONVERSATION}` | the same, as nodes of the version before have it; written while one of them lives | 2 hours |
//! | `starling:v1:connections:{TENANT}` | hash: node → its connections of the tenant, where these are limited | a minute |
//! | `starling:v1:limit:{TENANT:USER}` | when the allowance is whole again, microseconds | until then |
//! | `starling:v1:line:{TENANT:USER}` | the last place that a refused one was given, microseconds | until then |
//!
//! Each begins with `starling:v1:`, or with what the configuration says instead. A colon may stand in a tenant's name as well
//! as in a user's, so one in the former is written `%3A` where both are joined.

use std::borrow::Cow;

use crate::ConversationKey;

/// Makes the names.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// What all instances' keys begin with.
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

    /// Where nodes of the version before keep a conversation's presence.
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

/// A name has no `%`, so this can't be mistaken for another tenant's.
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
