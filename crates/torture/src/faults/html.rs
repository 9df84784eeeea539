//! The outcome as a self-contained HTML page.

use std::fmt::Write;

use starling_charts::{Chart, Line, Mark, Scale, escape};

use super::measure::{FaultWindow, Measures, Percentiles, Point};
use super::outcome::{Outcome, milliseconds};
use super::report::Run;
use super::table;

const TITLES: [&str; 14] = [
    "fault",
    "sent",
    "acked",
    "delivered",
    "lost",
    "doubled",
    "swapped",
    "altered",
    "unkept",
    "repeated",
    "noticed",
    "recovered",
    "delivery p50 / p99 / max",
    "memory, MB",
];

/// Renders the page.
pub fn page(run: &Run, outcomes: &[Outcome]) -> String {
    let sound = outcomes.iter().all(Outcome::is_sound);
    let sum = |of: fn(&Measures) -> u64| outcomes.iter().map(|outcome| of(&outcome.measures)).sum::<u64>();
    let wrong = sum(|m| {
        let v = &m.verdict;
        v.lost + v.doubled + v.out_of_order + v.altered + v.strays + v.unkept + m.repeated
    });
    let done = match outcomes.len() {
        done if done == run.cases => done.to_string(),
        done => format!("{done} of {}", run.cases),
    };
    let figures = [
        ("faults", done),
        ("sends acknowledged", thousands(sum(|m| m.verdict.acknowledged))),
        ("messages shown", thousands(sum(|m| m.verdict.messages))),
        ("lost, doubled, swapped, altered, unkept, repeated", thousands(wrong)),
    ];
    let figures: String = figures
        .iter()
        .map(|(label, figure)| format!("<div><b>{figure}</b><span>{label}</span></div>"))
        .collect();
    let (class, word) = if sound { ("good", "It did not break") } else { ("bad", "It broke") };
    let build = if run.release { "release" } else { "debug" };
    let sections: String = outcomes.iter().enumerate().map(|(at, outcome)| section(at, outcome)).collect();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Starling under fault</title><style>{STYLE}{}</style></head><body><main>\
         <header><p class=\"eyebrow\">Starling under fault</p><h1 class=\"{class}\">{word}</h1>\
         <p class=\"lead\">{} nodes of a {build} build behind HAProxy, {} clients in {} conversations of two tenants, {} sends \
         a second, each fault for {} s. Seed {}.</p><div class=\"figures\">{figures}</div></header>\
         <div class=\"wide\"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>\
         {sections}</main></body></html>\n",
        starling_charts::STYLE,
        run.nodes,
        run.members,
        super::workload::CONVERSATIONS * super::workload::TENANTS.len(),
        run.sends_per_second,
        run.seconds,
        run.seed,
        TITLES.iter().map(|title| format!("<th>{title}</th>")).collect::<String>(),
        outcomes.iter().enumerate().map(|(at, outcome)| row(at, outcome)).collect::<String>(),
    )
}

fn row(at: usize, outcome: &Outcome) -> String {
    let mut cells = format!("<th><a href=\"#f{at}\">{}</a></th>", escape(&outcome.name));
    for (index, cell) in table::cells(outcome).iter().enumerate() {
        let class = match (table::ZEROS.contains(&index), cell == "0") {
            (true, true) => " class=\"good\"",
            (true, false) => " class=\"bad\"",
            (false, _) => "",
        };
        let _ = write!(cells, "<td{class}>{}</td>", escape(cell));
    }
    format!("<tr>{cells}</tr>")
}

fn section(at: usize, outcome: &Outcome) -> String {
    let list = |class: &str, lines: &[String]| -> String {
        lines.iter().map(|line| format!("<li class=\"{class}\">{}</li>", escape(line))).collect()
    };
    format!(
        "<section id=\"f{at}\"><h2>{}</h2><p>{}</p>{}<ul>{}{}{}</ul></section>",
        escape(&outcome.name),
        escape(&outcome.about),
        charts(&outcome.measures.curve, &outcome.windows),
        list("bad", &outcome.failures),
        list("late", &outcome.warnings),
        list("", &outcome.notes),
    )
}

/// Returns charts of the latency and of the sends over time, with the faults marked.
fn charts(curve: &[Point], windows: &[FaultWindow]) -> String {
    let interval = curve.get(1).map_or(1.0, |second| second.at);
    let marks = || -> Vec<Mark> {
        let mark = |window: &FaultWindow| {
            let lasts = milliseconds(window.to - window.from);
            let name = format!("{} at {:.1} s, for {lasts}", window.label, window.from);
            Mark { from: window.from, to: window.to, name }
        };
        windows.iter().map(mark).collect()
    };
    let line = |name: &str, of: fn(&Point) -> Option<f64>| Line {
        name: name.to_owned(),
        points: curve.iter().filter_map(|point| Some((point.at + interval / 2.0, of(point)?))).collect(),
    };
    let latency = Chart {
        title: "Delivery time",
        unit: "ms, logarithmic, from the commit until another client was shown the message",
        scale: Scale::Logarithmic,
        labels: Vec::new(),
        marks: marks(),
        lines: vec![
            line("p50", |point| Some(delivered(point)?.p50 * 1e3)),
            line("p99", |point| Some(delivered(point)?.p99 * 1e3)),
            line("longest", |point| Some(delivered(point)?.max * 1e3)),
        ],
    };
    let sends = Chart {
        title: "Sends",
        unit: "a second",
        scale: Scale::Linear,
        labels: Vec::new(),
        marks: marks(),
        lines: vec![
            line("acknowledged", |point| Some(point.acknowledged)),
            line("refused", |point| Some(point.refused)),
        ],
    };
    format!("<div class=\"charts\">{}{}</div>", latency.html(), sends.html())
}

fn delivered(point: &Point) -> Option<Percentiles> {
    (point.deliver.count > 0).then_some(point.deliver)
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

const STYLE: &str = "
:root{color-scheme:light dark;--back:#fbfaf8;--card:#fff;--ink:#1d2226;--soft:#667079;--rule:#e4e1db;--good:#1a7f4b;--bad:#c0322b;
--late:#a3690a;--c0:#1f6feb;--c1:#8a63d2;--c2:#c9873b;--mark:#f4c95d44}
@media(prefers-color-scheme:dark){:root{--back:#14171a;--card:#1b1f23;--ink:#e8e6e1;--soft:#98a2ab;--rule:#2c3238;--good:#4cc38a;
--bad:#ff6b62;--late:#e0a33e;--c0:#6cb0ff;--c1:#b497f0;--c2:#e0a76a;--mark:#f4c95d2b}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1440px;margin:0 auto;padding:40px 24px 80px}.eyebrow{margin:0;color:var(--soft);letter-spacing:.06em;font-size:13px}
h1{margin:4px 0 8px;font-size:38px;line-height:1.15;letter-spacing:-.02em}.good{color:var(--good)}.bad{color:var(--bad)}
.lead{max-width:70ch;color:var(--soft);margin:0 0 24px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin-bottom:28px}
.figures div{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px}
.figures b{display:block;font-size:26px;font-variant-numeric:tabular-nums;line-height:1.2}.figures span{color:var(--soft);font-size:13px}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:6px 8px;text-align:right;border-top:1px solid var(--rule)}thead th{border:0;color:var(--soft);font-weight:500}
tr>:first-child{text-align:left;position:sticky;left:0;background:var(--card)}tr>:last-child{text-align:left}tbody th{font-weight:600}
a{color:inherit;text-decoration-color:var(--rule);text-underline-offset:3px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:12px}
section{margin-top:18px;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:16px 18px 12px}
h2{margin:0;font-size:18px}section p{margin:0 0 8px;color:var(--soft)}
ul{margin:6px 0 0;padding:0;list-style:none;font-size:13px;color:var(--soft)}li{padding:1px 0}li.bad{color:var(--bad);font-weight:600}li.late{color:var(--late)}
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::report::tests::{outcome, run};

    #[test]
    fn the_page_stands_alone_and_shows_what_happened() {
        let run = run(1);
        let mut bad = outcome("storm");
        let good = page(&run, &[outcome("kill-node")]);
        assert!(
            good.contains("It did not break")
                && good.contains("<svg")
                && good.contains("&lt;breaks&gt; &amp; is")
        );
        assert!(!good.contains("http") && !good.contains("<script") && !good.contains("NaN"));
        bad.failures.push("1 lost".to_owned());
        assert!(page(&run, &[bad]).contains("It broke"));
    }

    #[test]
    fn figures_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
    }
}
