//! What the parameters of a URI come to in a connection.

use std::time::{Duration, Instant};

use crate::support::broker::Vhost;
use crate::support::scripted_peer::{accept_with_script, silent_listener, unused_address};
use crate::support::within;
use actix_pika::testing::{ClientHandshake, HandshakeScript, Peer, types::AMQPValue};
use actix_pika::{Connector, Credentials, ErrorKind, options::Mechanism};

/// What a peer hears from a client that was given these parameters.
async fn heard(query: &str, script: &HandshakeScript) -> ClientHandshake {
    let peer = Peer::listen().await.unwrap();
    let connector = Connector::new(&format!("{}?{query}", peer.url())).unwrap();
    let both = async { tokio::join!(connector.connect(), accept_with_script(&peer, script)) };
    let (connection, (_, terms)) = within("a connection", 10, both).await;
    connection.unwrap();
    terms
}

fn refused(uri: &str) -> String {
    let error = Connector::new(uri).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uri, "{uri}");
    error.to_string()
}

/// URI-10, CON-08, CON-09
#[actix::test]
async fn limits_and_name_reach_the_peer() {
    let terms =
        heard("heartbeat=7&channel_max=12&frame_max=8192&name=my%20app", &HandshakeScript::new()).await;
    assert_eq!((terms.heartbeat, terms.channel_max, terms.frame_max), (7, 12, 8192));
    let name = terms.properties.inner().get("connection_name");
    assert_eq!(name, Some(&AMQPValue::LongString("my app".into())));
    let terms = heard("heartbeat=0&channel_max=0&frame_max=0", &HandshakeScript::new()).await;
    assert_eq!((terms.heartbeat, terms.channel_max, terms.frame_max), (0, 2047, 131_072));
}

/// URI-05, HB-07: absent is the server's own, 0 turns them off, and so does the server's 0.
#[actix::test]
async fn the_heartbeat_of_a_uri_is_that_of_tune_ok() {
    for (query, offer, said) in [
        ("", 60, 60),
        ("", 0, 0),
        ("heartbeat=0", 60, 0),
        ("heartbeat=10", 60, 10),
        ("heartbeat=65535", 60, 60),
        ("heartbeat=10&timeout=1000", 0, 0),
    ] {
        let terms = heard(query, &HandshakeScript::new().tune(2047, 131_072, offer)).await;
        assert_eq!(terms.heartbeat, said, "{query} for an offer of {offer}");
    }
}

/// URI-02, URI-03: what a URI says and what is said in parts is the same to the peer, defaults included.
#[actix::test]
async fn a_uri_and_its_parts_say_the_same() {
    let said = async |connector: fn(&Peer) -> Connector| {
        let peer = Peer::listen().await.unwrap();
        let script = HandshakeScript::new();
        let both = async { tokio::join!(connector(&peer).connect(), accept_with_script(&peer, &script)) };
        let (connection, (_, terms)) = within("a connection", 10, both).await;
        connection.unwrap();
        terms
    };
    let host = |peer: &Peer| Connector::host("127.0.0.1", peer.addr().port());
    let bare = said(|peer| Connector::new(&peer.url()).unwrap()).await;
    assert_eq!(said(host).await, bare);
    let uri = said(|peer| {
        let query = "heartbeat=7&channel_max=12&frame_max=8192&name=my%20app&auth=amqplain";
        Connector::new(&format!("amqp://j%40ne:p%2Fw%25@{}/v%2Fh%3F?{query}", peer.addr())).unwrap()
    });
    let parts = said(|peer| {
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
    assert_ne!(uri, bare);
}

/// URI-02, URI-08: against the broker, and for an address with colons.
#[actix::test]
async fn parts_need_no_escapes() {
    let vhost = Vhost::fresh().await;
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

/// URI-10, AUTH-05: the first of ours that is offered, in our order.
#[actix::test]
async fn mechanisms_are_taken_in_their_order() {
    let offering = |mechanisms| HandshakeScript::new().mechanisms(mechanisms);
    let both = "auth_mechanism=external&auth_mechanism=PLAIN";
    assert_eq!(heard(both, &offering("PLAIN AMQPLAIN EXTERNAL")).await.mechanism, "EXTERNAL");
    assert_eq!(heard(both, &offering("AMQPLAIN PLAIN")).await.mechanism, "PLAIN");
    assert_eq!(heard("auth=amqplain", &offering("PLAIN AMQPLAIN")).await.mechanism, "AMQPLAIN");
    assert_eq!(heard("", &offering("AMQPLAIN PLAIN")).await.mechanism, "PLAIN");
    assert!(refused("amqp://h/?auth_mechanism=KERBEROS").contains("auth_mechanism"));
    assert!(refused("amqp://h/?auth=").contains("auth"));
}

/// URI-10: milliseconds in the one, seconds in the other; the one of the specification wins.
#[actix::test]
async fn timeouts_limit_the_connect() {
    for query in ["connection_timeout=150", "timeout=0.15", "timeout=60&connection_timeout=150"] {
        let silent = silent_listener();
        let uri = format!("amqp://{}/?{query}", silent.local_addr().unwrap());
        let started = Instant::now();
        let error = within("a limit", 5, Connector::new(&uri).unwrap().connect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{query}");
        assert!(started.elapsed() >= Duration::from_millis(150));
    }
    assert!(refused("amqp://h/?connection_timeout=0").contains("connection_timeout"));
    assert!(refused("amqp://h/?timeout=0").contains("parameter timeout"));
}

/// CON-16, URI-03: what only recovery needs is read, and does no harm.
#[actix::test]
async fn the_parameters_of_aio_pika_are_accepted() {
    let query = "reconnect_interval=0.5&fail_fast=0&interleave=1&happy_eyeballs_delay=.1&timeout=5";
    heard(query, &HandshakeScript::new()).await;
}

/// URI-11
#[test]
fn what_needs_tls_is_refused_by_name() {
    for uri in ["amqps://h", "amqps://h/?cacertfile=/ca.pem"] {
        assert!(refused(uri).contains("amqps"));
    }
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
        let error = refused(&format!("amqp://h/?{parameter}"));
        assert!(error.contains(&format!("parameter {key} ")), "{error}");
    }
}

/// URI-09: what stands in the path of a file names no other parameter, whatever is escaped in it.
#[test]
fn the_path_of_a_file_is_not_read_as_parameters() {
    for key in ["cacertfile", "certfile", "keyfile", "server_name_indication"] {
        let error =
            refused(&format!("amqp://h/?{key}=%2F%C3%A9t%C3%A9%26verify%3Dverify_none%26heartbeat%3Dx"));
        assert!(error.contains(&format!("parameter {key} ")) && !error.contains("verify"), "{error}");
        assert!(refused(&format!("amqps://h/?{key}=%2Fx%26heartbeat%3Dx")).contains("amqps"));
    }
    // Not escaped, it is one more parameter, and has to make sense.
    assert!(refused("amqps://h/?cacertfile=/x&heartbeat=x").contains("heartbeat"));
}

/// D3, URI-12
#[test]
fn unknown_and_malformed_parameters_are_named_and_the_password_is_not() {
    for (query, key) in [
        ("heartbaet=1", "heartbaet"),
        ("interleave=x", "interleave"),
        ("interleave=-1", "interleave"),
        ("happy_eyeballs_delay=soon", "happy_eyeballs_delay"),
        ("no_verify_ssl=maybe", "no_verify_ssl"),
        ("cadata=", "cadata"),
    ] {
        let error = refused(&format!("amqp://alice:hunter2@h/?{query}"));
        assert!(error.contains(key), "{error}");
        assert!(!error.contains("hunter2"));
    }
}
