//! Certificates that are made on the spot.

use std::{fmt, io, net::IpAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use crate::server::builder::StartError;

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Clients {
    #[default]
    Anybody,
    Certified,
}

/// The authority of a broker.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    client: ClientCertificate,
}

/// A certificate for a client, and its key.
///
/// # Examples
/// ```
/// # use actix_pika_broker::Broker;
/// let client = Broker::builder().tls_client_certificates().start().unwrap().client_certificate();
/// assert!(client.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// ```
#[derive(Clone)]
pub struct ClientCertificate {
    certificate: String,
    key: String,
}

impl ClientCertificate {
    /// Returns the certificate in PEM.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::ClientCertificate;
    /// fn certificate(client: &ClientCertificate) -> &str { client.certificate_pem() }
    /// ```
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Returns the key in PEM.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::ClientCertificate;
    /// fn key(client: &ClientCertificate) -> &str { client.key_pem() }
    /// ```
    pub fn key_pem(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own, so that a client that trusts another broker's names the authority as unknown.
        let name = format!("actix-pika-broker {:016x}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        let client = ClientCertificate { certificate, key: key.serialize_pem() };
        Ok(Self { issuer, client })
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(super) fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    pub(super) fn client(&self) -> ClientCertificate {
        self.client.clone()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// Makes an authority, and the configuration of a server at an address.
pub(super) fn make(address: IpAddr, clients: Clients) -> Result<(Arc<ServerConfig>, Authority), StartError> {
    let cannot = |error: Box<dyn std::error::Error + Send + Sync>| {
        StartError::new("cannot make certificates", io::Error::other(error))
    };
    let authority = Authority::new().map_err(|error| cannot(error.into()))?;
    let config = server_config(address, clients, &authority).map_err(cannot)?;
    Ok((Arc::new(config), authority))
}

fn server_config(
    address: IpAddr,
    clients: Clients,
    authority: &Authority,
) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let address = address.to_string();
    if !names.contains(&address) {
        names.push(address);
    }
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority.issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = provider();
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::Certified => {
            let mut trusted = RootCertStore::empty();
            trusted.add(authority.issuer.der().clone())?;
            let verifier = WebPkiClientVerifier::builder_with_provider(trusted.into(), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(builder.with_single_cert(vec![certificate.der().clone()], key)?)
}

/// Returns the provider that the process has installed, or that of the feature. rustls is not asked to choose: with both it
/// panics.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| {
        #[cfg(feature = "tls-ring")]
        return Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        #[cfg(not(feature = "tls-ring"))]
        return Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    })
}
