//! What a run measures: counts and times of each second, what the servers use meanwhile, and whether that passes.

mod criteria;
mod histogram;
mod meter;
mod observer;
mod series;

pub use criteria::{Criteria, Verdict};
pub use histogram::Histogram;
pub(crate) use meter::count_by_name;
pub use meter::{Counts, Meter};
pub use observer::{Observation, Observed, Observer, Source};
pub use series::{Second, Series, StageResult};
