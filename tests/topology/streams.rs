//! Stream queues, and what the broker notes on a message about its past.

use std::time::{Duration, SystemTime};

use actix_pika::{
    Channel, Consume, DeclareQueue, Delivery, ErrorKind, Publishing, Queue,
    message::{DeathReason, DeleteQueue, Get, Qos, Value},
    options::StreamOffset,
};
use futures_util::StreamExt;

async fn log_of(channel: &Channel, count: usize) -> Queue {
    let log = channel.declare_queue(DeclareQueue::new("log").stream()).await.unwrap();
    for n in 0..count {
        channel.default_exchange().publish(n.to_string(), "log").await.unwrap();
    }
    log
}

async fn take(queue: &Queue) -> Delivery {
    crate::support::eventually("a message", 10, async || queue.get().await.unwrap()).await
}

crate::modes! {
    /// TOP-37: a stream is read from any point, by offset, and as often as one likes.
    async fn a_stream_is_read_from_any_point(bench: Bench) {
        let log = log_of(&bench.channel, 10).await;
        let from_the_first = [
            StreamOffset::First,
            StreamOffset::Offset(0),
            StreamOffset::Timestamp(SystemTime::UNIX_EPOCH),
            StreamOffset::Ago(Duration::from_secs(3600)),
        ];
        for (offset, first) in from_the_first.map(|o| (o, 0)).into_iter().chain([(StreamOffset::Offset(7), 7)]) {
            let options = Consume::new().prefetch(100).stream_offset(offset);
            let mut deliveries = log.deliveries_with(options).await.unwrap();
            for n in first..10 {
                let delivery = deliveries.next().await.expect("a delivery");
                assert_eq!(delivery.stream_offset(), Some(n), "{offset:?}");
                assert_eq!(delivery.body(), n.to_string().as_bytes());
                assert_eq!(delivery.delivery_count(), None);
                delivery.ack().unwrap();
            }
            deliveries.close().await.unwrap();
        }
        let mut next = log.deliveries_with(Consume::new().stream_offset(StreamOffset::Next)).await.unwrap();
        bench.channel.default_exchange().publish("new", "log").await.unwrap();
        let delivery = next.next().await.expect("a delivery");
        assert_eq!((delivery.body(), delivery.stream_offset()), (&b"new"[..], Some(10)));
        delivery.ack().unwrap();
        let last = log.deliveries_with(Consume::new().stream_offset(StreamOffset::Last)).await.unwrap().next().await;
        assert_eq!(last.expect("a delivery").body(), b"new");
    }

    /// TOP-37: what would cost the channel (no prefetch) or the connection (`no_ack`, `get`, `purge`), or would be done
    /// nevertheless (to delete it if it is empty), is refused here.
    async fn what_a_stream_cannot_do_is_refused_here(bench: Bench) {
        let log = log_of(&bench.channel, 1).await;
        let refused = [
            log.deliveries_with(Consume::new().prefetch(0)).await.err(),
            log.deliveries_with(Consume::new().no_ack(true)).await.err(),
            log.get().await.err(),
            log.get_with(Get::new("log").no_ack(true)).await.err(),
            log.purge().await.err(),
            log.delete_with(DeleteQueue::new("log").if_empty(true)).await.err(),
            log.delete_with(DeleteQueue::new("log").if_unused(true)).await.err(),
            // By name only, the offset tells.
            bench.channel.queue("log").deliveries_with(Consume::new().no_ack(true).stream_offset(StreamOffset::First)).await.err(),
        ];
        for error in refused {
            let error = error.expect("refused");
            assert_eq!((error.kind(), error.close_reason(), error.entity()), (ErrorKind::Refused, None, Some("log")));
        }
        bench.channel.declare_queue("q").await.unwrap();
        assert!(log.get_with(Get::new("q")).await.unwrap().is_none(), "another queue");
        bench.channel.set_qos(0).await.unwrap();
        let error = log.deliveries().await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason(), error.entity()), (ErrorKind::Refused, None, Some("log")));
        assert!(!bench.channel.is_closed());
    }

    /// TOP-18, TOP-36, TOP-37: where the type of a queue is not known here, what it cannot do costs the connection (540), and the
    /// call and the queue are told.
    async fn what_a_queue_cannot_do_costs_the_connection_where_its_type_is_not_known(bench: Bench) {
        log_of(&bench.channel, 1).await;
        bench.channel.declare_queue(DeclareQueue::new("votes").quorum()).await.unwrap();
        for method in ["queue.purge", "basic.get", "basic.consume", "queue.delete"] {
            let connection = actix_pika::connect(bench.vhost.url()).await.unwrap();
            let channel = connection.channel().await.unwrap();
            let (log, votes) = (channel.queue("log"), channel.queue("votes"));
            let (error, entity) = match method {
                "queue.purge" => (log.purge().await.err(), "log"),
                "basic.get" => (log.get().await.err(), "log"),
                "basic.consume" => {
                    channel.set_qos_with(Qos::new(5).global(true)).await.unwrap();
                    (votes.deliveries().await.err(), "votes")
                }
                _ => (votes.delete_with(DeleteQueue::new("votes").if_empty(true)).await.err(), "votes"),
            };
            let error = error.expect("refused");
            let reason = error.close_reason().expect("the broker's reason");
            assert_eq!((error.kind(), reason.code, reason.method), (ErrorKind::ConnectionClosed, 540, method));
            assert_eq!(error.entity(), Some(entity));
            let cause = connection.closed().await.unwrap_err();
            assert_eq!(cause.close_reason(), error.close_reason());
        }
        // A stream goes, whatever the conditions say.
        assert_eq!(bench.channel.delete_queue(DeleteQueue::new("log").if_empty(true)).await.map(drop).ok(), Some(()));
        let gone = bench.channel.get_queue("log").await.unwrap_err();
        assert_eq!(gone.close_reason().unwrap().code, 404);
    }

    /// TOP-18, TOP-36, QOS-04: a quorum queue has no prefetch that consumers share, and no conditions to be deleted on; both are
    /// refused here.
    async fn what_a_quorum_queue_cannot_do_is_refused_here(bench: Bench) {
        let votes = bench.channel.declare_queue(DeclareQueue::new("votes").quorum()).await.unwrap();
        let log = log_of(&bench.channel, 1).await;
        let classic = bench.channel.declare_queue(DeclareQueue::new("q").classic()).await.unwrap();
        bench.channel.set_qos_with(Qos::new(3).global(true)).await.unwrap();
        for error in [
            votes.deliveries().await.err(),
            votes.deliveries_with(Consume::new().no_ack(true)).await.err(),
            log.deliveries().await.err(),
            votes.delete_with(DeleteQueue::new("votes").if_unused(true)).await.err(),
            votes.delete_with(DeleteQueue::new("votes").if_empty(true)).await.err(),
        ] {
            let error = error.expect("refused");
            assert_eq!((error.kind(), error.close_reason()), (ErrorKind::Refused, None));
            assert!(["votes", "log"].contains(&error.entity().expect("an entity")));
        }
        classic.deliveries().await.unwrap().close().await.unwrap();
        // Without the shared bound both may be read.
        bench.channel.set_qos_with(Qos::new(0).global(true)).await.unwrap();
        votes.deliveries().await.unwrap().close().await.unwrap();
        log.deliveries().await.unwrap().close().await.unwrap();
        assert_eq!(classic.delete_with(DeleteQueue::new("q").if_unused(true).if_empty(true)).await.unwrap(), 0);
        assert_eq!(votes.delete_with(DeleteQueue::new("votes")).await.unwrap(), 0);
        assert!(!bench.channel.is_closed());
    }

    /// TOP-36: a quorum queue counts deliveries, and drops what comes too often.
    async fn a_quorum_queue_counts_deliveries(bench: Bench) {
        bench.channel.declare_queue("graveyard").await.unwrap();
        let declare = DeclareQueue::new("votes").quorum().delivery_limit(2);
        let declare = declare.dead_letter_exchange("").dead_letter_routing_key("graveyard");
        let votes = bench.channel.declare_queue(declare).await.unwrap();
        bench.channel.default_exchange().publish("x", "votes").await.unwrap();
        let mut counts = Vec::new();
        for _ in 0..3 {
            let delivery = take(&votes).await;
            counts.push(delivery.delivery_count().unwrap_or(0));
            delivery.reject(true).unwrap();
        }
        assert_eq!(counts, [0, 1, 2]);
        let dead = take(&bench.channel.queue("graveyard")).await;
        let deaths = dead.deaths();
        assert_eq!((deaths.len(), &deaths[0].reason), (1, &DeathReason::DeliveryLimit));
        dead.ack().unwrap();
    }

    /// TOP-36: both counts are read from the headers of the broker's, and are none where they are not there or no count.
    async fn counts_of_deliveries_are_read(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        for (given, count) in [(Value::from(3i64), Some(3)), (Value::from(-1), None), (Value::from("3"), None)] {
            let content = Publishing::new("x").header("x-acquired-count", given.clone()).header("x-delivery-count", given);
            bench.channel.default_exchange().publish(content, "q").await.unwrap();
            let delivery = take(&queue).await;
            assert_eq!((delivery.acquired_count(), delivery.delivery_count()), (count, count));
            delivery.ack().unwrap();
        }
        bench.channel.default_exchange().publish("x", "q").await.unwrap();
        let delivery = take(&queue).await;
        assert_eq!((delivery.acquired_count(), delivery.delivery_count()), (None, None));
        delivery.ack().unwrap();
    }

    /// TOP-30, TOP-31, FT-10: each death tells queue, reason, count, time, keys, and the expiration that was removed.
    async fn deaths_are_told(bench: Bench) {
        let graveyard = bench.channel.declare_queue("graveyard").await.unwrap();
        let declare = DeclareQueue::new("q").dead_letter_exchange("").dead_letter_routing_key("graveyard");
        let queue = bench.channel.declare_queue(declare.message_ttl(Duration::from_secs(60))).await.unwrap();
        let exchange = bench.channel.default_exchange();
        let before = SystemTime::now() - Duration::from_secs(2);
        exchange.publish(Publishing::new("x").expiration(Duration::from_millis(20)), "q").await.unwrap();
        let expired = take(&graveyard).await;
        let deaths = expired.deaths();
        assert_eq!(deaths.len(), 1);
        let death = &deaths[0];
        assert_eq!((death.queue.as_str(), &death.reason, death.count), ("q", &DeathReason::Expired, 1));
        assert_eq!((death.exchange.as_str(), &death.routing_keys[..]), ("", &["q".to_owned()][..]));
        assert_eq!(death.original_expiration, Some(Duration::from_millis(20)));
        assert!(death.time.expect("a time") >= before);
        assert_eq!(expired.properties().unwrap().expiration(), None);

        // Sent on with its headers, it dies again, for another reason.
        let headers = expired.properties().unwrap().headers().cloned().unwrap();
        exchange.publish(Publishing::new("x").headers(headers), "q").await.unwrap();
        expired.ack().unwrap();
        take(&queue).await.reject(false).unwrap();
        let again = take(&graveyard).await;
        let reasons: Vec<_> = again.deaths().into_iter().map(|d| (d.reason, d.count)).collect();
        // Since 4.0 the broker does not read the deaths that a client sends.
        let both = [(DeathReason::Rejected, 1), (DeathReason::Expired, 1)];
        let known = if bench.vhost.broker().version().await < (4, 0) { 2 } else { 1 };
        assert_eq!(reasons, both[..known]);
        again.ack().unwrap();
        exchange.publish("fresh", "graveyard").await.unwrap();
        assert!(take(&graveyard).await.deaths().is_empty());
    }

    /// TOP-39: the consumer with the highest priority is served, and once it is cancelled, the next one.
    async fn the_highest_priority_is_served_first(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let mut consumers = Vec::new();
        for priority in [-1, 1, 0] {
            let options = Consume::new().priority(priority).tag(priority.to_string());
            consumers.push((priority, queue.deliveries_with(options).await.unwrap()));
        }
        consumers.sort_by_key(|(priority, _)| -priority);
        for (priority, mut deliveries) in consumers {
            for n in 0..10 {
                bench.channel.default_exchange().publish(n.to_string(), "q").await.unwrap();
            }
            for n in 0..10 {
                let delivery = deliveries.next().await.expect("a delivery");
                assert_eq!((delivery.body(), delivery.consumer_tag()), (n.to_string().as_bytes(), &*priority.to_string()));
                delivery.ack().unwrap();
            }
            deliveries.close().await.unwrap();
        }
        let _low = queue.deliveries_with(Consume::new().priority(-1)).await.unwrap();
        let arguments = crate::support::eventually("the consumer shows", 10, async || {
            bench.vhost.consumers("q").await.first().map(|consumer| consumer["arguments"].clone())
        });
        assert_eq!(arguments.await["x-priority"], -1);
    }
}
