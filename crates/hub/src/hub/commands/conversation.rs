//! Creates, lists, changes and deletes conversations and their members.

use std::sync::Arc;

use starling_auth::Identity;
use starling_conversation_store::{
    Added, ConversationSummary, ListCursor, MembersChange, NewConversation, Role,
};
use starling_model::{ConversationName, Seq, UserName};
use starling_webhook_service::Decider;
use starling_webhook_service::webhooks::{EventType, HookPoint, Question};
use starling_wire::protocol::{self, Create, Created, History, HistoryPage, Json, Sent, Timestamp};

use crate::CommandError;
use crate::config::PAGE_BYTES_MAX;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::node_message::{MemberChange, NodeMessage};
use crate::room::Room;

/// A conversation, as the HTTP API shows it.
#[derive(Clone, Debug)]
pub struct ConversationView {
    /// The conversation's name.
    pub conversation: ConversationName,
    /// A title to show to people.
    pub title: Option<String>,
    /// Metadata, a JSON object.
    pub metadata: Option<Json>,
    /// The user who owns the conversation.
    pub owner: UserName,
    /// When the conversation was created.
    pub created_at: Timestamp,
    /// The head; 0 if the log is empty.
    pub head: Seq,
    /// All members. Absent in lists.
    pub members: Option<Vec<UserName>>,
}

/// A page of a user's conversations.
#[derive(Clone, Debug)]
pub struct ConversationPage {
    /// The conversations, newest activity first.
    pub conversations: Vec<ConversationView>,
    /// Where the next page begins. `None`: this is the last page.
    pub next: Option<ListCursor>,
}

/// A message that came by HTTP.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The message to send.
    pub send: protocol::Send,
    /// The sender's name. Only admins may set it.
    pub sender: Option<UserName>,
    /// The sender's role. Only admins may set it.
    pub role: Option<Role>,
}

impl Hub {
    /// `create`: creates a conversation.
    pub async fn create(
        self: &Arc<Self>,
        identity: &Identity,
        create: Create,
    ) -> Result<Created, CommandError> {
        let decider = self.decider(&identity.tenant, HookPoint::Create);
        self.create_if_allowed(identity, create, decider).await
    }

    /// Creates a conversation by HTTP. Hooks are skipped for administrators, which act for the application itself.
    pub async fn post_conversation(
        self: &Arc<Self>,
        identity: &Identity,
        create: Create,
    ) -> Result<Created, CommandError> {
        if identity.scopes.is_admin() {
            return self.create_if_allowed(identity, create, None).await;
        }
        self.create(identity, create).await
    }

    async fn create_if_allowed(
        self: &Arc<Self>,
        identity: &Identity,
        create: Create,
        decider: Option<Arc<Decider>>,
    ) -> Result<Created, CommandError> {
        let Identity { tenant, user, scopes, .. } = identity;
        if !scopes.may_create() {
            return Err(CommandError::forbidden("the token lacks the scope conversations:create"));
        }
        if create.members.len() >= self.config.members_per_conversation_max {
            return Err(self.too_many_members());
        }
        self.write_limits.take(tenant, user).await?;
        if let Some(decider) = decider {
            let question = Question::Create {
                user,
                conversation: create.conversation.as_ref(),
                title: create.title.as_deref(),
                members: &create.members,
                metadata: create.metadata.as_ref(),
            };
            self.ask(&decider, question).await?;
        }
        let conversation =
            create.conversation.unwrap_or_else(|| crate::random::sortable_id().to_string().into());
        let new = NewConversation {
            tenant: tenant.clone(),
            conversation: conversation.clone(),
            owner: user.clone(),
            title: create.title,
            metadata: create.metadata.map(|json| json.as_str().to_owned()),
            members: create.members,
        };
        let hub = self.clone();
        let created = self.to_the_end(async move { hub.create_and_tell(new).await }).await?;
        if !created.created && !created.member {
            return Err(CommandError::conflict("a conversation of that name exists"));
        }
        Ok(Created { conversation, created: created.created })
    }

    /// Returns a page of the conversations that the user is a member of, newest activity first.
    pub async fn list_conversations(
        &self,
        identity: &Identity,
        cursor: Option<ListCursor>,
        limit: u32,
    ) -> Result<ConversationPage, CommandError> {
        self.reads.take(&identity.tenant, &identity.user)?;
        let _turn = self.reads.turn(&identity.tenant, &identity.user).await?;
        let list = self.store.conversations_of(&identity.tenant, &identity.user, cursor, limit).await?;
        let conversations = list.conversations.into_iter().map(ConversationView::from).collect();
        Ok(ConversationPage { conversations, next: list.next })
    }

    /// Returns a conversation with its members, to a member or an admin.
    pub async fn conversation(
        &self,
        identity: &Identity,
        name: &ConversationName,
    ) -> Result<ConversationView, CommandError> {
        self.reads.wait(&identity.tenant, &identity.user, 1).await?;
        let turn = self.reads.turn(&identity.tenant, &identity.user).await?;
        let found = self.store.open(&identity.tenant, name).await?;
        drop(turn);
        let found = found.ok_or_else(CommandError::no_such_conversation)?;
        let members: Vec<UserName> = found.members.into_iter().map(|member| member.user).collect();
        if !identity.scopes.is_admin() && !members.contains(&identity.user) {
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

    /// Changes the title and metadata. Allowed to the owner and admins. Counts as a write.
    pub async fn change_conversation(
        self: &Arc<Self>,
        identity: &Identity,
        name: &ConversationName,
        title: Option<Option<String>>,
        metadata: Option<Option<Json>>,
    ) -> Result<ConversationView, CommandError> {
        self.write_limits.take_change(identity).await?;
        let room = self.owned_room(identity, name).await?;
        let metadata = metadata.map(|json| json.map(|json| json.as_str().to_owned()));
        let (hub, changed) = (self.clone(), room.clone());
        self.to_the_end(async move { hub.change_and_tell(&changed, title, metadata).await }).await?;
        self.conversation(identity, &room.key.name).await
    }

    /// Deletes a conversation. Allowed to the owner and admins. Counts as a write.
    pub async fn delete_conversation(
        self: &Arc<Self>,
        identity: &Identity,
        name: &ConversationName,
    ) -> Result<(), CommandError> {
        self.write_limits.take_change(identity).await?;
        let room = self.owned_room(identity, name).await?;
        let hub = self.clone();
        self.to_the_end(async move { hub.delete_and_tell(&room).await }).await
    }

    /// Adds a member. Allowed to the owner and admins. Counts as a write.
    pub async fn add_member(
        self: &Arc<Self>,
        identity: &Identity,
        name: &ConversationName,
        user: &UserName,
    ) -> Result<(), CommandError> {
        self.write_limits.take_change(identity).await?;
        let room = self.owned_room(identity, name).await?;
        let (hub, user) = (self.clone(), user.clone());
        self.to_the_end(async move { hub.set_member_and_tell(&room, user, true).await }).await?;
        Ok(())
    }

    /// Removes a member. Allowed to the owner, admins, and the member. Counts as a write.
    pub async fn remove_member(
        self: &Arc<Self>,
        identity: &Identity,
        name: &ConversationName,
        user: &UserName,
    ) -> Result<(), CommandError> {
        self.write_limits.take_change(identity).await?;
        let room = if identity.user == *user {
            self.directory.member_room(&identity.tenant, &identity.user, name).await?
        } else {
            self.owned_room(identity, name).await?
        };
        let (hub, user) = (self.clone(), user.clone());
        if !self.to_the_end(async move { hub.set_member_and_tell(&room, user, false).await }).await? {
            return Err(CommandError::new(protocol::ErrorCode::NotFound, "no such member"));
        }
        Ok(())
    }

    /// Returns a page of the log, to a member or an admin.
    pub async fn messages(
        &self,
        identity: &Identity,
        history: &History,
    ) -> Result<HistoryPage, CommandError> {
        self.reads.take(&identity.tenant, &identity.user)?;
        let room = self.readable_room(identity, &history.conversation).await?;
        self.page(&room, &identity.user, history, PAGE_BYTES_MAX).await
    }

    /// Sends a message that came by HTTP. An admin may set any sender and role.
    pub async fn post(&self, identity: &Identity, posted: Posted) -> Result<Sent, CommandError> {
        let Posted { send, sender, role } = posted;
        if identity.scopes.is_admin() {
            let sender = sender.unwrap_or_else(|| identity.user.clone());
            return self.send_as(&identity.tenant, &sender, role.unwrap_or(Role::User), send).await;
        }
        if sender.is_some() || role.is_some() {
            return Err(CommandError::forbidden("sender and role need the scope admin"));
        }
        self.send(&identity.tenant, &identity.user, Role::User, send).await
    }

    async fn readable_room(
        &self,
        identity: &Identity,
        name: &ConversationName,
    ) -> Result<Arc<Room>, CommandError> {
        if !identity.scopes.is_admin() {
            return self.directory.member_room(&identity.tenant, &identity.user, name).await;
        }
        let room = self.directory.room(&identity.tenant, &identity.user, name).await?;
        room.ok_or_else(CommandError::no_such_conversation)
    }

    async fn owned_room(
        &self,
        identity: &Identity,
        name: &ConversationName,
    ) -> Result<Arc<Room>, CommandError> {
        let room = self.readable_room(identity, name).await?;
        if !identity.scopes.is_admin() && *room.state().members.owner() != identity.user {
            return Err(CommandError::forbidden("only the conversation's owner may do this"));
        }
        Ok(room)
    }

    async fn create_and_tell(
        &self,
        new: NewConversation,
    ) -> Result<starling_conversation_store::Created, CommandError> {
        let max = self.config.limits_of(&new.tenant).conversations;
        let Some(created) = self.store.create_within(&new, max).await? else {
            METRICS.limited_tenant_conversations.increment(1);
            return Err(CommandError::rate_limited(
                format!("the tenant has its {max} conversations"),
                60_000,
            ));
        };
        if created.created {
            let (tenant, name) = (new.tenant, new.conversation);
            let others = new.members.into_iter().filter(|member| *member != new.owner);
            for user in std::iter::once(new.owner.clone()).chain(others) {
                let (tenant, name) = (tenant.clone(), name.clone());
                let conversation = created.id;
                let (version, member, owner) = (0, true, None);
                self.directory.tell_member(MemberChange {
                    tenant,
                    name,
                    conversation,
                    version,
                    user,
                    member,
                    owner,
                });
            }
            // Last, since it may wait for the database.
            self.tell_conversation(EventType::ConversationCreated, &tenant, &name).await;
        }
        Ok(created)
    }

    async fn change_and_tell(
        &self,
        room: &Arc<Room>,
        title: Option<Option<String>>,
        metadata: Option<Option<String>>,
    ) -> Result<(), CommandError> {
        if !self.store.update(room.conversation, title, metadata).await? {
            return Err(CommandError::no_such_conversation());
        }
        // Read what was committed, so that every node ends with the same title if several change it at the same time.
        self.directory.reload_members(room);
        let (tenant, name) = (room.key.tenant.clone(), room.key.name.clone());
        let conversation = Some(room.conversation);
        self.publisher.publish_message(room.partition, &NodeMessage::Changed { tenant, name, conversation });
        self.tell_conversation(EventType::ConversationUpdated, &room.key.tenant, &room.key.name).await;
        Ok(())
    }

    /// Adds or removes a member and tells all nodes the result. The version is told even if nothing changed or the result is unknown, since
    /// a node may have missed an earlier change. `false`: nothing changed.
    async fn set_member_and_tell(
        &self,
        room: &Arc<Room>,
        user: UserName,
        member: bool,
    ) -> Result<bool, CommandError> {
        let conversation = room.conversation;
        let announced = self.announces_member(room, member);
        let change = if member {
            let max = self.config.members_per_conversation_max as u64;
            match self.store.add_member_and_note(conversation, &user, max, announced).await {
                Ok(Some(Added::Full)) => return Err(self.too_many_members()),
                Ok(Some(Added::Member(change))) => Ok(Some(change)),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            }
        } else {
            self.store.remove_member_and_note(conversation, &user, announced).await
        };
        match change {
            Ok(Some(MembersChange { changed: true, version, owner })) => {
                let (tenant, name) = (room.key.tenant.clone(), room.key.name.clone());
                let owner = Some(owner);
                self.directory.tell_member(MemberChange {
                    tenant,
                    name,
                    conversation,
                    version,
                    user,
                    member,
                    owner,
                });
                self.note_announced_member(announced);
                Ok(true)
            }
            Ok(Some(MembersChange { version, .. })) => {
                self.directory.tell_members_version(room, Some(version));
                Ok(false)
            }
            Ok(None) => {
                self.directory.tell_deleted(room);
                Err(CommandError::no_such_conversation())
            }
            Err(error) => {
                // The change may have been committed although the reply was lost.
                self.directory.tell_members_version(room, None);
                Err(error.into())
            }
        }
    }

    async fn delete_and_tell(&self, room: &Arc<Room>) -> Result<(), CommandError> {
        match self.store.delete(room.conversation).await {
            Ok(deleted) => {
                // Also tell it if the conversation was already deleted, since a node may have missed that.
                self.directory.tell_deleted(room);
                self.eraser.request();
                if deleted {
                    self.tell_deleted_conversation(&room.key, &room.log).await;
                }
                if deleted { Ok(()) } else { Err(CommandError::no_such_conversation()) }
            }
            Err(error) => {
                self.directory.tell_members_version(room, None);
                Err(error.into())
            }
        }
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
