use proptest::collection::vec;
use proptest::prelude::*;
use starling_hub::Reply;
use starling_wire::protocol::{Command, Json};

use super::*;

/// How the hub answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    AtOnce,
    ThroughInbox,
    Running,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    overtakes: bool,
    how: How,
}

/// A connection whose events happen in any order.
struct Connection {
    plan: Vec<Planned>,
    queue: CommandQueue<usize>,
    /// Number of commands that were pushed, and of those that have begun.
    pushed: usize,
    begun: usize,
    awaited: Vec<usize>,
    /// Commands by the order in which their answers left.
    left: Vec<usize>,
}

fn request(index: usize, overtakes: bool) -> Request {
    let command = match overtakes {
        true => Command::Publish { topic: "t".into(), data: Json::from_compact("1") },
        false => Command::Ping {},
    };
    Request { id: index as u64, command: Ok(command), is_connect: false }
}

impl Connection {
    fn new(plan: Vec<Planned>) -> Connection {
        let queue = CommandQueue::default();
        Connection { plan, queue, pushed: 0, begun: 0, awaited: Vec::new(), left: Vec::new() }
    }

    /// Does what a connection's task does when it is woken.
    fn wake(&mut self) {
        loop {
            if let Some((id, _)) = self.queue.release() {
                self.left.push(id as usize);
                continue;
            }
            let Some(request) = self.queue.begin() else { return };
            let index = request.id as usize;
            assert_eq!(index, self.begun, "commands begin in the order in which they came");
            self.begun += 1;
            match self.plan[index].how {
                How::AtOnce => {
                    if self.queue.answer(request.id, Ok(Reply::Empty).into()).is_some() {
                        self.left.push(index);
                    }
                }
                How::ThroughInbox => {
                    self.queue.wait_for_answer();
                    self.awaited.push(index);
                    assert!(self.awaited.len() <= AWAITED_MAX as usize);
                }
                How::Running => self.queue.run(index),
            }
        }
    }

    /// Lets one thing happen. `false`: that could not happen now.
    fn happen(&mut self, choice: u8, pick: usize) -> bool {
        match choice {
            0 if self.pushed < self.plan.len() && !self.queue.is_full() => {
                self.queue.push(request(self.pushed, self.plan[self.pushed].overtakes));
                self.pushed += 1;
                self.wake();
            }
            1 if !self.awaited.is_empty() => {
                let index = self.awaited.swap_remove(pick % self.awaited.len());
                self.left.push(index);
                // Without this the task sleeps on: nothing else would wake it.
                if self.queue.answer_came() {
                    self.wake();
                }
            }
            2 if self.queue.running().is_some() => {
                if let Some(index) = self.queue.finish()
                    && self.queue.answer(index as u64, Ok(Reply::Empty).into()).is_some()
                {
                    self.left.push(index);
                }
                self.wake();
            }
            _ => return false,
        }
        true
    }
}

fn planned() -> impl Strategy<Value = Planned> {
    let how = prop_oneof![Just(How::AtOnce), Just(How::ThroughInbox), Just(How::Running)];
    // The answer to a command that comes in order never comes through the inbox.
    (any::<bool>(), how).prop_map(|(overtakes, how)| match how {
        How::ThroughInbox => Planned { overtakes: true, how },
        _ => Planned { overtakes, how },
    })
}

proptest! {
    #[test]
    fn answers_leave_in_the_promised_order_whatever_order_they_become_ready_in(
        plan in vec(planned(), 0..60),
        events in vec((0_u8..3, any::<usize>()), 0..400),
    ) {
        let count = plan.len();
        let mut connection = Connection::new(plan);
        for (choice, pick) in events {
            connection.happen(choice, pick);
        }
        // What is left to happen happens; if nothing can, all is answered.
        while (0..3).any(|choice| connection.happen(choice, 0)) {}
        prop_assert!(connection.queue.has_answered_all());
        let mut place = vec![usize::MAX; count];
        for (at, index) in connection.left.iter().enumerate() {
            prop_assert_eq!(std::mem::replace(&mut place[*index], at), usize::MAX, "answered once");
        }
        prop_assert!(!place.contains(&usize::MAX), "each is answered: {:?}", place);
        for (index, planned) in connection.plan.iter().enumerate() {
            let (before, after) = (&place[..index], &place[index + 1..]);
            if !planned.overtakes || planned.how != How::ThroughInbox {
                prop_assert!(before.iter().all(|at| *at < place[index]), "{index} overtakes: {place:?}");
            }
            if planned.how != How::ThroughInbox {
                prop_assert!(after.iter().all(|at| *at > place[index]), "{index} is overtaken: {place:?}");
            }
        }
    }
}

#[test]
fn no_more_answers_are_awaited_and_no_more_commands_wait_than_the_limits_say() {
    let plan = vec![Planned { overtakes: true, how: How::ThroughInbox }; 1_000];
    let mut connection = Connection::new(plan);
    while connection.happen(0, 0) {}
    assert_eq!(
        (connection.begun, connection.pushed),
        (AWAITED_MAX as usize, AWAITED_MAX as usize + BACKLOG_MAX)
    );
    assert!(connection.queue.is_full() && !connection.queue.wants_more());
    assert!(connection.happen(1, 0) && connection.happen(0, 0), "an answer makes room");
    while connection.happen(1, 0) {}
    assert!(connection.queue.has_answered_all());
}

#[test]
fn what_has_not_begun_is_dropped_when_the_connection_closes() {
    let plan = vec![
        Planned { overtakes: true, how: How::ThroughInbox },
        Planned { overtakes: true, how: How::AtOnce },
        Planned { overtakes: false, how: How::AtOnce },
    ];
    let mut connection = Connection::new(plan);
    while connection.happen(0, 0) {}
    assert_eq!(
        (connection.begun, connection.left.len()),
        (2, 0),
        "the second answer is held, the third command waits"
    );
    connection.queue.abandon();
    while connection.happen(1, 0) {}
    assert!(connection.queue.has_answered_all());
    assert_eq!(connection.left, [0]);
}
