//! What a valid token says, and the rules for its claims.

use std::fmt;
use std::sync::{Arc, Once};

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use starling_wire::protocol::is_name;

use crate::{Scopes, TokenError, VerifierOptions, user_name};

/// How far the clock of a token's issuer may run ahead: `nbf` is honoured with this leeway, milliseconds.
///
/// `exp` has none: an open socket closes at `exp`, so accepting a token later than that would only open a socket in order
/// to close it.
pub const LEEWAY_MS: i64 = 5_000;

/// Who a valid token says one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user: the claim that names them, as a name by the rules of the protocol ([`user_name`]).
    pub user: Arc<str>,
    /// The tenant, `default` where the token names none.
    pub tenant: Arc<str>,
    /// What they may.
    pub scopes: Arc<Scopes>,
    /// `exp`, Unix milliseconds; at most the end of the year 9999.
    pub expires_at_ms: i64,
}

/// Which claims say who one is and what one may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// `jwt_user_claim`: the claim that names the user.
    pub user: String,
    /// `jwt_tenant_claim`: the claim that names the tenant.
    pub tenant: String,
    /// `jwt_scope_claim`: the claim with the scopes, as text with spaces between or as a list.
    pub scope: String,
}

impl ClaimNames {
    /// The claims by which a token says that. Where one claim means several things, the user is what it says.
    pub fn of<'a>(&'a self, user: &'a str, tenant: &'a str, scope: &'a str) -> [(&'a str, &'a str); 3] {
        [(&self.scope, scope), (&self.tenant, tenant), (&self.user, user)]
    }
}

impl Default for ClaimNames {
    fn default() -> ClaimNames {
        ClaimNames { user: "sub".to_owned(), tenant: "tenant".to_owned(), scope: "scope".to_owned() }
    }
}

/// The claims that mean something here; others are ignored, `iat` among them (RFC 7519 gives it no say over validity). `null` is
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

/// The tenant of a token that names none.
const DEFAULT_TENANT: &str = "default";

/// 9999-12-31T23:59:59.999Z: the last time that RFC 3339 can write.
const TIME_MS_MAX: i64 = 253_402_300_799_999;

impl Claims {
    /// Reads the claims of a token. One that means something must not stand there twice.
    pub(crate) fn read(json: &str, names: &ClaimNames) -> serde_json::Result<Claims> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let claims = ClaimsReader(names).deserialize(&mut reader)?;
        reader.end()?;
        Ok(claims)
    }

    /// Holds the claims against the rules, at the time `now_ms`.
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
        let user = user_name(&user).ok_or(TokenError::BadSubject)?;
        let tenant = text(self.tenant)?;
        let tenant = tenant.as_deref().unwrap_or(DEFAULT_TENANT);
        if !is_name(tenant) {
            return Err(TokenError::BadTenant);
        }
        Ok(Identity {
            user: user.into(),
            tenant: tenant.into(),
            scopes: Arc::new(scopes(self.scope)?),
            expires_at_ms,
        })
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
            // One claim may mean several things.
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
                    return Err(serde::de::Error::custom("a claim stands there twice"));
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

/// Scopes come as one text with spaces between (RFC 8693, section 4.2), or as a list.
fn scopes(claim: Option<Value>) -> Result<Scopes, TokenError> {
    let Some(Value::Array(words)) = claim else {
        return Ok(Scopes::parse(&text(claim)?.unwrap_or_default()));
    };
    let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
    Ok(Scopes::of_words(words.ok_or(TokenError::BadClaims)?))
}

/// An issuer is compared letter by letter (OpenID Connect Core 1.0, section 3.1.3.7).
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
                "tokens come from an issuer whose name differs from this only in the slash at its end; write jwt_issuer as it stands in them"
            );
        });
    }
    Err(TokenError::WrongIssuer)
}

/// `aud` is one audience, or several (RFC 7519, section 4.1.3).
fn is_for(wanted: &[String], audience: Option<Value>) -> Result<bool, TokenError> {
    let Some(Value::Array(several)) = audience else {
        return Ok(text(audience)?.is_some_and(|one| wanted.contains(&one)));
    };
    Ok(several.iter().filter_map(Value::as_str).any(|one| wanted.iter().any(|wanted| wanted == one)))
}

/// A NumericDate (seconds, perhaps with a fraction) as Unix milliseconds. JSON knows no NaN, and `as` saturates.
fn milliseconds(numeric_date: f64) -> i64 {
    ((numeric_date * 1_000.0).floor() as i64).min(TIME_MS_MAX)
}
