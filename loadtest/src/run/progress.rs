//! The live display in the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Plan;
use crate::measure::{Histogram, Second, Series};

/// Shows how far the run is and what it measures.
pub(super) struct Progress {
    bar: ProgressBar,
    stages: usize,
}

impl Progress {
    /// Of this run. Draws nothing if `show` is not set, or where the output is no terminal.
    pub(super) fn new(plan: &Plan, show: bool) -> Self {
        let bar = ProgressBar::new(plan.duration().as_secs());
        if !show {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{bar:40.cyan/blue} {elapsed} of {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─");
        bar.set_style(style);
        Self { bar, stages: plan.stages().len() }
    }

    /// Draws the second of this number.
    pub(super) fn show(&mut self, series: &Series, number: u32) {
        // The newest second may still lack a thread.
        let Some(second) = number.checked_sub(1).and_then(|before| series.seconds.get(&before)) else {
            return;
        };
        self.bar.set_position(number.into());
        let length = Duration::from_secs(self.bar.length().unwrap_or(0));
        self.bar.set_message(format!(
            "{length:?}, stage {} of {}\n{}",
            second.stage + 1,
            self.stages,
            lines(second)
        ));
    }

    /// Removes the display.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What was measured in a second.
fn lines(second: &Second) -> String {
    let (meter, counts) = (&second.meter, &second.meter.counts);
    let mut text = format!(
        "\n  sessions   {:>9}   connected {}, resumed {}, broken {}\n  sent       {:>9}/s acknowledged {}/s   {}\n  \
         delivered  {:>9}/s {}\n  lost       {:>9}   doubled {}, reordered {}\n  errors     {:>9}",
        second.sessions,
        counts.connected,
        counts.resumed,
        counts.reconnects,
        counts.sent,
        counts.acknowledged,
        times(&meter.acknowledge),
        counts.delivered,
        times(&meter.delivery),
        counts.lost,
        counts.doubled,
        counts.reordered,
        counts.failures(),
    );
    for (name, count) in counts.errors.iter().take(3) {
        text.push_str(&format!("   {name} × {count}"));
    }
    if second.busy > 0.8 {
        text.push_str(&format!(
            "\n  the generator is {:.0} % busy: it may be the limit",
            second.busy * 100.0
        ));
    }
    text
}

fn times(histogram: &Histogram) -> String {
    let at =
        |percent| histogram.percentile_ms(percent).map_or("–".to_owned(), |time| format!("{time:.1} ms"));
    format!("p50 {}   p95 {}   p99 {}", at(50.0), at(95.0), at(99.0))
}
