//! `starling-loadtest`: puts a scenario's load on Starling, and reports what clients saw.
//!
//! [`scenario`] says what happens, [`run`] makes it happen with the sessions of [`client`], [`measure`] counts and judges, and
//! [`report`] shows the result.

pub mod client;
pub mod measure;
pub mod report;
pub mod run;
pub mod scenario;
