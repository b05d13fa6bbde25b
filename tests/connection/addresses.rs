//! Several addresses: which are tried, in which order, and which error is reported.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use crate::support::scripted_peer::{accept_with_script, silent_listener, unused_address};
use crate::support::{broker::Vhost, oracle::Oracle, within};
use actix_pika::testing::{HandshakeScript, HandshakeStep, Peer};
use actix_pika::{Connector, ErrorKind, options::AddressOrder};

fn url_of(address: impl std::fmt::Display) -> String {
    format!("amqp://{address}")
}

/// CON-14: the real broker is at the second address.
#[actix::test]
async fn the_next_address_is_tried_after_a_refusal() {
    let vhost = Vhost::fresh_plain().await;
    let url = vhost.url();
    let rest = url.split_once('@').unwrap().1;
    let (address, path) = rest.split_once('/').unwrap();
    let first = url.replace(address, &unused_address().to_string());
    assert!(first.ends_with(path));
    let connector = Connector::from_uris([first, format!("amqp://{address}")]).unwrap();
    let connection = within("the second address", 10, connector.connect()).await.unwrap();
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    within("a queue", 10, channel.declare_queue("here")).await.unwrap();
    let oracle = Oracle::connect(&url).await;
    assert_eq!(oracle.queue_counts("here").await, Some((0, 0)));
    within("close", 10, connection.close()).await.unwrap();
}

/// CON-14
#[actix::test]
async fn the_next_address_is_tried_after_a_timeout() {
    let (silent, peer) = (silent_listener(), Peer::listen().await.unwrap());
    let connector = Connector::from_uris([url_of(silent.local_addr().unwrap()), url_of(peer.addr())])
        .unwrap()
        .connect_timeout(Duration::from_millis(300));
    let script = HandshakeScript::new();
    let both = async { tokio::join!(connector.connect(), accept_with_script(&peer, &script)) };
    let (connection, _) = within("the second address", 10, both).await;
    assert_eq!(connection.unwrap().peer_addr(), Some(peer.addr()));
    assert!(silent.accept().is_ok());
}

/// CON-14
#[actix::test]
async fn the_next_address_is_tried_after_a_failed_handshake() {
    for script in [
        HandshakeScript::new().raw_at(HandshakeStep::Start, *b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        HandshakeScript::new().raw_at(HandshakeStep::Start, *b"AMQP\0\x01\0\0"),
        HandshakeScript::new().refuse_at(HandshakeStep::OpenOk, 541, "INTERNAL_ERROR"),
        HandshakeScript::new().refuse_at(HandshakeStep::Tune, 320, "CONNECTION_FORCED - node is going down"),
        HandshakeScript::new().tune(2047, 100, 60).silent_at(HandshakeStep::OpenOk),
    ] {
        let (bad, good) = (Peer::listen().await.unwrap(), Peer::listen().await.unwrap());
        let connector = Connector::new(&url_of(bad.addr())).unwrap().address("127.0.0.1", good.addr().port());
        let default_script = HandshakeScript::new();
        let servers = async {
            let mut socket = bad.accept().await.unwrap();
            // The script with the invalid tune fails.
            let _ = socket.handshake_with(&script).await;
            drop(socket);
            accept_with_script(&good, &default_script).await
        };
        let both = async { tokio::join!(connector.connect(), servers) };
        let (connection, _) = within("the second address", 10, both).await;
        assert_eq!(connection.unwrap().peer_addr(), Some(good.addr()), "{script:?}");
    }
}

/// CON-25: each address is asked once. When all of them refuse, that is the error.
#[actix::test]
async fn the_next_address_is_tried_after_a_refused_login_or_vhost() {
    let no_vhost = "NOT_ALLOWED - vhost / not found";
    for (step, code, text, kind) in [
        (HandshakeStep::Tune, 403, "ACCESS_REFUSED - no", ErrorKind::Auth),
        (HandshakeStep::OpenOk, 530, no_vhost, ErrorKind::Vhost),
    ] {
        let (bad, other) = (Peer::listen().await.unwrap(), Peer::listen().await.unwrap());
        // The same address again is left out.
        let urls = [bad.addr(), other.addr(), bad.addr()].map(url_of);
        let connector = Connector::from_uris(urls).unwrap();
        let script = HandshakeScript::new().refuse_at(step, code, text);
        let servers = async {
            accept_with_script(&bad, &script).await;
            accept_with_script(&other, &script).await;
        };
        let both = async { tokio::join!(connector.clone().connect(), servers) };
        let error = within("the error", 10, both).await.0.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (kind, code));
        assert_eq!(error.entity(), Some(other.addr().to_string().as_str()));
        assert!(!error.is_retryable());

        let accepting = HandshakeScript::new();
        let servers = async {
            accept_with_script(&bad, &script).await;
            accept_with_script(&other, &accepting).await
        };
        let both = async { tokio::join!(connector.connect(), servers) };
        let (connection, _) = within("the second address", 10, both).await;
        assert_eq!(connection.unwrap().peer_addr(), Some(other.addr()));
    }
}

/// CON-25: with the real broker at the second address.
#[actix::test]
async fn a_connect_passes_over_a_node_that_refuses_the_login() {
    let vhost = Vhost::fresh_plain().await;
    let peer = Peer::listen().await.unwrap();
    let refusing = vhost.url().replace(&vhost.broker().address(), &peer.addr().to_string());
    let connector = Connector::from_uris([refusing, vhost.url()]).unwrap();
    let script = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED");
    let both = async { tokio::join!(connector.connect(), accept_with_script(&peer, &script)) };
    let (connection, _) = within("the second address", 10, both).await;
    within("close", 10, connection.unwrap().close()).await.unwrap();
}

#[actix::test]
async fn the_error_is_that_of_the_last_address_and_names_it() {
    let (silent, unused) = (silent_listener(), unused_address());
    let connector = Connector::from_uris([url_of(silent.local_addr().unwrap()), url_of(unused)]).unwrap();
    let connect = connector.connect_timeout(Duration::from_millis(200)).connect();
    let error = within("the error", 10, connect).await.unwrap_err();
    assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(error.entity(), Some(unused.to_string().as_str()));

    let connector =
        Connector::from_uris([url_of(unused_address()), url_of(silent.local_addr().unwrap())]).unwrap();
    let connect = connector.connect_timeout(Duration::from_millis(200)).connect();
    let error = within("the error", 10, connect).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains(&silent.local_addr().unwrap().to_string()), "{error}");
    assert!(error.to_string().contains("waiting for connection.start"), "{error}");
}

/// Two addresses time out before the third one connects.
#[actix::test]
async fn connect_timeout_applies_to_each_address() {
    let (first, second, peer) = (silent_listener(), silent_listener(), Peer::listen().await.unwrap());
    let limit = Duration::from_millis(250);
    let connector = Connector::new(&url_of(first.local_addr().unwrap()))
        .unwrap()
        .address("127.0.0.1", second.local_addr().unwrap().port())
        .address("127.0.0.1", peer.addr().port())
        .connect_timeout(limit);
    let started = Instant::now();
    let script = HandshakeScript::new();
    let both = async { tokio::join!(connector.connect(), accept_with_script(&peer, &script)) };
    within("the third address", 10, both).await.0.unwrap();
    assert!(started.elapsed() >= 2 * limit);
}

/// Every node refuses the login, so the error names the address that was tried last.
#[actix::test]
async fn shuffled_addresses_end_with_any_of_them() {
    let peers = [Peer::listen().await.unwrap(), Peer::listen().await.unwrap()];
    let [first, second] = peers.each_ref().map(Peer::addr);
    for peer in peers {
        actix_rt::spawn(async move {
            let script = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "no");
            while let Ok(mut socket) = peer.accept().await {
                let _ = socket.handshake_with(&script).await;
            }
        });
    }
    let connector = Connector::from_uris([url_of(first), url_of(second)]).unwrap();
    let last_addresses = async |connector: &Connector| {
        let mut seen = HashSet::new();
        for _ in 0..30 {
            let error = connector.clone().connect().await.unwrap_err();
            seen.insert(error.entity().unwrap().to_owned());
        }
        seen
    };
    let seen = within("thirty connects", 20, last_addresses(&connector)).await;
    assert_eq!(seen, HashSet::from([second.to_string()]));
    let shuffled = connector.address_order(AddressOrder::Shuffled);
    let seen = within("thirty connects", 20, last_addresses(&shuffled)).await;
    assert_eq!(seen, HashSet::from([first.to_string(), second.to_string()]));
}

/// URI-08: with brackets in a URI and in errors, without them in the builder.
#[actix::test]
async fn ipv6_addresses_work() {
    let Ok(peer) = Peer::listen_at("[::1]:0".parse().unwrap()).await else { return };
    let port = peer.addr().port();
    let script = HandshakeScript::new();
    for connector in [
        Connector::new(&format!("amqp://[::1]:{port}")).unwrap(),
        Connector::new(&url_of(unused_address())).unwrap().address("::1", port),
    ] {
        let both = async { tokio::join!(connector.connect(), accept_with_script(&peer, &script)) };
        let (connection, _) = within("a connection", 10, both).await;
        let connection = connection.unwrap();
        assert_eq!(connection.peer_addr(), Some(peer.addr()));
        assert!(connection.local_addr().unwrap().is_ipv6());
    }
    drop(peer);
    let error = Connector::new(&format!("amqp://[::1]:{port}")).unwrap().connect().await.unwrap_err();
    assert_eq!(error.entity(), Some(format!("[::1]:{port}").as_str()));
}

/// `localhost` has one or two address records, of which one accepts.
#[actix::test]
async fn every_address_record_of_a_name_is_tried() {
    for parameters in ["", "?happy_eyeballs_delay=0.05&interleave=1", "?happy_eyeballs_delay=5"] {
        let peer = Peer::listen().await.unwrap();
        let url = format!("amqp://localhost:{}/{parameters}", peer.addr().port());
        let connector = Connector::new(&url).unwrap();
        let script = HandshakeScript::new();
        let both = async { tokio::join!(connector.connect(), accept_with_script(&peer, &script)) };
        let (connection, _) = within("a connection", 4, both).await;
        assert_eq!(connection.unwrap().peer_addr(), Some(peer.addr()));
    }
}

#[test]
fn further_uris_may_differ_in_host_and_port_only() {
    for (other, part) in [
        ("amqp://guest:other@b", "login"),
        ("amqp://b/elsewhere", "virtual host"),
        ("amqps://b", "scheme"),
        ("amqp://b?heartbeat=9", "parameters"),
    ] {
        let error = Connector::from_uris(["amqp://guest:secret@a/v", other]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Uri);
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("secret"));
    }
    assert_eq!(Connector::from_uris::<&str>([]).unwrap_err().kind(), ErrorKind::Uri);
}
