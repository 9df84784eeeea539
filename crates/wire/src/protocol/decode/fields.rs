//! All the fields that any command has, gathered from a frame in one pass. No field means different types to different commands.

use std::borrow::Cow;
use std::collections::BTreeMap;

use starling_model::{ConversationName, TopicName, UserName, is_name};

use super::super::reader::{Entries, Fault, Kind, Malformed, Read, Reader, clean_text};
use super::super::{CREATE_MEMBERS_MAX, Cursor, Json, LOG_CHARS_MAX, RESUME_ENTRIES_MAX, TopicPosition};

/// What stands under a key. Of repeated keys the last one counts.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    Null,
    Value(T),
    /// It can't be what it should be. Only a command that has the field minds.
    Bad(Fault),
}

/// Fields of commands and of HTTP bodies.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) id: Field<u64>,
    pub(super) op: Field<Cow<'a, str>>,
    pub(super) conversation: Field<Cow<'a, str>>,
    pub(super) topic: Field<Cow<'a, str>>,
    pub(super) key: Field<Cow<'a, str>>,
    pub(super) content: Field<Cow<'a, str>>,
    pub(super) token: Field<Cow<'a, str>>,
    pub(super) log: Field<Cow<'a, str>>,
    pub(super) title: Field<Cow<'a, str>>,
    pub(super) sender: Field<Cow<'a, str>>,
    pub(super) role: Field<Cow<'a, str>>,
    pub(super) metadata: Field<Json>,
    /// Null is a value here.
    pub(super) data: Field<Json>,
    pub(super) seq: Field<u64>,
    pub(super) before: Field<u64>,
    pub(super) after: Field<u64>,
    pub(super) limit: Field<u64>,
    pub(super) typing: Field<bool>,
    pub(super) members: Field<Vec<UserName>>,
    pub(super) since: Field<Position<'a>>,
    pub(super) resume: Field<Box<ResumeFields<'a>>>,
    /// What concerns the frame as a whole.
    pub(super) frame: Option<Fault>,
}

/// Fields of `resume`.
#[derive(Debug, Default)]
pub(super) struct ResumeFields<'a> {
    pub(super) session: Field<Cow<'a, str>>,
    pub(super) ticket: Field<Cow<'a, str>>,
    pub(super) cursors: Field<BTreeMap<ConversationName, Cursor>>,
    pub(super) topics: Field<BTreeMap<TopicName, TopicPosition>>,
}

/// Fields of `since`.
#[derive(Debug, Default)]
pub(super) struct Position<'a> {
    pub(super) epoch: Field<Cow<'a, str>>,
    pub(super) offset: Field<u64>,
}

impl<'a> Fields<'a> {
    /// Reads a frame to its end.
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

    fn read_field<R: Reader<'a>>(&mut self, key: &str, reader: &mut R) -> Result<(), Malformed> {
        match key {
            "id" => self.id = field(reader, R::integer)?,
            "op" => self.op = field(reader, R::text)?,
            "conversation" => self.conversation = field(reader, clean_text)?,
            "topic" => self.topic = field(reader, clean_text)?,
            "key" => self.key = field(reader, clean_text)?,
            "content" => self.content = field(reader, clean_text)?,
            "token" => self.token = field(reader, clean_text)?,
            "log" => self.log = field(reader, log)?,
            "title" => self.title = field(reader, clean_text)?,
            "sender" => self.sender = field(reader, clean_text)?,
            "role" => self.role = field(reader, clean_text)?,
            "metadata" => self.metadata = field(reader, object_value)?,
            "data" => self.data = reader.value()?.map_or_else(Field::Bad, Field::Value),
            "seq" => self.seq = field(reader, R::integer)?,
            "before" => self.before = field(reader, R::integer)?,
            "after" => self.after = field(reader, R::integer)?,
            "limit" => self.limit = field(reader, R::integer)?,
            "typing" => self.typing = field(reader, R::boolean)?,
            "members" => self.members = field(reader, members)?,
            "since" => self.since = field(reader, position)?,
            "resume" => self.resume = field(reader, resume)?,
            _ => reader.skip()?,
        }
        Ok(())
    }
}

/// Reads what may be null.
fn field<'a, R: Reader<'a>, T>(
    reader: &mut R,
    read: impl FnOnce(&mut R) -> Read<T>,
) -> Result<Field<T>, Malformed> {
    if reader.kind()? == Kind::Null {
        reader.skip()?;
        return Ok(Field::Null);
    }
    Ok(read(reader)?.map_or_else(Field::Bad, Field::Value))
}

fn object_value<'a, R: Reader<'a>>(reader: &mut R) -> Read<Json> {
    if reader.kind()? != Kind::Object {
        return reader.skip().map(|()| Err(Fault::Type));
    }
    reader.value()
}

/// Goes into an object, or reads past what is none.
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

/// A log's id. One that is longer than any was never given out.
fn log<'a, R: Reader<'a>>(reader: &mut R) -> Read<Cow<'a, str>> {
    let short = |log: &Cow<'_, str>| log.len() <= LOG_CHARS_MAX;
    Ok(clean_text(reader)?.and_then(|log| if short(&log) { Ok(log) } else { Err(Fault::Range) }))
}

/// Reads a number, or an object of a number and its log.
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
