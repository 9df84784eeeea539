//! A socket that is to be served from a log which can't be read.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use starling_conversation_store::NewConversation;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use super::TENANT;
use super::broker::{Broker, Carriage};
use super::chance::Chance;
use super::log::Log;
use super::node::Node;
use super::pipe::Pipe;
use super::plan::Plan;
use super::world::{Servers, World};
use super::{sessions, time};

const MESSAGES: u64 = 5;

/// A client of a node that knows the conversation; its log holds some messages that the client is still to get.
struct Behind {
    servers: Servers,
    pipe: Pipe,
    /// Nobody looks at it, but it has to live.
    _node: Rc<Node>,
}

impl Behind {
    /// From the moment when the log went away and the client joined.
    async fn begin() -> Behind {
        let carriage = Carriage { typical_ms: 1, loses_one_in: 0, repeats_one_in: 0, no_answer_one_in: 0 };
        let plan = Plan {
            shards: 1,
            carriage,
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
            broker: Broker::new(plan.seed, plan.carriage, None, log),
            sabotage: None,
        };
        let user = World::user(0);
        servers.log.create(&NewConversation {
            tenant: TENANT.into(),
            conversation: World::conversation(0).into(),
            owner: user.clone().into(),
            title: None,
            metadata: None,
            members: Vec::new(),
        });
        let node = Node::start(&plan, &servers, "node", "node").await;
        let pipe = node.accept(&user, i64::MAX, &mut Chance::new(plan.seed, "client")).expect("it serves");
        let mut behind = Behind { servers, pipe, _node: node };
        behind.ask(json!({"op": "connect"})).await;
        for n in 1..=MESSAGES {
            let sent =
                behind.ask(json!({"op": "send", "key": n.to_string(), "content": n.to_string()})).await;
            assert_eq!(sent["ok"]["seq"], n);
        }
        behind.servers.log_outage.set(true);
        let joined = behind.ask(json!({"op": "join", "after": 0})).await;
        assert_eq!(joined["ok"]["replayed"], MESSAGES);
        behind
    }

    async fn ask(&mut self, mut command: Value) -> Value {
        command["id"] = json!(1);
        command["conversation"] = json!(World::conversation(0));
        self.pipe.send(&command);
        loop {
            let (_, came) = self.pipe.next().await.expect("the connection stands");
            if came["id"] == 1 {
                return came;
            }
        }
    }
}

/// Runs it in simulated time.
fn simulated(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    LocalSet::new().block_on(&runtime, async {
        time::begin(0);
        run.await;
    });
}

#[test]
fn it_stays_and_gets_its_messages_when_the_log_is_back() {
    simulated(async {
        let mut behind = Behind::begin().await;
        let came = timeout(Duration::from_secs(60), behind.pipe.next()).await;
        assert!(came.is_err(), "neither a message nor the end: {came:?}");
        assert!(behind.ask(json!({"op": "ping"})).await["error"].is_null());
        behind.servers.log_outage.end();
        let back = Instant::now();
        for n in 1..=MESSAGES {
            let (_, came) = behind.pipe.next().await.expect("the connection stands");
            assert_eq!((&came["ev"], &came["seq"]), (&json!("message"), &json!(n)));
        }
        assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    });
}

#[test]
fn it_is_sent_elsewhere_if_the_log_stays_away() {
    simulated(async {
        let mut behind = Behind::begin().await;
        let away = Instant::now();
        let came = timeout(Duration::from_secs(300), behind.pipe.next()).await;
        assert_eq!(came, Ok(None), "the end");
        let after = away.elapsed().as_secs();
        assert!((110..=140).contains(&after), "after {after} s");
    });
}
