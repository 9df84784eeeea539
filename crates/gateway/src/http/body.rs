//! Bodies of requests: bounded in size and in time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use starling_hub::CommandError;

use super::error::ApiError;

/// Largest body in bytes: twice the largest frame over WebSocket.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Largest body with the payload or the result of a job in bytes: twice the payload, which may be written with white space and escapes.
pub(super) const JOB_BODY_BYTES_MAX: usize = 512 * 1024;
/// Most bytes of an oversized body that are read and dropped. A client that is still sending would not see the response.
const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Complete body of a request. Its content type is ignored: bodies are always JSON.
pub(super) struct WholeBody<const BYTES_MAX: usize = BODY_BYTES_MAX>(pub Bytes);

impl<S: Send + Sync, const BYTES_MAX: usize> FromRequest<S> for WholeBody<BYTES_MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        if waits_for_leave(&parts.headers) && announced(&parts.headers) > BYTES_MAX {
            return Err(too_large(BYTES_MAX));
        }
        match tokio::time::timeout(BODY_TIMEOUT, read(body, BYTES_MAX)).await {
            Ok(read) => read.map(WholeBody),
            Err(_) => {
                let message = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
                Err(ApiError::with_status(StatusCode::REQUEST_TIMEOUT, CommandError::bad_request(message)))
            }
        }
    }
}

async fn read(mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut gathered = BytesMut::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| ApiError::bad_request("the body broke off, or is not framed as announced"))?;
        let Ok(data) = frame.into_data() else { continue };
        read += data.len();
        if read <= bytes_max {
            gathered.extend_from_slice(&data);
        } else if read > DISCARD_BYTES_MAX {
            break;
        }
    }
    if read > bytes_max { Err(too_large(bytes_max)) } else { Ok(gathered.freeze()) }
}

fn too_large(bytes_max: usize) -> ApiError {
    CommandError::too_large(format!("this body has at most {bytes_max} bytes")).into()
}

/// Whether the client waits for permission to send the body. Then nothing must be read before a refusal.
fn waits_for_leave(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn announced(headers: &HeaderMap) -> usize {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use futures_util::stream;

    use super::*;

    async fn status_of(request: Request) -> Result<usize, u16> {
        match WholeBody::<BODY_BYTES_MAX>::from_request(request, &()).await {
            Ok(WholeBody(body)) => Ok(body.len()),
            Err(error) => Err(error.into_response().status().as_u16()),
        }
    }

    #[tokio::test]
    async fn bodies_are_taken_up_to_the_limit() {
        assert_eq!(status_of(Request::new(Body::from(vec![b' '; BODY_BYTES_MAX]))).await, Ok(BODY_BYTES_MAX));
        assert_eq!(status_of(Request::new(Body::from(vec![b' '; BODY_BYTES_MAX + 1]))).await, Err(413));
        assert_eq!(status_of(Request::new(Body::empty())).await, Ok(0));
    }

    #[tokio::test]
    async fn a_body_without_end_is_refused_in_the_end() {
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096])));
        assert_eq!(status_of(Request::new(Body::from_stream(endless))).await, Err(413));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_a_bad_request() {
        let cut = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut"))]);
        assert_eq!(status_of(Request::new(Body::from_stream(cut))).await, Err(400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(status_of(Request::new(silent)).await, Err(408));
    }

    #[tokio::test]
    async fn a_client_that_asks_first_is_refused_unread() {
        let unread = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let mut request = Request::new(unread);
        request.headers_mut().insert(EXPECT, "100-continue".parse().expect("header"));
        request.headers_mut().insert(CONTENT_LENGTH, "1000000".parse().expect("header"));
        assert_eq!(status_of(request).await, Err(413));
    }
}
