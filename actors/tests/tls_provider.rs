//! With the cryptography of ring and of aws-lc-rs in one program, that of the process's default provider is used. A binary
//! of its own, because it installs one.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "tls/certificates.rs"]
mod certificates;
#[path = "common/mod.rs"]
mod common;
#[path = "tls/server.rs"]
mod server;

use actix_pika_actors::rustls::{CipherSuite, crypto::aws_lc_rs};

use crate::{
    certificates::Authority,
    server::{Server, trusting},
};

/// TLS-15
#[actix::test]
async fn the_installed_provider_is_used() {
    // The servers of these tests prefer another one.
    let wanted = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == wanted);
    provider.install_default().unwrap();
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["localhost"])).await;
    let client = server.dial("localhost", trusting(&authority));
    let stream = server.accept().await.unwrap();
    assert_eq!(stream.get_ref().1.negotiated_cipher_suite().map(|suite| suite.suite()), Some(wanted));
    let mut socket = actix_pika_actors::testing::PeerSocket::over(stream);
    socket.handshake().await.unwrap();
    client.opened().await;
}
