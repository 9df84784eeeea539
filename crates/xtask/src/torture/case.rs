//! One case: clients talk, a fault is done again and again, and what they saw is held against the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::crowd::{self, Crowd, PATIENCE};
use super::fault::{Case, Fault, Promise};
use super::measure::{self, Measures, Moment};
use super::stage::Stage;
use super::strike::{self, Strike};
use clap::ValueEnum;

/// How long and how hard.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long faults are done for.
    pub lasts: Duration,
    /// Before the first one, and after each.
    pub calm: Duration,
    /// How long each lasts at least, and at most.
    pub hold: (Duration, Duration),
    /// How many clients.
    pub members: usize,
    /// How many messages all of them together send in a second.
    pub sends_per_second: f64,
    /// What is drawn is drawn from this.
    pub seed: u64,
}

/// How a case ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// What was done, in a sentence.
    pub about: String,
    /// The figures.
    pub measures: Measures,
    /// The faults.
    pub moments: Vec<Moment>,
    /// Memory of each node: name, bytes before and after; none where it was not there.
    pub memory: Vec<Memory>,
    /// What else is worth to be said.
    pub notes: Vec<String>,
    /// Promises that were not kept to the second.
    pub warnings: Vec<String>,
    /// What makes the whole a failure.
    pub failures: Vec<String>,
    /// How long it took with everything.
    pub took: Duration,
}

/// The memory of a node.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The node.
    pub node: String,
    /// Before the case, bytes; none for a node that came later.
    pub before: Option<u64>,
    /// After it; none for one that has gone.
    pub after: Option<u64>,
}

/// Runs it. An error is one of the case's own making: whatever the nodes did wrong is in the outcome.
pub async fn run(case: Case, stage: &mut Stage, pace: &Pace, number: usize) -> Result<Outcome> {
    let begun = Instant::now();
    let name = case.name();
    let mut dice = StdRng::seed_from_u64(pace.seed ^ hash(&name));
    let before = stage.memory();
    let catch_ups = stage.counter("starling_catch_ups_total").await;
    let through_links = matches!(case.fault, Fault::Storm | Fault::NetworkCut | Fault::Combination);
    let urls = stage.urls(through_links);
    let mut crowd =
        Crowd::start(&format!("case{number}"), urls, pace.seed, pace.members, pace.sends_per_second).await?;
    let moments = do_faults(case.fault, stage, &mut crowd, pace, &mut dice).await?;
    let scene = Arc::clone(&crowd.scene);
    let witnesses = crowd.stop().await?;
    let logs = Arc::new(crowd::read_logs(&stage.postgres, &scene).await?);
    let witnesses = crowd::finish(&scene, witnesses, &logs).await?;
    let measures = measure::measure(&scene, &witnesses, &logs, &moments);
    let log_faults = logs.iter().map(starling_testkit::client::Log::faults).sum();
    let mut outcome = Outcome {
        name,
        about: case.fault.about(),
        notes: Vec::new(),
        warnings: Vec::new(),
        failures: Vec::new(),
        memory: memory(&before, &stage.memory()),
        moments,
        measures,
        took: begun.elapsed(),
    };
    outcome.judge(case.fault.promise(), log_faults);
    outcome.remark(case.fault, stage.counter("starling_catch_ups_total").await - catch_ups);
    Ok(outcome)
}

async fn do_faults(
    fault: Fault,
    stage: &mut Stage,
    crowd: &mut Crowd,
    pace: &Pace,
    dice: &mut StdRng,
) -> Result<Vec<Moment>> {
    let scene = Arc::clone(&crowd.scene);
    let since = |at: Instant| at.duration_since(scene.begun).as_secs_f64();
    let mut moments = Vec::new();
    tokio::time::sleep(pace.calm).await;
    let until = Instant::now() + pace.lasts.saturating_sub(pace.calm * 2);
    if fault == Fault::None {
        tokio::time::sleep(until.saturating_duration_since(Instant::now()) + pace.calm).await;
        crowd.check()?;
        return Ok(moments);
    }
    while moments.is_empty() || Instant::now() < until {
        let drawn = draw(fault, dice);
        let label = drawn.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(" + ");
        let hold = dice.random_range(pace.hold.0..=pace.hold.1);
        let from = Instant::now();
        let mut strikes: Vec<Strike> = Vec::new();
        for fault in &drawn {
            strikes.push(strike::strike(*fault, stage, &scene, dice).await.with_context(|| fault.name())?);
        }
        if drawn.iter().any(|fault| fault.lasts()) {
            strike::hold(&mut strikes, stage, dice, hold).await?;
        }
        // What only makes ready for the next one comes when everything else works again.
        let (later, now): (Vec<Strike>, Vec<Strike>) = strikes.into_iter().partition(Strike::is_for_later);
        for strike in now {
            strike.heal(stage, &scene).await.with_context(|| label.clone())?;
        }
        moments.push(Moment { label: label.clone(), from: since(from), to: since(Instant::now()) });
        for strike in later {
            strike.heal(stage, &scene).await.with_context(|| label.clone())?;
        }
        scene.wait_for_everybody(PATIENCE).await.with_context(|| label.clone())?;
        tokio::time::sleep(pace.calm).await;
        crowd.check()?;
    }
    Ok(moments)
}

/// The fault itself, or what is drawn for a combination.
fn draw(fault: Fault, dice: &mut StdRng) -> Vec<Fault> {
    if fault != Fault::Combination {
        return vec![fault];
    }
    let all: Vec<Fault> = Fault::value_variants().iter().copied().filter(|fault| fault.combines()).collect();
    let count = dice.random_range(2..=3);
    let mut drawn: Vec<Fault> = all.choose_multiple(dice, count).copied().collect();
    drawn.shuffle(dice);
    // Of what is done to Redis itself one thing is enough: a server that is dead can't be stopped.
    let mut servers = 0;
    drawn.retain(|fault| {
        let server = matches!(fault, Fault::RedisStop | Fault::RedisKill | Fault::RedisFlush);
        servers += usize::from(server);
        !server || servers == 1
    });
    // The same for PostgreSQL, whose connections can't be cut while it is down.
    if drawn.contains(&Fault::PostgresStop) {
        drawn.retain(|fault| *fault != Fault::PostgresKillBackends);
    }
    drawn
}

impl Outcome {
    /// Whether nothing was lost, doubled, swapped, altered or unkept, and everything recovered.
    pub fn is_sound(&self) -> bool {
        self.failures.is_empty()
    }

    /// One that could not be carried to its end.
    pub fn broken(case: Case, error: &anyhow::Error, took: Duration) -> Self {
        Self {
            name: case.name(),
            about: case.fault.about(),
            measures: Measures::default(),
            moments: Vec::new(),
            memory: Vec::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
            failures: vec![format!("{error:#}")],
            took,
        }
    }

    fn judge(&mut self, promise: Promise, log_faults: u64) {
        let (measures, verdict) = (&self.measures, &self.measures.verdict);
        if !verdict.is_clean() {
            self.failures.push(verdict.to_string());
        }
        if log_faults > 0 {
            self.failures.push(format!("the log itself has {log_faults} faults"));
        }
        if verdict.acknowledged < measures.sent || measures.sent < 100 {
            self.failures.push(format!("{} sends, {} acknowledged", measures.sent, verdict.acknowledged));
        }
        match measures.recover {
            None => self.warnings.push("full speed was not seen again before the next fault".to_owned()),
            Some(took) if took > promise.recovered_within.as_secs_f64() => {
                self.warnings
                    .push(format!("recovered after {took:.1} s, not {:?}", promise.recovered_within));
            }
            Some(_) => {}
        }
        if let Some(within) = promise.shown_within {
            let worst = measures.deliver_meanwhile.max;
            if worst > within.as_secs_f64() {
                self.warnings.push(format!(
                    "while it lasted, a message took {worst:.1} s to somebody connected, not {within:?}"
                ));
            }
        }
        if let Some(within) = promise.interruption {
            let worst = measures.handovers.max;
            if worst > within.as_secs_f64() {
                self.warnings.push(format!("a client that followed draining saw nothing for {worst:.2} s"));
            }
        }
    }

    fn remark(&mut self, fault: Fault, catch_ups: f64) {
        let Measures { back, handovers, refused, afresh, cuts, deliver_meanwhile, .. } = &self.measures;
        if let (Fault::KillNode | Fault::Storm, Some(back)) = (fault, back) {
            self.notes.push(format!(
                "of {} clients without a socket half were back after {:.2} s, 99 % after {:.2} s, all after {:.2} s",
                back.clients, back.half, back.most, back.all
            ));
        }
        if handovers.count > 0 {
            self.notes.push(format!(
                "{} clients followed draining: interrupted for {} at p50, {} at most",
                handovers.count,
                milliseconds(handovers.p50),
                milliseconds(handovers.max)
            ));
        }
        if deliver_meanwhile.count > 0 {
            self.notes.push(format!(
                "while it lasted, messages took {} at p99 to whom was connected, {} at most",
                milliseconds(deliver_meanwhile.p99),
                milliseconds(deliver_meanwhile.max)
            ));
        }
        if fault == Fault::SlowReader {
            self.notes.push(format!("{catch_ups:.0} times somebody was served from the log"));
            if catch_ups == 0.0 {
                self.failures
                    .push("nobody was so slow that the node noticed: nothing is shown by this".to_owned());
            }
        }
        if fault == Fault::Combination {
            let drawn: Vec<&str> = self.moments.iter().map(|moment| moment.label.as_str()).collect();
            self.notes.push(format!("drawn: {}", drawn.join("; ")));
        }
        let away = &self.measures.away;
        if away.count > 0 {
            self.notes.push(format!(
                "{} times a client came back: {} at p50, {} at p99, {} at most",
                away.count,
                milliseconds(away.p50),
                milliseconds(away.p99),
                milliseconds(away.max)
            ));
        }
        let mut counts = vec![format!("{cuts} sockets cut by their clients at random")];
        counts.extend(self.measures.ends.iter().map(|(how, count)| format!("{count} {how}")));
        if *refused > 0 {
            counts.push(format!("{refused} sends refused for a while"));
        }
        if *afresh > 0 {
            counts.push(format!("{afresh} sessions begun afresh"));
        }
        self.notes.push(counts.join(", "));
    }
}

/// Seconds in words.
pub fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        ms if ms < 0.05 => "0 ms".to_owned(),
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

fn memory(before: &[(String, u64)], after: &[(String, u64)]) -> Vec<Memory> {
    let find = |list: &[(String, u64)], name: &str| {
        list.iter().find(|(known, _)| known == name).map(|(_, bytes)| *bytes)
    };
    let gone = before.iter().map(|(node, bytes)| Memory {
        node: node.clone(),
        before: Some(*bytes),
        after: find(after, node),
    });
    let new = after.iter().filter(|(node, _)| find(before, node).is_none());
    let new = new.map(|(node, bytes)| Memory { node: node.clone(), before: None, after: Some(*bytes) });
    gone.chain(new).collect()
}

/// FNV-1a: the same for the same name on every machine and in every build.
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_again() {
        let draws = |seed| -> Vec<Vec<Fault>> {
            let mut dice = StdRng::seed_from_u64(seed);
            (0..50).map(|_| draw(Fault::Combination, &mut dice)).collect()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        assert!(draws(7).iter().all(|drawn| !drawn.is_empty() && drawn.iter().all(|fault| fault.combines())));
    }
}
