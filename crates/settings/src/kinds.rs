//! The kinds of values that settings have.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::COUNT_MAX;
use crate::kind::{Kind, Masking, Shape};
use crate::secret::{Secret, Url};

/// An address and port: `HOST:PORT`.
pub fn address(initial: SocketAddr) -> Address {
    Address(initial)
}

/// A whole number in a range.
pub fn count<T>(initial: T, range: RangeInclusive<u64>) -> Count<T> {
    Count { initial, range, placeholder: "NUMBER" }
}

/// A number of bytes in a range.
pub fn bytes<T>(initial: T, range: RangeInclusive<u64>) -> Count<T> {
    Count { initial, range, placeholder: "BYTES" }
}

/// A whole number in a range, or nothing.
pub fn optional_count<T>(range: RangeInclusive<u64>) -> OptionalCount<T> {
    OptionalCount { range, number: PhantomData }
}

/// A duration in whole seconds. Its key ends with `_seconds`.
pub fn seconds(initial: u64, range: RangeInclusive<u64>) -> Seconds {
    Seconds(count(initial, range))
}

/// `true` or `false`.
pub fn switch(initial: bool) -> Switch {
    Switch(initial)
}

/// Any text, or nothing.
pub fn text() -> Text {
    Text
}

/// The path of a file, or nothing.
pub fn path() -> Path {
    Path
}

/// Texts with commas between them.
pub fn list() -> Elements {
    Elements
}

/// A URL that holds no secret by itself, or nothing. Passwords in it are masked all the same.
pub fn url() -> OptionalUrl {
    OptionalUrl { may_be_file: false }
}

/// A URL with a password, or nothing. May stand in a file of its own.
pub fn secret_url() -> OptionalUrl {
    OptionalUrl { may_be_file: true }
}

/// A URL with a password. May stand in a file of its own.
pub fn secret_url_or(initial: &'static str) -> UrlText {
    UrlText(initial)
}

/// A secret, or nothing. May stand in a file of its own.
pub fn secret() -> SecretText {
    SecretText
}

/// One of these words.
pub fn choice<T>(initial: T, words: &'static [(&'static str, T)]) -> Choice<T> {
    Choice { initial, words }
}

/// One of these words, or nothing.
pub fn optional_choice<T>(words: &'static [(&'static str, T)]) -> OptionalChoice<T> {
    OptionalChoice(words)
}

/// A text that `parse` reads. An empty one is the type's default, which also holds when nothing is given; see [`Parsed::or`].
pub fn parsed<T>(placeholder: &'static str, parse: fn(&str) -> Result<T, String>) -> Parsed<T> {
    Parsed { placeholder, parse, initial: None }
}

/// The elements of a list with commas between them.
pub fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|element| !element.is_empty())
}

/// See [`address`].
pub struct Address(SocketAddr);

impl Kind for Address {
    type Value = SocketAddr;

    fn initial(&self) -> SocketAddr {
        self.0
    }

    fn parse(&self, text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| not(text, "an address and port such as 127.0.0.1:8080"))
    }

    fn shape(&self) -> Shape {
        Shape { default: Some(self.0.to_string()), ..Shape::of("ADDRESS") }
    }
}

/// See [`count`] and [`bytes`].
pub struct Count<T> {
    initial: T,
    range: RangeInclusive<u64>,
    placeholder: &'static str,
}

impl<T: Copy + Display + TryFrom<u64>> Kind for Count<T> {
    type Value = T;

    fn initial(&self) -> T {
        self.initial
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        number(text, &self.range)
    }

    fn shape(&self) -> Shape {
        Shape {
            allowed: Some(range_text(&self.range)),
            default: Some(self.initial.to_string()),
            bare: true,
            ..Shape::of(self.placeholder)
        }
    }
}

/// See [`optional_count`].
pub struct OptionalCount<T> {
    range: RangeInclusive<u64>,
    number: PhantomData<T>,
}

impl<T: TryFrom<u64>> Kind for OptionalCount<T> {
    type Value = Option<T>;

    fn initial(&self) -> Option<T> {
        None
    }

    fn parse(&self, text: &str) -> Result<Option<T>, String> {
        number(text, &self.range).map(Some)
    }

    fn shape(&self) -> Shape {
        Shape { allowed: Some(range_text(&self.range)), bare: true, ..Shape::of("NUMBER") }
    }
}

/// See [`seconds`].
pub struct Seconds(Count<u64>);

impl Kind for Seconds {
    type Value = Duration;

    fn initial(&self) -> Duration {
        Duration::from_secs(self.0.initial)
    }

    fn parse(&self, text: &str) -> Result<Duration, String> {
        self.0.parse(text).map(Duration::from_secs)
    }

    fn shape(&self) -> Shape {
        Shape { placeholder: "SECONDS", ..self.0.shape() }
    }
}

/// See [`switch`].
pub struct Switch(bool);

impl Kind for Switch {
    type Value = bool;

    fn initial(&self) -> bool {
        self.0
    }

    fn parse(&self, text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| not(text, "true or false"))
    }

    fn shape(&self) -> Shape {
        Shape {
            allowed: Some("`true`, `false`".to_owned()),
            default: Some(self.0.to_string()),
            bare: true,
            ..Shape::of("BOOL")
        }
    }
}

/// See [`text()`].
pub struct Text;

impl Kind for Text {
    type Value = Option<String>;

    fn initial(&self) -> Option<String> {
        None
    }

    fn parse(&self, text: &str) -> Result<Option<String>, String> {
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn shape(&self) -> Shape {
        Shape::of("TEXT")
    }
}

/// See [`path()`].
pub struct Path;

impl Kind for Path {
    type Value = Option<PathBuf>;

    fn initial(&self) -> Option<PathBuf> {
        None
    }

    fn parse(&self, text: &str) -> Result<Option<PathBuf>, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn shape(&self) -> Shape {
        Shape::of("FILE")
    }
}

/// See [`list`].
pub struct Elements;

impl Kind for Elements {
    type Value = Vec<String>;

    fn initial(&self) -> Vec<String> {
        Vec::new()
    }

    fn parse(&self, text: &str) -> Result<Vec<String>, String> {
        Ok(elements(text).map(str::to_owned).collect())
    }

    fn shape(&self) -> Shape {
        Shape::of("LIST")
    }
}

/// See [`url`] and [`secret_url`].
pub struct OptionalUrl {
    may_be_file: bool,
}

impl Kind for OptionalUrl {
    type Value = Option<Url>;

    fn initial(&self) -> Option<Url> {
        None
    }

    fn parse(&self, text: &str) -> Result<Option<Url>, String> {
        url_of(text).map(Some)
    }

    fn shape(&self) -> Shape {
        Shape { masking: Masking::Passwords, may_be_file: self.may_be_file, ..Shape::of("URL") }
    }
}

/// See [`secret_url_or`].
pub struct UrlText(&'static str);

impl Kind for UrlText {
    type Value = Url;

    fn initial(&self) -> Url {
        Url::new(self.0)
    }

    fn parse(&self, text: &str) -> Result<Url, String> {
        url_of(text)
    }

    fn shape(&self) -> Shape {
        let default = Some(self.0.to_owned());
        Shape { masking: Masking::Passwords, may_be_file: true, default, ..Shape::of("URL") }
    }
}

/// See [`secret`].
pub struct SecretText;

impl Kind for SecretText {
    type Value = Option<Secret>;

    fn initial(&self) -> Option<Secret> {
        None
    }

    fn parse(&self, text: &str) -> Result<Option<Secret>, String> {
        Ok((!text.is_empty()).then(|| Secret::new(text)))
    }

    fn shape(&self) -> Shape {
        Shape { masking: Masking::All, may_be_file: true, ..Shape::of("SECRET") }
    }
}

/// See [`choice`].
pub struct Choice<T: 'static> {
    initial: T,
    words: &'static [(&'static str, T)],
}

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Value = T;

    fn initial(&self) -> T {
        self.initial
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        chosen(text, self.words)
    }

    fn shape(&self) -> Shape {
        let default = self.words.iter().find(|(_, value)| *value == self.initial);
        Shape {
            allowed: Some(words_text(self.words)),
            default: default.map(|(word, _)| (*word).to_owned()),
            ..Shape::of("WORD")
        }
    }
}

/// See [`optional_choice`].
pub struct OptionalChoice<T: 'static>(&'static [(&'static str, T)]);

impl<T: Copy> Kind for OptionalChoice<T> {
    type Value = Option<T>;

    fn initial(&self) -> Option<T> {
        None
    }

    fn parse(&self, text: &str) -> Result<Option<T>, String> {
        chosen(text, self.0).map(Some)
    }

    fn shape(&self) -> Shape {
        Shape { allowed: Some(words_text(self.0)), ..Shape::of("WORD") }
    }
}

/// See [`parsed`].
pub struct Parsed<T> {
    placeholder: &'static str,
    parse: fn(&str) -> Result<T, String>,
    initial: Option<&'static str>,
}

impl<T> Parsed<T> {
    /// Holds what this text says when nothing is given. An empty text is then read as any other.
    #[must_use]
    pub fn or(self, initial: &'static str) -> Parsed<T> {
        Parsed { initial: Some(initial), ..self }
    }
}

impl<T: Default> Kind for Parsed<T> {
    type Value = T;

    fn initial(&self) -> T {
        self.initial.and_then(|text| (self.parse)(text).ok()).unwrap_or_default()
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        if text.is_empty() && self.initial.is_none() { Ok(T::default()) } else { (self.parse)(text) }
    }

    fn shape(&self) -> Shape {
        Shape { default: self.initial.map(str::to_owned), ..Shape::of(self.placeholder) }
    }
}

fn not(text: &str, wanted: &str) -> String {
    format!("`{text}` is not {wanted}")
}

fn number<T: TryFrom<u64>>(text: &str, range: &RangeInclusive<u64>) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| not(text, &format!("a whole number from {} to {}", range.start(), range.end())))
}

fn url_of(text: &str) -> Result<Url, String> {
    // Without the text: what looks like no URL may be a password.
    if text.contains("://") { Ok(Url::new(text)) } else { Err("the value is not a URL".to_owned()) }
}

fn range_text(range: &RangeInclusive<u64>) -> String {
    // The largest number that a type holds is no limit that anybody has to know.
    match (range.start(), range.end()) {
        (start, end) if *end >= COUNT_MAX => format!("{start} or more"),
        (start, end) => format!("{start} to {end}"),
    }
}

fn chosen<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        not(text, &format!("one of {}", known.join(", ")))
    })
}

fn words_text<T>(words: &[(&'static str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    words.join(", ")
}
