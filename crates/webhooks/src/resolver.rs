//! Looking up the addresses of names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Looks up the addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// Returns the addresses of a name, the best first.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver. Each lookup blocks a thread, and can't be ended by its caller. So there is only one lookup of a name at a
/// time, whose result all callers share, and a bounded number of lookups.
#[derive(Default)]
pub struct SystemResolver {
    lookups: Arc<Mutex<HashMap<String, watch::Receiver<Option<Answer>>>>>,
}

/// What a lookup came to. Errors are text, since [`io::Error`] can't be shared.
type Answer = Result<Vec<IpAddr>, String>;

/// The most lookups at a time. Tokio has 512 threads for what blocks, which others need as well.
const LOOKUPS_MAX: usize = 128;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut answer = self.lookup(name)?;
        let answer = answer.wait_for(Option::is_some).await;
        match answer.as_deref() {
            Ok(Some(Ok(addresses))) => Ok(addresses.clone()),
            Ok(Some(Err(error))) => Err(io::Error::other(error.clone())),
            Ok(None) | Err(_) => Err(io::Error::other("the lookup was interrupted")),
        }
    }
}

impl SystemResolver {
    /// Joins the lookup of this name, or starts it.
    fn lookup(&self, name: &str) -> io::Result<watch::Receiver<Option<Answer>>> {
        let mut lookups = self.lookups.lock();
        let running = lookups.len();
        match lookups.entry(name.to_owned()) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(_) if running >= LOOKUPS_MAX => {
                Err(io::Error::other("too many lookups are running"))
            }
            Entry::Vacant(entry) => {
                let (tell, told) = watch::channel(None);
                entry.insert(told.clone());
                let (name, lookups) = (name.to_owned(), Arc::clone(&self.lookups));
                tokio::task::spawn_blocking(move || {
                    let answer = blocking_lookup(&name);
                    lookups.lock().remove(&name);
                    tell.send_replace(Some(answer));
                });
                Ok(told)
            }
        }
    }
}

fn blocking_lookup(name: &str) -> Answer {
    let addresses = (name, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    Ok(addresses.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_looked_up_and_nothing_is_kept() {
        let resolver = SystemResolver::default();
        let (first, second) = tokio::join!(resolver.resolve("localhost"), resolver.resolve("localhost"));
        assert!(first.unwrap().iter().all(IpAddr::is_loopback) && !second.unwrap().is_empty());
        assert!(resolver.lookups.lock().is_empty());
        assert!(resolver.resolve("no-such-name.invalid").await.is_err());
        assert!(resolver.lookups.lock().is_empty());
    }

    #[tokio::test]
    async fn lookups_are_bounded() {
        let resolver = SystemResolver::default();
        let (_tell, told) = watch::channel(None);
        for number in 0..LOOKUPS_MAX {
            resolver.lookups.lock().insert(number.to_string(), told.clone());
        }
        assert!(resolver.resolve("localhost").await.unwrap_err().to_string().contains("too many"));
    }
}
