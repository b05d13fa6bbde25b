//! `basic.recover`: unsettled deliveries come again, and the old ones are nobody's.

use crate::support::oracle::Oracle;
use actix_pika::{Consume, DeclareQueue, Delivery, ErrorKind};
use futures_util::{FutureExt, StreamExt};

crate::modes! {
    /// ACK-14: what is unsettled comes again, marked; what was handed out before cannot be settled and costs no frame.
    async fn recovered_deliveries_come_again_and_the_old_are_stale(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        for n in 0..10 {
            oracle.publish("", "q", format!("{n}")).await;
        }
        let mut stream = queue.deliveries_with(Consume::new().prefetch(100)).await.unwrap();
        let mut held: Vec<Delivery> = Vec::new();
        for _ in 0..6 {
            held.push(stream.next().await.expect("a delivery"));
        }
        held.remove(3).ack().unwrap();
        bench.channel.recover().await.unwrap();
        assert!(held.iter().all(Delivery::is_stale));
        let stale = held.remove(0).ack().unwrap_err();
        assert_eq!((stale.kind(), stale.close_reason()), (ErrorKind::StaleDelivery, None));
        drop(held);

        let mut again = Vec::new();
        for _ in 0..9 {
            let delivery = stream.next().await.expect("again");
            assert!(!delivery.is_stale() && delivery.delivery_tag() > 6);
            again.push((String::from_utf8_lossy(delivery.body()).into_owned(), delivery.redelivered()));
            delivery.ack().unwrap();
        }
        again.sort();
        // The last ones may not have been on their way yet.
        let bodies: Vec<_> = again.iter().map(|(body, _)| body.as_str()).collect();
        assert_eq!(bodies, ["0", "1", "2", "4", "5", "6", "7", "8", "9"]);
        assert!(again.iter().take(5).all(|(_, redelivered)| *redelivered), "{again:?}");
        stream.close().await.unwrap();
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("q").await, 0, "each was acknowledged once");
    }

    /// ACK-14: what a `get` took goes back as well, and the next `get` takes it.
    async fn what_get_took_goes_back(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        bench.channel.default_exchange().publish("x", "q").await.unwrap();
        let first = crate::support::eventually("it is there", 10, async || queue.get().await.unwrap()).await;
        // The get that is on its way when recover leaves is requeued with the rest.
        let (early, recovered, late) = tokio::join!(queue.get(), bench.channel.recover(), queue.get());
        recovered.unwrap();
        assert!(early.unwrap().is_none());
        let again = late.unwrap().expect("it is back in the queue");
        assert_eq!((again.body(), again.redelivered()), (&b"x"[..], true));
        assert_eq!(first.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
        again.ack().unwrap();
        assert!(queue.get().await.unwrap().is_none());
    }

    /// ACK-14: recover again and again, with deliveries in every state, loses and doubles nothing.
    async fn recover_again_and_again_loses_nothing(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let total = 300;
        for n in 0..total {
            bench.channel.default_exchange().publish(format!("{n}"), "q").await.unwrap();
        }
        let mut stream = queue.deliveries_with(Consume::new().prefetch(20)).await.unwrap();
        let mut done = std::collections::BTreeMap::<Vec<u8>, usize>::new();
        let mut held: Vec<Delivery> = Vec::new();
        let mut seen = 0;
        while done.len() < total {
            let delivery = match stream.next().now_or_never() {
                Some(delivery) => delivery,
                None => {
                    // All that is left may be held here.
                    held.clear();
                    stream.next().await
                }
            };
            let delivery = delivery.expect("a delivery");
            seen += 1;
            if seen % 7 == 0 {
                held.push(delivery);
            } else {
                let body = delivery.body().to_vec();
                if delivery.ack().is_ok() {
                    *done.entry(body).or_default() += 1;
                }
            }
            if seen % 40 == 0 {
                bench.channel.recover().await.unwrap();
                held.clear();
            }
            if held.len() > 10 {
                held.drain(..).for_each(drop);
            }
        }
        assert!(done.values().all(|n| *n == 1), "an ack that was taken is the last word: {done:?}");
        assert!(!bench.channel.is_closed());
    }

    /// ACK-14: deliveries of a `no_ack` consumer are not touched.
    async fn no_ack_deliveries_are_not_touched(bench: Bench) {
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
