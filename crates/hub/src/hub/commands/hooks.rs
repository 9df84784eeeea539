//! Hooks that ask first: setting them, and asking before a command.

use std::sync::Arc;
use std::time::Duration;

use starling_auth::Identity;
use starling_model::TenantName;
use starling_webhook_service::webhooks::{
    Endpoint, HOOK_TIMEOUT_DEFAULT, Hook, HookPoint, OnFailure, Question, Rewrite, Rotated, Secret, Verdict,
};
use starling_webhook_service::{Decider, WebhookService};
use starling_wire::protocol::{self, ErrorCode};

use crate::CommandError;
use crate::hub::Hub;
use crate::node_message::NodeMessage;

/// The partition of what nodes tell of hooks.
const HOOKS_PARTITION: u16 = 0;

/// A hook to be set.
#[derive(Clone, Debug)]
pub struct HookRequest {
    /// What the backend decides about.
    pub point: String,
    /// Where it is asked.
    pub url: String,
    /// How long it may take. `None`: the usual time.
    pub timeout: Option<Duration>,
    /// What happens if it can't decide. `None`: the command is refused.
    pub on_failure: Option<String>,
}

impl Hub {
    /// Sets the hook of a point. Returns its secret as well if it is new.
    pub async fn put_hook(
        &self,
        identity: &Identity,
        request: HookRequest,
    ) -> Result<(Hook, Option<Secret>), CommandError> {
        let webhooks = self.webhook_service(identity)?;
        let HookRequest { point, url, timeout, on_failure } = request;
        let endpoint = Endpoint::parse(&url).map_err(|error| bad_url(&error))?;
        webhooks.check(&endpoint).map_err(|error| bad_url(&error))?;
        let on_failure = on_failure.map(|name| {
            let bad = || CommandError::bad_request("`on_failure` must be `refuse` or `allow`");
            OnFailure::parse(&name).ok_or_else(bad)
        });
        let hook = Hook {
            tenant: identity.tenant.clone(),
            point: point_of(&point)?,
            endpoint,
            timeout: timeout.unwrap_or(HOOK_TIMEOUT_DEFAULT),
            on_failure: on_failure.transpose()?.unwrap_or_default(),
        };
        hook.check().map_err(|error| CommandError::bad_request(error.to_string()))?;
        let secret = webhooks.put_hook(&hook).await?;
        self.tell_of_webhooks();
        Ok((hook, secret))
    }

    /// Returns the hooks of the tenant, in the order of their points.
    pub async fn hooks(&self, identity: &Identity) -> Result<Vec<Hook>, CommandError> {
        Ok(self.webhook_service(identity)?.hooks(&identity.tenant).await?)
    }

    /// Gives the hook of a point a new secret, and returns it.
    pub async fn rotate_hook_secret(&self, identity: &Identity, point: &str) -> Result<Secret, CommandError> {
        let webhooks = self.webhook_service(identity)?;
        let (rotated, secret) = webhooks.rotate_hook(&identity.tenant, point_of(point)?).await?;
        match rotated {
            Rotated::Rotated => {
                self.tell_of_webhooks();
                Ok(secret)
            }
            Rotated::TooMany => {
                Err(CommandError::conflict("the secret before still signs; it does so for 24 h"))
            }
            Rotated::NotFound => Err(CommandError::new(ErrorCode::NotFound, "no such hook")),
        }
    }

    /// Removes the hook of a point.
    pub async fn remove_hook(&self, identity: &Identity, point: &str) -> Result<(), CommandError> {
        let webhooks = self.webhook_service(identity)?;
        let was_there = webhooks.remove_hook(&identity.tenant, point_of(point)?).await?;
        // Also tell it if it was gone already: an earlier call may have been cut off before it told.
        self.tell_of_webhooks();
        if was_there { Ok(()) } else { Err(CommandError::new(ErrorCode::NotFound, "no such hook")) }
    }

    /// Returns the hook for a command of a tenant's users, if there is one. Called for every command, so it must be cheap.
    pub(super) fn decider(&self, tenant: &TenantName, point: HookPoint) -> Option<Arc<Decider>> {
        self.webhooks.as_ref()?.decider(tenant, point)
    }

    /// Asks the hook about what is about to happen. Returns when it may happen; the future is dropped with the command.
    pub(super) async fn ask(
        &self,
        decider: &Arc<Decider>,
        question: Question<'_>,
    ) -> Result<Rewrite, CommandError> {
        let Some(webhooks) = &self.webhooks else { return Ok(Rewrite::default()) };
        match webhooks.ask(decider, &question).await {
            Verdict::Allow(rewrite) => Ok(rewrite),
            Verdict::Refuse(message) => Err(CommandError::forbidden(message)),
            Verdict::Unavailable(after) => {
                let message = "the application could not be asked about this; nothing was accepted";
                Err(CommandError::unavailable(message).retry_after(after))
            }
        }
    }

    /// Tells the other nodes that webhooks or hooks have changed.
    pub(super) fn tell_of_webhooks(&self) {
        self.publisher.publish_message(HOOKS_PARTITION, &NodeMessage::HooksChanged {});
    }

    pub(super) fn webhook_service(&self, identity: &Identity) -> Result<&Arc<WebhookService>, CommandError> {
        if !identity.scopes.may_set_webhooks() {
            return Err(CommandError::forbidden("this needs the scope webhooks"));
        }
        let none = || CommandError::new(ErrorCode::NotFound, "this node has no webhooks");
        self.webhooks.as_ref().ok_or_else(none)
    }
}

/// Changes a message as a backend has decided.
pub(super) fn rewrite(send: &mut protocol::Send, rewrite: Rewrite) {
    let Rewrite { content, metadata } = rewrite;
    if let Some(content) = content {
        send.content = content;
    }
    if let Some(metadata) = metadata {
        send.metadata = Some(metadata);
    }
}

fn point_of(name: &str) -> Result<HookPoint, CommandError> {
    HookPoint::parse(name).ok_or_else(|| {
        let names = HookPoint::ALL.map(HookPoint::as_str).join(", ");
        CommandError::bad_request(format!("the point of a hook must be one of {names}"))
    })
}

pub(super) fn bad_url(error: &dyn std::error::Error) -> CommandError {
    CommandError::bad_request(format!("`url`: {error}"))
}
