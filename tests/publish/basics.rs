//! Basic publishing: confirms, closed channels, missing exchanges, bodies and dropped futures.

use crate::support::{eventually, modes::Bench, oracle::Oracle, within};
use actix_pika::{
    DeclareExchange, Error, ErrorKind, Publishing, connect,
    message::{DeliveryMode, Properties, Publish},
};
use futures_util::{
    StreamExt,
    future::{join_all, poll_immediate},
};

fn bodies(from: usize, to: usize) -> Vec<Vec<u8>> {
    (from..to).map(|n| n.to_string().into_bytes()).collect()
}

crate::modes! {
    /// PUB-01, PUB-02, TOP-11: a publish to an exchange arrives in the bound queue; the first confirmation has sequence
    /// 1.
    async fn a_publish_reaches_the_bound_queue(bench: Bench) {
        let channel = &bench.channel;
        let exchange = channel.declare_exchange(DeclareExchange::direct("ex")).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        queue.bind("ex", "key").await.unwrap();
        let confirmation = exchange.publish("body", "key").await.unwrap();
        assert_eq!(confirmation.is_confirmed(), bench.confirms);
        assert_eq!(confirmation.sequence(), bench.confirms.then_some(1));
        let message = queue.get().await.unwrap().expect("the message");
        assert_eq!((message.body(), message.redelivered()), (&b"body"[..], false));
        message.ack().unwrap();
        queue.unbind("ex", "key").await.unwrap();
    }

    /// PUB-03: a publish without any other property is accepted. Its delivery mode is kept when all properties are replaced.
    async fn only_the_delivery_mode_is_always_there(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let bare = Publishing::new("body").properties(Properties::new());
        bench.channel.default_exchange().publish(bare, "q").await.unwrap();
        let message = queue.get().await.unwrap().unwrap();
        assert_eq!(message.raw_properties()[..], [0x10, 0, 2]);
        message.ack().unwrap();
        let transient = Properties::new().with_delivery_mode(DeliveryMode::Transient);
        let transient = Publishing::new("body").properties(transient);
        bench.channel.default_exchange().publish(transient, "q").await.unwrap();
        let message = queue.get().await.unwrap().unwrap();
        assert_eq!(message.raw_properties()[..], [0x10, 0, 1]);
    }

    /// PUB-04, PUB-13: each way to publish fails immediately on a closed channel and on a closed connection.
    async fn a_publish_after_close_fails_immediately(bench: Bench) {
        let exchange = bench.channel.default_exchange();
        bench.channel.close().await.unwrap();
        let assert_not_sent = |error: Error, kind| assert_eq!((error.kind(), error.may_have_arrived()), (kind, false), "{error}");
        assert_not_sent(exchange.publish("body", "q").await.unwrap_err(), ErrorKind::ChannelClosed);
        assert_not_sent(exchange.publish_deferred("body", "q").await.unwrap_err(), ErrorKind::ChannelClosed);
        assert_not_sent(exchange.try_publish("body", "q").unwrap_err(), ErrorKind::ChannelClosed);
        let other = bench.another_channel().await;
        bench.connection.close().await.unwrap();
        assert_not_sent(other.default_exchange().publish("body", "q").await.unwrap_err(), ErrorKind::ConnectionClosed);
        assert_not_sent(other.default_exchange().try_publish("body", "q").unwrap_err(), ErrorKind::ConnectionClosed);
    }

    /// PUB-04: a publish to a missing exchange closes the channel with 404; with confirms, each unconfirmed publish
    /// fails with that reason.
    async fn a_missing_exchange_fails_all_unconfirmed_publishes(bench: Bench) {
        let channel = &bench.channel;
        channel.declare_queue("q").await.unwrap();
        let missing = channel.exchange("never");
        let mut confirms = Vec::new();
        for n in 0..10 {
            confirms.push(missing.publish_deferred(format!("{n}"), "key").await.unwrap());
        }
        let results = within("a result of each", 10, join_all(confirms)).await;
        for (n, result) in results.into_iter().enumerate() {
            if !bench.confirms {
                assert_eq!(result.unwrap().sequence(), None);
                continue;
            }
            let error = result.unwrap_err();
            // The exchange may have existed until the last of them, which was surely refused.
            assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, n < 9));
            assert!(!error.is_retryable(), "{error}");
            let reason = error.close_reason().expect("the broker's reason");
            assert_eq!((reason.code, reason.method), (404, "basic.publish"));
            assert!(reason.text.contains("never"), "{error}");
        }
        eventually("the channel closes", 10, || async { channel.is_closed().then_some(()) }).await;
        let error = channel.default_exchange().publish("body", "q").await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
        assert!(!error.may_have_arrived());
        assert_eq!(channel.close_cause().unwrap().close_reason().unwrap().code, 404);
        // The connection and its other channels still work.
        bench.another_channel().await.default_exchange().publish("body", "q").await.unwrap();
    }

    /// PUB-26: the broker refuses another user's id, and before 4.0 an invalid delivery mode.
    async fn the_broker_checks_user_and_delivery_mode(bench: Bench) {
        let mut checked = vec![Properties::new().with_user_id("somebody else")];
        let invalid_modes = [3, 0].map(DeliveryMode::Other);
        let with = |mode| Properties::new().with_delivery_mode(mode);
        if bench.vhost.broker().version().await < (4, 0) {
            checked.extend(invalid_modes.map(with));
        } else {
            for mode in invalid_modes {
                let queue = bench.channel.declare_queue("lenient").await.unwrap();
                let publish = Publishing::new("body").properties(with(mode));
                bench.channel.default_exchange().publish(publish, "lenient").await.unwrap();
                let message = queue.get().await.unwrap().expect("the message");
                assert_eq!(message.properties().unwrap().delivery_mode(), Some(mode));
                message.ack().unwrap();
            }
        }
        for properties in checked {
            let channel = bench.another_channel().await;
            channel.declare_queue("q").await.unwrap();
            let publish = Publishing::new("body").properties(properties);
            let result = channel.default_exchange().publish(publish, "q").await;
            let error = match result {
                Err(error) if bench.confirms => error,
                Ok(_) if !bench.confirms => channel.declare_queue("q").await.unwrap_err(),
                other => panic!("{other:?}"),
            };
            assert_eq!(error.kind(), ErrorKind::ChannelClosed);
            assert_eq!(error.close_reason().unwrap().code, 406, "{error}");
        }
        assert!(!bench.connection.is_closed());
    }

    /// PUB-22, PUB-33: 1024 random bodies of 0 to 7161 bytes pass between two connections, unchanged and in order.
    async fn bodies_of_many_sizes_arrive_unchanged(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let other = connect(bench.vhost.url()).await.unwrap();
        let exchange = other.channel_with(Bench::options(bench.confirms)).await.unwrap().default_exchange();
        let bodies: Vec<Vec<u8>> = (0..1024).map(|n| (0..7 * n).map(|_| fastrand::u8(..)).collect()).collect();
        let sent = bodies.clone();
        let publisher = actix_rt::spawn(async move {
            let mut confirms = Vec::new();
            for body in sent {
                confirms.push(exchange.publish_deferred(body, "q").await.unwrap());
            }
            for confirm in confirms {
                confirm.await.unwrap();
            }
        });
        let mut deliveries = queue.deliveries().await.unwrap();
        for body in &bodies {
            let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
            assert!(delivery.body()[..] == body[..], "{} is not {} bytes", delivery.body().len(), body.len());
            delivery.ack().unwrap();
        }
        publisher.await.unwrap();
    }

    /// PUB-19: a publish that is dropped before its first poll sends nothing and uses no sequence number.
    async fn a_publish_dropped_before_its_first_poll_sends_nothing(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        drop(exchange.publish("dropped", "q"));
        drop(exchange.publish_deferred("dropped", "q"));
        let confirmation = exchange.publish("sent", "q").await.unwrap();
        assert_eq!(confirmation.sequence(), bench.confirms.then_some(1));
        // When the broker answers this, it has handled the publishes.
        bench.channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, [b"sent"]);
    }

    /// PUB-18: a publish is still sent when it is dropped after its first poll, or when its Confirm is dropped.
    async fn dropping_a_confirm_cancels_nothing(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        for n in 0..100 {
            drop(exchange.publish_deferred(n.to_string(), "q").await.unwrap());
        }
        let polled = poll_immediate(Box::pin(exchange.publish("100", "q"))).await;
        assert_eq!(polled.is_some(), !bench.confirms, "{polled:?}");
        let last = exchange.publish("101", "q").await.unwrap();
        assert_eq!(last.sequence(), bench.confirms.then_some(102));
        bench.channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, bodies(0, 102));
        let load = bench.channel.load();
        assert_eq!((load.unconfirmed, load.bytes, load.waiting), (0, 0, 0));
    }

    /// PUB-01: `Publish` messages to the `Channel` actor get the same sequence numbers, in order.
    async fn publish_messages_to_the_actor_are_confirmed(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let actor = bench.channel.actor();
        let publishes = (0..20).map(|n| actor.send(Publish::new("", "q", n.to_string())));
        let results = join_all(publishes).await;
        for (n, result) in results.into_iter().enumerate() {
            let sequence = result.unwrap().unwrap().sequence();
            assert_eq!(sequence, bench.confirms.then_some(n as u64 + 1));
        }
        bench.channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, bodies(0, 20));
        let refused = actor.send(Publish::new("", "k".repeat(256), "body")).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Limit);
    }
}
