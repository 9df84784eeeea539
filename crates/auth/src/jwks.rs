//! Key set (RFC 7517) behind a URL, kept up to date by a background task.
//!
//! The set is fetched at the start, every few minutes, and at once when a token names an unknown key. A single task
//! does all the fetching, so there is never more than one request in flight, and a budget bounds how often tokens with
//! invented keys can cause one. While the endpoint is down, the known keys stay valid. A key that is missing from a response is
//! no longer valid.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};
use url::{Host, Url};

use crate::key::VerifyingKey;
use crate::{Algorithm, SetupError, TokenError, VerifierOptions};

/// Longest response in bytes. Real key sets have a few kilobytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Most usable keys that are kept. A response of the greatest length could contain about 1,500 keys for ES256.
const KEYS_MAX: usize = 512;
/// Most keys that a token is checked against if it names none, or if several have its name. Enough for an issuer that is
/// rotating keys, and few enough that a forged token costs little.
const KEYS_TRIED_MAX: usize = 4;
/// Timeout for connecting to the endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout for the complete response.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a token with an unknown key waits for a fetch, or for the one in flight and the next.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// Size of the budget of fetches for unknown keys.
const BUDGET_MAX: u32 = 4;
/// Time in which the budget gains one fetch.
const BUDGET_REFILL: Duration = Duration::from_secs(5);
/// First pause after a failed fetch. It doubles up to the usual interval.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Key set of one URL. Dropping it ends the background task.
pub(crate) struct Jwks {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// Usable keys of one response.
pub(crate) struct KeySet {
    /// Number that increases whenever the keys change.
    pub generation: u64,
    keys: Vec<SetKey>,
}

pub(crate) struct SetKey {
    jwk: Jwk,
    key: VerifyingKey,
}

/// State shared between the background task and the callers that wait for it.
struct Shared {
    keys: RwLock<Arc<KeySet>>,
    state: Mutex<State>,
    /// Signals that a caller wants a fetch now.
    asked: Notify,
    /// Number of such signals that have been handled.
    answered: watch::Sender<u64>,
}

struct State {
    fetching: bool,
    /// Whether the last fetch failed or there was none yet. An unknown key then says nothing about the token.
    failed: bool,
    budget: u32,
    budget_at: Instant,
}

/// Result of a lookup.
pub(crate) enum Lookup {
    /// The set contains such a key.
    Found(Arc<KeySet>),
    /// The set has no such key, but a fetch might find it.
    Fetch,
    /// The set has no such key, and a fetch would not help or is not allowed now.
    Missing(TokenError),
}

impl Jwks {
    /// Checks the URL and starts fetching. Does not wait for a response, so that a node can start while its issuer is down.
    ///
    /// # Errors
    /// `SetupError::JwksUrl`, also if there is no Tokio runtime or the process has no TLS provider installed.
    pub(crate) fn start(
        url: &str,
        algorithm: Algorithm,
        options: &VerifierOptions,
    ) -> Result<Jwks, SetupError> {
        let problem = |problem: String| SetupError::JwksUrl { problem };
        let url = check_url(url)?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| problem("fetching keys needs a Tokio runtime".to_owned()))?;
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(problem("this process has no TLS provider installed".to_owned()));
        }
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| problem(format!("can't make a client: {error}")))?;

        let shared = Arc::new(Shared {
            keys: RwLock::new(Arc::new(KeySet { generation: 0, keys: Vec::new() })),
            state: Mutex::new(State {
                fetching: true,
                failed: true,
                budget: BUDGET_MAX,
                budget_at: Instant::now(),
            }),
            asked: Notify::new(),
            answered: watch::Sender::new(0),
        });
        let fetcher =
            Fetcher { client, url, algorithm, interval: options.jwks_refresh, shared: Arc::clone(&shared) };
        let task = runtime.spawn(fetcher.run()).abort_handle();
        Ok(Jwks { shared, task })
    }

    /// Returns the newest key set.
    pub(crate) fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.shared.keys.read())
    }

    /// Looks up the key that a token names. Without a name any key matches, if the set has only a few.
    pub(crate) fn find(&self, kid: Option<&str>) -> Lookup {
        let set = self.current();
        if set.has(kid) {
            return Lookup::Found(set);
        }
        let mut state = self.shared.state.lock();
        if kid.is_none() && !set.keys.is_empty() {
            return Lookup::Missing(TokenError::UnknownKey);
        }
        if state.fetching || state.refill() > 0 {
            return Lookup::Fetch;
        }
        Lookup::Missing(state.missing())
    }

    /// Fetches the set and looks up the key again. Simultaneous callers share one fetch.
    pub(crate) async fn fetch_and_find(&self, kid: Option<&str>) -> Lookup {
        // A fetch in flight may have begun before the issuer published the key; then the next one counts.
        let rounds = if self.shared.state.lock().fetching { 2 } else { 1 };
        let mut answered = self.shared.answered.subscribe();
        self.shared.asked.notify_one();
        let search = async {
            for _ in 0..rounds {
                if answered.changed().await.is_err() {
                    return None;
                }
                let set = self.current();
                if set.has(kid) {
                    return Some(set);
                }
            }
            None
        };
        match timeout(WAIT_MAX, search).await {
            Ok(Some(set)) => Lookup::Found(set),
            _ => Lookup::Missing(self.shared.state.lock().missing()),
        }
    }

    /// Whether the set contains any keys.
    pub(crate) fn has_keys(&self) -> bool {
        !self.current().keys.is_empty()
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeySet {
    /// Returns the keys to try for a token that names this key, or none.
    pub(crate) fn named(&self, kid: Option<&str>) -> impl Iterator<Item = &VerifyingKey> {
        let few = self.keys.len() <= KEYS_TRIED_MAX;
        let named = move |key: &&SetKey| match kid {
            Some(kid) => key.jwk.common.key_id.as_deref() == Some(kid),
            None => few,
        };
        self.keys.iter().filter(named).take(KEYS_TRIED_MAX).map(|key| &key.key)
    }

    fn has(&self, kid: Option<&str>) -> bool {
        self.named(kid).next().is_some()
    }

    fn has_the_keys_of(&self, other: &[SetKey]) -> bool {
        self.keys.len() == other.len() && self.keys.iter().zip(other).all(|(a, b)| a.jwk == b.jwk)
    }
}

impl State {
    /// Refills the budget for the time that has passed, and returns how many fetches for unknown keys are left.
    fn refill(&mut self) -> u32 {
        let earned = (self.budget_at.elapsed().as_secs() / BUDGET_REFILL.as_secs()) as u32;
        if earned > 0 {
            self.budget = self.budget.saturating_add(earned).min(BUDGET_MAX);
            self.budget_at = Instant::now();
        }
        self.budget
    }

    fn missing(&self) -> TokenError {
        if self.failed { TokenError::KeysUnavailable } else { TokenError::UnknownKey }
    }
}

/// Background task that fetches the set.
struct Fetcher {
    client: reqwest::Client,
    url: Url,
    algorithm: Algorithm,
    interval: Duration,
    shared: Arc<Shared>,
}

impl Fetcher {
    async fn run(self) {
        let mut retry_pause = RETRY_PAUSE;
        loop {
            self.shared.state.lock().fetching = true;
            let fetched = self.fetch().await;
            let pause = match &fetched {
                Ok(()) => {
                    retry_pause = RETRY_PAUSE;
                    self.interval
                }
                Err(problem) => {
                    warn!(
                        host = self.url.host_str(),
                        problem, "can't fetch the key set; the known keys stay valid"
                    );
                    let pause = retry_pause.min(self.interval);
                    retry_pause = retry_pause.saturating_mul(2);
                    pause
                }
            };
            {
                let mut state = self.shared.state.lock();
                state.fetching = false;
                state.failed = fetched.is_err();
            }
            self.shared.answered.send_modify(|count| *count += 1);
            self.pause(Instant::now() + pause).await;
        }
    }

    /// Waits until `until`, or until a caller asks for a fetch and the budget allows it.
    async fn pause(&self, until: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.shared.asked.notified() => {
                    {
                        let mut state = self.shared.state.lock();
                        if state.refill() > 0 {
                            state.budget -= 1;
                            return;
                        }
                    }
                    self.shared.answered.send_modify(|count| *count += 1);
                }
            }
        }
    }

    async fn fetch(&self) -> Result<(), String> {
        let body = self.download().await?;
        let keys = read_keys(&body, self.algorithm)?;
        let set = Arc::clone(&self.shared.keys.read());
        if set.has_the_keys_of(&keys) {
            debug!("the key set is unchanged");
            return Ok(());
        }
        if keys.is_empty() {
            warn!(host = self.url.host_str(), algorithm = %self.algorithm, "the key set has no key for this algorithm");
        } else {
            info!(host = self.url.host_str(), keys = keys.len(), "the key set has changed");
        }
        *self.shared.keys.write() = Arc::new(KeySet { generation: set.generation + 1, keys });
        Ok(())
    }

    async fn download(&self) -> Result<Vec<u8>, String> {
        // Errors must not contain the URL, because it may contain a password.
        let text = |error: reqwest::Error| source_chain(&error.without_url());
        let request = self.client.get(self.url.clone()).header("accept", "application/json");
        let mut response = request.send().await.map_err(text)?;
        if !response.status().is_success() {
            return Err(format!("the response is {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(text)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(format!("the response is longer than {BODY_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Returns the error with its causes, which say more than the error itself ("error sending request").
fn source_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Parses a key set and skips unusable keys: those for other algorithms or for encryption, unknown kinds, and
/// broken ones. A broken key does not affect the others.
pub(crate) fn read_keys(body: &[u8], algorithm: Algorithm) -> Result<Vec<SetKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set =
        serde_json::from_slice(body).map_err(|error| format!("the response is not a key set: {error}"))?;
    let mut usable = set.keys.into_iter().filter_map(|value| {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let key = VerifyingKey::from_jwk(algorithm, &jwk)?;
        Some(SetKey { jwk, key })
    });
    let kept = usable.by_ref().take(KEYS_MAX).collect();
    let left_out = usable.count();
    if left_out > 0 {
        warn!(left_out, "the key set is too large: only its first {KEYS_MAX} keys for {algorithm} are used");
    }
    Ok(kept)
}

fn check_url(text: &str) -> Result<Url, SetupError> {
    let problem = |problem: String| SetupError::JwksUrl { problem };
    let url = Url::parse(text).map_err(|error| problem(format!("not a URL: {error}")))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(problem(
            "plain http would let anybody on the network path replace the keys; use https (http is only allowed to this machine)".to_owned(),
        )),
        other => Err(problem(format!("{other}: is not supported; use https"))),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_urls_are_taken() {
        for good in
            ["https://issuer.example/keys", "http://127.0.0.1:9/keys", "http://localhost/k", "http://[::1]/k"]
        {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in
            ["http://issuer.example/keys", "http://localhost.evil.example/", "file:///etc/keys", "keys", ""]
        {
            let error = check_url(bad).unwrap_err().to_string();
            assert!(error.starts_with("jwt_jwks_url: "), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_bounded_and_comes_back_with_time() {
        let mut state = State { fetching: false, failed: false, budget: 0, budget_at: Instant::now() };
        assert_eq!(state.refill(), 0);
        tokio::time::advance(BUDGET_REFILL).await;
        assert_eq!(state.refill(), 1);
        tokio::time::advance(BUDGET_REFILL * 100).await;
        assert_eq!(state.refill(), BUDGET_MAX);
    }
}
