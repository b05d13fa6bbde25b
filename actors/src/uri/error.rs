//! The errors of URI parsing, by part. They contain neither the URI nor any value from it.

use std::{error, fmt};

/// Describes which part of a URI is invalid. It contains neither the URI nor the password.
///
/// # Examples
/// ```
/// # use actix_pika_actors::uri::{AmqpUri, UriError};
/// assert_eq!("http://localhost".parse::<AmqpUri>(), Err(UriError::Scheme));
/// let error = "amqp://localhost?heartbeat=-1".parse::<AmqpUri>().unwrap_err();
/// assert_eq!(error.to_string(), "AMQP URI: parameter heartbeat must be a number of seconds from 0 to 65535");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// The URI does not begin with `amqp://` or `amqps://`.
    Scheme,
    /// The URI contains whitespace or control characters.
    Whitespace,
    /// The user or the password contains a `/` or `?`, which ends the part with the host: in them it is
    /// written `%2F` or `%3F`. Or a virtual host without a login before it contains an `@`: there it is
    /// written `%40`.
    Unescaped {
        /// The character: `/` or `?`.
        character: char,
    },
    /// The URI contains a `#`: AMQP URIs have no fragment. In a password it is written `%23`.
    Fragment,
    /// The user is not valid percent-encoded UTF-8.
    User,
    /// The password is not valid percent-encoded UTF-8.
    Password,
    /// The host is neither a name nor an address.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The virtual host is not valid percent-encoded UTF-8.
    Vhost,
    /// The part after the `?` is not a list of `parameter=value`.
    Query,
    /// The parameter is unknown to this client.
    UnknownParameter {
        /// Name of the parameter.
        key: String,
    },
    /// The value of the parameter is invalid.
    InvalidParameter {
        /// Name of the parameter.
        key: &'static str,
        /// Description of a valid value.
        expected: &'static str,
    },
    /// The parameter occurs twice, but takes one value.
    RepeatedParameter {
        /// Name of the parameter.
        key: &'static str,
    },
    /// A further URI of a list contradicts the first one.
    Differs {
        /// Name of the part that differs.
        part: &'static str,
    },
    /// The list of URIs is empty.
    None,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AMQP URI: ")?;
        match self {
            Self::Scheme => f.write_str("the URI must begin with amqp:// or amqps://"),
            Self::Whitespace => f.write_str("the URI contains whitespace or control characters"),
            Self::Fragment => f.write_str("the URI contains a '#'; write it as %23"),
            Self::Unescaped { character } => write!(
                f,
                "an '@' comes after a '{character}'; write '{character}' in the user and the password as \
                 %{:02X}, and '@' in the virtual host as %40",
                u32::from(*character)
            ),
            Self::User => f.write_str("the user is not valid percent-encoded UTF-8; write '%' as %25"),
            Self::Password => {
                f.write_str("the password is not valid percent-encoded UTF-8; write '%' as %25")
            }
            Self::Host => f.write_str("the host is neither a name nor an address"),
            Self::Port => f.write_str("the port is not a number from 1 to 65535"),
            Self::Vhost => {
                f.write_str("the virtual host is not valid percent-encoded UTF-8; write '%' as %25")
            }
            Self::Query => f.write_str(
                "the part after the '?' is not a list of parameter=value; elsewhere write '?' as %3F",
            ),
            Self::UnknownParameter { key } => write!(f, "parameter {key} is unknown"),
            Self::InvalidParameter { key, expected } => write!(f, "parameter {key} must be {expected}"),
            Self::RepeatedParameter { key } => write!(f, "parameter {key} occurs twice"),
            Self::Differs { part } => {
                write!(f, "the {part} must be that of the first URI, or be left out")
            }
            Self::None => f.write_str("at least one URI is required"),
        }
    }
}

impl error::Error for UriError {}
