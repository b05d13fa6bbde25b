//! What an application sets about TLS.

use std::{fmt, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::ClientConfig;
use zeroize::Zeroizing;

use super::{certificates::from_base64, config::ConfigCache};

/// Holds the options of TLS: which server to trust, and how the client identifies itself.
///
/// The server's certificate and its name are verified. Unless set, the authorities that the system trusts are
/// trusted, the name is the host of each address, TLS 1.2 and 1.3 are offered, and the client has no
/// certificate. Certificates and keys are in PEM; a private key must not be encrypted.
///
/// The authorities of the system are read by `rustls-native-certs`, and certificates are verified by rustls
/// on every platform: the verifiers of macOS and Windows would block the thread of the connection, possibly
/// for a network request. A [`ClientConfig`] can have any verifier.
///
/// # Errors
/// A connect returns kind `Tls`; its [`tls_failure`](crate::Error::tls_failure) is
/// [`Setup`](crate::TlsFailure::Setup) for what cannot be read or used.
///
/// **Over a reconnect**: files and the system's authorities are read again at each attempt, so that renewed
/// certificates are used without a restart. While they are the same, sessions are resumed.
///
/// Source: <https://www.rabbitmq.com/docs/ssl>
///
/// # Examples
/// ```
/// # use actix_pika_actors::TlsOptions;
/// let tls = TlsOptions::new()
///     .ca_file("/etc/rabbit/ca.pem")
///     .client_certificate("/etc/rabbit/client.pem", "/etc/rabbit/client-key.pem");
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until it is used"]
pub struct TlsOptions {
    pub(super) authorities: Vec<Authorities>,
    pub(super) system_authorities: bool,
    pub(super) client: Option<ClientCertificate>,
    pub(super) server_name: Option<String>,
    pub(super) accept_invalid_certs: bool,
    pub(super) config: Option<Arc<ClientConfig>>,
    pub(super) cache: ConfigCache,
}

/// Where certificates of authorities are.
#[derive(Clone)]
pub(super) enum Authorities {
    File(PathBuf),
    /// All files of a folder.
    Folder(PathBuf),
    /// PEM or DER.
    Bytes(Arc<[u8]>),
}

/// A certificate of the client, with those of its authorities, and its key.
#[derive(Clone)]
pub(super) struct ClientCertificate {
    pub(super) chain: PemSource,
    pub(super) key: PemSource,
}

/// Where a certificate or a key is.
#[derive(Clone)]
pub(super) enum PemSource {
    File(PathBuf),
    Bytes(Arc<Zeroizing<Vec<u8>>>),
}

impl TlsOptions {
    /// Creates options that trust the authorities of the system.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// let tls = TlsOptions::new().server_name("rabbit.example");
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file with certificates of trusted authorities, in PEM. With it, those of the system are not
    /// trusted, unless [`system_authorities`](Self::system_authorities) is set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// let tls = TlsOptions::new().ca_file("/etc/rabbit/ca.pem");
    /// ```
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authorities.push(Authorities::File(path.into()));
        self
    }

    /// Adds a folder with certificates of trusted authorities, in PEM. Files without certificates are left
    /// out; a folder without any is an error of the connect. As with [`ca_file`](Self::ca_file), those of the
    /// system are not trusted then.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// let tls = TlsOptions::new().ca_folder("/etc/rabbit/authorities");
    /// ```
    #[doc(alias = "capath")]
    pub fn ca_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.authorities.push(Authorities::Folder(path.into()));
        self
    }

    /// Adds certificates of trusted authorities, in PEM or DER. As with [`ca_file`](Self::ca_file),
    /// those of the system are not trusted then.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// # fn from_vault() -> Vec<u8> { Vec::new() }
    /// let tls = TlsOptions::new().ca_bytes(from_vault());
    /// ```
    #[doc(alias = "cadata")]
    pub fn ca_bytes(mut self, certificates: impl AsRef<[u8]>) -> Self {
        self.authorities.push(Authorities::Bytes(certificates.as_ref().into()));
        self
    }

    /// Adds certificates of trusted authorities as in a URI: DER or PEM, in base64. `None` if it is not
    /// base64.
    pub(crate) fn ca_base64(self, text: &str) -> Option<Self> {
        from_base64(text).map(|bytes| self.ca_bytes(bytes))
    }

    /// Sets whether the authorities of the system are trusted beside those that were added. Without added
    /// ones they always are.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// let tls = TlsOptions::new().ca_file("/etc/rabbit/ca.pem").system_authorities(true);
    /// ```
    pub fn system_authorities(mut self, trusted: bool) -> Self {
        self.system_authorities = trusted;
        self
    }

    /// Sets the files with the client's certificate (with those of its intermediate authorities after it) and
    /// its private key (PKCS#8, PKCS#1 or SEC1), in PEM. They may be the same file.
    ///
    /// With [`Mechanism::External`](crate::Mechanism::External) the broker takes the user from this
    /// certificate; that needs its plugin `rabbitmq_auth_mechanism_ssl`.
    ///
    /// Source: <https://www.rabbitmq.com/docs/ssl#peer-verification>;
    /// <https://www.rabbitmq.com/docs/access-control#certificate-authentication>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// let tls = TlsOptions::new().client_certificate("/etc/rabbit/client.pem", "/etc/rabbit/client-key.pem");
    /// ```
    #[doc(alias = "certfile")]
    #[doc(alias = "keyfile")]
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let (chain, key) = (PemSource::File(certificate.into()), PemSource::File(key.into()));
        self.client = Some(ClientCertificate { chain, key });
        self
    }

    /// Sets the client's certificate and private key, in PEM, as [`client_certificate`](Self::client_certificate)
    /// does by path. The key is wiped from memory when the options are dropped, except from what rustls makes
    /// of it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// # fn from_vault() -> (Vec<u8>, Vec<u8>) { Default::default() }
    /// let (certificate, key) = from_vault();
    /// let tls = TlsOptions::new().client_certificate_bytes(certificate, key);
    /// ```
    pub fn client_certificate_bytes(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        let bytes = |bytes| PemSource::Bytes(Arc::new(Zeroizing::new(bytes)));
        let (chain, key) = (bytes(certificate.into()), bytes(key.into()));
        self.client = Some(ClientCertificate { chain, key });
        self
    }

    /// Sets the name that the server's certificate must have, and that is sent to the server (SNI). By
    /// default it is the host of the address that is connected to. An IP address is verified, and not sent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// let tls = TlsOptions::new().server_name("rabbit.example"); // the address may be that of a tunnel
    /// ```
    #[doc(alias = "sni")]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets whether any certificate of the server is accepted: expired, for any name, signed by anybody. The
    /// default is `false`.
    ///
    /// **Whoever is on the way to the broker can then read and change everything, the password too.** Each
    /// connect logs a warning. To trust the certificate of one broker, use [`ca_file`](Self::ca_file) with
    /// its authority, and [`server_name`](Self::server_name) if its name differs.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TlsOptions;
    /// let tls = TlsOptions::new().danger_accept_invalid_certs(true); // for a test on one machine
    /// ```
    #[doc(alias = "insecure")]
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.accept_invalid_certs = accept;
        self
    }
}

/// Uses a configuration of rustls as it is: its authorities, client certificate, versions and cryptography.
///
/// Only [`server_name`](TlsOptions::server_name) can be set beside it; with another option the connect fails.
/// It is used for each reconnect.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{TlsOptions, rustls};
/// use std::sync::Arc;
/// # fn load(_: &mut rustls::RootCertStore) {}
/// # fn main() -> Result<(), rustls::Error> {
/// # #[cfg(feature = "tls-ring")] {
/// let mut roots = rustls::RootCertStore::empty();
/// load(&mut roots);
/// let provider = Arc::new(rustls::crypto::ring::default_provider());
/// let config = rustls::ClientConfig::builder_with_provider(provider)
///     .with_protocol_versions(&[&rustls::version::TLS13])?
///     .with_root_certificates(roots)
///     .with_no_client_auth();
/// let tls = TlsOptions::from(Arc::new(config));
/// # }
/// # Ok(()) }
/// ```
impl From<Arc<ClientConfig>> for TlsOptions {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config: Some(config), ..Self::default() }
    }
}

/// Shows paths, but no certificate and no key.
impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsOptions");
        if self.config.is_some() {
            shown.field("config", &"rustls::ClientConfig");
        }
        shown
            .field("authorities", &self.authorities)
            .field("system_authorities", &(self.system_authorities || self.authorities.is_empty()))
            .field("client", &self.client)
            .field("server_name", &self.server_name)
            .field("accept_invalid_certs", &self.accept_invalid_certs)
            .finish()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Folder(path) => write!(f, "{path:?}"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("chain", &self.chain).field("key", &self.key).finish()
    }
}

impl fmt::Debug for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{path:?}"),
            Self::Bytes(_) => f.write_str("***"),
        }
    }
}
