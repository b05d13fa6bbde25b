//! JSON, compressed with gzip.

use std::{
    borrow::Cow,
    io::{Read, Write},
};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, Json};
use crate::{Error, Result, message::Content};

/// How a gzip stream begins, and no JSON text.
const MAGIC: &[u8] = &[0x1f, 0x8b];

/// The codec of JSON that is compressed with gzip (`application/json;compression=gzip`). It decodes bodies without
/// compression too.
///
/// A body that would be larger than 64 MiB without compression cannot be decoded; [`max`](Self::max) sets another limit.
///
/// # Examples
/// ```
/// use actix_pika::codec::{Codec, GzipJson};
///
/// let body = GzipJson::new().encode(&vec![7; 10_000]).unwrap();
/// assert!(body.len() < 100);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GzipJson {
    max: usize,
}

impl GzipJson {
    /// Creates the codec.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::codec::GzipJson;
    /// let codec = GzipJson::new();
    /// ```
    pub fn new() -> Self {
        Self { max: 64 << 20 }
    }

    /// Sets how large a body may be without compression, in bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::codec::GzipJson;
    /// let codec = GzipJson::new().max(1 << 20);
    /// ```
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// Compresses.
    pub(crate) fn compress(body: &[u8]) -> Result<Bytes> {
        // The level of aio-pika and of gzip itself.
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::new(6));
        let written = encoder.write_all(body).and_then(|()| encoder.finish());
        written.map(Bytes::from).map_err(|error| Error::codec(format!("gzip: {error}")))
    }

    /// Removes the compression, if there is one.
    pub(crate) fn decompress<'b>(&self, body: &'b [u8]) -> Result<Cow<'b, [u8]>> {
        if !body.starts_with(MAGIC) {
            return Ok(body.into());
        }
        let mut plain = Vec::new();
        let limit = self.max as u64;
        // One more, to tell a body of this size from a larger one.
        let read = MultiGzDecoder::new(body).take(limit.saturating_add(1)).read_to_end(&mut plain);
        match read {
            Err(error) => Err(Error::codec(format!("the body is wrong: gzip: {error}"))),
            Ok(_) if plain.len() > self.max => {
                Err(Error::codec(format!("the body has more than {} bytes without gzip", self.max)))
            }
            Ok(_) => Ok(plain.into()),
        }
    }
}

impl Default for GzipJson {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> for GzipJson {
    fn content_type(&self) -> &str {
        "application/json;compression=gzip"
    }

    fn encode(&self, value: &T) -> Result<Bytes> {
        Self::compress(&Json.encode(value)?)
    }

    fn decode(&self, content: &Content) -> Result<T> {
        let body = self.decompress(content.body())?;
        serde_json::from_slice(&body).map_err(|error| Error::codec(format!("the body is wrong: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_decompressed() {
        let body = Bytes::from("{\"n\":7}".repeat(1000));
        let packed = GzipJson::compress(&body).unwrap();
        assert!(packed.len() < 100 && packed.starts_with(MAGIC));
        assert_eq!(*GzipJson::new().decompress(&packed).unwrap(), *body);
        assert_eq!(*GzipJson::new().decompress(b"{}").unwrap(), *b"{}");
        // Two streams, one behind the other, as the format allows.
        let two = [GzipJson::compress(b"[1,").unwrap(), GzipJson::compress(b"2]").unwrap()].concat();
        assert_eq!(*GzipJson::new().decompress(&two).unwrap(), *b"[1,2]");
    }

    #[test]
    fn decompressed_bodies_are_bounded() {
        let packed = GzipJson::compress(&vec![b' '; 1 << 20]).unwrap();
        assert!(GzipJson::new().max(1 << 20).decompress(&packed).is_ok());
        let error = GzipJson::new().max((1 << 20) - 1).decompress(&packed).unwrap_err();
        assert_eq!(error.to_string(), "the body has more than 1048575 bytes without gzip");
    }

    #[test]
    fn a_damaged_stream_is_an_error() {
        let packed = GzipJson::compress(b"{\"a\":[1,2,3]}").unwrap();
        let mut wrong_sum = packed.to_vec();
        let sum = wrong_sum.len() - 8;
        wrong_sum[sum] ^= 1;
        for damaged in [&packed[..packed.len() - 1], &packed[..5], MAGIC, &wrong_sum] {
            assert!(GzipJson::new().decompress(damaged).unwrap_err().to_string().contains("gzip"));
        }
    }
}
