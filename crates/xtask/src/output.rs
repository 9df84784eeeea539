//! What the steps of the test print: the output of steps that run beside each other does not mix.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Lines of a waiting step that are kept; the oldest are dropped first.
const LINES_MAX: usize = 200_000;

/// Takes the lines that a step prints.
pub type Print<'a> = &'a (dyn Fn(&str) + Sync);

/// Prints a line at once, for commands that run alone.
pub fn print(line: &str) {
    println!("{line}");
}

/// Shows steps one after the other, in their order: the first one that has not ended as it goes on, those behind it when it is their turn.
pub struct Screen<'a> {
    state: Mutex<State<'a>>,
}

struct State<'a> {
    /// The step that is shown.
    shown: usize,
    steps: Vec<Lines>,
    show: Box<dyn FnMut(&str) + Send + 'a>,
}

/// What a step has printed before its turn.
struct Lines {
    title: String,
    waiting: VecDeque<String>,
    dropped: usize,
    ended: bool,
}

impl<'a> Screen<'a> {
    /// A screen for the steps of these titles, which shows lines with `show`.
    pub fn new(titles: impl IntoIterator<Item = String>, show: impl FnMut(&str) + Send + 'a) -> Self {
        let lines = |title| Lines { title, waiting: VecDeque::new(), dropped: 0, ended: false };
        let steps = titles.into_iter().map(lines).collect();
        let mut state = State { shown: 0, steps, show: Box::new(show) };
        state.begin();
        Self { state: Mutex::new(state) }
    }

    /// Prints a line of a step.
    pub fn line(&self, step: usize, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if step == state.shown {
            return (state.show)(line);
        }
        let Some(lines) = state.steps.get_mut(step) else { return };
        if lines.waiting.len() == LINES_MAX {
            lines.waiting.pop_front();
            lines.dropped += 1;
        }
        lines.waiting.push_back(line.to_owned());
    }

    /// Ends a step with a closing line.
    pub fn end(&self, step: usize, closing: &str) {
        self.line(step, closing);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = state.steps.get_mut(step) {
            lines.ended = true;
        }
        while state.steps.get(state.shown).is_some_and(|lines| lines.ended) {
            state.shown += 1;
            state.begin();
        }
    }
}

impl State<'_> {
    /// Shows what the step whose turn it is has printed so far.
    fn begin(&mut self) {
        let Some(lines) = self.steps.get_mut(self.shown) else { return };
        (self.show)(&format!("\n=== {} ===", lines.title));
        if lines.dropped > 0 {
            (self.show)(&format!("({} earlier lines are left out)", lines.dropped));
        }
        for line in std::mem::take(&mut lines.waiting) {
            (self.show)(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_shown_in_their_order_and_the_first_one_at_once() {
        let shown = Mutex::new(Vec::new());
        let screen = Screen::new(["a", "b", "c"].map(str::to_owned), |line| {
            shown.lock().unwrap().push(line.to_owned());
        });
        screen.line(1, "b1");
        screen.line(0, "a1");
        assert_eq!(*shown.lock().unwrap(), ["\n=== a ===", "a1"]);
        screen.end(1, "b ends");
        screen.line(2, "c1");
        screen.end(0, "a ends");
        let all = ["\n=== a ===", "a1", "a ends", "\n=== b ===", "b1", "b ends", "\n=== c ===", "c1"];
        assert_eq!(*shown.lock().unwrap(), all);
        screen.line(2, "c2");
        assert_eq!(shown.lock().unwrap().last().unwrap(), "c2");
    }

    #[test]
    fn the_output_of_a_waiting_step_is_bounded() {
        let shown = Mutex::new(Vec::new());
        let screen = Screen::new(["a", "b"].map(str::to_owned), |line| {
            shown.lock().unwrap().push(line.to_owned());
        });
        for number in 0..LINES_MAX + 3 {
            screen.line(1, &number.to_string());
        }
        screen.end(0, "a ends");
        let shown = shown.lock().unwrap();
        assert_eq!(shown[3..5], ["(3 earlier lines are left out)", "3"]);
    }
}
