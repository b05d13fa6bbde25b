//! What is between a byte stream and AMQP: TLS, or nothing. The only file outside `tls` that knows whether TLS
//! is compiled in.

use std::{borrow::Cow, io};

use super::{Socket, Stream};
#[cfg(feature = "tls")]
use crate::tls::TlsClient;
use crate::{
    error::{Error, Result},
    options::{Address, ConnectionOptions},
};

/// How the streams of one connect are secured.
#[derive(Debug)]
pub(crate) struct Security {
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
}

impl Security {
    /// The step that [`secure`](Self::secure) takes, for errors.
    pub(crate) const STEP: &str = "TLS handshake";

    /// Reads the certificates that the options name.
    pub(crate) async fn load(options: &ConnectionOptions) -> Result<Self> {
        #[cfg(feature = "tls")]
        return Ok(Self {
            tls: match options.tls()? {
                Some(tls) => Some(tls.load(options.connect_timeout).await?),
                None => None,
            },
        });
        #[cfg(not(feature = "tls"))]
        {
            let _ = options;
            Ok(Self {})
        }
    }

    /// Makes the handshake of TLS, if there is one, and verifies that the peer is the one at `address`.
    pub(crate) async fn secure(&self, stream: Stream, address: &Address) -> Result<Socket> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Socket::Tls(Box::new(tls.connect(stream.below_tls(), &address.host).await?)));
        }
        let _ = address;
        Ok(Socket::Plain(stream))
    }

    /// Creates the error of a socket during the handshake of AMQP.
    pub(crate) fn error(&self, what: impl Into<Cow<'static, str>>, error: &io::Error) -> Error {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.error(what, error);
        }
        Error::io(what, error)
    }
}
