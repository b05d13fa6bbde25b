//! Bindings, auto-delete, limits of names, and dead-letter exchanges.

use std::time::Duration;

use futures_util::StreamExt;

use crate::support::{get_message, modes::Bench, oracle::Oracle};
use actix_pika::{
    Channel, Consume, DeclareExchange, DeclareQueue, Delivery, Error, ErrorKind, Publishing, Queue,
    message::{BindExchange, BindQueue, UnbindQueue, Value},
};

/// Returns whether a mandatory publish reaches a queue. Uses its own channel with confirms.
async fn routes(bench: &Bench, exchange: &str, key: &str) -> bool {
    let channel = bench.connection.channel().await.unwrap();
    match channel.exchange(exchange).publish("probe", key).await {
        Ok(confirmation) => confirmation.is_confirmed(),
        Err(error) => {
            let returned = error.returned().unwrap_or_else(|| panic!("{error}"));
            assert_eq!((error.kind(), returned.code), (ErrorKind::Unroutable, 312));
            false
        }
    }
}

async fn exists(bench: &Bench, exchange: &str) -> bool {
    let channel = bench.connection.channel().await.unwrap();
    let error = match channel.declare_exchange(DeclareExchange::direct(exchange).passive(true)).await {
        Ok(_) => return true,
        Err(error) => error,
    };
    assert_eq!(error.close_reason().unwrap().code, 404, "{error}");
    false
}

crate::modes! {
    /// TOP-08: until the unbind.
    async fn exchanges_route_to_bound_exchanges(bench: Bench) {
        let channel = &bench.channel;
        let from = channel.declare_exchange(DeclareExchange::direct("from")).await.unwrap();
        let to = channel.declare_exchange(DeclareExchange::direct("to")).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        queue.bind("to", "key").await.unwrap();
        to.bind("from", "key").await.unwrap();
        from.publish("body", "key").await.unwrap();
        let message = get_message(&queue).await;
        assert_eq!((message.exchange(), message.routing_key(), message.body()), ("from", "key", &b"body"[..]));
        message.ack().unwrap();
        to.unbind("from", "key").await.unwrap();
        to.unbind("from", "key").await.unwrap();
        assert!(!routes(&bench, "from", "key").await);
        assert!(routes(&bench, "to", "key").await);
    }

    /// TOP-11, TOP-25, TOP-26: or with its queue.
    async fn a_binding_ends_with_an_unbind_or_with_its_exchange(bench: Bench) {
        let channel = &bench.channel;
        let declare = || DeclareExchange::direct("ex");
        let exchange = channel.declare_exchange(declare()).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        queue.bind("ex", "key").await.unwrap();
        assert!(routes(&bench, "ex", "key").await);
        queue.unbind("ex", "key").await.unwrap();
        queue.unbind("ex", "key").await.unwrap();
        assert!(!routes(&bench, "ex", "key").await);
        queue.bind("ex", "key").await.unwrap();
        exchange.delete().await.unwrap();
        queue.unbind("ex", "key").await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!(oracle.count("q").await, 1);
        channel.declare_exchange(declare()).await.unwrap();
        assert!(!routes(&bench, "ex", "key").await);
        // In the other order.
        queue.bind("ex", "key").await.unwrap();
        assert_eq!(queue.delete().await.unwrap(), 1);
        assert!(!routes(&bench, "ex", "key").await);
        exchange.delete().await.unwrap();
    }

    /// TOP-16: with 403. It routes what it gets from other exchanges.
    async fn an_internal_exchange_refuses_publishes(bench: Bench) {
        let channel = &bench.channel;
        channel.declare_exchange(DeclareExchange::fanout("outer")).await.unwrap();
        let inner = channel.declare_exchange(DeclareExchange::fanout("inner").internal(true)).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        queue.bind("inner", "").await.unwrap();
        inner.bind("outer", "").await.unwrap();
        assert!(routes(&bench, "outer", "").await);
        let confirmed = bench.connection.channel().await.unwrap();
        let error = confirmed.exchange("inner").publish("body", "").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ChannelClosed);
        let reason = error.close_reason().unwrap();
        assert_eq!((reason.code, reason.method), (403, "basic.publish"));
        assert!(!channel.is_closed());
    }

    /// TOP-19: one that never had a consumer stays.
    async fn an_auto_delete_queue_is_deleted_with_its_last_consumer(bench: Bench) {
        let channel = &bench.channel;
        let queue = channel.declare_queue(DeclareQueue::new("used").auto_delete(true)).await.unwrap();
        channel.declare_queue(DeclareQueue::new("unused").auto_delete(true)).await.unwrap();
        let first = queue.deliveries().await.unwrap();
        let second = queue.deliveries().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        first.close().await.unwrap();
        assert_eq!(oracle.queue_counts("used").await, Some((0, 1)));
        second.close().await.unwrap();
        assert_eq!(oracle.queue_counts("used").await, None);
        assert_eq!(oracle.queue_counts("unused").await, Some((0, 0)));
    }

    /// TOP-19: each one with its last binding.
    async fn a_chain_of_auto_delete_exchanges_is_deleted(bench: Bench) {
        let channel = &bench.channel;
        let chain = ["a", "b", "c", "d"];
        for name in chain {
            channel.declare_exchange(DeclareExchange::fanout(name).auto_delete(true)).await.unwrap();
        }
        for pair in chain.windows(2) {
            channel.exchange(pair[1]).bind(pair[0], "").await.unwrap();
        }
        channel.exchange("d").delete().await.unwrap();
        for name in chain {
            assert!(!exists(&bench, name).await, "{name} still exists");
        }
        let single = channel.declare_exchange(DeclareExchange::fanout("single").auto_delete(true)).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        assert!(exists(&bench, "single").await);
        queue.bind(single.name(), "").await.unwrap();
        queue.unbind(single.name(), "").await.unwrap();
        assert!(!exists(&bench, "single").await);
    }

    /// TOP-19
    async fn a_cycle_of_auto_delete_exchanges_is_deleted(bench: Bench) {
        let channel = &bench.channel;
        let cycle = ["a", "b", "c", "a"];
        for name in &cycle[1..] {
            channel.declare_exchange(DeclareExchange::fanout(*name).auto_delete(true)).await.unwrap();
        }
        for pair in cycle.windows(2) {
            channel.exchange(pair[1]).bind(pair[0], "").await.unwrap();
        }
        channel.exchange("b").delete().await.unwrap();
        for name in cycle {
            assert!(!exists(&bench, name).await, "{name} still exists");
        }
    }

    /// TOP-45
    async fn bindings_with_different_arguments_are_distinct(bench: Bench) {
        let channel = &bench.channel;
        channel.declare_exchange(DeclareExchange::headers("ex")).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        let bind = |color: &str| BindQueue::new("q", "ex", "key").argument("x-match", "all").argument("color", color);
        for color in ["red", "blue", "blue"] {
            queue.bind_with(bind(color)).await.unwrap();
        }
        let bindings = bench.vhost.bindings().await;
        assert_eq!(bindings.iter().filter(|b| b.source == "ex").count(), 2, "{bindings:?}");
        let unbind = UnbindQueue::new("q", "ex", "key").argument("x-match", "all").argument("color", "red");
        queue.unbind_with(unbind).await.unwrap();
        let probe = bench.connection.channel().await.unwrap().exchange("ex");
        probe.publish(Publishing::new("b").header("color", "blue"), "any").await.unwrap();
        let error = probe.publish(Publishing::new("r").header("color", "red"), "any").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable);
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, [b"b"]);
    }

    /// TOP-15: the broker answers 403.
    async fn the_default_exchange_cannot_be_bound(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        for n in 0..4 {
            let channel = bench.another_channel().await;
            let (result, method) = match n {
                0 => (channel.queue("q").bind("", "key").await, "queue.bind"),
                1 => (channel.queue("q").unbind("", "key").await, "queue.unbind"),
                2 => (channel.exchange("amq.fanout").bind("", "key").await, "exchange.bind"),
                _ => (channel.exchange("amq.fanout").unbind("", "key").await, "exchange.unbind"),
            };
            let error = result.unwrap_err();
            let reason = error.close_reason().unwrap();
            assert_eq!((error.kind(), reason.code, reason.method), (ErrorKind::Refused, 403, method));
            assert!(channel.is_closed());
        }
    }

    /// TOP-08, TOP-11: with 404.
    async fn binding_missing_queues_or_exchanges_is_refused(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        for n in 0..4 {
            let channel = bench.another_channel().await;
            let (result, method) = match n {
                0 => (channel.queue("q").bind("never", "key").await, "queue.bind"),
                1 => (channel.queue("never").bind("amq.direct", "key").await, "queue.bind"),
                2 => (channel.exchange("never").bind("amq.direct", "key").await, "exchange.bind"),
                _ => (channel.exchange("amq.direct").bind("never", "key").await, "exchange.bind"),
            };
            let error = result.unwrap_err();
            let reason = error.close_reason().unwrap();
            assert_eq!((error.kind(), reason.code, reason.method), (ErrorKind::Refused, 404, method));
        }
    }

    /// TOP-23, FT-06: the client refuses longer names and keys, sends nothing, and keeps the channel open.
    async fn names_and_keys_have_255_bytes_at_most(bench: Bench) {
        let channel = &bench.channel;
        let (long, longer) = ("n".repeat(255), "n".repeat(256));
        let exchange = channel.declare_exchange(DeclareExchange::topic(&*long)).await.unwrap();
        let other = channel.declare_exchange(DeclareExchange::topic("other")).await.unwrap();
        let queue = channel.declare_queue(&*long).await.unwrap();
        queue.bind(&long, &long).await.unwrap();
        other.bind(&long, &long).await.unwrap();
        exchange.publish("body", &long).await.unwrap();
        let message = get_message(&queue).await;
        assert_eq!((message.exchange(), message.routing_key()), (&*long, &*long));
        message.ack().unwrap();

        let results: Vec<Result<(), Error>> = vec![
            channel.declare_exchange(DeclareExchange::topic(&*longer)).await.map(drop),
            channel.declare_queue(&*longer).await.map(drop),
            channel.declare_queue(DeclareQueue::new("ok").argument(&longer, 1)).await.map(drop),
            exchange.publish("body", &longer).await.map(drop),
            exchange.publish_deferred("body", &longer).await.map(drop),
            exchange.try_publish("body", &longer).map(drop),
            channel.exchange(&longer).publish("body", "key").await.map(drop),
            queue.bind(&long, &longer).await,
            queue.bind(&longer, &long).await,
            queue.unbind(&long, &longer).await,
            other.bind(&long, &longer).await,
            other.bind_with(BindExchange::new(&*longer, "other", "key")).await,
            other.unbind(&long, &longer).await,
            channel.queue(&*longer).purge().await.map(drop),
            channel.queue(&*longer).delete().await.map(drop),
            channel.queue(&*longer).get().await.map(drop),
            channel.queue(&*longer).deliveries().await.map(drop),
            channel.exchange(&longer).delete().await,
        ];
        for (index, result) in results.into_iter().enumerate() {
            let error = result.unwrap_err();
            let kind = if index == 2 { ErrorKind::Codec } else { ErrorKind::Limit };
            assert_eq!(error.kind(), kind, "{index}: {error}");
        }
        assert!(!channel.is_closed());
        assert_eq!((channel.load().unconfirmed, channel.load().waiting), (0, 0));
        queue.unbind(&long, &long).await.unwrap();
        other.unbind(&long, &long).await.unwrap();
        assert_eq!(queue.delete().await.unwrap(), 0);
    }

    /// TOP-47: the broker removes CR and LF from the names of queues and exchanges, so that records of this client would
    /// differ from what the broker has. All else keeps them.
    async fn names_of_queues_and_exchanges_have_no_line_break(bench: Bench) {
        let channel = &bench.channel;
        let exchange = channel.declare_exchange(DeclareExchange::topic("ex")).await.unwrap();
        let queue = channel.declare_queue("jobs").await.unwrap();
        for name in ["jo\nbs", "\rjobs", "jobs\r\n"] {
            let results: Vec<Result<(), Error>> = vec![
                channel.declare_queue(name).await.map(drop),
                channel.get_queue(name).await.map(drop),
                channel.queue(name).purge().await.map(drop),
                channel.queue(name).delete().await.map(drop),
                channel.queue(name).get().await.map(drop),
                channel.queue(name).deliveries().await.map(drop),
                channel.queue(name).bind("ex", "key").await,
                channel.queue(name).unbind("ex", "key").await,
                channel.declare_exchange(DeclareExchange::topic(name)).await.map(drop),
                channel.get_exchange(name).await.map(drop),
                channel.exchange(name).delete().await,
                queue.bind(name, "key").await,
                queue.unbind(name, "key").await,
                exchange.bind(name, "key").await,
                exchange.unbind(name, "key").await,
                channel.exchange(name).bind("ex", "key").await,
            ];
            for (index, result) in results.into_iter().enumerate() {
                let error = result.unwrap_err();
                assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, None), "{index}: {error}");
                let text = error.to_string();
                assert!(text.contains(&format!("{name:?} contains CR or LF")), "{index}: {text}");
            }
        }
        assert!(!channel.is_closed());
        // A routing key and a consumer tag are kept as they are.
        queue.bind("ex", "k\ney").await.unwrap();
        exchange.publish("body", "k\ney").await.unwrap();
        let mut deliveries = queue.deliveries_with(Consume::new().tag("t\nag")).await.unwrap();
        let delivery = deliveries.next().await.unwrap();
        assert_eq!((delivery.routing_key(), delivery.consumer_tag()), ("k\ney", "t\nag"));
        delivery.ack().unwrap();
        deliveries.close().await.unwrap();
    }

    /// TOP-29, TOP-30: by the TTL of the queue or of the message, which is then in `original-expiration`.
    async fn expired_messages_are_dead_lettered(bench: Bench) {
        let (channel, dead) = with_dead_letters(&bench, 300).await;
        channel.default_exchange().publish("by the queue", "source").await.unwrap();
        let message = get_message(&dead).await;
        assert_eq!((message.body(), message.routing_key()), (&b"by the queue"[..], "dead"));
        message.ack().unwrap();
        let (channel, dead) = with_dead_letters(&bench, 10_000).await;
        let expiring = Publishing::new("by itself").expiration(Duration::from_millis(500));
        channel.default_exchange().publish(expiring, "source").await.unwrap();
        let message = get_message(&dead).await;
        let properties = message.properties().unwrap();
        assert_eq!(properties.expiration(), None);
        let death = first_death(&message);
        assert_eq!(death.get("original-expiration").and_then(Value::as_str), Some("500"));
        assert_eq!(death.get("reason").and_then(Value::as_str), Some("expired"));
        message.ack().unwrap();
    }

    /// TOP-31, FT-10: `x-death` has count, time, reason, queue, exchange and routing keys.
    async fn rejected_messages_are_dead_lettered(bench: Bench) {
        let (channel, dead) = with_dead_letters(&bench, 60_000).await;
        let source = channel.queue("source");
        for (round, cc) in [(1, "CC"), (2, "BCC")] {
            let copies = vec![Value::from("copy")];
            let publish = Publishing::new("body").header(cc, copies).header("own", 7u16);
            channel.default_exchange().publish(publish, "source").await.unwrap();
            let delivery = get_message(&source).await;
            if round == 1 { delivery.reject(false).unwrap() } else { delivery.nack(false).unwrap() }
            let message = get_message(&dead).await;
            let death = first_death(&message);
            assert_eq!(death.get("count").and_then(Value::as_i64), Some(1));
            assert!(matches!(death.get("count"), Some(Value::LongLongInt(1))));
            assert_eq!(death.get("reason").and_then(Value::as_str), Some("rejected"));
            assert_eq!(death.get("queue").and_then(Value::as_str), Some("source"));
            assert_eq!(death.get("exchange").and_then(Value::as_str), Some(""));
            assert!(matches!(death.get("time"), Some(Value::Timestamp(seconds)) if *seconds > 1_600_000_000));
            let keys = death.get("routing-keys").and_then(Value::as_array).expect("an array");
            let expected = if round == 1 { vec!["source", "copy"] } else { vec!["source"] };
            assert_eq!(keys.iter().filter_map(Value::as_str).collect::<Vec<_>>(), expected);
            let properties = message.properties().unwrap();
            assert_eq!(properties.header("own"), Some(&Value::ShortUint(7)));
            assert_eq!(properties.header("BCC"), None);
            message.ack().unwrap();
        }
    }
}

/// Declares the queue "source", and a queue for its dead letters. Returns a channel and the second queue.
async fn with_dead_letters(bench: &Bench, ttl: i32) -> (Channel, Queue) {
    let channel = bench.another_channel().await;
    channel.queue("source").delete().await.unwrap();
    channel.declare_exchange(DeclareExchange::direct("dlx")).await.unwrap();
    let dead = channel.declare_queue("dead-letters").await.unwrap();
    dead.bind("dlx", "dead").await.unwrap();
    let source = DeclareQueue::new("source")
        .argument("x-message-ttl", ttl)
        .argument("x-dead-letter-exchange", "dlx")
        .argument("x-dead-letter-routing-key", "dead");
    channel.declare_queue(source).await.unwrap();
    (channel, dead)
}

fn first_death(message: &Delivery) -> actix_pika::message::Table {
    let properties = message.properties().unwrap();
    let deaths = properties.header("x-death").and_then(Value::as_array).expect("x-death");
    assert_eq!(deaths.len(), 1);
    deaths[0].as_table().expect("a table").clone()
}
