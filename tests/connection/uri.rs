//! The effect of URI parameters on a connection.

use std::time::{Duration, Instant};

use crate::support::broker::Vhost;
use crate::support::scripted_peer::{accept_with_script, silent_listener, unused_address};
use crate::support::within;
use actix_pika::testing::{ClientHandshake, HandshakeScript, Peer, types::AMQPValue};
use actix_pika::{Connector, Credentials, ErrorKind, options::Mechanism};

/// Connects to a peer with these URI parameters, and returns what the client sent in the handshake.
async fn handshake_with(query: &str, script: &HandshakeScript) -> ClientHandshake {
    let peer = Peer::listen().await.unwrap();
    let connector = Connector::new(&format!("{}?{query}", peer.url())).unwrap();
    let both = async { tokio::join!(connector.connect(), accept_with_script(&peer, script)) };
    let (connection, (_, handshake)) = within("a connection", 10, both).await;
    connection.unwrap();
    handshake
}

/// Asserts that the URI is invalid, and returns the error text.
fn invalid_uri(uri: &str) -> String {
    let error = Connector::new(uri).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uri, "{uri}");
    error.to_string()
}

/// URI-10, CON-08, CON-09
#[actix::test]
async fn limits_and_name_are_sent_to_the_server() {
    let handshake =
        handshake_with("heartbeat=7&channel_max=12&frame_max=8192&name=my%20app", &HandshakeScript::new())
            .await;
    assert_eq!((handshake.heartbeat, handshake.channel_max, handshake.frame_max), (7, 12, 8192));
    let name = handshake.properties.inner().get("connection_name");
    assert_eq!(name, Some(&AMQPValue::LongString("my app".into())));
    let handshake = handshake_with("heartbeat=0&channel_max=0&frame_max=0", &HandshakeScript::new()).await;
    assert_eq!((handshake.heartbeat, handshake.channel_max, handshake.frame_max), (0, 2047, 131_072));
}

/// URI-05, HB-07: without the parameter the server's interval applies. A 0 on either side turns heartbeats off.
#[actix::test]
async fn the_heartbeat_of_the_uri_limits_that_of_tune_ok() {
    for (query, offered, sent) in [
        ("", 60, 60),
        ("", 0, 0),
        ("heartbeat=0", 60, 0),
        ("heartbeat=10", 60, 10),
        ("heartbeat=65535", 60, 60),
        ("heartbeat=10&timeout=1000", 0, 0),
    ] {
        let handshake = handshake_with(query, &HandshakeScript::new().tune(2047, 131_072, offered)).await;
        assert_eq!(handshake.heartbeat, sent, "{query}, offered {offered}");
    }
}

/// URI-02, URI-03: including the defaults.
#[actix::test]
async fn a_uri_and_builder_settings_send_the_same_handshake() {
    let handshake = async |connector: fn(&Peer) -> Connector| {
        let peer = Peer::listen().await.unwrap();
        let script = HandshakeScript::new();
        let both = async { tokio::join!(connector(&peer).connect(), accept_with_script(&peer, &script)) };
        let (connection, (_, handshake)) = within("a connection", 10, both).await;
        connection.unwrap();
        handshake
    };
    let host = |peer: &Peer| Connector::host("127.0.0.1", peer.addr().port());
    let defaults = handshake(|peer| Connector::new(&peer.url()).unwrap()).await;
    assert_eq!(handshake(host).await, defaults);
    let uri = handshake(|peer| {
        let query = "heartbeat=7&channel_max=12&frame_max=8192&name=my%20app&auth=amqplain";
        Connector::new(&format!("amqp://j%40ne:p%2Fw%25@{}/v%2Fh%3F?{query}", peer.addr())).unwrap()
    });
    let parts = handshake(|peer| {
        Connector::host("127.0.0.1", peer.addr().port())
            .credentials(Credentials::new("j@ne", "p/w%"))
            .vhost("v/h?")
            .heartbeat(Duration::from_secs(7))
            .channel_max(12)
            .frame_max(8192)
            .name("my app")
            .mechanisms([Mechanism::AmqPlain])
    });
    let (uri, parts) = (uri.await, parts.await);
    assert_eq!(uri, parts);
    assert_ne!(uri, defaults);
}

/// URI-02, URI-08: with the real broker, and with an IPv6 address.
#[actix::test]
async fn builder_settings_need_no_escapes() {
    let vhost = Vhost::fresh_plain().await;
    let password = "p@ss:w/ör%d?#[]&=+ ";
    let user = vhost.create_user(password).await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    let address = vhost.broker().address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let connector = Connector::host(host, port.parse().unwrap());
    let connector = connector.vhost(vhost.name()).credentials(Credentials::new(user, password));
    let connection = within("a connection", 10, connector.connect()).await.unwrap();
    within("a queue", 10, connection.channel().await.unwrap().declare_queue("here")).await.unwrap();
    assert_eq!(vhost.queues().await.len(), 1);
    within("close", 10, connection.close()).await.unwrap();

    let port = unused_address().port();
    let error = within("an error", 10, Connector::host("::1", port).connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.entity()), (ErrorKind::Io, Some(&*format!("[::1]:{port}"))));
}

/// URI-10, AUTH-05: the first configured mechanism that the server offers.
#[actix::test]
async fn mechanisms_are_tried_in_the_configured_order() {
    let offers = |mechanisms| HandshakeScript::new().mechanisms(mechanisms);
    let both = "auth_mechanism=external&auth_mechanism=PLAIN";
    assert_eq!(handshake_with(both, &offers("PLAIN AMQPLAIN EXTERNAL")).await.mechanism, "EXTERNAL");
    assert_eq!(handshake_with(both, &offers("AMQPLAIN PLAIN")).await.mechanism, "PLAIN");
    assert_eq!(handshake_with("auth=amqplain", &offers("PLAIN AMQPLAIN")).await.mechanism, "AMQPLAIN");
    assert_eq!(handshake_with("", &offers("AMQPLAIN PLAIN")).await.mechanism, "PLAIN");
    assert!(invalid_uri("amqp://h/?auth_mechanism=KERBEROS").contains("auth_mechanism"));
    assert!(invalid_uri("amqp://h/?auth=").contains("auth"));
}

/// URI-10: `connection_timeout` is in milliseconds, `timeout` in seconds. `connection_timeout` is in the specification, and
/// takes precedence.
#[actix::test]
async fn timeouts_limit_the_connect() {
    for query in ["connection_timeout=150", "timeout=0.15", "timeout=60&connection_timeout=150"] {
        let silent = silent_listener();
        let uri = format!("amqp://{}/?{query}", silent.local_addr().unwrap());
        let started = Instant::now();
        let error = within("the timeout", 5, Connector::new(&uri).unwrap().connect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{query}");
        assert!(started.elapsed() >= Duration::from_millis(150));
    }
    assert!(invalid_uri("amqp://h/?connection_timeout=0").contains("connection_timeout"));
    assert!(invalid_uri("amqp://h/?timeout=0").contains("parameter timeout"));
}

/// CON-16, URI-03: also by a connection that does not recover.
#[actix::test]
async fn the_parameters_of_aio_pika_are_accepted() {
    let query = "reconnect_interval=0.5&fail_fast=0&interleave=1&happy_eyeballs_delay=.1&timeout=5";
    handshake_with(query, &HandshakeScript::new()).await;
}

/// URI-11
#[test]
fn tls_parameters_without_tls_are_refused_by_name() {
    assert!(Connector::new("amqps://h").is_ok());
    for parameter in [
        "cacertfile=/ca.pem",
        "certfile=/c.pem",
        "keyfile=/k.pem",
        "verify=verify_none",
        "server_name_indication=h",
        "cafile=/ca.pem",
        "capath=/certs",
        "cadata=TUlJ",
        "no_verify_ssl=1",
    ] {
        let key = parameter.split_once('=').unwrap().0;
        let error = invalid_uri(&format!("amqp://h/?{parameter}"));
        assert!(error.contains(&format!("parameter {key} ")), "{error}");
    }
}

#[test]
fn tls_parameters_that_contradict_each_other_or_mean_nothing_are_refused() {
    for (query, text) in [
        ("cacertfile=/a.pem&cafile=/b.pem", "cacertfile and cafile"),
        ("verify=verify_none&no_verify_ssl=0", "verify and no_verify_ssl"),
        ("verify=verify_peer&no_verify_ssl=1", "verify and no_verify_ssl"),
        ("keyfile=/k.pem", "keyfile needs certfile"),
        ("verify=peer", "verify_peer or verify_none"),
        ("no_verify_ssl=2", "no_verify_ssl"),
        ("server_name_indication=", "server_name_indication"),
        ("server_name_indication=disable", "server_name_indication"),
        ("cadata=%25%25", "cadata"),
        ("cadata=", "cadata"),
        ("capath=", "capath"),
        ("password=x", "parameter password is unknown"),
    ] {
        let error = invalid_uri(&format!("amqps://h/?{query}"));
        assert!(error.contains(text), "{query}: {error}");
    }
    // Each says the same twice.
    for query in
        ["cacertfile=/a&cafile=/a", "verify=verify_none&no_verify_ssl=1&cacertfile=/a", "certfile=/a"]
    {
        assert!(Connector::new(&format!("amqps://h/?{query}")).is_ok(), "{query}");
    }
}

/// URI-09: an escaped `&` or `=` in a file path does not begin another parameter.
#[test]
fn escaped_file_paths_are_not_read_as_parameters() {
    for key in ["cacertfile", "certfile", "keyfile", "server_name_indication"] {
        let error =
            invalid_uri(&format!("amqp://h/?{key}=%2F%C3%A9t%C3%A9%26verify%3Dverify_none%26heartbeat%3Dx"));
        assert!(error.contains(&format!("parameter {key} ")) && !error.contains("verify"), "{error}");
    }
    let connector = Connector::new("amqps://h/?cacertfile=%2Fx%26heartbeat%3Dx%20y").unwrap();
    assert!(format!("{connector:?}").contains("\"/x&heartbeat=x y\""), "{connector:?}");
    // Without the escape it is another parameter, which must be valid.
    assert!(invalid_uri("amqps://h/?cacertfile=/x&heartbeat=x").contains("heartbeat"));
}

/// D3, URI-12
#[test]
fn errors_name_the_parameter_but_not_the_password() {
    for (query, key) in [
        ("heartbaet=1", "heartbaet"),
        ("interleave=x", "interleave"),
        ("interleave=-1", "interleave"),
        ("happy_eyeballs_delay=soon", "happy_eyeballs_delay"),
        ("no_verify_ssl=maybe", "no_verify_ssl"),
        ("cadata=", "cadata"),
    ] {
        let error = invalid_uri(&format!("amqp://alice:hunter2@h/?{query}"));
        assert!(error.contains(key), "{error}");
        assert!(!error.contains("hunter2"));
    }
}
