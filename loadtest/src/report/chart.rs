//! Line charts as SVG, drawn for a page that needs nothing from outside.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Points of a line; more are thinned out, each with the highest of its neighbours.
const POINTS_MAX: usize = 600;

/// A line of a chart.
pub struct Line {
    /// What it shows, with its unit.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// How an axis divides its range.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

/// A chart.
pub struct Chart<'a> {
    /// Its heading.
    pub title: &'a str,
    /// The unit of the vertical axis.
    pub unit: &'a str,
    /// The vertical axis.
    pub scale: Scale,
    /// The labels of the horizontal axis: position and text. Without them the axis counts seconds.
    pub labels: Vec<(f64, String)>,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Chart<'_> {
    /// The chart with its heading and legend as HTML.
    pub fn html(&self) -> String {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| !line.points.is_empty()).collect();
        if lines.is_empty() {
            return String::new();
        }
        let mut out = format!(
            "<figure><figcaption>{} <small>{}</small></figcaption>",
            escape(self.title),
            escape(self.unit)
        );
        let right = lines.iter().flat_map(|line| line.points.iter()).map(|point| point.0).fold(1.0, f64::max);
        let values = || lines.iter().flat_map(|line| line.points.iter()).map(|point| point.1);
        let (bottom, top) = self.range(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        let x = |value: f64| LEFT + value / right * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| {
            let share = match self.scale {
                Scale::Linear => (value - bottom) / (top - bottom),
                Scale::Logarithmic => (value.max(bottom) / bottom).log10() / (top / bottom).log10(),
            };
            HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        };
        let _ = write!(
            out,
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#,
            escape(self.title)
        );
        for tick in self.ticks(bottom, top) {
            let at = y(tick);
            let _ = write!(
                out,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}"/><text class="y" x="{}" y="{:.1}">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
                number(tick)
            );
        }
        for (position, label) in self.horizontal(right) {
            let _ = write!(
                out,
                r#"<text class="x" x="{:.1}" y="{}">{}</text>"#,
                x(position),
                HEIGHT - 12.0,
                escape(&label)
            );
        }
        for (index, line) in lines.iter().enumerate() {
            let mut path = String::new();
            for (at, value) in thinned(&line.points) {
                let _ =
                    write!(path, "{}{:.1} {:.1}", if path.is_empty() { 'M' } else { 'L' }, x(at), y(value));
            }
            let _ = write!(
                out,
                r#"<path class="line c{index}" d="{path}"><title>{}</title></path>"#,
                escape(&line.name)
            );
        }
        out.push_str("</svg><ul class=\"legend\">");
        for (index, line) in lines.iter().enumerate() {
            let _ = write!(out, r#"<li class="c{index}">{}</li>"#, escape(&line.name));
        }
        out.push_str("</ul></figure>");
        out
    }

    fn range(&self, least: f64, most: f64) -> (f64, f64) {
        match self.scale {
            Scale::Linear => (0.0, nice(if most > 0.0 { most } else { 1.0 })),
            Scale::Logarithmic => {
                let bottom = 10_f64.powf(least.max(0.001).log10().floor());
                let top = 10_f64.powf(most.max(0.01).log10().ceil());
                (bottom, if top > bottom { top } else { bottom * 10.0 })
            }
        }
    }

    fn ticks(&self, bottom: f64, top: f64) -> Vec<f64> {
        match self.scale {
            Scale::Linear => (0..=4).map(|step| top * f64::from(step) / 4.0).collect(),
            Scale::Logarithmic => {
                let powers = (top / bottom).log10().round() as i32;
                (0..=powers).map(|power| bottom * 10_f64.powi(power)).collect()
            }
        }
    }

    fn horizontal(&self, right: f64) -> Vec<(f64, String)> {
        if !self.labels.is_empty() {
            return self.labels.clone();
        }
        let step = nice(right / 6.0).max(1.0);
        let count = (right / step) as usize;
        (0..=count).map(|index| (index as f64 * step, time(index as f64 * step))).collect()
    }
}

/// The next number of the form 1, 2, 2.5 or 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    factors
        .into_iter()
        .map(|factor| factor * power)
        .find(|candidate| *candidate >= value * 0.999)
        .unwrap_or(value)
}

fn time(seconds: f64) -> String {
    match seconds as u64 {
        short @ ..600 => format!("{short} s"),
        long @ 600..36_000 => format!("{} min", long / 60),
        hours => format!("{} h", hours / 3600),
    }
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        value if value >= 1e4 => format!("{} k", trimmed(value / 1e3)),
        value => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(POINTS_MAX).max(1);
    let highest = |group: &[(f64, f64)]| {
        group
            .iter()
            .copied()
            .reduce(|best, point| if point.1 > best.1 { point } else { best })
            .unwrap_or_default()
    };
    points.chunks(size).map(highest).collect()
}

/// Text that is safe in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_survives_thinning() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|index| (f64::from(index), 1.0)).collect();
        points[7_777].1 = 99.0;
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX && thin.contains(&(7_777.0, 99.0)));
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.7, 13.0, 240.0, 1000.0].map(nice), [1.0, 20.0, 250.0, 1000.0]);
        assert_eq!([0.5, 2500.0, 25_000.0, 3e6].map(number), ["0.5", "2500", "25 k", "3 M"]);
    }

    #[test]
    fn names_can_not_break_the_page() {
        let line = Line { name: "<script>".into(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let chart =
            Chart { title: "x", unit: "y", scale: Scale::Linear, labels: Vec::new(), lines: vec![line] };
        assert!(!chart.html().contains("<script>") && chart.html().contains("&lt;script&gt;"));
    }
}
