//! Bytes and text as they are.

use bytes::Bytes;

use super::Codec;
use crate::{Error, Result, message::Content};

/// The codec of bodies as they are: `Bytes`, `Vec<u8>`, or `String`, which must be UTF-8. Every content type is accepted.
///
/// # Examples
/// ```
/// use actix_pika::codec::{Codec, Raw};
///
/// assert_eq!(Raw.encode(&"hello".to_owned()).unwrap(), "hello");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

macro_rules! raw_codec {
    ($type:ty, $content_type:literal, |$value:ident| $encode:expr, |$content:ident| $decode:expr) => {
        impl Codec<$type> for Raw {
            fn content_type(&self) -> &str {
                $content_type
            }

            fn encode(&self, $value: &$type) -> Result<Bytes> {
                Ok($encode)
            }

            fn decode(&self, $content: &Content) -> Result<$type> {
                $decode
            }

            fn accepts(&self, _: &str) -> bool {
                true
            }
        }
    };
}

raw_codec!(Bytes, "application/octet-stream", |value| value.clone(), |content| Ok(content.body_bytes()));
raw_codec!(Vec<u8>, "application/octet-stream", |value| Bytes::copy_from_slice(value), |content| {
    Ok(content.body().to_vec())
});
raw_codec!(String, "text/plain", |value| Bytes::copy_from_slice(value.as_bytes()), |content| {
    let text = std::str::from_utf8(content.body());
    text.map(str::to_owned).map_err(|error| Error::codec(format!("the body is no UTF-8: {error}")))
});
