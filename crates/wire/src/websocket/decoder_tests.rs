use super::*;
use crate::websocket::deflate::Params;
use crate::websocket::unmask;

const LIMIT: u32 = 1000;

/// Owned copy of a decoded message.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(DecodeError),
}

fn decoder(deflate: Option<Params>) -> Decoder {
    Decoder::new(DecoderConfig { frame_bytes_max: LIMIT, message_bytes_max: LIMIT, deflate })
}

/// Feeds an input in chunks and collects all messages.
fn feed(decoder: &mut Decoder, chunks: &[&[u8]]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut scratch = chunk.to_vec();
        let mut feed = decoder.feed(&mut scratch);
        while let Some(incoming) = feed.next() {
            seen.push(match incoming {
                Ok(Incoming::Text(text)) => Seen::Text(text.to_owned()),
                Ok(Incoming::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
                Ok(Incoming::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
                Ok(Incoming::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
                Ok(Incoming::Close(code, reason)) => Seen::Close(code, reason.to_owned()),
                Err(error) => Seen::Error(error),
            });
        }
    }
    seen
}

fn decode(input: &[u8]) -> Vec<Seen> {
    feed(&mut decoder(None), &[input])
}

/// Returns a masked frame as a client sends it; `first` is its first byte.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        0..=125 => frame.push(0x80 | payload.len() as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    let start = frame.len();
    frame.extend_from_slice(payload);
    unmask(&mut frame[start..], mask, 0);
    frame
}

#[test]
fn whole_messages_are_given_and_nothing_is_kept() {
    let mut input = client_frame(0x81, "héllo".as_bytes());
    input.extend(client_frame(0x82, &[7; 300]));
    input.extend(client_frame(0x89, b"p"));
    input.extend(client_frame(0x8a, b""));
    let mut decoder = decoder(None);
    let seen = feed(&mut decoder, &[&input]);
    assert_eq!(
        seen,
        [Seen::Text("héllo".into()), Seen::Binary(vec![7; 300]), Seen::Ping(b"p".into()), Seen::Pong(vec![])]
    );
    assert!(decoder.is_idle());
}

/// Feeds an input byte by byte.
fn feed_bytes(decoder: &mut Decoder, input: &[u8]) -> Vec<Seen> {
    feed(decoder, &input.chunks(1).collect::<Vec<_>>())
}

#[test]
fn fragments_make_one_message_and_control_frames_may_stand_between() {
    let input = [
        client_frame(0x01, b"a\xc3"),
        client_frame(0x89, b"ping"),
        client_frame(0x00, b""),
        client_frame(0x8a, b"pong"),
        client_frame(0x80, b"\xa9b"),
        client_frame(0x82, b"next"),
    ]
    .concat();
    let expected = [
        Seen::Ping(b"ping".into()),
        Seen::Pong(b"pong".into()),
        Seen::Text("aéb".into()),
        Seen::Binary(b"next".into()),
    ];
    assert_eq!(decode(&input), expected);
    let mut decoder = decoder(None);
    assert_eq!(feed_bytes(&mut decoder, &input), expected);
    assert!(decoder.is_idle() && !decoder.is_ended());
}

#[test]
fn an_idle_decoder_is_small_and_owns_nothing() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
    let mut decoder = decoder(None);
    let frame = client_frame(0x81, &[b'x'; 900]);
    assert_eq!(feed(&mut decoder, &[&frame[..500]]), []);
    assert!(!decoder.is_idle());
    assert_eq!(feed(&mut decoder, &[&frame[500..]]).len(), 1);
    assert!(decoder.is_idle());
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let masked = |first: u8, payload: &[u8]| client_frame(first, payload);
    let mut top_bit = vec![0x82, 0xff, 0x80];
    top_bit.extend([0; 11]);
    for (input, error, code) in [
        (vec![0x81, 0x01, b'x'], DecodeError::NotMasked, 1002),
        (masked(0xc1, b"x"), DecodeError::ReservedBit, 1002),
        (masked(0xa1, b"x"), DecodeError::ReservedBit, 1002),
        (masked(0x91, b"x"), DecodeError::ReservedBit, 1002),
        (masked(0xc9, b"x"), DecodeError::ReservedBit, 1002),
        (masked(0x83, b""), DecodeError::ReservedOpCode, 1002),
        (masked(0x87, b""), DecodeError::ReservedOpCode, 1002),
        (masked(0x8b, b""), DecodeError::ReservedOpCode, 1002),
        (masked(0x8f, b""), DecodeError::ReservedOpCode, 1002),
        (masked(0x09, b"x"), DecodeError::FragmentedControl, 1002),
        (masked(0x89, &[0; 126]), DecodeError::LongControl, 1002),
        (top_bit, DecodeError::BadLength, 1002),
        (masked(0x80, b"x"), DecodeError::NothingToContinue, 1002),
        ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), DecodeError::NotContinued, 1002),
        ([masked(0x02, b"x"), masked(0x01, b"y")].concat(), DecodeError::NotContinued, 1002),
        (masked(0x81, b"a\xffb"), DecodeError::NotUtf8, 1007),
        (masked(0x81, b"a\xed\xa0\x80"), DecodeError::NotUtf8, 1007),
        (masked(0x81, b"a\xc3"), DecodeError::NotUtf8, 1007),
        (masked(0x88, b"x"), DecodeError::BadCloseCode, 1002),
        (masked(0x88, b"\x03\xe8\xff"), DecodeError::NotUtf8, 1007),
        (masked(0x82, &[0; LIMIT as usize + 1]), DecodeError::TooBig, 1009),
    ] {
        for cut in [input.len(), 1] {
            let mut decoder = decoder(None);
            let chunks: Vec<_> = input.chunks(cut).collect();
            assert_eq!(feed(&mut decoder, &chunks), [Seen::Error(error)], "{input:02x?}");
            assert_eq!(error.close_reason().code(), code);
            assert!(decoder.is_ended() && decoder.is_idle());
            assert_eq!(feed(&mut decoder, &[&client_frame(0x81, b"more")]), []);
        }
    }
}

#[test]
fn lengths_need_not_be_minimal() {
    for length in [&[0xfe, 0, 2][..], &[0xff, 0, 0, 0, 0, 0, 0, 0, 2]] {
        let input = [&[0x82], length, &[0, 0, 0, 0], b"ab"].concat();
        assert_eq!(decode(&input), [Seen::Binary(b"ab".into())]);
    }
}

#[test]
fn the_limit_holds_at_the_header_and_over_all_fragments() {
    // No byte of the payload has arrived.
    let header = &client_frame(0x82, &[0; LIMIT as usize + 1])[..8];
    assert_eq!(decode(header), [Seen::Error(DecodeError::TooBig)]);
    let huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(decode(&huge), [Seen::Error(DecodeError::TooBig)]);
    let whole = client_frame(0x82, &[0; LIMIT as usize]);
    assert_eq!(decode(&whole).len(), 1);
    let mut parts = [client_frame(0x02, &[0; 600]), client_frame(0x00, &[0; 400])].concat();
    parts.extend(&client_frame(0x80, &[0; 1])[..6]);
    assert_eq!(decode(&parts), [Seen::Error(DecodeError::TooBig)]);
}

#[test]
fn bad_text_is_refused_at_its_first_bad_byte() {
    // In a later fragment, although the message continues.
    let input = [client_frame(0x01, b"\xce\xba"), client_frame(0x00, b"\xf4\x90")].concat();
    assert_eq!(decode(&input), [Seen::Error(DecodeError::NotUtf8)]);
    // Within a frame, although the frame continues: the bad byte is the fourth one of the payload.
    let frame = client_frame(0x81, b"abc\xffdefgh");
    let mut decoder = decoder(None);
    assert_eq!(feed_bytes(&mut decoder, &frame[..6 + 3]), []);
    assert_eq!(feed_bytes(&mut decoder, &frame[9..10]), [Seen::Error(DecodeError::NotUtf8)]);
}

#[test]
fn a_close_frame_gives_its_code_and_ends_the_decoder() {
    assert_eq!(decode(&client_frame(0x88, b"")), [Seen::Close(None, String::new())]);
    let input = [client_frame(0x88, b"\x03\xe8bye"), client_frame(0x81, b"more")].concat();
    let mut decoder = decoder(None);
    assert_eq!(feed(&mut decoder, &[&input]), [Seen::Close(Some(1000), "bye".into())]);
    assert!(decoder.is_ended() && decoder.is_idle());
    for code in 0..=u16::MAX {
        let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let expected = if legal {
            Seen::Close(Some(code), String::new())
        } else {
            Seen::Error(DecodeError::BadCloseCode)
        };
        assert_eq!(decode(&client_frame(0x88, &code.to_be_bytes())), [expected]);
    }
}

#[test]
fn a_close_frame_within_a_message_lets_go_of_it() {
    let input = [client_frame(0x01, b"never ended"), client_frame(0x88, b"")].concat();
    for cut in [input.len(), 1] {
        let mut decoder = decoder(None);
        let chunks: Vec<_> = input.chunks(cut).collect();
        assert_eq!(feed(&mut decoder, &chunks), [Seen::Close(None, String::new())]);
        assert!(decoder.is_idle());
    }
}

#[test]
fn a_read_that_is_left_off_ends_the_decoder() {
    let mut input = [client_frame(0x81, b"a"), client_frame(0x81, b"b")].concat();
    let mut decoder = decoder(None);
    assert_eq!(decoder.feed(&mut input).next(), Some(Ok(Incoming::Text("a"))));
    assert!(decoder.is_ended());
    assert_eq!(feed(&mut decoder, &[&client_frame(0x81, b"c")]), []);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Frame that may or may not be valid after the frames before it.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            4 => prop::sample::select(&[0x81u8, 0x82, 0x89, 0x8a][..]),
            4 => prop::sample::select(&[0x01u8, 0x02, 0x00, 0x80][..]),
            1 => prop::sample::select(&[0xc1u8, 0x88, 0x83][..]),
        ];
        let payload = prop_oneof![
            "\\PC{0,60}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(any::<u8>(), 900..1100),
        ];
        (first, payload).prop_map(|(first, payload)| client_frame(first, &payload))
    }

    fn params() -> impl Strategy<Value = Option<Params>> {
        prop::option::of(any::<bool>().prop_map(|client_no_context_takeover| Params {
            server_no_context_takeover: true,
            client_no_context_takeover,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }))
    }

    /// If a compressed message has several faults, the split decides which one is found first.
    fn alike(mut seen: Vec<Seen>, params: Option<Params>) -> Vec<Seen> {
        if let (Some(Seen::Error(error)), Some(_)) = (seen.last_mut(), params)
            && let DecodeError::NotUtf8 | DecodeError::TooBig = error
        {
            *error = DecodeError::NotDeflate;
        }
        seen
    }

    proptest! {
        #[test]
        fn any_split_of_the_input_gives_the_same(
            frames in prop::collection::vec(frame(), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            params in params(),
        ) {
            let input = frames.concat();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            places.extend([0, input.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
            let whole = alike(feed(&mut decoder(params), &[&input]), params);
            prop_assert_eq!(&alike(feed(&mut decoder(params), &chunks), params), &whole);
            prop_assert_eq!(&alike(feed_bytes(&mut decoder(params), &input), params), &whole);
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            params in params(),
        ) {
            let mut decoder = decoder(params);
            for seen in feed(&mut decoder, &bytes.chunks(7).collect::<Vec<_>>()) {
                if let Seen::Binary(bytes) = seen {
                    prop_assert!(bytes.len() <= LIMIT as usize);
                }
            }
        }
    }
}

#[test]
fn a_feed_that_is_stopped_goes_on_where_it_stood() {
    let mut input = [
        client_frame(0x81, b"one"),
        client_frame(0x01, b"tw"),
        client_frame(0x89, b"p"),
        client_frame(0x80, b"o"),
        client_frame(0x81, b"three"),
    ]
    .concat();
    let whole = input.len();
    let mut decoder = decoder(None);
    let (mut seen, mut from) = (Vec::new(), 0);
    while from < whole {
        let mut feed = decoder.feed(&mut input[from..]);
        let Some(incoming) = feed.next() else { panic!("nothing of {} bytes", whole - from) };
        seen.push(format!("{:?}", incoming.unwrap()));
        assert_eq!(feed.inflated(), 0);
        from += feed.stop();
        assert!(!decoder.is_ended());
    }
    assert_eq!(seen, [r#"Text("one")"#, "Ping([112])", r#"Text("two")"#, r#"Text("three")"#]);
    assert!(decoder.is_idle());
}
