//! Reads JSON (RFC 8259), strictly.

use std::borrow::Cow;

use super::Json;
use super::json_text::{self, compacted};
use super::reader::{DEPTH_MAX, Entries, Fault, INTEGER_MAX, Kind, Malformed, Read, Reader};

/// Reads a JSON text.
pub(super) struct JsonReader<'a> {
    text: &'a str,
    at: usize,
    /// Number of objects and arrays that were entered and not left.
    depth: usize,
    /// Bytes of white space that were skipped.
    white_space: usize,
    too_deep: bool,
}

impl<'a> JsonReader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        JsonReader { text, at: 0, depth: 0, white_space: 0, too_deep: false }
    }

    /// Reads a number, as it is written.
    pub(super) fn number(&mut self) -> Result<&'a str, Malformed> {
        self.peek()?;
        let start = self.at;
        self.at +=
            json_text::number_length(&self.text.as_bytes()[start..]).ok_or(Malformed("not a JSON value"))?;
        Ok(&self.text[start..self.at])
    }

    /// Reads `null`.
    pub(super) fn null(&mut self) -> Result<(), Malformed> {
        self.peek()?;
        self.word("null")
    }

    /// Reads a key like [`Reader::key`], but returns an error if it is not Unicode.
    pub(super) fn strict_key(&mut self, entries: &mut Entries) -> Result<Option<Cow<'a, str>>, Malformed> {
        if !self.next(entries, b'}')? {
            return Ok(None);
        }
        let key = self.string()?.map_err(|_| Malformed("a surrogate stands alone"))?;
        self.expect(b':', "a colon was due")?;
        Ok(Some(key))
    }

    /// Returns the next byte that is not white space.
    fn peek(&mut self) -> Result<u8, Malformed> {
        self.skip_white_space();
        self.text.as_bytes().get(self.at).copied().ok_or(Malformed("the text ends early"))
    }

    fn skip_white_space(&mut self) {
        let start = self.at;
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
        self.white_space += self.at - start;
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), Malformed> {
        if self.peek()? != byte {
            return Err(Malformed(otherwise));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &'static str) -> Result<(), Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Malformed("not a JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Skips a string. Returns the text between its quotation marks, and whether that has escapes.
    fn raw_string(&mut self) -> Result<(&'a str, bool), Malformed> {
        self.expect(b'"', "a string was due")?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += json_text::plain_length(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((&self.text[start..self.at - 1], escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at +=
                        json_text::escape_length(&bytes[self.at..]).ok_or(Malformed("not an escape"))?;
                }
                Some(_) => return Err(Malformed("a control character in a string")),
                None => return Err(Malformed("a string does not end")),
            }
        }
    }

    fn string(&mut self) -> Read<Cow<'a, str>> {
        let (raw, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(Ok(Cow::Borrowed(raw)));
        }
        Ok(json_text::unescaped(raw).map(Cow::Owned).ok_or(Fault::NotUnicode))
    }

    /// Skips the next value. The inner error is the first reason for which the value can't be accepted. The recursion is as deep as the
    /// value, which is bounded.
    fn scan(&mut self) -> Read<()> {
        let mut found = Ok(());
        match self.kind()? {
            Kind::Object => {
                let mut entries = self.enter_object()?;
                if self.depth > DEPTH_MAX {
                    return self.skip_deep();
                }
                while self.next(&mut entries, b'}')? {
                    found = found.and(self.scan_string()?);
                    self.expect(b':', "a colon was due")?;
                    found = found.and(self.scan()?);
                }
            }
            Kind::Array => {
                let mut entries = self.enter_array()?;
                if self.depth > DEPTH_MAX {
                    return self.skip_deep();
                }
                while self.element(&mut entries)? {
                    found = found.and(self.scan()?);
                }
            }
            Kind::Text => found = self.scan_string()?,
            Kind::Number => {
                if json_text::is_infinite(self.number()?) {
                    found = Err(Fault::Infinite);
                }
            }
            Kind::Boolean => found = self.boolean()?.map(|_| ()),
            Kind::Null | Kind::Foreign => self.word("null")?,
        }
        Ok(found)
    }

    fn scan_string(&mut self) -> Read<()> {
        let (raw, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(Ok(()));
        }
        Ok(match json_text::unescaped(raw) {
            None => Err(Fault::NotUnicode),
            Some(text) if text.contains('\0') => Err(Fault::Nul),
            Some(_) => Ok(()),
        })
    }

    /// Goes to the next entry. `false`: there are no more.
    fn next(&mut self, entries: &mut Entries, end: u8) -> Result<bool, Malformed> {
        let first = std::mem::replace(&mut entries.first, false);
        let next = self.peek()?;
        if next == end {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !first {
            self.expect(b',', "a comma or the end of a list was due")?;
            self.peek()?;
        }
        Ok(true)
    }

    /// Skips the rest of a level that is too deep. The frame will be refused, so only strings and brackets are looked at.
    fn skip_deep(&mut self) -> Read<()> {
        self.too_deep = true;
        let outer = self.depth - 1;
        while self.depth > outer {
            if self.peek()? == b'"' {
                self.raw_string()?;
                continue;
            }
            match self.text.as_bytes()[self.at] {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        Ok(Err(Fault::TooDeep))
    }
}

impl<'a> Reader<'a> for JsonReader<'a> {
    fn kind(&mut self) -> Result<Kind, Malformed> {
        Ok(match self.peek()? {
            b'"' => Kind::Text,
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b't' | b'f' => Kind::Boolean,
            b'n' => Kind::Null,
            _ => Kind::Number,
        })
    }

    fn skip(&mut self) -> Result<(), Malformed> {
        self.scan().map(|_| ())
    }

    fn text(&mut self) -> Read<Cow<'a, str>> {
        match self.kind()? {
            Kind::Text => self.string(),
            _ => self.skip().map(|()| Err(Fault::Type)),
        }
    }

    fn integer(&mut self) -> Read<u64> {
        if self.kind()? != Kind::Number {
            return self.skip().map(|()| Err(Fault::Type));
        }
        let number = json_text::whole_number(self.number()?).filter(|number| *number <= INTEGER_MAX);
        Ok(number.ok_or(Fault::Range))
    }

    fn boolean(&mut self) -> Read<bool> {
        match self.peek()? {
            b't' => self.word("true").map(|()| Ok(true)),
            b'f' => self.word("false").map(|()| Ok(false)),
            _ => self.skip().map(|()| Err(Fault::Type)),
        }
    }

    fn value(&mut self) -> Read<Json> {
        self.peek()?;
        let (start, white_space) = (self.at, self.white_space);
        let found = self.scan()?;
        let raw = &self.text[start..self.at];
        let compact = self.white_space == white_space;
        Ok(found.map(|()| if compact { Json::from_compact(raw) } else { Json::from_compact(compacted(raw)) }))
    }

    fn enter_object(&mut self) -> Result<Entries, Malformed> {
        self.expect(b'{', "an object was due")?;
        self.depth += 1;
        Ok(Entries { left: 0, first: true })
    }

    fn key(&mut self, entries: &mut Entries) -> Result<Option<Cow<'a, str>>, Malformed> {
        if !self.next(entries, b'}')? {
            return Ok(None);
        }
        // A key that is not Unicode matches no known key.
        let key = self.string()?.unwrap_or_default();
        self.expect(b':', "a colon was due")?;
        Ok(Some(key))
    }

    fn enter_array(&mut self) -> Result<Entries, Malformed> {
        self.expect(b'[', "an array was due")?;
        self.depth += 1;
        Ok(Entries { left: 0, first: true })
    }

    fn element(&mut self, entries: &mut Entries) -> Result<bool, Malformed> {
        self.next(entries, b']')
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        self.skip_white_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Malformed("something follows the object")) }
    }

    fn frame_fault(&self) -> Option<Fault> {
        self.too_deep.then_some(Fault::TooDeep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(2000))]

        #[test]
        fn json_is_accepted_exactly_where_an_independent_reader_accepts_it(
            text in r#"([\[\]{},:"\\ a0-1eu.tfn-]|"a"|"b":|true|null|1\.0|\\u00e9){0,8}"#,
        ) {
            let mut reader = JsonReader::new(&text);
            let ours = reader.value().and_then(|value| reader.finish().map(|()| value));
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match ours {
                Err(_) | Ok(Err(Fault::Infinite)) => proptest::prop_assert!(theirs.is_err()),
                Ok(Err(fault)) => proptest::prop_assert_eq!(fault, Fault::Nul),
                Ok(Ok(json)) => {
                    let compact = serde_json::from_str::<serde_json::Value>(json.as_str());
                    proptest::prop_assert_eq!(compact.unwrap(), theirs.unwrap());
                }
            }
        }
    }
}
