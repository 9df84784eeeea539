//! One user's flood of reads beside another user's reads and sends, in simulated time. The tests count the pages of the flood that come
//! before a reply to the other user.

use std::rc::Rc;

use serde_json::{Value, json};
use starling_conversation_store::NewConversation;
use tokio::task::JoinHandle;

use super::chance::Chance;
use super::log::Log;
use super::names::{self, TENANT};
use super::node::Node;
use super::pipe::Pipe;
use super::plan::Plan;
use super::servers::Servers;
use super::time;

/// Connections of the user who reads all the time.
const SOCKETS: usize = 900;
/// Connections to the database for reads.
const CONNECTIONS: usize = 4;
/// More turns than there are reads. Then reads only wait for a free connection, in the order of arrival.
const NO_TURNS: usize = 1_000_000;
/// The number of times that the quiet user asks.
const ASKS: usize = 10;
/// The number of pages that may come before a reply to the quiet user. One slow call takes that long.
const FEW: u64 = 60;
/// The number of pages that come at least before a reply that waits behind the flood.
const MANY: u64 = SOCKETS as u64 / 2;

/// The highest number of pages of the flood that came before a reply to the quiet user.
#[derive(Debug)]
struct Passed {
    before_a_page: u64,
    before_a_send: u64,
}

/// A node with a flood of reads.
struct Flooded {
    log: std::sync::Arc<Log>,
    node: Rc<Node>,
    quiet: Pipe,
    chance: Chance,
    floods: Vec<JoinHandle<()>>,
}

impl Flooded {
    async fn begin(reads_at_once: usize, appends_share: bool) -> Flooded {
        let plan = Plan { log_connections: CONNECTIONS, appends_share, reads_at_once, ..Plan::undisturbed() };
        let servers = Servers::new(&plan, None);
        let log = servers.log.clone();
        log.create(&NewConversation {
            tenant: TENANT.into(),
            conversation: names::conversation(0).as_str().into(),
            owner: names::user(0).into(),
            title: None,
            metadata: None,
            members: vec![names::user(1).into()],
        });
        let node = Node::start(&plan, &servers, "node", "node").await;
        let mut chance = Chance::new(plan.seed, "clients");
        let quiet = connected(&node, 0, &mut chance).await;
        let mut flooded = Flooded { log, node, quiet, chance, floods: Vec::new() };
        flooded.send("first").await;
        for _ in 0..SOCKETS {
            let mut pipe = connected(&flooded.node, 1, &mut flooded.chance).await;
            flooded.floods.push(tokio::task::spawn_local(async move {
                loop {
                    ask(&mut pipe, json!({"op": "history"})).await;
                }
            }));
        }
        // By then all of them wait for their next page.
        while flooded.log.pages() < 50 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        flooded
    }

    async fn send(&mut self, key: &str) {
        let sent = ask(&mut self.quiet, json!({"op": "send", "key": key, "content": key})).await;
        assert!(sent["ok"]["seq"].is_u64(), "{sent}");
    }

    async fn measure(mut self) -> Passed {
        let mut passed = Passed { before_a_page: 0, before_a_send: 0 };
        for n in 0..ASKS {
            let before = self.log.pages();
            let page = ask(&mut self.quiet, json!({"op": "history"})).await;
            assert!(page["ok"]["messages"].is_array(), "{page}");
            // One of these pages is the quiet user's own.
            passed.before_a_page = passed.before_a_page.max(self.log.pages() - before - 1);
            let before = self.log.pages();
            self.send(&n.to_string()).await;
            passed.before_a_send = passed.before_a_send.max(self.log.pages() - before);
        }
        self.floods.iter().for_each(JoinHandle::abort);
        passed
    }
}

async fn connected(node: &Node, user: usize, chance: &mut Chance) -> Pipe {
    let mut pipe = node.accept(&names::user(user), i64::MAX, chance).expect("it serves");
    let answer = ask(&mut pipe, json!({"op": "connect"})).await;
    assert!(answer["ok"].is_object(), "{answer}");
    pipe
}

async fn ask(pipe: &mut Pipe, mut command: Value) -> Value {
    command["id"] = json!(1);
    command["conversation"] = json!(names::conversation(0));
    pipe.send(&command);
    loop {
        let (_, came) = pipe.next().await.expect("the connection stands");
        if came["id"] == 1 {
            return came;
        }
    }
}

/// Measures how long a flood of reads makes others wait, with this many turns, and with or without connections of their own for appends.
fn passed(reads_at_once: usize, appends_share: bool) -> Passed {
    time::simulate(0, async {
        let passed = Flooded::begin(reads_at_once, appends_share).await.measure().await;
        println!("{reads_at_once} turns, shared connections: {appends_share}: {passed:?}");
        passed
    })
}

#[test]
fn a_flood_of_reads_keeps_neither_others_reads_nor_messages_waiting() {
    let Passed { before_a_page, before_a_send } = passed(CONNECTIONS, false);
    assert!(before_a_page < FEW, "{before_a_page} pages of the flood came before another user's");
    assert!(before_a_send < FEW, "{before_a_send} pages of the flood came before a message");
}

/// The control: without turns the other user's reads wait for the whole flood, and so do appends without connections of their own.
#[test]
fn without_turns_the_flood_comes_first() {
    let Passed { before_a_page, before_a_send } = passed(NO_TURNS, false);
    assert!(before_a_page > MANY, "only {before_a_page} pages came before another user's");
    assert!(before_a_send < FEW, "{before_a_send} pages came before a message that has its own connections");
    let Passed { before_a_send, .. } = passed(NO_TURNS, true);
    assert!(before_a_send > MANY, "only {before_a_send} pages came before a message");
}
