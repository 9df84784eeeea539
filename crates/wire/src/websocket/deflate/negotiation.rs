//! What client and server agree on (RFC 7692, section 7.1).

/// The smallest window that zlib can compress with; the RFC knows 8 as well.
const WINDOW_BITS_MIN: u8 = 9;
const WINDOW_BITS_MAX: u8 = 15;
/// Offers that are looked at; a browser sends one or two.
const OFFERS_MAX: usize = 16;

/// What the operator wants of permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// Forget the last message before compressing the next: compresses worse, but keeps no memory between messages.
    pub server_no_context_takeover: bool,
    /// Ask clients for the same.
    pub client_no_context_takeover: bool,
    /// Size of our window as its logarithm, 9–15.
    pub server_max_window_bits: u8,
    /// Size of the clients' windows as its logarithm, 9–15, as far as a client lets us choose.
    pub client_max_window_bits: u8,
}

impl Default for DeflateConfig {
    /// Nothing is kept between messages.
    fn default() -> Self {
        DeflateConfig {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
        }
    }
}

/// What was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// We compress each message by itself.
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself.
    pub client_no_context_takeover: bool,
    /// Our window, 9–15.
    pub server_max_window_bits: u8,
    /// The client's window, 8–15.
    pub client_max_window_bits: u8,
}

/// Chooses the first acceptable offer out of a request's `Sec-WebSocket-Extensions` (several header lines joined by commas).
/// Gives what was agreed and the value of the response's header; `None` where there is no acceptable offer.
///
/// An offer with an unknown, repeated or malformed parameter is declined, as is one that wants our window at 8 bits, which
/// zlib can't do.
pub fn negotiate(header: &str, config: DeflateConfig) -> Option<(Params, String)> {
    split_unquoted(header, ',').take(OFFERS_MAX).find_map(|offer| accept(offer, config))
}

/// What one offer asks for.
#[derive(Debug, Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Inner `None`: the client leaves the choice to us.
    client_max_window_bits: Option<Option<u8>>,
}

fn accept(offer: &str, config: DeflateConfig) -> Option<(Params, String)> {
    let mut parts = split_unquoted(offer, ';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let offer = parse(parts)?;
    let server_bits_wanted = config.server_max_window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
    let server_max_window_bits =
        offer.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX).min(server_bits_wanted);
    if server_max_window_bits < WINDOW_BITS_MIN {
        return None;
    }
    let client_bits_wanted = config.client_max_window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
    let params = Params {
        server_no_context_takeover: offer.server_no_context_takeover || config.server_no_context_takeover,
        client_no_context_takeover: offer.client_no_context_takeover || config.client_no_context_takeover,
        server_max_window_bits,
        client_max_window_bits: match offer.client_max_window_bits {
            // Such a client does not know the parameter, so it must not be answered.
            None => WINDOW_BITS_MAX,
            Some(hint) => hint.unwrap_or(WINDOW_BITS_MAX).min(client_bits_wanted),
        },
    };
    let mut response = "permessage-deflate".to_owned();
    if params.server_no_context_takeover {
        response.push_str("; server_no_context_takeover");
    }
    if params.client_no_context_takeover {
        response.push_str("; client_no_context_takeover");
    }
    if offer.server_max_window_bits.is_some() || server_max_window_bits < WINDOW_BITS_MAX {
        response.push_str(&format!("; server_max_window_bits={server_max_window_bits}"));
    }
    if params.client_max_window_bits < WINDOW_BITS_MAX {
        response.push_str(&format!("; client_max_window_bits={}", params.client_max_window_bits));
    }
    Some((params, response))
}

fn parse<'a>(parameters: impl Iterator<Item = &'a str>) -> Option<Offer> {
    let mut offer = Offer::default();
    for parameter in parameters {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
            None => (parameter, None),
        };
        let repeated = if name.eq_ignore_ascii_case("server_no_context_takeover") && value.is_none() {
            std::mem::replace(&mut offer.server_no_context_takeover, true)
        } else if name.eq_ignore_ascii_case("client_no_context_takeover") && value.is_none() {
            std::mem::replace(&mut offer.client_no_context_takeover, true)
        } else if name.eq_ignore_ascii_case("server_max_window_bits") {
            offer.server_max_window_bits.replace(window_bits(value?)?).is_some()
        } else if name.eq_ignore_ascii_case("client_max_window_bits") {
            let bits = match value {
                Some(value) => Some(window_bits(value)?),
                None => None,
            };
            offer.client_max_window_bits.replace(bits).is_some()
        } else {
            return None;
        };
        if repeated {
            return None;
        }
    }
    Some(offer)
}

/// 8–15, without a leading zero.
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15" => value.parse().ok(),
        _ => None,
    }
}

/// A value may stand in quotation marks. None that needs an escape is valid here.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
}
