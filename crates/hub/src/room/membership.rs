//! The members of a conversation with their read marks, its owner, and the versions of both. Only the directory changes them.

use std::collections::BTreeMap;

use starling_conversation_store::{Conversation, ConversationHead};
use starling_model::{Seq, UserName};

use super::members_version::{MembersVersion, VersionOrder};
use crate::node_message::MemberChange;
use crate::{Map, Set};

/// The members of a conversation, and its owner.
pub struct Membership {
    /// All members, with their read marks.
    members: Map<UserName, Seq>,
    /// The version of `members`.
    version: MembersVersion,
    owner: UserName,
    /// The version of title and metadata that the joined sessions have been told.
    details_version: u64,
}

impl Membership {
    /// Creates it from the members that were read from the database.
    pub(super) fn of(conversation: &Conversation) -> Membership {
        Membership {
            members: members_of(conversation),
            version: MembersVersion::loaded(conversation.members_version),
            owner: conversation.owner.clone(),
            details_version: conversation.details_version,
        }
    }

    /// Whether a user is a member.
    pub fn contains(&self, user: &UserName) -> bool {
        self.members.contains_key(user)
    }

    /// Returns all members.
    pub fn users(&self) -> impl Iterator<Item = &UserName> {
        self.members.keys()
    }

    /// Returns the user who owns the conversation.
    pub fn owner(&self) -> &UserName {
        &self.owner
    }

    /// Returns how far a member has read. `None`: the user is no member.
    pub fn read_mark(&self, user: &UserName) -> Option<Seq> {
        self.members.get(user).copied()
    }

    /// Returns the read marks above 0, by user.
    pub fn read_marks(&self) -> BTreeMap<UserName, u64> {
        let marks = self.members.iter().filter(|(_, read)| **read > Seq::ZERO);
        marks.map(|(user, read)| (user.clone(), read.get())).collect()
    }

    /// Raises a member's read mark. `false`: it was as high already, or the user is no member. A mark never falls, in whichever order
    /// messages arrive.
    pub fn raise_read_mark(&mut self, user: &UserName, seq: Seq) -> bool {
        match self.members.get_mut(user) {
            Some(mark) if *mark < seq => {
                *mark = seq;
                true
            }
            _ => false,
        }
    }

    /// Handles a change, and applies it if it is the next one.
    pub fn hear(&mut self, change: &MemberChange) -> VersionOrder {
        let heard = self.version.hear(change.version);
        if heard == VersionOrder::Next {
            if change.member {
                self.members.entry(change.user.clone()).or_insert(Seq::ZERO);
            } else {
                self.members.remove(&change.user);
            }
            if let Some(owner) = &change.owner {
                self.owner = owner.clone();
            }
        }
        heard
    }

    /// Whether the owner is a member no more. Another member is the owner then, and the database knows which one.
    pub fn has_lost_owner(&self) -> bool {
        !self.contains(&self.owner)
    }

    /// Notes that this version of the members exists. `true`: some of its changes are missing here.
    pub fn learn_version(&mut self, version: u64) -> bool {
        self.version.learn(version)
    }

    /// Notes the versions that the database reported. `true`: something is missing here.
    pub fn learn(&mut self, head: &ConversationHead) -> bool {
        self.version.learn(head.members_version) || self.details_version < head.details_version
    }

    /// Notes that sessions are told the title and metadata of this version. `false`: they have been told.
    pub fn learn_details(&mut self, version: u64) -> bool {
        let is_new = self.details_version < version;
        self.details_version = self.details_version.max(version);
        is_new
    }

    /// Returns the latest version of the members that is known to exist, to be passed to [`Membership::replace`].
    pub fn known_version(&self) -> u64 {
        self.version.known()
    }

    /// Creates it from the members that were read from the database. Returns the earlier ones. `None`: a later version was heard of
    /// during the read, so the members must be read again.
    pub fn replace(&mut self, known_before: u64, read: &Conversation) -> Option<Set<UserName>> {
        if !self.version.read(known_before, read.members_version) {
            return None;
        }
        let before = std::mem::replace(&mut self.members, members_of(read));
        for (user, mark) in &before {
            self.raise_read_mark(user, *mark);
        }
        self.owner = read.owner.clone();
        Some(before.into_keys().collect())
    }

    /// Removes all members, because the conversation was deleted.
    pub(super) fn clear(&mut self) -> Vec<UserName> {
        self.members.drain().map(|(user, _)| user).collect()
    }
}

fn members_of(conversation: &Conversation) -> Map<UserName, Seq> {
    conversation.members.iter().map(|member| (member.user.clone(), member.read)).collect()
}
