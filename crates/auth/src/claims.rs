//! What a valid token says.

use std::sync::Arc;

use crate::Scopes;

/// Who a valid token says one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: a name by the rules of the protocol.
    pub user: Arc<str>,
    /// `tenant`, or `default`.
    pub tenant: Arc<str>,
    /// `scope`.
    pub scopes: Arc<Scopes>,
    /// `exp`, Unix milliseconds.
    pub expires_at_ms: i64,
}
