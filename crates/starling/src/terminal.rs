//! Colours, for output on a terminal.

use std::io::IsTerminal;

/// What a text means, and so how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is as it should be.
    Good,
    /// It deserves a look.
    Doubtful,
    /// It has to be mended.
    Bad,
    /// A heading.
    Strong,
    /// Beside the point.
    Quiet,
}

/// Paints texts, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// Paints where this is a terminal, unless `NO_COLOR` is set.
    pub fn on(stream: &impl IsTerminal) -> Paint {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint { colour: stream.is_terminal() && !unwanted }
    }

    /// Never paints.
    #[cfg(test)]
    pub fn never() -> Paint {
        Paint { colour: false }
    }

    /// The text with this look.
    pub fn text(self, look: Look, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match look {
            Look::Good => "32",
            Look::Doubtful => "33",
            Look::Bad => "1;31",
            Look::Strong => "1",
            Look::Quiet => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
