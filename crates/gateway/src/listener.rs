//! The public port: takes connections and hands them to the shards in turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::accepted::Accepted;
use crate::access::Access;
use crate::addresses::Refusal;
use crate::pages::{Pages, Target};
use crate::shard::{Inboxes, Item};

/// Number of connections that the kernel holds for the node: a storm of reconnects comes at once.
pub const BACKLOG: i32 = 4_096;
/// Number of refused connections that are answered at once. Beyond that they are just closed.
const REFUSALS_AT_ONCE: usize = 256;
/// Bytes that the kernel takes for a socket beyond those that are on their way. A slow client is seen to read whenever half of them have
/// left, and a ping waits behind no more than these: at 12 kB/s some 3 s.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 32 * 1024;
/// How long an HTTP response may stay unread; it may hold a page of history in memory. WebSockets are bounded by outbox and
/// heartbeat.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Whether connections have the options of the listening socket, so that none of them costs four system calls.
const INHERITS: bool = cfg!(target_os = "linux");
/// How long the acceptor rests when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the public port.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if INHERITS {
        prepare(&socket)?;
    }
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections until `stop` completes.
pub(crate) async fn accept(
    listener: TcpListener,
    inboxes: Arc<Inboxes>,
    access: Arc<Access>,
    stop: impl Future<Output = ()>,
) {
    let refusals = Refusals { access: access.clone(), permits: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)) };
    let mut next = 0;
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most often, no file descriptors are left. Connections that wait in the backlog are served when some are free again.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = peer.ip().to_canonical();
        match access.enter_peer(peer) {
            Ok(guard) => {
                // A socket that takes no options is one whose peer has gone.
                if !INHERITS && prepare(&stream).is_err() {
                    continue;
                }
                let Ok(stream) = stream.into_std() else { continue };
                let accepted = Accepted { stream, peer, guard, at: Instant::now() };
                inboxes.send(next, Item::Accepted(Box::new(accepted))).await;
                next = (next + 1) % inboxes.count().max(1);
            }
            Err(refusal) => refusals.begin(stream, refusal),
        }
    }
}

/// Sends an HTTP error to connections over their address's limit.
struct Refusals {
    access: Arc<Access>,
    permits: Arc<Semaphore>,
}

impl Refusals {
    /// Sends an HTTP error to a connection over its address's limit, or closes it while [`REFUSALS_AT_ONCE`] others are being answered.
    fn begin(&self, stream: TcpStream, refusal: Refusal) {
        refusal.count();
        // Under TLS the answer could not be read, and a TLS handshake is what the limit is to save.
        if self.access.uses_tls() {
            return;
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else { return };
        let access = self.access.clone();
        #[expect(clippy::disallowed_methods, reason = "one answer to one connection")]
        tokio::spawn(async move {
            refuse(stream, refusal, &access.pages).await;
            drop(permit);
        });
    }
}

/// Sets the options of a connection's socket, or those of the listening socket that its connections inherit.
fn prepare<'a>(socket: impl Into<SockRef<'a>>) -> std::io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(true)?;
    // A WebSocket's peer that has vanished is found by pings; this is for HTTP.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
    // What a slow client has not read waits in its outbox, where it is bounded and shared, and not once more in the kernel.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    limit_waiting(socket, Some(ANSWER_TIMEOUT));
    Ok(())
}

/// Sets the time after which the kernel ends a connection whose peer acknowledges nothing (`TCP_USER_TIMEOUT`). So no timer runs here.
pub(crate) fn limit_waiting<'a>(socket: impl Into<SockRef<'a>>, limit: Option<Duration>) {
    // Only Linux and a few others know it. Elsewhere the limits per address have to do.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket.into().set_tcp_user_timeout(limit) {
        tracing::debug!(%error, "the kernel takes no limit on waiting for this connection's peer");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (socket.into(), limit);
}

/// Sends an HTTP error to a connection over its address's limit, without the HTTP server.
async fn refuse(mut stream: TcpStream, refusal: Refusal, pages: &Pages) {
    let ms = refusal.retry_after_ms();
    let body = format!(
        r#"{{"error":{{"code":"rate_limited","message":"{}","retry_after_ms":{ms}}}}}"#,
        refusal.message()
    );
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: {}\r\nconnection: close\r\n\
         content-length: {}\r\n",
        ms.div_ceil(1_000),
        body.len()
    );
    let answer = async {
        let mut request = [0; 2_048];
        // The request must be read, or the answer is lost in the reset.
        let read = stream.read(&mut request).await?;
        let mut answer = head.into_bytes();
        for (name, value) in &shared(pages, &request[..read]) {
            answer.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        answer.extend_from_slice(&[b"\r\n", body.as_bytes()].concat());
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    // A client that does not take its answer within a second is closed all the same.
    let _ = tokio::time::timeout(Duration::from_secs(1), answer).await;
}

/// The headers by which a listed page may read the answer, from the part of the request's head that has come.
fn shared(pages: &Pages, head: &[u8]) -> HeaderMap {
    let mut asked = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').skip(1).take_while(|line| !line.trim_ascii().is_empty()) {
        // A line that has not come as a whole is not looked at.
        let Some(line) = line.strip_suffix(b"\r") else { continue };
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if line[..colon].eq_ignore_ascii_case(b"origin")
            && let Ok(value) = HeaderValue::from_bytes(line[colon + 1..].trim_ascii())
        {
            asked.append(ORIGIN, value);
        }
    }
    let mut headers = HeaderMap::new();
    pages.share(pages.page(&asked, Target::default()), asked.get(ORIGIN), &mut headers);
    headers
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn an_accepted_connection_has_the_options_that_it_needs() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, (stream, _)) = (client.expect("connected"), accepted.expect("accepted"));
        if !INHERITS {
            prepare(&stream).expect("a living peer");
        }
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("known") && socket.keepalive().expect("known"));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_notsent_lowat().expect("known"), UNSENT_BYTES_MAX);
            assert_eq!(socket.tcp_user_timeout().expect("known"), Some(ANSWER_TIMEOUT));
            assert_eq!(socket.tcp_keepalive_time().expect("known"), Duration::from_secs(60));
        }
    }
}
