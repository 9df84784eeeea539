//! Conversations as things: making, listing, changing, deleting them, and their members.

use std::sync::Arc;

use serde::Serialize;
use starling_auth::Identity;
use starling_conversation_store::{ConversationSummary, ListCursor, NewConversation, Role};
use starling_wire::protocol::{self, Create, Created, History, HistoryPage, Json, Sent, Timestamp};

use crate::CommandError;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::node_message::NodeMessage;
use crate::room::Room;

/// A conversation, as the HTTP API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ConversationView {
    /// Its name.
    pub conversation: String,
    /// Shown to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// Who made it.
    pub owner: String,
    /// When.
    pub created_at: Timestamp,
    /// Newest number, 0 when empty.
    pub head: u64,
    /// Everybody in it; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
}

/// A page of somebody's conversations.
#[derive(Clone, Debug)]
pub struct ConversationPage {
    /// Newest activity first.
    pub conversations: Vec<ConversationView>,
    /// Where to go on.
    pub next: Option<ListCursor>,
}

/// A message that came by HTTP.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The message.
    pub send: protocol::Send,
    /// Under whose name, for those who may.
    pub sender: Option<String>,
    /// Who speaks, for those who may.
    pub role: Option<Role>,
}

impl Hub {
    /// `create`
    pub async fn create(&self, identity: &Identity, create: Create) -> Result<Created, CommandError> {
        let Identity { tenant, user, scopes, .. } = identity;
        if !scopes.may_create() {
            return Err(CommandError::forbidden("the token lacks the scope conversations:create"));
        }
        if create.members.len() >= self.config.members_per_conversation_max {
            return Err(self.too_many_members());
        }
        self.take_write(tenant, user).await?;
        if let Err(full) = self.check_conversations(tenant).await {
            // What exists is not made, however many there are.
            let name = create.conversation.as_deref().ok_or_else(|| full.clone())?;
            self.rooms.get(&*self.conversations, &*self.shards, tenant, name).await?.ok_or(full)?;
        }
        let conversation = create.conversation.unwrap_or_else(|| crate::random::sortable_id().to_string());
        let new = NewConversation {
            tenant: tenant.to_string(),
            conversation: conversation.clone(),
            owner: user.to_string(),
            title: create.title,
            metadata: create.metadata.map(|json| json.as_str().to_owned()),
            members: create.members,
        };
        let created = self.conversations.create(&new).await?;
        if created.created {
            let name: Arc<str> = conversation.as_str().into();
            self.rooms.doubt_load(tenant, &name);
            let others = new.members.iter().filter(|member| **member != **user);
            for member in std::iter::once(&new.owner).chain(others) {
                self.tell_member(tenant, &name, &member.as_str().into(), true);
            }
        } else if !created.member {
            return Err(CommandError::conflict("a conversation of that name exists"));
        }
        Ok(Created { conversation, created: created.created })
    }

    /// The conversations that one is a member of, newest activity first.
    pub async fn list_conversations(
        &self,
        identity: &Identity,
        cursor: Option<ListCursor>,
        limit: u32,
    ) -> Result<ConversationPage, CommandError> {
        let list =
            self.conversations.conversations_of(&identity.tenant, &identity.user, cursor, limit).await?;
        let conversations = list.conversations.into_iter().map(ConversationView::from).collect();
        Ok(ConversationPage { conversations, next: list.next })
    }

    /// One conversation with its members, for a member or an admin.
    pub async fn conversation(
        &self,
        identity: &Identity,
        name: &str,
    ) -> Result<ConversationView, CommandError> {
        let found = self.conversations.open(&identity.tenant, name).await?;
        let found = found.ok_or_else(CommandError::no_such_conversation)?;
        let members: Vec<String> = found.members.into_iter().map(|member| member.user).collect();
        if !identity.scopes.is_admin() && !members.iter().any(|member| **member == *identity.user) {
            return Err(CommandError::no_such_conversation());
        }
        Ok(ConversationView {
            conversation: found.conversation,
            title: found.title,
            metadata: found.metadata.map(Json::from_compact),
            owner: found.owner,
            created_at: Timestamp(found.created_at_ms),
            head: found.head,
            members: Some(members),
        })
    }

    /// Changes title and metadata; for the owner or an admin.
    pub async fn change_conversation(
        &self,
        identity: &Identity,
        name: &str,
        title: Option<Option<String>>,
        metadata: Option<Option<Json>>,
    ) -> Result<ConversationView, CommandError> {
        let room = self.owned_room(identity, name).await?;
        let metadata = metadata.map(|json| json.map(|json| json.as_str().to_owned()));
        if !self.conversations.update(room.conversation, title, metadata).await? {
            return Err(CommandError::no_such_conversation());
        }
        let (tenant, name) = (room.key.tenant.clone(), room.key.name.clone());
        self.publish_message(room.lane, &NodeMessage::Changed { tenant, name });
        self.conversation(identity, &room.key.name).await
    }

    /// Deletes a conversation; for the owner or an admin.
    pub async fn delete_conversation(&self, identity: &Identity, name: &str) -> Result<(), CommandError> {
        let room = self.owned_room(identity, name).await?;
        if !self.conversations.delete(room.conversation).await? {
            return Err(CommandError::no_such_conversation());
        }
        let (tenant, name) = (room.key.tenant.clone(), room.key.name.clone());
        self.apply_deleted(&tenant, &name, room.conversation);
        let message = NodeMessage::Deleted { tenant, name, conversation: room.conversation };
        self.publish_message(room.lane, &message);
        Ok(())
    }

    /// Adds a member; for the owner or an admin.
    pub async fn add_member(&self, identity: &Identity, name: &str, user: &str) -> Result<(), CommandError> {
        let room = self.owned_room(identity, name).await?;
        if room.state().members.len() >= self.config.members_per_conversation_max && !room.is_member(user) {
            return Err(self.too_many_members());
        }
        if self.conversations.add_member(room.conversation, user).await? {
            self.tell_member(&room.key.tenant, &room.key.name, &user.into(), true);
        }
        Ok(())
    }

    /// Removes a member; for the owner, an admin, or the member itself.
    pub async fn remove_member(
        &self,
        identity: &Identity,
        name: &str,
        user: &str,
    ) -> Result<(), CommandError> {
        let room = if *identity.user == *user {
            self.member_room(&identity.tenant, user, name).await?
        } else {
            self.owned_room(identity, name).await?
        };
        if !self.conversations.remove_member(room.conversation, user).await? {
            return Err(CommandError::new(protocol::ErrorCode::NotFound, "no such member"));
        }
        self.tell_member(&room.key.tenant, &room.key.name, &user.into(), false);
        Ok(())
    }

    /// A page of the log; for a member or an admin.
    pub async fn messages(
        &self,
        identity: &Identity,
        history: &History,
    ) -> Result<HistoryPage, CommandError> {
        let room = self.readable_room(identity, &history.conversation).await?;
        self.page(&room, history).await
    }

    /// A message that came by HTTP. An admin may speak under any name and in any role.
    pub async fn post(&self, identity: &Identity, posted: Posted) -> Result<Sent, CommandError> {
        let Posted { send, sender, role } = posted;
        if identity.scopes.is_admin() {
            let sender = sender.map_or_else(|| identity.user.clone(), Into::into);
            return self.send_as(&identity.tenant, &sender, role.unwrap_or(Role::User), send).await;
        }
        if sender.is_some() || role.is_some() {
            return Err(CommandError::forbidden("sender and role need the scope admin"));
        }
        self.send(&identity.tenant, &identity.user, Role::User, send).await
    }

    async fn readable_room(&self, identity: &Identity, name: &str) -> Result<Arc<Room>, CommandError> {
        if !identity.scopes.is_admin() {
            return self.member_room(&identity.tenant, &identity.user, name).await;
        }
        let room = self.rooms.get(&*self.conversations, &*self.shards, &identity.tenant, name).await?;
        room.ok_or_else(CommandError::no_such_conversation)
    }

    async fn owned_room(&self, identity: &Identity, name: &str) -> Result<Arc<Room>, CommandError> {
        let room = self.readable_room(identity, name).await?;
        self.touch(&room);
        if !identity.scopes.is_admin() && room.state().owner != identity.user {
            return Err(CommandError::forbidden("only the conversation's owner may do this"));
        }
        Ok(room)
    }

    fn tell_member(&self, tenant: &Arc<str>, name: &Arc<str>, user: &Arc<str>, member: bool) {
        self.apply_member(tenant, name, user, member);
        let message =
            NodeMessage::Member { tenant: tenant.clone(), name: name.clone(), user: user.clone(), member };
        self.publish_message(starling_fanout::lane_of(tenant, name), &message);
    }

    async fn check_conversations(&self, tenant: &str) -> Result<(), CommandError> {
        let max = self.config.limits_of(tenant).conversations;
        if max > 0 && self.conversations.count_conversations(tenant, max).await? >= max {
            METRICS.limited_tenant_conversations.increment(1);
            return Err(CommandError::rate_limited(
                format!("the tenant has its {max} conversations"),
                60_000,
            ));
        }
        Ok(())
    }

    fn too_many_members(&self) -> CommandError {
        CommandError::too_large(format!(
            "a conversation has at most {} members",
            self.config.members_per_conversation_max
        ))
    }
}

impl From<ConversationSummary> for ConversationView {
    fn from(row: ConversationSummary) -> ConversationView {
        ConversationView {
            conversation: row.conversation,
            title: row.title,
            metadata: row.metadata.map(Json::from_compact),
            owner: row.owner,
            created_at: Timestamp(row.created_at_ms),
            head: row.head,
            members: None,
        }
    }
}
