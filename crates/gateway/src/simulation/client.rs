//! A client as its authors are told to write one: it keeps session, ticket and cursors, sends again under the same key what had no
//! answer, and goes on anywhere.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use starling_auth::{Identity, Scopes};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::chance::Chance;
use super::node::Node;
use super::pipe::Pipe;
use super::plan::{Deed, Script};
use super::witness::{Sending, Shown};
use super::world::World;
use super::{TENANT, time};

/// How long an answer may take before the client tries elsewhere.
const PATIENCE: Duration = Duration::from_secs(5);
/// The close code of a socket whose session is attached by a later one.
const SUPERSEDED: u16 = 4409;
/// The close code of a node that ends.
const RESTARTING: u16 = 1012;
/// How many sends may be under way.
const UNDER_WAY_MAX: usize = 8;

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
    /// Session and ticket, of the last `connect`.
    session: Option<(String, String)>,
    /// The highest number shown, by conversation, and the log that it belongs to.
    cursors: BTreeMap<String, Cursor>,
    /// Sends that are not acknowledged, by key.
    outstanding: BTreeMap<String, Outstanding>,
    keys: u64,
    /// Since when it has been away, if it goes back to where it was and no node believes it to be there.
    away_since: Option<Instant>,
    /// Sockets that the node does not know to be gone, until when.
    ghosts: Vec<(Pipe, Instant)>,
    /// Sockets that it opened for its session before the last one. Nodes have to close them.
    rivals: Vec<JoinHandle<()>>,
    /// When it sent its last `connect`.
    connect_sent_at: Option<Instant>,
}

/// How far a client has seen a conversation.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    pub seq: u64,
    /// Known from the first reply on.
    pub log: Option<String>,
}

impl Cursor {
    fn to_json(&self) -> Value {
        match &self.log {
            Some(log) => json!({ "seq": self.seq, "log": log }),
            None => self.seq.into(),
        }
    }
}

struct Outstanding {
    sending: Sending,
    content: String,
    again_at: Instant,
    under_way: bool,
}

/// One connection.
struct Connection {
    node: Rc<Node>,
    pipe: Pipe,
    next_id: u64,
    awaited: BTreeMap<u64, (Awaited, Instant)>,
    connected: bool,
    /// Since when the client had been away before it.
    away_since: Option<Instant>,
    /// Joined conversations; of those joined on this connection, who is there.
    joined: BTreeMap<String, Option<BTreeMap<String, bool>>>,
    join_again_at: Instant,
    /// When to go elsewhere, as the node asked.
    leave_at: Option<Instant>,
    /// The node asked this client to move.
    told: bool,
    /// A later socket of the session was opened, which is to break: it may have replaced this one before.
    rivalled: bool,
}

enum Awaited {
    Connect,
    Join(String),
    Send(String),
    Typing(String),
    Read,
}

/// Why a connection is over.
enum Over {
    /// The client goes for good.
    Quit,
    /// To be opened anew.
    Lost,
    /// To be opened anew after this long.
    Away(Duration),
    /// To be opened anew, and the node does not notice for this long.
    Vanished(Duration),
    /// The client opens another one, and after this time one more, which takes over.
    Raced(Duration),
    /// The other one, opened before this one ends, takes over.
    Moved(Box<(Rc<Node>, Pipe)>),
}

impl Client {
    pub fn new(number: usize, script: &Script, world: Rc<World>) -> Client {
        Client {
            number,
            user: World::user(number),
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

    /// Lives until the script says that it goes, or until the run ends.
    pub async fn live(mut self) {
        let mut next = None;
        loop {
            let (node, pipe) = match next.take() {
                Some(opened) => opened,
                None => match self.open(None) {
                    Some(opened) => opened,
                    None => {
                        let pause = self.chance.millis(20, 400);
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                },
            };
            let mut connection = Connection::new(node, pipe, self.away_since.take());
            match self.serve(&mut connection).await {
                Over::Quit => break,
                Over::Moved(opened) => {
                    // The older one ends when the newer one has had the time to take over.
                    self.ghosts.push((connection.pipe, Instant::now() + Duration::from_millis(300)));
                    next = Some(*opened);
                }
                Over::Raced(apart) => {
                    self.leave_behind(connection.pipe);
                    if let Some((node, mut pipe)) = self.open(None) {
                        self.world.note(|| format!("client {} races on {}", self.number, node.name));
                        pipe.send(&self.connect_command(1));
                        self.connect_sent_at = Some(Instant::now());
                        // It goes out at once. What comes back is for nobody: there will be a newer one.
                        let _ = tokio::time::timeout(Duration::ZERO, pipe.next()).await;
                        self.leave_behind(pipe);
                        tokio::time::sleep(apart).await;
                    }
                }
                Over::Away(time) => {
                    self.ghosts.retain(|(_, until)| *until > Instant::now());
                    self.away_since = self.ghosts.is_empty().then(Instant::now);
                    drop(connection);
                    tokio::time::sleep(time).await;
                }
                Over::Vanished(time) => self.ghosts.push((connection.pipe, Instant::now() + time)),
                Over::Lost => {
                    if connection.node.is_dead() && self.gives_up {
                        break;
                    }
                    drop(connection);
                    let pause = self.chance.millis(1, 300);
                    tokio::time::sleep(pause).await;
                }
            }
        }
        self.world.note(|| format!("client {} goes", self.number));
        self.rivals.iter().for_each(JoinHandle::abort);
        for outstanding in self.outstanding.into_values() {
            self.world.witness.borrow_mut().abandon(outstanding.sending);
        }
        self.world.clients.borrow_mut()[self.number].leave();
    }

    /// Leaves a socket open that the next one takes the place of, and waits for a node to close it.
    fn leave_behind(&mut self, mut pipe: Pipe) {
        let left = Left::new(self.world.clone(), self.number);
        self.rivals.push(tokio::task::spawn_local(async move {
            while let Some((_, frame)) = pipe.next().await {
                // One that came too late for its session has another one now, which nobody wants.
                if frame["ok"]["resumed"] == false {
                    break;
                }
            }
            drop(left);
        }));
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

    fn open(&mut self, not: Option<&Rc<Node>>) -> Option<(Rc<Node>, Pipe)> {
        let nodes: Vec<Rc<Node>> = {
            let slots = self.world.slots.borrow();
            slots.iter().filter(|node| not.is_none_or(|not| !Rc::ptr_eq(node, not))).cloned().collect()
        };
        // As a load balancer that does not know yet who is there.
        let node = nodes.get(self.chance.index(nodes.len().max(1)))?.clone();
        let pipe = node.accept(&self.user, self.world.token_ends_at_ms(), &mut self.chance)?;
        Some((node, pipe))
    }

    async fn serve(&mut self, connection: &mut Connection) -> Over {
        self.world.clients.borrow_mut()[self.number].joined.clear();
        self.world
            .note(|| format!("client {} on {} with {:?}", self.number, connection.node.name, self.cursors));
        for outstanding in self.outstanding.values_mut() {
            outstanding.under_way = false;
        }
        connection.ask(Awaited::Connect, self.connect_command(0));
        // Of two that begin in the same millisecond, either may be taken for the last one.
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
                if connection.pipe.close_code == Some(SUPERSEDED) && !tied && !connection.rivalled {
                    self.world.fault(&format!(
                        "client {} was closed as replaced, and has no later socket",
                        self.number
                    ));
                }
                if connection.told && connection.pipe.close_code == Some(RESTARTING) {
                    self.world.judge_closing(self.number, &connection.node);
                }
                return Over::Lost;
            };
            self.world.witness.borrow_mut().hears(self.number, bytes);
            if let Some(over) = self.take(connection, &frame) {
                return over;
            }
        }
    }

    /// Does what is due.
    async fn act(&mut self, connection: &mut Connection, now: Instant) -> Option<Over> {
        if connection.awaited.values().any(|(_, until)| *until <= now) {
            self.world.note(|| format!("client {} has waited long enough", self.number));
            return Some(Over::Lost);
        }
        if connection.leave_at.is_some_and(|at| at <= now) {
            match self.open(Some(&connection.node)) {
                Some(opened) => return Some(Over::Moved(Box::new(opened))),
                None => connection.leave_at = Some(now + Duration::from_millis(200)),
            }
        }
        while let Some((at, deed)) = self.script.front().copied()
            && self.began + at <= now
        {
            self.script.pop_front();
            match deed {
                Deed::Send { conversation } => self.compose(conversation, now),
                Deed::Cut => return Some(Over::Lost),
                Deed::Away(time) => return Some(Over::Away(time)),
                Deed::Vanish(time) => return Some(Over::Vanished(time)),
                Deed::Stall(time) => tokio::time::sleep(time).await,
                // One without a session would begin two.
                Deed::Race(_) if self.session.is_none() => {}
                Deed::Race(apart) => return Some(Over::Raced(apart)),
                Deed::Falter(after) => self.falter(connection, after),
                Deed::Type { conversation } => self.type_in(connection, &World::conversation(conversation)),
                Deed::BeEnded => self.be_ended(connection).await,
                Deed::Quit => return Some(Over::Quit),
            }
        }
        self.world.clients.borrow_mut()[self.number].is_done = self.script.is_empty();
        if connection.connected {
            self.join_missing(connection, now);
            self.send_waiting(connection, now);
        }
        None
    }

    /// Opens another socket for the client's session, which breaks after a while.
    fn falter(&mut self, connection: &mut Connection, after: Duration) {
        if self.session.is_none() {
            return;
        }
        let Some((node, mut pipe)) = self.open(None) else { return };
        self.world.note(|| format!("client {} falters on {}", self.number, node.name));
        pipe.send(&self.connect_command(1));
        self.connect_sent_at = Some(Instant::now());
        connection.rivalled = true;
        tokio::task::spawn_local(async move {
            let _ = tokio::time::timeout(after, async { while pipe.next().await.is_some() {} }).await;
        });
    }

    fn type_in(&self, connection: &mut Connection, conversation: &str) {
        if !connection.joined.contains_key(conversation) {
            return;
        }
        self.world.typed.borrow_mut().insert((conversation.to_owned(), self.user.clone()), i64::MAX);
        let typing = json!({ "op": "typing", "conversation": conversation, "typing": true });
        connection.ask(Awaited::Typing(conversation.to_owned()), typing);
    }

    /// An operator ends the client's session, by the node that it is on.
    async fn be_ended(&self, connection: &Connection) {
        let Some((session, _)) = &self.session else { return };
        let operator = Identity {
            user: "operator".into(),
            tenant: TENANT.into(),
            scopes: Arc::new(Scopes::parse("admin")),
            expires_at_ms: i64::MAX,
        };
        // A node that dies does not answer.
        let ended = tokio::time::timeout(PATIENCE, connection.node.hub.end_session(&operator, session)).await;
        if ended.is_ok_and(|ended| ended.is_ok()) {
            self.world.note(|| format!("the session of client {} is ended", self.number));
            self.world.ended.borrow_mut().insert(session.clone());
        }
    }

    fn compose(&mut self, conversation: usize, now: Instant) {
        self.keys += 1;
        let (key, conversation) = (format!("{:04}", self.keys), World::conversation(conversation));
        let padding = "x".repeat(self.chance.index(120));
        let content = format!("{} {key} in {conversation} {padding}", self.user);
        let sending = (conversation, self.user.to_string(), key.clone());
        self.world.witness.borrow_mut().sends(sending.clone(), content.clone());
        self.outstanding.insert(key, Outstanding { sending, content, again_at: now, under_way: false });
    }

    fn join_missing(&mut self, connection: &mut Connection, now: Instant) {
        if connection.join_again_at > now {
            return;
        }
        for conversation in (0..self.world.conversations).map(World::conversation) {
            let asked = |(awaited, _): &(Awaited, Instant)| matches!(awaited, Awaited::Join(name) if *name == conversation);
            if connection.joined.contains_key(&conversation) || connection.awaited.values().any(asked) {
                continue;
            }
            // Whether or not the answer arrives, from now on the session may be in it.
            let cursor = self.cursors.entry(conversation.clone()).or_default();
            let mut join = json!({ "op": "join", "conversation": conversation, "after": cursor.seq });
            if let Some(log) = &cursor.log {
                join["log"] = log.as_str().into();
            }
            connection.ask(Awaited::Join(conversation), join);
        }
    }

    fn send_waiting(&mut self, connection: &mut Connection, now: Instant) {
        let under_way = self.outstanding.values().filter(|outstanding| outstanding.under_way).count();
        let waiting = self.outstanding.iter_mut().filter(|(_, o)| !o.under_way && o.again_at <= now);
        for (key, outstanding) in waiting.take(UNDER_WAY_MAX.saturating_sub(under_way)) {
            outstanding.under_way = true;
            let conversation = &outstanding.sending.0;
            let send = json!({ "op": "send", "conversation": conversation, "key": key, "content": outstanding.content });
            connection.ask(Awaited::Send(key.clone()), send);
        }
    }

    fn wakes_at(&self, connection: &Connection) -> Instant {
        let script = self.script.front().map(|(at, _)| self.began + *at);
        let answers = connection.awaited.values().map(|(_, until)| *until);
        let again =
            self.outstanding.values().filter(|o| !o.under_way && connection.connected).map(|o| o.again_at);
        let ghosts = self.ghosts.iter().map(|(_, until)| *until);
        let joins = (connection.connected && connection.joined.len() < self.world.conversations)
            .then_some(connection.join_again_at);
        let soonest =
            answers.chain(again).chain(ghosts).chain(script).chain(connection.leave_at).chain(joins).min();
        // What is due now but can't be done yet is looked at again with the next frame, or in a while.
        let floor = Instant::now() + Duration::from_millis(1);
        soonest.unwrap_or_else(|| floor + Duration::from_secs(3_600)).max(floor)
    }

    fn take(&mut self, connection: &mut Connection, frame: &Value) -> Option<Over> {
        match frame["ev"].as_str() {
            None => self.take_reply(connection, frame),
            Some("message") => {
                self.take_message(connection, frame);
                None
            }
            Some("read") => {
                let (user, seq) = (text(&frame["user"]), frame["seq"].as_u64().unwrap_or(0));
                self.check_mark(text(&frame["conversation"]), user, seq);
                None
            }
            Some("typing") => {
                self.check_typing(text(&frame["conversation"]), text(&frame["user"]), &frame["typing"]);
                None
            }
            Some("deleted") => {
                let known = self.cursors.get(text(&frame["conversation"]));
                if known.and_then(|cursor| cursor.log.as_deref()) != Some(text(&frame["log"])) {
                    self.world
                        .fault(&format!("client {} was told of another one's end: {frame}", self.number));
                }
                self.is_out(connection, text(&frame["conversation"]));
                None
            }
            Some("member") if *text(&frame["user"]) == *self.user && frame["member"] == false => {
                self.check_removal(connection, text(&frame["conversation"]));
                self.is_out(connection, text(&frame["conversation"]));
                None
            }
            Some("presence") => {
                let online = frame["online"].as_bool() == Some(true);
                if let Some(Some(people)) = connection.joined.get_mut(text(&frame["conversation"])) {
                    people.insert(text(&frame["user"]).to_owned(), online);
                    self.publish_view(connection);
                }
                None
            }
            Some("draining") => {
                connection.told = true;
                if self.follows_draining {
                    let after = frame["reconnect_after_ms"].as_u64().unwrap_or(0);
                    connection.leave_at = Some(Instant::now() + Duration::from_millis(after));
                }
                None
            }
            Some(_) => None,
        }
    }

    /// It is in a conversation no more, and soon tries to join what has its name by then.
    fn is_out(&mut self, connection: &mut Connection, conversation: &str) {
        self.world.note(|| format!("client {} is out of {conversation}", self.number));
        connection.joined.remove(conversation);
        connection.join_again_at = Instant::now() + self.chance.millis(1, 200);
        self.publish_view(connection);
    }

    /// Nobody has read further than the database says of this log.
    fn check_mark(&self, conversation: &str, user: &str, seq: u64) {
        let log = self.cursors.get(conversation).and_then(|cursor| cursor.log.as_deref()).unwrap_or_default();
        let mark = self.world.log.mark_of(conversation, log, user);
        if seq > mark {
            let words =
                format!("client {} is told that {user} has read {seq} of {conversation}", self.number);
            self.world.fault(&format!("{words} {log}; it is {mark}"));
        }
    }

    /// Whoever types in this log said so after it was made.
    fn check_typing(&self, conversation: &str, user: &str, typing: &Value) {
        let log = self.cursors.get(conversation).and_then(|cursor| cursor.log.as_deref()).unwrap_or_default();
        let made_at_ms = self.world.log.made_at_ms(conversation, log).unwrap_or(i64::MIN);
        let typed = self.world.typed.borrow();
        let until_ms = typed.get(&(conversation.to_owned(), user.into())).copied().unwrap_or(i64::MIN);
        if *typing == true && until_ms < made_at_ms {
            self.world.fault(&format!(
                "client {} is told that {user} types in {conversation} {log}, where they never did",
                self.number
            ));
        }
    }

    /// Somebody who is in a log is told to be out of it only if they were removed from that one.
    fn check_removal(&self, connection: &Connection, conversation: &str) {
        let log = self.cursors.get(conversation).and_then(|cursor| cursor.log.as_deref()).unwrap_or_default();
        if connection.joined.contains_key(conversation)
            && !self.world.log.has_removed(conversation, log, &self.user)
        {
            self.world.fault(&format!(
                "client {} is told to be out of {conversation} {log}, and is not",
                self.number
            ));
        }
    }

    /// Takes over what a reply says of a conversation's log.
    fn take_log(&mut self, conversation: &str, told: &Value) {
        let cursor = self.cursors.entry(conversation.to_owned()).or_default();
        let (log, is_reset) = (text(&told["log"]).to_owned(), told["reset"] == true);
        let is_other = cursor.log.as_ref().is_some_and(|known| *known != log);
        if is_other != is_reset {
            self.world.fault(&format!("client {} has {cursor:?} and was told {told}", self.number));
        }
        if is_reset {
            cursor.seq = 0;
        }
        cursor.log = Some(log);
    }

    fn take_message(&mut self, connection: &mut Connection, frame: &Value) {
        let conversation = text(&frame["conversation"]);
        let seq = frame["seq"].as_u64().unwrap_or(0);
        let shown = Shown {
            seq,
            id: text(&frame["id"]).to_owned(),
            sender: text(&frame["sender"]).to_owned(),
            content: text(&frame["content"]).to_owned(),
        };
        let cursor = self.cursors.entry(conversation.to_owned()).or_default();
        cursor.seq = seq.max(cursor.seq);
        let place = (conversation.to_owned(), cursor.log.clone().unwrap_or_default());
        self.world.note(|| format!("client {} is shown {seq} of {place:?}", self.number));
        self.world.show(self.number, &place, shown);
        self.world.clients.borrow_mut()[self.number].cursors = self.cursors.clone();
        if self.chance.one_in(3) {
            connection.ask(Awaited::Read, json!({ "op": "read", "conversation": conversation, "seq": seq }));
        }
    }

    fn take_reply(&mut self, connection: &mut Connection, frame: &Value) -> Option<Over> {
        let id = frame["id"].as_u64().unwrap_or(0);
        let (awaited, _) = connection.awaited.remove(&id)?;
        let (ok, error) = (&frame["ok"], &frame["error"]);
        // While a conversation is being made again it is not there.
        let is_expected =
            error["code"] == "unavailable" || (self.world.remakes && error["code"] == "not_found");
        if !error.is_null() && !is_expected {
            self.world.fault(&format!("client {} was answered {error}", self.number));
        }
        let pause = Duration::from_millis(error["retry_after_ms"].as_u64().unwrap_or(300) / 3);
        match awaited {
            Awaited::Connect if !error.is_null() => return Some(Over::Lost),
            Awaited::Connect => self.connected(connection, ok),
            Awaited::Join(_) if !error.is_null() => connection.join_again_at = Instant::now() + pause,
            Awaited::Join(conversation) => {
                let online = ok["online"].as_array().into_iter().flatten();
                let people = online.map(|user| (text(user).to_owned(), true)).collect();
                self.take_log(&conversation, ok);
                for (user, seq) in ok["reads"].as_object().into_iter().flatten() {
                    self.check_mark(&conversation, user, seq.as_u64().unwrap_or(0));
                }
                connection.joined.insert(conversation, Some(people));
                self.publish_view(connection);
            }
            Awaited::Typing(conversation) => {
                let typed = (conversation, self.user.clone());
                self.world.typed.borrow_mut().insert(typed, time::now_ms());
            }
            Awaited::Read => {}
            Awaited::Send(key) if !error.is_null() => {
                if let Some(outstanding) = self.outstanding.get_mut(&key) {
                    (outstanding.under_way, outstanding.again_at) = (false, Instant::now() + pause);
                }
            }
            Awaited::Send(key) => {
                if let Some(outstanding) = self.outstanding.remove(&key) {
                    let seq = ok["seq"].as_u64().unwrap_or(0);
                    self.world
                        .note(|| format!("client {} has {seq} for {:?}", self.number, outstanding.sending));
                    self.world.witness.borrow_mut().acknowledge(&outstanding.sending, seq, text(&ok["id"]));
                }
            }
        }
        None
    }

    fn connected(&mut self, connection: &mut Connection, ok: &Value) {
        connection.connected = true;
        let resumed = ok["resumed"] == true;
        if self.session.is_some() {
            self.world.witness.borrow_mut().returns(resumed);
            if let Some(since) = connection.away_since {
                self.world.judge_return(self.number, since.elapsed(), resumed);
            }
        }
        if !resumed {
            // They belong to the session before this one, which no node has to end for it.
            self.rivals.drain(..).for_each(|rival| rival.abort());
        }
        self.world.clients.borrow_mut()[self.number].session = text(&ok["session"]).to_owned();
        self.session = Some((text(&ok["session"]).to_owned(), text(&ok["ticket"]).to_owned()));
        self.world.note(|| format!("client {} is connected: {ok}", self.number));
        if !self.world.remakes && ok["gone"].as_array().is_some_and(|gone| !gone.is_empty()) {
            self.world.fault(&format!("client {} lost its conversations: {ok}", self.number));
        }
        for (conversation, resumed) in ok["conversations"].as_object().into_iter().flatten() {
            if resumed["truncated"] == true {
                self.world.fault(&format!("client {} was replayed less than it missed: {ok}", self.number));
            }
            self.take_log(conversation, resumed);
            connection.joined.insert(conversation.clone(), None);
        }
        self.publish_view(connection);
    }

    fn publish_view(&self, connection: &Connection) {
        let state = &mut self.world.clients.borrow_mut()[self.number];
        state.joined = connection.joined.clone();
        state.cursors = self.cursors.clone();
    }
}

impl Connection {
    fn new(node: Rc<Node>, pipe: Pipe, away_since: Option<Instant>) -> Connection {
        Connection {
            node,
            pipe,
            next_id: 1,
            awaited: BTreeMap::new(),
            connected: false,
            away_since,
            joined: BTreeMap::new(),
            join_again_at: Instant::now(),
            leave_at: None,
            told: false,
            rivalled: false,
        }
    }

    fn ask(&mut self, awaited: Awaited, mut command: Value) {
        command["id"] = self.next_id.into();
        self.pipe.send(&command);
        self.awaited.insert(self.next_id, (awaited, Instant::now() + PATIENCE));
        self.next_id += 1;
    }
}

/// A socket that has been left behind, for as long as it is open.
struct Left {
    world: Rc<World>,
    client: usize,
}

impl Left {
    fn new(world: Rc<World>, client: usize) -> Left {
        world.clients.borrow_mut()[client].left_behind += 1;
        Left { world, client }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        // At the end of a run everything is dropped, in whichever order.
        if let Ok(mut clients) = self.world.clients.try_borrow_mut()
            && let Some(client) = clients.get_mut(self.client)
        {
            client.left_behind -= 1;
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
