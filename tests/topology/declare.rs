//! Declare, passive declare, purge and delete of exchanges and queues, and their refusals.

use crate::support::{eventually, modes::Bench, oracle::Oracle};
use actix_pika::{
    Channel, Consume, DeclareExchange, DeclareQueue, Error, ErrorKind, Publishing, connect,
    message::{BindQueue, DeleteExchange, DeleteQueue, Get, PurgeQueue},
    options::ExchangeKind,
};

/// Asserts that a call was refused with this code and method, and that the channel closed for the same reason.
async fn assert_refused<T>(channel: &Channel, result: Result<T, Error>, code: u16, method: &str) -> Error {
    let Err(error) = result else { panic!("{method} was not refused") };
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let reason = error.close_reason().expect("the broker's reason");
    assert_eq!((reason.code, reason.method), (code, method), "{error}");
    assert!(error.is_soft());
    assert!(channel.is_closed());
    let later = channel.declare_queue(DeclareQueue::server_named()).await.unwrap_err();
    assert_eq!(later.kind(), ErrorKind::ChannelClosed);
    assert_eq!(later.close_reason().map(|reason| reason.code), Some(code));
    error
}

crate::modes! {
    /// TOP-01, TOP-17: deleted before or never declared.
    async fn deleting_a_missing_queue_or_exchange_is_no_error(bench: Bench) {
        let channel = &bench.channel;
        channel.declare_exchange(DeclareExchange::direct("ex").auto_delete(true)).await.unwrap();
        channel.declare_queue(DeclareQueue::new("q").auto_delete(true)).await.unwrap();
        for _ in 0..2 {
            channel.delete_exchange(DeleteExchange::new("ex")).await.unwrap();
            assert_eq!(channel.delete_queue(DeleteQueue::new("q")).await.unwrap(), 0);
        }
        channel.exchange("never").delete().await.unwrap();
        assert_eq!(channel.queue("never").delete().await.unwrap(), 0);
        assert!(!channel.is_closed());
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!(oracle.queue_counts("q").await, None);
    }

    /// TOP-02: publishes reach it by that name.
    async fn the_broker_names_a_queue_declared_without_a_name(bench: Bench) {
        let body: Vec<u8> = (0..32).map(|_| fastrand::u8(..)).collect();
        let queue = bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        assert!(queue.name().starts_with("amq.gen-"), "{}", queue.name());
        let other = bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        assert_ne!(queue.name(), other.name());
        bench.channel.default_exchange().publish(body.clone(), queue.name()).await.unwrap();
        let message = queue.get().await.unwrap().expect("the message");
        assert_eq!(message.body()[..], body[..]);
        assert_eq!((message.exchange(), message.routing_key()), ("", queue.name()));
        message.ack().unwrap();
    }

    /// TOP-03, TOP-05, TOP-07: if there is none, 404 closes the channel.
    async fn a_passive_exchange_declare_checks_the_name_only(bench: Bench) {
        let first = &bench.channel;
        let missing = first.declare_exchange(DeclareExchange::direct("ex").passive(true)).await;
        let error = assert_refused(first, missing, 404, "exchange.declare").await;
        assert_eq!(error.entity(), Some("ex"));

        let second = bench.another_channel().await;
        let exchange = second.declare_exchange(DeclareExchange::direct("ex").auto_delete(true)).await.unwrap();
        let third = bench.another_channel().await;
        let passive = DeclareExchange::new("ex", ExchangeKind::Fanout).durable(false).passive(true);
        assert_eq!(third.declare_exchange(passive.clone()).await.unwrap().name(), "ex");
        exchange.delete().await.unwrap();
        let missing = third.declare_exchange(passive).await;
        assert_refused(&third, missing, 404, "exchange.declare").await;
        assert!(!second.is_closed() && !bench.connection.is_closed());
    }

    /// TOP-04, TOP-05: if there is none, 404 closes the channel.
    async fn a_passive_queue_declare_checks_the_name_only(bench: Bench) {
        let missing = bench.channel.declare_queue(DeclareQueue::new("q").passive(true)).await;
        let error = assert_refused(&bench.channel, missing, 404, "queue.declare").await;
        assert_eq!(error.entity(), Some("q"));
        let channel = bench.another_channel().await;
        channel.declare_queue("q").await.unwrap();
        let found = channel.declare_queue(DeclareQueue::new("q").quorum().durable(false).passive(true)).await.unwrap();
        assert_eq!(found.name(), "q");
        let unnamed = channel.declare_queue(DeclareQueue::new("").passive(true)).await;
        assert_refused(&channel, unnamed, 404, "queue.declare").await;
    }

    /// TOP-03, TOP-04, TOP-05: `existing`, with handles and with messages, for any attributes.
    async fn existing_queues_and_exchanges_are_found_by_name(bench: Bench) {
        let channel = &bench.channel;
        channel.declare_exchange(DeclareExchange::headers("ex").durable(false).internal(true)).await.unwrap();
        channel.declare_queue(DeclareQueue::new("q").quorum().max_length(5)).await.unwrap();
        channel.default_exchange().publish("body", "q").await.unwrap();
        let exchange = channel.declare_exchange(DeclareExchange::existing("ex")).await.unwrap();
        assert_eq!(exchange.name(), "ex");
        channel.actor().send(DeclareExchange::existing("ex")).await.unwrap().unwrap();
        let declared = eventually("the message is counted", 10, async || {
            let declared = channel.actor().send(DeclareQueue::existing("q")).await.unwrap().unwrap();
            (declared.message_count == 1).then_some(declared)
        });
        let declared = declared.await;
        assert_eq!((declared.name.as_str(), declared.consumer_count), ("q", 0));
        let queue = channel.declare_queue(DeclareQueue::existing("q")).await.unwrap();
        assert_eq!(queue.declared(), Some(&declared));
        let missing = channel.declare_exchange(DeclareExchange::existing("never")).await;
        let error = assert_refused(channel, missing, 404, "exchange.declare").await;
        assert_eq!(error.entity(), Some("never"));
        let channel = bench.another_channel().await;
        let missing = channel.declare_queue(DeclareQueue::existing("never")).await;
        let error = assert_refused(&channel, missing, 404, "queue.declare").await;
        assert_eq!(error.entity(), Some("never"));
    }

    /// TOP-03: a string or `ExchangeKind::Custom` with the name of a known type is that type.
    async fn an_exchange_type_may_be_a_string(bench: Bench) {
        for kind in ["direct", "fanout", "topic", "headers"] {
            let channel = bench.another_channel().await;
            channel.declare_exchange(DeclareExchange::new(kind, kind)).await.unwrap();
            let custom = DeclareExchange::new(kind, ExchangeKind::Custom(kind.into()));
            channel.declare_exchange(custom).await.unwrap();
            let shown = bench.vhost.exchanges().await.into_iter().find(|exchange| exchange.name == kind);
            assert_eq!(shown.expect("the exchange").kind, kind);
            let other = if kind == "topic" { ExchangeKind::Fanout } else { ExchangeKind::Topic };
            let differs = channel.declare_exchange(DeclareExchange::new(kind, other)).await;
            let error = assert_refused(&channel, differs, 406, "exchange.declare").await;
            assert_eq!(error.mismatch().expect("a mismatch").argument, "type");
        }
    }

    /// TOP-09, TOP-10: `declare-ok` counts ready messages and consumers. A purge leaves unacknowledged messages.
    async fn declare_and_purge_count_ready_messages(bench: Bench) {
        let channel = &bench.channel;
        let counts = |queue: actix_pika::Queue| {
            let declared = queue.declared().expect("counts").clone();
            (declared.message_count, declared.consumer_count)
        };
        let queue = channel.declare_queue("q").await.unwrap();
        assert_eq!(counts(queue.clone()), (0, 0));
        let exchange = channel.default_exchange();
        for n in 0..5 {
            exchange.publish(format!("{n}"), "q").await.unwrap();
        }
        let unsettled = [queue.get().await.unwrap().unwrap(), queue.get().await.unwrap().unwrap()];
        assert_eq!(counts(channel.declare_queue("q").await.unwrap()), (3, 0));
        let idle = channel.declare_queue("idle").await.unwrap();
        let consumer = idle.deliveries().await.unwrap();
        assert_eq!(counts(channel.declare_queue("idle").await.unwrap()), (0, 1));
        consumer.close().await.unwrap();
        assert_eq!(counts(channel.declare_queue("idle").await.unwrap()), (0, 0));

        assert_eq!(queue.purge().await.unwrap(), 3);
        assert_eq!(queue.purge().await.unwrap(), 0);
        assert!(queue.get().await.unwrap().is_none());
        channel.close().await.unwrap();
        drop(unsettled);
        let again = bench.another_channel().await.declare_queue("q").await.unwrap();
        assert_eq!(counts(again.clone()), (2, 0));
        assert_eq!(again.delete().await.unwrap(), 2);
    }

    /// TOP-12: with 406, which names the attribute. An equal declare succeeds.
    async fn a_declare_with_other_attributes_is_refused(bench: Bench) {
        let queue = || DeclareQueue::new("q").argument("x-max-length", 5).argument("x-message-ttl", 60_000);
        let exchange = || DeclareExchange::topic("ex");
        bench.channel.declare_queue(queue()).await.unwrap();
        bench.channel.declare_queue(queue().argument("my-own", "remark")).await.unwrap();
        bench.channel.declare_exchange(exchange()).await.unwrap();
        bench.channel.declare_exchange(&exchange()).await.unwrap();
        for (other, word) in [
            (queue().durable(false), "durable"),
            (queue().auto_delete(true), "auto_delete"),
            (queue().argument("x-max-length", 6), "x-max-length"),
            (queue().argument("x-message-ttl", 1), "x-message-ttl"),
        ] {
            let channel = bench.another_channel().await;
            let refused = channel.declare_queue(other).await;
            let error = assert_refused(&channel, refused, 406, "queue.declare").await;
            assert!(error.to_string().contains(word), "{error}");
        }
        for (other, word) in [
            (DeclareExchange::fanout("ex"), "type"),
            (exchange().durable(false), "durable"),
            (exchange().auto_delete(true), "auto_delete"),
        ] {
            let channel = bench.another_channel().await;
            let refused = channel.declare_exchange(other).await;
            let error = assert_refused(&channel, refused, 406, "exchange.declare").await;
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(!bench.channel.is_closed());
    }

    /// TOP-13: every method of another connection is refused with 405. TOP-20: the queue is deleted with its connection, not
    /// with its last consumer.
    async fn an_exclusive_queue_is_for_its_connection_only(bench: Bench) {
        let exclusive = || DeclareQueue::new("mine").exclusive(true);
        bench.channel.declare_queue(exclusive()).await.unwrap();
        let sibling = bench.another_channel().await;
        let queue = sibling.declare_queue(exclusive()).await.unwrap();
        queue.deliveries().await.unwrap().close().await.unwrap();
        assert_eq!(queue.purge().await.unwrap(), 0);
        let not_exclusive = sibling.declare_queue(DeclareQueue::new("mine")).await;
        assert_refused(&sibling, not_exclusive, 405, "queue.declare").await;

        let other_connection = connect(bench.vhost.url()).await.unwrap();
        for (index, method) in [
            "queue.declare", "queue.declare", "basic.consume", "basic.get", "queue.purge", "queue.delete", "queue.bind",
        ].into_iter().enumerate() {
            let channel = other_connection.channel_with(Bench::options(bench.confirms)).await.unwrap();
            let queue = channel.queue("mine");
            let result = match index {
                0 => channel.declare_queue(exclusive()).await.map(drop),
                1 => channel.declare_queue(exclusive().passive(true)).await.map(drop),
                2 => queue.deliveries().await.map(drop),
                3 => channel.queue("mine").get_with(Get::new("mine")).await.map(drop),
                4 => queue.purge().await.map(drop),
                5 => queue.delete().await.map(drop),
                _ => queue.bind_with(BindQueue::new("mine", "amq.direct", "key")).await,
            };
            assert_refused(&channel, result, 405, method).await;
        }
        assert!(bench.channel.declare_queue(exclusive()).await.is_ok());
        bench.connection.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        eventually("the queue is deleted", 10, || async { oracle.queue_counts("mine").await.is_none().then_some(()) }).await;
        other_connection.close().await.unwrap();
    }

    /// TOP-15: with 403, for declare and delete.
    async fn reserved_names_are_refused(bench: Bench) {
        for n in 0..6 {
            let channel = bench.another_channel().await;
            let (result, method) = match n {
                0 => (channel.declare_exchange(DeclareExchange::direct("amq.mine")).await.map(drop), "exchange.declare"),
                1 => (channel.declare_queue("amq.mine").await.map(drop), "queue.declare"),
                2 => (channel.declare_exchange(DeclareExchange::direct("")).await.map(drop), "exchange.declare"),
                3 => (channel.declare_exchange(DeclareExchange::direct("").passive(true)).await.map(drop), "exchange.declare"),
                4 => (channel.exchange("amq.fanout").delete().await, "exchange.delete"),
                _ => (channel.default_exchange().delete().await, "exchange.delete"),
            };
            assert_refused(&channel, result, 403, method).await;
        }
        assert!(!bench.connection.is_closed());
    }

    /// TOP-18: with 406, while the condition does not hold.
    async fn conditional_deletes_are_refused(bench: Bench) {
        let channel = &bench.channel;
        let queue = channel.declare_queue("q").await.unwrap();
        let exchange = channel.declare_exchange(DeclareExchange::direct("ex")).await.unwrap();
        queue.bind("ex", "key").await.unwrap();
        exchange.publish("body", "key").await.unwrap();
        let consumer = queue.deliveries_with(Consume::new().no_ack(true)).await.unwrap();

        let other = bench.another_channel().await;
        let used = other.delete_queue(DeleteQueue::new("q").if_unused(true)).await;
        assert_refused(&other, used, 406, "queue.delete").await;
        let other = bench.another_channel().await;
        let bound = other.delete_exchange(DeleteExchange::new("ex").if_unused(true)).await;
        assert_refused(&other, bound, 406, "exchange.delete").await;
        consumer.close().await.unwrap();

        exchange.publish(Publishing::new("body"), "key").await.unwrap();
        let other = bench.another_channel().await;
        let full = other.delete_queue(DeleteQueue::new("q").if_empty(true)).await;
        assert_refused(&other, full, 406, "queue.delete").await;
        assert_eq!(queue.delete_with(DeleteQueue::new("q").if_unused(true)).await.unwrap(), 1);
        exchange.delete_with(DeleteExchange::new("ex").if_unused(true)).await.unwrap();
    }

    /// TOP-27: with 406.
    async fn invalid_arguments_are_refused(bench: Bench) {
        let queue = DeclareQueue::new("q");
        for invalid in [
            queue.clone().argument("x-message-ttl", "a minute"),
            queue.clone().argument("x-message-ttl", -1),
            queue.clone().argument("x-expires", 0),
            queue.clone().argument("x-max-priority", 260),
            queue.clone().argument("x-max-priority", -10),
            queue.clone().argument("x-dead-letter-routing-key", "key"),
            queue.clone().argument("x-queue-type", "unknown-type"),
            queue.clone().quorum().durable(false),
        ] {
            let channel = bench.another_channel().await;
            let refused = channel.declare_queue(invalid).await;
            assert_refused(&channel, refused, 406, "queue.declare").await;
        }
        bench.channel.declare_queue("q").await.unwrap();
        let refused = bench.channel.queue("q").deliveries_with(Consume::new().argument("x-priority", "banana")).await;
        assert_refused(&bench.channel, refused, 406, "basic.consume").await;
    }

    /// TOP-27: the client refuses them, because the broker would close the connection.
    async fn arguments_that_cannot_be_encoded_are_codec_errors(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let bind = BindQueue::new("q", "amq.headers", "").argument("n", f64::NAN);
        for error in [
            bench.channel.declare_queue(DeclareQueue::new("p").argument("n", f64::INFINITY)).await.unwrap_err(),
            bench.channel.declare_exchange(DeclareExchange::direct("ex").argument("n", f32::NAN)).await.unwrap_err(),
            queue.bind_with(bind).await.unwrap_err(),
            queue.deliveries_with(Consume::new().argument("n", f64::NAN)).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
        }
        assert_eq!(queue.delete().await.unwrap(), 0);
    }

    /// TOP-27: the broker closes the connection with 503, which every channel reports; since 4.0 it closes the channel with
    /// 406.
    async fn an_unknown_exchange_type_is_refused(bench: Bench) {
        let other = bench.another_channel().await;
        let custom = DeclareExchange::new("ex", ExchangeKind::Custom("unknown-type".into()));
        if bench.vhost.broker().version().await >= (4, 0) {
            let refused = bench.channel.declare_exchange(custom).await;
            assert_refused(&bench.channel, refused, 406, "exchange.declare").await;
            round_trip(&other).await.unwrap();
            return;
        }
        let error = bench.channel.declare_exchange(custom).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
        assert_eq!(error.close_reason().unwrap().code, 503);
        assert_eq!((error.close_reason().unwrap().method, error.entity()), ("exchange.declare", Some("ex")));
        let error = round_trip(&other).await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ConnectionClosed, 503));
        assert_eq!(bench.connection.closed().await.unwrap_err().close_reason().unwrap().code, 503);
    }

    /// TOP-10: with 404, also for an empty name before any declare.
    async fn purging_a_missing_queue_is_refused(bench: Bench) {
        let missing = bench.channel.queue("never").purge().await;
        assert_refused(&bench.channel, missing, 404, "queue.purge").await;
        let channel = bench.another_channel().await;
        let unnamed = channel.actor().send(PurgeQueue::new("")).await.unwrap();
        assert_refused(&channel, unnamed, 404, "queue.purge").await;
    }
}

async fn round_trip(channel: &Channel) -> Result<(), Error> {
    channel.declare_queue(DeclareQueue::server_named()).await.map(drop)
}
