//! What a broker shows of itself, and what it wants to see of clients.

use std::{error::Error, fmt, io, net::IpAddr, sync::Arc};

use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use zeroize::Zeroizing;

use super::{
    TlsSettings,
    certificates::{Authority, ClientCertificate},
};
use crate::server::builder::StartError;

/// What clients see of a broker.
#[derive(Debug, Default)]
pub(super) enum Identity {
    /// A certificate that is made on the spot.
    #[default]
    Made,
    Pem {
        certificates: Vec<u8>,
        key: Key,
    },
}

/// A key that Debug does not show, and that is cleared from memory.
pub(super) struct Key(pub(super) Zeroizing<Vec<u8>>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// Whether clients have to show a certificate.
#[derive(Debug, Default)]
pub(super) enum Clients {
    #[default]
    Anybody,
    /// One that the broker has made.
    CertifiedByBroker,
    /// One of these authorities, in PEM.
    Certified(Vec<u8>),
}

/// What a broker makes on the spot, and what it is configured with.
pub(super) struct Made {
    pub(super) config: Arc<ServerConfig>,
    pub(super) authority: Option<Authority>,
    pub(super) client: Option<ClientCertificate>,
}

type Reason = Box<dyn Error + Send + Sync>;

impl TlsSettings {
    /// Returns the configuration of a server at an address, with what was made for it.
    pub(super) fn make(&self, address: IpAddr) -> Result<Made, StartError> {
        if let Some(config) = &self.config {
            return match (&self.identity, &self.clients) {
                (Identity::Made, Clients::Anybody) => {
                    Ok(Made { config: Arc::clone(config), authority: None, client: None })
                }
                _ => Err(invalid(
                    "Builder::tls_config says itself which certificates there are",
                    "tls_identity, tls_client_certificates and tls_client_authority do not go with it".into(),
                )),
            };
        }
        let (chain, key, authority) = match &self.identity {
            Identity::Made => {
                let cannot = |error: rcgen::Error| {
                    StartError::new("cannot make certificates", io::Error::other(error))
                };
                let authority = Authority::new().map_err(cannot)?;
                let (certificate, key) = authority.certify_server(address).map_err(cannot)?;
                (vec![certificate], key, Some(authority))
            }
            Identity::Pem { certificates, key: Key(key) } => {
                let cannot = |error| invalid("cannot use what Builder::tls_identity was given", error);
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| cannot(error.into()))?;
                (read(certificates).map_err(cannot)?, key, None)
            }
        };
        let (trusted, client) = match (&self.clients, &authority) {
            (Clients::Anybody, authority) => (None, authority.as_ref().map(Authority::client)),
            (Clients::CertifiedByBroker, Some(authority)) => {
                (Some(vec![authority.certificate()]), Some(authority.client()))
            }
            (Clients::CertifiedByBroker, None) => {
                return Err(invalid(
                    "a broker with Builder::tls_identity makes no certificates for clients",
                    "tls_client_authority says whose it takes".into(),
                ));
            }
            (Clients::Certified(authorities), _) => {
                let cannot =
                    |error| invalid("cannot use what Builder::tls_client_authority was given", error);
                (Some(read(authorities).map_err(cannot)?), None)
            }
        };
        let config = configure(chain, key, trusted)
            .map_err(|error| invalid("cannot use the certificates for TLS", error))?;
        Ok(Made { config: Arc::new(config), authority, client })
    }
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    trusted: Option<Vec<CertificateDer<'static>>>,
) -> Result<ServerConfig, Reason> {
    let provider = provider();
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match trusted {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut trusted = RootCertStore::empty();
            for authority in authorities {
                trusted.add(authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(trusted.into(), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(builder.with_single_cert(chain, key)?)
}

/// Reads certificates in PEM.
fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Reason> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err("no certificate in PEM".into()) } else { Ok(found) }
}

fn invalid(what: &str, error: Reason) -> StartError {
    StartError::new(what, io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Returns the provider that the process has installed, or that of the feature. rustls is not asked to choose: with both it
/// panics.
pub(super) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| {
        #[cfg(feature = "tls-ring")]
        return Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        #[cfg(not(feature = "tls-ring"))]
        return Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    })
}
