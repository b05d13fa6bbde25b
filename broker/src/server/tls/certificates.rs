//! Certificates that are made on the spot.

use std::{fmt, net::IpAddr};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

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
    pub(super) fn new() -> Result<Self, rcgen::Error> {
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

    /// Makes the certificate of a server at an address, and its key.
    pub(super) fn certify_server(
        &self,
        address: IpAddr,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
        let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let address = address.to_string();
        if !names.contains(&address) {
            names.push(address);
        }
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((certificate.der().clone(), key))
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
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
