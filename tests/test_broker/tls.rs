//! The client over TLS, with certificates that the broker makes.

use std::time::Duration;

use actix_pika::{Connector, Error, ErrorKind, connect, error::TlsFailure, options::TlsOptions};
use actix_pika_broker::{Broker, Builder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::soon;

fn broker(with: impl FnOnce(Builder) -> Builder) -> Broker {
    with(Broker::builder().tls()).start().unwrap()
}

fn connector(broker: &Broker, options: TlsOptions) -> Connector {
    Connector::new(&broker.tls_url()).unwrap().tls(options)
}

fn trusting(broker: &Broker) -> TlsOptions {
    TlsOptions::new().ca_bytes(broker.ca_pem())
}

async fn error_of(connector: Connector) -> Error {
    soon(connect(connector)).await.expect_err("it connects")
}

#[actix::test]
async fn both_ports_are_served() {
    let broker = broker(|builder| builder);
    let over_tls = soon(connect(connector(&broker, trusting(&broker)))).await.unwrap();
    let plain = soon(connect(broker.url())).await.unwrap();
    let channel = soon(over_tls.channel()).await.unwrap();
    soon(channel.declare_queue("jobs")).await.unwrap();
    // More than one record of TLS.
    let body = vec![b'x'; 1 << 20];
    soon(channel.default_exchange().publish(body.clone(), "jobs")).await.unwrap();
    let queue = soon(plain.channel()).await.unwrap().queue("jobs");
    let delivery = soon(queue.get()).await.unwrap().unwrap();
    assert_eq!(delivery.body(), body);
    delivery.ack().unwrap();
    soon(over_tls.close()).await.unwrap();
    soon(plain.close()).await.unwrap();
}

#[actix::test]
async fn the_authority_in_der_is_the_same() {
    let broker = broker(|builder| builder);
    let options = TlsOptions::new().ca_bytes(broker.ca_der());
    let connection = soon(connect(connector(&broker, options))).await.unwrap();
    soon(connection.close()).await.unwrap();
}

#[actix::test]
async fn an_authority_of_another_broker_is_refused() {
    let (here, other) = (broker(|builder| builder), broker(|builder| builder));
    let error = error_of(connector(&here, trusting(&other))).await;
    assert_eq!(
        (error.kind(), error.tls_failure()),
        (ErrorKind::Tls, Some(TlsFailure::UnknownAuthority)),
        "{error}"
    );
    soon(here.until(|state| state.connections().is_empty())).await;
}

#[actix::test]
async fn each_port_refuses_what_the_other_is_for() {
    let broker = broker(|builder| builder);
    let plain = broker.url().replace(&broker.port().to_string(), &broker.tls_port().to_string());
    let error = error_of(Connector::new(&plain).unwrap()).await;
    assert_eq!(error.tls_failure(), Some(TlsFailure::TlsRequired), "{error}");
    let tls = broker.tls_url().replace(&broker.tls_port().to_string(), &broker.port().to_string());
    let error = error_of(Connector::new(&tls).unwrap().tls(trusting(&broker))).await;
    assert_eq!(error.tls_failure(), Some(TlsFailure::NotTls), "{error}");
}

/// What is not TLS is answered with an alert (record type 21), and the socket closed.
#[actix::test]
async fn a_plain_client_at_the_port_for_tls_is_closed() {
    let broker = broker(|builder| builder);
    let mut socket = TcpStream::connect(("127.0.0.1", broker.tls_port())).await.unwrap();
    socket.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
    let mut answer = Vec::new();
    soon(socket.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}

#[actix::test]
async fn a_client_certificate_is_wanted_where_it_is_said() {
    let broker = broker(Builder::tls_client_certificates);
    let error = error_of(connector(&broker, trusting(&broker))).await;
    assert_eq!(error.tls_failure(), Some(TlsFailure::ClientCertificateWanted), "{error}");
    let client = broker.client_certificate();
    let certified = trusting(&broker)
        .client_certificate_bytes(client.certificate_pem().as_bytes(), client.key_pem().as_bytes());
    let connection = soon(connect(connector(&broker, certified))).await.unwrap();
    assert_eq!(broker.connections()[0].user, "guest");
    soon(connection.close()).await.unwrap();
}

/// A cut is a reset below TLS.
#[actix::test]
async fn a_robust_client_reconnects_over_tls() {
    let broker = broker(|builder| builder);
    let recovery = actix_pika::Recovery::fixed(Duration::from_millis(20));
    let connection = soon(connector(&broker, trusting(&broker)).recovery(recovery).connect()).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    soon(channel.declare_queue("jobs")).await.unwrap();
    for _ in 0..3 {
        broker.cut(broker.connections()[0].id);
        soon(channel.default_exchange().publish("x", "jobs")).await.unwrap();
    }
    broker.assert_messages("jobs", 3, 0);
}
