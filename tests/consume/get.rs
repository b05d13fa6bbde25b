//! `basic.get`: one message at a time.

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
    /// GET-01: a get from an empty queue is `None`, after a publish it is the message, then `None` again.
    async fn a_get_from_an_empty_queue_is_none(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        assert!(queue.get().await.unwrap().is_none());
        bench.channel.default_exchange().publish("one", "jobs").await.unwrap();
        let delivery = queue.get().await.unwrap().expect("a message");
        assert_eq!((delivery.body(), delivery.exchange(), delivery.routing_key()), (&b"one"[..], "", "jobs"));
        assert_eq!((delivery.redelivered(), delivery.consumer_tag()), (false, ""));
        delivery.ack().unwrap();
        assert!(queue.get().await.unwrap().is_none());
    }

    /// GET-02: a get tells how many are left; normal, empty and larger than a frame.
    async fn a_get_tells_how_many_are_left(bench: Bench) {
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

    /// GET-01: a missing queue is 404, and costs the channel only.
    async fn a_get_from_a_missing_queue_is_refused(bench: Bench) {
        let error = bench.channel.queue("missing").get().await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 404));
        assert_eq!(error.close_reason().unwrap().method, "basic.get");
        assert!(bench.channel.is_closed());
        bench.another_channel().await.declare_queue("jobs").await.unwrap();
    }

    /// GET: a `no_ack` get takes the message for good.
    async fn a_no_ack_get_needs_no_settling(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["one".to_owned()]).await;
        let delivery = bench.channel.queue("jobs").get_with(Get::new("jobs").no_ack(true)).await.unwrap().unwrap();
        assert!(delivery.is_no_ack());
        assert_eq!(bench.channel.load().unsettled, 0);
        drop(delivery);
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// GET, design 13.10: a get that nobody waits for any more puts its message back, once.
    async fn a_get_that_was_given_up_puts_its_message_back(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["one".to_owned()]).await;
        let recorded = RecordedConnection::open(&bench).await;
        let queue = recorded.channel.queue("jobs");
        let mut get = Box::pin(queue.get());
        assert!(get.as_mut().now_or_never().is_none());
        recorded.proxy.wait_for_method(Direction::ToBroker, (60, 70), 1).await;
        drop(get);
        recorded.proxy.wait_for_method(Direction::ToBroker, (60, 90), 1).await;
        eventually("it is back", 5, async || (oracle.count("jobs").await == 1).then_some(())).await;
        assert_eq!(recorded.settle_frames(), [SettleFrame::Reject { tag: 1, requeue: true }]);
        // The next get is answered with its own answer.
        let delivery = recorded.channel.queue("jobs").get().await.unwrap().unwrap();
        assert_eq!((delivery.delivery_tag(), delivery.redelivered()), (2, true));
        delivery.ack().unwrap();
    }

    /// GET: gets and other calls under way at once are answered each with its own.
    async fn gets_under_way_at_once_are_answered_in_order(bench: Bench) {
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

    /// ACK-04: of two taken, the one that was not acknowledged comes back when the channel closes.
    async fn what_was_not_acknowledged_comes_back(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["first".to_owned(), "second".to_owned()]).await;
        let queue = bench.channel.queue("jobs");
        let first = queue.get().await.unwrap().unwrap();
        queue.get().await.unwrap().unwrap().ack().unwrap();
        bench.channel.close().await.unwrap();
        oracle.wait_for_count("jobs", 1).await;
        let back = oracle.drain("jobs").await;
        assert_eq!(back.len(), 1);
        assert_eq!((&back[0].data[..], back[0].redelivered), (&b"first"[..], true));
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

    /// ACK-06: a nack with requeue brings the same body again, redelivered; without, it is gone.
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

    /// ACK-08: of five, four taken and the second acknowledged, `nack_all` of the fourth puts 1, 3, 4 back in front.
    async fn nack_all_puts_back_in_order(bench: Bench) {
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
        let back = oracle.drain("jobs").await;
        let back: Vec<_> = back.iter().map(|d| (d.data[0], d.redelivered)).collect();
        assert_eq!(back, [(b'1', true), (b'3', true), (b'4', true), (b'5', false)]);
        assert_eq!(taken.pop().unwrap().ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    }

    /// ACK-01, ACK-02: settling takes the delivery, so only another copy of the right could settle twice; none is made.
    /// What is dropped unsettled goes back exactly once.
    async fn what_is_dropped_goes_back_exactly_once(bench: Bench) {
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

/// GET-03: a get that is not answered in time is `Timeout`, and its late message goes back.
#[actix::test]
async fn a_get_without_an_answer_times_out_and_its_late_message_goes_back() {
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
    eventually("it is back", 5, async || (oracle.count("jobs").await == 1).then_some(())).await;
    assert_eq!(recorded.settle_frames_on(channel.number()), [SettleFrame::Reject { tag: 1, requeue: true }]);
    assert!(channel.queue("jobs").get().await.unwrap().is_some());
}
