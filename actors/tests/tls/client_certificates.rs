//! The client's certificate: shown, wanted, refused.

use actix_pika_actors::{
    ErrorKind, Mechanism, TlsFailure, TlsOptions, rustls,
    testing::{HandshakeScript, PeerSocket},
};

use crate::{
    certificates::{Authority, Identity},
    common::Client,
    handshake::bench,
    server::{Server, ServerSettings, trusting},
};

/// A server that wants certificates of `clients`, for each version of TLS.
async fn servers(authority: &Authority, clients: &Authority) -> Vec<Server> {
    let mut servers = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut settings = ServerSettings::new(authority.server(&["localhost"]));
        settings.clients = Some(clients.pem());
        settings.versions = vec![version];
        servers.push(Server::listen_with(&settings).await);
    }
    servers
}

fn with(tls: TlsOptions, identity: &Identity) -> TlsOptions {
    tls.client_certificate_bytes(identity.certificate.as_bytes(), identity.key.as_bytes())
}

/// TLS-04
#[actix::test]
async fn a_client_certificate_is_shown_and_external_needs_no_password() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = clients.client("app");
    for server in servers(&authority, &clients).await {
        let client = server.dial_with("localhost", with(trusting(&authority), &identity), |options| {
            options.mechanisms = vec![Mechanism::External];
        });
        let stream = server.accept().await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().map(<[_]>::len), Some(1));
        let mut socket = PeerSocket::over(stream);
        let script = HandshakeScript::new().mechanisms("PLAIN EXTERNAL");
        let login = socket.handshake_with(&script).await.unwrap();
        assert_eq!((login.mechanism.as_str(), login.response.as_slice()), ("EXTERNAL", &b""[..]));
        client.opened().await;
    }
}

async fn failure(server: &Server, client: &Client) -> TlsFailure {
    let serve = async {
        if let Ok(stream) = server.accept().await {
            panic!("accepted {stream:?}");
        }
    };
    let (error, ()) = tokio::join!(client.closed(), serve);
    let error = error.expect("a cause");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Tls, false), "{error}");
    error.tls_failure().unwrap()
}

/// TLS-04
#[actix::test]
async fn a_server_that_wants_a_certificate_refuses_a_client_without_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    for server in servers(&authority, &clients).await {
        let client = server.dial("localhost", trusting(&authority));
        assert_eq!(failure(&server, &client).await, TlsFailure::ClientCertificateWanted);
    }
}

#[actix::test]
async fn a_client_certificate_of_another_authority_is_refused() {
    let (authority, clients) = (Authority::new(), Authority::named("clients"));
    for identity in [authority.client("app"), Authority::named("clients").client("app")] {
        for server in servers(&authority, &clients).await {
            let client = server.dial("localhost", with(trusting(&authority), &identity));
            assert_eq!(failure(&server, &client).await, TlsFailure::ClientCertificateRefused);
        }
    }
}

/// A server that does not ask gets none.
#[actix::test]
async fn a_server_that_wants_none_gets_none() {
    let authority = Authority::new();
    let server = Server::listen(authority.server(&["localhost"])).await;
    let client = server.dial("localhost", with(trusting(&authority), &authority.client("app")));
    let stream = server.accept().await.unwrap();
    assert!(stream.get_ref().1.peer_certificates().is_none());
    bench(client, stream).await.assert_works(1).await;
}
