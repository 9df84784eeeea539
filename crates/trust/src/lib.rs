//! Whom a TLS client trusts.
//!
//! Each client names its [`Trust`]: what it demands of a server's certificate, and which [`Authorities`] may sign one. [`client_config`] makes
//! rustls' configuration of it. All clients use the same cryptography, which [`install_provider`] also gives to libraries that ask for the
//! process's.
//!
//! Settings are the callers': an [`Error`] names the file or the variable that is at fault, and the caller adds the setting that names the file.

mod authorities;
mod config;
mod error;
mod unnamed;

pub use authorities::Authorities;
pub use config::{Trust, client_config, install_provider};
pub use error::Error;
