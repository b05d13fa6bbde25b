//! A server of rustls on a loopback port.

use std::{io, sync::Arc};

use actix_pika_actors::{
    Address, ConnectionOptions, TlsOptions,
    rustls::{
        self, RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
    testing::PeerSocket,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    certificates::{Authority, Identity},
    common::{Client, at_once},
};

/// Listens at a loopback port.
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// Makes the configuration of a server.
pub struct ServerSettings {
    pub identity: Identity,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// The authority of clients, which then need a certificate.
    pub clients: Option<String>,
    /// The number of sessions of TLS 1.3 that a client may resume.
    pub tickets: usize,
}

impl ServerSettings {
    pub fn new(identity: Identity) -> Self {
        Self { identity, versions: rustls::ALL_VERSIONS.to_vec(), clients: None, tickets: 2 }
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = CertificateDer::pem_slice_iter(self.identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key).unwrap();
        config.send_tls13_tickets = self.tickets;
        Arc::new(config).into()
    }
}

impl Server {
    pub async fn listen(identity: Identity) -> Self {
        Self::listen_with(&ServerSettings::new(identity)).await
    }

    pub async fn listen_with(settings: &ServerSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: settings.acceptor() }
    }

    /// Uses other settings from now on.
    pub fn change(&mut self, settings: &ServerSettings) {
        self.acceptor = settings.acceptor();
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Starts a client that connects to `host` at this port.
    pub fn dial(&self, host: &str, tls: TlsOptions) -> Client {
        self.dial_with(host, tls, |_| {})
    }

    pub fn dial_with(&self, host: &str, tls: TlsOptions, set: impl FnOnce(&mut ConnectionOptions)) -> Client {
        Client::launch(|options| {
            options.address = Address::new(host, self.port());
            options.tls = Some(tls);
            set(options);
        })
    }

    pub async fn accept_tcp(&self) -> TcpStream {
        at_once("a client connects", self.listener.accept()).await.unwrap().0
    }

    /// Accepts a client and makes the handshake of TLS.
    pub async fn accept(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.accept_tcp().await;
        at_once("the handshake of TLS", self.acceptor.accept(stream)).await
    }

    /// Accepts a client and makes both handshakes.
    pub async fn serve(&self) -> PeerSocket {
        let mut socket = PeerSocket::over(self.accept().await.unwrap());
        socket.handshake().await.unwrap();
        socket
    }
}

/// Trusts this authority.
pub fn trusting(authority: &Authority) -> TlsOptions {
    TlsOptions::new().ca_bytes(authority.pem())
}
