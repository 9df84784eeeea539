//! Starling: conversations that do not break.

use std::process::ExitCode;

fn main() -> ExitCode {
    starling::main()
}
