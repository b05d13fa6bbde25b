//! Tests of `support/`: the helpers for brokers, the other client, the proxy.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::support::broker::{Broker, SecondNode, Vhost, base64, leave_out};
use crate::support::oracle::Oracle;
use crate::support::proxy::{Cut, Direction, Proxy};
use crate::support::{eventually, unique, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Connects a client through a proxy to a listener. Returns proxy, client, the accepted peer and the listener.
async fn connect_through_proxy() -> (Proxy, TcpStream, TcpStream, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = Proxy::to(&listener.local_addr().expect("an address").to_string());
    let client = TcpStream::connect(proxy.address()).await.expect("accepted");
    client.set_nodelay(true).expect("no delay");
    let (peer, _) = within("the proxy connects", 5, listener.accept()).await.expect("accepted");
    peer.set_nodelay(true).expect("no delay");
    (proxy, client, peer, listener)
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    within("bytes arrive", 10, stream.read_exact(&mut bytes)).await.expect("all bytes");
    bytes
}

/// Returns whether there is neither a byte nor the end of the stream to read.
fn has_nothing_to_read(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 1]), Err(e) if e.kind() == ErrorKind::WouldBlock)
}

#[tokio::test]
async fn messages_can_be_published_and_fetched_in_a_new_vhost() {
    let vhost = Vhost::fresh_plain().await;
    let oracle = within("connect", 10, Oracle::connect(&vhost.url())).await;
    oracle.declare_queue("q").await;
    oracle.declare_exchange("x", lapin::ExchangeKind::Topic).await;
    oracle.bind("q", "x", "a.*").await;
    oracle.publish("", "q", "one").await;
    oracle.publish("x", "a.b", "two").await;
    oracle.publish("x", "b.b", "nowhere").await;
    assert_eq!(oracle.queue_counts("q").await, Some((2, 0)));
    assert_eq!(oracle.queue_counts("absent").await, None);
    eventually("the API counts two messages", 10, async || {
        (vhost.queue_depth("q").await == Some(2)).then_some(())
    })
    .await;
    assert_eq!(vhost.consumers("q").await.len(), 0);
    assert!(vhost.exchanges().await.iter().any(|x| x.name == "x"));
    assert!(vhost.bindings().await.iter().any(|b| b.routing_key == "a.*"));
    assert_eq!(oracle.drain_bodies("q").await, [b"one", b"two"]);
    assert_eq!(oracle.count("q").await, 0);
    oracle.close().await;
}

/// Connects two of the other clients. The frames of the second are recorded.
async fn connect_two() -> (Vhost, Oracle, Proxy, Oracle) {
    let vhost = Vhost::fresh_plain().await;
    let owner = within("connect", 10, Oracle::connect(&vhost.url())).await;
    let proxy = Proxy::to(&vhost.broker().address());
    proxy.record();
    let oracle = within("connect", 10, Oracle::connect(&proxy.url(&vhost.url()))).await;
    (vhost, owner, proxy, oracle)
}

#[tokio::test]
async fn a_locked_queue_is_counted_when_its_lock_is_released() {
    let (_vhost, owner, proxy, oracle) = connect_two().await;
    let options = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    owner.declare_queue_with("mine", options, Default::default()).await;
    let release = async {
        within("a refusal", 10, proxy.wait_for_method(Direction::ToClient, (20, 40), 1)).await;
        owner.close().await;
    };
    assert_eq!(tokio::join!(oracle.queue_counts("mine"), release).0, None);
}

#[tokio::test]
async fn consumers_are_awaited_until_the_broker_has_removed_them() {
    let (_vhost, owner, proxy, oracle) = connect_two().await;
    owner.declare_queue("q").await;
    let consumer =
        owner.channel().basic_consume("q".into(), "c".into(), Default::default(), Default::default());
    let _consumer = consumer.await.expect("a consumer");
    oracle.wait_for_consumers("q", 1).await;
    let leave = async {
        within("a second count", 10, proxy.wait_for_method(Direction::ToClient, (50, 11), 2)).await;
        owner.close().await;
    };
    tokio::join!(oracle.wait_for_consumers("q", 0), leave);
    assert_eq!(oracle.queue_counts("q").await, Some((0, 0)));
}

#[tokio::test]
async fn dropping_a_vhost_deletes_it_and_its_users() {
    let vhost = Vhost::fresh_plain().await;
    let user = vhost.create_user("secret").await;
    let (url, name) = (vhost.url(), vhost.name().to_owned());
    let broker = Broker::under_test();
    assert!(broker.has_vhost(&name).await && broker.has_user(&user).await);
    drop(vhost);
    assert!(!broker.has_vhost(&name).await && !broker.has_user(&user).await);
    let connected = within("refused", 10, Oracle::try_connect(&url)).await;
    assert!(connected.is_err());
}

#[tokio::test]
async fn permissions_apply() {
    let vhost = Vhost::fresh_plain().await;
    let user = vhost.create_user("p/w d").await;
    let url = vhost.url_as(&user, "p/w d");
    let connected = within("refused", 10, Oracle::try_connect(&url)).await;
    assert!(connected.is_err(), "no permission yet");
    vhost.permit(&user, "mine.*", "mine.*|amq.default", "mine.*").await;
    let oracle = within("connect", 10, Oracle::connect(&url)).await;
    oracle.declare_queue("mine").await;
    oracle.publish("", "mine", "x").await;
}

#[tokio::test]
async fn delete_connections_closes_connections() {
    let vhost = Vhost::fresh_plain().await;
    let oracle = within("connect", 10, Oracle::connect(&vhost.url())).await;
    let closed = eventually("the API lists the connection", 10, async || {
        match vhost.delete_connections("for a test").await {
            0 => None,
            n => Some(n),
        }
    })
    .await;
    assert_eq!(closed, 1);
    eventually("the client is disconnected", 10, async || {
        (!oracle.connection().status().connected()).then_some(())
    })
    .await;
}

#[actix::test]
async fn the_proxy_forwards_and_records_amqp() {
    let vhost = Vhost::fresh_plain().await;
    let proxy = Proxy::to(&vhost.broker().address());
    proxy.record();
    assert_ne!(proxy.url(&vhost.url()), vhost.url());
    let oracle = within("connect", 10, Oracle::connect(&proxy.url(&vhost.url()))).await;
    proxy.wait_for_accepted(1).await;
    assert_eq!(proxy.open_count(), 1);
    oracle.declare_queue("q").await;
    oracle.publish("", "q", "through").await;
    assert_eq!(oracle.drain_bodies("q").await, [b"through"]);
    within("publish is recorded", 5, proxy.wait_for_method(Direction::ToBroker, (60, 40), 1)).await;

    let recording = &proxy.recordings()[0];
    assert_eq!(recording.connection, 1);
    let methods =
        |direction| recording.frames(direction).filter_map(|frame| frame.method()).collect::<Vec<_>>();
    assert_eq!(methods(Direction::ToBroker)[0], (10, 11), "start-ok first");
    assert_eq!(methods(Direction::ToClient)[0], (10, 10), "start first");
    let body = recording.frames(Direction::ToBroker).find(|frame| frame.kind == 3);
    assert_eq!(body.expect("a body frame").payload, b"through");

    oracle.close().await;
    within("the connection closes", 10, proxy.wait_for_open(0)).await;
}

#[tokio::test]
async fn amqp_works_in_small_segments() {
    let vhost = Vhost::fresh_plain().await;
    let proxy = Proxy::to(&vhost.broker().address());
    proxy.one_byte_segments(Direction::ToBroker);
    proxy.random_segments(Direction::ToClient, 7, 42);
    let oracle = within("connect", 20, Oracle::connect(&proxy.url(&vhost.url()))).await;
    oracle.declare_queue("q").await;
    oracle.publish("", "q", "piecemeal").await;
    assert_eq!(oracle.drain_bodies("q").await, [b"piecemeal"]);
}

#[tokio::test]
async fn a_fin_cut_is_the_end_of_the_stream_for_both_peers() {
    let (proxy, mut client, mut peer, _listener) = connect_through_proxy().await;
    client.write_all(b"up").await.expect("written");
    assert_eq!(read(&mut peer, 2).await, b"up");
    // Unread bytes arrive before the end of the stream.
    peer.write_all(b"down").await.expect("written");
    within("forwarded", 5, proxy.wait_for_bytes(Direction::ToClient, 4)).await;
    proxy.cut_all(Cut::Fin);
    within("the connection closes", 5, proxy.wait_for_open(0)).await;
    let mut rest = Vec::new();
    within("end", 5, client.read_to_end(&mut rest)).await.expect("an orderly end");
    assert_eq!(rest, b"down");
    let length = within("end", 5, peer.read(&mut [0; 8])).await;
    assert_eq!(length.expect("an orderly end"), 0);

    TcpStream::connect(proxy.address()).await.expect("accepted");
    within("the next connection", 5, proxy.wait_for_accepted(2)).await;
}

#[tokio::test]
async fn a_reset_is_a_reset_for_both_peers() {
    let (proxy, mut client, mut peer, _listener) = connect_through_proxy().await;
    proxy.cut_all(Cut::Rst);
    within("the connection closes", 5, proxy.wait_for_open(0)).await;
    for stream in [&mut client, &mut peer] {
        let read = within("reset", 5, stream.read(&mut [0; 8])).await;
        assert_eq!(read.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn amqp_clients_notice_cuts() {
    for how in [Cut::Fin, Cut::Rst] {
        let vhost = Vhost::fresh_plain().await;
        let proxy = Proxy::to(&vhost.broker().address());
        let oracle = within("connect", 10, Oracle::connect(&proxy.url(&vhost.url()))).await;
        proxy.cut_all(how);
        eventually("the client is disconnected", 10, async || {
            (!oracle.connection().status().connected()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_stall_holds_bytes_back_until_resume() {
    let (proxy, mut client, mut peer, _listener) = connect_through_proxy().await;
    proxy.stall(Direction::ToBroker);
    client.write_all(b"held").await.expect("written");
    // The other direction is not stalled.
    peer.write_all(b"free").await.expect("written");
    assert_eq!(read(&mut client, 4).await, b"free");
    assert_eq!(proxy.byte_count(Direction::ToBroker), 0);
    assert!(has_nothing_to_read(&peer));
    proxy.stall(Direction::Both);
    client.shutdown().await.expect("shut down");
    assert!(has_nothing_to_read(&peer));
    proxy.resume(Direction::Both);
    assert_eq!(read(&mut peer, 4).await, b"held");
    let length = within("end", 5, peer.read(&mut [0; 8])).await;
    assert_eq!(length.expect("the end of the stream"), 0);
}

#[tokio::test]
async fn an_amqp_call_completes_after_a_stall() {
    let vhost = Vhost::fresh_plain().await;
    let proxy = Proxy::to(&vhost.broker().address());
    let oracle = within("connect", 10, Oracle::connect(&proxy.url(&vhost.url()))).await;
    let direct = within("connect", 10, Oracle::connect(&vhost.url())).await;
    proxy.stall(Direction::ToBroker);
    let declared = oracle.declare_queue("q");
    tokio::pin!(declared);
    tokio::select! {
        _ = &mut declared => panic!("declared through a stalled proxy"),
        counts = direct.queue_counts("q") => assert_eq!(counts, None),
    }
    proxy.resume(Direction::ToBroker);
    within("the declare", 10, declared).await;
}

#[tokio::test]
async fn a_cut_after_n_bytes_is_exact() {
    let (proxy, mut client, mut peer, listener) = connect_through_proxy().await;
    client.write_all(b"before").await.expect("written");
    assert_eq!(read(&mut peer, 6).await, b"before");
    proxy.cut_once_after(Direction::ToBroker, 5, Cut::Fin);
    client.write_all(b"0123456789").await.expect("written");
    let mut rest = Vec::new();
    within("end", 5, peer.read_to_end(&mut rest)).await.expect("an orderly end");
    assert_eq!(rest, b"01234");
    assert_eq!(proxy.byte_count(Direction::ToBroker), 11);

    // `cut_once_after` does not cut the next connection.
    let mut client = TcpStream::connect(proxy.address()).await.expect("accepted");
    let (mut peer, _) = within("the next connection", 5, listener.accept()).await.expect("accepted");
    client.write_all(b"0123456789").await.expect("written");
    assert_eq!(read(&mut peer, 10).await, b"0123456789");

    // `cut_each_after` cuts it.
    proxy.cut_each_after(Direction::ToClient, 3, Cut::Fin);
    for again in [false, true] {
        if again {
            client = TcpStream::connect(proxy.address()).await.expect("accepted");
            peer = within("the next connection", 5, listener.accept()).await.expect("accepted").0;
        }
        peer.write_all(b"0123456789").await.expect("written");
        let mut rest = Vec::new();
        within("end", 5, client.read_to_end(&mut rest)).await.expect("an orderly end");
        assert_eq!(rest, b"012");
    }
}

#[tokio::test]
async fn one_byte_segments_transfer_all_bytes() {
    let (proxy, mut client, mut peer, _listener) = connect_through_proxy().await;
    proxy.one_byte_segments(Direction::ToBroker);
    proxy.record();
    client.write_all(&[7; 500]).await.expect("written");
    assert_eq!(read(&mut peer, 500).await, [7; 500]);
    assert_eq!(proxy.recordings()[0].to_broker.len(), 500);
}

#[tokio::test]
async fn rate_limit_and_delay_apply() {
    let (proxy, mut client, mut peer, _listener) = connect_through_proxy().await;
    proxy.limit_rate(Direction::ToBroker, 10_000);
    let start = Instant::now();
    client.write_all(&[0; 5_000]).await.expect("written");
    read(&mut peer, 5_000).await;
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    proxy.unlimit_rate(Direction::ToBroker);

    proxy.delay(Direction::Both, Duration::from_millis(100));
    let start = Instant::now();
    client.write_all(b"ping").await.expect("written");
    read(&mut peer, 4).await;
    peer.write_all(b"pong").await.expect("written");
    read(&mut client, 4).await;
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[tokio::test]
async fn new_connections_are_refused_reset_and_accepted() {
    let (proxy, mut client, mut peer, _listener) = connect_through_proxy().await;
    within("the listener closes", 5, proxy.refuse_new()).await;
    let refused = TcpStream::connect(proxy.address()).await;
    assert_eq!(refused.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    client.write_all(b"still").await.expect("written");
    assert_eq!(read(&mut peer, 5).await, b"still");

    within("the listener opens", 5, proxy.reset_new()).await;
    // The reset may arrive before the connect returns.
    if let Ok(mut client) = TcpStream::connect(proxy.address()).await {
        let read = within("reset", 5, client.read(&mut [0; 1])).await;
        assert_eq!(read.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    }
    within("the listener opens", 5, proxy.accept_new()).await;
    let before = proxy.accepted_count();
    let _client = TcpStream::connect(proxy.address()).await.expect("accepted");
    within("accepted", 5, proxy.wait_for_accepted(before + 1)).await;
}

#[tokio::test]
async fn the_second_node_can_be_killed() {
    let node = SecondNode::start().await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    let oracle = within("connect", 10, Oracle::connect(&vhost.url())).await;
    oracle.declare_queue("durable").await;
    node.sync().await;
    node.kill9().await;
    eventually("the client is disconnected", 10, async || {
        (!oracle.connection().status().connected()).then_some(())
    })
    .await;
    node.start_again().await;
    let oracle = within("connect", 10, Oracle::connect(&vhost.url())).await;
    assert_eq!(oracle.queue_counts("durable").await, Some((0, 0)));
    assert!(node.broker().has_vhost(vhost.name()).await);
}

#[tokio::test]
async fn the_second_node_is_renewed_after_a_test_that_failed() {
    if Broker::under_test().is_embedded() {
        return leave_out("each test has a second test broker of its own");
    }
    let failed = tokio::spawn(async {
        let node = SecondNode::start().await;
        node.broker().ask(|administration| administration.create_vhost("left-over")).await;
        node.broker().eval("application:set_env(rabbit, consumer_timeout, 1).").await;
        node.kill9().await;
        panic!("a test that fails");
    });
    assert!(failed.await.unwrap_err().is_panic());
    let node = SecondNode::start().await;
    assert!(!node.broker().has_vhost("left-over").await);
    let timeout = node.broker().eval("application:get_env(rabbit, consumer_timeout).").await;
    assert_ne!(timeout.trim(), "{ok,1}");
}

#[tokio::test]
#[should_panic(expected = "not within 0 s: a future")]
async fn within_names_what_timed_out() {
    within("a future", 0, std::future::pending::<()>()).await;
}

#[test]
fn names_are_unique() {
    assert_ne!(unique("a"), unique("a"));
}

#[test]
fn base64_is_padded() {
    assert_eq!(base64(b"guest:guest"), "Z3Vlc3Q6Z3Vlc3Q=");
    assert_eq!(base64(b"a"), "YQ==");
    assert_eq!(base64(b"abc"), "YWJj");
}
