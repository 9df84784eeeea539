//! Who is at the other end of a connection.

use std::sync::Arc;

use starling_auth::Identity;
use starling_hub::Session;

use crate::addresses::AddressGuard;

/// Who is at the other end of a connection.
pub(super) struct Client {
    login: Login,
    /// The `traceparent` of the handshake if it is traced: commands are linked to it.
    traceparent: Option<Box<Box<str>>>,
    /// Counts the connection against its address while it is held.
    _address: Option<AddressGuard>,
}

enum Login {
    /// `connect` is still to come. The identity is that of the upgrade's `Authorization`.
    Pending(Option<Box<Identity>>),
    Connected(Arc<Session>),
}

impl Client {
    /// A client that has not said `connect`.
    pub fn new(
        identity: Option<Identity>,
        traceparent: Option<Box<str>>,
        address: Option<AddressGuard>,
    ) -> Client {
        Client {
            login: Login::Pending(identity.map(Box::new)),
            traceparent: traceparent.map(Box::new),
            _address: address,
        }
    }

    /// The session, once `connect` has succeeded.
    pub fn session(&self) -> Option<&Arc<Session>> {
        match &self.login {
            Login::Pending(_) => None,
            Login::Connected(session) => Some(session),
        }
    }

    /// Whether the client is this user, for events that a user is not told of.
    pub fn is_user(&self, user: &str) -> bool {
        self.session().is_some_and(|session| &*session.user == user)
    }

    /// Who the upgrade's token says the client is, until `connect` has succeeded.
    pub fn identity(&self) -> Option<&Identity> {
        match &self.login {
            Login::Pending(identity) => identity.as_deref(),
            Login::Connected(_) => None,
        }
    }

    /// Records that `connect` has succeeded.
    pub fn connected(&mut self, session: Arc<Session>) {
        self.login = Login::Connected(session);
    }

    /// The `traceparent` of a handshake that is traced.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref().map(|traceparent| &**traceparent)
    }
}
