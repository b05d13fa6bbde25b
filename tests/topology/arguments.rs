//! Typed arguments of queues and exchanges, lookups by name, and the mismatch in a refused declare.

use std::time::Duration;

use crate::support::{broker::normal, oracle::Oracle};
use actix_pika::{
    Consume, DeclareExchange, DeclareQueue, ErrorKind, Publishing,
    message::{BindExchange, BindQueue, Table, UnbindQueue, Value},
    options::{DeadLetterStrategy, DelayedRetry, LeaderLocator, Overflow, QueueType},
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the arguments of a queue as the broker shows them.
async fn arguments(bench: &crate::support::modes::Bench, queue: &str) -> Table {
    crate::support::eventually("the API shows the queue", 10, || bench.vhost.queue(queue)).await.arguments
}

/// Returns a table in the form in which the broker shows it.
fn table<const N: usize>(arguments: [(&str, Value); N]) -> Table {
    normal(&arguments.into_iter().collect())
}

crate::modes! {
    /// TOP-28
    async fn the_broker_has_every_argument_of_a_classic_queue(bench: Bench) {
        let declare = DeclareQueue::new("q")
            .queue_type(QueueType::Classic)
            .message_ttl(60 * SECOND)
            .expires(3600 * SECOND)
            .max_length(10)
            .max_length_bytes(1 << 33)
            .overflow(Overflow::RejectPublishDlx)
            .dead_letter_exchange("")
            .dead_letter_routing_key("graveyard")
            .max_priority(5)
            .single_active_consumer(true)
            .lazy(true);
        bench.channel.declare_queue(declare).await.unwrap();
        let expected = table([
            ("x-queue-type", "classic".into()), ("x-message-ttl", 60_000.into()), ("x-expires", 3_600_000.into()), ("x-max-length", 10.into()),
            ("x-max-length-bytes", (1i64 << 33).into()), ("x-overflow", "reject-publish-dlx".into()), ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "graveyard".into()), ("x-max-priority", 5.into()), ("x-single-active-consumer", true.into()),
            ("x-queue-mode", "lazy".into()),
        ]);
        assert_eq!(arguments(&bench, "q").await, expected);
    }

    /// TOP-36, TOP-37: `quorum` and `stream` also set `durable`.
    async fn the_broker_has_every_argument_of_quorum_queues_and_streams(bench: Bench) {
        let quorum = DeclareQueue::new("votes")
            .durable(false)
            .quorum()
            .delivery_limit(3)
            .dead_letter_exchange("amq.fanout")
            .dead_letter_strategy(DeadLetterStrategy::AtLeastOnce)
            .overflow(Overflow::RejectPublish)
            .leader_locator(LeaderLocator::ClientLocal)
            .delayed_retry(DelayedRetry::Failed, SECOND, 60 * SECOND);
        bench.channel.declare_queue(quorum).await.unwrap();
        let stream = DeclareQueue::new("log").durable(false).stream().max_age(7200 * SECOND).max_segment_size(1 << 20);
        bench.channel.declare_queue(stream.max_length_bytes(1 << 30)).await.unwrap();
        let expected = table([
            ("x-queue-type", "quorum".into()), ("x-delivery-limit", 3.into()), ("x-dead-letter-exchange", "amq.fanout".into()),
            ("x-dead-letter-strategy", "at-least-once".into()), ("x-overflow", "reject-publish".into()),
            ("x-queue-leader-locator", "client-local".into()), ("x-delayed-retry-type", "failed".into()), ("x-delayed-retry-min", 1000.into()),
            ("x-delayed-retry-max", 60_000.into()),
        ]);
        assert_eq!(arguments(&bench, "votes").await, expected);
        let expected = table([
            ("x-queue-type", "stream".into()), ("x-max-age", "7200s".into()), ("x-stream-max-segment-size-bytes", (1i64 << 20).into()),
            ("x-max-length-bytes", (1i64 << 30).into()),
        ]);
        assert_eq!(arguments(&bench, "log").await, expected);
    }

    /// TOP-28, TOP-45: together with single arguments. Of two with the same name the later one applies.
    async fn every_method_accepts_a_table_of_arguments(bench: Bench) {
        let channel = &bench.channel;
        let deep = Table::new().with("deep", vec![actix_pika::message::Value::from(1), "a".into()]);
        let given = Table::new().with("x-max-length", 7i64).with("x-my-own", deep.clone());
        let declare = DeclareQueue::new("q").max_length(1).arguments(given).message_ttl(SECOND);
        let queue = channel.declare_queue(declare).await.unwrap();
        let mut expected = table([("x-max-length", 7.into()), ("x-my-own", Value::Table(deep)), ("x-message-ttl", 1000.into())]);
        // Since 4.0 every vhost has a default queue type, which the API shows if none was given.
        if bench.vhost.broker().version().await >= (4, 0) {
            expected = normal(&expected.with("x-queue-type", "classic"));
        }
        assert_eq!(arguments(&bench, "q").await, expected);

        let arguments_of_binding = || Table::new().with("x-match", "all").with("n", 5);
        channel.declare_exchange(DeclareExchange::headers("e").arguments(arguments_of_binding())).await.unwrap();
        queue.bind_with(BindQueue::new("q", "e", "").arguments(arguments_of_binding()).argument("m", true)).await.unwrap();
        channel.exchange("amq.fanout").bind_with(BindExchange::new("amq.fanout", "e", "").arguments(arguments_of_binding())).await.unwrap();
        let mut bound: Vec<_> = bench.vhost.bindings().await.into_iter().filter(|b| b.source == "e").collect();
        bound.sort_by_key(|binding| binding.destination.clone());
        let shown: Vec<_> = bound.into_iter().map(|binding| binding.arguments).collect();
        assert_eq!(shown, [table([ ("x-match", "all".into()), ("n", 5.into())]), table([ ("x-match", "all".into()), ("n", 5.into()), ("m", true.into()) ])]);
        channel.exchange("e").publish(Publishing::new("x").header("n", 5).header("m", true), "").await.unwrap();
        assert_eq!(queue.purge().await.unwrap(), 1);
        queue.unbind_with(UnbindQueue::new("q", "e", "").argument("m", true).arguments(arguments_of_binding())).await.unwrap();
        let left = bench.vhost.bindings().await.into_iter().filter(|b| b.source == "e").count();
        assert_eq!(left, 1);

        let options = Consume::new().arguments(Table::new().with("x-priority", 3).with("x-my-own", "y"));
        let _deliveries = queue.deliveries_with(options).await.unwrap();
        let shown = crate::support::eventually("the API shows the consumer", 10, async || {
            bench.vhost.consumers("q").await.first().map(|consumer| consumer.arguments.clone())
        });
        assert_eq!(shown.await, table([ ("x-priority", 3.into()), ("x-my-own", "y".into()) ]));
    }

    /// TOP-35: `drop-head` with a dead-letter exchange, and `reject-publish`.
    async fn the_overflow_argument_decides_what_a_full_queue_does(bench: Bench) {
        let exchange = bench.channel.default_exchange();
        bench.channel.declare_queue("graveyard").await.unwrap();
        let dropping = DeclareQueue::new("dropping").max_length(1).overflow(Overflow::DropHead);
        let dropping = dropping.dead_letter_exchange("").dead_letter_routing_key("graveyard");
        let dropping = bench.channel.declare_queue(dropping).await.unwrap();
        exchange.publish("old", "dropping").await.unwrap();
        exchange.publish("new", "dropping").await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let dead = crate::support::eventually("the dead letter arrives", 10, || oracle.get("graveyard")).await;
        assert_eq!(dead.data, b"old");
        let left = dropping.get().await.unwrap().expect("the newer one");
        assert_eq!(left.body(), b"new");
        left.ack().unwrap();

        let refusing = DeclareQueue::new("refusing").max_length(1).overflow(Overflow::RejectPublish);
        bench.channel.declare_queue(refusing).await.unwrap();
        exchange.publish("first", "refusing").await.unwrap();
        let second = exchange.publish("refused", "refusing").await;
        if bench.confirms {
            assert_eq!(second.unwrap_err().kind(), ErrorKind::Nacked);
        } else {
            second.unwrap();
        }
        let get = async || bench.channel.queue("refusing").get().await.unwrap();
        let first = get().await.expect("the first");
        assert_eq!(first.body(), b"first");
        first.ack().unwrap();
        assert!(get().await.is_none());
    }

    /// TOP-42: they count as routed.
    async fn an_alternate_exchange_gets_unroutable_messages(bench: Bench) {
        let lost = bench.channel.declare_exchange(DeclareExchange::fanout("lost")).await.unwrap();
        let declare = DeclareExchange::direct("orders").alternate_exchange("lost");
        let orders = bench.channel.declare_exchange(declare).await.unwrap();
        let queue = bench.channel.declare_queue("found").await.unwrap();
        queue.bind_with(BindQueue::new("found", lost.name(), "")).await.unwrap();
        orders.publish(Publishing::new("unroutable"), "nowhere").await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let found = crate::support::eventually("the message arrives", 10, || oracle.get("found")).await;
        assert_eq!(found.data, b"unroutable");
    }

    /// TOP-05: a handle with counts, or 404, which closes the channel.
    async fn a_lookup_returns_a_handle_or_404(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        bench.channel.default_exchange().publish("x", "q").await.unwrap();
        crate::support::eventually("the message is counted", 10, async || {
            let queue = bench.channel.get_queue("q").await.unwrap();
            (queue.declared().unwrap().message_count == 1).then_some(())
        })
        .await;
        let topic = bench.channel.get_exchange("amq.topic").await.unwrap();
        assert_eq!(topic.name(), "amq.topic");
        let missing = bench.channel.get_exchange("nothing").await.unwrap_err();
        assert_eq!((missing.kind(), missing.close_reason().unwrap().code), (ErrorKind::Refused, 404));
        assert!(bench.channel.is_closed());
        let missing = bench.another_channel().await.get_queue("nothing").await.unwrap_err();
        assert_eq!((missing.kind(), missing.close_reason().unwrap().code), (ErrorKind::Refused, 404));
        assert_eq!(missing.entity(), Some("nothing"));
        assert_eq!(missing.mismatch(), None);
    }

    /// TOP-12: the error has the argument, the received and the current value.
    async fn a_mismatch_names_argument_and_values(bench: Bench) {
        bench.channel.declare_queue(DeclareQueue::new("q").max_length(5)).await.unwrap();
        bench.channel.declare_exchange(DeclareExchange::direct("e")).await.unwrap();
        let cases = [
            (DeclareQueue::new("q").max_length(6), "x-max-length", Some("6"), Some("5")),
            (DeclareQueue::new("q"), "x-max-length", None, Some("5")),
            (DeclareQueue::new("q").max_length(5).message_ttl(SECOND), "x-message-ttl", Some("1000"), None),
            (DeclareQueue::new("q").max_length(5).durable(false), "durable", Some("false"), Some("true")),
            (DeclareQueue::new("q").max_length(5).auto_delete(true), "auto_delete", Some("true"), Some("false")),
        ];
        for (declare, argument, received, current) in cases {
            let channel = bench.another_channel().await;
            let error = channel.declare_queue(declare).await.unwrap_err();
            assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 406));
            let mismatch = error.mismatch().unwrap_or_else(|| panic!("no mismatch in {error}"));
            assert_eq!(mismatch.argument, argument, "{error}");
            assert_eq!((mismatch.received.as_deref(), mismatch.current.as_deref()), (received, current), "{error}");
        }
        let error = bench.channel.declare_exchange(DeclareExchange::fanout("e")).await.unwrap_err();
        let mismatch = error.mismatch().expect("a mismatch");
        assert_eq!((mismatch.argument.as_str(), mismatch.current.as_deref()), ("type", Some("direct")));
        // The close cause of the channel has it as well.
        assert_eq!(bench.channel.close_cause().unwrap().mismatch(), Some(mismatch));
    }
}
