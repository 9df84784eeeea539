//! Values that many tokens have in common, of which one copy is kept.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_model::TenantName;

use crate::{Identity, Scopes};

/// Most values of one kind that are kept. Each new token is compared with all of them.
const KEPT_MAX: usize = 8;

/// The tenants and scopes of the latest tokens. An identity lives as long as its session, and most users have the same scopes, so the
/// sessions share them.
#[derive(Default)]
pub(crate) struct Recent {
    tenants: Mutex<Kept<TenantName>>,
    scopes: Mutex<Kept<Arc<Scopes>>>,
}

/// Some values, and the place of the one that is replaced next.
struct Kept<T> {
    values: Vec<T>,
    next: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept { values: Vec::new(), next: 0 }
    }
}

impl Recent {
    /// Replaces parts of an identity by equal ones of earlier tokens.
    pub(crate) fn share(&self, identity: &mut Identity) {
        self.tenants.lock().share(&mut identity.tenant);
        self.scopes.lock().share(&mut identity.scopes);
    }
}

impl<T: Clone + PartialEq> Kept<T> {
    fn share(&mut self, value: &mut T) {
        if let Some(known) = self.values.iter().find(|known| *known == value) {
            *value = known.clone();
        } else if self.values.len() < KEPT_MAX {
            self.values.push(value.clone());
        } else {
            self.values[self.next] = value.clone();
            self.next = (self.next + 1) % KEPT_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(tenant: &str, scope: &str) -> Identity {
        let scopes = Arc::new(Scopes::parse(scope));
        Identity { user: "ann".into(), tenant: tenant.into(), scopes, expires_at_ms: 0 }
    }

    #[test]
    fn equal_scopes_are_shared_and_others_are_not() {
        let recent = Recent::default();
        let (mut first, mut same) = (identity("t", "subscribe:news"), identity("t", "subscribe:news"));
        let mut other = identity("t", "subscribe:news publish:news");
        for identity in [&mut first, &mut same, &mut other] {
            recent.share(identity);
        }
        assert!(Arc::ptr_eq(&first.scopes, &same.scopes));
        assert_eq!((other.scopes.may_publish("news"), same.scopes.may_publish("news")), (true, false));
        assert_eq!(first.tenant.as_str().as_ptr(), same.tenant.as_str().as_ptr());
    }

    #[test]
    fn few_values_are_kept() {
        let recent = Recent::default();
        for number in 0..100 {
            recent.share(&mut identity(&format!("tenant-{number}"), ""));
        }
        assert_eq!(recent.tenants.lock().values.len(), KEPT_MAX);
        let mut again = identity("tenant-0", "admin");
        recent.share(&mut again);
        assert!(again.tenant.as_str() == "tenant-0" && again.scopes.is_admin());
    }
}
