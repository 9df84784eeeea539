//! What is a frame in both encodings, and what is none.

use proptest::strategy::Strategy as _;

use super::super::super::*;
use super::{both, refused_bytes};

#[test]
fn what_has_no_usable_id_is_no_frame() {
    for frame in [
        r#"{"op":"ping"}"#,
        r#"{"id":0,"op":"ping"}"#,
        r#"{"id":-1,"op":"ping"}"#,
        r#"{"id":1.5,"op":"ping"}"#,
        r#"{"id":"1","op":"ping"}"#,
        r#"{"id":null,"op":"ping"}"#,
        r#"{"id":9007199254740992,"op":"ping"}"#,
        r#"[{"id":1,"op":"ping"}]"#,
        r#""ping""#,
        "null",
        "7",
    ] {
        for read in both(frame) {
            assert!(read.is_err(), "{frame}");
        }
    }
    assert!(both(r#"{"id":9007199254740991,"op":"ping"}"#).into_iter().all(|read| read.is_ok()));
}

#[test]
fn what_is_not_one_json_object_is_no_frame() {
    for frame in [
        "",
        " ",
        "{",
        r#"{"id":1,"op":"ping""#,
        r#"{"id":1,"op":"ping"}}"#,
        r#"{"id":1,"op":"ping"} x"#,
        r#"{"id":1,"op":"ping"}{"id":2,"op":"ping"}"#,
        r#"{"id":1,"op":"ping",}"#,
        r#"{,"id":1,"op":"ping"}"#,
        r#"{"id":1 "op":"ping"}"#,
        r#"{"id":1,,"op":"ping"}"#,
        r#"{"id" 1,"op":"ping"}"#,
        r#"{id:1,"op":"ping"}"#,
        r#"{'id':1,"op":"ping"}"#,
        r#"{"id":01,"op":"ping"}"#,
        r#"{"id":+1,"op":"ping"}"#,
        r#"{"id":1,"op":"pi\xng"}"#,
        r#"{"id":1,"op":"pi\u12g"}"#,
        "{\"id\":1,\"op\":\"pi\nng\"}",
        r#"{"id":1,"op":"ping","x":[1,]}"#,
        r#"{"id":1,"op":"ping","x":[,1]}"#,
        r#"{"id":1,"op":"ping","x":[1}"#,
        r#"{"id":1,"op":"ping","x":nul}"#,
        r#"{"id":1,"op":"ping","x":NaN}"#,
        r#"{"id":1,"op":"ping","x":tru}"#,
        "\u{feff}{\"id\":1,\"op\":\"ping\"}",
    ] {
        assert!(decode(Encoding::Json, frame.as_bytes()).is_err(), "{frame}");
        assert!(
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(frame).is_err(),
            "{frame}"
        );
    }
    assert!(decode(Encoding::Json, b"{\"id\":1,\"op\":\"\xff\"}").is_err());
}

#[test]
fn text_that_is_no_unicode_is_refused_where_it_matters() {
    let send =
        |content: &str| format!(r#"{{"id":1,"op":"send","conversation":"c","key":"k","content":{content}}}"#);
    for lone in [r#""\ud800""#, r#""\udc00x""#, r#""\ud800\u0041""#] {
        assert!(
            refused_bytes(Encoding::Json, send(lone).as_bytes())
                .starts_with("`content` holds text that is not")
        );
        let publish = format!(r#"{{"id":1,"op":"publish","topic":"t","data":{{"a":[{lone}]}}}}"#);
        assert!(
            refused_bytes(Encoding::Json, publish.as_bytes()).starts_with("`data` holds text that is not")
        );
    }
    let frame = b"\x84\xa2id\x01\xa2op\xa7publish\xa5topic\xa1t\xa4data\xa2\xc3\x28";
    assert!(refused_bytes(Encoding::MsgPack, frame).starts_with("`data` holds text that is not"));
}

#[test]
fn numbers_that_no_double_holds_are_refused() {
    let publish = |data: &str| format!(r#"{{"id":1,"op":"publish","topic":"t","data":{data}}}"#);
    assert!(
        refused_bytes(Encoding::Json, publish("[1e999]").as_bytes())
            .starts_with("`data` holds a number too large")
    );
    // This number is beyond 64 bits but within a double, as JavaScript writes 2^64.
    accepted_in_json(&publish("18446744073709552000"), "18446744073709552000");
    accepted_in_json(&publish("-0.0"), "-0.0");
}

fn accepted_in_json(frame: &str, data: &str) {
    let Ok(Command::Publish { data: read, .. }) = decode(Encoding::Json, frame.as_bytes()).unwrap().command
    else {
        panic!("{frame}")
    };
    assert_eq!(read.as_str(), data);
}

#[test]
fn what_json_lacks_is_refused_wherever_it_stands() {
    for (name, value) in [
        ("bin", &b"\xc4\x01x"[..]),
        ("bin16", b"\xc5\x00\x01x"),
        ("ext", b"\xc7\x01\x05x"),
        ("fixext1", b"\xd4\x05x"),
        ("fixext16", b"\xd8\x05xxxxxxxxxxxxxxxx"),
        ("NaN", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        ("infinity", b"\xca\x7f\x80\x00\x00"),
        ("integer key", b"\x81\x01\x02"),
        ("nil key", b"\x81\xc0\x02"),
        ("nested", b"\x91\x91\xc4\x00"),
    ] {
        for (op, field) in
            [(&b"\xa4ping"[..], &b"\xa1x"[..]), (b"\xa7publish", b"\xa4data"), (b"\xa4ping", b"\x07")]
        {
            let frame = [b"\x84\xa5topic\xa1t".as_slice(), field, value, b"\xa2id\x01\xa2op", op].concat();
            let message = refused_bytes(Encoding::MsgPack, &frame);
            assert!(message.starts_with("bin, ext, NaN"), "{name}: {message}");
        }
    }
}

#[test]
fn every_integer_format_of_messagepack_is_an_integer() {
    for seq in [
        &b"\x05"[..],
        b"\xcc\x05",
        b"\xcd\x00\x05",
        b"\xce\x00\x00\x00\x05",
        b"\xcf\x00\x00\x00\x00\x00\x00\x00\x05",
        b"\xd0\x05",
        b"\xd1\x00\x05",
        b"\xd2\x00\x00\x00\x05",
        b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05",
    ] {
        let frame = [b"\x84\xa2op\xa4read\xacconversation\xa1c\xa2id\x01\xa3seq", seq].concat();
        let command = decode(Encoding::MsgPack, &frame).unwrap().command;
        assert_eq!(command, Ok(Command::Read { conversation: "c".into(), seq: 5 }));
    }
    let frame = b"\x84\xa2op\xa4read\xacconversation\xa1c\xa2id\x01\xa3seq\xff";
    assert!(refused_bytes(Encoding::MsgPack, frame).starts_with("`seq` must be an integer"));
}

#[test]
fn what_is_not_one_messagepack_map_is_no_frame() {
    let ping = b"\x82\xa2id\x01\xa2op\xa4ping".as_slice();
    assert!(decode(Encoding::MsgPack, ping).is_ok());
    for length in 0..ping.len() {
        assert!(decode(Encoding::MsgPack, &ping[..length]).is_err());
    }
    assert!(decode(Encoding::MsgPack, &[ping, b"\xc0"].concat()).is_err());
    for huge in [
        &b"\xdf\xff\xff\xff\xff"[..],
        b"\xde\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xdb\xff\xff\xff\xff",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xc6\xff\xff\xff\xff",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xc9\xff\xff\xff\xff\x01",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xdd\xff\xff\xff\xff\xc0",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xc1",
    ] {
        assert!(decode(Encoding::MsgPack, huge).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = decode(Encoding::Json, &bytes);
        let _ = decode(Encoding::MsgPack, &bytes);
        let mut map = b"\x82\xa2id\x01\xa4data".to_vec();
        map.extend(bytes);
        let _ = decode(Encoding::MsgPack, &map);
    }
    #[test]
    fn a_number_is_an_integer_by_its_value_and_the_same_in_both_encodings(
        number in proptest::prop_oneof![
            proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO,
            (-2_000_i64..2_000).prop_map(|number| number as f64),
            (-2_000_i64..2_000).prop_map(|quarters| quarters as f64 / 4.0),
            proptest::prelude::any::<i64>().prop_map(|number| number as f64),
            ((1_i64 << 53) - 4..(1 << 53) + 4).prop_map(|number| number as f64),
        ],
    ) {
        let frame = format!(r#"{{"id":1,"op":"read","conversation":"c","seq":{number:?}}}"#);
        let whole = number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number);
        for read in both(&frame) {
            let read = read.unwrap().command;
            if whole {
                proptest::prop_assert_eq!(read, Ok(Command::Read { conversation: "c".into(), seq: number as u64 }));
            } else {
                proptest::prop_assert!(read.is_err(), "{}", number);
            }
        }
    }
}
