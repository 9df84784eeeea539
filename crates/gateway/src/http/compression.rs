//! Compression of answers, for those who accept it. Small ones are compressed where they are made, on the thread of a shard, in
//! some microseconds. Large ones are compressed on other threads, since all sockets of the shard wait for that thread meanwhile.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::middleware::{map_response, map_response_with_state};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use starling_hub::CommandError;
use starling_wire::protocol::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use super::error::ApiError;

/// Smallest response that is compressed, in bytes. Smaller ones fit into one packet anyway.
const COMPRESS_BYTES_MIN: u64 = 1024;
/// Smallest response that is compressed on another thread, in bytes. A page of history of 1 MiB takes about 10 ms.
const OTHER_THREAD_BYTES_MIN: u64 = 16 * 1024;

/// Length of a response before compression, if known; stored in the extensions of the response.
#[derive(Clone, Copy)]
pub(crate) struct AnswerBytes(pub u64);

/// Compression of large responses on other threads.
#[derive(Clone)]
struct CompressionThreads {
    /// Runtime of the control threads, whose blocking threads are used.
    runtime: Handle,
    /// Permits for compressing at the same time; half of the processors stay free.
    permits: Arc<Semaphore>,
}

/// Compresses the router's responses. Must be called within the runtime whose threads compress large responses.
pub(super) fn compressed(router: Router) -> Router {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = CompressionThreads {
        runtime: Handle::current(),
        permits: Arc::new(Semaphore::new(processors.div_ceil(2))),
    };
    router
        .layer(map_response(measure))
        .layer(layer())
        .layer(map_response_with_state(threads, compress_on_other_thread))
}

/// Fastest level, because the network is seldom slower.
fn layer() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new()
        .no_deflate()
        .no_zstd()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESS_BYTES_MIN))
}

async fn measure(mut response: Response) -> Response {
    let bytes = AnswerBytes(response.body().size_hint().lower());
    response.extensions_mut().insert(bytes);
    response
}

/// Compresses a body on another thread, by reading all of it there: bodies are compressed while they are read.
async fn compress_on_other_thread(State(threads): State<CompressionThreads>, response: Response) -> Response {
    let large =
        response.extensions().get::<AnswerBytes>().is_some_and(|bytes| bytes.0 >= OTHER_THREAD_BYTES_MIN);
    if !large || !response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // The turn goes with the work, which goes on when nobody waits for it any more.
    let Ok(turn) = threads.permits.acquire_owned().await else { return failed() };
    let runtime = threads.runtime.clone();
    let work = threads.runtime.spawn_blocking(move || {
        let read = runtime.block_on(axum::body::to_bytes(body, usize::MAX));
        drop(turn);
        read
    });
    let Ok(Ok(bytes)) = work.await else { return failed() };
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Response::from_parts(parts, Body::from(bytes))
}

/// Error for a body that cannot be read. Bodies are in memory already, so this only happens when the node ends.
fn failed() -> Response {
    ApiError::from(CommandError::new(ErrorCode::Internal, "the answer could not be compressed"))
        .into_response()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::thread::ThreadId;

    use axum::routing::get;
    use bytes::Bytes;
    use http::Request;
    use http::header::ACCEPT_ENCODING;
    use hyper::body::{Frame, SizeHint};
    use parking_lot::Mutex;
    use tower::ServiceExt;

    use super::*;

    /// Body that records the threads on which it was read.
    struct Watched {
        left: Option<Bytes>,
        readers: Arc<Mutex<Vec<ThreadId>>>,
    }

    impl HttpBody for Watched {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.readers.lock().push(std::thread::current().id());
            Poll::Ready(self.left.take().map(|data| Ok(Frame::data(data))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.left.as_ref().map_or(0, |left| left.len() as u64))
        }
    }

    /// An answer of that size: its encoding, its length as announced and as it was, and whether this thread has read what it is made of.
    async fn answered(size: usize, accepted: &str) -> (bool, Option<usize>, usize, bool) {
        let readers: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
        let watched = readers.clone();
        let handler = async move || {
            let left = Some(Bytes::from(b"all work and no play ".repeat(size / 21)));
            Response::new(Body::new(Watched { left, readers: watched }))
        };
        let router = compressed(Router::new().route("/", get(handler)));
        let request =
            Request::get("/").header(ACCEPT_ENCODING, accepted).body(Body::empty()).expect("request");
        let response = router.oneshot(request).await.expect("an answer");
        let encoded = response.headers().contains_key(CONTENT_ENCODING);
        let announced = response
            .headers()
            .get(CONTENT_LENGTH)
            .map(|value| value.to_str().expect("text").parse().expect("a number"));
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        let here = readers.lock().contains(&std::thread::current().id());
        (encoded, announced, body.len(), here)
    }

    #[tokio::test]
    async fn large_answers_are_compressed_on_another_thread() {
        for accepted in ["gzip", "br"] {
            let (encoded, announced, bytes, here) = answered(1 << 20, accepted).await;
            assert!(encoded && !here && bytes < 1 << 18, "{accepted}: {bytes}");
            assert_eq!(announced, Some(bytes));
        }
    }

    #[tokio::test]
    async fn small_answers_are_compressed_where_they_are_made_and_others_not_at_all() {
        let (encoded, _, bytes, here) = answered(8 * 1024, "gzip").await;
        assert!(encoded && here && bytes < 1024, "{bytes}");
        let (encoded, _, bytes, here) = answered(1 << 20, "identity").await;
        assert!(!encoded && here && bytes > 1_000_000, "{bytes}");
        assert!(!answered(500, "gzip").await.0);
    }
}
