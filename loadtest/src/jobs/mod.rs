//! The other kind of load: jobs that are added over HTTP, and done by workers that take them over HTTP.
//!
//! [`JobScenario`] says how many, [`run()`] adds and does them, [`JobSeries`] counts and times, and [`JobReport`] shows the result.

mod add;
mod caller;
mod criteria;
mod ledger;
mod meter;
mod page;
mod report;
mod run;
mod scenario;
mod text;
mod work;

pub use criteria::JobCriteria;
pub use meter::{JobCounts, JobMeter, JobSeries};
pub use page::page;
pub use report::JobReport;
pub use run::{JobPlan, run};
pub use scenario::{JobScenario, JobStage, Jobs};
pub use text::text;
