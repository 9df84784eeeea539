//! Conversion of user claims to valid names.
//!
//! Identity providers write `auth0|5f7c8ec7`, `me+x@example.com` or `jürgen`; the protocol's names cannot contain `|`, `+` or `ü`. So
//! each byte (of UTF-8) that a name cannot contain becomes two dots and two hexadecimal digits: `auth0..7C5f7c8ec7`,
//! `me..2Bx@example.com`, `j..C3..BCrgen`. A claim that is a valid name stays as it is.
//!
//! No two claims give the same name: text in the claim that looks like an escape is escaped itself (its second dot becomes `..2E`). A
//! result that would be too long becomes `..sha256:` and the hash of the claim.

use std::borrow::Cow;
use std::fmt::Write;

use aws_lc_rs::digest;
use starling_model::{NAME_LENGTH_MAX, is_name};

/// Prefix of the name for a claim that is too long to be escaped; 64 hexadecimal digits follow.
const HASHED: &str = "..sha256:";

/// Converts a user claim to a user name. `None` if the claim is empty or contains control characters.
pub fn user_name(claim: &str) -> Option<Cow<'_, str>> {
    if claim.is_empty() || claim.chars().any(char::is_control) {
        return None;
    }
    if is_name(claim) && !(0..claim.len()).any(|at| is_ambiguous(claim.as_bytes(), at)) {
        return Some(Cow::Borrowed(claim));
    }
    let escaped = escape(claim);
    Some(Cow::Owned(if escaped.len() <= NAME_LENGTH_MAX { escaped } else { hash(claim) }))
}

fn escape(claim: &str) -> String {
    // These two only contain allowed characters but are not valid names.
    let only_dots = matches!(claim, "." | "..");
    let mut name = String::with_capacity(claim.len() * 2);
    for (at, byte) in claim.bytes().enumerate() {
        let named = byte.is_ascii_alphanumeric() || b"_.:@-".contains(&byte);
        if named && !only_dots && !is_ambiguous(claim.as_bytes(), at) {
            name.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(name, "..{byte:02X}");
        }
    }
    name
}

/// Whether the byte at `at` is the second dot of text that looks like an escape or a hash.
fn is_ambiguous(claim: &[u8], at: usize) -> bool {
    let (before, rest) = claim.split_at(at);
    let Some(rest) = rest.strip_prefix(b".").filter(|_| before.ends_with(b".")) else { return false };
    let upper_hex = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'A'..=b'F');
    matches!(rest, [high, low, ..] if upper_hex(high) && upper_hex(low))
        || rest.starts_with(&HASHED.as_bytes()[2..])
}

fn hash(claim: &str) -> String {
    let mut name = HASHED.to_owned();
    for byte in digest::digest(&digest::SHA256, claim.as_bytes()).as_ref() {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(claim: &str) -> String {
        user_name(claim).unwrap_or_else(|| panic!("{claim:?} has no name")).into_owned()
    }

    /// Converts a name back to its claim, independently of the code that makes names.
    fn claim_of(name: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = name.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            let escaped = match rest {
                [b'.', b'.', high, low, ..] if !high.is_ascii_lowercase() && !low.is_ascii_lowercase() => {
                    std::str::from_utf8(&rest[2..4])
                        .ok()
                        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                }
                _ => None,
            };
            bytes.push(escaped.unwrap_or(first));
            rest = if escaped.is_some() { &rest[4..] } else { after };
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn claims_of_identity_providers_get_names() {
        for (claim, name) in [
            ("ann", "ann"),
            ("me@example.com", "me@example.com"),
            ("auth0|5f7c8ec7", "auth0..7C5f7c8ec7"),
            ("google-oauth2|1042", "google-oauth2..7C1042"),
            ("me+x@example.com", "me..2Bx@example.com"),
            ("jürgen", "j..C3..BCrgen"),
            ("Ann Lee", "Ann..20Lee"),
            ("https://id.example/ann", "https:..2F..2Fid.example..2Fann"),
            ("arn:aws:iam::123456789012:user/ann", "arn:aws:iam::123456789012:user..2Fann"),
            (".", "..2E"),
            ("..", "..2E..2E"),
            ("...", "..."),
            ("a..b", "a..b"),
            ("a..7cb", "a..7cb"),
            ("a..7Cb", "a...2E7Cb"),
            ("..sha256:0", "...2Esha256:0"),
            ("ann%7C", "ann..257C"),
        ] {
            assert_eq!(named(claim), name);
            assert_eq!(claim_of(name), claim);
        }
    }

    #[test]
    fn what_would_be_too_long_is_hashed() {
        // By sha256sum.
        let long = "a".repeat(101);
        assert_eq!(named(&"a".repeat(100)), "a".repeat(100));
        assert_eq!(named(&long), HASHED_101);
        assert!(named(&"ü".repeat(13)).starts_with(HASHED) && !named(&"ü".repeat(12)).starts_with(HASHED));
        assert_ne!(named(HASHED_101), HASHED_101, "nobody takes the name of a hashed one by its name");
    }

    #[test]
    fn nobody_is_called_nothing_or_by_control_characters() {
        for claim in ["", "\0", "ada\0", "ada\r\nx: y", "\u{7f}", "\u{85}"] {
            assert_eq!(user_name(claim), None, "{claim:?}");
        }
    }

    const HASHED_101: &str = "..sha256:9d0793397991b57a99a07c6e6b4a92bab68dbf605345cd0b87f385a448a726bc";
    const DIFFICULT: &str = "[.]{1,6}|[.a7CE2|]{1,12}|\\PC{1,40}|([.]{2}[0-9A-Fa-f]{2}|sha256:|[|.]){1,6}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn every_claim_has_a_name_that_leads_back_to_it(claim in DIFFICULT) {
            let name = named(&claim);
            prop_assert!(is_name(&name), "{}", name);
            prop_assert!(name.starts_with(HASHED) || claim_of(&name) == claim, "{} gives {}", claim, name);
            prop_assert_eq!(name.starts_with(HASHED), escape(&claim).len() > NAME_LENGTH_MAX);
        }

        #[test]
        fn no_two_claims_have_the_same_name(one in DIFFICULT, other in DIFFICULT) {
            prop_assume!(one != other);
            prop_assert_ne!(named(&one), named(&other));
            // The most likely attack: an id that equals somebody else's escaped name.
            let taken = named(&one);
            prop_assert!(taken == one || named(&taken) != taken, "{}", taken);
        }

        #[test]
        fn a_name_without_such_dots_stays_as_it_is(name in "[A-Za-z0-9_:@-]{1,50}([.][A-Za-z0-9_:@-]{1,10}){0,4}") {
            prop_assert_eq!(named(&name), name);
        }
    }
}
