//! Hooks that ask first: backends that decide before something happens.

use std::time::Duration;

use starling_model::TenantName;

use crate::{Endpoint, Error, Secret};

/// The longest time that a backend may take to decide.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// The time that it may take unless its owner says otherwise.
pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

/// What a backend is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPoint {
    /// A user connects.
    Connect,
    /// A user creates a conversation.
    Create,
    /// A user joins a conversation.
    Join,
    /// A user sends a message. The backend may rewrite it.
    Send,
    /// A user publishes on a topic.
    Publish,
    /// A user subscribes to a topic.
    Subscribe,
}

impl HookPoint {
    /// All points.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::Create, Self::Join, Self::Send, Self::Publish, Self::Subscribe];

    /// Returns the name that backends and the API use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Create => "create",
            Self::Join => "join",
            Self::Send => "send",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }

    /// Returns the point of a name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.as_str() == name)
    }
}

/// What happens if a backend can't decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// What was about to happen does not happen. The client may try again.
    #[default]
    Refuse,
    /// It happens as if the backend had allowed it.
    Allow,
}

impl OnFailure {
    /// Returns the name that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Allow => "allow",
        }
    }

    /// Returns the choice of a name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Refuse, Self::Allow].into_iter().find(|choice| choice.as_str() == name)
    }
}

/// A hook that asks first. A tenant has at most one for each point. Its secret is not part of it, so that nothing that lists hooks can show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The tenant that it belongs to.
    pub tenant: TenantName,
    /// What it decides about.
    pub point: HookPoint,
    /// Where the backend is asked.
    pub endpoint: Endpoint,
    /// How long it may take.
    pub timeout: Duration,
    /// What happens if it can't decide.
    pub on_failure: OnFailure,
}

/// A time that is out of range. The giver is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timeout_ms must be 1 to {}", HOOK_TIMEOUT_MAX.as_millis())]
pub struct InvalidTimeout;

impl Hook {
    /// Checks the time that a backend may take.
    ///
    /// # Errors
    /// [`InvalidTimeout`] if it is less than a millisecond or more than [`HOOK_TIMEOUT_MAX`].
    pub fn check(&self) -> Result<(), InvalidTimeout> {
        let is_valid = self.timeout >= Duration::from_millis(1) && self.timeout <= HOOK_TIMEOUT_MAX;
        if is_valid { Ok(()) } else { Err(InvalidTimeout) }
    }

    /// Returns the time in whole milliseconds, as the databases keep it.
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Where a hook asks that can't be read. Nobody ever answers there (RFC 2606).
const UNREADABLE_URL: &str = "https://unreadable.invalid/";

/// Puts a hook and its secrets together from the columns of a row, for asking. If they can't be read, the hook is one whose backend never answers
/// and that refuses: what its owner wants to decide must not happen undecided.
pub(crate) fn readable_or_refusing(
    tenant: TenantName,
    point: HookPoint,
    hook: Result<(Hook, Vec<Secret>), Error>,
) -> Option<(Hook, Vec<Secret>)> {
    let error = match hook {
        Ok(hook) => return Some(hook),
        Err(error) => error,
    };
    tracing::error!(tenant = &*tenant, point = point.as_str(), %error, "a hook can't be read; what it decides about is refused");
    // The text is a URL, so this is always there.
    let endpoint = Endpoint::parse(UNREADABLE_URL).ok()?;
    let (timeout, on_failure) = (HOOK_TIMEOUT_DEFAULT, OnFailure::Refuse);
    Some((Hook { tenant, point, endpoint, timeout, on_failure }, vec![Secret::generate()]))
}

/// Puts a hook together from the columns of a row.
pub(crate) fn of_columns(
    tenant: TenantName,
    point: &str,
    url: &str,
    timeout_ms: i32,
    on_failure: &str,
) -> Result<Hook, Error> {
    let fault = |what: String| Error::Refused(what);
    Ok(Hook {
        tenant,
        point: HookPoint::parse(point).ok_or_else(|| fault(format!("{point} is no point of a hook")))?,
        endpoint: Endpoint::parse(url).map_err(|error| fault(error.to_string()))?,
        timeout: Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default()),
        on_failure: OnFailure::parse(on_failure)
            .ok_or_else(|| fault(format!("{on_failure} is no choice")))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for point in HookPoint::ALL {
            assert_eq!(HookPoint::parse(point.as_str()), Some(point));
        }
        for choice in [OnFailure::Refuse, OnFailure::Allow] {
            assert_eq!(OnFailure::parse(choice.as_str()), Some(choice));
        }
        assert_eq!((HookPoint::parse("history"), OnFailure::parse("")), (None, None));
    }

    #[test]
    fn a_hook_that_cannot_be_read_refuses() {
        let unreadable = Err(Error::Refused("no url".into()));
        let (hook, _) = readable_or_refusing("t".into(), HookPoint::Join, unreadable).unwrap();
        assert_eq!((&*hook.tenant, hook.point, hook.on_failure), ("t", HookPoint::Join, OnFailure::Refuse));
        assert!(hook.check().is_ok());
    }

    #[test]
    fn a_backend_may_take_five_seconds_at_most() {
        let hook = |ms| Hook {
            tenant: "t".into(),
            point: HookPoint::Send,
            endpoint: Endpoint::parse("https://example.com/").unwrap(),
            timeout: Duration::from_millis(ms),
            on_failure: OnFailure::Refuse,
        };
        assert!(hook(1).check().is_ok() && hook(5000).check().is_ok());
        assert!(hook(0).check().is_err() && hook(5001).check().is_err());
    }
}
