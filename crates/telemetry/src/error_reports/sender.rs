//! The thread that sends reports.

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use sentry_types::Dsn;
use sentry_types::protocol::v7::{Envelope, Event};
use tokio::runtime::Runtime;

use crate::error::TelemetryError;

/// How long one report may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Reports in a minute at most. Errors that repeat say nothing new.
const REPORTS_PER_MINUTE_MAX: u32 = 60;
/// How long nothing is sent at most after the service asked for a pause.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// The pause after a refusal that names none.
const PAUSE: Duration = Duration::from_secs(60);

/// What waits for the thread.
pub(super) enum Entry {
    /// A report.
    Report(Box<Event<'static>>),
    /// Asks the thread to say when everything before this is done.
    Flush(SyncSender<()>),
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The service took it.
    Sent,
    /// The service could not be reached, or refused it.
    Failed,
    /// Too many waited or were sent lately, or the service asked for a pause.
    Dropped,
}

impl Outcome {
    /// All outcomes.
    pub(super) const ALL: [Outcome; 3] = [Outcome::Sent, Outcome::Failed, Outcome::Dropped];

    /// Counts a report.
    pub(super) fn count(self) {
        metrics::counter!("starling_error_reports_total", "result" => self.name()).increment(1);
    }

    /// Shows the series at 0.
    pub(super) fn register(self) {
        metrics::counter!("starling_error_reports_total", "result" => self.name()).increment(0);
    }

    fn name(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::Failed => "failed",
            Outcome::Dropped => "dropped",
        }
    }
}

/// Sends reports, one after the other.
pub(super) struct Sender {
    client: reqwest::Client,
    runtime: Runtime,
    url: String,
    auth: String,
    pace: Pace,
}

impl Sender {
    /// Sends to this service. A TLS provider must have been installed.
    pub(super) fn new(dsn: &Dsn, version: &str) -> Result<Sender, TelemetryError> {
        let unusable = |error: &dyn std::fmt::Display| TelemetryError::ErrorReports(error.to_string());
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(unusable(&"this process has no TLS provider installed"));
        }
        let client =
            reqwest::Client::builder().timeout(SEND_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        Ok(Sender {
            client: client.build().map_err(|error| unusable(&error.without_url()))?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            url: dsn.envelope_api_url().to_string(),
            auth: dsn.to_auth(Some(&format!("starling/{version}"))).to_string(),
            pace: Pace::default(),
        })
    }

    /// Sends what comes, until nobody can send any more.
    pub(super) fn run(mut self, entries: &Receiver<Entry>) {
        while let Ok(entry) = entries.recv() {
            match entry {
                Entry::Report(report) => self.send(*report).count(),
                Entry::Flush(done) => {
                    // The caller may have stopped waiting.
                    let _ = done.try_send(());
                }
            }
        }
    }

    fn send(&mut self, report: Event<'static>) -> Outcome {
        if !self.pace.allows(Instant::now()) {
            return Outcome::Dropped;
        }
        let mut body = Vec::new();
        if Envelope::from(report).to_writer(&mut body).is_err() {
            return Outcome::Failed;
        }
        let request = self.client.post(&self.url).header("x-sentry-auth", &self.auth);
        let request = request.header(CONTENT_TYPE, "application/x-sentry-envelope").body(body);
        // The client's timer belongs to the runtime, so the request has to be made inside.
        let answer = self.runtime.block_on(async { request.send().await });
        let Ok(answer) = answer else { return Outcome::Failed };
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let pause =
                answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            self.pace.pause(Instant::now(), pause.map_or(PAUSE, Duration::from_secs));
        }
        if answer.status().is_success() { Outcome::Sent } else { Outcome::Failed }
    }
}

/// How many reports may be sent.
#[derive(Debug, Default)]
struct Pace {
    /// When the current minute began, and how many reports were sent in it.
    minute: Option<(Instant, u32)>,
    paused_until: Option<Instant>,
}

impl Pace {
    /// Counts a report, if one may be sent now.
    fn allows(&mut self, now: Instant) -> bool {
        if self.paused_until.is_some_and(|until| now < until) {
            return false;
        }
        let (_, sent) = match &mut self.minute {
            Some(minute) if now.duration_since(minute.0) < Duration::from_secs(60) => minute,
            minute => minute.insert((now, 0)),
        };
        *sent += 1;
        *sent <= REPORTS_PER_MINUTE_MAX
    }

    fn pause(&mut self, now: Instant, pause: Duration) {
        self.paused_until = Some(now + pause.min(PAUSE_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_have_a_pace_and_pauses() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!((0..REPORTS_PER_MINUTE_MAX).all(|_| pace.allows(at(1))));
        assert!(!pace.allows(at(2)) && !pace.allows(at(60)));
        assert!(pace.allows(at(61)));
        pace.pause(at(61), Duration::from_secs(10));
        assert!(!pace.allows(at(70)) && pace.allows(at(71)));
        pace.pause(at(71), Duration::MAX);
        assert!(!pace.allows(at(3_600)) && pace.allows(at(71 + 3_600)));
    }
}
