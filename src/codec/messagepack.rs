//! MessagePack.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::Codec;
use crate::{Error, Result, message::Content};

/// The MessagePack codec (`application/msgpack`). Structs are encoded with the names of their fields.
///
/// # Examples
/// ```
/// use actix_pika::codec::{Codec, MessagePack};
///
/// assert_eq!(MessagePack.encode(&vec![1, 2]).unwrap(), &[0x92, 1, 2][..]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

impl<T: Serialize + DeserializeOwned> Codec<T> for MessagePack {
    fn content_type(&self) -> &str {
        "application/msgpack"
    }

    fn encode(&self, value: &T) -> Result<Bytes> {
        let body = rmp_serde::to_vec_named(value);
        body.map(Bytes::from)
            .map_err(|error| Error::codec(format!("the value has no MessagePack form: {error}")))
    }

    fn decode(&self, content: &Content) -> Result<T> {
        rmp_serde::from_slice(content.body())
            .map_err(|error| Error::codec(format!("the body is wrong: {error}")))
    }

    fn accepts(&self, content_type: &str) -> bool {
        let accepted = ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"];
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        accepted.iter().any(|one| one.eq_ignore_ascii_case(essence))
    }
}
