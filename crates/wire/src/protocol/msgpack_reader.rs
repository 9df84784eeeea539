//! Reads MessagePack (<https://github.com/msgpack/msgpack/blob/master/spec.md>). A declared length is checked against the bytes that are
//! there before it is used.

use std::borrow::Cow;

use super::Json;
use super::json_text::{push_integer, push_string};
use super::reader::{DEPTH_MAX, Entries, Fault, INTEGER_MAX, Kind, Malformed, Read, Reader};

/// Reads a MessagePack value.
pub(super) struct MsgPackReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Number of maps and arrays that were entered and not left.
    depth: usize,
    fault: Option<Fault>,
}

/// A value, or the head of an array or map.
enum Head<'a> {
    Nil,
    Boolean(bool),
    Unsigned(u64),
    Negative(i64),
    /// A number that is neither NaN nor an infinity.
    Float(f64),
    Text(&'a [u8]),
    Array(u32),
    Map(u32),
    /// A value that JSON does not have. It has been skipped.
    Foreign,
}

const ENDS_EARLY: Malformed = Malformed("the value ends early");

impl<'a> MsgPackReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        MsgPackReader { bytes, at: 0, depth: 0, fault: None }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.bytes[self.at..].get(..length).ok_or(ENDS_EARLY)?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.bytes[self.at..].first_chunk().ok_or(ENDS_EARLY)?;
        self.at += N;
        Ok(*taken)
    }

    /// Reads a big-endian number of one, two or four bytes.
    fn length(&mut self, width: u8) -> Result<usize, Malformed> {
        Ok(match width {
            0 => usize::from(self.array::<1>()?[0]),
            1 => usize::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?) as usize,
        })
    }

    fn head(&mut self) -> Result<Head<'a>, Malformed> {
        let marker = self.array::<1>()?[0];
        Ok(match marker {
            0x00..=0x7f => Head::Unsigned(u64::from(marker)),
            0x80..=0x8f => Head::Map(self.entries(usize::from(marker & 0x0f), 2)?),
            0x90..=0x9f => Head::Array(self.entries(usize::from(marker & 0x0f), 1)?),
            0xa0..=0xbf => Head::Text(self.take(usize::from(marker & 0x1f))?),
            0xc0 => Head::Nil,
            0xc1 => return Err(Malformed("a byte that starts no value")),
            0xc2 | 0xc3 => Head::Boolean(marker == 0xc3),
            0xc4..=0xc6 => {
                let length = self.length(marker - 0xc4)?;
                self.foreign(length)?
            }
            0xc7..=0xc9 => {
                let length = self.length(marker - 0xc7)?;
                self.foreign(length + 1)?
            }
            0xca => {
                let number = f32::from_be_bytes(self.array()?);
                self.float(f64::from(number))?
            }
            0xcb => {
                let number = f64::from_be_bytes(self.array()?);
                self.float(number)?
            }
            0xcc => Head::Unsigned(u64::from(self.array::<1>()?[0])),
            0xcd => Head::Unsigned(u64::from(u16::from_be_bytes(self.array()?))),
            0xce => Head::Unsigned(u64::from(u32::from_be_bytes(self.array()?))),
            0xcf => Head::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.foreign(1 + (1 << (marker - 0xd4)))?,
            0xd9..=0xdb => {
                let length = self.length(marker - 0xd9)?;
                Head::Text(self.take(length)?)
            }
            0xdc | 0xdd => {
                let count = self.length(marker - 0xdc + 1)?;
                Head::Array(self.entries(count, 1)?)
            }
            0xde | 0xdf => {
                let count = self.length(marker - 0xde + 1)?;
                Head::Map(self.entries(count, 2)?)
            }
            0xe0..=0xff => Head::Negative(i64::from(marker.cast_signed())),
        })
    }

    /// Checks a number of entries against the bytes that are left. Each entry takes at least `least` bytes.
    fn entries(&self, count: usize, least: usize) -> Result<u32, Malformed> {
        if count > (self.bytes.len() - self.at) / least {
            return Err(ENDS_EARLY);
        }
        u32::try_from(count).map_err(|_| ENDS_EARLY)
    }

    fn foreign(&mut self, length: usize) -> Result<Head<'a>, Malformed> {
        self.take(length)?;
        self.fault.get_or_insert(Fault::NotJson);
        Ok(Head::Foreign)
    }

    fn float(&mut self, number: f64) -> Result<Head<'a>, Malformed> {
        if number.is_finite() { Ok(Head::Float(number)) } else { self.foreign(0) }
    }

    /// Skips the next value and writes it as JSON. The inner error is the first reason for which the value can't be accepted. The recursion
    /// is as deep as the value, which is bounded.
    fn scan(&mut self, mut json: Option<&mut Vec<u8>>) -> Read<()> {
        let mut found = Ok(());
        match self.head()? {
            Head::Nil => write(&mut json, b"null"),
            Head::Boolean(true) => write(&mut json, b"true"),
            Head::Boolean(false) => write(&mut json, b"false"),
            Head::Unsigned(number) => {
                if let Some(json) = json {
                    push_integer(json, number);
                }
            }
            Head::Negative(number) => {
                if let Some(json) = json {
                    json.push(b'-');
                    push_integer(json, number.unsigned_abs());
                }
            }
            // `Debug` writes the fewest digits that read back as the same number, with an exponent if that is shorter.
            Head::Float(number) => write(&mut json, format!("{number:?}").as_bytes()),
            Head::Text(bytes) => found = scan_text(bytes, json),
            Head::Foreign => found = Err(Fault::NotJson),
            Head::Array(count) => {
                if self.depth >= DEPTH_MAX {
                    return self.skip_deep(u64::from(count));
                }
                self.depth += 1;
                write(&mut json, b"[");
                for index in 0..count {
                    write(&mut json, if index == 0 { b"" } else { b"," });
                    found = found.and(self.scan(json.as_deref_mut())?);
                }
                write(&mut json, b"]");
                self.depth -= 1;
            }
            Head::Map(count) => {
                if self.depth >= DEPTH_MAX {
                    return self.skip_deep(u64::from(count) * 2);
                }
                self.depth += 1;
                write(&mut json, b"{");
                for index in 0..count {
                    write(&mut json, if index == 0 { b"" } else { b"," });
                    found = found.and(self.scan_key(json.as_deref_mut())?);
                    write(&mut json, b":");
                    found = found.and(self.scan(json.as_deref_mut())?);
                }
                write(&mut json, b"}");
                self.depth -= 1;
            }
        }
        Ok(found)
    }

    fn scan_key(&mut self, json: Option<&mut Vec<u8>>) -> Read<()> {
        if self.kind()? != Kind::Text {
            self.fault.get_or_insert(Fault::NotJson);
            return Ok(self.scan(None)?.and(Err(Fault::NotJson)));
        }
        self.scan(json)
    }

    /// Skips values of a level that is too deep, with everything inside them. The frame will be refused.
    fn skip_deep(&mut self, mut left: u64) -> Read<()> {
        self.fault.get_or_insert(Fault::TooDeep);
        while left > 0 {
            left -= 1;
            match self.head()? {
                Head::Array(count) => left += u64::from(count),
                Head::Map(count) => left += 2 * u64::from(count),
                _ => {}
            }
        }
        Ok(Err(Fault::TooDeep))
    }

    /// Goes to the next entry. `false`: there are no more, and the map or array was left.
    fn next(&mut self, entries: &mut Entries) -> bool {
        if entries.left == 0 {
            self.depth -= 1;
            return false;
        }
        entries.left -= 1;
        true
    }
}

impl<'a> Reader<'a> for MsgPackReader<'a> {
    fn kind(&mut self) -> Result<Kind, Malformed> {
        Ok(match *self.bytes.get(self.at).ok_or(ENDS_EARLY)? {
            0xc0 => Kind::Null,
            0xc2 | 0xc3 => Kind::Boolean,
            0xa0..=0xbf | 0xd9..=0xdb => Kind::Text,
            0x90..=0x9f | 0xdc | 0xdd => Kind::Array,
            0x80..=0x8f | 0xde | 0xdf => Kind::Object,
            0xc1 | 0xc4..=0xc9 | 0xd4..=0xd8 => Kind::Foreign,
            _ => Kind::Number,
        })
    }

    fn skip(&mut self) -> Result<(), Malformed> {
        self.scan(None).map(|_| ())
    }

    fn text(&mut self) -> Read<Cow<'a, str>> {
        if self.kind()? != Kind::Text {
            return self.skip().map(|()| Err(Fault::Type));
        }
        let Head::Text(bytes) = self.head()? else { return Ok(Err(Fault::Type)) };
        Ok(std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Fault::NotUnicode))
    }

    fn integer(&mut self) -> Read<u64> {
        if self.kind()? != Kind::Number {
            return self.skip().map(|()| Err(Fault::Type));
        }
        let number = match self.head()? {
            Head::Unsigned(number) => Some(number),
            Head::Float(number) => whole(number),
            _ => None,
        };
        Ok(number.filter(|number| *number <= INTEGER_MAX).ok_or(Fault::Range))
    }

    fn boolean(&mut self) -> Read<bool> {
        if self.kind()? != Kind::Boolean {
            return self.skip().map(|()| Err(Fault::Type));
        }
        Ok(match self.head()? {
            Head::Boolean(truth) => Ok(truth),
            _ => Err(Fault::Type),
        })
    }

    fn value(&mut self) -> Read<Json> {
        let mut json = Vec::new();
        let found = self.scan(Some(&mut json))?;
        Ok(found
            .and_then(|()| String::from_utf8(json).map(Json::from_compact).map_err(|_| Fault::NotUnicode)))
    }

    fn enter_object(&mut self) -> Result<Entries, Malformed> {
        let Head::Map(left) = self.head()? else { return Err(Malformed("a map was due")) };
        self.depth += 1;
        Ok(Entries { left, first: true })
    }

    fn key(&mut self, entries: &mut Entries) -> Result<Option<Cow<'a, str>>, Malformed> {
        while self.next(entries) {
            if self.kind()? == Kind::Text {
                // A key that is not Unicode matches no known key.
                return Ok(Some(self.text()?.unwrap_or_default()));
            }
            self.fault.get_or_insert(Fault::NotJson);
            self.skip()?;
            self.skip()?;
        }
        Ok(None)
    }

    fn enter_array(&mut self) -> Result<Entries, Malformed> {
        let Head::Array(left) = self.head()? else { return Err(Malformed("an array was due")) };
        self.depth += 1;
        Ok(Entries { left, first: true })
    }

    fn element(&mut self, entries: &mut Entries) -> Result<bool, Malformed> {
        Ok(self.next(entries))
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed("something follows the map")) }
    }

    fn frame_fault(&self) -> Option<Fault> {
        self.fault
    }
}

fn signed<'a>(number: i64) -> Head<'a> {
    u64::try_from(number).map_or(Head::Negative(number), Head::Unsigned)
}

/// Returns the integer that a double represents, if it is in the range in which doubles are exact. Some encoders write every integer above
/// 2^32 as a double, since JavaScript has no other numbers.
fn whole(number: f64) -> Option<u64> {
    // Both bounds are exact as doubles, and -0.0 is 0.
    let in_range = (0.0..=INTEGER_MAX as f64).contains(&number);
    (in_range && number.fract() == 0.0).then_some(number as u64)
}

fn scan_text(bytes: &[u8], json: Option<&mut Vec<u8>>) -> Result<(), Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::NotUnicode)?;
    if memchr::memchr(0, bytes).is_some() {
        return Err(Fault::Nul);
    }
    if let Some(json) = json {
        push_string(json, text);
    }
    Ok(())
}

fn write(json: &mut Option<&mut Vec<u8>>, bytes: &[u8]) {
    if let Some(json) = json {
        json.extend_from_slice(bytes);
    }
}
