//! What a valid token says, and the rules for its claims.

use std::sync::Arc;

use serde::Deserialize;
use starling_wire::protocol::is_name;

use crate::{Scopes, TokenError, VerifierOptions};

/// How far the clock of a token's issuer may run ahead: `nbf` is honoured with this leeway, milliseconds.
///
/// `exp` has none: an open socket closes at `exp`, so accepting a token later than that would only open a socket in order
/// to close it.
pub const LEEWAY_MS: i64 = 5_000;

/// Who a valid token says one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: a name by the rules of the protocol.
    pub user: Arc<str>,
    /// `tenant`, or `default`.
    pub tenant: Arc<str>,
    /// `scope`.
    pub scopes: Arc<Scopes>,
    /// `exp`, Unix milliseconds; at most the end of the year 9999.
    pub expires_at_ms: i64,
}

/// The claims that mean something here; others are ignored, `iat` among them (RFC 7519 gives it no say over validity).
#[derive(Deserialize)]
pub(crate) struct Claims {
    sub: Option<String>,
    tenant: Option<String>,
    scope: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

/// `aud`: one, or several (RFC 7519, section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The tenant of a token that names none.
const DEFAULT_TENANT: &str = "default";

/// 9999-12-31T23:59:59.999Z: the last time that RFC 3339 can write.
const TIME_MS_MAX: i64 = 253_402_300_799_999;

impl Claims {
    /// Holds the claims against the rules, at the time `now_ms`.
    pub(crate) fn check(self, options: &VerifierOptions, now_ms: i64) -> Result<Identity, TokenError> {
        let expires_at_ms = milliseconds(self.exp.ok_or(TokenError::NoExpiry)?);
        if now_ms >= expires_at_ms {
            return Err(TokenError::Expired);
        }
        if self.nbf.is_some_and(|nbf| milliseconds(nbf) > now_ms.saturating_add(LEEWAY_MS)) {
            return Err(TokenError::NotYetValid);
        }
        if options.issuer.is_some() && options.issuer != self.iss {
            return Err(TokenError::WrongAudience);
        }
        if let Some(wanted) = &options.audience {
            let for_us = match &self.aud {
                None => false,
                Some(Audience::One(one)) => one == wanted,
                Some(Audience::Several(several)) => several.contains(wanted),
            };
            if !for_us {
                return Err(TokenError::WrongAudience);
            }
        }
        let user = self.sub.ok_or(TokenError::NoSubject)?;
        if !is_name(&user) {
            return Err(TokenError::BadSubject);
        }
        let tenant = self.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
        if !is_name(tenant) {
            return Err(TokenError::BadTenant);
        }
        Ok(Identity {
            user: user.into(),
            tenant: tenant.into(),
            scopes: Arc::new(Scopes::parse(self.scope.as_deref().unwrap_or_default())),
            expires_at_ms,
        })
    }
}

/// A NumericDate (seconds, perhaps with a fraction) as Unix milliseconds. JSON knows no NaN, and `as` saturates.
fn milliseconds(numeric_date: f64) -> i64 {
    ((numeric_date * 1_000.0).floor() as i64).min(TIME_MS_MAX)
}
