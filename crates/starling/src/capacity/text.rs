//! A plan for people.

use std::fmt::Write;

use super::constants as c;
use super::model::{Demand, Plan};
use super::prices::{Money, Prices};

/// Uses of an engine that are worth a line.
const WORTH_NAMING: f64 = 0.25;

/// The plan in some lines. `examples`: the prices are those that the program contains.
pub fn text(demand: &Demand, plan: &Plan, prices: &Prices, money: &Money, examples: bool) -> String {
    let mut out = format!(
        "{} users, {} online at the peak; {} conversations of {}; {} messages a second, {} deliveries a second\n\n",
        number(demand.users),
        number(plan.sessions),
        number(demand.conversations),
        number(demand.members),
        number(demand.messages),
        number(plan.deliveries),
    );
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<12} {value}");
    };
    let (cores, gib) = (c::NODE_CORES.value, c::NODE_GIB.value);
    row(
        "nodes",
        format!(
            "{} with {cores} cores and {gib} GiB each (decided by {}); {} of them hear a message",
            number(plan.nodes),
            plan.nodes_by,
            number(plan.nodes_hearing)
        ),
    );
    row(
        "Redis",
        format!(
            "{}, {} GiB, {} of output",
            counted(plan.redis_shards, "shard"),
            number(plan.redis_gib),
            bits(plan.redis_output * 8.0)
        ),
    );
    row(
        "PostgreSQL",
        format!(
            "{}, {} GiB of disk more each month, {} GiB for {}, {} of write-ahead log",
            counted(plan.postgres_cores, "core"),
            number(plan.disk_gib_month),
            number(plan.disk_gib),
            counted(demand.months, "month"),
            bits(plan.wal * 8.0)
        ),
    );
    row("network", format!("{} to the clients, {} GiB a month", bits(plan.bits), number(plan.traffic_gib)));
    let parts: Vec<String> =
        money.parts.iter().map(|(name, part)| format!("{name} {}", number(*part))).collect();
    let note = if examples { "; the prices are examples, see --prices" } else { "" };
    row(
        "money",
        format!("{} {} a month ({}{note})", number(money.total()), prices.currency, parts.join(", ")),
    );
    let _ = writeln!(out, "\nWhat is used up first");
    let worth =
        plan.engines.iter().enumerate().filter(|(index, one)| *index == 0 || one.used >= WORTH_NAMING);
    for (_, engine) in worth {
        if engine.used > 1.0 {
            let _ = writeln!(out, "  {:>8} × {}, so: {}", number(engine.used), engine.name, engine.then);
        } else {
            let _ = writeln!(out, "  {:>8} % of {}", number(engine.used * 100.0), engine.name);
        }
    }
    let far = if plan.extrapolation <= 1.0 {
        "This lies within what was measured".to_owned()
    } else {
        format!("This is {} times the largest demand that was measured", number(plan.extrapolation))
    };
    let _ = writeln!(
        out,
        "\n{far}, {} on {}.\nTake it as a first estimate, and measure your own traffic with starling-loadtest before you buy.",
        c::DATE,
        c::MACHINE
    );
    out
}

fn counted(count: f64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1.0 { "" } else { "s" })
}

fn bits(per_second: f64) -> String {
    match per_second {
        per_second if per_second >= 1e9 => format!("{} Gbit/s", number(per_second / 1e9)),
        per_second => format!("{} Mbit/s", number(per_second / 1e6)),
    }
}

/// A number that is easy to read: at most three digits that count, with a word for millions.
fn number(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{} billion", short(value / 1e9)),
        value if value >= 1e6 => format!("{} million", short(value / 1e6)),
        value if value >= 1e4 => format!("{} thousand", short(value / 1e3)),
        value => short(value),
    }
}

fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => whole(&format!("{value:.1}")),
        value if value >= 0.01 => whole(&format!("{value:.2}")),
        _ => "less than 0.01".to_owned(),
    }
}

fn whole(text: &str) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
