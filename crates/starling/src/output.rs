//! Output for people and pipes, outside the log.

use std::io::{ErrorKind, Write, stderr, stdout};

use anyhow::Context;

use crate::Failure;

/// Writes to standard output. A reader that stops reading, as `head` does, is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output can't be written").map_err(Failure::from),
    }
}

/// Writes a line to standard error. Ignores errors: a closed terminal must not end the program.
pub fn warn(text: &str) {
    let _ = writeln!(stderr(), "starling: {text}");
}
