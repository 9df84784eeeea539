//! Transcodes JSON to MessagePack. Integers of up to 64 bits stay exact.

use super::json_reader::JsonReader;
use super::msgpack_writer::{self as msgpack, push_array_head, push_map_head};
use super::reader::{DEPTH_MAX, Kind, Malformed, Reader};

/// The error that a text can't be transcoded to MessagePack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON that MessagePack could hold: {0}")]
pub struct NotTranscodable(&'static str);

/// How deep values that the node writes may be nested: a client's value inside a reply or an event.
const OUR_DEPTH_MAX: usize = DEPTH_MAX + 8;

/// Transcodes one JSON value to MessagePack. An integer takes the shortest format that fits. Other numbers, and integers beyond 64 bits,
/// become doubles.
///
/// # Errors
///
/// The text is not JSON, is nested too deep, or has a lone surrogate or a number that is too large for a double. None of this happens with
/// text that [`super::decode`] accepted.
pub fn json_to_msgpack(json: &str) -> Result<Vec<u8>, NotTranscodable> {
    let mut out = Vec::with_capacity(json.len());
    push_transcoded(&mut out, json)?;
    Ok(out)
}

/// Appends the result of [`json_to_msgpack`]. Appends nothing if that fails.
pub(super) fn push_transcoded(out: &mut Vec<u8>, json: &str) -> Result<(), NotTranscodable> {
    let start = out.len();
    let mut reader = JsonReader::new(json);
    let done = push_value(out, &mut reader, 0).and_then(|()| reader.finish());
    done.map_err(|Malformed(reason)| {
        out.truncate(start);
        NotTranscodable(reason)
    })
}

fn push_value(out: &mut Vec<u8>, reader: &mut JsonReader<'_>, depth: usize) -> Result<(), Malformed> {
    if depth > OUR_DEPTH_MAX {
        return Err(Malformed("nested too deep"));
    }
    match reader.kind()? {
        Kind::Null | Kind::Foreign => {
            reader.null()?;
            out.push(msgpack::NIL);
        }
        Kind::Boolean => {
            let truth = reader.boolean()?.map_err(|_| Malformed("not a JSON value"))?;
            msgpack::push_bool(out, truth);
        }
        Kind::Number => push_number(out, reader.number()?)?,
        Kind::Text => {
            let text = reader.text()?.map_err(|_| Malformed("a surrogate stands alone"))?;
            msgpack::push_str(out, &text);
        }
        Kind::Array => {
            let start = out.len();
            let mut count = 0;
            let mut entries = reader.enter_array()?;
            while reader.element(&mut entries)? {
                push_value(out, reader, depth + 1)?;
                count += 1;
            }
            insert_head(out, start, |head| push_array_head(head, count));
        }
        Kind::Object => {
            let start = out.len();
            let mut count = 0;
            let mut entries = reader.enter_object()?;
            while let Some(key) = reader.strict_key(&mut entries)? {
                msgpack::push_str(out, &key);
                push_value(out, reader, depth + 1)?;
                count += 1;
            }
            insert_head(out, start, |head| push_map_head(head, count));
        }
    }
    Ok(())
}

/// Inserts the head at the end, when the number of entries is known. Most heads have one byte.
fn insert_head(out: &mut Vec<u8>, at: usize, push_head: impl FnOnce(&mut Vec<u8>)) {
    let end = out.len();
    push_head(out);
    let length = out.len() - end;
    out[at..].rotate_right(length);
}

fn push_number(out: &mut Vec<u8>, number: &str) -> Result<(), Malformed> {
    if let Ok(number) = number.parse::<u64>() {
        msgpack::push_uint(out, number);
        return Ok(());
    }
    // JSON's -0 is not the integer 0.
    if let Some(number) = number.parse::<i64>().ok().filter(|number| *number != 0) {
        msgpack::push_int(out, number);
        return Ok(());
    }
    let float = number.parse::<f64>().ok().filter(|float| float.is_finite());
    msgpack::push_float(out, float.ok_or(Malformed("a number too large for a double"))?);
    Ok(())
}
