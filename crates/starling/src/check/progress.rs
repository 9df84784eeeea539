//! The steps of a check, as they are printed.

use std::io::stdout;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::output::print;
use crate::terminal::{Look, Paint};

/// How long each step may take. Far more than any needs, and less than a person waits.
pub const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Why a step failed.
#[derive(Debug)]
pub struct Wrong {
    /// What happened.
    pub what: String,
    /// What to do about it, where that is known.
    pub advice: Option<String>,
}

impl Wrong {
    /// A failure with advice.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), advice: Some(advice.into()) }
    }
}

impl From<anyhow::Error> for Wrong {
    fn from(error: anyhow::Error) -> Wrong {
        Wrong { what: format!("{error:#}"), advice: None }
    }
}

/// The steps of a check, as they are printed.
pub struct Progress {
    paint: Paint,
    began: Instant,
}

impl Progress {
    /// Prints where the check goes.
    pub fn begin(url: &str) -> Result<Progress, Failure> {
        let paint = Paint::on(&stdout());
        print(&format!("{}\n\n", paint.text(Look::Strong, url)))?;
        Ok(Progress { paint, began: Instant::now() })
    }

    /// Does a step, and prints it with its time. `work` also says what was found.
    pub async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<(T, String), Wrong>>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let done = timeout(STEP_LIMIT, work).await;
        let took = began.elapsed();
        let limit = STEP_LIMIT.as_secs();
        let late = || Wrong::new(format!("took longer than {limit} s"), "see the node's log and /health");
        match done.unwrap_or_else(|_| Err(late())) {
            Ok((value, found)) => {
                print(&self.line(Look::Good, "✓", name, &found, took))?;
                Ok(value)
            }
            Err(wrong) => {
                print(&self.line(Look::Bad, "✗", name, "failed", took))?;
                let advice = wrong.advice.map(|advice| format!("\n  {advice}")).unwrap_or_default();
                Err(anyhow!("{name}: {}{advice}", wrong.what).into())
            }
        }
    }

    /// Prints that everything went well.
    pub fn end(&self) -> Result<(), Failure> {
        let took = milliseconds(self.began.elapsed());
        let words = self.paint.text(Look::Good, "a message went all the way");
        print(&format!("\n{words}, there and back, in {took}\n"))
    }

    fn line(&self, look: Look, mark: &str, name: &str, found: &str, took: Duration) -> String {
        let (mark, took) = (self.paint.text(look, mark), milliseconds(took));
        // The time stands in a column of its own, unless what was found is long.
        format!("  {mark} {name:<11} {found:<46} {}\n", self.paint.text(Look::Quiet, &format!("{took:>10}")))
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
