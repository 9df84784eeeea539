//! Builds commands from fields. Names, limits and ranges are checked here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::take;

use starling_model::{NAME_RULE, TopicName, is_name};

use super::super::reader::{DEPTH_MAX, Fault};
use super::super::{
    BadRequest, CONTENT_BYTES_MAX, CREATE_MEMBERS_MAX, Connect, Create, DATA_BYTES_MAX, ErrorCode,
    HISTORY_LIMIT, HISTORY_LIMIT_MAX, History, Json, KEY_CHARS_MAX, METADATA_BYTES_MAX, Operation, Patch,
    PostedMessage, RESUME_ENTRIES_MAX, Resume, Send, TITLE_BYTES_MAX, TopicPosition,
};
use super::fields::{Field, Fields, Position, ResumeFields};

pub(in super::super) type Built<T> = Result<T, BadRequest>;

/// The type that a field must have, for the message to a client's developer.
#[derive(Clone, Copy)]
enum Wanted {
    Text,
    Integer,
    Boolean,
    Object,
    Names,
    Log,
    Cursors,
    NamedPositions,
}

/// Returns the operation with this name.
pub(in super::super) fn operation(name: &str) -> Built<Operation> {
    Operation::parse(name)
        .ok_or_else(|| bad(format!("there is no `op` {:?}", name.chars().take(32).collect::<String>())))
}

/// Refuses a frame with a value that is not allowed in any field, known or not.
pub(super) fn whole_frame(fields: &Fields<'_>) -> Built<()> {
    match fields.frame {
        None => Ok(()),
        Some(Fault::TooDeep) => Err(bad(format!("values are nested deeper than {DEPTH_MAX}"))),
        Some(_) => Err(bad(
            "bin, ext, NaN, infinities and keys that are no strings have no place in a frame".to_owned(),
        )),
    }
}

/// Builds a `connect`.
pub(in super::super) fn connect(fields: &mut Fields<'_>) -> Built<Connect> {
    let resumed = optional("resume", Wanted::Object, take(&mut fields.resume))?;
    Ok(Connect {
        token: optional("token", Wanted::Text, take(&mut fields.token))?.map(Cow::into_owned),
        resume: resumed.map(|fields| resume(*fields)).transpose()?,
    })
}

/// Builds a `send`.
pub(in super::super) fn send(fields: &mut Fields<'_>) -> Built<Send> {
    Ok(Send {
        conversation: name("conversation", take(&mut fields.conversation))?,
        key: key(take(&mut fields.key))?,
        content: content(take(&mut fields.content))?,
        metadata: metadata(take(&mut fields.metadata))?,
    })
}

/// Builds a `create`.
pub(in super::super) fn create(fields: &mut Fields<'_>) -> Built<Create> {
    let conversation = match take(&mut fields.conversation) {
        Field::Absent | Field::Null => None,
        given => Some(name("conversation", given)?),
    };
    Ok(Create {
        conversation,
        title: title(take(&mut fields.title))?,
        members: optional("members", Wanted::Names, take(&mut fields.members))?.unwrap_or_default(),
        metadata: metadata(take(&mut fields.metadata))?,
    })
}

/// Builds the body of a message that is posted over HTTP.
pub(super) fn posted_message<'a>(conversation: &'a str, mut fields: Fields<'a>) -> Built<PostedMessage> {
    let role = optional("role", Wanted::Text, take(&mut fields.role))?.map(Cow::into_owned);
    if role.as_deref().is_some_and(|role| !matches!(role, "user" | "assistant" | "system" | "tool")) {
        return Err(bad("`role` must be `user`, `assistant`, `system` or `tool`".to_owned()));
    }
    let sender = match take(&mut fields.sender) {
        Field::Absent | Field::Null => None,
        given => Some(name("sender", given)?),
    };
    fields.conversation = Field::Value(Cow::Borrowed(conversation));
    Ok(PostedMessage { send: send(&mut fields)?, sender, role })
}

/// Builds a publication's data.
pub(in super::super) fn data(field: &str, value: Field<Json>) -> Built<Json> {
    let data = required(field, Wanted::Object, value)?;
    within(field, data.as_str().len(), DATA_BYTES_MAX)?;
    Ok(data)
}

/// Builds the changes to a conversation.
pub(super) fn patch(fields: Fields<'_>) -> Built<Patch> {
    Ok(Patch {
        title: if let Field::Absent = fields.title { None } else { Some(title(fields.title)?) },
        metadata: if let Field::Absent = fields.metadata { None } else { Some(metadata(fields.metadata)?) },
    })
}

/// Builds a `history`.
pub(in super::super) fn history(fields: &mut Fields<'_>) -> Built<History> {
    let conversation = name("conversation", take(&mut fields.conversation))?;
    let before = optional("before", Wanted::Integer, take(&mut fields.before))?;
    let after = optional("after", Wanted::Integer, take(&mut fields.after))?;
    if before.is_some() && after.is_some() {
        return Err(bad("only one of `before` and `after` may be given".to_owned()));
    }
    let limit = match take(&mut fields.limit) {
        Field::Absent | Field::Null => HISTORY_LIMIT,
        Field::Value(limit) if (1..=u64::from(HISTORY_LIMIT_MAX)).contains(&limit) => limit as u32,
        _ => return Err(bad(format!("`limit` must be an integer from 1 to {HISTORY_LIMIT_MAX}"))),
    };
    Ok(History { conversation, before, after, limit })
}

fn resume(fields: ResumeFields<'_>) -> Built<Resume> {
    let cursors = required("resume.cursors", Wanted::Cursors, fields.cursors)?;
    let topics: BTreeMap<TopicName, TopicPosition> =
        optional("resume.topics", Wanted::NamedPositions, fields.topics)?.unwrap_or_default();
    if cursors.len() + topics.len() > RESUME_ENTRIES_MAX {
        return Err(too_large(format!("`resume` may hold at most {RESUME_ENTRIES_MAX} cursors and topics")));
    }
    Ok(Resume {
        session: required("resume.session", Wanted::Text, fields.session)?.into_owned(),
        ticket: required("resume.ticket", Wanted::Text, fields.ticket)?.into_owned(),
        cursors,
        topics,
    })
}

/// Returns a required text.
pub(in super::super) fn text<'a>(field: &str, value: Field<Cow<'a, str>>) -> Built<Cow<'a, str>> {
    required(field, Wanted::Text, value)
}

/// Returns a required text as a `String`.
pub(in super::super) fn owned_text(field: &str, value: Field<Cow<'_, str>>) -> Built<String> {
    Ok(text(field, value)?.into_owned())
}

/// Returns a required integer.
pub(in super::super) fn integer(field: &str, value: Field<u64>) -> Built<u64> {
    required(field, Wanted::Integer, value)
}

/// Returns an optional integer.
pub(in super::super) fn optional_integer(field: &str, value: Field<u64>) -> Built<Option<u64>> {
    optional(field, Wanted::Integer, value)
}

/// Returns a required boolean.
pub(in super::super) fn boolean(field: &str, value: Field<bool>) -> Built<bool> {
    required(field, Wanted::Boolean, value)
}

/// Returns an optional log id.
pub(in super::super) fn optional_log(field: &str, value: Field<Cow<'_, str>>) -> Built<Option<String>> {
    Ok(optional(field, Wanted::Log, value)?.map(Cow::into_owned))
}

/// Returns an optional position in a topic.
pub(in super::super) fn optional_position(
    field: &str,
    value: Field<Position<'_>>,
) -> Built<Option<TopicPosition>> {
    let Some(position) = optional(field, Wanted::Object, value)? else { return Ok(None) };
    Ok(Some(TopicPosition {
        epoch: required(&format!("{field}.epoch"), Wanted::Text, position.epoch)?.into_owned(),
        offset: required(&format!("{field}.offset"), Wanted::Integer, position.offset)?,
    }))
}

/// Returns a required name of any kind.
pub(in super::super) fn name<'a, N: From<Cow<'a, str>>>(field: &str, value: Field<Cow<'a, str>>) -> Built<N> {
    let text = required(field, Wanted::Text, value)?;
    if is_name(&text) { Ok(text.into()) } else { Err(fault(field, Wanted::Text, Fault::Name)) }
}

fn key(value: Field<Cow<'_, str>>) -> Built<String> {
    let key = required("key", Wanted::Text, value)?;
    // Characters are only counted if the text can be short enough.
    if key.is_empty() || key.len() > KEY_CHARS_MAX * 4 || key.chars().count() > KEY_CHARS_MAX {
        return Err(bad(format!("`key` must have from 1 to {KEY_CHARS_MAX} characters")));
    }
    Ok(key.into_owned())
}

fn content(value: Field<Cow<'_, str>>) -> Built<String> {
    let content = required("content", Wanted::Text, value)?;
    within("content", content.len(), CONTENT_BYTES_MAX)?;
    Ok(content.into_owned())
}

fn title(value: Field<Cow<'_, str>>) -> Built<Option<String>> {
    let Some(title) = optional("title", Wanted::Text, value)? else { return Ok(None) };
    within("title", title.len(), TITLE_BYTES_MAX)?;
    Ok(Some(title.into_owned()))
}

fn metadata(value: Field<Json>) -> Built<Option<Json>> {
    let Some(metadata) = optional("metadata", Wanted::Object, value)? else { return Ok(None) };
    within("metadata", metadata.as_str().len(), METADATA_BYTES_MAX)?;
    Ok(Some(metadata))
}

fn required<T>(field: &str, wanted: Wanted, value: Field<T>) -> Built<T> {
    match value {
        Field::Value(value) => Ok(value),
        Field::Absent => Err(bad(format!("`{field}` is missing"))),
        Field::Null => Err(fault(field, wanted, Fault::Type)),
        Field::Bad(reason) => Err(fault(field, wanted, reason)),
    }
}

fn optional<T>(field: &str, wanted: Wanted, value: Field<T>) -> Built<Option<T>> {
    match value {
        Field::Absent | Field::Null => Ok(None),
        given => required(field, wanted, given).map(Some),
    }
}

fn within(field: &str, bytes: usize, bytes_max: usize) -> Built<()> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(too_large(format!("`{field}` has {bytes} bytes; at most {bytes_max} are allowed")))
}

/// Returns the error for a value of any type that can't be accepted.
pub(super) fn fault_of_value(field: &str, of_value: Fault) -> BadRequest {
    fault(field, Wanted::Object, of_value)
}

fn fault(field: &str, wanted: Wanted, fault: Fault) -> BadRequest {
    let rule = match (fault, wanted) {
        (Fault::TooMany, _) => {
            let most = if field == "members" { CREATE_MEMBERS_MAX } else { RESUME_ENTRIES_MAX };
            return too_large(format!("`{field}` may hold at most {most} entries"));
        }
        (Fault::Nul, _) => "can't hold U+0000",
        (Fault::NotUnicode, _) => "holds text that is not valid Unicode",
        (Fault::Infinite, _) => "holds a number too large for a double",
        (Fault::NotJson, _) => "holds a value that JSON lacks",
        (Fault::TooDeep, _) => return bad(format!("`{field}` is nested deeper than {DEPTH_MAX}")),
        (Fault::Name, _) => {
            let of = if matches!(wanted, Wanted::Text) { "must be a name" } else { "must hold names" };
            return bad(format!("`{field}` {of}: {NAME_RULE}"));
        }
        (Fault::Type | Fault::Range, Wanted::Text) => "must be a string",
        (Fault::Type | Fault::Range, Wanted::Integer) => "must be an integer from 0 to 2^53-1",
        (Fault::Type | Fault::Range, Wanted::Boolean) => "must be true or false",
        (Fault::Type | Fault::Range, Wanted::Object) => "must be an object",
        (Fault::Type | Fault::Range, Wanted::Names) => "must be an array of names",
        (Fault::Type | Fault::Range, Wanted::Log) => "must be a string of at most 32 characters",
        (Fault::Type | Fault::Range, Wanted::Cursors) => {
            "must be an object of integers from 0 to 2^53-1, or of {seq, log}"
        }
        (Fault::Type | Fault::Range, Wanted::NamedPositions) => "must be an object of {epoch, offset}",
    };
    bad(format!("`{field}` {rule}"))
}

fn bad(message: String) -> BadRequest {
    BadRequest { code: ErrorCode::BadRequest, message }
}

fn too_large(message: String) -> BadRequest {
    BadRequest { code: ErrorCode::TooLarge, message }
}
