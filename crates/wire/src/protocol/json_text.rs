//! The characters of JSON: strings, numbers, white space.

/// Returns the number of bytes at the start that need no escape in a string: no quotation mark, backslash or control character.
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut at = 0;
    // Looks at eight bytes at a time. `x - ONES & !x & HIGHS` is nonzero if a byte of x is zero. It may be wrong about the bytes after that
    // one (https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord), so the exact position is found below.
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_ne_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let special = (word.wrapping_sub(ONES * 0x20) & !word)
            | (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash);
        if special & HIGHS != 0 {
            break;
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| is_special(*byte)).map_or(bytes.len(), |more| at + more)
}

/// Returns the length of the escape at the start of the bytes. `None`: there is none.
pub(super) fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit) => Some(6),
        _ => None,
    }
}

/// Decodes the inside of a string whose escapes were checked by [`escape_length`]. `None`: it has a lone surrogate.
pub(super) fn unescaped(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let length = match *rest.as_bytes().get(at + 1)? {
            b'u' => {
                let (character, length) = unicode_escape(&rest[at..])?;
                text.push(character);
                length
            }
            letter => {
                text.push(match letter {
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    other => char::from(other),
                });
                2
            }
        };
        rest = rest.get(at + length..)?;
    }
    text.push_str(rest);
    Some(text)
}

/// Returns the length of the number at the start of the bytes. `None`: there is none.
pub(super) fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes[at] == b'0') {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}

/// Whether a number is too large for a double. Most readers of JSON, and this one, read an integer beyond 64 bits as a double.
pub(super) fn is_infinite(number: &str) -> bool {
    // A number without an exponent and with less than 300 characters is never too large.
    (number.len() >= 300 || number.bytes().any(|byte| byte | 0x20 == b'e'))
        && number.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Returns the value of a JSON number that is whole, not negative and within 64 bits, however it is written: `5`, `5.0`, `50e-1`. Nothing
/// is rounded: `5.00000000000000000001` is not whole.
pub(super) fn whole_number(number: &str) -> Option<u64> {
    if let Ok(number) = number.parse() {
        return Some(number);
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // The value is the digits times ten to the power of `zeros`.
    let significant = fraction.trim_end_matches('0');
    let (digits, dropped) = match significant {
        "" => (whole.trim_end_matches('0'), whole.len() - whole.trim_end_matches('0').len()),
        _ => (whole, 0),
    };
    if digits.bytes().chain(significant.bytes()).all(|digit| digit == b'0') {
        return Some(0);
    }
    // With an exponent beyond 64 bits, no whole number would fit.
    let exponent: i64 = exponent.parse().ok()?;
    let shift = i64::try_from(dropped).ok()?.checked_sub(i64::try_from(significant.len()).ok()?)?;
    let zeros = u32::try_from(exponent.checked_add(shift)?).ok()?;
    if negative {
        return None;
    }
    let value = digits
        .bytes()
        .chain(significant.bytes())
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    value.checked_mul(10_u64.checked_pow(zeros)?)
}

/// Returns valid JSON without the white space between its parts.
pub(super) fn compacted(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(quote) = memchr::memchr(b'"', rest.as_bytes()) {
        compact.extend(rest[..quote].chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')));
        let mut end = quote + 1;
        loop {
            end += plain_length(&rest.as_bytes()[end..]);
            match rest.as_bytes().get(end) {
                Some(b'\\') => end += 2,
                Some(_) => break end += 1,
                None => break,
            }
        }
        compact.push_str(&rest[quote..end]);
        rest = &rest[end..];
    }
    compact.extend(rest.chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')));
    compact
}

/// Writes text as a JSON string.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            _ => b'u',
        };
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        rest = after;
    }
    out.push(b'"');
}

/// Writes an integer in decimal digits.
pub(super) fn push_integer(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Decodes a `\uXXXX`, or two that make a surrogate pair. Returns the character and the number of bytes.
fn unicode_escape(escape: &str) -> Option<(char, usize)> {
    let unit = |from: usize| u32::from_str_radix(escape.get(from..from + 4)?, 16).ok();
    let high = unit(2)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high)?, 6));
    }
    if escape.get(6..8)? != "\\u" {
        return None;
    }
    let low = unit(8).filter(|low| (0xdc00..0xe000).contains(low))?;
    Some((char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_written_string_is_read_back_by_an_independent_reader(text in proptest::prelude::any::<String>()) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn an_integer_is_written_as_the_standard_library_does(number in proptest::prelude::any::<u64>()) {
            let mut out = Vec::new();
            push_integer(&mut out, number);
            proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }

        #[test]
        fn a_whole_number_has_one_value_however_it_is_written(
            value in proptest::prop_oneof![1..1_000_u64, 1..=u64::MAX],
            zeros in 0_usize..30, shift in 0_usize..30, letter in "[eE]", plus in "[+]?",
        ) {
            let digits = value.to_string();
            let padded = format!("{digits:0>width$}", width = shift + 1);
            let (whole, fraction) = padded.split_at(padded.len() - shift);
            let spellings = [
                digits.clone(),
                format!("{digits}.{:0>zeros$}", "", zeros = zeros + 1),
                format!("{digits}{letter}{plus}0"),
                // The point is moved to the left, and the exponent moves it back.
                format!("{whole}.{fraction}{:0>zeros$}{letter}{plus}{shift}", "0"),
                // The same to the right.
                format!("{digits}{:0>shift$}{letter}-{shift}", ""),
            ];
            for spelling in spellings {
                proptest::prop_assert_eq!(number_length(spelling.as_bytes()), Some(spelling.len()));
                proptest::prop_assert_eq!(whole_number(&spelling), Some(value), "{}", spelling);
            }
            // With a further digit the number is not whole, and a negative number is not accepted.
            proptest::prop_assert_eq!(whole_number(&format!("{digits}.{:0>zeros$}1", "")), None);
            proptest::prop_assert_eq!(whole_number(&format!("-{digits}.0")), None);
        }

        #[test]
        fn the_plain_part_ends_at_the_first_special_byte(bytes in proptest::collection::vec(0x18u8..0x60, 0..40)) {
            let expected = bytes.iter().position(|b| is_special(*b)).unwrap_or(bytes.len());
            proptest::prop_assert_eq!(plain_length(&bytes), expected);
        }
    }

    #[test]
    fn numbers_end_where_the_grammar_says() {
        for (text, length) in [
            ("0", Some(1)),
            ("-0", Some(2)),
            ("10,", Some(2)),
            ("1.5e+3]", Some(6)),
            ("1E9", Some(3)),
            ("01", None),
            ("-", None),
            ("1.", None),
            (".5", None),
            ("1e", None),
            ("+1", None),
            ("NaN", None),
            ("", None),
        ] {
            assert_eq!(number_length(text.as_bytes()), length, "{text}");
        }
    }

    #[test]
    fn numbers_that_are_not_whole_or_too_large_have_no_value() {
        for number in [
            "0.5",
            "5e-1",
            "1.5e0",
            "10e-2",
            "-1",
            "-1e3",
            "-5.0",
            "18446744073709551616",
            "1e20",
            "2e19",
            "184467440737095516.16e2",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "1e9223372036854775807",
            "0.1e-9223372036854775808",
        ] {
            assert_eq!(whole_number(number), None, "{number}");
        }
        for (number, value) in [
            ("-0", 0),
            ("-0.00e7", 0),
            ("0e99999999999999999999", 0),
            ("0.000e-99999999999999999999", 0),
            ("1e3", 1_000),
            ("1000e-3", 1),
            ("0.0012e4", 12),
            ("1.8446744073709551615e19", u64::MAX),
            ("9007199254740991.000", (1 << 53) - 1),
        ] {
            assert_eq!(whole_number(number), Some(value), "{number}");
        }
        assert_eq!(whole_number(&format!("1{}e-100000", "0".repeat(100_000))), Some(1));
        assert_eq!(whole_number(&format!("0.{}1e100001", "0".repeat(100_000))), Some(1));
    }

    #[test]
    fn only_numbers_beyond_a_double_are_infinite() {
        assert!(is_infinite("1e400") && is_infinite("-1e309") && is_infinite(&"9".repeat(400)));
        assert!(!is_infinite("1e308") && !is_infinite("1e-999") && !is_infinite(&"9".repeat(300)));
    }

    #[test]
    fn surrogates_come_in_pairs() {
        assert_eq!(unescaped(r"a\ud83d\ude00b").as_deref(), Some("a😀b"));
        for alone in [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\u0041", r"\ud83d\n1234"] {
            assert_eq!(unescaped(alone), None, "{alone}");
        }
    }

    #[test]
    fn white_space_stays_inside_of_strings_only() {
        assert_eq!(compacted(" { \"a \\\" b\" : [ 1 ,\n\t2 ] } "), r#"{"a \" b":[1,2]}"#);
    }
}
