//! The servers that all nodes share.

use std::sync::Arc;

use starling_session_store::memory::MemoryStore;

use super::broker::Broker;
use super::line::Outage;
use super::log::Log;
use super::plan::Plan;
use super::sabotage::Sabotage;
use super::sessions;

/// The database, the session store and the broker, and whether they are down.
pub struct Servers {
    pub log: Arc<Log>,
    pub log_outage: Arc<Outage>,
    pub sessions: Arc<MemoryStore>,
    pub sessions_outage: Arc<Outage>,
    pub broker: Arc<Broker>,
    pub sabotage: Option<Sabotage>,
}

impl Servers {
    /// Makes empty servers.
    pub fn new(plan: &Plan, sabotage: Option<Sabotage>) -> Servers {
        let log = Log::new(sabotage);
        Servers {
            log: log.clone(),
            log_outage: Arc::default(),
            sessions: sessions::store(),
            sessions_outage: Arc::default(),
            broker: Broker::new(plan.seed, plan.carriage, sabotage, log),
            sabotage,
        }
    }

    /// Ends all outages and failures: from now on every call gets an answer, and every publication is delivered once.
    pub fn calm_down(&self) {
        self.log_outage.end();
        self.sessions_outage.end();
        self.broker.calm_down();
    }
}
