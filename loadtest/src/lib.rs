//! `starling-loadtest`: puts a scenario's load on Starling, and reports what clients saw.
//!
//! [`scenario`] says what happens, [`run`] makes it happen with the sessions of [`client`], [`measure`] counts and judges, and
//! [`report`] shows the result. [`jobs`] is another kind of load, with all of that for jobs.

pub mod client;
pub mod jobs;
pub mod measure;
pub mod report;
pub mod run;
pub mod scenario;
