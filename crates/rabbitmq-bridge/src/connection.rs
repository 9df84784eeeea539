//! An open connection to RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use async_rs::Runtime;
use futures_util::StreamExt;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, Event};
use tokio::time::{sleep, timeout};

use crate::Error;
use crate::address::Address;
use crate::transport::{Cutter, Socket, Transport};

/// Time limit for connecting and logging in.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Time limit for opening a channel or declaring something.
const CALL_MAX: Duration = Duration::from_secs(20);
/// Time limit for closing a connection.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How often the state of the connection is checked, besides the client's own reports.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// AMQP reply code of a normal close.
const GOODBYE: u16 = 200;

/// An open connection. It is cut when it is dropped; RabbitMQ then gives what was not acknowledged to others.
pub(crate) struct BrokerConnection {
    connection: Connection,
    cutter: Arc<Cutter>,
}

impl BrokerConnection {
    /// Connects and logs in. The name is what RabbitMQ shows to its operators.
    pub async fn open(address: &Address, name: &str) -> Result<BrokerConnection, Error> {
        let cutter = Arc::new(Cutter::default());
        let (for_socket, to, runtime) = (cutter.clone(), address.clone(), Transport::current());
        let cutter = CutOnDrop(Some(cutter));
        let connect = async move |_, _| {
            let connecting = timeout(OPEN_MAX, Socket::connect(&to, for_socket.clone()));
            let socket =
                connecting.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            Ok(AsyncTcpStream::Plain(socket))
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let opening = Connection::connector(address.uri.clone(), Runtime::new(runtime), connect, properties);
        let connection =
            timeout(OPEN_MAX, opening).await.map_err(|_| Error::Silent(OPEN_MAX.as_secs()))??;
        Ok(BrokerConnection { connection, cutter: cutter.keep() })
    }

    /// Opens a channel.
    pub async fn channel(&self) -> Result<Channel, Error> {
        within(self.connection.create_channel()).await
    }

    /// Returns whether the connection is open.
    pub fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Returns whether RabbitMQ blocks publishing, because it lacks memory or disk.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Waits until the connection is lost. Returns the cause.
    pub async fn lost(&self) -> Error {
        let mut events = self.connection.events_listener();
        let mut cause = None;
        while self.is_open() {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Error(error)) => cause = Some(error),
                    Some(Event::ConnectionBlocked(why)) => {
                        tracing::warn!(why, "RabbitMQ blocks publishing (memory or disk alarm); jobs wait");
                    }
                    Some(Event::ConnectionUnblocked) => tracing::info!("RabbitMQ allows publishing again"),
                    Some(_) => {}
                    None => sleep(LOOK_EVERY).await,
                },
                () = sleep(LOOK_EVERY) => {}
            }
        }
        cause.map_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into(), Error::from)
    }

    /// Closes the connection, then cuts it. RabbitMQ delivers unacknowledged messages again.
    pub async fn close(&self) {
        let closing = self.connection.close(GOODBYE, "OK".into());
        if let Err(error) = timeout(CLOSE_MAX, closing).await.unwrap_or(Ok(())) {
            tracing::debug!(%error, "a connection to RabbitMQ was not closed in order");
        }
        self.cutter.cut();
    }
}

impl Drop for BrokerConnection {
    fn drop(&mut self) {
        self.cutter.cut();
    }
}

/// Waits for an answer of RabbitMQ, but not for ever.
pub(crate) async fn within<T>(call: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
    timeout(CALL_MAX, call).await.map_err(|_| Error::Silent(CALL_MAX.as_secs()))?.map_err(Error::from)
}

/// Cuts a connection that could not be opened.
struct CutOnDrop(Option<Arc<Cutter>>);

impl CutOnDrop {
    fn keep(mut self) -> Arc<Cutter> {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(cutter) = &self.0 {
            cutter.cut();
        }
    }
}
