//! Closing channels and connections: pending confirms, time limits, concurrent closes.

use std::time::{Duration, Instant};

use crate::support::scripted_peer::{connect_to_peer, open_channel};
use crate::support::{modes::Bench, oracle::Oracle, within};
use actix_pika::testing::protocol::{basic, channel, connection, queue};
use actix_pika::testing::{Disconnect, RawFrame};
use actix_pika::{
    Error, ErrorKind, OpenChannel, Publishing,
    message::{CloseChannel, CloseConnection},
};
use futures_util::{FutureExt, StreamExt, future::join_all};

const IDLE: Duration = Duration::from_millis(50);

fn short_deadline() -> OpenChannel {
    OpenChannel::new().deadline(Duration::from_millis(200))
}

/// 13.12: new publishes and calls fail meanwhile.
#[actix::test]
async fn closing_a_channel_waits_for_its_confirms() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let confirm = channel.default_exchange().publish_deferred("x", "jobs").await.unwrap();
        socket.expect_publish(1).await.unwrap();
        let close = actix::spawn({
            let channel = channel.clone();
            async move { channel.close().await }
        });
        socket.expect_nothing(IDLE).await.unwrap();
        let late = channel.default_exchange().publish("late", "jobs").await.unwrap_err();
        assert_eq!((late.kind(), late.may_have_arrived()), (ErrorKind::ChannelClosed, false));
        assert_eq!(channel.set_qos(1).await.unwrap_err().kind(), ErrorKind::ChannelClosed);
        socket.confirm(1, 1, false).await.unwrap();
        assert_eq!(socket.expect_channel_close(1).await.unwrap().0, 200);
        close.await.unwrap().unwrap();
        confirm.await.unwrap();
    };
    within("the close", 10, test).await;
}

/// 13.12: the error has the number of unconfirmed publishes.
#[actix::test]
async fn closing_a_channel_waits_for_confirms_until_the_deadline() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, short_deadline()).await;
        let exchange = channel.default_exchange();
        let confirms = [
            exchange.publish_deferred("x", "jobs").await.unwrap(),
            exchange.publish_deferred("y", "jobs").await.unwrap(),
        ];
        let server = async {
            socket.expect_publish(1).await.unwrap();
            socket.expect_publish(1).await.unwrap();
            socket.expect_channel_close(1).await.unwrap();
        };
        let (closed, ()) = tokio::join!(channel.close(), server);
        let error = closed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("2 publishes"), "{error}");
        assert!(channel.is_closed());
        for confirm in confirms {
            let error = confirm.await.unwrap_err();
            assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, true), "{error:?}");
        }
        channel.close().await.unwrap();
    };
    within("the close", 10, test).await;
}

/// 13.12
#[actix::test]
async fn closing_a_connection_waits_for_the_confirms_of_all_channels() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let mut confirms = Vec::new();
        let mut channels = Vec::new();
        for number in 1..=2 {
            let channel = open_channel(&connection, &mut socket, number, OpenChannel::new()).await;
            confirms.push(channel.default_exchange().publish_deferred("x", "jobs").await.unwrap());
            socket.expect_publish(number).await.unwrap();
            channels.push(channel);
        }
        let close = actix::spawn({
            let connection = connection.clone();
            async move { connection.close().await }
        });
        socket.expect_nothing(IDLE).await.unwrap();
        let refused = connection.channel().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionClosed);
        socket.confirm(1, 1, false).await.unwrap();
        socket.expect_nothing(IDLE).await.unwrap();
        socket.confirm(2, 1, false).await.unwrap();
        assert_eq!(socket.expect_close().await.unwrap().0, 200);
        close.await.unwrap().unwrap();
        for confirm in confirms {
            confirm.await.unwrap();
        }
        assert_eq!(socket.expect_eof().await.unwrap(), Disconnect::Closed);
    };
    within("the close", 10, test).await;
}

/// 13.12
#[actix::test]
async fn publishes_fail_while_a_connection_closes() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let first = channel.default_exchange().publish_deferred("x", "jobs").await.unwrap();
        socket.expect_publish(1).await.unwrap();
        let close = actix::spawn({
            let connection = connection.clone();
            async move { connection.close().await }
        });
        socket.expect_nothing(IDLE).await.unwrap();
        let late = channel.default_exchange().publish("late", "jobs").await.unwrap_err();
        assert_eq!((late.kind(), late.may_have_arrived()), (ErrorKind::ConnectionClosed, false), "{late:?}");
        socket.confirm(1, 1, false).await.unwrap();
        socket.expect_close().await.unwrap();
        close.await.unwrap().unwrap();
        first.await.unwrap();
    };
    within("the close", 10, test).await;
}

/// 13.12
#[actix::test]
async fn closing_a_connection_waits_for_confirms_until_close_timeout() {
    let test = async {
        let limit = Duration::from_millis(100);
        let (connection, mut socket) = connect_to_peer(|connector| connector.close_timeout(limit)).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let confirm = channel.default_exchange().publish_deferred("x", "jobs").await.unwrap();
        let server = async {
            socket.expect_publish(1).await.unwrap();
            socket.expect_close().await.unwrap();
        };
        let (closed, ()) = tokio::join!(connection.close(), server);
        let error = closed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("1 publishes"), "{error}");
        assert!(connection.is_closed());
        let lost = confirm.await.unwrap_err();
        assert_eq!((lost.kind(), lost.may_have_arrived()), (ErrorKind::ConnectionClosed, true));
    };
    within("the close", 10, test).await;
}

/// CON-27: the peer reads `connection.close` and does not answer.
#[actix::test]
async fn closing_a_connection_waits_for_close_ok_until_close_timeout() {
    let limit = Duration::from_millis(100);
    let (connection, mut socket) = connect_to_peer(|connector| connector.close_timeout(limit)).await;
    let server = async {
        socket.expect::<connection::Close>(0).await.unwrap();
        socket.read_to_end().await.unwrap()
    };
    let both = async { tokio::join!(connection.close(), server) };
    let (closed, rest) = within("the close", 5, both).await;
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(rest, []);
    assert!(connection.is_closed());
}

/// Both sides close at the same time.
#[actix::test]
async fn simultaneous_closes_end_a_connection() {
    let (connection, mut socket) = connect_to_peer(|connector| connector).await;
    let server = async {
        socket.expect::<connection::Close>(0).await.unwrap();
        socket.close_connection(320, "forced").await.unwrap();
        socket.expect_eof().await.unwrap();
    };
    let both = async { tokio::join!(connection.close(), server) };
    within("the close", 5, both).await.0.unwrap();
}

/// CH-17: client and broker send `channel.close` at the same time.
#[actix::test]
async fn simultaneous_closes_of_a_channel_do_not_affect_other_channels() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let one = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let two = open_channel(&connection, &mut socket, 2, OpenChannel::new()).await;
        let server = async {
            socket.expect::<channel::Close>(1).await.unwrap();
            let close =
                channel::Close { reply_code: 404, reply_text: "gone".into(), class_id: 60, method_id: 40 };
            socket.send(1, close).await.unwrap();
            socket.expect::<channel::CloseOk>(1).await.unwrap();
            socket.send(1, channel::CloseOk {}).await.unwrap();
            socket.answer(2, |_: basic::Qos| basic::QosOk {}).await.unwrap();
        };
        let client = async {
            one.close().await.unwrap();
            two.set_qos(1).await.unwrap();
        };
        tokio::join!(client, server);
        let again = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        assert_eq!(again.number(), 1);
    };
    within("the close", 10, test).await;
}

crate::modes! {
    /// CH-17 with a real broker: other channels stay open, whichever side closes first.
    async fn a_channel_error_during_its_close_does_not_affect_other_channels(bench: Bench) {
        for _ in 0..50 {
            let channel = bench.another_channel().await;
            let lost = channel.exchange("missing").publish_deferred("x", "y").await.unwrap();
            let closed = channel.close().await;
            assert!(channel.is_closed());
            if bench.confirms {
                // The broker closes the channel while the close waits for the confirm.
                let error = closed.unwrap_err();
                assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)));
                assert!(error.to_string().contains("1 publishes unconfirmed"), "{error}");
                for error in [channel.close_cause().unwrap(), within("the answer", 5, lost).await.unwrap_err()] {
                    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
                }
            } else {
                closed.unwrap();
            }
        }
        bench.channel.declare_queue("jobs").await.unwrap();
    }
}

/// D13: its number is not used until the broker has answered the close.
#[actix::test]
async fn a_timed_out_channel_is_closed_before_its_number_is_reused() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, short_deadline()).await;
        let (first, close) = tokio::join!(channel.declare_queue("jobs"), async {
            socket.expect::<queue::Declare>(1).await.unwrap();
            socket.expect::<channel::Close>(1).await.unwrap()
        });
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(close.reply_code, 541);
        assert_eq!(channel.set_qos(1).await.unwrap_err().kind(), ErrorKind::ChannelClosed);
        let next = open_channel(&connection, &mut socket, 2, OpenChannel::new()).await;
        // The late answer is ignored.
        socket.send(1, queue::DeclareOk { queue: "jobs".into(), ..Default::default() }).await.unwrap();
        socket.send(1, channel::CloseOk {}).await.unwrap();
        let server = async { socket.answer(2, |_: basic::Qos| basic::QosOk {}).await.unwrap() };
        tokio::join!(async { next.set_qos(1).await.unwrap() }, server);
        let again = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        assert_eq!(again.number(), 1);
    };
    within("the timed out channel", 15, test).await;
}

/// CH-32: a short string holds 255 bytes.
#[actix::test]
async fn a_long_close_reason_is_cut_between_characters() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let reason = "ä".repeat(200);
        let close = channel.close_with(CloseChannel::new().reason(501, reason.clone()));
        let (closed, sent) = tokio::join!(close, socket.expect_channel_close(1));
        closed.unwrap();
        assert_eq!(sent.unwrap(), (501, "ä".repeat(127)));
        let close = connection.close_with(CloseConnection::new().reason(320, reason));
        let (closed, sent) = tokio::join!(close, socket.expect_close());
        closed.unwrap();
        assert_eq!(sent.unwrap(), (320, "ä".repeat(127)));
    };
    within("the closes", 10, test).await;
}

/// CON-13: another task closes the connection.
#[actix::test]
async fn a_stream_ends_in_order_when_its_connection_is_closed() {
    let bench = Bench::open(true).await;
    let test = async {
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        let exchange = bench.channel.default_exchange();
        join_all((0..100).map(|n| exchange.publish(n.to_string(), "jobs")))
            .await
            .into_iter()
            .for_each(|confirmed| assert!(confirmed.unwrap().sequence().is_some()));
        let mut deliveries = queue.deliveries().await.unwrap();
        for n in 0..100 {
            let delivery = deliveries.next().await.unwrap();
            assert_eq!(delivery.body(), n.to_string().as_bytes());
            delivery.ack().unwrap();
        }
        let connection = bench.connection.clone();
        actix::spawn(async move { connection.close().await }).await.unwrap().unwrap();
        assert!(deliveries.next().await.is_none());
        // The acks were sent before connection.close.
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!(oracle.count("jobs").await, 0);
    };
    within("a hundred deliveries", 20, test).await;
}

/// CH-29: all calls return, in whatever order they run.
#[actix::test]
async fn concurrent_closes_opens_and_acks_all_return() {
    let test = async {
        for round in 0..8 {
            let bench = Bench::open(round % 2 == 0).await;
            let queue = bench.channel.declare_queue("jobs").await.unwrap();
            let publishing = || Publishing::new("x").mandatory(false);
            let exchange = bench.channel.default_exchange();
            for _ in 0..8 {
                exchange.publish(publishing(), "jobs").await.unwrap();
            }
            let deliveries: Vec<_> = queue.deliveries().await.unwrap().take(8).collect().await;
            let tasks = deliveries.into_iter().enumerate().flat_map(|(n, delivery)| {
                let (connection, channel) = (bench.connection.clone(), bench.channel.clone());
                let exchange = exchange.clone();
                [
                    actix::spawn(async move {
                        let _ = delivery.ack();
                    }),
                    actix::spawn(async move {
                        let _ = exchange.publish("y", "jobs").await;
                    }),
                    actix::spawn(async move {
                        let _ = channel.close().await;
                    }),
                    actix::spawn(async move {
                        if n == 5 {
                            let _ = connection.close().await;
                        } else {
                            let _ = connection.channel().await;
                        }
                    }),
                ]
            });
            join_all(tasks.collect::<Vec<_>>()).await.into_iter().for_each(|joined| joined.unwrap());
            assert!(bench.connection.is_closed());
        }
    };
    within("all rounds", 40, test).await;
}

/// CH-18: the late answer is ignored.
#[actix::test]
async fn a_call_that_times_out_leaves_the_connection_usable() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        for number in 1..=3 {
            let channel = open_channel(&connection, &mut socket, number, short_deadline()).await;
            let started = Instant::now();
            let (timed_out, declare) =
                tokio::join!(channel.declare_queue("jobs"), socket.expect::<queue::Declare>(number));
            let error: Error = timed_out.unwrap_err();
            assert_eq!((error.kind(), error.entity()), (ErrorKind::Timeout, Some("jobs")));
            assert!(started.elapsed() >= Duration::from_millis(200));
            // The late answer of the first call must not answer the second.
            let second = channel.declare_queue("others");
            let server = async {
                let late = queue::DeclareOk { queue: declare.unwrap().queue, ..Default::default() };
                let other = socket.expect::<queue::Declare>(number).await.unwrap();
                let answer = queue::DeclareOk { queue: other.queue, ..Default::default() };
                let frames = [RawFrame::method(number, late), RawFrame::method(number, answer)];
                socket.send_frames(&frames).await.unwrap();
            };
            let (second, ()) = tokio::join!(second, server);
            assert_eq!(second.unwrap().name(), "others");
            std::mem::forget(channel);
        }
        assert!(connection.closed().now_or_never().is_none());
    };
    within("the calls", 15, test).await;
}
