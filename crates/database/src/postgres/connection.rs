use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::error;
use super::tls_stream::Tls;
use crate::Error;

/// A connection in use. If it is dropped before it was given back (the answer came too late, or the caller went away), it is not used
/// again, since an answer is still to come on it, and the server is told to stop.
pub(super) struct Connection {
    object: Option<Object>,
    tls: Option<Tls>,
    cancel_timeout: Duration,
}

impl Connection {
    /// Takes a connection from the pool, or opens one.
    pub(super) async fn take(
        pool: &Pool,
        tls: Option<&Tls>,
        cancel_timeout: Duration,
    ) -> Result<Self, Error> {
        let object = pool.get().await.map_err(|error| error::of_pool(&error))?;
        Ok(Self { object: Some(object), tls: tls.cloned(), cancel_timeout })
    }

    pub(super) fn get(&self) -> Result<&Object, Error> {
        self.object.as_ref().ok_or_else(gone)
    }

    pub(super) fn get_mut(&mut self) -> Result<&mut Object, Error> {
        self.object.as_mut().ok_or_else(gone)
    }

    /// Gives the connection back to the pool.
    pub(super) fn give_back(mut self) {
        self.object = None;
    }

    /// Closes a connection on which no answer is outstanding, and which would be of no use to the next caller.
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
            // Only now: PgBouncer forgets whom to tell when the connection is closed.
            drop(client);
        });
    }
}

fn gone() -> Error {
    Error::Unavailable("the connection was given back".into())
}
