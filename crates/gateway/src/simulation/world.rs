//! One run: nodes, servers, clients and faults of one seed, from the start to the judgement.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use starling_auth::{Identity, Scopes};
use starling_conversation_store::NewConversation;
use starling_model::UserName;
use starling_session_store::SessionStore;
use starling_session_store::memory::MemoryStore;
use starling_wire::protocol::{Create, ErrorCode};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::broker::Broker;
use super::chance::Chance;
use super::client::{Client, Cursor};
use super::line::Outage;
use super::log::Log;
use super::node::Node;
use super::plan::{Deed, Fault, Plan, Scenario};
use super::sabotage::Sabotage;
use super::witness::{Place, Shown, Verdict, Witness};
use super::{TENANT, sessions, time};

/// How long after the last fault everything has to be right again: the lease of a node that died, the ten seconds that a dropped
/// socket's user counts as there, a client's patience, and a few beats.
const HEALS_WITHIN: Duration = Duration::from_secs(30);
/// For how long it has to stay right.
const QUIET: Duration = Duration::from_millis(1_500);
/// How exactly a resume window ends: a node may hear of a connection's end when a pipe that is full has drained.
const RETURN_SLACK: Duration = Duration::from_secs(1);
/// How soon after a node's death nobody shows its people as there, unless they came back.
const DEATH_SHOWN_WITHIN: Duration = Duration::from_secs(15);

/// What the nodes share.
pub struct Servers {
    pub log: Arc<Log>,
    pub log_outage: Arc<Outage>,
    pub sessions: Arc<MemoryStore>,
    pub sessions_outage: Arc<Outage>,
    pub broker: Arc<Broker>,
    pub sabotage: Option<Sabotage>,
}

/// What clients and faults share.
pub struct World {
    pub seed: u64,
    pub conversations: usize,
    /// Whether conversations are deleted and made again.
    pub remakes: bool,
    pub log: Arc<Log>,
    /// The nodes that a load balancer knows.
    pub slots: RefCell<Vec<Rc<Node>>>,
    pub witness: RefCell<Witness>,
    pub clients: RefCell<Vec<ClientState>>,
    /// Sessions that operators ended.
    pub ended: RefCell<BTreeSet<String>>,
    /// Until when a user's words of typing in a conversation of that name may have been taken, Unix milliseconds; the end of time where
    /// the last one had no answer.
    pub typed: RefCell<BTreeMap<(String, Arc<str>), i64>>,
    resume_window: Duration,
    /// For how long a token is good, and from when on, since the start, all of them are good for ever.
    token: Option<(Duration, Duration)>,
    /// Nothing breaks; clients are asked to move.
    only_moves: bool,
    /// Nothing but clients ends a connection.
    is_fair: bool,
    sabotage: Option<Sabotage>,
    /// Held back, to be shown after the next one.
    swapped: RefCell<Option<(usize, Place, Shown)>>,
    shown: std::cell::Cell<u64>,
    is_tight: bool,
    tells: bool,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default)]
pub struct ClientState {
    pub cursors: BTreeMap<String, Cursor>,
    /// Conversations joined on the connection that stands; of those joined by `join`, who is there.
    pub joined: BTreeMap<String, Option<BTreeMap<String, bool>>>,
    /// The session that it was last given.
    pub session: String,
    /// Sockets that it left open when it opened a later one for the same session.
    pub left_behind: usize,
    pub has_left: bool,
    /// It has done all that it was to do.
    pub is_done: bool,
}

impl ClientState {
    pub fn leave(&mut self) {
        self.has_left = true;
        self.joined.clear();
    }
}

/// Runs what a plan says. `tells`: prints what happens.
pub fn run(plan: &Plan, sabotage: Option<Sabotage>, tells: bool) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        time::begin(plan.seed);
        World::live(plan, sabotage, tells).await
    })
}

impl World {
    /// A client's user.
    pub fn user(number: usize) -> Arc<str> {
        format!("user-{number}").into()
    }

    /// A conversation's name.
    pub fn conversation(number: usize) -> String {
        format!("room-{number}")
    }

    /// Prints what happens, with its time, when one run is looked at.
    pub fn note(&self, words: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{:>6} ms  {}", time::elapsed_ms(), words());
        }
    }

    /// Something that must not happen.
    pub fn fault(&self, words: &str) {
        self.note(|| format!("FAULT: {words}"));
        self.witness.borrow_mut().fault(format!("at {} ms: {words}", time::elapsed_ms()));
    }

    /// When a token ends that is given out now, Unix milliseconds.
    pub fn token_ends_at_ms(&self) -> i64 {
        let elapsed = Duration::from_millis(time::elapsed_ms());
        let token = self.token.filter(|(_, until)| elapsed < *until);
        token.map_or(i64::MAX, |(time, _)| {
            time::now_ms().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
        })
    }

    /// A client is back after a while: where nothing breaks, it goes on with its session within the resume window, and not after it.
    pub fn judge_return(&self, client: usize, away: Duration, resumed: bool) {
        let (least, most) =
            (self.resume_window.saturating_sub(RETURN_SLACK), self.resume_window + RETURN_SLACK);
        if self.is_fair && (resumed && away > most || !resumed && away < least) {
            self.fault(&format!("client {client} was away for {away:?}, and resumed: {resumed}"));
        }
    }

    /// A client that had been asked to move was closed as by a node that ends. Where nothing breaks but that clients are moved, it is
    /// such a node.
    pub fn judge_closing(&self, client: usize, node: &Node) {
        if self.only_moves && !node.is_draining() {
            self.fault(&format!("client {client} was closed for balance by {}", node.name));
        }
    }

    /// Takes down what a client was shown.
    pub fn show(&self, client: usize, place: &Place, mut shown: Shown) {
        self.shown.set(self.shown.get() + 1);
        let wrong = self.sabotage.filter(|_| self.shown.get().is_multiple_of(11));
        let mut witness = self.witness.borrow_mut();
        match wrong {
            Some(Sabotage::LoseEvent) => return,
            Some(Sabotage::DoubleEvent) => witness.show(client, place, shown.clone()),
            Some(Sabotage::AlterEvent) => shown.content.push('!'),
            Some(Sabotage::SwapEvents) => {
                let held = self.swapped.borrow_mut().replace((client, place.clone(), shown));
                if let Some((client, place, shown)) = held {
                    witness.show(client, &place, shown);
                }
                return;
            }
            _ => {}
        }
        witness.show(client, place, shown);
        let held = self.swapped.borrow_mut().take_if(|(of, other, _)| *of == client && other == place);
        if let Some((client, place, shown)) = held {
            witness.show(client, &place, shown);
        }
    }

    async fn live(plan: &Plan, sabotage: Option<Sabotage>, tells: bool) -> Verdict {
        let log = Log::new(sabotage);
        let servers = Rc::new(Servers {
            log: log.clone(),
            log_outage: Arc::default(),
            sessions: sessions::store(),
            sessions_outage: Arc::default(),
            broker: Broker::new(plan.seed, plan.carriage, sabotage, log),
            sabotage,
        });
        let world = Rc::new(World {
            seed: plan.seed,
            conversations: plan.conversations,
            remakes: plan.remakes,
            log: servers.log.clone(),
            slots: RefCell::default(),
            witness: RefCell::default(),
            ended: RefCell::default(),
            typed: RefCell::default(),
            clients: RefCell::new(vec![ClientState::default(); plan.clients.len()]),
            resume_window: plan.resume_window,
            token: plan.token.map(|token| (token, plan.calm_after)),
            only_moves: plan.scenario == Scenario::Moves,
            is_fair: plan.faults.is_empty() && plan.calls_fail_one_in == 0,
            sabotage,
            swapped: RefCell::default(),
            shown: std::cell::Cell::default(),
            is_tight: plan.is_tight,
            tells,
        });
        let members: Vec<UserName> =
            (0..plan.clients.len()).map(|number| Self::user(number).into()).collect();
        for number in 0..plan.conversations {
            servers.log.create(&NewConversation {
                tenant: TENANT.into(),
                conversation: Self::conversation(number).into(),
                owner: members[0].clone(),
                title: None,
                metadata: None,
                members: members.clone(),
            });
        }
        for slot in 0..plan.nodes {
            let node = Node::start(plan, &servers, &format!("node-{slot}"), &format!("{slot}")).await;
            world.slots.borrow_mut().push(node);
        }
        let began = Instant::now();
        for (number, script) in plan.clients.iter().enumerate() {
            let client = Client::new(number, script, world.clone());
            let arrives = began + script.arrives;
            tokio::task::spawn_local(async move {
                tokio::time::sleep_until(arrives).await;
                client.live().await;
            });
        }
        let faults = Faults { plan: Rc::new(plan.clone()), servers: servers.clone(), world: world.clone() };
        for (turn, (at, fault)) in plan.faults.iter().copied().enumerate() {
            tokio::time::sleep_until(began + at).await;
            world.note(|| format!("{fault:?}"));
            tokio::task::spawn_local(faults.clone().strike(turn, fault));
        }
        tokio::time::sleep_until(began + plan.calm_after).await;
        world.note(|| "calm".to_owned());
        servers.log_outage.end();
        servers.sessions_outage.end();
        servers.broker.calm_down();
        if let Err(words) = world.settle(&servers).await {
            world.fault(&words);
        }
        let current = (0..plan.conversations).filter_map(|number| {
            let name = Self::conversation(number);
            let (log, _) = servers.log.head_of(&name)?;
            Some((name, log))
        });
        let readers = world.readers();
        world.witness.borrow().judge(&servers.log.all(), &current.collect(), &readers)
    }

    /// Waits until all is as it has to be, and stays so.
    async fn settle(&self, servers: &Servers) -> Result<(), String> {
        let until = Instant::now() + HEALS_WITHIN;
        loop {
            let mut wrong = self.unsettled(servers).await;
            if wrong.is_none() {
                tokio::time::sleep(QUIET).await;
                wrong = self.unsettled(servers).await;
            }
            match wrong {
                None => return Ok(()),
                Some(words) if Instant::now() >= until => return Err(words),
                Some(words) => self.note(|| format!("not yet: {words}")),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn readers(&self) -> BTreeSet<usize> {
        let clients = self.clients.borrow();
        (0..clients.len()).filter(|number| !clients[*number].has_left).collect()
    }

    /// What is not as it has to be in the end, if anything.
    async fn unsettled(&self, servers: &Servers) -> Option<String> {
        let outstanding = self.witness.borrow().outstanding();
        if outstanding > 0 {
            return Some(format!("{outstanding} sends have no answer"));
        }
        let readers = self.readers();
        if let Some(busy) = readers.iter().find(|reader| !self.clients.borrow()[**reader].is_done) {
            return Some(format!("client {busy} is still busy"));
        }
        for (number, client) in
            self.clients.borrow().iter().enumerate().filter(|(_, client)| !client.has_left)
        {
            if client.left_behind > 0 {
                return Some(format!(
                    "client {number} has {} sockets beside the last one",
                    client.left_behind
                ));
            }
            if self.ended.borrow().contains(&client.session) {
                return Some(format!("client {number} is in a session that was ended"));
            }
        }
        if let Some(words) = self.wrong_list(servers, &readers).await {
            return Some(words);
        }
        for conversation in (0..self.conversations).map(Self::conversation) {
            let Some((log, head)) = servers.log.head_of(&conversation) else {
                return Some(format!("{conversation} has not been made again"));
            };
            for reader in &readers {
                let client = self.clients.borrow()[*reader].clone();
                let cursor = client.cursors.get(&conversation).cloned().unwrap_or_default();
                let is_whole = cursor.seq == head && cursor.log.as_ref() == Some(&log);
                if !is_whole || !client.joined.contains_key(&conversation) {
                    return Some(format!("client {reader} has {cursor:?} of {head} of {conversation} {log}"));
                }
            }
            if let Some(words) = self.wrong_presence(&conversation, &readers).await {
                return Some(words);
            }
        }
        None
    }

    /// Whose session the session store does not have as attached.
    async fn wrong_list(&self, servers: &Servers, readers: &BTreeSet<usize>) -> Option<String> {
        for reader in readers {
            let session = self.clients.borrow()[*reader].session.clone();
            let listed =
                servers.sessions.sessions(&TENANT.into(), Some(&Self::user(*reader).into()), None, 100).await;
            let listed = listed.map(|list| list.sessions).unwrap_or_default();
            let found = listed.iter().find(|listed| listed.session == session);
            if !found.is_some_and(|found| found.attached) {
                return Some(format!("the session {session} of client {reader} is listed as {found:?}"));
            }
        }
        None
    }

    /// Who is shown wrongly, by some node or to some client.
    async fn wrong_presence(&self, conversation: &str, readers: &BTreeSet<usize>) -> Option<String> {
        let people = self.clients.borrow().len();
        let nodes: Vec<Rc<Node>> =
            self.slots.borrow().iter().filter(|node| !node.is_dead()).cloned().collect();
        for node in nodes {
            let asker = readers.first().copied().unwrap_or(0);
            let list =
                node.hub.presence(&TENANT.into(), &Self::user(asker).into(), &conversation.into()).await;
            let Ok(list) = list else { return Some(format!("{} does not answer", node.name)) };
            for number in 0..people {
                let user = Self::user(number);
                let shown = list.users.iter().find(|each| *each.user == *user);
                let online = shown.is_some_and(|shown| shown.online);
                if online != readers.contains(&number) {
                    return Some(format!("{} shows {user} as online: {online} ({shown:?})", node.name));
                }
            }
        }
        for reader in readers.iter().filter(|_| !self.is_tight) {
            let view = self.clients.borrow()[*reader].joined.get(conversation).cloned().flatten();
            let Some(view) = view else { continue };
            for number in (0..people).filter(|number| number != reader) {
                let online = view.get(&*Self::user(number)).copied().unwrap_or(false);
                if online != readers.contains(&number) {
                    return Some(format!("client {reader} is told of user-{number} as online: {online}"));
                }
            }
        }
        None
    }
}

/// Strikes the world with what the plan says.
#[derive(Clone)]
struct Faults {
    plan: Rc<Plan>,
    servers: Rc<Servers>,
    world: Rc<World>,
}

impl Faults {
    async fn strike(self, turn: usize, fault: Fault) {
        match fault {
            Fault::CutLink { slot, time } => {
                let node = self.node(slot);
                node.fanout.cut().await;
                tokio::time::sleep(time).await;
                node.fanout.restore().await;
            }
            Fault::Deafen { slot } => self.node(slot).fanout.deafen(),
            Fault::Freeze { slot, time } => self.node(slot).freeze(time).await,
            Fault::LogAway { time } => {
                self.servers.log_outage.set(true);
                tokio::time::sleep(time).await;
                self.servers.log_outage.set(false);
            }
            Fault::SessionsAway { time, wiped } => self.sessions_away(time, wiped).await,
            Fault::RedisAway { time, wiped } => {
                self.servers.broker.go_away(true);
                for node in self.world.slots.borrow().iter().cloned() {
                    tokio::task::spawn_local(async move { node.fanout.cut().await });
                }
                self.sessions_away(time, wiped).await;
                self.servers.broker.go_away(false);
                for node in self.world.slots.borrow().iter().cloned() {
                    tokio::task::spawn_local(async move { node.fanout.restore().await });
                }
            }
            Fault::Crash { slot, back_after, same_name } => {
                let node = self.node(slot);
                node.kill();
                tokio::task::spawn_local(self.clone().death_is_shown());
                let Some(back_after) = back_after else { return };
                tokio::time::sleep(back_after).await;
                let name = if same_name { node.name.clone() } else { format!("node-{slot}-{turn}") };
                self.replace(slot, turn, &name).await;
            }
            Fault::Shed { slot, count } => {
                let node = self.node(slot);
                node.shed(count).await;
                if self.servers.sabotage == Some(Sabotage::CloseForBalance) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    node.close_for_balance();
                }
            }
            Fault::Expel { slot, client, conversation } => {
                let conversation = World::conversation(conversation);
                self.expel(turn, slot, &World::user(client), &conversation).await;
            }
            Fault::Remake { conversation } => self.remake(turn, &World::conversation(conversation)).await,
            Fault::Drain { slot } => {
                let node = self.node(slot);
                self.replace(slot, turn, &format!("node-{slot}-{turn}")).await;
                node.drain().await;
                self.world.note(|| format!("{} has drained", node.name));
            }
        }
    }

    /// Removes a member by one node, and adds it again by any node that does it.
    async fn expel(&self, turn: usize, slot: usize, user: &str, conversation: &str) {
        let mut chance = Chance::new(self.plan.seed, &format!("expel {turn}"));
        let node = self.node(slot);
        let removed = async { node.hub.remove_member(&operator(), &conversation.into(), &user.into()).await };
        // A node that dies or stands still answers late, or never.
        let removed = tokio::time::timeout(Duration::from_secs(5), removed).await;
        self.world.note(|| format!("{user} is removed from {conversation} by {}: {removed:?}", node.name));
        loop {
            let node = self.node(chance.index(self.plan.nodes));
            let added = async { node.hub.add_member(&operator(), &conversation.into(), &user.into()).await };
            match tokio::time::timeout(Duration::from_secs(5), added).await {
                Ok(Ok(())) if node.serves() => break,
                _ => tokio::time::sleep(chance.millis(20, 300)).await,
            }
        }
    }

    /// Deletes a conversation and makes it again, each through any node that does it.
    async fn remake(&self, turn: usize, conversation: &str) {
        let mut chance = Chance::new(self.plan.seed, &format!("remake {turn}"));
        let members = (0..self.plan.clients.len()).map(|number| World::user(number).into());
        let members: Vec<UserName> = members.collect();
        let identity = operator();
        for is_there in [true, false] {
            loop {
                let node = self.node(chance.index(self.plan.nodes));
                if !node.serves() {
                    tokio::time::sleep(chance.millis(20, 200)).await;
                    continue;
                }
                let done = async {
                    if is_there {
                        return node.hub.delete_conversation(&identity, &conversation.into()).await;
                    }
                    let (conversation, members) = (Some(conversation.into()), members.clone());
                    let create = Create { conversation, members, ..Create::default() };
                    node.hub.create(&identity, create).await.map(drop)
                };
                // A node that dies meanwhile never answers.
                let Ok(done) = tokio::time::timeout(Duration::from_secs(5), done).await else { continue };
                self.world
                    .note(|| format!("{conversation} is there: {is_there}; {} says {done:?}", node.name));
                match done {
                    Ok(()) => break,
                    // It was deleted, and the answer was lost.
                    Err(error) if is_there && error.code == ErrorCode::NotFound => break,
                    Err(_) => tokio::time::sleep(chance.millis(20, 300)).await,
                }
            }
            if is_there && chance.one_in(2) {
                tokio::time::sleep(chance.millis(0, 300)).await;
            }
        }
    }

    fn node(&self, slot: usize) -> Rc<Node> {
        self.world.slots.borrow()[slot].clone()
    }

    async fn replace(&self, slot: usize, turn: usize, name: &str) {
        let node = Node::start(&self.plan, &self.servers, name, &format!("{slot}-{turn}")).await;
        self.world.note(|| format!("{name} serves"));
        self.world.slots.borrow_mut()[slot] = node;
    }

    async fn sessions_away(&self, time: Duration, wiped: bool) {
        self.servers.sessions_outage.set(true);
        tokio::time::sleep(time).await;
        if wiped {
            self.servers.sessions.wipe();
        }
        self.servers.sessions_outage.set(false);
    }

    /// Whoever did not come back from a node that died is shown as gone in time. Only where nothing else breaks, and nobody is away.
    async fn death_is_shown(self) {
        let mut deeds = self.plan.clients.iter().flat_map(|script| &script.deeds);
        if self.plan.faults.len() > 1
            || self.plan.calls_fail_one_in > 0
            || deeds.any(|(_, deed)| matches!(deed, Deed::Away(_)))
        {
            return;
        }
        tokio::time::sleep(DEATH_SHOWN_WITHIN).await;
        let readers = self.world.readers();
        for conversation in (0..self.plan.conversations).map(World::conversation) {
            if let Some(words) = self.world.wrong_presence(&conversation, &readers).await {
                self.world.fault(&format!("15 s after a node's death {words}"));
            }
        }
    }
}

/// Somebody who may change every conversation, and owns those that they make.
fn operator() -> Identity {
    Identity {
        user: World::user(0).into(),
        tenant: TENANT.into(),
        scopes: Scopes::parse("admin").into(),
        expires_at_ms: i64::MAX,
    }
}
