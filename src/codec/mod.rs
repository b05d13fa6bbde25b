//! Codecs: how the value of a typed message becomes the body of an AMQP message, and back.
//!
//! A [`Codec`] sets the content type of what it encodes, and checks that of what it decodes: a message
//! without a content type is accepted, one with another content type cannot be decoded, and the policy of the consumer
//! says what becomes of it.
//!
//! | codec | content type | values |
//! |---|---|---|
//! | [`Json`], the default | `application/json` | types with serde's `Serialize` and `Deserialize` |
//! | [`Raw`] | `application/octet-stream`, none is checked | `Bytes`, `Vec<u8>`, `String` |
//! | `GzipJson`, with the feature `gzip` | `application/json;compression=gzip` | as `Json` |
//! | `MessagePack`, with the feature `messagepack` | `application/msgpack` | as `Json` |
//!
//! # Examples
//! A codec for a type without serde:
//! ```
//! use actix_pika::{Error, Result, codec::Codec, message::Content};
//! use bytes::Bytes;
//!
//! struct Point(i32, i32);
//! struct Comma;
//!
//! impl Codec<Point> for Comma {
//!     fn content_type(&self) -> &str {
//!         "text/csv"
//!     }
//!
//!     fn encode(&self, point: &Point) -> Result<Bytes> {
//!         Ok(format!("{},{}", point.0, point.1).into())
//!     }
//!
//!     fn decode(&self, content: &Content) -> Result<Point> {
//!         let text = std::str::from_utf8(content.body()).map_err(|e| Error::codec(e.to_string()))?;
//!         let (x, y) = text.split_once(',').ok_or_else(|| Error::codec("a point needs two numbers"))?;
//!         let number = |text: &str| text.parse().map_err(|_| Error::codec(format!("no number: {text:?}")));
//!         Ok(Point(number(x)?, number(y)?))
//!     }
//! }
//! assert_eq!(Comma.encode(&Point(3, -4)).unwrap(), "3,-4");
//! ```

use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Result, message::Content};

#[cfg(feature = "gzip")]
pub use self::gzip::GzipJson;
#[cfg(feature = "messagepack")]
pub use self::messagepack::MessagePack;
pub use self::{json::Json, raw::Raw};

#[cfg(feature = "gzip")]
mod gzip;
mod json;
#[cfg(feature = "messagepack")]
mod messagepack;
mod raw;

/// Encodes and decodes values of `T`. See the [module](self) for an implementation.
pub trait Codec<T>: Send + Sync + 'static {
    /// Returns the content type, which is set on what is encoded.
    fn content_type(&self) -> &str;

    /// Encodes a value.
    ///
    /// # Errors
    /// `Codec` ([`Error::codec`]), if the value cannot be encoded.
    fn encode(&self, value: &T) -> Result<Bytes>;

    /// Decodes the value of a message. The content type was checked before.
    ///
    /// # Errors
    /// `Codec` ([`Error::codec`]), if the body is not one of this codec.
    fn decode(&self, content: &Content) -> Result<T>;

    /// Returns whether a content type is one of this codec. By default: the same type and subtype in any case;
    /// parameters such as `charset` are ignored.
    fn accepts(&self, content_type: &str) -> bool {
        let essence = |full: &str| full.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence(content_type) == essence(self.content_type())
    }
}

/// Shares a codec.
impl<T, C: Codec<T> + ?Sized> Codec<T> for Arc<C> {
    fn content_type(&self) -> &str {
        (**self).content_type()
    }

    fn encode(&self, value: &T) -> Result<Bytes> {
        (**self).encode(value)
    }

    fn decode(&self, content: &Content) -> Result<T> {
        (**self).decode(content)
    }

    fn accepts(&self, content_type: &str) -> bool {
        (**self).accepts(content_type)
    }
}

/// Decodes a message whose content type is that of the codec, or that has none.
///
/// # Errors
/// `Codec`, which names the content type that is not accepted, or what is wrong with the body.
pub(crate) fn decode_checked<T: 'static>(codec: &dyn Codec<T>, content: &Content) -> Result<T> {
    match content.properties()?.content_type() {
        Some(content_type) if !codec.accepts(content_type) => Err(Error::codec(format!(
            "the message has content type {content_type:?}, not {:?}",
            codec.content_type()
        ))),
        _ => codec.decode(content),
    }
}
