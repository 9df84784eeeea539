//! Writes MessagePack, each value in its shortest format.

pub(super) const NIL: u8 = 0xc0;

pub(super) fn push_bool(out: &mut Vec<u8>, truth: bool) {
    out.push(if truth { 0xc3 } else { 0xc2 });
}

pub(super) fn push_uint(out: &mut Vec<u8>, number: u64) {
    if let Ok(number) = u8::try_from(number) {
        if number > 0x7f {
            out.push(0xcc);
        }
        out.push(number);
    } else if let Ok(number) = u16::try_from(number) {
        push(out, 0xcd, number.to_be_bytes());
    } else if let Ok(number) = u32::try_from(number) {
        push(out, 0xce, number.to_be_bytes());
    } else {
        push(out, 0xcf, number.to_be_bytes());
    }
}

pub(super) fn push_int(out: &mut Vec<u8>, number: i64) {
    if let Ok(number) = u64::try_from(number) {
        push_uint(out, number);
    } else if let Ok(number) = i8::try_from(number) {
        if number < -32 {
            out.push(0xd0);
        }
        out.push(number.cast_unsigned());
    } else if let Ok(number) = i16::try_from(number) {
        push(out, 0xd1, number.to_be_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        push(out, 0xd2, number.to_be_bytes());
    } else {
        push(out, 0xd3, number.to_be_bytes());
    }
}

pub(super) fn push_float(out: &mut Vec<u8>, number: f64) {
    push(out, 0xcb, number.to_be_bytes());
}

pub(super) fn push_str(out: &mut Vec<u8>, text: &str) {
    let length = text.len();
    if length <= 31 {
        out.push(0xa0 | length as u8);
    } else if let Ok(length) = u8::try_from(length) {
        push(out, 0xd9, length.to_be_bytes());
    } else if let Ok(length) = u16::try_from(length) {
        push(out, 0xda, length.to_be_bytes());
    } else {
        push(out, 0xdb, wide(length).to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn push_array_head(out: &mut Vec<u8>, count: usize) {
    push_head(out, count, 0x90, 0xdc);
}

pub(super) fn push_map_head(out: &mut Vec<u8>, count: usize) {
    push_head(out, count, 0x80, 0xde);
}

/// Replaces the head of an empty map, which [`push_map_head`] has written.
pub(super) fn set_map_head(out: &mut Vec<u8>, at: usize, count: usize) {
    if count <= 15 {
        out[at] = 0x80 | count as u8;
    } else {
        let mut head = Vec::with_capacity(5);
        push_map_head(&mut head, count);
        out.splice(at..=at, head);
    }
}

fn push_head(out: &mut Vec<u8>, count: usize, short: u8, long: u8) {
    if count <= 15 {
        out.push(short | count as u8);
    } else if let Ok(count) = u16::try_from(count) {
        push(out, long, count.to_be_bytes());
    } else {
        push(out, long + 1, wide(count).to_be_bytes());
    }
}

fn push<const N: usize>(out: &mut Vec<u8>, marker: u8, bytes: [u8; N]) {
    out.push(marker);
    out.extend_from_slice(&bytes);
}

/// Returns a length in 32 bits, the most that MessagePack has. No frame comes near 4 GiB.
fn wide(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
