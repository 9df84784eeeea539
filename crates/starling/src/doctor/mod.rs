//! `starling doctor`: examines the configuration and what the node depends on, and says what to do.

mod certificate;
mod clock;
mod configuration;
mod database;
mod examination;
mod host;
mod keys;
mod limits;
mod postgres;
mod quantity;
mod rabbitmq;
mod redis;
mod report;
mod secrets;

use std::io::stdout;
use std::path::PathBuf;

use starling_trust::install_provider;

use crate::config::Values;
use crate::failure::Failure;
use crate::output::print;
use crate::process::runtime;
use crate::terminal::Paint;
use clock::Clocks;
use examination::Examination;
use host::Host;

/// What is wanted of the doctor.
pub struct DoctorRequest {
    /// Whether the findings are printed as JSON.
    pub json: bool,
    /// The configuration file.
    pub file: Option<PathBuf>,
}

/// Examines everything, and prints what was found. Fails if there is a problem.
pub fn doctor(values: &Values, request: &DoctorRequest) -> Result<(), Failure> {
    let examination = runtime()?.block_on(async {
        install_provider();
        examine(values, request).await
    });
    match request.json {
        true => print(&report::json(&examination))?,
        false => print(&report::text(&examination, Paint::on(&stdout())))?,
    }
    match examination.problems() {
        0 => Ok(()),
        1 => Err(anyhow::anyhow!("there is 1 problem").into()),
        problems => Err(anyhow::anyhow!("there are {problems} problems").into()),
    }
}

async fn examine(values: &Values, request: &DoctorRequest) -> Examination {
    let (config, host) = (&values.settings, Host::here());
    let mut examination = Examination::default();
    configuration::examine(&mut examination, values, request.file.as_deref());
    secrets::examine(&mut examination, values);
    keys::examine(&mut examination, config).await;
    certificate::examine(&mut examination, config);
    limits::examine(&mut examination, config, &host);
    let mut clocks = Clocks::default();
    database::examine(&mut examination, config, &mut clocks).await;
    redis::examine(&mut examination, config, &mut clocks).await;
    rabbitmq::examine(&mut examination, config).await;
    clocks.examine(&mut examination);
    examination
}
