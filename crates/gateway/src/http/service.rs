//! The HTTP API as connections reach it: requests are counted, checked against limits, and handed to the router.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http::{Request, Response};
use hyper::body::Incoming;
use starling_auth::Identity;
use starling_hub::{CommandError, Hub};
use tower::ServiceExt;

use super::auth::bearer;
use super::compression::AnswerBytes;
use super::error::ApiError;
use super::headers::set_default_headers;
use crate::access::Access;
use crate::metrics::METRICS;
use crate::pages::Page;
use crate::requests::{ConnectionAllowance, Requests};

/// The HTTP API as connections reach it.
pub(crate) struct HttpService {
    router: Router,
    requests: Arc<Requests>,
    access: Arc<Access>,
    hub: Arc<Hub>,
}

impl HttpService {
    /// A service that answers by a router.
    pub fn new(router: Router, requests: Arc<Requests>, access: Arc<Access>, hub: Arc<Hub>) -> HttpService {
        HttpService { router, requests, access, hub }
    }

    /// Answers a request, if those on whom it is counted may have one more.
    pub async fn answer(
        &self,
        peer: IpAddr,
        connection: &ConnectionAllowance,
        page: Page,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let _under_way = self.requests.enter();
        let forwarded = self.access.proxies.client(peer, request.headers());
        let mut accounts = self.requests.accounts(connection, forwarded);
        let _entered = match forwarded.map(|address| self.access.addresses.enter_request(address)) {
            None => None,
            Some(Ok(guard)) => guard,
            Some(Err(refusal)) => {
                refusal.count();
                return refuse("too many requests of this address at once", refusal.retry_after_ms()).await;
            }
        };
        if let Err(away_us) = accounts.take_for_source() {
            METRICS.limited_requests.increment(1);
            return refuse("too many requests", away_us.div_ceil(1_000)).await;
        }
        if let Some(answer) = self.access.pages.preflight(&request, page) {
            return set_default_headers(answer).await;
        }
        if let Some(identity) = self.identify(&request) {
            accounts.set_user(identity.tenant.clone(), identity.user.clone());
            if let Err(away_us) = accounts.take_for_user() {
                METRICS.limited_user_requests.increment(1);
                return refuse("too many requests of this user", away_us.div_ceil(1_000)).await;
            }
            // So that the call need not verify the token once more.
            request.extensions_mut().insert(identity);
        }
        let Ok(response) = self.router.clone().oneshot(request.map(Body::new)).await;
        accounts.charge_answer(response.extensions().get::<AnswerBytes>().map_or(0, |bytes| bytes.0));
        response
    }

    /// The identity that the request's token proves, where that can be told without waiting. Otherwise the call itself finds out.
    fn identify(&self, request: &Request<Incoming>) -> Option<Identity> {
        self.hub.authenticate_now(bearer(request.headers())?)?.ok()
    }
}

async fn refuse(message: &'static str, retry_after_ms: u64) -> Response<Body> {
    let error = ApiError::from(CommandError::rate_limited(message, retry_after_ms));
    set_default_headers(error.into_response()).await
}
