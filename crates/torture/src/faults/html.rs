//! The outcome as a self-contained HTML page.

use std::fmt::Write;

use super::measure::{FaultWindow, Measures, Point};
use super::outcome::{Outcome, milliseconds};
use super::report::Run;
use super::table;

/// Size of the drawing and the space for its axes, in its own units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 24.0;
/// Height of the strip below the latency that shows sends per second.
const STRIP: f64 = 34.0;
/// Lower end of the latency axis, in seconds.
const FASTEST: f64 = 0.000_1;

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
         <title>Starling under fault</title><style>{STYLE}</style></head><body><main>\
         <header><p class=\"eyebrow\">Starling under fault</p><h1 class=\"{class}\">{word}</h1>\
         <p class=\"lead\">{} nodes of a {build} build behind HAProxy, {} clients in {} conversations of two tenants, {} sends \
         a second, each fault for {} s. Seed {}.</p><div class=\"figures\">{figures}</div></header>\
         <div class=\"wide\"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>\
         <p class=\"legend\"><i class=\"p50\"></i>p50 <i class=\"p99\"></i>p99 <i class=\"max\"></i>longest \
         <span>from the commit until another client was shown the message</span> \
         <i class=\"acks\"></i>sends acknowledged <i class=\"refusals\"></i>refused, per second \
         <i class=\"fault\"></i>the fault lasts</p>{sections}</main></body></html>\n",
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
        drawing(&outcome.measures.curve, &outcome.windows),
        list("bad", &outcome.failures),
        list("late", &outcome.warnings),
        list("", &outcome.notes),
    )
}

/// Draws the latency over time on a logarithmic axis, the faults behind it, and sends per second below.
fn drawing(curve: &[Point], windows: &[FaultWindow]) -> String {
    let Some(last) = curve.last() else { return String::new() };
    let width = curve.get(1).map_or(1.0, |second| second.at);
    let end = last.at + width;
    let slowest = curve.iter().map(|point| point.deliver.max).fold(0.01, f64::max);
    let decades = (slowest / FASTEST).log10().ceil();
    let x = |at: f64| LEFT + at / end * (WIDTH - LEFT - RIGHT);
    let floor = HEIGHT - BOTTOM - STRIP - 8.0;
    let y = |took: f64| floor - (took.max(FASTEST) / FASTEST).log10() / decades * (floor - TOP);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Latency over time\">");
    for (index, window) in windows.iter().enumerate() {
        let (from, wide) = (x(window.from), (x(window.to) - x(window.from)).max(2.0));
        let _ = write!(
            svg,
            "<rect class=\"fault\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{:.1}\"><title>{} at {:.1} s, for \
             {}</title></rect>",
            HEIGHT - BOTTOM - TOP,
            escape(&window.label),
            window.from,
            milliseconds(window.to - window.from),
        );
        // The names of many faults would overlap.
        if index == 0 || windows.len() <= 3 {
            let _ = write!(
                svg,
                "<text class=\"name\" x=\"{:.1}\" y=\"{}\">{}</text>",
                from + 2.0,
                TOP - 7.0,
                escape(&window.label)
            );
        }
    }
    for decade in 0..=decades as i32 {
        let took = FASTEST * 10_f64.powi(decade);
        let label = if took < 0.000_9 {
            "0.1 ms".to_owned()
        } else if took < 0.9 {
            format!("{:.0} ms", took * 1e3)
        } else {
            format!("{took:.0} s")
        };
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(took) + 3.5,
            y = y(took),
        );
    }
    for second in ticks(end) {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{second} s</text>",
            x(second as f64),
            HEIGHT - 8.0
        );
    }
    let busiest = curve.iter().map(|point| point.acknowledged + point.refused).fold(1.0, f64::max);
    let base = HEIGHT - BOTTOM;
    let bar = (x(width) - x(0.0) - 0.6).max(0.8);
    for point in curve {
        let (acks, refusals) = (point.acknowledged / busiest * STRIP, point.refused / busiest * STRIP);
        for (class, low, high) in [("acks", 0.0, acks), ("refusals", acks, acks + refusals)] {
            if high - low > 0.05 {
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{bar:.1}\" height=\"{:.1}\"/>",
                    x(point.at),
                    base - high,
                    high - low
                );
            }
        }
    }
    for (class, of) in [
        ("max", (|point| point.deliver.max) as fn(&Point) -> f64),
        ("p99", |point| point.deliver.p99),
        ("p50", |point| point.deliver.p50),
    ] {
        let shown = curve.iter().filter(|point| point.deliver.count > 0);
        let points: Vec<String> =
            shown.map(|point| format!("{:.1},{:.1}", x(point.at + width / 2.0), y(of(point)))).collect();
        let _ = write!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
    }
    svg.push_str("</svg>");
    svg
}

/// Seconds between the labels of the axis, for about a dozen labels.
fn ticks(end: f64) -> impl Iterator<Item = u64> {
    let step =
        [1, 2, 5, 10, 30, 60, 120, 300].into_iter().find(|step| end / *step as f64 <= 14.0).unwrap_or(600);
    (0..=end as u64).step_by(step as usize)
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "
:root{color-scheme:light dark;--back:#fbfaf8;--card:#fff;--ink:#1d2226;--soft:#667079;--line:#e4e1db;--good:#1a7f4b;--bad:#c0322b;
--late:#a3690a;--p50:#1f6feb;--p99:#8a63d2;--max:#c9873b;--acks:#b9c8d6;--refusals:#d9534f;--fault:#f4c95d44}
@media(prefers-color-scheme:dark){:root{--back:#14171a;--card:#1b1f23;--ink:#e8e6e1;--soft:#98a2ab;--line:#2c3238;--good:#4cc38a;
--bad:#ff6b62;--late:#e0a33e;--p50:#6cb0ff;--p99:#b497f0;--max:#e0a76a;--acks:#3f4d59;--refusals:#e5605a;--fault:#f4c95d2b}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1440px;margin:0 auto;padding:40px 24px 80px}.eyebrow{margin:0;color:var(--soft);letter-spacing:.06em;font-size:13px}
h1{margin:4px 0 8px;font-size:38px;line-height:1.15;letter-spacing:-.02em}.good{color:var(--good)}.bad{color:var(--bad)}
.lead{max-width:70ch;color:var(--soft);margin:0 0 24px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin-bottom:28px}
.figures div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.figures b{display:block;font-size:26px;font-variant-numeric:tabular-nums;line-height:1.2}.figures span{color:var(--soft);font-size:13px}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:6px 8px;text-align:right;border-top:1px solid var(--line)}thead th{border:0;color:var(--soft);font-weight:500}
tr>:first-child{text-align:left;position:sticky;left:0;background:var(--card)}tr>:last-child{text-align:left}tbody th{font-weight:600}
a{color:inherit;text-decoration-color:var(--line);text-underline-offset:3px}
.legend{display:flex;flex-wrap:wrap;gap:4px 6px;align-items:center;color:var(--soft);font-size:13px;margin:28px 0 0}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-left:12px}.legend .p50{background:var(--p50);margin:0}
.legend .p99{background:var(--p99)}.legend .max{background:var(--max)}.legend .acks,.legend .refusals,.legend .fault{height:11px}
.legend .acks{background:var(--acks)}.legend .refusals{background:var(--refusals)}.legend .fault{background:var(--fault);outline:1px solid var(--line)}
section{margin-top:18px;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px 12px}
h2{margin:0;font-size:18px}section p{margin:0 0 8px;color:var(--soft)}
ul{margin:6px 0 0;padding:0;list-style:none;font-size:13px;color:var(--soft)}li{padding:1px 0}li.bad{color:var(--bad);font-weight:600}li.late{color:var(--late)}
svg{display:block;width:100%;height:auto}svg text{font:10.5px system-ui,sans-serif;fill:var(--soft)}svg .name{fill:var(--ink);font-weight:600}
svg .grid{stroke:var(--line);stroke-width:1}svg .fault{fill:var(--fault)}svg .acks{fill:var(--acks)}svg .refusals{fill:var(--refusals)}
svg polyline{fill:none;stroke-width:1.6;stroke-linejoin:round}svg .p50{stroke:var(--p50)}svg .p99{stroke:var(--p99)}
svg .max{stroke:var(--max);stroke-width:1.1}
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
        assert_eq!(ticks(12.5).last(), Some(12));
        assert_eq!(ticks(600.0).nth(1), Some(60));
    }
}
