//! One node: the real hub and the real shards, between simulated sockets and simulated servers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use starling_auth::{Algorithm, Identity, KeySource, TicketKey, Verifier, VerifierOptions};
use starling_hub::{Hub, HubConfig, HubParts, TenantLimits};
use starling_wire::protocol::Encoding;
use tokio::task::JoinHandle;

use super::broker::BrokerClient;
use super::chance::Chance;
use super::line::{Life, Line, Power};
use super::log::{Connections, LogClient};
use super::names::TENANT;
use super::pipe::Pipe;
use super::plan::Plan;
use super::servers::Servers;
use super::sessions::SessionClient;
use crate::drain::Drain;
use crate::gateway::gate;
use crate::lifecycle::Lifecycle;
use crate::requests::Requests;
use crate::shard::{self, ConnTask, Env, Inboxes, Item, Opening, Service, Shard, ShardSettings, Socket};
use crate::{AddressLimits, GatewayConfig, Origins, RequestLimits};

/// The secret with which all nodes sign tickets.
const SECRET: &[u8; 32] = b"a secret of the simulation's own";

/// A node.
pub struct Node {
    pub name: String,
    pub hub: Arc<Hub>,
    pub fanout: Arc<BrokerClient>,
    power: Power,
    config: Arc<GatewayConfig>,
    lifecycle: Arc<Lifecycle>,
    inboxes: Arc<Inboxes>,
    shards: Vec<Rc<Shard>>,
    loops: Vec<JoinHandle<()>>,
    pipe_bytes: usize,
}

impl Node {
    /// Starts a node. `life` distinguishes nodes of the same name.
    pub async fn start(plan: &Plan, servers: &Servers, name: &str, life: &str) -> Rc<Node> {
        let power = Power::new();
        let line = |what: &str, outage, typical_ms| Line {
            power: power.clone(),
            outage,
            typical_ms,
            fails_one_in: plan.calls_fail_one_in,
            chance: Chance::new(plan.seed, &format!("{what} {life}")).into(),
        };
        let config = hub_config(plan, name, life);
        let fanout = servers.broker.client(&config.lease(), power.clone());
        let (inboxes, ends) = Inboxes::holding(plan.inbox_items, plan.shards);
        let verifier =
            Verifier::new(Algorithm::HS256, KeySource::Secret(SECRET.to_vec()), VerifierOptions::default());
        let hub = Hub::new(HubParts {
            config,
            conversations: Arc::new(LogClient {
                log: servers.log.clone(),
                line: line("log", servers.log_outage.clone(), plan.log_ms),
                connections: Connections::new(plan.log_connections, plan.appends_share),
            }),
            sessions: Arc::new(SessionClient {
                store: servers.sessions.clone(),
                line: line("sessions", servers.sessions_outage.clone(), plan.network_ms),
                sabotage: servers.sabotage,
                lost: AtomicBool::new(false),
            }),
            fanout: fanout.clone(),
            jobs: None,
            webhooks: None,
            verifier: Arc::new(verifier.expect("a secret of 32 bytes")),
            tickets: TicketKey::from_secret(SECRET).expect("a secret of 32 bytes"),
            shards: inboxes.clone(),
            shard_count: plan.shards,
            runtime: tokio::runtime::Handle::current(),
        });
        let config = Arc::new(gateway_config(plan));
        let (gate, service) = (gate(&config), Service::Hub(hub.clone()));
        let settings = ShardSettings::new(config.clone(), &service, gate.admission.clone());
        let (mut shards, mut loops) = (Vec::new(), Vec::new());
        for (index, inbox) in (0_u16..).zip(ends) {
            let seed = Chance::new(plan.seed, &format!("shard {index} of {life}")).draw();
            let shard = Rc::new(Shard::new(Env::new(index, service.clone(), settings.clone()), seed));
            // Clients come through pipes, so nothing is ever accepted.
            let turns = shard::take_turns(shard.clone(), inbox, |_, _| std::future::ready(()));
            loops.push(tokio::task::spawn_local(turns));
            loops.push(tokio::task::spawn_local(shard::tick_forever(shard.clone())));
            shards.push(shard);
        }
        let pipe_bytes = plan.pipe_bytes;
        let node = Node {
            name: name.to_owned(),
            hub,
            fanout,
            power,
            config,
            lifecycle: gate.lifecycle,
            inboxes,
            shards,
            loops,
            pipe_bytes,
        };
        node.hub.start().await.expect("the broker takes a receiver at any time");
        Rc::new(node)
    }

    /// Opens a connection of a user, with a token that expires at this time in Unix milliseconds. `None`: the node takes no connections.
    pub fn accept(&self, user: &Arc<str>, expires_at_ms: i64, chance: &mut Chance) -> Option<Pipe> {
        if !self.serves() {
            return None;
        }
        let (near, far) = tokio::io::duplex(self.pipe_bytes);
        let identity = Identity {
            user: user.clone().into(),
            tenant: TENANT.into(),
            scopes: Arc::default(),
            expires_at_ms,
        };
        let shard = &self.shards[chance.index(self.shards.len())];
        let opening = Opening {
            socket: Socket::Memory(far),
            encoding: Encoding::Json,
            deflate: None,
            identity: Some(identity),
            traceparent: None,
            address: None,
            early: Bytes::new(),
        };
        tokio::task::spawn_local(ConnTask::open(shard.clone(), opening));
        Some(Pipe::new(near, self.power.clone()))
    }

    /// Whether the node takes new connections.
    pub fn serves(&self) -> bool {
        !self.is_dead() && !self.lifecycle.is_closed()
    }

    /// Whether the node has died or ended.
    pub fn is_dead(&self) -> bool {
        self.power.is_dead()
    }

    /// Waits for an answer of the node. `None`: the node died, which leaves questions without an answer.
    pub async fn answers<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            answer = answer => Some(answer),
            () = self.power.death() => None,
        }
    }

    /// Freezes the node for this time.
    pub async fn freeze(&self, time: Duration) {
        self.power.set(Life::Frozen);
        tokio::time::sleep(time).await;
        self.power.set(Life::Running);
    }

    /// Kills the node, as kill -9 does.
    pub fn kill(&self) {
        self.power.set(Life::Dead);
        for each in &self.loops {
            each.abort();
        }
    }

    /// Asks this many clients of each shard to move, as a node does that has far more clients than the others.
    pub async fn shed(&self, count: usize) {
        for shard in 0..self.inboxes.count() {
            self.inboxes.send(shard, Item::Shed(count)).await;
        }
    }

    /// Closes all clients, those that were asked to move included. No node may do that.
    pub fn close_for_balance(&self) {
        for shard in &self.shards {
            let mut table = shard.table.borrow_mut();
            for key in table.keys() {
                table.close(key, starling_wire::protocol::CloseReason::Restart, "moving");
            }
        }
    }

    /// Whether the node drains.
    pub fn is_draining(&self) -> bool {
        self.lifecycle.is_draining()
    }

    /// Drains and ends the node, as SIGTERM does.
    pub async fn drain(&self) {
        let drain = Drain {
            config: self.config.clone(),
            lifecycle: self.lifecycle.clone(),
            requests: Arc::new(Requests::new(self.config.request_limits)),
            hub: self.hub.clone(),
            inboxes: self.inboxes.clone(),
            signals: "again",
        };
        drain.run().await;
        self.kill();
    }
}

fn hub_config(plan: &Plan, name: &str, life: &str) -> HubConfig {
    HubConfig {
        node: name.to_owned(),
        run: life.to_owned(),
        address: None,
        version: "simulated".to_owned(),
        resume_window: plan.resume_window,
        heartbeat: Duration::from_secs(25),
        replay_limit: 1_000,
        limits: TenantLimits { user_writes_per_minute: 0, connections: 0, conversations: 0 },
        joins_per_session_max: 100,
        topics_per_session_max: 100,
        members_per_conversation_max: 100,
        append_lanes: 2,
        append_queue: 1_000,
        user_reads_per_second: 0,
        reads_at_once: plan.reads_at_once,
        log_reads_at_once: 2,
        ..HubConfig::default()
    }
}

fn gateway_config(plan: &Plan) -> GatewayConfig {
    GatewayConfig {
        listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        heartbeat: Duration::from_secs(25),
        connect_timeout: Duration::from_secs(10),
        origins: Origins::Any,
        address_limits: AddressLimits { connections: 0, handshakes_per_second: 0 },
        request_limits: RequestLimits { connection_per_second: 0, user_per_second: 0 },
        trusted_proxies: Default::default(),
        commands_per_second: 0,
        bytes_per_second: 0,
        queue_bytes: plan.queue_bytes,
        deflate: false,
        drain_notice: Duration::from_millis(500),
        drain: plan.drain,
        drain_clients_per_second: 2,
        connection_max_age: plan.connection_max_age,
        shed_above_percent: 0,
        shed_above_sessions: 0,
        connect_wait_max: Duration::ZERO,
        handshakes_per_second: 0,
        message_bytes_max: 128 * 1024,
        ..GatewayConfig::default()
    }
}
