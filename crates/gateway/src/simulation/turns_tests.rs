//! One user's flood of reads beside another user's reads and messages, in simulated time: how many pages of the flood come before an
//! answer to the other one.

use std::rc::Rc;

use serde_json::{Value, json};
use starling_conversation_store::NewConversation;
use tokio::task::{JoinHandle, LocalSet};

use super::TENANT;
use super::broker::{Broker, Carriage};
use super::chance::Chance;
use super::log::Log;
use super::node::Node;
use super::pipe::Pipe;
use super::plan::Plan;
use super::world::{Servers, World};
use super::{sessions, time};

/// How many sockets the user has who reads all the time.
const SOCKETS: usize = 900;
/// How many connections to the database there are for reads.
const CONNECTIONS: usize = 4;
/// How many turns there are where nobody has to wait for one: reads wait for a free connection, first come, first served.
const NO_TURNS: usize = 1_000_000;
/// How often the quiet user asks.
const ASKS: usize = 10;
/// How many pages of the flood may come before an answer to the quiet user: those that one slow call takes.
const FEW: u64 = 60;
/// How many come before an answer that waits in one line with the flood, at least.
const MANY: u64 = SOCKETS as u64 / 2;

/// How many pages of the flood came, at the most, before an answer to the quiet user.
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
        let carriage = Carriage { typical_ms: 1, loses_one_in: 0, repeats_one_in: 0, no_answer_one_in: 0 };
        let plan = Plan {
            shards: 1,
            carriage,
            network_ms: 1,
            log_ms: 1,
            log_connections: CONNECTIONS,
            appends_share,
            reads_at_once,
            calls_fail_one_in: 0,
            inbox_items: 65_536,
            queue_bytes: 256 * 1024,
            pipe_bytes: 64 * 1024,
            ..Plan::of(0)
        };
        let log = Log::new(None);
        let servers = Servers {
            log: log.clone(),
            log_outage: Default::default(),
            sessions: sessions::store(),
            sessions_outage: Default::default(),
            broker: Broker::new(plan.seed, plan.carriage, None, log.clone()),
            sabotage: None,
        };
        log.create(&NewConversation {
            tenant: TENANT.into(),
            conversation: World::conversation(0).as_str().into(),
            owner: World::user(0).into(),
            title: None,
            metadata: None,
            members: vec![World::user(1).into()],
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
        // By now all of them wait for their next page.
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
            // One of them is its own.
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
    let mut pipe = node.accept(&World::user(user), i64::MAX, chance).expect("it serves");
    let answer = ask(&mut pipe, json!({"op": "connect"})).await;
    assert!(answer["ok"].is_object(), "{answer}");
    pipe
}

async fn ask(pipe: &mut Pipe, mut command: Value) -> Value {
    command["id"] = json!(1);
    command["conversation"] = json!(World::conversation(0));
    pipe.send(&command);
    loop {
        let (_, came) = pipe.next().await.expect("the connection stands");
        if came["id"] == 1 {
            return came;
        }
    }
}

/// What a flood of reads keeps waiting, with so many turns, and with connections of their own for messages or not.
fn passed(reads_at_once: usize, appends_share: bool) -> Passed {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    LocalSet::new().block_on(&runtime, async {
        time::begin(0);
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

/// The test is tested: without turns the other user's reads wait for the whole flood, and without connections of their own messages do.
#[test]
fn without_turns_the_flood_comes_first() {
    let Passed { before_a_page, before_a_send } = passed(NO_TURNS, false);
    assert!(before_a_page > MANY, "only {before_a_page} pages came before another user's");
    assert!(before_a_send < FEW, "{before_a_send} pages came before a message that has its own connections");
    let Passed { before_a_send, .. } = passed(NO_TURNS, true);
    assert!(before_a_send > MANY, "only {before_a_send} pages came before a message");
}
