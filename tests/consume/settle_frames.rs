//! The settle frames on the wire: their number, their order and `multiple`.

use super::numbers;
use crate::support::oracle::Oracle;
use crate::support::proxy::Direction;
use crate::support::recorded_connection::{RecordedConnection, SettleFrame};
use crate::support::{eventually, take, within};
use actix_pika::{Consume, Delivery, ErrorKind, Publishing, testing::Probe};
use futures_util::StreamExt;

crate::modes! {
    /// Design 7.7: acks given in one poll of the I/O loop are sent as one `multiple` ack if they are the lowest
    /// unsettled tags.
    async fn acks_of_one_poll_are_one_frame(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(10)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut probe = Probe::<Delivery>::start();
        recorded.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        for delivery in take(&mut probe, 10).await {
            delivery.ack().unwrap();
        }
        recorded.flush().await;
        assert_eq!(recorded.settle_frames(), [SettleFrame::Ack { tag: 10, multiple: true }]);
        recorded.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// Design 7.7: a single ack is not `multiple`, whether its tag is the lowest or not.
    async fn a_single_ack_is_not_multiple(bench: Bench) {
        let _oracle = bench.fill_queue("jobs", numbers(3)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut probe = Probe::<Delivery>::start();
        recorded.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let mut deliveries = take(&mut probe, 3).await;
        deliveries.remove(0).ack().unwrap();
        recorded.flush().await;
        deliveries.remove(1).ack().unwrap();
        recorded.flush().await;
        deliveries.remove(0).ack().unwrap();
        recorded.flush().await;
        let single = |tag| SettleFrame::Ack { tag, multiple: false };
        assert_eq!(recorded.settle_frames(), [single(1), single(3), single(2)]);
    }

    /// Design 13.2: `multiple` is not used while a lower tag is unsettled, of whichever of two consumers or a get.
    async fn multiple_is_not_used_above_an_unsettled_tag(bench: Bench) {
        let oracle = bench.fill_queue("got", ["g".to_owned()]).await;
        oracle.declare_queue("one").await;
        oracle.declare_queue("two").await;
        let recorded = RecordedConnection::open(&bench).await;
        let (mut one, mut two) = (Probe::<Delivery>::start(), Probe::<Delivery>::start());
        let got = recorded.channel.queue("got").get().await.unwrap().expect("a message");
        recorded.channel.queue("one").consume(one.recipient()).await.unwrap();
        recorded.channel.queue("two").consume(two.recipient()).await.unwrap();
        let mut taken = vec![got];
        for n in 0..6 {
            let (queue, probe) = if n % 2 == 0 { ("one", &mut one) } else { ("two", &mut two) };
            oracle.publish("", queue, n.to_string()).await;
            taken.push(probe.next().await.unwrap());
        }
        assert_eq!(taken.iter().map(Delivery::delivery_tag).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        // Tag 1 is the get's; 2, 4, 6 belong to queue "one" and 3, 5, 7 to "two".
        let got = taken.remove(0);
        let last = taken.pop().unwrap();
        for delivery in taken {
            delivery.ack().unwrap();
        }
        recorded.flush().await;
        let single = |tag| SettleFrame::Ack { tag, multiple: false };
        assert_eq!(recorded.settle_frames(), (2..=6).map(single).collect::<Vec<_>>());
        got.ack().unwrap();
        last.ack().unwrap();
        recorded.flush().await;
        assert_eq!(recorded.settle_frames()[5..], [SettleFrame::Ack { tag: 7, multiple: true }]);
        recorded.channel.close().await.unwrap();
        for queue in ["got", "one", "two"] {
            assert_eq!(oracle.count(queue).await, 0, "{queue}");
        }
    }

    /// Design 13.2: nacks and rejects are sent before a `multiple` ack that would cover them.
    async fn nacks_are_sent_before_a_multiple_ack(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(6)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut probe = Probe::<Delivery>::start();
        recorded.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let mut deliveries = take(&mut probe, 6).await.into_iter();
        let mut next = || deliveries.next().unwrap();
        next().ack().unwrap();
        next().nack(false).unwrap();
        next().ack().unwrap();
        next().reject(false).unwrap();
        next().ack().unwrap();
        next().ack().unwrap();
        recorded.flush().await;
        let expected = [
            SettleFrame::Nack { tag: 2, multiple: false, requeue: false },
            SettleFrame::Reject { tag: 4, requeue: false },
            SettleFrame::Ack { tag: 6, multiple: true },
        ];
        assert_eq!(recorded.settle_frames(), expected);
        recorded.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// ACK-05, design 13.2: `ack_all` settles only its own consumer's deliveries, with single acks if tags of others
    /// lie between.
    async fn ack_all_covers_its_own_consumer_only(bench: Bench) {
        let oracle = bench.fill_queue("one", []).await;
        oracle.declare_queue("two").await;
        let recorded = RecordedConnection::open(&bench).await;
        let (mut one, mut two) = (Probe::<Delivery>::start(), Probe::<Delivery>::start());
        recorded.channel.queue("one").consume(one.recipient()).await.unwrap();
        recorded.channel.queue("two").consume(two.recipient()).await.unwrap();
        let (mut ones, mut twos) = (Vec::new(), Vec::new());
        for n in 0..3 {
            oracle.publish("", "two", n.to_string()).await;
            twos.push(two.next().await.unwrap());
            oracle.publish("", "one", n.to_string()).await;
            ones.push(one.next().await.unwrap());
        }
        // Tags 1, 3, 5 belong to queue "two", and 2, 4, 6 to "one".
        ones.pop().unwrap().ack_all().unwrap();
        recorded.flush().await;
        let single = |tag| SettleFrame::Ack { tag, multiple: false };
        assert_eq!(recorded.settle_frames(), [single(2), single(4), single(6)]);
        let error = ones.pop().unwrap().ack().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleDelivery);
        drop(ones);
        drop(twos);
        recorded.channel.close().await.unwrap();
        oracle.wait_for_count("two", 3).await;
        assert_eq!(oracle.count("one").await, 0);
    }

    /// ACK-05: `ack_all` of the only consumer is one `multiple` frame.
    async fn ack_all_of_the_only_consumer_is_one_frame(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(5)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut probe = Probe::<Delivery>::start();
        recorded.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let mut deliveries = take(&mut probe, 5).await;
        let fifth = deliveries.pop().unwrap();
        deliveries.pop().unwrap().ack_all().unwrap();
        recorded.flush().await;
        assert_eq!(recorded.settle_frames(), [SettleFrame::Ack { tag: 4, multiple: true }]);
        // Dropping deliveries that are settled sends nothing.
        drop(deliveries);
        drop(fifth);
        recorded.flush().await;
        assert_eq!(recorded.settle_frames()[1..], [SettleFrame::Reject { tag: 5, requeue: true }]);
        assert_eq!(within("redelivered", 5, probe.next()).await.unwrap().delivery_tag(), 6);
        recorded.channel.close().await.unwrap();
        oracle.wait_for_count("jobs", 1).await;
    }

    /// ACK-03: settling or dropping a `no_ack` delivery sends no frame.
    async fn no_ack_deliveries_send_no_settle_frame(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(6)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut stream = recorded.channel.queue("jobs").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        let mut next = async || stream.next().await.unwrap();
        let first = next().await;
        assert!(first.is_no_ack());
        first.ack().unwrap();
        next().await.ack_all().unwrap();
        next().await.nack(true).unwrap();
        next().await.reject(true).unwrap();
        drop(next().await);
        recorded.flush().await;
        assert_eq!(recorded.settle_frames(), []);
        recorded.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// ACK-09, design 13.2: settling or dropping a delivery while its channel closes sends no frame after
    /// `channel.close`, for which the broker would close the connection.
    async fn no_settle_frame_follows_channel_close(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(4)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut probe = Probe::<Delivery>::start();
        recorded.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let mut deliveries = take(&mut probe, 4).await;
        deliveries.pop().unwrap().ack().unwrap();
        recorded.proxy.stall(Direction::ToClient);
        let closing = actix::spawn({
            let channel = recorded.channel.clone();
            async move { channel.close().await }
        });
        within("channel.close", 5, recorded.proxy.wait_for_method(Direction::ToBroker, (20, 40), 1)).await;
        let error = deliveries.pop().unwrap().ack().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ChannelClosed);
        drop(deliveries);
        // The end of the target must not send a late `basic.cancel` either.
        drop(probe);
        let other = async {
            recorded.connection.channel_with(crate::support::modes::Bench::options(bench.confirms)).await.unwrap()
        };
        let resume = async { recorded.proxy.resume(Direction::ToClient) };
        let (other, ()) = within("another channel", 10, async { tokio::join!(other, resume) }).await;
        closing.await.unwrap().unwrap();
        other.declare_queue("later").await.unwrap();
        assert_eq!(recorded.settle_frames(), [SettleFrame::Ack { tag: 4, multiple: false }]);
        assert_eq!(recorded.count_sent((60, 30)), 0);
        eventually("the other messages are requeued", 5, async || (oracle.count("jobs").await == 3).then_some(())).await;
    }

    /// ACK-09, D9: settling on a closed channel returns its close reason and sends no frame, even if the channel number
    /// is in use again.
    async fn settling_on_a_closed_channel_sends_no_frame(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(3)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut probe = Probe::<Delivery>::start();
        recorded.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let deliveries = take(&mut probe, 3).await;
        recorded.channel.queue("missing").get().await.unwrap_err();
        oracle.wait_for_count("jobs", 3).await;
        let again = recorded.connection.channel_with(crate::support::modes::Bench::options(bench.confirms)).await.unwrap();
        let got = again.queue("jobs").get().await.unwrap().expect("a requeued message");
        assert_eq!((again.number(), got.delivery_tag(), got.redelivered()), (recorded.channel.number(), 1, true));
        for (n, delivery) in deliveries.into_iter().enumerate() {
            assert!(delivery.is_stale());
            let error = match n {
                0 => delivery.ack(),
                1 => delivery.nack(true),
                _ => delivery.ack_all(),
            };
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ChannelClosed);
            assert_eq!(error.close_reason().unwrap().code, 404);
        }
        again.declare_queue("later").await.unwrap();
        assert_eq!(recorded.settle_frames(), []);
        assert!(!got.is_stale());
    }

    /// Design 13.2: an ack is written before a later call on its channel.
    async fn an_ack_is_sent_before_a_later_call(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(1)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let got = recorded.channel.queue("jobs").get().await.unwrap().unwrap();
        got.ack().unwrap();
        recorded.channel.close().await.unwrap();
        assert_eq!(recorded.settle_frames(), [SettleFrame::Ack { tag: 1, multiple: false }]);
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// Design 13.2, 13.8: a delivery that is dropped while its consumer is being cancelled is requeued after cancel-ok,
    /// and an `ack_all` of a later delivery does not cover it.
    async fn ack_all_does_not_cover_dropped_deliveries(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(4)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut probe = Probe::<Delivery>::start();
        let consumer = recorded.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let mut deliveries = take(&mut probe, 4).await;
        recorded.proxy.stall(Direction::ToClient);
        let cancelling = actix::spawn(async move { consumer.cancel().await });
        within("basic.cancel", 5, recorded.proxy.wait_for_method(Direction::ToBroker, (60, 30), 1)).await;
        let last = deliveries.pop().unwrap();
        drop(deliveries.remove(1));
        last.ack_all().unwrap();
        within("acks", 5, recorded.proxy.wait_for_method(Direction::ToBroker, (60, 80), 2)).await;
        let single = |tag| SettleFrame::Ack { tag, multiple: false };
        assert_eq!(recorded.settle_frames(), [single(1), single(3), single(4)]);
        recorded.proxy.resume(Direction::ToClient);
        cancelling.await.unwrap().unwrap();
        recorded.flush().await;
        let nack = SettleFrame::Nack { tag: 2, multiple: false, requeue: true };
        assert_eq!(recorded.settle_frames()[3..], [nack]);
        recorded.channel.close().await.unwrap();
        oracle.wait_for_count("jobs", 1).await;
        assert_eq!(oracle.drain_bodies("jobs").await, [b"1"]);
    }
}

/// Design 7.7: deliveries settled on other threads are each settled once.
#[actix::test]
async fn deliveries_can_be_settled_on_other_threads() {
    let bench = crate::support::modes::Bench::open(true).await;
    let recorded = RecordedConnection::open(&bench).await;
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    let queue = recorded.channel.declare_queue("jobs").await.unwrap();
    let exchange = recorded.channel.default_exchange();
    for n in 0..400 {
        drop(exchange.publish_deferred(Publishing::new(n.to_string()), "jobs").await.unwrap());
    }
    let mut stream = queue.deliveries_with(Consume::new().prefetch(50)).await.unwrap();
    let (sender, receiver) = std::sync::mpsc::channel::<Delivery>();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let receiver = receiver.clone();
            std::thread::spawn(move || {
                let mut settled = 0;
                loop {
                    let next = receiver.lock().unwrap().recv();
                    let Ok(delivery) = next else { return settled };
                    match delivery.delivery_tag() % 3 {
                        0 => delivery.nack(false).unwrap(),
                        1 => delivery.reject(false).unwrap(),
                        _ => delivery.ack().unwrap(),
                    }
                    settled += 1;
                }
            })
        })
        .collect();
    for _ in 0..400 {
        let delivery = within("a delivery", 10, stream.next()).await.unwrap();
        sender.send(delivery).unwrap();
    }
    drop(sender);
    let settled: usize =
        tokio::task::spawn_blocking(move || workers.into_iter().map(|w| w.join().unwrap()).sum())
            .await
            .unwrap();
    assert_eq!(settled, 400);
    stream.close().await.unwrap();
    assert_eq!(recorded.channel.load().unsettled, 0);
    recorded.channel.close().await.unwrap();
    assert_eq!(oracle.count("jobs").await, 0);
    // Each nack and reject has its own tag, and no `multiple` ack is beyond the last delivery.
    let mut refused: Vec<u64> = recorded
        .settle_frames()
        .iter()
        .filter_map(|frame| match frame {
            SettleFrame::Nack { tag, multiple: false, requeue: false }
            | SettleFrame::Reject { tag, requeue: false } => Some(*tag),
            SettleFrame::Ack { tag, .. } if *tag <= 400 => None,
            other => panic!("{other:?}"),
        })
        .collect();
    refused.sort_unstable();
    assert_eq!(refused, (1..=400).filter(|tag| tag % 3 != 2).collect::<Vec<u64>>());
}
