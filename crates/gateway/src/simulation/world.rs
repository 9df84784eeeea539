//! What clients, faults and checks share: the nodes, and what has happened so far.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::client_state::ClientState;
use super::log::Log;
use super::node::Node;
use super::plan::{Plan, Scenario};
use super::sabotage::Sabotage;
use super::time;
use super::witness::{Place, Shown, Witness};

/// How exactly a resume window ends: a node may notice the end of a connection only when a full pipe has drained.
const RETURN_SLACK: Duration = Duration::from_secs(1);
/// A sabotage of events affects one in this many.
const SABOTAGE_ONE_IN: u64 = 11;

/// What clients, faults and checks share.
pub struct World {
    pub seed: u64,
    pub conversations: usize,
    /// Whether conversations are deleted and created again.
    pub remakes: bool,
    pub log: Arc<Log>,
    /// The nodes that a load balancer knows.
    pub slots: RefCell<Vec<Rc<Node>>>,
    pub witness: RefCell<Witness>,
    pub clients: RefCell<Vec<ClientState>>,
    /// Sessions that operators ended.
    pub ended: RefCell<BTreeSet<String>>,
    /// Until when `typing` of a user in a conversation of this name may have been handled, Unix milliseconds. `i64::MAX` while the last one
    /// has no reply.
    pub typed: RefCell<BTreeMap<(String, Arc<str>), i64>>,
    resume_window: Duration,
    /// The lifetime of a token, and when after the start tokens begin to live for ever.
    token: Option<(Duration, Duration)>,
    /// Whether nothing breaks, but clients are asked to move.
    only_moves: bool,
    /// Whether only clients end connections.
    is_fair: bool,
    /// Whether inboxes and outboxes are so small that events of presence are dropped.
    pub is_tight: bool,
    sabotage: Option<Sabotage>,
    /// An event that is held back, to be shown after the next one.
    held_back: RefCell<Option<(usize, Place, Shown)>>,
    shown: Cell<u64>,
    /// Whether to print what happens.
    tells: bool,
}

impl World {
    /// Makes a world without nodes. `tells`: whether to print what happens.
    pub fn new(plan: &Plan, log: Arc<Log>, sabotage: Option<Sabotage>, tells: bool) -> Rc<World> {
        Rc::new(World {
            seed: plan.seed,
            conversations: plan.conversations,
            remakes: plan.remakes,
            log,
            slots: RefCell::default(),
            witness: RefCell::default(),
            clients: RefCell::new(vec![ClientState::default(); plan.clients.len()]),
            ended: RefCell::default(),
            typed: RefCell::default(),
            resume_window: plan.resume_window,
            token: plan.token.map(|token| (token, plan.calm_after)),
            only_moves: plan.scenario == Scenario::Moves,
            is_fair: plan.faults.is_empty() && plan.calls_fail_one_in == 0,
            is_tight: plan.is_tight,
            sabotage,
            held_back: RefCell::default(),
            shown: Cell::default(),
            tells,
        })
    }

    /// Prints what happens, with its time, when one run is traced.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{:>6} ms  {}", time::elapsed_ms(), text());
        }
    }

    /// Records something that must not happen.
    pub fn fault(&self, text: &str) {
        self.note(|| format!("FAULT: {text}"));
        self.witness.borrow_mut().fault(format!("at {} ms: {text}", time::elapsed_ms()));
    }

    /// Returns when a token expires that is issued now, Unix milliseconds.
    pub fn token_ends_at_ms(&self) -> i64 {
        let elapsed = Duration::from_millis(time::elapsed_ms());
        let token = self.token.filter(|(_, until)| elapsed < *until);
        token.map_or(i64::MAX, |(lifetime, _)| {
            time::now_ms().saturating_add(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX))
        })
    }

    /// Returns the clients that have not gone.
    pub fn readers(&self) -> BTreeSet<usize> {
        let clients = self.clients.borrow();
        (0..clients.len()).filter(|number| !clients[*number].has_left).collect()
    }

    /// Checks the return of a client: if nothing breaks, it resumes its session within the resume window, and not after it.
    pub fn judge_return(&self, client: usize, away: Duration, resumed: bool) {
        let (least, most) =
            (self.resume_window.saturating_sub(RETURN_SLACK), self.resume_window + RETURN_SLACK);
        if self.is_fair && (resumed && away > most || !resumed && away < least) {
            self.fault(&format!("client {client} was away for {away:?}, and resumed: {resumed}"));
        }
    }

    /// Checks the close of a client that had been asked to move, with the code of a node that ends. If clients are only moved, the node
    /// must be draining.
    pub fn judge_closing(&self, client: usize, node: &Node) {
        if self.only_moves && !node.is_draining() {
            self.fault(&format!("client {client} was closed for balance by {}", node.name));
        }
    }

    /// Records what a client was shown.
    pub fn show(&self, client: usize, place: &Place, mut shown: Shown) {
        self.shown.set(self.shown.get() + 1);
        let sabotage = self.sabotage.filter(|_| self.shown.get().is_multiple_of(SABOTAGE_ONE_IN));
        let mut witness = self.witness.borrow_mut();
        match sabotage {
            Some(Sabotage::LoseEvent) => return,
            Some(Sabotage::DoubleEvent) => witness.show(client, place, shown.clone()),
            Some(Sabotage::AlterEvent) => shown.content.push('!'),
            Some(Sabotage::SwapEvents) => {
                let held_back = self.held_back.borrow_mut().replace((client, place.clone(), shown));
                if let Some((client, place, shown)) = held_back {
                    witness.show(client, &place, shown);
                }
                return;
            }
            _ => {}
        }
        witness.show(client, place, shown);
        let held_back = self.held_back.borrow_mut().take_if(|(of, other, _)| *of == client && other == place);
        if let Some((client, place, shown)) = held_back {
            witness.show(client, &place, shown);
        }
    }
}
