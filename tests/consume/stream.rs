//! Streams of deliveries: order, requeue of unread deliveries, and the reasons why a stream ends.

use std::time::Duration;

use super::{numbers, text};
use crate::support::proxy::Direction;
use crate::support::recorded_connection::{RecordedConnection, SettleFrame};
use crate::support::{eventually, until_unsettled, within};
use actix_pika::{Consume, ConsumerEnd, DeclareQueue, ErrorKind, OpenChannel, message::CancelConsumer};
use futures_util::{FutureExt, StreamExt};

crate::modes! {
    /// ITR-01: a stream that is read while another task publishes returns all messages in order; dropping it ends the
    /// consumer.
    async fn a_stream_returns_messages_in_order(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let publisher = bench.another_channel().await;
        actix::spawn(async move {
            for n in 0..100 {
                publisher.default_exchange().publish(n.to_string(), "jobs").await.unwrap();
            }
        });
        let mut stream = bench.channel.queue("jobs").deliveries().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await.unwrap().1, 1);
        let mut bodies = Vec::new();
        while let Some(delivery) = stream.next().await {
            bodies.push(text(&delivery));
            delivery.ack().unwrap();
            if bodies.len() == 100 {
                break;
            }
        }
        assert_eq!(bodies, numbers(100));
        drop(stream);
        oracle.wait_for_requeue("jobs", 0).await;
    }

    /// ITR-02, CNS-09: a stream ends when another task closes the connection, and `end` returns that reason.
    async fn a_stream_ends_with_its_connection(bench: Bench) {
        let _oracle = bench.fill_queue("jobs", numbers(100)).await;
        let mut stream = bench.channel.queue("jobs").deliveries().await.unwrap();
        let mut bodies = Vec::new();
        while let Some(delivery) = stream.next().await {
            bodies.push(text(&delivery));
            delivery.ack().unwrap();
            if bodies.len() == 100 {
                let connection = bench.connection.clone();
                actix::spawn(async move { connection.close().await.unwrap() });
            }
        }
        assert_eq!(bodies, numbers(100));
        let Some(ConsumerEnd::Closed(error)) = stream.end() else { panic!("{:?}", stream.end()) };
        assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
        assert!(stream.next().await.is_none());
    }

    /// CNS-09: a stream ends when the broker closes its channel, and `end` returns the broker's reason.
    async fn a_stream_ends_with_its_channel(bench: Bench) {
        let _oracle = bench.fill_queue("jobs", []).await;
        let mut stream = bench.channel.queue("jobs").deliveries().await.unwrap();
        let refused = async {
            bench.channel.queue("missing").get().await.unwrap_err();
        };
        let (next, ()) = within("the end", 10, async { tokio::join!(stream.next(), refused) }).await;
        assert!(next.is_none());
        let Some(ConsumerEnd::Closed(error)) = stream.end() else { panic!("{:?}", stream.end()) };
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
    }

    /// CNS-10: a prefetched delivery is not returned after the connection was closed, since it cannot be settled any
    /// more.
    async fn prefetched_deliveries_are_not_returned_after_a_close(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(2)).await;
        let mut stream = bench.channel.queue("jobs").deliveries().await.unwrap();
        until_unsettled(&bench.channel, 2).await;
        let first = stream.next().await.unwrap();
        bench.connection.close().await.unwrap();
        assert!(within("the end", 5, stream.next()).await.is_none());
        assert!(matches!(stream.end(), Some(ConsumerEnd::Closed(_))));
        assert!(first.is_stale());
        drop(first);
        oracle.wait_for_count("jobs", 2).await;
        assert_eq!(oracle.drain_bodies("jobs").await, [b"0", b"1"]);
    }

    /// CNS: when a queue is deleted, its streams return what they received and then end; the channel stays open.
    async fn a_stream_ends_with_its_queue(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(3)).await;
        let recorded = RecordedConnection::open(&bench).await;
        // With its type: RabbitMQ 4.3 would take deliveries of a quorum queue back with the cancel.
        let jobs = recorded.channel.declare_queue(DeclareQueue::new("jobs").classic()).await.unwrap();
        let mut stream = jobs.deliveries().await.unwrap();
        let mut bodies = Vec::new();
        for _ in 0..3 {
            let delivery = stream.next().await.unwrap();
            bodies.push(text(&delivery));
            delivery.ack().unwrap();
        }
        recorded.flush().await;
        // The deliveries and the cancel arrive in one read.
        recorded.proxy.stall(Direction::ToClient);
        oracle.publish("", "jobs", "3").await;
        oracle.publish("", "jobs", "4").await;
        oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
        recorded.proxy.resume(Direction::ToClient);
        while let Some(delivery) = within("the rest", 5, stream.next()).await {
            bodies.push(text(&delivery));
            delivery.ack().unwrap();
        }
        assert_eq!(bodies, numbers(5));
        assert!(matches!(stream.end(), Some(ConsumerEnd::CancelledByBroker)));
        drop(stream);
        assert_eq!(recorded.channel.load().unsettled, 0);
        recorded.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        assert!(!recorded.channel.is_closed());
    }

    /// ITR-03, CNS-03: a stream whose consumer is cancelled by its tag ends; cancelling and closing it again succeeds.
    async fn a_stream_may_be_closed_twice(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(1)).await;
        let mut stream = bench.channel.queue("jobs").deliveries_with(Consume::new().tag("mine")).await.unwrap();
        assert_eq!(stream.tag(), "mine");
        stream.next().await.unwrap().ack().unwrap();
        bench.channel.actor().send(CancelConsumer::new("mine")).await.unwrap().unwrap();
        assert!(within("the end", 5, stream.next()).await.is_none());
        assert!(matches!(stream.end(), Some(ConsumerEnd::Cancelled)));
        bench.channel.actor().send(CancelConsumer::new("mine")).await.unwrap().unwrap();
        stream.close().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }

    /// ITR-04: closing a `no_ack` stream after its first message sends no settle frame.
    async fn closing_a_no_ack_stream_sends_no_settle_frame(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(3)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut stream = recorded.channel.queue("jobs").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        assert_eq!(text(&stream.next().await.unwrap()), "0");
        stream.close().await.unwrap();
        recorded.flush().await;
        assert_eq!(recorded.settle_frames(), []);
        assert_eq!(oracle.queue_counts("jobs").await.unwrap().1, 0);
    }

    /// ITR-06: a stream of an empty queue waits, can be given a timeout, and then returns the next message.
    async fn a_stream_of_an_empty_queue_waits(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let mut stream = bench.channel.queue("jobs").deliveries().await.unwrap();
        let next = within("a timeout", 5, tokio::time::timeout(Duration::from_millis(200), stream.next())).await;
        assert!(next.is_err());
        oracle.publish("", "jobs", "late").await;
        assert_eq!(text(&within("a message", 5, stream.next()).await.unwrap()), "late");
    }

    /// ITR-07: closing and dropping a stream requeue its unread deliveries in order.
    async fn unread_deliveries_are_requeued_in_order(bench: Bench) {
        let oracle = bench.fill_queue("jobs", (1..=5).map(|n| n.to_string())).await;
        let recorded = RecordedConnection::open(&bench).await;
        let queue = recorded.channel.queue("jobs");
        let mut stream = queue.deliveries_with(Consume::new().prefetch(0)).await.unwrap();
        stream.next().await.unwrap().ack().unwrap();
        until_unsettled(&recorded.channel, 4).await;
        stream.close().await.unwrap();
        recorded.flush().await;
        let nack = |tag| SettleFrame::Nack { tag, multiple: false, requeue: true };
        let mut expected = vec![SettleFrame::Ack { tag: 1, multiple: false }];
        expected.extend((2..=5).map(nack));
        assert_eq!(recorded.settle_frames(), expected);

        let stream = queue.deliveries_with(Consume::new().prefetch(0)).await.unwrap();
        until_unsettled(&recorded.channel, 4).await;
        drop(stream);
        oracle.wait_for_requeue("jobs", 4).await;
        expected.extend((6..=9).map(nack));
        assert_eq!(recorded.settle_frames(), expected);
        assert_eq!(oracle.drain_bodies("jobs").await, [b"2", b"3", b"4", b"5"]);
    }

    /// `next` is cancel safe: dropping it in a `select!` loses no delivery.
    async fn dropping_next_loses_nothing(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let mut stream = bench.channel.queue("jobs").deliveries().await.unwrap();
        let publishing = actix::spawn(async move {
            for n in 0..200 {
                oracle.publish("", "jobs", n.to_string()).await;
            }
            oracle
        });
        let (mut bodies, mut dropped) = (Vec::new(), 0);
        while bodies.len() < 200 {
            tokio::select! {
                biased;
                _ = tokio::task::yield_now() => dropped += 1,
                delivery = stream.next() => {
                    let delivery = delivery.unwrap();
                    bodies.push(text(&delivery));
                    delivery.ack().unwrap();
                }
            }
            if dropped % 2 == 1 {
                dropped += 1;
                tokio::task::yield_now().await;
                if let Some(delivery) = stream.next().now_or_never() {
                    let delivery = delivery.unwrap();
                    bodies.push(text(&delivery));
                    delivery.ack().unwrap();
                }
            }
        }
        assert!(dropped > 0);
        assert_eq!(bodies, numbers(200));
        stream.close().await.unwrap();
        bench.channel.close().await.unwrap();
        assert_eq!(publishing.await.unwrap().count("jobs").await, 0);
    }

    /// Design 13.10: dropping the future that opens a stream leaves no consumer.
    async fn dropping_a_stream_while_it_opens_leaves_no_consumer(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(3)).await;
        // Dropped before the reply.
        let queue = bench.channel.queue("jobs");
        let mut opening = Box::pin(queue.deliveries());
        assert!(opening.as_mut().now_or_never().is_none());
        drop(opening);
        // Dropped after the reply, which was not polled.
        let mut opening = Box::pin(queue.deliveries());
        assert!(opening.as_mut().now_or_never().is_none());
        until_unsettled(&bench.channel, 3).await;
        drop(opening);
        oracle.wait_for_requeue("jobs", 3).await;
        assert_eq!(bench.channel.load().unsettled, 0);
    }

    /// Design 13.10: dropping `close` after one poll still ends the consumer.
    async fn dropping_close_still_ends_the_consumer(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(3)).await;
        let stream = bench.channel.queue("jobs").deliveries().await.unwrap();
        until_unsettled(&bench.channel, 3).await;
        assert!(stream.close().now_or_never().is_none());
        oracle.wait_for_requeue("jobs", 3).await;
    }

    /// A `no_ack` stream still returns the messages that were read after its channel closed: the broker has no copy of
    /// them.
    async fn no_ack_messages_are_returned_after_the_channel_closed(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(50)).await;
        let mut stream = bench.channel.queue("jobs").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        assert_eq!(text(&stream.next().await.unwrap()), "0");
        eventually("all were sent", 5, async || (oracle.count("jobs").await == 0).then_some(())).await;
        bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        bench.channel.close().await.unwrap();
        let mut bodies = vec!["0".to_owned()];
        while let Some(delivery) = within("the rest", 5, stream.next()).await {
            bodies.push(text(&delivery));
        }
        assert_eq!(bodies, numbers(50));
        assert!(matches!(stream.end(), Some(ConsumerEnd::Closed(_))));
    }
}

/// Design 13.12: a stream keeps its channel open, and the channel closes after the stream is dropped.
#[actix::test]
async fn a_stream_keeps_its_channel_open() {
    let bench = crate::support::modes::Bench::open(true).await;
    let oracle = bench.fill_queue("jobs", numbers(2)).await;
    let channel = bench.connection.channel_with(OpenChannel::new()).await.unwrap();
    let mut stream = channel.queue("jobs").deliveries().await.unwrap();
    drop(channel);
    for n in 0..2 {
        let delivery = within("a delivery", 5, stream.next()).await.unwrap();
        assert_eq!(text(&delivery), n.to_string());
        delivery.ack().unwrap();
    }
    oracle.publish("", "jobs", "2").await;
    let last = within("a delivery", 5, stream.next()).await.unwrap();
    drop(stream);
    // The channel stays open until the delivery that the application holds is settled.
    last.ack().unwrap();
    oracle.wait_for_requeue("jobs", 0).await;
    eventually("one channel less", 10, async || (bench.vhost.channels().await.len() <= 2).then_some(()))
        .await;
    assert_eq!(oracle.count("jobs").await, 0);
}
