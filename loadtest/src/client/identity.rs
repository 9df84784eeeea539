//! Who the sessions are: users with tokens that the generator signs, or that a file lists.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The users of a run.
#[derive(Debug)]
pub enum Identities {
    /// Users named after the run, with tokens signed by the nodes' secret.
    Signed {
        /// The secret, as a key.
        key: Box<hmac::Key>,
        /// What the users' names begin with.
        run: String,
        /// The claim `tenant`.
        tenant: Option<String>,
        /// The claim `exp`.
        expires_at: u64,
    },
    /// Users and tokens from a file.
    Listed(Vec<(String, String)>),
}

impl Identities {
    /// Users of this run, with tokens that are valid for `ttl`.
    ///
    /// # Errors
    /// When the clock stands before 1970.
    pub fn signed(secret: &str, run: &str, tenant: Option<String>, ttl: Duration) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the machine's clock")?;
        let key = Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        Ok(Self::Signed { key, run: run.to_owned(), tenant, expires_at: (now + ttl).as_secs() })
    }

    /// Users from a file with one token per line. Their names are the tokens' `sub`.
    ///
    /// # Errors
    /// When the file can't be read, or a line is no token. The message names the line.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        let listed = lines.map(|(index, token)| {
            let user = subject(token).with_context(|| {
                format!("{}, line {}: not a JSON web token with `sub`", path.display(), index + 1)
            })?;
            Ok((user, token.to_owned()))
        });
        let listed = listed.collect::<Result<Vec<_>>>()?;
        ensure!(!listed.is_empty(), "{} holds no token", path.display());
        Ok(Self::Listed(listed))
    }

    /// How many sessions can be told apart, if there is a limit.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Signed { .. } => None,
            Self::Listed(listed) => Some(listed.len()),
        }
    }

    /// The name of a session's user.
    pub fn user(&self, session: usize) -> String {
        match self {
            Self::Signed { run, .. } => format!("lt-{run}-{session}"),
            Self::Listed(listed) => listed[session % listed.len()].0.clone(),
        }
    }

    /// The token of a session's user.
    pub fn token(&self, session: usize) -> String {
        match self {
            Self::Signed { key, tenant, expires_at, .. } => {
                let mut claims = json!({
                    "sub": self.user(session),
                    "exp": expires_at,
                    "scope": "conversations:create subscribe:* publish:* jobs:lt-*",
                });
                if let Some(tenant) = tenant {
                    claims["tenant"] = json!(tenant);
                }
                sign(key, &claims)
            }
            Self::Listed(listed) => listed[session % listed.len()].1.clone(),
        }
    }
}

fn sign(key: &hmac::Key, claims: &Value) -> String {
    let part = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
    let signed =
        format!("{}.{}", part(br#"{"alg":"HS256","typ":"JWT"}"#), part(claims.to_string().as_bytes()));
    let signature = hmac::sign(key, signed.as_bytes());
    format!("{signed}.{}", part(signature.as_ref()))
}

/// The `sub` of a token whose signature is the node's business.
fn subject(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["sub"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_tokens_name_their_user_and_a_file_of_them_reads_back() {
        let signed =
            Identities::signed("0123456789abcdef0123456789abcdef", "r1", None, Duration::from_secs(60));
        let signed = signed.unwrap();
        let file = std::env::temp_dir().join(format!("starling-loadtest-{}", std::process::id()));
        std::fs::write(&file, format!("{}\n\n{}\n", signed.token(0), signed.token(1))).unwrap();
        let listed = Identities::from_file(&file).unwrap();
        assert_eq!((listed.count(), listed.user(1)), (Some(2), signed.user(1)));
        std::fs::write(&file, "nonsense").unwrap();
        assert!(Identities::from_file(&file).unwrap_err().to_string().contains("line 1"));
        std::fs::remove_file(&file).unwrap();
    }
}
