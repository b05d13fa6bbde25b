//! Publishing to a broker: what is confirmed, refused, returned.

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
    /// PUB-01, PUB-02, TOP-11: what is published to a bound exchange is in the queue; a confirmation has its number.
    async fn a_publish_reaches_the_queue_that_is_bound(bench: Bench) {
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

    /// PUB-03: a publish without a delivery mode, and without any property, is fine.
    async fn properties_may_all_be_absent(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let bare = Publishing::new("body").properties(Properties::new());
        bench.channel.default_exchange().publish(bare, "q").await.unwrap();
        let message = queue.get().await.unwrap().unwrap();
        assert_eq!(message.properties().unwrap(), &Properties::new());
        assert_eq!(message.raw_properties()[..], [0, 0]);
    }

    /// PUB-04, PUB-13: publishing on a channel or a connection that was closed is an error at once, in every way.
    async fn a_publish_after_closing_is_an_error_at_once(bench: Bench) {
        let exchange = bench.channel.default_exchange();
        bench.channel.close().await.unwrap();
        let gone = |error: Error, kind| assert_eq!((error.kind(), error.may_have_arrived()), (kind, false), "{error}");
        gone(exchange.publish("body", "q").await.unwrap_err(), ErrorKind::ChannelClosed);
        gone(exchange.publish_deferred("body", "q").await.unwrap_err(), ErrorKind::ChannelClosed);
        gone(exchange.try_publish("body", "q").unwrap_err(), ErrorKind::ChannelClosed);
        let other = bench.another_channel().await;
        bench.connection.close().await.unwrap();
        gone(other.default_exchange().publish("body", "q").await.unwrap_err(), ErrorKind::ConnectionClosed);
        gone(other.default_exchange().try_publish("body", "q").unwrap_err(), ErrorKind::ConnectionClosed);
    }

    /// PUB-04: a publish to an exchange that does not exist closes the channel with 404; with confirms, every publish
    /// without an answer hears of it.
    async fn a_missing_exchange_fails_all_that_is_unconfirmed(bench: Bench) {
        let channel = &bench.channel;
        channel.declare_queue("q").await.unwrap();
        let missing = channel.exchange("never");
        let mut confirms = Vec::new();
        for n in 0..10 {
            confirms.push(missing.publish_deferred(format!("{n}"), "key").await.unwrap());
        }
        let answers = within("an answer to each", 10, join_all(confirms)).await;
        for answer in answers {
            if !bench.confirms {
                assert_eq!(answer.unwrap().sequence(), None);
                continue;
            }
            let error = answer.unwrap_err();
            assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, true));
            let reason = error.close_reason().expect("the broker's reason");
            assert_eq!((reason.code, reason.method), (404, "basic.publish"));
            assert!(reason.text.contains("never"), "{error}");
        }
        eventually("the channel closes", 10, || async { channel.is_closed().then_some(()) }).await;
        let error = channel.default_exchange().publish("body", "q").await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
        assert!(!error.may_have_arrived());
        assert_eq!(channel.close_cause().unwrap().close_reason().unwrap().code, 404);
        // The connection and its other channels do not notice.
        bench.another_channel().await.default_exchange().publish("body", "q").await.unwrap();
    }

    /// PUB-26: what the broker checks of the properties: a foreign user, and before 4.0 a senseless delivery mode.
    async fn the_broker_checks_user_and_delivery_mode(bench: Bench) {
        let mut checked = vec![Properties::new().with_user_id("somebody else")];
        let senseless = [3, 0].map(DeliveryMode::Other);
        let with = |mode| Properties::new().with_delivery_mode(mode);
        if bench.vhost.broker().version().await < (4, 0) {
            checked.extend(senseless.map(with));
        } else {
            for mode in senseless {
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
            let answer = channel.default_exchange().publish(publish, "q").await;
            let error = match answer {
                Err(error) if bench.confirms => error,
                Ok(_) if !bench.confirms => channel.declare_queue("q").await.unwrap_err(),
                other => panic!("{other:?}"),
            };
            assert_eq!(error.kind(), ErrorKind::ChannelClosed);
            assert_eq!(error.close_reason().unwrap().code, 406, "{error}");
        }
        assert!(!bench.connection.is_closed());
    }

    /// PUB-22, PUB-33: many bodies of random bytes between two connections, all as they were and in order.
    async fn bodies_of_all_sizes_pass_unchanged(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let other = connect(bench.vhost.url()).await.unwrap();
        let from = other.channel_with(Bench::options(bench.confirms)).await.unwrap().default_exchange();
        let bodies: Vec<Vec<u8>> = (0..1024).map(|n| (0..7 * n).map(|_| fastrand::u8(..)).collect()).collect();
        let sent = bodies.clone();
        let publisher = actix_rt::spawn(async move {
            let mut confirms = Vec::new();
            for body in sent {
                confirms.push(from.publish_deferred(body, "q").await.unwrap());
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

    /// PUB-19: a publish that is dropped before it was polled sends nothing and takes no number.
    async fn a_publish_that_was_never_polled_sends_nothing(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        drop(exchange.publish("dropped", "q"));
        drop(exchange.publish_deferred("dropped", "q"));
        let confirmation = exchange.publish("sent", "q").await.unwrap();
        assert_eq!(confirmation.sequence(), bench.confirms.then_some(1));
        // The broker has handled what came before.
        bench.channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, [b"sent"]);
    }

    /// PUB-18: a publish that is dropped after its first poll goes on, and so does one whose Confirm is dropped.
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

    /// PUB-01: the same by messages to the Channel actor.
    async fn publishing_by_message_is_the_same(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let actor = bench.channel.actor();
        let publishes = (0..20).map(|n| actor.send(Publish::new("", "q", n.to_string())));
        let answers = join_all(publishes).await;
        for (n, answer) in answers.into_iter().enumerate() {
            let sequence = answer.unwrap().unwrap().sequence();
            assert_eq!(sequence, bench.confirms.then_some(n as u64 + 1));
        }
        bench.channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, bodies(0, 20));
        let refused = actor.send(Publish::new("", "k".repeat(256), "body")).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Limit);
    }
}
