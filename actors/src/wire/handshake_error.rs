//! Why a handshake fails.

use std::{
    error,
    fmt::{self, Write},
};

use super::{
    encode_error::EncodeError, fault::Fault, method_names::method_name, peer_text::Escaping, short::TooLong,
};

/// Why a handshake fails.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server closed the connection. The reply, `connection.close-ok`, was appended.
    Closed {
        /// The reply code: 403 for the login, 530 for the virtual host.
        code: u16,
        /// The reply text.
        text: String,
        /// The class of the method that failed, 0 if none.
        class_id: u16,
        /// The id of the method that failed, 0 if none.
        method_id: u16,
    },
    /// The server violated the protocol.
    Fault(Fault),
    /// The server offers none of the mechanisms. Nothing was sent.
    Mechanism {
        /// The mechanisms that the server offers.
        offered: String,
    },
    /// The server does not offer the locale. Nothing was sent.
    Locale {
        /// The locales that the server offers.
        offered: String,
    },
    /// One side cannot keep a limit of the other side or of the protocol.
    Limit(String),
}

impl From<Fault> for HandshakeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<TooLong> for HandshakeError {
    fn from(error: TooLong) -> Self {
        Self::Limit(error.to_string())
    }
}

impl From<EncodeError> for HandshakeError {
    fn from(error: EncodeError) -> Self {
        Self::Limit(format!("client properties: {error}"))
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = Escaping(f);
        match self {
            Self::Closed { code, text, class_id: 0, .. } => write!(f, "server refused: {code} {text}"),
            Self::Closed { code, text, class_id, method_id } => {
                write!(f, "server refused {}: {code} {text}", method_name(*class_id, *method_id))
            }
            Self::Fault(fault) => write!(f, "server violated the protocol: {fault}"),
            Self::Mechanism { offered } => {
                write!(f, "server offers none of our mechanisms, only \"{offered}\"")
            }
            Self::Locale { offered } => write!(f, "server does not offer our locale, only \"{offered}\""),
            Self::Limit(text) => f.write_str(text),
        }
    }
}

impl error::Error for HandshakeError {}
