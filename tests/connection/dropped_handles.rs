//! Handles that are cloned and dropped: what is under way goes on, and what nobody needs is closed.

use std::{pin::pin, time::Duration};

use crate::support::scripted_peer::{connect_to_peer, open_channel, try_connect_with_script};
use crate::support::{broker::Vhost, eventually, modes::Bench, oracle::Oracle, within};
use actix::prelude::*;
use actix_pika::testing::protocol::{basic, channel, confirm};
use actix_pika::testing::{Disconnect, HandshakeScript, PeerSocket};
use actix_pika::{Channel, Connector, Delivery, OpenChannel, Result, connect};
use futures_util::{StreamExt, future::join_all, poll};

const QUIET: Duration = Duration::from_millis(50);

async fn expect_publish(socket: &mut PeerSocket, number: u16) {
    socket.expect::<basic::Publish>(number).await.unwrap();
    socket.next_frame_on(number).await.unwrap();
    socket.next_frame_on(number).await.unwrap();
}

/// CH-26: clones are one channel, which the last of them closes; exchanges and queues are handles of it, too.
#[actix::test]
async fn the_last_handle_of_a_channel_closes_it() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let (clone, exchange, queue) = (channel.clone(), channel.default_exchange(), channel.queue("jobs"));
        drop(channel);
        drop(clone);
        drop(queue);
        socket.expect_nothing(QUIET).await.unwrap();
        assert!(!exchange.channel().is_closed());
        drop(exchange);
        assert_eq!(socket.expect_channel_close(1).await.unwrap().0, 200);
        // The connection's own handle keeps that open, and the number is free.
        socket.expect_nothing(QUIET).await.unwrap();
        open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        assert!(!connection.is_closed());
    };
    within("the close", 10, test).await;
}

/// A channel keeps its connection: the connection's handle may go first.
#[actix::test]
async fn the_last_handle_of_all_closes_the_connection() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let first = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let second = open_channel(&connection, &mut socket, 2, OpenChannel::new().confirms(false)).await;
        drop(connection.clone());
        drop(connection);
        drop(first);
        socket.expect_channel_close(1).await.unwrap();
        socket.expect_nothing(QUIET).await.unwrap();
        assert!(!second.connection().is_closed());
        drop(second);
        socket.expect_channel_close(2).await.unwrap();
        assert_eq!(socket.expect_close().await.unwrap().0, 200);
        assert_eq!(socket.expect_eof().await.unwrap(), Disconnect::Closed);
    };
    within("the close", 10, test).await;
}

/// A connection without a channel.
#[actix::test]
async fn a_dropped_connection_says_goodbye() {
    let (connection, mut socket) = within("a handshake", 10, connect_to_peer(|connector| connector)).await;
    drop(connection);
    within("the close", 10, socket.expect_close()).await.unwrap();
}

/// 13.12: publishes that nobody awaits are still confirmed before the channel is closed.
#[actix::test]
async fn dropping_the_last_handle_awaits_the_confirms_under_way() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        drop(channel.default_exchange().publish_deferred("x", "jobs").await.unwrap());
        drop((channel, connection));
        expect_publish(&mut socket, 1).await;
        socket.expect_nothing(QUIET).await.unwrap();
        socket.confirm(1, 1, false).await.unwrap();
        socket.expect_channel_close(1).await.unwrap();
        socket.expect_close().await.unwrap();
    };
    within("the close", 10, test).await;
}

/// 13.12: but not for ever.
#[actix::test]
async fn dropping_the_last_handle_gives_up_unconfirmed_publishes_at_the_deadline() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let options = OpenChannel::new().deadline(Duration::from_millis(200));
        let channel = open_channel(&connection, &mut socket, 1, options).await;
        drop(channel.default_exchange().publish_deferred("x", "jobs").await.unwrap());
        drop((channel, connection));
        expect_publish(&mut socket, 1).await;
        socket.expect_channel_close(1).await.unwrap();
        socket.expect_close().await.unwrap();
    };
    within("the close", 10, test).await;
}

/// A channel that was opened for somebody who has stopped waiting closes: before the broker's answer...
#[actix::test]
async fn a_channel_that_nobody_waits_for_closes() {
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

/// ... and behind it, when it is on its way to who waited.
#[actix::test]
async fn a_channel_that_is_not_fetched_closes() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        {
            let mut opening = pin!(connection.channel());
            assert!(poll!(&mut opening).is_pending());
            socket.open_channel(1).await.unwrap();
            socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
            // Long enough for the answer to be there, unread.
            socket.expect_nothing(QUIET).await.unwrap();
        }
        socket.expect_channel_close(1).await.unwrap();
    };
    within("the close", 10, test).await;
}

/// Ends with the message that says so.
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

/// A consumer goes on without any handle: it is what is under way.
#[actix::test]
async fn a_consumer_outlives_all_handles() {
    let bench = Bench::open(true).await;
    let test = async {
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        drop(queue.consume(Worker.start().recipient()).await.unwrap());
        drop(queue);
        let Bench { vhost, connection, channel, .. } = bench;
        drop((connection, channel));
        let oracle = Oracle::connect(&vhost.url()).await;
        for body in ["first", "second", "last"] {
            assert_eq!(oracle.queue_counts("jobs").await.unwrap().1, 1);
            oracle.publish("", "jobs", body).await;
            eventually("an empty queue", 10, async || (oracle.count("jobs").await == 0).then_some(())).await;
        }
        // The end of its target is the end of it all.
        oracle.close().await;
        eventually("no connection", 15, async || vhost.connections().await.is_empty().then_some(())).await;
    };
    within("a consumer", 20, test).await;
}

/// A stream that is dropped cancels its consumer, puts back what nobody saw, and lets the channel close.
#[actix::test]
async fn a_dropped_stream_puts_back_what_it_had() {
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
        eventually("nine messages and no consumer", 10, async || {
            (oracle.queue_counts("jobs").await == Some((9, 0))).then_some(())
        })
        .await;
        // The channel is still there for who holds a delivery.
        assert!(!first.is_stale());
        first.ack().unwrap();
        let bodies: Vec<Vec<u8>> = (1..10).map(|n: u8| n.to_string().into_bytes()).collect();
        assert_eq!(oracle.drain_bodies("jobs").await, bodies);
        oracle.close().await;
        eventually("no connection", 10, async || vhost.connections().await.is_empty().then_some(())).await;
    };
    within("a stream", 30, test).await;
}

/// LEAK-02, LEAK-03: every channel that is dropped, in whatever state, gives its number back.
#[actix::test]
async fn dropped_channels_give_their_numbers_back() {
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

/// Many handles of many connections, dropped from other threads.
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

/// CH-27: what the broker cannot do is refused here, before anything is sent.
#[actix::test]
async fn confirms_are_refused_where_the_broker_has_none() {
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

/// CH-36: flow is answered, and channels that are gone are not asked for more.
#[actix::test]
async fn the_brokers_flow_is_answered() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let kept = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        for active in [false, true] {
            socket.send(1, channel::Flow { active }).await.unwrap();
            assert_eq!(socket.expect::<channel::FlowOk>(1).await.unwrap().active, active);
        }
        assert!(!kept.is_closed());
    };
    within("flow", 10, test).await;
}
