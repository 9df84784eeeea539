//! What JSON and MessagePack have in common, seen from a decoder: a value is read from left to right, once, without building a tree.

use std::borrow::Cow;

use super::Json;

/// The largest integer that every client can hold: 2^53-1.
pub(super) const INTEGER_MAX: u64 = (1 << 53) - 1;

/// How deep values may be nested inside of a frame, the frame's own object counted. Deeper ones are refused, so that no
/// reader of a value (here, in the database or in a client) can be made to run out of stack.
pub const DEPTH_MAX: usize = 64;

/// The bytes are not one value of the encoding. Nothing after this point can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// A well-formed value, already read past, that is not what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another type.
    Type,
    /// A number that is negative, not whole, or beyond 2^53-1.
    Range,
    /// Text with U+0000.
    Nul,
    /// Text that is no Unicode: a lone surrogate, or a byte string that is no UTF-8.
    NotUnicode,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// A number that no double can hold.
    Infinite,
    /// A value that JSON lacks: bin, ext, NaN, an infinity, a key that is no string.
    NotJson,
    /// More entries than allowed.
    TooMany,
    /// A name that breaks the rules for names.
    Name,
}

/// The outer error ends the frame, the inner one only spoils a field.
pub(super) type Read<T> = Result<Result<T, Fault>, Malformed>;

/// The type of the value that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    Text,
    Array,
    Object,
    /// MessagePack's bin and ext.
    Foreign,
}

/// How far the reading of an array or object has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    /// MessagePack: how many entries are left. JSON: unused.
    pub(super) left: u32,
    /// JSON: no comma is due yet. MessagePack: unused.
    pub(super) first: bool,
}

/// Reads one value from left to right.
///
/// Each method that reads a value reads past it also where it is not of the wanted type.
pub(super) trait Reader<'a> {
    /// The type of the value that comes next.
    fn kind(&mut self) -> Result<Kind, Malformed>;
    /// Reads past the next value.
    fn skip(&mut self) -> Result<(), Malformed>;
    /// Reads text, which may hold U+0000.
    fn text(&mut self) -> Read<Cow<'a, str>>;
    /// Reads an integer from 0 to 2^53-1. What counts is the value, not how it is written: `5.0`, `5e0` and a double with the value 5
    /// are the integer 5.
    fn integer(&mut self) -> Read<u64>;
    /// Reads a truth value.
    fn boolean(&mut self) -> Read<bool>;
    /// Reads any value, as compact JSON without U+0000.
    fn value(&mut self) -> Read<Json>;
    /// Goes into the object that comes next ([`Kind::Object`] was seen).
    fn enter_object(&mut self) -> Result<Entries, Malformed>;
    /// Reads the next key of an object, up to its value; `None` after the last entry.
    fn key(&mut self, entries: &mut Entries) -> Result<Option<Cow<'a, str>>, Malformed>;
    /// Goes into the array that comes next ([`Kind::Array`] was seen).
    fn enter_array(&mut self) -> Result<Entries, Malformed>;
    /// Goes to the next element of an array; `false` after the last one.
    fn element(&mut self, entries: &mut Entries) -> Result<bool, Malformed>;
    /// Checks that nothing follows the value.
    fn finish(&mut self) -> Result<(), Malformed>;
    /// The first fault that concerns the frame as a whole, wherever it stood.
    fn frame_fault(&self) -> Option<Fault>;
}

/// Reads text without U+0000.
pub(super) fn clean_text<'a>(reader: &mut impl Reader<'a>) -> Read<Cow<'a, str>> {
    Ok(reader.text()?.and_then(|text| {
        if memchr::memchr(0, text.as_bytes()).is_some() { Err(Fault::Nul) } else { Ok(text) }
    }))
}
