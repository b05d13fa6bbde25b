//! The other end does not use TLS, or the client does not, or they have nothing in common.

use std::io;

use actix_pika_actors::{Address, ErrorKind, TlsFailure, TlsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    certificates::Authority,
    common::Client,
    server::{Server, trusting},
};

/// TLS-09: RabbitMQ answers with the version of AMQP that it speaks, and closes the socket.
#[actix::test]
async fn tls_to_a_plain_port_is_named() {
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["localhost"])).await;
    for answer in
        [&b"AMQP\0\0\x09\x01"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail.example ESMTP\r\n"]
    {
        let client = server.dial("localhost", trusting(&authority));
        let mut stream = server.accept_tcp().await;
        stream.write_all(answer).await.unwrap();
        let error = client.closed().await.unwrap();
        assert_eq!(error.tls_failure(), Some(TlsFailure::NotTls), "{error}");
        assert!(error.to_string().contains("5671") && error.is_retryable(), "{error}");
        let mut hello = Vec::new();
        let _ = stream.read_to_end(&mut hello).await;
        assert_eq!(hello.first(), Some(&0x16), "only a handshake of TLS was sent");
    }
    let client = server.dial("localhost", trusting(&authority));
    drop(server.accept_tcp().await);
    let error = client.closed().await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().starts_with("TLS handshake: "), "{error}");
}

/// TLS-09
#[actix::test]
async fn plain_amqp_to_a_port_of_tls_is_named() {
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["localhost"])).await;
    let client = Client::launch(|options| options.address = Address::new("localhost", server.port()));
    let refused = server.accept().await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    let error = client.closed().await.unwrap();
    assert_eq!((error.kind(), error.tls_failure()), (ErrorKind::Tls, Some(TlsFailure::TlsRequired)));
    assert!(error.to_string().contains("amqps"), "{error}");
}

/// TLS-06: a server with TLS 1.1 at most answers with an alert.
#[actix::test]
async fn a_server_without_a_common_version_is_named() {
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["localhost"])).await;
    for alert in [[0x15, 3, 2, 0, 2, 2, 70], [0x15, 3, 3, 0, 2, 2, 40]] {
        let client = server.dial("localhost", trusting(&authority));
        let mut stream = server.accept_tcp().await;
        stream.write_all(&alert).await.unwrap();
        let error = client.closed().await.unwrap();
        assert_eq!(error.tls_failure(), Some(TlsFailure::Incompatible), "{error}");
    }
}

#[actix::test]
async fn a_host_that_is_no_name_is_refused() {
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["localhost"])).await;
    let error = server.dial("127.0.0.1", trusting(&authority).server_name("no name")).closed().await.unwrap();
    assert_eq!(error.tls_failure(), Some(TlsFailure::Setup), "{error}");
}

/// URI-11
#[actix::test]
async fn tls_options_beside_an_amqp_uri_are_refused() {
    for (uri, tls) in [("amqp://localhost:1", Some(TlsOptions::new())), ("amqps://localhost:1", None)] {
        let mut options = actix_pika_actors::ConnectionOptions::from_uris([uri]).unwrap();
        options.tls = tls;
        let client = Client::launch(|set| *set = options);
        let error = client.closed().await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Uri, "{error}");
    }
}
