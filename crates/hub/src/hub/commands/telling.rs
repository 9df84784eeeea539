//! Telling webhooks what has happened to conversations and members. Changes of members are noted in their transactions, as messages are;
//! the others are recorded after their commit.

use serde::Serialize;
use starling_model::{ConversationName, TenantName, UserName};
use starling_webhook_service::webhooks::EventType;
use starling_wire::protocol::{Json, Timestamp};

use crate::clock;
use crate::hub::Hub;
use crate::room::{Room, RoomKey};

/// A conversation, as webhooks are told of it.
#[derive(Serialize)]
struct ToldConversation<'a> {
    conversation: &'a ConversationName,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Json>,
    owner: &'a UserName,
    created_at: Timestamp,
    head: u64,
    members: &'a [UserName],
}

/// A conversation that is gone.
#[derive(Serialize)]
struct ToldDeleted<'a> {
    conversation: &'a ConversationName,
    log: &'a str,
}

impl Hub {
    /// Tells that a conversation was created or changed. Reads it, if anybody wants to know.
    pub(super) async fn tell_conversation(
        &self,
        kind: EventType,
        tenant: &TenantName,
        name: &ConversationName,
    ) {
        if !self.is_wanted(tenant, kind) {
            return;
        }
        match self.store.open(tenant, name).await {
            Ok(Some(found)) => {
                let members: Vec<UserName> = found.members.into_iter().map(|member| member.user).collect();
                let metadata = found.metadata.map(Json::from_compact);
                let told = ToldConversation {
                    conversation: &found.conversation,
                    title: found.title.as_deref(),
                    metadata: metadata.as_ref(),
                    owner: &found.owner,
                    created_at: Timestamp(found.created_at_ms),
                    head: found.head.get(),
                    members: &members,
                };
                self.tell(kind, tenant, name, &told).await;
            }
            // Somebody deleted it meanwhile, and that is told.
            Ok(None) => {}
            Err(error) => {
                if let Some(webhooks) = &self.webhooks {
                    webhooks.note_lost(kind, &error);
                }
            }
        }
    }

    /// Tells that a conversation was deleted.
    pub(super) async fn tell_deleted_conversation(&self, key: &RoomKey, log: &str) {
        let deleted = ToldDeleted { conversation: &key.name, log };
        self.tell(EventType::ConversationDeleted, &key.tenant, &key.name, &deleted).await;
    }

    /// Whether a change of members is to be noted for webhooks, in its own transaction.
    pub(super) fn announces_member(&self, room: &Room, is_member: bool) -> bool {
        let kind = if is_member { EventType::MemberAdded } else { EventType::MemberRemoved };
        self.is_wanted(&room.key.tenant, kind)
    }

    /// Records that a change of members was committed.
    pub(super) fn note_announced_member(&self, announced: bool) {
        if let Some(webhooks) = self.webhooks.as_ref().filter(|_| announced) {
            webhooks.note_announced();
        }
    }

    fn is_wanted(&self, tenant: &TenantName, kind: EventType) -> bool {
        self.webhooks.as_ref().is_some_and(|webhooks| webhooks.wants(tenant, kind))
    }

    async fn tell(
        &self,
        kind: EventType,
        tenant: &TenantName,
        name: &ConversationName,
        data: &(impl Serialize + Sync),
    ) {
        let Some(webhooks) = self.webhooks.as_ref().filter(|webhooks| webhooks.wants(tenant, kind)) else {
            return;
        };
        // Plain data can always be written.
        let data = serde_json::to_string(data).unwrap_or_default();
        webhooks.tell(tenant, kind, Timestamp(clock::now_ms()), Some(&**name), &data).await;
    }
}
