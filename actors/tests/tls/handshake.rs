//! Whom the client trusts, and what it calls those whom it does not.

use std::sync::Arc;

use actix_pika_actors::{
    Address, ConnectionState, Error, ErrorKind, OpenChannel, Publish, TlsFailure, TlsOptions,
    rustls::{self, ClientConfig, ProtocolVersion, RootCertStore, crypto::ring},
};
use rcgen::{BasicConstraints, IsCa, date_time_ymd};
use tokio::io::AsyncReadExt;

use crate::{
    certificates::{Authority, Identity},
    common::{Bench, Client, ask, at_once},
    server::{Server, ServerSettings, trusting},
};

/// Connects to `host`, where the server has this certificate, and returns the error of the client. Nothing of AMQP
/// may reach the server.
async fn refused(host: &str, identity: Identity, tls: TlsOptions) -> Error {
    let server = Server::listen(identity).await;
    let client = server.dial(host, tls);
    let serve = async {
        if let Ok(mut stream) = server.accept().await {
            let mut received = Vec::new();
            // With TLS 1.3 the server ends its handshake before the client has verified.
            let _ = stream.read_to_end(&mut received).await;
            assert!(received.is_empty(), "AMQP was sent");
        }
    };
    let (error, ()) = tokio::join!(client.closed(), serve);
    let error = error.expect("a cause");
    assert_eq!((error.kind(), error.entity()), (ErrorKind::Tls, Some(&*format!("{host}:{}", server.port()))));
    error
}

/// TLS-06
#[actix::test]
async fn both_versions_of_tls_carry_publishes_and_confirms() {
    let authority = Authority::new();
    for (version, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut settings = ServerSettings::new(authority.server(&["localhost"]));
        settings.versions = vec![version];
        let server = Server::listen_with(&settings).await;
        let client = server.dial("localhost", trusting(&authority));
        let stream = server.accept().await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        assert_eq!(stream.get_ref().1.server_name(), Some("localhost"));
        let mut bench = bench(client, stream).await;
        let channel = bench.channel(1, OpenChannel::new()).await;
        // Larger than what TLS holds back, and than the buffers of the system.
        let body: Vec<u8> = (0..4 << 20).map(|at: u32| (at % 251) as u8).collect();
        let publish = ask(&channel.actor, Publish::new("", "jobs", body.clone()));
        assert!(bench.socket.expect_publish(1).await.unwrap().body == body);
        bench.socket.confirm(1, 1, false).await.unwrap();
        assert_eq!(publish.answer().await.unwrap().sequence(), Some(1));
    }
}

/// Makes the handshake of AMQP on a stream.
pub async fn bench(
    client: Client,
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> Bench<()> {
    let mut socket = actix_pika_actors::testing::PeerSocket::over(stream);
    let terms = socket.handshake().await.unwrap();
    let mut state = client.state.clone();
    let open = state.wait_for(|state| matches!(state, ConnectionState::Open(_)));
    at_once("the connection opens", open).await.unwrap();
    Bench { peer: (), socket, client, terms }
}

/// TLS-01: the authority is another one, or the certificate is its own, or it is that of an authority.
#[actix::test]
async fn an_unknown_authority_is_refused_before_amqp_is_spoken() {
    let (trusted, other) = (Authority::named("ours"), Authority::new());
    for identity in [
        other.server(&["localhost"]),
        Authority::named("ours").server(&["localhost"]),
        Authority::self_signed(&["localhost"], |_| {}),
    ] {
        let error = refused("localhost", identity.clone(), trusting(&trusted)).await;
        assert_eq!(error.tls_failure(), Some(TlsFailure::UnknownAuthority), "{error}");
        assert!(error.to_string().starts_with("TLS handshake: the server's certificate is not signed by"));
        assert!(!error.is_retryable());
        // Those of the system do not know it either.
        let system = TlsOptions::new().ca_bytes(trusted.pem()).system_authorities(true);
        let error = refused("localhost", identity, system).await;
        assert_eq!(error.tls_failure(), Some(TlsFailure::UnknownAuthority), "{error}");
    }
    let ca = |params: &mut rcgen::CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let identity = Authority::self_signed(&["localhost"], ca);
    let tls = TlsOptions::new().ca_bytes(&identity.certificate);
    let error = refused("localhost", identity, tls).await;
    assert_eq!(error.tls_failure(), Some(TlsFailure::InvalidCertificate), "{error}");
    assert!(error.to_string().contains("CaUsedAsEndEntity"), "{error}");
}

/// TLS-01
#[actix::test]
async fn a_certificate_for_another_name_is_refused_and_the_names_are_told() {
    let authority = Authority::new();
    for (host, names) in [
        ("localhost", &["rabbit.example", "*.localhost"][..]),
        ("localhost", &["127.0.0.1"]),
        ("127.0.0.1", &["localhost"]),
        ("127.0.0.1", &["127.0.0.2"]),
    ] {
        let error = refused(host, authority.server(names), trusting(&authority)).await;
        assert_eq!(error.tls_failure(), Some(TlsFailure::NameMismatch), "{error}");
        assert!(error.to_string().contains(names[0]) && !error.is_retryable(), "{error}");
    }
}

/// An error has a bounded text, whatever the server sends.
#[actix::test]
async fn a_certificate_with_many_names_makes_a_short_error() {
    let authority = Authority::new();
    let names: Vec<String> = (0..500).map(|at| format!("node-{at}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = refused("localhost", authority.server(&names), trusting(&authority)).await;
    assert_eq!(error.tls_failure(), Some(TlsFailure::NameMismatch));
    assert!(error.to_string().len() < 600, "{error}");
}

/// TLS-01
#[actix::test]
async fn a_certificate_out_of_its_time_is_refused() {
    let authority = Authority::new();
    let expired = authority.sign(&["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let error = refused("localhost", expired, trusting(&authority)).await;
    assert_eq!(error.tls_failure(), Some(TlsFailure::Expired), "{error}");
    assert!(error.is_retryable());
    let future = authority.sign(&["localhost"], |params| params.not_before = date_time_ymd(2400, 1, 1));
    let error = refused("localhost", future, trusting(&authority)).await;
    assert_eq!(error.tls_failure(), Some(TlsFailure::NotYetValid), "{error}");
}

/// TLS-05
#[actix::test]
async fn a_server_name_replaces_the_host_and_is_sent() {
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["rabbit.example"])).await;
    let client = server.dial("127.0.0.1", trusting(&authority).server_name("rabbit.example"));
    let stream = server.accept().await.unwrap();
    assert_eq!(stream.get_ref().1.server_name(), Some("rabbit.example"));
    bench(client, stream).await.assert_works(1).await;
    let other = trusting(&authority).server_name("other.example");
    let error = refused("127.0.0.1", authority.server(&["127.0.0.1"]), other).await;
    assert_eq!(error.tls_failure(), Some(TlsFailure::NameMismatch), "{error}");
}

#[actix::test]
async fn an_ip_address_is_verified_and_not_sent() {
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["127.0.0.1"])).await;
    let client = server.dial("127.0.0.1", trusting(&authority));
    let stream = server.accept().await.unwrap();
    assert_eq!(stream.get_ref().1.server_name(), None);
    bench(client, stream).await.assert_works(1).await;
}

/// TLS-05: the first server has a certificate for the name of the second one only, and is passed over.
#[actix::test]
async fn the_name_to_verify_follows_each_address() {
    let authority = Authority::new();
    let first = Server::listen(authority.server(&["127.0.0.1"])).await;
    let second = Server::listen(authority.server(&["127.0.0.1"])).await;
    let client = first.dial_with("localhost", trusting(&authority), |options| {
        options.other_addresses = vec![Address::new("127.0.0.1", second.port())];
    });
    let (refused, stream) = tokio::join!(first.accept(), second.accept());
    if let Ok(mut stream) = refused {
        assert!(stream.read_u8().await.is_err(), "AMQP was sent");
    }
    let bench = bench(client, stream.unwrap()).await;
    assert_eq!(bench.client.opened().await.address, Address::new("127.0.0.1", second.port()));
}

/// TLS-02
#[actix::test]
async fn without_verification_any_certificate_is_accepted() {
    let expired = Authority::self_signed(&["other"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let server = Server::listen(expired).await;
    let client = server.dial("localhost", TlsOptions::new().danger_accept_invalid_certs(true));
    let stream = server.accept().await.unwrap();
    bench(client, stream).await.assert_works(1).await;
}

/// TLS-07
#[actix::test]
async fn a_configuration_of_rustls_is_used_as_it_is() {
    let authority = Authority::new();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().into()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let server = Server::listen(authority.server(&["rabbit.example"])).await;
    let client = server.dial("localhost", TlsOptions::from(config.clone()).server_name("rabbit.example"));
    let stream = server.accept().await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    bench(client, stream).await.assert_works(1).await;
    for other in [
        TlsOptions::from(config.clone()).ca_file("/ca.pem"),
        TlsOptions::from(config.clone()).system_authorities(true),
        TlsOptions::from(config.clone()).client_certificate("/c.pem", "/k.pem"),
        TlsOptions::from(config).danger_accept_invalid_certs(true),
    ] {
        let error = server.dial("localhost", other).closed().await.unwrap();
        assert_eq!(error.tls_failure(), Some(TlsFailure::Setup), "{error}");
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::InvalidInput));
    }
}

/// TLS-11: the server sees `close_notify`, without which it could not tell an end from a cut.
#[actix::test]
async fn an_orderly_close_ends_tls_too() {
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["localhost"])).await;
    let client = server.dial("localhost", trusting(&authority));
    let mut bench = bench(client, server.accept().await.unwrap()).await;
    let close = ask(&bench.client.supervisor, actix_pika_actors::CloseConnection::new());
    bench.socket.answer(0, |_: close::Close| close::CloseOk {}).await.unwrap();
    close.answer().await.unwrap();
    let rest = at_once("the end", bench.socket.read_to_end()).await;
    assert_eq!(rest.unwrap(), [], "an end without close_notify is an error");
}

use actix_pika_actors::testing::protocol::connection as close;
