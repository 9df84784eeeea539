//! A thread of the generator: its sessions, its meter, and what they share.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::LocalSet;

use super::{Plan, Sample, course, storm};
use crate::client::{Rooms, Session};
use crate::measure::{Meter, Second};
use crate::run::Target;
use crate::scenario::RoomKind;

/// The buffer into which all connections of a thread read.
const BUFFER_BYTES: usize = 128 * 1024;

/// A thread of the generator, as its sessions see it.
pub struct Thread {
    plan: Arc<Plan>,
    meter: RefCell<Meter>,
    buffer: RefCell<Vec<u8>>,
    sessions: RefCell<Vec<Rc<Session>>>,
    /// The session that sends next.
    next: Cell<usize>,
    /// Whether a message that has come back makes the next one start.
    loop_is_closed: Cell<bool>,
}

/// Runs a thread's part of the plan to its end.
///
/// # Errors
/// When no runtime can be made.
pub(super) fn run(plan: &Arc<Plan>, index: usize, samples: &SyncSender<Sample>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = Rc::new(Thread::new(Arc::clone(plan)));
    LocalSet::new().block_on(&runtime, async {
        let reporter = tokio::task::spawn_local(report(Rc::clone(&thread), samples.clone()));
        let breaker = tokio::task::spawn_local(storm::run(Rc::clone(&thread)));
        course::run(&thread, index).await;
        breaker.abort();
        reporter.abort();
        // What was measured since the last second.
        let _ = samples.send(thread.sample(&mut Busy::new()));
    });
    Ok(())
}

/// Passes on what was measured, each second.
async fn report(thread: Rc<Thread>, samples: SyncSender<Sample>) {
    let mut busy = Busy::new();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    loop {
        seconds.tick().await;
        // The queue holds several seconds of all threads; a receiver that is behind by more has died.
        if samples.try_send(thread.sample(&mut busy)).is_err() {
            thread.plan.stop();
        }
    }
}

impl Thread {
    fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            meter: RefCell::default(),
            buffer: RefCell::new(vec![0; BUFFER_BYTES]),
            sessions: RefCell::default(),
            next: Cell::new(0),
            loop_is_closed: Cell::new(false),
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Microseconds since the start of the run.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.plan.start().elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// What this thread measures.
    pub fn meter(&self) -> RefMut<'_, Meter> {
        self.meter.borrow_mut()
    }

    /// The buffer to read into.
    pub fn buffer(&self) -> RefMut<'_, Vec<u8>> {
        self.buffer.borrow_mut()
    }

    /// Where the load goes.
    pub fn target(&self) -> &Target {
        self.plan.target()
    }

    /// The rooms of the run.
    pub fn rooms(&self) -> &Rooms {
        self.plan.rooms()
    }

    /// What rooms are.
    pub fn room_kind(&self) -> RoomKind {
        self.plan.scenario().sessions.room
    }

    /// The size of a message's text.
    pub fn payload_bytes(&self) -> usize {
        self.plan.scenario().traffic.payload_bytes
    }

    /// The sessions that are to be connected.
    pub(super) fn sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().clone()
    }

    pub(super) fn session_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    pub(super) fn add_session(&self, session: Rc<Session>) {
        self.sessions.borrow_mut().push(session);
    }

    pub(super) fn remove_session(&self) -> Option<Rc<Session>> {
        self.sessions.borrow_mut().pop()
    }

    /// Lets the next session send a message that was due at this time. Sessions take turns; those that are not connected yet are
    /// passed over. Returns whether one could.
    pub(super) fn send_next(&self, due_us: u64) -> bool {
        let sessions = self.sessions.borrow();
        for step in 0..sessions.len() {
            let index = (self.next.get() + step) % sessions.len();
            if sessions[index].has_joined() {
                self.next.set(index + 1);
                let session = Rc::clone(&sessions[index]);
                drop(sessions);
                session.send(due_us);
                return true;
            }
        }
        false
    }

    /// Starts or ends the closed loop.
    pub(super) fn close_loop(&self, closed: bool) {
        self.loop_is_closed.set(closed);
    }

    /// A message has come back to its sender, or has failed. In a closed loop the next one starts.
    pub fn finished(&self) {
        if self.loop_is_closed.get() {
            self.send_next(self.now_us());
        }
    }

    fn sample(&self, busy: &mut Busy) -> Sample {
        let passed = self.plan.start().elapsed();
        let stages = self.plan.stages();
        let stage = stages.iter().position(|stage| passed < stage.ends() + Duration::from_millis(500));
        let attached = self.sessions.borrow().iter().filter(|session| session.is_attached()).count();
        let second = Second {
            meter: std::mem::take(&mut *self.meter.borrow_mut()),
            sessions: attached,
            busy: busy.share(),
            stage: stage.unwrap_or(stages.len() - 1),
        };
        Sample { number: u32::try_from(passed.as_secs_f64().round() as u64).unwrap_or(u32::MAX), second }
    }
}

/// How busy this thread is.
struct Busy {
    since: Instant,
    used: f64,
}

impl Busy {
    fn new() -> Self {
        Self { since: Instant::now(), used: thread_seconds() }
    }

    /// The share of the time since the last call in which the thread ran.
    fn share(&mut self) -> f64 {
        let (now, used) = (Instant::now(), thread_seconds());
        let passed = (now - self.since).as_secs_f64();
        let share = if passed > 0.1 { (used - self.used) / passed } else { 0.0 };
        (self.since, self.used) = (now, used);
        share
    }
}

/// The processor time that this thread has used. The scheduler counts it in nanoseconds.
fn thread_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = statistics.split(' ').next().and_then(|field| field.parse::<u64>().ok());
    nanoseconds.map_or(0.0, |nanoseconds| nanoseconds as f64 / 1e9)
}
