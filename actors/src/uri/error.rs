//! What is wrong with a URI, by part: neither the URI nor any value in it is repeated.

use std::{error, fmt};

/// Says why a text is no AMQP URI, by part; neither the URI nor the password is in it.
///
/// # Examples
/// ```
/// # use actix_pika_actors::uri::{AmqpUri, UriError};
/// assert_eq!("http://localhost".parse::<AmqpUri>(), Err(UriError::Scheme));
/// let error = "amqp://localhost?heartbeat=-1".parse::<AmqpUri>().unwrap_err();
/// assert_eq!(error.to_string(), "AMQP URI: parameter heartbeat has to be a number of seconds from 0 to 65535");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// It does not begin with `amqp://` or `amqps://`.
    Scheme,
    /// It holds whitespace or control characters.
    Whitespace,
    /// It holds a `#`, which AMQP URIs have no use for; in a password it is written `%23`.
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
    /// What follows the `?` is not a list of `parameter=value`.
    Query,
    /// A parameter that this client does not know.
    UnknownParameter {
        /// Its name.
        key: String,
    },
    /// A parameter whose value cannot be read.
    InvalidParameter {
        /// Its name.
        key: &'static str,
        /// What its value has to be.
        expected: &'static str,
    },
    /// A parameter that occurs twice and has only one value.
    RepeatedParameter {
        /// Its name.
        key: &'static str,
    },
    /// A URI of several for one connection says something else than the first one.
    Differs {
        /// What it says otherwise.
        part: &'static str,
    },
    /// There is none where at least one has to be.
    None,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AMQP URI: ")?;
        match self {
            Self::Scheme => f.write_str("it has to begin with amqp:// or amqps://"),
            Self::Whitespace => f.write_str("it holds whitespace or control characters"),
            Self::Fragment => f.write_str("it holds a '#', to be written as %23"),
            Self::User => f.write_str("the user is not valid percent-encoded UTF-8"),
            Self::Password => f.write_str("the password is not valid percent-encoded UTF-8"),
            Self::Host => f.write_str("the host is neither a name nor an address"),
            Self::Port => f.write_str("the port is not a number from 1 to 65535"),
            Self::Vhost => f.write_str("the virtual host is not valid percent-encoded UTF-8"),
            Self::Query => f.write_str("what follows the '?' is not a list of parameter=value"),
            Self::UnknownParameter { key } => write!(f, "parameter {key} is unknown"),
            Self::InvalidParameter { key, expected } => write!(f, "parameter {key} has to be {expected}"),
            Self::RepeatedParameter { key } => write!(f, "parameter {key} occurs twice"),
            Self::Differs { part } => {
                write!(f, "the {part} has to be that of the first URI, or left out")
            }
            Self::None => f.write_str("there has to be at least one"),
        }
    }
}

impl error::Error for UriError {}
