//! A client as the docs tell authors to write one: it keeps session, ticket and cursors, repeats a send without a reply under the same key,
//! and continues on any node.

mod acting;
mod checks;
mod connection;
mod hearing;
mod left_behind;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use connection::{Awaited, Connection, Over};
use left_behind::LeftBehind;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::chance::Chance;
use super::client_state::Cursor;
use super::names;
use super::node::Node;
use super::pipe::Pipe;
use super::plan::{Deed, Script};
use super::witness::Sending;
use super::world::World;

/// The close code of a connection whose session was attached by a later one.
const SUPERSEDED: u16 = 4409;
/// The close code of a node that ends.
const RESTARTING: u16 = 1012;
/// How long the older connection stays open after the client has moved, so that the newer one can take over.
const HANDOVER: Duration = Duration::from_millis(300);

/// A client.
pub struct Client {
    number: usize,
    user: Arc<str>,
    world: Rc<World>,
    chance: Chance,
    began: Instant,
    script: VecDeque<(Duration, Deed)>,
    follows_draining: bool,
    gives_up: bool,
    /// Session and ticket, from the last reply to `connect`.
    session: Option<(String, String)>,
    /// The highest seq shown, by conversation, with its log id.
    cursors: BTreeMap<String, Cursor>,
    /// Sends without an `ok`, by key.
    outstanding: BTreeMap<String, Outstanding>,
    keys: u64,
    /// Since when it has been away. `None` also if some node may believe that it is connected.
    away_since: Option<Instant>,
    /// Connections whose loss the node does not notice yet, and until when.
    ghosts: Vec<(Pipe, Instant)>,
    /// Connections that it opened for its session before the last one. Nodes must close them.
    rivals: Vec<JoinHandle<()>>,
    /// When it sent its last `connect`.
    connect_sent_at: Option<Instant>,
}

/// A send without an `ok`.
struct Outstanding {
    sending: Sending,
    content: String,
    again_at: Instant,
    under_way: bool,
}

impl Client {
    /// Makes a client that follows a script.
    pub fn new(number: usize, script: &Script, world: Rc<World>) -> Client {
        Client {
            number,
            user: names::user(number),
            chance: Chance::new(world.seed, &format!("client {number}")),
            world,
            began: Instant::now(),
            script: script.deeds.iter().copied().collect(),
            follows_draining: script.follows_draining,
            gives_up: script.gives_up,
            session: None,
            cursors: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            keys: 0,
            away_since: None,
            ghosts: Vec::new(),
            rivals: Vec::new(),
            connect_sent_at: None,
        }
    }

    /// Runs until the script says that the client goes, or until the end of the run.
    pub async fn live(mut self) {
        let mut next = None;
        loop {
            let Some((node, pipe)) = next.take().or_else(|| self.open(None)) else {
                let pause = self.chance.millis(20, 400);
                tokio::time::sleep(pause).await;
                continue;
            };
            let mut connection = Connection::new(node, pipe, self.away_since.take());
            match self.serve(&mut connection).await {
                Over::Quit => break,
                Over::Lost if connection.node.is_dead() && self.gives_up => break,
                Over::Lost => {
                    drop(connection);
                    let pause = self.chance.millis(1, 300);
                    tokio::time::sleep(pause).await;
                }
                Over::Moved(opened) => {
                    self.ghosts.push((connection.pipe, Instant::now() + HANDOVER));
                    next = Some(*opened);
                }
                Over::Raced(apart) => self.race(connection, apart).await,
                Over::Away(time) => {
                    self.ghosts.retain(|(_, until)| *until > Instant::now());
                    self.away_since = self.ghosts.is_empty().then(Instant::now);
                    drop(connection);
                    tokio::time::sleep(time).await;
                }
                Over::Vanished(time) => self.ghosts.push((connection.pipe, Instant::now() + time)),
            }
        }
        self.leave();
    }

    /// Handles one connection until it ends.
    async fn serve(&mut self, connection: &mut Connection) -> Over {
        self.world.clients.borrow_mut()[self.number].joined.clear();
        self.world
            .note(|| format!("client {} on {} with {:?}", self.number, connection.node.name, self.cursors));
        for outstanding in self.outstanding.values_mut() {
            outstanding.under_way = false;
        }
        self.asks_to_join();
        connection.ask(Awaited::Connect, self.connect_command(0));
        // Of two that begin in the same millisecond, either may count as the last one.
        let tied = self.connect_sent_at.replace(Instant::now()) == Some(Instant::now());
        loop {
            let now = Instant::now();
            self.ghosts.retain(|(_, until)| *until > now);
            if let Some(over) = self.act(connection, now).await {
                return over;
            }
            let wake = self.wakes_at(connection);
            let Ok(frame) = tokio::time::timeout_at(wake, connection.pipe.next()).await else { continue };
            let Some((bytes, frame)) = frame else {
                self.judge_close(connection, tied);
                return Over::Lost;
            };
            self.world.witness.borrow_mut().hears(self.number, bytes);
            if let Some(over) = self.take(connection, &frame) {
                return over;
            }
        }
    }

    /// Checks the reason for which a node closed a connection. `tied`: an earlier connection began at the same time.
    fn judge_close(&self, connection: &Connection, tied: bool) {
        if connection.pipe.close_code == Some(SUPERSEDED) && !tied && !connection.rivalled {
            self.world.fault(&format!(
                "client {} was closed as superseded, and has no later connection",
                self.number
            ));
        }
        if connection.told && connection.pipe.close_code == Some(RESTARTING) {
            self.world.judge_closing(self.number, &connection.node);
        }
    }

    /// Leaves this connection open, opens another one for the session, and waits before the caller opens one more.
    async fn race(&mut self, connection: Connection, apart: Duration) {
        self.leave_behind(connection.pipe);
        let Some((node, mut pipe)) = self.open(None) else { return };
        self.world.note(|| format!("client {} races on {}", self.number, node.name));
        self.asks_to_join();
        pipe.send(&self.connect_command(1));
        self.connect_sent_at = Some(Instant::now());
        // The command goes out at once. Nobody needs the replies, since there will be a later connection.
        let _ = tokio::time::timeout(Duration::ZERO, pipe.next()).await;
        self.leave_behind(pipe);
        tokio::time::sleep(apart).await;
    }

    /// Leaves a connection open that the next one replaces, and waits for a node to close it.
    fn leave_behind(&mut self, mut pipe: Pipe) {
        let left = LeftBehind::new(self.world.clone(), self.number);
        self.rivals.push(tokio::task::spawn_local(async move {
            while let Some((_, frame)) = pipe.next().await {
                // It came too late for its session and has a new one, which nobody needs.
                if frame["ok"]["resumed"] == false {
                    break;
                }
            }
            drop(left);
        }));
    }

    /// Notes that a `connect` or a `join` has no reply yet.
    fn asks_to_join(&self) {
        self.world.clients.borrow_mut()[self.number].unanswered += 1;
    }

    fn connect_command(&self, id: u64) -> Value {
        let mut connect = json!({ "id": id, "op": "connect" });
        if let Some((session, ticket)) = &self.session {
            let cursors = self.cursors.iter().map(|(name, cursor)| (name.clone(), cursor.to_json()));
            let cursors: serde_json::Map<_, _> = cursors.collect();
            connect["resume"] = json!({ "session": session, "ticket": ticket, "cursors": cursors });
        }
        connect
    }

    /// Opens a connection to any node but this one. `None`: the node that was picked takes none.
    fn open(&mut self, not: Option<&Rc<Node>>) -> Option<(Rc<Node>, Pipe)> {
        let nodes: Vec<Rc<Node>> = {
            let slots = self.world.slots.borrow();
            slots.iter().filter(|node| not.is_none_or(|not| !Rc::ptr_eq(node, not))).cloned().collect()
        };
        // As a load balancer does that does not know yet which nodes are down.
        let node = nodes.get(self.chance.index(nodes.len().max(1)))?.clone();
        let pipe = node.accept(&self.user, self.world.token_ends_at_ms(), &mut self.chance)?;
        Some((node, pipe))
    }

    /// Goes for good.
    fn leave(self) {
        self.world.note(|| format!("client {} goes", self.number));
        self.rivals.iter().for_each(JoinHandle::abort);
        for outstanding in self.outstanding.into_values() {
            self.world.witness.borrow_mut().abandon(outstanding.sending);
        }
        self.world.clients.borrow_mut()[self.number].leave();
    }
}
