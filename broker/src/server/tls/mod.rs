//! A port for TLS beside the plain one.

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
mod certificates;
mod handshake;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
mod identity;
#[cfg(all(test, feature = "tls-ring"))]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
pub use self::certificates::ClientCertificate;
pub(super) use self::handshake::shake_hands;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
use self::{
    certificates::Authority,
    identity::{Clients, Identity, Key, Made},
};
use super::{
    builder::{Builder, StartError},
    handle::Broker,
    port::{BoundPort, Security},
};

/// What a builder says of TLS.
#[derive(Debug, Default)]
pub(super) struct TlsSettings {
    port: u16,
    /// One of the test, instead of what the rest says.
    config: Option<Arc<ServerConfig>>,
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    identity: Identity,
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    clients: Clients,
}

/// TLS of a running broker.
#[derive(Debug)]
pub(super) struct Tls {
    address: SocketAddr,
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    authority: Option<Authority>,
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    client: Option<ClientCertificate>,
}

impl TlsSettings {
    /// Listens on the port for TLS, if there is to be one.
    pub(super) fn listen(
        settings: Option<&Self>,
        address: IpAddr,
    ) -> Result<Option<(Tls, BoundPort)>, StartError> {
        let Some(settings) = settings else { return Ok(None) };
        let cannot =
            |error| StartError::new(format!("cannot listen on {address}:{} for TLS", settings.port), error);
        #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
        let Made { config, authority, client } = settings.make(address)?;
        #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
        let config = settings.config.clone().ok_or_else(|| {
            StartError::new("TLS without Builder::tls_config", std::io::ErrorKind::InvalidInput.into())
        })?;
        let security = Security::Tls(TlsAcceptor::from(config));
        let port = BoundPort::bind((address, settings.port), security).map_err(cannot)?;
        let tls = Tls {
            address: port.address(),
            #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
            authority,
            #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
            client,
        };
        Ok(Some((tls, port)))
    }
}

impl Builder {
    fn tls_settings(&mut self) -> &mut TlsSettings {
        self.tls.get_or_insert_default()
    }

    /// Listens for TLS, too, with certificates made on the spot for `localhost`, the loopback addresses and the
    /// [address](Self::address). A broker in memory has no TLS.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().tls().start().unwrap();
    /// assert!(broker.tls_url().starts_with("amqps://guest:guest@127.0.0.1:"));
    /// assert!(broker.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
    /// ```
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    pub fn tls(mut self) -> Self {
        self.tls_settings();
        self
    }

    /// Has clients show a certificate that the authority of the broker has signed: `verify_peer` and
    /// `fail_if_no_peer_cert` of RabbitMQ. They still log in by name and password. Not with
    /// [`tls_config`](Self::tls_config) and [`tls_identity`](Self::tls_identity): the start fails.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().tls_client_certificates().start().unwrap();
    /// let client = broker.client_certificate();
    /// assert!(client.key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
    /// ```
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    pub fn tls_client_certificates(mut self) -> Self {
        self.tls_settings().clients = Clients::CertifiedByBroker;
        self
    }

    /// Listens for TLS, too, with this chain of certificates and the key of the first one, all in PEM, instead of ones that
    /// are made on the spot. What cannot be read, and a key of another certificate, fail the start.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika_broker::Broker;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (chain, key) = (std::fs::read("server.pem")?, std::fs::read("server.key")?);
    /// let broker = Broker::builder().tls_identity(chain, key).start()?;
    /// # Ok(()) }
    /// ```
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    pub fn tls_identity(mut self, certificates: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls_settings().identity =
            Identity::Pem { certificates: certificates.into(), key: Key(key.into().into()) };
        self
    }

    /// Has clients show a certificate that one of these authorities, in PEM, has signed: `verify_peer` and
    /// `fail_if_no_peer_cert` of RabbitMQ with its `cacertfile`. They still log in by name and password.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika_broker::Broker;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = Broker::builder().tls_client_authority(std::fs::read("clients.pem")?).start()?;
    /// # Ok(()) }
    /// ```
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
    pub fn tls_client_authority(mut self, authorities: impl Into<Vec<u8>>) -> Self {
        self.tls_settings().clients = Clients::Certified(authorities.into());
        self
    }

    /// Listens for TLS, too, with a configuration of rustls, which says all of certificates: other settings of these
    /// fail the start.
    ///
    /// # Examples
    /// ```
    /// # use std::sync::Arc;
    /// # use actix_pika_broker::{Builder, rustls::ServerConfig};
    /// fn with(builder: Builder, config: ServerConfig) -> Builder {
    ///     builder.tls_config(Arc::new(config))
    /// }
    /// ```
    pub fn tls_config(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls_settings().config = Some(config);
        self
    }

    /// Listens for TLS, too, on this port; 0, a free one, unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika_broker::Broker;
    /// let usual = Broker::builder().port(5672).tls_port(5671);
    /// ```
    pub fn tls_port(mut self, port: u16) -> Self {
        self.tls_settings().port = port;
        self
    }
}

impl Broker {
    pub(super) fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Returns the port for TLS, or 0 if there is none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert_eq!(Broker::start().unwrap().tls_port(), 0);
    /// ```
    pub fn tls_port(&self) -> u16 {
        self.tls.as_ref().map_or(0, |tls| tls.address.port())
    }

    /// Returns the `amqps` URL of the virtual host `/` for the user `guest`.
    ///
    /// # Panics
    /// Without TLS.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// # #[cfg(feature = "tls-ring")]
    /// println!("{}", Broker::builder().tls().start().unwrap().tls_url());
    /// ```
    #[track_caller]
    pub fn tls_url(&self) -> String {
        let Some(tls) = &self.tls else { panic!("this broker has no TLS: Builder::tls") };
        format!("amqps://guest:guest@{}/%2f", tls.address)
    }
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
impl Broker {
    /// Returns the certificate of the authority that clients have to trust, in PEM.
    ///
    /// # Panics
    /// If the broker has made none: without [`Builder::tls`], or with [`Builder::tls_config`] or
    /// [`Builder::tls_identity`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// // For `TlsOptions::ca_bytes` of actix-pika.
    /// let authority = Broker::builder().tls().start().unwrap().ca_pem();
    /// ```
    #[track_caller]
    pub fn ca_pem(&self) -> String {
        self.authority().pem()
    }

    /// Returns the same certificate in DER.
    ///
    /// # Panics
    /// As [`ca_pem`](Self::ca_pem).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let authority = Broker::builder().tls().start().unwrap().ca_der();
    /// ```
    #[track_caller]
    pub fn ca_der(&self) -> Vec<u8> {
        self.authority().der()
    }

    /// Returns a certificate for a client, and its key.
    ///
    /// # Panics
    /// As [`ca_pem`](Self::ca_pem), and with [`Builder::tls_client_authority`], since it would not be taken.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// // For `TlsOptions::client_certificate_bytes` of actix-pika.
    /// let client = Broker::builder().tls_client_certificates().start().unwrap().client_certificate();
    /// ```
    #[track_caller]
    pub fn client_certificate(&self) -> ClientCertificate {
        match self.tls.as_ref().and_then(|tls| tls.client.clone()) {
            Some(client) => client,
            None => {
                panic!("this broker has made no certificate for clients: Builder::tls_client_certificates")
            }
        }
    }

    #[track_caller]
    fn authority(&self) -> &Authority {
        match self.tls.as_ref().and_then(|tls| tls.authority.as_ref()) {
            Some(authority) => authority,
            None => panic!("this broker has made no certificates: Builder::tls"),
        }
    }
}
