//! A run: connect, send, measure, and wait for what is under way.

mod connection;
mod engine;
mod messages;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::dialect::Role;
use crate::outcome::Outcome;
use crate::usage::{Usage, resident_bytes};
use crate::{Pace, Plan, Shape};
use connection::Place;
use engine::Engine;
use messages::Counted;

/// How long all connections together may take to become ready.
const CONNECT_LIMIT: Duration = Duration::from_secs(90);
/// How long the last messages may take to arrive.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How long nodes get between the last connection and the first message.
const SETTLE: Duration = Duration::from_millis(500);
/// The same before memory is read: what nodes write behind is done.
const SETTLE_IDLE: Duration = Duration::from_secs(3);
/// A closed loop in which nothing arrives for so long has lost its messages.
const STALL: Duration = Duration::from_secs(5);
/// The longest run.
const SECONDS_MAX: f64 = 300.0;

/// Runs a plan. `moment` is called with `measuring` and `measured` at both ends of the time that counts.
///
/// # Errors
/// When the plan is impossible, or the nodes can't be reached. Refused connections and lost messages are part of the outcome.
pub fn load(plan: &Plan, moment: &mut dyn FnMut(&str)) -> Result<Outcome> {
    ensure!(!plan.nodes.is_empty(), "a plan needs a node");
    ensure!((0.0..=SECONDS_MAX).contains(&plan.seconds), "at most {SECONDS_MAX} seconds");
    let mut engine = Engine::new(plan, tokens(plan)?)?;
    if plan.dialect.makes_conversations() {
        make_conversations(&mut engine, plan)?;
    }
    let mut outcome = Outcome::default();
    connect(&mut engine, plan, &mut outcome)?;
    if outcome.dropped == 0 {
        measure(&mut engine, plan, moment, &mut outcome)?;
    }
    outcome.dropped = engine.dropped;
    outcome.refusal = engine.refusal.take();
    outcome.errors = engine.errors;
    outcome.error = engine.error.take();
    Ok(outcome)
}

fn tokens(plan: &Plan) -> Result<Vec<String>> {
    let Some(path) = &plan.tokens else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).context("read the tokens")?;
    let tokens: Vec<String> = text.lines().map(str::to_owned).collect();
    let needed = plan.shape.connections(plan.nodes.len()) + 1;
    ensure!(tokens.len() >= needed, "{} tokens for {needed} users", tokens.len());
    Ok(tokens)
}

/// Everybody who connects.
fn places(shape: Shape, nodes: usize) -> Vec<Place> {
    let place = |number: usize, role, room, user| Place { node: number % nodes, role, room, user };
    match shape {
        Shape::FanOut { subscribers } => {
            let publishers = (0..nodes).map(|number| place(number, Role::Publisher, 0, number));
            let subscribers =
                (0..subscribers).map(|number| place(number, Role::Subscriber, 0, nodes + number));
            publishers.chain(subscribers).collect()
        }
        // The members of a room alternate over its nodes, and the rooms over all nodes.
        Shape::Rooms { rooms, members, spread } => (0..members)
            .flat_map(|member| (0..rooms).map(move |room| (member, room)))
            .map(|(member, room)| {
                place(room + member % spread.max(1), Role::Member, room, member * rooms + room)
            })
            .collect(),
        Shape::Idle { connections, rooms } => {
            (0..connections).map(|number| place(number, Role::Subscriber, number % rooms, number)).collect()
        }
    }
}

/// Makes a conversation for each room, with everybody who will join it.
fn make_conversations(engine: &mut Engine, plan: &Plan) -> Result<()> {
    let places = places(plan.shape, plan.nodes.len());
    let mut users = vec![Vec::new(); plan.shape.rooms()];
    for place in &places {
        users[place.room].push(place.user);
    }
    let maker = Place { node: plan.nodes.len() - 1, role: Role::Maker, room: 0, user: places.len() };
    engine.connect(&[maker])?;
    let ready = engine.until(CONNECT_LIMIT, |engine| engine.ready + engine.dropped > 0)?;
    ensure!(ready && engine.ready == 1, "the maker of conversations can't connect: {:?}", engine.refusal);
    engine.make(&users, CONNECT_LIMIT)
}

fn connect(engine: &mut Engine, plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let places = places(plan.shape, plan.nodes.len());
    let before = (Usage::now(&plan.watched), resident_bytes(&plan.watched.nodes), engine.ready);
    engine.connect(&places)?;
    let wanted = before.2 + places.len() as u64;
    engine.until(CONNECT_LIMIT, |engine| engine.ready + engine.dropped >= wanted)?;
    let connected = engine.ready - before.2;
    outcome.connected = connected;
    outcome.dropped = places.len() as u64 - connected;
    if outcome.dropped > engine.dropped {
        engine.dropped = outcome.dropped;
        engine.refusal.get_or_insert_with(|| "not ready in time".to_owned());
    }
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / 1e3 / connected.max(1) as f64;
    // What nodes write behind belongs to the handshakes.
    engine.pause(if matches!(plan.shape, Shape::Idle { .. }) { SETTLE_IDLE } else { SETTLE })?;
    let after = Usage::now(&plan.watched);
    outcome.handshake_nodes_us = each(after.nodes_ns, before.0.nodes_ns);
    outcome.handshake_redis_us = each(after.redis_ns, before.0.redis_ns);
    outcome.handshake_postgres_us = each(after.postgres_ns, before.0.postgres_ns);
    let resident = resident_bytes(&plan.watched.nodes).saturating_sub(before.1);
    outcome.connection_bytes = resident as f64 / connected.max(1) as f64;
    Ok(())
}

fn measure(
    engine: &mut Engine,
    plan: &Plan,
    moment: &mut dyn FnMut(&str),
    outcome: &mut Outcome,
) -> Result<()> {
    engine.send(plan.pace, Duration::from_secs_f64(plan.warm_seconds), STALL)?;
    drop(engine.messages.reset());
    moment("measuring");
    let (before, begun) = (Usage::now(&plan.watched), engine.now_ns());
    engine.send(plan.pace, Duration::from_secs_f64(plan.seconds), STALL)?;
    let (after, ended) = (Usage::now(&plan.watched), engine.now_ns());
    let counted = engine.messages.reset();
    moment("measured");
    outcome.seconds = (ended - begun) as f64 / 1e9;
    describe(&counted, plan.pace, outcome);
    let spent = |after: u64, before: u64| after.saturating_sub(before) as f64 / 1e3;
    outcome.nodes_us = spent(after.nodes_ns, before.nodes_ns);
    outcome.redis_us = spent(after.redis_ns, before.redis_ns);
    outcome.postgres_us = spent(after.postgres_ns, before.postgres_ns);
    outcome.generator_us = spent(after.own_ns, before.own_ns);
    outcome.redis_commands = after.redis_commands.saturating_sub(before.redis_commands);
    outcome.redis_output_bytes = after.redis_output_bytes.saturating_sub(before.redis_output_bytes);
    outcome.idle_us_per_second = outcome.nodes_us / outcome.seconds.max(1e-9);
    engine.until(DRAIN_LIMIT, |engine| engine.messages.outstanding == 0)?;
    outcome.lost = engine.messages.lost();
    outcome.extra = engine.messages.extra;
    Ok(())
}

fn describe(counted: &Counted, pace: Pace, outcome: &mut Outcome) {
    outcome.sent = counted.sent;
    outcome.delivered = counted.delivered;
    outcome.messages_per_second = counted.sent as f64 / outcome.seconds;
    outcome.deliveries_per_second = counted.delivered as f64 / outcome.seconds;
    outcome.delivery_p50_ms = counted.delivery.percentile_ms(50.0);
    outcome.delivery_p99_ms = counted.delivery.percentile_ms(99.0);
    outcome.acknowledge_p50_ms = counted.acknowledge.percentile_ms(50.0);
    outcome.acknowledge_p99_ms = counted.acknowledge.percentile_ms(99.0);
    if matches!(pace, Pace::PerSecond(_)) {
        outcome.late_p99_ms = counted.late.percentile_ms(99.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_spread_over_the_nodes_and_every_user_is_one_connection() {
        for shape in [
            Shape::FanOut { subscribers: 10 },
            Shape::Rooms { rooms: 7, members: 5, spread: 2 },
            Shape::Idle { connections: 9, rooms: 4 },
        ] {
            let places = places(shape, 2);
            assert_eq!(places.len(), shape.connections(2));
            let users: Vec<usize> = places.iter().map(|place| place.user).collect();
            assert_eq!(users, (0..places.len()).collect::<Vec<_>>(), "{shape:?}");
            assert!(places.iter().all(|place| place.room < shape.rooms()));
        }
        let places = places(Shape::Rooms { rooms: 7, members: 5, spread: 2 }, 2);
        for room in 0..7 {
            let at = |node| places.iter().filter(|place| place.room == room && place.node == node).count();
            assert!(at(0) >= 2 && at(1) >= 2, "room {room}");
        }
    }
}
