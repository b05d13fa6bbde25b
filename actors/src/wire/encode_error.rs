//! Why a table or a property cannot be encoded.

use std::{error, fmt};

use super::table::MAX_DEPTH;

/// A table or a property cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A float or double is NaN or infinite. RabbitMQ would close the connection with 541.
    NotFinite,
    /// A key has more than 255 bytes.
    LongKey {
        /// Length in bytes.
        len: usize,
    },
    /// A key is not UTF-8 where it has to be.
    KeyNotUtf8,
    /// Tables and arrays nest more than [`MAX_DEPTH`] deep.
    Depth,
    /// A table has 4 GiB or more.
    Size,
    /// A property has more than 255 bytes.
    LongProperty {
        /// Name of the property.
        name: &'static str,
        /// Length in bytes.
        len: usize,
    },
    /// A time is before 1970, which AMQP cannot express.
    BeforeEpoch,
    /// An expiration is more than 4,294,967,295 milliseconds.
    Expiration,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => f.write_str("a table holds a float that is NaN or infinite"),
            Self::LongKey { len } => write!(f, "a key of a table has {len} bytes, AMQP allows 255"),
            Self::KeyNotUtf8 => f.write_str("a key of a table is not UTF-8"),
            Self::Depth => write!(f, "a table nests more than {MAX_DEPTH} deep"),
            Self::Size => f.write_str("a table has 4 GiB or more"),
            Self::LongProperty { name, len } => {
                write!(f, "property {name} has {len} bytes, AMQP allows 255")
            }
            Self::BeforeEpoch => f.write_str("a time is before 1970, which AMQP cannot express"),
            Self::Expiration => f.write_str("expiration is over 4294967295 milliseconds"),
        }
    }
}

impl error::Error for EncodeError {}
