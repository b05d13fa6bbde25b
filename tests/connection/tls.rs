//! TLS at RabbitMQ's own listener. What RabbitMQ does not do is tested in `actors/tests/tls`.

use actix_pika::{
    Connection, Connector, DeclareQueue, Error, ErrorKind, Recovery,
    error::TlsFailure,
    events::ConnectionState,
    options::{Mechanism, TlsOptions},
};
use std::time::Duration;

use crate::support::{
    broker::{Broker, SecondNode, Vhost, leave_out, tls},
    eventually,
    proxy::{Cut, Proxy},
    within,
};

/// The own node that is under test, or else the second one. `None` for the test broker.
async fn node() -> Option<(Broker, Option<SecondNode>)> {
    let under_test = Broker::under_test();
    if under_test.is_embedded() {
        leave_out("the tests of TLS use the listener of a node of RabbitMQ");
        return None;
    }
    if under_test.is_own() {
        return Some((under_test.over_tls(), None));
    }
    let second = SecondNode::start().await;
    Some((second.broker().over_tls(), Some(second)))
}

fn trusting() -> TlsOptions {
    TlsOptions::new().ca_file(tls::ca_file())
}

async fn connect(connector: Connector) -> Result<Connection, Error> {
    within("a connect", 20, connector.connect()).await
}

/// Publishes, gets and consumes.
async fn assert_works(connection: &Connection) {
    let round_trip = async {
        let channel = connection.channel().await?;
        let queue = channel.declare_queue(DeclareQueue::server_named()).await?;
        for size in [0, 16, 100_000, 4 << 20] {
            channel.default_exchange().publish(vec![b'x'; size], queue.name()).await?;
            let message = queue.get().await?.expect("a message");
            assert_eq!(message.body().len(), size);
            message.ack()?;
        }
        channel.close().await
    };
    within("a round trip", 20, round_trip).await.unwrap();
}

/// TLS-06: a smoke test of TLS.
#[actix::test]
async fn a_connection_over_tls_publishes_and_gets() {
    let Some((broker, _node)) = node().await else { return };
    let vhost = Vhost::fresh_on(&broker).await;
    for host in ["127.0.0.1", "localhost"] {
        let url = vhost.url().replace("127.0.0.1", host);
        assert!(url.starts_with("amqps://"));
        let ca = tls::ca_file();
        let by_uri = Connector::new(&format!("{url}?cacertfile={}", ca.display())).unwrap();
        for connector in [by_uri, Connector::new(&url).unwrap().tls(trusting())] {
            let connection = connect(connector).await.unwrap();
            assert_works(&connection).await;
            connection.close().await.unwrap();
        }
    }
}

/// TLS-01, TLS-09: refusals of either side, and the wrong port.
#[actix::test]
async fn each_failure_has_its_name() {
    let Some((broker, _node)) = node().await else { return };
    let vhost = Vhost::fresh_on(&broker).await;
    let unknown = TlsOptions::new().ca_file(tls::client_files()[0].clone());
    let plain = tls::without_tls(&vhost.url());
    let [tls_to_plain, plain_to_tls] =
        [plain.replace("amqp://", "amqps://"), vhost.url().replace("amqps://", "amqp://")];
    let connector = |url: &str| Connector::new(url).unwrap();
    for (connector, failure) in [
        (connector(&vhost.url()).tls(unknown), TlsFailure::UnknownAuthority),
        (connector(&vhost.url()).tls(trusting().server_name("other.example")), TlsFailure::NameMismatch),
        (connector(&tls_to_plain).tls(trusting()), TlsFailure::NotTls),
        (connector(&plain_to_tls), TlsFailure::TlsRequired),
    ] {
        let error = connect(connector).await.unwrap_err();
        assert_eq!((error.kind(), error.tls_failure()), (ErrorKind::Tls, Some(failure)), "{error}");
    }
}

/// TLS-04, AUTH-05: EXTERNAL takes the user from the certificate.
#[actix::test]
async fn a_client_certificate_logs_in() {
    let Some((broker, _node)) = node().await else { return };
    let vhost = Vhost::fresh_on(&broker.over_tls_with_certificates()).await;
    vhost.set_password(tls::CLIENT, "unused").await;
    vhost.permit(tls::CLIENT, ".*", ".*", ".*").await;
    let [certificate, key] = tls::client_files();
    let url = vhost.url_as("nobody", "nothing");
    let external = format!(
        "{url}?auth_mechanism=EXTERNAL&cacertfile={}&certfile={}&keyfile={}",
        tls::ca_file().display(),
        certificate.display(),
        key.display()
    );
    let connection = connect(Connector::new(&external).unwrap()).await.unwrap();
    assert_works(&connection).await;
    let user = eventually("the connection is listed", 20, async || {
        vhost.connections().await.first().and_then(|connection| connection.user.clone())
    });
    assert_eq!(user.await, tls::CLIENT);
    connection.close().await.unwrap();

    let error = connect(Connector::new(&vhost.url()).unwrap().tls(trusting())).await.unwrap_err();
    assert_eq!(error.tls_failure(), Some(TlsFailure::ClientCertificateWanted), "{error}");
    let other = rcgen::generate_simple_self_signed(["app".to_owned()]).unwrap();
    let tls = trusting().client_certificate_bytes(other.cert.pem(), other.signing_key.serialize_pem());
    let error = connect(Connector::new(&vhost.url()).unwrap().tls(tls)).await.unwrap_err();
    assert_eq!(error.tls_failure(), Some(TlsFailure::ClientCertificateRefused), "{error}");

    // Where certificates are not wanted, the broker does not offer EXTERNAL to a client without one.
    let url = Vhost::fresh_on(&broker).await.url();
    let connector = Connector::new(&url).unwrap().tls(trusting()).mechanisms([Mechanism::External]);
    let error = connect(connector).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
}

/// TLS-12: a cut is a loss, and the next connection is verified again.
#[actix::test]
async fn a_connection_over_tls_recovers() {
    let Some((broker, _node)) = node().await else { return };
    let vhost = Vhost::fresh_on(&broker).await;
    let proxy = Proxy::to(&broker.address());
    let connector = Connector::new(&proxy.url(&vhost.url())).unwrap();
    let recovery = Recovery::fixed(Duration::from_millis(20));
    let connection = connect(connector.tls(trusting()).recovery(recovery)).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    for (accepted, how) in [(2, Cut::Rst), (3, Cut::Fin)] {
        proxy.cut_all(how);
        within("a reconnect", 20, proxy.wait_for_accepted(accepted)).await;
        let publish = channel.default_exchange().publish("kept", "jobs");
        within("a publish", 20, publish).await.unwrap();
        let message = within("a message", 20, queue.get()).await.unwrap().expect("a message");
        message.ack().unwrap();
    }
    assert!(matches!(connection.state(), ConnectionState::Open(_)));
    connection.close().await.unwrap();
}
