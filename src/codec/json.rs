//! JSON.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::Codec;
use crate::{Error, Result, message::Content};

/// The JSON codec (`application/json`), the default.
///
/// A type needs both `Serialize` and `Deserialize`, also if it is only published or only consumed.
///
/// # Examples
/// ```
/// use actix_pika::codec::{Codec, Json};
///
/// assert_eq!(Json.encode(&vec![1, 2]).unwrap(), "[1,2]");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn content_type(&self) -> &str {
        "application/json"
    }

    fn encode(&self, value: &T) -> Result<Bytes> {
        let body = serde_json::to_vec(value);
        body.map(Bytes::from).map_err(|error| Error::codec(format!("the value has no JSON form: {error}")))
    }

    fn decode(&self, content: &Content) -> Result<T> {
        serde_json::from_slice(content.body())
            .map_err(|error| Error::codec(format!("the body is wrong: {error}")))
    }
}
