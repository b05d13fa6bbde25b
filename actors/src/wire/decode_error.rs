//! Why received properties cannot be decoded.

use std::{error, fmt};

use super::fault::Fault;

/// The properties of a message cannot be decoded, or its headers ([`headers_error`](crate::Properties::headers_error)).
///
/// The broker relays properties unchecked, so the cause is the publisher. The channel and the connection stay
/// open.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DecodeError, Properties};
/// fn content_type(properties: &Result<Properties, DecodeError>) -> String {
///     match properties {
///         Ok(properties) => properties.content_type().unwrap_or("none").to_owned(),
///         Err(error) => error.to_string(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(Fault);

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "properties: {}", self.0)
    }
}

impl error::Error for DecodeError {}
