//! The kinds of load.

use anyhow::Result;

use super::{Scenario, overrides};
use crate::jobs::JobScenario;

/// What a scenario puts on Starling.
#[derive(Clone, Debug)]
pub enum Load {
    /// Sessions that talk.
    Sessions(Box<Scenario>),
    /// Jobs that are added and done. Such a scenario has a table `[jobs]`.
    Jobs(Box<JobScenario>),
}

impl Load {
    /// Reads a scenario, after replacing the values that `overrides` (`KEY=VALUE`) name.
    ///
    /// # Errors
    /// When the text is no scenario, a key is unknown, or a value is out of its range. The message names the key.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self> {
        let table = overrides::table(text, overrides)?;
        if table.contains_key("jobs") {
            return Ok(Self::Jobs(Box::new(JobScenario::read(table)?)));
        }
        Ok(Self::Sessions(Box::new(Scenario::read(table)?)))
    }

    /// What it shows, in one sentence.
    pub fn about(&self) -> &str {
        match self {
            Self::Sessions(scenario) => &scenario.about,
            Self::Jobs(scenario) => &scenario.about,
        }
    }
}
