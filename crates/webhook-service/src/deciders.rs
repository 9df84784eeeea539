//! All hooks, in this node's memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use starling_model::TenantName;
use starling_webhooks::{Hook, HookPoint, Registry, Secret};

/// A hook with the secrets that sign, as a node asks it.
pub struct Decider {
    hook: Hook,
    secrets: Vec<Secret>,
}

impl Decider {
    /// Returns the hook.
    pub(crate) fn hook(&self) -> &Hook {
        &self.hook
    }

    /// Returns the secrets that sign the questions.
    pub(crate) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }
}

/// The hooks of a tenant, by the place of their point in [`HookPoint::ALL`].
type OfTenant = [Option<Arc<Decider>>; HookPoint::ALL.len()];

/// All hooks. A tenant has at most one for each point, and each takes some 3 KiB at most.
#[derive(Default)]
pub(crate) struct Deciders {
    /// Whether there is any. While there is none, a command costs a look at this flag.
    any: AtomicBool,
    tenants: RwLock<HashMap<TenantName, OfTenant>>,
}

impl Deciders {
    /// Returns the hook of a tenant at a point, if there is one.
    pub fn at(&self, tenant: &TenantName, point: HookPoint) -> Option<Arc<Decider>> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        self.tenants.read().get(tenant)?[point as usize].clone()
    }

    /// Replaces all hooks.
    pub fn replace(&self, registry: Registry) {
        let mut tenants: HashMap<TenantName, OfTenant> = HashMap::new();
        for (hook, secrets) in registry.hooks {
            let (tenant, place) = (hook.tenant.clone(), hook.point as usize);
            tenants.entry(tenant).or_default()[place] = Some(Arc::new(Decider { hook, secrets }));
        }
        let any = !tenants.is_empty();
        *self.tenants.write() = tenants;
        self.any.store(any, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use starling_webhooks::{Endpoint, OnFailure};

    use super::*;

    fn registry(hooks: &[(&str, HookPoint)]) -> Registry {
        let hook = |(tenant, point): &(&str, HookPoint)| Hook {
            tenant: (*tenant).into(),
            point: *point,
            endpoint: Endpoint::parse("https://example.com/").unwrap(),
            timeout: Duration::from_secs(1),
            on_failure: OnFailure::Refuse,
        };
        let hooks = hooks.iter().map(|given| (hook(given), vec![Secret::generate()])).collect();
        Registry { hooks, ..Registry::default() }
    }

    #[test]
    fn a_hook_decides_at_its_point_for_its_tenant() {
        let deciders = Deciders::default();
        let (t, u) = ("t".into(), "u".into());
        assert!(deciders.at(&t, HookPoint::Send).is_none());
        deciders.replace(registry(&[("t", HookPoint::Send), ("u", HookPoint::Join)]));
        for point in HookPoint::ALL {
            assert_eq!(deciders.at(&t, point).is_some(), point == HookPoint::Send, "{point:?}");
            assert_eq!(deciders.at(&u, point).is_some(), point == HookPoint::Join, "{point:?}");
        }
        deciders.replace(registry(&[("u", HookPoint::Join)]));
        assert!(deciders.at(&t, HookPoint::Send).is_none() && deciders.at(&u, HookPoint::Join).is_some());
        deciders.replace(registry(&[]));
        assert!(deciders.at(&u, HookPoint::Join).is_none());
    }
}
