//! What the handlers of the HTTP API work with.

use std::sync::Arc;

use axum::extract::FromRef;
use starling_hub::Hub;

use crate::lifecycle::Lifecycle;
use crate::probe::BridgesNow;

/// What the handlers of the HTTP API work with.
#[derive(Clone)]
pub(crate) struct ApiState {
    /// What the calls mean.
    pub hub: Arc<Hub>,
    /// Where the node is in its lifecycle.
    pub lifecycle: Arc<Lifecycle>,
    /// The node's bridges to RabbitMQ; `None`: it has none.
    pub bridges: Option<BridgesNow>,
}

impl FromRef<ApiState> for Arc<Hub> {
    fn from_ref(state: &ApiState) -> Arc<Hub> {
        state.hub.clone()
    }
}
