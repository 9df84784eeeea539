//! What an operator can set about the verification of tokens, besides the key.

use std::time::Duration;

/// Options besides the key.
#[derive(Clone, Debug)]
pub struct VerifierOptions {
    /// Accepted issuers. If there are any, `iss` must be exactly one of them; otherwise `iss` is ignored.
    pub issuers: Vec<String>,
    /// Accepted audiences. If there are any, `aud` must be or contain one of them; otherwise `aud` is ignored.
    pub audiences: Vec<String>,
    /// Names of the claims for the user, the tenant and the scopes.
    pub claims: ClaimNames,
    /// Interval between fetches of the key set.
    pub jwks_refresh: Duration,
}

impl Default for VerifierOptions {
    fn default() -> VerifierOptions {
        VerifierOptions {
            issuers: Vec::new(),
            audiences: Vec::new(),
            claims: ClaimNames::default(),
            jwks_refresh: Duration::from_secs(300),
        }
    }
}

/// Names of the claims that contain the user, the tenant and the scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// User claim (`jwt_user_claim`).
    pub user: String,
    /// Tenant claim (`jwt_tenant_claim`).
    pub tenant: String,
    /// Scope claim (`jwt_scope_claim`): a string separated by spaces, or a list.
    pub scope: String,
}

impl ClaimNames {
    /// Returns the claims for a token with this user, tenant and scope. If two of them have the same name, the user wins.
    pub fn of<'a>(&'a self, user: &'a str, tenant: &'a str, scope: &'a str) -> [(&'a str, &'a str); 3] {
        [(&self.scope, scope), (&self.tenant, tenant), (&self.user, user)]
    }
}

impl Default for ClaimNames {
    fn default() -> ClaimNames {
        ClaimNames { user: "sub".to_owned(), tenant: "tenant".to_owned(), scope: "scope".to_owned() }
    }
}
