//! The secret that a node without configuration makes for itself and keeps beside its database file.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use starling_database::DatabaseAddress;
use starling_settings::BadConfig;

use crate::config::Config;
use crate::database;
use crate::failure::Failure;
use crate::keys::SECRET_BYTES_MIN;
use crate::output::warn;

/// Whether a node makes its own secret, and where it keeps it.
pub enum OwnSecret {
    /// The configuration says how tokens are checked.
    NotNeeded,
    /// It makes one that ends with the process: its database is in memory.
    Forgotten,
    /// It keeps it in this file.
    Kept(PathBuf),
}

impl OwnSecret {
    /// Looks at the configuration, and at no file.
    pub fn of(config: &Config) -> Result<OwnSecret, BadConfig> {
        let tokens = &config.tokens;
        let configured = tokens.jwt_secret.is_some()
            || tokens.public_key_file.is_some()
            || tokens.jwks_url.is_some()
            || config.redis.url.is_some();
        if configured {
            return Ok(OwnSecret::NotNeeded);
        }
        Ok(match database::address(config)? {
            DatabaseAddress::Postgres(_) => OwnSecret::Kept(PathBuf::from("data/starling.secret")),
            DatabaseAddress::Sqlite(path) if path == Path::new(":memory:") => OwnSecret::Forgotten,
            DatabaseAddress::Sqlite(path) => OwnSecret::Kept(path.with_extension("secret")),
        })
    }

    /// Reads the secret, or makes and keeps a new one; `None`: none is needed. A secret that can't be used ends the start: a new one
    /// in its place would make all tokens and tickets void.
    pub fn read_or_make(&self) -> Result<Option<Vec<u8>>, Failure> {
        let file = match self {
            OwnSecret::NotNeeded => return Ok(None),
            OwnSecret::Forgotten => return Ok(Some(new_secret())),
            OwnSecret::Kept(file) => file,
        };
        let name = file.display();
        match kept_secret(file) {
            Ok(Some(secret)) => return Ok(Some(secret)),
            Ok(None) => {}
            Err(why) => {
                return Err(anyhow!(
                    "{name}: the secret that signs tokens and tickets {why}. Restore it from a backup; or remove the file to have a \
                     new one made, which makes all tokens and tickets void"
                )
                .into());
            }
        }
        keep_secret(file, &new_secret())
            .with_context(|| format!("the secret could not be kept in {name}"))?;
        // A node that started at the same moment may have written its own first.
        let kept = kept_secret(file).map_err(|why| anyhow!("{name}: the new secret {why}"))?;
        Ok(Some(kept.ok_or_else(|| anyhow!("{name}: the new secret is gone"))?))
    }
}

fn new_secret() -> Vec<u8> {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()).into_bytes()
}

/// The secret in the file; `None`: there is no file. Otherwise says what is wrong with it.
fn kept_secret(file: &Path) -> Result<Option<Vec<u8>>, String> {
    let secret = match std::fs::read(file) {
        Ok(secret) => secret,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("can't be read: {error}")),
    };
    if secret.len() < SECRET_BYTES_MIN {
        let bytes = secret.len();
        return Err(format!("is cut short: {bytes} bytes, where {SECRET_BYTES_MIN} or more are needed"));
    }
    let mode = file.metadata().map_or(0o600, |known| known.permissions().mode());
    if mode & 0o077 != 0 {
        let name = file.display();
        match std::fs::set_permissions(file, Permissions::from_mode(0o600)) {
            Ok(()) => {
                warn(&format!(
                    "warning: other users could read the secret in {name}; now only its owner can"
                ));
            }
            Err(error) => warn(&format!("warning: other users can read the secret in {name}: {error}")),
        }
    }
    Ok(Some(secret))
}

/// Writes a secret to a new file. It is written under another name first, so that nobody ever finds half of it.
fn keep_secret(file: &Path, secret: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut beside = file.to_owned().into_os_string();
    beside.push(format!(".{:08x}", rand::random::<u32>()));
    let mut writing = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = writing.write_all(secret).and_then(|()| writing.sync_all()).and_then(|()| {
        // Unlike a renaming, a link never replaces another file.
        match std::fs::hard_link(&beside, file) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            // A file system without links.
            Err(_) if !file.exists() => std::fs::rename(&beside, file),
            linked => linked,
        }
    });
    let _ = std::fs::remove_file(&beside);
    written
}
