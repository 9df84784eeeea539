//! Line charts as SVG, for pages that need nothing from outside: the reports of the load generator and of the torture.
//!
//! A page puts [`STYLE`] into its style sheet, and defines the colours that it names: `--ink`, `--soft`, `--rule`, `--card`, `--mark`, and
//! `--c0` to `--c5` for the lines.

mod chart;
mod scale;

pub use chart::{Chart, Line, Mark};
pub use scale::{Scale, nice};

/// The style of charts.
pub const STYLE: &str = "
figure{margin:0;background:var(--card);border-radius:10px;padding:14px 16px}figcaption{font-weight:600;margin-bottom:6px}figcaption small{color:var(--soft);font-weight:400}
figure svg{width:100%;height:auto;display:block}figure .grid{stroke:var(--rule)}figure text{fill:var(--soft);font-size:12px}figure .y{text-anchor:end}figure .x{text-anchor:middle}
figure .mark{fill:var(--mark)}figure .name{fill:var(--ink);font-weight:600}figure .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke:currentColor}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}
figure .lines{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:6px 0 0;padding:0;font-size:13px}
figure .lines li::before{content:'';display:inline-block;width:14px;height:3px;border-radius:2px;background:currentColor;margin-right:6px;vertical-align:middle}
";

/// Returns text that is safe in HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
