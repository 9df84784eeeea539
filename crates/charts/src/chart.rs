//! A chart with its heading and legend.

use std::fmt::Write;

use crate::escape;
use crate::scale::{Scale, nice, number, time};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 34.0;
/// Points of a line; more are thinned out, each with the highest of its neighbours.
const POINTS_MAX: usize = 600;
/// Marks whose names are all written. Of more only the first is named, since the names would overlap.
const NAMES_MAX: usize = 3;

/// A line of a chart.
pub struct Line {
    /// What it shows, with its unit.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A span of a chart in which something happened.
pub struct Mark {
    /// Its left end.
    pub from: f64,
    /// Its right end.
    pub to: f64,
    /// What happened.
    pub name: String,
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
    /// What happened meanwhile.
    pub marks: Vec<Mark>,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Chart<'_> {
    /// Returns the chart with its heading and legend as HTML; nothing without points.
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
        let ends = lines.iter().flat_map(|line| line.points.iter().map(|point| point.0));
        let right = ends.chain(self.marks.iter().map(|mark| mark.to)).fold(1.0, f64::max);
        let values = || lines.iter().flat_map(|line| line.points.iter()).map(|point| point.1);
        let range = self.scale.range(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        let x = |value: f64| LEFT + value / right * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - self.scale.place(value, range) * (HEIGHT - TOP - BOTTOM);
        let _ = write!(
            out,
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#,
            escape(self.title)
        );
        self.draw_marks(&mut out, x);
        for tick in self.scale.ticks(range) {
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
                let command = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{command}{:.1} {:.1}", x(at), y(value));
            }
            let name = escape(&line.name);
            let _ = write!(out, r#"<path class="line c{index}" d="{path}"><title>{name}</title></path>"#);
        }
        out.push_str("</svg><ul class=\"lines\">");
        for (index, line) in lines.iter().enumerate() {
            let _ = write!(out, r#"<li class="c{index}">{}</li>"#, escape(&line.name));
        }
        out.push_str("</ul></figure>");
        out
    }

    fn draw_marks(&self, out: &mut String, x: impl Fn(f64) -> f64) {
        for (index, mark) in self.marks.iter().enumerate() {
            let (from, name) = (x(mark.from), escape(&mark.name));
            let _ = write!(
                out,
                r#"<rect class="mark" x="{from:.1}" y="{TOP}" width="{:.1}" height="{}"><title>{name}</title></rect>"#,
                (x(mark.to) - from).max(2.0),
                HEIGHT - BOTTOM - TOP
            );
            if index == 0 || self.marks.len() <= NAMES_MAX {
                let _ = write!(out, r#"<text class="name" x="{from:.1}" y="{}">{name}</text>"#, TOP - 5.0);
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
    fn names_can_not_break_the_page() {
        let line = Line { name: "<script>".into(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let mark = Mark { from: 0.5, to: 0.7, name: "<script>".into() };
        let html = Chart {
            title: "x",
            unit: "y",
            scale: Scale::Linear,
            labels: Vec::new(),
            marks: vec![mark],
            lines: vec![line],
        }
        .html();
        assert!(
            !html.contains("<script>") && html.contains("&lt;script&gt;") && html.contains("class=\"mark\"")
        );
    }
}
