//! One run: the servers, nodes, clients and faults of one seed, from the start to the verdict.

use std::rc::Rc;

use starling_conversation_store::NewConversation;
use starling_model::UserName;
use tokio::time::Instant;

use super::client::Client;
use super::faults::Faults;
use super::names::{self, TENANT};
use super::node::Node;
use super::plan::Plan;
use super::sabotage::Sabotage;
use super::servers::Servers;
use super::settling::Settling;
use super::time;
use super::witness::Verdict;
use super::world::World;

/// Runs a plan. `tells`: whether to print what happens.
pub fn run(plan: &Plan, sabotage: Option<Sabotage>, tells: bool) -> Verdict {
    time::simulate(plan.seed, play(plan, sabotage, tells))
}

async fn play(plan: &Plan, sabotage: Option<Sabotage>, tells: bool) -> Verdict {
    let servers = Rc::new(Servers::new(plan, sabotage));
    let world = World::new(plan, servers.log.clone(), sabotage, tells);
    create_conversations(plan, &servers);
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
    let faults = Faults::new(plan, &servers, &world);
    for (turn, (at, fault)) in plan.faults.iter().copied().enumerate() {
        tokio::time::sleep_until(began + at).await;
        world.note(|| format!("{fault:?}"));
        tokio::task::spawn_local(faults.clone().strike(turn, fault));
    }
    tokio::time::sleep_until(began + plan.calm_after).await;
    world.note(|| "calm".to_owned());
    servers.calm_down();
    if let Err(text) = (Settling { world: &world, servers: &servers }).settle().await {
        world.fault(&text);
    }
    let current = (0..plan.conversations).filter_map(|number| {
        let name = names::conversation(number);
        let (log, _) = servers.log.head_of(&name)?;
        Some((name, log))
    });
    world.witness.borrow().judge(&servers.log.all(), &current.collect(), &world.readers())
}

/// Creates the conversations, with all users as members.
fn create_conversations(plan: &Plan, servers: &Servers) {
    let members: Vec<UserName> = (0..plan.clients.len()).map(|client| names::user(client).into()).collect();
    for number in 0..plan.conversations {
        servers.log.create(&NewConversation {
            tenant: TENANT.into(),
            conversation: names::conversation(number).into(),
            owner: members[0].clone(),
            title: None,
            metadata: None,
            members: members.clone(),
        });
    }
}
