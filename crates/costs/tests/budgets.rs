//! What an operation costs is within its budget (`budgets.toml`). Counts are the same on a busy machine.

use anyhow::{Result, ensure};
use starling_costs::{Budget, Counts, Operation, Precision, instructions, server_calls, session_bytes};
use starling_testkit::node::program;

#[tokio::test]
async fn instructions_are_within_their_budget() -> Result<()> {
    let program = tokio::task::spawn_blocking(program).await??;
    let cost = instructions(&program, Precision::Rough).await?;
    let counts = Operation::all().into_iter().filter_map(|of| Some((of.name(), *cost.get(&of)?)));
    within("instructions", &counts.collect::<Counts>())
}

#[tokio::test]
async fn commands_to_redis_and_statements_to_postgresql_are_within_their_budget() -> Result<()> {
    within("servers", &server_calls().await?)
}

#[tokio::test]
async fn the_memory_of_idle_sessions_is_within_its_budget() -> Result<()> {
    let (_, hard) = rlimit::Resource::NOFILE.get()?;
    rlimit::Resource::NOFILE.set(hard, hard)?;
    within("memory", &session_bytes().await?)
}

fn within(section: &str, counts: &[(String, f64)]) -> Result<()> {
    for (name, count) in counts {
        println!("{name:<60} {count:>12.2}");
    }
    let budget = Budget::section(section)?;
    let comparison = budget.compare(counts)?;
    for line in &comparison.below {
        println!("budgets.toml could be lowered: {line}");
    }
    ensure!(comparison.exceeded.is_empty(), "too expensive:\n{}", comparison.exceeded.join("\n"));
    // Control: what costs five times its budget is noticed.
    let tight = budget.times(0.2).compare(counts)?;
    let costly = counts.iter().filter(|(_, count)| *count > 2.0 * budget.allowance());
    ensure!(tight.exceeded.len() + comparison.below.len() >= costly.count(), "{tight:?}");
    Ok(())
}
