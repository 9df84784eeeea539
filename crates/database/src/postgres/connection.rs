use std::time::Duration;

use deadpool::managed::{Object, Pool};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::error;
use super::session::{Session, Sessions};
use super::tls_stream::Tls;
use crate::Error;

/// A connection in use. If it is dropped before it is given back, because the answer is late or the caller went away, an answer is still
/// outstanding. Then the connection is closed, and the server is told to cancel the statement.
pub(super) struct Connection {
    object: Option<Object<Sessions>>,
    tls: Option<Tls>,
    cancel_timeout: Duration,
}

impl Connection {
    /// Takes a connection from the pool, or opens one.
    pub(super) async fn take(
        pool: &Pool<Sessions>,
        tls: Option<&Tls>,
        cancel_timeout: Duration,
    ) -> Result<Self, Error> {
        let object = pool.get().await.map_err(|error| error::of_pool(&error))?;
        Ok(Self { object: Some(object), tls: tls.cloned(), cancel_timeout })
    }

    pub(super) fn get(&self) -> Result<&Session, Error> {
        self.object.as_deref().ok_or_else(gone)
    }

    pub(super) fn get_mut(&mut self) -> Result<&mut Session, Error> {
        self.object.as_deref_mut().ok_or_else(gone)
    }

    /// Gives the connection back to the pool.
    pub(super) fn give_back(mut self) {
        self.object = None;
    }

    /// Closes the connection, which must have no outstanding answer, because it is useless to other callers.
    pub(super) fn discard(mut self) {
        self.object.take().map(Object::take);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let stop = object.cancel_token();
        let client = Object::take(object);
        let Ok(runtime) = Handle::try_current() else { return };
        let (tls, limit) = (self.tls.take(), self.cancel_timeout);
        runtime.spawn(async move {
            // Best effort: the server may be out of reach, which is why the answer did not come.
            let _ = timeout(limit, async {
                match tls {
                    Some(tls) => stop.cancel_query(tls).await,
                    None => stop.cancel_query(NoTls).await,
                }
            })
            .await;
            // Not earlier: PgBouncer can't forward the cancellation after the connection is closed.
            drop(client);
        });
    }
}

fn gone() -> Error {
    Error::Unavailable("the connection was given back".into())
}
