//! The users who are online in a conversation, with the number of their sessions per node.

use std::sync::Arc;

use starling_model::UserName;

use crate::Map;

/// The users who are online in a conversation, with the number of their sessions per node.
#[derive(Debug, Default)]
pub struct Online {
    users: Map<UserName, Vec<(Arc<str>, u32)>>,
}

/// The effect of a change on a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineChange {
    /// The user came online.
    CameOnline,
    /// The user went offline.
    WentOffline,
    /// Nothing changed for the user.
    None,
}

impl Online {
    /// Sets the number of a user's sessions on a node.
    pub fn set(&mut self, user: &UserName, node: &Arc<str>, devices: u32) -> OnlineChange {
        if devices == 0 {
            return self.remove(user, node);
        }
        let nodes = self.users.entry(user.clone()).or_default();
        let came = nodes.is_empty();
        match nodes.iter_mut().find(|(name, _)| name == node) {
            Some((_, count)) => *count = devices,
            None => {
                // A user is hardly ever on several nodes.
                nodes.reserve_exact(1);
                nodes.push((node.clone(), devices));
            }
        }
        if came { OnlineChange::CameOnline } else { OnlineChange::None }
    }

    /// Returns the number of a user's sessions on a node.
    pub fn on_node(&self, user: &UserName, node: &str) -> u32 {
        self.users
            .get(user)
            .and_then(|nodes| nodes.iter().find(|(name, _)| &**name == node))
            .map_or(0, |(_, count)| *count)
    }

    /// Returns the number of a user's sessions on all nodes; 0 if the user is offline.
    pub fn devices(&self, user: &UserName) -> u32 {
        self.users.get(user).map_or(0, |nodes| nodes.iter().map(|(_, count)| count).sum())
    }

    /// Returns all users who are online.
    pub fn users(&self) -> impl Iterator<Item = &UserName> {
        self.users.keys()
    }

    /// Returns all users who are online on a node, with the number of their sessions there.
    pub fn of_node<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (&'a UserName, u32)> {
        self.users.iter().filter_map(move |(user, nodes)| {
            nodes.iter().find(|(name, _)| &**name == node).map(|(_, count)| (user, *count))
        })
    }

    /// Removes the entries of nodes for which `lives` is false. Returns the users who went offline because of that.
    pub fn keep_nodes(&mut self, lives: impl Fn(&str) -> bool) -> Vec<UserName> {
        let mut gone = Vec::new();
        self.users.retain(|user, nodes| {
            nodes.retain(|(node, _)| lives(node));
            if nodes.is_empty() {
                gone.push(user.clone());
            }
            !nodes.is_empty()
        });
        gone
    }

    fn remove(&mut self, user: &UserName, node: &Arc<str>) -> OnlineChange {
        let Some(nodes) = self.users.get_mut(user) else { return OnlineChange::None };
        nodes.retain(|(name, _)| name != node);
        if nodes.is_empty() {
            self.users.remove(user);
            return OnlineChange::WentOffline;
        }
        OnlineChange::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_there_from_the_first_device_to_the_last_on_any_node() {
        let mut online = Online::default();
        let (ann, a, b): (UserName, Arc<str>, Arc<str>) = ("ann".into(), "a".into(), "b".into());
        assert_eq!(online.set(&ann, &a, 1), OnlineChange::CameOnline);
        assert_eq!(online.set(&ann, &b, 2), OnlineChange::None);
        assert_eq!(online.devices(&ann), 3);
        assert_eq!(online.set(&ann, &a, 0), OnlineChange::None);
        assert_eq!(online.set(&ann, &b, 0), OnlineChange::WentOffline);
        assert_eq!(online.set(&ann, &b, 0), OnlineChange::None);
    }

    #[test]
    fn a_dead_nodes_people_go_unless_they_are_elsewhere_too() {
        let mut online = Online::default();
        let (ann, bob, a, b): (UserName, UserName, Arc<str>, Arc<str>) =
            ("ann".into(), "bob".into(), "a".into(), "b".into());
        online.set(&ann, &a, 1);
        online.set(&bob, &a, 1);
        online.set(&bob, &b, 1);
        assert_eq!(online.keep_nodes(|node| node != "a"), [ann]);
        assert_eq!(online.users().count(), 1);
    }
}
