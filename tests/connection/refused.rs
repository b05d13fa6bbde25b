//! What comes of a connect that cannot succeed: the right kind of error, in time, and nothing left behind.

use std::{
    io,
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::support::scripted_peer::{failed_connect, try_connect_with_script};
use crate::support::{broker::Vhost, within};
use actix_pika::testing::{
    Disconnect, HandshakeScript, HandshakeStep, Peer, TestErrorKind, protocol::connection,
};
use actix_pika::{Connector, ErrorKind, connect};

/// CON-03: the port was free a moment ago, so nothing listens there.
#[actix::test]
async fn a_connect_to_a_port_where_nothing_listens_is_refused_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
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

/// Whichever step it stalls in, the limit is that of the whole connect, and the error names the step.
#[actix::test]
async fn a_mute_peer_is_given_up_at_the_connect_limit() {
    let steps = [
        (HandshakeStep::Start, "connection.start"),
        (HandshakeStep::Secure, "connection.tune"),
        (HandshakeStep::Tune, "connection.tune"),
        (HandshakeStep::OpenOk, "connection.open-ok"),
    ];
    for (step, name) in steps {
        let limit = Duration::from_millis(150);
        let began = Instant::now();
        let script = match step {
            HandshakeStep::Secure => HandshakeScript::new().challenge("who are you?").silent_at(step),
            _ => HandshakeScript::new().silent_at(step),
        };
        let meeting = failed_connect(|connector| connector.connect_timeout(limit), &script);
        let (error, mut socket, _) = within("a mute peer", 10, meeting).await;
        assert_eq!(error.kind(), ErrorKind::Timeout, "{step:?}: {error}");
        assert!(error.is_retryable());
        assert!(error.to_string().contains(name), "{error}");
        assert!(began.elapsed() >= limit, "{step:?}: {:?}", began.elapsed());
        socket.expect_eof().await.unwrap();
    }
}

/// A peer that never accepts: the system takes the connection on its behalf, and nothing comes.
#[actix::test]
async fn a_peer_that_does_not_even_accept_is_given_up_at_the_connect_limit() {
    let peer = Peer::listen().await.unwrap();
    let connector = Connector::new(&peer.url()).unwrap().connect_timeout(Duration::from_millis(100));
    let error = within("a mute peer", 10, connector.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// The limit covers a peer that says something, but never the whole of it.
#[actix::test]
async fn half_a_frame_is_no_sign_of_life() {
    let script = HandshakeScript::new().raw_at(HandshakeStep::Start, [1, 0, 0, 0, 0, 1, 0, 0, 10]);
    let limit = Duration::from_millis(100);
    let meeting = failed_connect(|connector| connector.connect_timeout(limit), &script);
    let (error, ..) = within("half a frame", 10, meeting).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[actix::test]
async fn a_peer_that_hangs_up_in_the_handshake_is_an_io_error_that_names_the_step() {
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
            let error = within("a peer that hangs up", 10, both).await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{step:?}: {error}");
            let kind = if reset { io::ErrorKind::ConnectionReset } else { io::ErrorKind::UnexpectedEof };
            assert_eq!(error.io_kind(), Some(kind), "{step:?}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

/// AUTH-04: what a broker answers to a wrong password.
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

/// Whatever else listens there: the error shows how it begins.
#[actix::test]
async fn a_peer_that_speaks_another_protocol_is_a_protocol_error() {
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
        let (error, ..) = within("a foreign peer", 10, failed_connect(|connector| connector, &script)).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(excerpt), "{error}");
    }
}

/// The management API's own port, which is a real HTTP server.
#[actix::test]
async fn a_real_http_server_is_a_protocol_error_or_hangs_up() {
    let url = std::env::var("MANAGEMENT_URL").unwrap_or_else(|_| "http://127.0.0.1:15672".into());
    let url = url::Url::parse(&url).unwrap();
    let (host, port) = (url.host_str().unwrap(), url.port().unwrap_or(15672));
    let connector = Connector::new(&format!("amqp://guest:guest@{host}:{port}/")).unwrap();
    let connect = connector.connect_timeout(Duration::from_millis(500)).connect();
    let error = within("an HTTP server", 10, connect).await.unwrap_err();
    // Servers differ in whether they answer a line that never ends.
    let kinds = [ErrorKind::Protocol, ErrorKind::Io, ErrorKind::Timeout];
    assert!(kinds.contains(&error.kind()), "{error:?}");
}

#[actix::test]
async fn a_peer_of_another_protocol_version_is_a_protocol_error_that_names_the_version() {
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
async fn a_start_of_another_version_is_a_protocol_error_and_nothing_is_sent() {
    let script = HandshakeScript::new().version(0, 10);
    let (error, said) = answer_to_start(&script).await;
    assert_eq!((error, said), (ErrorKind::Protocol, 0));
}

/// AUTH-06
#[actix::test]
async fn a_peer_without_a_mechanism_of_ours_is_an_auth_error_and_nothing_is_sent() {
    for mechanisms in ["KERBEROS NTLM", "", "PLAINER XPLAIN plain"] {
        let script = HandshakeScript::new().mechanisms(mechanisms);
        let (error, said) = answer_to_start(&script).await;
        assert_eq!((error, said), (ErrorKind::Auth, 0), "{mechanisms:?}");
    }
}

#[actix::test]
async fn a_peer_without_our_locale_is_a_protocol_error_and_nothing_is_sent() {
    let (error, said) = answer_to_start(&HandshakeScript::new().locales("de_AT eo")).await;
    assert_eq!((error, said), (ErrorKind::Protocol, 0));
}

/// Says `connection.start` and counts the frames of the answer.
async fn answer_to_start(script: &HandshakeScript) -> (ErrorKind, usize) {
    let peer = Peer::listen().await.unwrap();
    let server = async {
        let mut socket = peer.accept().await.unwrap();
        // The script fails where it awaits start-ok: the client has hung up.
        let failed = socket.handshake_with(script).await.unwrap_err();
        assert_eq!(failed.kind(), TestErrorKind::Disconnected, "{failed}");
        socket.read_to_end().await.unwrap().len()
    };
    let both = async { tokio::join!(connect(peer.url()), server) };
    let (result, said) = within("an answer to start", 10, both).await;
    (result.unwrap_err().kind(), said)
}

/// PLAIN has no way to say a NUL, and start-ok may be 4,096 bytes long: refused before anything is sent.
#[actix::test]
async fn a_login_that_cannot_be_said_is_a_limit_error() {
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
    let (result, server) = within("a start-ok too long", 10, both).await;
    assert_eq!((result.unwrap_err().kind(), server), (ErrorKind::Limit, TestErrorKind::Disconnected));
}

/// CON-22: no close frame, so nothing says that the login was at fault.
#[actix::test]
async fn a_peer_that_resets_after_tune_ok_is_not_an_auth_error() {
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

/// Frames of less than 4,096 bytes are no AMQP.
#[actix::test]
async fn a_tune_that_breaks_the_protocol_is_a_limit_error() {
    let peer = Peer::listen().await.unwrap();
    let server = async {
        let mut socket = peer.accept().await.unwrap();
        socket.handshake_with(&HandshakeScript::new().tune(2047, 1024, 60)).await.unwrap_err().kind()
    };
    let both = async { tokio::join!(connect(peer.url()), server) };
    let (result, server) = within("a small frame_max", 10, both).await;
    assert_eq!((result.unwrap_err().kind(), server), (ErrorKind::Limit, TestErrorKind::Disconnected));
}

/// Codes that say nothing of login or vhost keep their number.
#[actix::test]
async fn another_refusal_is_a_closed_connection_with_its_code() {
    for (step, code) in
        [(HandshakeStep::Tune, 320), (HandshakeStep::OpenOk, 541), (HandshakeStep::OpenOk, 999)]
    {
        let script = HandshakeScript::new().refuse_at(step, code, "for another reason");
        let (error, ..) = within("a refusal", 10, failed_connect(|connector| connector, &script)).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionClosed, "{error}");
        let reason = error.close_reason().expect("a reason");
        assert_eq!((reason.code, &*reason.text), (code, "for another reason"));
    }
}

/// The answer to a challenge that PLAIN does not have.
#[actix::test]
async fn a_challenge_is_a_protocol_error() {
    let peer = Peer::listen().await.unwrap();
    let server = async {
        let mut socket = peer.accept().await.unwrap();
        drop(socket.handshake_with(&HandshakeScript::new().challenge("who are you?")).await);
    };
    let both = async { tokio::join!(connect(peer.url()), server) };
    let error = within("a challenge", 10, both).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("connection.secure"), "{error}");
}

/// Whoever stops waiting for a connect leaves no connection behind.
#[actix::test]
async fn a_connect_that_is_dropped_hangs_up() {
    let peer = Peer::listen().await.unwrap();
    let url = peer.url();
    let client = actix::spawn(async move { connect(url).await.map(drop) });
    let mut socket = peer.accept().await.unwrap();
    socket.handshake_with(&HandshakeScript::new().silent_at(HandshakeStep::Tune)).await.unwrap();
    client.abort();
    within("the end of the socket", 5, socket.expect_eof()).await.unwrap();
}

/// A peer that is content with everything, so that the scripts above fail for their reasons.
#[actix::test]
async fn a_willing_peer_is_connected_to() {
    let (result, mut socket, terms) =
        try_connect_with_script(|connector| connector, &HandshakeScript::new()).await;
    let connection = result.unwrap();
    assert_eq!((&*terms.mechanism, &*terms.vhost), ("PLAIN", "/"));
    let server = async {
        let close: connection::Close = socket.expect(0).await.unwrap();
        socket.send(0, connection::CloseOk {}).await.unwrap();
        close.reply_code
    };
    let (closed, code) = tokio::join!(connection.close(), server);
    closed.unwrap();
    assert_eq!(code, 200);
}
