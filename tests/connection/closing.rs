//! Closing channels and connections: what is under way is awaited, within the time allowed, and nobody hangs.

use std::time::{Duration, Instant};

use crate::support::scripted_peer::{connect_to_peer, open_channel};
use crate::support::{modes::Bench, oracle::Oracle, within};
use actix_pika::testing::protocol::{basic, channel, connection, queue};
use actix_pika::testing::{Disconnect, PeerSocket, RawFrame};
use actix_pika::{
    Error, ErrorKind, OpenChannel, Publishing,
    message::{CloseChannel, CloseConnection},
};
use futures_util::{FutureExt, StreamExt, future::join_all};

const QUIET: Duration = Duration::from_millis(50);

fn fast() -> OpenChannel {
    OpenChannel::new().deadline(Duration::from_millis(200))
}

/// Reads one publish of the scripted peer's side: its three frames.
async fn expect_publish(socket: &mut PeerSocket, number: u16) {
    socket.expect::<basic::Publish>(number).await.unwrap();
    socket.next_frame_on(number).await.unwrap();
    socket.next_frame_on(number).await.unwrap();
}

/// 13.12: a channel is closed behind the confirms that are under way.
#[actix::test]
async fn closing_a_channel_awaits_its_confirms() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let confirm = channel.default_exchange().publish_deferred("x", "jobs").await.unwrap();
        expect_publish(&mut socket, 1).await;
        let close = actix::spawn({
            let channel = channel.clone();
            async move { channel.close().await }
        });
        socket.expect_nothing(QUIET).await.unwrap();
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

/// 13.12: the deadline is the channel's; the error says how many publishes are in doubt.
#[actix::test]
async fn closing_a_channel_gives_up_unconfirmed_publishes_at_the_deadline() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, fast()).await;
        let exchange = channel.default_exchange();
        let confirms = [
            exchange.publish_deferred("x", "jobs").await.unwrap(),
            exchange.publish_deferred("y", "jobs").await.unwrap(),
        ];
        let server = async {
            expect_publish(&mut socket, 1).await;
            expect_publish(&mut socket, 1).await;
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

/// 13.12: `connection.close` goes out behind the last confirm of the last channel.
#[actix::test]
async fn closing_a_connection_awaits_the_confirms_of_all_channels() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let mut confirms = Vec::new();
        let mut channels = Vec::new();
        for number in 1..=2 {
            let channel = open_channel(&connection, &mut socket, number, OpenChannel::new()).await;
            confirms.push(channel.default_exchange().publish_deferred("x", "jobs").await.unwrap());
            expect_publish(&mut socket, number).await;
            channels.push(channel);
        }
        let close = actix::spawn({
            let connection = connection.clone();
            async move { connection.close().await }
        });
        socket.expect_nothing(QUIET).await.unwrap();
        let refused = connection.channel().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionClosed);
        socket.confirm(1, 1, false).await.unwrap();
        socket.expect_nothing(QUIET).await.unwrap();
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

/// 13.12: who keeps on publishing does not keep the connection open.
#[actix::test]
async fn closing_a_connection_ends_publishing() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let first = channel.default_exchange().publish_deferred("x", "jobs").await.unwrap();
        expect_publish(&mut socket, 1).await;
        let close = actix::spawn({
            let connection = connection.clone();
            async move { connection.close().await }
        });
        socket.expect_nothing(QUIET).await.unwrap();
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
async fn closing_a_connection_gives_up_unconfirmed_publishes_at_the_close_limit() {
    let test = async {
        let limit = Duration::from_millis(100);
        let (connection, mut socket) = connect_to_peer(|connector| connector.close_timeout(limit)).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let confirm = channel.default_exchange().publish_deferred("x", "jobs").await.unwrap();
        let server = async {
            expect_publish(&mut socket, 1).await;
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

/// A peer that takes `connection.close` and says nothing more is left at the close limit.
#[actix::test]
async fn a_mute_peer_does_not_hold_up_the_close_of_a_connection() {
    let limit = Duration::from_millis(100);
    let (connection, mut socket) = connect_to_peer(|connector| connector.close_timeout(limit)).await;
    let server = async {
        socket.expect::<connection::Close>(0).await.unwrap();
        socket.read_to_end().await.unwrap()
    };
    let both = async { tokio::join!(connection.close(), server) };
    let (closed, said) = within("the close", 5, both).await;
    closed.unwrap();
    assert_eq!(said, []);
    assert!(connection.is_closed());
}

/// Both sides close at once.
#[actix::test]
async fn crossing_closes_of_a_connection_end_it() {
    let (connection, mut socket) = connect_to_peer(|connector| connector).await;
    let server = async {
        socket.expect::<connection::Close>(0).await.unwrap();
        socket.close_connection(320, "forced").await.unwrap();
        socket.expect_eof().await.unwrap();
    };
    let both = async { tokio::join!(connection.close(), server) };
    within("the close", 5, both).await.0.unwrap();
}

/// CH-17: the broker's `channel.close` and ours cross.
#[actix::test]
async fn crossing_closes_of_a_channel_end_it_and_no_other() {
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
    /// CH-17 against a broker: whichever close is first, the other channel goes on.
    async fn a_channel_that_dies_while_it_is_closed_costs_no_other(bench: Bench) {
        for _ in 0..50 {
            let doomed = bench.another_channel().await;
            let lost = doomed.exchange("missing").publish_deferred("x", "y").await.unwrap();
            let closed = doomed.close().await;
            assert!(doomed.is_closed());
            if bench.confirms {
                // The close waits for the confirm, the broker closes the channel meanwhile, and what is left unconfirmed is told.
                let error = closed.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
                assert!(error.to_string().contains("1 publishes unconfirmed"), "{error}");
                for error in [doomed.close_cause().unwrap(), within("the answer", 5, lost).await.unwrap_err()] {
                    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
                }
            } else {
                closed.unwrap();
            }
        }
        bench.channel.declare_queue("jobs").await.unwrap();
    }
}

/// D13: a number may not be used again while the broker may think its channel open.
#[actix::test]
async fn a_channel_that_is_given_up_is_closed_before_its_number_is_used_again() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, fast()).await;
        let (first, close) = tokio::join!(channel.declare_queue("jobs"), async {
            socket.expect::<queue::Declare>(1).await.unwrap();
            socket.expect::<channel::Close>(1).await.unwrap()
        });
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(close.reply_code, 541);
        assert_eq!(channel.set_qos(1).await.unwrap_err().kind(), ErrorKind::ChannelClosed);
        let next = open_channel(&connection, &mut socket, 2, OpenChannel::new()).await;
        // What comes late is nobody's.
        socket.send(1, queue::DeclareOk { queue: "jobs".into(), ..Default::default() }).await.unwrap();
        socket.send(1, channel::CloseOk {}).await.unwrap();
        let server = async { socket.answer(2, |_: basic::Qos| basic::QosOk {}).await.unwrap() };
        tokio::join!(async { next.set_qos(1).await.unwrap() }, server);
        let again = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        assert_eq!(again.number(), 1);
    };
    within("a channel given up", 15, test).await;
}

/// CH-32: cut to what a short string holds, between characters.
#[actix::test]
async fn a_long_reason_is_cut_between_characters() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let reason = "ä".repeat(200);
        let close = channel.close_with(CloseChannel::new().reason(501, reason.clone()));
        let (closed, said) = tokio::join!(close, socket.expect_channel_close(1));
        closed.unwrap();
        assert_eq!(said.unwrap(), (501, "ä".repeat(127)));
        let close = connection.close_with(CloseConnection::new().reason(320, reason));
        let (closed, said) = tokio::join!(close, socket.expect_close());
        closed.unwrap();
        assert_eq!(said.unwrap(), (320, "ä".repeat(127)));
    };
    within("the closes", 10, test).await;
}

/// CON-13: closing from elsewhere while a stream is read: what came is in order, and the stream ends.
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
        // The acks went out in front of connection.close.
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!(oracle.count("jobs").await, 0);
    };
    within("a hundred deliveries", 20, test).await;
}

/// CH-29: everything at once; whatever wins, everyone is answered.
#[actix::test]
async fn a_race_of_closes_opens_and_settles_ends() {
    let test = async {
        for round in 0..8 {
            let bench = Bench::open(round % 2 == 0).await;
            let queue = bench.channel.declare_queue("jobs").await.unwrap();
            let publishing = || Publishing::new("x").mandatory(false);
            let exchange = bench.channel.default_exchange();
            for _ in 0..8 {
                exchange.publish(publishing(), "jobs").await.unwrap();
            }
            let held: Vec<_> = queue.deliveries().await.unwrap().take(8).collect().await;
            let tasks = held.into_iter().enumerate().flat_map(|(n, delivery)| {
                let (connection, channel) = (bench.connection.clone(), bench.channel.clone());
                let exchange = exchange.clone();
                [
                    actix::spawn(async move { drop(delivery.ack()) }),
                    actix::spawn(async move { drop(exchange.publish("y", "jobs").await) }),
                    actix::spawn(async move { drop(channel.close().await) }),
                    actix::spawn(async move {
                        match n {
                            5 => drop(connection.close().await),
                            _ => drop(connection.channel().await),
                        }
                    }),
                ]
            });
            join_all(tasks.collect::<Vec<_>>()).await.into_iter().for_each(|joined| joined.unwrap());
            assert!(bench.connection.is_closed());
        }
    };
    within("the races", 40, test).await;
}

/// CH-18: a late answer is for nobody, and the connection stays as it is.
#[actix::test]
async fn a_call_that_times_out_leaves_the_connection_usable() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        for number in 1..=3 {
            let channel = open_channel(&connection, &mut socket, number, fast()).await;
            let began = Instant::now();
            let (timed_out, declare) =
                tokio::join!(channel.declare_queue("jobs"), socket.expect::<queue::Declare>(number));
            let error: Error = timed_out.unwrap_err();
            assert_eq!((error.kind(), error.entity()), (ErrorKind::Timeout, Some("jobs")));
            assert!(began.elapsed() >= Duration::from_millis(200));
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
