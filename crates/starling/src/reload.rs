//! Reading the configuration again while the node serves, after SIGHUP: what is logged, and the certificate.

use std::sync::Arc;

use starling_gateway::Certificate;
use starling_telemetry::LogFilter;
use tokio::sync::Notify;

use crate::config::{BadConfig, Values};
use crate::setup::{self, Setup};

/// Settings that hold from the moment they are read again. All others need a restart.
const RELOADED: [&str; 3] = ["log", "tls_certificate_file", "tls_key_file"];

/// What can be changed while the node serves.
pub struct Reload {
    /// Reads the file, the variables and the flags that the program was started with.
    pub read: Arc<dyn Fn() -> Result<Values, BadConfig> + Send + Sync>,
    /// Which lines are logged.
    pub filter: LogFilter,
    /// The certificate of the public port, where it has one.
    pub certificate: Option<Arc<Certificate>>,
}

impl Reload {
    /// Reads the configuration again at each notice, for ever. What is wrong with it is logged, and changes nothing.
    pub async fn run(self, wanted: Arc<Notify>, mut current: Values) {
        let this = Arc::new(self);
        loop {
            wanted.notified().await;
            let (reload, before) = (this.clone(), current.clone());
            // Files may lie on a slow disk.
            let done = tokio::task::spawn_blocking(move || reload.once(&before)).await;
            match done {
                Ok(Ok(values)) => current = values,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the configuration can't be used; nothing was changed");
                }
                Err(error) => tracing::error!(%error, "the configuration could not be read again"),
            }
        }
    }

    fn once(&self, before: &Values) -> Result<Values, BadConfig> {
        let values = (self.read)()?;
        Setup::check(&values)?;
        let mut certificate_changed = false;
        if let (Some(certificate), Some(files)) = (&self.certificate, setup::tls(&values)?) {
            certificate_changed =
                certificate.replace(&files).map_err(|error| BadConfig(error.to_string()))?;
        }
        let filter = setup::log_filter(&values);
        // Checked above, so that only a process without its subscriber could refuse it.
        self.filter.change(&filter).map_err(|error| BadConfig(error.to_string()))?;
        let changed = values.changes_from(before);
        // A port that speaks TLS can get another certificate; one that does not can't begin to, nor the other way round.
        let tls_can_change = self.certificate.is_some() == setup::tls(&values)?.is_some();
        let needs_restart =
            |key: &&&str| !RELOADED.contains(key) || (key.starts_with("tls_") && !tls_can_change);
        let restart: Vec<&str> = changed.iter().filter(needs_restart).copied().collect();
        if !restart.is_empty() {
            let settings = restart.join(", ");
            tracing::warn!(settings, "these settings have changed and need a restart");
        }
        tracing::info!(log = filter, certificate_changed, "read the configuration again");
        Ok(values)
    }
}
