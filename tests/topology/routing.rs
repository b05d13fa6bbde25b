//! Routing by exchange type, alternate exchange, CC and BCC, and queue arguments that order or limit messages.

use crate::support::oracle::Oracle;
use actix_pika::{
    Channel, DeclareExchange, DeclareQueue, ErrorKind, Publishing, Queue,
    message::{BindQueue, Value},
};
use futures_util::StreamExt;

/// Declares queues of these names.
async fn queues<const N: usize>(channel: &Channel, names: [&str; N]) -> [Queue; N] {
    let mut queues = Vec::new();
    for name in names {
        queues.push(channel.declare_queue(name).await.unwrap());
    }
    queues.try_into().expect("N queues")
}

/// Asserts that the ready messages of a queue are these, and takes them.
async fn expect_bodies(channel: &Channel, oracle: &Oracle, queue: &str, expected: &[&str]) {
    // A round trip: the broker has processed the publishes before it.
    channel.declare_queue(DeclareQueue::new(queue).passive(true)).await.unwrap();
    let bodies = oracle.drain_bodies(queue).await;
    let bodies: Vec<&str> = bodies.iter().map(|body| std::str::from_utf8(body).unwrap()).collect();
    assert_eq!(bodies, expected, "{queue}");
}

crate::modes! {
    /// TOP-43: one copy to each queue, however many bindings match.
    async fn each_exchange_type_routes_by_its_rules(bench: Bench) {
        let channel = &bench.channel;
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let [a, b] = queues(channel, ["a", "b"]).await;
        let fanout = channel.declare_exchange(DeclareExchange::fanout("fanout")).await.unwrap();
        a.bind("fanout", "x").await.unwrap();
        a.bind("fanout", "y").await.unwrap();
        b.bind("fanout", "").await.unwrap();
        fanout.publish("to all", "whatever").await.unwrap();
        expect_bodies(channel, &oracle, "a", &["to all"]).await;
        expect_bodies(channel, &oracle, "b", &["to all"]).await;

        let topic = channel.declare_exchange(DeclareExchange::topic("topic")).await.unwrap();
        a.bind("topic", "*.orange.*").await.unwrap();
        a.bind("topic", "lazy.#").await.unwrap();
        b.bind("topic", "*.*.rabbit").await.unwrap();
        for key in ["quick.orange.rabbit", "lazy.orange.fox", "lazy", "quick.brown.rabbit"] {
            topic.publish(key, key).await.unwrap();
        }
        expect_bodies(channel, &oracle, "a", &["quick.orange.rabbit", "lazy.orange.fox", "lazy"]).await;
        expect_bodies(channel, &oracle, "b", &["quick.orange.rabbit", "quick.brown.rabbit"]).await;

        let headers = channel.declare_exchange(DeclareExchange::headers("headers")).await.unwrap();
        let match_of = |queue, how: &str| BindQueue::new(queue, "headers", "").argument("x-match", how).argument("n", 1).argument("s", "x");
        a.bind_with(match_of("a", "all")).await.unwrap();
        b.bind_with(match_of("b", "any")).await.unwrap();
        headers.publish(Publishing::new("both").header("n", 1).header("s", "x"), "").await.unwrap();
        headers.publish(Publishing::new("one").header("s", "x"), "").await.unwrap();
        headers.publish(Publishing::new("none").header("s", "y").mandatory(false), "").await.unwrap();
        expect_bodies(channel, &oracle, "a", &["both"]).await;
        expect_bodies(channel, &oracle, "b", &["both", "one"]).await;
        let invalid = a.bind_with(match_of("a", "a sentence")).await.unwrap_err();
        assert_eq!((invalid.kind(), invalid.close_reason().unwrap().code), (ErrorKind::Refused, 406));
    }

    /// TOP-43: an `x-match` that is no string is refused with 406.
    async fn x_headers_match_with_all_with_x_and_any_with_x_only(bench: Bench) {
        let channel = &bench.channel;
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        channel.declare_exchange(DeclareExchange::headers("headers")).await.unwrap();
        let match_of = |queue, how: &str| {
            BindQueue::new(queue, "headers", "").argument("x-match", how).argument("n", 1).argument("x-own", "y")
        };
        for how in ["all", "all-with-x", "any", "any-with-x"] {
            channel.declare_queue(how).await.unwrap().bind_with(match_of(how, how)).await.unwrap();
        }
        let publish = async |body: &'static str, n: i32, x: &str| {
            let publish = Publishing::new(body).header("n", n).header("x-own", x).mandatory(false);
            channel.exchange("headers").publish(publish, "").await.unwrap();
        };
        publish("both", 1, "y").await;
        publish("n", 1, "z").await;
        publish("x", 2, "y").await;
        publish("none", 2, "z").await;
        expect_bodies(channel, &oracle, "all", &["both", "n"]).await;
        expect_bodies(channel, &oracle, "all-with-x", &["both"]).await;
        expect_bodies(channel, &oracle, "any", &["both", "n"]).await;
        expect_bodies(channel, &oracle, "any-with-x", &["both", "n", "x"]).await;
        let number = BindQueue::new("all", "headers", "").argument("x-match", 23);
        let error = channel.queue("all").bind_with(number).await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 406));
    }

    /// TOP-42: a message that is unroutable there as well is returned.
    async fn alternate_exchanges_may_form_a_cycle(bench: Bench) {
        let channel = bench.connection.channel().await.unwrap();
        let main = DeclareExchange::direct("main").argument("alternate-exchange", "rest");
        let main = channel.declare_exchange(main).await.unwrap();
        channel.declare_exchange(DeclareExchange::direct("rest").argument("alternate-exchange", "main")).await.unwrap();
        let [queue] = queues(&channel, ["q"]).await;
        queue.bind("rest", "known").await.unwrap();
        main.publish("body", "known").await.unwrap();
        let error = main.publish("body", "unknown").await.unwrap_err();
        assert_eq!(error.returned().expect("the returned message").exchange, "main");
        assert_eq!(queue.get().await.unwrap().unwrap().exchange(), "main");
    }

    /// TOP-40: up to 255.
    async fn messages_of_higher_priority_are_delivered_first(bench: Bench) {
        let declare = DeclareQueue::new("q").argument("x-max-priority", 255);
        let queue = bench.channel.declare_queue(declare).await.unwrap();
        for priority in [1, 255, 0, 3, 2] {
            let publish = Publishing::new(priority.to_string()).priority(priority);
            bench.channel.default_exchange().publish(publish, "q").await.unwrap();
        }
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        expect_bodies(&bench.channel, &oracle, "q", &["255", "3", "2", "1", "0"]).await;
        queue.delete().await.unwrap();
    }

    /// TOP-41: one copy to each queue. `BCC` is removed. A `CC` that is no array is refused before it is sent.
    async fn cc_and_bcc_route_to_further_keys(bench: Bench) {
        let channel = &bench.channel;
        let [a, b, c] = queues(channel, ["a", "b", "c"]).await;
        let keys = |keys: &[&str]| keys.iter().map(|&key| Value::from(key)).collect::<Vec<_>>();
        let publish = Publishing::new("body").header("CC", keys(&["a", "b"])).header("BCC", keys(&["c", "c"]));
        channel.default_exchange().publish(publish, "a").await.unwrap();
        for queue in [&a, &b, &c] {
            let message = queue.get().await.unwrap().expect("a copy");
            let properties = message.properties().unwrap();
            assert_eq!(properties.header("CC"), Some(&keys(&["a", "b"]).into()));
            assert_eq!(properties.header("BCC"), None);
            assert_eq!(message.routing_key(), "a");
            message.ack().unwrap();
            assert!(queue.get().await.unwrap().is_none());
        }
        // The broker would close the channel (406).
        let wrong = Publishing::new("body").header("CC", "a");
        let error = channel.default_exchange().publish(wrong, "a").await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Refused, false));
        channel.default_exchange().publish("body", "a").await.unwrap();
    }

    /// TOP-28
    async fn integer_arguments_may_have_any_width(bench: Bench) {
        let widths: [Value; 7] =
            [100i8.into(), 100u8.into(), 100i16.into(), 100u16.into(), 100i32.into(), 100u32.into(), 100i64.into()];
        for (n, width) in widths.into_iter().enumerate() {
            let declare = DeclareQueue::new(format!("q{n}"))
                .argument("x-max-length", width.clone())
                .argument("x-message-ttl", width.clone())
                .argument("x-max-priority", width);
            bench.channel.declare_queue(declare).await.unwrap();
        }
        assert_eq!(bench.vhost.queues().await.len(), 7);
    }

    /// TOP-35
    async fn a_full_queue_drops_its_oldest_messages(bench: Bench) {
        let declare = DeclareQueue::new("q").argument("x-max-length", 3);
        bench.channel.declare_queue(declare).await.unwrap();
        for n in 0..6 {
            bench.channel.default_exchange().publish(n.to_string(), "q").await.unwrap();
        }
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        expect_bodies(&bench.channel, &oracle, "q", &["3", "4", "5"]).await;
    }

    /// TOP-21: for the broker. Before any declare on the channel it is 404.
    async fn an_empty_queue_name_means_the_last_declared_queue(bench: Bench) {
        let [queue] = queues(&bench.channel, ["q"]).await;
        bench.channel.default_exchange().publish("body", "q").await.unwrap();
        let unnamed = bench.channel.queue("");
        unnamed.bind("amq.direct", "").await.unwrap();
        let message = unnamed.get().await.unwrap().unwrap();
        assert_eq!(message.body(), b"body");
        message.ack().unwrap();
        let bindings = bench.vhost.bindings().await;
        let binding = bindings.iter().find(|binding| binding.source == "amq.direct").expect("the binding");
        assert_eq!((&*binding.destination, &*binding.routing_key), ("q", "q"));
        bench.channel.default_exchange().publish("again", "q").await.unwrap();
        assert_eq!(unnamed.purge().await.unwrap(), 1);
        let mut deliveries = unnamed.deliveries().await.unwrap();
        bench.channel.default_exchange().publish("consumed", "q").await.unwrap();
        let delivery = deliveries.next().await.unwrap();
        assert_eq!(delivery.body(), b"consumed");
        delivery.ack().unwrap();
        queue.delete().await.unwrap();
        for n in 0..4 {
            let other = bench.another_channel().await;
            let unnamed = other.queue("");
            let refused = match n {
                0 => unnamed.get().await.map(drop),
                1 => unnamed.bind("amq.direct", "").await,
                2 => unnamed.purge().await.map(drop),
                _ => unnamed.deliveries().await.map(drop),
            };
            let error = refused.unwrap_err();
            assert_eq!(error.close_reason().unwrap().code, 404, "{n}");
            assert_eq!(error.entity(), None);
        }
    }
}
