//! Cloned and dropped handles: the last one closes the channel or the connection, after pending work has finished.

use std::{pin::pin, time::Duration};

use crate::support::scripted_peer::{connect_to_peer, open_channel, try_connect_with_script};
use crate::support::{broker::Vhost, eventually, modes::Bench, oracle::Oracle, within};
use actix::prelude::*;
use actix_pika::testing::protocol::{channel, confirm};
use actix_pika::testing::{Disconnect, HandshakeScript};
use actix_pika::{Channel, Connector, Delivery, OpenChannel, Result, connect};
use futures_util::{StreamExt, future::join_all, poll};

const IDLE: Duration = Duration::from_millis(50);

/// CH-26: clones of the channel, and its exchanges and queues, are handles of the channel.
#[actix::test]
async fn the_last_handle_of_a_channel_closes_it() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let (clone, exchange, queue) = (channel.clone(), channel.default_exchange(), channel.queue("jobs"));
        drop(channel);
        drop(clone);
        drop(queue);
        socket.expect_nothing(IDLE).await.unwrap();
        assert!(!exchange.channel().is_closed());
        drop(exchange);
        assert_eq!(socket.expect_channel_close(1).await.unwrap().0, 200);
        // The connection stays open, because it has a handle. The channel number is free.
        socket.expect_nothing(IDLE).await.unwrap();
        open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        assert!(!connection.is_closed());
    };
    within("the close", 10, test).await;
}

/// A channel keeps its connection open.
#[actix::test]
async fn the_last_handle_of_any_kind_closes_the_connection() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let first = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let second = open_channel(&connection, &mut socket, 2, OpenChannel::new().confirms(false)).await;
        drop(connection.clone());
        drop(connection);
        drop(first);
        socket.expect_channel_close(1).await.unwrap();
        socket.expect_nothing(IDLE).await.unwrap();
        assert!(!second.connection().is_closed());
        drop(second);
        socket.expect_channel_close(2).await.unwrap();
        assert_eq!(socket.expect_close().await.unwrap().0, 200);
        assert_eq!(socket.expect_eof().await.unwrap(), Disconnect::Closed);
    };
    within("the close", 10, test).await;
}

/// The connection has no channel.
#[actix::test]
async fn a_dropped_connection_sends_close() {
    let (connection, mut socket) = within("a handshake", 10, connect_to_peer(|connector| connector)).await;
    drop(connection);
    within("the close", 10, socket.expect_close()).await.unwrap();
}

/// 13.12: also for publishes whose confirms were dropped.
#[actix::test]
async fn dropping_the_last_handle_waits_for_pending_confirms() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        drop(channel.default_exchange().publish_deferred("x", "jobs").await.unwrap());
        drop((channel, connection));
        socket.expect_publish(1).await.unwrap();
        socket.expect_nothing(IDLE).await.unwrap();
        socket.confirm(1, 1, false).await.unwrap();
        socket.expect_channel_close(1).await.unwrap();
        socket.expect_close().await.unwrap();
    };
    within("the close", 10, test).await;
}

/// 13.12
#[actix::test]
async fn dropping_the_last_handle_waits_for_confirms_until_the_deadline() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let options = OpenChannel::new().deadline(Duration::from_millis(200));
        let channel = open_channel(&connection, &mut socket, 1, options).await;
        drop(channel.default_exchange().publish_deferred("x", "jobs").await.unwrap());
        drop((channel, connection));
        socket.expect_publish(1).await.unwrap();
        socket.expect_channel_close(1).await.unwrap();
        socket.expect_close().await.unwrap();
    };
    within("the close", 10, test).await;
}

/// The future of the call is dropped before the broker answers `confirm.select`.
#[actix::test]
async fn a_channel_whose_open_call_is_dropped_closes() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        {
            let mut opening = pin!(connection.channel());
            assert!(poll!(&mut opening).is_pending());
            socket.open_channel(1).await.unwrap();
        }
        socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
        socket.expect_channel_close(1).await.unwrap();
    };
    within("the close", 10, test).await;
}

/// The future of the call is dropped after the channel has opened.
#[actix::test]
async fn an_open_channel_whose_open_call_is_dropped_closes() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        {
            let mut opening = pin!(connection.channel());
            assert!(poll!(&mut opening).is_pending());
            socket.open_channel(1).await.unwrap();
            socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
            // Long enough for the client to read the answer.
            socket.expect_nothing(IDLE).await.unwrap();
        }
        socket.expect_channel_close(1).await.unwrap();
    };
    within("the close", 10, test).await;
}

/// Stops at the message "last".
struct Worker;

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, ctx: &mut Self::Context) {
        if delivery.body() == b"last" {
            ctx.stop();
        }
        delivery.ack().unwrap();
    }
}

/// A consumer keeps its channel open without any handle, until its target stops.
#[actix::test]
async fn a_consumer_keeps_its_channel_open_without_handles() {
    let bench = Bench::open(true).await;
    let test = async {
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        let _ = queue.consume(Worker.start().recipient()).await.unwrap();
        drop(queue);
        let Bench { vhost, connection, channel, .. } = bench;
        drop((connection, channel));
        let oracle = Oracle::connect(&vhost.url()).await;
        for body in ["first", "second", "last"] {
            assert_eq!(oracle.queue_counts("jobs").await.unwrap().1, 1);
            oracle.publish("", "jobs", body).await;
            eventually("an empty queue", 10, async || (oracle.count("jobs").await == 0).then_some(())).await;
        }
        // The target has stopped, so the consumer, its channel and its connection close.
        oracle.close().await;
        eventually("no connection", 15, async || vhost.connections().await.is_empty().then_some(())).await;
    };
    within("a consumer", 20, test).await;
}

/// A dropped stream cancels its consumer and requeues the deliveries that were not taken. The channel can then close.
#[actix::test]
async fn a_dropped_stream_requeues_its_deliveries() {
    let bench = Bench::open(false).await;
    let test = async {
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        oracle.declare_queue("jobs").await;
        for n in 0..10 {
            oracle.publish("", "jobs", n.to_string()).await;
        }
        let Bench { vhost, connection, channel, .. } = bench;
        let mut deliveries = channel.queue("jobs").deliveries().await.unwrap();
        let first = deliveries.next().await.unwrap();
        drop((connection, channel, deliveries));
        oracle.wait_for_requeue("jobs", 9).await;
        // An unsettled delivery keeps the channel open.
        assert!(!first.is_stale());
        first.ack().unwrap();
        let bodies: Vec<Vec<u8>> = (1..10).map(|n: u8| n.to_string().into_bytes()).collect();
        assert_eq!(oracle.drain_bodies("jobs").await, bodies);
        oracle.close().await;
        eventually("no connection", 10, async || vhost.connections().await.is_empty().then_some(())).await;
    };
    within("a stream", 30, test).await;
}

/// LEAK-02, LEAK-03: in whatever state the channel is.
#[actix::test]
async fn dropped_channels_release_their_numbers() {
    let vhost = Vhost::fresh().await;
    let connection = Connector::new(&vhost.url()).unwrap().channel_max(5).connect().await.unwrap();
    let test = async {
        let five =
            async || join_all((0..5).map(|_| connection.channel())).await.into_iter().collect::<Result<_>>();
        let mut channels: Vec<Channel> = five().await.unwrap();
        for _ in 0..4 {
            let queue = channels[0].declare_queue("jobs").await.unwrap();
            drop(channels[1].default_exchange().publish_deferred("x", "jobs").await.unwrap());
            let deliveries = channels[2].queue("jobs").deliveries().await.unwrap();
            channels[3].declare_queue("amq.restricted").await.map(drop).unwrap_err();
            {
                let queue = channels[4].queue("jobs");
                let mut get = pin!(queue.get());
                assert!(poll!(&mut get).is_pending());
            }
            drop((channels, queue, deliveries));
            channels = eventually("five free numbers", 10, async || five().await.ok()).await;
        }
    };
    within("rounds of five channels", 30, test).await;
    eventually("no channel at the broker", 10, async || vhost.channels().await.is_empty().then_some(()))
        .await;
}

#[actix::test]
async fn handles_may_be_dropped_on_any_thread() {
    let vhost = Vhost::fresh().await;
    let mut threads = Vec::new();
    for _ in 0..4 {
        let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
        let channel = connection.channel().await.unwrap();
        threads.push(std::thread::spawn(move || drop((connection.clone(), channel.clone(), channel))));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    eventually("no connection", 15, async || vhost.connections().await.is_empty().then_some(())).await;
}

/// CH-27: the client refuses to open the channel, before anything is sent.
#[actix::test]
async fn confirms_are_refused_when_the_broker_does_not_offer_them() {
    let script = HandshakeScript::new().capabilities(&["basic.nack"]);
    let (result, mut socket, _) = within("a handshake", 10, try_connect_with_script(|c| c, &script)).await;
    let connection = result.unwrap();
    let error = within("the answer", 5, connection.channel()).await.unwrap_err();
    assert_eq!((error.kind(), error.close_reason()), (actix_pika::ErrorKind::Refused, None));
    assert!(error.to_string().contains("publisher_confirms"), "{error}");
    let options = OpenChannel::new().confirms(false);
    let channel = within("a channel", 5, open_channel(&connection, &mut socket, 1, options)).await;
    assert_eq!(channel.number(), 1);
}

/// CH-36
#[actix::test]
async fn flow_from_the_broker_is_answered() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        for active in [false, true] {
            socket.send(1, channel::Flow { active }).await.unwrap();
            assert_eq!(socket.expect::<channel::FlowOk>(1).await.unwrap().active, active);
        }
        assert!(!channel.is_closed());
    };
    within("flow", 10, test).await;
}
