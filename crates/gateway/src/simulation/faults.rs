//! What breaks: each fault of a plan, when its time has come.

use std::rc::Rc;
use std::time::Duration;

use starling_auth::{Identity, Scopes};
use starling_model::UserName;
use starling_wire::protocol::{Create, ErrorCode};

use super::chance::Chance;
use super::names::{self, TENANT};
use super::node::Node;
use super::plan::{Deed, Fault, Plan};
use super::sabotage::Sabotage;
use super::servers::Servers;
use super::settling::wrong_presence;
use super::world::World;

/// How soon after a node's death its users must be shown as offline, unless they came back.
const DEATH_SHOWN_WITHIN: Duration = Duration::from_secs(15);
/// How long an operator waits for the reply of a node, which may be dead or frozen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Causes the faults of a plan.
#[derive(Clone)]
pub struct Faults {
    plan: Rc<Plan>,
    servers: Rc<Servers>,
    world: Rc<World>,
}

impl Faults {
    /// Of this plan, in this world.
    pub fn new(plan: &Plan, servers: &Rc<Servers>, world: &Rc<World>) -> Faults {
        Faults { plan: Rc::new(plan.clone()), servers: servers.clone(), world: world.clone() }
    }

    /// Causes the fault with this place in the plan, and ends it when its time is over.
    pub async fn strike(self, turn: usize, fault: Fault) {
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
            Fault::SessionsAway { time, wiped } => self.take_sessions_away(time, wiped).await,
            Fault::RedisAway { time, wiped } => self.take_redis_away(time, wiped).await,
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
                self.expel(turn, slot, &names::user(client), &names::conversation(conversation)).await;
            }
            Fault::Remake { conversation } => self.remake(turn, &names::conversation(conversation)).await,
            Fault::Drain { slot } => {
                let node = self.node(slot);
                self.replace(slot, turn, &format!("node-{slot}-{turn}")).await;
                node.drain().await;
                self.world.note(|| format!("{} has drained", node.name));
            }
        }
    }

    /// Removes a member through one node, and adds it again through any node that does it.
    async fn expel(&self, turn: usize, slot: usize, user: &str, conversation: &str) {
        let mut chance = Chance::new(self.plan.seed, &format!("expel {turn}"));
        let node = self.node(slot);
        let removed = async { node.hub.remove_member(&operator(), &conversation.into(), &user.into()).await };
        let removed = tokio::time::timeout(PATIENCE, removed).await;
        self.world.note(|| format!("{user} is removed from {conversation} by {}: {removed:?}", node.name));
        loop {
            let node = self.node(chance.index(self.plan.nodes));
            let added = async { node.hub.add_member(&operator(), &conversation.into(), &user.into()).await };
            match tokio::time::timeout(PATIENCE, added).await {
                Ok(Ok(())) if node.serves() => break,
                _ => tokio::time::sleep(chance.millis(20, 300)).await,
            }
        }
    }

    /// Deletes a conversation and creates it again, each through any node that does it.
    async fn remake(&self, turn: usize, conversation: &str) {
        let mut chance = Chance::new(self.plan.seed, &format!("remake {turn}"));
        let members = (0..self.plan.clients.len()).map(|client| names::user(client).into());
        let members: Vec<UserName> = members.collect();
        let identity = operator();
        for exists in [true, false] {
            loop {
                let node = self.node(chance.index(self.plan.nodes));
                if !node.serves() {
                    tokio::time::sleep(chance.millis(20, 200)).await;
                    continue;
                }
                let change = async {
                    if exists {
                        return node.hub.delete_conversation(&identity, &conversation.into()).await;
                    }
                    let (conversation, members) = (Some(conversation.into()), members.clone());
                    let create = Create { conversation, members, ..Create::default() };
                    node.hub.create(&identity, create).await.map(drop)
                };
                let Ok(changed) = tokio::time::timeout(PATIENCE, change).await else { continue };
                self.world
                    .note(|| format!("{conversation} exists: {exists}; {} says {changed:?}", node.name));
                match changed {
                    Ok(()) => break,
                    // It was deleted, and the reply was lost.
                    Err(error) if exists && error.code == ErrorCode::NotFound => break,
                    Err(_) => tokio::time::sleep(chance.millis(20, 300)).await,
                }
            }
            if exists && chance.one_in(2) {
                tokio::time::sleep(chance.millis(0, 300)).await;
            }
        }
    }

    fn node(&self, slot: usize) -> Rc<Node> {
        self.world.slots.borrow()[slot].clone()
    }

    /// Starts a node in the place of another one.
    async fn replace(&self, slot: usize, turn: usize, name: &str) {
        let node = Node::start(&self.plan, &self.servers, name, &format!("{slot}-{turn}")).await;
        self.world.note(|| format!("{name} serves"));
        // It may have begun while Redis was away, and missed that Redis came back.
        if node.fanout.is_cut() && !self.servers.broker.is_away() {
            let node = node.clone();
            tokio::task::spawn_local(async move { node.fanout.restore().await });
        }
        self.world.slots.borrow_mut()[slot] = node;
    }

    async fn take_redis_away(&self, time: Duration, wiped: bool) {
        self.servers.broker.go_away(true);
        for node in self.world.slots.borrow().iter().cloned() {
            tokio::task::spawn_local(async move { node.fanout.cut().await });
        }
        self.take_sessions_away(time, wiped).await;
        self.servers.broker.go_away(false);
        for node in self.world.slots.borrow().iter().cloned() {
            tokio::task::spawn_local(async move { node.fanout.restore().await });
        }
    }

    async fn take_sessions_away(&self, time: Duration, wiped: bool) {
        self.servers.sessions_outage.set(true);
        tokio::time::sleep(time).await;
        if wiped {
            self.servers.sessions.wipe();
        }
        self.servers.sessions_outage.set(false);
    }

    /// Checks that users who did not come back from a dead node are shown as offline in time, if nothing else breaks and nobody is away.
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
        for conversation in (0..self.plan.conversations).map(names::conversation) {
            if let Some(text) = wrong_presence(&self.world, &conversation, &readers).await {
                self.world.fault(&format!("15 s after a node's death {text}"));
            }
        }
    }
}

/// Returns the identity of a user who may change every conversation.
fn operator() -> Identity {
    Identity {
        user: names::user(0).into(),
        tenant: TENANT.into(),
        scopes: Scopes::parse("admin").into(),
        expires_at_ms: i64::MAX,
    }
}
