//! The end of a run: when nothing breaks any more, everything must become right within a while, and stay right.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use starling_session_store::SessionStore;
use tokio::time::Instant;

use super::names::{self, TENANT};
use super::node::Node;
use super::servers::Servers;
use super::world::World;

/// How soon after the last fault everything must be right again. This is time for the lease of a dead node, the linger of dropped
/// connections, a client's patience, and a few beats.
const HEALS_WITHIN: Duration = Duration::from_secs(30);
/// How long everything must stay right.
const QUIET: Duration = Duration::from_millis(1_500);
/// The interval at which everything is checked until it is right.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The check of a world and its servers.
pub struct Settling<'a> {
    pub world: &'a World,
    pub servers: &'a Servers,
}

impl Settling<'_> {
    /// Waits until everything is right and stays so.
    ///
    /// # Errors
    /// What is still wrong after [`HEALS_WITHIN`].
    pub async fn settle(&self) -> Result<(), String> {
        let until = Instant::now() + HEALS_WITHIN;
        loop {
            let mut wrong = self.wrong().await;
            if wrong.is_none() {
                tokio::time::sleep(QUIET).await;
                wrong = self.wrong().await;
            }
            match wrong {
                None => return Ok(()),
                Some(text) if Instant::now() >= until => return Err(text),
                Some(text) => self.world.note(|| format!("not yet: {text}")),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Returns the first thing that is wrong, if there is one.
    async fn wrong(&self) -> Option<String> {
        let readers = self.world.readers();
        if let Some(text) = self.busy(&readers).or_else(|| self.wrong_sessions(&readers)) {
            return Some(text);
        }
        if let Some(text) = self.unlisted(&readers).await {
            return Some(text);
        }
        for conversation in (0..self.world.conversations).map(names::conversation) {
            if let Some(text) = self.behind(&conversation, &readers) {
                return Some(text);
            }
            if let Some(text) = wrong_presence(self.world, &conversation, &readers).await {
                return Some(text);
            }
        }
        None
    }

    /// Returns whether a send has no reply yet, or a client has not done all of its script.
    fn busy(&self, readers: &BTreeSet<usize>) -> Option<String> {
        let outstanding = self.world.witness.borrow().outstanding();
        if outstanding > 0 {
            return Some(format!("{outstanding} sends have no reply"));
        }
        let clients = self.world.clients.borrow();
        let busy = readers.iter().find(|reader| !clients[**reader].is_done)?;
        Some(format!("client {busy} is still busy"))
    }

    /// Returns a client that has connections beside its last one, or whose session was ended.
    fn wrong_sessions(&self, readers: &BTreeSet<usize>) -> Option<String> {
        let (clients, ended) = (self.world.clients.borrow(), self.world.ended.borrow());
        readers.iter().find_map(|reader| {
            let client = &clients[*reader];
            if client.left_behind > 0 {
                return Some(format!(
                    "client {reader} has {} connections beside the last one",
                    client.left_behind
                ));
            }
            ended.contains(&client.session).then(|| format!("client {reader} is in a session that was ended"))
        })
    }

    /// Returns a client whose session the session store does not list as attached.
    async fn unlisted(&self, readers: &BTreeSet<usize>) -> Option<String> {
        for reader in readers {
            let session = self.world.clients.borrow()[*reader].session.clone();
            let (tenant, user) = (TENANT.into(), names::user(*reader).into());
            let listed = self.servers.sessions.sessions(&tenant, Some(&user), None, 100).await;
            let listed = listed.map(|list| list.sessions).unwrap_or_default();
            let found = listed.iter().find(|listed| listed.session == session);
            if !found.is_some_and(|found| found.attached) {
                return Some(format!("the session {session} of client {reader} is listed as {found:?}"));
            }
        }
        None
    }

    /// Returns a client that has not joined a conversation or has not seen all of it.
    fn behind(&self, conversation: &str, readers: &BTreeSet<usize>) -> Option<String> {
        let Some((log, head)) = self.servers.log.head_of(conversation) else {
            return Some(format!("{conversation} has not been created again"));
        };
        let clients = self.world.clients.borrow();
        readers.iter().find_map(|reader| {
            let client = &clients[*reader];
            let cursor = client.cursors.get(conversation).cloned().unwrap_or_default();
            let is_whole = head == cursor.seq && cursor.log.as_ref() == Some(&log);
            let is_behind = !is_whole || !client.joined.contains_key(conversation);
            is_behind.then(|| format!("client {reader} has {cursor:?} of {head} of {conversation} {log}"))
        })
    }
}

/// Returns a user whose presence in a conversation some node or some client has wrong. `readers`: the clients that are there.
pub async fn wrong_presence(world: &World, conversation: &str, readers: &BTreeSet<usize>) -> Option<String> {
    let clients = world.clients.borrow().len();
    let nodes: Vec<Rc<Node>> = world.slots.borrow().iter().filter(|node| !node.is_dead()).cloned().collect();
    for node in nodes {
        let asker = names::user(readers.first().copied().unwrap_or(0)).into();
        let (tenant, conversation) = (TENANT.into(), conversation.into());
        // The last fault may be this node's crash, which comes at this very moment.
        let list = node.answers(node.hub.presence(&tenant, &asker, &conversation)).await;
        let Some(list) = list else { continue };
        let Ok(list) = list else { return Some(format!("{} does not answer", node.name)) };
        for number in 0..clients {
            let user = names::user(number);
            let shown = list.users.iter().find(|each| *each.user == *user);
            let online = shown.is_some_and(|shown| shown.online);
            if online != readers.contains(&number) {
                return Some(format!("{} shows {user} as online: {online} ({shown:?})", node.name));
            }
        }
    }
    for reader in readers.iter().filter(|_| !world.is_tight) {
        let view = world.clients.borrow()[*reader].joined.get(conversation).cloned().flatten();
        let Some(view) = view else { continue };
        for number in (0..clients).filter(|number| number != reader) {
            let online = view.get(&*names::user(number)).copied().unwrap_or(false);
            if online != readers.contains(&number) {
                return Some(format!("client {reader} is told of user-{number} as online: {online}"));
            }
        }
    }
    None
}
