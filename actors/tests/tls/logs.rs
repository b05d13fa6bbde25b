//! What the log says at all levels: a warning whenever a server is not verified, and no secret.

use std::time::Duration;

use actix_pika_actors::{Credentials, Recovery, SharedProvider, TlsOptions};

use crate::{
    certificates::Authority,
    handshake::bench,
    log_lines::LogLines,
    server::{Server, ServerSettings, trusting},
};

/// TLS-14
#[actix::test]
async fn each_connect_without_verification_logs_a_warning() {
    let log_lines = LogLines::install();
    let server = Server::listen(Authority::self_signed(&["other"], |_| {})).await;
    // The only test that does so at this host.
    let tls = TlsOptions::new().danger_accept_invalid_certs(true);
    let client = server.dial_with("127.0.0.1", tls, |options| {
        options.recovery = Recovery::fixed(Duration::from_millis(10));
    });
    let first = bench(client, server.accept().await.unwrap()).await;
    drop(first.socket);
    bench(first.client, server.accept().await.unwrap()).await.assert_works(1).await;
    let lines = log_lines.so_far();
    let warnings = lines.iter().filter(|line| {
        line.starts_with("WARN")
            && line.contains("connecting to \"127.0.0.1\"")
            && line.contains("danger_accept_invalid_certs")
    });
    assert_eq!(warnings.count(), 2);
}

/// TLS-14
#[actix::test]
async fn neither_a_password_nor_a_key_is_shown() {
    const PASSWORD: &str = "hunter2-over-tls";
    let log_lines = LogLines::install();
    let authority = Authority::new();
    let identity = authority.client("app");
    let mut settings = ServerSettings::new(authority.server(&["localhost"]));
    settings.clients = Some(authority.pem());
    let server = Server::listen_with(&settings).await;
    let tls = trusting(&authority)
        .client_certificate_bytes(identity.certificate.as_bytes(), identity.key.as_bytes());
    let mut shown = vec![format!("{tls:?} {tls:#?}")];
    let client = server.dial_with("localhost", tls, |options| {
        options.credentials = SharedProvider::new(Credentials::new("app", PASSWORD));
        shown.push(format!("{options:?}"));
    });
    bench(client, server.accept().await.unwrap()).await.assert_works(1).await;
    let cadata = "amqps://app:hunter2-over-tls@localhost?cadata=TUlJaHVudGVy";
    shown.push(format!("{:?}", actix_pika_actors::ConnectionOptions::from_uris([cadata]).unwrap()));
    let uri: actix_pika_actors::uri::AmqpUri = cadata.parse().unwrap();
    shown.push(format!("{uri} {uri:?}"));
    shown.extend(log_lines.so_far());
    let key = identity.key.lines().filter(|line| !line.starts_with("-----"));
    for secret in key.chain([PASSWORD, "TUlJaHVudGVy"]) {
        for text in &shown {
            assert!(!text.contains(secret), "{secret} is shown: {text}");
        }
    }
}
