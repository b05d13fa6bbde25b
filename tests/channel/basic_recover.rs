//! `basic.recover`: unsettled messages are delivered again, and the old deliveries are stale.

use crate::support::{get_message, oracle::Oracle};
use actix_pika::{Consume, DeclareQueue, Delivery, ErrorKind};
use futures_util::{FutureExt, StreamExt};

crate::modes! {
    /// ACK-14: with the redelivered flag. An ack of an old delivery fails and sends nothing.
    async fn basic_recover_redelivers_and_makes_old_deliveries_stale(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        for n in 0..10 {
            oracle.publish("", "q", format!("{n}")).await;
        }
        let mut stream = queue.deliveries_with(Consume::new().prefetch(100)).await.unwrap();
        let mut unsettled: Vec<Delivery> = Vec::new();
        for _ in 0..6 {
            unsettled.push(stream.next().await.expect("a delivery"));
        }
        unsettled.remove(3).ack().unwrap();
        bench.channel.recover().await.unwrap();
        assert!(unsettled.iter().all(Delivery::is_stale));
        let stale = unsettled.remove(0).ack().unwrap_err();
        assert_eq!((stale.kind(), stale.close_reason()), (ErrorKind::StaleDelivery, None));
        drop(unsettled);

        let mut again = Vec::new();
        for _ in 0..9 {
            let delivery = stream.next().await.expect("again");
            assert!(!delivery.is_stale() && delivery.delivery_tag() > 6);
            again.push((String::from_utf8_lossy(delivery.body()).into_owned(), delivery.redelivered()));
            delivery.ack().unwrap();
        }
        again.sort();
        // The broker may not have sent the last ones before.
        let bodies: Vec<_> = again.iter().map(|(body, _)| body.as_str()).collect();
        assert_eq!(bodies, ["0", "1", "2", "4", "5", "6", "7", "8", "9"]);
        assert!(again.iter().take(5).all(|(_, redelivered)| *redelivered), "{again:?}");
        stream.close().await.unwrap();
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("q").await, 0, "all were acknowledged");
    }

    /// ACK-14
    async fn basic_recover_requeues_messages_of_get(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        bench.channel.default_exchange().publish("x", "q").await.unwrap();
        let first = get_message(&queue).await;
        // The first get reaches the broker before basic.recover, the second after it.
        let (early, recovered, late) = tokio::join!(queue.get(), bench.channel.recover(), queue.get());
        recovered.unwrap();
        assert!(early.unwrap().is_none());
        let again = late.unwrap().expect("the requeued message");
        assert_eq!((again.body(), again.redelivered()), (&b"x"[..], true));
        assert_eq!(first.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
        again.ack().unwrap();
        assert!(queue.get().await.unwrap().is_none());
    }

    /// ACK-14: with deliveries in every state, no message is lost or acknowledged twice.
    async fn repeated_basic_recover_loses_nothing(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let total = 300;
        for n in 0..total {
            bench.channel.default_exchange().publish(format!("{n}"), "q").await.unwrap();
        }
        let mut stream = queue.deliveries_with(Consume::new().prefetch(20)).await.unwrap();
        let mut acked = std::collections::BTreeMap::<Vec<u8>, usize>::new();
        let mut unsettled: Vec<Delivery> = Vec::new();
        let mut seen = 0;
        while acked.len() < total {
            let delivery = match stream.next().now_or_never() {
                Some(delivery) => delivery,
                None => {
                    // All remaining messages may be in `unsettled`.
                    unsettled.clear();
                    stream.next().await
                }
            };
            let delivery = delivery.expect("a delivery");
            seen += 1;
            if seen % 7 == 0 {
                unsettled.push(delivery);
            } else {
                let body = delivery.body().to_vec();
                if delivery.ack().is_ok() {
                    *acked.entry(body).or_default() += 1;
                }
            }
            if seen % 40 == 0 {
                bench.channel.recover().await.unwrap();
                unsettled.clear();
            }
            if unsettled.len() > 10 {
                unsettled.clear();
            }
        }
        assert!(acked.values().all(|n| *n == 1), "acknowledged twice: {acked:?}");
        assert!(!bench.channel.is_closed());
    }

    /// ACK-14
    async fn basic_recover_does_not_affect_no_ack_deliveries(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let mut stream = queue.deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        for n in 0..5 {
            oracle.publish("", "q", format!("{n}")).await;
        }
        bench.channel.recover().await.unwrap();
        for n in 0..5 {
            let delivery = stream.next().await.expect("a delivery");
            assert_eq!(delivery.body(), n.to_string().as_bytes());
            delivery.ack().unwrap();
        }
    }
}
