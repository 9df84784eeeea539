//! The public port: takes connections and hands them to the shards in turn.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::addresses::{AddressGuard, Refusal};
use crate::metrics::METRICS;
use crate::pages::{Pages, Target};
use crate::shard::{Inboxes, Item};
use crate::upgrade::Front;

/// How many connections the kernel holds for us: a storm of reconnects comes at once.
const BACKLOG: i32 = 4_096;
/// How many refused connections are said no to at once; beyond that they are just closed.
const REFUSALS_AT_ONCE: usize = 256;
/// How many bytes the kernel takes for a socket beyond what is on its way. A slow client is seen to move whenever half of this has left,
/// and a ping waits behind no more than this: at 12 kB/s some 3 s.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 32 * 1024;
/// How long the acceptor rests when the process has no file descriptors left.
const REST: Duration = Duration::from_millis(50);

/// A connection on its way to a shard.
pub(crate) struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: IpAddr,
    pub guard: Option<AddressGuard>,
}

/// Opens the public port.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections until `stop` is over.
pub(crate) async fn accept(
    listener: TcpListener,
    inboxes: Arc<Inboxes>,
    front: Arc<Front>,
    stop: impl Future<Output = ()>,
) {
    let refusals = Arc::new(Semaphore::new(REFUSALS_AT_ONCE));
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
                // Most often: no file descriptors left. Those who wait in the backlog are served when some are free again.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let peer = peer.ip().to_canonical();
        let guard = if front.proxies.trusts(peer) { Ok(None) } else { front.addresses.enter(peer) };
        match guard {
            Ok(guard) => {
                // A socket that takes no options is one whose peer has gone.
                let Ok(stream) = prepare(stream) else { continue };
                inboxes.send(next, Item::Accepted(Box::new(Accepted { stream, peer, guard }))).await;
                next = (next + 1) % inboxes.count().max(1);
            }
            Err(refusal) => {
                count(refusal);
                // Under TLS the answer would be no answer, and a TLS handshake is what the limit is to save.
                if front.tls.is_none()
                    && let Ok(permit) = refusals.clone().try_acquire_owned()
                {
                    let front = front.clone();
                    tokio::spawn(async move {
                        refuse(stream, refusal, &front.pages).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

fn prepare(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    // A peer that vanished without a word is found by our pings; this is for HTTP.
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
    // What a slow reader has not taken waits with us, where it is bounded and shared, and not once more in the kernel.
    #[cfg(target_os = "linux")]
    SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    stream.into_std()
}

/// Counts a refusal, whether the address is the peer's or one that a load balancer speaks for.
pub(crate) fn count(refusal: Refusal) {
    match refusal {
        Refusal::Connections(_) => METRICS.limited_connections.increment(1),
        Refusal::Handshakes(_) => METRICS.limited_handshakes.increment(1),
    }
}

/// Says no, cheaply, to a connection that its address may not have.
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
        // What was sent must be read, or the answer is lost in the reset.
        let read = stream.read(&mut request).await?;
        let mut answer = head.into_bytes();
        for (name, value) in &shared(pages, &request[..read]) {
            answer.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        answer.extend_from_slice(&[b"\r\n", body.as_bytes()].concat());
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    // Whoever does not take its answer within a second is closed all the same.
    let _ = tokio::time::timeout(Duration::from_secs(1), answer).await;
}

/// The headers by which a listed page may read the answer, from what is there of the request's head.
fn shared(pages: &Pages, head: &[u8]) -> HeaderMap {
    let mut asked = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').skip(1).take_while(|line| !line.trim_ascii().is_empty()) {
        // A line that has not come as a whole is none.
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
