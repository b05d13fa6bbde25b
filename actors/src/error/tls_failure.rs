//! Why TLS failed: what rustls and the peer's alerts mean.

#[cfg(feature = "tls")]
use std::io;
use std::{borrow::Cow, fmt};

#[cfg(feature = "tls")]
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as Rustls, InvalidMessage};

use super::{Error, ErrorKind};

/// Tells why TLS failed, for errors of kind [`Tls`](crate::ErrorKind::Tls).
///
/// A connection that recovers waits out some of them: a certificate of the server that has expired can be
/// renewed there. The others are refusals: somebody has to change a certificate, an authority or a name. The
/// connection ends if every address has refused it so for one minute. Files of certificates are read again at
/// each attempt.
///
/// | waited out | refusal |
/// |---|---|
/// | `Expired`, `NotYetValid`, `Revoked`, `InvalidCertificate`, `NotTls`, `TlsRequired`, `Incompatible`, `Other` | `Setup`, `UnknownAuthority`, `NameMismatch`, `ClientCertificateWanted`, `ClientCertificateRefused` |
///
/// Source: <https://www.rabbitmq.com/docs/troubleshooting-ssl>; RFC 8446 section 6 (alerts)
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Error, TlsFailure};
/// fn certificate_is_to_be_renewed(error: &Error) -> bool {
///     error.tls_failure() == Some(TlsFailure::Expired)
/// }
/// assert!(!certificate_is_to_be_renewed(&Error::credentials("none")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// A certificate, a key or an option of this client cannot be used: a file is missing
    /// ([`io_kind`](crate::Error::io_kind) is `NotFound`), is not in PEM or encrypted (`InvalidData`), or
    /// options contradict each other (`InvalidInput`). Nothing was sent.
    Setup,
    /// The server's certificate is not signed by a trusted authority.
    UnknownAuthority,
    /// The server's certificate is for other names, or the server does not know the name.
    NameMismatch,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet: its clock or the one here may be wrong.
    NotYetValid,
    /// The authority has revoked the server's certificate.
    Revoked,
    /// The server's certificate cannot be used for another reason, such as its signature or its purpose.
    InvalidCertificate,
    /// The other end does not use TLS: it may be a port for plain AMQP.
    NotTls,
    /// The other end uses TLS, and this connection does not.
    TlsRequired,
    /// The server wants a certificate of the client, and there is none.
    ClientCertificateWanted,
    /// The server has refused the client's certificate.
    ClientCertificateRefused,
    /// Client and server have no version of TLS or cipher in common.
    Incompatible,
    /// Another fault of TLS, such as bytes that were changed on the way.
    Other,
}

impl TlsFailure {
    /// Returns whether the failure lasts until somebody changes the options or certificates of one side.
    pub(crate) fn is_for_good(self) -> bool {
        match self {
            Self::Setup
            | Self::UnknownAuthority
            | Self::NameMismatch
            | Self::ClientCertificateWanted
            | Self::ClientCertificateRefused => true,
            Self::Expired
            | Self::NotYetValid
            | Self::Revoked
            | Self::InvalidCertificate
            | Self::NotTls
            | Self::TlsRequired
            | Self::Incompatible
            | Self::Other => false,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Setup => "the options of TLS cannot be used",
            Self::UnknownAuthority => "the server's certificate is not signed by a trusted authority",
            Self::NameMismatch => "the server's certificate is for another name",
            Self::Expired => "the server's certificate has expired",
            Self::NotYetValid => "the server's certificate is not valid yet",
            Self::Revoked => "the server's certificate is revoked",
            Self::InvalidCertificate => "the server's certificate is invalid",
            Self::NotTls => "the other end does not use TLS, which has port 5671 by default",
            Self::TlsRequired => "the other end uses TLS on this port, which needs an amqps URI",
            Self::ClientCertificateWanted => "the server wants a certificate of the client",
            Self::ClientCertificateRefused => "the server has refused the client's certificate",
            Self::Incompatible => "client and server have no version of TLS or cipher in common",
            Self::Other => "TLS failed",
        }
    }
}

#[cfg(feature = "tls")]
impl TlsFailure {
    /// Sorts an error of rustls by its meaning.
    pub(crate) fn of(error: &Rustls) -> Self {
        match error {
            Rustls::InvalidCertificate(error) => Self::of_certificate(error),
            Rustls::NoCertificatesPresented => Self::InvalidCertificate,
            Rustls::AlertReceived(alert) => Self::of_alert(*alert),
            Rustls::PeerIncompatible(_) => Self::Incompatible,
            _ => Self::Other,
        }
    }

    /// As [`of`](Self::of), for an error before the handshake is done: there, bytes that are no record of TLS
    /// come from a peer that does not use it.
    pub(crate) fn of_handshake(error: &Rustls) -> Self {
        match error {
            Rustls::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => Self::NotTls,
            other => Self::of(other),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // Another key than that of the authority with this name, such as after its renewal.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::NameMismatch
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::Revoked => Self::Revoked,
            _ => Self::InvalidCertificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                Self::ClientCertificateWanted
            }
            // A server that sends one of these has looked at a certificate.
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Self::ClientCertificateRefused,
            AlertDescription::UnrecognisedName => Self::NameMismatch,
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::InappropriateFallback
            | AlertDescription::NoApplicationProtocol => Self::Incompatible,
            _ => Self::Other,
        }
    }
}

/// The most characters of a detail. A certificate may have many names.
const DETAIL_MAX: usize = 300;

impl Error {
    /// Creates the error of `what` that TLS failed. The detail may come from the peer.
    pub(crate) fn tls(
        what: impl Into<Cow<'static, str>>,
        failure: TlsFailure,
        detail: impl fmt::Display,
    ) -> Self {
        let mut detail = detail.to_string();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_MAX) {
            detail.truncate(end);
            detail.push_str("...");
        }
        let mut data = Self::data(ErrorKind::Tls, format!("{}: {} ({detail})", what.into(), failure.text()));
        data.tls = Some(failure);
        data.retryable = !failure.is_for_good();
        data.into()
    }

    /// Creates the error of a file, key or option of TLS that cannot be used.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_setup(what: impl Into<Cow<'static, str>>, io: io::ErrorKind) -> Self {
        let mut data = Self::data(ErrorKind::Tls, what);
        (data.tls, data.io) = (Some(TlsFailure::Setup), Some(io));
        data.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_of_certificates_mends_is_for_good() {
        use TlsFailure::*;
        for (failure, is_for_good) in [
            (Setup, true),
            (UnknownAuthority, true),
            (NameMismatch, true),
            (ClientCertificateWanted, true),
            (ClientCertificateRefused, true),
            (Expired, false),
            (NotYetValid, false),
            (Revoked, false),
            (InvalidCertificate, false),
            (NotTls, false),
            (TlsRequired, false),
            (Incompatible, false),
            (Other, false),
        ] {
            assert_eq!(failure.is_for_good(), is_for_good, "{failure:?}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn errors_of_rustls_are_sorted_by_their_meaning() {
        use tokio_rustls::rustls::PeerIncompatible;
        for (error, failure) in [
            (Rustls::InvalidCertificate(CertificateError::UnknownIssuer), TlsFailure::UnknownAuthority),
            (Rustls::InvalidCertificate(CertificateError::NotValidForName), TlsFailure::NameMismatch),
            (Rustls::InvalidCertificate(CertificateError::Expired), TlsFailure::Expired),
            (Rustls::InvalidCertificate(CertificateError::NotValidYet), TlsFailure::NotYetValid),
            (Rustls::InvalidCertificate(CertificateError::Revoked), TlsFailure::Revoked),
            (Rustls::InvalidCertificate(CertificateError::BadSignature), TlsFailure::UnknownAuthority),
            (Rustls::InvalidCertificate(CertificateError::BadEncoding), TlsFailure::InvalidCertificate),
            (Rustls::InvalidMessage(InvalidMessage::InvalidContentType), TlsFailure::Other),
            (
                Rustls::AlertReceived(AlertDescription::CertificateRequired),
                TlsFailure::ClientCertificateWanted,
            ),
            (Rustls::AlertReceived(AlertDescription::UnknownCA), TlsFailure::ClientCertificateRefused),
            (Rustls::AlertReceived(AlertDescription::UnrecognisedName), TlsFailure::NameMismatch),
            (Rustls::AlertReceived(AlertDescription::ProtocolVersion), TlsFailure::Incompatible),
            (Rustls::PeerIncompatible(PeerIncompatible::Tls12NotOffered), TlsFailure::Incompatible),
            (Rustls::AlertReceived(AlertDescription::InternalError), TlsFailure::Other),
            (Rustls::DecryptError, TlsFailure::Other),
        ] {
            assert_eq!(TlsFailure::of(&error), failure, "{error}");
        }
        let no_record = Rustls::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(TlsFailure::of_handshake(&no_record), TlsFailure::NotTls);
        assert_eq!(TlsFailure::of_handshake(&Rustls::DecryptError), TlsFailure::Other);
    }
}
