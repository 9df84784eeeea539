//! The two encodings of the protocol.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

/// The encoding of objects in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON in text frames.
    Json,
    /// MessagePack in binary frames.
    MessagePack,
}

impl Encoding {
    /// Both, for tests that do the same in each.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The name of the sub-protocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "starling.v1.json",
            Self::MessagePack => "starling.v1.msgpack",
        }
    }

    /// Puts an object into a frame.
    ///
    /// # Errors
    /// When the value can't be encoded.
    pub fn encode(self, value: &Value) -> Result<Message> {
        Ok(match self {
            Self::Json => Message::text(value.to_string()),
            Self::MessagePack => Message::binary(rmp_serde::to_vec(value).context("encode MessagePack")?),
        })
    }

    /// Takes an object out of a frame; none out of a ping or a pong.
    ///
    /// # Errors
    /// When the frame is of the other encoding, or holds no object.
    pub fn decode(self, message: &Message) -> Result<Option<Value>> {
        match (self, message) {
            (Self::Json, Message::Text(text)) => {
                serde_json::from_str(text).map(Some).with_context(|| format!("no JSON: {text}"))
            }
            (Self::MessagePack, Message::Binary(bytes)) => rmp_serde::from_slice(bytes)
                .map(Some)
                .with_context(|| format!("no MessagePack: {bytes:02x?}")),
            (_, Message::Ping(_) | Message::Pong(_)) => Ok(None),
            (_, other) => bail!("a frame of the wrong kind for {}: {other:?}", self.subprotocol()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_survives_both_encodings() {
        let value =
            json!({"id": 9_007_199_254_740_991_u64, "a": [1, -2, 1.5, null, true, "é"], "o": {"k": {}}});
        for encoding in Encoding::ALL {
            let message = encoding.encode(&value).unwrap();
            assert_eq!(encoding.decode(&message).unwrap(), Some(value.clone()), "{encoding:?}");
        }
    }

    #[test]
    fn a_frame_of_the_other_encoding_is_an_error() {
        let json = Encoding::Json.encode(&json!({})).unwrap();
        let packed = Encoding::MessagePack.encode(&json!({})).unwrap();
        assert!(Encoding::MessagePack.decode(&json).is_err() && Encoding::Json.decode(&packed).is_err());
        assert_eq!(packed.into_data().as_ref(), [0x80], "an empty map, as the format says");
    }
}
