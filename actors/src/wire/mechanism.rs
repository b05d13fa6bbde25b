//! Login mechanisms (SASL) and their responses.

use bytes::{BufMut, BytesMut};

use super::handshake_error::HandshakeError;
use crate::secret::Secret;

/// Keys of a field table, each with the type octet of a long string.
const LOGIN: &[u8] = b"\x05LOGINS";
const PASSWORD: &[u8] = b"\x08PASSWORDS";

/// A login mechanism (SASL).
///
/// Source: <https://www.rabbitmq.com/docs/access-control#mechanisms>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Mechanism;
/// assert_eq!(Mechanism::named("external"), Some(Mechanism::External));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mechanism {
    /// `PLAIN`: sends user and password in plain text.
    Plain,
    /// `AMQPLAIN`: sends user and password in a field table.
    AmqPlain,
    /// `EXTERNAL`: sends nothing; the broker identifies the user otherwise, for example by a client
    /// certificate.
    External,
}

impl Mechanism {
    /// Returns the name of the mechanism on the wire.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Mechanism;
    /// assert_eq!(Mechanism::AmqPlain.name(), "AMQPLAIN");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::External => "EXTERNAL",
        }
    }

    /// Returns the mechanism with this name, in any case, or `None` if it is not supported.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Mechanism;
    /// assert_eq!(Mechanism::named("plain"), Some(Mechanism::Plain));
    /// assert_eq!(Mechanism::named("SCRAM-SHA-256"), None);
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::AmqPlain, Self::External]
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// Returns the length of what [`put_response`](Self::put_response) appends.
    pub(super) fn response_len(self, user: &str, password: &Secret) -> Result<usize, HandshakeError> {
        let password = password.expose();
        match self {
            Self::Plain if user.contains('\0') || password.contains('\0') => {
                Err(HandshakeError::Limit("PLAIN allows no NUL in user and password".into()))
            }
            Self::Plain => Ok(2 + user.len() + password.len()),
            Self::AmqPlain => Ok(LOGIN.len() + 4 + user.len() + PASSWORD.len() + 4 + password.len()),
            Self::External => Ok(0),
        }
    }

    /// Appends the response of the mechanism.
    pub(super) fn put_response(self, user: &str, password: &Secret, out: &mut BytesMut) {
        match self {
            Self::Plain => {
                out.put_u8(0);
                out.put_slice(user.as_bytes());
                out.put_u8(0);
                out.put_slice(password.expose().as_bytes());
            }
            Self::AmqPlain => {
                for (key, value) in [(LOGIN, user), (PASSWORD, password.expose())] {
                    out.put_slice(key);
                    out.put_u32(value.len() as u32);
                    out.put_slice(value.as_bytes());
                }
            }
            Self::External => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_the_length_that_was_calculated() {
        for mechanism in [Mechanism::Plain, Mechanism::AmqPlain, Mechanism::External] {
            let mut out = BytesMut::new();
            let password = Secret::from("hunter2");
            mechanism.put_response("alice", &password, &mut out);
            assert_eq!(mechanism.response_len("alice", &password), Ok(out.len()));
        }
    }
}
