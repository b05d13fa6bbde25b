//! Who logs in and how: mechanisms, providers of credentials, secrets that are renewed.

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

/// AUTH-03, AUTH-04, AUTH-05: byte for byte.
#[actix::test]
async fn each_mechanism_has_its_response() {
    let all = HandshakeScript::new().mechanisms("EXTERNAL AMQPLAIN PLAIN");
    for (mechanism, name, response) in [
        (Mechanism::Plain, "PLAIN", &b"\0alice\0hunter2"[..]),
        (Mechanism::AmqPlain, "AMQPLAIN", b"\x05LOGINS\0\0\0\x05alice\x08PASSWORDS\0\0\0\x07hunter2"),
        (Mechanism::External, "EXTERNAL", b""),
    ] {
        let set = |connector: Connector| {
            connector.credentials(Credentials::new("alice", "hunter2")).mechanisms([mechanism])
        };
        let (_, _, terms) = within("a connection", 10, connect_with_script(set, &all)).await;
        assert_eq!((terms.mechanism.as_str(), terms.response.as_slice()), (name, response));
    }
}

/// AUTH-04
#[actix::test]
async fn amqplain_logs_in_at_the_broker() {
    let vhost = Vhost::fresh().await;
    let connector = Connector::new(&vhost.url()).unwrap().mechanisms([Mechanism::AmqPlain]);
    let connection = within("a connection", 10, connector.clone().connect()).await.unwrap();
    within("a channel", 10, connection.channel()).await.unwrap();
    let shown = crate::support::eventually("the broker shows it", 15, async || {
        vhost.connections().await.first().and_then(|c| c["auth_mechanism"].as_str().map(str::to_owned))
    });
    assert_eq!(shown.await, "AMQPLAIN");
    let user = vhost.broker().user().to_owned();
    let wrong = connector.credentials(Credentials::new(user, "not the password"));
    let error = within("a refusal", 10, wrong.connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Auth, 403));
}

/// AUTH-11: asked once at each connect; a password that was rotated is used.
#[actix::test]
async fn a_provider_is_asked_at_every_connect() {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("first").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    let (asked, password) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new("first")));
    let provider = {
        let (user, asked, password) = (user.clone(), asked.clone(), password.clone());
        move || {
            asked.fetch_add(1, Ordering::Relaxed);
            let credentials = Credentials::new(user.clone(), *password.lock().unwrap());
            async move { Ok(credentials) }
        }
    };
    let connector = Connector::new(&vhost.url()).unwrap().credentials(provider);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    within("a connection", 10, connector.clone().connect()).await.unwrap().close().await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    vhost.set_password(&user, "second").await;
    let error = within("a refusal", 10, connector.clone().connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, false));
    *password.lock().unwrap() = "second";
    within("a connection", 10, connector.connect()).await.unwrap().close().await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// A provider that cannot answer: nothing is dialled, and the error is one that may pass.
#[actix::test]
async fn without_credentials_nothing_is_dialled() {
    async fn fails() -> Result<Credentials> {
        Err(Error::credentials("the vault is sealed"))
    }
    async fn panics() -> Result<Credentials> {
        panic!("a bug in the provider")
    }
    let listener = silent_listener();
    let connector = Connector::new(&format!("amqp://{}", listener.local_addr().unwrap())).unwrap();
    let error = within("an error", 5, connector.clone().credentials(fails).connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, true));
    assert!(error.to_string().contains("the vault is sealed"));
    let error = within("an error", 5, connector.clone().credentials(panics).connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, true));
    let hangs =
        connector.connect_timeout(Duration::from_millis(50)).credentials(std::future::pending::<Result<_>>);
    let error = within("a limit", 5, hangs.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("credentials"), "{error}");
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// CON-21: RabbitMQ answers, and the connection stays usable.
#[actix::test]
async fn the_broker_takes_a_new_secret() {
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

/// CON-21: the method's arguments; a late answer is nobody else's.
#[actix::test]
async fn an_answer_after_the_deadline_is_not_taken_for_the_next() {
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
    let (answer, ()) = tokio::join!(connection.update_secret_with(second), peer);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    socket.send(0, connection::UpdateSecretOk {}).await.unwrap();

    let peer = socket.answer(0, |_: connection::UpdateSecret| connection::UpdateSecretOk {});
    let (answer, peer) = tokio::join!(connection.update_secret("three", ""), peer);
    answer.unwrap();
    assert_eq!(peer.unwrap().new_secret.as_bytes(), b"three");
    assert!(!connection.is_closed());
}

/// What RabbitMQ does to a token that it does not accept.
#[actix::test]
async fn a_secret_that_is_refused_costs_the_connection() {
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
    let peer = async {
        socket.expect::<connection::UpdateSecret>(0).await.unwrap();
        socket
            .close_connection(530, "NOT_ALLOWED - New secret was refused by one of the backends")
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(connection.update_secret("bad", "rotation"), peer);
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ConnectionClosed, 530));
    assert_eq!(
        within("the end", 5, connection.closed()).await.unwrap_err().close_reason().unwrap().code,
        530
    );
}

#[actix::test]
async fn a_secret_that_fits_no_frame_is_a_limit_error_and_is_not_sent() {
    let set = |connector: Connector| connector.frame_max(4096);
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(set, &HandshakeScript::new())).await;
    let error = connection.update_secret("x".repeat(4096), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let (closed, heard) = tokio::join!(connection.close(), socket.expect_close());
    closed.unwrap();
    assert_eq!(heard.unwrap().0, 200);
}

/// PRO-12: an answer that nobody waits for.
#[actix::test]
async fn an_unasked_update_secret_ok_is_a_protocol_error() {
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
    socket.send(0, connection::UpdateSecretOk {}).await.unwrap();
    assert_eq!(socket.expect_close().await.unwrap().0, 503);
    let error = within("the end", 5, connection.closed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

/// Tokens 1, 2, 3 and so on, each good for half a second; those that `fails` picks are not to be had.
fn tokens(
    asked: &Arc<AtomicU64>,
    fails: fn(u64) -> bool,
) -> impl actix_pika::options::CredentialsProvider + use<> {
    let asked = asked.clone();
    move || {
        let n = asked.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if fails(n) {
                return Err(Error::credentials("not now"));
            }
            Ok(Credentials::new("", format!("token {n}")).expires_in(Duration::from_millis(500)))
        }
    }
}

/// AUTH-13: at 80 % of the life, again and again, until the connection is closed.
#[actix::test]
async fn credentials_that_expire_are_renewed_until_the_connection_closes() {
    let asked = Arc::new(AtomicU64::new(0));
    let provider = tokens(&asked, |_| false);
    let (connection, mut socket, terms) = within(
        "connect",
        10,
        connect_with_script(|connector| connector.credentials(provider), &HandshakeScript::new()),
    )
    .await;
    assert_eq!(terms.response, b"\0\0token 1");
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    for n in 2..=6 {
        let renewed =
            socket.answer(0, |_: connection::UpdateSecret| connection::UpdateSecretOk {}).await.unwrap();
        assert_eq!(renewed.new_secret.as_bytes(), format!("token {n}").as_bytes());
        assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::SecretUpdated));
    }
    let (closed, heard) = tokio::join!(connection.close(), socket.expect_close());
    closed.unwrap();
    heard.unwrap();
    // Longer than one life: nobody asks for a connection that is closed.
    let so_far = asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(asked.load(Ordering::Relaxed), so_far);
}

/// AUTH-13: a failure is told and tried again before the old token has expired.
#[actix::test]
async fn a_refresh_that_fails_is_told_and_tried_again() {
    let asked = Arc::new(AtomicU64::new(0));
    let provider = tokens(&asked, |n| n == 2);
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
async fn secrets_are_not_shown() {
    let asked = Arc::new(AtomicU64::new(0));
    let connector = Connector::new("amqp://alice:hunter2@h/").unwrap();
    let with_provider = connector.clone().credentials(tokens(&asked, |_| false));
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
