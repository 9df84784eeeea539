//! Which events of which tenants are wanted, in this node's memory.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use starling_model::TenantName;
use starling_webhooks::{EventType, Events, Registry, WebhookId};
use tokio::sync::watch;

/// A set of types of events, one bit for each.
type Types = u16;

const _: () = assert!(EventType::ALL.len() <= Types::BITS as usize, "each type has a bit");

/// Those that tell who is online.
const ONLINE: Types = bit(EventType::UserOnline) | bit(EventType::UserOffline);

/// Which events of which tenants are wanted, and all webhooks.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Whether there is any webhook. While there is none, an event costs a look at this flag.
    any: AtomicBool,
    tenants: RwLock<HashMap<TenantName, Types>>,
    /// A number that rises with each change.
    version: watch::Sender<u64>,
    webhooks: RwLock<Vec<(TenantName, WebhookId)>>,
}

impl Wanted {
    /// Whether a webhook of the tenant wants events of this type.
    pub fn has(&self, tenant: &TenantName, kind: EventType) -> bool {
        self.any() && self.tenants.read().get(tenant).is_some_and(|types| types & bit(kind) != 0)
    }

    /// Whether a webhook of the tenant wants to know who is online.
    pub fn follows(&self, tenant: &TenantName) -> bool {
        self.any() && self.tenants.read().get(tenant).is_some_and(|types| types & ONLINE != 0)
    }

    /// Returns the tenants with webhooks that want to know who is online.
    pub fn followed(&self) -> HashSet<TenantName> {
        let tenants = self.tenants.read();
        tenants.iter().filter(|(_, types)| *types & ONLINE != 0).map(|(tenant, _)| tenant.clone()).collect()
    }

    /// Whether any webhook wants events of this type.
    pub fn has_any(&self, kind: EventType) -> bool {
        self.any() && self.tenants.read().values().any(|types| types & bit(kind) != 0)
    }

    /// Returns what tells of changes. Its number rises with each one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
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
        self.version.send_modify(|version| *version += 1);
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
        let changes = wanted.changes();
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
        assert!(wanted.follows(&u) && !wanted.follows(&t), "all events include those of users");
        assert_eq!(wanted.followed(), HashSet::from([u.clone()]));
        assert!(wanted.has_any(EventType::JobFailed) && wanted.has_any(EventType::TurnFailed));
        assert_eq!((wanted.webhooks().len(), *changes.borrow()), (3, 1));
        wanted.replace(&Registry::default());
        assert!(!wanted.has(&u, EventType::MessageCreated));
    }
}
