//! `docs/errors.md`: every code that a client may meet stands there, with what goes with it, and no other.

use std::collections::BTreeSet;

use starling_wire::protocol::{CloseReason, ErrorCode};

use crate::pages::page;

/// Every variant of an enum; does not compile where one is left out.
macro_rules! every {
    ($of:ident: $($variant:ident)+) => {{
        let _ = |one: $of| match one { $($of::$variant => {})+ };
        [$($of::$variant),+]
    }};
}

/// The HTTP status that goes with a code, and whether `retry_after_ms` does.
fn accompanied(code: ErrorCode) -> (&'static str, bool) {
    match code {
        ErrorCode::BadRequest => ("400", false),
        ErrorCode::Unauthorized => ("401", false),
        ErrorCode::Forbidden => ("403", false),
        ErrorCode::NotFound => ("404", false),
        ErrorCode::Conflict => ("409", false),
        ErrorCode::TooLarge => ("413", false),
        ErrorCode::RateLimited => ("429", true),
        ErrorCode::Unavailable => ("503", true),
        ErrorCode::Internal => ("500", false),
    }
}

#[test]
fn every_error_code_is_documented_and_no_other() {
    let codes = every!(ErrorCode: BadRequest Unauthorized Forbidden NotFound Conflict TooLarge RateLimited Unavailable Internal);
    let text = page("docs/errors.md");
    let rows = rows(&text, "Error codes");
    let documented: Vec<String> = rows.iter().map(|row| row[0].replace('`', "")).collect();
    assert_eq!(documented, codes.map(|code| code.as_str().to_owned()));
    for (code, row) in codes.into_iter().zip(&rows) {
        let [_, status, happened, advice] = row.as_slice() else { panic!("four columns: {row:?}") };
        let (expected, retry) = accompanied(code);
        assert!(status.split(", ").any(|status| status == expected), "{row:?}");
        assert_eq!(advice.contains("`retry_after_ms`"), retry, "{row:?}");
        assert!(!happened.is_empty() && !advice.is_empty(), "{row:?}");
    }
}

#[test]
fn every_close_code_is_documented_and_no_other() {
    let reasons = every!(CloseReason: Normal GoingAway Protocol Unsupported InvalidPayload TooBig Internal Restart
        NotAFrame Unauthorized ConnectTimeout Superseded Ended Overloaded);
    let codes = reasons.map(|reason| reason.code().to_string());
    let text = page("docs/errors.md");
    let rows = rows(&text, "Close codes");
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), codes);
    for row in rows {
        assert!(row.len() == 3 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
    // Also outside the table.
    let known: BTreeSet<&str> = codes.iter().map(String::as_str).collect();
    for word in text.split(|c: char| !c.is_ascii_digit() && c != ',') {
        assert!(word.len() != 4 || word.contains(',') || known.contains(word), "{word} is no close code");
    }
}

/// The rows of the table under a heading, without its head, each cell by itself.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or(section);
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}
