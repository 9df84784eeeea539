//! Scenarios: what a run does, read from a TOML file.
//!
//! A scenario says which sessions there are and what they talk in (`[sessions]`), what they send (`[traffic]`), how both change over
//! time (`[[stages]]` or `[growth]`), what breaks (`[storm]`), and what a run must reach to pass (`[pass]`).

mod built_in;
mod load;
mod overrides;
mod stages;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use built_in::{BUILT_IN, find};
pub use load::Load;
pub use stages::{Moment, Stage, StageOfRun};

use crate::measure::Criteria;

/// The most sessions that one run may open.
pub const SESSIONS_MAX: usize = 1_000_000;

/// The longest that a run may take.
pub(crate) const RUN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a run does.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in one sentence.
    pub about: String,
    /// Who is connected.
    #[serde(default)]
    pub sessions: Sessions,
    /// What they send.
    #[serde(default)]
    pub traffic: Traffic,
    /// How sessions and traffic change. Either these or `growth`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Stages that grow until the criteria fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Connections that break all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    /// What the run must reach.
    #[serde(default)]
    pub pass: Criteria,
}

/// Who is connected.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// What they talk in.
    pub room: RoomKind,
    /// Sessions per conversation or topic; 0 puts all into one.
    pub per_room: usize,
    /// The encoding of their frames.
    pub encoding: EncodingChoice,
    /// How many per cent of them read slowly.
    pub slow_readers_percent: f64,
    /// How fast a slow reader reads.
    pub slow_reader_bytes_per_second: u32,
    /// New connections per second while a stage does not say more exactly.
    pub connects_per_second: f64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            room: RoomKind::Conversation,
            per_room: 5,
            encoding: EncodingChoice::Json,
            slow_readers_percent: 0.0,
            slow_reader_bytes_per_second: 4096,
            connects_per_second: 500.0,
        }
    }
}

/// What sessions talk in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoomKind {
    /// Durable conversations.
    Conversation,
    /// Ephemeral topics.
    Topic,
    /// Nothing: the sessions only stay connected.
    None,
}

/// The encoding of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncodingChoice {
    /// JSON in text frames.
    Json,
    /// MessagePack in binary frames.
    Msgpack,
    /// Every second session speaks MessagePack.
    Mixed,
}

/// What sessions send.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// The size of a message's text.
    pub payload_bytes: usize,
    /// If greater than 0, the loop is closed: so many messages are under way at any time, and the stages' rates are ignored.
    pub outstanding: usize,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { payload_bytes: 128, outstanding: 0 }
    }
}

/// Stages whose rate grows until the criteria fail.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Sessions in all stages.
    pub sessions: usize,
    /// The rate of the first stage.
    pub from_messages_per_second: f64,
    /// The rate of a stage divided by that of the one before.
    pub factor: f64,
    /// How long a stage lasts.
    pub stage_seconds: u32,
    /// The rate that no stage exceeds.
    pub to_messages_per_second: f64,
}

/// Connections that break all at once. Their clients resume at once, each after a random delay.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// When it happens, after the start.
    pub at_seconds: u32,
    /// How many per cent of the connections break.
    pub percent: f64,
    /// The longest delay before a client resumes.
    pub within_ms: u32,
}

impl Scenario {
    /// Reads a scenario, after replacing the values that `overrides` (`KEY=VALUE`, such as `sessions.per_room=50`) name.
    ///
    /// # Errors
    /// When the text is no scenario, a key is unknown, or a value is out of its range. The message names the key.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self> {
        Self::read(overrides::table(text, overrides)?)
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// When a key is unknown, or a value is out of its range. The message names the key.
    pub fn read(table: toml::Table) -> Result<Self> {
        let scenario: Self = table.try_into().context("the scenario has a wrong key or value")?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The stages in their order, whether listed or grown.
    pub fn stages(&self) -> Vec<Stage> {
        match &self.growth {
            Some(growth) => growth.stages(self.sessions.connects_per_second),
            None => self.stages.clone(),
        }
    }

    /// The most sessions at one time.
    pub fn sessions_max(&self) -> usize {
        self.stages().iter().map(|stage| stage.sessions).max().unwrap_or(0)
    }

    /// Sessions per conversation or topic.
    pub fn per_room(&self) -> usize {
        if self.sessions.per_room == 0 { self.sessions_max().max(1) } else { self.sessions.per_room }
    }

    /// How long the stages take.
    pub fn duration(&self) -> Duration {
        self.stages().iter().map(Stage::duration).sum()
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.growth.is_some() == self.stages.is_empty(),
            "a scenario has either [[stages]] or [growth]"
        );
        if let Some(growth) = &self.growth {
            growth.check()?;
        }
        for stage in self.stages() {
            stage.check()?;
        }
        ensure!(self.duration() <= RUN_MAX, "the stages take longer than {} days", RUN_MAX.as_secs() / 86400);
        let sessions = self.sessions_max();
        ensure!((1..=SESSIONS_MAX).contains(&sessions), "sessions: must be 1 to {SESSIONS_MAX}");
        self.sessions.check()?;
        self.traffic.check(self.sessions.room)?;
        if let Some(storm) = &self.storm {
            storm.check(self.duration())?;
        }
        self.pass.check()
    }
}

impl Sessions {
    fn check(&self) -> Result<()> {
        ensure!(
            (0.0..=100.0).contains(&self.slow_readers_percent),
            "sessions.slow_readers_percent: must be 0 to 100"
        );
        ensure!(
            self.slow_reader_bytes_per_second > 0,
            "sessions.slow_reader_bytes_per_second: must not be 0"
        );
        ensure!(
            self.connects_per_second > 0.0 && self.connects_per_second <= 100_000.0,
            "sessions.connects_per_second: must be above 0, at most 100000"
        );
        Ok(())
    }
}

impl Traffic {
    fn check(&self, room: RoomKind) -> Result<()> {
        let (least, most) = (crate::client::MARKER_BYTES, 64 * 1024);
        ensure!(
            (least..=most).contains(&self.payload_bytes),
            "traffic.payload_bytes: must be {least} to {most}"
        );
        ensure!(self.outstanding <= 100_000, "traffic.outstanding: must be at most 100000");
        ensure!(
            self.outstanding == 0 || room != RoomKind::None,
            "traffic.outstanding: sessions without a room send nothing"
        );
        Ok(())
    }
}

impl Storm {
    fn check(&self, run: Duration) -> Result<()> {
        ensure!(
            Duration::from_secs(self.at_seconds.into()) < run,
            "storm.at_seconds: the stages have ended by then"
        );
        ensure!(self.percent > 0.0 && self.percent <= 100.0, "storm.percent: must be above 0, at most 100");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobCriteria;

    const PLAIN: &str = "about = 'x'\n[[stages]]\nseconds = 5\nsessions = 10\nmessages_per_second = 2\n";

    #[test]
    fn every_built_in_scenario_is_valid_and_has_criteria() {
        for (name, text) in BUILT_IN {
            let load = Load::parse(text, &[]).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            match load {
                Load::Sessions(scenario) => {
                    assert_ne!(scenario.pass, Criteria::default(), "{name} can't fail");
                }
                Load::Jobs(scenario) => {
                    assert_ne!(scenario.pass, JobCriteria::default(), "{name} can't fail");
                }
            }
        }
    }

    #[test]
    fn a_wrong_key_or_value_is_refused_by_name() {
        for (text, named) in [
            ("seesions = 3", "seesions"),
            ("[sessions]\nper_rooms = 3", "per_rooms"),
            ("[sessions]\nencoding = 'xml'", "xml"),
            ("[sessions]\nslow_readers_percent = 101", "slow_readers_percent"),
            ("[traffic]\npayload_bytes = 3", "payload_bytes"),
            ("[storm]\nat_seconds = 60\npercent = 5\nwithin_ms = 1", "storm.at_seconds"),
            ("[pass]\ndelivery_p95 = 3", "delivery_p95"),
            ("[pass]\nerrors_percent = -1", "errors_percent"),
        ] {
            // Keys of the file's top come before its tables.
            let text =
                if text.starts_with('[') { format!("{PLAIN}{text}") } else { format!("{text}\n{PLAIN}") };
            let error = format!("{:#}", Scenario::parse(&text, &[]).unwrap_err());
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(Scenario::parse("about = 'x'", &[]).unwrap_err().to_string().contains("stages"));
    }

    #[test]
    fn a_scenario_of_jobs_is_read_and_its_values_are_checked() {
        let text = "about = 'x'\n[jobs]\nworkers = 3\n[[stages]]\nseconds = 5\njobs_per_second = 2\n";
        let changed = |change: &str| Load::parse(text, &[change.to_owned()]);
        assert!(matches!(changed("jobs.work_ms=4"), Ok(Load::Jobs(scenario)) if scenario.jobs.work_ms == 4));
        for change in [
            "jobs.workers=0",
            "jobs.take_max=101",
            "jobs.payload_bytes=3",
            "stages.0.jobs_per_second=-1",
            "jobs.wrokers=3",
            "pass.delivery_p95_ms=3",
            "sessions.per_room=3",
        ] {
            let key = change.split(['.', '=']).rfind(|part| part.parse::<f64>().is_err()).unwrap();
            let error = format!("{:#}", changed(change).unwrap_err());
            assert!(error.contains(key) || error.contains("sessions"), "{change}: {error}");
        }
    }

    #[test]
    fn an_override_replaces_a_value_and_is_checked_like_it() {
        let changed = ["sessions.per_room=7".to_owned(), "stages.0.sessions=70".to_owned()];
        let scenario = Scenario::parse(PLAIN, &changed).unwrap();
        assert_eq!((scenario.per_room(), scenario.sessions_max()), (7, 70));
        let wrong = Scenario::parse(PLAIN, &["sessions.per_rom=7".to_owned()]).unwrap_err();
        assert!(format!("{wrong:#}").contains("per_rom"), "{wrong:#}");
    }
}
