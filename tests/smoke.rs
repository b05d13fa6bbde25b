//! One test of the main path: declare, publish, get, consume, acknowledge, close.

use actix_pika::{DeclareQueue, Publishing};
use futures_util::StreamExt;

crate::modes! {
    /// PUB-01, CNS-01, GET-01: messages arrive by `get` and by a stream, and acknowledging removes them.
    async fn messages_are_published_consumed_and_acknowledged(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        let exchange = bench.channel.default_exchange();
        exchange.publish("first", "jobs").await.unwrap();
        exchange.publish(Publishing::new("second").content_type("text/plain"), "jobs").await.unwrap();
        let first = queue.get().await.unwrap().expect("a message");
        assert_eq!((first.body(), first.routing_key(), first.message_count()), (&b"first"[..], "jobs", Some(1)));
        first.ack().unwrap();
        let mut deliveries = queue.deliveries().await.unwrap();
        let second = deliveries.next().await.expect("a delivery");
        assert_eq!(second.properties().unwrap().content_type(), Some("text/plain"));
        second.ack().unwrap();
        deliveries.close().await.unwrap();
        bench.channel.close().await.unwrap();
        let left = bench.another_channel().await.queue("jobs").delete().await.unwrap();
        assert_eq!(left, 0);
        bench.connection.close().await.unwrap();
        assert!(bench.connection.is_closed());
    }
}
