//! The handshake of TLS on a stream, and what its errors mean.

use std::{borrow::Cow, io, sync::atomic::Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{AlertDescription, Error as Rustls, pki_types::ServerName},
};

use super::config::ReadyConfig;
use crate::error::{Error, Result, TlsFailure};

/// The name of the step, in errors.
const HANDSHAKE: &str = "TLS handshake";

/// Makes the handshakes of one connect, to any of its addresses.
#[derive(Debug)]
pub(crate) struct TlsClient {
    ready: ReadyConfig,
    /// The name to verify, if it is not the host.
    server_name: Option<String>,
    accepts_any: bool,
}

impl TlsClient {
    pub(super) fn new(ready: ReadyConfig, server_name: Option<String>, accepts_any: bool) -> Self {
        Self { ready, server_name, accepts_any }
    }

    /// Makes the handshake with a server that is reached at `host`.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
    ) -> Result<TlsStream<S>> {
        let name = self.server_name(host)?;
        if self.accepts_any {
            log::warn!(
                "connecting to {host:?}: any certificate is accepted (danger_accept_invalid_certs), so whoever \
                 is on the way can read and change everything"
            );
        }
        if let Some(wanted) = &self.ready.certificate_wanted {
            wanted.store(false, Ordering::Relaxed);
        }
        let connected = TlsConnector::from(self.ready.config.clone()).connect(name, stream).await;
        connected.map_err(|error| self.handshake_error(&error))
    }

    /// Creates the error of an operation of the socket after the handshake of TLS: with TLS 1.3 a server
    /// looks at the client's certificate after it.
    pub(crate) fn error(&self, what: impl Into<Cow<'static, str>>, error: &io::Error) -> Error {
        match rustls_error(error) {
            None => Error::io(what, error),
            Some(error) => Error::tls(what, self.of_client_certificate(TlsFailure::of(error), error), error),
        }
    }

    fn server_name(&self, host: &str) -> Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        // The zone of an IPv6 address is a matter of this machine.
        let name = name.split('%').next().unwrap_or(name);
        ServerName::try_from(name.to_owned()).map_err(|_| {
            let what = format!("TLS: {name:?} is neither a DNS name nor an IP address");
            Error::tls_setup(what, io::ErrorKind::InvalidInput)
        })
    }

    fn handshake_error(&self, error: &io::Error) -> Error {
        match rustls_error(error) {
            Some(error) => {
                let failure = self.of_client_certificate(TlsFailure::of_handshake(error), error);
                Error::tls(HANDSHAKE, failure, error)
            }
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                let what = "the peer closed the socket; it may not use TLS on this port";
                Error::io(HANDSHAKE, &io::Error::new(error.kind(), what))
            }
            None => Error::io(HANDSHAKE, error),
        }
    }

    /// Tells a server that wants a certificate from one that refuses it: alerts alone do not.
    fn of_client_certificate(&self, failure: TlsFailure, error: &Rustls) -> TlsFailure {
        let wanted = || self.ready.certificate_wanted.as_ref().is_some_and(|it| it.load(Ordering::Relaxed));
        let is_about_it = match error {
            Rustls::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::DecryptError) => {
                wanted()
            }
            _ => failure == TlsFailure::ClientCertificateRefused,
        };
        match (is_about_it, self.ready.config.client_auth_cert_resolver.has_certs()) {
            (false, _) => failure,
            (true, true) => TlsFailure::ClientCertificateRefused,
            (true, false) => TlsFailure::ClientCertificateWanted,
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&Rustls> {
    error.get_ref()?.downcast_ref()
}
