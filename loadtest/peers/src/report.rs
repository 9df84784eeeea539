//! Results as tables: in Markdown for the pages, and in HTML for a report that needs nothing from outside.

use std::fmt::Write;

use starling_charts::escape;
use starling_peers_load::Outcome;

use crate::peer::Peer;
use crate::results::{About, Comparison, Growth};
use crate::scenario::Scenario;
use crate::studies::{STUDIES, Study};
use crate::svg::{self, number};

/// A table.
#[derive(Debug, PartialEq)]
pub struct Table {
    /// The headings.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// A column: its heading, its figure, and whether the ratio to the limit stands beside it.
struct Column {
    heading: &'static str,
    figure: fn(&Outcome) -> f64,
    ratio: bool,
}

fn column(heading: &'static str, figure: fn(&Outcome) -> f64) -> Column {
    Column { heading, figure, ratio: false }
}

/// A figure for each message that was sent.
fn per_message(total: f64, outcome: &Outcome) -> f64 {
    total / outcome.sent.max(1) as f64
}

fn columns(scenario: Scenario) -> Vec<Column> {
    if scenario.is_idle() {
        return vec![
            Column { heading: "bytes a connection", figure: |outcome| outcome.connection_bytes, ratio: true },
            Column {
                heading: "node µs a handshake",
                figure: |outcome| outcome.handshake_nodes_us,
                ratio: true,
            },
            column("Redis µs a handshake", |outcome| outcome.handshake_redis_us),
            column("PostgreSQL µs a handshake", |outcome| outcome.handshake_postgres_us),
            column("node µs a second while idle", |outcome| outcome.idle_us_per_second),
        ];
    }
    let node = Column { heading: "node µs a delivery", figure: Outcome::nodes_us_per_delivery, ratio: true };
    let redis = column("Redis µs a message", |outcome| per_message(outcome.redis_us, outcome));
    let commands =
        column("Redis commands a message", |outcome| per_message(outcome.redis_commands as f64, outcome));
    let p99 = column("delivered, p99 ms", |outcome| outcome.delivery_p99_ms.unwrap_or(0.0));
    let mut columns =
        vec![column("messages a second", |outcome| outcome.messages_per_second), node, redis, commands];
    if scenario.is_durable() {
        columns.push(column("PostgreSQL µs a message", |outcome| per_message(outcome.postgres_us, outcome)));
        columns.push(column("acknowledged, p99 ms", |outcome| outcome.acknowledge_p99_ms.unwrap_or(0.0)));
    }
    columns.push(p99);
    columns
}

/// The scenario of the limit program with which one is compared: a durable one with the one that stores nothing.
fn floor(scenario: Scenario) -> Scenario {
    match scenario {
        Scenario::Durable => Scenario::Rooms,
        Scenario::DurableSteady => Scenario::RoomsSteady,
        Scenario::DurableIdle | Scenario::IdleMsgpack => Scenario::Idle,
        other => other,
    }
}

/// The table of a scenario: medians, and ratios to the limit in the same run of all.
pub fn table(comparison: &Comparison, scenario: Scenario) -> Table {
    let columns = columns(scenario);
    let mut head = vec!["server".to_owned()];
    for column in &columns {
        head.push(column.heading.to_owned());
        if column.ratio {
            head.push("to the limit".to_owned());
        }
    }
    let row = |peer: &Peer| {
        let mut row = vec![peer.name().to_owned()];
        let limited = comparison.counting(*peer, scenario).iter().any(|run| run.generator_was_limit);
        for (index, column) in columns.iter().enumerate() {
            let own = comparison.median(*peer, scenario, column.figure);
            let sign = if index == 0 && limited && !scenario.is_idle() { "≥ " } else { "" };
            row.push(own.map_or("–".to_owned(), |own| format!("{sign}{}", number(own))));
            if column.ratio {
                let limit = comparison.median(Peer::Limit, floor(scenario), column.figure);
                let ratio = own.zip(limit).filter(|(_, limit)| *limit > 0.0).map(|(own, limit)| own / limit);
                row.push(ratio.map_or("–".to_owned(), |ratio| format!("{} ×", number(ratio))));
            }
        }
        row
    };
    Table { head, rows: comparison.peers(scenario).iter().map(row).collect() }
}

impl Table {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> =
            (0..self.head.len()).map(|index| if index == 0 { "---" } else { "---:" }.to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        line(&self.head) + &line(&rule) + &rows
    }

    fn html(&self) -> String {
        let cells = |tag: &str, cells: &[String]| -> String {
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
        };
        let rows: String = self.rows.iter().map(|row| format!("<tr>{}</tr>", cells("td", row))).collect();
        format!("<table><tr>{}</tr>{rows}</table>", cells("th", &self.head))
    }
}

/// The scenarios that are drawn, with the names of their charts.
const CHARTS: [(Scenario, &str); 5] = [
    (Scenario::FanOut, "fan-out"),
    (Scenario::FanOutSteady, "fan-out-steady"),
    (Scenario::Rooms, "rooms"),
    (Scenario::RoomsSteady, "rooms-steady"),
    (Scenario::Idle, "idle"),
];

/// What was measured, where and how.
pub fn about(about: &About) -> String {
    format!(
        "{}, on {}. {} s for each run, {} of each.",
        about.date,
        about.machine,
        number(about.seconds),
        if about.repetitions == 1 { "one".to_owned() } else { about.repetitions.to_string() }
    )
}

/// The runs that do not count, with the reasons.
fn faults(comparison: &Comparison) -> Vec<String> {
    let faulty = comparison.runs.iter().filter_map(|run| Some((run, run.fault.as_ref()?)));
    faulty.map(|(run, fault)| format!("{} in “{}”: {fault}", run.peer.name(), run.scenario.title())).collect()
}

/// The comparison in Markdown.
pub fn comparison(comparison: &Comparison) -> String {
    let mut out = format!("Measured on {}\n", about(&comparison.about));
    for scenario in comparison.scenarios() {
        let _ = write!(out, "\n**{}**\n\n{}", scenario.title(), table(comparison, scenario).markdown());
    }
    for (scenario, name) in CHARTS {
        if !bars(comparison, scenario, name).1.is_empty() {
            let _ = write!(out, "\n![{}](images/peers-{name}.svg)\n", scenario.title());
        }
    }
    let faults = faults(comparison);
    let _ = write!(out, "\nRuns: {}; runs that do not count: {}.", comparison.runs.len(), faults.len());
    for fault in faults {
        let _ = write!(out, "\n- {fault}");
    }
    out.push('\n');
    out
}

/// The figures of a growth study in Markdown.
fn study_table(growth: &Growth, study: &Study) -> Table {
    let points: Vec<_> =
        growth.points.iter().filter(|point| point.study == study.name && point.fault.is_none()).collect();
    let mut head = vec![study.axis.to_owned(), "line".to_owned()];
    head.extend(study.figures.iter().map(|(_, heading)| (*heading).to_owned()));
    let row = |point: &&crate::results::Point| {
        let mut row = vec![number(point.amount), point.line.clone()];
        let figure = |name: &str| point.figures.get(name).map_or("–".to_owned(), |value| number(*value));
        row.extend(study.figures.iter().map(|(name, _)| figure(name)));
        row
    };
    Table { head, rows: points.iter().map(row).collect() }
}

/// The growth studies in Markdown, with links to their charts.
pub fn growth(growth: &Growth) -> String {
    let mut out = format!("Measured on {}\n", about(&growth.about));
    for study in STUDIES.iter().filter(|study| growth.points.iter().any(|point| point.study == study.name)) {
        let _ =
            write!(out, "\n**{}**\n\n![{}](images/growth-{}.svg)\n\n", study.title, study.title, study.name);
        out.push_str(&study_table(growth, study).markdown());
    }
    out
}

/// The charts: the names of their files, and their text.
pub fn charts(comparison: Option<&Comparison>, growth: Option<&Growth>) -> Vec<(String, String)> {
    let mut charts = Vec::new();
    if let Some(comparison) = comparison {
        for (scenario, name) in CHARTS {
            charts.push(bars(comparison, scenario, name));
        }
        charts.retain(|(_, text)| !text.is_empty());
    }
    if let Some(growth) = growth {
        charts.extend(STUDIES.iter().filter_map(|study| study_chart(growth, study)));
    }
    charts
}

fn bars(comparison: &Comparison, scenario: Scenario, name: &str) -> (String, String) {
    let (unit, figure): (_, fn(&Outcome) -> f64) = if scenario.is_idle() {
        ("bytes a connection", |outcome| outcome.connection_bytes)
    } else {
        ("processor time of the nodes, µs a delivery", Outcome::nodes_us_per_delivery)
    };
    let peers = comparison.peers(scenario).into_iter();
    let values: Vec<(String, f64)> = peers
        .filter_map(|peer| Some((peer.name().to_owned(), comparison.median(peer, scenario, figure)?)))
        .collect();
    let text = if values.is_empty() { String::new() } else { svg::bars(scenario.title(), unit, &values) };
    (format!("peers-{name}.svg"), text)
}

fn study_chart(growth: &Growth, study: &Study) -> Option<(String, String)> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    let (figure, unit) = study.figures.first()?;
    for point in growth.points.iter().filter(|point| point.study == study.name && point.fault.is_none()) {
        let Some(value) = point.figures.get(*figure) else { continue };
        match lines.iter_mut().find(|(name, _)| *name == point.line) {
            Some((_, points)) => points.push((point.amount, *value)),
            None => lines.push((point.line.clone(), vec![(point.amount, *value)])),
        }
    }
    if lines.is_empty() {
        return None;
    }
    Some((format!("growth-{}.svg", study.name), svg::lines(study.title, unit, study.axis, &lines)))
}

/// The report: tables and charts in one page.
pub fn page(comparison: Option<&Comparison>, growth: Option<&Growth>) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Starling beside its peers</title><style>{STYLE}</style><main><h1>Starling beside its peers</h1>"
    );
    if let Some(comparison) = comparison {
        let _ = write!(out, "<p>{}</p>", escape(&about(&comparison.about)));
        for scenario in comparison.scenarios() {
            let _ =
                write!(out, "<h2>{}</h2>{}", escape(scenario.title()), table(comparison, scenario).html());
        }
        for fault in faults(comparison) {
            let _ = write!(out, "<p>Does not count: {}</p>", escape(&fault));
        }
    }
    if let Some(growth) = growth {
        let _ = write!(out, "<h1>Growth</h1><p>{}</p>", escape(&about(&growth.about)));
        for study in STUDIES {
            let _ = write!(out, "<h2>{}</h2>{}", escape(study.title), study_table(growth, study).html());
        }
    }
    out.push_str("<section>");
    for (_, chart) in charts(comparison, growth) {
        out.push_str(&chart);
    }
    out + "</section></main></html>\n"
}

const STYLE: &str = "
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:0}main{max-width:1180px;margin:0 auto;padding:32px 20px}
table{border-collapse:collapse;width:100%}th,td{padding:6px 12px;border-bottom:1px solid #94a3b855;text-align:right;font-variant-numeric:tabular-nums}
th{font-size:13px;font-weight:500;color:#64748b}th:first-child,td:first-child{text-align:left}h2{font-size:18px;margin-top:32px}
section{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:24px;margin-top:32px}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Run;

    fn run(peer: Peer, us_per_delivery: f64, lost: u64) -> Run {
        let outcome = Outcome {
            seconds: 2.0,
            sent: 100,
            delivered: 500,
            lost,
            nodes_us: us_per_delivery * 500.0,
            messages_per_second: 50.0,
            ..Outcome::default()
        };
        Run::new(peer, Scenario::Rooms, 0, outcome)
    }

    #[test]
    fn the_table_divides_by_the_limit_and_leaves_out_what_does_not_count() {
        let runs = vec![
            run(Peer::Limit, 2.0, 0),
            run(Peer::Starling, 3.0, 0),
            run(Peer::Starling, 900.0, 1),
            run(Peer::Nats, 8.0, 1),
        ];
        let all = Comparison { runs, ..Comparison::default() };
        let table = table(&all, Scenario::Rooms);
        let cell = |row: usize, column: usize| table.rows[row][column].as_str();
        assert_eq!((cell(0, 2), cell(0, 3)), ("2", "1 ×"));
        assert_eq!((cell(1, 0), cell(1, 2), cell(1, 3)), ("Starling", "3", "1.5 ×"));
        assert_eq!((cell(2, 0), cell(2, 2)), ("NATS", "–"), "a server that lost something has no figure");
        let text = comparison(&all);
        assert!(text.contains("runs that do not count: 2") && text.contains("1 deliveries lost"), "{text}");
        let page = page(Some(&all), None);
        assert!(page.contains("<td>1.5 ×</td>") && page.contains("<svg"), "{page}");
    }
}
