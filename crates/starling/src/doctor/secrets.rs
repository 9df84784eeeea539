//! Secrets: how hard they are to guess, and who can read them.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use starling_settings::{Masking, Origin, Place, Secret};

use super::examination::Examination;
use crate::config::Values;

/// How to make a good secret.
const MAKE: &str = "make one with `openssl rand -base64 48`";
/// Words of secrets that somebody meant to replace, in lower case.
const PLACEHOLDERS: [&str; 10] = [
    "change-me",
    "changeme",
    "change me",
    "replace",
    "example",
    "password",
    "secret",
    "12345",
    "qwerty",
    "default",
];
/// The least information of a secret, bits: what nobody can try out.
const BITS_MIN: f64 = 96.0;

/// Examines all secrets that are given.
pub fn examine(examination: &mut Examination, values: &Values) {
    examination.section("secrets");
    let tokens = &values.settings.tokens;
    for (key, secret) in [
        ("jwt_secret", &tokens.jwt_secret),
        ("ticket_secret", &tokens.ticket_secret),
        ("ticket_secret_previous", &tokens.ticket_secret_previous),
    ] {
        if let Some(secret) = secret {
            examine_strength(examination, key, secret);
        }
    }
    if tokens.ticket_secret.is_some() && tokens.ticket_secret == tokens.ticket_secret_previous {
        examination.warning(
            "ticket_secret_previous",
            "is the same as ticket_secret",
            "remove it, or give ticket_secret its new value",
        );
    }
    if tokens.jwt_secret.is_none() && tokens.public_key_file.is_none() && tokens.jwks_url.is_none() {
        examination
            .good("jwt_secret", "is not set: a single node makes one, and keeps it beside its database file");
    }
    for setting in &values.catalogue().settings {
        let Some(given) = values.given(&Place::of(setting.key)) else { continue };
        if setting.shape.masking == Masking::None {
            continue;
        }
        let key = setting.key;
        match (&given.path, given.origin) {
            (Some(path), _) => examine_file(examination, key, path),
            // An address without a password is no secret.
            (None, Origin::Flag) if is_masked(values, key) => examination.warning(
                key,
                "stands on the command line, where everybody on this machine can see it",
                format!("put it into a file, and name that with --{}-file", key.replace('_', "-")),
            ),
            _ => {}
        }
    }
}

/// Whether something of the value is hidden where it is shown.
fn is_masked(values: &Values, key: &'static str) -> bool {
    let place = Place::of(key);
    let setting = values.catalogue().settings.iter().find(|setting| setting.key == key);
    setting
        .and_then(|setting| values.shown(setting, &place))
        .is_some_and(|shown| shown.contains(starling_settings::MASK))
}

fn examine_strength(examination: &mut Examination, key: &str, secret: &Secret) {
    let bytes = secret.expose();
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let bits = information(bytes);
    if let Some(word) = PLACEHOLDERS.iter().find(|word| text.contains(*word)) {
        let found = format!("contains {word:?}, as something that was to be replaced");
        examination.problem(key, found, format!("whoever guesses it can be any user; {MAKE}"));
    } else if bits < BITS_MIN {
        let found = format!("repeats itself: about {bits:.0} bits of information in {} bytes", bytes.len());
        examination.problem(key, found, format!("whoever guesses it can be any user; {MAKE}"));
    } else {
        examination.good(key, format!("{} bytes, hard to guess", bytes.len()));
    }
}

fn examine_file(examination: &mut Examination, key: &str, path: &Path) {
    let Ok(known) = path.metadata() else { return };
    let mode = known.permissions().mode() & 0o777;
    let name = path.display();
    if mode & 0o004 != 0 {
        let advice = format!("chmod o-r {name}; on Kubernetes, set the volume's defaultMode to 0440");
        examination.warning(key, format!("{name} can be read by everybody (mode {mode:03o})"), advice);
    } else {
        examination.good(key, format!("{name} can be read by few (mode {mode:03o})"));
    }
}

/// A lower bound of what a secret holds in bits: of its length and of how many different bytes and pairs of bytes it has. It can't tell
/// a good secret, only a bad one.
fn information(bytes: &[u8]) -> f64 {
    let distinct = bytes.iter().collect::<HashSet<_>>().len() as f64;
    let pairs = bytes.windows(2).collect::<HashSet<_>>().len() as f64;
    // A text that repeats itself has few pairs, however long it is.
    let fresh = pairs.min(bytes.len() as f64);
    fresh * distinct.log2().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_itself_holds_little() {
        for weak in [&"a".repeat(64), &"ab".repeat(32), &"0123".repeat(16), &"aaaaaaaaaaaaaaaab".repeat(3)] {
            assert!(information(weak.as_bytes()) < BITS_MIN, "{weak}");
        }
        for strong in ["3q2+7wAAAAAVhJ0nY5Qz8m1hJb3kX0pT", "5f0c91d29b1e4c7a2f6d80355f0c91d2"] {
            assert!(information(strong.as_bytes()) >= BITS_MIN, "{strong}");
        }
        assert_eq!(information(b""), 0.0);
    }
}
