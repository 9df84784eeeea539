//! What JSON and MessagePack have in common for a decoder. A value is read once, from left to right, without building a tree.

use std::borrow::Cow;

use super::Json;

/// The largest integer that every client can represent: 2^53-1.
pub(super) const INTEGER_MAX: u64 = (1 << 53) - 1;

/// How deep values may be nested in a frame, counting the frame's own object. Deeper ones are refused, so that no reader of a value (here,
/// in the database or in a client) runs out of stack.
pub const DEPTH_MAX: usize = 64;

/// An error: the bytes are not one value of the encoding. Nothing after this point can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The reason for which a well-formed value, which has been skipped, can't be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It has another type.
    Type,
    /// It is a number that is negative, not whole, or beyond 2^53-1.
    Range,
    /// It is text with U+0000.
    Nul,
    /// It is text that is not Unicode: a lone surrogate, or bytes that are not UTF-8.
    NotUnicode,
    /// It is nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// It is a number that is too large for a double.
    Infinite,
    /// It is a value that JSON does not have: bin, ext, NaN, an infinity, a key that is not a string.
    NotJson,
    /// It has more entries than allowed.
    TooMany,
    /// It is a name that breaks the rules for names.
    Name,
}

/// The result of reading a field. The outer error ends the frame, the inner one concerns only the field.
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

/// The progress of reading an array or object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    /// MessagePack: the number of entries left. JSON: unused.
    pub(super) left: u32,
    /// JSON: whether no comma is needed yet. MessagePack: unused.
    pub(super) first: bool,
}

/// Reads one value from left to right.
///
/// Each method that reads a value moves past it, even if it does not have the wanted type.
pub(super) trait Reader<'a> {
    /// Returns the type of the next value.
    fn kind(&mut self) -> Result<Kind, Malformed>;
    /// Skips the next value.
    fn skip(&mut self) -> Result<(), Malformed>;
    /// Reads text, which may contain U+0000.
    fn text(&mut self) -> Read<Cow<'a, str>>;
    /// Reads an integer from 0 to 2^53-1. The value counts, not how it is written: `5.0`, `5e0` and a double with the value 5 are the
    /// integer 5.
    fn integer(&mut self) -> Read<u64>;
    /// Reads a boolean.
    fn boolean(&mut self) -> Read<bool>;
    /// Reads any value, as compact JSON without U+0000.
    fn value(&mut self) -> Read<Json>;
    /// Enters the next object. [`Kind::Object`] must have been returned for it.
    fn enter_object(&mut self) -> Result<Entries, Malformed>;
    /// Reads the next key of an object, up to its value. `None`: there are no more.
    fn key(&mut self, entries: &mut Entries) -> Result<Option<Cow<'a, str>>, Malformed>;
    /// Enters the next array. [`Kind::Array`] must have been returned for it.
    fn enter_array(&mut self) -> Result<Entries, Malformed>;
    /// Goes to the next element of an array. `false`: there are no more.
    fn element(&mut self, entries: &mut Entries) -> Result<bool, Malformed>;
    /// Checks that nothing follows the value.
    fn finish(&mut self) -> Result<(), Malformed>;
    /// Returns the first fault that concerns the frame as a whole, in whichever value it was found.
    fn frame_fault(&self) -> Option<Fault>;
}

/// Reads text without U+0000.
pub(super) fn clean_text<'a>(reader: &mut impl Reader<'a>) -> Read<Cow<'a, str>> {
    Ok(reader.text()?.and_then(|text| {
        if memchr::memchr(0, text.as_bytes()).is_some() { Err(Fault::Nul) } else { Ok(text) }
    }))
}
