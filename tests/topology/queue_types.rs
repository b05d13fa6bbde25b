//! Stream queues and quorum queues: offsets, delivery counts, and operations that they do not support.

use std::time::{Duration, SystemTime};

use crate::support::get_message;
use actix_pika::{
    Channel, Consume, DeclareQueue, ErrorKind, Publishing, Queue,
    message::{DeathReason, DeleteQueue, Get, Qos, Value},
    options::StreamOffset,
};
use futures_util::StreamExt;

/// Declares the stream queue "log" and publishes `count` messages to it.
async fn declare_log(channel: &Channel, count: usize) -> Queue {
    let log = channel.declare_queue(DeclareQueue::new("log").stream()).await.unwrap();
    for n in 0..count {
        channel.default_exchange().publish(n.to_string(), "log").await.unwrap();
    }
    log
}

crate::modes! {
    /// TOP-37: repeatedly.
    async fn a_stream_can_be_read_from_any_offset(bench: Bench) {
        let log = declare_log(&bench.channel, 10).await;
        let from_first = [
            StreamOffset::First,
            StreamOffset::Offset(0),
            StreamOffset::Timestamp(SystemTime::UNIX_EPOCH),
            StreamOffset::Ago(Duration::from_secs(3600)),
        ];
        for (offset, first) in from_first.map(|o| (o, 0)).into_iter().chain([(StreamOffset::Offset(7), 7)]) {
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

    /// TOP-37: the broker would close the channel (no prefetch) or the connection (`no_ack`, `get`, `purge`), or would delete
    /// the stream in spite of the condition.
    async fn the_client_refuses_unsupported_operations_on_a_stream(bench: Bench) {
        let log = declare_log(&bench.channel, 1).await;
        let refused = [
            log.deliveries_with(Consume::new().prefetch(0)).await.err(),
            log.deliveries_with(Consume::new().no_ack(true)).await.err(),
            log.get().await.err(),
            log.get_with(Get::new("log").no_ack(true)).await.err(),
            log.purge().await.err(),
            log.delete_with(DeleteQueue::new("log").if_empty(true)).await.err(),
            log.delete_with(DeleteQueue::new("log").if_unused(true)).await.err(),
            // A handle by name only: the offset shows that it is a stream.
            bench.channel.queue("log").deliveries_with(Consume::new().no_ack(true).stream_offset(StreamOffset::First)).await.err(),
        ];
        for error in refused {
            let error = error.expect("refused");
            assert_eq!((error.kind(), error.close_reason(), error.entity()), (ErrorKind::Refused, None, Some("log")));
        }
        bench.channel.declare_queue("q").await.unwrap();
        assert!(log.get_with(Get::new("q")).await.unwrap().is_none(), "the name in the message counts");
        bench.channel.set_qos(0).await.unwrap();
        let error = log.deliveries().await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason(), error.entity()), (ErrorKind::Refused, None, Some("log")));
        assert!(!bench.channel.is_closed());
    }

    /// TOP-18, TOP-36, TOP-37: with 540. The error names the method and the queue.
    async fn unsupported_operations_close_the_connection_when_the_queue_type_is_unknown(bench: Bench) {
        declare_log(&bench.channel, 1).await;
        bench.channel.declare_queue(DeclareQueue::new("votes").quorum()).await.unwrap();
        for method in ["queue.purge", "basic.get", "basic.consume", "queue.delete"] {
            let connection = actix_pika::connect(bench.vhost.url()).await.unwrap();
            let channel = connection.channel().await.unwrap();
            let (log, votes) = (channel.queue("log"), channel.queue("votes"));
            let (error, entity) = match method {
                "queue.purge" => (log.purge().await.err(), "log"),
                "basic.get" => (log.get().await.err(), "log"),
                "basic.consume" => {
                    channel.set_qos_with(Qos::new(5).global(true).permitted(true)).await.unwrap();
                    let consumed = votes.deliveries().await;
                    if !bench.vhost.broker().line().await.shares_prefetch() {
                        // The broker takes the prefetch for one of each consumer, which the queue supports.
                        consumed.unwrap().close().await.unwrap();
                        continue;
                    }
                    (consumed.err(), "votes")
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
        // The broker deletes a stream in spite of the condition.
        assert_eq!(bench.channel.delete_queue(DeleteQueue::new("log").if_empty(true)).await.map(drop).ok(), Some(()));
        let error = bench.channel.get_queue("log").await.unwrap_err();
        assert_eq!(error.close_reason().unwrap().code, 404);
    }

    /// TOP-18, TOP-36, QOS-04: a global prefetch, and a delete with a condition.
    async fn the_client_refuses_unsupported_operations_on_a_quorum_queue(bench: Bench) {
        let votes = bench.channel.declare_queue(DeclareQueue::new("votes").quorum()).await.unwrap();
        let log = declare_log(&bench.channel, 1).await;
        let classic = bench.channel.declare_queue(DeclareQueue::new("q").classic()).await.unwrap();
        bench.channel.set_qos_with(Qos::new(3).global(true).permitted(true)).await.unwrap();
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
        // Without a global prefetch both can be consumed.
        bench.channel.set_qos_with(Qos::new(0).global(true)).await.unwrap();
        votes.deliveries().await.unwrap().close().await.unwrap();
        log.deliveries().await.unwrap().close().await.unwrap();
        assert_eq!(classic.delete_with(DeleteQueue::new("q").if_unused(true).if_empty(true)).await.unwrap(), 0);
        assert_eq!(votes.delete_with(DeleteQueue::new("votes")).await.unwrap(), 0);
        assert!(!bench.channel.is_closed());
    }

    /// TOP-36: a message above the limit is dead-lettered.
    async fn a_quorum_queue_counts_deliveries_up_to_its_limit(bench: Bench) {
        bench.channel.declare_queue("graveyard").await.unwrap();
        let declare = DeclareQueue::new("votes").quorum().delivery_limit(2);
        let declare = declare.dead_letter_exchange("").dead_letter_routing_key("graveyard");
        let votes = bench.channel.declare_queue(declare).await.unwrap();
        bench.channel.default_exchange().publish("x", "votes").await.unwrap();
        let mut counts = Vec::new();
        for _ in 0..3 {
            let delivery = get_message(&votes).await;
            counts.push(delivery.delivery_count().unwrap_or(0));
            delivery.reject(true).unwrap();
        }
        assert_eq!(counts, [0, 1, 2]);
        let dead = get_message(&bench.channel.queue("graveyard")).await;
        let deaths = dead.deaths();
        assert_eq!((deaths.len(), &deaths[0].reason), (1, &DeathReason::DeliveryLimit));
        dead.ack().unwrap();
    }

    /// TOP-36: `None` if the header is missing or is no count.
    async fn delivery_counts_are_read_from_headers(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        for (given, count) in [(Value::from(3i64), Some(3)), (Value::from(-1), None), (Value::from("3"), None)] {
            let content = Publishing::new("x").header("x-acquired-count", given.clone()).header("x-delivery-count", given);
            bench.channel.default_exchange().publish(content, "q").await.unwrap();
            let delivery = get_message(&queue).await;
            assert_eq!((delivery.acquired_count(), delivery.delivery_count()), (count, count));
            delivery.ack().unwrap();
        }
        bench.channel.default_exchange().publish("x", "q").await.unwrap();
        let delivery = get_message(&queue).await;
        assert_eq!((delivery.acquired_count(), delivery.delivery_count()), (None, None));
        delivery.ack().unwrap();
    }
}
