//! Connects that fail: the kind of the error, the time limit, and the closed socket.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::support::scripted_peer::{failed_connect, try_connect_with_script, unused_address};
use crate::support::{
    broker::{Broker, Vhost, leave_out},
    within,
};
use actix_pika::testing::{
    Disconnect, HandshakeScript, HandshakeStep, Peer, TestErrorKind, protocol::connection,
};
use actix_pika::{Connector, ErrorKind, connect};

/// CON-03
#[actix::test]
async fn a_connect_to_a_port_where_nothing_listens_is_refused_at_once() {
    let address = unused_address();
    let connect = connect(format!("amqp://guest:guest@{address}/"));
    let error = within("a refused connect", 5, connect).await.unwrap_err();
    assert_eq!((error.kind(), error.io_kind()), (ErrorKind::Io, Some(io::ErrorKind::ConnectionRefused)));
    assert!(error.is_retryable());
    assert_eq!(error.entity(), Some(&*address.to_string()));
}

#[actix::test]
async fn a_host_that_has_no_address_is_an_io_error() {
    let connect = connect("amqp://guest:guest@no-such-host.invalid/");
    let error = within("an unknown host", 20, connect).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.entity(), Some("no-such-host.invalid:5672"));
}

/// In whichever step of the handshake. The error names the method that was awaited.
#[actix::test]
async fn a_silent_server_times_out_at_connect_timeout() {
    let steps = [
        (HandshakeStep::Start, "connection.start"),
        (HandshakeStep::Secure, "connection.tune"),
        (HandshakeStep::Tune, "connection.tune"),
        (HandshakeStep::OpenOk, "connection.open-ok"),
    ];
    for (step, name) in steps {
        let limit = Duration::from_millis(150);
        let started = Instant::now();
        let script = match step {
            HandshakeStep::Secure => HandshakeScript::new().challenge("who are you?").silent_at(step),
            _ => HandshakeScript::new().silent_at(step),
        };
        let connect = failed_connect(|connector| connector.connect_timeout(limit), &script);
        let (error, mut socket, _) = within("the timeout", 10, connect).await;
        assert_eq!(error.kind(), ErrorKind::Timeout, "{step:?}: {error}");
        assert!(error.is_retryable());
        assert!(error.to_string().contains(name), "{error}");
        assert!(started.elapsed() >= limit, "{step:?}: {:?}", started.elapsed());
        socket.expect_eof().await.unwrap();
    }
}

/// The operating system accepts the connection, and the server never does.
#[actix::test]
async fn a_server_that_does_not_accept_times_out_at_connect_timeout() {
    let peer = Peer::listen().await.unwrap();
    let connector = Connector::new(&peer.url()).unwrap().connect_timeout(Duration::from_millis(100));
    let error = within("the timeout", 10, connector.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// Bytes that complete no method do not extend the limit.
#[actix::test]
async fn an_incomplete_frame_does_not_extend_connect_timeout() {
    let script = HandshakeScript::new().raw_at(HandshakeStep::Start, [1, 0, 0, 0, 0, 1, 0, 0, 10]);
    let limit = Duration::from_millis(100);
    let connect = failed_connect(|connector| connector.connect_timeout(limit), &script);
    let (error, ..) = within("the timeout", 10, connect).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[actix::test]
async fn a_disconnect_in_the_handshake_is_an_io_error_that_names_the_method() {
    let names = ["connection.start", "connection.tune", "connection.open-ok"];
    for (step, name) in
        [HandshakeStep::Start, HandshakeStep::Tune, HandshakeStep::OpenOk].into_iter().zip(names)
    {
        for reset in [false, true] {
            let peer = Peer::listen().await.unwrap();
            let server = async {
                let mut socket = peer.accept().await.unwrap();
                socket.handshake_with(&HandshakeScript::new().silent_at(step)).await.unwrap();
                if reset { socket.reset().unwrap() } else { socket.shutdown().await.unwrap() }
            };
            let both = async { tokio::join!(connect(peer.url()), server) };
            let error = within("the disconnect", 10, both).await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{step:?}: {error}");
            let kind = if reset { io::ErrorKind::ConnectionReset } else { io::ErrorKind::UnexpectedEof };
            assert_eq!(error.io_kind(), Some(kind), "{step:?}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

/// AUTH-04
#[actix::test]
async fn a_wrong_password_is_an_auth_error_with_403() {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("right").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    let connect = connect(vhost.url_as(&user, "wrong"));
    let error = within("a wrong password", 10, connect).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    let reason = error.close_reason().expect("the broker's reason");
    assert_eq!(reason.code, 403);
    assert!(reason.text.starts_with("ACCESS_REFUSED"), "{}", reason.text);
    assert!(!error.is_retryable());
}

#[actix::test]
async fn an_unknown_vhost_is_a_vhost_error_with_530() {
    let vhost = Vhost::fresh().await;
    let url = vhost.broker().url("no such vhost");
    let error = within("an unknown vhost", 10, connect(url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Vhost);
    let reason = error.close_reason().expect("the broker's reason");
    assert_eq!((reason.code, reason.method), (530, "connection.open"));
    assert!(reason.text.contains("vhost no such vhost not found"), "{}", reason.text);
    assert!(!error.is_retryable());
}

/// AUTH-08
#[actix::test]
async fn a_vhost_without_permission_is_a_vhost_error_with_530() {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("secret").await;
    let connect = connect(vhost.url_as(&user, "secret"));
    let error = within("a vhost without permission", 10, connect).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Vhost);
    let reason = error.close_reason().expect("the broker's reason");
    assert_eq!(reason.code, 530);
    let text = format!("access to vhost '{}' refused for user '{user}'", vhost.name());
    assert!(reason.text.contains(&text), "{}", reason.text);
}

/// The error shows the first bytes.
#[actix::test]
async fn another_protocol_is_a_protocol_error() {
    let greetings: [(&[u8], &str); 6] = [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 Bad"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH-2.0-OpenSSH_"),
        (b"-ERR unknown command\r\n", "-ERR unknown com"),
        (b"220 mail.example.org ESMTP\r\n", "220 mail.example"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"\0\0\0\0\0\0\0\0", "........"),
    ];
    for (greeting, excerpt) in greetings {
        let script = HandshakeScript::new().raw_at(HandshakeStep::Start, greeting);
        let (error, ..) =
            within("another protocol", 10, failed_connect(|connector| connector, &script)).await;
        let kind = if excerpt == "TLS" { ErrorKind::Tls } else { ErrorKind::Protocol };
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(excerpt), "{error}");
    }
}

/// Connects to the port of the management API.
#[actix::test]
async fn an_http_server_is_a_protocol_io_or_timeout_error() {
    let Some(address) = Broker::under_test().http_address() else {
        return leave_out("the test broker has no server of HTTP, which is a plug-in of RabbitMQ");
    };
    let connector = Connector::new(&format!("amqp://guest:guest@{address}/")).unwrap();
    let connect = connector.connect_timeout(Duration::from_millis(500)).connect();
    let error = within("an HTTP server", 10, connect).await.unwrap_err();
    // Not every server answers a request line without an end.
    let kinds = [ErrorKind::Protocol, ErrorKind::Io, ErrorKind::Timeout];
    assert!(kinds.contains(&error.kind()), "{error:?}");
}

#[actix::test]
async fn another_protocol_version_is_a_protocol_error_that_names_the_version() {
    for (header, version) in [(b"AMQP\0\x01\0\0", "AMQP 0-1-0-0"), (b"AMQP\x01\x01\x00\x0a", "AMQP 1-1-0-10")]
    {
        let script = HandshakeScript::new().raw_at(HandshakeStep::Start, *header);
        let (error, mut socket, _) =
            within("another version", 10, failed_connect(|connector| connector, &script)).await;
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(version), "{error}");
        assert_eq!(socket.expect_eof().await.unwrap(), Disconnect::Closed);
    }
}

#[actix::test]
async fn nothing_is_sent_after_a_start_of_another_version() {
    let script = HandshakeScript::new().version(0, 10);
    let (error, sent) = answer_to_start(&script).await;
    assert_eq!((error, sent), (ErrorKind::Protocol, 0));
}

/// AUTH-06
#[actix::test]
async fn nothing_is_sent_when_no_mechanism_is_shared() {
    for mechanisms in ["KERBEROS NTLM", "", "PLAINER XPLAIN plain"] {
        let script = HandshakeScript::new().mechanisms(mechanisms);
        let (error, sent) = answer_to_start(&script).await;
        assert_eq!((error, sent), (ErrorKind::Auth, 0), "{mechanisms:?}");
    }
}

#[actix::test]
async fn nothing_is_sent_when_the_locale_is_not_offered() {
    let (error, sent) = answer_to_start(&HandshakeScript::new().locales("de_AT eo")).await;
    assert_eq!((error, sent), (ErrorKind::Protocol, 0));
}

/// Sends `connection.start`, and returns the kind of the client's error and the number of frames that it sent.
async fn answer_to_start(script: &HandshakeScript) -> (ErrorKind, usize) {
    let peer = Peer::listen().await.unwrap();
    let server = async {
        let mut socket = peer.accept().await.unwrap();
        // The script fails where it waits for start-ok, because the client has closed the socket.
        let failed = socket.handshake_with(script).await.unwrap_err();
        assert_eq!(failed.kind(), TestErrorKind::Disconnected, "{failed}");
        socket.read_to_end().await.unwrap().len()
    };
    let both = async { tokio::join!(connect(peer.url()), server) };
    let (result, sent) = within("the error", 10, both).await;
    (result.unwrap_err().kind(), sent)
}

/// A NUL, which PLAIN cannot encode, or a start-ok above 4,096 bytes. Nothing is sent.
#[actix::test]
async fn a_login_that_cannot_be_encoded_is_a_limit_error() {
    for url in ["amqp://guest:a%00b@HOST/", "amqp://a%00b:guest@HOST/"] {
        let peer = Peer::listen().await.unwrap();
        let server = async {
            let mut socket = peer.accept().await.unwrap();
            socket.handshake().await.unwrap_err().kind()
        };
        let both = async { tokio::join!(connect(url.replace("HOST", &peer.addr().to_string())), server) };
        let (result, server) = within("a NUL in the login", 10, both).await;
        assert_eq!((result.unwrap_err().kind(), server), (ErrorKind::Limit, TestErrorKind::Disconnected));
    }
    let peer = Peer::listen().await.unwrap();
    let connector = Connector::new(&peer.url()).unwrap().client_property("note", "x".repeat(4096));
    let server = async { peer.accept().await.unwrap().handshake().await.unwrap_err().kind() };
    let both = async { tokio::join!(connector.connect(), server) };
    let (result, server) = within("a long start-ok", 10, both).await;
    assert_eq!((result.unwrap_err().kind(), server), (ErrorKind::Limit, TestErrorKind::Disconnected));
}

/// CON-22: without a close frame the cause is unknown.
#[actix::test]
async fn a_reset_after_tune_ok_is_an_io_error() {
    let peer = Peer::listen().await.unwrap();
    let server = async {
        let mut socket = peer.accept().await.unwrap();
        socket.handshake_with(&HandshakeScript::new().silent_at(HandshakeStep::OpenOk)).await.unwrap();
        socket.reset().unwrap();
    };
    let both = async { tokio::join!(connect(peer.url()), server) };
    let error = within("a reset", 10, both).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("connection.open-ok"), "{error}");
}

/// AMQP requires a `frame_max` of at least 4,096.
#[actix::test]
async fn a_tune_with_a_small_frame_max_is_a_limit_error() {
    let peer = Peer::listen().await.unwrap();
    let server = async {
        let mut socket = peer.accept().await.unwrap();
        socket.handshake_with(&HandshakeScript::new().tune(2047, 1024, 60)).await.unwrap_err().kind()
    };
    let both = async { tokio::join!(connect(peer.url()), server) };
    let (result, server) = within("a small frame_max", 10, both).await;
    assert_eq!((result.unwrap_err().kind(), server), (ErrorKind::Limit, TestErrorKind::Disconnected));
}

/// Codes other than those for login and vhost.
#[actix::test]
async fn another_close_in_the_handshake_is_connection_closed_with_its_code() {
    for (step, code) in
        [(HandshakeStep::Tune, 320), (HandshakeStep::OpenOk, 541), (HandshakeStep::OpenOk, 999)]
    {
        let script = HandshakeScript::new().refuse_at(step, code, "for another reason");
        let (error, ..) = within("the close", 10, failed_connect(|connector| connector, &script)).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionClosed, "{error}");
        let reason = error.close_reason().expect("a reason");
        assert_eq!((reason.code, &*reason.text), (code, "for another reason"));
    }
}

/// PLAIN has no response to a challenge.
#[actix::test]
async fn a_challenge_is_a_protocol_error() {
    let peer = Peer::listen().await.unwrap();
    let server = async {
        let mut socket = peer.accept().await.unwrap();
        let _ = socket.handshake_with(&HandshakeScript::new().challenge("who are you?")).await;
    };
    let both = async { tokio::join!(connect(peer.url()), server) };
    let error = within("a challenge", 10, both).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("connection.secure"), "{error}");
}

/// The future of the connect is dropped during the handshake.
#[actix::test]
async fn a_dropped_connect_closes_its_socket() {
    let peer = Peer::listen().await.unwrap();
    let url = peer.url();
    let client = actix::spawn(async move { connect(url).await.map(drop) });
    let mut socket = peer.accept().await.unwrap();
    socket.handshake_with(&HandshakeScript::new().silent_at(HandshakeStep::Tune)).await.unwrap();
    client.abort();
    within("the end of the socket", 5, socket.expect_eof()).await.unwrap();
}

/// With the default script the connect succeeds, so the scripts above fail for their own reasons.
#[actix::test]
async fn the_default_script_connects() {
    let (result, mut socket, handshake) =
        try_connect_with_script(|connector| connector, &HandshakeScript::new()).await;
    let connection = result.unwrap();
    assert_eq!((&*handshake.mechanism, &*handshake.vhost), ("PLAIN", "/"));
    let server = async {
        let close: connection::Close = socket.expect(0).await.unwrap();
        socket.send(0, connection::CloseOk {}).await.unwrap();
        close.reply_code
    };
    let (closed, code) = tokio::join!(connection.close(), server);
    closed.unwrap();
    assert_eq!(code, 200);
}
