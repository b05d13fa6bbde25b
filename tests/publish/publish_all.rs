//! `publish_all`, `wait_for_confirms` and generated message ids.

use std::{collections::HashSet, time::Duration};

use crate::support::{oracle::Oracle, within};
use actix_pika::{DeclareQueue, ErrorKind, OpenChannel, Publishing, message::Publish, options::Overflow};

crate::modes! {
    /// PUB-15: a batch is published in order; `publish_all` returns its length.
    async fn a_batch_is_published_in_order(bench: Bench) {
        bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let bodies = (0..5000).map(|n| n.to_string());
        let count = bench.channel.default_exchange().publish_all(bodies, "q").await.unwrap();
        assert_eq!(count, 5000);
        bench.channel.get_queue("q").await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let got = oracle.drain_bodies("q").await;
        assert_eq!(got.len(), 5000);
        assert!(got.iter().enumerate().all(|(n, body)| body == n.to_string().as_bytes()));
        assert_eq!(bench.channel.default_exchange().publish_all([""; 0], "q").await.unwrap(), 0);
    }

    /// PUB-15: `publish_all` publishes the whole batch and then returns the first failure.
    async fn publish_all_returns_a_failure(bench: Bench) {
        let declare = DeclareQueue::new("q").max_length(3).overflow(Overflow::RejectPublish);
        bench.channel.declare_queue(declare).await.unwrap();
        let result = bench.channel.default_exchange().publish_all((0..50).map(|n| n.to_string()), "q").await;
        if bench.confirms {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Nacked);
            assert_eq!(bench.channel.load().unconfirmed, 0);
        } else {
            assert_eq!(result.unwrap(), 50);
        }
        bench.channel.close().await.unwrap();
        let late = bench.channel.default_exchange().publish_all(["x"], "q").await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::ChannelClosed);
    }

    /// PUB-15: `wait_for_confirms` returns when all publishes are confirmed, and reports each failure of a dropped
    /// Confirm once; without confirms it is an error.
    async fn wait_for_confirms_leaves_none_unconfirmed(bench: Bench) {
        bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let exchange = bench.channel.default_exchange();
        for n in 0..1000 {
            drop(exchange.publish_deferred(n.to_string(), "q").await.unwrap());
        }
        let result = bench.channel.wait_for_confirms().await;
        if !bench.confirms {
            let refused = result.unwrap_err();
            assert_eq!((refused.kind(), refused.close_reason()), (ErrorKind::Refused, None));
            return;
        }
        result.unwrap();
        assert_eq!(bench.channel.load().unconfirmed, 0);
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        oracle.wait_for_count("q", 1000).await;
        bench.channel.wait_for_confirms().await.expect("nothing to wait for");

        drop(exchange.publish_deferred("lost", "nowhere").await.unwrap());
        let awaited = exchange.publish_deferred("lost, but awaited", "nowhere").await.unwrap();
        let (one, other) = tokio::join!(bench.channel.wait_for_confirms(), bench.channel.wait_for_confirms());
        let failed: Vec<_> = [one, other].into_iter().filter_map(Result::err).collect();
        assert_eq!(failed.len(), 1, "reported once: {failed:?}");
        assert_eq!(failed[0].kind(), ErrorKind::Unroutable);
        assert_eq!(failed[0].returned().unwrap().body, "lost");
        assert_eq!(awaited.await.unwrap_err().kind(), ErrorKind::Unroutable);
        bench.channel.wait_for_confirms().await.expect("the awaited Confirm reported its own failure");
    }

    /// PUB-15: `wait_for_confirms` returns the reason when the broker closes the channel.
    async fn wait_for_confirms_reports_a_channel_close(bench: Bench) {
        if !bench.confirms {
            return;
        }
        drop(bench.channel.exchange("nothing").publish_deferred("x", "y").await.unwrap());
        let error = bench.channel.wait_for_confirms().await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
    }

    /// Generated message ids are unique and set for handle and actor message alike; an id that is already set is kept.
    async fn message_ids_are_generated_on_request(bench: Bench) {
        bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let options = OpenChannel::new().confirms(bench.confirms).message_ids(true);
        let channel = bench.connection.channel_with(options).await.unwrap();
        let exchange = channel.default_exchange();
        exchange.publish("by handle", "q").await.unwrap();
        drop(exchange.try_publish("by handle, without waiting", "q").unwrap().expect("room"));
        channel.actor().send(Publish::new("", "q", "by message")).await.unwrap().unwrap();
        exchange.publish(Publishing::new("own").message_id("mine"), "q").await.unwrap();
        channel.close().await.unwrap();
        bench.channel.default_exchange().publish(Publishing::new("one by one").generate_message_id(), "q").await.unwrap();
        bench.channel.default_exchange().publish("none", "q").await.unwrap();
        bench.channel.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let messages = oracle.drain("q").await;
        let ids: Vec<_> = messages.iter().map(|m| m.properties.message_id().as_ref().map(|id| id.to_string())).collect();
        assert_eq!(ids.len(), 6);
        assert_eq!((ids[3].as_deref(), ids[5].as_deref()), (Some("mine"), None));
        let random: HashSet<_> = [0, 1, 2, 4].map(|n| ids[n].clone().expect("an id")).into();
        assert_eq!(random.len(), 4);
        assert!(random.iter().all(|id| id.len() == 36), "{random:?}");
    }
}

/// PUB-15: `wait_for_confirms` returns a timeout for a publish that the broker does not confirm by its deadline.
#[actix::test]
async fn wait_for_confirms_times_out_with_the_deadline() {
    use crate::support::proxy::{Direction, Proxy};
    within("the whole test", 30, async {
        let vhost = crate::support::broker::Vhost::fresh().await;
        let proxy = Proxy::to(&vhost.broker().address());
        let connection = actix_pika::connect(proxy.url(&vhost.url())).await.unwrap();
        let options = OpenChannel::new().deadline(Duration::from_millis(300));
        let channel = connection.channel_with(options).await.unwrap();
        channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        proxy.stall(Direction::ToClient);
        drop(channel.default_exchange().publish_deferred("x", "q").await.unwrap());
        let late = channel.wait_for_confirms().await.unwrap_err();
        assert_eq!((late.kind(), late.may_have_arrived()), (ErrorKind::Timeout, true));
    })
    .await;
}
