//! Presence: which users are in which conversation.

use std::collections::HashMap;
use std::sync::Arc;

use starling_model::UserName;

use super::leases::Leases;
use crate::{ConversationKey, PresenceChange, PresenceEntry};

/// A node, and a user on it.
type Place = (Arc<str>, UserName);

/// Number of sessions per conversation, node and user. As large as the sum of what the nodes' sessions have joined.
#[derive(Debug, Default)]
pub(super) struct Presence {
    conversations: HashMap<ConversationKey, HashMap<Place, u32>>,
}

impl Presence {
    pub(super) fn set(&mut self, node: &str, batch: &[PresenceChange]) {
        let node: Arc<str> = node.into();
        for change in batch {
            let place = (node.clone(), change.user.clone());
            if change.devices > 0 {
                let entries = self.conversations.entry(change.conversation.clone()).or_default();
                entries.insert(place, change.devices);
            } else if let Some(entries) = self.conversations.get_mut(&change.conversation) {
                entries.remove(&place);
                if entries.is_empty() {
                    self.conversations.remove(&change.conversation);
                }
            }
        }
    }

    /// Returns the entries of living nodes in a conversation, and removes those of dead ones.
    pub(super) fn of(
        &mut self,
        conversation: &ConversationKey,
        leases: &Leases,
        now_ms: i64,
    ) -> Vec<PresenceEntry> {
        let Some(entries) = self.conversations.get_mut(conversation) else { return Vec::new() };
        entries.retain(|(node, _), _| leases.lives(node, now_ms));
        let mut present: Vec<_> = entries
            .iter()
            .map(|((node, user), devices)| PresenceEntry {
                user: user.clone(),
                node: node.to_string(),
                devices: *devices,
            })
            .collect();
        if present.is_empty() {
            self.conversations.remove(conversation);
        }
        present.sort_by(|a, b| (&a.user, &a.node).cmp(&(&b.user, &b.node)));
        present
    }

    /// Removes all entries of a node.
    pub(super) fn forget(&mut self, node: &str) {
        self.conversations.retain(|_, entries| {
            entries.retain(|(of, _), _| &**of != node);
            !entries.is_empty()
        });
    }
}
