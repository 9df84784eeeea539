//! Charts as SVG files of their own, which look right on a light and on a dark page. [`starling_charts`] draws those inside a page.

use std::fmt::Write;

use starling_charts::{escape, nice};

const WIDTH: f64 = 720.0;
/// The height of a bar with its gap.
const BAR: f64 = 26.0;
const LABELS: f64 = 170.0;
const COLOURS: [&str; 6] = ["#2563eb", "#d97706", "#0f766e", "#b91c1c", "#7c3aed", "#64748b"];
const STYLE: &str = "<style>text{font:13px system-ui,sans-serif;fill:#64748b}.t{font-size:15px;font-weight:600}.n{text-anchor:end}\
                     .x{text-anchor:middle}.g{stroke:#94a3b8;stroke-opacity:.35}</style>";

/// Horizontal bars, one for each name.
pub fn bars(title: &str, unit: &str, values: &[(String, f64)]) -> String {
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max).max(1e-9);
    let mut out = begin(title, unit, 44.0 + BAR * values.len() as f64);
    for (index, (name, value)) in values.iter().enumerate() {
        let top = 40.0 + BAR * index as f64;
        let width = (value / most * (WIDTH - LABELS - 80.0)).max(1.0);
        let colour = if name.starts_with("Starling") { COLOURS[0] } else { COLOURS[5] };
        let _ = write!(
            out,
            "<text class=\"n\" x=\"{:.0}\" y=\"{:.0}\">{}</text><rect x=\"{LABELS}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"{:.0}\" \
             fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
            LABELS - 8.0,
            top + 14.0,
            escape(name),
            BAR - 8.0,
            LABELS + width + 6.0,
            top + 14.0,
            number(*value),
        );
    }
    out + "</svg>\n"
}

/// Lines over amounts on a logarithmic axis, or on an even one if the amounts are few and near.
pub fn lines(title: &str, unit: &str, axis: &str, lines: &[(String, Vec<(f64, f64)>)]) -> String {
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 60.0;
    let points = || lines.iter().flat_map(|(_, points)| points.iter());
    let mut amounts: Vec<f64> = points().map(|(amount, _)| *amount).collect();
    amounts.sort_unstable_by(f64::total_cmp);
    amounts.dedup();
    let (Some(first), Some(last)) = (amounts.first().copied(), amounts.last().copied()) else {
        return String::new();
    };
    let logarithmic = first > 0.0 && last / first > 20.0;
    let place = |amount: f64| if logarithmic { amount.log10() } else { amount };
    let range = (place(last) - place(first)).max(1e-9);
    let top = nice(points().map(|(_, value)| *value).fold(1e-9, f64::max));
    let x = |amount: f64| LEFT + (place(amount) - place(first)) / range * (WIDTH - LEFT - 40.0);
    let y = |value: f64| HEIGHT - 30.0 - value / top * (HEIGHT - 80.0);
    let mut out = begin(title, unit, HEIGHT + 24.0 + 18.0 * lines.len() as f64);
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let at = y(value);
        let _ = write!(
            out,
            "<line class=\"g\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"n\" x=\"{:.0}\" y=\"{:.1}\">{}</text>",
            WIDTH - 20.0,
            LEFT - 8.0,
            at + 4.0,
            number(value)
        );
    }
    for amount in &amounts {
        let _ = write!(
            out,
            "<text class=\"x\" x=\"{:.1}\" y=\"{}\">{}</text>",
            x(*amount),
            HEIGHT - 10.0,
            number(*amount)
        );
    }
    let _ = write!(
        out,
        "<text class=\"x\" x=\"{:.0}\" y=\"{}\">{}</text>",
        WIDTH / 2.0,
        HEIGHT + 10.0,
        escape(axis)
    );
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        for (amount, value) in points {
            let verb = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{verb}{:.1} {:.1}", x(*amount), y(*value));
            let _ = write!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*amount),
                y(*value)
            );
        }
        let at = HEIGHT + 28.0 + 18.0 * index as f64;
        let _ = write!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <rect x=\"{LEFT}\" y=\"{:.0}\" width=\"14\" height=\"3\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{at:.0}\">{}</text>",
            at - 5.0,
            LEFT + 20.0,
            escape(name)
        );
    }
    out + "</svg>\n"
}

fn begin(title: &str, unit: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">{STYLE}\
         <text class=\"t\" x=\"0\" y=\"18\">{title} <tspan font-weight=\"400\">({unit})</tspan></text>",
        title = escape(title),
        unit = escape(unit),
    )
}

/// A number with three digits that count, and with commas between thousands.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        ..0.995 => format!("{value:.2}"),
        0.995..9.95 => trimmed(format!("{value:.2}")),
        9.95..99.5 => trimmed(format!("{value:.1}")),
        _ => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) && !out.ends_with('-') {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
    }
}

fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        let shown = [0.0, 0.357, 1.0, 9.96, 43.25, 999.6, 1_234_567.0].map(number);
        assert_eq!(shown, ["0", "0.36", "1", "10", "43.2", "1,000", "1,234,567"]);
    }

    #[test]
    fn every_value_is_in_the_chart_and_names_cannot_break_it() {
        let chart = bars("a & b", "µs", &[("<Starling>".into(), 2.0), ("NATS".into(), 4.0)]);
        assert!(
            chart.contains("a &amp; b")
                && chart.contains("&lt;Starling&gt;")
                && !chart.contains("<Starling>")
        );
        let chart = lines("t", "u", "members", &[("x".into(), vec![(10.0, 1.0), (10_000.0, 3.0)])]);
        assert_eq!(chart.matches("<circle").count(), 2);
        assert!(chart.contains(">10,000<"), "{chart}");
    }
}
