//! Authentication: mechanisms, credentials providers, and `connection.update-secret`.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::scripted_peer::{connect_with_script, silent_listener};
use crate::support::{broker::Vhost, within};
use actix_pika::testing::{HandshakeScript, Probe, protocol::connection};
use actix_pika::{
    ConnectionEvent, Connector, Credentials, Error, ErrorKind, Result, message::UpdateSecret,
    options::Mechanism,
};

/// AUTH-03, AUTH-04, AUTH-05
#[actix::test]
async fn each_mechanism_sends_its_response() {
    let all = HandshakeScript::new().mechanisms("EXTERNAL AMQPLAIN PLAIN");
    for (mechanism, name, response) in [
        (Mechanism::Plain, "PLAIN", &b"\0alice\0hunter2"[..]),
        (Mechanism::AmqPlain, "AMQPLAIN", b"\x05LOGINS\0\0\0\x05alice\x08PASSWORDS\0\0\0\x07hunter2"),
        (Mechanism::External, "EXTERNAL", b""),
    ] {
        let settings = |connector: Connector| {
            connector.credentials(Credentials::new("alice", "hunter2")).mechanisms([mechanism])
        };
        let (_, _, handshake) = within("a connection", 10, connect_with_script(settings, &all)).await;
        assert_eq!((handshake.mechanism.as_str(), handshake.response.as_slice()), (name, response));
    }
}

/// AUTH-04
#[actix::test]
async fn amqplain_works_with_the_broker() {
    let vhost = Vhost::fresh().await;
    let connector = Connector::new(&vhost.url()).unwrap().mechanisms([Mechanism::AmqPlain]);
    let connection = within("a connection", 10, connector.clone().connect()).await.unwrap();
    within("a channel", 10, connection.channel()).await.unwrap();
    let mechanism = crate::support::eventually("the API shows the mechanism", 15, async || {
        vhost.connections().await.first().and_then(|connection| connection.mechanism.clone())
    });
    assert_eq!(mechanism.await, "AMQPLAIN");
    let user = vhost.broker().user().to_owned();
    let wrong = connector.credentials(Credentials::new(user, "not the password"));
    let error = within("the error", 10, wrong.connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Auth, 403));
}

/// AUTH-11: once. A changed password is used.
#[actix::test]
async fn a_provider_is_called_at_each_connect() {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("first").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    let (calls, password) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new("first")));
    let provider = {
        let (user, calls, password) = (user.clone(), calls.clone(), password.clone());
        move || {
            calls.fetch_add(1, Ordering::Relaxed);
            let credentials = Credentials::new(user.clone(), *password.lock().unwrap());
            async move { Ok(credentials) }
        }
    };
    let connector = Connector::new(&vhost.url()).unwrap().credentials(provider);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    within("a connection", 10, connector.clone().connect()).await.unwrap().close().await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);

    vhost.set_password(&user, "second").await;
    let error = within("the error", 10, connector.clone().connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, false));
    *password.lock().unwrap() = "second";
    within("a connection", 10, connector.connect()).await.unwrap().close().await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

/// When the provider fails, panics or does not return. The error is retryable.
#[actix::test]
async fn no_address_is_dialled_without_credentials() {
    async fn fails() -> Result<Credentials> {
        Err(Error::credentials("the vault is sealed"))
    }
    async fn panics() -> Result<Credentials> {
        panic!("a bug in the provider")
    }
    let listener = silent_listener();
    let connector = Connector::new(&format!("amqp://{}", listener.local_addr().unwrap())).unwrap();
    let error = within("the error", 5, connector.clone().credentials(fails).connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, true));
    assert!(error.to_string().contains("the vault is sealed"));
    let error = within("the error", 5, connector.clone().credentials(panics).connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, true));
    let pending =
        connector.connect_timeout(Duration::from_millis(50)).credentials(std::future::pending::<Result<_>>);
    let error = within("the timeout", 5, pending.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("credentials"), "{error}");
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// CON-21: the connection stays usable.
#[actix::test]
async fn the_broker_accepts_a_new_secret() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, actix_pika::connect(vhost.url())).await.unwrap();
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    within("update-secret-ok", 10, connection.update_secret("another", "rotation")).await.unwrap();
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::SecretUpdated));
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    within("a queue", 10, channel.declare_queue("q")).await.unwrap();
    within("close", 10, connection.close()).await.unwrap();
    let error = connection.update_secret("third", "too late").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
}

/// CON-21
#[actix::test]
async fn a_late_update_secret_ok_does_not_answer_the_next_call() {
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
    let slow = UpdateSecret::new("one", "r".repeat(300)).deadline(Duration::from_millis(100));
    let error = within("a deadline", 5, connection.update_secret_with(slow)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true));
    let first: connection::UpdateSecret = socket.expect(0).await.unwrap();
    assert_eq!((first.new_secret.as_bytes(), first.reason.as_str().len()), (&b"one"[..], 255));

    let second = UpdateSecret::new("two", "again").deadline(Duration::from_millis(300));
    let peer = async {
        let second: connection::UpdateSecret = socket.expect(0).await.unwrap();
        assert_eq!((second.new_secret.as_bytes(), second.reason.as_str()), (&b"two"[..], "again"));
        socket.send(0, connection::UpdateSecretOk {}).await.unwrap();
    };
    let (result, ()) = tokio::join!(connection.update_secret_with(second), peer);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    socket.send(0, connection::UpdateSecretOk {}).await.unwrap();

    let peer = socket.answer(0, |_: connection::UpdateSecret| connection::UpdateSecretOk {});
    let (result, update) = tokio::join!(connection.update_secret("three", ""), peer);
    result.unwrap();
    assert_eq!(update.unwrap().new_secret.as_bytes(), b"three");
    assert!(!connection.is_closed());
}

/// RabbitMQ closes the connection when it does not accept a token.
#[actix::test]
async fn a_refused_secret_closes_the_connection() {
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
    let peer = async {
        socket.expect::<connection::UpdateSecret>(0).await.unwrap();
        socket
            .close_connection(530, "NOT_ALLOWED - New secret was refused by one of the backends")
            .await
            .unwrap();
    };
    let (result, ()) = tokio::join!(connection.update_secret("bad", "rotation"), peer);
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ConnectionClosed, 530));
    assert_eq!(
        within("the end", 5, connection.closed()).await.unwrap_err().close_reason().unwrap().code,
        530
    );
}

#[actix::test]
async fn a_secret_above_frame_max_is_a_limit_error_and_is_not_sent() {
    let settings = |connector: Connector| connector.frame_max(4096);
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(settings, &HandshakeScript::new())).await;
    let error = connection.update_secret("x".repeat(4096), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let (closed, sent) = tokio::join!(connection.close(), socket.expect_close());
    closed.unwrap();
    assert_eq!(sent.unwrap().0, 200);
}

/// PRO-12
#[actix::test]
async fn an_unexpected_update_secret_ok_is_a_protocol_error() {
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
    socket.send(0, connection::UpdateSecretOk {}).await.unwrap();
    assert_eq!(socket.expect_close().await.unwrap().0, 503);
    let error = within("the end", 5, connection.closed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

/// Returns a provider of "token 1", "token 2" and so on, each valid for half a second. Calls that `fails` selects fail.
fn tokens(
    calls: &Arc<AtomicU64>,
    fails: fn(u64) -> bool,
) -> impl actix_pika::options::CredentialsProvider + use<> {
    let calls = calls.clone();
    move || {
        let n = calls.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if fails(n) {
                return Err(Error::credentials("not now"));
            }
            Ok(Credentials::new("", format!("token {n}")).expires_in(Duration::from_millis(500)))
        }
    }
}

/// AUTH-13: after 80 % of their validity.
#[actix::test]
async fn credentials_that_expire_are_renewed_until_the_connection_closes() {
    let calls = Arc::new(AtomicU64::new(0));
    let provider = tokens(&calls, |_| false);
    let (connection, mut socket, handshake) = within(
        "connect",
        10,
        connect_with_script(|connector| connector.credentials(provider), &HandshakeScript::new()),
    )
    .await;
    assert_eq!(handshake.response, b"\0\0token 1");
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    for n in 2..=6 {
        let renewed =
            socket.answer(0, |_: connection::UpdateSecret| connection::UpdateSecretOk {}).await.unwrap();
        assert_eq!(renewed.new_secret.as_bytes(), format!("token {n}").as_bytes());
        assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::SecretUpdated));
    }
    let (closed, sent) = tokio::join!(connection.close(), socket.expect_close());
    closed.unwrap();
    sent.unwrap();
    // Longer than a token is valid.
    let before = calls.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(calls.load(Ordering::Relaxed), before);
}

/// AUTH-13: before the old token expires.
#[actix::test]
async fn a_failed_refresh_is_reported_and_retried() {
    let calls = Arc::new(AtomicU64::new(0));
    let provider = tokens(&calls, |n| n == 2);
    let (connection, mut socket, _) = within(
        "connect",
        10,
        connect_with_script(|connector| connector.credentials(provider), &HandshakeScript::new()),
    )
    .await;
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    match probe.next().await.unwrap() {
        ConnectionEvent::RefreshFailed(error) => assert_eq!(error.kind(), ErrorKind::Auth),
        other => panic!("{other:?}"),
    }
    let renewed =
        socket.answer(0, |_: connection::UpdateSecret| connection::UpdateSecretOk {}).await.unwrap();
    assert_eq!(renewed.new_secret.as_bytes(), b"token 3");
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::SecretUpdated));
    assert!(!connection.is_closed());
}

/// AUTH-12, URI-12
#[actix::test]
async fn debug_output_has_no_secrets() {
    let calls = Arc::new(AtomicU64::new(0));
    let connector = Connector::new("amqp://alice:hunter2@h/").unwrap();
    let with_provider = connector.clone().credentials(tokens(&calls, |_| false));
    let update = UpdateSecret::new("hunter2", "rotation");
    let credentials = Credentials::new("alice", "hunter2");
    let shown = format!("{connector:?} {with_provider:?} {update:#?} {credentials:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let (connection, ..) = within(
        "connect",
        10,
        connect_with_script(|connector| connector.credentials(credentials), &HandshakeScript::new()),
    )
    .await;
    assert!(!format!("{connection:?} {:?}", connection.state()).contains("hunter2"));
}
