//! The tables of jobs.

use std::fmt::Write;

use super::results::{JobsComparison, JobsRun};
use super::system::{JobsScenario, System};
use crate::report::{Table, about};
use crate::svg::number;

/// A column: heading, figure, and whether the ratio to Starling stands beside it.
struct Column {
    heading: &'static str,
    figure: fn(&JobsRun) -> Option<f64>,
    ratio: bool,
}

fn column(heading: &'static str, figure: fn(&JobsRun) -> Option<f64>) -> Column {
    Column { heading, figure, ratio: false }
}

fn ratio(heading: &'static str, figure: fn(&JobsRun) -> Option<f64>) -> Column {
    Column { ratio: true, ..column(heading, figure) }
}

fn columns(scenario: JobsScenario) -> Vec<Column> {
    let all = ratio("µs a job, all processes", |run| Some(run.done.us_per_job()));
    let database = column("of that the database", |run| Some(run.done.database_us_per_job()));
    match scenario {
        JobsScenario::Idle => vec![
            ratio("begun after, p50 ms", |run| Some(run.done.p50_ms)),
            column("p90 ms", |run| Some(run.done.p90_ms)),
            column("p99 ms", |run| Some(run.done.p99_ms)),
            all,
            database,
        ],
        JobsScenario::Drain => vec![
            ratio("jobs done a second", |run| Some(run.done.rate())),
            all,
            database,
            ratio("jobs added a second", |run| run.added.as_ref().map(super::results::Part::rate)),
        ],
        JobsScenario::Steady => {
            vec![
                ratio("jobs a second", |run| Some(run.done.rate())),
                column("begun after, p50 ms", |run| Some(run.done.p50_ms)),
                all,
                database,
            ]
        }
    }
}

fn title(scenario: JobsScenario, comparison: &JobsComparison) -> String {
    let load = &comparison.load;
    match scenario {
        JobsScenario::Idle => format!("{} jobs a second, {} workers that wait", load.rate, load.at_once),
        JobsScenario::Drain => {
            format!("{} jobs wait, and are done {} at a time", number(load.jobs.into()), load.at_once)
        }
        JobsScenario::Steady => format!(
            "Jobs are added {} at a time and done {} at a time, as fast as it goes ({} not done at any time)",
            load.adders, load.at_once, load.outstanding
        ),
    }
}

/// The table of a scenario: medians, and what they are divided by those of Starling over HTTP.
pub fn table(comparison: &JobsComparison, scenario: JobsScenario) -> Table {
    let columns = columns(scenario);
    let mut head = vec!["system".to_owned()];
    for column in &columns {
        head.push(column.heading.to_owned());
        if column.ratio {
            head.push("to Starling".to_owned());
        }
    }
    let mut systems: Vec<System> =
        comparison.runs.iter().filter(|run| run.scenario == scenario).map(|run| run.system).collect();
    systems.sort();
    systems.dedup();
    let row = |system: &System| {
        let mut row = vec![system.name().to_owned()];
        for column in &columns {
            let own = comparison.median(*system, scenario, column.figure);
            row.push(own.map_or("–".to_owned(), number));
            if column.ratio {
                let starling = comparison.median(System::Starling, scenario, column.figure);
                let ratio = own.zip(starling).filter(|(_, by)| *by > 0.0).map(|(own, by)| own / by);
                row.push(ratio.map_or("–".to_owned(), |ratio| format!("{} ×", number(ratio))));
            }
        }
        row
    };
    Table { head, rows: systems.iter().map(row).collect() }
}

/// The comparison in Markdown.
pub fn markdown(comparison: &JobsComparison) -> String {
    let mut out = format!("Measured on {}\n", about(&comparison.about));
    for scenario in [JobsScenario::Idle, JobsScenario::Drain, JobsScenario::Steady] {
        let table = table(comparison, scenario);
        if !table.rows.is_empty() {
            let _ = write!(out, "\n**{}**\n\n{}", title(scenario, comparison), table.markdown());
        }
    }
    let faults = comparison.runs.iter().filter_map(|run| Some((run, run.fault.as_ref()?)));
    let faults: Vec<String> = faults
        .map(|(run, fault)| format!("{} in “{}”: {fault}", run.system.name(), run.scenario.name()))
        .collect();
    let _ = write!(out, "\nRuns: {}; runs that do not count: {}.", comparison.runs.len(), faults.len());
    for fault in faults {
        let _ = write!(out, "\n- {fault}");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::results::{JobsLoad, Part};

    fn run(system: System, jobs: u64, fault: Option<&str>) -> JobsRun {
        JobsRun {
            system,
            scenario: JobsScenario::Steady,
            round: 0,
            fault: fault.map(str::to_owned),
            done: Part { jobs, seconds: 2.0, postgres_us: 100.0 * jobs as f64, ..Part::default() },
            added: None,
        }
    }

    #[test]
    fn the_table_divides_by_starling_and_leaves_out_what_does_not_count() {
        let runs = vec![
            run(System::Starling, 2_000, None),
            run(System::PgBoss, 500, None),
            run(System::PgBoss, 90_000, Some("3 jobs lost")),
            run(System::Bullmq, 90_000, Some("1 job twice")),
        ];
        let all = JobsComparison {
            runs,
            load: JobsLoad { outstanding: 256, ..JobsLoad::default() },
            ..JobsComparison::default()
        };
        let table = table(&all, JobsScenario::Steady);
        assert_eq!(table.rows[0][..3], ["Starling, over HTTP", "1,000", "1 ×"]);
        assert_eq!(table.rows[1][..3], ["pg-boss, one by one", "250", "0.25 ×"]);
        assert_eq!(table.rows[2][1], "–");
        let text = markdown(&all);
        assert!(text.contains("runs that do not count: 2") && text.contains("3 jobs lost"), "{text}");
    }
}
