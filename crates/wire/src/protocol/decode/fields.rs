//! The fields of all commands, collected from a frame in one pass. A field has the same type in every command.

use std::borrow::Cow;
use std::collections::BTreeMap;

use starling_model::{ConversationName, TopicName, UserName, is_name};

use super::super::reader::{Entries, Fault, Kind, Malformed, Read, Reader, clean_text};
use super::super::{CREATE_MEMBERS_MAX, Cursor, Json, LOG_CHARS_MAX, RESUME_ENTRIES_MAX, TopicPosition};

/// The value of a field. Of repeated keys the last one counts.
#[derive(Debug, Default)]
pub(in super::super) enum Field<T> {
    #[default]
    Absent,
    Null,
    Value(T),
    /// A value of the wrong kind. It is an error only in a command that has the field.
    Bad(Fault),
}

/// Defines `Fields` from the list of fields. Each field is read by a function, through [`field`], or through [`value`] if null is a value.
macro_rules! fields {
    ($( $field:ident: $Type:ty = $how:ident($read:expr), )*) => {
        /// Fields of commands and of HTTP bodies.
        #[derive(Debug, Default)]
        pub(in super::super) struct Fields<'a> {
            $( pub(in super::super) $field: Field<$Type>, )*
            /// A fault of the frame as a whole.
            pub(super) frame: Option<Fault>,
        }

        impl<'a> Fields<'a> {
            /// The names of all fields.
            #[cfg(test)]
            pub(super) const NAMES: &'static [&'static str] = &[ $( stringify!($field), )* ];

            fn read_field<R: Reader<'a>>(&mut self, key: &str, reader: &mut R) -> Result<(), Malformed> {
                match key {
                    $( stringify!($field) => self.$field = $how(reader, $read)?, )*
                    _ => reader.skip()?,
                }
                Ok(())
            }
        }
    };
}

fields! {
    id: u64 = field(R::integer),
    op: Cow<'a, str> = field(R::text),
    conversation: Cow<'a, str> = field(clean_text),
    topic: Cow<'a, str> = field(clean_text),
    key: Cow<'a, str> = field(clean_text),
    content: Cow<'a, str> = field(clean_text),
    token: Cow<'a, str> = field(clean_text),
    log: Cow<'a, str> = field(log),
    title: Cow<'a, str> = field(clean_text),
    sender: Cow<'a, str> = field(clean_text),
    role: Cow<'a, str> = field(clean_text),
    metadata: Json = field(object_value),
    data: Json = value(R::value),
    seq: u64 = field(R::integer),
    before: u64 = field(R::integer),
    after: u64 = field(R::integer),
    limit: u64 = field(R::integer),
    typing: bool = field(R::boolean),
    members: Vec<UserName> = field(members),
    since: Position<'a> = field(position),
    resume: Box<ResumeFields<'a>> = field(resume),
}

/// Fields of `resume`.
#[derive(Debug, Default)]
pub(in super::super) struct ResumeFields<'a> {
    pub(super) session: Field<Cow<'a, str>>,
    pub(super) ticket: Field<Cow<'a, str>>,
    pub(super) cursors: Field<BTreeMap<ConversationName, Cursor>>,
    pub(super) topics: Field<BTreeMap<TopicName, TopicPosition>>,
}

/// Fields of `since`.
#[derive(Debug, Default)]
pub(in super::super) struct Position<'a> {
    pub(super) epoch: Field<Cow<'a, str>>,
    pub(super) offset: Field<u64>,
}

impl<'a> Fields<'a> {
    /// Reads a whole frame.
    pub(super) fn read<R: Reader<'a>>(reader: &mut R) -> Result<Fields<'a>, Malformed> {
        if reader.kind()? != Kind::Object {
            return Err(Malformed("not an object"));
        }
        let mut fields = Fields::default();
        let mut entries = reader.enter_object()?;
        while let Some(key) = reader.key(&mut entries)? {
            fields.read_field(&key, reader)?;
        }
        reader.finish()?;
        fields.frame = reader.frame_fault();
        Ok(fields)
    }
}

/// Reads a field that can't have the value null.
fn field<'a, R: Reader<'a>, T>(
    reader: &mut R,
    read: impl FnOnce(&mut R) -> Read<T>,
) -> Result<Field<T>, Malformed> {
    if reader.kind()? == Kind::Null {
        reader.skip()?;
        return Ok(Field::Null);
    }
    value(reader, read)
}

/// Reads a field that may have the value null.
fn value<'a, R: Reader<'a>, T>(
    reader: &mut R,
    read: impl FnOnce(&mut R) -> Read<T>,
) -> Result<Field<T>, Malformed> {
    Ok(read(reader)?.map_or_else(Field::Bad, Field::Value))
}

fn object_value<'a, R: Reader<'a>>(reader: &mut R) -> Read<Json> {
    if reader.kind()? != Kind::Object {
        return reader.skip().map(|()| Err(Fault::Type));
    }
    reader.value()
}

/// Enters an object, or skips a value that is none.
fn object<'a, R: Reader<'a>>(reader: &mut R) -> Read<Entries> {
    if reader.kind()? != Kind::Object {
        return reader.skip().map(|()| Err(Fault::Type));
    }
    reader.enter_object().map(Ok)
}

fn members<'a, R: Reader<'a>>(reader: &mut R) -> Read<Vec<UserName>> {
    if reader.kind()? != Kind::Array {
        return reader.skip().map(|()| Err(Fault::Type));
    }
    let mut entries = reader.enter_array()?;
    let mut members = Ok(Vec::new());
    while reader.element(&mut entries)? {
        let member = reader.text()?.and_then(name);
        members = members.and_then(|mut names| {
            if names.len() == CREATE_MEMBERS_MAX {
                return Err(Fault::TooMany);
            }
            names.push(member?);
            Ok(names)
        });
    }
    Ok(members)
}

fn resume<'a, R: Reader<'a>>(reader: &mut R) -> Read<Box<ResumeFields<'a>>> {
    let mut entries = match object(reader)? {
        Ok(entries) => entries,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut fields = Box::<ResumeFields<'a>>::default();
    while let Some(key) = reader.key(&mut entries)? {
        match &*key {
            "session" => fields.session = field(reader, clean_text)?,
            "ticket" => fields.ticket = field(reader, clean_text)?,
            "cursors" => fields.cursors = field(reader, |reader| by_name(reader, cursor))?,
            "topics" => fields.topics = field(reader, |reader| by_name(reader, owned_position))?,
            _ => reader.skip()?,
        }
    }
    Ok(Ok(fields))
}

/// Reads an object whose keys are names.
fn by_name<'a, R: Reader<'a>, N: From<Cow<'a, str>> + Ord, T>(
    reader: &mut R,
    mut read: impl FnMut(&mut R) -> Read<T>,
) -> Read<BTreeMap<N, T>> {
    let mut entries = match object(reader)? {
        Ok(entries) => entries,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut map = Ok(BTreeMap::new());
    while let Some(key) = reader.key(&mut entries)? {
        let value = read(reader)?;
        map = map.and_then(|mut map| {
            if map.len() == RESUME_ENTRIES_MAX {
                return Err(Fault::TooMany);
            }
            map.insert(name(key)?, value?);
            Ok(map)
        });
    }
    Ok(map)
}

/// Reads a log's id. One that is longer than the maximum was never issued.
fn log<'a, R: Reader<'a>>(reader: &mut R) -> Read<Cow<'a, str>> {
    let short = |log: &Cow<'_, str>| log.len() <= LOG_CHARS_MAX;
    Ok(clean_text(reader)?.and_then(|log| if short(&log) { Ok(log) } else { Err(Fault::Range) }))
}

/// Reads a cursor: a number, or an object of a number and its log.
fn cursor<'a, R: Reader<'a>>(reader: &mut R) -> Read<Cursor> {
    if reader.kind()? != Kind::Object {
        return Ok(reader.integer()?.map(|seq| Cursor { seq, log: None }));
    }
    let mut entries = reader.enter_object()?;
    let (mut seq, mut of) = (Field::Absent, Field::Absent);
    while let Some(key) = reader.key(&mut entries)? {
        match &*key {
            "seq" => seq = field(reader, R::integer)?,
            "log" => of = field(reader, log)?,
            _ => reader.skip()?,
        }
    }
    Ok(match (seq, of) {
        (Field::Bad(fault), _) | (_, Field::Bad(fault)) => Err(fault),
        (Field::Value(seq), Field::Value(log)) => Ok(Cursor { seq, log: Some(log.into_owned()) }),
        (Field::Value(seq), Field::Absent | Field::Null) => Ok(Cursor { seq, log: None }),
        (Field::Absent | Field::Null, _) => Err(Fault::Type),
    })
}

fn position<'a, R: Reader<'a>>(reader: &mut R) -> Read<Position<'a>> {
    let mut entries = match object(reader)? {
        Ok(entries) => entries,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut position = Position::default();
    while let Some(key) = reader.key(&mut entries)? {
        match &*key {
            "epoch" => position.epoch = field(reader, clean_text)?,
            "offset" => position.offset = field(reader, R::integer)?,
            _ => reader.skip()?,
        }
    }
    Ok(Ok(position))
}

fn owned_position<'a, R: Reader<'a>>(reader: &mut R) -> Read<TopicPosition> {
    Ok(position(reader)?.and_then(|position| match (position.epoch, position.offset) {
        (Field::Value(epoch), Field::Value(offset)) => {
            Ok(TopicPosition { epoch: epoch.into_owned(), offset })
        }
        (Field::Bad(fault), _) | (_, Field::Bad(fault)) => Err(fault),
        _ => Err(Fault::Type),
    }))
}

fn name<'a, N: From<Cow<'a, str>>>(text: Cow<'a, str>) -> Result<N, Fault> {
    if is_name(&text) { Ok(text.into()) } else { Err(Fault::Name) }
}
