//! The course of a run in one thread: sessions come and go, messages are sent when they are due, and everything settles at the end.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Thread;
use super::pace::Pace;
use crate::client::{Session, delete};
use crate::scenario::{Moment, RoomKind};

/// How often the number of sessions follows the stages.
const STEP: Duration = Duration::from_millis(10);
/// Messages that are sent before the sessions get their turn.
const SENDS_PER_TURN: usize = 32;
/// How long messages may be under way when the stages have ended.
const SETTLE_MAX: Duration = Duration::from_secs(15);

/// Runs the stages, waits until the messages have arrived, and ends the sessions.
pub(super) async fn run(thread: &Rc<Thread>, index: usize) {
    let mut tasks = Vec::new();
    let sender = tokio::task::spawn_local(send(Rc::clone(thread), index));
    populate(thread, index, &mut tasks).await;
    let _ = sender.await;
    thread.close_loop(false);
    settle(thread).await;
    let sessions = thread.sessions();
    clean_up(thread, &sessions).await;
    for session in &sessions {
        session.end();
    }
    for task in tasks {
        let _ = task.await;
    }
}

/// Connects and ends sessions as the stages say.
async fn populate(thread: &Rc<Thread>, index: usize, tasks: &mut Vec<JoinHandle<()>>) {
    let plan = thread.plan();
    let threads = plan.threads();
    let mut places = plan.places(index);
    while let Some(stage) = plan.stage_at(plan.start().elapsed()) {
        let wanted = stage.at(plan.start().elapsed()).sessions;
        // Sessions take turns between the threads.
        let wanted = (wanted + threads - 1 - index) / threads;
        while thread.session_count() < wanted {
            let Some(place) = places.next() else { break };
            let session = Session::new(place, Rc::clone(thread));
            tasks.push(tokio::task::spawn_local(Rc::clone(&session).live()));
            thread.add_session(session);
        }
        while thread.session_count() > wanted {
            if let Some(session) = thread.remove_session() {
                session.end();
            }
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Sends messages when they are due, or keeps so many under way.
async fn send(thread: Rc<Thread>, index: usize) {
    let plan = thread.plan();
    if plan.scenario().sessions.room == RoomKind::None {
        return;
    }
    let Ok(pace) = Pace::start() else { return };
    let share = 1.0 / plan.threads() as f64;
    let outstanding = plan.scenario().traffic.outstanding;
    // Threads don't send at the same moment.
    let mut due = Duration::from_secs_f64(index as f64 * share / 1000.0);
    let mut sent_in_turn = 0;
    while let Some(stage) = plan.stage_at(due) {
        let Moment { messages_per_second, .. } = stage.at(due);
        let rate = messages_per_second * share;
        if outstanding > 0 {
            if rate > 0.0 {
                begin_closed_loop(&thread, outstanding, index);
                return;
            }
        } else if rate > 0.0 {
            pace.until(plan.start() + due).await;
            let due_us = u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
            if thread.send_next(due_us) {
                let late = thread.now_us().saturating_sub(due_us);
                thread.meter().lateness.record(late);
            }
            due += Duration::from_secs_f64(1.0 / rate).min(Duration::from_secs(1));
            sent_in_turn += 1;
            if sent_in_turn >= SENDS_PER_TURN {
                sent_in_turn = 0;
                tokio::task::yield_now().await;
            }
            continue;
        }
        due += STEP;
        pace.until(plan.start() + due).await;
    }
}

fn begin_closed_loop(thread: &Thread, outstanding: usize, index: usize) {
    let threads = thread.plan().threads();
    thread.close_loop(true);
    for _ in 0..(outstanding + threads - 1 - index) / threads {
        thread.send_next(thread.now_us());
    }
}

/// Waits until every message has been acknowledged and has arrived. What has not after a while counts as lost.
async fn settle(thread: &Thread) {
    let until = Instant::now() + SETTLE_MAX;
    let sessions = thread.sessions();
    let unsettled = |session: &&Rc<Session>| {
        let (behind, waiting) = session.behind();
        (behind > 0 && !session.is_slow()) || waiting
    };
    while Instant::now() < until && sessions.iter().any(|session| unsettled(&session)) {
        tokio::time::sleep(STEP).await;
    }
    for session in sessions.iter().filter(|session| !session.is_slow()) {
        let (behind, waiting) = session.behind();
        if thread.room_kind() == RoomKind::Conversation {
            thread.meter().missing(behind);
        }
        if waiting {
            thread.meter().error("no reply until the end");
        }
    }
}

/// Deletes the conversations that this thread's sessions have created.
async fn clean_up(thread: &Thread, sessions: &[Rc<Session>]) {
    let plan = thread.plan();
    if plan.keeps_conversations() || thread.room_kind() != RoomKind::Conversation {
        return;
    }
    let rooms = thread.rooms();
    for session in sessions {
        let room = rooms.of(session.index());
        if rooms.members(room).start != session.index() || !rooms.exists(room) {
            continue;
        }
        let (target, name) = (plan.target(), rooms.name(room));
        let token = target.token(session.index());
        let address = target.address(session.index());
        if let Err(error) = delete(address, session.index(), target.sources(), &token, &name).await {
            thread.meter().note(&format!("a conversation stays behind: {error:#}"));
        }
    }
}
