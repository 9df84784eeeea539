//! Negotiation of permessage-deflate (RFC 7692, section 7.1).

/// Smallest window that zlib can compress with, in bits. The RFC also allows 8.
const WINDOW_BITS_MIN: u8 = 9;
const WINDOW_BITS_MAX: u8 = 15;
/// Most offers that are read. Browsers send one or two.
const OFFERS_MAX: usize = 16;

/// Configuration of permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// Whether the server compresses each message separately. This compresses worse but keeps no memory between messages.
    pub server_no_context_takeover: bool,
    /// Whether clients are asked to do the same.
    pub client_no_context_takeover: bool,
    /// Binary logarithm of the server's window size, 9–15.
    pub server_max_window_bits: u8,
    /// Binary logarithm of the clients' window size, 9–15, if the client lets the server choose.
    pub client_max_window_bits: u8,
}

impl Default for DeflateConfig {
    /// Keeps no memory between messages.
    fn default() -> Self {
        DeflateConfig {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
        }
    }
}

/// Negotiated parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// Whether the server compresses each message separately.
    pub server_no_context_takeover: bool,
    /// Whether the client compresses each message separately.
    pub client_no_context_takeover: bool,
    /// Window bits of the server, 9–15.
    pub server_max_window_bits: u8,
    /// Window bits of the client, 8–15.
    pub client_max_window_bits: u8,
}

/// Accepts the first acceptable offer in a request's `Sec-WebSocket-Extensions` (with several header lines joined by commas).
/// Returns the negotiated parameters and the value of the response's header; `None` if no offer is acceptable.
///
/// An offer with an unknown, repeated or malformed parameter is declined, and so is one that requires a server window of 8 bits,
/// which zlib does not support.
pub fn negotiate(header: &str, config: DeflateConfig) -> Option<(Params, String)> {
    split_unquoted(header, ',').take(OFFERS_MAX).find_map(|offer| accept(offer, config))
}

/// Parameters of one offer.
#[derive(Debug, Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Inner `None`: the client leaves the choice to the server.
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
            // The client does not know the parameter, so the response must not contain it.
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

/// Parses a number of window bits: 8–15, without a leading zero.
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15" => value.parse().ok(),
        _ => None,
    }
}

/// Removes quotation marks from a value. No valid value needs an escape.
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
