//! `basic.get`, and settling the messages that it returns.

use crate::support::eventually;
use crate::support::oracle::Oracle;
use crate::support::proxy::Direction;
use crate::support::recorded_connection::{RecordedConnection, SettleFrame};
use actix_pika::{
    DeclareQueue, Delivery, ErrorKind,
    message::{Get, Settle},
};
use futures_util::{FutureExt, future::join_all};

crate::modes! {
    /// GET-01: a get returns `None` from an empty queue, the message after a publish, then `None` again.
    async fn a_get_from_an_empty_queue_returns_none(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        assert!(queue.get().await.unwrap().is_none());
        bench.channel.default_exchange().publish("one", "jobs").await.unwrap();
        let delivery = queue.get().await.unwrap().expect("a message");
        assert_eq!((delivery.body(), delivery.exchange(), delivery.routing_key()), (&b"one"[..], "", "jobs"));
        assert_eq!((delivery.redelivered(), delivery.consumer_tag()), (false, ""));
        delivery.ack().unwrap();
        assert!(queue.get().await.unwrap().is_none());
    }

    /// GET-02: a get returns how many messages are left; bodies are short, empty and larger than a frame.
    async fn a_get_returns_the_message_count(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        let exchange = bench.channel.default_exchange();
        let large: Vec<u8> = (0..131_082_u32).map(|n| n as u8).collect();
        for body in [b"normal".to_vec(), Vec::new(), large.clone()] {
            exchange.publish(body, "jobs").await.unwrap();
        }
        for (left, body) in [(2, b"normal".to_vec()), (1, Vec::new()), (0, large)] {
            let delivery = queue.get().await.unwrap().expect("a message");
            assert_eq!(delivery.message_count(), Some(left));
            assert!(delivery.body() == body);
            delivery.ack().unwrap();
        }
        assert!(queue.get().await.unwrap().is_none());
    }

    /// GET-01: a get from a missing queue fails with 404 and closes only its channel.
    async fn a_get_from_a_missing_queue_returns_404(bench: Bench) {
        let error = bench.channel.queue("missing").get().await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 404));
        assert_eq!(error.close_reason().unwrap().method, "basic.get");
        assert!(bench.channel.is_closed());
        bench.another_channel().await.declare_queue("jobs").await.unwrap();
    }

    /// GET: a `no_ack` get removes the message from the queue.
    async fn a_no_ack_get_removes_the_message(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["one".to_owned()]).await;
        let delivery = bench.channel.queue("jobs").get_with(Get::new("jobs").no_ack(true)).await.unwrap().unwrap();
        assert!(delivery.is_no_ack());
        assert_eq!(bench.channel.load().unsettled, 0);
        drop(delivery);
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// GET, design 13.10: the message of a get whose future was dropped is requeued once.
    async fn the_message_of_a_dropped_get_is_requeued(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["one".to_owned()]).await;
        let recorded = RecordedConnection::open(&bench).await;
        let queue = recorded.channel.queue("jobs");
        let mut get = Box::pin(queue.get());
        assert!(get.as_mut().now_or_never().is_none());
        recorded.proxy.wait_for_method(Direction::ToBroker, (60, 70), 1).await;
        drop(get);
        recorded.proxy.wait_for_method(Direction::ToBroker, (60, 120), 1).await;
        eventually("the message is requeued", 5, async || (oracle.count("jobs").await == 1).then_some(())).await;
        assert_eq!(recorded.settle_frames(), [SettleFrame::Nack { tag: 1, multiple: false, requeue: true }]);
        // The next get receives its own reply.
        let delivery = recorded.channel.queue("jobs").get().await.unwrap().unwrap();
        assert_eq!((delivery.delivery_tag(), delivery.redelivered()), (2, true));
        delivery.ack().unwrap();
    }

    /// GET: simultaneous gets return the messages in order.
    async fn simultaneous_gets_return_messages_in_order(bench: Bench) {
        let oracle = bench.fill_queue("jobs", (0..20).map(|n| n.to_string())).await;
        let queue = bench.channel.queue("jobs");
        let got = join_all((0..21).map(|_| queue.get())).await;
        let got: Vec<Option<Delivery>> = got.into_iter().map(Result::unwrap).collect();
        let bodies: Vec<_> = got.iter().flatten().map(|d| String::from_utf8(d.body().to_vec()).unwrap()).collect();
        assert_eq!(bodies, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(got[20].is_none());
        for delivery in got.into_iter().flatten() {
            bench.channel.actor().send(Settle::ack(delivery)).await.unwrap().unwrap();
        }
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// ACK-04: of two messages, the one that was not acknowledged is requeued when the channel closes.
    async fn an_unacknowledged_message_is_requeued_at_close(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["first".to_owned(), "second".to_owned()]).await;
        let queue = bench.channel.queue("jobs");
        let first = queue.get().await.unwrap().unwrap();
        queue.get().await.unwrap().unwrap().ack().unwrap();
        bench.channel.close().await.unwrap();
        oracle.wait_for_count("jobs", 1).await;
        let requeued = oracle.drain("jobs").await;
        assert_eq!(requeued.len(), 1);
        assert_eq!((&requeued[0].data[..], requeued[0].redelivered), (&b"first"[..], true));
        assert!(first.is_stale());
    }

    /// ACK-05: `ack_all` of the last of two gets settles both.
    async fn ack_all_covers_earlier_gets(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["first".to_owned(), "second".to_owned()]).await;
        let queue = bench.channel.queue("jobs");
        let first = queue.get().await.unwrap().unwrap();
        queue.get().await.unwrap().unwrap().ack_all().unwrap();
        assert_eq!(first.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// ACK-06: a nack with requeue makes the message redelivered; without, it is dropped.
    async fn a_nack_requeues_or_drops(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["one".to_owned()]).await;
        let queue = bench.channel.queue("jobs");
        let first = queue.get().await.unwrap().unwrap();
        assert!(!first.redelivered());
        first.nack(true).unwrap();
        let second = queue.get().await.unwrap().unwrap();
        assert_eq!((second.body(), second.redelivered()), (&b"one"[..], true));
        second.reject(true).unwrap();
        let third = queue.get().await.unwrap().unwrap();
        assert!(third.redelivered());
        third.nack(false).unwrap();
        assert!(queue.get().await.unwrap().is_none());
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// ACK-08: four of five messages are taken and the second is acknowledged: `nack_all` of the fourth requeues 1, 3
    /// and 4 in front of the fifth.
    async fn nack_all_requeues_in_order(bench: Bench) {
        let oracle = bench.fill_queue("jobs", (1..=5).map(|n| n.to_string())).await;
        let queue = bench.channel.queue("jobs");
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(queue.get().await.unwrap().unwrap());
        }
        let fourth = taken.pop().unwrap();
        taken.remove(1).ack().unwrap();
        fourth.nack_all(true).unwrap();
        bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        assert_eq!(bench.channel.load().unsettled, 0);
        let messages = oracle.drain("jobs").await;
        let messages: Vec<_> = messages.iter().map(|d| (d.data[0], d.redelivered)).collect();
        assert_eq!(messages, [(b'1', true), (b'3', true), (b'4', true), (b'5', false)]);
        assert_eq!(taken.pop().unwrap().ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    }

    /// ACK-01, ACK-02: settling consumes the delivery, so it cannot be settled twice. A delivery that is dropped
    /// unsettled is requeued exactly once.
    async fn a_dropped_delivery_is_requeued_exactly_once(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["one".to_owned()]).await;
        let recorded = RecordedConnection::open(&bench).await;
        let delivery = recorded.channel.queue("jobs").get().await.unwrap().unwrap();
        std::thread::spawn(move || drop(delivery)).join().unwrap();
        recorded.flush().await;
        assert_eq!(recorded.settle_frames(), [SettleFrame::Reject { tag: 1, requeue: true }]);
        recorded.channel.close().await.unwrap();
        oracle.wait_for_count("jobs", 1).await;
        assert_eq!(oracle.drain_bodies("jobs").await, [b"one"]);
    }
}

/// GET-03: a get without a reply in time fails with `Timeout`, and its late message is requeued.
#[actix::test]
async fn a_get_without_a_reply_times_out_and_its_late_message_is_requeued() {
    use actix_pika::OpenChannel;
    use std::time::Duration;

    let bench = crate::support::modes::Bench::open(true).await;
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    oracle.declare_queue("jobs").await;
    oracle.publish("", "jobs", "one").await;
    let recorded = RecordedConnection::open(&bench).await;
    let options = OpenChannel::new().deadline(Duration::from_millis(800));
    let channel = recorded.connection.channel_with(options).await.unwrap();
    recorded.proxy.stall(Direction::ToClient);
    let error = crate::support::within("the deadline", 5, channel.queue("jobs").get()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    recorded.proxy.resume(Direction::ToClient);
    eventually("the message is requeued", 5, async || (oracle.count("jobs").await == 1).then_some(())).await;
    assert_eq!(
        recorded.settle_frames_on(channel.number()),
        [SettleFrame::Nack { tag: 1, multiple: false, requeue: true }]
    );
    assert!(channel.queue("jobs").get().await.unwrap().is_some());
}
