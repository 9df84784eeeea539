//! A key set (RFC 7517) behind a URL, kept fresh by one background task.
//!
//! The set is fetched at the start, every few minutes, and at once when a token names a key that is not in it. One task
//! does all the fetching, so there is never more than one request under way, and a budget bounds how often tokens with
//! invented keys can cause one. While the endpoint is away the known keys stay; a key that is gone from an answer is gone.

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

/// A longer answer is refused, bytes. Real key sets have a few kilobytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// More usable keys than this are not kept. An answer of the largest size holds some 1,500 keys for ES256.
const KEYS_MAX: usize = 512;
/// How many keys a token is held against where it names none, or where several have the name: as many as an issuer has while it
/// changes keys, and not so many that a forged token costs much.
const KEYS_TRIED_MAX: usize = 4;
/// Until a connection to the endpoint must stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Until an answer must be there as a whole.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a token with an unknown key waits for a fetch, or for one under way and the next.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// Fetches for unknown keys: this many at once …
const BUDGET_MAX: u32 = 4;
/// … and one more each time that this has passed.
const BUDGET_REFILL: Duration = Duration::from_secs(5);
/// The first pause after a failed fetch; it doubles up to the usual interval.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The key set of one URL. Dropping it ends the fetching.
pub(crate) struct Jwks {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// The usable keys of one answer.
pub(crate) struct KeySet {
    /// Counts up whenever the keys change.
    pub generation: u64,
    keys: Vec<SetKey>,
}

pub(crate) struct SetKey {
    jwk: Jwk,
    key: VerifyingKey,
}

/// What the task and those who wait for it share.
struct Shared {
    keys: RwLock<Arc<KeySet>>,
    state: Mutex<State>,
    /// Somebody wants a fetch now.
    asked: Notify,
    /// How often such a wish has been dealt with.
    answered: watch::Sender<u64>,
}

struct State {
    fetching: bool,
    /// Whether the last fetch failed, or there was none yet: then an unknown key says nothing about the token.
    failed: bool,
    budget: u32,
    budget_at: Instant,
}

/// What a look-up found.
pub(crate) enum Lookup {
    /// The set, which has such a key.
    Found(Arc<KeySet>),
    /// Not in the set; a fetch might bring it.
    Fetch,
    /// Not in the set, and a fetch is no help or not allowed now.
    Missing(TokenError),
}

impl Jwks {
    /// Checks the URL and begins to fetch. Does not wait for an answer: a node starts without its issuer too.
    ///
    /// # Errors
    /// `SetupError::JwksUrl`; also outside of a Tokio runtime, or when the process has no TLS provider installed.
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

    /// The newest key set.
    pub(crate) fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.shared.keys.read())
    }

    /// Looks for the key that a token names; without a name, any key will do where there are few.
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

    /// Fetches the set and looks again. Many who call at once share one fetch.
    pub(crate) async fn fetch_and_find(&self, kid: Option<&str>) -> Lookup {
        // A fetch under way may have begun before the issuer knew the key; then the next one counts.
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

    /// Whether the issuer's keys have been seen.
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
    /// The keys that a token may be signed with that names this one, or none.
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
    /// How many fetches for unknown keys are left, after what time has given back.
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

/// The background task.
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
                        problem, "can't fetch the key set; the known keys stay"
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

    /// Waits until it is time, or until somebody asks and the budget allows it.
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
        // Without the URL: it may hold a password.
        let text = |error: reqwest::Error| source_chain(&error.without_url());
        let request = self.client.get(self.url.clone()).header("accept", "application/json");
        let mut response = request.send().await.map_err(text)?;
        if !response.status().is_success() {
            return Err(format!("the answer is {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(text)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(format!("the answer is longer than {BODY_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// An error with its causes, which say more than it does ("error sending request").
fn source_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Reads a key set, and leaves out what is of no use here: keys for other algorithms, for encryption, of unknown kinds, and
/// broken ones. One key that can't be read does not spoil the others.
pub(crate) fn read_keys(body: &[u8], algorithm: Algorithm) -> Result<Vec<SetKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set =
        serde_json::from_slice(body).map_err(|error| format!("the answer is no key set: {error}"))?;
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
            "plain http would let anyone on the way choose the keys; use https (http is for this machine only)".to_owned(),
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
