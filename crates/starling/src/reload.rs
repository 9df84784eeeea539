//! Reads the configuration again while the node serves, after SIGHUP: the log filter and the certificate.

use std::fmt::Display;
use std::sync::Arc;

use starling_gateway::Certificate;
use starling_settings::BadConfig;
use starling_telemetry::LogFilter;
use tokio::sync::Notify;

use crate::config::Values;
use crate::setup::Setup;

/// Reads the configuration that the program was started with once more.
pub type ReadAgain = Arc<dyn Fn() -> Result<Values, BadConfig> + Send + Sync>;

/// Settings that take effect when they are read again. All others need a restart.
const RELOADED: [&str; 3] = ["log", "tls_certificate_file", "tls_key_file"];

/// What can be changed while the node serves.
pub struct Reload {
    /// Reads the file, the variables and the flags that the program was started with.
    pub read: ReadAgain,
    /// Which lines are logged.
    pub filter: LogFilter,
    /// The certificate of the public port, where it has one.
    pub certificate: Option<Arc<Certificate>>,
}

impl Reload {
    /// Reads the configuration again whenever that is wanted, for ever. A bad configuration is logged and changes nothing.
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
                    tracing::error!(%error, "the configuration is invalid; nothing was changed");
                }
                Err(error) => tracing::error!(%error, "the configuration could not be reloaded"),
            }
        }
    }

    fn once(&self, before: &Values) -> Result<Values, BadConfig> {
        let bad = |error: &dyn Display| BadConfig(error.to_string());
        let values = (self.read)()?;
        let config = &values.settings;
        Setup::check(config)?;
        let files = config.gateway.tls().map_err(|error| bad(&error))?;
        let mut certificate_changed = false;
        if let (Some(certificate), Some(files)) = (&self.certificate, &files) {
            certificate_changed = certificate.replace(files).map_err(|error| bad(&error))?;
        }
        let filter = &config.telemetry.log;
        // It was checked above, so only a process without a subscriber for logs could refuse it.
        self.filter.change(filter).map_err(|error| bad(&error))?;
        let changed = values.changes_from(before);
        // TLS can be given another certificate, but be neither switched on nor off.
        let tls_can_change = self.certificate.is_some() == files.is_some();
        let needs_restart =
            |key: &&&str| !RELOADED.contains(key) || (key.starts_with("tls_") && !tls_can_change);
        let restart: Vec<&str> = changed.iter().filter(needs_restart).copied().collect();
        if !restart.is_empty() {
            let settings = restart.join(", ");
            tracing::warn!(settings, "these settings have changed and need a restart");
        }
        tracing::info!(log = filter, certificate_changed, "reloaded the configuration");
        Ok(values)
    }
}
