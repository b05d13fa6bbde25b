//! Over a reconnect: certificates that were renewed are used, and while nothing changed, sessions are resumed.

use std::time::Duration;

use actix_pika_actors::{Recovery, TlsFailure, TlsOptions, rustls::HandshakeKind};

use crate::{
    certificates::{Authority, Folder},
    common::at_once,
    handshake::bench,
    server::{Server, ServerSettings},
};

/// TLS-07
#[actix::test]
async fn files_are_read_again_at_each_attempt() {
    let (old, new, folder) = (Authority::new(), Authority::new(), Folder::new("rotation"));
    let ca = folder.write("ca.pem", old.pem());
    let identity = old.client("old");
    let (certificate, key) =
        (folder.write("c.pem", &identity.certificate), folder.write("k.pem", &identity.key));
    let mut settings = ServerSettings::new(old.server(&["localhost"]));
    settings.clients = Some(old.pem());
    let mut server = Server::listen_with(&settings).await;
    let tls = TlsOptions::new().ca_file(&ca).client_certificate(&certificate, &key);
    let client = server.dial_with("localhost", tls, |options| {
        options.recovery = Recovery::fixed(Duration::from_millis(10));
    });
    let first = bench(client, server.accept().await.unwrap()).await;
    let client = first.client;

    // The server has new certificates, the client does not.
    let mut settings = ServerSettings::new(new.server(&["localhost"]));
    settings.clients = Some(new.pem());
    server.change(&settings);
    drop(first.socket);
    for _ in 0..2 {
        let error = server.accept().await.map(drop).unwrap_err();
        assert!(error.to_string().contains("UnknownCA"), "{error}");
    }
    let identity = new.client("new");
    for (name, content) in [("c.pem", identity.certificate), ("k.pem", identity.key), ("ca.pem", new.pem())] {
        folder.write(name, content);
    }
    let stream = at_once("the new certificates are used", async {
        loop {
            if let Ok(stream) = server.accept().await {
                return stream;
            }
        }
    });
    bench(client, stream.await).await.assert_works(1).await;
}

/// Also those of the client: a key that is being replaced is no reason to give up.
#[actix::test]
async fn a_file_that_is_missing_for_a_moment_is_awaited() {
    let (authority, folder) = (Authority::new(), Folder::new("moment"));
    let ca = folder.write("ca.pem", authority.pem());
    let server = Server::listen(authority.server(&["localhost"])).await;
    let client = server.dial_with("localhost", TlsOptions::new().ca_file(&ca), |options| {
        options.recovery = Recovery::fixed(Duration::from_millis(10));
    });
    let first = bench(client, server.accept().await.unwrap()).await;
    std::fs::remove_file(&ca).unwrap();
    let mut state = first.client.state.clone();
    drop(first.socket);
    let waiting = state.wait_for(|state| match state {
        actix_pika_actors::ConnectionState::Reconnecting(error) => {
            error.tls_failure() == Some(TlsFailure::Setup)
        }
        _ => false,
    });
    at_once("the file is missing", waiting).await.unwrap();
    folder.write("ca.pem", authority.pem());
    bench(first.client, server.accept().await.unwrap()).await.assert_works(1).await;
}

/// TLS-07
#[actix::test]
async fn a_session_is_resumed_while_the_certificates_are_the_same() {
    let (authority, folder) = (Authority::new(), Folder::new("resumption"));
    let ca = folder.write("ca.pem", authority.pem());
    let server = Server::listen(authority.server(&["localhost"])).await;
    let client = server.dial_with("localhost", TlsOptions::new().ca_file(&ca), |options| {
        options.recovery = Recovery::fixed(Duration::from_millis(10));
    });
    let stream = server.accept().await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    let first = bench(client, stream).await;
    drop(first.socket);
    let stream = server.accept().await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let second = bench(first.client, stream).await;
    // Another authority beside it is another configuration.
    folder.write("ca.pem", format!("{}{}", authority.pem(), Authority::new().pem()));
    drop(second.socket);
    let stream = server.accept().await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    bench(second.client, stream).await.assert_works(1).await;
}
