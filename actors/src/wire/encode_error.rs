//! Why a table or a property cannot be encoded.

use std::{error, fmt};

use super::{table::MAX_DEPTH, text::Text};

/// A table or a property cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// An entry of a table cannot be encoded.
    Entry {
        /// The keys and indexes that lead to it, such as `prices.eur` or `prices[2]`.
        path: String,
        /// What is wrong with it.
        why: Box<Self>,
    },
    /// A header cannot be encoded.
    Header(Box<Self>),
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
    /// The properties were received with a list that ends too early.
    Undecodable,
    /// An expiration is more than 4,294,967,295 milliseconds.
    Expiration,
}

impl EncodeError {
    /// Adds the key of the table that holds the value.
    #[cold]
    pub(super) fn under(self, key: &Text) -> Self {
        // Never the whole of a key that is too long.
        let key: String = key.to_string_lossy().chars().take(80).collect();
        match self {
            Self::Entry { path, why } if path.starts_with('[') => Self::Entry { path: key + &path, why },
            Self::Entry { path, why } => Self::Entry { path: format!("{key}.{path}"), why },
            why => Self::Entry { path: key, why: why.into() },
        }
    }

    /// Adds the index of the array that holds the value.
    #[cold]
    pub(super) fn at(self, index: usize) -> Self {
        match self {
            Self::Entry { path, why } if path.starts_with('[') => {
                Self::Entry { path: format!("[{index}]{path}"), why }
            }
            Self::Entry { path, why } => Self::Entry { path: format!("[{index}].{path}"), why },
            why => Self::Entry { path: format!("[{index}]"), why: why.into() },
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { path, why } => write!(f, "{path:?}: {why}"),
            Self::Header(why) => write!(f, "header {why}"),
            Self::NotFinite => f.write_str("a float that is NaN or infinite"),
            Self::LongKey { len } => write!(f, "the key has {len} bytes, AMQP allows 255"),
            Self::KeyNotUtf8 => f.write_str("the key is not UTF-8"),
            Self::Depth => write!(f, "tables and arrays nest more than {MAX_DEPTH} deep"),
            Self::Size => f.write_str("a table has 4 GiB or more"),
            Self::LongProperty { name, len } => {
                write!(f, "property {name} has {len} bytes, AMQP allows 255")
            }
            Self::BeforeEpoch => f.write_str("a time is before 1970, which AMQP cannot express"),
            Self::Undecodable => f.write_str("the properties were received cut short"),
            Self::Expiration => f.write_str("expiration is over 4294967295 milliseconds"),
        }
    }
}

impl error::Error for EncodeError {}
