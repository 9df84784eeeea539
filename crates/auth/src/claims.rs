//! Claims of a token and the rules that they must meet.

use std::fmt;
use std::sync::{Arc, Once};

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use starling_model::{TenantName, UserName};

use crate::options::{ClaimNames, VerifierOptions};
use crate::{Scopes, TokenError, user_name};

/// Leeway for `nbf` in milliseconds, because the issuer's clock may run ahead.
///
/// `exp` has no leeway: a connection closes at `exp`, so a token accepted later would only open a connection that
/// closes again.
pub const LEEWAY_MS: i64 = 5_000;

/// Identity from a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User: the user claim, converted to a valid name of the protocol ([`user_name`]).
    pub user: UserName,
    /// Tenant; `default` if the token has no tenant claim.
    pub tenant: TenantName,
    /// Scopes that the token grants.
    pub scopes: Arc<Scopes>,
    /// Expiry (`exp`) in Unix milliseconds; at most the end of the year 9999.
    pub expires_at_ms: i64,
}

/// Claims that Starling uses. Others are ignored, including `iat` (RFC 7519 gives it no influence on validity). `null` is the same as
/// an absent claim.
#[derive(Default)]
pub(crate) struct Claims {
    user: Option<Value>,
    tenant: Option<Value>,
    scope: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
}

/// Tenant of a token without a tenant claim.
const DEFAULT_TENANT: &str = "default";

/// 9999-12-31T23:59:59.999Z, the latest time that RFC 3339 can express.
const TIME_MS_MAX: i64 = 253_402_300_799_999;

impl Claims {
    /// Parses the claims of a token. A claim that Starling uses must not appear twice.
    pub(crate) fn read(json: &str, names: &ClaimNames) -> serde_json::Result<Claims> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let claims = ClaimsReader(names).deserialize(&mut reader)?;
        reader.end()?;
        Ok(claims)
    }

    /// Checks the claims at the time `now_ms` and returns the identity.
    pub(crate) fn check(self, options: &VerifierOptions, now_ms: i64) -> Result<Identity, TokenError> {
        let expires_at_ms = milliseconds(number(self.exp)?.ok_or(TokenError::NoExpiry)?);
        if now_ms >= expires_at_ms {
            return Err(TokenError::Expired);
        }
        if number(self.nbf)?.is_some_and(|nbf| milliseconds(nbf) > now_ms.saturating_add(LEEWAY_MS)) {
            return Err(TokenError::NotYetValid);
        }
        if !options.issuers.is_empty() {
            check_issuer(&options.issuers, text(self.iss)?.as_deref())?;
        }
        if !options.audiences.is_empty() && !is_for(&options.audiences, self.aud)? {
            return Err(TokenError::WrongAudience);
        }
        let user = text(self.user)?.ok_or(TokenError::NoSubject)?;
        let user = user_name(&user).ok_or(TokenError::BadSubject)?.into();
        let tenant = text(self.tenant)?;
        let tenant = tenant.as_deref().unwrap_or(DEFAULT_TENANT);
        let tenant = TenantName::parse(tenant).map_err(|_| TokenError::BadTenant)?;
        Ok(Identity { user, tenant, scopes: Arc::new(scopes(self.scope)?), expires_at_ms })
    }
}

struct ClaimsReader<'a>(&'a ClaimNames);

impl<'de> DeserializeSeed<'de> for ClaimsReader<'_> {
    type Value = Claims;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Claims, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ClaimsReader<'_> {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let ClaimNames { user, tenant, scope } = self.0;
        let mut claims = Claims::default();
        while let Some(key) = map.next_key::<String>()? {
            // The operator may have given one claim several meanings.
            let meanings = [
                (key == *user, &mut claims.user),
                (key == *tenant, &mut claims.tenant),
                (key == *scope, &mut claims.scope),
                (key == "exp", &mut claims.exp),
                (key == "nbf", &mut claims.nbf),
                (key == "iss", &mut claims.iss),
                (key == "aud", &mut claims.aud),
            ];
            let mut meant =
                meanings.into_iter().filter(|(means, _)| *means).map(|(_, claim)| claim).peekable();
            if meant.peek().is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = map.next_value()?;
            for claim in meant {
                if claim.replace(value.clone()).is_some() {
                    return Err(serde::de::Error::custom("a claim appears twice"));
                }
            }
        }
        Ok(claims)
    }
}

fn text(claim: Option<Value>) -> Result<Option<String>, TokenError> {
    match claim {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::BadClaims),
    }
}

fn number(claim: Option<Value>) -> Result<Option<f64>, TokenError> {
    match claim {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_f64().map(Some).ok_or(TokenError::BadClaims),
        Some(_) => Err(TokenError::BadClaims),
    }
}

/// Reads scopes from a string separated by spaces (RFC 8693, section 4.2) or from a list.
fn scopes(claim: Option<Value>) -> Result<Scopes, TokenError> {
    let Some(Value::Array(words)) = claim else {
        return Ok(Scopes::parse(&text(claim)?.unwrap_or_default()));
    };
    let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
    Ok(Scopes::of_words(words.ok_or(TokenError::BadClaims)?))
}

/// Checks the issuer, which must match exactly (OpenID Connect Core 1.0, section 3.1.3.7).
fn check_issuer(wanted: &[String], issuer: Option<&str>) -> Result<(), TokenError> {
    static HINTED: Once = Once::new();
    let Some(issuer) = issuer else { return Err(TokenError::WrongIssuer) };
    if wanted.iter().any(|wanted| wanted == issuer) {
        return Ok(());
    }
    let bare = |issuer: &str| issuer.trim_end_matches('/').to_owned();
    if let Some(near) = wanted.iter().find(|wanted| bare(wanted) == bare(issuer)) {
        HINTED.call_once(|| {
            tracing::warn!(
                jwt_issuer = near,
                "the issuer in the tokens differs from jwt_issuer only in the slash at its end; write jwt_issuer as it appears in the tokens"
            );
        });
    }
    Err(TokenError::WrongIssuer)
}

/// Checks the audience. `aud` is a single audience or a list (RFC 7519, section 4.1.3).
fn is_for(wanted: &[String], audience: Option<Value>) -> Result<bool, TokenError> {
    let Some(Value::Array(several)) = audience else {
        return Ok(text(audience)?.is_some_and(|one| wanted.contains(&one)));
    };
    Ok(several.iter().filter_map(Value::as_str).any(|one| wanted.iter().any(|wanted| wanted == one)))
}

/// Converts a NumericDate (seconds, possibly with a fraction) to Unix milliseconds. JSON has no NaN, and `as` saturates.
fn milliseconds(numeric_date: f64) -> i64 {
    ((numeric_date * 1_000.0).floor() as i64).min(TIME_MS_MAX)
}
