//! The phases of a run, and when each was.

use std::time::Instant;

use anyhow::{Context, Result};

/// A phase, and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Phase {
    pub name: &'static str,
    pub from: Instant,
    pub to: Instant,
    pub note: String,
}

/// The phases so far.
pub struct Phases {
    pub begun: Instant,
    pub list: Vec<Phase>,
}

impl Phases {
    /// Carries out a phase, which returns its note.
    pub async fn run(
        &mut self,
        name: &'static str,
        phase: impl Future<Output = Result<String>>,
    ) -> Result<()> {
        let from = Instant::now();
        let note = phase.await.context(name)?;
        let to = Instant::now();
        println!(
            "{:>7.1} s  {name}: {note} ({:.1} s)",
            self.begun.elapsed().as_secs_f64(),
            (to - from).as_secs_f64()
        );
        self.list.push(Phase { name, from, to, note });
        Ok(())
    }
}
