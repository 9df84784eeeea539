//! The sessions of a node by id and by user. The keys are read from the sessions themselves, so an entry is as small as a pointer.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use starling_model::{TenantName, UserName};

use super::Session;
use crate::random::Seeds;

/// The sessions of a node by id and by user.
#[derive(Default)]
pub(super) struct SessionIndex {
    by_id: HashTable<Arc<Session>>,
    by_user: HashTable<OfUser>,
    seeds: Seeds,
}

/// The sessions of one user. Almost every user has one.
enum OfUser {
    One(Arc<Session>),
    /// Two or more.
    Several(Vec<Arc<Session>>),
}

impl SessionIndex {
    /// Returns the session with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Session>> {
        self.by_id.find(self.seeds.hash_one(id), |session| &*session.id == id)
    }

    /// Returns all sessions of a user.
    pub fn of_user(&self, tenant: &TenantName, user: &UserName) -> &[Arc<Session>] {
        let hash = self.seeds.hash_one((tenant, user));
        self.by_user.find(hash, |of| of.is_of(tenant, user)).map_or(&[], OfUser::sessions)
    }

    /// Adds a session. Returns the one that had its id.
    pub fn insert(&mut self, session: &Arc<Session>) -> Option<Arc<Session>> {
        let older = self.remove(&session.id);
        let seeds = &self.seeds;
        self.by_id.insert_unique(seeds.hash_one(&*session.id), session.clone(), |of| seeds.hash_one(&*of.id));
        let (tenant, user) = (&session.tenant, &session.user);
        let found = self.by_user.entry(
            seeds.hash_one((tenant, user)),
            |of| of.is_of(tenant, user),
            |of| seeds.hash_one((&of.first().tenant, &of.first().user)),
        );
        match found {
            Entry::Occupied(mut of) => of.get_mut().push(session.clone()),
            Entry::Vacant(place) => {
                place.insert(OfUser::One(session.clone()));
            }
        }
        older
    }

    /// Removes the session with this id, and returns it.
    pub fn remove(&mut self, id: &str) -> Option<Arc<Session>> {
        let hash = self.seeds.hash_one(id);
        let (session, _) = self.by_id.find_entry(hash, |session| &*session.id == id).ok()?.remove();
        let (tenant, user) = (&session.tenant, &session.user);
        let hash = self.seeds.hash_one((tenant, user));
        if let Ok(mut of) = self.by_user.find_entry(hash, |of| of.is_of(tenant, user))
            && of.get_mut().remove(&session)
        {
            of.remove();
        }
        Some(session)
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns all sessions.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.by_id.iter()
    }
}

impl OfUser {
    fn sessions(&self) -> &[Arc<Session>] {
        match self {
            OfUser::One(session) => std::slice::from_ref(session),
            OfUser::Several(sessions) => sessions,
        }
    }

    /// One of the sessions.
    fn first(&self) -> &Session {
        &self.sessions()[0]
    }

    fn is_of(&self, tenant: &TenantName, user: &UserName) -> bool {
        let session = self.first();
        session.tenant == *tenant && session.user == *user
    }

    fn push(&mut self, session: Arc<Session>) {
        match self {
            OfUser::One(first) => *self = OfUser::Several(vec![first.clone(), session]),
            OfUser::Several(sessions) => sessions.push(session),
        }
    }

    /// Removes a session. Returns whether it was the last one.
    fn remove(&mut self, session: &Arc<Session>) -> bool {
        let OfUser::Several(sessions) = self else { return true };
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        if let [last] = &sessions[..] {
            *self = OfUser::One(last.clone());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use starling_auth::Identity;

    use super::*;
    use crate::shards::SocketId;

    fn session(id: &str, user: &str) -> Arc<Session> {
        let identity =
            Identity { user: user.into(), tenant: "t".into(), scopes: Arc::default(), expires_at_ms: 0 };
        let socket = SocketId { shard: 0, key: 0, generation: 0 };
        Arc::new(Session::new(id.into(), identity, 0, socket, 0))
    }

    fn ids(index: &SessionIndex, user: &str) -> Vec<String> {
        let mut ids: Vec<_> =
            index.of_user(&"t".into(), &user.into()).iter().map(|session| session.id.to_string()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_session_is_found_by_its_id_and_among_those_of_its_user() {
        let mut index = SessionIndex::default();
        for number in 0..1_000 {
            let older = index.insert(&session(&number.to_string(), &format!("user-{}", number % 500)));
            assert!(older.is_none());
        }
        assert_eq!(ids(&index, "user-7"), ["507", "7"]);
        assert!(index.get("999").is_some_and(|session| &*session.user == "user-499") && index.len() == 1_000);
        for number in 500..1_000 {
            assert!(index.remove(&number.to_string()).is_some());
        }
        assert_eq!(ids(&index, "user-7"), ["7"]);
        assert!(index.remove("7").is_some() && index.remove("7").is_none());
        assert!(ids(&index, "user-7").is_empty() && index.all().count() == 499);
    }

    #[test]
    fn a_session_takes_the_place_of_an_earlier_one_with_its_id() {
        let mut index = SessionIndex::default();
        let (first, second) = (session("a", "ann"), session("a", "ann"));
        assert!(index.insert(&first).is_none());
        assert!(index.insert(&second).is_some_and(|older| Arc::ptr_eq(&older, &first)));
        assert!(ids(&index, "ann") == ["a"] && index.len() == 1);
        assert!(index.get("a").is_some_and(|found| Arc::ptr_eq(found, &second)));
    }
}
