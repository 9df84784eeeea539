//! A receiver that remembers.

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use starling_fanout::{Delivery, Receiver};
use tokio::sync::Notify;

/// How long anything may take to arrive, on a machine that is busy.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Remembers all deliveries, in their order.
#[derive(Default)]
pub struct Witness {
    deliveries: Mutex<Vec<Delivery>>,
    more: Notify,
}

impl Receiver for Witness {
    fn receive(&self, delivery: Delivery) {
        self.deliveries.lock().push(delivery);
        self.more.notify_waiters();
    }
}

impl Witness {
    pub fn all(&self) -> Vec<Delivery> {
        self.deliveries.lock().clone()
    }

    /// What `pick` makes of the deliveries so far.
    pub fn picked<T>(&self, pick: impl FnMut(&Delivery) -> Option<T>) -> Vec<T> {
        self.deliveries.lock().iter().filter_map(pick).collect()
    }

    /// Waits until `pick` makes so many of the deliveries, and returns them.
    pub async fn wait_for<T>(&self, count: usize, pick: impl Fn(&Delivery) -> Option<T>) -> Result<Vec<T>> {
        let waiting = async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                let picked = self.picked(&pick);
                if picked.len() >= count {
                    return picked;
                }
                more.await;
            }
        };
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(picked) => Ok(picked),
            Err(_) => {
                let (had, all) = (self.picked(&pick).len(), self.all());
                let tail: String =
                    format!("{:?}", &all[all.len().saturating_sub(3)..]).chars().take(600).collect();
                bail!("{had} of {count} deliveries came; the last of all: {tail}")
            }
        }
    }

    /// Waits for a gap of everything.
    pub async fn wait_for_gap(&self) -> Result<()> {
        self.wait_for(1, |delivery| (*delivery == Delivery::Gap { partition: None }).then_some(()))
            .await
            .map(drop)
    }

    /// Waits until the link was said to be down.
    pub async fn wait_for_down(&self) -> Result<()> {
        self.wait_for(1, |delivery| (*delivery == Delivery::Down).then_some(())).await.map(drop)
    }

    pub fn forget(&self) {
        self.deliveries.lock().clear();
    }
}

/// The partition and text of a publication whose text begins with `mark`.
pub fn marked(mark: &str) -> impl Fn(&Delivery) -> Option<(u16, String)> {
    move |delivery| match delivery {
        Delivery::Publication { partition, body } if body.starts_with(mark.as_bytes()) => {
            Some((*partition, String::from_utf8_lossy(&body[mark.len()..]).into_owned()))
        }
        _ => None,
    }
}

/// The topic, offset and body of a tenant's publications.
pub fn of_tenant(tenant: &str) -> impl Fn(&Delivery) -> Option<(String, u64, Bytes)> {
    move |delivery| match delivery {
        Delivery::Topic { tenant: of, topic, offset, body, .. } if &**of == tenant => {
            Some((topic.to_string(), *offset, body.clone()))
        }
        _ => None,
    }
}

/// The bodies that were for this node alone.
pub fn direct(delivery: &Delivery) -> Option<Bytes> {
    match delivery {
        Delivery::Direct { body } => Some(body.clone()),
        _ => None,
    }
}
