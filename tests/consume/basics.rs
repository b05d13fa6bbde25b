//! Consumers that deliver to an actor: start, cancel, shared queues, and the requeue of unsettled deliveries.

use std::collections::BTreeSet;

use super::{numbers, text};
use crate::support::proxy::Direction;
use crate::support::recorded_connection::{RecordedConnection, SettleFrame};
use crate::support::{eventually, take, within};
use actix_pika::{
    Consume, ConsumerEnd, DeclareQueue, Delivery, ErrorKind, Publishing, message::CancelConsumer,
    testing::Probe,
};

crate::modes! {
    /// CNS-01: a handler receives body, exchange and routing key of a message published after the consume, and
    /// acknowledges it.
    async fn a_handler_receives_a_later_publish(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let mut probe = Probe::<Delivery>::start();
        let consumer = bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        bench.channel.default_exchange().publish("work", "jobs").await.unwrap();
        let delivery = probe.next().await.unwrap();
        assert_eq!((text(&delivery).as_str(), delivery.routing_key(), delivery.exchange()), ("work", "jobs", ""));
        assert_eq!((delivery.consumer_tag(), delivery.redelivered()), (consumer.tag(), false));
        delivery.ack().unwrap();
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }

    /// CNS-03: after a cancel the broker has no consumer, later messages stay in the queue, and no delivery arrives.
    async fn no_delivery_arrives_after_a_cancel(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let mut probe = Probe::<Delivery>::start();
        let mut ends = Probe::<ConsumerEnd>::start();
        let options = Consume::new().tag("mine").watch(ends.recipient());
        let consumer = bench.channel.queue("jobs").consume_with(options, probe.recipient()).await.unwrap();
        assert_eq!(consumer.tag(), "mine");
        oracle.publish("", "jobs", "first").await;
        probe.next().await.unwrap().ack().unwrap();
        consumer.cancel().await.unwrap();
        assert!(matches!(ends.next().await.unwrap(), ConsumerEnd::Cancelled));
        assert_eq!(oracle.queue_counts("jobs").await.unwrap().1, 0);
        let quiet = async {
            oracle.publish("", "jobs", "second").await;
            bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        };
        probe.expect_none_until(quiet).await.unwrap();
        assert_eq!(oracle.count("jobs").await, 1);
        // The tag is free again, and a second cancel succeeds.
        consumer.cancel().await.unwrap();
        let again = Consume::new().tag("mine");
        bench.channel.queue("jobs").consume_with(again, probe.recipient()).await.unwrap();
        assert_eq!(text(&probe.next().await.unwrap()), "second");
        assert_eq!(ends.count().await, 1);
    }

    /// CNS-07: a consume on a missing queue fails with 404 and closes its channel, ten times; the connection stays
    /// open.
    async fn a_consume_on_a_missing_queue_returns_404(bench: Bench) {
        for _ in 0..10 {
            let channel = bench.another_channel().await;
            let probe = Probe::<Delivery>::start();
            let error = channel.queue("missing").consume(probe.recipient()).await.unwrap_err();
            assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 404));
            assert_eq!(error.close_reason().unwrap().method, "basic.consume");
            assert!(channel.is_closed());
        }
        bench.channel.declare_queue("jobs").await.unwrap();
    }

    /// CNS-09: when a channel or the connection closes, its consumers end with the reason.
    async fn consumers_end_with_their_channel_and_connection(bench: Bench) {
        let _oracle = bench.fill_queue("jobs", []).await;
        let probe = Probe::<Delivery>::start();
        let mut ends = Probe::<ConsumerEnd>::start();
        let watcher = ends.recipient();
        let watched = || Consume::new().watch(watcher.clone());
        let queue = bench.channel.queue("jobs");
        queue.consume_with(watched(), probe.recipient()).await.unwrap();
        queue.consume_with(watched(), probe.recipient()).await.unwrap();
        bench.channel.close().await.unwrap();
        for _ in 0..2 {
            let ConsumerEnd::Closed(error) = ends.next().await.unwrap() else { panic!() };
            assert_eq!(error.kind(), ErrorKind::ChannelClosed);
        }
        let other = bench.another_channel().await;
        other.queue("jobs").consume_with(Consume::new().watch(ends.recipient()), probe.recipient()).await.unwrap();
        // The management API shows connections late. The second one is the other client's.
        let both = async || (bench.vhost.connections().await.len() == 2).then_some(());
        eventually("both connections are known", 15, both).await;
        bench.vhost.delete_connections("enough").await;
        let end = within("the end", 10, ends.next()).await.unwrap();
        let ConsumerEnd::Closed(error) = end else { panic!("{end:?}") };
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ConnectionClosed, 320));
    }

    /// CNS-13: two consumers, one with a given tag and one with a generated tag, share 100 messages, an empty and a
    /// large one among them; each is delivered once.
    async fn two_consumers_share_a_queue(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let (mut one, mut two) = (Probe::<Delivery>::start(), Probe::<Delivery>::start());
        let queue = bench.channel.queue("jobs");
        let named = queue.consume_with(Consume::new().tag("named"), one.recipient()).await.unwrap();
        let unnamed = queue.consume_with(Consume::new().tag(""), two.recipient()).await.unwrap();
        assert_eq!(named.tag(), "named");
        assert!(!unnamed.tag().is_empty());
        for n in 0..98 {
            oracle.publish("", "jobs", n.to_string()).await;
        }
        let large = vec![b'x'; 131_082];
        oracle.publish("", "jobs", "").await;
        oracle.publish("", "jobs", &large).await;
        let mut shares = [0, 0];
        let mut bodies = BTreeSet::new();
        for _ in 0..100 {
            let (at, delivery) = tokio::select! {
                delivery = one.next() => (0, delivery.unwrap()),
                delivery = two.next() => (1, delivery.unwrap()),
            };
            assert_eq!(delivery.consumer_tag(), [named.tag(), unnamed.tag()][at]);
            shares[at] += 1;
            assert!(bodies.insert(delivery.body().to_vec()), "twice");
            delivery.ack().unwrap();
        }
        assert!(bodies.contains(&large) && bodies.contains(&Vec::new()));
        assert_eq!(shares, [50, 50]);
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// CNS: a tag that is in use on the channel is refused locally: the broker would close the connection.
    async fn a_tag_in_use_is_refused_locally(bench: Bench) {
        let _oracle = bench.fill_queue("jobs", ["one".to_owned()]).await;
        let mut probe = Probe::<Delivery>::start();
        let queue = bench.channel.queue("jobs");
        queue.consume_with(Consume::new().tag("same"), probe.recipient()).await.unwrap();
        let again = queue.consume_with(Consume::new().tag("same"), probe.recipient()).await;
        let error = again.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.close_reason().is_none());
        assert_eq!(text(&probe.next().await.unwrap()), "one");
        // Another channel has its own tags.
        let other = bench.another_channel().await;
        other.queue("jobs").consume_with(Consume::new().tag("same"), probe.recipient()).await.unwrap();
        assert!(!bench.channel.is_closed());
    }

    /// CNS-14: a cancel does not requeue deliveries that the application holds; closing the channel does.
    async fn a_cancel_does_not_requeue_held_deliveries(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(5)).await;
        let mut probe = Probe::<Delivery>::start();
        let consumer = bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let mut held = take(&mut probe, 5).await;
        consumer.cancel().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
        held.remove(0).ack().unwrap();
        bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        assert_eq!((oracle.count("jobs").await, bench.channel.load().unsettled), (0, 4));
        bench.channel.close().await.unwrap();
        oracle.wait_for_count("jobs", 4).await;
        let requeued = oracle.drain("jobs").await;
        let requeued: Vec<_> = requeued.iter().map(|d| (d.data[0], d.redelivered)).collect();
        assert_eq!(requeued, [(b'1', true), (b'2', true), (b'3', true), (b'4', true)]);
    }

    /// CNS-16: of 2,000 messages 20 are acknowledged, then the channel closes with others in flight: 1,980 are
    /// requeued, each once.
    async fn deliveries_in_flight_are_requeued_when_the_channel_closes(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let exchange = bench.channel.default_exchange();
        for n in 0..2000 {
            drop(exchange.publish_deferred(n.to_string(), "jobs").await.unwrap());
        }
        bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        let channel = bench.another_channel().await;
        let mut probe = Probe::<Delivery>::start();
        channel.queue("jobs").consume_with(Consume::new().prefetch(0), probe.recipient()).await.unwrap();
        for delivery in take(&mut probe, 20).await {
            delivery.ack().unwrap();
        }
        channel.close().await.unwrap();
        oracle.wait_for_count("jobs", 1980).await;
        let mut bodies = oracle.drain_bodies("jobs").await;
        assert_eq!(bodies.len(), 1980);
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 1980);
    }

    /// CNS-16: of 1,000 messages 20 are acknowledged, then the connection closes: 980 are requeued, each once.
    async fn deliveries_in_flight_are_requeued_when_the_connection_closes(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let exchange = bench.channel.default_exchange();
        for n in 0..1000 {
            drop(exchange.publish_deferred(Publishing::new(n.to_string()), "jobs").await.unwrap());
        }
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        for delivery in take(&mut probe, 20).await {
            delivery.ack().unwrap();
        }
        bench.connection.close().await.unwrap();
        oracle.wait_for_count("jobs", 980).await;
        let mut bodies = oracle.drain_bodies("jobs").await;
        assert_eq!(bodies.len(), 980);
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 980);
    }

    /// CNS-03: deliveries that are dropped during a cancel are requeued once, after cancel-ok, so that they do not come
    /// back to the cancelled consumer.
    async fn a_cancel_with_deliveries_in_flight_requeues_each_once(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(300)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut probe = Probe::<Delivery>::start();
        let consumer = recorded.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let mut held = take(&mut probe, 150).await;
        for delivery in held.drain(..100) {
            delivery.ack().unwrap();
        }
        recorded.proxy.stall(Direction::ToClient);
        let cancelling = actix::spawn(async move { consumer.cancel().await });
        within("basic.cancel", 5, recorded.proxy.wait_for_method(Direction::ToBroker, (60, 30), 1)).await;
        drop(held);
        drop(recorded.channel.default_exchange().publish_deferred("marker", "nowhere").await.unwrap());
        within("the marker", 5, recorded.proxy.wait_for_method(Direction::ToBroker, (60, 40), 1)).await;
        assert!(recorded.settle_frames().iter().all(|frame| matches!(frame, SettleFrame::Ack { .. })));
        recorded.proxy.resume(Direction::ToClient);
        cancelling.await.unwrap().unwrap();
        let rest = probe.drain().await;
        for delivery in rest {
            assert!(!delivery.redelivered());
            delivery.nack(true).unwrap();
        }
        recorded.flush().await;
        assert_eq!((recorded.channel.load().unsettled, recorded.count_sent((60, 30))), (0, 1));
        let mut tags = BTreeSet::new();
        for frame in recorded.settle_frames() {
            match frame {
                SettleFrame::Reject { tag, requeue: true } | SettleFrame::Nack { tag, multiple: false, requeue: true } => {
                    assert!(tags.insert(tag), "{tag} twice");
                }
                SettleFrame::Ack { tag, .. } => assert!(tag <= 100),
                other => panic!("{other:?}"),
            }
        }
        recorded.channel.close().await.unwrap();
        oracle.wait_for_count("jobs", 200).await;
        let bodies = oracle.drain_bodies("jobs").await;
        let expected: Vec<_> = (100..300).map(|n| n.to_string().into_bytes()).collect();
        assert_eq!(bodies, expected);
    }

    /// CNS: deleting a queue ends its consumers, not their channel; the same tag can be used again immediately.
    async fn a_deleted_queue_ends_its_consumers(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let mut probe = Probe::<Delivery>::start();
        let mut ends = Probe::<ConsumerEnd>::start();
        let watcher = ends.recipient();
        let options = || Consume::new().tag("mine").watch(watcher.clone());
        let queue = bench.channel.queue("jobs");
        queue.consume_with(options(), probe.recipient()).await.unwrap();
        oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
        assert!(matches!(ends.next().await.unwrap(), ConsumerEnd::CancelledByBroker));
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        queue.consume_with(options(), probe.recipient()).await.unwrap();
        oracle.publish("", "jobs", "again").await;
        let delivery = probe.next().await.unwrap();
        assert_eq!((text(&delivery).as_str(), delivery.consumer_tag()), ("again", "mine"));
        delivery.ack().unwrap();
        assert_eq!(ends.count().await, 1);
    }

    /// CNS: while a queue has an exclusive consumer, another consume fails with 403 and closes only its own channel.
    async fn an_exclusive_consumer_keeps_others_out(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let mut probe = Probe::<Delivery>::start();
        let queue = bench.channel.queue("jobs");
        queue.consume_with(Consume::new().exclusive(true), probe.recipient()).await.unwrap();
        let other = bench.another_channel().await;
        let error = other.queue("jobs").consume(probe.recipient()).await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 403));
        oracle.publish("", "jobs", "one").await;
        assert_eq!(text(&probe.next().await.unwrap()), "one");
    }

    /// CNS-18: acks out of order with a prefetch of three keep the channel open and acknowledge everything.
    async fn acks_out_of_order_are_accepted(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(12)).await;
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume_with(Consume::new().prefetch(3), probe.recipient()).await.unwrap();
        for _ in 0..4 {
            let mut three = take(&mut probe, 3).await;
            three.remove(1).ack().unwrap();
            three.remove(1).ack().unwrap();
            three.remove(0).ack().unwrap();
        }
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }
}

/// CNS, design 13.8: deliveries that arrive in one read with the broker's cancel reach the actor, and leave no
/// unsettled tag that would keep later acks from being merged.
#[actix::test]
async fn deliveries_read_together_with_a_cancel_are_not_lost() {
    let bench = crate::support::modes::Bench::open(true).await;
    let oracle = bench.fill_queue("jobs", []).await;
    oracle.declare_queue("others").await;
    let recorded = RecordedConnection::open(&bench).await;
    let mut probe = Probe::<Delivery>::start();
    // With its type: RabbitMQ 4.3 would take deliveries of a quorum queue back with the cancel.
    let jobs = recorded.channel.declare_queue(DeclareQueue::new("jobs").classic()).await.unwrap();
    jobs.consume(probe.recipient()).await.unwrap();
    recorded.proxy.stall(Direction::ToClient);
    for n in 0..3 {
        oracle.publish("", "jobs", n.to_string()).await;
    }
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    recorded.proxy.resume(Direction::ToClient);
    for (n, delivery) in take(&mut probe, 3).await.into_iter().enumerate() {
        assert_eq!(text(&delivery), n.to_string());
        delivery.ack().unwrap();
    }
    recorded.flush().await;
    assert_eq!(recorded.channel.load().unsettled, 0);
    recorded.channel.queue("others").consume(probe.recipient()).await.unwrap();
    for n in 0..3 {
        oracle.publish("", "others", n.to_string()).await;
    }
    for delivery in take(&mut probe, 3).await {
        delivery.ack().unwrap();
    }
    recorded.flush().await;
    assert_eq!(recorded.settle_frames().last(), Some(&SettleFrame::Ack { tag: 6, multiple: true }));
    recorded.channel.actor().send(CancelConsumer::new("unknown")).await.unwrap().unwrap();
}
