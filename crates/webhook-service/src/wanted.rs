//! Which events of which tenants are wanted, in this node's memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use starling_model::TenantName;
use starling_webhooks::{EventType, Events, Registry, WebhookId};

/// A set of types of events, one bit for each.
type Types = u16;

const _: () = assert!(EventType::ALL.len() <= Types::BITS as usize, "each type has a bit");

/// Which events of which tenants are wanted, and all webhooks.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Whether there is any webhook. While there is none, an event costs a look at this flag.
    any: AtomicBool,
    tenants: RwLock<HashMap<TenantName, Types>>,
    webhooks: RwLock<Vec<(TenantName, WebhookId)>>,
}

impl Wanted {
    /// Whether a webhook of the tenant wants events of this type.
    pub fn has(&self, tenant: &TenantName, kind: EventType) -> bool {
        self.any() && self.tenants.read().get(tenant).is_some_and(|types| types & bit(kind) != 0)
    }

    /// Whether there is any webhook.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Returns all webhooks.
    pub fn webhooks(&self) -> Vec<(TenantName, WebhookId)> {
        self.webhooks.read().clone()
    }

    /// Replaces everything.
    pub fn replace(&self, registry: &Registry) {
        let mut tenants: HashMap<TenantName, Types> = HashMap::new();
        for (tenant, _, events) in &registry.wanted {
            *tenants.entry(tenant.clone()).or_default() |= match events {
                Events::All => Types::MAX,
                Events::Types(types) => types.iter().map(|kind| bit(*kind)).fold(0, |all, one| all | one),
            };
        }
        let any = !tenants.is_empty();
        *self.tenants.write() = tenants;
        *self.webhooks.write() =
            registry.wanted.iter().map(|(tenant, id, _)| (tenant.clone(), *id)).collect();
        self.any.store(any, Ordering::Relaxed);
    }
}

const fn bit(kind: EventType) -> Types {
    1 << kind as Types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_webhook_of_a_tenant_wants_is_wanted() {
        let (t, u) = ("t".into(), "u".into());
        let wanted = Wanted::default();
        assert!(!wanted.has(&t, EventType::MessageCreated));
        let of = |tenant: &str, events| (tenant.into(), WebhookId::new(), events);
        let some = |kind| Events::Types(vec![kind]);
        let registry = Registry {
            wanted: vec![
                of("t", some(EventType::MessageCreated)),
                of("t", some(EventType::JobFailed)),
                of("u", Events::All),
            ],
            ..Registry::default()
        };
        wanted.replace(&registry);
        for kind in EventType::ALL {
            let expected = matches!(kind, EventType::MessageCreated | EventType::JobFailed);
            assert_eq!(wanted.has(&t, kind), expected, "{kind:?}");
            assert!(wanted.has(&u, kind) && !wanted.has(&"v".into(), kind));
        }
        assert_eq!(wanted.webhooks().len(), 3);
        wanted.replace(&Registry::default());
        assert!(!wanted.has(&u, EventType::MessageCreated));
    }
}
