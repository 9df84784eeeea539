//! What the pages of all kinds of load have in common.

use std::fmt::Write;

use starling_charts::{Chart, Line, Scale, escape};

use crate::measure::{Observation, Observed, Verdict};

/// A page: what ran, how it turned out, figures, charts.
pub struct Sheet<'a> {
    /// The name of the scenario.
    pub name: &'a str,
    /// What it shows.
    pub about: &'a str,
    /// What it is, in a few words.
    pub in_short: &'a str,
    /// Whether the run met its criteria.
    pub passed: bool,
    /// Reasons to doubt the measurement.
    pub doubts: &'a [String],
    /// The figures that matter most, with their names, as HTML.
    pub figures: &'a [(&'static str, String)],
    /// How each criterion turned out.
    pub verdicts: &'a [Verdict],
    /// The charts.
    pub charts: &'a [Chart<'static>],
    /// The result as text.
    pub text: &'a str,
    /// The scenario as a file.
    pub scenario: &'a str,
}

impl Sheet<'_> {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let verdict = if self.passed { ("passed", "Passed") } else { ("failed", "Failed") };
        let mut out = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{name} – Starling load test</title><style>{STYLE}{}</style><main><header><p class=\"kicker\">Starling load test</p>\
             <h1>{name} <span class=\"{}\">{}</span></h1><p>{}</p><p class=\"short\">{}</p></header>",
            starling_charts::STYLE,
            verdict.0,
            verdict.1,
            escape(self.about),
            escape(self.in_short),
            name = escape(self.name),
        );
        for doubt in self.doubts {
            let _ = write!(out, "<p class=\"doubt\">{}</p>", escape(doubt));
        }
        let cells =
            self.figures.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
        let _ = write!(out, "<dl>{}</dl>{}", cells.collect::<String>(), criteria(self.verdicts));
        out.push_str("<section class=\"charts\">");
        for chart in self.charts {
            out.push_str(&chart.html());
        }
        let _ = write!(
            out,
            "</section><details><summary>All figures</summary><pre>{}</pre></details>\
             <details><summary>The scenario</summary><pre>{}</pre></details></main></html>",
            escape(self.text),
            escape(self.scenario)
        );
        out
    }
}

fn criteria(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return String::new();
    }
    let rows = verdicts.iter().map(|verdict| {
        let (class, word) = if verdict.passed { ("passed", "ok") } else { ("failed", "failed") };
        let measured = verdict.measured.map_or("not measured".to_owned(), |measured| format!("{measured:.2}"));
        format!(
            "<tr><td><code>{}</code><td class=\"number\">{}<td class=\"number\">{measured}<td class=\"{class}\">{word}",
            verdict.criterion, verdict.limit
        )
    });
    format!(
        "<table><thead><tr><th>Criterion<th class=\"number\">At most<th class=\"number\">Measured<th></thead><tbody>{}</tbody></table>",
        rows.collect::<String>()
    )
}

/// A chart without marks.
pub fn chart(
    title: &'static str,
    unit: &'static str,
    scale: Scale,
    lines: impl IntoIterator<Item = Line>,
) -> Chart<'static> {
    Chart { title, unit, scale, labels: Vec::new(), marks: Vec::new(), lines: lines.into_iter().collect() }
}

/// A line for each server that was observed.
pub fn usage_lines(observed: &Observed, value: fn(&Observation) -> f64) -> Vec<Line> {
    let sources = observed.0.iter().map(|(source, seconds)| Line {
        name: source.clone(),
        points: seconds.iter().map(|(at, one)| (f64::from(*at), value(one))).collect(),
    });
    sources.collect()
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#16202b;--soft:#5d6b7a;--paper:#fff;--card:#f5f7f9;--mark:#f4c95d44;--rule:#dde3e9;--good:#1a7f4b;--bad:#b42318;
--c0:#2563eb;--c1:#d97706;--c2:#b91c1c;--c3:#0f766e;--c4:#7c3aed;--c5:#475569}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#93a1b0;--paper:#11171d;--card:#1a222b;--mark:#f4c95d2b;--rule:#2b3641;--good:#4ade80;--bad:#f87171;
--c0:#60a5fa;--c1:#fbbf24;--c2:#f87171;--c3:#2dd4bf;--c4:#a78bfa;--c5:#94a3b8}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 20px 64px}h1{font-size:30px;margin:0 0 8px}.kicker{color:var(--soft);margin:0;font-size:14px}
h1 span{font-size:15px;font-weight:600;vertical-align:middle;padding:3px 10px;border-radius:999px;border:1px solid currentColor;margin-left:8px}
header p{margin:0}.short{color:var(--soft);font-weight:400}.passed{color:var(--good)}.failed{color:var(--bad)}
.doubt{border-left:4px solid var(--c1);background:var(--card);padding:10px 14px;margin:20px 0 0}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:24px 0}
dl div{background:var(--card);border-radius:10px;padding:12px 16px}dt{color:var(--soft);font-size:13px}dd{margin:0;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;margin:0 0 24px}th,td{text-align:left;padding:6px 12px;border-bottom:1px solid var(--rule)}th{color:var(--soft);font-weight:500;font-size:13px}
.number{text-align:right;font-variant-numeric:tabular-nums}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:20px}
details{margin-top:20px}summary{cursor:pointer;color:var(--soft)}pre{overflow:auto;background:var(--card);border-radius:10px;padding:14px 16px;font-size:13px}";
