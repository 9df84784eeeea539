//! A subscription that is served from the log while the database is down.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use starling_conversation_store::NewConversation;
use tokio::time::{Instant, timeout};

use super::chance::Chance;
use super::names::{self, TENANT};
use super::node::Node;
use super::pipe::Pipe;
use super::plan::Plan;
use super::servers::Servers;
use super::time;

const MESSAGES: u64 = 5;

/// A client that has joined and waits for messages from the log.
struct Behind {
    servers: Servers,
    pipe: Pipe,
    /// Kept alive for the client.
    _node: Rc<Node>,
}

impl Behind {
    /// Begins when the database has gone down and the client has joined.
    async fn begin() -> Behind {
        let plan = Plan::undisturbed();
        let servers = Servers::new(&plan, None);
        let user = names::user(0);
        servers.log.create(&NewConversation {
            tenant: TENANT.into(),
            conversation: names::conversation(0).into(),
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
        command["conversation"] = json!(names::conversation(0));
        self.pipe.send(&command);
        loop {
            let (_, came) = self.pipe.next().await.expect("the connection stands");
            if came["id"] == 1 {
                return came;
            }
        }
    }
}

#[test]
fn the_client_stays_and_gets_its_messages_when_the_database_is_back() {
    time::simulate(0, async {
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
fn the_client_must_reconnect_if_the_database_stays_down() {
    time::simulate(0, async {
        let mut behind = Behind::begin().await;
        let away = Instant::now();
        let came = timeout(Duration::from_secs(300), behind.pipe.next()).await;
        assert_eq!(came, Ok(None), "the end");
        let after = away.elapsed().as_secs();
        assert!((110..=140).contains(&after), "after {after} s");
    });
}
